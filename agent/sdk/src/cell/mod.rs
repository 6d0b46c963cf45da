//! Single-writer cells: what one thread counts and others read, without a lock.
//!
//! A cell is a few words of shared memory. One thread stores to it; any number of others read
//! it, at any moment, in this process or in another. The writer never waits and never
//! repeats anything: every operation is a bounded number of loads and stores. A reader may
//! have to read again when it was overtaken, and gives up after a bounded number of tries.
//! A writer that dies between two stores leaves a cell that reads as if its last operation
//! had been made or had not been made.
//!
//! | module | counts | how a reader gets a consistent value |
//! | --- | --- | --- |
//! | [`sum`] | increments and events, cumulative | wrapping difference to the last cut |
//! | [`halves`] | newest or largest value of a window | two versions, committed by a count |
//! | [`level`] | level × time, cumulative | two versions, committed by a count |
//! | [`histogram`] | values by size, cumulative | begun and done counters around each record |
//! | [`unique`] | different values of a window | only grows within an epoch of the half |
//! | [`baseline`] | nothing: says what is sealed | two arrays, chosen by one word |
//! | [`retire`] | nothing: gives cells to other series | changes, acknowledged before reuse |
//! | [`lease`] | nothing: says who may count | a word of each thread, looked at by every count |
//! | [`newest`] | nothing: passes a value on | each side stores its word, then looks at the other's |
//! | [`receipt`] | events, before they are decided on | settled, decided, received: read in this order |
//! | [`totals`] | what batches have told | two parities, of one applied batch |
//!
//! Times are milliseconds since 1970 in UTC, windows are as long as their width says and
//! start at multiples of it. `tests/loom.rs` models every protocol here.

pub mod atomic;
pub mod baseline;
pub mod halves;
pub mod histogram;
pub mod lease;
pub mod level;
pub mod newest;
pub mod receipt;
pub mod retire;
pub mod sum;
pub mod totals;
pub mod unique;

/// How far a clock may go back before what it showed earlier is taken for wrong: an hour.
/// Time services slew or step by less; a larger step is a clock that was set.
pub const CLOCK_STEP_MAX_MILLIS: i64 = 3_600_000;

/// How often a reader that is overtaken by the writer tries again before it leaves the value
/// for the next cut.
#[cfg(not(loom))]
pub(crate) const READ_ATTEMPTS: u32 = 1000;
#[cfg(loom)]
pub(crate) const READ_ATTEMPTS: u32 = 2;

/// Start of the window of `width` milliseconds that holds `at`.
pub const fn window_start(at: i64, width: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(width))
}

/// Which half of a cell is for the window that starts at `start`.
pub const fn half_of(start: i64, width: i64) -> usize {
    if start.div_euclid(width) & 1 == 1 {
        1
    } else {
        0
    }
}

/// Where chunks of cells that grow come from: words of the same memory, given out by the one
/// writer. Place 0 is never given out; it stands for none.
pub trait Room {
    /// The place of `words` words that nothing refers to, whatever they hold, or `None` if
    /// there is no room.
    fn take(&mut self, words: u32) -> Option<u32>;

    /// Takes back what [`Room::take`] gave. Readers that still look at it notice by
    /// themselves.
    fn give(&mut self, at: u32, words: u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_at_multiples_of_their_width_on_both_sides_of_the_epoch() {
        assert_eq!(window_start(12_345, 10_000), 10_000);
        assert_eq!(window_start(-1, 10_000), -10_000);
        assert_eq!(half_of(10_000, 10_000), 1);
        assert_eq!(half_of(-10_000, 10_000), 1);
        assert_eq!(half_of(-20_000, 10_000), 0);
        assert_eq!(
            window_start(i64::MIN, 7),
            i64::MIN.saturating_sub(i64::MIN.rem_euclid(7))
        );
    }
}
