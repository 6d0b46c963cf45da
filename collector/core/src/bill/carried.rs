//! What the bills of one tenant have to know of each other.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Quantity, Timestamp};

use super::LineKey;
use super::shift::Shift;
use crate::period::{Period, Zone};

/// What the bills of one tenant have to know of each other.
///
/// Everything is kept by the start of the period that it comes from, so that a corrected bill
/// replaces what it said before. A bill looks at what earlier periods left and at nothing else, in
/// whatever order bills are worked out: after one that leaves something else than before
/// ([`Shift`]), the later ones that this concerns are to be worked out again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// By commitment (see [`Carried::commitment_key`]), then by period.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commitments: BTreeMap<String, BTreeMap<Timestamp, Contribution>>,
    /// What each grant paid, by grant and period.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: BTreeMap<String, BTreeMap<Timestamp, Decimal>>,
    /// All that was ever put on the credit-note balance, in the tenant's currency.
    #[serde(default)]
    pub credit: Decimal,
    /// What was paid from it, by period.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credit_used: BTreeMap<Timestamp, Decimal>,
    /// What was charged in advance, by the period that it is for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub advance: BTreeMap<Timestamp, Vec<Advance>>,
    /// How much each period has of prices whose tiers go on over several of them, by price.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reached: BTreeMap<String, BTreeMap<Timestamp, Reached>>,
}

/// How much a period has of a price whose tiers go on in the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// In which term.
    pub term: Term,
    /// In the meter's smallest unit.
    pub quantity: Quantity,
}

/// A fee that was charged in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// The line of the period that it is for.
    pub key: LineKey,
    /// What was charged, in the card's currency.
    pub amount: Decimal,
    /// The taxes that were charged on it.
    pub taxes: Vec<String>,
    /// How much tax that was, in the bill's currency: what is given back has no more. `None` if it is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Decimal>,
    /// What it came to in the bill's currency, and that currency: what is given back of it comes to
    /// its part of that, whatever the exchange rate is by then. `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billed: Option<(Decimal, String)>,
    /// The same without tax: what is earned in the period that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Decimal>,
    /// By what it was converted; `None` if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanged: Option<Exchanged>,
}

/// A rate by which an amount was converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// What one unit of the card's currency is in the bill's.
    pub rate: Decimal,
    /// The day from which that is in force, in the tenant's zone.
    pub date: NaiveDate,
}

/// What a period moved on the account of a commitment, in the bill's currency and without tax.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was charged before its usage.
    pub charged: Decimal,
    /// What usage drew down, below zero.
    pub drawn: Decimal,
    /// What was taken off at the end: earned, or a difference of exchange rates.
    #[serde(default)]
    pub closed: Decimal,
    /// ISO 4217 code.
    pub currency: String,
}

/// How what a commitment charges and what its usage draws down are taxed in all of a term: by what
/// the term's first bill said, so that both are taxed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taxed {
    /// The codes of the taxes.
    pub codes: Vec<String>,
    /// The day whose rates count.
    pub day: NaiveDate,
}

/// The term of a commitment, by the days of the tenant's clocks: so it stays the same where the
/// clocks change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Term {
    /// Its first day.
    pub start: NaiveDate,
    /// The day after its last one.
    pub end: NaiveDate,
}

/// What a period contributed to a commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// In which term.
    pub term: Term,
    /// What counted towards it: the lines, and what shorter terms charged.
    pub counted: Decimal,
    /// What was charged for it apart from usage: in advance, in parts, or missing at the end.
    pub charged: Decimal,
    /// How the term is taxed, where it is charged before its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxed: Option<Taxed>,
    /// What it moved on the commitment's account; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

impl Contribution {
    /// The same with what an earlier period contributed to the term; `None` if that is not one sum.
    fn and_before(&self, earlier: &Self) -> Option<Self> {
        if self.term != earlier.term {
            return None;
        }
        let held = match (&self.held, &earlier.held) {
            (Some(own), Some(other)) => Some(own.and(other)?),
            (own, other) => own.clone().or_else(|| other.clone()),
        };
        Some(Self {
            term: self.term,
            counted: self.counted.checked_add(earlier.counted)?,
            charged: self.charged.checked_add(earlier.charged)?,
            // By what the term's first bill said.
            taxed: earlier.taxed.clone().or_else(|| self.taxed.clone()),
            held,
        })
    }
}

