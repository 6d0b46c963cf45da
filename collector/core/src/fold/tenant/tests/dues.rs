//! What waits for an invoice: disputes, one-off lines, and the days on which entries count.

use super::*;
use crate::entry::{Manual, ManualAction, ManualLine, Operated, OperatedAction, Rerate};
use crate::ledger::{EntryRef, Note};

fn manual(name: &str, key: &str, action: ManualAction) -> TenantInput {
    TenantInput::Manual(Box::new(Manual {
        tenant: tenant(name),
        key: key.to_owned(),
        action,
        note: Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "disputed".to_owned(),
        },
    }))
}

fn setup() -> ManualAction {
    ManualAction::Line(ManualLine {
        line: "setup".to_owned(),
        text: "Setup fee".to_owned(),
        start: at(0),
        end: at(60),
        amount: Decimal::new(25_000, 2),
        currency: "EUR".parse().expect("a currency"),
        gl: "8400".to_owned(),
        tax: None,
        of: None,
        date: None,
    })
}

fn policy(late: &str) -> BTreeMap<String, String> {
    let mut files = files("PT1M");
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    profile.push_str(&format!("\nlate = \"{late}\""));
    files
}

impl World {
    /// Which lines of the tenant are disputed.
    fn held(&self) -> Vec<bool> {
        let dues = self.fold.dues(&tenant("acme")).expect("known");
        dues.open().values().map(|due| dues.is_held(due)).collect()
    }
}

#[test]
fn what_changes_a_disputed_line_is_disputed_with_it() {
    for (late, lines) in [("correct", 3), ("next", 2)] {
        let mut world = World::new("PT1M");
        world.catalog(policy(late));
        world.now = at(100);
        world.rows("a", vec![row("acme", "requests", 0, 90)]);
        world.watermark("a", 60);
        let entry = world.close_due()[0].at;
        world.apply(&manual("acme", "1", ManualAction::Hold { entry }));
        // Late usage of the line, and then some more.
        world.rows("a", vec![row("acme", "requests", 0, 10)]);
        assert_eq!(world.close_due().len(), lines - 1);
        assert_eq!(world.held(), vec![true; lines], "{late}");
        world.apply(&manual("acme", "2", ManualAction::Release { entry }));
        assert_eq!(world.held(), vec![false; lines], "{late}");
        world.apply(&manual("acme", "3", ManualAction::Hold { entry }));
        assert_eq!(world.held(), vec![true; lines], "{late}");
        assert_eq!(world.fold.oddities().manual_ignored, 0);
    }
}

#[test]
fn a_misspelt_tenant_is_not_made_by_a_dispute_and_owes_no_fees_for_a_line() {
    let mut files = files("PT1M");
    let fee = "\n[[price]]\nid = \"platform\"\nmodel = \"flat\"\nflat = \"25.00\"\n";
    files.insert("cards/edge.toml".to_owned(), format!("{CARD}{fee}"));
    let profile = "card = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"PT1M\" }";
    files.remove("profiles/acme.toml");
    let default = format!("tenant = \"*\"\n{profile}");
    files.insert("profiles/default.toml".to_owned(), default);
    let mut world = World::new("PT1M");
    world.catalog(files.clone());
    world.now = at(10);
    let entry = EntryRef {
        partition: 2,
        index: 1,
    };
    world.apply(&manual("acmee", "1", ManualAction::Hold { entry }));
    assert_eq!(world.fold.dues(&tenant("acmee")), None);
    assert_eq!(world.fold.oddities().manual_ignored, 1);
    world.apply(&manual("acmee", "2", setup()));
    world.now = at(200);
    world.apply(&TenantInput::Clock);
    assert_eq!(short(&world.close_due()), [] as [&str; 0]);
    // Neither does a catalog make it owe them, ...
    files.insert(
        "profiles/other.toml".to_owned(),
        format!("tenant = \"other\"\n{profile}"),
    );
    world.catalog(files);
    world.now = at(250);
    world.apply(&TenantInput::Clock);
    let owing = |world: &mut World| -> Vec<TenantId> {
        let entries = world.close_due();
        let tenants = entries.into_iter().filter_map(|entry| entry.posting.tenant);
        tenants.collect()
    };
    assert!(!owing(&mut world).contains(&tenant("acmee")));
    // ... but usage does.
    world.rows("a", vec![row("acmee", "requests", 250, 10)]);
    world.now = at(400);
    world.watermark("a", 400);
    assert!(owing(&mut world).contains(&tenant("acmee")));
}

#[test]
fn a_closing_that_does_not_know_of_a_re_rating_leaves_it_to_be_settled() {
    let mut world = World::new("PT1M");
    let first = world.fold.catalog_digest().expect("there");
    world.now = at(100);
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    assert_eq!(short(&world.close_due()), ["charge req 90 9.00"]);
    let mut files = files("PT1M");
    let dear = CARD.replace("\"1.00\"", "\"3.00\"");
    files.insert("cards/edge.toml".to_owned(), dear);
    world.catalog(files);
    let second = world.fold.catalog_digest().expect("there");
    // Proposed for late usage, while the decision to rate anew is on its way.
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let stale = world.fold.poll_closable(world.now).remove(0);
    assert_eq!((stale.round, stale.catalog), (1, first));
    let rerate = OperatedAction::Rerate(Rerate {
        tenant: tenant("acme"),
        from: at(0),
        to: at(60),
        catalog: second,
    });
    world.apply(&TenantInput::Operated(Arc::new(Operated {
        action: rerate,
        note: Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "the price was wrong".to_owned(),
        },
    })));
    assert_eq!(world.close(stale), []);
    assert_eq!(world.fold.oddities().closings_ignored, 1);
    assert_eq!(
        short(&world.close_due()),
        ["reversal req -90 -9.00", "charge req 100 30.00"]
    );
}

#[test]
fn a_period_counts_on_its_last_day_by_its_own_clocks() {
    let zoned = |zone: &str| {
        let mut files = files("PT1M");
        files.insert(
            "profiles/acme.toml".to_owned(),
            format!("tenant = \"acme\"\ncard = \"edge\"\nzone = \"{zone}\""),
        );
        files
    };
    let mut world = World::new("PT1M");
    world.catalog(zoned("America/Los_Angeles"));
    // A month by the clocks of Los Angeles ends in the morning of the next by those of UTC.
    let june = 156 * 86_400;
    assert_eq!(world.fold.oddities().catalogs_ignored, 0);
    world.now = at(june);
    world.rows("a", vec![row("acme", "requests", june, 90)]);
    world.now = at(june + 86_400);
    world.catalog(zoned("Pacific/Auckland"));
    world.now = at(june + 40 * 86_400);
    world.watermark("a", june + 40 * 86_400);
    let charge = world.close_due().remove(0);
    let end = charge.posting.end;
    let zone: crate::period::Zone = "America/Los_Angeles".parse().expect("a zone");
    let last = zone.date_at(end.plus_millis(-1));
    assert_eq!(charge.posting.date, Some(last));
}
