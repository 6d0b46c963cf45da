//! Last values and maxima: one value per window.
//!
//! A cell has two halves, chosen by the parity of the window's index, because the window
//! that has just begun is written before the one that has just ended is sealed. Each half is
//! a count, and two versions of (window, value): set number `n` writes version `n & 1` and
//! then stores the count. That store commits: a process killed at any point leaves the
//! version before untouched, and a reader that finds the count unchanged after reading knows
//! that what it read was not being written. The count is also the number of sets, from
//! which the difference to the baseline tells whether there is anything to seal.
//!
//! A half is needed again two windows later. What it shows gives way then if it is taken: if
//! who reads the cell has all of it. Otherwise (seals are rare because the spool is nearly full,
//! or nobody reads) it goes on in the newer window: a maximum is the larger one, and of last
//! values the newest stands. So no maximum is lost, only when it was; one that was taken in part
//! may be told for the newer window, too.

use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::{CLOCK_STEP_MAX_MILLIS, READ_ATTEMPTS, half_of, window_start};

/// Words of one half: count, two windows, two values.
pub const HALF_WORDS: usize = 5;
/// Words of a cell.
pub const WORDS: usize = 2 * HALF_WORDS;
const AT_WINDOWS: usize = 1;
const AT_VALUES: usize = 3;

/// Which value of a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The newest.
    Last,
    /// The largest.
    Max,
}

/// What a half held at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfCut {
    /// Sets so far.
    pub events: u64,
    /// Start of the window of the last set.
    pub window: i64,
    /// The value that stands.
    pub value: i64,
}

fn version_of(half: &[AtomicU64], count: u64) -> (i64, i64) {
    let version = usize::from(count & 1 == 1);
    let word = |at: usize| half[at + version].load(Relaxed).cast_signed();
    (word(AT_WINDOWS), word(AT_VALUES))
}

/// The newest window that a cell has a value for.
fn newest(cell: &[AtomicU64]) -> Option<i64> {
    cell[..WORDS]
        .chunks_exact(HALF_WORDS)
        .filter_map(|half| {
            let count = half[0].load(Relaxed);
            (count > 0).then(|| version_of(half, count).0)
        })
        .max()
}

/// Sets a value at the time `now`, by the cell's only writer.
///
/// Time does not go back in a cell: a set for a window older than the newest one counts for
/// the newest, because it arrived after that. Unless the newest is so far ahead that the
/// clock that named it was wrong: every value would wait for that time otherwise.
///
/// `taken` says whether a half (0 or 1) that shows so many sets is taken; it is asked only when
/// a maximum begins another window. Gives the half that was set.
pub fn set(
    cell: &[AtomicU64],
    now: i64,
    width: i64,
    value: i64,
    keep: Keep,
    taken: impl FnOnce(usize, u64) -> bool,
) -> usize {
    let window = window_start(now, width);
    let window = newest(cell)
        .filter(|newest| *newest <= window.saturating_add(CLOCK_STEP_MAX_MILLIS))
        .map_or(window, |newest| newest.max(window));
    let index = half_of(window, width);
    let half = &cell[index * HALF_WORDS..][..HALF_WORDS];
    let count = half[0].load(Relaxed);
    let (before, stands) = version_of(half, count);
    let goes_on = || count > 0 && (before == window || !taken(index, count));
    let value = match keep {
        Keep::Max if goes_on() => stands.max(value),
        _ => value,
    };
    let count = count.wrapping_add(1);
    let version = usize::from(count & 1 == 1);
    // A reader that sees one of the stores below must also see the count of the set before,
    // and with it that the version it reads may be changing.
    fence(Release);
    half[AT_WINDOWS + version].store(window.cast_unsigned(), Relaxed);
    half[AT_VALUES + version].store(value.cast_unsigned(), Relaxed);
    half[0].store(count, Release);
    index
}

/// Brings a half (0 or 1) to what was read in that of another cell, by the cell's only writer:
/// a copy, with the number of sets. A writer killed at any point goes on by doing it again.
pub fn copy(cell: &[AtomicU64], half: usize, cut: &HalfCut) {
    let half = &cell[half * HALF_WORDS..][..HALF_WORDS];
    let count = half[0].load(Relaxed);
    if count == cut.events {
        return;
    }
    // The version that stands is never written: where it is the one that the copy needs, the
    // copy is made in the other one first.
    let detour = (count ^ cut.events) & 1 == 0;
    let counts = [cut.events.wrapping_sub(1), cut.events];
    for count in &counts[usize::from(!detour)..] {
        let version = usize::from(count & 1 == 1);
        fence(Release);
        half[AT_WINDOWS + version].store(cut.window.cast_unsigned(), Relaxed);
        half[AT_VALUES + version].store(cut.value.cast_unsigned(), Relaxed);
        half[0].store(*count, Release);
    }
}

/// Brings a half (0 or 1) to what was read in that of another cell, like [`copy`], but for a
/// maximum of this cell that is not `taken`: it goes on as in [`set`].
pub fn follow(
    cell: &[AtomicU64],
    half: usize,
    cut: &HalfCut,
    keep: Keep,
    taken: impl FnOnce(usize, u64) -> bool,
) {
    let words = &cell[half * HALF_WORDS..][..HALF_WORDS];
    let count = words[0].load(Relaxed);
    let (before, stands) = version_of(words, count);
    let goes_on = || count > 0 && (before == cut.window || !taken(half, count));
    let value = match keep {
        Keep::Max if goes_on() => stands.max(cut.value),
        _ => cut.value,
    };
    copy(cell, half, &HalfCut { value, ..*cut });
}

