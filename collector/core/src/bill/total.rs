//! Rounding of the total to what can be paid: what is missing, or too much, is a line of its own,
//! without tax.

use rust_decimal::Decimal;

use super::line::{BillLine, LineKey, LineRole, Source};
use super::plan::Plan;
use super::{BillInput, NoBill};
use crate::catalog::{Card, TotalRounding};
use crate::rate::{Currency, Ratio};

/// Rounds the total, if the card that is in force last says so.
pub(super) fn round<'c>(
    input: &BillInput<'c>,
    lines: &mut Vec<BillLine<'c>>,
    currency: Option<Currency>,
) -> Result<(), NoBill> {
    let plans = Plan::all(input.slices);
    let card = Plan::last(&plans).map(|last| plans[last].card());
    let Some((currency, (card, rounding))) =
        currency.zip(card.and_then(|card| Some((card, card.total.as_ref()?))))
    else {
        return Ok(());
    };
    let mut gross = lines.iter().map(BillLine::gross);
    let total = gross.try_fold(Decimal::ZERO, |sum, line| sum.checked_add(line?));
    let change = total.and_then(|total| missing(total, rounding, currency));
    let change = change.ok_or(NoBill::TooLarge)?;
    if !change.is_zero() {
        lines.push(line(card, rounding, currency, change));
    }
    Ok(())
}

/// What the rounded total is more than the exact one.
fn missing(total: Decimal, rounding: &TotalRounding, currency: Currency) -> Option<Decimal> {
    let rounded = Ratio::from_decimal(total).round_to(rounding.to, rounding.mode)?;
    // A step that is finer than the currency's places is no step.
    let rounded = rounded.round(currency.exponent(), rounding.mode)?;
    rounded.checked_sub(total)
}

fn line<'c>(
    card: &'c Card,
    rounding: &'c TotalRounding,
    currency: Currency,
    change: Decimal,
) -> BillLine<'c> {
    BillLine {
        key: LineKey {
            role: LineRole::Rounding,
            card: Some(card.id.clone()),
            id: "total".to_owned(),
            currency: currency.code().to_owned(),
        },
        source: Source::Rounding(rounding),
        currency,
        style: card.tax,
        list: change,
        worked: Some(Vec::new()),
        amount: change,
        billed: change,
        taxes: &[],
        mixed: Vec::new(),
        taxed_on: None,
        gives_back: None,
        charged: None,
        exchanged: None,
        net: change,
        tax: Decimal::ZERO,
        fraction: Ratio::ONE,
        shares: Vec::new(),
    }
}
