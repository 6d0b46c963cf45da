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

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::FixedState;
use hashbrown::HashTable;
use tollgate::cell::{Room, baseline, level, sum};
use tollgate_common::{Aggregation, Scale, SeriesKey, TenantId, Timestamp};

use super::Region;
use super::account::bump;
use super::layout::WIDE_UNIT;
use super::owner::{MIRRORED_KEY_BYTES_MAX, Owner, PageKey};
use super::pairs::is_overflow;
use super::room::FreeRoom;
use super::shared::{Retire, Shared};
use super::slot::{SlotHead, State, is_wide};
use super::tenants::{TenantRecord, Tenants};
use super::wide;
use super::words::{Put, pack, put_bytes};
use super::writer::{SeriesFull, Slot, Writer};

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
    slots: HashTable<u32>,
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
}

fn hash(state: &FixedState, words: impl Iterator<Item = u64>, kind: Kind) -> u64 {
    let mut hasher = state.build_hasher();
    words.for_each(|word| hasher.write_u64(word));
    hasher.write_u16(u16::from_le_bytes([kind.0.code(), kind.1.get()]));
    hasher.finish()
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
    /// Finds again the series of a region that may have been written before. A damaged slot is
    /// left out; the series that it was gets a new one, if it is counted again.
    pub(super) fn take_over<R: Region>(shared: &Shared<R>, writer: u32) -> Self {
        let layout = shared.layout();
        let block = Block::of(shared, writer);
        // The incarnation is random, so nobody outside can aim at collisions.
        let random = shared.identity().incarnation;
        let seed: [u8; 8] = std::array::from_fn(|at| random.as_bytes()[at]);
        let (keys_end, heap_end) = (layout.arena(), layout.wide_words());
        let mut table = Self {
            places: Vec::new(),
            slots: HashTable::new(),
            hasher: FixedState::with_seed(u64::from_le_bytes(seed)),
            count: shared.published(writer),
            free: Vec::new(),
            retired: Vec::new(),
            keys: FreeRoom::new(0, keys_end, 1),
            heap: FreeRoom::new(WIDE_UNIT, heap_end, WIDE_UNIT),
            tenants: Tenants::default(),
            scratch: Scratch::default(),
            ended: BTreeSet::new(),
        };
        // A writer that was had before has its series accounted for.
        let first = shared.begin(writer);
        let (mut keys, mut heap) = (Vec::new(), Vec::new());
        let mut damaged = !table.tenants.take_over(shared, writer, &mut heap);
        for slot in 0..table.count {
            let words = block.slot(slot);
            let head = SlotHead::parse(layout, words).filter(|h| h.is_whole(words, block.keys));
            let Some(head) = head else {
                // Nothing is known of where its key and cell are, so no free room is.
                damaged = true;
                continue;
            };
            if !head.agrees(block.generation(slot)) {
                SlotHead::set_state(words, State::Free);
                if shared.settled(writer, slot) {
                    table.free.push(slot);
                }
                continue;
            }
            let place = head.place(block.keys);
            if is_wide(head.aggregation) {
                let used = wide::room_used(block.heap, place, head.aggregation);
                let inside = |&(at, words): &(u32, u32)| {
                    at >= WIDE_UNIT && at % WIDE_UNIT == 0 && at.saturating_add(words) <= heap_end
                };
                if !used.iter().all(inside) {
                    damaged = true;
                    continue;
                }
                heap.extend(used);
            }
            keys.push((head.key_at, head.room()));
            if head.state == State::Retired {
                if block.generation(slot) == head.generation {
                    sum::hand_over(block.sum(slot), head.generation + 1);
                }
                table.retired.push((slot, shared.changes(writer)));
            } else {
                if first {
                    shared.count_series(key_of(head, block.keys).as_ref(), 1);
                }
                table.put_place(slot, head, place);
                table.insert(shared, writer, slot, head);
            }
        }
        if damaged {
            table.keys = FreeRoom::new(keys_end, keys_end, 1);
            table.heap = FreeRoom::new(heap_end, heap_end, WIDE_UNIT);
        } else {
            table.keys = FreeRoom::around(0, keys_end, 1, keys);
            table.heap = FreeRoom::around(WIDE_UNIT, heap_end, WIDE_UNIT, heap);
        }
        table.tell_live(shared, writer);
        table
    }

    pub(super) fn live(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("no more than slots")
    }

    fn tell_live<R: Region>(&self, shared: &Shared<R>, writer: u32) {
        shared.cardinality(writer).live.store(self.live(), Relaxed);
    }

    fn insert<R: Region>(&mut self, shared: &Shared<R>, writer: u32, slot: u32, head: SlotHead) {
        let block = Block::of(shared, writer);
        let hasher = &self.hasher;
        let hash_of = |head: SlotHead| {
            let words = loads(head.key_words(block.keys));
            hash(hasher, words, (head.aggregation, head.scale))
        };
        self.slots.insert_unique(hash_of(head), slot, |&slot| {
            hash_of(known(shared, &block, slot))
        });
    }

    fn find<R: Region>(&self, shared: &Shared<R>, writer: u32, kind: Kind) -> Option<Slot> {
        let block = Block::of(shared, writer);
        let hashed = hash(&self.hasher, self.scratch.words.iter().copied(), kind);
        let same = |&slot: &u32| {
            let head = known(shared, &block, slot);
            (head.aggregation, head.scale) == kind
                && head.mirrors == self.scratch.mirrors
                && head.key_bytes as usize == self.scratch.bytes.len()
                && loads(head.key_words(block.keys)).eq(self.scratch.words.iter().copied())
        };
        let slot = *self.slots.find(hashed, same)?;
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
        self.tell_live(shared, writer);
        Some(handle(writer, slot, head))
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
        let kind = (head.aggregation, head.scale);
        let hashed = hash(&self.hasher, loads(head.key_words(block.keys)), kind);
        match self.slots.find_entry(hashed, |&other| other == slot) {
            Ok(entry) => entry.remove(),
            Err(_) => return None,
        };
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

impl<R: Region> Writer<R> {
    /// The slot that mirrors a cell of a page, made if it is new; `None` if there is no room
    /// for it, or a limit does not allow it.
    pub fn mirror(
        &mut self,
        key: &SeriesKey,
        owner: Owner,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Option<Slot> {
        self.mirror_from(key, owner, (aggregation, scale), [0; 2])
    }

    /// The same for a cell of which an earlier life has counted a sum and events.
    pub(super) fn mirror_from(
        &mut self,
        key: &SeriesKey,
        owner: Owner,
        (aggregation, scale): (Aggregation, Scale),
        counted: [u64; 2],
    ) -> Option<Slot> {
        let kind = (aggregation, scale);
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let length = key.canonical_len();
        if length > MIRRORED_KEY_BYTES_MAX {
            return None;
        }
        table.scratch.set_mirror(key, owner);
        if let Some(slot) = table.find(shared, index, kind) {
            return Some(slot);
        }
        if !shared.admit(key, length) {
            return None;
        }
        let slot = table.publish(shared, index, kind, true, counted)?;
        shared.count_series(Some(key.tenant()), 1);
        Some(slot)
    }

    /// What this writer's slots mirror, with their series.
    pub fn mirrors(&self) -> Vec<(Owner, SeriesKey)> {
        let block = Block::of(&self.shared, self.index);
        let live = self.table.slots.iter();
        live.filter_map(|&slot| {
            let head = known(&self.shared, &block, slot);
            Some((head.owner(block.keys)?, series_of(head, block.keys)?))
        })
        .collect()
    }

    /// The mirrors of a page are not needed any more: nobody will write to it again. Levels
    /// end with it; their slots are retired like those of other idle series, all others at
    /// once, the one that `first` mirrors before the rest.
    pub fn end_mirrors(&mut self, page: PageKey, first: u32, now: Timestamp) {
        self.table.ended.insert(page);
        let mut slots = Vec::new();
        {
            let block = Block::of(&self.shared, self.index);
            for &slot in &self.table.slots {
                let head = known(&self.shared, &block, slot);
                if let Some(owner) = head.owner(block.keys).filter(|o| o.page == page) {
                    let handle = handle(self.index, slot, head);
                    let done = block.sum(slot)[1].load(Relaxed);
                    slots.push((owner.slot != first, slot, handle, head.aggregation, done));
                }
            }
        }
        slots.sort_unstable();
        for (_, slot, handle, aggregation, done) in slots {
            if aggregation == Aggregation::TimeWeighted {
                // A stale one holds nothing.
                let _ = self.set_level(handle, now, 0);
            } else {
                let (shared, table) = (&*self.shared, &mut self.table);
                table.retire(shared, self.index, Retire { slot, done });
            }
        }
    }

    /// The slot of a series, made if it is new.
    ///
    /// Where there is no room for another series, or a limit does not allow it, the slot of
    /// the same tenant and meter with `overflow=true` in place of the dimensions.
    pub fn resolve(
        &mut self,
        key: &SeriesKey,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<Slot, SeriesFull> {
        let resolved = self.resolve_telling(key, aggregation, scale);
        resolved.map(|(slot, _)| slot)
    }

    /// Like [`resolve`](Self::resolve); says besides whether the dimensions had to go. Once
    /// other series are retired the same key may have a slot of its own.
    pub fn resolve_telling(
        &mut self,
        key: &SeriesKey,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<(Slot, bool), SeriesFull> {
        let kind = (aggregation, scale);
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        table.scratch.set(key);
        if let Some(slot) = table.find(shared, index, kind) {
            return Ok((slot, false));
        }
        let length = table.scratch.bytes.len();
        if shared.admit(key, length)
            && let Some(slot) = table.publish(shared, index, kind, true, [0; 2])
        {
            shared.count_series(Some(key.tenant()), 1);
            return Ok((slot, false));
        }
        bump(&shared.cardinality(index).overflowed, 1);
        table
            .tenants
            .overflowed((shared, index), &mut table.heap, key.tenant());
        table.scratch.set(&key.to_overflow());
        if let Some(slot) = table.find(shared, index, kind) {
            return Ok((slot, true));
        }
        let slot = table.publish(shared, index, kind, false, [0; 2]);
        if slot.is_some() {
            shared.count_series(Some(key.tenant()), 1);
        }
        slot.map(|slot| (slot, true)).ok_or(SeriesFull)
    }

    /// Retires series that the sealer has found idle, unless something was counted on them
    /// since. True if any was: handles to it are stale from then on and must not be used.
    ///
    /// To be called now and then, and never while a slot is looked up and not yet counted on.
    pub fn poll_retired(&mut self) -> bool {
        self.poll_retired_into(|_| {})
    }

    /// Like [`poll_retired`](Self::poll_retired); names every slot that is stale now.
    pub fn poll_retired_into(&mut self, mut gone: impl FnMut(Slot)) -> bool {
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let mut any = false;
        while let Some(request) = shared.retire_queue(index).pop() {
            if let Some(slot) = table.retire(shared, index, request) {
                any = true;
                gone(slot);
            }
        }
        if !table.retired.is_empty() {
            table.reclaim(shared, index);
        }
        any
    }

    /// Puts what earlier lives knew of a tenant at the start of this one.
    pub(super) fn carry_tenant(&mut self, tenant: &TenantId, record: &TenantRecord) {
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        let of = (shared, index);
        table.tenants.carry(of, &mut table.heap, tenant, record);
    }

    /// Accounts for `n` received events that were for the series of `slot` and are not counted.
    pub fn rejected_on(&mut self, slot: Slot, reason: super::Rejection, n: u64) {
        match self.tenant_of(slot) {
            Some(tenant) => self.rejected_for(&tenant, reason, n),
            None => self.rejected(reason, n),
        }
    }

    /// Whose a slot is, unless it is stale.
    fn tenant_of(&self, slot: Slot) -> Option<TenantId> {
        let (index, sum) = self.sum_of(slot)?;
        if (sum[1].load(Relaxed) ^ slot.to_bits()) >> sum::EVENTS_BITS != 0 {
            return None;
        }
        let block = Block::of(&*self.shared, self.index);
        let index = u32::try_from(index).ok()?;
        let head = SlotHead::parse(self.layout, block.slot(index))?;
        key_of(head, block.keys)
    }

    /// Accounts for `n` received events of a known tenant that are not counted.
    pub fn rejected_for(&mut self, tenant: &TenantId, reason: super::Rejection, n: u64) {
        self.rejected(reason, n);
        let (shared, index, table) = (&*self.shared, self.index, &mut self.table);
        table
            .tenants
            .rejected((shared, index), &mut table.heap, tenant, (reason, n));
    }
}

/// True if both baselines equal the cell of a slot.
pub(super) fn settled(applied: &AtomicU64, cell: &[AtomicU64], bases: [&[AtomicU64]; 2]) -> bool {
    baseline::settled(applied, cell, bases)
}
