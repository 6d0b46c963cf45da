//! What a writer knows of its series: finding, making, retiring and giving them room again.
//!
//! All of it is in memory and is found again from the slots by who takes over a region. What
//! a series passes through, store by store:
//!
//! 1. *made*: key and wide cell are written, then the slot, live; then the cell gets the
//!    slot's generation, or, for a slot never used before, the number of slots is published.
//! 2. *retired*, when the sealer has found it idle and nothing was counted since: the state is
//!    stored, then the cell gets the next generation, so that handles become stale. The slot
//!    keeps its key, because not everything it has counted need be sealed.
//! 3. *free*, when both baselines equal the cell and the sealer has forgotten the series: from
//!    here on it may be made another series,
//!    which counts on from the values that the cell has.
//!
//! A process killed between any two of these stores leaves a slot that counts for the series
//! it had, or for none while there is nothing to count.

mod index;
mod series;
mod take_over;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use tollgate::cell::{Room, baseline, level, sum};
use tollgate_common::{Aggregation, Scale, SeriesKey, TenantId};

use self::index::Index;
use super::Region;
use super::account::bump;
use super::gauge::{Level, LevelCell};
use super::layout::WIDE_UNIT;
use super::owner::{Owner, PageKey};
use super::pairs::is_overflow;
use super::room::FreeRoom;
use super::shared::{Retire, Shared};
use super::slot::{SlotHead, State, is_wide};
use super::tenants::Tenants;
use super::wide;
use super::words::{Put, pack, put_bytes};
use super::writer::Slot;

/// A generation at which a slot is not given to another series any more: two more would come
/// round to one that a stale handle may have.
const GENERATION_MAX: u16 = u16::MAX - 2;

type Kind = (Aggregation, Scale);

/// A key being looked up: its bytes, and the same packed into words.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    words: Vec<u64>,
    /// The key ends with an owner.
    mirrors: bool,
}

impl Scratch {
    fn set(&mut self, key: &SeriesKey) {
        self.bytes.clear();
        self.words.clear();
        key.write_canonical(&mut self.bytes);
        pack(&self.bytes, &mut self.words);
        self.mirrors = false;
    }

    /// The key of the slot that mirrors a cell.
    fn set_mirror(&mut self, key: &SeriesKey, owner: Owner) {
        self.bytes.clear();
        self.words.clear();
        key.write_canonical(&mut self.bytes);
        owner.write(&mut self.bytes);
        pack(&self.bytes, &mut self.words);
        self.mirrors = true;
    }
}

/// Where the wide cell of a slot is, and what it is: a place, which is a multiple of
/// [`WIDE_UNIT`], and the code of the aggregation. The default is none.
#[derive(Clone, Copy, Default)]
pub(super) struct WidePlace(u32);

const KIND_MASK: u32 = WIDE_UNIT - 1;
const _: () = assert!(WIDE_UNIT.is_power_of_two() && Aggregation::TimeWeighted as u32 <= KIND_MASK);

impl WidePlace {
    fn new(at: u32, aggregation: Aggregation) -> Self {
        Self(at | u32::from(aggregation.code()))
    }

    #[inline]
    pub(super) fn at(self) -> usize {
        (self.0 & !KIND_MASK) as usize
    }

    #[inline]
    pub(super) fn is(self, aggregation: Aggregation) -> bool {
        self.0 & KIND_MASK == u32::from(aggregation.code())
    }
}

/// The series of a writer.
pub(super) struct Table {
    /// Where the wide cells of slots are; as long as the last slot that has one needs.
    pub(super) places: Vec<WidePlace>,
    /// Slots by the hash of their key and kind.
    slots: Index,
    hasher: FixedState,
    /// Slots published so far.
    count: u32,
    /// Of these, free ones.
    free: Vec<u32>,
    /// Of these, retired ones that may not be sealed yet, with the number of the change that
    /// retired them.
    retired: Vec<(u32, u64)>,
    /// Room for keys.
    keys: FreeRoom,
    /// Room for wide cells.
    pub(super) heap: FreeRoom,
    pub(super) tenants: Tenants,
    scratch: Scratch,
    /// Pages whose mirrors are not needed any more. Others are never idle: their pages may
    /// go on where they stand at any time.
    ended: BTreeSet<PageKey>,
    /// The levels of slots, all cells of their series.
    levels: HashMap<u32, Arc<Level>, foldhash::fast::RandomState>,
}

