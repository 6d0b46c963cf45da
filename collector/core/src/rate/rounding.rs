//! How and where amounts are rounded.

use std::fmt;
use std::str::FromStr;

use super::Ratio;

/// How a fraction becomes a whole number of the smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To the nearest, halves away from zero.
    #[default]
    HalfUp,
    /// To the nearest, halves to the even neighbour.
    HalfEven,
    /// Away from zero.
    Up,
    /// Towards zero.
    Down,
}

impl Mode {
    /// As it is written in a catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HalfUp => "half_up",
            Self::HalfEven => "half_even",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "half_up" => Ok(Self::HalfUp),
            "half_even" => Ok(Self::HalfEven),
            "up" => Ok(Self::Up),
            "down" => Ok(Self::Down),
            _ => Err(
                "not a way of rounding (expected `half_up`, which is half away from zero, \
                 `half_even`, `up` or `down`)",
            ),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is rounded first. Whatever it is, the line is rounded in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// Only the complete line.
    #[default]
    Line,
    /// The amount of each tier, flat fee included.
    Tier,
    /// What each event costs, where single events are priced.
    Event,
    /// The price of one block, before it is multiplied by their number.
    Increment,
    /// The sum of all lines that say so, and not the line: the difference is split over them.
    Invoice,
}

impl FromStr for Site {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "line" => Ok(Self::Line),
            "tier" => Ok(Self::Tier),
            "event" => Ok(Self::Event),
            "increment" => Ok(Self::Increment),
            "invoice" => Ok(Self::Invoice),
            _ => Err(
                "not a place of rounding (expected `line`, `tier`, `event`, `increment` or \
                 `invoice`)",
            ),
        }
    }
}

/// The rounding of one price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding {
    /// What is rounded first.
    pub site: Site,
    /// How.
    pub mode: Mode,
    /// To how many decimal places, 0 to 12; `None` for those of the currency.
    pub places: Option<u32>,
    /// To multiples of this, which is no finer than the currency, in place of so many places.
    pub step: Option<Ratio>,
}
