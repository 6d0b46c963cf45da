//! What stands around the price: conversion and allowance before it, discounts, maximum and
//! minimum behind it, in the order `standard/1`.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::{Mode, Ratio};
use crate::catalog::{Above, Allowance, Convert, Discount, Measure, Off, Price};

/// A step from the metered to the charged quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityStep<'c> {
    /// It was converted or rounded.
    Converted(&'c Convert),
    /// A part is included: so much of the allowance as belongs to this part of the period.
    Included(&'c Allowance, Ratio),
    /// The allowance is exceeded, and then all is charged.
    AllCharged(&'c Allowance, Ratio),
    /// A discount takes a part away.
    Discounted(&'c Discount, Ratio),
    /// It is less than what is committed to.
    Committed(&'c Measure),
}

/// What is included, and how much of that counts.
pub(super) type Included<'c> = Option<(&'c Allowance, Ratio)>;

/// What a price includes in the whole period.
pub(super) fn included(price: &Price) -> Included<'_> {
    let allowance = price.allowance.as_ref()?;
    Some((allowance, allowance.quantity.value()))
}

/// A metered quantity as the price converts it.
pub(super) fn converted(price: &Price, metered: Ratio) -> Option<Ratio> {
    let Some(convert) = &price.convert else {
        return Some(metered);
    };
    let quantity = metered.checked_mul(convert.factor)?;
    match &convert.round {
        Some((step, mode)) => quantity.round_to(step.value(), *mode),
        None => Some(quantity),
    }
}

/// The charged quantity; each step is shown to `each`, with what it left.
///
/// `None` if a number leaves its range.
pub(super) fn charged_quantity<'c>(
    price: &'c Price,
    included: Included<'c>,
    day: NaiveDate,
    metered: Ratio,
    mut each: impl FnMut(QuantityStep<'c>, Ratio),
) -> Option<Ratio> {
    let mut quantity = converted(price, metered)?;
    if let Some(convert) = &price.convert {
        each(QuantityStep::Converted(convert), quantity);
    }
    if let Some((allowance, included)) = included {
        let is_exceeded = quantity.checked_cmp(included)?.is_gt();
        if is_exceeded && allowance.above == Above::All {
            each(QuantityStep::AllCharged(allowance, included), quantity);
        } else {
            quantity = less(quantity, included)?;
            each(QuantityStep::Included(allowance, included), quantity);
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
    /// From what the card lists to what the tenant's contracted rates come to.
    Contracted,
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

/// What a version of a price lists for its slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated<'c> {
    /// The version.
    pub price: &'c Price,
    /// The day on which the version begins in the period: discounts are valid by it.
    pub day: NaiveDate,
    /// How long it is in force in the period.
    pub millis: i64,
    /// What it lists, before rounding.
    pub list: Ratio,
    /// What that has come to.
    pub amount: Ratio,
}

/// As [`final_amount`], over the versions of a price.
///
/// A percentage is taken of what the versions list under which it is valid; an amount goes off
/// them once, earliest first. Maximum and minimum are those of the versions, weighted by duration;
/// a maximum holds if every version has one.
pub(super) fn final_amount_dated<'c>(
    versions: &mut [Dated<'c>],
    mut each: impl FnMut(AmountStep<'c>, Ratio),
) -> Option<Ratio> {
    if let [only] = versions {
        return final_amount(only.price, only.day, only.list, each);
    }
    take_discounts(
        versions,
        |_| true,
        |discount, left| {
            each(AmountStep::Discount(discount), left);
            Some(())
        },
    )?;
    // More may have been taken back than was charged.
    let mut amount = upper(amount_of(versions)?, Ratio::ZERO)?;
    if let Some(most) = weighted(versions, |price| price.maximum)?
        && versions
            .iter()
            .all(|version| version.price.maximum.is_some())
        && amount.checked_cmp(most)?.is_gt()
    {
        amount = most;
        each(AmountStep::Maximum(shown(most)?), amount);
    }
    if let Some(least) = weighted(versions, |price| price.minimum)?
        && amount.checked_cmp(least)?.is_lt()
    {
        amount = least;
        each(AmountStep::Minimum(shown(least)?), amount);
    }
    Some(amount)
}

/// What the versions have come to together.
pub(crate) fn amount_of(versions: &[Dated<'_>]) -> Option<Ratio> {
    let mut amounts = versions.iter().map(|version| version.amount);
    amounts.try_fold(Ratio::ZERO, Ratio::checked_add)
}

/// Takes the discounts of a kind from the versions of a price; each is shown to `each` with what
/// it left of all versions.
///
/// A percentage is taken of the versions under which it is valid, also where they take more back than
/// they list; an amount goes off them once, earliest first. All of them together never come to less
/// than nothing. `None` if a number leaves its range, or if `each` says so.
pub(crate) fn take_discounts<'c>(
    versions: &mut [Dated<'c>],
    kind: impl Fn(&Off) -> bool,
    mut each: impl FnMut(&'c Discount, Ratio) -> Option<()>,
) -> Option<()> {
    for wanted in discounts_of(versions) {
        let mut off_left: Option<Ratio> = None;
        let mut shown = None;
        for version in versions.iter_mut() {
            let mut discounts = valid(version.price, version.day);
            let found = discounts.find(|discount| discount.is_same(wanted));
            let Some(discount) = found.filter(|discount| kind(&discount.off)) else {
                continue;
            };
            let off = match &discount.off {
                Off::Quantity(_) => continue,
                Off::Percent { percent, of_list } => {
                    let base = if *of_list {
                        version.list
                    } else {
                        version.amount
                    };
                    base.checked_mul(Ratio::from_decimal(*percent))?
                        .checked_div(Ratio::HUNDRED)?
                }
                // Of what is taken back an amount takes nothing.
                Off::Amount(_) if version.amount.is_negative() => continue,
                Off::Amount(off) => off_left.unwrap_or(Ratio::from_decimal(*off)),
            };
            let left = if version.amount.is_negative() {
                // It was cheaper by the discount, and so is taking it back.
                lower(version.amount.checked_sub(off)?, Ratio::ZERO)?
            } else {
                less(version.amount, off)?
            };
            if matches!(discount.off, Off::Amount(_)) {
                let used = version.amount.checked_sub(left)?;
                off_left = Some(less(off, used)?);
            }
            version.amount = left;
            shown = Some(discount);
        }
        if let Some(discount) = shown {
            each(discount, upper(amount_of(versions)?, Ratio::ZERO)?)?;
        }
    }
    Some(())
}

/// The smaller of two.
fn lower(one: Ratio, two: Ratio) -> Option<Ratio> {
    Some(if one.checked_cmp(two)?.is_gt() {
        two
    } else {
        one
    })
}

/// The larger of two.
fn upper(one: Ratio, two: Ratio) -> Option<Ratio> {
    Some(if one.checked_cmp(two)?.is_lt() {
        two
    } else {
        one
    })
}

/// A limit as it is shown: to 12 decimal places.
fn shown(limit: Ratio) -> Option<Decimal> {
    Some(limit.round(12, Mode::HalfUp)?.normalize())
}

/// A limit of the versions, weighted by their duration; `None` inside if no version has one.
#[expect(clippy::option_option, reason = "no limit is not a failure")]
fn weighted(
    versions: &[Dated<'_>],
    limit: impl Fn(&Price) -> Option<Decimal>,
) -> Option<Option<Ratio>> {
    if versions
        .iter()
        .all(|version| limit(version.price).is_none())
    {
        return Some(None);
    }
    let mut whole = 0i128;
    let mut sum = Ratio::ZERO;
    for version in versions {
        let millis = i128::from(version.millis);
        whole = whole.checked_add(millis)?;
        let own = Ratio::from_decimal(limit(version.price).unwrap_or_default());
        sum = sum.checked_add(own.checked_mul(Ratio::from_integer(millis)?)?)?;
    }
    sum.checked_div(Ratio::from_integer(whole)?).map(Some)
}

/// The discounts of all versions, each as the first one says it, in the order in which they are
/// applied.
fn discounts_of<'c>(versions: &[Dated<'c>]) -> Vec<&'c Discount> {
    let mut all: Vec<&'c Discount> = Vec::new();
    for discount in versions.iter().flat_map(|version| &version.price.discounts) {
        if all.iter().all(|known| !known.is_same(discount)) {
            all.push(discount);
        }
    }
    all.sort_by_key(|discount| discount.rank());
    all
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
