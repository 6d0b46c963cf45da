//! Sums: a cumulative sum and the number of events that made it.
//!
//! A cell is two words. The first is the sum, wrapping at 2^64. The second has the number of
//! events, wrapping at 2^48, in its low bits, and in its high 16 bits the generation of the
//! slot that the cell belongs to, which changes when the cell is given to another series.
//! Nobody resets a cell: a reader subtracts what it read at its last cut.
//!
//! The sum is stored before the events, and a reader loads the events before the sum, so
//! that what a reader sees as counted is in the sum it sees.

use super::READ_ATTEMPTS;
use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};

/// Words of a cell.
pub const WORDS: usize = 2;
/// Bits of the second word that count events; a generation is above them.
pub const EVENTS_BITS: u32 = 48;
/// The bits that count events.
pub const EVENTS_MASK: u64 = (1 << EVENTS_BITS) - 1;
/// Most events that one call may count.
pub const EVENTS_MAX: u64 = u32::MAX as u64;

/// Most that one call may add: below 2^62.
///
/// The difference between two cuts must stay below 2^64, or a lap of the counter would be
/// lost. The top two bits of a counter divide its range into quarters. An add below a
/// quarter that stays in its quarter needs no check; one that crosses into the next is
/// refused if the difference to the baseline in force would reach 2^63. Between two
/// crossings less than a quarter is added, so a difference stays below 2^63 + 2^62. The
/// check costs an exclusive or and a comparison, and no second cache line.
pub const ADD_MAX: u64 = (1 << 62) - 1;
const QUARTER_SHIFT: u32 = 62;
/// What a crossing may not exceed.
const DIFFERENCE_MAX: u64 = 1 << 63;

/// Why an amount is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// More than [`ADD_MAX`], or more than [`EVENTS_MAX`] events.
    #[error("amount {0} is too large: 2^62 or more, or 2^32 or more events")]
    TooLarge(u64),
    /// The cell has counted 2^63 or so since the last seal; the next seal makes room.
    #[error("counter of the series is full until the next seal")]
    CounterFull,
    /// The slot is of another writer, another kind, or belonged to a series that was idle and
    /// has been retired; the series has to be looked up again.
    #[error("slot is not one of this writer and kind, or its series has been retired")]
    WrongSlot,
    /// There is no room for what the series has to remember of this value.
    #[error("no room for the values of this series; raise limits.wide_bytes")]
    NoRoom,
}

/// The events in a cell's second word.
#[inline]
pub const fn events(word: u64) -> u64 {
    word & EVENTS_MASK
}

/// The generation in a cell's second word.
#[inline]
pub const fn generation(word: u64) -> u16 {
    (word >> EVENTS_BITS) as u16
}

/// A second word.
pub const fn with_generation(events: u64, generation: u16) -> u64 {
    (generation as u64) << EVENTS_BITS | events & EVENTS_MASK
}

/// Events counted between two cuts, by the second words at both.
#[inline]
pub const fn events_between(now: u64, base: u64) -> u64 {
    now.wrapping_sub(base) & EVENTS_MASK
}

/// Adds `n` in `events` events, by the cell's only writer.
///
/// `generation` has the expected one in its high 16 bits; its other bits are ignored. `base`
/// gives the sum at the last cut and is called rarely. When this returns `Ok`, the count is
/// in the cell.
#[inline]
pub fn add(
    sum: &AtomicU64,
    done: &AtomicU64,
    n: u64,
    events: u64,
    generation: u64,
    base: impl FnOnce() -> u64,
) -> Result<(), AddError> {
    let [new, next] = next(sum, done, n, events, generation, base)?;
    // Sum before events: what is counted as accepted is in the sum.
    sum.store(new, Relaxed);
    done.store(next, Release);
    Ok(())
}

/// What both words become by [`add`], without storing it.
#[inline]
pub(super) fn next(
    sum: &AtomicU64,
    done: &AtomicU64,
    n: u64,
    events: u64,
    generation: u64,
    base: impl FnOnce() -> u64,
) -> Result<[u64; WORDS], AddError> {
    let (old, count) = (sum.load(Relaxed), done.load(Relaxed));
    let (new, next) = (old.wrapping_add(n), count.wrapping_add(events));
    // One branch for everything that is out of the ordinary.
    let odd = (old ^ new | n) >> QUARTER_SHIFT | (count ^ next | count ^ generation) >> EVENTS_BITS;
    if odd != 0 {
        return checked(old, count, n, events, generation, base);
    }
    Ok([new, next])
}

