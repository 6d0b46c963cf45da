//! Invoices: documents made of ledger entries, and of nothing else.
//!
//! The ledger has the lines, the numbers and the totals. A document only arranges them, so that it
//! can be made again at any time and always says the same. What it says about people (the legal
//! data of the parties) stands outside the ledger, which has a salted digest of it: see [`party`].
//! `docs/invoices.md` tells the whole.

pub mod csv;
pub mod html;
mod line;
pub mod party;
pub mod register;
mod tax;
mod unused;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::{TenantId, Timestamp};

pub use line::{InvoiceLine, OpenLine};
pub use tax::InvoiceTax;
pub use unused::Unused;

use crate::ledger::{Document, EntryKind, EntryRef, LedgerEntry, Note, PartOf, Posting};
use party::Party;
use register::Waiting;

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// What would be billed now: lines of closed periods that stand on no invoice.
    Draft,
    /// The same with the open periods as they stand; nothing of it is final.
    Preview,
    /// Issued under its number.
    Final,
    /// Issued, and voided by a credit note.
    Void,
}

impl Status {
    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Preview => "preview",
            Self::Final => "final",
            Self::Void => "void",
        }
    }
}

/// An invoice or a credit note, or what one would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invoice {
    /// How far it has come.
    pub status: Status,
    /// True if it takes back rather than asks.
    pub credit_note: bool,
    /// Its number; `None` before it is issued.
    pub number: Option<String>,
    /// Who issues it; `None` before it is issued.
    pub issuer: Option<String>,
    /// The entry that issued it.
    pub entry: Option<EntryRef>,
    /// The hash of that entry, by which anybody can find it in the chain.
    pub hash: Option<crate::entry::Digest>,
    /// When it was issued, in the tenant's zone.
    pub issued: Option<NaiveDate>,
    /// When it is to be paid.
    pub due: Option<NaiveDate>,
    /// The last day on which a line counts, in the tenant's zone: the tax point of supplies over
    /// time. `None` where nothing is booked yet.
    pub tax_point: Option<NaiveDate>,
    /// The document that it voids, or by which it is voided.
    pub other: Option<String>,
    /// Which of several it is that were issued together over one sum.
    pub part_of: Option<PartOf>,
    /// To whom.
    pub tenant: TenantId,
    /// ISO 4217 code.
    pub currency: String,
    /// First instant of what it is for.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// The issuer's legal data as they were; `None` where they were erased or not given.
    pub seller: Option<Party>,
    /// The tenant's legal data as they were; `None` where they were erased or not given.
    pub buyer: Option<Party>,
    /// Lines before tax.
    pub lines: Vec<InvoiceLine>,
    /// Sum of the lines before tax, grants and credit.
    pub net: Decimal,
    /// Taxes by code.
    pub taxes: BTreeMap<String, Decimal>,
    /// The same by code and rate, each with what it was computed of; also those that are not charged.
    pub tax_rates: Vec<InvoiceTax>,
    /// Sum with tax.
    pub gross: Decimal,
    /// What grants, prepaid credits and the credit balance pay, below zero.
    pub paid: Decimal,
    /// What is to be paid.
    pub total: Decimal,
    /// What commitments that ended before it left unused: costs for which nothing is owed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<Unused>,
    /// Who issued it, and why.
    pub note: Option<Note>,
}

/// Why no document can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// An entry that it names is not there.
    #[error("document {number} bills entry {at}, which is not in the ledger; run `ledger verify`")]
    Missing {
        /// Which document.
        number: String,
        /// Which entry.
        at: EntryRef,
    },
    /// The lines do not sum to what is booked.
    #[error("the lines of {number} sum to {sum}, its total is {total}; run `ledger verify`")]
    Sum {
        /// Which document.
        number: String,
        /// Sum of the lines.
        sum: Decimal,
        /// What the ledger says.
        total: Decimal,
    },
    /// An amount does not fit a decimal.
    #[error("the amounts are too large to be added")]
    TooLarge,
    /// There is nothing to show.
    #[error("there are no lines")]
    Empty,
    /// The entry is no document.
    #[error("entry {0} is no invoice and no credit note")]
    NotADocument(EntryRef),
}