/// What one half (0 or 1) holds, or `None` while the writer is faster than the reader.
pub fn read(cell: &[AtomicU64], half: usize) -> Option<HalfCut> {
    let half = &cell[half * HALF_WORDS..][..HALF_WORDS];
    for _ in 0..READ_ATTEMPTS {
        let events = half[0].load(Acquire);
        let (window, value) = version_of(half, events);
        fence(Acquire);
        if half[0].load(Relaxed) == events {
            return Some(HalfCut {
                events,
                window,
                value,
            });
        }
    }
    None
}

/// The number of sets of a whole cell.
pub fn events(cell: &[AtomicU64]) -> u64 {
    cell[0]
        .load(Relaxed)
        .wrapping_add(cell[HALF_WORDS].load(Relaxed))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const WIDTH: i64 = 10_000;

    fn cell() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn found(cell: &[AtomicU64], half: usize) -> (i64, i64, u64) {
        let cut = read(cell, half).expect("quiet");
        (cut.window / 1000, cut.value, cut.events)
    }

    #[test]
    fn windows_alternate_between_halves_and_time_does_not_go_back() {
        let cell = cell();
        assert_eq!(read(&cell, 0).map(|cut| cut.events), Some(0));
        set(&cell, 101_000, WIDTH, -5, Keep::Last, |_, _| true);
        set(&cell, 112_000, WIDTH, 7, Keep::Last, |_, _| true);
        set(&cell, 109_000, WIDTH, 8, Keep::Last, |_, _| true);
        assert_eq!(found(&cell, 0), (100, -5, 1));
        assert_eq!(found(&cell, 1), (110, 8, 2));
        assert_eq!(events(&cell), 3);
    }

    #[test]
    fn a_maximum_stands_within_its_window_only() {
        let cell = cell();
        for (now, value) in [(100_000, 5), (101_000, 9), (102_000, -3), (110_000, 1)] {
            set(&cell, now, WIDTH, value, Keep::Max, |_, _| true);
        }
        assert_eq!(found(&cell, 0), (100, 9, 3));
        assert_eq!(found(&cell, 1), (110, 1, 1));
        set(&cell, 120_000, WIDTH, -7, Keep::Max, |_, _| true);
        assert_eq!(found(&cell, 0), (120, -7, 4));
    }

    #[test]
    fn a_maximum_that_nobody_has_taken_goes_on_in_a_newer_window() {
        let cell = cell();
        let taken = std::cell::Cell::new(0);
        let set = |now, value| {
            set(&cell, now, WIDTH, value, Keep::Max, |half, events| {
                half == 0 && events <= taken.get()
            });
        };
        set(100_000, 1000);
        set(110_000, 7);
        set(120_000, 1);
        set(150_000, -1);
        assert_eq!(found(&cell, 0), (120, 1000, 2));
        assert_eq!(found(&cell, 1), (150, 7, 2));
        taken.set(2);
        set(140_000, 3);
        assert_eq!(found(&cell, 1), (150, 7, 3), "time does not go back");
        set(160_000, 2);
        assert_eq!(found(&cell, 0), (160, 2, 3));
        set(180_000, 1);
        assert_eq!(found(&cell, 0), (180, 2, 4), "taken in part");
    }

    #[test]
    fn what_follows_a_maximum_keeps_what_is_not_taken() {
        let (from, to) = (cell(), cell());
        let follow = |keep, taken: bool| {
            let cut = read(&from, 0).expect("quiet");
            follow(&to, 0, &cut, keep, |_, _| taken);
            found(&to, 0)
        };
        let set = |now, value| set(&from, now, WIDTH, value, Keep::Max, |_, _| true);
        set(100_000, 1000);
        assert_eq!(follow(Keep::Max, false), (100, 1000, 1));
        set(120_000, 1);
        assert_eq!(follow(Keep::Max, false), (120, 1000, 2));
        set(120_000, 2);
        assert_eq!(follow(Keep::Max, true), (120, 1000, 3), "the same window");
        set(140_000, 3);
        assert_eq!(follow(Keep::Max, true), (140, 3, 4));
        set(160_000, 1);
        assert_eq!(follow(Keep::Last, false), (160, 1, 5));
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_hold_the_cell_in_its_future() {
        let cell = cell();
        set(&cell, 50_000_000_000, WIDTH, 1, Keep::Last, |_, _| true);
        set(&cell, 100_000, WIDTH, 2, Keep::Last, |_, _| true);
        set(&cell, 110_000, WIDTH, 3, Keep::Last, |_, _| true);
        assert_eq!(read(&cell, 0).map(|cut| cut.value), Some(2));
        assert_eq!(found(&cell, 1), (110, 3, 1));
    }

    #[test]
    fn a_copy_is_the_same_whatever_was_there() {
        for before in 0..4_i64 {
            for after in 0..4_i64 {
                let (from, to) = (cell(), cell());
                for n in 0..before {
                    set(&to, 100_000, WIDTH, n, Keep::Last, |_, _| true);
                }
                for n in 0..before + after {
                    set(&from, 120_000, WIDTH, 10 + n, Keep::Last, |_, _| true);
                }
                let cut = read(&from, 0).expect("quiet");
                copy(&to, 0, &cut);
                if after > 0 {
                    assert_eq!(read(&to, 0), Some(cut));
                }
                assert_eq!(events(&to), events(&from));
            }
        }
    }

    #[test]
    fn a_set_cut_short_leaves_the_value_before() {
        let cell = cell();
        set(&cell, 100_000, WIDTH, 1, Keep::Last, |_, _| true);
        // What a killed writer leaves: the other version written, the count not stored.
        cell[AT_WINDOWS].store(120_000, Relaxed);
        cell[AT_VALUES].store(99, Relaxed);
        assert_eq!(found(&cell, 0), (100, 1, 1));
    }
}
