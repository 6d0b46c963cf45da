//! Commitments: what counts towards them, what usage above them costs, and what is charged for
//! them.
//!
//! Lines count after discounts, maximum and minimum and before tax, in the order of periods and
//! then of lines. What a bill charges for a commitment is what is due in all of the term so far
//! less what the bills of earlier periods charged; where one of these is worked out again, or late,
//! the later ones of the term are too (see [`Shift`](super::Shift)), so that nothing is charged
//! twice.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::around::prices_of;
use super::carried::{Carried, Contribution, Taxed, Term};
use super::line::{BillLine, LineKey, LineRole, Source};
use super::lines::taxes as taxes_of_price;
use super::plan::Plan;
use super::split::split_by;
use super::{BillInput, CommitmentState, NoBill, Stage, taxes, top_up};
use crate::catalog::{AtEnd, Card, Commitment, Pay, Profile, TaxStyle};
use crate::period::{Anchor, Calendar, Period};
use crate::rate::{Currency, Mode, Ratio};

/// A commitment with where it stands.
struct Standing<'c> {
    commitment: &'c Commitment,
    /// The card; `None` in a profile.
    card: Option<&'c str>,
    /// What its amounts are in.
    currency: Currency,
    style: TaxStyle,
    taxes: &'c [String],
    /// The day on which a term begins.
    anchor: NaiveDate,
    /// Its last term ends with this period, because it is not agreed any more.
    ends: bool,
}

/// Adds the lines of commitments, and what the period contributes to them.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    lines: &mut Vec<BillLine<'c>>,
    carried: &mut Carried,
) -> Result<Vec<CommitmentState<'c>>, NoBill> {
    let plans = Plan::all(input.slices);
    let mut states = Vec::new();
    for standing in standing(input, &plans) {
        if let Some(state) = one(input, &plans, &standing, lines, carried)? {
            states.push(state);
        }
    }
    Ok(states)
}

/// What a commitment is called in [`Carried`], with its term in this period and its taxes.
pub(super) fn term_of(input: &BillInput<'_>, id: &str) -> Option<(String, Term, Vec<String>)> {
    let mut all = standing(input, &Plan::all(input.slices)).into_iter();
    let found = all.find(|standing| standing.commitment.id == id)?;
    let key = Carried::commitment_key(found.card, id);
    let (_, term) = term(input, &found)?;
    Some((key, term, found.taxes.to_vec()))
}

/// The commitments of all cards and profiles of the period, each as it was agreed last, those of
/// shorter terms first.
fn standing<'c>(input: &BillInput<'c>, plans: &[Plan<'c>]) -> Vec<Standing<'c>> {
    let mut found: Vec<Standing<'c>> = Vec::new();
    let mut add = |commitment: &'c Commitment, of_card, card: &'c Card, profile: &'c Profile| {
        let known = |other: &Standing<'c>| {
            other.commitment.id == commitment.id
                && other.card == of_card
                && (of_card.is_none() || other.currency == card.currency)
        };
        if found.iter().any(known) {
            return;
        }
        let catalogs = input.slices.iter().rev().filter_map(|slice| slice.catalog);
        let first = catalogs
            .filter_map(|catalog| catalog.versions(&card.id).first())
            .map(|first| first.from)
            .next();
        found.push(Standing {
            commitment,
            card: of_card,
            currency: card.currency,
            style: card.tax,
            taxes: taxes_of(commitment, card, profile),
            anchor: commitment.from.or(first).unwrap_or(card.from),
            ends: ends_with(input, commitment, of_card),
        });
    };
    for plan in plans {
        for (_, card) in plan.versions.iter().rev() {
            for commitment in &card.around.commitments {
                add(commitment, Some(card.id.as_str()), card, plan.profile);
            }
        }
    }
    for slice in input.slices.iter().rev() {
        let (Some(profile), Some(card)) = (slice.profile, slice.card) else {
            continue;
        };
        for commitment in &profile.agreement.around.commitments {
            add(commitment, None, profile.agreement.card(card), profile);
        }
    }
    found.sort_by_key(|standing| standing.commitment.term_days());
    found
}