/// Brings a sum to what was read in another cell, by the cell's only writer: the difference is
/// counted. A writer killed at any point goes on by doing it again.
///
/// `None` if it would run backwards, or by 2^62 or 2^47 events or more at once; nothing is
/// counted then. Otherwise how many events were new.
pub fn follow(
    sum: &AtomicU64,
    done: &AtomicU64,
    to: [u64; WORDS],
    generation: u64,
    base: impl Fn() -> u64,
) -> Option<Result<u64, AddError>> {
    let mut amount = to[0].wrapping_sub(sum.load(Relaxed));
    let events = events_between(to[1], done.load(Relaxed));
    if amount > ADD_MAX || events > EVENTS_MASK >> 1 {
        return None;
    }
    let mut left = events;
    while amount > 0 || left > 0 {
        let some = left.min(EVENTS_MAX);
        if let Err(error) = add(sum, done, amount, some, generation, &base) {
            return Some(Err(error));
        }
        (amount, left) = (0, left - some);
    }
    Some(Ok(events))
}

#[cold]
fn checked(
    old: u64,
    count: u64,
    n: u64,
    events: u64,
    generation: u64,
    base: impl FnOnce() -> u64,
) -> Result<[u64; WORDS], AddError> {
    if (count ^ generation) >> EVENTS_BITS != 0 {
        return Err(AddError::WrongSlot);
    }
    if n > ADD_MAX || events > EVENTS_MAX {
        return Err(AddError::TooLarge(n));
    }
    let new = old.wrapping_add(n);
    if (old ^ new) >> QUARTER_SHIFT != 0 {
        let difference = old.wrapping_sub(base()).checked_add(n);
        if difference.is_none_or(|difference| difference >= DIFFERENCE_MAX) {
            return Err(AddError::CounterFull);
        }
    }
    let next = count & !EVENTS_MASK | count.wrapping_add(events) & EVENTS_MASK;
    Ok([new, next])
}

/// Reads a cell: sum and second word, both of the generation that the second word names.
/// `None` if the cell changed hands again and again while it was read.
#[inline]
pub fn read(cell: &[AtomicU64]) -> Option<[u64; WORDS]> {
    for _ in 0..READ_ATTEMPTS {
        let done = cell[1].load(Acquire);
        let sum = cell[0].load(Relaxed);
        // Who saw a sum of the next series also sees its generation, see `hand_over`.
        fence(Acquire);
        if generation(cell[1].load(Relaxed)) == generation(done) {
            return Some([sum, done]);
        }
    }
    None
}

/// Gives a cell to another series: only the generation changes, counting goes on where it
/// stands. What the series before had counted must have been sealed.
pub fn hand_over(cell: &[AtomicU64], generation: u16) {
    let events = events(cell[1].load(Relaxed));
    cell[1].store(with_generation(events, generation), Release);
    // No later store of the sum becomes visible before the generation.
    fence(Release);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cell(sum: u64, done: u64) -> [AtomicU64; 2] {
        [AtomicU64::new(sum), AtomicU64::new(done)]
    }

    fn count(cell: &[AtomicU64; 2], n: u64, events: u64, base: u64) -> Result<(), AddError> {
        add(&cell[0], &cell[1], n, events, 0, || base)
    }

    #[test]
    fn sums_wrap_and_differences_are_exact() {
        let base = u64::MAX - 5;
        let cell = cell(base, EVENTS_MASK);
        assert_eq!(count(&cell, 100, 1, base), Ok(()));
        let [sum, done] = read(&cell).expect("quiet");
        assert_eq!(sum.wrapping_sub(base), 100);
        assert_eq!(
            (events_between(done, EVENTS_MASK), generation(done)),
            (1, 0)
        );
    }

    #[test]
    fn what_could_lap_is_refused_and_leaves_no_trace() {
        let cell = cell(0, 0);
        assert_eq!(
            count(&cell, ADD_MAX + 1, 1, 0),
            Err(AddError::TooLarge(1 << 62))
        );
        assert_eq!(
            count(&cell, 1, 1 << 40, 0),
            Ok(()),
            "in range of the cheap test"
        );
        let mut total = 1u128;
        while count(&cell, ADD_MAX, 1, 0).is_ok() {
            total += u128::from(ADD_MAX);
        }
        assert!(total < 1 << 64);
        assert_eq!(u128::from(read(&cell).expect("quiet")[0]), total);
    }

    #[test]
    fn a_stale_generation_counts_nothing() {
        let cell = cell(7, with_generation(9, 3));
        let stale = with_generation(0, 2);
        let result = add(&cell[0], &cell[1], 1, 1, stale, || 0);
        assert_eq!(result, Err(AddError::WrongSlot));
        hand_over(&cell, 4);
        assert_eq!(read(&cell), Some([7, with_generation(9, 4)]));
    }
}
