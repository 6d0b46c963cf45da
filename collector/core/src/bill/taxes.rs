//! Tax: on top of the lines or in them, for each line or for all of the same taxes together.
//!
//! The rate is that of the period's last day, in the tenant's zone; what gives back a fee that was
//! charged in advance has the rate of the day on which that was charged. A bill that is worked
//! out again has the same days, so that a correction is taxed as its original was.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::line::{BillLine, LineRole};
use super::split::{split_amount, units};
use super::{BillInput, NoBill, rounding};
use crate::catalog::{Tax, TaxBehavior, TaxFirst, TaxPer, TaxStyle};
use crate::rate::{Currency, Ratio};

/// A tax on a bill, at one rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaxLine<'c> {
    /// Which tax.
    pub tax: &'c Tax,
    /// Its rate in percent; zero if it is not charged.
    pub percent: Decimal,
    /// What it is computed of, in the bill's currency, without this tax.
    pub base: Decimal,
    /// How much it is.
    pub amount: Decimal,
    /// What of it is on which line, by the lines' places, and what that is computed of.
    pub of: Vec<(usize, Decimal, Decimal)>,
}

/// A tax with its rate, and what it is of a net amount of one.
struct Rate<'c> {
    tax: &'c Tax,
    percent: Decimal,
    of_net: Ratio,
}

/// Lines that are taxed alike.
struct Group<'c> {
    style: TaxStyle,
    codes: &'c [String],
    day: NaiveDate,
    /// Most tax that is given back, of a line that stands alone.
    credit_of: Option<Decimal>,
    /// By their place, each with what of it is taxed so.
    lines: Vec<(usize, Decimal)>,
}

/// Works out tax and net amount of every line, and answers the taxes with their sums.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    lines: &mut [BillLine<'c>],
    currency: Option<Currency>,
) -> Result<Vec<TaxLine<'c>>, NoBill> {
    let Some(currency) = currency else {
        return Ok(Vec::new());
    };
    let mut taxes: Vec<TaxLine<'c>> = Vec::new();
    let groups = groups(input, lines, currency.exponent()).ok_or(NoBill::TooLarge)?;
    for line in &mut *lines {
        (line.net, line.tax) = (Decimal::ZERO, Decimal::ZERO);
    }
    let places = currency.exponent();
    let rates: Vec<Vec<Rate<'c>>> = groups
        .iter()
        .map(|group| rates(input, group))
        .collect::<Result<_, _>>()?;
    let mut settled = at_once(&groups, &rates, places).ok_or(NoBill::TooLarge)?;
    for (place, (group, rates)) in groups.into_iter().zip(rates).enumerate() {
        let together = match group.style.per {
            TaxPer::Invoice | TaxPer::Total => vec![group.lines.clone()],
            TaxPer::Line => group.lines.iter().map(|&line| vec![line]).collect(),
        };
        for parts in together {
            let amounts: Vec<Decimal> = parts.iter().map(|(_, amount)| *amount).collect();
            let totals = settled.remove(&place);
            let mut taxed =
                tax(&amounts, &rates, group.style, places, totals).ok_or(NoBill::TooLarge)?;
            if let Some(charged) = group.credit_of {
                taxed
                    .give_back_at_most(charged, group.style)
                    .ok_or(NoBill::TooLarge)?;
            }
            for (rate, (base, amounts)) in rates.iter().zip(taxed.taxes) {
                let places = parts.iter().map(|(place, _)| *place);
                let of = places
                    .zip(amounts)
                    .map(|(place, (tax, of))| (place, tax, of));
                add(&mut taxes, rate, base, of.collect()).ok_or(NoBill::TooLarge)?;
            }
            for (&(place, _), (net, tax)) in parts.iter().zip(taxed.lines) {
                let line = &mut lines[place];
                line.net = line.net.checked_add(net).ok_or(NoBill::TooLarge)?;
                line.tax = line.tax.checked_add(tax).ok_or(NoBill::TooLarge)?;
            }
        }
    }
    Ok(taxes)
}

