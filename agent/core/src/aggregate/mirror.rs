//! Mirrors: slots that follow the cells of somebody else's memory.
//!
//! An application counts in a page of its own, which the agent can only read. For each cell
//! of the page the agent has a slot, whose cell is brought to what the page's cell shows, again
//! and again. What is counted is the difference of the two, so that the slot itself is the
//! memory of how far the page has been counted: an agent killed at any point between two
//! stores goes on by comparing again, and nothing is doubled or lost.
//!
//! Everything is followed exactly: of sums and histograms the difference is counted; the halves
//! of maxima, last values and distinct counts, and the states of levels, are copied with their
//! numbers of events. What a page shows is checked against what anybody can count, so that
//! whoever owns it cannot make figures that a collector refuses.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{halves, histogram, level, sum, unique};
use tollgate_common::Aggregation;

use super::super::Region;
use super::super::account::{self, bump};
use super::super::slot::SlotHead;
use super::super::table::Block;
use super::super::tenants::Row;
use super::super::wide;
use super::{AddError, Slot, Writer};

/// Why a cell cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// It went back, or further than anybody counts.
    #[error("cell of the page runs backwards")]
    Backwards,
    /// There is no room at present; to be tried again after the next seal.
    #[error("no room at present")]
    Later,
    /// The slot is not a mirror of that kind any more.
    #[error("slot has been retired")]
    WrongSlot,
}

impl From<AddError> for FollowError {
    fn from(error: AddError) -> Self {
        match error {
            AddError::WrongSlot => Self::WrongSlot,
            AddError::TooLarge(_) => Self::Backwards,
            AddError::CounterFull | AddError::NoRoom => Self::Later,
        }
    }
}

/// What may be counted at once: more has to wait.
///
/// A page can show any figure at any time. Who owns it may bill itself what it likes, but a
/// figure that no host can count would make batches that no collector takes. What is allowed
/// is far beyond what processors can count, and is given again with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Events; below zero they are owed.
    pub events: i64,
    /// Units of sums, likewise.
    pub amount: i128,
}

impl Allowance {
    /// Most that one cell may count at once: 2^41 events.
    pub const EVENTS_AT_ONCE: u64 = 1 << 41;

    /// Takes from it, if anything is left.
    pub fn take(&mut self, amount: u64, events: u64) -> Result<(), FollowError> {
        if events > Self::EVENTS_AT_ONCE {
            return Err(FollowError::Backwards);
        }
        if self.events <= 0 || self.amount <= 0 {
            return Err(FollowError::Later);
        }
        self.events -= i64::try_from(events).unwrap_or(i64::MAX);
        self.amount -= i128::from(amount);
        Ok(())
    }
}

/// Largest integral of a mirrored level, units times milliseconds: a level of 2^56 for half a
/// century.
const INTEGRAL_MAX: u128 = 1 << 96;

impl<R: Region> Writer<R> {
    /// Accounts for what mirrors count from here on as events of this row.
    pub fn follow_for(&mut self, row: Row) {
        self.following = row;
    }

    /// Accounts for `n` events of the page being followed.
    fn receive(&self, n: u64) {
        let words = self.shared.account(self.index);
        bump(&words[account::received_word()], n);
        self.sums_at_rate().received_for(self.following, n);
    }

    /// So many events were counted, or none, of `n` that were received.
    fn received_of(&self, n: u64, counted: Result<u64, FollowError>) -> Result<u64, FollowError> {
        let more = counted.unwrap_or(0).wrapping_sub(n);
        if more != 0 {
            self.receive(more);
        }
        counted
    }

    /// What the sum cell of a mirror shows where the mirrored one shows `to`.
    fn mirrored(&self, slot: usize, to: [u64; 2]) -> Option<[u64; 2]> {
        let block = Block::of(&self.shared, self.index);
        let words = block.slots.get(slot * 2..slot * 2 + 2)?;
        let origin = SlotHead::parse(self.layout, words)?.origin(block.keys)?;
        let events = sum::events(origin[1].wrapping_add(to[1]));
        Some([origin[0].wrapping_add(to[0]), events])
    }

    /// Brings a sum to `sum` and `done` (events). How many events were new.
    pub fn follow_sum(
        &mut self,
        slot: Slot,
        sum: u64,
        done: u64,
        allowance: &mut Allowance,
    ) -> Result<u64, FollowError> {
        let at = self.sums + slot.at() * sum::WORDS;
        let Some([mine, events]) = self.shared.words().get(at..at + sum::WORDS) else {
            return Err(FollowError::WrongSlot);
        };
        if slot.tag() != self.sum_tag || sum::generation(events.load(Relaxed)) != slot.generation()
        {
            return Err(FollowError::WrongSlot);
        }
        let to = self.mirrored(slot.at(), [sum, done]);
        let to = to.ok_or(FollowError::WrongSlot)?;
        let amount = to[0].wrapping_sub(mine.load(Relaxed));
        let new = sum::events_between(to[1], events.load(Relaxed));
        if amount > sum::ADD_MAX || new > sum::EVENTS_MASK >> 1 {
            return Err(FollowError::Backwards);
        }
        allowance.take(amount, new)?;
        self.receive(new);
        let base = || self.place().sum_in_force(slot.at());
        let followed = sum::follow(mine, events, to, slot.0, base);
        self.received_of(new, flat(followed))
    }

