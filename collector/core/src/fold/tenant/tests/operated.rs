//! What operators do: corrections, releases, ratings anew, agents that are gone.

use super::*;
use crate::entry::{CorrectedRow, Correction, Operated, OperatedAction, Rerate};
use crate::ledger::Note;

fn operated(action: OperatedAction) -> Operated {
    Operated {
        action,
        note: Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "counted twice".to_owned(),
        },
    }
}

pub(super) fn correction(key: &str, rows: Vec<CorrectedRow>) -> Operated {
    operated(OperatedAction::Correct(Correction {
        tenant: tenant("acme"),
        key: key.to_owned(),
        rows,
    }))
}

pub(super) fn corrected(meter: &str, secs: i64, quantity: i128) -> CorrectedRow {
    CorrectedRow {
        meter: MeterName::new(meter).expect("valid"),
        dimensions: BTreeMap::new(),
        aggregation: if meter == "seats" {
            Aggregation::Last
        } else {
            Aggregation::Sum
        },
        scale: Scale::ZERO,
        at: at(secs),
        quantity: Quantity::new(quantity),
        release: None,
    }
}

impl World {
    pub(super) fn operate(&mut self, operated: &Operated) -> Vec<Effect> {
        self.apply(&TenantInput::Operated(Arc::new(operated.clone())))
    }

    fn account(&self, meter: &str) -> crate::effect::AccountState {
        let mut accounts = self.effects.iter().filter_map(|effect| match effect {
            Effect::Account(account) if account.meter.as_str() == meter => Some(account.clone()),
            _ => None,
        });
        accounts.next_back().expect("an account")
    }
}

#[test]
fn a_correction_is_previewed_and_books_what_was_shown() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 150),
            row("acme", "requests", 60, 20),
        ],
    );
    world.watermark("a", 60);
    let charge = world.close_due();
    assert_eq!(short(&charge), ["charge req 150 12.50"]);
    let less = correction(
        "ticket-1",
        vec![
            corrected("requests", 30, -60),
            corrected("requests", 61, 5),
            corrected("seats", 70, 3),
        ],
    );
    let before = world.fold.to_bytes();
    let preview = world.fold.preview(world.now, &less).expect("possible");
    assert_eq!(world.fold.to_bytes(), before, "looking changes nothing");
    assert_eq!(
        short(&preview.booked),
        ["reversal req -150 -12.50", "charge req 90 9.00"]
    );
    let open: Vec<_> = preview
        .open
        .iter()
        .map(|change| (change.line.as_str(), change.amount.1.map(|a| a.to_string())))
        .collect();
    assert_eq!(
        open,
        [
            ("req", Some("2.50".to_owned())),
            ("seat", Some("29.70".to_owned()))
        ]
    );
    world.operate(&less);
    assert_eq!(short(&world.close_due()), short(&preview.booked));
    let account = world.account("requests");
    assert_eq!(
        (account.counted.units(), account.corrected.units()),
        (115, -55)
    );
    // A second one with its key is none.
    let error = world.fold.preview(world.now, &less).expect_err("done");
    assert_eq!(error, OperatedRefused::Done("ticket-1".to_owned()));
    world.operate(&less);
    assert_eq!(world.fold.oddities().operated_ignored, 1);
    assert_eq!(world.close_due(), []);
}

#[test]
fn a_correction_that_is_not_possible_changes_nothing() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let mut unique = corrected("requests", 0, 1);
    unique.aggregation = Aggregation::Unique;
    let mut released = corrected("requests", 0, 1);
    released.release = Some(RefusedReason::TenantNotAllowed);
    let mut dimensions = corrected("requests", 0, 1);
    dimensions
        .dimensions
        .insert("a key with spaces".to_owned(), String::new());
    let many = vec![corrected("requests", 0, 1); crate::entry::CORRECTION_ROWS_MAX + 1];
    let good = || corrected("requests", 0, 1);
    for (rows, expected) in [
        (Vec::new(), "1 to 1000 rows"),
        (many, "1 to 1000 rows"),
        (
            vec![good(), corrected("requests", 101, 1)],
            "row 2: its time has not come",
        ),
        (
            vec![good(), corrected("requests", 0, 0)],
            "row 2: a quantity of 0",
        ),
        (
            vec![good(), corrected("seats", 0, -1)],
            "row 2: `last` does not add up",
        ),
        (
            vec![good(), corrected("requests", 0, 1 << 81)],
            "row 2: the quantity is larger",
        ),
        (vec![good(), unique], "row 2: usage of `unique`"),
        (
            vec![good(), released],
            "row 2: 0 smallest units of it were refused",
        ),
        (vec![good(), dimensions], "row 2: "),
    ] {
        let wrong = correction("k", rows);
        let error = world.fold.preview(world.now, &wrong).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        let before = world.fold.accruals(None);
        assert!(world.operate(&wrong).is_empty());
        assert_eq!(world.fold.accruals(None), before);
    }
}

