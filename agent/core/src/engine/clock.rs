//! The time that windows follow: a steady clock, anchored to the wall clock.
//!
//! Everything in the engine that waits or retries follows the *steady* time `now`: it began
//! as the wall clock's at the start, goes on evenly while the host sleeps too, and knows no
//! steps. *Window time* is the steady time plus an offset. This machine decides the offset
//! from what the wall clock says beside it.
//!
//! # The rule
//!
//! - A difference of up to [`STEP_MILLIS`] is drift: the offset follows it by at most one
//!   part in [`SLEW_DIVISOR`] of the time that passes, so that window time never goes back.
//! - A larger difference is a step. Windows go on as before until the seal at the end of the
//!   window. If the clock is back by then, nothing happened. Otherwise the seal cuts at the
//!   old time, names the step in its batch, and becomes the anchor of the new time:
//!   - A step forward: the next span begins at the new time. No time is in between.
//!   - A step back by up to [`CLOCK_STEP_MAX_MILLIS`]: windows that are sealed stay sealed.
//!     Window time stands still at the cut until the wall clock has caught up; what is
//!     counted meanwhile is sealed as always and belongs to the window of the cut.
//!   - A step back by more: the clock was wrong before, and rows would wait for its future.
//!     The next span begins at the new time; watermarks stay where they are.
//! - While a seal finds no room, the anchor stays: cut and anchor move together or not at all.

use tollgate_common::Timestamp;

use crate::seal::CLOCK_STEP_MAX_MILLIS;

/// A larger difference between wall clock and window time is a step: NTP steps at 128 ms or
/// more and slews below.
pub const STEP_MILLIS: i64 = 500;
/// The offset follows drift by one part in this; the kernel slews its clock by one in 2000.
pub const SLEW_DIVISOR: i64 = 200;

/// How steady time becomes window time; for threads that have no engine to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Window time minus steady time, in milliseconds.
    pub offset_millis: i64,
    /// Window time does not go below this, unless it is further away than a clock is waited for
    /// ([`CLOCK_STEP_MAX_MILLIS`]).
    pub floor: Timestamp,
}

impl Anchor {
    /// The window time at a steady time.
    pub fn time(self, now: Timestamp) -> Timestamp {
        let time = now.plus_millis(self.offset_millis);
        if self.floor.millis_since(time) > CLOCK_STEP_MAX_MILLIS {
            time
        } else {
            time.max(self.floor)
        }
    }
}

/// Where the next span begins after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// How far the wall clock is from window time, in milliseconds.
    pub(crate) by_millis: i64,
    /// The cut that the next span begins at.
    pub(crate) next: Timestamp,
}

/// Follows the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    anchor: Anchor,
    /// Wall time minus steady time when both were last seen.
    wall_offset_millis: i64,
    /// Up to here drift has been followed.
    slewed: Timestamp,
}

impl Clock {
    /// Window time is `now`, but not before `cut`, unless that is so far ahead that the clock
    /// which made it was wrong.
    pub(crate) fn new(now: Timestamp, cut: Timestamp) -> Self {
        Self {
            anchor: Anchor {
                offset_millis: 0,
                floor: cut,
            },
            wall_offset_millis: 0,
            slewed: now,
        }
    }

