//! How values of each aggregation go into the cells of a page, by the algorithms of
//! [`cell`](crate::cell).

#[cfg(feature = "client")]
use std::sync::atomic::AtomicU64;
#[cfg(feature = "client")]
use std::sync::atomic::Ordering::{Relaxed, Release};

use tollgate_common::Aggregation;

use crate::cell::{halves, histogram, level, sum, unique};

/// Words of a cell. A distribution has its sum cell first, then its head.
pub const fn words(aggregation: Aggregation) -> usize {
    match aggregation {
        Aggregation::Sum => sum::WORDS,
        Aggregation::Last | Aggregation::Max => halves::WORDS,
        Aggregation::Unique => unique::WORDS,
        Aggregation::Distribution => sum::WORDS + histogram::WORDS,
        Aggregation::TimeWeighted => level::WORDS,
    }
}

/// Adds to a sum, by its only writer. The sum is stored before the events, so that what a
/// reader sees as counted is in the sum that it sees. What a signal handler added between the
/// loads and the stores here would be overwritten.
///
/// Both words are loaded before anything is added, and the sum is needed twice, so that each
/// load is an instruction of its own. Processors that rename memory (Intel since Ice Lake, AMD
/// since Zen 2) give such a load what was stored last without delay; to an addition that loads
/// its operand they do not, and counting the same series again and again takes twice as long.
#[cfg(feature = "client")]
#[inline]
pub(crate) fn add(cell: &[AtomicU64; 2], n: u64) {
    let (sum, events) = (cell[0].load(Relaxed), cell[1].load(Relaxed));
    let next = sum.wrapping_add(n);
    if next < sum {
        return store_wrapped(cell, next, events);
    }
    cell[0].store(next, Relaxed);
    cell[1].store(events.wrapping_add(1), Release);
}

/// The sum has come to its end and begins again; readers subtract what they saw before.
#[cfg(feature = "client")]
#[cold]
#[inline(never)]
fn store_wrapped(cell: &[AtomicU64; 2], next: u64, events: u64) {
    cell[0].store(next, Relaxed);
    cell[1].store(events.wrapping_add(1), Release);
}

#[cfg(feature = "client")]
pub(crate) fn add_to(cell: &[AtomicU64], n: u64) {
    if let Some(cell) = cell.first_chunk() {
        add(cell, n);
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn a_sum_goes_on_behind_its_end() {
        let cell = [u64::MAX - 1, u64::MAX].map(AtomicU64::new);
        let read = || cell.each_ref().map(|word| word.load(Relaxed));
        add(&cell, 1);
        assert_eq!(read(), [u64::MAX, 0]);
        add(&cell, 3);
        assert_eq!(read(), [2, 1]);
        add(&cell, 0);
        assert_eq!(read(), [2, 2]);
    }
}
