//! Benches of the books: folding, rating again, restarting.

pub(crate) mod fold;
pub(crate) mod latency;
pub(crate) mod percentile;
pub(crate) mod population;
pub(crate) mod rerate;
pub(crate) mod restart;
