//! Ledger entries and the hash chain that they form.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{AgentId, Incarnation, MeterName, Quantity, Scale, TenantId, Timestamp};

use crate::entry::Digest;
use crate::position::Position;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Rated usage of a closed period.
    Charge,
    /// The difference that late usage makes to a closed period.
    Adjustment,
    /// Usage of a closed period that no price applies to; the line names the reason.
    Unrated,
    /// Usage that an agent was not allowed to report; the line names the reason.
    Refused,
    /// Usage that was accepted and did not arrive; the line names the reason.
    Loss,
    /// A loss that was declared and is taken back, because the usage arrived after all.
    LossReversed,
}

impl EntryKind {
    /// The name used in output and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Adjustment => "adjustment",
            Self::Unrated => "unrated",
            Self::Refused => "refused",
            Self::Loss => "loss",
            Self::LossReversed => "loss_reversed",
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

impl fmt::Display for EntryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.index)
    }
}

/// The content of an entry, before it is chained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// What it says.
    pub kind: EntryKind,
    /// Whose usage; `None` for a loss whose tenant is not known.
    pub tenant: Option<TenantId>,
    /// First instant that the entry speaks of, UTC: the period, or the bound of a loss.
    pub start: Timestamp,
    /// First instant after.
    pub end: Timestamp,
    /// Charge and adjustment: the price's id. Otherwise: the reason.
    pub line: String,
    /// Which meter; `None` where it is not known, and for fees.
    pub meter: Option<MeterName>,
    /// How much, in the meter's smallest unit. An adjustment's may be negative.
    pub quantity: Quantity,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// Whether the quantity is exact (always, except for losses).
    #[serde(default)]
    pub certainty: Certainty,
    /// Rated amount in `currency`; `None` where nothing is rated.
    pub amount: Option<Decimal>,
    /// ISO 4217 code.
    pub currency: Option<String>,
    /// The catalog by which it was rated.
    pub catalog: Option<Digest>,
    /// The arithmetic, for people: `2000000 x 0.40 / 1000 + …`.
    pub arithmetic: String,
    /// The entry that this one adjusts or reverses.
    pub refers_to: Option<EntryRef>,
    /// For losses: which agent, where known.
    pub agent: Option<AgentId>,
    /// For losses: which life of the agent, where known.
    pub incarnation: Option<Incarnation>,
    /// For losses: the first and the last sequence number, where known.
    pub sequences: Option<(u64, u64)>,
    /// The first journal entry that contributed.
    pub journal_from: Position,
    /// The journal entry that made this posting happen.
    pub journal_to: Position,
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

    /// Chains a posting.
    pub fn append(&mut self, posted: Timestamp, posting: Posting) -> LedgerEntry {
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

/// BLAKE3 over the canonical JSON of the entry without its hash.
///
/// serde_json writes struct fields in declaration order and decimals and quantities as
/// strings, so that the same entry always has the same bytes. Fields are only ever added
/// behind a new fold version.
fn entry_hash(at: EntryRef, posted: Timestamp, posting: &Posting, previous: Digest) -> Digest {
    #[derive(Serialize)]
    struct Content<'a> {
        at: EntryRef,
        posted: Timestamp,
        posting: &'a Posting,
        previous: Digest,
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tollgate ledger v1\0");
    let content = Content {
        at,
        posted,
        posting,
        previous,
    };
    serde_json::to_writer(&mut hasher, &content)
        .expect("the content has string keys only and a hasher never fails to write");
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(quantity: i128) -> Posting {
        Posting {
            kind: EntryKind::Charge,
            tenant: Some(TenantId::new("acme").expect("valid")),
            start: Timestamp::EPOCH,
            end: Timestamp::from_secs(60),
            line: "requests".to_owned(),
            meter: Some(MeterName::new("http.requests").expect("valid")),
            quantity: Quantity::new(quantity),
            scale: Scale::ZERO,
            certainty: Certainty::Exact,
            amount: Some(Decimal::new(117_500, 2)),
            currency: Some("EUR".to_owned()),
            catalog: Some(Digest([7; 32])),
            arithmetic: String::new(),
            refers_to: None,
            agent: None,
            incarnation: None,
            sequences: None,
            journal_from: Position::from_bytes([0; 16]),
            journal_to: Position::from_bytes([1; 16]),
        }
    }

    #[test]
    fn a_chain_verifies_and_any_change_breaks_it() {
        let mut chain = Chain::new(3);
        let entries: Vec<_> = (1..=3)
            .map(|n| chain.append(Timestamp::from_secs(n), posting(i128::from(n))))
            .collect();
        let mut check = Chain::new(3);
        for entry in &entries {
            assert_eq!(check.verify_next(entry), Ok(()));
        }
        assert_eq!(check, chain);

        let mut changed = entries[0].clone();
        changed.posting.quantity = Quantity::new(2);
        assert_eq!(
            Chain::new(3).verify_next(&changed),
            Err(ChainError::Hash { at: changed.at })
        );
        let mut check = Chain::new(3);
        assert!(matches!(
            check.verify_next(&entries[1]),
            Err(ChainError::Number { .. })
        ));
    }

    #[test]
    fn entries_survive_json() {
        let entry = Chain::new(0).append(Timestamp::from_secs(1), posting(5));
        let text = serde_json::to_string(&entry).expect("serialises");
        let back: LedgerEntry = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, entry);
        assert_eq!(Chain::new(0).verify_next(&back), Ok(()));
    }
}
