//! Distinct values of a window, by their hashes.
//!
//! A cell has two halves by the parity of the window, like a [last value](super::halves).
//! Each half has an epoch, the start of its window, a chunk of memory, and the number of
//! inserts over all windows. The chunk is a table of hashes while there are few, of 32, then
//! 128, then 512 words, at most half full; beyond 256 hashes it is the registers of a
//! HyperLogLog sketch ([`tollgate_common::sketch`]), eight to a word.
//!
//! Within an epoch a chunk only gains: a hash is one store, a register is one store of a
//! larger number, and a larger chunk is complete before its place is stored. What a reader
//! copies is therefore a set that was there, perhaps with some of what came while it copied,
//! and merging it with what it reads later gives the same as the later one alone. A half that
//! is cleared for another window has an odd epoch meanwhile, and a reader that meets one, or
//! finds epoch or chunk changed after copying, copies again.
//!
//! What a half holds when it is needed for another window gives way if it is taken: if who reads
//! the cell has all of it. Otherwise it goes on as a part of the newer window: the half gets
//! another window and keeps its chunk. A reader that finds the window changed copies again.
//!
//! The hash 0 marks an empty place of a table, so it counts as the hash 1.

use tollgate_common::sketch::{RANK_MAX, register_of};

use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::sum::AddError;
use super::{CLOCK_STEP_MAX_MILLIS, READ_ATTEMPTS, Room, half_of, window_start};

/// Words of one half: epoch, window, chunk, inserts.
pub const HALF_WORDS: usize = 4;
/// Words of a cell.
pub const WORDS: usize = 2 * HALF_WORDS;
const AT_EPOCH: usize = 0;
const AT_WINDOW: usize = 1;
const AT_CHUNK: usize = 2;
const AT_INSERTS: usize = 3;

/// Words of the chunks of each form, by its code: none, three tables, registers.
#[cfg(not(loom))]
const FORM_WORDS: [u32; 5] = [0, 32, 128, 512, 512];
/// As few words as show the protocol, growth included: a model tries every order of their
/// stores.
#[cfg(loom)]
const FORM_WORDS: [u32; 5] = [0, 2, 4, 4, 4];
const LARGEST_TABLE: u8 = 3;
const REGISTER_FORM: u8 = 4;
const _: () = assert!(FORM_WORDS[LARGEST_TABLE as usize] == FORM_WORDS[REGISTER_FORM as usize]);
#[cfg(not(loom))]
const _: () = assert!(
    FORM_WORDS[LARGEST_TABLE as usize] as usize == 2 * tollgate_common::sketch::EXACT_MAX
        && FORM_WORDS[REGISTER_FORM as usize] as usize * 8 == tollgate_common::sketch::REGISTERS
);

/// A chunk as its word in a half describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it is; 0 for none.
    pub at: u32,
    form: u8,
    /// Hashes in the table.
    used: u16,
}

impl Chunk {
    const NONE: Self = Self {
        at: 0,
        form: 0,
        used: 0,
    };

    #[expect(clippy::cast_possible_truncation, reason = "fields of a word")]
    fn from_word(word: u64) -> Self {
        Self {
            at: word as u32,
            form: (word >> 32) as u8,
            used: (word >> 40) as u16,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.at) | u64::from(self.form) << 32 | u64::from(self.used) << 40
    }

    /// Words that it has.
    pub fn words(self) -> u32 {
        FORM_WORDS.get(usize::from(self.form)).copied().unwrap_or(0)
    }

    fn of(self, heap: &[AtomicU64]) -> &[AtomicU64] {
        &heap[self.at as usize..][..self.words() as usize]
    }
}

/// What [`Cell::read`] found in a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueCut {
    /// Inserts so far, over all windows of the half.
    pub inserts: u64,
    /// Start of the window.
    pub window: i64,
    /// True if what was copied are registers, eight to a word, the first in the lowest bits;
    /// false if it is different hashes in no order.
    pub registers: bool,
}

/// The words of a cell, and the memory that its chunks lie in.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    /// The two halves: [`WORDS`].
    pub halves: &'a [AtomicU64],
    /// The memory that places of chunks refer to.
    pub heap: &'a [AtomicU64],
}

