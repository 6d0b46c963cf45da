//! Sequence numbers that are declared lost, and on what terms.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::{LossReason, Quantity, Remembered, Timestamp};

use super::totals::{Figure, Figures, Key};

/// Most ranges kept per life; the oldest is given up for good beyond it.
pub(super) const LOST_RANGES_MAX: usize = 4096;

/// Most tombstones per life of which is kept what they remember, until the prefix reaches them.
pub(super) const REMEMBERED_MAX: usize = 64;

/// What an agent remembers of a batch that it has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Testimony {
    /// Its running totals; nothing of its rows.
    pub(super) figures: Figures,
    /// When it was cut.
    pub(super) cut: Timestamp,
    pub(super) watermark: Timestamp,
    /// It ended the life.
    pub(super) is_final: bool,
    /// The figures tell all that the life has counted.
    pub(super) is_complete: bool,
}

impl From<&Remembered> for Testimony {
    fn from(remembered: &Remembered) -> Self {
        let figures = remembered.totals.iter().map(|total| {
            let key = Key {
                tenant: total.tenant.clone(),
                meter: total.meter.clone(),
                scale: total.scale,
            };
            let figure = Figure {
                total: Some(total.quantity),
                rows: Quantity::ZERO,
            };
            (key, figure)
        });
        Self {
            figures: figures.collect(),
            cut: remembered.cut,
            watermark: remembered.watermark,
            is_final: remembered.is_final,
            is_complete: remembered.is_complete,
        }
    }
}

/// A run of batches that were declared lost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LostRange {
    /// Last sequence number.
    pub(super) to: u64,
    /// Why they are gone.
    #[serde(serialize_with = "write_reason", deserialize_with = "read_reason")]
    pub(super) reason: LossReason,
    /// The time within which usage of unknown amount stands declared for exactly this range;
    /// `None` once a final batch has priced everything.
    pub(super) unknown: Option<(Timestamp, Timestamp)>,
}

/// Reasons are numbers in the state, as in every format.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands fields by reference"
)]
pub(super) fn write_reason<S: Serializer>(
    reason: &LossReason,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(reason.code())
}

/// See [`write_reason`].
pub(super) fn read_reason<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<LossReason, D::Error> {
    let code = u8::deserialize(deserializer)?;
    LossReason::from_code(code).ok_or_else(|| serde::de::Error::custom("unknown reason of a loss"))
}

/// Disjoint ranges by their first sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LostRanges(BTreeMap<u64, LostRange>);

impl LostRanges {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &LostRange)> {
        self.0.iter().map(|(&from, range)| (from, range))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut LostRange)> {
        self.0.iter_mut().map(|(&from, range)| (from, range))
    }

    /// Adds a range that overlaps no other.
    pub(super) fn insert(&mut self, from: u64, range: LostRange) {
        debug_assert!(from <= range.to && self.at(from).is_none());
        self.0.insert(from, range);
    }

    /// The range that holds `sequence`.
    pub(super) fn at(&self, sequence: u64) -> Option<(u64, LostRange)> {
        let (&from, &range) = self.0.range(..=sequence).next_back()?;
        (range.to >= sequence).then_some((from, range))
    }

    /// Removes the whole range that holds `sequence`.
    pub(super) fn remove_at(&mut self, sequence: u64) -> Option<(u64, LostRange)> {
        let (from, range) = self.at(sequence)?;
        self.0.remove(&from);
        Some((from, range))
    }

    pub(super) fn remove_first(&mut self) -> Option<(u64, LostRange)> {
        self.0.pop_first()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// First and last lost number strictly between `after` and `before`, and why the first is
    /// lost.
    pub(super) fn between(&self, after: u64, before: u64) -> Option<(u64, u64, LossReason)> {
        let next = after.checked_add(1)?;
        let (first, reason) = match self.at(next) {
            Some((_, range)) => (next, range.reason),
            None => self
                .0
                .range(next..)
                .next()
                .map(|(&from, range)| (from, range.reason))?,
        };
        if first >= before {
            return None;
        }
        let (_, range) = self.0.range(..before).next_back()?;
        Some((first, range.to.min(before - 1), reason))
    }
}
