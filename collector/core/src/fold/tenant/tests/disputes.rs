//! Disputed lines with what stands beside them, and credits with the tax that was charged.

use super::split::{all, totals, wish};
use super::*;
use crate::entry::{Manual, ManualAction, ManualError, ManualLine, ManualTax};
use crate::fold::tenant::{IssueWish, WishedDocument};
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

fn void(number: &str) -> IssueWish {
    wish(WishedDocument::Void {
        number: number.to_owned(),
    })
}

impl World {
    /// A period of 90 requests and a seat, taxed, with what its closing booked.
    fn period(
        (every, secs): (&str, i64),
        late: &str,
        (card, profile): (&str, &str),
    ) -> (Self, Vec<LedgerEntry>) {
        let mut files = files(every);
        files.insert("tax/de.toml".to_owned(), TAX.to_owned());
        files
            .get_mut("cards/edge.toml")
            .expect("there")
            .push_str(card);
        let own = files.get_mut("profiles/acme.toml").expect("there");
        own.push_str(&format!("\nlate = \"{late}\"\ntax = \"de\"\n{profile}"));
        let mut world = Self::new(every);
        world.catalog(files);
        world.now = at(secs + 40);
        let rows = vec![row("acme", "requests", 0, 90), row("acme", "seats", 0, 1)];
        world.rows("a", rows);
        world.watermark("a", secs);
        let booked = world.close_due();
        (world, booked)
    }

    /// A minute, with a grant that pays 5.00 of the requests.
    fn taxed(late: &str) -> (Self, Vec<LedgerEntry>) {
        let grant = "[[grant]]\nid = \"gift\"\namount = \"5.00\"\ncounts = [\"req\"]\n";
        let (world, booked) = Self::period(("PT1M", 60), late, ("", grant));
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
    assert_eq!(totals(&world.issue(&void("1"))), ["-17.49"]);
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
fn a_disputed_line_takes_what_a_commitment_paid_for_it() {
    let paid = "\n[[commitment]]\nid = \"term\"\namount = \"12.00\"\nterm = \"P1D\"\n\
                counts = [\"req\", \"seat\"]\npay = \"advance\"\n";
    let (mut world, booked) = World::period(("P1D", 86_400), "correct", (paid, ""));
    assert_eq!(
        short(&booked),
        [
            "charge de 0 3.59",
            "charge req 90 9.00",
            "charge seat 1 9.90",
            "charge term 0 12.00",
            "charge term 0 -12.00",
        ]
    );
    let (entry, drawdown) = (booked[1].at, booked[4].at);
    // In proportion to 9.00 and 9.90; 1.71 of tax less 1.08 of the 2.28 on all that was paid.
    let held = world.decide("hold", ManualAction::Hold { entry });
    assert_eq!(
        short(&held)[..4],
        [
            "adjustment de 0 -0.63",
            "adjustment de 0 0.63",
            "adjustment term 0 5.71",
            "adjustment term 0 -5.71",
        ]
    );
    assert_eq!(held[2].posting.refers_to, Some(drawdown));
    // The commitment, and what it has not paid of the seat, 15.61, with 2.96 of tax.
    assert_eq!(totals(&world.issue(&all())), ["18.57"]);
    assert_eq!(
        world.no_effect(credit("3.30", None, Some(entry))),
        format!("3.30 is more than the 3.29 that stand charged for line {entry}, without tax")
    );
    let credited = world.decide("credit", credit("3.29", None, Some(entry)));
    assert_eq!(short(&credited), ["credit goodwill 0 -3.92"]);
    world.decide("over", ManualAction::Release { entry });
    assert_eq!(totals(&world.issue(&all())), ["0.00"]);
}

#[test]
fn a_dispute_over_a_change_is_over_the_whole_line() {
    for late in ["correct", "next"] {
        let (mut world, _) = World::taxed(late);
        world.rows("a", vec![row("acme", "requests", 0, 10)]);
        let changes = world.close_due();
        let entry = changes.iter().rfind(|entry| entry.posting.line == "req");
        let entry = entry.expect("changed").at;
        world.decide("hold", ManualAction::Hold { entry });
        // The seat and 19 % of it: all tax of the requests waits with them.
        assert_eq!(totals(&world.issue(&all())), ["11.78"], "{late}");
        world.decide("over", ManualAction::Release { entry });
        assert_eq!(totals(&world.issue(&all())), ["6.90"], "{late}");
    }
}

#[test]
fn what_a_void_invoice_gives_back_of_a_disputed_line_is_disputed_with_its_tax() {
    let (mut world, _) = World::taxed("next");
    assert_eq!(totals(&world.issue(&all())), ["17.49"]);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let late = world.close_due();
    assert_eq!(
        short(&late),
        ["adjustment de 0 0.19", "adjustment req 10 1.00"]
    );
    let entry = late[1].at;
    world.decide("hold", ManualAction::Hold { entry });
    let voided = world.issue(&void("1"));
    assert_eq!(
        short(&voided),
        [
            "credit_note 2 0 -17.49",
            "adjustment de 0 -1.71",
            "adjustment de 0 1.71",
            "adjustment gift 0 5.00",
            "adjustment gift 0 -5.00",
        ]
    );
    assert_eq!(totals(&world.issue(&all())), ["11.78"]);
    world.decide("over", ManualAction::Release { entry });
    assert_eq!(totals(&world.issue(&all())), ["6.90"]);
}

#[test]
fn of_a_part_of_a_tax_a_disputed_line_takes_its_part() {
    let (mut world, booked) = World::taxed("correct");
    let halves = world.issue(&super::split::split(&[1, 1]));
    assert_eq!(totals(&halves), ["8.75", "8.74"]);
    world.issue(&void("1"));
    let entry = booked[2].at;
    let held = world.decide("hold", ManualAction::Hold { entry });
    assert_eq!(
        short(&held)[..4],
        [
            "adjustment de 0 -0.86",
            "adjustment de 0 0.86",
            "adjustment gift 0 2.50",
            "adjustment gift 0 -2.50",
        ]
    );
    // Half of the seat, and of its tax.
    assert_eq!(totals(&world.issue(&all())), ["5.89"]);
    world.decide("over", ManualAction::Release { entry });
    assert_eq!(totals(&world.issue(&all())), ["2.86"]);
    let credited = world.decide("credit", credit("9.00", None, Some(entry)));
    assert_eq!(short(&credited), ["credit goodwill 0 -10.71"]);
}

#[test]
fn a_line_of_a_disputed_tax_takes_its_part_once_that_is_disputed_no_longer() {
    let (mut world, booked) = World::taxed("correct");
    let (tax, line) = (booked[0].at, booked[2].at);
    assert_eq!(
        world.decide("tax", ManualAction::Hold { entry: tax }).len(),
        1
    );
    // The grant goes with the line, the tax waits by itself.
    let held = world.decide("line", ManualAction::Hold { entry: line });
    assert_eq!(held.len(), 3);
    assert_eq!(totals(&world.issue(&all())), ["9.90"]);
    let released = world.decide("over", ManualAction::Release { entry: tax });
    assert_eq!(
        short(&released)[..2],
        ["adjustment de 0 -1.71", "adjustment de 0 1.71"]
    );
    assert_eq!(totals(&world.issue(&all())), ["1.88"]);
    world.decide("all", ManualAction::Release { entry: line });
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