/// The parties as they were when a document was issued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// The issuer.
    pub seller: Option<Party>,
    /// The tenant.
    pub buyer: Option<Party>,
}

/// Lines that wait for an invoice, as the document that they would make.
///
/// # Errors
/// See [`InvoiceError`].
pub fn draft(
    tenant: &TenantId,
    currency: &str,
    entries: &[Waiting],
    open: Vec<OpenLine>,
    parties: Parties,
) -> Result<Invoice, InvoiceError> {
    let status = if open.is_empty() {
        Status::Draft
    } else {
        Status::Preview
    };
    let booked = entries.iter().map(|waiting| {
        let reversed = waiting.reversed.as_deref();
        InvoiceLine::of(&waiting.entry, waiting.part.as_ref(), reversed)
    });
    let lines = booked.chain(open.into_iter().map(InvoiceLine::of_open));
    let mut invoice = arranged(tenant, currency, lines.collect(), parties)?;
    invoice.status = status;
    Ok(invoice)
}

/// An issued document.
///
/// `issuing` is the entry that issued it; `find` gives the entry of a number in the same
/// partition; `voided_by` is the number of the credit note that voids it.
///
/// # Errors
/// See [`InvoiceError`].
pub fn issued(
    issuing: &LedgerEntry,
    parties: Parties,
    voided_by: Option<&str>,
    mut find: impl FnMut(EntryRef) -> Option<LedgerEntry>,
) -> Result<Invoice, InvoiceError> {
    let posting = &issuing.posting;
    let (Some(document), Some(tenant)) = (&posting.document, &posting.tenant) else {
        return Err(InvoiceError::NotADocument(issuing.at));
    };
    let mut entry_of = |document: &Document, index: u64| {
        let at = EntryRef {
            index,
            ..issuing.at
        };
        find(at).ok_or_else(|| InvoiceError::Missing {
            number: document.number.clone(),
            at,
        })
    };
    let mut other = voided_by.map(str::to_owned);
    let mut lines = Vec::new();
    if let Some(voided) = posting.refers_to {
        // A credit note shows what it takes back, with the opposite sign.
        let original = entry_of(document, voided.index)?;
        if let Some(original) = &original.posting.document {
            other = Some(original.number.clone());
            for (at, index) in original.lines.iter().enumerate() {
                let mut line = line_of(original, at, *index, &mut entry_of)?;
                line.reverse();
                lines.push(line);
            }
        }
    } else {
        for (at, index) in document.lines.iter().enumerate() {
            lines.push(line_of(document, at, *index, &mut entry_of)?);
        }
    }
    let currency = posting.currency.as_deref().unwrap_or_default();
    let mut invoice = match arranged(tenant, currency, lines, parties) {
        Err(InvoiceError::Empty) => Invoice::empty(tenant, currency, posting),
        arranged => arranged?,
    };
    let total = posting.amount.unwrap_or_default();
    if invoice.total != total {
        return Err(InvoiceError::Sum {
            number: document.number.clone(),
            sum: invoice.total,
            total,
        });
    }
    invoice.status = if voided_by.is_some() {
        Status::Void
    } else {
        Status::Final
    };
    invoice.credit_note = posting.kind == EntryKind::CreditNote;
    invoice.number = Some(document.number.clone());
    invoice.issuer = Some(document.issuer.clone());
    invoice.entry = Some(issuing.at);
    invoice.hash = Some(issuing.hash);
    invoice.issued = posting.date;
    invoice.due = document.due;
    invoice.part_of = document.part_of;
    invoice.other = other;
    invoice.note = posting.note.as_deref().cloned();
    Ok(invoice)
}