impl Reached {
    /// The same with what an earlier period has in the term; `None` if that is not one sum.
    fn and_before(&self, earlier: &Self) -> Option<Self> {
        let quantity = self.quantity.checked_add(earlier.quantity)?;
        (self.term == earlier.term).then_some(Self {
            term: self.term,
            quantity,
        })
    }
}

impl Held {
    /// Both together; `None` if they are not of one currency, or do not fit.
    fn and(&self, other: &Self) -> Option<Self> {
        if self.currency != other.currency {
            return None;
        }
        Some(Self {
            charged: self.charged.checked_add(other.charged)?,
            drawn: self.drawn.checked_add(other.drawn)?,
            closed: self.closed.checked_add(other.closed)?,
            currency: self.currency.clone(),
        })
    }
}

impl Carried {
    /// What a commitment is called here: those of profiles go on where the card changes.
    pub fn commitment_key(card: Option<&str>, id: &str) -> String {
        match card {
            Some(card) => format!("{card} {id}"),
            None => id.to_owned(),
        }
    }

    /// What earlier periods of a term contributed; `None` if the sum does not fit.
    pub(super) fn before(&self, key: &str, term: Term, period: Period) -> Option<Contribution> {
        let mut sum = Contribution {
            term,
            counted: Decimal::ZERO,
            charged: Decimal::ZERO,
            taxed: None,
            held: None,
        };
        for part in self.of_term(key, term, period) {
            sum.counted = sum.counted.checked_add(part.counted)?;
            sum.charged = sum.charged.checked_add(part.charged)?;
        }
        Some(sum)
    }

    /// How a term is taxed that began with an earlier period.
    pub(super) fn taxed(&self, key: &str, term: Term, period: Period) -> Option<&Taxed> {
        let mut of_term = self.of_term(key, term, period);
        of_term.find_map(|part| part.taxed.as_ref())
    }

    /// What earlier periods of a term contributed, one by one.
    pub(super) fn of_term(
        &self,
        key: &str,
        term: Term,
        period: Period,
    ) -> impl Iterator<Item = &Contribution> {
        let parts = self.commitments.get(key).into_iter();
        let earlier = parts.flat_map(move |parts| parts.range(..period.start));
        let of_term = earlier.filter(move |(_, part)| part.term == term);
        of_term.map(|(_, part)| part)
    }

    /// How much earlier periods of a term have of a price; `None` if the sum does not fit.
    pub(super) fn reached_before(&self, key: &str, term: Term, period: Period) -> Option<Quantity> {
        let parts = self.reached.get(key).into_iter();
        let earlier = parts.flat_map(|parts| parts.range(..period.start));
        let of_term = earlier.filter(|(_, part)| part.term == term);
        Quantity::checked_sum(of_term.map(|(_, part)| part.quantity))
    }

    /// Notes what a period contributes.
    pub(super) fn contribute(&mut self, key: String, period: Period, part: Contribution) {
        let parts = self.commitments.entry(key).or_default();
        parts.insert(period.start, part);
    }

    /// What is left of an amount after what earlier periods used of it.
    pub(super) fn left(
        amount: Decimal,
        used: Option<&BTreeMap<Timestamp, Decimal>>,
        period: Period,
    ) -> Decimal {
        let used = used.map_or(Decimal::ZERO, |used| sum_before(used, period.start));
        // What was used is never more than the amount, unless that was lowered since.
        amount.saturating_sub(used).max(Decimal::ZERO)
    }

    /// Pays as much as possible of what is owed from the credit-note balance.
    pub(super) fn draw_credit(&mut self, period: Period, owed: Decimal) -> Decimal {
        let left = Self::left(self.credit, Some(&self.credit_used), period);
        let paid = left.min(owed).max(Decimal::ZERO);
        note(&mut self.credit_used, period.start, paid);
        paid
    }

