//! How what a period leaves to later ones has changed.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use super::carried::{Carried, Held, Taxed, Term};
use crate::period::Period;

/// How what periods leave to later ones differs from what it was when those were worked out.
///
/// Where a later period takes up what an earlier one does not use any more, nothing is left of the
/// difference, and what comes behind it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// By commitment and term.
    commitments: BTreeMap<(String, Term), Moved>,
    /// How much more is paid by each grant.
    grants: BTreeMap<String, Decimal>,
    /// How much more is paid from the credit-note balance.
    credit: Decimal,
    /// Periods for which something else is charged in advance.
    advance: BTreeSet<Timestamp>,
    /// How much more there is of prices whose tiers go on, by price and term.
    reached: BTreeMap<(String, Term), i128>,
}

/// How much more a term has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Moved {
    counted: Decimal,
    charged: Decimal,
    /// What the account of the commitment is more, by currency.
    held: BTreeMap<String, [Decimal; 3]>,
    /// How the first of the periods says that the term is taxed: before, and now.
    taxed: [Option<Taxed>; 2],
}

impl Moved {
    fn is_nothing(&self) -> bool {
        let [was, is] = &self.taxed;
        self.counted.is_zero() && self.charged.is_zero() && self.held.is_empty() && was == is
    }

    fn hold(&mut self, held: &Held, with: fn(Decimal, Decimal) -> Decimal) {
        let sums = self.held.entry(held.currency.clone()).or_default();
        for (sum, figure) in sums.iter_mut().zip([held.charged, held.drawn, held.closed]) {
            *sum = with(*sum, figure);
        }
        if sums.iter().all(Decimal::is_zero) {
            self.held.remove(&held.currency);
        }
    }
}

impl Shift {
    /// Whether everything is as it was.
    pub fn is_nothing(&self) -> bool {
        self.commitments.is_empty()
            && self.grants.is_empty()
            && self.credit.is_zero()
            && self.advance.is_empty()
            && self.reached.is_empty()
    }

    /// Whether a bill of a later period, of which `carried` knows what it left, would be another
    /// one.
    pub fn concerns(&self, carried: &Carried, start: Timestamp) -> bool {
        let goes_on = |(key, term): &(String, Term)| {
            let parts = carried.reached.get(key);
            let part = parts.and_then(|parts| parts.get(&start));
            part.is_some_and(|part| part.term == *term)
        };
        let of_term = |(key, term): &(String, Term)| {
            let parts = carried.commitments.get(key);
            parts
                .and_then(|parts| parts.get(&start))
                .is_some_and(|part| part.term == *term)
        };
        !self.grants.is_empty()
            || !self.credit.is_zero()
            || self.advance.contains(&start)
            || self.commitments.keys().any(of_term)
            || self.reached.keys().any(goes_on)
    }

    /// Takes off what a period has left.
    pub(super) fn take_off(&mut self, carried: &Carried, period: Period) {
        self.count(carried, period, 0, Decimal::saturating_sub);
        self.count_reached(carried, period, i128::saturating_sub);
    }

    /// Adds what it leaves now; `has_fees` if it charges something else in advance than before.
    pub(super) fn add(&mut self, carried: &Carried, period: Period, has_fees: bool) {
        self.count(carried, period, 1, Decimal::saturating_add);
        self.count_reached(carried, period, i128::saturating_add);
        self.reached.retain(|_, more| *more != 0);
        self.commitments.retain(|_, moved| !moved.is_nothing());
        self.grants.retain(|_, sum| !sum.is_zero());
        // What was charged for the period itself is known in its bill.
        self.advance.remove(&period.start);
        if has_fees {
            self.advance.insert(period.end);
        }
    }

    fn count_reached(&mut self, carried: &Carried, period: Period, with: fn(i128, i128) -> i128) {
        for (key, parts) in &carried.reached {
            if let Some(part) = parts.get(&period.start) {
                let more = self.reached.entry((key.clone(), part.term)).or_default();
                *more = with(*more, part.quantity.units());
            }
        }
    }

    fn count(
        &mut self,
        carried: &Carried,
        period: Period,
        time: usize,
        with: fn(Decimal, Decimal) -> Decimal,
    ) {
        let start = period.start;
        for (key, parts) in &carried.commitments {
            let Some(part) = parts.get(&start) else {
                continue;
            };
            let term = (key.clone(), part.term);
            let moved = self.commitments.entry(term).or_default();
            moved.counted = with(moved.counted, part.counted);
            moved.charged = with(moved.charged, part.charged);
            if let Some(held) = &part.held {
                moved.hold(held, with);
            }
            let first = &mut moved.taxed[time];
            if first.is_none() {
                first.clone_from(&part.taxed);
            }
        }
        for (id, used) in &carried.grants {
            if let Some(paid) = used.get(&start) {
                let sum = self.grants.entry(id.clone()).or_default();
                *sum = with(*sum, *paid);
            }
        }
        if let Some(paid) = carried.credit_used.get(&start) {
            self.credit = with(self.credit, *paid);
        }
    }
}