fn hash(state: &FixedState, words: impl Iterator<Item = u64>, kind: Kind) -> u64 {
    let mut hasher = state.build_hasher();
    words.for_each(|word| hasher.write_u64(word));
    hasher.write_u16(u16::from_le_bytes([kind.0.code(), kind.1.get()]));
    hasher.finish()
}

/// The hash of a slot. A mirror is found by whose cell it mirrors, whatever it counts for.
fn hash_of(state: &FixedState, head: SlotHead, keys: &[AtomicU64]) -> u64 {
    match head.owner(keys) {
        Some(owner) => hash_owner(state, owner),
        None => hash(
            state,
            loads(head.key_words(keys)),
            (head.aggregation, head.scale),
        ),
    }
}

fn hash_owner(state: &FixedState, owner: Owner) -> u64 {
    state.hash_one(owner)
}

fn loads(words: &[AtomicU64]) -> impl Iterator<Item = u64> + '_ {
    words.iter().map(|word| word.load(Relaxed))
}

/// One writer's block, for everything but counting.
pub(super) struct Block<'a> {
    pub(super) slots: &'a [AtomicU64],
    pub(super) keys: &'a [AtomicU64],
    pub(super) sums: &'a [AtomicU64],
    pub(super) heap: &'a [AtomicU64],
}

impl<'a> Block<'a> {
    pub(super) fn of<R: Region>(shared: &'a Shared<R>, writer: u32) -> Self {
        let (words, layout) = (shared.words(), shared.layout());
        Self {
            slots: &words[layout.slots(writer)],
            keys: &words[layout.keys(writer)],
            sums: &words[layout.sums(writer)],
            heap: &words[layout.wide(writer)],
        }
    }

    pub(super) fn slot(&self, slot: u32) -> &'a [AtomicU64] {
        &self.slots[slot as usize * 2..][..2]
    }

    pub(super) fn sum(&self, slot: u32) -> &'a [AtomicU64] {
        &self.sums[slot as usize * 2..][..2]
    }

    fn generation(&self, slot: u32) -> u16 {
        sum::generation(self.sum(slot)[1].load(Relaxed))
    }
}

impl Table {
    pub(super) fn live(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("no more than slots")
    }

    fn tell_live<R: Region>(&self, shared: &Shared<R>, writer: u32) {
        shared.cardinality(writer).live.store(self.live(), Relaxed);
    }

    fn insert<R: Region>(&mut self, shared: &Shared<R>, writer: u32, slot: u32, head: SlotHead) {
        let hashed = hash_of(&self.hasher, head, Block::of(shared, writer).keys);
        self.slots.insert(hashed, slot);
    }

    /// The slot that mirrors a cell.
    fn find_mirror<R: Region>(
        &self,
        shared: &Shared<R>,
        writer: u32,
        owner: Owner,
    ) -> Option<(Slot, SlotHead)> {
        let block = Block::of(shared, writer);
        let same = |slot: u32| known(shared, &block, slot).owner(block.keys) == Some(owner);
        let slot = self.slots.find(hash_owner(&self.hasher, owner), same)?;
        let head = known(shared, &block, slot);
        Some((handle(writer, slot, head), head))
    }

    fn find<R: Region>(&self, shared: &Shared<R>, writer: u32, kind: Kind) -> Option<Slot> {
        let block = Block::of(shared, writer);
        let hashed = hash(&self.hasher, self.scratch.words.iter().copied(), kind);
        let same = |slot: u32| {
            let head = known(shared, &block, slot);
            (head.aggregation, head.scale) == kind
                && !head.mirrors
                && head.key_bytes as usize == self.scratch.bytes.len()
                && loads(head.key_words(block.keys)).eq(self.scratch.words.iter().copied())
        };
        let slot = self.slots.find(hashed, same)?;
        Some(handle(writer, slot, known(shared, &block, slot)))
    }

    fn free_slots<R: Region>(&self, shared: &Shared<R>) -> u32 {
        let free = u32::try_from(self.free.len()).expect("no more than slots");
        free + (shared.layout().series() - self.count)
    }

