//! Which lines of a tenant wait for an invoice, and which documents it has had, by its ledger
//! entries alone.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::Unused;
use crate::ledger::{Disputes, Document, EntryKind, LedgerEntry, LinePart};

/// A line that waits for an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its entry.
    pub entry: LedgerEntry,
    /// What of it waits, where a document bills the rest.
    pub part: Option<LinePart>,
    /// The entry that it takes back, if it is a reversal.
    pub reversed: Option<Box<LedgerEntry>>,
}

impl Waiting {
    /// All of it.
    pub fn whole(entry: &LedgerEntry) -> Self {
        Self {
            entry: entry.clone(),
            part: None,
            reversed: None,
        }
    }

    /// What waits of it.
    fn left(&self) -> LinePart {
        self.part.unwrap_or_else(|| LinePart {
            amount: self.entry.posting.amount.unwrap_or_default(),
            tax: self.entry.posting.own_tax(),
            base: self.entry.posting.tax_base(),
        })
    }

    fn is_nothing(&self) -> bool {
        self.part.is_some_and(|part| part.is_nothing())
    }
}

/// Made of the entries of one tenant, in the order of their chain.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// Lines by number, with what of them stands on no invoice: perhaps nothing.
    lines: BTreeMap<u64, Waiting>,
    disputes: Disputes,
    documents: Vec<LedgerEntry>,
    /// Number of the credit note, by the entry that it voids.
    voided: BTreeMap<u64, String>,
    /// What commitments left unused and no document tells yet.
    unused: Vec<Unused>,
    /// The same by the document that tells it.
    told: BTreeMap<u64, Vec<Unused>>,
}

impl Register {
    /// Takes up the next entry of the tenant.
    pub fn take(&mut self, entry: &LedgerEntry) {
        self.disputes.take(entry);
        let posting = &entry.posting;
        self.unused.extend(Unused::of(entry));
        match (posting.kind, posting.refers_to) {
            (EntryKind::CreditNote, Some(at)) => {
                let mut documents = self.documents.iter();
                let voided = documents.find(|document| document.at.index == at.index);
                let voided = voided.and_then(|voided| voided.posting.document.clone());
                if let Some(document) = voided {
                    self.bill(&document, Decimal::NEGATIVE_ONE);
                }
                // It waits for another document, like the lines.
                if let Some(told) = self.told.get(&at.index).cloned() {
                    let back = told.iter().map(Unused::reversed).collect();
                    self.told.insert(entry.at.index, back);
                    self.unused.extend(told);
                }
                self.voided.insert(at.index, posting.line.clone());
                self.documents.push(entry.clone());
            }
            (kind, _) if kind.is_document() => {
                if let Some(document) = &posting.document {
                    self.bill(document, Decimal::ONE);
                }
                let currency = posting.currency.as_deref();
                let mine = |unused: &mut Unused| Some(&*unused.currency) == currency;
                let told: Vec<Unused> = self.unused.extract_if(.., mine).collect();
                if !told.is_empty() {
                    self.told.insert(entry.at.index, told);
                }
                self.documents.push(entry.clone());
            }
            (kind, _) if kind.is_line() && posting.unbilled().is_some() => {
                self.lines.insert(entry.at.index, Waiting::whole(entry));
            }
            _ => {}
        }
    }

    /// Takes what a document bills from what waits, or gives it back.
    fn bill(&mut self, document: &Document, sign: Decimal) {
        for (at, index) in document.lines.iter().enumerate() {
            let Some(line) = self.lines.get_mut(index) else {
                continue;
            };
            let all = Waiting::whole(&line.entry).left();
            let billed = document.parts.get(at).copied().unwrap_or(all);
            let left = line.left();
            let less = |from: Decimal, what: Decimal| {
                // Parts of a line that fits fit.
                let what = what.checked_mul(sign).unwrap_or_default();
                from.checked_sub(what).unwrap_or_default()
            };
            let left = LinePart {
                amount: less(left.amount, billed.amount),
                tax: less(left.tax, billed.tax),
                base: less(left.base, billed.base),
            };
            // Also a line that comes to nothing waits no longer once a document bills it.
            line.part = Some(left).filter(|left| sign.is_sign_positive() || *left != all);
        }
    }

    /// The documents, oldest first.
    pub fn documents(&self) -> &[LedgerEntry] {
        &self.documents
    }

    /// The number of the credit note that voids a document.
    pub fn voided_by(&self, document: &LedgerEntry) -> Option<&str> {
        self.voided.get(&document.at.index).map(String::as_str)
    }

    /// What commitments left unused before a document, that no other one in force tells.
    pub fn unused(&self, document: &LedgerEntry) -> Vec<Unused> {
        let told = self.told.get(&document.at.index);
        told.cloned().unwrap_or_default()
    }

    /// The document of this number.
    pub fn document(&self, number: &str, issuer: Option<&str>) -> Option<&LedgerEntry> {
        self.documents.iter().find(|entry| {
            let document = entry.posting.document.as_ref();
            document.is_some_and(|document| {
                document.number == number && issuer.is_none_or(|issuer| document.issuer == issuer)
            })
        })
    }

    /// The lines that wait, by currency.
    pub fn waiting(&self) -> BTreeMap<String, Vec<Waiting>> {
        let mut waiting: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
        for line in self.lines.values() {
            if let Some((_, currency)) = line.entry.posting.unbilled()
                && !line.is_nothing()
                && !self.disputes.is_held(line.entry.at)
            {
                let of = waiting.entry(currency.to_owned()).or_default();
                of.push(Waiting {
                    reversed: self.reversed_by(&line.entry),
                    ..line.clone()
                });
            }
        }
        waiting
    }

    fn reversed_by(&self, entry: &LedgerEntry) -> Option<Box<LedgerEntry>> {
        let at = entry.posting.refers_to;
        let at = at.filter(|_| entry.posting.kind == EntryKind::Reversal)?;
        let reversed = self.lines.get(&at.index)?;
        Some(Box::new(reversed.entry.clone()))
    }

    /// The lines that are disputed.
    pub fn held(&self) -> Vec<&LedgerEntry> {
        let waiting = self.lines.values().filter(|line| !line.is_nothing());
        let held = waiting.filter(|line| self.disputes.is_held(line.entry.at));
        held.map(|line| &line.entry).collect()
    }

    /// What the lines that wait come to, by currency; `None` where it does not fit.
    pub fn totals(&self) -> BTreeMap<String, Option<Decimal>> {
        let sum = |lines: &Vec<Waiting>| {
            let mut amounts = lines.iter().map(|line| line.left().amount);
            amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
        };
        let waiting = self.waiting();
        waiting
            .iter()
            .map(|(currency, lines)| (currency.clone(), sum(lines)))
            .collect()
    }
}
