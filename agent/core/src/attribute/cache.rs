//! Remembers what raw lines were resolved to, so that a line seen before costs one hash.
//!
//! The key of a line is its name and its *suffix* (everything from the type on) as raw bytes.
//! Each key lies once in an arena, behind a header of [`HEADER_BYTES`]; a table of cache
//! lines with twelve one-byte tags and twelve offsets each finds it. Table and header
//! together cost 23 to 26 bytes a key.
//!
//! ```text
//! entry    payload u64 | shape u32 | plan u16 | row u16 | name | suffix | [carry u64]
//! shape    name length (9 bits) | suffix length (14) | listener (3) | has carry | is dead
//! bucket   12 tags, overflow u32, 12 offsets u32 = 64 bytes; tag 0 is an empty place
//! ```
//!
//! Lookup is cut into steps ([`LineCache::candidate`], [`LineCache::check`]) so that a caller
//! can take each step for many lines before the next, and the cache misses of those lines
//! overlap. Reads are in whole words past the end of a key and masked; every buffer therefore
//! has [`SLACK_BYTES`] behind the last key.
//!
//! The memory is bounded. When it is used up the oldest keys make room: that costs a live key
//! one slow lookup, needs no bookkeeping on the fast path, and what is forgotten is only a
//! shortcut, no count depends on it.
#![expect(
    clippy::inline_always,
    reason = "these are steps of a loop over lines; see `attribute::load`"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "words are packed and unpacked here: fields of headers, offsets into at most 2 GiB, and lengths that were checked where the line was cut"
)]

use wide::i8x16;

use super::load::{absorb, equal, fold, two_words, word};
use crate::input::Listener;

/// Bytes that must be readable behind a key.
pub const SLACK_BYTES: usize = 16;
/// Bytes of an entry beside its key.
pub const HEADER_BYTES: usize = 16;
/// The least memory of a cache, in bytes.
pub const CACHE_BYTES_MIN: usize = 64 << 10;
/// The most memory of a cache, in bytes: offsets are 32 bits.
pub const CACHE_BYTES_MAX: usize = 2 << 30;
/// Longest name of a key, in bytes.
pub const NAME_BYTES_MAX: usize = (1 << NAME_BITS) - 1;
/// Longest suffix of a key, in bytes.
pub const SUFFIX_BYTES_MAX: usize = (1 << SUFFIX_BITS) - 1;
/// No candidate.
pub const NO_ENTRY: u32 = u32::MAX;

const NAME_BITS: u32 = 9;
const SUFFIX_BITS: u32 = 14;
const LISTENER_AT: u32 = NAME_BITS + SUFFIX_BITS;
const CARRY: u32 = 1 << 26;
const DEAD: u32 = 1 << 27;
const CARRY_BYTES: usize = 8;
/// The arena becomes longer by this much, within the capacity that it has from the start.
const STEP_BYTES: usize = 64 << 10;

/// A line's key as it lies in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct LineKey<'a> {
    /// The bytes around it, with [`SLACK_BYTES`] behind the suffix.
    pub buffer: &'a [u8],
    /// Where the line came in.
    pub listener: Listener,
    /// First byte of the name.
    pub name_at: u32,
    /// Bytes of the name, at most [`NAME_BYTES_MAX`].
    pub name_len: u32,
    /// First byte of the suffix.
    pub suffix_at: u32,
    /// Bytes of the suffix, at most [`SUFFIX_BYTES_MAX`].
    pub suffix_len: u32,
}

impl<'a> LineKey<'a> {
    #[inline(always)]
    fn shape(&self) -> u32 {
        debug_assert!(self.name_len as usize <= NAME_BYTES_MAX);
        debug_assert!(self.suffix_len as usize <= SUFFIX_BYTES_MAX);
        self.name_len | self.suffix_len << NAME_BITS | u32::from(self.listener as u8) << LISTENER_AT
    }

    /// The bytes of the name.
    pub fn name(&self) -> &'a [u8] {
        &self.buffer[self.name_at as usize..][..self.name_len as usize]
    }

    /// The bytes of the suffix.
    pub fn suffix(&self) -> &'a [u8] {
        &self.buffer[self.suffix_at as usize..][..self.suffix_len as usize]
    }
}

