//! What queries return, and how it is made from the columns.

use rusqlite::Row;
use serde::Serialize;
use tollgate_collector_core::ledger::LedgerEntry;
use tollgate_common::sketch::{Histogram, UniqueSketch};
use tollgate_common::{Aggregation, Quantity, Scale, Timestamp};

use super::QueryError;
use crate::sqlite::write;

/// A page of rows.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

/// Usage of a series in a window, or summed over the windows asked for.
#[derive(Clone, Debug, Serialize)]
pub struct UsageRow {
    /// Who pays.
    pub tenant: String,
    /// What is measured.
    pub meter: String,
    /// First instant of the window; `None` in sums over windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// First instant after the window; `None` in sums over windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// How the meter is split; `None` in sums over series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<serde_json::Value>,
    /// `sum`, `last`, `max`, `unique`, `distribution` or `time_weighted`.
    pub aggregation: String,
    /// Why it was refused; `None` for usage that counts.
    pub refused: Option<String>,
    /// In the meter's unit, decimal.
    pub quantity: String,
    /// The same in the meter's smallest unit, a whole number.
    pub units: String,
    /// Decimal places of the smallest unit.
    pub scale: u8,
    /// Number of events.
    pub events: String,
    /// Of `unique`: true if the quantity is exact, false if it is estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<bool>,
    /// Of `distribution`: how the values are distributed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<DistributionRow>,
}

/// Percentiles of a distribution, in the meter's unit, at most 0.79 % above what was recorded
/// and never below.
#[derive(Clone, Debug, Serialize)]
pub struct DistributionRow {
    /// How many values were recorded.
    pub count: String,
    /// Half of the values are not above it.
    pub p50: Option<String>,
    /// 95 % of them.
    pub p95: Option<String>,
    /// 99 % of them.
    pub p99: Option<String>,
    /// None of them.
    pub max: Option<String>,
}

impl DistributionRow {
    fn of(histogram: &Histogram, scale: Scale) -> Self {
        let at = |parts| {
            let value = histogram.value_at(parts)?;
            Some(Quantity::new(value.into()).display(scale).to_string())
        };
        Self {
            count: histogram.count().to_string(),
            p50: at(500_000),
            p95: at(950_000),
            p99: at(990_000),
            max: at(1_000_000),
        }
    }
}

/// What the sketch of a row says: whether a number of distinct values is exact, and how values
/// are distributed.
fn detail(
    row: &Row<'_>,
    column: usize,
    aggregation: &str,
    scale: Scale,
) -> Result<(Option<bool>, Option<DistributionRow>), QueryError> {
    let bytes = row.get_ref(column)?.as_blob();
    let bytes = bytes.map_err(|_| QueryError::Range("detail"))?;
    Ok(match aggregation.parse() {
        Ok(Aggregation::Unique) => {
            let sketch = UniqueSketch::from_canonical(bytes);
            let sketch = sketch.map_err(|_| QueryError::Range("detail"))?;
            (Some(sketch.is_exact()), None)
        }
        Ok(Aggregation::Distribution) => {
            let histogram = Histogram::from_canonical(bytes);
            let histogram = histogram.map_err(|_| QueryError::Range("detail"))?;
            (None, Some(DistributionRow::of(&histogram, scale)))
        }
        _ => (None, None),
    })
}

/// A ledger entry for output: the entry with readable times and both forms of the quantity.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerRow {
    /// `PARTITION-INDEX`.
    pub id: String,
    /// When it was posted.
    pub posted: String,
    /// First instant of the period or of the bound.
    pub start: String,
    /// First instant after.
    pub end: String,
    /// In the meter's unit, decimal.
    pub quantity: String,
    /// The same in the meter's smallest unit, a whole number.
    pub units: String,
    /// Everything else, as it was hashed.
    pub entry: LedgerEntry,
}

impl From<LedgerEntry> for LedgerRow {
    fn from(entry: LedgerEntry) -> Self {
        let posting = &entry.posting;
        Self {
            id: entry.at.to_string(),
            posted: entry.posted.to_string(),
            start: posting.start.to_string(),
            end: posting.end.to_string(),
            quantity: posting.quantity.display(posting.scale).to_string(),
            units: posting.quantity.to_string(),
            entry,
        }
    }
}