/// The chunks of a cell, so that their room can be given back.
pub fn chunks(halves: &[AtomicU64]) -> impl Iterator<Item = Chunk> + '_ {
    let halves = halves[..WORDS].chunks_exact(HALF_WORDS);
    halves
        .map(|half| Chunk::from_word(half[AT_CHUNK].load(Relaxed)))
        .filter(|chunk| chunk.at > 0)
}

/// The number of inserts of a whole cell.
pub fn events(halves: &[AtomicU64]) -> u64 {
    let inserts = |half: usize| halves[half * HALF_WORDS + AT_INSERTS].load(Relaxed);
    inserts(0).wrapping_add(inserts(1))
}

impl<'a> Cell<'a> {
    fn half(&self, half: usize) -> &'a [AtomicU64] {
        &self.halves[half * HALF_WORDS..][..HALF_WORDS]
    }

    /// The number of inserts of a half (0 or 1), over all windows.
    pub fn inserts(&self, half: usize) -> u64 {
        let at = half * HALF_WORDS + AT_INSERTS;
        self.halves.get(at).map_or(0, |word| word.load(Acquire))
    }

    /// Inserts a hash at the time `now`, by the cell's only writer. Time goes back as little
    /// as in [`set`](super::halves::set). `taken` says whether a half (0 or 1) that shows so many
    /// inserts is taken; it is asked only when another window begins.
    pub fn insert(
        &self,
        room: &mut impl Room,
        (now, width): (i64, i64),
        hash: u64,
        taken: impl FnOnce(usize, u64) -> bool,
    ) -> Result<(), AddError> {
        let window = window_start(now, width);
        let newest = [0, 1].into_iter().filter_map(|half| {
            let half = self.half(half);
            (half[AT_INSERTS].load(Relaxed) > 0)
                .then(|| half[AT_WINDOW].load(Relaxed).cast_signed())
        });
        let window = newest
            .max()
            .filter(|newest| *newest <= window.saturating_add(CLOCK_STEP_MAX_MILLIS))
            .map_or(window, |newest| newest.max(window));
        let index = half_of(window, width);
        let half = self.half(index);
        self.begin(half, window, |inserts| taken(index, inserts));
        self.put(half, room, hash.max(1))?;
        half[AT_INSERTS].store(half[AT_INSERTS].load(Relaxed).wrapping_add(1), Release);
        Ok(())
    }

    /// Makes a half that of a window.
    fn begin(&self, half: &[AtomicU64], window: i64, taken: impl FnOnce(u64) -> bool) {
        let inserts = half[AT_INSERTS].load(Relaxed);
        let other = half[AT_WINDOW].load(Relaxed).cast_signed() != window;
        // A clear is only begun of what is taken.
        let cut_short = half[AT_EPOCH].load(Relaxed) & 1 == 1;
        if inserts == 0 || cut_short || other && taken(inserts) {
            self.clear(half, window);
        } else if other {
            half[AT_WINDOW].store(window.cast_unsigned(), Relaxed);
            // Who sees what is put in from here on also sees the window.
            fence(Release);
        }
    }

    /// Empties a half for another window. Registers become the largest table, which is as
    /// large: who was many in one window will be in the next.
    #[cold]
    fn clear(&self, half: &[AtomicU64], window: i64) {
        let epoch = half[AT_EPOCH].load(Relaxed) | 1;
        half[AT_EPOCH].store(epoch, Relaxed);
        // Who sees any of the stores below also sees the odd epoch.
        fence(Release);
        let mut chunk = Chunk::from_word(half[AT_CHUNK].load(Relaxed));
        (chunk.form, chunk.used) = (chunk.form.min(LARGEST_TABLE), 0);
        for word in chunk.of(self.heap) {
            word.store(0, Relaxed);
        }
        half[AT_CHUNK].store(chunk.word(), Relaxed);
        half[AT_WINDOW].store(window.cast_unsigned(), Relaxed);
        half[AT_EPOCH].store(epoch.wrapping_add(1), Release);
    }

    /// Brings a half (0 or 1) to what [`Cell::read`] copied out of that of another cell, by the
    /// cell's only writer: of the same window, or where this cell's is not `taken`, both are
    /// merged, and the number of inserts becomes the same. A writer killed at any point goes on by
    /// doing it again.
    pub fn follow(
        &self,
        room: &mut impl Room,
        (index, cut): (usize, &UniqueCut),
        content: &[u64],
        taken: impl FnOnce(usize, u64) -> bool,
    ) -> Result<(), AddError> {
        let half = self.half(index);
        self.begin(half, cut.window, |inserts| taken(index, inserts));
        if cut.registers {
            self.raise_all(half, room, content)?;
        } else {
            for &hash in content {
                self.put(half, room, hash.max(1))?;
            }
        }
        half[AT_INSERTS].store(cut.inserts, Release);
        Ok(())
    }

    /// Begins a half of a cell of zeros where another one stands whose inserts are accounted
    /// for elsewhere.
    pub fn carry(&self, half: usize, cut: &UniqueCut) {
        let half = self.half(half);
        half[AT_WINDOW].store(cut.window.cast_unsigned(), Relaxed);
        half[AT_INSERTS].store(cut.inserts, Release);
    }

    fn raise_all(
        &self,
        half: &[AtomicU64],
        room: &mut impl Room,
        registers: &[u64],
    ) -> Result<(), AddError> {
        loop {
            let chunk = Chunk::from_word(half[AT_CHUNK].load(Relaxed));
            if chunk.form != REGISTER_FORM {
                self.grow(half, room, chunk)?;
                continue;
            }
            for (word, &other) in chunk.of(self.heap).iter().zip(registers) {
                let (mine, theirs) = (word.load(Relaxed).to_le_bytes(), other.to_le_bytes());
                let larger = std::array::from_fn(|at| mine[at].max(theirs[at].min(RANK_MAX)));
                word.store(u64::from_le_bytes(larger), Relaxed);
            }
            return Ok(());
        }
    }

    fn put(&self, half: &[AtomicU64], room: &mut impl Room, hash: u64) -> Result<(), AddError> {
        loop {
            let chunk = Chunk::from_word(half[AT_CHUNK].load(Relaxed));
            if chunk.form == REGISTER_FORM {
                raise(chunk.of(self.heap), hash);
                return Ok(());
            }
            let free = match find(chunk.of(self.heap), hash) {
                Found::There => return Ok(()),
                Found::Free(free) => Some(free),
                Found::NoTable => None,
            };
            let full = u32::from(chunk.used) * 2 >= chunk.words();
            if let (Some(free), false) = (free, full) {
                // One store inserts. The number of hashes may be one behind if the writer is
                // killed here, which makes a table at worst fuller by one.
                free.store(hash, Release);
                let used = chunk.used + 1;
                half[AT_CHUNK].store(Chunk { used, ..chunk }.word(), Relaxed);
                return Ok(());
            }
            self.grow(half, room, chunk)?;
        }
    }

    /// Replaces a chunk by the next larger one with the same content.
    #[cold]
    fn grow(&self, half: &[AtomicU64], room: &mut impl Room, old: Chunk) -> Result<(), AddError> {
        let mut chunk = Chunk {
            form: old.form + 1,
            ..Chunk::NONE
        };
        chunk.at = room.take(chunk.words()).ok_or(AddError::NoRoom)?;
        let words = chunk.of(self.heap);
        for word in words {
            word.store(0, Relaxed);
        }
        let hashes = old.of(self.heap).iter().map(|word| word.load(Relaxed));
        for hash in hashes.filter(|&hash| hash > 0) {
            if chunk.form == REGISTER_FORM {
                raise(words, hash);
            } else if let Found::Free(free) = find(words, hash) {
                free.store(hash, Relaxed);
                chunk.used += 1;
            }
        }
        // The new chunk is whole before its place can be seen, and seen before anything else
        // is stored to the old one.
        half[AT_CHUNK].store(chunk.word(), Release);
        fence(Release);
        if old.at > 0 {
            room.give(old.at, old.words());
        }
        Ok(())
    }

    /// Copies the content of a half (0 or 1) into `into`. `None` while the writer clears the
    /// half, or where the chunk is not in the memory.
    pub fn read(&self, half: usize, into: &mut Vec<u64>) -> Option<UniqueCut> {
        let half = self.half(half);
        for _ in 0..READ_ATTEMPTS {
            into.clear();
            let epoch = half[AT_EPOCH].load(Acquire);
            let inserts = half[AT_INSERTS].load(Acquire);
            let chunk = Chunk::from_word(half[AT_CHUNK].load(Acquire));
            let window = half[AT_WINDOW].load(Relaxed).cast_signed();
            let end = chunk.at.checked_add(chunk.words())?;
            let words = self.heap.get(chunk.at as usize..end as usize)?;
            let registers = chunk.form == REGISTER_FORM;
            let words = words.iter().map(|word| word.load(Acquire));
            into.extend(words.filter(|&word| registers || word > 0));
            fence(Acquire);
            let now = Chunk::from_word(half[AT_CHUNK].load(Relaxed));
            let same = (now.at, now.form) == (chunk.at, chunk.form)
                && half[AT_WINDOW].load(Relaxed).cast_signed() == window;
            if epoch & 1 == 0 && half[AT_EPOCH].load(Relaxed) == epoch && same {
                return Some(UniqueCut {
                    inserts,
                    window,
                    registers,
                });
            }
        }
        None
    }
}

