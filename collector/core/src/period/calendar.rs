//! How a tenant's time is cut into periods.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike};
use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use super::{Every, Period, Zone, local};

/// A local time at which a period begins; all others follow from it.
///
/// Years 1970 to 9999, on a quarter of an hour, so that no window is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Anchor(NaiveDateTime);

/// Not a time at which a period can begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "anchor `{0}` is not supported (expected a date such as `2026-01-31`, or with a time of day on a quarter of an hour \
     such as `2026-01-31T06:00`, between 1970 and 9999)"
)]
pub struct UnsupportedAnchor(String);

impl Anchor {
    /// 00:00 of a day between 1970 and 9999.
    pub fn of_date(date: NaiveDate) -> Option<Self> {
        Self::new(date.and_time(NaiveTime::MIN))
    }

    fn new(time: NaiveDateTime) -> Option<Self> {
        let sound = (1970..=9999).contains(&time.year())
            && time.minute().is_multiple_of(15)
            && time.second() == 0
            && time.nanosecond() == 0;
        sound.then_some(Self(time))
    }

    fn is_midnight(self) -> bool {
        self.0.time() == NaiveTime::MIN
    }
}

impl FromStr for Anchor {
    type Err = UnsupportedAnchor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = match text.len() {
            10 => NaiveDate::parse_from_str(text, "%Y-%m-%d")
                .ok()
                .map(|date| date.and_time(NaiveTime::MIN)),
            16 => NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M").ok(),
            _ => None,
        };
        time.and_then(Self::new)
            .ok_or_else(|| UnsupportedAnchor(text.chars().take(32).collect()))
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_midnight() {
            write!(f, "{}", self.0.format("%Y-%m-%d"))
        } else {
            write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M"))
        }
    }
}

/// How a tenant's time is cut into periods.
///
/// Period *k* begins *k* lengths after the anchor, counted from the anchor itself and not from
/// the period before: months from the 31st on begin on the last day of shorter months, and on
/// the 31st again where there is one. Time before the anchor is cut in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// Whose clocks count.
    pub zone: Zone,
    /// How long periods are.
    pub every: Every,
    /// Where one of them begins. Without one, months count from January, weeks begin on Monday,
    /// and hours, minutes and seconds count from midnight UTC.
    pub anchor: Option<Anchor>,
}

/// The length says nothing of where such periods begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "periods of `{0}` need an `anchor` that says where one begins (without one: months that divide a year, weeks, single \
     days, and hours, minutes and seconds that divide a day)"
)]
pub struct NeedsAnchor(pub Every);

impl Calendar {
    /// Calendar months in UTC: for tenants that nobody has described.
    pub const DEFAULT: Self = Self::new(Zone::UTC, Every::MONTH);

    /// Periods without an anchor.
    pub const fn new(zone: Zone, every: Every) -> Self {
        Self {
            zone,
            every,
            anchor: None,
        }
    }

    /// Periods with an anchor, or without where they need none.
    pub const fn anchored(
        zone: Zone,
        every: Every,
        anchor: Option<Anchor>,
    ) -> Result<Self, NeedsAnchor> {
        if anchor.is_none() && every.needs_anchor() {
            return Err(NeedsAnchor(every));
        }
        Ok(Self {
            zone,
            every,
            anchor,
        })
    }

    /// The period that contains `instant`.
    ///
    /// Periods tile time from [`Timestamp::EPOCH`] to [`Timestamp::MAX`] without gap or
    /// overlap; the first and the last are cut there.
    pub fn period_containing(self, instant: Timestamp) -> Period {
        if let Every::Seconds(seconds) = self.every {
            return self.fixed_period(instant, i64::from(seconds.max(1)));
        }
        let mut index = self.index_at(self.zone.clocks_at(instant));
        // Where clocks go back over the boundary they show a time before it once more; such
        // instants belong to the period that has begun already.
        let mut start = self.boundary(index);
        let mut end = self.boundary(index.saturating_add(1));
        // Between the end of a gap and the next quarter of an hour the period before goes on.
        while start > instant {
            index = index.saturating_sub(1);
            end = start;
            start = self.boundary(index);
        }
        while end <= instant && end < Timestamp::MAX {
            index = index.saturating_add(1);
            start = end;
            end = self.boundary(index.saturating_add(1));
        }
        Period { start, end }
    }

