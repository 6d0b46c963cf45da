//! Histograms: how many values fell into each bucket, cumulative.
//!
//! The buckets are those of [`tollgate_common::sketch`]. The exact sum of the values and
//! their number are a [`sum`] cell. The histogram's own cell is a counter of records
//! begun and a directory of chunks; a chunk counts the buckets of one power-of-two range
//! and exists as soon as a value falls into it.
//!
//! A record stores the number of values begun, then the bucket, the sum, and last the number
//! of values done. A reader that loads what is done first and what is begun last, and finds
//! them equal, has seen no record by half. A writer killed within a record leaves them
//! different, at most one record apart; who reads the cells of the dead takes the buckets
//! as they are. The sum wraps at 2^64 like that of any counter, and is refused likewise
//! before a difference could not be told.

use tollgate_common::sketch::bucket_of;

use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::sum::{self, AddError, EVENTS_MASK};
use super::{READ_ATTEMPTS, Room};

/// Buckets, and words that count them, of one chunk.
#[cfg(not(loom))]
pub const CHUNK_BUCKETS: u32 = 128;
/// As few as show the protocol: a model tries every order of their stores.
#[cfg(loom)]
pub const CHUNK_BUCKETS: u32 = 1;
/// Chunks that a histogram may have.
#[cfg(not(loom))]
pub const CHUNKS: u32 = tollgate_common::sketch::BUCKETS / CHUNK_BUCKETS;
/// Values up to 1.
#[cfg(loom)]
pub const CHUNKS: u32 = 2;
const AT_DIRECTORY: usize = 1;
/// Words of a cell: records begun, and two places of chunks in each of the others.
pub const WORDS: usize = AT_DIRECTORY + CHUNKS.div_ceil(2) as usize;

/// The words of a histogram.
#[derive(Clone, Copy)]
pub struct Cell<'a> {
    /// Records begun, and the directory: [`WORDS`].
    pub head: &'a [AtomicU64],
    /// The sum cell: the exact sum of the values, and their number.
    pub sum: &'a [AtomicU64],
    /// The memory that places of chunks refer to.
    pub heap: &'a [AtomicU64],
}

/// One chunk as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkCut {
    /// Which range: its first bucket is this times [`CHUNK_BUCKETS`].
    pub chunk: u32,
    /// Where its words are.
    pub at: u32,
    /// The counts of its buckets, cumulative.
    pub counts: Vec<u64>,
}

/// A histogram at a cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramCut {
    /// The exact sum of all values, wrapping.
    pub sum: u64,
    /// The second word of the sum cell.
    pub done: u64,
    /// The chunks that exist.
    pub chunks: Vec<ChunkCut>,
    /// False if a record was under way in every attempt.
    pub whole: bool,
    /// True if a place was outside of the memory; no writer stores such a place.
    pub damaged: bool,
}

fn directory(chunk: u32) -> (usize, u32) {
    (AT_DIRECTORY + (chunk / 2) as usize, chunk % 2 * 32)
}

fn place(head: &[AtomicU64], chunk: u32) -> usize {
    let (word, shift) = directory(chunk);
    (head[word].load(Acquire) >> shift & 0xffff_ffff) as usize
}

/// All chunks: range and place, which is 0 for those that do not exist.
fn chunks_of(head: &[AtomicU64]) -> impl Iterator<Item = (u32, usize)> + '_ {
    (0..CHUNKS).map(move |chunk| (chunk, place(head, chunk)))
}

/// The chunks that exist: range and place.
pub fn chunks(head: &[AtomicU64]) -> impl Iterator<Item = (u32, u32)> + '_ {
    (0..CHUNKS).filter_map(move |chunk| {
        let at = u32::try_from(place(head, chunk)).unwrap_or(0);
        (at > 0).then_some((chunk, at))
    })
}

