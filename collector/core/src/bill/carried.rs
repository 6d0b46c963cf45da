//! What the bills of one tenant have to know of each other.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

use super::LineKey;
use crate::period::Period;

/// What the bills of one tenant have to know of each other.
///
/// Everything is kept by the start of the period that it comes from, so that a corrected bill
/// replaces what it said before, in whatever order bills are worked out. Commitments look at
/// earlier periods only; after a correction the later periods of the term are to be worked out
/// again. Grants, the credit balance and fees in advance look at all other periods, so that
/// nothing is spent twice though later periods are not worked out again.
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

/// What a period contributed to a commitment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// When the term began.
    pub term: Timestamp,
    /// What counted towards it: the lines, and what shorter terms charged.
    pub counted: Decimal,
    /// What was charged for it apart from usage: in advance, in parts, or missing at the end.
    pub charged: Decimal,
    /// How the term is taxed, where it is charged before its usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxed: Option<Taxed>,
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
    pub(super) fn before(&self, key: &str, term: Period, period: Period) -> Option<Contribution> {
        let mut sum = Contribution {
            term: term.start,
            ..Contribution::default()
        };
        let earlier = self.commitments.get(key).into_iter().flatten();
        for (start, part) in earlier {
            if part.term == term.start && *start < period.start {
                sum.counted = sum.counted.checked_add(part.counted)?;
                sum.charged = sum.charged.checked_add(part.charged)?;
            }
        }
        Some(sum)
    }

    /// How a term is taxed that began with an earlier period.
    pub(super) fn taxed(&self, key: &str, term: Period, period: Period) -> Option<&Taxed> {
        let parts = self.commitments.get(key)?.range(..period.start);
        let mut of_term = parts.filter(|(_, part)| part.term == term.start);
        of_term.find_map(|(_, part)| part.taxed.as_ref())
    }

    /// Replaces what a period contributed, and forgets terms long over.
    pub(super) fn contribute(
        &mut self,
        key: String,
        term: Period,
        period: Period,
        part: Contribution,
    ) {
        let parts = self.commitments.entry(key).or_default();
        parts.insert(period.start, part);
        // Late usage may correct the term before, but none further back than a term's length.
        let length = term.end.millis_since(term.start);
        let oldest = term.start.millis().saturating_sub(length);
        parts.retain(|_, part| part.term.millis() >= oldest);
    }

    /// What is left of an amount after what other periods used of it.
    pub(super) fn left(
        amount: Decimal,
        used: Option<&BTreeMap<Timestamp, Decimal>>,
        period: Period,
    ) -> Decimal {
        let others = used
            .into_iter()
            .flatten()
            .filter(|(start, _)| **start != period.start);
        let left = others
            .map(|(_, used)| *used)
            .try_fold(amount, Decimal::checked_sub);
        // What was used is never more than the amount, unless that was lowered since.
        left.unwrap_or_default().max(Decimal::ZERO)
    }

    /// Pays as much as possible of what is owed from the credit-note balance.
    pub(super) fn draw_credit(&mut self, period: Period, owed: Decimal) -> Decimal {
        let left = Self::left(self.credit, Some(&self.credit_used), period);
        let paid = left.min(owed).max(Decimal::ZERO);
        note(&mut self.credit_used, period.start, paid);
        paid
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
