//! `invoice explain`: from a line to its windows, agents and batches.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate_collector_core::entry::Entry;
use tollgate_collector_core::journal::reader::Reader as JournalReader;
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::ledger::{EntryRef, LedgerEntry};
use tollgate_common::{MeterName, Quantity, TenantId};

use super::{Store, print_rows};
use crate::cli::args::OutputArgs;
use crate::cli::output::Output;
use crate::cli::{Exit, Failure};
use crate::run::DataDir;
use crate::sqlite::query::{Filter, LIMIT_MAX};

/// Most windows that are shown.
const WINDOWS_MAX: usize = 100_000;

pub(super) fn run(args: &OutputArgs, line: &str) -> Result<Exit, Failure> {
    let at: EntryRef = line
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let store = Store::open(args)?;
    let found = at
        .index
        .checked_sub(1)
        .map(|after| store.reader.ledger_chain(at.partition, after, 1))
        .transpose()
        .map_err(Failure::failed)?;
    let entry = found
        .and_then(|mut found| found.pop())
        .filter(|entry| entry.at == at)
        .ok_or_else(|| Failure::failed(format!("there is no ledger entry {at}")))?;
    let (tenant, meter) = (entry.posting.tenant.clone(), entry.posting.meter.clone());
    let (windows, batches) = match (&tenant, &meter) {
        (Some(tenant), Some(meter)) => (
            windows(&store, &entry, tenant, meter)?,
            batches(&store, &entry, tenant, meter)?,
        ),
        _ => (Vec::new(), Vec::new()),
    };
    let shown = json!({ "entry": entry, "windows": windows, "batches": batches });
    Output::new(args.json).print(&shown, |out| {
        let posting = &entry.posting;
        writeln!(out, "{} {} {}", entry.at, posting.kind, posting.line)?;
        writeln!(out, "  {}", posting.arithmetic)?;
        for step in &posting.steps {
            writeln!(out, "  {} {}: {}", step.kind.as_str(), step.id, step.amount)?;
        }
        for leg in &posting.legs {
            writeln!(out, "  {} {} {}", leg.account, leg.amount, leg.currency)?;
        }
        for catalog in &posting.catalogs {
            writeln!(out, "  catalog {catalog}")?;
        }
        if let Some(note) = &posting.note {
            writeln!(out, "  {}: {}", note.author, note.reason)?;
        }
        if let Some(at) = posting.refers_to {
            writeln!(out, "  refers to {at}: what is below came since")?;
        }
        writeln!(out)?;
        let columns = ["start", "dimensions", "quantity", "events", "refused"];
        print_rows(out, &columns, &windows)?;
        writeln!(out)?;
        let columns = [
            "position",
            "agent",
            "incarnation",
            "sequence",
            "rows",
            "quantity",
            "again",
        ];
        print_rows(out, &columns, &batches)
    })?;
    Ok(Exit::Done)
}

/// The windows of the period, of all series of the meter.
fn windows(
    store: &Store,
    entry: &LedgerEntry,
    tenant: &TenantId,
    meter: &MeterName,
) -> Result<Vec<Value>, Failure> {
    let mut filter = Filter {
        tenant: Some(tenant.to_string()),
        meter: Some(meter.to_string()),
        from: Some(entry.posting.start),
        to: Some(entry.posting.end),
        limit: Some(LIMIT_MAX),
        ..Filter::default()
    };
    let mut windows = Vec::new();
    loop {
        let page = store.reader.usage(&filter).map_err(Failure::failed)?;
        for row in page.items {
            if windows.len() == WINDOWS_MAX {
                return Err(Failure::failed(format!(
                    "more than {WINDOWS_MAX} windows: read them from /v1/usage"
                )));
            }
            windows.push(serde_json::to_value(row).map_err(Failure::failed)?);
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(windows);
        }
    }
}

/// The batches that brought usage of the period, from the journal entries that the posting names.
fn batches(
    store: &Store,
    entry: &LedgerEntry,
    tenant: &TenantId,
    meter: &MeterName,
) -> Result<Vec<Value>, Failure> {
    let posting = &entry.posting;
    let data = DataDir::new(&store.config.data_dir);
    let journal = data.read_journal().map_err(Failure::failed)?;
    let mut reader = JournalReader::new(PARTITION, None);
    let mut seen = BTreeSet::new();
    let mut batches = Vec::new();
    while let Some((position, stamped)) = reader.next(&journal).map_err(Failure::failed)? {
        if position > posting.journal_to {
            break;
        }
        let Entry::Batch(received) = stamped.entry else {
            continue;
        };
        let batch = &received.batch;
        let again = !seen.insert((batch.agent.clone(), batch.incarnation, batch.sequence));
        if position < posting.journal_from {
            continue;
        }
        let rows: Vec<_> = batch
            .rows
            .iter()
            .filter(|row| {
                let start = row.window.start();
                row.series.tenant() == tenant
                    && row.series.meter() == meter
                    && posting.start <= start
                    && start < posting.end
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let sum = Quantity::checked_sum(rows.iter().map(|row| row.value));
        batches.push(json!({
            "position": position,
            "stamp": stamped.stamp.to_string(),
            "agent": batch.agent,
            "incarnation": batch.incarnation,
            "sequence": batch.sequence,
            "rows": rows.len(),
            "quantity": sum.map(|sum| sum.display(posting.scale).to_string()),
            // Received before, so that it counted nothing.
            "again": again,
        }));
    }
    Ok(batches)
}
