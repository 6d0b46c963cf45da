//! Journal entries: everything that can change what the collector knows.

mod books;
mod change;
pub mod codec;
mod interim;
mod operated;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_common::{
    AgentId, Batch, BatchSeq, Incarnation, Lineage, TenantId, Timestamp, Tombstone,
};

pub use books::{
    DOCUMENT_LINES_MAX, Issue, Issued, MANUAL_AMOUNT_MAX, MANUAL_TEXT_BYTES_MAX, Manual,
    ManualAction, ManualError, ManualLine, ManualTax, NUMBER_DIGITS_MAX, NUMBER_PREFIX_BYTES_MAX,
    SPLIT_MAX, SplitPart, printed_number,
};
pub use change::{
    CHANGE_SIGNATURES_MAX, CHANGE_TENANTS_MAX, CHANGE_TEXT_BYTES_MAX, CatalogChange,
    ParseSignatureError, PublicKey, Signature, signed_message,
};
pub use interim::{Interim, InterimCause};
pub use operated::{
    CORRECTION_ROWS_MAX, CORRECTION_UNITS_MAX, CorrectedRow, Correction, OPERATED_TEXT_BYTES_MAX,
    Operated, OperatedAction, OperatedError, Rerate, RowMistake,
};

/// Version of the fold's semantics. A closing names the version it was made by; it grows
/// when the same journal would fold to different figures.
///
/// 2: fees and minimums are booked for periods without usage too, and what hostile rows bring is
/// bounded.
///
/// 3: a bill is computed as a whole and booked as double entries; usage is rated by the versions
/// in force at its time.
///
/// 4: what another tenant pays for counts in the payer's periods; parts of periods are prorated,
/// minimums and commitments are due without usage too, commitments end with the agreement, and
/// periods are billed before they end.
///
/// 5: a row that a price cannot take is unrated and leaves the others priced; bills go by the clocks
/// of their period, whatever zone came since. Commitments end where another tenant begins to pay, also
/// between two periods, and what another tenant paid for stays with that one where a period is rated
/// anew.
///
/// 6: usage of a time that is more than a day away is refused; a discount makes nothing dearer that is
/// taken back; later periods are worked out again where an earlier one leaves something else to them.
///
/// 7: what is charged in advance is earned in its time.
///
/// 8: what gives back what a commitment paid goes back into its term, with its overage.
///
/// 9: a disputed line takes its tax and what grants pay for it with it; a credit has no tax that is not
/// charged; grants keep the room that what pays for other lines leaves them; what a payer's commitment
/// pays is shared; a fee in advance is what the next period costs that is rated anew; one line that is
/// too large leaves the others billed.
///
/// 10: numbers of documents are left out only after a restore; meters that no catalog declares are
/// counted together beyond a number of them.
pub const FOLD_VERSION: u16 = 10;

/// BLAKE3 of a policy or a catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Fewest first digits by which people may name one.
    pub const DIGITS_MIN: usize = 6;

    /// True if `digits` are its first ones, in lower case, and enough of them.
    pub fn is_named_by(&self, digits: &str) -> bool {
        digits.len() >= Self::DIGITS_MIN && self.to_string().starts_with(digits)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hex::text(&self.0, |text| f.write_str(text))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Self);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let error = || serde::de::Error::custom("a digest is 64 hexadecimal digits");
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(digest))
    }
}

/// Why a row is refused: by the policy, when it is received, or by the intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RefusedReason {
    /// The agent may not report for this tenant.
    TenantNotAllowed = 1,
    /// The agent may not report this meter.
    MeterNotAllowed = 2,
    /// Its window begins more than a day after it was received. The intake says so, no policy.
    FromTheFuture = 3,
}

impl RefusedReason {
    /// The number that stands for this reason in formats.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::TenantNotAllowed),
            2 => Some(Self::MeterNotAllowed),
            3 => Some(Self::FromTheFuture),
            _ => None,
        }
    }

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantNotAllowed => "tenant_not_allowed",
            Self::MeterNotAllowed => "meter_not_allowed",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

/// What the policy says of each row of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdicts {
    /// Every row is allowed.
    AllAllowed,
    /// One verdict for each row, in the order of the rows; `None` is allowed.
    PerRow(Vec<Option<RefusedReason>>),
}

