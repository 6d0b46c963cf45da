//! Line items: rated amounts with their arithmetic.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{MeterName, Quantity, Scale};

use super::{Currency, RateError, Ratio};

/// What one tier contributes to a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierAmount {
    /// The tier begins above this quantity, in the meter's unit.
    pub from: Ratio,
    /// The last quantity that belongs to it; `None` for no bound.
    pub to: Option<Ratio>,
    /// The usage inside the tier, in the meter's unit.
    pub quantity: Ratio,
    /// Price for each `per`.
    pub unit_price: Decimal,
    /// The amount of usage that the unit price is quoted for, in the meter's unit.
    pub per: Ratio,
    /// `quantity × unit_price / per`, before rounding.
    pub exact: Ratio,
}

impl TierAmount {
    pub(super) fn new(
        from: Ratio,
        to: Option<Ratio>,
        quantity: Ratio,
        unit_price: Decimal,
        per: Ratio,
    ) -> Result<Self, RateError> {
        let exact = quantity
            .checked_div(per)
            .and_then(|blocks| blocks.checked_mul(Ratio::from_decimal(unit_price)))
            .ok_or(RateError::Overflow)?;
        Ok(Self {
            from,
            to,
            quantity,
            unit_price,
            per,
            exact,
        })
    }
}

/// The rated usage of one price in one period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineItem {
    /// The price's id.
    pub price: String,
    /// The priced meter.
    pub meter: MeterName,
    /// The meter's unit.
    pub unit: String,
    /// Usage of the period in the meter's smallest unit.
    pub quantity: Quantity,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// What unit prices are quoted for, as the card says it.
    pub per: String,
    /// The arithmetic, tier by tier, as far as the usage reaches.
    pub tiers: Vec<TierAmount>,
    /// The sum of the tiers, before rounding.
    pub exact: Ratio,
    /// The amount: `exact`, rounded to the currency's decimal places.
    pub amount: Decimal,
    /// What the amount is in.
    pub currency: Currency,
}

/// The arithmetic for people:
/// `2000000 x 0.40 + 1500000 x 0.25 per 1000 {request} = 800 + 375 = 1175.00 EUR`.
impl fmt::Display for LineItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.quantity.is_negative() {
            write!(
                f,
                "{} is below zero and rated as 0: ",
                self.quantity.display(self.scale)
            )?;
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            let plus = if index == 0 { "" } else { " + " };
            write!(f, "{plus}{} x {}", tier.quantity, tier.unit_price)?;
        }
        write!(f, " per {} = ", self.per)?;
        if self.tiers.len() > 1 {
            for (index, tier) in self.tiers.iter().enumerate() {
                let plus = if index == 0 { "" } else { " + " };
                write!(f, "{plus}{}", tier.exact)?;
            }
            f.write_str(" = ")?;
        }
        // A rounded amount shows what it was rounded from.
        if Ratio::from_decimal(self.amount) != self.exact {
            write!(f, "{} ~ ", self.exact)?;
        }
        write!(f, "{} {}", self.amount, self.currency)
    }
}
