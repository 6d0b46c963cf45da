//! `invoice explain`: from a line to its windows, agents and batches.

mod changes;

use serde::Serialize;
use serde_json::{Value, json};
use tollgate_collector_core::catalog::timeline::Timeline;
use tollgate_collector_core::explain::{Found, Sources};
use tollgate_collector_core::ledger::{EntryKind, EntryRef, LedgerEntry};
use tollgate_common::TenantId;

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
    let entry = changes::entry_at(&store, at)?
        .ok_or_else(|| Failure::failed(format!("there is no ledger entry {at}")))?;
    let before = changes::before(&store, &entry)?;
    let mut of_windows = Vec::new();
    let mut found = Found::default();
    if let Some(mut sources) = Sources::of(&entry.posting) {
        if let Some(first) = before.first()
            && let Some(last) = changes::standing(&before)
        {
            sources = sources.changing(&first.posting, last.posting.journal_to);
        }
        if sources.is_shared() {
            add_shares(&store, &mut sources)?;
        }
        let data = DataDir::new(&store.config.data_dir);
        let journal = data.read_journal().map_err(Failure::failed)?;
        found = sources.find(&journal).map_err(Failure::failed)?;
        let by = (&sources, &found.timeline);
        for tenant in sources.tenants() {
            windows(&store, by, tenant, &mut of_windows)?;
        }
    }
    show(args, (&entry, &before), &of_windows, &found)
}

fn show(
    args: &OutputArgs,
    (entry, before): (&LedgerEntry, &[LedgerEntry]),
    windows: &[Value],
    found: &Found,
) -> Result<Exit, Failure> {
    let batches = values(&found.batches)?;
    let corrections = values(&found.corrections)?;
    let shown = json!({
        "entry": entry,
        "before": before,
        "windows": windows,
        "batches": batches,
        "corrections": corrections,
    });
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
            writeln!(out, "  refers to {at}")?;
        }
        writeln!(out)?;
        changes::print(out, before, entry)?;
        let columns = [
            "tenant",
            "start",
            "dimensions",
            "quantity",
            "events",
            "refused",
        ];
        print_rows(out, &columns, windows)?;
        writeln!(out)?;
        let columns = [
            "position",
            "agent",
            "incarnation",
            "sequence",
            "tenant",
            "rows",
            "quantity",
            "again",
            "fork",
            "since",
        ];
        print_rows(out, &columns, &batches)?;
        if corrections.is_empty() {
            return Ok(());
        }
        writeln!(out)?;
        let columns = [
            "position", "author", "reason", "key", "tenant", "rows", "quantity", "again", "since",
        ];
        print_rows(out, &columns, &corrections)
    })?;
    Ok(Exit::Done)
}

fn values(rows: &[impl Serialize]) -> Result<Vec<Value>, Failure> {
    let rows = rows.iter().map(serde_json::to_value);
    rows.collect::<Result<_, _>>().map_err(Failure::failed)
}

/// Those who have a share of the line.
fn add_shares(store: &Store, sources: &mut Sources<'_>) -> Result<(), Failure> {
    let (start, end) = sources.period();
    let mut filter = Filter {
        meter: Some(sources.meter().to_string()),
        kind: Some(EntryKind::Share.as_str().to_owned()),
        from: Some(start),
        to: Some(end),
        limit: Some(LIMIT_MAX),
        ..Filter::default()
    };
    loop {
        let page = store.reader.ledger(&filter).map_err(Failure::failed)?;
        for row in &page.items {
            sources.add_share(&row.entry.posting);
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(());
        }
    }
}

/// The windows of the period, of all series of the meter.
fn windows(
    store: &Store,
    (sources, timeline): (&Sources<'_>, &Timeline),
    tenant: &TenantId,
    windows: &mut Vec<Value>,
) -> Result<(), Failure> {
    let (start, end) = sources.period();
    let mut filter = Filter {
        tenant: Some(tenant.to_string()),
        meter: Some(sources.meter().to_string()),
        from: Some(start),
        to: Some(end),
        limit: Some(LIMIT_MAX),
        ..Filter::default()
    };
    loop {
        let page = store.reader.usage(&filter).map_err(Failure::failed)?;
        for row in page.items {
            let start = row.start.as_deref().map(crate::time::parse_instant);
            let start = start.transpose().map_err(Failure::failed)?;
            if start.is_some_and(|start| !sources.pays(timeline, tenant, start)) {
                continue;
            }
            if windows.len() == WINDOWS_MAX {
                return Err(Failure::failed(format!(
                    "more than {WINDOWS_MAX} windows: read them from /v1/usage"
                )));
            }
            windows.push(serde_json::to_value(row).map_err(Failure::failed)?);
        }
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            return Ok(());
        }
    }
}
