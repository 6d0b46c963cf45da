//! Percentiles of a meter's slots.

use std::ops::Range;

use tollgate_common::{Quantity, Timestamp};

use super::Ratio;
use super::charge::Work;
use super::parts::{Part, SlotRange, adds_up};
use super::piece::Piece;
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

impl<'c> Work<'_, 'c> {
    /// A percentile: one ranking over all slots of the price, and each version by its share of
    /// the whole period, commitments included.
    pub(super) fn ranked(
        &self,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let (period, of) = (self.parted.period, self.parted.whole);
        let whole = of.end.millis_since(of.start);
        let spans: Vec<Period> = self.versions.iter().map(|version| version.span).collect();
        let is_gauge = !adds_up(self.meter.aggregation);
        let all = self.versions.iter().flat_map(|v| v.price.percentiles());
        let slot_secs = all.map(|(_, _, percentile)| percentile.slot_secs).next();
        let own = |slice: u16| self.parted.owns(slice);
        let gauges = match slot_secs.filter(|_| is_gauge) {
            Some(secs) => Some(gauged(self.parted.usage, period, secs, own)?),
            None => None,
        };
        let usage = gauges.as_ref().unwrap_or(self.parted.usage);
        for (at, version) in self.versions.iter().enumerate() {
            let mut priced = version.price.percentiles().peekable();
            // A sum under the same id.
            priced.peek()?;
            for (cell, row, percentile) in priced {
                let is_used = || {
                    let mut samples = usage.samples.keys();
                    samples.any(|key| key.cell == cell)
                };
                if row.is_some() && percentile.commit.is_none() && !is_used() {
                    continue;
                }
                let all = rank_all(usage, period, &spans, (percentile, cell))?;
                let scale = u32::from(self.meter.billed_scale().get());
                let unit = Ratio::new(1, 10i128.checked_pow(scale)?)?;
                for ranked in all {
                    // Units in a slot, per second where they add up, in the price's unit.
                    let secs = if is_gauge { 1 } else { percentile.slot_secs };
                    let secs = Ratio::from_integer(secs.into())?;
                    let rate = Ratio::from_integer(ranked.units.into())?
                        .checked_mul(unit)?
                        .checked_div(secs)?
                        .checked_mul(percentile.factor)?;
                    let mut piece = version.priced(row, period.start, rate, None)?;
                    piece.ranked = Some(ranked);
                    if version.span != of {
                        let share = Ratio::new(version.millis().into(), whole.into())?;
                        piece = piece.shared(share)?;
                    }
                    each(at, piece)?;
                }
            }
        }
        Some(())
    }
}

/// The percentiles that a price charges for, over the slots that begin in `spans`.
///
/// `None` if the period has more slots than can be kept, or a number leaves its range.
fn rank_all(
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

/// The samples of a meter whose values do not add up, in slots by which parts are kept: of every slot
/// the sum of what each series has in it, and nothing for less than nothing. `None` if that leaves its
/// range.
fn gauged(
    usage: &MeterUsage,
    period: Period,
    slot_secs: u32,
    owns: impl Fn(u16) -> bool,
) -> Option<MeterUsage> {
    let mut sampled = MeterUsage::default();
    sampled.take_details(usage);
    for (part, quantity) in usage.parts() {
        if part.cell == Part::NO_CELL || !owns(part.slice) {
            continue;
        }
        let key = SlotKey {
            slot_secs,
            direction: Direction::Other,
            cell: part.cell,
        };
        let slots = SlotRange {
            key,
            first: part.interval / slot_secs.max(1),
            count: 1,
        };
        let value = Ord::max(quantity, Quantity::ZERO);
        sampled.sample(period, slots, value).ok()?;
    }
    Some(sampled)
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