    pub(crate) fn anchor(&self) -> Anchor {
        self.anchor
    }

    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        self.anchor.time(now)
    }

    /// What the wall clock shows, as far as it is known.
    pub(crate) fn wall(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(self.wall_offset_millis)
    }

    /// At `now` the wall clock shows `wall`.
    pub(crate) fn handle_wall(&mut self, now: Timestamp, wall: Timestamp) {
        self.wall_offset_millis = wall.millis_since(now);
        let difference = self.difference();
        let budget = now.millis_since(self.slewed).max(0) / SLEW_DIVISOR;
        if difference.abs() <= STEP_MILLIS {
            self.anchor.offset_millis += difference.clamp(-budget, budget);
            // What is left of a division is kept for the next call.
            self.slewed = self.slewed.plus_millis(budget * SLEW_DIVISOR);
        } else {
            self.slewed = now;
        }
    }

    /// How far the wall clock is ahead of window time, in milliseconds; negative if behind.
    pub(crate) fn ahead_millis(&self) -> i64 {
        self.difference()
    }

    fn difference(&self) -> i64 {
        self.wall_offset_millis - self.anchor.offset_millis
    }

    /// What a cut at the window time `to` has to say about a step.
    pub(crate) fn turn(&self, to: Timestamp) -> Option<Turn> {
        let by_millis = self.difference();
        if by_millis.abs() <= STEP_MILLIS {
            return None;
        }
        let held = (-CLOCK_STEP_MAX_MILLIS..0).contains(&by_millis);
        let next = if held { to } else { to.plus_millis(by_millis) };
        Some(Turn { by_millis, next })
    }

    /// The cut that told a step is durable.
    pub(crate) fn handle_turn(&mut self, now: Timestamp, turn: Turn) {
        self.anchor = Anchor {
            offset_millis: self.anchor.offset_millis + turn.by_millis,
            floor: turn.next,
        };
        self.slewed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_secs(1_780_000_000).plus_millis(millis)
    }

    #[test]
    fn drift_is_followed_slowly_and_never_back() {
        for drift in [-300, 300] {
            let mut clock = Clock::new(at(0), at(0));
            let mut before = at(0);
            for millis in (0..100_000).step_by(7) {
                clock.handle_wall(at(millis), at(millis + drift));
                assert_eq!(clock.turn(at(millis)), None);
                let time = clock.time(at(millis));
                assert!(time >= before);
                assert!(time.millis_since(before) <= 8);
                before = time;
            }
            assert_eq!(clock.anchor().offset_millis, drift);
            assert_eq!(clock.wall(at(5)), at(5 + drift));
        }
    }

    #[test]
    fn a_step_that_is_taken_back_before_the_cut_never_was() {
        let mut clock = Clock::new(at(0), at(0));
        clock.handle_wall(at(1000), at(1000 + HOUR));
        assert_eq!(clock.time(at(2000)), at(2000), "windows go on");
        clock.handle_wall(at(3000), at(3000));
        assert_eq!(clock.turn(at(10_000)), None);
    }

    #[test]
    fn a_step_forward_moves_cut_and_anchor_together() {
        let mut clock = Clock::new(at(0), at(0));
        clock.handle_wall(at(1000), at(1000 + 3 * HOUR));
        let turn = clock.turn(at(10_000)).expect("a step");
        assert_eq!(turn.by_millis, 3 * HOUR);
        assert_eq!(turn.next, at(10_000 + 3 * HOUR));
        clock.handle_turn(at(10_000), turn);
        assert_eq!(clock.time(at(10_500)), at(10_500 + 3 * HOUR));
        assert_eq!(clock.turn(at(10_500 + 3 * HOUR)), None);
    }

    #[test]
    fn a_step_back_waits_for_the_clock_and_a_large_one_does_not() {
        let mut clock = Clock::new(at(0), at(0));
        clock.handle_wall(at(1000), at(1000 - HOUR / 2));
        let turn = clock.turn(at(10_000)).expect("a step");
        clock.handle_turn(at(10_000), turn);
        assert_eq!(clock.time(at(10_000 + HOUR / 4)), at(10_000));
        assert_eq!(clock.time(at(11_000 + HOUR / 2)), at(11_000));

        let mut clock = Clock::new(at(0), at(0));
        clock.handle_wall(at(1000), at(1000 - 30 * HOUR));
        let turn = clock.turn(at(10_000)).expect("a step");
        clock.handle_turn(at(10_000), turn);
        assert_eq!(clock.time(at(11_000)), at(11_000 - 30 * HOUR));
    }

    #[test]
    fn a_start_behind_the_last_cut_waits_for_it() {
        assert_eq!(Clock::new(at(0), at(5000)).time(at(10)), at(5000));
        assert_eq!(Clock::new(at(0), at(2 * HOUR)).time(at(10)), at(10));
    }
}