/// The line of a document at a place, of the entry of this number.
fn line_of(
    document: &Document,
    at: usize,
    index: u64,
    mut entry_of: impl FnMut(&Document, u64) -> Result<LedgerEntry, InvoiceError>,
) -> Result<InvoiceLine, InvoiceError> {
    let entry = entry_of(document, index)?;
    let reversed = entry.posting.refers_to;
    let reversed = reversed.filter(|_| entry.posting.kind == EntryKind::Reversal);
    let reversed = reversed.and_then(|at| entry_of(document, at.index).ok());
    let part = document.parts.get(at);
    Ok(InvoiceLine::of(&entry, part, reversed.as_ref()))
}

impl Invoice {
    /// The same with what [`register::Register::unused`] says of it.
    #[must_use]
    pub fn with_unused(self, unused: Vec<Unused>) -> Self {
        Self { unused, ..self }
    }

    fn empty(tenant: &TenantId, currency: &str, posting: &Posting) -> Self {
        Self {
            status: Status::Draft,
            credit_note: false,
            number: None,
            issuer: None,
            entry: None,
            hash: None,
            issued: None,
            due: None,
            tax_point: None,
            other: None,
            part_of: None,
            tenant: tenant.clone(),
            currency: currency.to_owned(),
            start: posting.start,
            end: posting.end,
            seller: None,
            buyer: None,
            lines: Vec::new(),
            net: Decimal::ZERO,
            taxes: BTreeMap::new(),
            tax_rates: Vec::new(),
            gross: Decimal::ZERO,
            paid: Decimal::ZERO,
            total: Decimal::ZERO,
            unused: Vec::new(),
            note: None,
        }
    }
}

/// Lines in order, with their sums.
fn arranged(
    tenant: &TenantId,
    currency: &str,
    all: Vec<InvoiceLine>,
    parties: Parties,
) -> Result<Invoice, InvoiceError> {
    let start = all.iter().map(|line| line.start).min();
    let end = all.iter().map(|line| line.end).max();
    let (Some(start), Some(end)) = (start, end) else {
        return Err(InvoiceError::Empty);
    };
    let add = |sum: &mut Decimal, amount: Decimal| {
        *sum = sum.checked_add(amount).ok_or(InvoiceError::TooLarge)?;
        Ok(())
    };
    let (mut net, mut paid, mut taxed) = (Decimal::ZERO, Decimal::ZERO, Decimal::ZERO);
    let mut taxes: BTreeMap<String, Decimal> = BTreeMap::new();
    let tax_rates = tax::by_rate(&all).ok_or(InvoiceError::TooLarge)?;
    let mut lines = Vec::new();
    for line in all {
        for (code, tax) in &line.tax {
            add(taxes.entry(code.clone()).or_default(), *tax)?;
            add(&mut taxed, *tax)?;
        }
        if line.is_payment() {
            add(&mut paid, line.amount)?;
        } else {
            add(&mut net, line.amount)?;
        }
        // Taxes stand below the lines, by code.
        if !line.is_tax() {
            lines.push(line);
        }
    }
    let order = |line: &InvoiceLine| {
        let entry = line.entry.map_or(u64::MAX, |at| at.index);
        (line.start, line.is_payment(), line.line.clone(), entry)
    };
    lines.sort_by_cached_key(order);
    let mut gross = net;
    add(&mut gross, taxed)?;
    let mut total = gross;
    add(&mut total, paid)?;
    // What was booked in time counts on the last day of its period.
    let tax_point = lines.iter().filter_map(|line| line.date).max();
    Ok(Invoice {
        status: Status::Draft,
        credit_note: false,
        number: None,
        issuer: None,
        entry: None,
        hash: None,
        issued: None,
        due: None,
        tax_point,
        other: None,
        part_of: None,
        tenant: tenant.clone(),
        currency: currency.to_owned(),
        start,
        end,
        seller: parties.seller,
        buyer: parties.buyer,
        lines,
        net,
        taxes,
        tax_rates,
        gross,
        paid,
        total,
        unused: Vec::new(),
        note: None,
    })
}

#[cfg(test)]
mod tests;
