//! Levels: the exact integral of a level over time, for gauges that are billed by time.
//!
//! A cell keeps two versions of one state, committed by a count like the halves of a
//! [`last value`](super::halves): the level, since when it has held, the integral up to
//! then, and the integral at the start of the window in which that instant lies. The integral
//! is level × milliseconds, cumulative over the life of the cell, in 128 bits.
//!
//! Nothing has to be stored while a level holds: who reads the state knows the integral at
//! every instant since the last set. The start of that set's window is known as well, so that
//! a cut at the end of a window is exact also when the level has changed shortly after it and
//! before the cut was made.

use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicU64, fence};
use super::{CLOCK_STEP_MAX_MILLIS, READ_ATTEMPTS, window_start};

/// Words of one version: level, since, integral (low, high), start of its window, integral
/// there (low, high).
const VERSION_WORDS: usize = 7;
/// Words of a cell: the count and two versions.
pub const WORDS: usize = 1 + 2 * VERSION_WORDS;

/// What a cell holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelState {
    /// Sets so far; without any, nothing else means anything.
    pub events: u64,
    /// The level that holds, below 2^63.
    pub level: u64,
    /// Since when.
    pub since: i64,
    /// Level × milliseconds up to then.
    pub integral: u128,
    /// Start of the window in which `since` lies, or `since` if the cell is younger.
    pub window: i64,
    /// Level × milliseconds up to that start.
    pub integral_at_window: u128,
}

/// An integral and the instant that it is exact for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelCut {
    /// The instant.
    pub at: i64,
    /// Level × milliseconds up to then.
    pub integral: u128,
}

fn area(level: u64, from: i64, to: i64) -> u128 {
    let millis = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    u128::from(level) * u128::from(millis)
}

impl LevelState {
    /// The integral up to `at`: exact for every instant since the last set, and for the
    /// start of the window of the last set. For another instant before the last set, it is
    /// that at the next instant for which it is known, as [`LevelCut::at`] says.
    pub fn at(&self, at: i64) -> LevelCut {
        if at >= self.since {
            let integral = self
                .integral
                .saturating_add(area(self.level, self.since, at));
            LevelCut { at, integral }
        } else if at <= self.window {
            LevelCut {
                at: self.window,
                integral: self.integral_at_window,
            }
        } else {
            LevelCut {
                at: self.since,
                integral: self.integral,
            }
        }
    }

    /// The state after the level has become `level` at `now`.
    fn after(&self, now: i64, width: i64, level: u64) -> Self {
        let fresh = self.events == 0;
        // A clock that went back a little stands still; one that was set begins anew, and
        // the time between is nobody's.
        let set_back = now.saturating_add(CLOCK_STEP_MAX_MILLIS) < self.since;
        let jump = fresh || set_back;
        let now = if jump { now } else { now.max(self.since) };
        let integral = if jump {
            self.integral
        } else {
            self.at(now).integral
        };
        let start = window_start(now, width);
        let (window, integral_at_window) = if jump {
            (now, integral)
        } else if start > self.since {
            (start, self.at(start).integral)
        } else {
            (self.window, self.integral_at_window)
        };
        Self {
            events: self.events.wrapping_add(1),
            level,
            since: now,
            integral,
            window,
            integral_at_window,
        }
    }
}

