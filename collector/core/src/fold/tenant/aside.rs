//! What hardly any line has: what a tax was computed of, and what moves between accounts without being
//! owed by anybody.
//!
//! A fee that was charged in advance is earned by the bill of the period that it is for, and what is
//! left of a prepaid commitment at its end; neither changes what the tenant owes.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::state;
use crate::ledger::{Account, Leg, TaxOf, negated};

/// What hardly any line has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aside {
    /// What the line, which is one of tax, was computed of.
    #[serde(with = "state::text")]
    pub(super) tax: Option<TaxOf>,
    /// What moves beside the amount.
    pub(super) moved: Vec<Moved>,
}

/// An amount that goes from one account to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    /// It is taken off this account.
    pub(super) from: Account,
    /// It is put on this one.
    pub(super) to: Account,
    pub(super) amount: Decimal,
    /// ISO 4217 code.
    pub(super) currency: String,
}

impl Aside {
    fn is_nothing(&self) -> bool {
        let base = self.tax.as_ref().map(|tax| tax.base);
        base.is_none_or(|base| base.is_zero())
            && self.moved.iter().all(|moved| moved.amount.is_zero())
    }

    /// What two lines have that are one.
    pub(super) fn both(one: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        match (one, other) {
            (Some(mut one), Some(other)) => {
                one.moved.extend(other.moved);
                Some(one)
            }
            (one, other) => one.or(other),
        }
    }

    /// The same taken back.
    pub(super) fn reversed(&self) -> Self {
        let mut reversed = self.clone();
        if let Some(tax) = &mut reversed.tax {
            tax.base = negated(tax.base);
        }
        for moved in &mut reversed.moved {
            moved.amount = negated(moved.amount);
        }
        reversed
    }

    /// What is more of it than there was before.
    pub(super) fn since(now: Option<&Self>, before: Option<&Self>) -> Option<Self> {
        let Some(before) = before else {
            return now.cloned();
        };
        let mut difference = before.reversed();
        let now = now.cloned().unwrap_or_default();
        difference.tax = match (difference.tax.take(), now.tax) {
            (Some(less), Some(tax)) => Some(TaxOf {
                // Both are sums of lines, which fit.
                base: tax.base.saturating_add(less.base),
                ..tax
            }),
            (less, tax) => tax.or(less),
        };
        for more in now.moved {
            let same = |known: &&mut Moved| {
                (&known.from, &known.to, &known.currency) == (&more.from, &more.to, &more.currency)
            };
            match difference.moved.iter_mut().find(same) {
                Some(known) => known.amount = known.amount.saturating_add(more.amount),
                None => difference.moved.push(more),
            }
        }
        difference.moved.retain(|moved| !moved.amount.is_zero());
        Some(difference)
    }

    /// The legs of what moves: what is taken off a liability is a debit.
    fn legs(&self) -> impl Iterator<Item = Leg> {
        self.moved.iter().flat_map(|moved| {
            let leg = |account: &Account, amount| Leg {
                account: account.clone(),
                amount,
                currency: moved.currency.clone(),
            };
            [
                leg(&moved.from, moved.amount),
                leg(&moved.to, negated(moved.amount)),
            ]
        })
    }

    /// The legs of an entry of this amount with what moves beside it, each account once.
    pub(super) fn together(&self, legs: Vec<Leg>) -> Vec<Leg> {
        let mut all: Vec<Leg> = Vec::with_capacity(legs.len() + 1);
        for leg in legs.into_iter().chain(self.legs()) {
            let same =
                |known: &&mut Leg| known.account == leg.account && known.currency == leg.currency;
            match all.iter_mut().find(same) {
                // Of two amounts that fit by far.
                Some(known) => known.amount = known.amount.saturating_add(leg.amount),
                None => all.push(leg),
            }
        }
        all.retain(|leg| !leg.amount.is_zero());
        all
    }
}

/// True if both say the same, as far as they say anything.
pub(super) fn is_same(one: Option<&Aside>, other: Option<&Aside>) -> bool {
    let said = |aside: Option<&Aside>| aside.is_some_and(|aside| !aside.is_nothing());
    match (said(one), said(other)) {
        (false, false) => true,
        (true, true) => one == other,
        _ => false,
    }
}

/// True if there is anything in it.
pub(super) fn is_anything(aside: Option<&Aside>) -> bool {
    !is_same(aside, None)
}
