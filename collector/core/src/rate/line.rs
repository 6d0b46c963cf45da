//! Line items: rated amounts, and the arithmetic that made them when somebody asks.

use std::fmt;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::around::{AmountStep, QuantityStep, charged_quantity, final_amount};
use super::tiers::{TierAmount, list_amount};
use super::{Ratio, metered, places};
use crate::catalog::{Card, Meter, Off, Price};

/// The rated usage of one price in one period.
///
/// Small, and made without allocation; [`LineItem::arithmetic`] works out the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineItem<'c> {
    /// By which price.
    pub price: &'c Price,
    /// The priced meter; `None` for a fee.
    pub meter: Option<&'c Meter>,
    /// The card that the price stands in.
    pub card: &'c Card,
    /// The day on which the period begins.
    pub day: NaiveDate,
    /// Usage of the period in the meter's smallest unit.
    pub quantity: Quantity,
    /// The list amount: before discounts, maximum and minimum.
    pub list: Decimal,
    /// The amount.
    pub amount: Decimal,
}

/// How a line was computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic<'c> {
    /// From the metered to the charged quantity; each step with what it left.
    pub quantities: Vec<(QuantityStep<'c>, Ratio)>,
    /// What is charged for, in the price's unit: converted, less what is included.
    pub charged: Ratio,
    /// The tiers, as far as the usage reaches.
    pub tiers: Vec<TierAmount<'c>>,
    /// The list amount, before rounding.
    pub list: Ratio,
    /// From the list amount to the final one.
    pub steps: Vec<AmountChange<'c>>,
}

/// A step between list amount and final amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountChange<'c> {
    /// What changes it.
    pub step: AmountStep<'c>,
    /// The amount behind this step, before rounding.
    pub exact: Ratio,
    /// By how much; below zero for discounts. List amount and changes sum to the final amount.
    pub change: Decimal,
}

impl<'c> LineItem<'c> {
    /// How the line was computed; `None` if a number on the way does not fit an exact fraction,
    /// though the amount does.
    pub fn arithmetic(&self) -> Option<Arithmetic<'c>> {
        let places = places(self.price, self.card);
        let (mut quantities, mut tiers) = (Vec::new(), Vec::new());
        let metered = metered(self.quantity, self.meter)?;
        let charged = charged_quantity(self.price, self.day, metered, |step, left| {
            quantities.push((step, left));
        })?;
        let list = list_amount(self.price, places, charged, |tier| tiers.push(tier))?;
        let mut changes = Vec::new();
        final_amount(self.price, self.day, list, |step, left| {
            changes.push((step, left));
        })?;
        let mut steps = Vec::with_capacity(changes.len());
        let mut before = self.list;
        for (step, exact) in changes {
            let amount = places.round(exact)?;
            steps.push(AmountChange {
                step,
                exact,
                change: amount - before,
            });
            before = amount;
        }
        Some(Arithmetic {
            quantities,
            charged,
            tiers,
            list,
            steps,
        })
    }
}

/// The arithmetic for people:
/// `2000000 x 0.40 + 1500000 x 0.25 per 1000 {request} = 800 + 375 = 1175.00 EUR`.
impl fmt::Display for LineItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(arithmetic) = self.arithmetic() else {
            return write!(f, "{} {}", self.amount, self.card.currency);
        };
        self.write_quantities(f, &arithmetic)?;
        self.write_tiers(f, &arithmetic.tiers)?;
        // A rounded amount shows what it was rounded from.
        if Ratio::from_decimal(self.list) != arithmetic.list {
            write!(f, "{} ~ ", arithmetic.list)?;
        }
        write!(f, "{} {}", self.list, self.card.currency)?;
        for change in &arithmetic.steps {
            write_change(f, change)?;
        }
        if !arithmetic.steps.is_empty() {
            write!(f, " = {} {}", self.amount, self.card.currency)?;
        }
        Ok(())
    }
}

