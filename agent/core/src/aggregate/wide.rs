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

/// Words of a whole wide cell.
pub(crate) fn words(aggregation: Aggregation) -> u32 {
    let (cell, base) = sizes(aggregation);
    u32::try_from(AT_CELL + cell + 2 * base).expect("a few words")
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