/// The day whose rates count: the last one of the period.
pub(super) fn last_day(input: &BillInput<'_>) -> NaiveDate {
    day_before(input, input.period.end)
}

fn day_before(input: &BillInput<'_>, instant: Timestamp) -> NaiveDate {
    let before = instant.millis().saturating_sub(1);
    input.zone.date_at(Timestamp::from_millis(before))
}

/// The lines by how they are taxed; what is taxed like several others is divided in proportion to
/// them. `None` if that does not fit the numbers.
fn groups<'c>(
    input: &BillInput<'c>,
    lines: &[BillLine<'c>],
    places: u32,
) -> Option<Vec<Group<'c>>> {
    let day = last_day(input);
    let day_before = day_before(input, input.period.start);
    let mut groups: Vec<Group<'c>> = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        // A fee below zero gives back what the bill before charged.
        let gives_back = line.key.role == LineRole::Fee && line.billed.is_sign_negative();
        let day = match line.taxed_on {
            Some(day) => day,
            None if gives_back => day_before,
            None => day,
        };
        let weights: Vec<Decimal> = line.mixed.iter().map(|(_, amount)| *amount).collect();
        let parts = match weights[..] {
            [] => vec![line.billed],
            _ => split_amount(line.billed, places, &weights)?,
        };
        let codes = line.mixed.iter().map(|(codes, _)| *codes);
        let alone = line.mixed.is_empty().then_some(line.taxes);
        for (codes, amount) in codes.chain(alone).zip(parts) {
            // What has a most that its tax may be stands alone.
            let alike = groups.iter_mut().find(|group| {
                group.style == line.style
                    && group.codes == codes
                    && has_same_rates(input, codes, group.day, day)
                    && line.credit_of().is_none()
                    && group.credit_of.is_none()
            });
            match alike {
                Some(group) => group.lines.push((place, amount)),
                None => groups.push(Group {
                    style: line.style,
                    codes,
                    day,
                    credit_of: line.credit_of(),
                    lines: vec![(place, amount)],
                }),
            }
        }
    }
    Some(groups)
}

/// True if taxes have the same rates on two days: then they are worked out once of both.
fn has_same_rates(
    input: &BillInput<'_>,
    codes: &[String],
    one: NaiveDate,
    other: NaiveDate,
) -> bool {
    let percent = |code: &String, day| input.catalog?.tax(code)?.percent_on(day);
    let is_same = |code| {
        let percent_of_one = percent(code, one);
        percent_of_one.is_some() && percent_of_one == percent(code, other)
    };
    one == other || codes.iter().all(is_same)
}

fn rates<'c>(input: &BillInput<'c>, group: &Group<'c>) -> Result<Vec<Rate<'c>>, NoBill> {
    let mut rates: Vec<Rate<'c>> = Vec::with_capacity(group.codes.len());
    let mut before = Ratio::ZERO;
    for code in group.codes {
        let tax = input
            .catalog
            .and_then(|catalog| catalog.tax(code))
            .ok_or_else(|| NoBill::NoTax(code.clone()))?;
        let percent = tax.percent_on(group.day).ok_or_else(|| NoBill::NoTaxRate {
            code: code.clone(),
            day: group.day,
        })?;
        let base = if tax.compound {
            Ratio::ONE.checked_add(before)
        } else {
            Some(Ratio::ONE)
        };
        let share = Ratio::from_decimal(percent).checked_div(Ratio::HUNDRED);
        let of_net = share
            .zip(base)
            .and_then(|(share, base)| share.checked_mul(base))
            .ok_or(NoBill::TooLarge)?;
        before = before.checked_add(of_net).ok_or(NoBill::TooLarge)?;
        rates.push(Rate {
            tax,
            percent,
            of_net,
        });
    }
    Ok(rates)
}