    fn fixed_period(self, instant: Timestamp, seconds: i64) -> Period {
        let origin = self
            .anchor
            .map_or(0, |anchor| local::first_instant(self.zone.0, anchor.0));
        let start = origin + (instant.secs() - origin).div_euclid(seconds) * seconds;
        Period {
            start: Timestamp::from_secs(start),
            end: Timestamp::from_secs(start + seconds),
        }
    }

    /// The local time at which period 0 begins.
    fn origin(self) -> NaiveDateTime {
        let date = match self.every {
            // The first Monday, for weeks.
            Every::Days(_) => NaiveDate::from_ymd_opt(1970, 1, 5),
            Every::Months(_) | Every::Seconds(_) => NaiveDate::from_ymd_opt(1970, 1, 1),
        };
        self.anchor.map_or_else(
            || date.expect("days of January 1970").and_time(NaiveTime::MIN),
            |anchor| anchor.0,
        )
    }

    /// The number of the period that contains the local time `shown`.
    fn index_at(self, shown: NaiveDateTime) -> i64 {
        let origin = self.origin();
        let index = match self.every {
            Every::Months(months) => {
                let month =
                    |time: NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
                (month(shown) - month(origin)).div_euclid(i64::from(months.max(1)))
            }
            Every::Days(days) => (shown.date() - origin.date())
                .num_days()
                .div_euclid(i64::from(days.max(1))),
            Every::Seconds(_) => 0,
        };
        match self.local_boundary(index) {
            Some(begins) if begins > shown => index - 1,
            _ => index,
        }
    }

    /// The local time at which period `index` begins; `None` beyond what dates can say.
    fn local_boundary(self, index: i64) -> Option<NaiveDateTime> {
        let origin = self.origin();
        match self.every {
            Every::Months(months) => {
                let months = index.checked_mul(i64::from(months.max(1)))?;
                let distance = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
                // From the anchor each time: what is clamped in February comes back in March.
                if months < 0 {
                    origin.checked_sub_months(distance)
                } else {
                    origin.checked_add_months(distance)
                }
            }
            Every::Days(days) => {
                let days = index.checked_mul(i64::from(days.max(1)))?;
                origin.checked_add_signed(TimeDelta::try_days(days)?)
            }
            Every::Seconds(_) => None,
        }
    }

    /// The instant at which period `index` begins.
    fn boundary(self, index: i64) -> Timestamp {
        match self.local_boundary(index) {
            Some(local) => self.zone.first_shown(local),
            None if index < 0 => Timestamp::EPOCH,
            None => Timestamp::MAX,
        }
    }

    /// A short name for a period: `2026`, `2026-Q2`, `2026-06`, `2026-06-01`, or its start in UTC.
    pub fn label(self, period: Period) -> String {
        let shown = self.zone.clocks_at(period.start);
        let (year, month) = (shown.year(), shown.month());
        let first_of_month = self
            .anchor
            .is_none_or(|anchor| anchor.is_midnight() && anchor.0.day() == 1);
        match self.every {
            Every::Seconds(_) => period.start.to_string(),
            Every::Months(12) if first_of_month && month == 1 => format!("{year:04}"),
            Every::Months(3) if first_of_month && month % 3 == 1 => {
                format!("{year:04}-Q{}", month / 3 + 1)
            }
            Every::Months(_) if first_of_month => format!("{year:04}-{month:02}"),
            Every::Months(_) | Every::Days(_) => shown.format("%Y-%m-%d").to_string(),
        }
    }
}