fn load(cell: &[AtomicU64], events: u64) -> LevelState {
    let at = 1 + usize::from(events & 1 == 1) * VERSION_WORDS;
    let word = |offset: usize| cell[at + offset].load(Relaxed);
    let wide = |offset: usize| u128::from(word(offset + 1)) << 64 | u128::from(word(offset));
    LevelState {
        events,
        level: word(0),
        since: word(1).cast_signed(),
        integral: wide(2),
        window: word(4).cast_signed(),
        integral_at_window: wide(5),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half is 64 bits")]
const fn halves(value: u128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

/// Writes a state and commits it.
fn store(cell: &[AtomicU64], state: &LevelState) {
    let at = 1 + usize::from(state.events & 1 == 1) * VERSION_WORDS;
    let [low, high] = halves(state.integral);
    let [window_low, window_high] = halves(state.integral_at_window);
    let words = [
        state.level,
        state.since.cast_unsigned(),
        low,
        high,
        state.window.cast_unsigned(),
        window_low,
        window_high,
    ];
    // A reader that sees one of these stores must also see the count of the set before.
    fence(Release);
    for (word, value) in cell[at..].iter().zip(words) {
        word.store(value, Relaxed);
    }
    cell[0].store(state.events, Release);
}

/// Sets the level from `now` on, by the cell's only writer.
pub fn set(cell: &[AtomicU64], now: i64, width: i64, level: u64) {
    let state = load(cell, cell[0].load(Relaxed)).after(now, width, level);
    store(cell, &state);
}

/// Begins a cell of zeros with a level that has held since `since` and whose integral before
/// that is accounted for elsewhere: a level carried into a new life.
pub fn carry(cell: &[AtomicU64], level: u64, since: i64) {
    let state = LevelState {
        events: 1,
        level,
        since,
        integral: 0,
        window: since,
        integral_at_window: 0,
    };
    store(cell, &state);
}

/// Brings a cell to a state that was read elsewhere, by the cell's only writer: a copy.
pub fn copy(cell: &[AtomicU64], state: &LevelState) {
    if cell[0].load(Relaxed) != state.events {
        store(cell, state);
    }
}

/// What a cell holds, or `None` while the writer is faster than the reader.
pub fn read(cell: &[AtomicU64]) -> Option<LevelState> {
    for _ in 0..READ_ATTEMPTS {
        let events = cell[0].load(Acquire);
        let state = load(cell, events);
        fence(Acquire);
        if cell[0].load(Relaxed) == events {
            return Some(state);
        }
    }
    None
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH: i64 = 10_000;

    fn cell() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn state(cell: &[AtomicU64]) -> LevelState {
        read(cell).expect("quiet")
    }

    #[test]
    fn a_window_closes_exactly_although_the_level_changed_before_the_cut() {
        let cell = cell();
        set(&cell, 1_000, WIDTH, 5);
        set(&cell, 4_000, WIDTH, 7);
        assert_eq!(state(&cell).at(10_000).integral, 5 * 3_000 + 7 * 6_000);
        set(&cell, 10_200, WIDTH, 1);
        set(&cell, 10_300, WIDTH, 2);
        let cut = state(&cell).at(10_000);
        assert_eq!((cut.at, cut.integral), (10_000, 5 * 3_000 + 7 * 6_000));
        let between = state(&cell).at(10_100);
        assert_eq!(
            (between.at, between.integral),
            (10_300, 57_000 + 7 * 200 + 100)
        );
    }

    #[test]
    fn levels_of_the_largest_size_do_not_wrap_in_a_century() {
        let cell = cell();
        set(&cell, 0, WIDTH, u64::MAX >> 1);
        let century = 100 * 366 * 86_400_000i64;
        let integral = state(&cell).at(century).integral;
        assert_eq!(
            integral,
            u128::from(u64::MAX >> 1) * u128::from(century.unsigned_abs())
        );
    }

    #[test]
    fn a_clock_set_back_gives_no_time_to_anybody() {
        let cell = cell();
        set(&cell, 50_000_000_000, WIDTH, 3);
        set(&cell, 1_000, WIDTH, 4);
        assert_eq!(state(&cell).at(2_000).integral, 4_000);
        set(&cell, 500, WIDTH, 5);
        assert_eq!(state(&cell).since, 1_000, "a small step back stands still");
    }

    proptest! {
        /// The integral at every instant since the last set, and at the start of its window,
        /// is the area under the steps.
        #[test]
        fn integrals_are_exact(
            steps in proptest::collection::vec((0..15_000i64, 0..1_000_000u64), 1..30),
            after in 0..40_000i64,
        ) {
            let cell = cell();
            let (mut now, mut past) = (3_000, Vec::new());
            for (wait, level) in steps {
                now += wait;
                set(&cell, now, WIDTH, level);
                past.push((now, level));
            }
            let area = |to: i64| -> u128 {
                let ends = past.iter().skip(1).map(|step| step.0).chain([i64::MAX]);
                past.iter()
                    .zip(ends)
                    .map(|(&(from, level), end)| super::area(level, from, end.min(to)))
                    .sum()
            };
            let state = state(&cell);
            prop_assert_eq!(state.at(now + after).integral, area(now + after));
            let start = window_start(now, WIDTH);
            let cut = state.at(start);
            prop_assert_eq!(cut.integral, area(cut.at));
            prop_assert!(cut.at == start || past[0].0 > start);
        }
    }
}