/// True if what is agreed behind the period does not name a commitment any more.
fn ends_with(input: &BillInput<'_>, commitment: &Commitment, card: Option<&str>) -> bool {
    if input.stage == Stage::Last {
        return true;
    }
    let last = || {
        let slice = input.slices.last()?;
        Some((slice.profile?, slice.card?))
    };
    let Some((profile, agreed)) = input.after.or_else(last) else {
        return true;
    };
    let around = match card {
        None => &profile.agreement.around,
        Some(card) if agreed.id == card => &agreed.around,
        Some(_) => return true,
    };
    let mut commitments = around.commitments.iter();
    !commitments.any(|other| other.id == commitment.id)
}

/// Taxed like the card's prices that count, where these are all taxed alike, whether they are used
/// or not: so what a term charges and what its usage draws down are taxed alike.
fn taxes_of<'c>(commitment: &Commitment, card: &'c Card, profile: &'c Profile) -> &'c [String] {
    let prices = card.prices.iter();
    let counted = prices.filter(|price| commitment.counts.includes(price));
    let alike = top_up::alike(counted.map(|price| taxes_of_price(price, profile)));
    alike.unwrap_or(&profile.agreement.taxes)
}

/// What usage owes beside its lines, of lines that are taxed in several ways, is taxed like those of
/// this period. What a term charges before its usage has the taxes of the profile, and so has what
/// usage draws down from it: nothing is given back that was not charged.
fn mix<'c>(
    plans: &[Plan<'c>],
    standing: &Standing<'c>,
    lines: &[BillLine<'c>],
    role: LineRole,
) -> Option<top_up::Mixed<'c>> {
    if !matches!(role, LineRole::TrueUp | LineRole::Overage) {
        return Some(Vec::new());
    }
    let places = counting(plans, standing, lines).into_iter();
    let mixed = top_up::mixed(places.flat_map(|place| top_up::parts(&lines[place])))?;
    let counts = &standing.commitment.counts;
    let own = plans.iter().filter(|plan| {
        let card = plan.card();
        card.currency == standing.currency && standing.card.is_none_or(|id| card.id == id)
    });
    let counted = own.flat_map(|plan| {
        let counted = plan.prices().filter(|price| counts.includes(price));
        counted.map(|price| taxes_of_price(price, plan.profile))
    });
    // As the prices say, whether they are used or not.
    let is_uniform = top_up::alike(counted).is_some();
    Some(if is_uniform { Vec::new() } else { mixed })
}

/// The term in which a period begins, and its days; `None` before the first one.
fn term(input: &BillInput<'_>, standing: &Standing<'_>) -> Option<(Period, Term)> {
    let begins = beginning(input);
    if begins < input.zone.start_of_day(standing.anchor) {
        return None;
    }
    let anchor = Anchor::of_date(standing.anchor)?;
    let calendar = Calendar::anchored(input.zone, standing.commitment.term, Some(anchor)).ok()?;
    let term = calendar.period_containing(begins);
    let days = Term {
        start: input.zone.date_at(term.start),
        end: input.zone.date_at(term.end),
    };
    Some((term, days))
}

/// Where a period begins: behind the hours that a change of clocks has left in front of it.
pub(super) fn beginning(input: &BillInput<'_>) -> Timestamp {
    let start = input.period.start;
    let profile = input.slices.iter().rev().find_map(|slice| slice.profile);
    let calendar = profile.map(|profile| Calendar {
        zone: input.zone,
        ..profile.calendar
    });
    let own = calendar.map(|calendar| calendar.period_containing(start));
    match own {
        Some(own) if own.start < start && own.end < input.period.end => own.end,
        _ => start,
    }
}

