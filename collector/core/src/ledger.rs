//! Ledger entries and the hash chain that they form.
//!
//! The books are double entry: what an entry moves stands in its [`Leg`]s, which sum to zero in
//! every currency. Entries of usage that nobody pays (unrated, refused, lost) have quantities and
//! no legs, and so have the shares of a line that somebody else pays. The layout, byte by byte, is in `docs/formats/ledger.md`.

mod account;
mod bytes;
mod disputes;
pub mod pack;
mod posting;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tollgate_common::Timestamp;

pub use account::{
    ACCOUNT_NAME_BYTES_MAX, Account, AccountError, GL_DEFAULT, Leg, Unbalanced, check_balance,
    negated, transfer,
};
pub(crate) use disputes::Disputes;
pub use posting::{
    Document, LinePart, Note, Original, PartOf, Posting, Role, Step, StepKind, TaxOf,
};

use crate::entry::Digest;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A line of a closed period: rated usage, a fee, a minimum, tax …
    Charge,
    /// The difference that late usage makes to a closed period, booked in a later one.
    Adjustment,
    /// A line of a closed period taken back whole, because a new one takes its place.
    Reversal,
    /// A one-off line by an operator's hand.
    Manual,
    /// A goodwill credit by an operator's hand.
    Credit,
    /// A line is disputed: invoices leave it out.
    Hold,
    /// A disputed line counts again.
    Release,
    /// Lines are billed: a document with a number of its own.
    Invoice,
    /// An invoice is void: its lines are to be billed again.
    CreditNote,
    /// Usage of a closed period that no price applies to; the line names the reason.
    Unrated,
    /// Usage that an agent was not allowed to report; the line names the reason.
    Refused,
    /// Usage that was accepted and did not arrive; the line names the reason.
    Loss,
    /// A loss that was declared and is taken back, because the usage arrived after all.
    LossReversed,
    /// What a tenant has of a line that another one pays: its usage is billed there.
    Share,
}

impl EntryKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Charge,
        Self::Adjustment,
        Self::Reversal,
        Self::Manual,
        Self::Credit,
        Self::Hold,
        Self::Release,
        Self::Invoice,
        Self::CreditNote,
        Self::Unrated,
        Self::Refused,
        Self::Loss,
        Self::LossReversed,
        Self::Share,
    ];

    /// True for lines that a closing books: their quantities are billed usage.
    pub const fn is_closing(self) -> bool {
        matches!(self, Self::Charge | Self::Adjustment | Self::Reversal)
    }

    /// True for what stands on an invoice as a line.
    pub const fn is_line(self) -> bool {
        self.is_closing() || matches!(self, Self::Manual | Self::Credit)
    }

    /// True for numbered documents.
    pub const fn is_document(self) -> bool {
        matches!(self, Self::Invoice | Self::CreditNote)
    }

    /// The name used in output and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Adjustment => "adjustment",
            Self::Reversal => "reversal",
            Self::Manual => "manual",
            Self::Credit => "credit",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Invoice => "invoice",
            Self::CreditNote => "credit_note",
            Self::Unrated => "unrated",
            Self::Refused => "refused",
            Self::Loss => "loss",
            Self::LossReversed => "loss_reversed",
            Self::Share => "share",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How exact the quantity of a loss is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Exactly the quantity.
    #[default]
    Exact,
    /// At most the quantity.
    AtMost,
    /// Not known; the quantity is zero and only the time is bounded.
    Unknown,
}

/// Where an entry stands: its partition's chain and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryRef {
    /// Tenant partition.
    pub partition: u16,
    /// Number in the partition's chain: 1, 2, 3 …
    pub index: u64,
}

/// Not the number of a ledger entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no ledger entry (expected PARTITION-NUMBER such as `2-17`)")]
pub struct ParseEntryRefError(String);

