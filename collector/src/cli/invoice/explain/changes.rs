//! What a line says in the place of: the entries since it was booked first.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};
use tollgate_collector_core::ledger::{EntryKind, EntryRef, LedgerEntry};

use super::super::{Store, print_rows};
use crate::cli::Failure;
use crate::run::books::each_entry;
use crate::sqlite::query::Filter;

/// The entry of a number.
pub(super) fn entry_at(store: &Store, at: EntryRef) -> Result<Option<LedgerEntry>, Failure> {
    let Some(after) = at.index.checked_sub(1) else {
        return Ok(None);
    };
    let found = store.reader.ledger_chain(at.partition, after, 1);
    let mut found = found.map_err(Failure::failed)?;
    Ok(found.pop().filter(|entry| entry.at == at))
}

/// The entries of the same line before this one, from the first on; empty if it is the first.
pub(super) fn before(store: &Store, entry: &LedgerEntry) -> Result<Vec<LedgerEntry>, Failure> {
    let kind = entry.posting.kind;
    // A share refers to the payer's line, which is another one.
    let is_same = |other: EntryKind| match kind {
        EntryKind::Share => other == EntryKind::Share,
        _ => kind.is_closing() && other.is_closing(),
    };
    let mut found: BTreeMap<EntryRef, LedgerEntry> = BTreeMap::new();
    let mut first = entry.clone();
    while let Some(at) = first.posting.refers_to
        && at.index < first.at.index
        && let Some(earlier) = entry_at(store, at)?
        && is_same(earlier.posting.kind)
    {
        found.insert(at, earlier.clone());
        first = earlier;
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Adjustments, and shares, all refer to the first.
    let posting = &entry.posting;
    let filter = Filter {
        tenant: posting.tenant.as_ref().map(ToString::to_string),
        meter: posting.meter.as_ref().map(ToString::to_string),
        ..Filter::default()
    };
    each_entry(&store.reader, filter, |other| {
        let refers = other.posting.refers_to == Some(first.at);
        if refers && is_same(other.posting.kind) && other.at < entry.at {
            found.insert(other.at, other);
        }
        Ok(())
    })
    .map_err(Failure::failed)?;
    Ok(found.into_values().collect())
}

/// The last of them that says how the line stood.
pub(super) fn standing(before: &[LedgerEntry]) -> Option<&LedgerEntry> {
    let mut before = before.iter().rev();
    before.find(|entry| entry.posting.kind != EntryKind::Reversal)
}

/// A table of them and of the entry itself.
pub(super) fn print(
    out: &mut dyn Write,
    before: &[LedgerEntry],
    entry: &LedgerEntry,
) -> io::Result<()> {
    if before.is_empty() {
        return Ok(());
    }
    let row = |entry: &LedgerEntry| {
        let posting = &entry.posting;
        json!({
            "entry": entry.at.to_string(),
            "posted": entry.posted.to_string(),
            "kind": posting.kind,
            "quantity": posting.quantity.display(posting.scale).to_string(),
            "amount": posting.amount,
            "arithmetic": posting.arithmetic,
        })
    };
    let rows: Vec<Value> = before.iter().chain([entry]).map(row).collect();
    let columns = [
        "entry",
        "posted",
        "kind",
        "quantity",
        "amount",
        "arithmetic",
    ];
    print_rows(out, &columns, &rows)?;
    writeln!(out)
}