    /// Writes and publishes a slot for the key in the scratch, if there is room; `spare` keeps
    /// what is reserved for overflow series.
    fn publish<R: Region>(
        &mut self,
        shared: &Shared<R>,
        writer: u32,
        (aggregation, scale): Kind,
        spare: bool,
        counted: [u64; 2],
    ) -> Option<Slot> {
        let (block, layout) = (Block::of(shared, writer), shared.layout());
        let (spare_slots, spare_keys) = if spare { layout.reserve() } else { (0, 0) };
        if self.free_slots(shared) <= spare_slots {
            self.reclaim(shared, writer);
        }
        if self.free_slots(shared) <= spare_slots {
            return None;
        }
        let wide = is_wide(aggregation);
        // The key of a slot that is used again needs more room.
        let reused = self.free.last().copied();
        let mut head = SlotHead {
            key_at: 0,
            key_bytes: u32::try_from(self.scratch.bytes.len()).ok()?,
            mirrors: self.scratch.mirrors,
            aggregation,
            scale,
            generation: reused.map_or(0, |slot| block.generation(slot) + 1),
            state: State::Live,
        };
        let wide_words = wide::words(aggregation);
        let spare_wide = if spare { layout.wide_reserve() } else { 0 };
        head.key_at = self.keys.take_sparing(head.room(), spare_keys)?;
        let place = if wide {
            let Some(place) = self.heap.take_sparing(wide_words, spare_wide) else {
                self.keys.give(head.key_at, head.room());
                return None;
            };
            place
        } else {
            0
        };
        let slot = reused.unwrap_or(self.count);
        if reused.is_some() {
            self.free.pop();
        }
        if wide {
            block.keys[head.key_at as usize].put(place.into(), Relaxed);
            let words = &block.heap[place as usize..][..wide_words as usize];
            for word in words {
                word.put(0, Relaxed);
            }
            wide::put_owner(words, slot, head.generation);
        }
        // The cell of a slot goes on where it stands, whoever it counts for.
        let cell = reused.map_or([0; 2], |slot| {
            [0, 1].map(|at: usize| block.sum(slot)[at].load(Relaxed))
        });
        let sum = cell[0].wrapping_sub(counted[0]);
        let events = sum::events_between(cell[1], counted[1]);
        head.put_origin(block.keys, [sum, events]);
        put_bytes(head.key_words(block.keys), &self.scratch.bytes);
        head.write(block.slot(slot), block.keys);
        if reused.is_some() {
            sum::hand_over(block.sum(slot), head.generation);
            shared.changed(writer);
            bump(&shared.cardinality(writer).reused, 1);
        } else {
            self.count += 1;
            shared.publish(writer, self.count);
        }
        self.put_place(slot, head, place);
        self.insert(shared, writer, slot, head);
        self.join_level((shared, writer), slot, head);
        self.tell_live(shared, writer);
        Some(handle(writer, slot, head))
    }

    /// A level is one with that of the same series in the cells of other writers. That of a mirror
    /// is one by itself.
    fn join_level<R: Region>(
        &mut self,
        (shared, writer): (&Shared<R>, u32),
        slot: u32,
        head: SlotHead,
    ) {
        if head.aggregation != Aggregation::TimeWeighted || head.mirrors {
            return;
        }
        let block = Block::of(shared, writer);
        let place = head.place(block.keys) as usize + wide::cell_range(head.aggregation).start;
        let cell = LevelCell {
            writer,
            slot,
            at: shared.layout().wide(writer).start + place,
        };
        let key = || loads(head.key_words(block.keys));
        // A writer leaves before it takes the description away.
        let same = |of: LevelCell| {
            let block = Block::of(shared, of.writer);
            let other = known(shared, &block, of.slot);
            (other.key_bytes, other.scale) == (head.key_bytes, head.scale)
                && loads(other.key_words(block.keys)).eq(key())
        };
        let hash = hash_of(&self.hasher, head, block.keys);
        let level = shared.levels().join(hash, cell, same);
        self.levels.insert(slot, level);
    }

    /// The level of a slot, with all cells of its series.
    pub(super) fn level(&self, slot: usize) -> Option<&Level> {
        let slot = u32::try_from(slot).ok()?;
        self.levels.get(&slot).map(Arc::as_ref)
    }

    fn put_place(&mut self, slot: u32, head: SlotHead, place: u32) {
        let at = slot as usize;
        if is_wide(head.aggregation) {
            if self.places.len() <= at {
                self.places.resize(at + 1, WidePlace::default());
            }
            self.places[at] = WidePlace::new(place, head.aggregation);
        } else if let Some(place) = self.places.get_mut(at) {
            *place = WidePlace::default();
        }
    }

