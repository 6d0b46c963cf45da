//! Benches of the books: folding, rating again, restarting.

pub(crate) mod fold;
pub(crate) mod percentile;
pub(crate) mod population;
pub(crate) mod restart;
