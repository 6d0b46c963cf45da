//! How often to seal, and what inputs are told, while the spool fills up.
//!
//! A batch costs room in the spool whatever is in it; counts that wait in their cells cost
//! none. So the less room is left, the rarer an agent seals: every window down to a quarter
//! of the room, and then half as often for every half of what is left, so that the last
//! quarter lasts as long as ever so many quarters. Rows become wider: totals are exact, the
//! time within a row is not known, and the span of its batch says so. When a seal finds no
//! room at all, counts stay in the cells; inputs that can wait are asked to. Only when cells
//! have no room for another series either, not even without dimensions, are its events
//! refused, and counted as such.

use serde::Serialize;
use tollgate_common::WindowWidth;

/// Rarest sealing: one in so many windows.
const WINDOWS_MAX: u32 = 64;
/// And at least once in so many seconds.
const SECS_MAX: u32 = 3600;
/// Inputs are asked to wait once so few of the room is left, one part in this.
const HOLD_PART: u64 = 64;

/// What the state of the spool asks of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// Nothing: every window is sealed.
    None,
    /// Nothing: windows are sealed rarely, and rows are wider.
    Rare,
    /// Inputs that can wait do so: who reads counters reads them later, sockets of streams are
    /// not read.
    Hold,
}

/// How many windows to seal at once with `left` bytes of `room` left.
pub(super) fn windows_per_seal(left: u64, room: u64, width: WindowWidth) -> u32 {
    let quarter = room / 4;
    let mut windows = 1;
    let mut bound = quarter;
    while left < bound && windows < WINDOWS_MAX {
        windows *= 2;
        bound /= 2;
    }
    windows.min((SECS_MAX / width.secs()).max(1))
}

/// What to tell the inputs.
pub(super) fn pressure(left: u64, room: u64, full: bool) -> Pressure {
    if full || left < room / HOLD_PART {
        Pressure::Hold
    } else if left < room / 4 {
        Pressure::Rare
    } else {
        Pressure::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_room_the_rarer() {
        let width = WindowWidth::from_secs(10).expect("divides 900");
        let windows = |left| windows_per_seal(left, 1 << 20, width);
        assert_eq!(windows(1 << 20), 1);
        assert_eq!(windows(1 << 18), 1);
        assert_eq!(windows((1 << 18) - 1), 2);
        assert_eq!(windows(1 << 17), 2);
        assert_eq!(windows((1 << 17) - 1), 4);
        assert_eq!(windows(0), 64);
        let width = WindowWidth::from_secs(900).expect("divides itself");
        assert_eq!(windows_per_seal(0, 1 << 20, width), 4, "an hour at most");
    }

    #[test]
    fn inputs_are_told_before_the_last_room_is_gone() {
        assert_eq!(pressure(1 << 20, 1 << 20, false), Pressure::None);
        assert_eq!(pressure(1 << 16, 1 << 20, false), Pressure::Rare);
        assert_eq!(pressure(1 << 13, 1 << 20, false), Pressure::Hold);
        assert_eq!(pressure(1 << 20, 1 << 20, true), Pressure::Hold);
    }
}
