//! The quick way for the usual price: whole numbers over one denominator.
//!
//! A price without conversion, whole blocks, rounded tiers and quantity discounts is a sum of
//! `quantity × unit / per` and flat fees. Brought to a common denominator when the catalog is read,
//! a line costs a few multiplications and two divisions. Whatever does not fit answers `None` and
//! is left to the exact fractions of the slow way, which gives the same result where both give
//! one.

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::tiers::Places;
use super::{Mode, Ratio, Site};
use crate::catalog::{Above, Blocks, Bounds, FirstFlat, Off, Price, Scheme, Tier};

/// A price in whole numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fast {
    /// What all amounts are divided by; above zero.
    denominator: i128,
    scheme: Scheme,
    bounds: Bounds,
    /// The first tier's fee is due without usage.
    always: bool,
    /// Included, in the meter's smallest unit, and whether all is charged above it.
    allowance: Option<(i128, bool)>,
    tiers: Box<[FastTier]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FastTier {
    from: i128,
    /// `i128::MAX` for the last one.
    to: i128,
    /// What the tiers below cost when they are full.
    below: i128,
    flat: i128,
    /// Price of one smallest unit.
    unit: i128,
}

/// List amount and final amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) list: Decimal,
    pub(super) amount: Decimal,
}

impl Fast {
    /// The price for quantities in units of 1 / `power`, if it is a usual one.
    pub(crate) fn new(price: &Price, power: i128) -> Option<Self> {
        let model = &price.model;
        let plain = price.is_plain()
            && price.convert.is_none()
            && model.tier_by.is_none()
            && model.blocks == Blocks::Exact
            && model.tiers.iter().all(|tier| tier.minimum.is_none())
            && price.rounding.step.is_none()
            && price.rounding.site == Site::Line;
        let by_quantity = |off: &Off| matches!(off, Off::Quantity(_));
        if !plain
            || price
                .discounts
                .iter()
                .any(|discount| by_quantity(&discount.off))
        {
            return None;
        }
        let power = Ratio::from_integer(power)?;
        let whole = |number: Ratio| {
            let units = number.checked_mul(power)?;
            (units.denominator() == 1).then(|| units.numerator())
        };
        let allowance = match &price.allowance {
            Some(allowance) => Some((
                whole(allowance.quantity.value())?,
                allowance.above == Above::All,
            )),
            None => None,
        };
        let unit_of = |tier: &Tier| {
            let per = tier.per.as_ref().unwrap_or(&price.per).value();
            let unit = Ratio::from_decimal(tier.unit.unwrap_or_default());
            unit.checked_div(per)?.checked_div(power)
        };
        let flat_of = |tier: &Tier| Ratio::from_decimal(tier.flat.unwrap_or_default());
        let mut denominator = 1i128;
        for tier in &model.tiers {
            for number in [unit_of(tier)?, flat_of(tier)] {
                denominator = multiple(denominator, number.denominator())?;
            }
        }
        let numerator = |number: Ratio| {
            number
                .numerator()
                .checked_mul(denominator / number.denominator())
        };
        let mut below = 0i128;
        let mut tiers = Vec::with_capacity(model.tiers.len());
        for tier in &model.tiers {
            let fast = FastTier {
                from: whole(tier.from)?,
                to: match &tier.to {
                    Some(to) => whole(to.value())?,
                    None => i128::MAX,
                },
                below,
                flat: numerator(flat_of(tier))?,
                unit: numerator(unit_of(tier)?)?,
            };
            if tier.to.is_some() {
                let width = fast.to.checked_sub(fast.from)?;
                let full = width.checked_mul(fast.unit)?.checked_add(fast.flat)?;
                below = below.checked_add(full)?;
            }
            tiers.push(fast);
        }
        Some(Self {
            denominator,
            scheme: model.scheme,
            bounds: model.bounds,
            always: model.first_flat != FirstFlat::Usage,
            allowance,
            tiers: tiers.into(),
        })
    }

    /// Rates a quantity that is not negative.
    pub(super) fn rate(
        &self,
        price: &Price,
        places: Places,
        quantity: i128,
        day: NaiveDate,
    ) -> Option<Amounts> {
        let list = Fraction {
            numerator: self.list(quantity)?,
            denominator: self.denominator,
        };
        let amount = list.behind(price, day)?;
        let rounded = list.round(places)?;
        Some(Amounts {
            list: rounded,
            amount: if amount == list {
                rounded
            } else {
                amount.round(places)?
            },
        })
    }

