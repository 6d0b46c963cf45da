//! The writer's side of the cells: the hot path.

#[path = "mirror.rs"]
mod mirror;

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{baseline, halves, histogram, level, sum, unique};
use tollgate_common::{Aggregation, Timestamp};

use super::Region;
use super::account::{self, InputLoss, Rejection};
use super::layout::{CellsLayout, SUM_WORDS};
use super::shared::Shared;
use super::table::{Table, WidePlace};
use super::tenants::Row;
use super::wide;
use crate::input::dogstatsd::Ignored;

pub use mirror::{Allowance, FollowError};
pub use tollgate::cell::sum::{ADD_MAX, AddError};

/// A series of one writer: where its cell is. Valid as long as that writer and until the
/// series is retired; a stale one is noticed and counts nothing.
///
/// The low 32 bits say which. Then come the aggregation, the writer, and in the high 16 bits
/// the generation, where the cell has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u64);

impl Slot {
    pub(super) fn new(at: u32, aggregation: Aggregation, writer: u32, generation: u16) -> Self {
        let kind = u64::from(tag(aggregation, writer));
        Self(u64::from(generation) << 48 | kind << 32 | u64::from(at))
    }

    /// The slot as a word, for tables that keep words.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The slot that became this word. Any word is one; what is no slot of a writer is refused
    /// by it.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a field")]
    pub(super) fn at(self) -> usize {
        self.0 as u32 as usize
    }

    fn generation(self) -> u16 {
        sum::generation(self.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a field")]
    pub(super) fn tag(self) -> u16 {
        (self.0 >> 32) as u16
    }
}

/// Writer and aggregation, so that a slot is not used for another.
#[expect(clippy::cast_possible_truncation, reason = "at most 64 writers")]
const fn tag(aggregation: Aggregation, writer: u32) -> u16 {
    (writer << 8) as u16 | aggregation as u16
}

/// No room for another series, not even for one without dimensions; or none for a level, which is
/// not counted without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for another series, not even without its dimensions (which a level is never counted without); raise the limits of series"
)]
pub struct SeriesFull;

/// Why a value is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The slot is of another writer or kind, or its series has been retired; the series has
    /// to be looked up again.
    #[error("slot is not one of this writer and kind, or its series has been retired")]
    WrongSlot,
    /// A level below zero.
    #[error("a level below zero has no duration to bill")]
    Negative,
}

/// The only handle that stores to one writer's block; freed when dropped.
///
/// It may move to another thread, but not be shared with one.
pub struct Writer<R: Region> {
    pub(super) shared: Arc<Shared<R>>,
    pub(super) layout: CellsLayout,
    pub(super) index: u32,
    /// First word of the sum cells.
    pub(super) sums: usize,
    pub(super) sum_tag: u16,
    pub(super) table: Table,
    /// Whose mirrors are being followed.
    following: Row,
    /// One writer is one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

impl<R: Region> Writer<R> {
    pub(super) fn new(shared: Arc<Shared<R>>, index: u32) -> Self {
        let layout = shared.layout();
        let table = Table::take_over(&shared, index);
        Self {
            sums: layout.sums(index).start,
            sum_tag: tag(Aggregation::Sum, index),
            layout,
            index,
            table,
            following: Row::NONE,
            shared,
            _not_sync: PhantomData,
        }
    }

    /// Counts `n` in one event. When this returns `Ok`, the count is in the cell: it is
    /// accepted, and the end of the process does not lose it.
    #[inline]
    pub fn add(&mut self, slot: Slot, n: u64) -> Result<(), AddError> {
        self.add_events(slot, n, 1)
    }

    /// Counts `n` in `events` events.
    #[inline]
    pub fn add_events(&mut self, slot: Slot, n: u64, events: u64) -> Result<(), AddError> {
        if slot.tag() != self.sum_tag {
            return Err(AddError::WrongSlot);
        }
        let at = self.sums + slot.at() * SUM_WORDS;
        let Some([sum, done]) = self.shared.words().get(at..at + SUM_WORDS) else {
            return Err(AddError::WrongSlot);
        };
        sum::add(sum, done, n, events, slot.0, || {
            self.place().sum_in_force(slot.at())
        })
    }

    /// A handle that is bound to one sum, for whom counts on the same series again and again.
    pub fn counter(&self, slot: Slot) -> Result<Counter<'_, R>, AddError> {
        let at = self.sums + slot.at() * SUM_WORDS;
        match self.shared.words().get(at..at + SUM_WORDS) {
            Some([sum, done]) if slot.tag() == self.sum_tag => Ok(Counter {
                sum,
                done,
                slot,
                writer: self,
            }),
            _ => Err(AddError::WrongSlot),
        }
    }

