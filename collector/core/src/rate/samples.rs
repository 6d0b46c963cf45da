//! Samples of usage, slot by slot, and the percentile rank in them.
//!
//! A slot is an interval of true duration; the slots of a period begin with it and cover it, so a
//! day of 23 hours has 276 slots of five minutes. Of each slot one sum is kept, in as many bytes as
//! the largest sum of them needs: a month of five minutes of a port of 10 Gbit/s, counted in bytes,
//! takes 45 kB for a direction, and 71 kB at most, whatever the number of series.

use serde::{Deserialize, Serialize};
use tollgate_common::{Dimensions, Quantity};

use super::Ratio;
use super::usage::GatherError;
use crate::period::Period;

/// The dimension that tells in from out.
pub const DIRECTION: &str = "direction";
/// Most slots of a period: a year of minutes.
pub const SLOTS_MAX: u32 = 527_040;

/// Which way traffic went, by the dimension [`DIRECTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// `direction=in`.
    In,
    /// `direction=out`.
    Out,
    /// Another value, or none.
    Other,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::In, Self::Out, Self::Other];

    /// That of a series.
    pub fn of(dimensions: &Dimensions) -> Self {
        match dimensions.get(DIRECTION) {
            Some("in") => Self::In,
            Some("out") => Self::Out,
            _ => Self::Other,
        }
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Other => "other",
        }
    }
}

/// What tells the samples of a meter apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotKey {
    /// Length of a slot in seconds: a divisor of 3600.
    pub slot_secs: u32,
    /// Which way.
    pub direction: Direction,
    /// The row of the matrix; 0 for a price without rows.
    pub cell: u16,
}

/// The sum of each slot of a period, in the meter's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wide", into = "Wide")]
pub struct Samples {
    /// How many bytes a slot takes: as many as the largest number of all needs, and at least one.
    /// Numbers only grow, so equal samples have equal widths.
    width: usize,
    /// Of each slot one more than the sum, 0 for a slot without data, with the lowest byte first;
    /// behind the last one so many zeros that eight bytes can be read at every slot.
    packed: Vec<u8>,
}

/// Samples as they are written down.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Samples")]
struct Wide {
    /// One more than the sum; 0 for a slot without data.
    slots: Vec<u64>,
}

impl From<Samples> for Wide {
    fn from(samples: Samples) -> Self {
        Self {
            slots: samples.numbers().collect(),
        }
    }
}

impl From<Wide> for Samples {
    fn from(wide: Wide) -> Self {
        let most = wide.slots.iter().copied().max().unwrap_or(0);
        Self::pack(width_of(most), wide.slots.into_iter())
    }
}

/// How many bytes a number takes.
const fn width_of(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(u8::BITS) as usize
}

const WIDEST: usize = size_of::<u64>();

impl Samples {
    /// No data in any slot of a period.
    pub fn new(period: Period, slot_secs: u32) -> Self {
        let slots = usize::try_from(Self::slots(period, slot_secs)).unwrap_or(0);
        Self::empty(1, slots)
    }

    fn empty(width: usize, slots: usize) -> Self {
        Self {
            width,
            packed: vec![0; slots * width + (WIDEST - width)],
        }
    }

    /// Packs numbers, none of which takes more bytes than `width`.
    fn pack(width: usize, numbers: impl ExactSizeIterator<Item = u64>) -> Self {
        let mut samples = Self::empty(width, numbers.len());
        for (slot, number) in numbers.enumerate() {
            samples.put(slot, number);
        }
        samples
    }

    /// How many slots a period has, by its true duration; a part of a slot counts as one. At most
    /// [`SLOTS_MAX`].
    pub fn slots(period: Period, slot_secs: u32) -> u32 {
        let millis = period.end.millis_since(period.start).max(0);
        let slot = i64::from(slot_secs.max(1)) * 1000;
        let count = millis / slot + i64::from(millis % slot != 0);
        u32::try_from(count).map_or(SLOTS_MAX, |count| count.clamp(1, SLOTS_MAX))
    }

