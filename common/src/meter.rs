//! What a meter declares about its numbers: how they aggregate and at which decimal scale.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::SCALE_MAX;

/// How the values of a series combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Aggregation {
    /// Values add up: bytes, requests, seconds.
    Sum = 1,
    /// The newest value stands, ordered by (window, agent, cell): a gauge.
    Last = 2,
    /// The largest value stands: a peak.
    Max = 3,
    /// The number of distinct values: active users. The value of a rollup is an estimate for
    /// people; what counts is its sketch.
    Unique = 4,
    /// Values add up, and a histogram tells how they were distributed: latencies, sizes.
    Distribution = 5,
    /// A level times the time that it stood, in units of the meter times milliseconds: the
    /// scale of a rollup is that of the meter plus 3.
    TimeWeighted = 6,
}

impl Aggregation {
    /// All of them, by code.
    pub const ALL: [Self; 6] = [
        Self::Sum,
        Self::Last,
        Self::Max,
        Self::Unique,
        Self::Distribution,
        Self::TimeWeighted,
    ];

    /// The number that stands for this aggregation in formats.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The aggregation with this number, or `None` if this version knows none.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Sum),
            2 => Some(Self::Last),
            3 => Some(Self::Max),
            4 => Some(Self::Unique),
            5 => Some(Self::Distribution),
            6 => Some(Self::TimeWeighted),
            _ => None,
        }
    }

    /// The name used in configuration and output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Last => "last",
            Self::Max => "max",
            Self::Unique => "unique",
            Self::Distribution => "distribution",
            Self::TimeWeighted => "time_weighted",
        }
    }

    /// Decimal places of a rollup's value, of a meter with `scale` places: those of the meter,
    /// and of a level over time three more, because its milliseconds are counted. `None` beyond
    /// [`SCALE_MAX`].
    pub fn rollup_scale(self, scale: Scale) -> Option<Scale> {
        match self {
            Self::TimeWeighted => Scale::new(scale.get() + 3).ok(),
            _ => Some(scale),
        }
    }

    /// True if values of windows and agents add up, so that none of them is below zero.
    pub const fn adds_up(self) -> bool {
        matches!(self, Self::Sum | Self::Distribution | Self::TimeWeighted)
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The names, for messages.
const NAMES: &str = "`sum`, `last`, `max`, `unique`, `distribution` or `time_weighted`";

/// Not the name of an aggregation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown aggregation `{0}` (expected {NAMES})")]
pub struct UnknownAggregation(String);

impl FromStr for Aggregation {
    type Err = UnknownAggregation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|aggregation| aggregation.as_str() == text)
            .ok_or_else(|| UnknownAggregation(text.to_owned()))
    }
}

/// Decimal places of a meter's smallest unit: 0 counts whole units, 3 counts thousandths.
///
/// Range: 0 to [`SCALE_MAX`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Scale(u8);

/// A scale above [`SCALE_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scale {0} is out of range (expected 0 to {SCALE_MAX})")]
pub struct ScaleError(u8);

impl Scale {
    /// Whole units.
    pub const ZERO: Self = Self(0);

    /// A scale of `places` decimal places.
    pub const fn new(places: u8) -> Result<Self, ScaleError> {
        if places <= SCALE_MAX {
            Ok(Self(places))
        } else {
            Err(ScaleError(places))
        }
    }

    /// The number of decimal places.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Scale {
    type Error = ScaleError;

    fn try_from(places: u8) -> Result<Self, Self::Error> {
        Self::new(places)
    }
}

impl From<Scale> for u8 {
    fn from(scale: Scale) -> Self {
        scale.0
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
