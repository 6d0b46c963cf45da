use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId};

use super::*;
use crate::position::Position;

fn posting(quantity: i128) -> Posting {
    let mut posting = Posting::new(
        EntryKind::Charge,
        Timestamp::EPOCH,
        Timestamp::from_secs(60),
        "requests",
        Position::from_bytes([1; 16]),
    );
    posting.role = Some(Role::Usage);
    posting.tenant = Some(TenantId::new("acme").expect("valid"));
    posting.date = chrono::NaiveDate::from_ymd_opt(2026, 6, 30);
    posting.meter = Some(MeterName::new("http.requests").expect("valid"));
    posting.quantity = Quantity::new(quantity);
    posting.aggregation = Some(tollgate_common::Aggregation::Sum);
    posting.amount = Some(Decimal::new(117_500, 2));
    posting.currency = Some("EUR".to_owned());
    posting.list = Some(Decimal::new(120_000, 2));
    posting.steps = vec![Step {
        kind: StepKind::Discount,
        id: "loyal".to_owned(),
        amount: Decimal::new(-2500, 2),
    }];
    posting.legs = transfer(
        Account::Unbilled,
        Account::Revenue("8400".to_owned()),
        Decimal::new(117_500, 2),
        "EUR",
    );
    posting.catalogs = vec![Digest([7; 32])];
    posting.usage = Some(Digest([8; 32]));
    posting.arithmetic = "1200 - 25".to_owned();
    posting.journal_from = Position::from_bytes([0; 16]);
    posting
}

#[test]
fn entries_that_were_read_back_have_their_hash_whatever_the_sign_of_a_zero() {
    let minus = -Decimal::new(0, 2);
    assert!(minus.is_sign_negative(), "there is such a thing");
    let mut zeros = posting(0);
    zeros.amount = Some(minus);
    zeros.list = Some(minus);
    zeros.steps[0].amount = minus;
    zeros.original = Some(Box::new(Original {
        amount: minus,
        currency: "USD".to_owned(),
        rate: None,
        rate_date: None,
        with_tax: false,
    }));
    zeros.tax = Some(Box::new(TaxOf {
        base: minus,
        percent: Decimal::ZERO,
        kind: None,
        note: None,
    }));
    for leg in &mut zeros.legs {
        leg.amount = minus;
    }
    let mut chain = Chain::new(3);
    let mut check = Chain::new(3);
    for (n, posting) in [posting(1), zeros, posting(-1)].into_iter().enumerate() {
        let stamp = Timestamp::from_secs(i64::try_from(n).expect("small"));
        let entry = chain.append(stamp, posting);
        let text = serde_json::to_string(&entry).expect("JSON");
        assert!(!text.contains("-0.00"), "{text}");
        let read: LedgerEntry = serde_json::from_str(&text).expect("an entry");
        assert_eq!(check.verify_next(&read), Ok(()), "{text}");
    }
}

#[test]
fn a_chain_verifies_and_any_change_breaks_it() {
    let mut chain = Chain::new(3);
    let entries: Vec<_> = (1..=3)
        .map(|n| chain.append(Timestamp::from_secs(n), posting(i128::from(n))))
        .collect();
    let mut check = Chain::new(3);
    for entry in &entries {
        assert_eq!(check.verify_next(entry), Ok(()));
    }
    assert_eq!(check, chain);

    let changes: [fn(&mut Posting); 6] = [
        |posting| posting.quantity = Quantity::new(2),
        |posting| posting.legs[0].amount = Decimal::ONE,
        |posting| posting.legs[1].account = Account::Grants,
        |posting| posting.date = None,
        |posting| posting.steps.clear(),
        |posting| posting.usage = None,
    ];
    for change in changes {
        let mut changed = entries[0].clone();
        change(&mut changed.posting);
        assert_eq!(
            Chain::new(3).verify_next(&changed),
            Err(ChainError::Hash { at: changed.at })
        );
    }
    let mut check = Chain::new(3);
    assert!(matches!(
        check.verify_next(&entries[1]),
        Err(ChainError::Number { .. })
    ));
}

#[test]
fn entries_survive_json() {
    let mut full = posting(5);
    full.note = Some(Box::new(Note {
        author: "kim".to_owned(),
        approved_by: Some("lee".to_owned()),
        reason: "outage".to_owned(),
    }));
    full.document = Some(Box::new(Document {
        issuer: "main".to_owned(),
        sequence: 7,
        number: "INV-000007".to_owned(),
        serial: 2,
        lines: vec![1, 2],
        parts: Vec::new(),
        part_of: None,
        due: chrono::NaiveDate::from_ymd_opt(2026, 7, 14),
        seller: Some(Digest([1; 32])),
        buyer: None,
    }));
    for posting in [posting(5), full] {
        let entry = Chain::new(0).append(Timestamp::from_secs(1), posting);
        let text = serde_json::to_string(&entry).expect("serialises");
        let back: LedgerEntry = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, entry);
        assert_eq!(Chain::new(0).verify_next(&back), Ok(()));
    }
}

/// The bytes of `docs/formats/ledger.md`, which never change for this version.
#[test]
fn golden_bytes() {
    let text = include_str!("../../../../docs/formats/ledger.md");
    let golden = text
        .split_once("```json\n")
        .and_then(|(_, rest)| rest.split_once("\n```"))
        .map(|(golden, _)| golden)
        .expect("the document shows an entry");
    let entry = Chain::new(3).append(Timestamp::from_secs(1_782_950_400), posting(3_500_000));
    assert_eq!(serde_json::to_string(&entry).expect("serialises"), golden);
    let hash = format!("`{}`", entry.hash);
    assert!(text.contains(&hash), "the document names the hash {hash}");
}

#[test]
fn numbers_of_entries_read_as_they_print() {
    let at: EntryRef = "2-17".parse().expect("reads");
    assert_eq!(at.to_string(), "2-17");
    for text in ["", "2", "2-", "x-1", "70000-1"] {
        assert!(text.parse::<EntryRef>().is_err(), "{text:?}");
    }
}