/// What each tax of each group comes to, by the group's place, where a card rounds all of them
/// together: their exact sum, rounded once and divided by largest remainder.
fn at_once(
    groups: &[Group<'_>],
    rates: &[Vec<Rate<'_>>],
    places: u32,
) -> Option<BTreeMap<usize, Vec<i128>>> {
    let mut styles: Vec<TaxStyle> = Vec::new();
    let is_at_once =
        |group: &Group<'_>| group.style.per == TaxPer::Total && group.credit_of.is_none();
    for group in groups.iter().filter(|group| is_at_once(group)) {
        if !styles.contains(&group.style) {
            styles.push(group.style);
        }
    }
    let mut settled: BTreeMap<usize, Vec<i128>> = BTreeMap::new();
    for style in styles {
        let (mut owners, mut exact) = (Vec::new(), Vec::new());
        let own = groups.iter().zip(rates).enumerate();
        for (place, (group, rates)) in own {
            if group.style != style || !is_at_once(group) {
                continue;
            }
            let amounts = group.lines.iter().map(|(_, amount)| *amount);
            let net = net(&amounts.collect::<Vec<_>>(), rates, style)?;
            let net = net.into_iter().try_fold(Ratio::ZERO, Ratio::checked_add)?;
            for rate in rates {
                owners.push(place);
                exact.push(net.checked_mul(rate.of_net)?);
            }
        }
        let total = rounding::total(&exact, places, style.mode)?;
        let parts = rounding::settle(&exact, places, total)?;
        for (place, part) in owners.into_iter().zip(parts) {
            settled.entry(place).or_default().push(part);
        }
    }
    Some(settled)
}

/// The exact net amount of each line.
fn net(amounts: &[Decimal], rates: &[Rate<'_>], style: TaxStyle) -> Option<Vec<Ratio>> {
    // What a net amount of one is with its taxes.
    let all = rates
        .iter()
        .try_fold(Ratio::ONE, |sum, rate| sum.checked_add(rate.of_net))?;
    amounts
        .iter()
        .map(|amount| match style.behavior {
            TaxBehavior::Exclusive => Some(Ratio::from_decimal(*amount)),
            TaxBehavior::Inclusive => Ratio::from_decimal(*amount).checked_div(all),
        })
        .collect()
}

/// What lines that are taxed together come to.
struct Taxed {
    /// Of each tax what it is computed of; and of each line how much it is, and of what.
    taxes: Vec<(Decimal, Vec<(Decimal, Decimal)>)>,
    /// Net amount and tax of each line.
    lines: Vec<(Decimal, Decimal)>,
}

impl Taxed {
    /// Tax that is given back is never more than was `charged`; the last taxes are lessened.
    fn give_back_at_most(&mut self, charged: Decimal, style: TaxStyle) -> Option<()> {
        let (net, tax) = self.lines.first_mut()?;
        let mut excess = Decimal::ZERO.checked_sub(tax.checked_add(charged)?)?;
        if excess <= Decimal::ZERO {
            return Some(());
        }
        *tax = tax.checked_add(excess)?;
        if style.behavior == TaxBehavior::Inclusive {
            *net = net.checked_sub(excess)?;
        }
        // It stands alone.
        let amounts = self.taxes.iter_mut().rev();
        for (amount, _) in amounts.filter_map(|(_, amounts)| amounts.first_mut()) {
            let less = excess.min(Decimal::ZERO.checked_sub(*amount)?);
            *amount = amount.checked_add(less)?;
            excess = excess.checked_sub(less)?;
        }
        Some(())
    }
}

/// Taxes lines together; `settled` is what each tax comes to, if that is known.
fn tax(
    amounts: &[Decimal],
    rates: &[Rate<'_>],
    style: TaxStyle,
    places: u32,
    settled: Option<Vec<i128>>,
) -> Option<Taxed> {
    let money = |units: i128| Decimal::try_from_i128_with_scale(units, places).ok();
    let inclusive = style.behavior == TaxBehavior::Inclusive;
    if rates.is_empty() && !inclusive {
        let none = money(0)?;
        let lines = amounts.iter().map(|amount| (*amount, none));
        return Some(Taxed {
            taxes: Vec::new(),
            lines: lines.collect(),
        });
    }
    let exact = net(amounts, rates, style)?;
    let of = |rate: Ratio| -> Option<Vec<Ratio>> {
        exact.iter().map(|net| net.checked_mul(rate)).collect()
    };
    let gross = amounts.iter().try_fold(0i128, |sum, amount| {
        sum.checked_add(units(*amount, places)?)
    })?;
    let mut totals = settled.unwrap_or_default();
    for rate in rates.iter().skip(totals.len()) {
        totals.push(rounding::total(&of(rate.of_net)?, places, style.mode)?);
    }
    if inclusive && style.first == TaxFirst::Net {
        // The net amount is rounded; several taxes share what is left by largest remainder.
        let net = rounding::total(&exact, places, style.mode)?;
        let sums: Option<Vec<Ratio>> = rates
            .iter()
            .map(|rate| {
                of(rate.of_net)?
                    .into_iter()
                    .try_fold(Ratio::ZERO, Ratio::checked_add)
            })
            .collect();
        totals = rounding::settle(&sums?, places, gross.checked_sub(net)?)?;
    }
    let mut taxes_of = vec![0i128; amounts.len()];
    let mut parts_of = Vec::with_capacity(rates.len());
    for (rate, total) in rates.iter().zip(&totals) {
        let parts = rounding::settle(&of(rate.of_net)?, places, *total)?;
        for (tax, part) in taxes_of.iter_mut().zip(&parts) {
            *tax = tax.checked_add(*part)?;
        }
        let parts: Option<Vec<Decimal>> = parts.into_iter().map(money).collect();
        parts_of.push(parts?);
    }
    let tax_total = totals
        .iter()
        .try_fold(0i128, |sum, total| sum.checked_add(*total))?;
    let net_total = if inclusive {
        gross.checked_sub(tax_total)?
    } else {
        gross
    };
    let mut lines = Vec::with_capacity(amounts.len());
    for (amount, tax) in amounts.iter().zip(taxes_of) {
        let tax = money(tax)?;
        let net = if inclusive {
            amount.checked_sub(tax)?
        } else {
            *amount
        };
        lines.push((net, tax));
    }
    let mut taxes = Vec::with_capacity(rates.len());
    let mut before = 0i128;
    let mut bases: Vec<Decimal> = lines.iter().map(|(net, _)| *net).collect();
    for ((rate, total), parts) in rates.iter().zip(&totals).zip(parts_of) {
        let compound = rate.tax.compound;
        let base = if compound {
            net_total.checked_add(before)?
        } else {
            net_total
        };
        let mut of = Vec::with_capacity(parts.len());
        for ((part, (net, _)), with_taxes) in parts.into_iter().zip(&lines).zip(&mut bases) {
            of.push((part, if compound { *with_taxes } else { *net }));
            *with_taxes = with_taxes.checked_add(part)?;
        }
        taxes.push((money(base)?, of));
        before = before.checked_add(*total)?;
    }
    Some(Taxed { taxes, lines })
}

/// Adds to the sum of a tax at a rate.
fn add<'c>(
    taxes: &mut Vec<TaxLine<'c>>,
    rate: &Rate<'c>,
    base: Decimal,
    of: Vec<(usize, Decimal, Decimal)>,
) -> Option<()> {
    let mut amounts = of.iter().map(|(_, amount, _)| *amount);
    let first = amounts.next().unwrap_or_default();
    let amount = amounts.try_fold(first, Decimal::checked_add)?;
    let same =
        |line: &&mut TaxLine<'c>| line.tax.code == rate.tax.code && line.percent == rate.percent;
    match taxes.iter_mut().find(same) {
        Some(line) => {
            line.base = line.base.checked_add(base)?;
            line.amount = line.amount.checked_add(amount)?;
            line.of.extend(of);
        }
        None => taxes.push(TaxLine {
            tax: rate.tax,
            percent: rate.percent,
            base,
            amount,
            of,
        }),
    }
    Some(())
}
