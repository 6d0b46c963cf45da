//! Wide cells: what does not fit into a sum cell.
//!
//! Every series has a sum cell, whose second word counts its events. Last values, maxima,
//! levels, histograms and distinct counts have a wide cell besides, among the writer's
//! wide cells: a word that names slot and generation, the words of the cell
//! ([`tollgate::cell`] says what they mean), and the baselines of both parities. Histograms
//! and distinct counts refer to chunks in the same area.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{baseline, halves, histogram, level, unique};
use tollgate_common::Aggregation;

use super::words::Put;

/// Words of a chunk of a histogram: its counts, and their baselines of both parities.
pub(crate) const CHUNK_WORDS: u32 = 3 * histogram::CHUNK_BUCKETS;

const AT_CELL: usize = 1;

/// Words of the cell itself, and of one of its baselines.
const fn sizes(aggregation: Aggregation) -> (usize, usize) {
    match aggregation {
        Aggregation::Sum => (0, 0),
        Aggregation::Last | Aggregation::Max => (halves::WORDS, 2),
        Aggregation::TimeWeighted => (level::WORDS, 3),
        Aggregation::Unique => (unique::WORDS, 2),
        // The baselines are in the chunks and in those of the sum cell.
        Aggregation::Distribution => (histogram::WORDS, 0),
    }
}

/// Words behind the baselines. Of a last value it is one: the numbers of the last set of each half,
/// the even one in the low half of the word, which tell the newest value of several writers.
const fn behind(aggregation: Aggregation) -> usize {
    match aggregation {
        Aggregation::Last | Aggregation::Max => 1,
        _ => 0,
    }
}

/// Words of a whole wide cell.
pub(crate) fn words(aggregation: Aggregation) -> u32 {
    let (cell, base) = sizes(aggregation);
    u32::try_from(AT_CELL + cell + 2 * base + behind(aggregation)).expect("a few words")
}

/// Words that the wide cell of a level takes.
pub(crate) fn level_words() -> u32 {
    words(Aggregation::TimeWeighted).next_multiple_of(super::layout::WIDE_UNIT)
}

// Cells of agents before the numbers of sets were there have room for them.
const _: () = assert!(AT_SETS + 1 == 2 * super::layout::WIDE_UNIT as usize);

/// The word with the numbers of sets, within the wide cell of a last value.
const AT_SETS: usize = AT_CELL + halves::WORDS + 2 * 2;

/// Notes the number of the last set of a half (0 or 1) of a last value.
pub(crate) fn put_set(wide: &[AtomicU64], half: usize, number: u32) {
    if let Some(word) = wide.get(AT_SETS) {
        let shift = 32 * (half & 1);
        let other = word.load(Relaxed) & !(u64::from(u32::MAX) << shift);
        word.put(other | u64::from(number) << shift, Relaxed);
    }
}

/// The numbers of the last sets of both halves of a last value; 0 if they are not known.
pub(crate) fn sets(wide: &[AtomicU64]) -> [u32; 2] {
    let word = wide.get(AT_SETS).map_or(0, |word| word.load(Relaxed));
    [0, 32].map(|shift| u32::try_from(word >> shift & u64::from(u32::MAX)).unwrap_or(0))
}

/// The larger one of them.
pub(crate) fn newest_set(wide: &[AtomicU64]) -> u32 {
    let [even, odd] = sets(wide);
    even.max(odd)
}

/// The words of the cell within a wide cell.
pub(crate) fn cell_range(aggregation: Aggregation) -> Range<usize> {
    AT_CELL..AT_CELL + sizes(aggregation).0
}

/// The words of the baseline that batch `sequence` writes, within a wide cell.
pub(crate) fn base_range(aggregation: Aggregation, sequence: u64) -> Range<usize> {
    let (cell, base) = sizes(aggregation);
    let at = AT_CELL + cell + baseline::parity(sequence) * base;
    at..at + base
}

/// The words of a chunk's baseline that batch `sequence` writes, within the chunk.
pub(crate) fn chunk_base_range(sequence: u64) -> Range<usize> {
    let buckets = histogram::CHUNK_BUCKETS as usize;
    let at = buckets * (1 + baseline::parity(sequence));
    at..at + buckets
}

/// Writes the first word: the slot, and the generation in its high bits. It is for those who
/// look into a file; the slot refers to the cell.
pub(crate) fn put_owner(wide: &[AtomicU64], slot: u32, generation: u16) {
    wide[0].put(u64::from(generation) << 48 | u64::from(slot), Relaxed);
}

/// The room that a wide cell and its chunks use, as places and words.
pub(crate) fn room_used(
    heap: &[AtomicU64],
    place: u32,
    aggregation: Aggregation,
) -> Vec<(u32, u32)> {
    let mut used = vec![(place, words(aggregation))];
    let Some(wide) = heap
        .get(place as usize..)
        .filter(|w| w.len() >= words(aggregation) as usize)
    else {
        return used;
    };
    let cell = &wide[cell_range(aggregation)];
    match aggregation {
        Aggregation::Distribution => {
            used.extend(histogram::chunks(cell).map(|(_, at)| (at, CHUNK_WORDS)));
        }
        Aggregation::Unique => {
            used.extend(unique::chunks(cell).map(|chunk| (chunk.at, chunk.words())));
        }
        Aggregation::Sum | Aggregation::Last | Aggregation::Max | Aggregation::TimeWeighted => {}
    }
    used
}