impl Verdicts {
    /// The verdict on row `index`.
    pub fn of(&self, index: usize) -> Option<RefusedReason> {
        match self {
            Self::AllAllowed => None,
            Self::PerRow(verdicts) => verdicts.get(index).copied().flatten(),
        }
    }
}

/// A batch as received: whole, with what the policy in force says of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedBatch {
    /// The batch; its agent is the one that the certificate names.
    pub batch: Batch,
    /// The policy by which the verdicts were made.
    pub policy: Digest,
    /// What the policy says of each row.
    pub verdicts: Verdicts,
}

/// Batches that an agent no longer holds and the journal does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Whose.
    pub agent: AgentId,
    /// Of which life.
    pub incarnation: Incarnation,
    /// First missing sequence number.
    pub from: BatchSeq,
    /// Last missing sequence number.
    pub to: BatchSeq,
}

/// Why a period is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum CloseCause {
    /// Every agent that may report for the tenant has reported past the end.
    Complete,
    /// The settlement time is over; the agents in `missing` have not reported past the end.
    Settled,
    /// An operator closed it.
    Operator {
        /// Who.
        author: String,
        /// Why.
        reason: String,
        /// Who agreed, where two persons are needed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        approved_by: Option<String>,
    },
}

/// The decision to close a period, with everything that it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Whose period.
    pub tenant: TenantId,
    /// First instant of the period, UTC.
    pub start: Timestamp,
    /// First instant after the period, UTC.
    pub end: Timestamp,
    /// 0 for the closing itself, then 1, 2 … for each time late usage is settled.
    pub round: u32,
    /// Why now.
    #[serde(flatten)]
    pub cause: CloseCause,
    /// The catalog by which it is rated.
    pub catalog: Digest,
    /// Version of the time-zone data.
    pub zone_data: String,
    /// See [`FOLD_VERSION`].
    pub fold_version: u16,
    /// The watermark of every agent that may report for the tenant.
    pub agents: BTreeMap<AgentId, Timestamp>,
    /// The agents among them that have not reported past the end.
    pub missing: Vec<AgentId>,
}

/// A new policy, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Digest of `text`.
    pub digest: Digest,
    /// The policy's canonical text.
    pub text: String,
}

/// The beginning of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The journal's life.
    pub lineage: Lineage,
    /// Number of tenant partitions from here on.
    pub partitions: u16,
    /// Width in seconds of the windows in which usage is kept for queries; divides 900.
    pub usage_window_secs: u32,
    /// Settlement time in milliseconds.
    pub settlement_millis: i64,
    /// How far a watermark may run ahead of the stamp, in milliseconds.
    pub future_tolerance_millis: i64,
}

/// One entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The first entry, and again whenever one of its figures changes.
    Opened(Opened),
    /// Usage. Shared, because its rows go on to tenants and projections as they are.
    Batch(Arc<ReceivedBatch>),
    /// An agent lost a batch.
    Tombstone(Tombstone),
    /// Batches that nobody has.
    Missing(Missing),
    /// What agents may report from here on.
    Policy(PolicyChange),
    /// Prices and profiles from here on, or a proposal of them.
    Catalog(CatalogChange),
    /// A period is closed.
    Close(Closing),
    /// Only the stamp: time passed.
    Clock,
    /// A damaged entry is given up: the fold passes over it and declares what it can.
    Lost(LostEntry),
    /// The journal up to here was restored from a backup: a new lineage begins.
    Restored(Restored),
    /// A decision about a tenant's books: a one-off line, a credit, a dispute.
    Manual(Box<Manual>),
    /// A document is issued.
    Issue(Box<Issue>),
    /// An operator corrected usage, or retired an agent.
    Operated(Arc<Operated>),
    /// An open period is booked as it stands, so that it can be billed.
    Interim(Box<Interim>),
}

/// A journal that was set back to an older copy of itself. What it had beyond here is gone,
/// and may have been acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The journal's new life.
    pub lineage: Lineage,
    /// The life that the copy was taken of.
    pub previous: Lineage,
    /// Who decided.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// A damaged journal entry that could not be fetched again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEntry {
    /// Where it stood.
    pub position: crate::position::Position,
    /// Who decided.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// An entry with its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The collector's clock when the entry was appended; never goes backwards.
    pub stamp: Timestamp,
    /// What happened.
    pub entry: Entry,
}
