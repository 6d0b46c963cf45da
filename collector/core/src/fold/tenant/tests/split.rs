//! One sum on several invoices, by hand.

use proptest::prelude::*;

use super::*;
use crate::entry::{Issue, Manual, ManualAction, ManualLine, ManualTax};
use crate::invoice::register::Register;
use crate::ledger::{LinePart, Note};

pub(super) fn note() -> Note {
    Note {
        author: "kim".to_owned(),
        approved_by: None,
        reason: "test".to_owned(),
    }
}

pub(super) fn wish(what: WishedDocument) -> IssueWish {
    IssueWish {
        tenant: tenant("acme"),
        issuer: Issuer {
            id: "main".to_owned(),
            prefix: String::new(),
            digits: 1,
            first: 1,
            terms_days: 14,
            zero: ZeroPolicy::Issue,
            negative: NegativePolicy::CreditNote,
        },
        what,
        note: note(),
    }
}

pub(super) fn split(weights: &[u32]) -> IssueWish {
    wish(WishedDocument::Split {
        currency: None,
        until: None,
        weights: weights.to_vec(),
    })
}

pub(super) fn all() -> IssueWish {
    wish(WishedDocument::Invoice {
        currency: None,
        until: None,
    })
}

/// A line without tax.
fn by_hand(number: usize, net: i64) -> ManualLine {
    ManualLine {
        line: format!("line-{number}"),
        text: "by hand".to_owned(),
        start: at(0),
        end: at(60),
        amount: cents(net.abs()),
        currency: "EUR".parse().expect("known"),
        gl: "8400".to_owned(),
        tax: None,
        of: None,
        date: None,
    }
}

fn cents(cents: i64) -> Decimal {
    Decimal::new(cents, 2)
}

impl World {
    /// A line of so many cents, or a credit where it is below zero, with tax of its own.
    pub(super) fn line(&mut self, number: usize, net: i64, tax: i64) {
        let tax = (tax != 0).then(|| ManualTax {
            code: "vat".to_owned(),
            amount: cents(tax),
        });
        self.by_manual(
            number,
            net,
            ManualLine {
                tax,
                ..by_hand(number, net)
            },
        );
    }

    /// The same in a currency, up to an instant.
    pub(super) fn line_of(&mut self, number: usize, net: i64, currency: &str, end: i64) {
        let line = ManualLine {
            currency: currency.parse().expect("known"),
            end: at(end),
            ..by_hand(number, net)
        };
        self.by_manual(number, net, line);
    }

    fn by_manual(&mut self, number: usize, net: i64, line: ManualLine) {
        let action = if net < 0 {
            ManualAction::Credit(line)
        } else {
            ManualAction::Line(line)
        };
        self.apply(&TenantInput::Manual(Box::new(Manual {
            tenant: tenant("acme"),
            key: number.to_string(),
            action,
            note: note(),
        })));
    }

    pub(super) fn propose(&self, wish: &IssueWish) -> Result<Vec<Issue>, IssueRefused> {
        self.fold.propose_issue(self.now, wish)
    }

    /// Issues documents, and answers their entries.
    pub(super) fn issue(&mut self, wish: &IssueWish) -> Vec<LedgerEntry> {
        let issues = self.propose(wish).expect("possible");
        let mut entries = Vec::new();
        for issue in issues {
            let sequence = u64::from(issue.serial) + 1;
            let effects = self.apply(&TenantInput::Issue(Box::new(issue), sequence));
            entries.extend(ledger(&effects));
        }
        entries
    }
}

pub(super) fn totals(entries: &[LedgerEntry]) -> Vec<String> {
    let totals = entries.iter().map(|entry| entry.posting.amount);
    totals
        .map(|total| total.expect("a total").to_string())
        .collect()
}

