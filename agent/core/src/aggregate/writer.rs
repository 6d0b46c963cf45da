//! The writer's side of the cells: the hot path.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use foldhash::quality::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};
use tollgate_common::{Aggregation, Scale, SeriesKey, Window};

use super::Region;
use super::account::{
    InputLoss, Rejection, bump, estimated_word, ignored_word, lost_word, received_word,
    rejected_word, retimed_word, rounded_word,
};
use super::cells::Shared;
use super::last;
use super::layout::{CellsLayout, SUM_WORDS};
use super::slot::SlotHead;
use super::words::{pack, put_bytes, words_for};
use crate::input::dogstatsd::Ignored;

/// Most that one call may add: below 2^62.
///
/// The difference between two cuts must stay below 2^64, or a lap of the counter would be
/// lost. The top two bits of a counter divide its range into quarters. An add below a
/// quarter that stays in its quarter needs no check; one that crosses into the next is
/// refused if the difference to the baseline in force would reach 2^63. Between two
/// crossings less than a quarter is added, so a difference stays below 2^63 + 2^62. The
/// check costs an exclusive or and a comparison, and no second cache line.
pub const ADD_MAX: u64 = (1 << 62) - 1;
const QUARTER_SHIFT: u32 = 62;
/// What a crossing may not exceed.
const WINDOW_MAX: u64 = 1 << 63;

/// A series of one writer: where its cell is. Valid as long as that writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Writer and kind of cell, so that a slot is not used for another.
    tag: u32,
    /// Index of the slot for sums, of the cell for last values.
    index: u32,
}

impl Slot {
    /// The slot as a word, for tables that keep words.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.index)
    }

    /// The slot that became this word. Any word is one; what is no slot of a writer is refused
    /// by it.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub fn from_bits(bits: u64) -> Self {
        Self {
            tag: (bits >> 32) as u32,
            index: bits as u32,
        }
    }
}

/// No room for another series, not even for one without dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another series, not even without its dimensions; raise limits.series_max")]
pub struct SeriesFull;

/// Why an amount is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// More than [`ADD_MAX`].
    #[error("amount {0} is 2^62 or more")]
    TooLarge(u64),
    /// The cell has counted 2^63 or so since the last seal; the next seal makes room.
    #[error("counter of the series is full until the next seal")]
    CounterFull,
    /// The slot is of another writer, or of a last value.
    #[error("slot is not a sum of this writer")]
    WrongSlot,
}

/// Why a value is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// The slot is of another writer, or of a sum.
    #[error("slot is not a last value of this writer")]
    WrongSlot,
}

/// The only handle that stores to one writer's block; freed when dropped.
pub struct Writer<R: Region> {
    shared: Arc<Shared<R>>,
    layout: CellsLayout,
    index: u32,
    /// First word of the sum cells.
    sums: usize,
    /// Slots by the hash of their key and kind.
    table: HashTable<u32>,
    hasher: FixedState,
    count: u32,
    arena_used: u32,
    last_used: u32,
    scratch: Scratch,
}

/// A key being looked up: its bytes, and the same packed into words.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    words: Vec<u64>,
}

impl Scratch {
    fn set(&mut self, key: &SeriesKey) {
        self.bytes.clear();
        self.words.clear();
        key.write_canonical(&mut self.bytes);
        pack(&self.bytes, &mut self.words);
    }
}

#[inline]
fn tag(writer: u32, aggregation: Aggregation) -> u32 {
    writer << 8 | u32::from(aggregation.code())
}

fn hash(state: &FixedState, words: impl Iterator<Item = u64>, kind: (Aggregation, Scale)) -> u64 {
    let mut hasher = state.build_hasher();
    words.for_each(|word| hasher.write_u64(word));
    hasher.write_u16(u16::from_le_bytes([kind.0.code(), kind.1.get()]));
    hasher.finish()
}