impl LineItem<'_> {
    fn write_quantities(
        &self,
        f: &mut fmt::Formatter<'_>,
        arithmetic: &Arithmetic<'_>,
    ) -> fmt::Result {
        let Some(meter) = self.meter else {
            return Ok(());
        };
        let shown = self.quantity.display(meter.billed_scale());
        if self.quantity.is_negative() {
            write!(f, "{shown} is below zero and rated as 0: ")?;
        }
        if arithmetic.quantities.is_empty() {
            return Ok(());
        }
        match metered(self.quantity, self.meter) {
            Some(metered) => write!(f, "{metered}")?,
            None => write!(f, "{shown}")?,
        }
        for (step, left) in &arithmetic.quantities {
            match step {
                QuantityStep::Converted(convert) if convert.factor == Ratio::ONE => {
                    write!(f, " rounded {} to {left}", convert.mode)?;
                }
                QuantityStep::Converted(convert) => {
                    write!(
                        f,
                        " at {} for {}, rounded {}, is {left}",
                        convert.to, convert.from, convert.mode
                    )?;
                }
                QuantityStep::Included(allowance) => {
                    write!(f, " less {} included = {left}", allowance.quantity)?;
                }
                QuantityStep::AllCharged(allowance) => {
                    write!(f, " is above {}, so all is charged", allowance.quantity)?;
                }
                QuantityStep::Discounted(discount, by) => {
                    write!(f, " less {by} {} = {left}", discount.id)?;
                }
            }
        }
        f.write_str(": ")
    }

    fn write_tiers(&self, f: &mut fmt::Formatter<'_>, tiers: &[TierAmount<'_>]) -> fmt::Result {
        let own_per = tiers.iter().any(|tier| tier.tier.per.is_some());
        for (index, tier) in tiers.iter().enumerate() {
            if index > 0 {
                f.write_str(" + ")?;
            }
            if let Some(unit) = tier.unit {
                match tier.blocks {
                    Some(blocks) => write!(f, "{} in {blocks} blocks x ", tier.quantity)?,
                    None => write!(f, "{} x ", tier.quantity)?,
                }
                match tier.tier.unit {
                    Some(listed) if listed != unit => write!(f, "({listed} ~ {unit})")?,
                    _ => write!(f, "{unit}")?,
                }
                if own_per {
                    write!(f, " per {}", tier.per)?;
                }
            }
            match (tier.unit, tier.flat) {
                (Some(_), Some(flat)) => write!(f, " and {flat} flat")?,
                (None, Some(flat)) => write!(f, "{flat} flat")?,
                (None, None) => f.write_str("no fee")?,
                (Some(_), None) => {}
            }
        }
        if !own_per && tiers.iter().any(|tier| tier.unit.is_some()) {
            write!(f, " per {}", self.price.per)?;
        }
        f.write_str(" = ")?;
        if tiers.len() > 1 {
            for (index, tier) in tiers.iter().enumerate() {
                let plus = if index == 0 { "" } else { " + " };
                write!(f, "{plus}{}", tier.exact)?;
                if tier.amount != tier.exact {
                    write!(f, " ~ {}", tier.amount)?;
                }
            }
            f.write_str(" = ")?;
        } else if let Some(tier) = tiers.first().filter(|tier| tier.amount != tier.exact) {
            write!(f, "{} ~ ", tier.exact)?;
        }
        Ok(())
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &AmountChange<'_>) -> fmt::Result {
    match change.step {
        AmountStep::Discount(discount) => {
            write!(f, "; {}", discount.id)?;
            if let Off::Percent { percent, of_list } = &discount.off {
                let of = if *of_list { " of list" } else { "" };
                write!(f, " {percent} %{of}")?;
            }
        }
        AmountStep::Maximum(maximum) => write!(f, "; at most {maximum}")?,
        AmountStep::Minimum(minimum) => write!(f, "; at least {minimum}")?,
    }
    let sign = if change.change.is_sign_negative() || change.change.is_zero() {
        ""
    } else {
        "+"
    };
    write!(f, ": {sign}{}", change.change)
}
