//! Rating: a pure function from a meter's usage in a period and a price to a line item.
//!
//! Every amount is an exact fraction until the line is complete; then it is rounded once,
//! halves away from zero, to the decimal places of the currency. What does not fit the
//! numbers is refused with an error and booked as unrated, never wrapped or cut.

mod currency;
mod line;
mod ratio;

pub use currency::{Currency, CurrencyError};
pub use line::{LineItem, TierAmount};
pub use ratio::{ParseRatioError, Ratio};

use tollgate_common::{Quantity, Scale};

use crate::catalog::{Card, Meter, Model, Price};

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
}

/// Rates the whole quantity of one meter in one period.
///
/// `quantity` is in units of 10^-scale of the meter's billed unit, cumulative from the start of the
/// period. Below zero it is rated as zero, which the line's text says.
///
/// Rating is monotonic, and depends on nothing but its arguments. It is to be called with
/// the cumulative quantity: the amount of what came later is a difference of two results.
pub fn rate(
    quantity: Quantity,
    meter: &Meter,
    price: &Price,
    card: &Card,
) -> Result<LineItem, RateError> {
    if price.meter != meter.name {
        return Err(RateError::WrongMeter);
    }
    let rated = if quantity.is_negative() {
        Quantity::ZERO
    } else {
        quantity
    };
    let usage = in_unit(rated, meter.billed_scale()).ok_or(RateError::Overflow)?;
    let tiers = match &price.model {
        Model::PerUnit { unit } => {
            vec![TierAmount::new(
                Ratio::ZERO,
                None,
                usage,
                *unit,
                price.per.value(),
            )?]
        }
        Model::Graduated { tiers } => {
            let mut amounts = Vec::with_capacity(tiers.len());
            let mut from = Ratio::ZERO;
            for tier in tiers {
                let to = tier.to.as_ref().map(crate::catalog::Measure::value);
                let upto = match to {
                    Some(to) if usage.checked_cmp(to).ok_or(RateError::Overflow)?.is_gt() => to,
                    _ => usage,
                };
                let inside = upto.checked_sub(from).ok_or(RateError::Overflow)?;
                amounts.push(TierAmount::new(
                    from,
                    to,
                    inside,
                    tier.unit,
                    price.per.value(),
                )?);
                // The bound itself belongs to the lower tier.
                match to {
                    Some(to) if upto == to && usage != to => from = to,
                    _ => break,
                }
            }
            amounts
        }
    };
    let exact = tiers
        .iter()
        .try_fold(Ratio::ZERO, |sum, tier| sum.checked_add(tier.exact))
        .ok_or(RateError::Overflow)?;
    let amount = exact
        .round_half_away(card.currency.exponent())
        .ok_or(RateError::Overflow)?;
    Ok(LineItem {
        price: price.id.clone(),
        meter: meter.name.clone(),
        unit: meter.billed_unit().to_string(),
        quantity,
        scale: meter.billed_scale(),
        per: price.per.to_string(),
        tiers,
        exact,
        amount,
        currency: card.currency,
    })
}

/// A quantity in the meter's unit.
fn in_unit(quantity: Quantity, scale: Scale) -> Option<Ratio> {
    Ratio::new(
        quantity.units(),
        10i128.checked_pow(u32::from(scale.get()))?,
    )
}

#[cfg(test)]
mod pricing_doc;
#[cfg(test)]
mod tests;
