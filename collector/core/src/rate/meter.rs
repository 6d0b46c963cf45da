//! Rates all that a tenant used of a meter in a period, slice by slice.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tollgate_common::Quantity;

use super::charge;
use super::line::{Basis, LineItem};
use super::parts::{Part, Slice, adds_up};
use super::usage::MeterUsage;
use super::{RateError, Ratio, rate};
use crate::catalog::{Card, FirstFlat, Meter, Price};
use crate::period::{Period, Zone};

/// What becomes of usage of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'c> {
    /// It is rated.
    Line(LineItem<'c>),
    /// It is not.
    Unrated {
        /// Why.
        reason: NoAmount,
        /// By which price it would be rated, if there is one.
        price: Option<&'c Price>,
        /// How much, in the meter's smallest unit.
        quantity: Quantity,
    },
}

/// Why usage of a meter has no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoAmount {
    /// No price of the meter was in force.
    NoPrice,
    /// No row of the price's matrix describes it, or a percentile's direction is not told.
    NoRow,
    /// Single events are priced, and it does not say which one it is.
    NoEvent,
    /// Versions of the price, in the same period and under the same id, do not go on from each
    /// other: see [`Price::differs`].
    PriceChanged,
    /// A number leaves its range.
    TooLarge,
    /// The sum is below zero, and is rated as zero; the quantity is negative.
    BelowZero,
}

/// The slices of a period in which one price goes on: what makes one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parted<'c> {
    /// The usage of the whole period.
    pub usage: &'c MeterUsage,
    /// The period.
    pub period: Period,
    /// The whole period of the calendar, of which `period` may be a part: what is priced by the
    /// period is priced by this.
    pub whole: Period,
    /// All slices of the period.
    pub slices: &'c [Slice<'c>],
    /// The first one of this price.
    pub first: usize,
    /// Where its tiers go on over several periods: what earlier ones of the term have.
    pub reached: Quantity,
}

/// What is used in the slices of a price.
#[derive(Clone, Copy)]
struct Quantities {
    /// What is rated: not below zero.
    priced: Quantity,
    /// What no row describes.
    unmatched: Quantity,
    /// By how much sums are below zero; not above it.
    excess: Quantity,
}

impl<'c> Parted<'c> {
    /// The slices of this price: index, slice, version of the card and of the price.
    pub fn own(self) -> impl Iterator<Item = (usize, &'c Slice<'c>, &'c Card, &'c Price)> {
        let first = &self.slices[self.first];
        self.slices
            .iter()
            .enumerate()
            .skip(self.first)
            .filter(move |(_, slice)| slice.continues(first))
            .filter_map(|(index, slice)| {
                let (card, price) = slice.priced?;
                Some((index, slice, card, price))
            })
    }

    /// True if the tenant has contracted rates in one of the slices at least.
    pub fn is_contracted(self) -> bool {
        self.own().any(|(_, _, _, price)| price.listed.is_some())
    }

    /// What allowance and tiers of the price are scaled by where it says so: the part of the whole
    /// period that the price is in force for.
    pub(super) fn scale(self, price: &Price) -> Option<Ratio> {
        let (true, Some(by)) = (
            price.prorated.allowance
                || price.prorated.tiers
                || price.model.first_flat == FirstFlat::Prorated,
            price.terms.prorate,
        ) else {
            return Some(Ratio::ONE);
        };
        let mut spans = self.own().map(|(_, slice, _, _)| (slice.span, slice.zone));
        spans.try_fold(Ratio::ZERO, |sum, (span, zone)| {
            sum.checked_add(self.whole.fraction(span, by, zone))
        })
    }

    /// What selects the tiers of the price in a slice, if another meter does; `None` if that is not
    /// known.
    #[expect(clippy::option_option, reason = "what is not known is not an absence")]
    pub(super) fn selects(slice: &Slice<'_>, price: &Price) -> Option<Option<Ratio>> {
        match price.selecting_meter() {
            None => Some(None),
            Some(_) => slice.selects.map(Some),
        }
    }

    /// Whose clocks count.
    pub(super) fn zone(self) -> Zone {
        self.slices[self.first].zone
    }

    pub(super) fn owns(self, index: u16) -> bool {
        let slice = self.slices.get(usize::from(index));
        slice.is_some_and(|slice| slice.continues(&self.slices[self.first]))
    }

