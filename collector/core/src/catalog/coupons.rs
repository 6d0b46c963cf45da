//! Discounts that hold for a number of billing periods: a tenant's coupons.

use chrono::NaiveDate;

use super::cards::Date;
use super::discounts::Validity;
use super::read::{Reader, Section};
use crate::period::{Calendar, Every};

/// Most periods of a discount: a hundred years of months.
const PERIODS_MAX: u32 = 1200;

/// In which periods a tenant is billed, and from which day on.
#[derive(Clone, Copy)]
pub(super) struct Agreed {
    calendar: Calendar,
    from: Option<NaiveDate>,
}

impl Agreed {
    /// What a profile says; what is no date is judged elsewhere.
    pub(super) fn of(calendar: Calendar, root: &Section<'_>) -> Self {
        let from = root.field("from");
        let day = from.and_then(|field| field.value.as_str()?.parse::<Date>().ok());
        Self {
            calendar,
            from: day.map(|Date(day)| day),
        }
    }

    /// The first day on which a discount does not hold any more that holds for so many periods from
    /// this day on. The first of them is the one that begins on it or after it, or the one in which
    /// the agreement begins.
    fn until(self, from: NaiveDate, count: u32) -> NaiveDate {
        let zone = self.calendar.zone;
        let mut period = self.calendar.period_containing(zone.start_of_day(from));
        if zone.date_at(period.start) < from && self.from != Some(from) {
            period = self.calendar.period_containing(period.end);
        }
        for _ in 1..count {
            period = self.calendar.period_containing(period.end);
        }
        zone.date_at(period.end)
    }
}

/// Reads `periods` of a discount, and answers when it holds; `None` for a mistake. `agreed` is what a
/// profile says, and nothing on a card.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    agreed: Option<Agreed>,
    (from, until): Validity,
) -> Option<Validity> {
    let Some(field) = section.field("periods") else {
        return Some((from, until));
    };
    let expected = "an integer from 1 to 1200: for how many billing periods it holds";
    let count = reader.integer(section, "periods", PERIODS_MAX, expected)?;
    let is_partial = reader.is_partial();
    let mut refuse = |message: &str| {
        reader.refuse_field(&field, message);
        None
    };
    if count == 0 {
        return refuse(&format!("expected {expected}"));
    }
    if until.is_some() {
        return refuse("it ends on a day already (expected `until` or `periods`)");
    }
    let Some(agreed) = agreed else {
        return refuse(
            "a card does not know in which periods its tenants are billed (expected it in a profile \
             or a template, or `until`)",
        );
    };
    if matches!(agreed.calendar.every, Every::Seconds(_)) {
        return refuse(
            "discounts hold for days, and the periods are shorter or of another length (expected \
             periods of days, months or years, or `until`)",
        );
    }
    // It holds for nothing that comes before the agreement, and for the period in which that begins.
    match Ord::max(from, agreed.from) {
        Some(day) => {
            let later = from.filter(|from| agreed.from.is_none_or(|begun| *from > begun));
            Some((later, Some(agreed.until(day, count))))
        }
        // A template does not know when agreements begin.
        None if is_partial => Some((from, None)),
        None => refuse(
            "nothing says from when on they are counted (expected `from` in the discount or in the \
             profile)",
        ),
    }
}
