//! Receipts: what is received is counted for itself before it is decided on.
//!
//! One thread receives events and decides on them: counts them into a cell, or rejects them. It
//! adds to what it has *received* before it decides, for all events and then for the tenant that
//! they are of; and when it has nothing in its hands, it says that everything received so far is
//! *settled*. A reader asks for what is settled, then for what is decided, then for what is
//! received. Whatever the thread does meanwhile, the second is not less than the first, nor the
//! third less than the second.
//!
//! Of one tenant among several it is not said what is settled. But not more of it can be under
//! way than of all: what is received of all, read after what is received of the tenant, less what
//! was settled before.

use super::atomic::AtomicU64;
use super::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// The thread that counts: so many more. `put` stores.
#[inline]
pub fn add(word: &AtomicU64, n: u64, put: impl FnOnce(&AtomicU64, u64, Ordering)) {
    put(word, word.load(Relaxed).wrapping_add(n), Release);
}

/// The same thread: everything received so far is decided on.
#[inline]
pub fn settle(
    received: &AtomicU64,
    settled: &AtomicU64,
    put: impl FnOnce(&AtomicU64, u64, Ordering),
) {
    put(settled, received.load(Relaxed), Release);
}

/// What a word says; what was counted before it is seen by who asks.
#[inline]
pub fn read(word: &AtomicU64) -> u64 {
    word.load(Acquire)
}

/// How many events can be under way at most of what was found received between two readings: of
/// what was settled, and after it of what was received.
pub const fn under_way(settled: u64, received: u64) -> u64 {
    received.saturating_sub(settled)
}
