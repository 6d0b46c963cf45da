//! Rating: a pure function from a meter's usage in a period and a price to a line item.
//!
//! The order is that of the card, `standard/1`: convert, allowance, price, percent discounts,
//! amount discounts, maximum, minimum. Every amount is an exact fraction until the line is
//! complete; then it is rounded once, to the decimal places of the currency, unless the price
//! says that tiers or increments are rounded first. What does not fit the numbers is refused
//! with an error and booked as unrated, never wrapped or cut.

mod around;
mod charge;
mod currency;
mod each;
mod events;
mod fast;
mod included;
mod levels;
mod line;
mod meter;
mod parts;
mod piece;
mod ranked;
mod ratio;
mod rounding;
mod samples;
mod text;
mod tiers;
mod usage;

pub use around::{AmountStep, Dated, QuantityStep};
pub(crate) use around::{amount_of, take_discounts};
pub use currency::{
    Currency, CurrencyError, PRICING_UNIT_BYTES_MAX, PRICING_UNIT_PLACES_MAX, PricingUnitError,
};
pub use each::Apart;
pub use events::{EVENTS_MAX, Event, EventKey, EventSum};
pub(crate) use fast::{Fast, multiple};
pub use line::{AmountChange, Arithmetic, Basis, Contracted, LineItem};
pub use meter::{NoAmount, Outcome, Parted, rate_meter, rate_meter_behind};
pub use parts::{Part, SLICES_MAX, Shape, Slice, SlotRange, adds_up};
pub use piece::Piece;
pub use ranked::Ranked;
pub use ratio::{ParseRatioError, Ratio};
pub use rounding::{Mode, Rounding, Site};
pub use samples::{DIRECTION, Direction, SLOTS_MAX, Samples, SlotKey, percentile, rank};
pub use tiers::TierAmount;
pub use usage::{GatherError, MeterUsage, PARTS_MAX};

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Quantity;

use crate::catalog::{Card, Meter, Price};
use tiers::{Places, Table};

/// Why usage could not be rated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// A number on the way to the amount leaves the range of 127 bits, or the amount that
    /// of 96 bits.
    #[error("the amount is too large to be computed exactly")]
    Overflow,
    /// The price is for another meter than the usage.
    #[error("the price is not for this meter")]
    WrongMeter,
    /// The price needs more than one sum.
    #[error("the price needs usage in parts")]
    NotPlain,
}

/// Rates the whole quantity of one meter in one period.
///
/// `quantity` is in units of 10^-scale of the meter's billed unit, cumulative from the start of the
/// period; `day` is the day on which the period begins, in the tenant's zone. Below zero the
/// quantity is rated as zero, which the line's text says.
///
/// For a price of the plain shape in a period without another version of it; for all others see
/// [`rate_meter`].
///
/// The result depends on nothing but the arguments. It is to be called with the cumulative
/// quantity: the amount of what came later is a difference of two results.
///
/// # Errors
/// See [`RateError`].
pub fn rate<'c>(
    quantity: Quantity,
    meter: &'c Meter,
    price: &'c Price,
    card: &'c Card,
    day: NaiveDate,
) -> Result<LineItem<'c>, RateError> {
    if price.meter.as_ref() != Some(&meter.name) {
        return Err(RateError::WrongMeter);
    }
    if price.fast.is_none() && !price.is_plain() {
        return Err(RateError::NotPlain);
    }
    line(quantity, Some(meter), price, card, day).ok_or(RateError::Overflow)
}

/// Rates a fee for one period.
///
/// # Errors
/// [`RateError::WrongMeter`] if the price is no fee but for a meter; else see [`RateError`].
pub fn rate_fee<'c>(
    price: &'c Price,
    card: &'c Card,
    day: NaiveDate,
) -> Result<LineItem<'c>, RateError> {
    if price.meter.is_some() {
        return Err(RateError::WrongMeter);
    }
    line(Quantity::ZERO, None, price, card, day).ok_or(RateError::Overflow)
}

fn line<'c>(
    quantity: Quantity,
    meter: Option<&'c Meter>,
    price: &'c Price,
    card: &'c Card,
    day: NaiveDate,
) -> Option<LineItem<'c>> {
    let places = places(price, card);
    let (base, amount) = amounts(quantity, meter, price, places, day)?;
    let list = match &price.listed {
        Some(listed) => amounts(quantity, meter, listed, places, day)?.0,
        None => base,
    };
    Some(LineItem {
        price,
        meter,
        card,
        day,
        quantity,
        list,
        base,
        amount,
        basis: Basis::Whole,
    })
}

/// What the price lists, and the amount.
fn amounts(
    quantity: Quantity,
    meter: Option<&Meter>,
    price: &Price,
    places: Places,
    day: NaiveDate,
) -> Option<(Decimal, Decimal)> {
    let metered = if quantity.is_negative() {
        0
    } else {
        quantity.units()
    };
    let quick = price.fast.as_ref();
    match quick.and_then(|fast| fast.rate(price, places, metered, day)) {
        Some(amounts) => Some((amounts.list, amounts.amount)),
        None => exact_amounts(quantity, meter, price, places, day),
    }
}

/// What the price lists, and the amount, by exact fractions.
fn exact_amounts(
    quantity: Quantity,
    meter: Option<&Meter>,
    price: &Price,
    places: Places,
    day: NaiveDate,
) -> Option<(Decimal, Decimal)> {
    let included = around::included(price);
    let charged =
        around::charged_quantity(price, included, day, metered(quantity, meter)?, |_, _| {})?;
    let list = tiers::list_amount(Table::of(price, None, places), charged, |_| {})?;
    let amount = around::final_amount(price, day, list, |_, _| {})?;
    Some((places.round(list)?, places.round(amount)?))
}

/// The quantity in the meter's billed unit; nothing below zero, and nothing for a fee.
fn metered(quantity: Quantity, meter: Option<&Meter>) -> Option<Ratio> {
    let Some(meter) = meter.filter(|_| !quantity.is_negative()) else {
        return Some(Ratio::ZERO);
    };
    let scale = u32::from(meter.billed_scale().get());
    Ratio::new(quantity.units(), 10i128.checked_pow(scale)?)
}

fn places(price: &Price, card: &Card) -> Places {
    Places {
        mode: price.rounding.mode,
        places: price
            .rounding
            .places
            .unwrap_or_else(|| card.currency.exponent()),
        step: price.rounding.step,
    }
}

#[cfg(test)]
mod pricing_doc;
#[cfg(test)]
mod tests;
