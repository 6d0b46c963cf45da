//! Writing effects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rusqlite::{Connection, params};
use tollgate_collector_core::effect::{
    AccountState, AgentState, CatalogApplied, Effect, PeriodState, PeriodStatus, UsageChange,
};
use tollgate_collector_core::entry::CatalogChange;
use tollgate_collector_core::ledger::LedgerEntry;
use tollgate_collector_core::projection::Transaction;
use tollgate_common::{Aggregation, Dimensions};

use super::details::Details;

/// An error of ours in the shape of SQLite's.
pub(super) fn conversion<E>(column: usize, error: E) -> rusqlite::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn encoding(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Writes effects in order; usage with details last, once for each series and window. Says how
/// many details were merged with what was stored.
pub(super) fn effects(connection: &Connection, effects: &[Effect]) -> rusqlite::Result<usize> {
    let mut details = Details::default();
    for effect in effects {
        match effect {
            Effect::Usage(change) if change.detail.is_none() => usage(connection, change)?,
            Effect::Usage(change) => details.take(change),
            Effect::Rows(rows) => {
                for change in rows.changes() {
                    if change.detail.is_none() {
                        usage(connection, &change)?;
                    } else {
                        details.take(&change);
                    }
                }
            }
            Effect::Ledger(entry) => ledger(connection, entry)?,
            Effect::Agent(state) => agent(connection, state)?,
            Effect::Account(state) => account(connection, state)?,
            Effect::Period(state) => period(connection, state)?,
            Effect::Catalog(applied) => catalog(connection, applied)?,
        }
    }
    details.write(connection)
}

/// Writes the position that everything before belongs to.
pub(super) fn progress(connection: &Connection, transaction: &Transaction) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO progress (partition, position, epoch) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET position = excluded.position, epoch = excluded.epoch",
        )?
        .execute(params![
            transaction.partition.0,
            transaction.upto.to_string(),
            i64::try_from(transaction.epoch.0).map_err(|error| conversion(2, error))?,
        ])?;
    Ok(())
}

/// Dimensions as one canonical text: `{"key":"value",…}`, keys sorted.
pub(super) fn dimensions_text(dimensions: &Dimensions) -> rusqlite::Result<String> {
    if dimensions.is_empty() {
        return Ok("{}".to_owned());
    }
    let mut text = String::from("{");
    for (index, (key, value)) in dimensions.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (key, value) = (
            serde_json::to_string(key).map_err(encoding)?,
            serde_json::to_string(value).map_err(encoding)?,
        );
        write!(text, "{comma}{key}:{value}")
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    }
    text.push('}');
    Ok(text)
}

const USAGE_INSERT: &str =
    "INSERT INTO usage (tenant, meter, window_start, window_secs, dimensions, aggregation,
        scale, refused, quantity, events, last_order, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO UPDATE SET ";
const USAGE_ADD: &str = "quantity = exact_add(quantity, excluded.quantity),
    events = exact_add(events, excluded.events)";
const USAGE_REPLACE: &str =
    "quantity = iif(excluded.last_order >= last_order, excluded.quantity, quantity),
    events = exact_add(events, excluded.events),
    last_order = max(last_order, excluded.last_order)";

const USAGE_MAX: &str = "quantity = exact_max(quantity, excluded.quantity),
    events = exact_add(events, excluded.events)";
/// Writes a change that has no detail.
fn usage(connection: &Connection, change: &UsageChange) -> rusqlite::Result<()> {
    let rule = match change.aggregation {
        Aggregation::Last => USAGE_REPLACE,
        Aggregation::Max => USAGE_MAX,
        Aggregation::Sum
        | Aggregation::TimeWeighted
        | Aggregation::Distribution
        | Aggregation::Unique => USAGE_ADD,
    };
    connection
        .prepare_cached(&format!("{USAGE_INSERT}{rule}"))?
        .execute(params![
            change.series.tenant().as_str(),
            change.series.meter().as_str(),
            change.window.start().millis(),
            change.window.width().secs(),
            dimensions_text(change.series.dimensions())?,
            change.aggregation.as_str(),
            change.scale.get(),
            change.refused.map_or("", |reason| reason.as_str()),
            change.quantity.units().to_string(),
            change.events.to_string(),
            change.order.as_deref().unwrap_or(""),
            &[] as &[u8],
        ])?;
    Ok(())
}