    /// The numerator of the list amount.
    fn list(&self, metered: i128) -> Option<i128> {
        let quantity = match self.allowance {
            Some((included, true)) if metered > included => metered,
            Some((included, _)) => Ord::max(metered.checked_sub(included)?, 0),
            None => metered,
        };
        let top = self.tiers.iter().find(|tier| match self.bounds {
            _ if tier.to == i128::MAX => true,
            Bounds::Inclusive => quantity <= tier.to,
            Bounds::Exclusive => quantity < tier.to,
        })?;
        // Higher tiers are reached by a quantity above zero.
        let flat = if quantity > 0 || self.always {
            top.flat
        } else {
            0
        };
        let (priced, below) = match self.scheme {
            Scheme::Graduated => (quantity - top.from, top.below),
            Scheme::Volume => (quantity, 0),
        };
        priced
            .checked_mul(top.unit)?
            .checked_add(flat)?
            .checked_add(below)
    }
}

/// The least common multiple of two positive numbers.
pub(crate) fn multiple(left: i128, right: i128) -> Option<i128> {
    // In lowest terms, left / right has the denominator right / gcd.
    left.checked_mul(Ratio::new(left, right)?.denominator())
}

/// A fraction that is not reduced: not negative, over a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    fn of(decimal: Decimal) -> Option<Self> {
        Some(Self {
            numerator: decimal.mantissa(),
            denominator: 10i128.checked_pow(decimal.scale())?,
        })
    }

    fn is_above(self, other: Self) -> Option<bool> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Some(left > right)
    }

    /// The amount behind discounts, maximum and minimum; see [`super::around::final_amount`].
    fn behind(self, price: &Price, day: NaiveDate) -> Option<Self> {
        let mut list = self.numerator;
        let mut amount = self;
        for discount in price
            .discounts
            .iter()
            .filter(|discount| discount.is_valid(day))
        {
            let (factor, off) = match &discount.off {
                Off::Quantity(_) => return None,
                Off::Percent { percent, of_list } => {
                    let share = Self::of(*percent)?;
                    let whole = share.denominator.checked_mul(100)?;
                    let base = if *of_list { list } else { amount.numerator };
                    (whole, base.checked_mul(share.numerator)?)
                }
                Off::Amount(off) => {
                    let off = Self::of(*off)?;
                    (
                        off.denominator,
                        off.numerator.checked_mul(amount.denominator)?,
                    )
                }
            };
            list = list.checked_mul(factor)?;
            let left = amount.numerator.checked_mul(factor)?.checked_sub(off)?;
            amount = Self {
                numerator: Ord::max(left, 0),
                denominator: amount.denominator.checked_mul(factor)?,
            };
        }
        if let Some(maximum) = price.maximum {
            let most = Self::of(maximum)?;
            if amount.is_above(most)? {
                amount = most;
            }
        }
        if let Some(minimum) = price.minimum {
            let least = Self::of(minimum)?;
            if least.is_above(amount)? {
                amount = least;
            }
        }
        Some(amount)
    }

    fn round(self, places: Places) -> Option<Decimal> {
        let scaled = self
            .numerator
            .checked_mul(10i128.checked_pow(places.places)?)?;
        let small = (u64::try_from(scaled), u64::try_from(self.denominator));
        let (quotient, rest) = if let (Ok(scaled), Ok(denominator)) = small {
            (
                i128::from(scaled / denominator),
                i128::from(scaled % denominator),
            )
        } else {
            let quotient = scaled / self.denominator;
            (quotient, scaled - quotient * self.denominator)
        };
        let up = match places.mode {
            Mode::HalfUp => rest >= self.denominator - rest,
            Mode::HalfEven => {
                let above = self.denominator - rest;
                rest > above || (rest == above && quotient % 2 != 0)
            }
            Mode::Up => rest > 0,
            Mode::Down => false,
        };
        let units = quotient.checked_add(i128::from(up))?;
        Decimal::try_from_i128_with_scale(units, places.places).ok()
    }
}
