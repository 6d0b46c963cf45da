//! Leases: words that say that a thread may count, taken away all at once.
//!
//! What is leased is in use until another thread gives it up. Who leases just then must not
//! leave a word behind that stays in force: each side stores its own word, and then looks at or
//! overwrites the other's, with a fence between, so that one of them sees the other.

use super::atomic::Ordering::{Relaxed, Release, SeqCst};
use super::atomic::{AtomicU64, fence};

/// What the word holds that is common to all leases, until they are ended.
pub const IN_USE: u64 = 1;

/// Puts `granted`, which is not 0, into the word of a lease. False, and the word is 0, if the
/// leases have been ended.
pub fn grant(in_use: &AtomicU64, lease: &AtomicU64, granted: u64) -> bool {
    lease.store(granted, Release);
    fence(SeqCst);
    if in_use.load(Relaxed) == IN_USE {
        return true;
    }
    lease.store(0, Relaxed);
    false
}

/// Ends all leases for good: once this has returned and every [`grant`] under way has, their
/// words are 0.
pub fn end_all(in_use: &AtomicU64, leases: &[AtomicU64]) {
    in_use.store(0, Relaxed);
    fence(SeqCst);
    for lease in leases {
        lease.store(0, Relaxed);
    }
}
