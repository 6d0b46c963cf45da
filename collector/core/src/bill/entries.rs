//! What a bill says, key by key: for posting what is new of it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::line::LineKey;
use super::{Bill, NoBill};

/// What tells one entry of a period from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKey {
    /// The net amount of a line.
    Line(LineKey),
    /// A tax at a rate.
    Tax {
        /// Its code.
        code: String,
        /// Its rate in percent.
        percent: Decimal,
    },
    /// What the credit-note balance pays.
    Credit,
    /// What a grant pays.
    Grant {
        /// Its id.
        id: String,
    },
}

/// An amount of a bill, in its currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub key: EntryKey,
    /// What it adds to what is to be paid: below zero for credit and grants.
    pub amount: Decimal,
}

impl Bill<'_> {
    /// All amounts that are not zero: lines in their order, taxes, credit, grants. They sum to
    /// what is due.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.lines.len() + self.taxes.len());
        for line in &self.lines {
            entries.push(Entry {
                key: EntryKey::Line(line.key.clone()),
                amount: line.net,
            });
        }
        for tax in &self.taxes {
            entries.push(Entry {
                key: EntryKey::Tax {
                    code: tax.tax.code.clone(),
                    percent: tax.percent.normalize(),
                },
                amount: tax.amount,
            });
        }
        entries.push(Entry {
            key: EntryKey::Credit,
            amount: -self.credit,
        });
        for grant in &self.grants {
            entries.push(Entry {
                key: EntryKey::Grant {
                    id: grant.grant.id.clone(),
                },
                amount: -grant.paid,
            });
        }
        entries.retain(|entry| !entry.amount.is_zero());
        entries
    }
}

/// What is to be posted so that the ledger says what `bill` says: its entries less what was
/// `posted` for the period before, and the opposite of what it does not say any more.
///
/// # Errors
/// [`NoBill::TooLarge`] if a difference does not fit.
pub fn since(bill: &Bill<'_>, posted: &BTreeMap<EntryKey, Decimal>) -> Result<Vec<Entry>, NoBill> {
    let mut rest = posted.clone();
    let mut entries = Vec::new();
    for Entry { key, amount } in bill.entries() {
        let before = rest.remove(&key).unwrap_or_default();
        let amount = amount.checked_sub(before).ok_or(NoBill::TooLarge)?;
        entries.push(Entry { key, amount });
    }
    entries.extend(rest.into_iter().map(|(key, amount)| Entry {
        key,
        amount: -amount,
    }));
    entries.retain(|entry| !entry.amount.is_zero());
    Ok(entries)
}
