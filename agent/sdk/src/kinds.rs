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
/// reader sees as counted is in the sum that it sees.
#[cfg(feature = "client")]
#[inline]
pub(crate) fn add(cell: &[AtomicU64; 2], n: u64) {
    cell[0].store(cell[0].load(Relaxed).wrapping_add(n), Relaxed);
    cell[1].store(cell[1].load(Relaxed).wrapping_add(1), Release);
}

#[cfg(feature = "client")]
pub(crate) fn add_to(cell: &[AtomicU64], n: u64) {
    if let Some(cell) = cell.first_chunk() {
        add(cell, n);
    }
}
