//! Windows: half-open intervals of event time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Seconds that every window width divides. No time zone since 1980 is offset by anything
/// but a multiple of it, so no window straddles a local midnight.
pub const WINDOW_QUANTUM_SECS: u32 = 900;

/// The width of a window in seconds: a divisor of 900.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct WindowWidth(u32);

/// A width that does not divide 900 s.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "window width of {0} s does not divide {WINDOW_QUANTUM_SECS} s (try 1, 5, 10, 15, 20, 30, 60, 300 or 900)"
)]
pub struct WindowWidthError(u32);

impl WindowWidth {
    /// A width of `seconds`.
    pub const fn from_secs(seconds: u32) -> Result<Self, WindowWidthError> {
        if seconds != 0 && WINDOW_QUANTUM_SECS.is_multiple_of(seconds) {
            Ok(Self(seconds))
        } else {
            Err(WindowWidthError(seconds))
        }
    }

    /// The width in seconds.
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// The width in milliseconds.
    pub const fn millis(self) -> i64 {
        self.0 as i64 * 1000
    }
}

impl TryFrom<u32> for WindowWidth {
    type Error = WindowWidthError;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        Self::from_secs(seconds)
    }
}

impl From<WindowWidth> for u32 {
    fn from(width: WindowWidth) -> Self {
        width.0
    }
}

/// A half-open interval `[start, end)` in UTC, aligned to a multiple of its width.
///
/// Ordered by start, then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Window {
    start: Timestamp,
    width: WindowWidth,
}

/// A start that is no multiple of the width.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("window start {start} is not aligned to its width of {width} s")]
pub struct UnalignedWindow {
    start: Timestamp,
    width: u32,
}

impl Window {
    /// The window of `width` that contains `instant`.
    pub const fn containing(instant: Timestamp, width: WindowWidth) -> Self {
        let start = instant.millis() - instant.millis() % width.millis();
        Self {
            start: Timestamp::from_millis(start),
            width,
        }
    }

    /// The window that starts at `start`, which must be aligned.
    pub const fn starting(start: Timestamp, width: WindowWidth) -> Result<Self, UnalignedWindow> {
        if start.millis() % width.millis() == 0 {
            Ok(Self { start, width })
        } else {
            Err(UnalignedWindow {
                start,
                width: width.secs(),
            })
        }
    }

    /// First instant inside.
    pub const fn start(self) -> Timestamp {
        self.start
    }

    /// First instant after.
    pub const fn end(self) -> Timestamp {
        self.start.plus_millis(self.width.millis())
    }

    /// Length of the window.
    pub const fn width(self) -> WindowWidth {
        self.width
    }

    /// The window of the same width that begins where this one ends.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            start: self.end(),
            width: self.width,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} +{}s)", self.start, self.width.secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_divide_a_quarter_of_an_hour() {
        for seconds in [1, 10, 60, 300, 900] {
            assert!(WindowWidth::from_secs(seconds).is_ok());
        }
        for seconds in [0, 7, 120 + 1, 1800] {
            assert_eq!(
                WindowWidth::from_secs(seconds),
                Err(WindowWidthError(seconds))
            );
        }
    }

    #[test]
    fn windows_tile_time() {
        let width = WindowWidth::from_secs(10).expect("divides 900");
        let window = Window::containing(Timestamp::from_millis(25_001), width);
        assert_eq!(window.start(), Timestamp::from_secs(20));
        assert_eq!(window.end(), Timestamp::from_secs(30));
        assert_eq!(window.next().start(), window.end());
        assert!(Window::starting(Timestamp::from_secs(25), width).is_err());
    }
}