fn ledger(connection: &Connection, entry: &LedgerEntry) -> rusqlite::Result<()> {
    let posting = &entry.posting;
    connection
        .prepare_cached(
            "INSERT INTO ledger (partition, idx, posted, kind, tenant, meter, line, period_start, period_end,
                 quantity, scale, amount, currency, entry)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            entry.at.partition,
            i64::try_from(entry.at.index).map_err(|error| conversion(1, error))?,
            entry.posted.millis(),
            posting.kind.as_str(),
            posting.tenant.as_ref().map(tollgate_common::TenantId::as_str),
            posting.meter.as_ref().map(tollgate_common::MeterName::as_str),
            posting.line,
            posting.start.millis(),
            posting.end.millis(),
            posting.quantity.units().to_string(),
            posting.scale.get(),
            posting.amount.map(|amount| amount.to_string()),
            posting.currency,
            serde_json::to_string(entry).map_err(encoding)?,
        ])?;
    Ok(())
}

fn agent(connection: &Connection, state: &AgentState) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO agents (agent, state) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET state = excluded.state",
        )?
        .execute(params![
            state.agent.as_str(),
            serde_json::to_string(state).map_err(encoding)?
        ])?;
    Ok(())
}

fn account(connection: &Connection, state: &AccountState) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO accounts (tenant, meter, scale, accepted, counted, refused, lost, corrected)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET accepted = excluded.accepted, counted = excluded.counted,
                 refused = excluded.refused, lost = excluded.lost,
                 corrected = excluded.corrected",
        )?
        .execute(params![
            state.tenant.as_str(),
            state.meter.as_str(),
            state.scale.get(),
            state.accepted.units().to_string(),
            state.counted.units().to_string(),
            state.refused.units().to_string(),
            state.lost.units().to_string(),
            state.corrected.units().to_string(),
        ])?;
    Ok(())
}

fn period(connection: &Connection, state: &PeriodState) -> rusqlite::Result<()> {
    let status = match state.status {
        PeriodStatus::Open => "open",
        PeriodStatus::Closed => "closed",
    };
    connection
        .prepare_cached(
            "INSERT INTO periods (tenant, period_start, period_end, status, rounds, closing)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET status = excluded.status, rounds = excluded.rounds,
                 closing = excluded.closing",
        )?
        .execute(params![
            state.tenant.as_str(),
            state.start.millis(),
            state.end.millis(),
            status,
            state.rounds,
            state.closing,
        ])?;
    Ok(())
}

fn catalog(connection: &Connection, applied: &CatalogApplied) -> rusqlite::Result<()> {
    let change = &*applied.change;
    let digest = change.digest.to_string();
    connection
        .prepare_cached(
            "INSERT INTO catalog_files (digest, files) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            digest,
            serde_json::to_string(&change.files).map_err(encoding)?
        ])?;
    let without_files = CatalogChange {
        digest: change.digest,
        files: BTreeMap::new(),
        author: change.author.clone(),
        reason: change.reason.clone(),
        tenants: change.tenants.clone(),
        signatures: change.signatures.clone(),
        proposed: change.proposed,
        approves: change.approves,
    };
    connection
        .prepare_cached(
            "INSERT INTO catalogs (position, stamp, digest, change) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            applied.position.to_string(),
            applied.stamp.millis(),
            digest,
            serde_json::to_string(&without_files).map_err(encoding)?,
        ])?;
    Ok(())
}
