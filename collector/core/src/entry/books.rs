//! Journal entries by which people keep the books: one-off lines, credits, disputes, documents.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use super::Digest;
use crate::ledger::{EntryRef, LinePart, Note, PartOf};
use crate::rate::Currency;

/// Most of a manual amount, as a magnitude: 10^15.
pub const MANUAL_AMOUNT_MAX: i64 = 1_000_000_000_000_000;
/// Longest key, name or description of a manual entry, in bytes.
pub const MANUAL_TEXT_BYTES_MAX: usize = 1024;
/// Most documents that one sum is split into.
pub const SPLIT_MAX: usize = 100;
/// Most lines of one invoice.
pub const DOCUMENT_LINES_MAX: usize = 200_000;
/// Longest prefix of a document's number, in bytes.
pub const NUMBER_PREFIX_BYTES_MAX: usize = 32;
/// Most digits that a document's number is filled up to.
pub const NUMBER_DIGITS_MAX: u8 = 18;

/// A decision about a tenant's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manual {
    /// Whose books.
    pub tenant: TenantId,
    /// Tells this decision from all others of the tenant: a second one with the same key has no
    /// effect.
    pub key: String,
    /// What is decided.
    #[serde(flatten)]
    pub action: ManualAction,
    /// Who decided, and why.
    #[serde(flatten)]
    pub note: Note,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum ManualAction {
    /// A one-off line.
    Line(ManualLine),
    /// A goodwill credit: the same with the opposite sign.
    Credit(ManualLine),
    /// A line is disputed; invoices leave it out.
    Hold {
        /// Which line.
        entry: EntryRef,
    },
    /// A disputed line counts again.
    Release {
        /// Which line.
        entry: EntryRef,
    },
}

/// A one-off line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualLine {
    /// Its name on the invoice.
    pub line: String,
    /// What it is for.
    pub text: String,
    /// First instant of the time that it is for, UTC.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// Above zero, at most [`MANUAL_AMOUNT_MAX`], with at most the currency's decimal places.
    pub amount: Decimal,
    /// Its currency.
    pub currency: Currency,
    /// General-ledger account.
    pub gl: String,
    /// Tax on it. Of a credit without [`ManualLine::of`]: of a catalog, and no more than stands charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<ManualTax>,
    /// Of a credit: the line of which it gives back a part, with its part of that line's taxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<EntryRef>,
    /// The day on which it counts in the general ledger; by default that of the posting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<NaiveDate>,
}

/// Tax on a one-off line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManualTax {
    /// The tax's code.
    pub code: String,
    /// Not below zero and not above the line's amount; comes on top of it.
    pub amount: Decimal,
}

/// A decision to issue a document. Its number is given when the entry is read: documents of one
/// issuer are counted in the order of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// To whom.
    pub tenant: TenantId,
    /// Number of documents that the tenant has had. An entry with another number was decided
    /// twice and has no effect.
    pub serial: u32,
    /// Whose sequence.
    pub issuer: String,
    /// What stands before the number.
    pub prefix: String,
    /// The number is filled up with zeros to so many digits.
    pub digits: u8,
    /// The issuer's first number, where it has none yet.
    pub first: u64,
    /// What is issued.
    #[serde(flatten)]
    pub what: Issued,
    /// Salted digest of the issuer's legal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seller: Option<Digest>,
    /// Salted digest of the tenant's legal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buyer: Option<Digest>,
    /// Who decided, and why.
    #[serde(flatten)]
    pub note: Note,
}

/// What is issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "document")]
pub enum Issued {
    /// An invoice over lines that stand on none.
    Invoice {
        /// Their currency.
        currency: String,
        /// Their numbers in the chain of the tenant's partition, ascending.
        lines: Vec<u64>,
        /// When it is to be paid.
        due: Option<NaiveDate>,
        /// What of them it bills, where several documents share them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        split: Option<SplitPart>,
    },
    /// A credit note over a whole invoice, which it voids.
    CreditNote {
        /// The invoice's serial number.
        voids: u32,
    },
}

/// What one of several documents bills of lines that they share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPart {
    /// Which of them it is.
    #[serde(flatten)]
    pub part_of: PartOf,
    /// How much of each line, in their order.
    pub parts: Vec<LinePart>,
}

/// Why a decision is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManualError {
    /// A text is empty or too long.
    #[error("{0} is needed, with at most {MANUAL_TEXT_BYTES_MAX} bytes")]
    Text(&'static str),
    /// The amount is zero, below zero, too large, or too fine.
    #[error(
        "amount {amount} {currency} is not possible (expected more than 0, at most {MANUAL_AMOUNT_MAX}, with at most {places} decimal places)"
    )]
    Amount {
        /// The amount.
        amount: Decimal,
        /// Its currency.
        currency: String,
        /// The currency's decimal places.
        places: u32,
    },
    /// The tax is below zero, above the amount, or too fine.
    #[error("tax of {0} does not fit the amount (expected 0 to the amount)")]
    Tax(Decimal),
    /// Not the name of an account.
    #[error(transparent)]
    Account(#[from] crate::ledger::AccountError),
    /// Only a credit gives something back, and its tax is that of what it gives back.
    #[error("only a credit without a tax of its own can be of another line")]
    Of,
    /// The time ends before it begins.
    #[error("the time of the line ends before it begins")]
    Time,
}

impl Manual {
    /// Checks what no reader should have to check again.
    ///
    /// # Errors
    /// See [`ManualError`].
    pub fn check(&self) -> Result<(), ManualError> {
        let text = |name, text: &str| {
            let sound = !text.trim().is_empty() && text.len() <= MANUAL_TEXT_BYTES_MAX;
            if sound {
                Ok(())
            } else {
                Err(ManualError::Text(name))
            }
        };
        text("key", &self.key)?;
        text("author", &self.note.author)?;
        text("reason", &self.note.reason)?;
        let line = match &self.action {
            ManualAction::Line(line) | ManualAction::Credit(line) => line,
            ManualAction::Hold { .. } | ManualAction::Release { .. } => return Ok(()),
        };
        text("line", &line.line)?;
        text("text", &line.text)?;
        if line.end < line.start {
            return Err(ManualError::Time);
        }
        let places = line.currency.exponent();
        let fits = |amount: Decimal| amount.normalize().scale() <= places;
        let in_range =
            line.amount > Decimal::ZERO && line.amount <= Decimal::from(MANUAL_AMOUNT_MAX);
        if !in_range || !fits(line.amount) {
            return Err(ManualError::Amount {
                amount: line.amount,
                currency: line.currency.code().to_owned(),
                places,
            });
        }
        let gives_back = matches!(self.action, ManualAction::Credit(_)) && line.tax.is_none();
        if line.of.is_some() && !gives_back {
            return Err(ManualError::Of);
        }
        crate::ledger::Account::revenue(&line.gl)?;
        if let Some(tax) = &line.tax {
            crate::ledger::Account::tax(&tax.code)?;
            if tax.amount < Decimal::ZERO || tax.amount > line.amount || !fits(tax.amount) {
                return Err(ManualError::Tax(tax.amount));
            }
        }
        Ok(())
    }
}

/// A document's number as it is printed: the prefix, and the place in the sequence filled up with
/// zeros.
pub fn printed_number(prefix: &str, digits: u8, sequence: u64) -> String {
    let width = usize::from(digits.min(NUMBER_DIGITS_MAX));
    let prefix: String = prefix.chars().take(NUMBER_PREFIX_BYTES_MAX).collect();
    format!("{prefix}{sequence:0width$}")
}
