//! Disputed lines with what stands beside them, and credits with the tax that was charged.

use super::split::{all, totals};
use super::*;
use crate::entry::{Manual, ManualAction, ManualError, ManualLine, ManualTax};
use crate::ledger::{EntryRef, Note};

const TAX: &str = "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\nrates = [{ percent = \"19\" }]\n";

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

fn manual(key: &str, action: ManualAction) -> Manual {
    Manual {
        tenant: tenant("acme"),
        key: key.to_owned(),
        action,
        note: Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "by hand".to_owned(),
        },
    }
}

/// A credit, with a tax or of a line.
fn credit(amount: &str, tax: Option<(&str, &str)>, of: Option<EntryRef>) -> ManualAction {
    ManualAction::Credit(ManualLine {
        line: "goodwill".to_owned(),
        text: "Outage".to_owned(),
        start: at(0),
        end: at(60),
        amount: decimal(amount),
        currency: "EUR".parse().expect("a currency"),
        gl: "8400".to_owned(),
        tax: tax.map(|(code, amount)| ManualTax {
            code: code.to_owned(),
            amount: decimal(amount),
        }),
        of,
        date: None,
    })
}

impl World {
    /// A minute of 90 requests and a seat, taxed, of which a grant pays 5.00 of the requests; with
    /// what its closing booked.
    fn taxed(late: &str) -> (Self, Vec<LedgerEntry>) {
        let mut files = files("PT1M");
        files.insert("tax/de.toml".to_owned(), TAX.to_owned());
        let profile = files.get_mut("profiles/acme.toml").expect("there");
        let grant = "[[grant]]\nid = \"gift\"\namount = \"5.00\"\ncounts = [\"req\"]\n";
        profile.push_str(&format!("\nlate = \"{late}\"\ntax = \"de\"\n{grant}"));
        let mut world = Self::new("PT1M");
        world.catalog(files);
        world.now = at(100);
        let rows = vec![row("acme", "requests", 0, 90), row("acme", "seats", 0, 1)];
        world.rows("a", rows);
        world.watermark("a", 60);
        let booked = world.close_due();
        assert_eq!(
            short(&booked),
            [
                "charge de 0 3.59",
                "charge gift 0 -5.00",
                "charge req 90 9.00",
                "charge seat 1 9.90"
            ]
        );
        (world, booked)
    }

    /// Decides something that has an effect, and answers what was booked.
    fn decide(&mut self, key: &str, action: ManualAction) -> Vec<LedgerEntry> {
        let decision = manual(key, action);
        assert_eq!(self.fold.may_decide(&decision), Ok(()));
        ledger(&self.apply(&TenantInput::Manual(Box::new(decision))))
    }

    /// Decides something that has none, and answers why.
    fn no_effect(&mut self, action: ManualAction) -> String {
        let decision = manual("refused", action);
        let why = self.fold.may_decide(&decision).expect_err("no effect");
        let before = self.fold.oddities().manual_ignored;
        let input = TenantInput::Manual(Box::new(decision));
        assert_eq!(ledger(&self.apply(&input)), []);
        assert_eq!(self.fold.oddities().manual_ignored, before + 1);
        why.to_string()
    }
}

#[test]
fn a_disputed_line_takes_its_tax_and_its_grants_with_it() {
    for late in ["correct", "next"] {
        let (mut world, booked) = World::taxed(late);
        let entry = booked[2].at;
        let held = world.decide("hold", ManualAction::Hold { entry });
        assert_eq!(
            short(&held),
            [
                "adjustment de 0 -1.71",
                "adjustment de 0 1.71",
                "adjustment gift 0 5.00",
                "adjustment gift 0 -5.00",
                &format!("hold {entry} 0 -"),
            ]
        );
        let base = |entry: &LedgerEntry| entry.posting.tax.as_ref().map(|tax| tax.base);
        assert_eq!(base(&held[0]), Some(decimal("-9.00")));
        assert_eq!(
            (base(&held[1]), base(&held[3])),
            (Some(decimal("9.00")), None)
        );
        // The seat and 19 % of it.
        assert_eq!(totals(&world.issue(&all())), ["11.78"]);
        // What comes late of the line is disputed with its tax; the tax of the seat was billed.
        world.rows("a", vec![row("acme", "requests", 0, 10)]);
        world.close_due();
        assert_eq!(totals(&world.issue(&all())), ["0.00"], "{late}");
        // A second dispute takes apart nothing that is apart already.
        let released = world.decide("release", ManualAction::Release { entry });
        assert_eq!(released.len(), 1);
        assert_eq!(world.decide("again", ManualAction::Hold { entry }).len(), 1);
        assert!(world.propose(&all()).is_err());
        world.decide("over", ManualAction::Release { entry });
        // Together 19.90, 19 % of it, and less 5.00.
        assert_eq!(totals(&world.issue(&all())), ["6.90"], "{late}");
        assert_eq!(world.fold.oddities(), Oddities::default());
        let legs = ledger(&world.effects)
            .into_iter()
            .flat_map(|entry| entry.posting.legs);
        let tax = legs.filter(|leg| leg.account == crate::ledger::Account::Tax("de".to_owned()));
        assert_eq!(tax.map(|leg| leg.amount).sum::<Decimal>(), decimal("-3.78"));
    }
}

