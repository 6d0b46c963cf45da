//! Last-value cells.
//!
//! A cell has two halves, chosen by the parity of the window's index, because the window
//! that has just begun is written before the one that has just ended is sealed. Each half is
//! a count, and two versions of (window, value): set number `n` writes version `n & 1` and
//! then stores the count. That store commits: a process killed at any point leaves the
//! version before untouched, and a reader that finds the count unchanged after reading knows
//! that what it read was not being written. The count is also the number of sets, from
//! which the difference to the baseline tells whether there is anything to seal.
//!
//! A value not sealed before its half is needed again, two windows later, gives way to
//! the newer one; its events are counted with that. Only a full spool delays a seal so long.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use tollgate_common::{Timestamp, Window, WindowWidth};

use crate::seal::CLOCK_STEP_MAX_MILLIS;

/// Words of one half: count, two windows, two values.
pub(crate) const HALF_WORDS: usize = 5;
const AT_WINDOWS: usize = 1;
const AT_VALUES: usize = 3;

/// How often a reader that is overtaken by the writer tries again before it leaves the
/// value for the next seal.
const READ_ATTEMPTS: u32 = 1000;

/// What a half held at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastCut {
    /// Sets so far.
    pub(crate) events: u64,
    /// Start of the window of the last set.
    pub(crate) window: Timestamp,
    /// The value set.
    pub(crate) value: i64,
}

fn half_of(window: Window) -> usize {
    let index = window.start().secs() / i64::from(window.width().secs());
    usize::from(index & 1 == 1)
}

/// The newest window that a cell has a value for.
fn newest(cell: &[AtomicU64]) -> Option<Timestamp> {
    cell.chunks_exact(HALF_WORDS)
        .filter_map(|half| {
            let count = half[0].load(Relaxed);
            let version = usize::from(count & 1 == 1);
            (count > 0).then(|| window_start(half, version))
        })
        .max()
}

fn window_start(half: &[AtomicU64], version: usize) -> Timestamp {
    Timestamp::from_millis(half[AT_WINDOWS + version].load(Relaxed).cast_signed())
}

/// Sets the value of `window`, by the cell's only writer.
///
/// Time does not go back in a cell: a set for a window older than the newest one counts for
/// the newest, because it arrived after that. Unless the newest is so far ahead that the
/// clock that named it was wrong: every value would wait for that time otherwise.
pub(crate) fn set(cell: &[AtomicU64], window: Timestamp, width: WindowWidth, value: i64) {
    let start = newest(cell)
        .filter(|newest| *newest <= window.plus_millis(CLOCK_STEP_MAX_MILLIS))
        .map_or(window, |newest| newest.max(window));
    let window = Window::containing(start, width);
    let half = &cell[half_of(window) * HALF_WORDS..][..HALF_WORDS];
    let count = half[0].load(Relaxed).wrapping_add(1);
    let version = usize::from(count & 1 == 1);
    // A reader that sees one of the stores below must also see the count of the set before,
    // and with it that the version it reads may be changing.
    fence(Release);
    half[AT_WINDOWS + version].store(window.start().millis().cast_unsigned(), Relaxed);
    half[AT_VALUES + version].store(value.cast_unsigned(), Relaxed);
    half[0].store(count, Release);
}

/// What one half holds, or `None` while the writer is faster than the reader.
pub(crate) fn read(cell: &[AtomicU64], half: usize) -> Option<LastCut> {
    let half = &cell[half * HALF_WORDS..][..HALF_WORDS];
    for _ in 0..READ_ATTEMPTS {
        let events = half[0].load(Acquire);
        let version = usize::from(events & 1 == 1);
        let cut = LastCut {
            events,
            window: window_start(half, version),
            value: half[AT_VALUES + version].load(Relaxed).cast_signed(),
        };
        fence(Acquire);
        if half[0].load(Relaxed) == events {
            return Some(cut);
        }
    }
    None
}

/// The number of sets of a whole cell.
pub(crate) fn events(cell: &[AtomicU64]) -> u64 {
    cell[0]
        .load(Relaxed)
        .wrapping_add(cell[HALF_WORDS].load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: i64 = 10;

    fn width() -> WindowWidth {
        WindowWidth::from_secs(10).expect("divides 900")
    }

    fn cell() -> Vec<AtomicU64> {
        (0..2 * HALF_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn at(window: i64) -> Timestamp {
        Timestamp::from_secs(window * WIDTH)
    }

    #[test]
    fn windows_use_halves_in_turn_and_time_does_not_go_back() {
        let cell = cell();
        set(&cell, at(100), width(), -5);
        set(&cell, at(101), width(), 7);
        let expected = |window, value, events| {
            Some(LastCut {
                events,
                window: at(window),
                value,
            })
        };
        assert_eq!(read(&cell, 0), expected(100, -5, 1));
        assert_eq!(read(&cell, 1), expected(101, 7, 1));
        set(&cell, at(100), width(), 8);
        assert_eq!(read(&cell, 0), expected(100, -5, 1));
        assert_eq!(read(&cell, 1), expected(101, 8, 2));
        assert_eq!(events(&cell), 3);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_hold_the_cell_in_its_future() {
        let cell = cell();
        set(&cell, at(50_000_000), width(), 1);
        set(&cell, at(100), width(), 2);
        set(&cell, at(101), width(), 3);
        let found = [0, 1].map(|half| read(&cell, half).map(|cut| (cut.window, cut.value)));
        assert_eq!(found, [Some((at(100), 2)), Some((at(101), 3))]);
    }

    #[test]
    fn a_set_cut_short_leaves_the_value_before() {
        let cell = cell();
        set(&cell, at(100), width(), 1);
        // What a killed writer leaves: the other version written, the count not stored.
        cell[AT_WINDOWS].store(at(102).millis().cast_unsigned(), Relaxed);
        cell[AT_VALUES].store(99, Relaxed);
        assert_eq!(read(&cell, 0).map(|cut| cut.value), Some(1));
    }

    #[test]
    fn readers_never_see_half_a_set() {
        let cell = cell();
        let start = 1_000_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200_000 {
                    // The value tells its window, so that a mixture shows.
                    let window = start + i / 7 * 2;
                    set(&cell, at(window), width(), window);
                }
            });
            for _ in 0..100_000 {
                if let Some(cut) = read(&cell, 0).filter(|cut| cut.events > 0) {
                    assert_eq!(cut.window, at(cut.value));
                }
            }
        });
    }
}
