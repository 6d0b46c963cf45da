//! What is left on the account of a commitment when its term ends.
//!
//! What a commitment charges before its usage is owed to the tenant until usage draws it down. What
//! nobody has used by the end is earned then: nothing of it is owed any more. Where the card has
//! another currency than the bill, charge and drawdowns were converted on different days, and what
//! that leaves is a difference of exchange rates.

use rust_decimal::Decimal;

use super::carried::{Carried, Held, Term};
use super::line::{BillLine, LineRole};
use super::{BillInput, CommitmentState};
use crate::catalog::{Commitment, Pay};
use crate::rate::{Currency, Mode, Ratio};

/// What is taken off the account of a commitment with the last bill of its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakage<'c> {
    /// Which.
    pub commitment: &'c Commitment,
    /// The card that it is of; `None` in a profile.
    pub card: Option<&'c str>,
    /// What was paid and not used, in `currency`.
    pub unused: Decimal,
    /// What exchange rates have left, in `currency`; below zero if it is missing.
    pub exchange: Decimal,
    /// ISO 4217 code.
    pub currency: String,
}

/// Notes what the bill moves on the accounts of commitments, and answers what is left on those that
/// end with it. `None` if that does not fit the numbers.
pub(super) fn apply<'c>(
    input: &BillInput<'c>,
    lines: &[BillLine<'c>],
    states: &[CommitmentState<'c>],
    currency: Option<Currency>,
    carried: &mut Carried,
) -> Option<Vec<Breakage<'c>>> {
    let mut found = Vec::new();
    let Some(currency) = currency else {
        return Some(found);
    };
    for state in states {
        if state.commitment.pay == Pay::Usage {
            continue;
        }
        let key = Carried::commitment_key(state.card, &state.commitment.id);
        let Some(term) = term_of(carried, &key, input) else {
            continue;
        };
        let mut held = Held {
            charged: net(lines, state, LineRole::Commitment)?,
            drawn: net(lines, state, LineRole::Drawdown)?,
            closed: Decimal::ZERO,
            currency: currency.code().to_owned(),
        };
        if state.ends {
            let all = sums(carried, &key, term, input, &held)?;
            let share = unused(state, carried, &key, term, input)?;
            // Of several currencies nobody can tell which part is whose.
            let share = Some(share).filter(|_| all.len() == 1);
            for sum in &all {
                let left = left(state, sum, share)?;
                if sum.currency == held.currency {
                    held.closed = left.unused.checked_add(left.exchange)?;
                }
                if !left.unused.is_zero() || !left.exchange.is_zero() {
                    found.push(left);
                }
            }
        }
        let is_nothing = held.charged.is_zero() && held.drawn.is_zero() && held.closed.is_zero();
        let parts = carried.commitments.get_mut(&key);
        if let Some(part) = parts.and_then(|parts| parts.get_mut(&input.period.start)) {
            part.held = Some(held).filter(|_| !is_nothing);
        }
    }
    Some(found)
}

fn term_of(carried: &Carried, key: &str, input: &BillInput<'_>) -> Option<Term> {
    let part = carried.commitments.get(key)?.get(&input.period.start)?;
    Some(part.term)
}

/// What a commitment's lines of a role come to, without tax.
fn net(lines: &[BillLine<'_>], state: &CommitmentState<'_>, role: LineRole) -> Option<Decimal> {
    let own = lines.iter().filter(|line| {
        line.key.role == role
            && line.key.id == state.commitment.id
            && line.key.card.as_deref() == state.card
            && line.currency == state.currency
    });
    let mut amounts = own.map(|line| line.net);
    amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
}

/// What earlier periods of the term and this one moved, by currency.
fn sums(
    carried: &Carried,
    key: &str,
    term: Term,
    input: &BillInput<'_>,
    own: &Held,
) -> Option<Vec<Held>> {
    let mut sums = vec![own.clone()];
    let earlier = carried.of_term(key, term, input.period);
    for part in earlier.filter_map(|part| part.held.as_ref()) {
        match sums.iter_mut().find(|sum| sum.currency == part.currency) {
            Some(sum) => {
                sum.charged = sum.charged.checked_add(part.charged)?;
                sum.drawn = sum.drawn.checked_add(part.drawn)?;
                sum.closed = sum.closed.checked_add(part.closed)?;
            }
            None => sums.push(part.clone()),
        }
    }
    Some(sums)
}

/// What part of what was charged in the term was not used.
fn unused(
    state: &CommitmentState<'_>,
    carried: &Carried,
    key: &str,
    term: Term,
    input: &BillInput<'_>,
) -> Option<Ratio> {
    let own = carried.commitments.get(key)?.get(&input.period.start);
    let all = carried.of_term(key, term, input.period).chain(own);
    let mut charged = all.map(|part| part.charged);
    let charged = charged.try_fold(Decimal::ZERO, Decimal::checked_add)?;
    let used = state.before.checked_add(state.counted)?;
    let unused = charged.checked_sub(used)?.max(Decimal::ZERO);
    if charged <= Decimal::ZERO {
        return Some(Ratio::ZERO);
    }
    Ratio::from_decimal(unused).checked_div(Ratio::from_decimal(charged))
}

/// How what is left is divided between what was not used and what exchange rates have left.
fn left<'c>(state: &CommitmentState<'c>, sum: &Held, share: Option<Ratio>) -> Option<Breakage<'c>> {
    let left = sum
        .charged
        .checked_add(sum.drawn)?
        .checked_sub(sum.closed)?;
    let is_converted = sum.currency != state.currency.code();
    let unused = match share.filter(|_| is_converted) {
        // By the rates at which it was charged.
        Some(share) => {
            let charged = Ratio::from_decimal(sum.charged.checked_sub(sum.closed)?);
            let places = left.scale();
            share.checked_mul(charged)?.round(places, Mode::HalfUp)?
        }
        None => left,
    };
    Some(Breakage {
        commitment: state.commitment,
        card: state.card,
        unused,
        exchange: left.checked_sub(unused)?,
        currency: sum.currency.clone(),
    })
}
