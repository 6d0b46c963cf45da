//! Slots: what a cell counts.
//!
//! A slot describes one series of one writer: where its key lies among the writer's keys,
//! its aggregation and scale, its generation and a checksum over all of that. The key of a
//! series that does not fit into a sum cell follows a word with the place of its wide cell.
//! A slot is complete before the writer publishes it. A reader checks it before it believes it.
//!
//! A slot is given to another series when its series has been idle and everything it had
//! counted is sealed. Its state says how far that is: live, retired (nothing is counted any
//! more), free. The cell carries the generation too, and only if both agree the slot is
//! what the cell counts for: the same generation for a live slot, the next one for a
//! retired slot.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;
use tollgate_common::{Aggregation, Scale, SeriesKey};

use super::layout::CellsLayout;
use super::owner::{OWNER_BYTES, Owner};
use super::words::{Put, append_bytes, crc32c, get_bytes, words_for};

/// Whether a slot is in use. The values differ in many bits, so that damage shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A series counts here.
    Live = 0x4c49,
    /// Nothing is counted here any more; the key stays until everything is sealed.
    Retired = 0x5254,
    /// Nobody's.
    Free = 0x46ba,
}

impl State {
    fn from_bits(bits: u64) -> Option<Self> {
        let states = [Self::Live, Self::Retired, Self::Free];
        states.into_iter().find(|&state| state as u64 == bits)
    }
}

/// A slot's own words, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotHead {
    /// First word of the key among the writer's keys, or of the place that it follows.
    pub(crate) key_at: u32,
    /// Bytes of the key, that of the owner included.
    pub(crate) key_bytes: u32,
    /// True if the key ends with the owner of a cell that the slot mirrors.
    pub(crate) mirrors: bool,
    pub(crate) aggregation: Aggregation,
    pub(crate) scale: Scale,
    pub(crate) generation: u16,
    pub(crate) state: State,
}

/// Where the key of a series lies, and its scale: eight bytes, so that they can be kept for
/// every row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyPlace {
    /// First word of the canonical form among the writer's keys.
    at: u32,
    bytes: u16,
    pub(crate) scale: Scale,
}

impl KeyPlace {
    /// No key at all.
    pub(crate) const NONE: Self = Self {
        at: 0,
        bytes: 0,
        scale: Scale::ZERO,
    };

    /// Bytes of the canonical form.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        self.bytes.into()
    }

    #[inline]
    pub(crate) fn words(self, keys: &[AtomicU64]) -> &[AtomicU64] {
        let at = self.at as usize;
        &keys[at..at + words_for(self.bytes())]
    }
}

/// A slot whose checksum and key were good.
#[derive(Clone, Debug)]
pub(crate) struct SlotKey {
    pub(crate) key: SeriesKey,
    /// The cell of a page that this slot mirrors, if it does.
    pub(crate) owner: Option<Owner>,
    /// For a mirror, what its sum cell shows where the mirrored one shows zero.
    pub(crate) origin: Option<[u64; 2]>,
    pub(crate) aggregation: Aggregation,
    pub(crate) scale: Scale,
    /// Place of the wide cell; 0 for sums.
    pub(crate) place: u32,
    /// Events that the cell showed when the slot was made.
    pub(crate) before: u64,
}

/// What a slot is for, at the generation that its cell has.
#[derive(Clone, Debug)]
pub(crate) enum SlotUse {
    /// For this series.
    Series(SlotKey),
    /// For nobody, so far.
    Free,
    /// Its words contradict each other: what its cell has counted is not known.
    Damaged,
}

/// Words before the key of a mirror, or of a slot that has had other series: what the cell counts
/// on from.
const START_WORDS: usize = 2;

/// True if a series of this aggregation has a wide cell beside its sum cell.
pub(crate) fn is_wide(aggregation: Aggregation) -> bool {
    aggregation != Aggregation::Sum
}

impl SlotHead {
    /// True if the key follows what the cell counts on from.
    fn starts(self) -> bool {
        self.mirrors || self.generation > 0
    }

    /// Words before the key itself: the place of a wide cell, and the origin.
    fn prefix(self) -> usize {
        usize::from(is_wide(self.aggregation)) + if self.starts() { START_WORDS } else { 0 }
    }