    /// The number of a slot; `None` beyond the last one.
    fn number(&self, slot: usize) -> Option<u64> {
        let at = slot.checked_mul(self.width)?;
        let bytes = self.packed.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes) & self.mask())
    }

    /// The bits of a number.
    fn mask(&self) -> u64 {
        u64::MAX >> (8 * (WIDEST - self.width))
    }

    /// Puts a number, which takes no more bytes than all do, in a slot that there is.
    fn put(&mut self, slot: usize, number: u64) {
        let at = slot * self.width;
        let bytes = number.to_le_bytes();
        self.packed[at..at + self.width].copy_from_slice(&bytes[..self.width]);
    }

    fn numbers(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        let slots = 0..self.len();
        slots.map(|slot| self.number(slot).unwrap_or(0))
    }

    /// Adds to a slot; of one beyond the last nothing is kept.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn add(&mut self, slot: u32, units: u64) -> Result<(), GatherError> {
        let known = usize::try_from(slot)
            .ok()
            .and_then(|slot| Some((slot, self.number(slot)?)));
        let Some((slot, kept)) = known else {
            return Ok(());
        };
        let sum = kept.saturating_sub(1).checked_add(units);
        let one_more = sum
            .and_then(|sum| sum.checked_add(1))
            .ok_or(GatherError::Overflow)?;
        let width = width_of(one_more);
        if width > self.width {
            *self = Self::pack(width, self.numbers());
        }
        self.put(slot, one_more);
        Ok(())
    }

    /// Adds the samples of somebody else.
    pub(super) fn merge(&mut self, other: &Self) -> Result<(), GatherError> {
        for (slot, units) in (0..).zip(other.iter()) {
            if let Some(units) = units {
                self.add(slot, units)?;
            }
        }
        Ok(())
    }

    /// Spreads a quantity evenly over slots; the first ones take what is left. What does not fit
    /// leaves all of them as they were.
    pub(super) fn spread(
        &mut self,
        first: u32,
        count: u32,
        quantity: Quantity,
    ) -> Result<(), GatherError> {
        if quantity.is_negative() {
            return Err(GatherError::Negative);
        }
        let units = u64::try_from(quantity.units()).map_err(|_| GatherError::Overflow)?;
        let count = u64::from(count.max(1));
        let (each, more) = (units / count, units % count);
        let shares = (0..count)
            .zip(first..)
            .map(|(at, slot)| (slot, each + u64::from(at < more)));
        // Nothing is kept of what does not fit whole.
        if !self.surely_has_room(each)
            && !shares
                .clone()
                .all(|(slot, share)| self.has_room(slot, share))
        {
            return Err(GatherError::Overflow);
        }
        for (slot, share) in shares {
            self.add(slot, share)?;
        }
        Ok(())
    }

    /// True if a sum in any slot has room for so much more, without looking at them.
    fn surely_has_room(&self, units: u64) -> bool {
        self.width < WIDEST && units < 1 << 62
    }

    fn has_room(&self, slot: u32, units: u64) -> bool {
        let kept = usize::try_from(slot)
            .ok()
            .and_then(|slot| self.number(slot));
        kept.is_none_or(|kept| kept.max(1).checked_add(units).is_some())
    }

    /// The sum of a slot; `None` without data.
    pub fn get(&self, slot: u32) -> Option<u64> {
        self.number(usize::try_from(slot).ok()?)?.checked_sub(1)
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        (self.packed.len() + self.width).saturating_sub(WIDEST) / self.width
    }

    /// True without a slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sums of the slots in order; `None` without data.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<u64>> + '_ {
        self.numbers().map(|number| number.checked_sub(1))
    }
}

/// The ascending rank, from 1, of a percentile among `count` values: ⌈percent × count / 100⌉, in
/// whole numbers. `None` without values, or if a number leaves its range.
pub fn rank(percent: Ratio, count: usize) -> Option<usize> {
    let count = i128::try_from(count).ok().filter(|count| *count > 0)?;
    let product = percent.numerator().checked_mul(count)?;
    let divisor = percent.denominator().checked_mul(100)?;
    let rank = product / divisor + i128::from(product % divisor != 0);
    usize::try_from(rank.clamp(1, count)).ok()
}

/// The value of that rank. Reorders the values; takes time in proportion to their number.
pub fn percentile(values: &mut [u64], percent: Ratio) -> Option<u64> {
    let rank = rank(percent, values.len())?;
    let (_, value, _) = values.select_nth_unstable(rank - 1);
    Some(*value)
}