enum Found<'a> {
    There,
    Free(&'a AtomicU64),
    NoTable,
}

fn find(table: &[AtomicU64], hash: u64) -> Found<'_> {
    if table.is_empty() {
        return Found::NoTable;
    }
    // The low bits: the high ones choose the register.
    let start = usize::try_from(hash & 0xffff).unwrap_or(0) % table.len();
    for word in table[start..].iter().chain(&table[..start]) {
        match word.load(Relaxed) {
            0 => return Found::Free(word),
            there if there == hash => return Found::There,
            _ => {}
        }
    }
    Found::NoTable
}

fn raise(registers: &[AtomicU64], hash: u64) {
    let (register, rank) = register_of(hash);
    let word = &registers[usize::from(register / 8)];
    let shift = register % 8 * 8;
    let value = word.load(Relaxed);
    if value >> shift & 0xff < u64::from(rank) {
        let others = value & !(0xff << shift);
        word.store(others | u64::from(rank) << shift, Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use tollgate_common::sketch::REGISTERS;

    use super::*;

    const TAKEN: fn(usize, u64) -> bool = |_, _| true;

    /// Memory that is never given back.
    pub(in crate::cell) struct Heap {
        next: u32,
        end: u32,
        given: u32,
    }

    impl Heap {
        pub(in crate::cell) fn new(words: u32) -> (Vec<AtomicU64>, Self) {
            // Whatever was there before.
            let memory = (0..words).map(|_| AtomicU64::new(u64::MAX)).collect();
            let heap = Self {
                next: 1,
                end: words,
                given: 0,
            };
            (memory, heap)
        }
    }

    impl Room for Heap {
        fn take(&mut self, words: u32) -> Option<u32> {
            let at = self.next;
            self.next = at.checked_add(words).filter(|next| *next <= self.end)?;
            Some(at)
        }

        fn give(&mut self, _: u32, words: u32) {
            self.given += words;
        }
    }

    /// Spreads numbers like a hash does.
    fn hash(n: u64) -> u64 {
        tollgate_common::sketch::hash(&n.to_le_bytes())
    }

    fn halves() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn few_are_kept_as_they_are_and_many_as_registers() {
        let (memory, mut heap) = Heap::new(4000);
        let halves = halves();
        let cell = Cell {
            halves: &halves,
            heap: &memory,
        };
        let mut copy = Vec::new();
        let mut seen = BTreeSet::new();
        for n in 0..256 {
            for _ in 0..2 {
                cell.insert(&mut heap, (5_000, 10_000), hash(n), TAKEN)
                    .expect("room");
            }
            seen.insert(hash(n));
            let cut = cell.read(0, &mut copy).expect("quiet");
            assert_eq!((cut.inserts, cut.registers), ((n + 1) * 2, false));
            assert_eq!(copy.iter().copied().collect::<BTreeSet<_>>(), seen);
        }
        for n in 256..1000 {
            cell.insert(&mut heap, (5_000, 10_000), hash(n), TAKEN)
                .expect("room");
        }
        let cut = cell.read(0, &mut copy).expect("quiet");
        assert!(cut.registers);
        let mut expected = vec![0u8; REGISTERS];
        for n in 0..1000 {
            let (register, rank) = register_of(hash(n));
            let register = &mut expected[usize::from(register)];
            *register = rank.max(*register);
        }
        let bytes: Vec<u8> = copy.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes, expected);
        assert_eq!(heap.given, 32 + 128 + 512);
    }

    #[test]
    fn a_half_begins_anew_with_its_next_window() {
        let (memory, mut heap) = Heap::new(4000);
        let halves = halves();
        let cell = Cell {
            halves: &halves,
            heap: &memory,
        };
        let mut copy = Vec::new();
        for n in 0..600 {
            cell.insert(&mut heap, (5_000, 10_000), hash(n), TAKEN)
                .expect("room");
        }
        cell.insert(&mut heap, (15_000, 10_000), 0, TAKEN)
            .expect("room");
        cell.insert(&mut heap, (14_000, 10_000), 2, TAKEN)
            .expect("room");
        cell.insert(&mut heap, (9_000, 10_000), 3, TAKEN)
            .expect("room");
        let cut = cell.read(1, &mut copy).expect("quiet");
        assert_eq!((cut.window, cut.inserts, copy.len()), (10_000, 3, 3));
        cell.insert(&mut heap, (25_000, 10_000), 7, TAKEN)
            .expect("room");
        let cut = cell.read(0, &mut copy).expect("quiet");
        assert_eq!(
            (cut.window, cut.inserts, cut.registers),
            (20_000, 601, false)
        );
        assert_eq!(copy, [7]);
    }

    #[test]
    fn what_nobody_has_taken_goes_on_in_a_newer_window() {
        let (memory, mut heap) = Heap::new(4000);
        let halves = halves();
        let cell = Cell {
            halves: &halves,
            heap: &memory,
        };
        let mut copy = Vec::new();
        for (now, hash) in [(5_000, 7), (15_000, 8), (25_000, 9)] {
            let taken = |half, inserts| (half, inserts) != (0, 1);
            cell.insert(&mut heap, (now, 10_000), hash, taken)
                .expect("room");
        }
        let cut = cell.read(0, &mut copy).expect("quiet");
        copy.sort_unstable();
        assert_eq!((cut.window, cut.inserts), (20_000, 2));
        assert_eq!(copy, [7, 9]);

        // What follows keeps it in the same way.
        let (to, mut room) = (super::tests::halves(), Heap::new(4000));
        let to = Cell {
            halves: &to,
            heap: &room.0,
        };
        to.insert(&mut room.1, (5_000, 10_000), 5, TAKEN)
            .expect("room");
        to.follow(&mut room.1, (0, &cut), &copy, |_, _| false)
            .expect("room");
        let followed = to.read(0, &mut copy).expect("quiet");
        copy.sort_unstable();
        assert_eq!((followed, &copy[..]), (cut, &[5, 7, 9][..]));
    }

    #[test]
    fn a_clear_cut_short_is_made_again() {
        let (memory, mut heap) = Heap::new(4000);
        let halves = halves();
        let cell = Cell {
            halves: &halves,
            heap: &memory,
        };
        cell.insert(&mut heap, (5_000, 10_000), 7, TAKEN)
            .expect("room");
        halves[AT_EPOCH].store(3, Relaxed);
        let mut copy = Vec::new();
        assert_eq!(cell.read(0, &mut copy), None);
        cell.insert(&mut heap, (5_000, 10_000), 8, TAKEN)
            .expect("room");
        cell.read(0, &mut copy).expect("whole again");
        assert_eq!(copy, [8]);
    }

    #[test]
    fn without_room_a_value_is_refused_and_nothing_else_happens() {
        let (memory, mut heap) = Heap::new(40);
        let halves = halves();
        let cell = Cell {
            halves: &halves,
            heap: &memory,
        };
        for n in 0..16 {
            cell.insert(&mut heap, (5_000, 10_000), hash(n), TAKEN)
                .expect("room");
        }
        let refused = cell.insert(&mut heap, (5_000, 10_000), hash(16), TAKEN);
        assert_eq!(refused, Err(AddError::NoRoom));
        cell.insert(&mut heap, (5_000, 10_000), hash(3), TAKEN)
            .expect("there already");
        assert_eq!(events(&halves), 17);
    }
}