impl Cell<'_> {
    /// Records `count` values of `value`, by the cell's only writer.
    ///
    /// A new chunk has `chunk_words` words, at least [`CHUNK_BUCKETS`]; all are zeroed. For
    /// `generation` and `base` see [`sum::add`].
    pub fn record(
        &self,
        room: &mut impl Room,
        chunk_words: u32,
        (value, count): (u64, u64),
        generation: u64,
        base: impl FnOnce() -> u64,
    ) -> Result<(), AddError> {
        let amount = value.checked_mul(count).filter(|&n| n <= sum::ADD_MAX);
        let amount = amount.ok_or(AddError::TooLarge(value))?;
        let (sum, done) = (&self.sum[0], &self.sum[1]);
        let [new, next] = sum::next(sum, done, amount, count, generation, base)?;
        let bucket = bucket_of(value);
        let chunk = bucket / CHUNK_BUCKETS;
        let at = match place(self.head, chunk) {
            0 => self.grow(room, chunk, chunk_words)?,
            at => at,
        };
        let word = &self.heap[at + (bucket % CHUNK_BUCKETS) as usize];
        self.head[0].store(sum::events(next), Relaxed);
        // Who sees any of the stores below also sees that they have begun.
        fence(Release);
        word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
        sum.store(new, Relaxed);
        done.store(next, Release);
        Ok(())
    }

    /// Brings the buckets to what was read in another cell and the sum cell to `to`, by the
    /// cell's only writer: of everything the difference is counted. A writer killed at any point
    /// goes on by doing it again.
    ///
    /// `None` if anything of it would run backwards, by 2^62 or more at once, or by another
    /// number of values in the buckets than in the sum cell. Nothing is counted then, nor with
    /// an error. Otherwise how many values were new.
    pub fn follow(
        &self,
        room: &mut impl Room,
        chunk_words: u32,
        cut: &HistogramCut,
        to: [u64; sum::WORDS],
        generation: u64,
        base: impl Fn() -> u64,
    ) -> Option<Result<u64, AddError>> {
        let events = sum::events_between(to[1], self.sum[1].load(Relaxed));
        // A writer that was killed here has brought some buckets up to date, and said so.
        let again = self.head[0].load(Relaxed) != sum::events(self.sum[1].load(Relaxed));
        let more = self.beyond(cut)?;
        if more > events || more < events && !again {
            return None;
        }
        let amount = to[0].wrapping_sub(self.sum[0].load(Relaxed));
        if amount > sum::ADD_MAX || events > EVENTS_MASK >> 1 {
            return None;
        }
        let some = events.min(sum::EVENTS_MAX);
        if let Err(error) = sum::next(&self.sum[0], &self.sum[1], amount, some, generation, &base) {
            return Some(Err(error));
        }
        for chunk in &cut.chunks {
            if place(self.head, chunk.chunk) == 0
                && let Err(error) = self.grow(room, chunk.chunk, chunk_words)
            {
                return Some(Err(error));
            }
        }
        self.head[0].store(sum::events(to[1]), Relaxed);
        fence(Release);
        for chunk in &cut.chunks {
            let words = &self.heap[place(self.head, chunk.chunk)..];
            for (word, &count) in words.iter().zip(&chunk.counts) {
                word.store(count, Relaxed);
            }
        }
        sum::follow(&self.sum[0], &self.sum[1], to, generation, base)
    }

    /// Gives a cell without chunks those of a cut, whose values are accounted for elsewhere.
    pub fn carry(
        &self,
        room: &mut impl Room,
        chunk_words: u32,
        cut: &HistogramCut,
    ) -> Result<(), AddError> {
        for chunk in &cut.chunks {
            let at = self.grow(room, chunk.chunk, chunk_words)?;
            for (word, &count) in self.heap[at..].iter().zip(&chunk.counts) {
                word.store(count, Relaxed);
            }
        }
        if !cut.whole {
            // Cut short in the life before: the next follow makes it whole.
            self.head[0].store(!self.sum[1].load(Relaxed) & EVENTS_MASK, Relaxed);
        }
        Ok(())
    }

    /// How many values a cut has in its buckets beyond those here. `None` if a bucket would run
    /// backwards, or one is missing.
    pub fn beyond(&self, cut: &HistogramCut) -> Option<u64> {
        let mut chunks = cut.chunks.iter();
        let mut more = 0_u64;
        for (chunk, at) in chunks_of(self.head) {
            let theirs = chunks.as_slice().first().map(|first| first.chunk);
            if at > 0 && theirs != Some(chunk) {
                return None;
            }
            if theirs != Some(chunk) {
                continue;
            }
            let theirs = chunks.next()?;
            for (offset, &count) in theirs.counts.iter().enumerate() {
                let mine = match at {
                    0 => 0,
                    at => self.heap.get(at + offset)?.load(Relaxed),
                };
                let new = count.checked_sub(mine).filter(|&n| n <= EVENTS_MASK)?;
                more = more.checked_add(new)?;
            }
        }
        chunks.next().is_none().then_some(more)
    }

    #[cold]
    fn grow(&self, room: &mut impl Room, chunk: u32, words: u32) -> Result<usize, AddError> {
        let at = room.take(words).ok_or(AddError::NoRoom)?;
        for word in &self.heap[at as usize..][..words as usize] {
            word.store(0, Relaxed);
        }
        let (word, shift) = directory(chunk);
        let word = &self.head[word];
        // The chunk is whole before its place can be seen.
        word.store(word.load(Relaxed) | u64::from(at) << shift, Release);
        Ok(at as usize)
    }

    /// Reads everything into `cut`, whose memory is used again.
    pub fn read(&self, cut: &mut HistogramCut) {
        self.read_within(READ_ATTEMPTS, cut);
    }

    /// The same with few attempts, for memory that is changed by somebody who is not trusted.
    pub fn read_few(&self, cut: &mut HistogramCut) {
        self.read_within(4, cut);
    }

    fn read_within(&self, attempts: u32, cut: &mut HistogramCut) {
        for _ in 0..attempts {
            let done = self.sum[1].load(Acquire);
            self.read_once(cut);
            fence(Acquire);
            let begun = self.head[0].load(Relaxed) & EVENTS_MASK;
            cut.done = done;
            cut.whole = begun == sum::events(done);
            if cut.whole {
                return;
            }
        }
    }

    fn read_once(&self, cut: &mut HistogramCut) {
        cut.sum = self.sum[0].load(Relaxed);
        cut.damaged = false;
        let mut used = 0;
        for (chunk, at) in chunks(self.head) {
            let at_word = at as usize;
            let Some(words) = self.heap.get(at_word..at_word + CHUNK_BUCKETS as usize) else {
                cut.damaged = true;
                continue;
            };
            if cut.chunks.len() == used {
                cut.chunks.push(ChunkCut {
                    chunk,
                    at,
                    counts: Vec::with_capacity(CHUNK_BUCKETS as usize),
                });
            }
            let into = &mut cut.chunks[used];
            (into.chunk, into.at) = (chunk, at);
            into.counts.clear();
            into.counts
                .extend(words.iter().map(|word| word.load(Relaxed)));
            used += 1;
        }
        cut.chunks.truncate(used);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cell::unique::tests::Heap;

    #[test]
    fn values_of_every_size_are_counted_where_they_belong() {
        let (memory, mut heap) = Heap::new(100_000);
        let head: Vec<_> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let sum: Vec<_> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let cell = Cell {
            head: &head,
            sum: &sum,
            heap: &memory,
        };
        let mut expected = std::collections::BTreeMap::new();
        let mut total = 0;
        for bit in 0..57 {
            for value in [1u64 << bit, (1 << bit) + 1, (1 << bit) - 1] {
                cell.record(&mut heap, 384, (value, 3), 0, || 0)
                    .expect("room");
                *expected.entry(bucket_of(value)).or_insert(0) += 3;
                total += value * 3;
            }
        }
        let mut cut = HistogramCut::default();
        cell.read(&mut cut);
        let read: std::collections::BTreeMap<u32, u64> = cut
            .chunks
            .iter()
            .flat_map(|chunk| (chunk.chunk * CHUNK_BUCKETS..).zip(chunk.counts.iter().copied()))
            .filter(|&(_, count)| count > 0)
            .collect();
        assert_eq!((read, cut.sum, cut.done), (expected, total, 57 * 9));
        assert!(cut.whole && !cut.damaged);
        assert!(matches!(
            cell.record(&mut heap, 384, (1 << 60, 4), 0, || 0),
            Err(AddError::TooLarge(_))
        ));
    }

    #[test]
    fn a_record_cut_short_shows() {
        let (memory, mut heap) = Heap::new(1000);
        let head: Vec<_> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let sum: Vec<_> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let cell = Cell {
            head: &head,
            sum: &sum,
            heap: &memory,
        };
        cell.record(&mut heap, 128, (5, 1), 0, || 0).expect("room");
        head[0].store(2, Relaxed);
        let mut cut = HistogramCut::default();
        cell.read(&mut cut);
        assert!(!cut.whole);
        cell.record(&mut heap, 128, (5, 1), 0, || 0).expect("room");
        cell.read(&mut cut);
        assert!(cut.whole);
    }
}
