//! Billing periods: half-open intervals in a tenant's own time zone, as UTC instants.
//!
//! `docs/periods.md` has the rules in full, with examples that are tests.

mod calendar;
mod calendars;
mod every;
mod fraction;
mod local;
#[cfg(any(test, feature = "testing"))]
pub mod tiling;

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::Timestamp;

pub use calendar::{Anchor, Calendar, NeedsAnchor, UnsupportedAnchor};
pub use calendars::Calendars;
pub use every::{Every, UnsupportedPeriod};
pub use fraction::Proration;

/// The version of the IANA time-zone data that is compiled in, such as `2025b`.
pub const ZONE_DATA: &str = chrono_tz::IANA_TZDB_VERSION;

/// A half-open interval `[start, end)` of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Period {
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
}

impl Period {
    /// True if `instant` lies inside.
    pub fn contains(self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// An IANA time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(chrono_tz::Tz);

/// Not the name of a time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone `{0}` (expected an IANA name such as `Europe/Berlin` or `UTC`)")]
pub struct UnknownZone(String);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(chrono_tz::Tz::UTC);

    /// The IANA name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The first instant at which clocks of the zone show `date` or later.
    ///
    /// Where clocks skip midnight this is the end of the gap; where they show midnight twice
    /// it is the first time.
    pub fn start_of_day(self, date: NaiveDate) -> Timestamp {
        self.first_shown(date.and_time(NaiveTime::MIN))
    }

    /// The first instant at which clocks of the zone show `local` or later.
    pub(crate) fn first_shown(self, local: NaiveDateTime) -> Timestamp {
        Timestamp::from_secs(local::first_instant(self.0, local))
    }

    /// What clocks of the zone show at `instant`, without fractions of a second.
    pub fn clocks_at(self, instant: Timestamp) -> NaiveDateTime {
        local::shown(self.0, instant.secs())
    }

    /// The first instant of the local day that contains `instant`.
    ///
    /// Where clocks go back over midnight they show the date before once more; such instants
    /// belong to the day that has begun already.
    pub fn start_of_local_day(self, instant: Timestamp) -> Timestamp {
        Calendar::new(self, Every::DAY)
            .period_containing(instant)
            .start
    }

    /// The date that clocks of the zone show at `instant`.
    pub fn date_at(self, instant: Timestamp) -> NaiveDate {
        self.clocks_at(instant).date()
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name.parse() {
            Ok(zone) => Ok(Self(zone)),
            Err(_) => Err(UnknownZone(name.chars().take(64).collect())),
        }
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

serde_as_text!(Zone);
serde_as_text!(Every);
serde_as_text!(Anchor);

#[cfg(test)]
pub(crate) mod periods_doc;
#[cfg(test)]
mod tests;