impl FromStr for EntryRef {
    type Err = ParseEntryRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (partition, index) = text.split_once('-')?;
            Some(Self {
                partition: partition.parse().ok()?,
                index: index.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseEntryRefError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.index)
    }
}

/// An immutable, chained entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where it stands.
    #[serde(flatten)]
    pub at: EntryRef,
    /// When it was posted: the stamp of the journal entry.
    pub posted: Timestamp,
    /// What it says.
    #[serde(flatten)]
    pub posting: Posting,
    /// Hash of the entry before in the same partition; zeros for the first.
    pub previous: Digest,
    /// BLAKE3 over everything above.
    pub hash: Digest,
}

/// The end of one partition's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    partition: u16,
    index: u64,
    head: Digest,
}

impl Chain {
    /// An empty chain.
    pub const fn new(partition: u16) -> Self {
        Self {
            partition,
            index: 0,
            head: Digest([0; 32]),
        }
    }

    /// Number of entries.
    pub const fn len(&self) -> u64 {
        self.index
    }

    /// True without entries.
    pub const fn is_empty(&self) -> bool {
        self.index == 0
    }

    /// Hash of the last entry, zeros while empty.
    pub const fn head(&self) -> Digest {
        self.head
    }

    /// Chains a posting. A zero that has a minus loses it first: text does not keep it, and the
    /// entry would not have its hash any more once it was read back.
    pub fn append(&mut self, posted: Timestamp, mut posting: Posting) -> LedgerEntry {
        posting.drop_signs_of_zeros();
        let at = EntryRef {
            partition: self.partition,
            index: self.index + 1,
        };
        let hash = entry_hash(at, posted, &posting, self.head);
        let entry = LedgerEntry {
            at,
            posted,
            posting,
            previous: self.head,
            hash,
        };
        self.index = at.index;
        self.head = hash;
        entry
    }

    /// Checks that `entry` is the next of this chain and moves past it.
    pub fn verify_next(&mut self, entry: &LedgerEntry) -> Result<(), ChainError> {
        let at = EntryRef {
            partition: self.partition,
            index: self.index + 1,
        };
        if entry.at != at {
            return Err(ChainError::Number {
                expected: at,
                found: entry.at,
            });
        }
        if entry.previous != self.head {
            return Err(ChainError::Previous { at });
        }
        if entry_hash(at, entry.posted, &entry.posting, self.head) != entry.hash {
            return Err(ChainError::Hash { at });
        }
        self.index = at.index;
        self.head = entry.hash;
        Ok(())
    }
}

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An entry is missing or stands twice.
    #[error("ledger entry {expected} is missing: {found} stands in its place")]
    Number {
        /// Which entry should come.
        expected: EntryRef,
        /// Which one does.
        found: EntryRef,
    },
    /// The entry does not name the one before.
    #[error("ledger entry {at} does not follow the entry before it")]
    Previous {
        /// Which entry.
        at: EntryRef,
    },
    /// The content does not have the recorded hash.
    #[error("ledger entry {at} was changed: its content does not have its hash")]
    Hash {
        /// Which entry.
        at: EntryRef,
    },
}

/// Bytes that hold what is hashed of nearly every entry.
const ENTRY_BYTES_USUAL: usize = 2048;

/// BLAKE3 over the canonical JSON of the entry without its hash.
///
/// Fields stand in declaration order, and decimals and quantities as strings, so that the same
/// entry always has the same bytes. Fields are only ever added
/// behind a new fold version.
fn entry_hash(at: EntryRef, posted: Timestamp, posting: &Posting, previous: Digest) -> Digest {
    // In one piece: a hasher that is given a word at a time is busier with that than with hashing.
    let mut bytes = Vec::with_capacity(ENTRY_BYTES_USUAL);
    bytes.extend_from_slice(b"tollgate ledger v2\0");
    bytes::write((at, posted), posting, previous, &mut bytes);
    Digest(*blake3::hash(&bytes).as_bytes())
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
