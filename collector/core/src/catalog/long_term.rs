//! Tiers that go on over several billing periods: those of a year, say, of which each month is billed.

use std::str::FromStr;

use chrono::NaiveDate;
use tollgate_common::Timestamp;

use super::Meter;
use super::cards::Date;
use super::price::{FirstFlat, Interval, Price, Scheme, TierBy};
use super::read::{Reader, Section};
use crate::period::{Anchor, Calendar, Every, Period, Zone};
use crate::rate::adds_up;

/// Longest term: ten years.
const MONTHS_MAX: u16 = 120;

/// After what time tiers begin anew that go on over several billing periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongTerm {
    /// How long it is: months or years.
    pub every: Every,
    /// The day on which one begins; `None` for terms that are counted from January.
    pub from: Option<NaiveDate>,
}

impl LongTerm {
    /// The term in which an instant lies, by these clocks.
    pub(crate) fn containing(self, zone: Zone, instant: Timestamp) -> Option<Period> {
        let anchor = match self.from {
            Some(from) => Some(Anchor::of_date(from)?),
            None => None,
        };
        let calendar = Calendar::anchored(zone, self.every, anchor).ok()?;
        Some(calendar.period_containing(instant))
    }

    /// True if several periods of this length fit into it.
    pub(super) fn outlasts(self, every: Every) -> bool {
        let Every::Months(months) = self.every else {
            return false;
        };
        match every {
            Every::Months(own) => own < months,
            Every::Days(days) => u32::from(days) < 28 * u32::from(months),
            Every::Seconds(_) => false,
        }
    }
}

/// What `interval` says.
#[derive(Default)]
struct Restart {
    interval: Interval,
    every: Option<Every>,
}

impl FromStr for Restart {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let short = text.parse::<Interval>();
        match (short, text.parse::<Every>()) {
            (Ok(interval), _) => Ok(Self {
                interval,
                every: None,
            }),
            (Err(_), Ok(every @ Every::Months(months))) if months <= MONTHS_MAX => Ok(Self {
                interval: Interval::Period,
                every: Some(every),
            }),
            (Err(message), _) => Err(message),
        }
    }
}

/// Reads `interval` and `interval_from`; `None` if there is a mistake.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
) -> Option<(Interval, Option<LongTerm>)> {
    let restart = reader.or_default::<Restart>(section, "interval", "such as \"P1D\"");
    let from = reader.maybe::<Date>(section, "interval_from", "a date such as \"2026-01-01\"");
    let (restart, from) = (restart?, from?);
    let Some(every) = restart.every else {
        if let Some((_, field)) = from {
            let message = "only tiers of a longer term than the billing period begin on a day (expected \
                           an `interval` such as \"P1Y\")";
            reader.refuse_field(&field, message);
            return None;
        }
        return Some((restart.interval, None));
    };
    if from.is_none() && every.needs_anchor() {
        let message = "missing: terms of this length do not begin with a year (expected the day on which \
                       one begins, such as \"2026-01-01\")";
        reader.refuse(section.span(), &section.key("interval_from"), message);
        return None;
    }
    if !adds_up(meter.aggregation) {
        let message = format!(
            "tiers go on over several billing periods where usage of these adds up, and that of meter \
             `{}` does not (expected no longer term than the period)",
            meter.name
        );
        reader.refuse(section.span(), &section.key("interval"), message);
        return None;
    }
    let long_term = LongTerm {
        every,
        from: from.map(|(Date(from), _)| from),
    };
    Some((restart.interval, Some(long_term)))
}

/// Refuses what cannot be said of a part of a longer term.
pub(super) fn check<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    price: &Price,
) -> Option<()> {
    if price.long_term.is_none() {
        return Some(());
    }
    let model = &price.model;
    let by_other = matches!(model.tier_by, Some(TierBy::Meter(_) | TierBy::Peak));
    let is_parted = price.each.is_some() || price.over.is_some() || price.matrix.is_some();
    let is_parted = is_parted || price.per_event.is_some();
    let (key, message) = if model.scheme == Scheme::Volume || by_other {
        (
            "interval",
            "a tier that prices all units would price those anew that are billed (expected `graduated` \
             tiers, or no longer term than the period)",
        )
    } else if is_parted || price.prorated.allowance || price.prorated.tiers {
        (
            "interval",
            "tiers of a longer term are those of one sum (expected no `each`, `over` or `prorated`, no matrix \
             and no single events)",
        )
    } else if model.first_flat != FirstFlat::Usage {
        (
            "first_flat",
            "a fee that is always due is due in every period (expected `usage`, or no longer term than \
             the period)",
        )
    } else {
        return Some(());
    };
    reader.refuse(section.span(), &section.key(key), message);
    None
}
