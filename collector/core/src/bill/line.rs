//! The lines of a bill.

use std::fmt::{self, Write as _};

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Quantity, TenantId};

use super::carried::{Advance, Exchanged};
use crate::catalog::{Bound, Commitment, Meter, Price, TaxStyle, TotalRounding};
use crate::ledger::{Step, StepKind};
use crate::rate::{AmountStep, Arithmetic, Currency, LineItem, Ratio};

/// Bytes that hold the arithmetic of most lines.
const TEXT_BYTES_USUAL: usize = 160;

/// What tells one line of a tenant's period from another, whenever it is worked out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LineKey {
    /// What it is.
    pub role: LineRole,
    /// The card's id; `None` for what a profile adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// The id of the price, minimum or commitment.
    pub id: String,
    /// The currency of the card.
    pub currency: String,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineRole {
    /// Usage by a price.
    Usage,
    /// A fee of this period. Of what is charged in advance only the rest, or the credit of what
    /// was too much.
    Fee,
    /// A fee of the next period.
    Advance,
    /// What is missing to a minimum.
    Minimum,
    /// What a commitment charges before its usage: all in advance, or one of equal parts.
    Commitment,
    /// Usage that a commitment has paid for: below zero.
    Drawdown,
    /// What usage above a commitment costs more, or less, than it would without one.
    Overage,
    /// What is missing to a commitment at the end of its term.
    TrueUp,
    /// What the rounded total is more, or less, than the exact one.
    Rounding,
}

impl LineKey {
    /// The name of the line on invoices: the price's id, or what it is and its own id.
    pub fn name(&self) -> String {
        match self.role {
            LineRole::Usage | LineRole::Fee => self.id.clone(),
            role => format!("{role} {}", self.id),
        }
    }
}

impl LineRole {
    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Fee => "fee",
            Self::Advance => "advance",
            Self::Minimum => "minimum",
            Self::Commitment => "commitment",
            Self::Drawdown => "drawdown",
            Self::Overage => "overage",
            Self::TrueUp => "true_up",
            Self::Rounding => "rounding",
        }
    }
}

impl fmt::Display for LineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source<'c> {
    /// A price.
    Rated(LineItem<'c>),
    /// A price without a meter, for the next period.
    Advance(LineItem<'c>),
    /// A minimum over several lines.
    Minimum(&'c Bound),
    /// A commitment.
    Commitment(&'c Commitment),
    /// A fee that was charged in advance and is not due any more.
    Unused,
    /// What the total is rounded to.
    Rounding(&'c TotalRounding),
}

impl<'c> Source<'c> {
    /// The price, if it comes from one.
    pub fn price(&self) -> Option<&'c Price> {
        match self {
            Self::Rated(item) | Self::Advance(item) => Some(item.price),
            Self::Minimum(_) | Self::Commitment(_) | Self::Unused | Self::Rounding(_) => None,
        }
    }

    /// What was rated, if anything was.
    pub fn item(&self) -> Option<&LineItem<'c>> {
        match self {
            Self::Rated(item) | Self::Advance(item) => Some(item),
            Self::Minimum(_) | Self::Commitment(_) | Self::Unused | Self::Rounding(_) => None,
        }
    }
}

/// A step of a rated line, as the ledger has it.
fn step_of(step: &AmountStep<'_>, amount: Decimal) -> Step {
    let (kind, id) = match step {
        AmountStep::Contracted => (StepKind::Contracted, String::new()),
        AmountStep::Discount(discount) => (StepKind::Discount, discount.id.clone()),
        AmountStep::Maximum(_) => (StepKind::Maximum, String::new()),
        AmountStep::Minimum(_) => (StepKind::Minimum, String::new()),
    };
    Step { kind, id, amount }
}

/// What one of several tenants has of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share<'c> {
    /// Who.
    pub tenant: &'c TenantId,
    /// How much it used of what the line carries.
    pub quantity: Quantity,
    /// Its part of the net amount.
    pub net: Decimal,
    /// Its part of the tax.
    pub tax: Decimal,
}

/// A line of a bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillLine<'c> {
    /// What tells it from others.
    pub key: LineKey,
    /// Where it comes from.
    pub source: Source<'c>,
    /// The card's currency.
    pub currency: Currency,
    /// How the card's amounts are taxed.
    pub style: TaxStyle,
    /// The list amount: before discounts, maximum and minimum, and at what the card lists for
    /// everybody; in the card's currency.
    pub list: Decimal,
    /// From the list amount to the final one; `None` if they are those of the rated line. See
    /// [`BillLine::steps`].
    pub(super) worked: Option<Vec<Step>>,
    /// The amount, in the card's currency; with tax if the card's prices include it.
    pub amount: Decimal,
    /// The amount, in the bill's currency.
    pub billed: Decimal,
    /// The codes of its taxes, in the order in which they are applied.
    pub taxes: &'c [String],
    /// Of what is missing to lines that are taxed in several ways: the taxes of each, and what
    /// they come to; it is taxed in these proportions, and not by `taxes`. Else empty.
    pub mixed: Vec<(&'c [String], Decimal)>,
    /// The day whose tax rates count; `None` for the period's last one.
    pub(super) taxed_on: Option<NaiveDate>,
    /// What an earlier bill charged, where something of it is given back.
    pub(super) gives_back: Option<&'c Advance>,
    /// What an earlier bill charged for it in advance: earned with this one.
    pub charged: Option<&'c Advance>,
    /// By what it was converted; `None` if it was not.
    pub exchanged: Option<Exchanged>,
    /// The amount without tax, in the bill's currency.
    pub net: Decimal,
    /// The tax on it, in the bill's currency.
    pub tax: Decimal,
    /// The part of the period that its price is in force for; one unless it is prorated.
    pub fraction: Ratio,
    /// Between whom it is shared out; empty without children.
    pub shares: Vec<Share<'c>>,
}

impl<'c> BillLine<'c> {
    /// The meter, if usage is priced.
    pub fn meter(&self) -> Option<&'c Meter> {
        self.source.item().and_then(|item| item.meter)
    }

    /// Where something is given back: the tax that was charged on it.
    pub(super) fn credit_of(&self) -> Option<Decimal> {
        self.gives_back?.tax
    }

    /// The usage, in the meter's smallest unit.
    pub fn quantity(&self) -> Quantity {
        self.source
            .item()
            .map_or(Quantity::ZERO, |item| item.quantity)
    }

    /// From the list amount to the final one, one by one; they sum to the difference. Empty also
    /// if the arithmetic of the line does not fit the numbers, though its amount does.
    pub fn steps(&self) -> Vec<Step> {
        match self.worked {
            Some(_) => self.steps_by(None),
            None => self.steps_by(self.arithmetic().as_ref()),
        }
    }

    /// The arithmetic for people with the steps: worked out once for both.
    pub fn told(&self) -> (String, Vec<Step>) {
        let arithmetic = self.arithmetic();
        let arithmetic = arithmetic.as_ref();
        let told = Told {
            line: self,
            arithmetic,
        };
        let mut text = String::with_capacity(TEXT_BYTES_USUAL);
        let _ = write!(text, "{told}");
        (text, self.steps_by(arithmetic))
    }

    /// How what was rated was computed.
    fn arithmetic(&self) -> Option<Arithmetic<'c>> {
        self.source.item().and_then(LineItem::arithmetic)
    }

    /// What is taken off a line that no price makes, and what is left.
    fn write_coupons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.worked.as_deref().unwrap_or_default();
        for step in steps {
            write!(f, "; {} {}: {}", step.kind.as_str(), step.id, step.amount)?;
        }
        if !steps.is_empty() {
            write!(f, " = {} {}", self.amount, self.currency)?;
        }
        Ok(())
    }

    fn steps_by(&self, arithmetic: Option<&Arithmetic<'_>>) -> Vec<Step> {
        if let Some(worked) = &self.worked {
            return worked.clone();
        }
        let steps = arithmetic
            .into_iter()
            .flat_map(|arithmetic| &arithmetic.steps);
        steps
            .map(|change| step_of(&change.step, change.change))
            .collect()
    }

    /// Net amount and tax.
    pub fn gross(&self) -> Option<Decimal> {
        self.net.checked_add(self.tax)
    }
}

