//! What commitments leave unused, for those who spread costs.
//!
//! What a commitment charges before its usage costs nothing yet, and usage that it pays for costs what
//! it would without. So what is left on its account when its term ends is a cost that stands on no line:
//! nothing is owed for it. It is told beside the lines of the document that comes next.

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::Timestamp;

use crate::ledger::{Account, EntryRef, LedgerEntry, Role, negated};

/// What is taken off the account of a commitment at the end of its term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// The ledger entry.
    pub entry: EntryRef,
    /// Which commitment.
    pub commitment: String,
    /// First instant of the period in which its term ends.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// What was charged and not drawn down, with what exchange rates have left of it; below zero where
    /// an earlier such entry is taken back.
    pub amount: Decimal,
    /// The currency of the amount.
    #[serde(skip)]
    pub currency: String,
    /// The arithmetic.
    pub arithmetic: String,
}

impl Unused {
    /// What an entry says of it; `None` for any other entry.
    pub(super) fn of(entry: &LedgerEntry) -> Option<Self> {
        let posting = &entry.posting;
        if posting.role != Some(Role::Breakage) {
            return None;
        }
        let legs = posting.legs.iter();
        let mut off = legs.filter(|leg| leg.account == Account::Commitment);
        let currency = posting.legs.first()?.currency.clone();
        let amount = off.try_fold(Decimal::ZERO, |sum, leg| sum.checked_add(leg.amount))?;
        Some(Self {
            entry: entry.at,
            commitment: posting.line.clone(),
            start: posting.start,
            end: posting.end,
            amount,
            currency,
            arithmetic: posting.arithmetic.clone(),
        })
    }

    /// As the credit note shows it that takes the document back.
    pub(super) fn reversed(&self) -> Self {
        Self {
            amount: negated(self.amount),
            ..self.clone()
        }
    }
}
