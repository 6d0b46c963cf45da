//! One changed value of an entry, wherever in it, is found at its entry and named by its field.

use serde_json::Value;
use tollgate_common::Timestamp;

use super::payer_tests::world::{World, files, tenant};
use super::tests::{PARTITION, Tables, collected};
use super::*;
use crate::fold::tenant::{IssueWish, Issuer, NegativePolicy, WishedDocument, ZeroPolicy};
use crate::journal::memory::MemoryJournal;
use crate::ledger::Note;

/// The places of all texts, numbers and truths of a value.
fn leaves(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                leaves(field, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{at}/{index}"), all);
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => all.push(at.to_owned()),
    }
}

/// Another value instead of one: one more, or a text with another last character.
fn other(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(truth) => Some(Value::Bool(!truth)),
        Value::Number(number) => number.as_i64().map(|number| (number + 1).into()),
        Value::String(text) => {
            let mut text = text.clone();
            let other = match text.pop() {
                Some('9' | 'f') => '8',
                Some(last @ '0'..='8') => char::from_u32(u32::from(last) + 1)?,
                Some('a') => 'b',
                Some(_) => 'a',
                None => 'x',
            };
            text.push(other);
            Some(text.into())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Changes every value of every entry; in how many fields something was changed.
fn check(journal: &MemoryJournal, tables: &Tables) -> usize {
    let mut fields = std::collections::BTreeSet::new();
    for (index, entry) in tables.ledger.iter().enumerate() {
        let whole = serde_json::to_value(entry).expect("plain JSON");
        let mut places = Vec::new();
        leaves(&whole, "", &mut places);
        for place in places {
            let value = whole.pointer(&place).expect("it is there");
            let mut changed = whole.clone();
            let Some(other) = other(value) else { continue };
            *changed.pointer_mut(&place).expect("it is there") = other;
            // What cannot be read is found by whoever reads it.
            let Ok(changed) = serde_json::from_value::<LedgerEntry>(changed) else {
                continue;
            };
            let mut ledger = tables.ledger.clone();
            ledger[index] = changed;
            let forged = tables.with(ledger);
            let report = verify(journal, PARTITION, &forged).expect("reads");
            assert!(!report.verified, "{place} of {whole}");
            let found = report.difference.expect("located");
            let field = place[1..].split('/').next().unwrap_or_default();
            fields.insert(field.to_owned());
            if ["partition", "index"].contains(&field) {
                continue;
            }
            assert_eq!(found.at, entry.at, "{place} of {whole}");
            assert!(
                matches!(&found.kind, DifferenceKind::Field { field: named, .. } if named == field),
                "{place}: {:?}",
                found.kind
            );
        }
    }
    fields.len()
}

#[test]
fn a_change_of_any_value_of_a_loss_is_located() {
    let (journal, tables) = collected();
    let fields = check(&journal, &tables);
    assert!(fields >= 12, "only {fields} fields");
}

/// Lines, taxes and shares, what takes them back, and an invoice.
#[test]
fn a_change_of_any_value_of_a_line_or_a_document_is_located() {
    let agreed = "tax = \"de\"";
    let mut world = World::new(files(agreed, &[("shop", "payer = \"acme\"")]));
    world.rows(&[("acme", 10, 30), ("shop", 1000, 90)]);
    world.close(3600);
    world.correct("acme", "ticket-1", 20, 5);
    world.close(3700);
    let wish = IssueWish {
        tenant: tenant("acme"),
        issuer: Issuer {
            id: "berlin".to_owned(),
            prefix: "B".to_owned(),
            digits: 5,
            first: 1,
            terms_days: 14,
            zero: ZeroPolicy::Issue,
            negative: NegativePolicy::Carry,
        },
        what: WishedDocument::Invoice {
            currency: None,
            until: None,
        },
        note: Note {
            author: "kim".to_owned(),
            approved_by: None,
            reason: "June".to_owned(),
        },
    };
    let stamp = Timestamp::from_secs(3700);
    let mut folds = world.fold.tenants().iter();
    let issues = folds.find_map(|fold| fold.propose_issue(stamp, &wish).ok());
    for issue in issues.expect("there is something to bill") {
        world.take(Entry::Issue(Box::new(issue)));
    }
    let fields = check(&world.journal, &world.tables);
    assert!(fields >= 18, "only {fields} fields");
}
