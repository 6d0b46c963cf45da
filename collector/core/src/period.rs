//! Billing periods: half-open intervals in a tenant's own time zone, as UTC instants.

mod midnight;

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::Timestamp;

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
        Timestamp::from_secs(midnight::first_instant(self.0, date))
    }

    /// What clocks of the zone show at `instant`.
    pub fn clocks_at(self, instant: Timestamp) -> NaiveDateTime {
        midnight::local_time(self.0, instant.secs())
    }

    /// The first instant of the local day that contains `instant`.
    ///
    /// Where clocks go back over midnight they show the date before once more; such instants
    /// belong to the day that has begun already.
    pub fn start_of_local_day(self, instant: Timestamp) -> Timestamp {
        let calendar = Calendar {
            zone: self,
            every: Every::Day,
        };
        calendar.period_containing(instant).start
    }

    /// The date that clocks of the zone show at `instant`.
    pub fn date_at(self, instant: Timestamp) -> NaiveDate {
        midnight::local_date(self.0, instant.secs())
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

/// How long periods are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Calendar months of the tenant's zone: `P1M`.
    Month,
    /// Calendar days of the tenant's zone: `P1D`.
    Day,
    /// Intervals of a fixed number of seconds that begin at multiples of it since
    /// 1970-01-01T00:00Z, whatever the zone: `PT15S`, `PT1M`, `PT1H`. For demonstrations and
    /// tests. The number divides 86,400.
    Seconds(u32),
}

/// Not a period that can be billed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "period `{0}` is not supported (expected `P1M` for calendar months, `P1D` for calendar days, \
     or hours, minutes and seconds that divide a day evenly, such as `PT1H` or `PT15S`)"
)]
pub struct UnsupportedPeriod(String);

const DAY_SECS: u32 = 86_400;

impl FromStr for Every {
    type Err = UnsupportedPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "P1M" => Ok(Self::Month),
            "P1D" => Ok(Self::Day),
            _ => clock_seconds(text)
                .filter(|&seconds| seconds != 0 && DAY_SECS.is_multiple_of(seconds))
                .map(Self::Seconds)
                .ok_or_else(|| UnsupportedPeriod(text.chars().take(32).collect())),
        }
    }
}

/// Reads `PT[nH][nM][nS]`.
fn clock_seconds(text: &str) -> Option<u32> {
    let mut rest = text.strip_prefix("PT")?;
    let mut seconds: u32 = 0;
    for (unit, factor) in [('H', 3600), ('M', 60), ('S', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let part = number.parse::<u32>().ok()?.checked_mul(factor)?;
            seconds = seconds.checked_add(part)?;
            rest = after;
        }
    }
    rest.is_empty().then_some(seconds)
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Month => f.write_str("P1M"),
            Self::Day => f.write_str("P1D"),
            Self::Seconds(seconds) if seconds.is_multiple_of(3600) => {
                write!(f, "PT{}H", seconds / 3600)
            }
            Self::Seconds(seconds) if seconds.is_multiple_of(60) => {
                write!(f, "PT{}M", seconds / 60)
            }
            Self::Seconds(seconds) => write!(f, "PT{seconds}S"),
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

/// How a tenant's time is cut into periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Whose clocks count.
    pub zone: Zone,
    /// How long periods are.
    pub every: Every,
}

impl Calendar {
    /// Calendar months in UTC: for tenants that nobody has described.
    pub const DEFAULT: Self = Self {
        zone: Zone::UTC,
        every: Every::Month,
    };

    /// The period that contains `instant`.
    ///
    /// Periods tile time from [`Timestamp::EPOCH`] to [`Timestamp::MAX`] without gap or
    /// overlap; the first and the last are cut there.
    pub fn period_containing(self, instant: Timestamp) -> Period {
        match self.every {
            Every::Seconds(seconds) => {
                let seconds = i64::from(seconds);
                let start = instant.secs() - instant.secs() % seconds;
                Period {
                    start: Timestamp::from_secs(start),
                    end: Timestamp::from_secs(start + seconds),
                }
            }
            Every::Day | Every::Month => self.local_period(instant),
        }
    }

