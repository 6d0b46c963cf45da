//! The newest value: many threads change it, one at a time tells it on, and nobody waits.
//!
//! A thread changes the value and then tries to be the one that tells. If another one is at it,
//! it leaves its change to that: who has told looks at the value again after it has let others at
//! it, and tells again if it is another one. Each side stores its own word (the value, or that
//! nobody is at it) and then looks at the other's, with a fence between, so that one of them
//! sees the other.

use super::atomic::Ordering::{Acquire, SeqCst};
use super::atomic::{AtomicU64, fence};

/// What came of an attempt to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// This value, as it was when nobody else could tell.
    Value(u64),
    /// Another thread is at it.
    ByAnother,
    /// Nothing can be told.
    Nothing,
}

/// Tells a value that the caller has just changed. `try_tell` is given how to load it, for when it
/// is alone, and lets others at it before it returns. False if nothing can be told.
pub fn tell(value: &AtomicU64, mut try_tell: impl FnMut(&dyn Fn() -> u64) -> Told) -> bool {
    let load = || value.load(Acquire);
    loop {
        fence(SeqCst);
        let told = match try_tell(&load) {
            Told::Value(told) => told,
            Told::ByAnother => return true,
            Told::Nothing => return false,
        };
        fence(SeqCst);
        if load() == told {
            return true;
        }
    }
}