/// What a key was resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The caller's word.
    pub payload: u64,
    /// The caller's small number.
    pub plan: u16,
    /// Another one.
    pub row: u16,
}

impl Hit {
    /// From the two words at the start of an entry.
    #[inline(always)]
    fn of((payload, head): (u64, u64)) -> Self {
        Self {
            payload,
            plan: (head >> 32) as u16,
            row: (head >> 48) as u16,
        }
    }
}

/// Twelve places in a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// Twelve tags, then how many keys passed by because the bucket was full (saturating).
    tags: [i8; 16],
    offsets: [u32; PLACES],
}

const PLACES: usize = 12;
const PLACES_MASK: u32 = (1 << PLACES) - 1;
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const EMPTY: Self = Self {
        tags: [0; 16],
        offsets: [0; PLACES],
    };

    /// A bit for each place with this tag.
    #[inline(always)]
    fn places(&self, tag: i8) -> u32 {
        let equal = i8x16::new(self.tags).simd_eq(i8x16::splat(tag));
        equal.to_bitmask() & PLACES_MASK
    }

    fn passed(&self) -> u32 {
        u32::from_le_bytes([12, 13, 14, 15].map(|at: usize| self.tags[at].cast_unsigned()))
    }

    fn set_passed(&mut self, passed: u32) {
        for (tag, byte) in self.tags[PLACES..].iter_mut().zip(passed.to_le_bytes()) {
            *tag = byte.cast_signed();
        }
    }
}

/// A bounded map from [`LineKey`] to [`Hit`].
pub struct LineCache {
    table: Vec<Bucket>,
    buckets_max: usize,
    arena: Vec<u8>,
    arena_max: usize,
    /// Where the next entry is written; entries before it are the newest.
    head: usize,
    /// The entries of the lap before: from the oldest of all to where that lap ended.
    oldest: usize,
    end: usize,
    len: usize,
    evicted: u64,
    seed: u64,
    secret: u64,
}