    fn set_half(
        &mut self,
        slot: Slot,
        now: Timestamp,
        value: i64,
        (aggregation, keep): (Aggregation, halves::Keep),
    ) -> Result<(), SetError> {
        let width = self.width();
        let wide = self.place().wide(&self.table.places, slot, aggregation);
        let wide = wide.ok_or(SetError::WrongSlot)?;
        let taken = |half, events| wide.is_taken(half, events);
        let half = halves::set(wide.cell, now.millis(), width, value, keep, taken);
        if keep == halves::Keep::Last {
            wide::put_set(wide.words, half, self.shared.next_set());
        }
        wide.done(slot).map_err(|_| SetError::WrongSlot)
    }

    /// Sets the last value of the window that holds `now`.
    ///
    /// In a cell time does not go back: a value for a window before the newest counts for
    /// the newest.
    pub fn set(&mut self, slot: Slot, now: Timestamp, value: i64) -> Result<(), SetError> {
        let kind = (Aggregation::Last, halves::Keep::Last);
        self.set_half(slot, now, value, kind)
    }

    /// Raises the maximum of the window that holds `now`; time goes back as little as in
    /// [`Writer::set`].
    pub fn set_max(&mut self, slot: Slot, now: Timestamp, value: i64) -> Result<(), SetError> {
        let kind = (Aggregation::Max, halves::Keep::Max);
        self.set_half(slot, now, value, kind)
    }

    /// Sets the level that holds from `now` on; it is billed by time until it is set to 0. It is
    /// the level of the series: what another writer has set ends.
    pub fn set_level(&mut self, slot: Slot, now: Timestamp, value: i64) -> Result<(), SetError> {
        let value = u64::try_from(value).map_err(|_| SetError::Negative)?;
        let width = self.width();
        let kind = Aggregation::TimeWeighted;
        let wide = self.place().wide(&self.table.places, slot, kind);
        let wide = wide.ok_or(SetError::WrongSlot)?;
        match self.table.level(slot.at()) {
            Some(level) => {
                let own = (self.index, u32::try_from(wide.slot).unwrap_or(u32::MAX));
                let words = self.shared.words();
                level.set(words, own, (now.millis(), width), value);
            }
            None => level::set(wide.cell, now.millis(), width, value),
        }
        wide.done(slot).map_err(|_| SetError::WrongSlot)
    }

    /// The level that a slot has; `None` for a stale slot.
    pub(super) fn level(&self, slot: Slot) -> Option<u64> {
        let kind = Aggregation::TimeWeighted;
        let wide = self.place().wide(&self.table.places, slot, kind)?;
        Some(level::read(wide.cell)?.level)
    }

    /// Begins a level that has held since `since`, in a slot that was just made.
    pub(super) fn carry_level(&mut self, slot: Slot, value: u64, since: i64) {
        let kind = Aggregation::TimeWeighted;
        if let Some(wide) = self.place().wide(&self.table.places, slot, kind) {
            level::carry(wide.cell, value, since);
        }
    }

    /// Records `count` values of `value` in a distribution, each an event.
    pub fn record(&mut self, slot: Slot, value: u64, count: u64) -> Result<(), AddError> {
        let place = Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(&self.table.places, slot, Aggregation::Distribution);
        let wide = wide.ok_or(AddError::WrongSlot)?;
        let cell = histogram::Cell {
            head: wide.cell,
            sum: wide.sum,
            heap: wide.heap,
        };
        let (room, of) = (&mut self.table.heap, (value, count));
        let base = || place.sum_in_force(wide.slot);
        cell.record(room, wide::CHUNK_WORDS, of, slot.0, base)
    }

    /// Counts a value, by its [`hash`](tollgate_common::sketch::hash), among the distinct
    /// ones of the window that holds `now`; time goes back as little as in [`Writer::set`].
    pub fn insert(&mut self, slot: Slot, now: Timestamp, hash: u64) -> Result<(), AddError> {
        let width = self.width();
        let place = Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        };
        let wide = place.wide(&self.table.places, slot, Aggregation::Unique);
        let wide = wide.ok_or(AddError::WrongSlot)?;
        let cell = unique::Cell {
            halves: wide.cell,
            heap: wide.heap,
        };
        let taken = |half, events| wide.is_taken(half, events);
        cell.insert(&mut self.table.heap, (now.millis(), width), hash, taken)?;
        wide.done(slot)
    }

    /// Where the cells are, apart from what is known of the series.
    #[inline]
    pub(super) fn place(&self) -> Place<'_, R> {
        Place {
            shared: &self.shared,
            index: self.index,
            sums: self.sums,
        }
    }

    fn width(&self) -> i64 {
        self.shared.identity().window.millis()
    }

    /// Brings the cell of a slot nearer before it is counted on: of several that follow, the
    /// waits for memory then overlap.
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        let words = self.shared.words();
        if let Some(word) = words.get(self.sums + slot.at() * SUM_WORDS) {
            std::hint::black_box(word.load(Relaxed));
        }
        if slot.tag() != self.sum_tag
            && let Some(place) = self.table.places.get(slot.at())
            && let Some(word) = words.get(self.layout.wide(self.index).start + place.at())
        {
            std::hint::black_box(word.load(Relaxed));
        }
    }

    /// Accounts for `n` accepted events whose value was rounded.
    pub fn rounded(&mut self, n: u64) {
        self.bump(account::rounded_word(), n);
    }

    /// Accounts for `n` accepted events that were scaled by a sampling rate to no whole
    /// number of units.
    pub fn estimated(&mut self, n: u64) {
        self.bump(account::estimated_word(), n);
    }

    /// Accounts for `n` accepted events that name a time in another window than they are
    /// counted in.
    pub fn retimed(&mut self, n: u64) {
        self.bump(account::retimed_word(), n);
    }

    /// Accounts for a line that is of its protocol and no usage.
    pub fn ignored(&mut self, what: Ignored) {
        self.bump(account::ignored_word(what), 1);
    }

    /// Accounts for `n` received events that are not counted.
    pub fn rejected(&mut self, reason: Rejection, n: u64) {
        self.bump(account::rejected_word(reason), n);
    }

    /// Events not counted so far, by reason in the order of [`Rejection::ALL`].
    pub fn rejections(&self) -> [u64; Rejection::ALL.len()] {
        let words = self.shared.account(self.index);
        Rejection::ALL.map(|reason| words[account::rejected_word(reason)].load(Relaxed))
    }

    /// Accounts for `n` events known to be lost before the input received them.
    pub fn lost(&mut self, cause: InputLoss, n: u64) {
        self.bump(account::lost_word(cause), n);
    }

    fn bump(&mut self, word: usize, n: u64) {
        account::bump(&self.shared.account(self.index)[word], n);
    }

    /// Series in use.
    pub fn series(&self) -> u32 {
        self.table.live()
    }

    /// The name of this writer.
    pub fn name(&self) -> &str {
        &self.shared.identity().writers[self.index as usize]
    }
}

