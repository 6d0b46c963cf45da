//! The atomics that cells use: those of the standard library, or those of `loom`, which tries
//! every order in which threads may see each other's stores.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};
