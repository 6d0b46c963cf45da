//! Mergeable summaries of many values: how they are distributed, and how many differ.
//!
//! Both are deterministic functions of what was put in, whatever the order, the number of
//! parts and the machine: merging is commutative and associative, and no estimate touches a
//! float. Their bytes are described in `docs/formats/sketches.md`.

mod bytes;
mod estimate;
mod hash;
mod histogram;
#[cfg(test)]
mod tests;
mod unique;

pub use hash::hash;
pub use histogram::{BUCKETS, Histogram, bucket_of, bucket_range};
pub use unique::{EXACT_MAX, RANK_MAX, REGISTERS, UniqueSketch, register_of};

/// Why numbers are not a sketch, or two sketches cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// A bucket beyond the layout.
    #[error("histogram has a bucket {0}, the layout has {BUCKETS}")]
    Bucket(u32),
    /// Buckets, or hashes, not strictly increasing.
    #[error("{0} of a sketch are out of order or repeated")]
    Order(&'static str),
    /// A bucket that counts nothing.
    #[error("histogram has an empty bucket {0}")]
    EmptyBucket(u32),
    /// More than 2^64 - 1 values.
    #[error("histogram counts more values than 2^64 - 1")]
    Overflow,
    /// More hashes than the exact form holds.
    #[error("sketch lists {0} hashes, more than the {EXACT_MAX} allowed")]
    TooManyHashes(usize),
    /// A register above its range.
    #[error("register {register} of a sketch is {rank}, more than {RANK_MAX}")]
    Rank {
        /// Which register.
        register: usize,
        /// What it holds.
        rank: u8,
    },
    /// Registers that nothing was put into.
    #[error("sketch has registers and all are empty")]
    EmptyRegisters,
    /// The bytes end early or go on after the end.
    #[error("sketch bytes are malformed at byte {0}")]
    Malformed(usize),
}
