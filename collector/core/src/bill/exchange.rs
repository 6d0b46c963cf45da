//! From the currency of the card to that of the tenant.

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::carried::Exchanged;
use super::line::{BillLine, LineRole};
use super::{BillInput, NoBill, commit};
use crate::catalog::ExchangeRate;
use crate::rate::{Currency, Mode, Ratio};

/// Converts every line once, at the last rate before the period's end, and rounds it again; the
/// original amount stays beside it. What is given back of a fee comes to its part of what the fee came
/// to. Answers the bill's currency and the rates that were used.
pub(super) fn convert(
    input: &BillInput<'_>,
    lines: &mut [BillLine<'_>],
) -> Result<(Option<Currency>, Vec<ExchangeRate>), NoBill> {
    let slices = input.slices.iter().rev();
    let agreed = slices
        .filter_map(|slice| slice.profile)
        .map(|profile| profile.agreement.currency)
        .next()
        .flatten();
    let cards = input.slices.iter().rev().filter_map(|slice| slice.card);
    let last = cards.map(|card| card.currency).next();
    let Some(to) = agreed.or(last) else {
        return Ok((lines.first().map(|line| line.currency), Vec::new()));
    };
    let mut used: Vec<ExchangeRate> = Vec::new();
    for line in lines.iter_mut() {
        if line.currency == to {
            continue;
        }
        if let Some(billed) = given_back(line, to) {
            (line.billed, line.net) = (billed, billed);
            line.exchanged = line.gives_back.and_then(|fee| fee.exchanged);
            continue;
        }
        let known = used.iter().find(|rate| rate.from == line.currency).copied();
        let rate = if let Some(rate) = known {
            rate
        } else {
            let rate = last_rate(input, line.currency, to, input.period.end)?;
            used.push(rate);
            rate
        };
        line.exchanged = Some(Exchanged {
            rate: rate.rate,
            date: rate.date,
        });
        line.billed = Ratio::from_decimal(line.amount)
            .checked_mul(Ratio::from_decimal(rate.rate))
            .and_then(|amount| amount.round(to.exponent(), Mode::HalfUp))
            .ok_or(NoBill::TooLarge)?;
        line.net = line.billed;
    }
    draw_down(input, lines, to).ok_or(NoBill::TooLarge)?;
    Ok((Some(to), used))
}

/// What a line that gives back comes to, if what it gives back was billed in this currency.
fn given_back(line: &BillLine<'_>, to: Currency) -> Option<Decimal> {
    let fee = line.gives_back?;
    let (billed, currency) = fee.billed.as_ref()?;
    if currency != to.code() {
        return None;
    }
    let part = Ratio::from_decimal(line.amount).checked_div(Ratio::from_decimal(fee.amount))?;
    let billed = part.checked_mul(Ratio::from_decimal(*billed))?;
    billed.round(to.exponent(), Mode::HalfUp)
}

/// What a commitment pays for whole lines is what these come to, though each of them was rounded by
/// itself.
fn draw_down(input: &BillInput<'_>, lines: &mut [BillLine<'_>], to: Currency) -> Option<()> {
    for place in 0..lines.len() {
        let line = &lines[place];
        if line.key.role != LineRole::Drawdown || line.currency == to {
            continue;
        }
        let Some(paid) = commit::paid_whole(input, lines, line) else {
            continue;
        };
        let mut billed = paid.into_iter().map(|place| lines[place].billed);
        let sum = billed.try_fold(Decimal::ZERO, Decimal::checked_add)?;
        let line = &mut lines[place];
        line.billed = Decimal::ZERO.checked_sub(sum)?;
        line.net = line.billed;
    }
    Some(())
}

fn last_rate(
    input: &BillInput<'_>,
    from: Currency,
    to: Currency,
    before: Timestamp,
) -> Result<ExchangeRate, NoBill> {
    input
        .catalog
        .and_then(|catalog| catalog.exchange().last_before(from, to, input.zone, before))
        .ok_or(NoBill::NoExchangeRate {
            from: from.code(),
            to: to.code(),
            before,
        })
}
