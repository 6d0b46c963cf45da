//! Books that break a rule, entry by entry.

use tollgate_common::Timestamp;

use super::*;
use crate::ledger::{Chain, Leg, Posting, TaxOf, transfer};
use crate::position::Position;

const CHAIN: u16 = 0;

fn posting(kind: EntryKind, of: Option<u64>, amount: i64) -> Posting {
    let (start, position) = (Timestamp::EPOCH, Position::from_bytes([0; 16]));
    let amount = Decimal::new(amount, 2);
    let legs = match kind {
        EntryKind::Hold | EntryKind::Release => Vec::new(),
        EntryKind::Invoice => transfer(Account::Receivable, Account::Unbilled, amount, "EUR"),
        _ => {
            let revenue = Account::Revenue("8400".to_owned());
            transfer(Account::Unbilled, revenue, amount, "EUR")
        }
    };
    Posting {
        tenant: Some(TenantId::new("acme").expect("valid")),
        amount: Some(amount),
        currency: Some("EUR".to_owned()),
        legs,
        refers_to: of.map(|index| EntryRef {
            partition: CHAIN,
            index,
        }),
        ..Posting::new(kind, start, start, "line", position)
    }
}

fn invoice(lines: &[u64], amount: i64) -> Posting {
    let document = Document {
        issuer: "berlin".to_owned(),
        sequence: 1,
        number: "B1".to_owned(),
        serial: 0,
        lines: lines.to_vec(),
        parts: Vec::new(),
        part_of: None,
        due: None,
        seller: None,
        buyer: None,
    };
    Posting {
        document: Some(Box::new(document)),
        ..posting(EntryKind::Invoice, None, amount)
    }
}

fn faults(postings: impl IntoIterator<Item = Posting>) -> Vec<String> {
    let (mut chain, mut books) = (Chain::new(CHAIN), Books::default());
    for posting in postings {
        let entry = chain.append(Timestamp::EPOCH, posting);
        books.take(&entry, &Families::default());
    }
    let (report, _) = books.finish(&Fold::new());
    report.faults.into_iter().map(|fault| fault.fault).collect()
}

/// A line of 10.00, what it changed by later, and a dispute over the line.
fn disputed() -> Vec<Posting> {
    vec![
        posting(EntryKind::Manual, None, 1000),
        posting(EntryKind::Adjustment, Some(1), 200),
        posting(EntryKind::Hold, Some(1), 0),
    ]
}

#[test]
fn an_invoice_over_a_disputed_line_is_a_fault() {
    for (line, amount) in [(1, 1000), (2, 200)] {
        let mut postings = disputed();
        postings.push(invoice(&[line], amount));
        assert_eq!(
            faults(postings),
            [format!("it bills {CHAIN}-{line}, which is held")]
        );
    }
    // So is what changes the line while it is disputed.
    let mut postings = disputed();
    postings.push(posting(EntryKind::Adjustment, Some(1), 300));
    postings.push(invoice(&[4], 300));
    assert_eq!(faults(postings), ["it bills 0-4, which is held"]);
    let mut postings = disputed();
    postings.push(posting(EntryKind::Release, Some(1), 0));
    postings.push(invoice(&[1, 2], 1200));
    assert_eq!(faults(postings), [] as [&str; 0]);
}

#[test]
fn an_invoice_over_a_billed_line_or_another_sum_is_a_fault() {
    let line = || posting(EntryKind::Manual, None, 1000);
    let again = faults([line(), invoice(&[1], 1000), invoice(&[1], 1000)]);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(
        faults([line(), invoice(&[1], 900)]),
        ["its lines sum to 10.00, its total is 9.00"]
    );
}

/// A tax that is not charged on a net amount, so that it comes to nothing.
fn untaxed(base: i64) -> Posting {
    let tax = TaxOf {
        base: Decimal::new(base, 2),
        percent: Decimal::ZERO,
        kind: Some("exempt".to_owned()),
        note: None,
    };
    let nothing = |account| Leg {
        account,
        amount: Decimal::ZERO,
        currency: "EUR".to_owned(),
    };
    Posting {
        legs: vec![
            nothing(Account::Unbilled),
            nothing(Account::Tax("vat".to_owned())),
        ],
        tax: Some(Box::new(tax)),
        ..posting(EntryKind::Charge, None, 0)
    }
}

#[test]
fn a_tax_that_comes_to_nothing_is_told_once_of_all_that_it_is_of() {
    let of = |bases: &[i64]| {
        let parts = bases.iter().zip(1..).map(|(base, sequence)| {
            let mut part = invoice(&[1], 0);
            if let Some(document) = &mut part.document {
                document.sequence = sequence;
                document.parts = vec![LinePart {
                    amount: Decimal::ZERO,
                    tax: Decimal::ZERO,
                    base: Decimal::new(*base, 2),
                }];
            }
            part
        });
        faults(std::iter::once(untaxed(1000)).chain(parts))
    };
    assert_eq!(of(&[400, 600]), [] as [&str; 0]);
    assert_eq!(
        of(&[400, 700]),
        ["it bills 0 (the tax on 7.00) of 0-1, of which 0 (the tax on 6.00) is left"]
    );
    assert_eq!(
        of(&[1000, 1]),
        ["it bills 0-1, which is no line that it can bill"]
    );
}