fn one<'c>(
    input: &BillInput<'c>,
    plans: &[Plan<'c>],
    standing: &Standing<'c>,
    lines: &mut Vec<BillLine<'c>>,
    carried: &mut Carried,
) -> Result<Option<CommitmentState<'c>>, NoBill> {
    let Some((term, days)) = term(input, standing) else {
        return Ok(None);
    };
    let commitment = standing.commitment;
    let key = Carried::commitment_key(standing.card, &commitment.id);
    let before = carried.before(&key, days, input.period);
    let before = before.ok_or(NoBill::TooLarge)?;
    let counted_before = before.counted;
    let account = Account {
        standing,
        term,
        before,
        counted: counted(plans, standing, lines).ok_or(NoBill::TooLarge)?,
        is_last: input.is_final()
            && (input.period.end >= term.end
                || (standing.ends && commitment.at_end == AtEnd::Charge)),
    };
    let charged = account.charge(input).ok_or(NoBill::TooLarge)?;
    let (drawn, overage) = account.used().ok_or(NoBill::TooLarge)?;
    // What is charged before its usage is taxed in all of the term as it is at first.
    let taxed = (commitment.pay != Pay::Usage).then(|| {
        let first = input.carried.taxed(&key, days, input.period);
        first.map_or_else(
            || (standing.taxes, taxes::last_day(input)),
            |first| (first.codes.as_slice(), first.day),
        )
    });
    let charge_role = match commitment.pay {
        Pay::Usage => LineRole::TrueUp,
        Pay::Advance | Pay::Parts => LineRole::Commitment,
    };
    for (role, amount) in [
        (charge_role, charged),
        (LineRole::Drawdown, drawn),
        (LineRole::Overage, overage),
    ] {
        if !amount.is_zero() {
            let mixed = mix(plans, standing, lines, role).ok_or(NoBill::TooLarge)?;
            let mut line = BillLine {
                mixed,
                ..standing.line(role, amount)
            };
            if let Some((codes, day)) = taxed.filter(|_| role != LineRole::Overage) {
                (line.taxes, line.taxed_on) = (codes, Some(day));
            }
            lines.push(line);
        }
    }
    let left = account.left().ok_or(NoBill::TooLarge)?;
    let counted = account.counted;
    let part = Contribution {
        term: days,
        counted,
        charged,
        taxed: taxed.map(|(codes, day)| Taxed {
            codes: codes.to_vec(),
            day,
        }),
        held: None,
    };
    carried.contribute(key, input.period, part);
    Ok(Some(CommitmentState {
        commitment,
        card: standing.card,
        currency: standing.currency,
        term,
        ends: input.is_final() && (input.period.end >= term.end || standing.ends),
        before: counted_before,
        counted,
        left,
    }))
}

