//! Running totals: figures in a list that only grows, sealed like baselines.
//!
//! The sealer alone stores here. A total is complete, with zero figures, before the number of
//! totals is raised; then its figures are written in the parity of the batch that changes them,
//! and are in force when that batch is ([`baseline`](super::baseline)). Who reads them beside the
//! sealer does so [`steadily`]: of one batch, or not at all.

use super::atomic::Ordering::{self, Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::baseline::parity;

/// Words of the figures of one parity: the sum (low, high) and the events.
pub const FIGURES: usize = 3;

/// Raises the number of totals by one that is complete. `put` stores.
pub fn publish(count: &AtomicU64, put: impl FnOnce(&AtomicU64, u64, Ordering)) {
    put(count, count.load(Relaxed) + 1, Release);
}

/// The number of totals; what was stored of them before is seen by who asks.
pub fn published(count: &AtomicU64) -> u64 {
    count.load(Acquire)
}

/// Writes the figures of a total as of the cut of batch `sequence`, after
/// [`begin_cut`](super::baseline::begin_cut). `words` are those of both parities.
pub fn put_figures(
    words: &[AtomicU64],
    sequence: u64,
    figures: [u64; FIGURES],
    put: impl Fn(&AtomicU64, u64, Ordering),
) {
    for (word, figure) in words[FIGURES * parity(sequence)..].iter().zip(figures) {
        put(word, figure, Relaxed);
    }
}

/// The figures of a total as of the cut of batch `sequence`.
pub fn figures(words: &[AtomicU64], sequence: u64) -> [u64; FIGURES] {
    let words = &words[FIGURES * parity(sequence)..];
    [0, 1, 2].map(|at: usize| words[at].load(Relaxed))
}

/// What `read` finds under the batch that it is given the sequence of, if no other one is applied
/// while it reads; `None` if that was so every time.
pub fn steadily<T>(applied: &AtomicU64, attempts: u32, read: impl Fn(u64) -> T) -> Option<T> {
    for _ in 0..attempts {
        let sequence = applied.load(Acquire);
        let found = read(sequence);
        fence(Acquire);
        if applied.load(Relaxed) == sequence {
            return Some(found);
        }
    }
    None
}