#[test]
fn parts_come_to_the_whole_and_can_be_voided_alone() {
    let mut world = World::new("PT1M");
    // 10.00 and 1.90 tax; 0.02; a credit of 1.00.
    for (number, (net, tax)) in [(1000, 190), (2, 0), (-100, 0)].into_iter().enumerate() {
        world.line(number, net, tax);
    }
    let parts = world.issue(&split(&[1, 1, 1]));
    // 3.34 + 0.64, 3.33 + 0.63, 3.33 + 0.63; 0.01, 0.01, nothing; -0.34, -0.33, -0.33.
    assert_eq!(totals(&parts), ["3.65", "3.64", "3.63"]);
    let document = parts[2].posting.document.as_ref().expect("a document");
    assert_eq!(document.lines, [1, 3], "no part of two cents");
    let part = LinePart {
        amount: cents(396),
        tax: cents(63),
        base: cents(0),
    };
    assert_eq!(document.parts[0], part);
    assert_eq!(
        world.propose(&all()),
        Err(IssueRefused::NothingToBill(tenant("acme")))
    );

    // The second is void: its parts wait again, and nothing else.
    let voided = world.issue(&wish(WishedDocument::Void {
        number: "2".to_owned(),
    }));
    assert_eq!(totals(&voided), ["-3.64"]);
    let again = world.issue(&all());
    assert_eq!(totals(&again), ["3.64"]);
    // A copy of the state says the same, and so do the entries alone.
    let copy = TenantFold::from_bytes(&world.fold.to_bytes()).expect("own bytes");
    assert_eq!(copy.to_bytes(), world.fold.to_bytes());
    let mut register = Register::default();
    for entry in ledger(&world.effects) {
        register.take(&entry);
    }
    assert!(register.waiting().is_empty());
}

#[test]
fn what_cannot_be_split_is_refused_whole() {
    let mut world = World::new("PT1M");
    world.line(0, 2, 0);
    for weights in [&[][..], &[1], &[1, 0], &[1; 101]] {
        let refused = world.propose(&split(weights));
        assert!(
            matches!(refused, Err(IssueRefused::Split(_))),
            "{weights:?}"
        );
    }
    let refused = world.propose(&split(&[1, 1, 1])).expect_err("two cents");
    assert!(
        refused.to_string().contains("part 3 of 3 would come to 0"),
        "{refused}"
    );
    assert_eq!(totals(&world.issue(&all())), ["0.02"]);
}

#[test]
fn a_dispute_holds_what_is_left_of_a_line() {
    let mut world = World::new("PT1M");
    world.line(0, 1000, 0);
    // One of two was journaled before the collector was killed.
    let first = world
        .propose(&split(&[1, 3]))
        .expect("possible")
        .swap_remove(0);
    world.apply(&TenantInput::Issue(Box::new(first), 1));
    let entry = crate::ledger::EntryRef {
        partition: 2,
        index: 1,
    };
    let decide = |key: &str, action| {
        TenantInput::Manual(Box::new(Manual {
            tenant: tenant("acme"),
            key: key.to_owned(),
            action,
            note: note(),
        }))
    };
    world.apply(&decide("hold", ManualAction::Hold { entry }));
    assert!(world.propose(&all()).is_err());
    world.apply(&decide("release", ManualAction::Release { entry }));
    assert_eq!(totals(&world.issue(&all())), ["7.50"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the lines and the weights: nothing is billed twice, and nothing is left.
    #[test]
    fn parts_sum_to_what_one_invoice_would(
        lines in prop::collection::vec((-500i64..5_000, 0i64..400), 1..6),
        weights in prop::collection::vec(1u32..1_000, 2..6),
    ) {
        let mut world = World::new("PT1M");
        for (number, (net, tax)) in lines.iter().enumerate().filter(|(_, (net, _))| *net != 0) {
            world.line(number, *net, Ord::min(*tax, net.abs()));
        }
        let Ok(issues) = world.propose(&all()) else {
            return Ok(());
        };
        prop_assert_eq!(issues.len(), 1);
        let whole: Decimal = world.fold.dues(&tenant("acme")).expect("known").open().values()
            .map(|due| due.amount).sum();
        if world.propose(&split(&weights)).is_err() {
            return Ok(());
        }
        let parts = world.issue(&split(&weights));
        prop_assert_eq!(parts.len(), weights.len());
        let sum: Decimal = parts.iter().filter_map(|entry| entry.posting.amount).sum();
        prop_assert_eq!(sum, whole);
        prop_assert!(world.fold.dues(&tenant("acme")).expect("known").open().is_empty());
    }
}
