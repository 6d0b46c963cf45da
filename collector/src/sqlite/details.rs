//! Usage with details: sketches of distinct values and histograms.
//!
//! A stored detail is large beside a row that adds one value to it, and a frame may have a
//! million such rows. So the rows of a transaction are merged among themselves first, which costs
//! what they hold, and each series and window reads, merges and writes what is stored once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tollgate_collector_core::effect::UsageChange;
use tollgate_common::sketch::{Histogram, SketchError, UniqueSketch};
use tollgate_common::{Aggregation, Detail, SeriesKey};

use super::write::{conversion, dimensions_text};

/// What tells one row of the table from another, the series first.
type Key = (Arc<SeriesKey>, (i64, u32), u8, u8, &'static str);

/// Changes of one transaction, merged.
#[derive(Default)]
pub(super) struct Details {
    changes: BTreeMap<Key, UsageChange>,
}

impl Details {
    /// Takes a change that has a detail.
    pub(super) fn take(&mut self, change: &UsageChange) {
        let window = (change.window.start().millis(), change.window.width().secs());
        let key = (
            Arc::clone(&change.series),
            window,
            change.aggregation.code(),
            change.scale.get(),
            change.refused.map_or("", |reason| reason.as_str()),
        );
        match self.changes.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(change.clone());
            }
            Entry::Occupied(mut entry) => {
                let ours = entry.get_mut();
                ours.quantity = saturating(ours.quantity.units(), change.quantity.units());
                ours.events = ours.events.saturating_add(change.events);
                merge(&mut ours.detail, &change.detail);
            }
        }
    }

    /// Merges everything with what is stored. Says how often something was.
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<usize> {
        let mut merges = 0;
        for change in self.changes.into_values() {
            merges += usize::from(put(connection, change)?);
        }
        Ok(merges)
    }
}

fn saturating(left: i128, right: i128) -> tollgate_common::Quantity {
    tollgate_common::Quantity::new(left.saturating_add(right))
}

/// Like the fold, of more than 2^64 values the first are kept. Details of two kinds do not
/// meet: the aggregation is a part of the key.
fn merge(ours: &mut Detail, theirs: &Detail) {
    match (ours, theirs) {
        (Detail::Unique(ours), Detail::Unique(theirs)) => Arc::make_mut(ours).merge(theirs),
        (Detail::Distribution(ours), Detail::Distribution(theirs)) => {
            let _ = Arc::make_mut(ours).merge(theirs);
        }
        _ => {}
    }
}

fn stored_detail(aggregation: Aggregation, bytes: &[u8]) -> Result<Detail, SketchError> {
    Ok(match aggregation {
        _ if bytes.is_empty() => Detail::None,
        Aggregation::Unique => Detail::Unique(Arc::new(UniqueSketch::from_canonical(bytes)?)),
        _ => Detail::Distribution(Arc::new(Histogram::from_canonical(bytes)?)),
    })
}

fn bytes_of(detail: &Detail) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(detail.canonical_len());
    match detail {
        Detail::None => {}
        Detail::Unique(sketch) => sketch.write_canonical(&mut bytes),
        Detail::Distribution(histogram) => histogram.write_canonical(&mut bytes),
    }
    bytes
}

const STORED: &str = "SELECT quantity, events, detail FROM usage
    WHERE tenant = ?1 AND meter = ?2 AND window_start = ?3 AND window_secs = ?4
        AND dimensions = ?5 AND aggregation = ?6 AND scale = ?7 AND refused = ?8";
const PUT: &str = "INSERT OR REPLACE INTO usage (tenant, meter, window_start, window_secs,
        dimensions, aggregation, scale, refused, quantity, events, last_order, detail)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, '', ?11)";

/// Merges a change with what is stored, if there is anything.
fn put(connection: &Connection, mut change: UsageChange) -> rusqlite::Result<bool> {
    let dimensions = dimensions_text(change.series.dimensions())?;
    let refused = change.refused.map_or("", |reason| reason.as_str());
    let stored = connection
        .prepare_cached(STORED)?
        .query_row(
            params![
                change.series.tenant().as_str(),
                change.series.meter().as_str(),
                change.window.start().millis(),
                change.window.width().secs(),
                dimensions,
                change.aggregation.as_str(),
                change.scale.get(),
                refused,
            ],
            |row| {
                let text = |column| row.get::<_, String>(column);
                Ok((text(0)?, text(1)?, row.get::<_, Vec<u8>>(2)?))
            },
        )
        .optional()?;
    let mut events = i128::from(change.events);
    if let Some((quantity, had, bytes)) = &stored {
        let number = |column, text: &str| -> rusqlite::Result<i128> {
            text.parse().map_err(|error| conversion(column, error))
        };
        let mut detail =
            stored_detail(change.aggregation, bytes).map_err(|error| conversion(2, error))?;
        if detail.is_none() {
            detail = change.detail.clone();
        } else {
            merge(&mut detail, &change.detail);
        }
        change.detail = detail;
        change.quantity = saturating(number(0, quantity)?, change.quantity.units());
        events = events.saturating_add(number(1, had)?);
    }
    // Of two sets only the union says how many values differ.
    let quantity = match &change.detail {
        Detail::Unique(sketch) => sketch.estimate().into(),
        Detail::None | Detail::Distribution(_) => change.quantity.units(),
    };
    connection.prepare_cached(PUT)?.execute(params![
        change.series.tenant().as_str(),
        change.series.meter().as_str(),
        change.window.start().millis(),
        change.window.width().secs(),
        dimensions,
        change.aggregation.as_str(),
        change.scale.get(),
        refused,
        quantity.to_string(),
        events.to_string(),
        bytes_of(&change.detail),
    ])?;
    Ok(stored.is_some())
}