    /// What is used in the slices of this price.
    fn quantities(self) -> Option<Quantities> {
        let (mut priced, mut unmatched) = (Quantity::ZERO, Quantity::ZERO);
        let mut below: BTreeMap<(u32, &str), Quantity> = BTreeMap::new();
        let owned = self.usage.parts().filter(|(part, _)| self.owns(part.slice));
        let any_negative = owned.clone().any(|(_, quantity)| quantity.is_negative());
        let by_itself = self.own().any(|(_, _, _, price)| price.each.is_some());
        for (part, quantity) in owned {
            if part.cell == Part::NO_CELL {
                unmatched = unmatched.checked_add(quantity)?;
                continue;
            }
            priced = priced.checked_add(quantity)?;
            if any_negative && !by_itself {
                // What is priced by itself, as in `charge`.
                let sum = below.entry(self.accumulator(part)).or_default();
                *sum = sum.checked_add(quantity)?;
            }
        }
        let mut excess =
            Quantity::checked_sum(below.into_values().filter(|sum| sum.is_negative()))?;
        if by_itself {
            excess = self.below_of_each()?;
        }
        Some(Quantities {
            priced: priced.checked_sub(excess)?,
            unmatched,
            excess,
        })
    }

    /// True if a version of the price does not go on from the one before.
    fn is_changed(self, meter: &Meter) -> bool {
        let mut own = self.own().map(|(_, _, card, price)| (card, price));
        let Some((card, price)) = own.next() else {
            return false;
        };
        own.any(|(other_card, other)| {
            card.currency != other_card.currency
                || price.differs(other, adds_up(meter.aggregation)).is_some()
        })
    }

    /// True if all that is used is there told apart, where it has to be: who gathered sums alone has
    /// nothing that could be priced, and must not be charged nothing.
    fn events_are_whole(self, used: Option<Quantity>) -> bool {
        if self.own().all(|(_, _, _, price)| !price.tells_apart()) {
            return true;
        }
        let events = self.usage.events.values();
        let own = events.filter(|event| self.owns(event.slice));
        used.is_some() && Quantity::checked_sum(own.map(|event| event.quantity)) == used
    }

    /// What is counted together: the interval, and the name of the row or of its pool.
    fn accumulator(self, part: Part) -> (u32, &'c str) {
        let slice = self.slices.get(usize::from(part.slice));
        let price = slice.and_then(|slice| slice.priced).map(|(_, price)| price);
        let row = price.and_then(|price| price.matrix.as_ref()?.row(part.cell));
        match row {
            Some(row) => match &row.pool {
                // The names of pools and rows may be the same; no interval is this late.
                Some(pool) => (u32::MAX, pool.as_str()),
                None => (part.interval, row.id.as_str()),
            },
            None => (part.interval, ""),
        }
    }
}

/// Rates the usage of a meter in a period: a line for each price that was in force, in the order
/// of its first slice, and what is not rated.
///
/// The usage is to be gathered by the [`super::Shape`] of the same slices. Of a price that has no
/// usage there is a line only if something [is due unused](Price::is_due_unused); so there is for
/// every price if `always`.
///
/// A price goes on while its id is the same on the same card. Each unit costs what the version in
/// force at its time says: graduated, from the position that was reached; by volume, each version
/// prices the whole period's quantity and is charged by its share of it. What does not add up (a
/// largest value, distinct values, a percentile) is one quantity in the period, and each version
/// is charged by its share of time. Another card, or another price, starts at zero.
///
/// `whole` is the whole period of which `period` may be what a change of calendars leaves: a
/// percentile costs its share of it, and levels over time are divided by its length.
pub fn rate_meter<'c>(
    usage: &'c MeterUsage,
    meter: &'c Meter,
    (period, whole): (Period, Period),
    slices: &'c [Slice<'c>],
    always: bool,
) -> Vec<Outcome<'c>> {
    rate_meter_behind(usage, meter, (period, whole), slices, always, |_, _| {
        Quantity::ZERO
    })
}