/// What counts of this period.
fn counted(plans: &[Plan<'_>], standing: &Standing<'_>, lines: &[BillLine<'_>]) -> Option<Decimal> {
    let places = counting(plans, standing, lines);
    let mut amounts = places.into_iter().map(|place| lines[place].amount);
    amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
}

/// The lines that a drawdown pays, by their places, if it pays them whole.
pub(super) fn paid_whole(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    drawdown: &BillLine<'_>,
) -> Option<Vec<usize>> {
    let places = counting_for(input, lines, drawdown);
    let mut amounts = places.iter().map(|&place| lines[place].amount);
    let is_whole = amounts
        .try_fold(drawdown.amount, Decimal::checked_add)?
        .is_zero();
    is_whole.then_some(places)
}

/// The lines that count for the commitment of a line, by their places.
pub(super) fn counting_for(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    line: &BillLine<'_>,
) -> Vec<usize> {
    let plans = Plan::all(input.slices);
    let mut all = standing(input, &plans).into_iter();
    let found = all.find(|standing| {
        standing.commitment.id == line.key.id
            && standing.card == line.key.card.as_deref()
            && standing.currency == line.currency
    });
    found.map_or_else(Vec::new, |standing| counting(&plans, &standing, lines))
}

/// The lines that count, by their places.
fn counting(plans: &[Plan<'_>], standing: &Standing<'_>, lines: &[BillLine<'_>]) -> Vec<usize> {
    let counts = &standing.commitment.counts;
    let currency = standing.currency.code();
    let prices = |line: &BillLine<'_>| prices_of(plans, line.key.card.as_deref(), currency);
    let mine = |line: &BillLine<'_>| {
        let same_card = standing
            .card
            .is_none_or(|card| line.key.card.as_deref() == Some(card));
        same_card
            && line.currency == standing.currency
            && match (&line.source, line.key.role) {
                (Source::Rated(item) | Source::Advance(item), _) => counts.includes(item.price),
                (Source::Minimum(bound), _) => counts.covers(&bound.counts, prices(line)),
                // What a shorter term charges at its end counts towards a longer one.
                (Source::Commitment(other), LineRole::TrueUp) => {
                    counts.covers(&other.counts, prices(line))
                        && other.term_days() < standing.commitment.term_days()
                }
                // As it counted when it was charged.
                (Source::Unused, _) => counts.includes_fee(&line.key.id),
                (Source::Commitment(_) | Source::Rounding(_), _) => false,
            }
    };
    let lines = lines.iter().enumerate();
    lines
        .filter(|(_, line)| mine(line))
        .map(|(place, _)| place)
        .collect()
}

/// A commitment in one period.
struct Account<'s, 'c> {
    standing: &'s Standing<'c>,
    term: Period,
    before: Contribution,
    /// What counts of this period.
    counted: Decimal,
    /// The last invoice of the term.
    is_last: bool,
}

impl Account<'_, '_> {
    /// What is left to be spent.
    fn left(&self) -> Option<Decimal> {
        let amount = self.standing.commitment.amount;
        let left = amount
            .checked_sub(self.before.counted)?
            .checked_sub(self.counted)?;
        Some(left.max(Decimal::ZERO))
    }

    /// What this bill charges for the commitment itself.
    fn charge(&self, input: &BillInput<'_>) -> Option<Decimal> {
        let commitment = self.standing.commitment;
        let due = match commitment.pay {
            Pay::Usage if self.is_last && commitment.true_up => self.left()?,
            Pay::Usage => Decimal::ZERO,
            Pay::Advance => commitment.amount,
            Pay::Parts if self.is_last => commitment.amount,
            Pay::Parts => self.parts(input)?,
        };
        due.checked_sub(self.before.charged)
    }

    /// The equal parts of the term so far.
    fn parts(&self, input: &BillInput<'_>) -> Option<Decimal> {
        let profile = input.slices.iter().rev().find_map(|slice| slice.profile)?;
        let mut starts = Vec::new();
        let mut at = profile.calendar.period_containing(self.term.start);
        if at.start < self.term.start {
            at = profile.calendar.period_containing(at.end);
        }
        while at.start < self.term.end && at.start < at.end {
            starts.push(at.start);
            at = profile.calendar.period_containing(at.end);
        }
        let places = self.standing.currency.exponent();
        let weights = vec![1i128; starts.len()];
        let mut amount = self.standing.commitment.amount;
        amount.rescale(Ord::max(places, amount.scale()));
        let parts = split_by(amount, Ord::max(places, amount.scale()), &weights)?;
        let due = starts
            .iter()
            .zip(parts)
            .filter(|(start, _)| **start <= input.period.start);
        due.map(|(_, part)| part)
            .try_fold(Decimal::ZERO, Decimal::checked_add)
    }

    /// What usage draws down, below zero, and what the part above the commitment costs more: what all
    /// of the term so far does, less what it did before. So what gives back what was drawn down (a fee
    /// in advance that became cheaper) goes back into the term, and takes its overage with it.
    fn used(&self) -> Option<(Decimal, Decimal)> {
        let commitment = self.standing.commitment;
        let before = self.before.counted;
        let after = before.checked_add(self.counted)?;
        let drawn = |counted: Decimal| counted.min(commitment.amount).max(Decimal::ZERO);
        let inside = drawn(after).checked_sub(drawn(before))?;
        let beyond = |counted: Decimal| {
            let beyond = counted.checked_sub(commitment.amount)?;
            Some(beyond.max(Decimal::ZERO))
        };
        let excess = beyond(after)?.checked_sub(beyond(before)?)?;
        let drawn = match commitment.pay {
            Pay::Usage => Decimal::ZERO,
            Pay::Advance | Pay::Parts => Decimal::ZERO.checked_sub(inside)?,
        };
        let overage = match commitment.overage {
            None => Decimal::ZERO,
            Some(factor) => {
                let more = factor.checked_sub(Decimal::ONE)?;
                Ratio::from_decimal(excess)
                    .checked_mul(Ratio::from_decimal(more))?
                    .round(self.standing.currency.exponent(), Mode::HalfUp)?
            }
        };
        Some((drawn, overage))
    }
}

impl<'c> Standing<'c> {
    fn line(&self, role: LineRole, amount: Decimal) -> BillLine<'c> {
        BillLine {
            key: LineKey {
                role,
                card: self.card.map(str::to_owned),
                id: self.commitment.id.clone(),
                currency: self.currency.code().to_owned(),
            },
            source: Source::Commitment(self.commitment),
            currency: self.currency,
            style: self.style,
            list: amount,
            worked: Some(Vec::new()),
            amount,
            billed: amount,
            taxes: self.taxes,
            mixed: Vec::new(),
            taxed_on: None,
            gives_back: None,
            charged: None,
            exchanged: None,
            net: amount,
            tax: Decimal::ZERO,
            fraction: Ratio::ONE,
            shares: Vec::new(),
        }
    }
}
