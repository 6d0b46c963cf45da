//! Percentiles of a meter's slots.

use std::ops::Range;

use tollgate_common::Timestamp;

use super::Ratio;
use super::samples::{Direction, SLOTS_MAX, Samples, SlotKey, percentile, rank};
use super::usage::MeterUsage;
use crate::catalog::{Directions, Missing, Percentile};
use crate::period::Period;

/// A percentile, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// What was ranked, for people: `in`, `out`, `sum` or `greater`.
    pub what: &'static str,
    /// Which percentile.
    pub percent: Ratio,
    /// Length of a slot in seconds.
    pub slot_secs: u32,
    /// How many slots were ranked.
    pub count: usize,
    /// How many were not, because they had no data.
    pub excluded: usize,
    /// The ascending rank, from 1; 0 if there was nothing to rank.
    pub rank: usize,
    /// What the slot of that rank has, in the meter's smallest unit.
    pub units: u64,
}

/// The percentiles that a price charges for, over the slots that begin in `spans`.
///
/// `None` if the period has more slots than can be kept, or a number leaves its range.
pub(super) fn rank_all(
    usage: &MeterUsage,
    period: Period,
    spans: &[Period],
    (asked, cell): (&Percentile, u16),
) -> Option<Vec<Ranked>> {
    let slots = Slots {
        usage,
        period,
        spans,
        asked,
        cell,
    };
    let (ins, outs): (&[_], &[_]) = (&[Direction::In], &[Direction::Out]);
    Some(match asked.directions {
        Directions::In => vec![slots.rank("in", ins)?],
        Directions::Out => vec![slots.rank("out", outs)?],
        Directions::Sum => vec![slots.rank("sum", &Direction::ALL)?],
        Directions::Each => vec![slots.rank("in", ins)?, slots.rank("out", outs)?],
        Directions::Greater => {
            let (of_in, of_out) = (slots.rank("in", ins)?, slots.rank("out", outs)?);
            vec![if of_in.units >= of_out.units {
                of_in
            } else {
                of_out
            }]
        }
    })
}

struct Slots<'s> {
    usage: &'s MeterUsage,
    period: Period,
    spans: &'s [Period],
    asked: &'s Percentile,
    /// The row of the matrix; 0 without.
    cell: u16,
}

impl Slots<'_> {
    fn rank(&self, what: &'static str, directions: &[Direction]) -> Option<Ranked> {
        let (mut values, excluded) = self.values(directions)?;
        let percent = self.asked.percent;
        let units = percentile(&mut values, percent);
        Some(Ranked {
            what,
            percent,
            slot_secs: self.asked.slot_secs,
            count: values.len(),
            excluded,
            rank: rank(percent, values.len()).unwrap_or(0),
            units: units.unwrap_or(0),
        })
    }

    /// The sums of the slots that are ranked, and how many are not.
    fn values(&self, directions: &[Direction]) -> Option<(Vec<u64>, usize)> {
        let slot_secs = self.asked.slot_secs;
        let count = Samples::slots(self.period, slot_secs);
        let length = self.period.end.millis_since(self.period.start);
        if count == SLOTS_MAX && length > i64::from(SLOTS_MAX) * self.slot_millis() {
            return None;
        }
        let of = |direction: &Direction| {
            self.usage.samples(SlotKey {
                slot_secs,
                direction: *direction,
                cell: self.cell,
            })
        };
        let samples: Vec<&Samples> = directions.iter().filter_map(of).collect();
        let ranges = self.ranges(count);
        if let [samples] = samples[..] {
            return self.gather(&ranges, |slot| Some(samples.get(slot)));
        }
        self.gather(&ranges, |slot| {
            let mut sum: Option<u64> = None;
            for units in samples.iter().filter_map(|samples| samples.get(slot)) {
                sum = Some(sum.unwrap_or(0).checked_add(units)?);
            }
            Some(sum)
        })
    }

    /// Goes through slots: `sum_of` says what one has, if it has anything, and `None` if that
    /// leaves its range.
    fn gather(
        &self,
        ranges: &[Range<u32>],
        sum_of: impl Fn(u32) -> Option<Option<u64>>,
    ) -> Option<(Vec<u64>, usize)> {
        let count = ranges.iter().map(ExactSizeIterator::len).sum();
        let mut values = Vec::with_capacity(count);
        let mut excluded = 0;
        for slot in ranges.iter().cloned().flatten() {
            match sum_of(slot)? {
                Some(units) => values.push(units),
                None if self.counts_empty(slot) => values.push(0),
                None => excluded += 1,
            }
        }
        Some((values, excluded))
    }

    /// True if a slot without data is ranked as one without usage.
    fn counts_empty(&self, slot: u32) -> bool {
        match self.asked.missing {
            Missing::Zero => true,
            Missing::Excluded => false,
            Missing::ZeroUnlessLost => {
                let begin = self.begin(slot);
                let end = begin.plus_millis(self.slot_millis());
                // What was lost is in order, and apart from each other.
                let lost = self.usage.lost();
                let first = lost.partition_point(|lost| lost.end <= begin);
                lost.get(first).is_none_or(|lost| end <= lost.start)
            }
        }
    }

    /// The slots that begin in the spans, in order, each once.
    fn ranges(&self, count: u32) -> Vec<Range<u32>> {
        // The first slot that does not begin before.
        let from = |instant: Timestamp| {
            let after = instant.millis_since(self.period.start).max(0);
            let slot = self.slot_millis();
            let number = after / slot + i64::from(after % slot != 0);
            u32::try_from(number).map_or(count, |number| number.min(count))
        };
        let range = |span: &Period| from(span.start)..from(span.end);
        let mut all: Vec<Range<u32>> = self.spans.iter().map(range).collect();
        all.retain(|range| !range.is_empty());
        all.sort_unstable_by_key(|range| range.start);
        all.dedup_by(|next, range| {
            let is_next = next.start <= range.end;
            if is_next {
                range.end = range.end.max(next.end);
            }
            is_next
        });
        all
    }

    fn begin(&self, slot: u32) -> Timestamp {
        let after = i64::from(slot) * self.slot_millis();
        self.period.start.plus_millis(after)
    }

    fn slot_millis(&self) -> i64 {
        i64::from(self.asked.slot_secs) * 1000
    }
}
