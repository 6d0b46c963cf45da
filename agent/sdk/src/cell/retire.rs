//! Retiring: how a writer takes a slot from a series and gives it to another, while a sealer goes
//! by what it knows of it.
//!
//! The writer counts the slots that change hands. A sealer looks at that number, then takes in
//! every slot whose generation is another one, and then acknowledges the number. Not before may
//! the writer overwrite what described a retired slot: until then the sealer may be about to read
//! it.

use super::atomic::AtomicU64;
use super::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// The writer: a slot has been retired or given to another series, which its cell shows already.
/// `put` stores.
pub fn changed(changes: &AtomicU64, put: impl FnOnce(&AtomicU64, u64, Ordering)) {
    put(changes, changes.load(Relaxed).wrapping_add(1), Release);
}

/// How many slots have changed hands; what their cells showed then is seen by who asks.
pub fn changes(changes: &AtomicU64) -> u64 {
    changes.load(Acquire)
}

/// The sealer: it has taken in so many changes, and reads nothing any more of what described
/// these slots before.
pub fn acknowledge(seen: &AtomicU64, changes: u64) {
    seen.store(changes, Release);
}

/// The writer: up to which change the sealer has taken them in.
pub fn acknowledged(seen: &AtomicU64) -> u64 {
    seen.load(Acquire)
}
