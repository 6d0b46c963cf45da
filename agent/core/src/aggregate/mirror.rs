//! Mirrors: slots that follow the cells of somebody else's memory.
//!
//! An application counts in a page of its own, which the agent can only read. For each cell
//! of the page the agent has a slot, whose cell is brought to what the page's cell shows, again
//! and again. What is counted is the difference of the two, so that the slot itself is the
//! memory of how far the page has been counted: an agent killed at any point between two
//! stores goes on by comparing again, and nothing is doubled or lost.
//!
//! Sums, histograms and levels are cumulative and are followed exactly. Maxima, last values
//! and distinct counts belong to a window and merge: to follow them again changes nothing.

use tollgate::cell::{histogram, level, sum, unique};
use tollgate_common::{Aggregation, Timestamp};

use super::super::Region;
use super::super::wide;
use super::{AddError, SetError, Slot, Writer};

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

impl From<SetError> for FollowError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::WrongSlot => Self::WrongSlot,
            SetError::Negative => Self::Backwards,
        }
    }
}

impl<R: Region> Writer<R> {
    /// Brings a sum to `sum` and `done` (events). How many events were new.
    pub fn follow_sum(&mut self, slot: Slot, sum: u64, done: u64) -> Result<u64, FollowError> {
        let at = self.sums + slot.at() * sum::WORDS;
        let Some([mine, events]) = self.shared.words().get(at..at + sum::WORDS) else {
            return Err(FollowError::WrongSlot);
        };
        if slot.tag() != self.sum_tag {
            return Err(FollowError::WrongSlot);
        }
        let base = || self.place().sum_in_force(slot.at());
        let followed = sum::follow(mine, events, [sum, done], slot.0, base);
        Ok(followed.ok_or(FollowError::Backwards)??)
    }

    /// Merges the value of a window of a maximum or last value.
    pub fn follow_half(
        &mut self,
        slot: Slot,
        aggregation: Aggregation,
        window: Timestamp,
        value: i64,
    ) -> Result<u64, FollowError> {
        match aggregation {
            Aggregation::Max => self.set_max(slot, window, value)?,
            _ => self.set(slot, window, value)?,
        }
        Ok(1)
    }

    /// Brings a level to a state.
    pub fn follow_level(
        &mut self,
        slot: Slot,
        state: &level::LevelState,
    ) -> Result<u64, FollowError> {
        let wide = self.place().wide(slot, Aggregation::TimeWeighted);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let mine = level::read(wide.cell).unwrap_or_default();
        if mine.events == state.events {
            return Ok(0);
        }
        let integral = mine.at(state.since.max(mine.since)).integral;
        let back = mine.events > 0 && state.integral < mine.integral;
        if back || state.level > i64::MAX.unsigned_abs() || state.integral > integral + (1 << 100) {
            return Err(FollowError::Backwards);
        }
        level::copy(wide.cell, state);
        wide.done(slot)?;
        Ok(1)
    }

    /// Brings a histogram to what was read.
    pub fn follow_histogram(
        &mut self,
        slot: Slot,
        cut: &histogram::HistogramCut,
    ) -> Result<u64, FollowError> {
        let place = super::Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(slot, Aggregation::Distribution);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let cell = histogram::Cell {
            head: wide.cell,
            sum: wide.sum,
            heap: wide.heap,
        };
        let base = || place.sum_in_force(wide.slot);
        let room = &mut self.table.heap;
        let followed = cell.follow(room, wide::CHUNK_WORDS, cut, slot.0, base);
        Ok(followed.ok_or(FollowError::Backwards)??)
    }

    /// Merges the distinct values of a window.
    pub fn follow_unique(
        &mut self,
        slot: Slot,
        cut: &unique::UniqueCut,
        content: &[u64],
        events: u64,
    ) -> Result<u64, FollowError> {
        let width = self.width();
        let place = super::Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(slot, Aggregation::Unique);
        let wide = wide.ok_or(FollowError::WrongSlot)?;
        let cell = unique::Cell {
            halves: wide.cell,
            heap: wide.heap,
        };
        cell.merge(&mut self.table.heap, width, cut, content)?;
        let events = events.min(sum::EVENTS_MAX);
        sum::add(&wide.sum[0], &wide.sum[1], 0, events, slot.0, || 0)?;
        Ok(events)
    }
}
