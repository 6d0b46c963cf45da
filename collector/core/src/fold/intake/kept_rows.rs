//! Rows of recent batches, as far as a fork needs them: packed, because every agent has some
//! thousands and hardly any agent ever forks.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_common::sketch::Histogram;
use tollgate_common::{Detail, Incarnation, Quantity, Rollup};

use super::outbox::plus;
use crate::fold::kept::KeptDetail;
use crate::fold::packed::{Packed, Unpack, halves, put_bytes, put_i128, put_u128};

/// A row of a batch, as far as a fork needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptRow {
    /// Of series, aggregation and scale. Not of the window: the clocks of two copies may differ,
    /// and then the same cells give rows of other windows.
    pub(super) fingerprint: u64,
    pub(super) value: Quantity,
    pub(super) events: u64,
    /// The histogram of a distribution.
    pub(super) detail: KeptDetail,
}

/// What a row counts against [`super::life::ROWS_KEPT_MAX`].
fn weight_of(detail: &Detail) -> usize {
    match detail {
        Detail::Distribution(histogram) => 1 + histogram.buckets().len() / 8,
        _ => 1,
    }
}

/// Rows in the order of their batch, one for each series: they are put into that of the fingerprints
/// when somebody asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptRows {
    /// What counts against [`super::life::ROWS_KEPT_MAX`].
    weight: u32,
    /// For each row the fingerprint's eight bytes, value, events, and the bytes of the histogram.
    packed: Packed,
}

impl KeptRows {
    /// The rows that add up, those of a series merged, which are neighbours.
    pub(super) fn of(rows: &[Rollup], life: Incarnation) -> Self {
        let mut packer = Packer {
            out: Vec::with_capacity(rows.len() * 16),
            ..Packer::default()
        };
        let mut key = Vec::new();
        let mut last: Option<(u64, Quantity, u64, Cow<'_, Detail>)> = None;
        for row in rows.iter().filter(|row| row.aggregation.adds_up()) {
            let fingerprint = fingerprint(row, life, &mut key);
            match &mut last {
                Some((known, value, events, detail)) if *known == fingerprint => {
                    *value = plus(*value, row.value);
                    *events = events.saturating_add(row.events);
                    let mut kept = KeptDetail(std::mem::take(detail.to_mut()));
                    // Of more than 2^64 values the first are compared; nobody counts that far.
                    kept.absorb(&row.detail);
                    *detail = Cow::Owned(kept.0);
                }
                _ => {
                    let next = (
                        fingerprint,
                        row.value,
                        row.events,
                        Cow::Borrowed(&row.detail),
                    );
                    if let Some((fingerprint, value, events, detail)) = last.replace(next) {
                        packer.push(fingerprint, value, events, &detail);
                    }
                }
            }
        }
        if let Some((fingerprint, value, events, detail)) = last {
            packer.push(fingerprint, value, events, &detail);
        }
        Self {
            weight: u32::try_from(packer.weight).unwrap_or(u32::MAX),
            packed: Packed(packer.out.into()),
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.weight as usize
    }

    /// The rows of several batches, merged by series.
    pub(super) fn merge<'k>(batches: impl Iterator<Item = &'k Self>) -> Vec<KeptRow> {
        merged(batches.flat_map(Self::rows).collect())
    }

    fn rows(&self) -> impl Iterator<Item = KeptRow> {
        let mut reader = Unpack(&self.packed.0);
        std::iter::from_fn(move || row(&mut reader))
    }
}

#[derive(Default)]
struct Packer {
    out: Vec<u8>,
    /// The bytes of a histogram.
    bytes: Vec<u8>,
    weight: usize,
}

impl Packer {
    fn push(&mut self, fingerprint: u64, value: Quantity, events: u64, detail: &Detail) {
        self.weight += weight_of(detail);
        self.out.extend_from_slice(&fingerprint.to_le_bytes());
        put_i128(&mut self.out, value.units());
        put_u128(&mut self.out, events.into());
        self.bytes.clear();
        if let Detail::Distribution(histogram) = detail {
            histogram.write_canonical(&mut self.bytes);
        }
        put_bytes(&mut self.out, &self.bytes);
    }
}

fn row(reader: &mut Unpack<'_>) -> Option<KeptRow> {
    let fingerprint = u64::from_le_bytes(reader.array()?);
    let value = Quantity::new(reader.i128()?);
    let events = reader.u64()?;
    let bytes = reader.bytes()?;
    let detail = if bytes.is_empty() {
        Detail::None
    } else {
        Detail::Distribution(Arc::new(Histogram::from_canonical(bytes).ok()?))
    };
    Some(KeptRow {
        fingerprint,
        value,
        events,
        detail: KeptDetail(detail),
    })
}

/// Sorted by fingerprint, one row each. A series may have rows of several windows and parts; a
/// fork compares their sum.
fn merged(mut rows: Vec<KeptRow>) -> Vec<KeptRow> {
    rows.sort_by_key(|row| row.fingerprint);
    rows.dedup_by(|row, kept| {
        let same = row.fingerprint == kept.fingerprint;
        if same {
            kept.value = plus(kept.value, row.value);
            kept.events = kept.events.saturating_add(row.events);
            // Of more than 2^64 values the first are compared; nobody counts that far.
            kept.detail.absorb(&row.detail.0);
        }
        same
    });
    rows
}

/// See [`KeptRow::fingerprint`]. `key` is memory to be used again.
///
/// Seeded with the random name of the life that counted it first, which nobody knows who could
/// choose the names of series: two that share a fingerprint would be compared as one.
pub(super) fn fingerprint(row: &Rollup, life: Incarnation, key: &mut Vec<u8>) -> u64 {
    key.clear();
    row.series.write_canonical(key);
    key.extend_from_slice(&[row.aggregation.code(), row.scale.get()]);
    let [low, high] = halves(*life.as_bytes());
    let length = key.len() as u64;
    // Whole words; zeros at the end are told apart by the length.
    key.resize(key.len().next_multiple_of(16), 0);
    let (words, _) = key.as_chunks::<16>();
    let mixed = words.iter().fold(low, |state, word| {
        let [a, b] = halves(*word);
        folded(a ^ state, b ^ high)
    });
    folded(mixed ^ length, high ^ MULTIPLIER)
}

/// 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Both halves of the product, folded: every bit of the result depends on all bits of both. Neither
/// factor may be zero for all messages, which random seeds see to.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [low, high] = halves(product.to_le_bytes());
    low ^ high
}