    /// What a bill of a period has to know of all this, which may have grown for years: the sums of
    /// what earlier periods left, as if at once. Of grants it is one by one: which of them come again, and
    /// when, is not known here.
    pub(crate) fn excerpt(&self, period: Period) -> Self {
        // Two days are more than clocks are apart.
        let day = |at: Timestamp, days| Zone::UTC.date_at(at).checked_add_signed(days);
        let from = day(period.start, TimeDelta::days(-2)).unwrap_or(NaiveDate::MIN);
        let to = day(period.end, TimeDelta::days(2)).unwrap_or(NaiveDate::MAX);
        let commitments = self.commitments.iter().filter_map(|(key, parts)| {
            let earlier = parts.range(..period.start);
            let known = terms_so_far(
                earlier,
                (from, to),
                |part| part.term,
                Contribution::and_before,
            );
            (!known.is_empty()).then(|| (key.clone(), known))
        });
        let reached = self.reached.iter().filter_map(|(key, parts)| {
            let earlier = parts.range(..period.start);
            let known = terms_so_far(earlier, (from, to), |part| part.term, Reached::and_before);
            (!known.is_empty()).then(|| (key.clone(), known))
        });
        let grants = self.grants.iter().filter_map(|(id, used)| {
            let used = used.range(..period.start);
            let used: BTreeMap<_, _> = used.map(|(at, used)| (*at, *used)).collect();
            (!used.is_empty()).then(|| (id.clone(), used))
        });
        let advance = self.advance.get(&period.start);
        Self {
            commitments: commitments.collect(),
            grants: grants.collect(),
            credit: self.credit,
            credit_used: in_all_before(&self.credit_used, period.start),
            advance: advance
                .map(|fees| (period.start, fees.clone()))
                .into_iter()
                .collect(),
            reached: reached.collect(),
        }
    }

    /// Forgets all that a period has left: its bill begins anew.
    pub(super) fn forget(&mut self, period: Period) {
        for parts in self.commitments.values_mut() {
            parts.remove(&period.start);
        }
        self.commitments.retain(|_, parts| !parts.is_empty());
        for used in self.grants.values_mut() {
            used.remove(&period.start);
        }
        self.grants.retain(|_, used| !used.is_empty());
        self.credit_used.remove(&period.start);
        for parts in self.reached.values_mut() {
            parts.remove(&period.start);
        }
        self.reached.retain(|_, parts| !parts.is_empty());
        // Periods follow each other without a gap.
        self.advance.remove(&period.end);
    }

    /// Takes up what the bill of a period leaves, in place of what it left before; nothing if there
    /// is no bill. `shift` takes up how that differs.
    pub fn leave(&mut self, period: Period, bill: Option<&Self>, shift: &mut Shift) {
        shift.take_off(self, period);
        let fees = self.advance.get(&period.end).cloned();
        self.forget(period);
        if let Some(bill) = bill {
            self.take_up(period, bill);
        }
        let has_fees = self.advance.get(&period.end) != fees.as_ref();
        shift.add(self, period, has_fees);
    }

    fn take_up(&mut self, period: Period, bill: &Self) {
        let start = period.start;
        for (key, parts) in &bill.commitments {
            if let Some(part) = parts.get(&start) {
                self.contribute(key.clone(), period, part.clone());
            }
        }
        for (id, used) in &bill.grants {
            if let Some(paid) = used.get(&start) {
                note(self.grants.entry(id.clone()).or_default(), start, *paid);
            }
        }
        if let Some(paid) = bill.credit_used.get(&start) {
            note(&mut self.credit_used, start, *paid);
        }
        for (key, parts) in &bill.reached {
            if let Some(part) = parts.get(&start) {
                let own = self.reached.entry(key.clone()).or_default();
                own.insert(start, *part);
            }
        }
        if let Some(fees) = bill.advance.get(&period.end) {
            self.advance.insert(period.end, fees.clone());
        }
    }
}

/// Notes what a period used; nothing is not kept.
pub(super) fn note(used: &mut BTreeMap<Timestamp, Decimal>, start: Timestamp, paid: Decimal) {
    if paid.is_zero() {
        used.remove(&start);
    } else {
        used.insert(start, paid);
    }
}

fn sum_before(used: &BTreeMap<Timestamp, Decimal>, start: Timestamp) -> Decimal {
    let before = used.range(..start).map(|(_, used)| *used);
    before.fold(Decimal::ZERO, Decimal::saturating_add)
}

/// What earlier periods left to the terms that touch some days. Sums stand with the last period of each
/// term, as if it had left all of it: what a bill adds up is one thing and not the thousands of hours of
/// a year. What is not one sum (it stands in another currency, or would not fit the numbers) is left by
/// itself.
fn terms_so_far<'p, P: Clone + 'p>(
    earlier: impl DoubleEndedIterator<Item = (&'p Timestamp, &'p P)>,
    (from, to): (NaiveDate, NaiveDate),
    term_of: impl Fn(&P) -> Term,
    and_before: impl Fn(&P, &P) -> Option<P>,
) -> BTreeMap<Timestamp, P> {
    let may_count = |term: Term| from <= term.end && term.start <= to;
    let mut known: Vec<(Timestamp, P)> = Vec::new();
    for (at, part) in earlier.rev().filter(|(_, part)| may_count(term_of(part))) {
        let mut sums = known.iter_mut();
        let together = sums.find_map(|(_, sum)| {
            *sum = and_before(sum, part)?;
            Some(())
        });
        if together.is_none() {
            known.push((*at, part.clone()));
        }
    }
    known.into_iter().collect()
}

