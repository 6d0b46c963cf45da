//! Benches of the books: folding, rating again, restarting.

pub(crate) mod fold;
pub(crate) mod population;