    fn origin_words(self, keys: &[AtomicU64]) -> &[AtomicU64] {
        let at = self.key_at as usize + usize::from(is_wide(self.aggregation));
        &keys[at..at + if self.starts() { START_WORDS } else { 0 }]
    }

    /// What the sum cell of a mirror shows when the cell that it mirrors shows zero: a slot may
    /// have counted for others before, and the cell of a page for earlier lives. Of another slot
    /// that has had other series, what the cell showed when it was made.
    pub(crate) fn origin(self, keys: &[AtomicU64]) -> Option<[u64; 2]> {
        match self.origin_words(keys) {
            [sum, events] => Some([sum.load(Relaxed), events.load(Relaxed)]),
            _ => None,
        }
    }

    /// Writes the origin, where there is one.
    pub(crate) fn put_origin(self, keys: &[AtomicU64], origin: [u64; 2]) {
        for (word, value) in self.origin_words(keys).iter().zip(origin) {
            word.put(value, Relaxed);
        }
    }

    /// Words of key and place.
    pub(crate) fn room(self) -> u32 {
        let words = self.prefix() + words_for(self.key_bytes as usize);
        u32::try_from(words).expect("keys are short")
    }

    /// The words of the key itself among all `keys`.
    pub(crate) fn key_words(self, keys: &[AtomicU64]) -> &[AtomicU64] {
        let at = self.key_at as usize + self.prefix();
        &keys[at..at + words_for(self.key_bytes as usize)]
    }

    /// The place of the wide cell; 0 for sums.
    pub(crate) fn place(self, keys: &[AtomicU64]) -> u32 {
        if is_wide(self.aggregation) {
            let place = keys[self.key_at as usize].load(Relaxed);
            u32::try_from(place).unwrap_or(u32::MAX)
        } else {
            0
        }
    }

    /// Bytes of the series' canonical form at the start of the key.
    pub(crate) fn series_bytes(self) -> usize {
        let owner = if self.mirrors { OWNER_BYTES } else { 0 };
        (self.key_bytes as usize).saturating_sub(owner)
    }

    /// The cell that a slot mirrors, if it does.
    pub(crate) fn owner(self, keys: &[AtomicU64]) -> Option<Owner> {
        if !self.mirrors {
            return None;
        }
        let key = get_bytes(self.key_words(keys), self.key_bytes as usize);
        Owner::from_bytes(key.get(self.series_bytes()..)?)
    }

    fn first_word(self) -> u64 {
        u64::from(self.key_at) << 32
            | u64::from(self.key_bytes) << 16
            | u64::from(self.mirrors) << 31
            | u64::from(self.aggregation.code()) << 8
            | u64::from(self.scale.get())
    }

    /// Reads what the checksum is made of into `bytes`, which are its own then; the key begins
    /// at the place that this gives.
    fn read_covered(self, keys: &[AtomicU64], bytes: &mut Vec<u8>) -> usize {
        bytes.clear();
        bytes.extend_from_slice(&self.first_word().to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.place(keys).to_le_bytes());
        for value in self.origin(keys).into_iter().flatten() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let key = bytes.len();
        append_bytes(self.key_words(keys), self.key_bytes as usize, bytes);
        key
    }

    fn checksum(self, keys: &[AtomicU64]) -> u64 {
        let mut bytes = Vec::with_capacity(64 + self.key_bytes as usize);
        self.read_covered(keys, &mut bytes);
        u64::from(crc32c(&bytes))
    }

    /// Where the series' key lies.
    #[inline]
    pub(crate) fn key_place(self) -> KeyPlace {
        let prefix = u32::try_from(self.prefix()).expect("at most three words");
        KeyPlace {
            at: self.key_at + prefix,
            bytes: u16::try_from(self.series_bytes()).expect("15 bits"),
            scale: self.scale,
        }
    }

    /// Writes the slot, whose key and place are among `keys` already.
    pub(crate) fn write(self, slot: &[AtomicU64], keys: &[AtomicU64]) {
        let second =
            (self.state as u64) << 48 | u64::from(self.generation) << 32 | self.checksum(keys);
        slot[0].put(self.first_word(), Relaxed);
        slot[1].put(second, Release);
    }

    /// Stores another state. What is stored after a slot became free is not seen before that.
    pub(crate) fn set_state(slot: &[AtomicU64], state: State) {
        let second = slot[1].load(Relaxed) & (u64::MAX >> 16) | (state as u64) << 48;
        slot[1].put(second, Release);
        fence(Release);
    }