/// What was used before a period, as if at once.
fn in_all_before(
    used: &BTreeMap<Timestamp, Decimal>,
    start: Timestamp,
) -> BTreeMap<Timestamp, Decimal> {
    let last = used.range(..start).next_back();
    last.map(|(at, _)| (*at, sum_before(used, start)))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(number: i64) -> Period {
        Period {
            start: Timestamp::from_secs(number * 3600),
            end: Timestamp::from_secs((number + 1) * 3600),
        }
    }

    fn year(year: i32) -> Term {
        let first = |year| NaiveDate::from_ymd_opt(year, 1, 1).expect("valid");
        Term {
            start: first(year),
            end: first(year + 1),
        }
    }

    /// What the bill of an hour has to know does not grow with the hours before it, and says the same.
    #[test]
    fn an_excerpt_has_sums_of_all_hours_of_a_term() {
        let mut carried = Carried::default();
        let mut code = 0;
        for number in 0..9000 {
            let own = hour(number);
            let term = year(if number < 8760 { 1970 } else { 1971 });
            // The currency of the bills changes once, and how a term is taxed stands with its first hour.
            let currency = if number < 8900 { "EUR" } else { "USD" };
            let is_first = matches!(number, 0 | 8760);
            code += i32::from(is_first);
            let part = Contribution {
                term,
                counted: Decimal::new(number, 2),
                charged: Decimal::new(7, 2),
                taxed: is_first.then(|| Taxed {
                    codes: vec![format!("t{code}")],
                    day: term.start,
                }),
                held: (number % 3 == 0).then(|| Held {
                    charged: Decimal::new(7, 2),
                    drawn: Decimal::new(-number, 2),
                    closed: Decimal::ZERO,
                    currency: currency.to_owned(),
                }),
            };
            carried.contribute("year".to_owned(), own, part);
            let reached = Reached {
                term,
                quantity: Quantity::new(number.into()),
            };
            let tiers = carried.reached.entry("tiers".to_owned()).or_default();
            tiers.insert(own.start, reached);
            note(
                carried.grants.entry("gift".to_owned()).or_default(),
                own.start,
                Decimal::new(number, 2),
            );
        }
        for (at, terms, parts) in [
            (0, 1970, 0),
            (5000, 1970, 1),
            (8765, 1971, 2),
            (8990, 1971, 2),
        ] {
            let (period, term) = (hour(at), year(terms));
            let known = carried.excerpt(period);
            assert_eq!(
                known.commitments.get("year").map_or(0, BTreeMap::len),
                parts
            );
            let used = known.grants.get("gift");
            // Nothing of 0.00 in the first hour.
            let before = usize::try_from(at).expect("small").saturating_sub(1);
            assert_eq!(
                used.map_or(0, BTreeMap::len),
                before,
                "one by one: it may come again"
            );
            let sums = |of: &Carried| of.before("year", term, period);
            assert_eq!(sums(&known), sums(&carried));
            assert!(
                known
                    .reached
                    .get("tiers")
                    .is_none_or(|parts| parts.len() <= 2)
            );
            let reached = |of: &Carried| of.reached_before("tiers", term, period);
            assert_eq!(reached(&known), reached(&carried));
            let taxed = |of: &Carried| of.taxed("year", term, period).cloned();
            assert_eq!(taxed(&known), taxed(&carried));
            let left = |of: &Carried| Carried::left(Decimal::MAX, of.grants.get("gift"), period);
            assert_eq!(left(&known), left(&carried));
            let held = |of: &Carried| {
                let mut sums: BTreeMap<String, [Decimal; 3]> = BTreeMap::new();
                for held in of
                    .of_term("year", term, period)
                    .filter_map(|part| part.held.as_ref())
                {
                    let sum = sums.entry(held.currency.clone()).or_default();
                    for (sum, more) in sum.iter_mut().zip([held.charged, held.drawn, held.closed]) {
                        *sum += more;
                    }
                }
                sums
            };
            assert_eq!(held(&known), held(&carried));
        }
    }
}