/// The same, where tiers of a price [go on](crate::catalog::LongTerm) over several periods: `reached` says
/// what earlier ones have of it.
pub fn rate_meter_behind<'c>(
    usage: &'c MeterUsage,
    meter: &'c Meter,
    (period, whole): (Period, Period),
    slices: &'c [Slice<'c>],
    always: bool,
    reached: impl Fn(&Card, &Price) -> Quantity,
) -> Vec<Outcome<'c>> {
    let mut outcomes = Vec::new();
    for (first, slice) in slices.iter().enumerate() {
        if slices[..first].iter().any(|other| other.continues(slice)) {
            continue;
        }
        let parted = Parted {
            usage,
            period,
            whole,
            slices,
            first,
            reached: slice
                .priced
                .map_or(Quantity::ZERO, |(card, price)| reached(card, price)),
        };
        let price = slice.priced.map(|(_, price)| price);
        let unrated = |reason, quantity| Outcome::Unrated {
            reason,
            price,
            quantity,
        };
        let Some(quantities) = parted.quantities() else {
            outcomes.push(unrated(NoAmount::TooLarge, Quantity::MAX));
            continue;
        };
        let used = usage.parts().any(|(part, _)| parted.owns(part.slice));
        if slice.priced.is_none() {
            if used {
                let all = quantities.priced.checked_add(quantities.excess);
                let all = all.unwrap_or(quantities.priced);
                outcomes.push(unrated(NoAmount::NoPrice, all));
            }
            continue;
        }
        if parted.is_changed(meter) {
            let Quantities {
                priced,
                unmatched,
                excess,
            } = quantities;
            let all = Quantity::checked_sum([priced, unmatched, excess]);
            outcomes.push(unrated(NoAmount::PriceChanged, all.unwrap_or(priced)));
            continue;
        }
        if !quantities.unmatched.is_zero() {
            let by_event =
                price.is_some_and(|price| price.per_event.is_some() || price.each.is_some());
            let reason = if by_event {
                NoAmount::NoEvent
            } else {
                NoAmount::NoRow
            };
            outcomes.push(unrated(reason, quantities.unmatched));
        }
        if !quantities.excess.is_zero() {
            outcomes.push(unrated(NoAmount::BelowZero, quantities.excess));
        }
        let due = parted.own().any(|(_, _, _, price)| price.is_due_unused());
        if !used && !always && !due {
            continue;
        }
        let counted = quantities.priced.checked_add(quantities.excess);
        if !parted.events_are_whole(counted) {
            outcomes.push(unrated(NoAmount::NoEvent, quantities.priced));
            continue;
        }
        match rate_parted(parted, meter, quantities.priced) {
            Ok(line) => outcomes.push(Outcome::Line(line)),
            Err(_) => outcomes.push(unrated(NoAmount::TooLarge, quantities.priced)),
        }
    }
    outcomes
}

fn rate_parted<'c>(
    parted: Parted<'c>,
    meter: &'c Meter,
    quantity: Quantity,
) -> Result<LineItem<'c>, RateError> {
    let mut own = parted.own();
    let (_, first, card, price) = own.next().ok_or(RateError::WrongMeter)?;
    let day = first.day();
    let last = own.last();
    if price.meter.as_ref() != Some(&meter.name) {
        return Err(RateError::WrongMeter);
    }
    if last.is_none() && is_plain(price, meter, parted) {
        return rate(quantity, meter, price, card, day);
    }
    let (card, price) = last.map_or((card, price), |(_, _, card, price)| (card, price));
    parted_line(parted, meter, card, price, day, quantity).ok_or(RateError::Overflow)
}

/// True if the line is that of one sum of the whole period, or of all that a card has of it.
fn is_plain(price: &Price, meter: &Meter, parted: Parted<'_>) -> bool {
    let is_whole = parted.scale(price) == Some(Ratio::ONE);
    price.is_plain() && is_whole && (parted.slices.len() == 1 || adds_up(meter.aggregation))
}

fn parted_line<'c>(
    parted: Parted<'c>,
    meter: &'c Meter,
    card: &'c Card,
    price: &'c Price,
    day: NaiveDate,
    quantity: Quantity,
) -> Option<LineItem<'c>> {
    let worked = charge::work(parted, meter)?;
    Some(LineItem {
        price,
        meter: Some(meter),
        card,
        day,
        quantity,
        list: charge::listed(parted, meter, &worked)?,
        base: worked.rounded_list,
        amount: worked.amount,
        basis: Basis::Parts(parted),
    })
}
