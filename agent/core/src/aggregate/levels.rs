//! Baselines of levels: up to where a level is sealed, in the terms of its cell.
//!
//! The words of a baseline are an instant and the integral there. Where the clock is set back
//! to before the last set of a level, the cell's own instant lies in a future that may not
//! come for long. Such a baseline is marked: the level counts from the baseline's instant on,
//! seal by seal, while the integral stays what the cell says, until the cell is set again or
//! the clock has caught up.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::CLOCK_STEP_MAX_MILLIS;
use tollgate::cell::level::{LevelCut, LevelState};

/// Bit of the first word of a marked baseline. Instants are far below it.
const SET_BACK: u64 = 1 << 62;

/// A baseline of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LevelBase {
    pub(crate) cut: LevelCut,
    /// The clock was set back to before the last set.
    pub(crate) set_back: bool,
}

impl LevelBase {
    /// A baseline of zeros: nothing is sealed yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.cut.at == 0
    }

    pub(crate) fn read(words: &[AtomicU64]) -> Self {
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Relaxed));
        Self {
            cut: LevelCut {
                at: (word(0) & !SET_BACK).cast_signed(),
                integral: u128::from(word(2)) << 64 | u128::from(word(1)),
            },
            set_back: word(0) & SET_BACK != 0,
        }
    }

    pub(crate) fn write(&self, words: &[AtomicU64]) {
        let half = |value: u128| u64::try_from(value & u128::from(u64::MAX)).expect("masked");
        let mark = if self.set_back { SET_BACK } else { 0 };
        let values = [
            self.cut.at.cast_unsigned() & !SET_BACK | mark,
            half(self.cut.integral),
            half(self.cut.integral >> 64),
        ];
        for (word, value) in words.iter().zip(values) {
            word.store(value, Relaxed);
        }
    }

    pub(crate) fn plain(cut: LevelCut) -> Self {
        Self {
            cut,
            set_back: false,
        }
    }

    /// Sealed up to `at`, which lies before the cell's last set by the clock of now.
    pub(crate) fn marked(state: &LevelState, at: i64) -> Self {
        let integral = state.integral;
        Self {
            cut: LevelCut { at, integral },
            set_back: true,
        }
    }

    /// The level counts from `at` on, whatever the cell says about the time before.
    pub(crate) fn beginning(state: &LevelState, at: i64) -> Self {
        if state.since > at {
            Self::marked(state, at)
        } else {
            Self::plain(state.at(at))
        }
    }

    /// The same for the next life, whose clock shows `opened`; everything up to `until`, or
    /// up to the last set if that is later, is sealed.
    pub(crate) fn carried(state: &LevelState, until: i64, opened: i64) -> Self {
        let furthest = until.min(opened).saturating_add(CLOCK_STEP_MAX_MILLIS);
        let at = until.max(state.since);
        // The clock was set back: it would not come there for long.
        let at = if at > furthest { until.min(opened) } else { at };
        Self::beginning(state, at)
    }

    /// What the cell says, as it is meant at `to`.
    pub(crate) fn effective(&self, state: LevelState, to: i64) -> LevelState {
        if !self.set_back || state.since <= to {
            return state;
        }
        LevelState {
            since: self.cut.at,
            integral: self.cut.integral,
            window: self.cut.at,
            integral_at_window: self.cut.integral,
            ..state
        }
    }
}