impl<R: Region> Writer<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>, index: u32) -> Self {
        let layout = shared.layout();
        // The incarnation is random, so nobody outside can aim at collisions.
        let random = shared.identity().incarnation;
        let seed: [u8; 8] = std::array::from_fn(|at| random.as_bytes()[at]);
        let count = shared.published(index);
        let mut writer = Self {
            sums: layout.sums(index).start,
            layout,
            index,
            table: HashTable::new(),
            hasher: FixedState::with_seed(u64::from_le_bytes(seed)),
            count,
            arena_used: 0,
            last_used: 0,
            scratch: Scratch::default(),
            shared,
        };
        writer.take_over();
        writer
    }

    /// Finds again the series of a region that has been written before. A damaged slot is
    /// left out; the series that it was gets a new one, if it is counted again.
    fn take_over(&mut self) {
        for slot in 0..self.count {
            let Some((head, key)) = self.shared.slot(self.index, slot) else {
                // Nothing is known of where its key and cell are, so no free room is.
                self.arena_used = self.layout.arena();
                self.last_used = self.layout.last();
                continue;
            };
            let length = u32::try_from(words_for(key.len())).expect("keys are short");
            self.arena_used = self.arena_used.max(head.key_at + length);
            if head.aggregation == Aggregation::Last {
                self.last_used = self.last_used.max(head.last + 1);
            }
            self.insert(slot, head);
        }
    }

    fn key_words(&self, head: SlotHead) -> impl Iterator<Item = u64> {
        let at = self.layout.keys(self.index).start + head.key_at as usize;
        let words = &self.shared.words()[at..at + words_for(head.key_bytes as usize)];
        words.iter().map(|word| word.load(Relaxed))
    }

    fn insert(&mut self, slot: u32, head: SlotHead) {
        let kind = (head.aggregation, head.scale);
        let hashed = hash(&self.hasher, self.key_words(head), kind);
        let table = std::mem::take(&mut self.table);
        self.table = self.inserted(table, hashed, slot);
    }

    fn inserted(&self, mut table: HashTable<u32>, hashed: u64, slot: u32) -> HashTable<u32> {
        table.insert_unique(hashed, slot, |&slot| {
            let head = self.head(slot);
            hash(
                &self.hasher,
                self.key_words(head),
                (head.aggregation, head.scale),
            )
        });
        table
    }

    /// The description of a slot in the table. What is in the table was checked or written
    /// by this writer; memory that changed since ends the process rather than count wrongly.
    fn head(&self, slot: u32) -> SlotHead {
        let words = &self.shared.words()[self.layout.slot(self.index, slot)];
        SlotHead::parse(self.layout, words).expect("a slot of the table was checked before")
    }

    fn find(&self, kind: (Aggregation, Scale)) -> Option<Slot> {
        let hashed = hash(&self.hasher, self.scratch.words.iter().copied(), kind);
        let same = |&slot: &u32| {
            let head = self.head(slot);
            (head.aggregation, head.scale) == kind
                && head.key_bytes as usize == self.scratch.bytes.len()
                && self.key_words(head).eq(self.scratch.words.iter().copied())
        };
        let slot = *self.table.find(hashed, same)?;
        Some(self.handle(slot, self.head(slot)))
    }

    fn handle(&self, slot: u32, head: SlotHead) -> Slot {
        let index = match head.aggregation {
            Aggregation::Last => head.last,
            _ => slot,
        };
        Slot {
            tag: tag(self.index, head.aggregation),
            index,
        }
    }

    /// Writes and publishes a slot for the key in the scratch, if there is room with `spare`
    /// slots and key words kept for overflow series.
    fn publish(&mut self, kind: (Aggregation, Scale), spare: (u32, u32)) -> Option<Slot> {
        let length = u32::try_from(self.scratch.words.len()).ok()?;
        let last = kind.0 == Aggregation::Last;
        if self.count + spare.0 >= self.layout.series()
            || self.arena_used + length + spare.1 > self.layout.arena()
            || last && self.last_used + spare.0 >= self.layout.last()
        {
            return None;
        }
        let head = SlotHead {
            key_at: self.arena_used,
            key_bytes: u32::try_from(self.scratch.bytes.len()).ok()?,
            aggregation: kind.0,
            scale: kind.1,
            last: if last { self.last_used } else { 0 },
        };
        let slot = self.count;
        let words = self.shared.words();
        let key_at = self.layout.keys(self.index).start + head.key_at as usize;
        put_bytes(&words[key_at..], &self.scratch.bytes);
        head.write(
            &words[self.layout.slot(self.index, slot)],
            &self.scratch.bytes,
        );
        self.arena_used += length;
        self.last_used += u32::from(last);
        self.count += 1;
        self.shared.publish(self.index, self.count);
        self.insert(slot, head);
        Some(self.handle(slot, head))
    }

    /// The slot of a series, made if it is new.
    ///
    /// Where there is no room for another series, the slot of the same tenant and meter with
    /// `overflow=true` in place of the dimensions.
    pub fn resolve(
        &mut self,
        key: &SeriesKey,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<Slot, SeriesFull> {
        // This version of the file has no cells for the others, which the configuration refuses.
        if !matches!(aggregation, Aggregation::Sum | Aggregation::Last) {
            return Err(SeriesFull);
        }
        let kind = (aggregation, scale);
        self.scratch.set(key);
        if let Some(slot) = self.find(kind) {
            return Ok(slot);
        }
        let reserve = self.layout.reserve();
        if let Some(slot) = self.publish(kind, reserve) {
            return Ok(slot);
        }
        self.scratch.set(&key.to_overflow());
        self.find(kind)
            .or_else(|| self.publish(kind, (0, 0)))
            .ok_or(SeriesFull)
    }

    /// Counts `n` in one event. When this returns `Ok`, the count is in the cell: it is
    /// accepted, and the end of the process does not lose it.
    #[inline]
    pub fn add(&mut self, slot: Slot, n: u64) -> Result<(), AddError> {
        if slot.tag != tag(self.index, Aggregation::Sum) {
            return Err(AddError::WrongSlot);
        }
        let at = self.sums + slot.index as usize * SUM_WORDS;
        let cell = &self.shared.words()[at..at + SUM_WORDS];
        let old = cell[0].load(Relaxed);
        let new = old.wrapping_add(n);
        if (old ^ new | n) >> QUARTER_SHIFT != 0 {
            self.check_crossing(slot, old, n)?;
        }
        // Sum before events: what is counted as accepted is in the sum.
        cell[0].store(new, Relaxed);
        cell[1].store(cell[1].load(Relaxed).wrapping_add(1), Release);
        Ok(())
    }

    #[cold]
    fn check_crossing(&self, slot: Slot, old: u64, n: u64) -> Result<(), AddError> {
        if n > ADD_MAX {
            return Err(AddError::TooLarge(n));
        }
        let base = self.shared.sum_in_force(self.index, slot.index);
        match old.wrapping_sub(base).checked_add(n) {
            Some(difference) if difference < WINDOW_MAX => Ok(()),
            _ => Err(AddError::CounterFull),
        }
    }

    /// Sets a last value for the window of the cells' width that holds the start of `window`.
    ///
    /// In a cell time does not go back: a value for a window before the newest counts for
    /// the newest.
    pub fn set(&mut self, slot: Slot, window: Window, value: i64) -> Result<(), SetError> {
        if slot.tag != tag(self.index, Aggregation::Last) {
            return Err(SetError::WrongSlot);
        }
        let width = self.shared.identity().window;
        let start = Window::containing(window.start(), width).start();
        let cell = self.shared.last_cell(self.index, slot.index);
        last::set(cell, start, width, value);
        Ok(())
    }

    /// Accounts for `n` events that reached the input.
    pub fn received(&mut self, n: u64) {
        bump(&self.shared.account(self.index)[received_word()], n);
    }

    /// Accounts for `n` accepted events whose value was rounded.
    pub fn rounded(&mut self, n: u64) {
        bump(&self.shared.account(self.index)[rounded_word()], n);
    }

    /// Accounts for `n` accepted events that were scaled by a sampling rate to no whole
    /// number of units.
    pub fn estimated(&mut self, n: u64) {
        bump(&self.shared.account(self.index)[estimated_word()], n);
    }

    /// Accounts for `n` accepted events that name a time in another window than they are
    /// counted in.
    pub fn retimed(&mut self, n: u64) {
        bump(&self.shared.account(self.index)[retimed_word()], n);
    }

    /// Accounts for a line that is of its protocol and no usage.
    pub fn ignored(&mut self, what: Ignored) {
        bump(&self.shared.account(self.index)[ignored_word(what)], 1);
    }

    /// Accounts for `n` received events that are not counted.
    pub fn rejected(&mut self, reason: Rejection, n: u64) {
        bump(&self.shared.account(self.index)[rejected_word(reason)], n);
    }

    /// Events not counted so far, by reason in the order of [`Rejection::ALL`].
    pub fn rejections(&self) -> [u64; Rejection::ALL.len()] {
        let account = self.shared.account(self.index);
        Rejection::ALL.map(|reason| account[rejected_word(reason)].load(Relaxed))
    }

    /// Accounts for `n` events known to be lost before the input received them.
    pub fn lost(&mut self, cause: InputLoss, n: u64) {
        bump(&self.shared.account(self.index)[lost_word(cause)], n);
    }

    /// Series in use.
    pub fn series(&self) -> u32 {
        self.count
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
