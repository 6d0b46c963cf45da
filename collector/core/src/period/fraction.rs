//! Parts of periods, as exact fractions.

use std::fmt;
use std::str::FromStr;

use chrono::Days;
use serde::{Deserialize, Serialize};

use super::{Period, Zone};
use crate::rate::Ratio;

/// How the share of a part of a period is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proration {
    /// By true duration, to the millisecond: a day on which clocks go forward has 23 hours.
    #[default]
    Duration,
    /// By days of the tenant's zone, all of them alike. A day counts where it begins, so that the
    /// day of a change belongs whole to what held at its midnight.
    Days,
}

impl Proration {
    /// The name in catalogs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Days => "days",
        }
    }
}

impl fmt::Display for Proration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Proration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "duration" => Ok(Self::Duration),
            "days" => Ok(Self::Days),
            _ => Err("expected \"duration\" or \"days\"".to_owned()),
        }
    }
}

impl Period {
    /// Its length in milliseconds; above zero.
    pub const fn millis(self) -> i64 {
        self.end.millis_since(self.start)
    }

    /// True if it is less than half of a `whole` period: most of that belongs to other periods. What is
    /// not prorated is not due for it.
    pub const fn is_remainder_of(self, whole: Self) -> bool {
        self.millis() < whole.millis() / 2
    }

    /// What lies in both, if anything does.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (start, end) = (
            Ord::max(self.start, other.start),
            Ord::min(self.end, other.end),
        );
        (start < end).then_some(Self { start, end })
    }

    /// Which part of this period `part` is: 0 to 1, exactly. What lies outside does not count.
    ///
    /// Parts that tile the period have fractions that add up to one. A period in which no day
    /// begins, such as an hour, has no days to count and is measured by duration.
    pub fn fraction(self, part: Self, by: Proration, zone: Zone) -> Ratio {
        let Some(part) = self.overlap(part) else {
            return Ratio::ZERO;
        };
        let days = match by {
            Proration::Days => zone.days_begun_in(self),
            Proration::Duration => 0,
        };
        let (numerator, denominator) = if days > 0 {
            (zone.days_begun_in(part), days)
        } else {
            (part.millis(), self.millis())
        };
        // Only a period without length has no fraction; nobody has a share in it.
        Ratio::new(numerator.into(), denominator.into()).unwrap_or(Ratio::ZERO)
    }
}

impl Zone {
    /// How many days of the zone begin within `period`. Days that the zone skipped (Samoa has no
    /// 2011-12-30) do not count.
    pub fn days_begun_in(self, period: Period) -> i64 {
        let mut date = self.date_at(period.start);
        let mut days = 0;
        loop {
            let begins = self.start_of_day(date);
            if begins >= period.end {
                return days;
            }
            if begins >= period.start && self.date_at(begins) == date {
                days += 1;
            }
            let Some(next) = date.checked_add_days(Days::new(1)) else {
                return days;
            };
            date = next;
        }
    }
}