impl LineCache {
    /// A cache of about `bytes_max` bytes, clamped to [`CACHE_BYTES_MIN`] and
    /// [`CACHE_BYTES_MAX`]. `seed` is random per process, so that senders cannot choose keys
    /// that collide.
    pub fn new(bytes_max: usize, seed: u64) -> Self {
        let bytes_max = bytes_max.clamp(CACHE_BYTES_MIN, CACHE_BYTES_MAX);
        let secret = fold(seed ^ 0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);
        Self {
            table: vec![Bucket::EMPTY; 16],
            buckets_max: bytes_max / 4 / size_of::<Bucket>(),
            // Pages that were never written cost nothing.
            arena: Vec::with_capacity(bytes_max / 4 * 3),
            arena_max: bytes_max / 4 * 3 - SLACK_BYTES,
            head: 0,
            oldest: 0,
            end: 0,
            len: 0,
            evicted: 0,
            seed: seed ^ secret.rotate_left(32),
            secret: secret | 1,
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.table.len() * size_of::<Bucket>()
    }

    /// Entries that had to go so far. While this stays the same, every entry stays where it
    /// is.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The hash of a key.
    #[inline(always)]
    pub fn hash(&self, key: &LineKey<'_>) -> u64 {
        let (hash, bytes) = (self.seed ^ u64::from(key.shape()), key.buffer);
        let hash = absorb(hash, self.secret, bytes, key.name_at, key.name_len);
        absorb(hash, self.secret, bytes, key.suffix_at, key.suffix_len)
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        // Below the number of buckets, which is a usize.
        ((u128::from(hash) * self.table.len() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn tag(hash: u64) -> i8 {
        // The lowest bits: the bucket is chosen by the highest.
        ((hash as u8).max(1)).cast_signed()
    }

    /// The entry that the table names first for a hash, most likely the key's;
    /// [`NO_ENTRY`] if [`find`](Self::find) has to look further.
    #[inline(always)]
    pub fn candidate(&self, hash: u64) -> u32 {
        let bucket = &self.table[self.home(hash)];
        let places = bucket.places(Self::tag(hash));
        let place = places.trailing_zeros() as usize;
        bucket.offsets.get(place).copied().unwrap_or(NO_ENTRY)
    }

    /// What the entry holds, if it is that of the key.
    #[inline(always)]
    pub fn check(&self, entry: u32, key: &LineKey<'_>) -> Option<Hit> {
        let header = two_words(&self.arena, entry)?;
        if header.1 as u32 & !CARRY != key.shape() {
            return None;
        }
        // The arena is at most 2 GiB long.
        let name_at = entry.wrapping_add(HEADER_BYTES as u32);
        let suffix_at = name_at.wrapping_add(key.name_len);
        let (arena, buffer) = (&self.arena, key.buffer);
        let same = equal(buffer, key.name_at, arena, name_at, key.name_len)
            && equal(buffer, key.suffix_at, arena, suffix_at, key.suffix_len);
        same.then(|| Hit::of(header))
    }

    /// The entry of a key and what it holds.
    pub fn find(&self, hash: u64, key: &LineKey<'_>) -> Option<(u32, Hit)> {
        let mut at = self.home(hash);
        for _ in 0..self.table.len() {
            let bucket = &self.table[at];
            let mut places = bucket.places(Self::tag(hash));
            while places != 0 {
                let entry = bucket.offsets[places.trailing_zeros() as usize];
                if let Some(hit) = self.check(entry, key) {
                    return Some((entry, hit));
                }
                places &= places - 1;
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.table.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// Remembers `hit` for a key that is not in the cache; with `carry`, with a word that the
    /// caller may change ([`carry`](Self::carry)).
    pub fn insert(&mut self, hash: u64, key: &LineKey<'_>, hit: Hit, carry: Option<u64>) -> u32 {
        let lengths = key.name_len as usize + key.suffix_len as usize;
        let size = HEADER_BYTES + lengths + carry.map_or(0, |_| CARRY_BYTES);
        self.make_room(size);
        let at = self.head;
        self.head += size;
        if self.arena.len() < self.head + SLACK_BYTES {
            let length = (self.head + SLACK_BYTES).next_multiple_of(STEP_BYTES);
            let most = self.arena_max + SLACK_BYTES;
            self.arena.resize(length.min(most), 0);
        }
        let shape = key.shape() | carry.map_or(0, |_| CARRY);
        let mut rest = &mut self.arena[at..at + size];
        let mut put = |bytes: &[u8]| {
            let (here, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            rest = after;
        };
        put(&hit.payload.to_le_bytes());
        put(&shape.to_le_bytes());
        put(&hit.plan.to_le_bytes());
        put(&hit.row.to_le_bytes());
        put(key.name());
        put(key.suffix());
        if let Some(carry) = carry {
            put(&carry.to_le_bytes());
        }
        let entry = u32::try_from(at).expect("the arena is at most 2 GiB");
        self.len += 1;
        if self.len * 5 > self.table.len() * PLACES * 4 {
            self.grow();
        } else {
            self.link(hash, entry);
        }
        entry
    }

    /// The word of an entry that was inserted with one.
    pub fn carry(&self, entry: u32) -> Option<u64> {
        self.carry_at(entry).map(|at| word(&self.arena, at as u32))
    }

    /// Changes the word of an entry that was inserted with one.
    pub fn set_carry(&mut self, entry: u32, carry: u64) {
        if let Some(at) = self.carry_at(entry) {
            self.arena[at..at + CARRY_BYTES].copy_from_slice(&carry.to_le_bytes());
        }
    }

    /// `None` for [`NO_ENTRY`], too.
    fn carry_at(&self, entry: u32) -> Option<usize> {
        let at = Some(entry as usize).filter(|&at| at < self.arena.len())?;
        let shape = self.shape(at);
        (shape & CARRY != 0).then(|| at + Self::size(shape) - CARRY_BYTES)
    }

    fn shape(&self, at: usize) -> u32 {
        word(&self.arena, at as u32 + 8) as u32
    }

    fn lengths(shape: u32) -> (usize, usize) {
        let name = shape & ((1 << NAME_BITS) - 1);
        let suffix = shape >> NAME_BITS & ((1 << SUFFIX_BITS) - 1);
        (name as usize, suffix as usize)
    }

    fn size(shape: u32) -> usize {
        let (name, suffix) = Self::lengths(shape);
        let carry = if shape & CARRY == 0 { 0 } else { CARRY_BYTES };
        HEADER_BYTES + name + suffix + carry
    }

    fn hash_of(&self, at: usize) -> u64 {
        let shape = self.shape(at) & !(CARRY | DEAD);
        let (name, suffix) = Self::lengths(shape);
        let (name, suffix) = (name as u32, suffix as u32);
        let (at, hash) = ((at + HEADER_BYTES) as u32, self.seed ^ u64::from(shape));
        let hash = absorb(hash, self.secret, &self.arena, at, name);
        absorb(hash, self.secret, &self.arena, at + name, suffix)
    }

    /// Frees `size` bytes at the head, and a place in the table.
    fn make_room(&mut self, size: usize) {
        while self.len >= self.buckets_max * PLACES / 5 * 4 {
            self.evict_oldest();
        }
        if self.head + size > self.arena_max {
            while self.oldest < self.end {
                self.evict_oldest();
            }
            (self.oldest, self.end, self.head) = (0, self.head, 0);
        }
        while self.oldest < self.end && self.oldest < self.head + size {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        if self.oldest == self.end {
            // The lap before is used up: the oldest are those at the start of this one.
            (self.oldest, self.end, self.head) = (0, self.head, 0);
        }
        let shape = self.shape(self.oldest);
        self.remove(self.oldest);
        self.oldest += Self::size(shape);
    }

    fn link(&mut self, hash: u64, entry: u32) {
        let mut at = self.home(hash);
        loop {
            let free = self.table[at].places(0);
            let bucket = &mut self.table[at];
            if let Some(offset) = bucket.offsets.get_mut(free.trailing_zeros() as usize) {
                *offset = entry;
                bucket.tags[free.trailing_zeros() as usize] = Self::tag(hash);
                return;
            }
            bucket.set_passed(bucket.passed().saturating_add(1));
            at = self.after(at);
        }
    }

    /// Takes an entry out of the table; its bytes stay until the head comes by.
    fn remove(&mut self, entry: usize) {
        let shape = self.shape(entry);
        if shape & DEAD != 0 {
            return;
        }
        let hash = self.hash_of(entry);
        let mut at = self.home(hash);
        for _ in 0..self.table.len() {
            let mut places = self.table[at].places(Self::tag(hash));
            while places != 0 {
                let place = places.trailing_zeros() as usize;
                if self.table[at].offsets[place] as usize == entry {
                    self.table[at].tags[place] = 0;
                    self.forget_passing(hash, at);
                    self.arena[entry + 8..entry + 12]
                        .copy_from_slice(&(shape | DEAD).to_le_bytes());
                    self.len -= 1;
                    self.evicted += 1;
                    return;
                }
                places &= places - 1;
            }
            at = self.after(at);
        }
    }

    /// The buckets between home and `found` were passed by one key less.
    fn forget_passing(&mut self, hash: u64, found: usize) {
        let mut at = self.home(hash);
        while at != found {
            let passed = self.table[at].passed();
            if passed != u32::MAX {
                self.table[at].set_passed(passed.saturating_sub(1));
            }
            at = self.after(at);
        }
    }

    /// Makes the table half as large again and links every entry anew.
    fn grow(&mut self) {
        let buckets = (self.table.len() * 3 / 2).min(self.buckets_max.max(16));
        self.table = Vec::new();
        self.table = vec![Bucket::EMPTY; buckets];
        for (from, to) in [(self.oldest, self.end), (0, self.head)] {
            let mut at = from;
            while at < to {
                let shape = self.shape(at);
                if shape & DEAD == 0 {
                    let entry = u32::try_from(at).expect("the arena is at most 2 GiB");
                    self.link(self.hash_of(at), entry);
                }
                at += Self::size(shape);
            }
        }
    }

    /// Forgets the entries for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(Hit) -> bool) {
        for (from, to) in [(self.oldest, self.end), (0, self.head)] {
            let mut at = from;
            while at < to {
                let header = two_words(&self.arena, at as u32).unwrap_or_default();
                let shape = header.1 as u32;
                if shape & DEAD == 0 && !keep(Hit::of(header)) {
                    self.remove(at);
                }
                at += Self::size(shape);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.table.fill(Bucket::EMPTY);
        (self.head, self.oldest, self.end) = (0, 0, 0);
        self.evicted += self.len as u64;
        self.len = 0;
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
