//! `ledger list` and `ledger verify`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;
use tollgate_collector_core::journal::segment::{PARTITION, position_of};
use tollgate_collector_core::projection::ProjectionError;
use tollgate_collector_core::verify::{Report, VerifyError, verify_with};
use tollgate_common::Quantity;
use tollgate_common::log::Damage;

use super::args::OutputArgs;
use super::output::{Output, table};
use super::{Exit, Failure, load};
use crate::parties::Parties;
use crate::run::DataDir;
use crate::sqlite::query::{Filter, LIMIT_MAX, LedgerRow, Reader};
use crate::sqlite::{FrozenProjection, Rebuilt, TableDifference};

pub(super) fn list(args: &OutputArgs, mut filter: Filter) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let reader =
        Reader::open(&DataDir::new(&config.data_dir).projection()).map_err(Failure::failed)?;
    filter.limit = Some(LIMIT_MAX);
    let mut entries: Vec<LedgerRow> = Vec::new();
    loop {
        let page = reader.ledger(&filter).map_err(Failure::failed)?;
        entries.extend(page.items);
        filter.cursor = page.next_cursor;
        if filter.cursor.is_none() {
            break;
        }
    }
    Output::new(args.json).print(&entries, |out| {
        let rows: Vec<_> = entries.iter().map(cells).collect();
        table(
            out,
            &[
                "ID",
                "KIND",
                "TENANT",
                "PERIOD",
                "METER",
                "LINE",
                "QUANTITY",
                "AMOUNT",
                "ARITHMETIC",
            ],
            &rows,
        )
    })?;
    Ok(Exit::Done)
}

fn cells(row: &LedgerRow) -> Vec<String> {
    let posting = &row.entry.posting;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let amount = posting.amount.map(|amount| match &posting.currency {
        Some(currency) => format!("{amount} {currency}"),
        None => amount.to_string(),
    });
    vec![
        row.id.clone(),
        posting.kind.to_string(),
        or_dash(posting.tenant.as_ref().map(ToString::to_string)),
        row.start.chars().take(10).collect(),
        or_dash(posting.meter.as_ref().map(ToString::to_string)),
        posting.line.clone(),
        row.quantity.clone(),
        or_dash(amount),
        posting.arithmetic.clone(),
    ]
}

pub(super) fn verify(args: &OutputArgs) -> Result<Exit, Failure> {
    let config = load::config(&args.config)?;
    let data = DataDir::new(&config.data_dir);
    // In this order: the journal then holds everything that the projection reflects.
    let projection = FrozenProjection::open(&data.projection()).map_err(Failure::failed)?;
    let mut whole = data.read_whole_journal().map_err(Failure::failed)?;
    if !whole.1.damage.is_empty() {
        // What a running collector was writing at that moment is whole at the second look.
        whole = data.read_whole_journal().map_err(Failure::failed)?;
    }
    let (journal, opened) = whole;
    let mut rebuilt = Rebuilt::new().map_err(Failure::failed)?;
    let recomputed = verify_with(&journal, PARTITION, &projection, |effects| {
        rebuilt
            .take(effects)
            .map_err(|error| ProjectionError::Store(error.to_string()))
    });
    let mut report = recomputed.map_err(|error| match error {
        VerifyError::JournalEndsEarly { .. } => Failure::new(Exit::Unverified, error),
        error => Failure::failed(error),
    })?;
    // The ledger's own difference says more.
    let table = match &report.difference {
        Some(_) => None,
        None => rebuilt.compare(&projection).map_err(Failure::failed)?,
    };
    // What costs an entry stops the recomputing; the rest is damage all the same.
    let damage = opened.damage;
    let parties = parties(&data, &projection).err();
    report.verified &= table.is_none() && damage.is_empty() && parties.is_none();
    let checked = Checked {
        report,
        table,
        damage,
        parties,
    };
    Output::new(args.json).print(&checked, |out| describe(&checked, out))?;
    Ok(if checked.report.verified {
        Exit::Done
    } else {
        Exit::Unverified
    })
}