    /// Reads the words of a slot, or `None` where they name something that cannot be. The
    /// checksum is not looked at.
    #[inline]
    pub(crate) fn parse(layout: CellsLayout, slot: &[AtomicU64]) -> Option<Self> {
        Self::from_words(layout, [slot[0].load(Relaxed), slot[1].load(Relaxed)])
    }

    #[inline]
    fn from_words(layout: CellsLayout, [first, second]: [u64; 2]) -> Option<Self> {
        let head = Self {
            key_at: u32::try_from(first >> 32).ok()?,
            key_bytes: u32::try_from(first >> 16 & 0x7fff).ok()?,
            mirrors: first >> 31 & 1 == 1,
            aggregation: Aggregation::from_code(u8::try_from(first >> 8 & 0xff).ok()?)?,
            scale: Scale::new(u8::try_from(first & 0xff).ok()?).ok()?,
            generation: u16::try_from(second >> 32 & 0xffff).ok()?,
            state: State::from_bits(second >> 48)?,
        };
        let end = u64::from(head.key_at) + u64::from(head.room());
        let inside =
            head.key_bytes as usize <= SERIES_KEY_BYTES_MAX && end <= u64::from(layout.arena());
        inside.then_some(head)
    }

    /// True if the checksum is good.
    pub(crate) fn is_whole(self, slot: &[AtomicU64], keys: &[AtomicU64]) -> bool {
        slot[1].load(Relaxed) & 0xffff_ffff == self.checksum(keys)
    }

    /// True if a cell of this generation belongs to this life of the slot.
    pub(crate) fn agrees(self, generation: u16) -> bool {
        match self.state {
            State::Live => generation == self.generation,
            // The state is stored first.
            State::Retired => generation.wrapping_sub(self.generation) <= 1,
            State::Free => false,
        }
    }
}

/// What a slot is for, before its key is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// For the series of the key.
    Series(SlotHead),
    /// For nobody, so far.
    Free,
    /// Its words contradict each other.
    Damaged,
}

/// What a slot is for, given the generation of its cell; the key goes into `key`. The writer may
/// be giving the slot to another series meanwhile.
pub(crate) fn find(
    layout: CellsLayout,
    slot: &[AtomicU64],
    keys: &[AtomicU64],
    generation: u16,
    key: &mut Vec<u8>,
) -> Found {
    loop {
        let words = [slot[0].load(Relaxed), slot[1].load(Acquire)];
        let found = find_words(layout, words, keys, generation, key);
        fence(Acquire);
        if slot[1].load(Relaxed) == words[1] && slot[0].load(Relaxed) == words[0] {
            return found;
        }
    }
}

fn find_words(
    layout: CellsLayout,
    words: [u64; 2],
    keys: &[AtomicU64],
    generation: u16,
    key: &mut Vec<u8>,
) -> Found {
    if State::from_bits(words[1] >> 48) == Some(State::Free) {
        return Found::Free;
    }
    let Some(head) = SlotHead::from_words(layout, words) else {
        return Found::Damaged;
    };
    let at = head.read_covered(keys, key);
    if words[1] & 0xffff_ffff != u64::from(crc32c(key)) {
        return Found::Damaged;
    }
    if !head.agrees(generation) {
        // Killed, or met, between writing the slot and handing the cell over.
        return Found::Free;
    }
    key.drain(..at);
    key.truncate(head.series_bytes());
    Found::Series(head)
}

/// The same with the key as a value.
pub(crate) fn read(
    layout: CellsLayout,
    slot: &[AtomicU64],
    keys: &[AtomicU64],
    generation: u16,
) -> SlotUse {
    let mut key = Vec::new();
    match find(layout, slot, keys, generation, &mut key) {
        Found::Series(head) => match SeriesKey::from_canonical(&key) {
            Ok(key) => SlotUse::Series(SlotKey {
                key,
                aggregation: head.aggregation,
                scale: head.scale,
                place: head.place(keys),
                before: head.origin(keys).map_or(0, |[_, events]| events),
                owner: head.owner(keys),
                origin: head.origin(keys),
            }),
            Err(_) => SlotUse::Damaged,
        },
        Found::Free => SlotUse::Free,
        Found::Damaged => SlotUse::Damaged,
    }
}
