//! `ledger list` and `ledger verify`.

use std::io::{self, Write};

use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::verify::{Report, verify as recompute};

use super::args::OutputArgs;
use super::output::{Output, table};
use super::{Exit, Failure, load};
use crate::run::DataDir;
use crate::sqlite::FrozenProjection;
use crate::sqlite::query::{Filter, LIMIT_MAX, LedgerRow, Reader};

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
    let journal = data.read_journal().map_err(Failure::failed)?;
    let report = recompute(&journal, PARTITION, &projection).map_err(Failure::failed)?;
    Output::new(args.json).print(&report, |out| describe(&report, out))?;
    Ok(if report.verified {
        Exit::Done
    } else {
        Exit::Unverified
    })
}

fn describe(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "journal   {} entries read", report.journal_entries)?;
    writeln!(
        out,
        "ledger    {} entries recomputed",
        report.ledger_entries
    )?;
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
            let text = |quantity: tollgate_common::Quantity| quantity.display(a.scale).to_string();
            let verdict = if a.conserved {
                "conserved"
            } else {
                "NOT CONSERVED"
            };
            vec![
                a.tenant.to_string(),
                a.meter.to_string(),
                text(a.accepted),
                text(a.counted),
                text(a.refused),
                text(a.lost),
                verdict.to_owned(),
            ]
        })
        .collect();
    table(
        out,
        &[
            "TENANT", "METER", "ACCEPTED", "COUNTED", "REFUSED", "LOST", "",
        ],
        &rows,
    )?;
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