/// What the journal says of the ledger, and of the other tables.
#[derive(Serialize)]
struct Checked {
    #[serde(flatten)]
    report: Report,
    /// The first row that is not what the journal gives.
    table: Option<TableDifference>,
    /// Places of the journal that are damaged without costing an entry.
    damage: Vec<Damage>,
    /// What is wrong with the parties' legal data.
    parties: Option<String>,
}

/// Every document's parties are what its digests say, or were erased.
fn parties(data: &DataDir, projection: &FrozenProjection) -> Result<(), String> {
    let parties = Parties::open_existing(&data.parties()).map_err(|error| error.to_string())?;
    if let Some(parties) = &parties {
        parties.check().map_err(|error| error.to_string())?;
    }
    let documents = projection.documents().map_err(|error| error.to_string())?;
    for entry in documents {
        let Some(document) = &entry.posting.document else {
            continue;
        };
        for digest in [document.seller, document.buyer].into_iter().flatten() {
            let found = match &parties {
                Some(parties) => parties
                    .snapshot(digest)
                    .map_err(|error| error.to_string())?,
                None => None,
            };
            if found.is_none() {
                return Err(format!(
                    "{} is missing a party of document {} ({digest})",
                    data.parties().display(),
                    document.number
                ));
            }
        }
    }
    Ok(())
}

fn describe(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let report = &checked.report;
    writeln!(out, "journal   {} entries read", report.journal_entries)?;
    writeln!(
        out,
        "ledger    {} entries recomputed",
        report.ledger_entries
    )?;
    for restore in &report.restores {
        writeln!(
            out,
            "RESTORED  {} from the backup of {} ({}, {}); entries booked between are gone",
            restore.at, restore.backup, restore.author, restore.reason
        )?;
    }
    for chain in &report.chains {
        writeln!(
            out,
            "chain {:<3} {} entries, head {}",
            chain.partition, chain.entries, chain.head
        )?;
    }
    let rows: Vec<_> = report
        .accounts
        .iter()
        .map(|a| {
            let text = |quantity: Quantity| quantity.display(a.scale).to_string();
            let verdict = if a.conserved {
                "conserved"
            } else {
                "NOT CONSERVED"
            };
            let sum = |sums: &BTreeMap<String, Quantity>| {
                let parts = sums.iter();
                let parts = parts.map(|(reason, sum)| format!("{} {reason}", text(*sum)));
                parts.collect::<Vec<_>>().join(", ")
            };
            vec![
                a.tenant.to_string(),
                a.meter.to_string(),
                text(a.accepted),
                text(a.booked.billed),
                sum(&a.booked.unrated),
                text(a.refused),
                text(a.lost),
                text(a.corrected),
                text(a.booked.open),
                verdict.to_owned(),
            ]
        })
        .collect();
    table(
        out,
        &[
            "TENANT",
            "METER",
            "ACCEPTED",
            "BILLED",
            "UNRATED",
            "REFUSED",
            "LOST",
            "CORRECTED",
            "OPEN",
            "",
        ],
        &rows,
    )?;
    describe_books(checked, out)?;
    for damage in &checked.damage {
        let place = position_of(damage.position);
        writeln!(out, "DAMAGE in the journal at {place}: {}", damage.reason)?;
    }
    if let Some(table) = &checked.table {
        writeln!(
            out,
            "DIFFERENCE {}",
            serde_json::to_string(table).map_err(io::Error::from)?
        )?;
    }
    if let Some(difference) = &report.difference {
        writeln!(
            out,
            "DIFFERENCE {}",
            serde_json::to_string(difference).map_err(io::Error::from)?
        )?;
    }
    writeln!(
        out,
        "{}",
        if report.verified {
            "verified"
        } else {
            "NOT VERIFIED"
        }
    )
}

/// What double entry promises, and what stands beside the ledger.
fn describe_books(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let report = &checked.report;
    for fault in &report.books.faults {
        writeln!(out, "FAULT in entry {}: {}", fault.at, fault.fault)?;
    }
    writeln!(
        out,
        "books     {} entries balanced, {} documents",
        report.books.balanced, report.books.documents
    )?;
    if let Some(parties) = &checked.parties {
        writeln!(out, "DIFFERENCE {parties}")?;
    }
    Ok(())
}
