//! Percentiles of a meter's slots.

use super::Ratio;
use super::parts::MeterUsage;
use super::samples::{Direction, SLOTS_MAX, Samples, SlotKey, percentile, rank};
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
    asked: &Percentile,
) -> Option<Vec<Ranked>> {
    let slots = Slots {
        usage,
        period,
        spans,
        asked,
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
        if count == SLOTS_MAX && length > i64::from(SLOTS_MAX) * i64::from(slot_secs) * 1000 {
            return None;
        }
        let of = |direction: &Direction| {
            self.usage.samples(SlotKey {
                slot_secs,
                direction: *direction,
            })
        };
        let samples: Vec<&Samples> = directions.iter().filter_map(of).collect();
        let mut values = Vec::with_capacity(usize::try_from(count).ok()?);
        let mut excluded = 0;
        for slot in 0..count {
            let at = i64::from(slot) * i64::from(slot_secs) * 1000;
            let begin = self.period.start.plus_millis(at);
            if !self.spans.iter().any(|span| span.contains(begin)) {
                continue;
            }
            let mut sum: Option<u64> = None;
            for units in samples.iter().filter_map(|samples| samples.get(slot)) {
                sum = Some(sum.unwrap_or(0).checked_add(units)?);
            }
            let counts = || match self.asked.missing {
                Missing::Zero => true,
                Missing::Excluded => false,
                Missing::ZeroUnlessLost => {
                    let end = begin.plus_millis(i64::from(slot_secs) * 1000);
                    let touches = |lost: &Period| lost.start < end && begin < lost.end;
                    !self.usage.lost().iter().any(touches)
                }
            };
            match sum {
                Some(units) => values.push(units),
                None if counts() => values.push(0),
                None => excluded += 1,
            }
        }
        Some((values, excluded))
    }
}