/// A billing period.
#[derive(Clone, Debug, Serialize)]
pub struct PeriodRow {
    /// Whose.
    pub tenant: String,
    /// First instant, UTC.
    pub start: String,
    /// First instant after, UTC.
    pub end: String,
    /// `open` or `closed`.
    pub status: String,
    /// How often it was closed.
    pub rounds: u32,
    /// Why and by what it was closed last.
    pub closing: Option<serde_json::Value>,
}

/// The conservation account of a tenant's meter.
#[derive(Clone, Debug, Serialize)]
pub struct AccountRow {
    /// Whose.
    pub tenant: String,
    /// Of which meter.
    pub meter: String,
    /// Decimal places.
    pub scale: u8,
    /// What agents say they counted, in the meter's unit.
    pub accepted: String,
    /// What was folded into periods.
    pub counted: String,
    /// What was refused by policy.
    pub refused: String,
    /// What was declared lost, exactly or at most.
    pub lost: String,
    /// What operators added and took away.
    pub corrected: String,
    /// `accepted + corrected - counted - refused - lost`: on its way. Below zero if more was declared
    /// lost than was; `null` if it is further below zero than a figure can be.
    pub pending: Option<String>,
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<String, QueryError> {
    Ok(Timestamp::from_millis(row.get(column)?).to_string())
}

/// A stored quantity in the meter's unit and in its smallest unit.
pub(super) fn quantity(
    row: &Row<'_>,
    column: usize,
    scale: u8,
) -> Result<(String, String), QueryError> {
    let value = parse_quantity(row, column)?;
    let scale = Scale::new(scale).map_err(|_| QueryError::Range("scale"))?;
    Ok((value.display(scale).to_string(), value.to_string()))
}

fn parse_quantity(row: &Row<'_>, column: usize) -> Result<Quantity, QueryError> {
    row.get_ref(column)?
        .as_str()
        .ok()
        .and_then(|text| text.parse::<i128>().ok())
        .map(Quantity::new)
        .ok_or(QueryError::Range("quantity"))
}

pub(super) fn usage_row(row: &Row<'_>) -> Result<UsageRow, QueryError> {
    let (start, seconds): (i64, i64) = (row.get(2)?, row.get(3)?);
    let start = Timestamp::from_millis(start);
    let scale: u8 = row.get(6)?;
    let (quantity, units) = quantity(row, 8, scale)?;
    let dimensions: String = row.get(4)?;
    let aggregation: String = row.get(5)?;
    let scale_type = Scale::new(scale).map_err(|_| QueryError::Range("scale"))?;
    let (exact, distribution) = detail(row, 10, &aggregation, scale_type)?;
    let refused: String = row.get(7)?;
    Ok(UsageRow {
        tenant: row.get(0)?,
        meter: row.get(1)?,
        start: Some(start.to_string()),
        end: Some(start.plus_millis(seconds.saturating_mul(1000)).to_string()),
        dimensions: Some(
            serde_json::from_str(&dimensions).map_err(|error| write::conversion(4, error))?,
        ),
        aggregation,
        refused: Some(refused).filter(|reason| !reason.is_empty()),
        quantity,
        units,
        scale,
        events: row.get(9)?,
        exact,
        distribution,
    })
}

pub(super) fn account_row(row: &Row<'_>) -> Result<AccountRow, QueryError> {
    let scale: u8 = row.get(2)?;
    let scale_type = Scale::new(scale).map_err(|_| QueryError::Range("scale"))?;
    let accepted = parse_quantity(row, 3)?;
    let parts = [
        parse_quantity(row, 4)?,
        parse_quantity(row, 5)?,
        parse_quantity(row, 6)?,
    ];
    let corrected = parse_quantity(row, 7)?;
    // An account whose figures are beyond all use is shown as it stands: one of them must not
    // hide the others of its page.
    let pending = parts
        .iter()
        .try_fold(accepted, |rest, part| rest.checked_sub(*part))
        .and_then(|rest| rest.checked_add(corrected));
    let text = |quantity: Quantity| quantity.display(scale_type).to_string();
    let [counted, refused, lost] = parts.map(text);
    Ok(AccountRow {
        tenant: row.get(0)?,
        meter: row.get(1)?,
        scale,
        accepted: text(accepted),
        counted,
        refused,
        lost,
        corrected: text(corrected),
        pending: pending.map(text),
    })
}
