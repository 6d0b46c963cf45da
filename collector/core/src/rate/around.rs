//! What stands around the price: conversion and allowance before it, discounts, maximum and
//! minimum behind it, in the order `standard/1`.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::Ratio;
use crate::catalog::{Above, Allowance, Convert, Discount, Off, Price};

/// A step from the metered to the charged quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityStep<'c> {
    /// It was converted or rounded.
    Converted(&'c Convert),
    /// A part is included.
    Included(&'c Allowance),
    /// The allowance is exceeded, and then all is charged.
    AllCharged(&'c Allowance),
    /// A discount takes a part away.
    Discounted(&'c Discount, Ratio),
}

/// The charged quantity; each step is shown to `each`, with what it left.
///
/// `None` if a number leaves its range.
pub(super) fn charged_quantity<'c>(
    price: &'c Price,
    day: NaiveDate,
    metered: Ratio,
    mut each: impl FnMut(QuantityStep<'c>, Ratio),
) -> Option<Ratio> {
    let mut quantity = metered;
    if let Some(convert) = &price.convert {
        quantity = quantity
            .checked_mul(convert.factor)?
            .round_to(convert.to.value(), convert.mode)?;
        each(QuantityStep::Converted(convert), quantity);
    }
    if let Some(allowance) = &price.allowance {
        let included = allowance.quantity.value();
        let is_exceeded = quantity.checked_cmp(included)?.is_gt();
        if is_exceeded && allowance.above == Above::All {
            each(QuantityStep::AllCharged(allowance), quantity);
        } else {
            quantity = less(quantity, included)?;
            each(QuantityStep::Included(allowance), quantity);
        }
    }
    for discount in valid(price, day) {
        if let Off::Quantity(off) = &discount.off {
            let left = less(quantity, off.value())?;
            let by = quantity.checked_sub(left)?;
            quantity = left;
            each(QuantityStep::Discounted(discount, by), quantity);
        }
    }
    Some(quantity)
}

/// A step from the list amount to the final one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountStep<'c> {
    /// A discount.
    Discount(&'c Discount),
    /// The most that a period costs was exceeded.
    Maximum(Decimal),
    /// The least that a period costs was not reached.
    Minimum(Decimal),
}

/// The amount before rounding; each step is shown to `each`, with what it left.
///
/// `None` if a number leaves its range.
pub(super) fn final_amount<'c>(
    price: &'c Price,
    day: NaiveDate,
    list: Ratio,
    mut each: impl FnMut(AmountStep<'c>, Ratio),
) -> Option<Ratio> {
    let mut amount = list;
    for discount in valid(price, day) {
        let off = match &discount.off {
            Off::Quantity(_) => continue,
            Off::Percent { percent, of_list } => {
                let base = if *of_list { list } else { amount };
                base.checked_mul(Ratio::from_decimal(*percent))?
                    .checked_div(Ratio::HUNDRED)?
            }
            Off::Amount(off) => Ratio::from_decimal(*off),
        };
        amount = less(amount, off)?;
        each(AmountStep::Discount(discount), amount);
    }
    if let Some(maximum) = price.maximum {
        let most = Ratio::from_decimal(maximum);
        if amount.checked_cmp(most)?.is_gt() {
            amount = most;
            each(AmountStep::Maximum(maximum), amount);
        }
    }
    if let Some(minimum) = price.minimum {
        let least = Ratio::from_decimal(minimum);
        if amount.checked_cmp(least)?.is_lt() {
            amount = least;
            each(AmountStep::Minimum(minimum), amount);
        }
    }
    Some(amount)
}

/// The discounts that are valid for a period that begins on `day`.
fn valid(price: &Price, day: NaiveDate) -> impl Iterator<Item = &Discount> {
    price
        .discounts
        .iter()
        .filter(move |discount| discount.is_valid(day))
}

/// The difference, but nothing rather than less.
fn less(from: Ratio, off: Ratio) -> Option<Ratio> {
    let rest = from.checked_sub(off)?;
    Some(if rest.is_negative() {
        Ratio::ZERO
    } else {
        rest
    })
}