    fn local_period(self, instant: Timestamp) -> Period {
        let mut first = self.first_date(self.zone.date_at(instant));
        // Where clocks go back over midnight they show the date before once more; such
        // instants belong to the period that has begun already.
        let mut start = self.zone.start_of_day(first);
        let mut end = self.zone.start_of_day(self.next_date(first));
        while end <= instant && end < Timestamp::MAX {
            first = self.next_date(first);
            start = end;
            end = self.zone.start_of_day(self.next_date(first));
        }
        Period { start, end }
    }

    /// First day of the period in which `date` lies.
    fn first_date(self, date: NaiveDate) -> NaiveDate {
        match self.every {
            Every::Month => date.with_day(1).expect("every month has a first day"),
            Every::Day | Every::Seconds(_) => date,
        }
    }

    /// First day of the period that follows the one that begins on `first`.
    fn next_date(self, first: NaiveDate) -> NaiveDate {
        let next = match self.every {
            Every::Month => first.checked_add_months(chrono::Months::new(1)),
            Every::Day | Every::Seconds(_) => first.checked_add_days(Days::new(1)),
        };
        next.expect("dates reach far beyond the range of a timestamp")
    }

    /// A short name for a period: `2026-06`, `2026-06-01`, or its start in UTC.
    pub fn label(self, period: Period) -> String {
        let date = self.zone.date_at(period.start);
        match self.every {
            Every::Month => date.format("%Y-%m").to_string(),
            Every::Day => date.format("%Y-%m-%d").to_string(),
            Every::Seconds(_) => period.start.to_string(),
        }
    }
}

/// The calendars that a tenant has had, each from an instant on.
///
/// A new calendar takes effect where the period ends that is open when the change is made,
/// so that no period is cut short behind the tenant's back; the first period of the new
/// calendar is cut to begin there. Which period an instant belongs to thus depends on the
/// changes alone and not on the order in which usage arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendars {
    first: Calendar,
    /// Ordered by instant.
    later: Vec<(Timestamp, Calendar)>,
}

impl Calendars {
    /// One calendar for all time.
    pub const fn new(first: Calendar) -> Self {
        Self {
            first,
            later: Vec::new(),
        }
    }

    /// The calendar that was set last.
    pub fn current(&self) -> Calendar {
        self.later
            .last()
            .map_or(self.first, |(_, calendar)| *calendar)
    }

    /// Sets `calendar` from the end of the period that is open at `now`.
    pub fn change(&mut self, now: Timestamp, calendar: Calendar) {
        if calendar == self.current() {
            return;
        }
        // A change that has not taken effect yet is replaced by this one.
        while self.later.last().is_some_and(|(from, _)| *from > now) {
            self.later.pop();
        }
        if calendar != self.current() {
            let from = self.period_containing(now).end;
            self.later.push((from, calendar));
        }
    }

    /// The period that contains `instant`.
    pub fn period_containing(&self, instant: Timestamp) -> Period {
        let (from, calendar, until) = self.calendar_at(instant);
        let period = calendar.period_containing(instant);
        Period {
            start: Ord::max(period.start, from),
            end: Ord::min(period.end, until),
        }
    }

    /// True for the first period of a new calendar if less than half of it is left, such as the
    /// last two hours of June after a change from Berlin's clocks to those of UTC. Most of its time
    /// belongs to periods of the calendar before.
    pub fn is_remainder(&self, period: Period) -> bool {
        let (_, calendar, _) = self.calendar_at(period.start);
        let whole = calendar.period_containing(period.start);
        let millis = |period: Period| period.end.millis_since(period.start);
        millis(period) < millis(whole) / 2
    }

    /// The calendar that holds at `instant`, since when, and until when.
    fn calendar_at(&self, instant: Timestamp) -> (Timestamp, Calendar, Timestamp) {
        let index = self.later.partition_point(|(from, _)| *from <= instant);
        let (from, calendar) = match index.checked_sub(1).and_then(|i| self.later.get(i)) {
            Some((from, calendar)) => (*from, *calendar),
            None => (Timestamp::EPOCH, self.first),
        };
        let until = self
            .later
            .get(index)
            .map_or(Timestamp::MAX, |(from, _)| *from);
        (from, calendar, until)
    }

    /// A short name for a period, by the calendar that it belongs to.
    pub fn label(&self, period: Period) -> String {
        let before = self
            .later
            .iter()
            .rev()
            .find(|(from, _)| *from <= period.start);
        before
            .map_or(self.first, |(_, calendar)| *calendar)
            .label(period)
    }
}

#[cfg(test)]
mod tests;