    /// Retires what the sealer has found idle and nobody has counted on since.
    fn retire<R: Region>(
        &mut self,
        shared: &Shared<R>,
        writer: u32,
        request: Retire,
    ) -> Option<Slot> {
        let block = Block::of(shared, writer);
        let slot = request.slot;
        if slot >= self.count || block.sum(slot)[1].load(Relaxed) != request.done {
            return None;
        }
        let generation = sum::generation(request.done);
        let head = SlotHead::parse(shared.layout(), block.slot(slot))?;
        let live = head.state == State::Live && head.agrees(generation);
        if !live || generation >= GENERATION_MAX {
            return None;
        }
        let gone = handle(writer, slot, head);
        let owner = head.owner(block.keys);
        if owner.is_some_and(|owner| !self.ended.contains(&owner.page)) {
            return None;
        }
        let place = head.place(block.keys) as usize;
        if owner.is_none() && head.aggregation == Aggregation::TimeWeighted {
            // A level counts as long as it holds, also if nobody sets it.
            let cell = &block.heap[place..][wide::cell_range(head.aggregation)];
            if level::read(cell).is_none_or(|state| state.level > 0) {
                return None;
            }
        }
        let hasher = &self.hasher;
        let hashed = hash_of(hasher, head, block.keys);
        let hash_of = |other: u32| hash_of(hasher, known(shared, &block, other), block.keys);
        if !self.slots.remove(hashed, slot, hash_of) {
            return None;
        }
        if let Some(level) = self.levels.remove(&slot) {
            shared.levels().leave(&level, writer, slot);
        }
        SlotHead::set_state(block.slot(slot), State::Retired);
        sum::hand_over(block.sum(slot), generation + 1);
        shared.changed(writer);
        shared.count_series(key_of(head, block.keys).as_ref(), -1);
        self.retired.push((slot, shared.changes(writer)));
        bump(&shared.cardinality(writer).retired, 1);
        self.tell_live(shared, writer);
        Some(gone)
    }

    /// Frees retired slots of which everything is sealed, and for whose series the sealer does
    /// not look any more.
    fn reclaim<R: Region>(&mut self, shared: &Shared<R>, writer: u32) {
        let block = Block::of(shared, writer);
        let mut retired = std::mem::take(&mut self.retired);
        let seen = shared.acknowledged(writer);
        retired.retain(|&(slot, change)| {
            if change > seen || !shared.settled(writer, slot) {
                return true;
            }
            let head = known(shared, &block, slot);
            if let Some(series) = series_of(head, block.keys).filter(is_overflow) {
                let before = head.origin(block.keys).map_or(0, |[_, events]| events);
                let events = sum::events_between(block.sum(slot)[1].load(Relaxed), before);
                let (of, room) = ((shared, writer), &mut self.heap);
                let tenant = series.tenant();
                self.tenants.overflow_ended(of, room, tenant, events);
            }
            SlotHead::set_state(block.slot(slot), State::Free);
            self.keys.give(head.key_at, head.room());
            if is_wide(head.aggregation) {
                let place = head.place(block.keys);
                for (at, words) in wide::room_used(block.heap, place, head.aggregation) {
                    self.heap.give(at, words);
                }
            }
            self.free.push(slot);
            false
        });
        self.retired = retired;
    }
}

/// The description of a slot in use. What is in the table was checked or written by this
/// writer; memory that changed since ends the process rather than count wrongly.
fn known<R: Region>(shared: &Shared<R>, block: &Block<'_>, slot: u32) -> SlotHead {
    SlotHead::parse(shared.layout(), block.slot(slot))
        .expect("a slot of the table was checked before")
}

fn handle(writer: u32, slot: u32, head: SlotHead) -> Slot {
    Slot::new(slot, head.aggregation, writer, head.generation)
}

/// The tenant of a slot that was checked.
fn key_of(head: SlotHead, keys: &[AtomicU64]) -> Option<TenantId> {
    Some(series_of(head, keys)?.tenant().clone())
}

/// The series of a slot that was checked.
fn series_of(head: SlotHead, keys: &[AtomicU64]) -> Option<SeriesKey> {
    let bytes = super::words::get_bytes(head.key_words(keys), head.series_bytes());
    SeriesKey::from_canonical(&bytes).ok()
}

/// Bytes of the table in which a writer finds its slots.
pub(crate) fn index_bytes(slots: u32) -> usize {
    Index::bytes(slots)
}

/// True if both baselines equal the cell of a slot.
pub(super) fn settled(applied: &AtomicU64, cell: &[AtomicU64], bases: [&[AtomicU64]; 2]) -> bool {
    baseline::settled(applied, cell, bases)
}