#[test]
fn a_dispute_survives_a_snapshot_and_a_void_invoice() {
    let (mut world, booked) = World::taxed("correct");
    assert_eq!(totals(&world.issue(&all())), ["17.49"]);
    let void = super::split::wish(crate::fold::tenant::WishedDocument::Void {
        number: "1".to_owned(),
    });
    assert_eq!(totals(&world.issue(&void)), ["-17.49"]);
    let bytes = world.fold.to_bytes();
    world.fold = TenantFold::from_bytes(&bytes).expect("a snapshot");
    let entry = booked[3].at;
    // Of the seat: 19 %, and no grant.
    let held = world.decide("hold", ManualAction::Hold { entry });
    assert_eq!(
        short(&held)[..2],
        ["adjustment de 0 -1.88", "adjustment de 0 1.88"]
    );
    assert_eq!(held.len(), 3);
    assert_eq!(totals(&world.issue(&all())), ["5.71"]);
}

#[test]
fn a_credit_of_a_line_takes_its_part_of_the_tax() {
    let (mut world, booked) = World::taxed("correct");
    world.issue(&all());
    let (tax, line) = (booked[0].at, booked[2].at);
    let half = world.decide("half", credit("4.50", None, Some(line)));
    assert_eq!(short(&half), ["credit goodwill 0 -5.36"]);
    assert_eq!(half[0].posting.refers_to, Some(line));
    assert_eq!(
        world.no_effect(credit("4.51", None, Some(line))),
        format!("4.51 is more than the 4.50 that stand charged for line {line}, without tax")
    );
    // The other half has the rest of the tax.
    let rest = world.decide("rest", credit("4.50", None, Some(line)));
    assert_eq!(short(&rest), ["credit goodwill 0 -5.35"]);
    assert!(
        world
            .no_effect(credit("0.01", None, Some(line)))
            .contains("than the 0.00")
    );
    let why = world.no_effect(credit("1.00", None, Some(tax)));
    assert!(why.contains("is no line"), "{why}");
    let both = credit("1.00", Some(("de", "0.19")), Some(line));
    assert_eq!(world.no_effect(both), ManualError::Of.to_string());
}

#[test]
fn a_credit_of_a_line_that_was_disputed_and_split_gives_back_all_of_its_tax() {
    let (mut world, booked) = World::taxed("correct");
    let entry = booked[2].at;
    world.decide("hold", ManualAction::Hold { entry });
    world.decide("over", ManualAction::Release { entry });
    assert_eq!(world.issue(&super::split::split(&[1, 1])).len(), 2);
    let credited = world.decide("credit", credit("9.00", None, Some(entry)));
    assert_eq!(short(&credited), ["credit goodwill 0 -10.71"]);
}

#[test]
fn a_goodwill_credit_has_no_tax_that_is_not_charged() {
    let (mut world, _) = World::taxed("correct");
    let why = world.no_effect(credit("20.00", Some(("nosuch", "20.00")), None));
    assert_eq!(why, "no catalog declares a tax `nosuch`");
    assert_eq!(
        world.no_effect(credit("20.00", Some(("de", "3.80")), None)),
        "3.80 of tax `de` is more than the 3.59 that stand charged to the tenant"
    );
    world.issue(&all());
    let booked = world.decide("some", credit("15.00", Some(("de", "2.85")), None));
    assert_eq!(short(&booked), ["credit goodwill 0 -17.85"]);
    let why = world.no_effect(credit("5.00", Some(("de", "0.95")), None));
    assert!(why.contains("the 0.74 that stand charged"), "{why}");
    world.decide("net", credit("5.00", None, None));
}