impl<R: Region> Drop for Writer<R> {
    fn drop(&mut self) {
        self.shared.give_back(self.index);
    }
}

/// The block of a writer.
pub(super) struct Place<'a, R> {
    shared: &'a Shared<R>,
    index: u32,
    sums: usize,
}

impl<'a, R: Region> Place<'a, R> {
    #[cold]
    pub(super) fn sum_in_force(&self, slot: usize) -> u64 {
        let bases = self.shared.bases(self.index, slot);
        baseline::in_force(self.shared.applied_word(), bases.map(|base| &base[0]))
    }

    /// The wide cell of a slot, with the sum cell of the same series.
    ///
    /// It is the generation in the sum cell that tells a stale slot. A wide cell could not: its
    /// room may be part of anything by now, of another cell with the same generation too.
    fn wide(&self, places: &[WidePlace], slot: Slot, aggregation: Aggregation) -> Option<Wide<'a>> {
        let at = self.sums + slot.at() * SUM_WORDS;
        let sum = self.shared.words().get(at..at + SUM_WORDS)?;
        let place = places.get(slot.at())?;
        let stale = (sum[1].load(Relaxed) ^ slot.0) >> sum::EVENTS_BITS != 0;
        if stale || slot.tag() != tag(aggregation, self.index) || !place.is(aggregation) {
            return None;
        }
        let heap = &self.shared.words()[self.shared.layout().wide(self.index)];
        let words = heap.get(place.at()..place.at() + wide::words(aggregation) as usize)?;
        Some(Wide {
            slot: slot.at(),
            words,
            cell: &words[wide::cell_range(aggregation)],
            applied: self.shared.applied_word(),
            bases: [0, 1].map(|parity| &words[wide::base_range(aggregation, parity)]),
            sum,
            heap,
        })
    }
}

/// The words of a series with a wide cell.
struct Wide<'a> {
    slot: usize,
    /// All of it.
    words: &'a [AtomicU64],
    cell: &'a [AtomicU64],
    applied: &'a AtomicU64,
    /// Of even and of odd batches.
    bases: [&'a [AtomicU64]; 2],
    sum: &'a [AtomicU64],
    heap: &'a [AtomicU64],
}

impl Wide<'_> {
    /// True if a half (0 or 1) that shows so many events is sealed: its window is told.
    #[cold]
    fn is_taken(&self, half: usize, events: u64) -> bool {
        let [Some(even), Some(odd)] = self.bases.map(|base| base.get(half)) else {
            return true;
        };
        baseline::in_force(self.applied, [even, odd]) == events
    }

    /// Counts the event, after everything else of it has been stored.
    fn done(&self, slot: Slot) -> Result<(), AddError> {
        sum::add(&self.sum[0], &self.sum[1], 0, 1, slot.0, || 0)
    }
}

/// A sum of one writer, bound: an add is two loads, two stores and one branch.
pub struct Counter<'w, R: Region> {
    sum: &'w AtomicU64,
    done: &'w AtomicU64,
    slot: Slot,
    writer: &'w Writer<R>,
}

impl<R: Region> Counter<'_, R> {
    /// Counts `n` in one event, like [`Writer::add`].
    #[inline]
    pub fn add(&self, n: u64) -> Result<(), AddError> {
        let base = || self.writer.place().sum_in_force(self.slot.at());
        sum::add(self.sum, self.done, n, 1, self.slot.0, base)
    }
}