#[test]
fn refused_usage_is_released_and_counts() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    world.mixed_rows(
        "a",
        vec![row("acme", "requests", 0, 10)],
        vec![row("acme", "requests", 20, 40)],
    );
    world.watermark("a", 60);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 10 1.00", "refused tenant_not_allowed 40 -"]
    );
    let mut row = corrected("requests", 20, 30);
    row.release = Some(RefusedReason::TenantNotAllowed);
    // Together they are more than was refused.
    let twice = correction("twice", vec![row.clone(), row.clone()]);
    assert!(world.fold.preview(world.now, &twice).is_err());
    world.operate(&correction("once", vec![row]));
    assert_eq!(
        short(&world.close_due()),
        [
            "reversal req -10 -1.00",
            "charge req 40 4.00",
            "refused tenant_not_allowed -30 -"
        ]
    );
    let account = world.account("requests");
    let figures = [account.counted, account.refused, account.corrected];
    assert_eq!(figures.map(Quantity::units), [40, 10, 0]);
}

#[test]
fn closed_periods_are_rated_anew_by_another_version() {
    let mut world = World::new("PT1M");
    let first = world.fold.catalog_digest().expect("a catalog");
    let mut dearer = files("PT1M");
    dearer.insert("cards/edge.toml".to_owned(), CARD.replace("1.00", "2.00"));
    world.catalog(dearer);
    world.now = at(200);
    for minute in 0..3 {
        world.rows("a", vec![row("acme", "requests", 60 * minute, 10)]);
    }
    world.watermark("a", 180);
    assert_eq!(short(&world.close_due()), ["charge req 10 2.00"; 3]);
    let rerate = |from, to, catalog| {
        operated(OperatedAction::Rerate(Rerate {
            tenant: tenant("acme"),
            from: at(from),
            to: at(to),
            catalog,
        }))
    };
    let preview = |world: &World, operated: &Operated| world.fold.preview(world.now, operated);
    assert_eq!(
        preview(&world, &rerate(60, 60, first)),
        Err(OperatedRefused::Malformed(
            crate::entry::OperatedError::Range
        ))
    );
    assert_eq!(
        preview(&world, &rerate(600, 700, first)),
        Err(OperatedRefused::NoPeriods)
    );
    let unknown = Digest([9; 32]);
    assert_eq!(
        preview(&world, &rerate(0, 60, unknown)),
        Err(OperatedRefused::UnknownCatalog(unknown))
    );
    let cheaper = rerate(60, 180, first);
    let shown = preview(&world, &cheaper).expect("possible");
    world.operate(&cheaper);
    let booked = world.close_due();
    assert_eq!(short(&booked), short(&shown.booked));
    let anew = ["reversal req -10 -2.00", "charge req 10 1.00"];
    assert_eq!(short(&booked), [anew, anew].concat());
    assert_eq!(booked[1].posting.catalogs, [first]);
}

#[test]
fn who_is_gone_is_not_waited_for_until_it_reports_again() {
    let mut world = World::new("PT1M");
    world.now = at(200);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 10),
            row("acme", "requests", 60, 10),
        ],
    );
    world.watermark("a", 180);
    world.watermark("b", 30);
    assert_eq!(world.close_due(), []);
    world.operate(&operated(OperatedAction::Retire { agent: agent("b") }));
    assert_eq!(world.close_due().len(), 2);
    world.watermark("b", 40);
    world.rows("a", vec![row("acme", "requests", 120, 10)]);
    assert_eq!(world.close_due(), [], "b is there again");
}
