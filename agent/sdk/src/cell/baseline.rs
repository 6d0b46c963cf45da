//! Baselines: how far cells are sealed.
//!
//! There are two arrays of baselines. The sealer writes a cut into the one that is not in
//! force; when the batch that it makes of the differences is durable, one store of the
//! applied sequence puts that array in force. Writers look at baselines rarely: when a
//! counter crosses into another quarter of its range, and when the cell of a retired series
//! is to be given to another.

use super::READ_ATTEMPTS;
use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::sum::{EVENTS_MASK, WORDS};

/// Which of the two arrays the batch `sequence` writes.
pub const fn parity(sequence: u64) -> usize {
    if sequence & 1 == 1 { 1 } else { 0 }
}

/// Puts the cut of batch `sequence` in force: the one store that seals.
pub fn apply(applied: &AtomicU64, sequence: u64) {
    applied.store(sequence, Release);
}

/// Orders the stores of a cut after the flip before it: a writer that sees any of them
/// also sees that the baselines have changed places.
pub fn begin_cut() {
    fence(Release);
}

/// The baseline in force of the two, for a writer that must not take it from the array that
/// the sealer is writing.
pub fn in_force(applied: &AtomicU64, bases: [&AtomicU64; 2]) -> u64 {
    loop {
        let sequence = applied.load(Acquire);
        let base = bases[parity(sequence)].load(Relaxed);
        fence(Acquire);
        if applied.load(Relaxed) == sequence {
            return base;
        }
        #[cfg(loom)]
        loom::thread::yield_now();
    }
}

/// True if everything that a cell at rest has counted is sealed, whatever the sealer does
/// next: both baselines equal the cell, and the one that was in force at the start still is.
///
/// Only the cell's writer may ask, and not count until it has the answer.
pub fn settled(applied: &AtomicU64, cell: &[AtomicU64], bases: [&[AtomicU64]; 2]) -> bool {
    for _ in 0..READ_ATTEMPTS {
        let sequence = applied.load(Acquire);
        let equal = bases.iter().all(|base| {
            base[..WORDS]
                .iter()
                .zip(cell)
                .enumerate()
                .all(|(at, (base, cell))| {
                    let mask = if at == 1 { EVENTS_MASK } else { u64::MAX };
                    (base.load(Relaxed) ^ cell.load(Relaxed)) & mask == 0
                })
        });
        fence(Acquire);
        if applied.load(Relaxed) == sequence {
            return equal;
        }
    }
    false
}
