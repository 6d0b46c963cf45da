//! Which lines of a tenant wait for an invoice, and which documents it has had, by its ledger
//! entries alone.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::ledger::{EntryKind, LedgerEntry};

/// Made of the entries of one tenant, in the order of their chain.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// Lines that stand on no invoice, by number.
    open: BTreeMap<u64, LedgerEntry>,
    /// Lines on invoices that may still be voided.
    billed: BTreeMap<u64, LedgerEntry>,
    held: BTreeSet<u64>,
    documents: Vec<LedgerEntry>,
    /// Number of the credit note, by the entry that it voids.
    voided: BTreeMap<u64, String>,
}

impl Register {
    /// Takes up the next entry of the tenant.
    pub fn take(&mut self, entry: &LedgerEntry) {
        let posting = &entry.posting;
        match (posting.kind, posting.refers_to) {
            (EntryKind::Hold, Some(at)) => {
                self.held.insert(at.index);
            }
            (EntryKind::Release, Some(at)) => {
                self.held.remove(&at.index);
            }
            (EntryKind::CreditNote, Some(at)) => {
                let voided = self
                    .documents
                    .iter()
                    .find(|document| document.at.index == at.index);
                let lines = voided.and_then(|voided| voided.posting.document.as_ref());
                for index in lines.map(|document| &*document.lines).unwrap_or_default() {
                    if let Some(line) = self.billed.remove(index) {
                        self.open.insert(*index, line);
                    }
                }
                self.voided.insert(at.index, posting.line.clone());
                self.documents.push(entry.clone());
            }
            (kind, _) if kind.is_document() => {
                let document = posting.document.as_ref();
                for index in document
                    .map(|document| &*document.lines)
                    .unwrap_or_default()
                {
                    if let Some(line) = self.open.remove(index) {
                        self.billed.insert(*index, line);
                    }
                }
                self.documents.push(entry.clone());
            }
            (kind, _) if kind.is_line() && posting.unbilled().is_some() => {
                self.open.insert(entry.at.index, entry.clone());
            }
            _ => {}
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
    pub fn waiting(&self) -> BTreeMap<String, Vec<LedgerEntry>> {
        let mut waiting: BTreeMap<String, Vec<LedgerEntry>> = BTreeMap::new();
        for (index, entry) in &self.open {
            if let Some((_, currency)) = entry.posting.unbilled()
                && !self.held.contains(index)
            {
                let of = waiting.entry(currency.to_owned()).or_default();
                of.push(entry.clone());
            }
        }
        waiting
    }

    /// The lines that are disputed.
    pub fn held(&self) -> Vec<&LedgerEntry> {
        let held = self.open.iter();
        let held = held.filter(|(index, _)| self.held.contains(index));
        held.map(|(_, entry)| entry).collect()
    }

    /// What the lines that wait come to, by currency; `None` where it does not fit.
    pub fn totals(&self) -> BTreeMap<String, Option<Decimal>> {
        let sum = |entries: &Vec<LedgerEntry>| {
            let mut amounts = entries
                .iter()
                .filter_map(|entry| entry.posting.unbilled())
                .map(|(amount, _)| amount);
            amounts.try_fold(Decimal::ZERO, Decimal::checked_add)
        };
        let waiting = self.waiting();
        waiting
            .iter()
            .map(|(currency, entries)| (currency.clone(), sum(entries)))
            .collect()
    }
}