    /// Brings a half (0 or 1) of a maximum or last value to what was read.
    pub fn follow_half(
        &mut self,
        slot: Slot,
        aggregation: Aggregation,
        (half, cut): (usize, &halves::HalfCut),
        allowance: &mut Allowance,
    ) -> Result<u64, FollowError> {
        let wide = self.place().wide(&self.table.places, slot, aggregation);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let mine = halves::read(wide.cell, half).ok_or(FollowError::Later)?;
        let new = cut.events.wrapping_sub(mine.events);
        allowance.take(0, new)?;
        self.receive(new);
        let keep = match aggregation {
            Aggregation::Max => halves::Keep::Max,
            _ => halves::Keep::Last,
        };
        let taken = |half, events| wide.is_taken(half, events);
        halves::follow(wide.cell, half, cut, keep, taken);
        let to = self.mirrored(wide.slot, [0, halves::events(wide.cell)]);
        self.received_of(new, done(&wide, slot, to))
    }

    /// Brings a level to a state.
    pub fn follow_level(
        &mut self,
        slot: Slot,
        state: &level::LevelState,
    ) -> Result<u64, FollowError> {
        let wide = self
            .place()
            .wide(&self.table.places, slot, Aggregation::TimeWeighted);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let mine = level::read(wide.cell).ok_or(FollowError::Later)?;
        if mine.events == state.events {
            return Ok(0);
        }
        let back =
            mine.events > 0 && state.integral < mine.at(state.since.max(mine.since)).integral;
        let inside = state.level <= i64::MAX.unsigned_abs()
            && state.integral <= INTEGRAL_MAX
            && state.integral_at_window <= state.integral
            && state.window >= 0
            && state.window <= state.since;
        if back || !inside {
            return Err(FollowError::Backwards);
        }
        self.receive(1);
        level::copy(wide.cell, state);
        let done = wide.done(slot).map(|()| 1);
        self.received_of(1, done.map_err(FollowError::from))
    }

    /// Brings a histogram to what was read.
    pub fn follow_histogram(
        &mut self,
        slot: Slot,
        cut: &histogram::HistogramCut,
        allowance: &mut Allowance,
    ) -> Result<u64, FollowError> {
        let place = super::Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(&self.table.places, slot, Aggregation::Distribution);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let to = self.mirrored(wide.slot, [cut.sum, cut.done]);
        let to = to.ok_or(FollowError::WrongSlot)?;
        let amount = to[0].wrapping_sub(wide.sum[0].load(Relaxed));
        let new = sum::events_between(to[1], wide.sum[1].load(Relaxed));
        if amount > sum::ADD_MAX {
            return Err(FollowError::Backwards);
        }
        allowance.take(amount, new)?;
        self.receive(new);
        let cell = histogram::Cell {
            head: wide.cell,
            sum: wide.sum,
            heap: wide.heap,
        };
        let base = || place.sum_in_force(wide.slot);
        let room = &mut self.table.heap;
        let followed = cell.follow(room, wide::CHUNK_WORDS, cut, to, slot.0, base);
        self.received_of(new, flat(followed))
    }

    /// Gives a histogram that was just made the buckets that an earlier life has counted.
    pub(in super::super) fn carry_histogram(
        &mut self,
        slot: Slot,
        cut: &histogram::HistogramCut,
    ) -> Result<(), FollowError> {
        let place = super::Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(&self.table.places, slot, Aggregation::Distribution);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let cell = histogram::Cell {
            head: wide.cell,
            sum: wide.sum,
            heap: wide.heap,
        };
        Ok(cell.carry(&mut self.table.heap, wide::CHUNK_WORDS, cut)?)
    }

    /// Brings a half (0 or 1) of distinct values to what was read.
    pub fn follow_unique(
        &mut self,
        slot: Slot,
        (half, cut): (usize, &unique::UniqueCut),
        content: &[u64],
        allowance: &mut Allowance,
    ) -> Result<u64, FollowError> {
        if content.iter().all(|&word| word == 0) {
            // Whoever inserted has something to show for it.
            return Err(FollowError::Backwards);
        }
        let place = super::Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(&self.table.places, slot, Aggregation::Unique);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let cell = unique::Cell {
            halves: wide.cell,
            heap: wide.heap,
        };
        let new = cut.inserts.wrapping_sub(cell.inserts(half));
        allowance.take(0, new)?;
        self.receive(new);
        let taken = |half, events| wide.is_taken(half, events);
        let copied = cell.follow(&mut self.table.heap, (half, cut), content, taken);
        let counted = copied.map_err(FollowError::from).and_then(|()| {
            let to = self.mirrored(wide.slot, [0, unique::events(wide.cell)]);
            done(&wide, slot, to)
        });
        self.received_of(new, counted)
    }

    /// The wide cell of a mirror that was just made.
    pub(in super::super) fn fresh_cell(
        &self,
        slot: Slot,
        aggregation: Aggregation,
    ) -> Option<&[AtomicU64]> {
        Some(
            self.place()
                .wide(&self.table.places, slot, aggregation)?
                .cell,
        )
    }
}

/// What following a cell came to.
fn flat(followed: Option<Result<u64, AddError>>) -> Result<u64, FollowError> {
    Ok(followed.ok_or(FollowError::Backwards)??)
}

/// Brings the number of events to what the wide cell makes it. How many were new.
fn done(wide: &super::Wide<'_>, slot: Slot, to: Option<[u64; 2]>) -> Result<u64, FollowError> {
    let [_, events] = to.ok_or(FollowError::WrongSlot)?;
    let to = [wide.sum[0].load(Relaxed), events];
    let followed = sum::follow(&wide.sum[0], &wide.sum[1], to, slot.0, || to[0]);
    Ok(followed.ok_or(FollowError::Backwards)??)
}