/// The arithmetic for people.
impl fmt::Display for BillLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arithmetic = self.arithmetic();
        let told = Told {
            line: self,
            arithmetic: arithmetic.as_ref(),
        };
        fmt::Display::fmt(&told, f)
    }
}

/// A line with how what was rated of it was computed.
struct Told<'l, 'c> {
    line: &'l BillLine<'c>,
    arithmetic: Option<&'l Arithmetic<'c>>,
}

impl fmt::Display for Told<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, arithmetic } = *self;
        let currency = line.currency;
        match &line.source {
            Source::Rated(item) => match &line.worked {
                None => item.write(f, arithmetic)?,
                Some(steps) => {
                    match arithmetic {
                        Some(arithmetic) => item.write_list(f, arithmetic)?,
                        None => write!(f, "{} {currency}", item.list)?,
                    }
                    if line.fraction != Ratio::ONE {
                        write!(f, "; for {} of the period {}", line.fraction, line.list)?;
                    }
                    for step in steps {
                        let is_whole = step.amount == item.base - item.list;
                        if step.kind == StepKind::Contracted
                            && let Some(arithmetic) = arithmetic.filter(|_| is_whole)
                        {
                            item.write_contracted(f, arithmetic)?;
                            continue;
                        }
                        write!(f, "; {}", step.kind.as_str())?;
                        if !step.id.is_empty() {
                            write!(f, " {}", step.id)?;
                        }
                        let positive = !step.amount.is_zero() && step.amount.is_sign_positive();
                        let sign = if positive { "+" } else { "" };
                        write!(f, ": {sign}{}", step.amount)?;
                    }
                    write!(f, " = {} {currency}", line.amount)?;
                }
            },
            Source::Advance(item) => {
                f.write_str("in advance: ")?;
                item.write(f, arithmetic)?;
            }
            Source::Minimum(bound) => {
                write!(f, "at least {}: +{} {currency}", bound.amount, line.list)?;
                line.write_coupons(f)?;
            }
            Source::Unused => {
                write!(
                    f,
                    "charged in advance and not due: {} {currency}",
                    line.amount
                )?;
            }
            Source::Rounding(rounding) => {
                write!(
                    f,
                    "total to {}, rounded {}: {} {currency}",
                    rounding.to, rounding.mode, line.amount
                )?;
            }
            Source::Commitment(commitment) => {
                write!(
                    f,
                    "commitment of {} in {}: {} {currency}",
                    commitment.amount, commitment.term, line.list
                )?;
                line.write_coupons(f)?;
            }
        }
        if line.billed != line.amount {
            write!(f, " ~ {} in the bill's currency", line.billed)?;
        }
        Ok(())
    }
}
