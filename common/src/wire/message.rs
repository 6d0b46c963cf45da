//! What the two sides say to each other.

use crate::batch::{Batch, BatchHash, Tombstone};
use crate::ids::{AgentId, BatchSeq, Incarnation, Lineage};
use crate::time::Timestamp;

use super::VERSION_MIN;

/// One message; a frame holds exactly one.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one, and messages are moved once or twice"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Agent to collector, first on every connection.
    Hello(Hello),
    /// Collector to agent: the answer to a hello that is accepted.
    Welcome(Welcome),
    /// Agent to collector: the rollups of one seal.
    Batch(Batch),
    /// Agent to collector: stands in for a batch that the agent lost.
    Tombstone(Tombstone),
    /// Collector to agent: how far the batches are safe.
    Ack(Ack),
    /// Collector to agent, last on the connection.
    Refuse(Refuse),
    /// Collector to agent: another window than that of the welcome. Since version 2.
    Grant(Grant),
}

impl Message {
    /// The oldest version of the format that can say this. A batch that needs a newer one than
    /// the peer speaks cannot be told to it.
    pub fn version(&self) -> u8 {
        match self {
            Self::Batch(batch) => super::details::version_of(batch) as u8,
            Self::Grant(_) => GRANT_VERSION,
            _ => VERSION_MIN,
        }
    }

    /// The name of the message's kind, for logs and errors.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Batch(_) => "batch",
            Self::Tombstone(_) => "tombstone",
            Self::Ack(_) => "ack",
            Self::Refuse(_) => "refuse",
            Self::Grant(_) => "grant",
        }
    }
}

/// Who connects, and what it still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Oldest version of the format that the agent speaks.
    pub version_min: u8,
    /// Newest version of the format that the agent speaks; not below `version_min`.
    pub version_max: u8,
    /// The agent's name; it must be that of its certificate.
    pub agent: AgentId,
    /// The agent's clock.
    pub now: Timestamp,
    /// What the spool holds, oldest incarnation first. At most
    /// [`HELD_INCARNATIONS_MAX`](crate::limits::HELD_INCARNATIONS_MAX).
    pub held: Vec<Held>,
}

/// The part of one incarnation that a spool still holds, tombstones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which life of the agent.
    pub incarnation: Incarnation,
    /// The first batch that is held.
    pub first: BatchSeq,
    /// The hash of the batch before the first, [`BatchHash::ZERO`] if there is none.
    pub first_parent: BatchHash,
    /// The last batch that is held; not before `first`.
    pub last: BatchSeq,
    /// The hash of the last batch.
    pub last_hash: BatchHash,
}

/// The collector's answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that both sides use from here on.
    pub version: u8,
    /// Which life of the collector's journal answers.
    pub lineage: Lineage,
    /// The collector's clock.
    pub now: Timestamp,
    /// Where to go on, for each incarnation that the agent named.
    pub resume: Vec<Resume>,
    /// Most batches that may be on their way without acknowledgement; at least 1.
    pub window_batches: u32,
    /// Most frame bytes that may be on their way without acknowledgement.
    pub window_bytes: u64,
}

/// How much of one incarnation the collector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Which life of the agent.
    pub incarnation: Incarnation,
    /// Every batch up to this one is synced in the journal; 0 if none is.
    pub durable: u64,
    /// The hash of that batch, [`BatchHash::ZERO`] if it is not known.
    pub durable_hash: BatchHash,
    /// Every batch up to this one may be forgotten by the agent; 0 if none may.
    pub releasable: u64,
}

/// A cumulative acknowledgement: it covers every batch of the incarnation up to its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which life of the agent.
    pub incarnation: Incarnation,
    /// Every batch up to this one is synced in the journal; 0 if none is.
    pub durable: u64,
    /// Every batch up to this one may be forgotten by the agent; 0 if none may.
    pub releasable: u64,
}

/// First version of the format in which a collector may send a [`Grant`].
pub const GRANT_VERSION: u8 = 2;

/// How much the collector takes from now on, by its load. It replaces the window of the welcome
/// and of every grant before. What is on its way already is not concerned: the collector goes
/// on to take what an earlier window allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Most batches that may be on their way without acknowledgement; at least 1.
    pub window_batches: u32,
    /// Most frame bytes that may be on their way without acknowledgement.
    pub window_bytes: u64,
    /// Nothing new is to be sent for so long, in milliseconds; 0 for no pause. An agent pauses
    /// for [`PAUSE_MILLIS_MAX`](crate::limits::PAUSE_MILLIS_MAX) at most.
    pub pause_millis: u32,
}

/// Why the collector ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// For programs.
    pub code: RefuseCode,
    /// For people. At most [`REFUSE_REASON_BYTES_MAX`](crate::limits::REFUSE_REASON_BYTES_MAX)
    /// bytes travel; the encoder cuts what is longer.
    pub reason: String,
}

/// The kinds of refusal. Numbers of retired kinds are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RefuseCode {
    /// No version of the format is spoken by both sides.
    Version = 1,
    /// The hello names another agent than the certificate does.
    Identity = 2,
    /// The collector's configuration does not know the agent.
    UnknownAgent = 3,
    /// Bytes that are no valid message, or a message out of turn.
    Protocol = 4,
    /// A newer connection of the same agent has taken over.
    Replaced = 5,
    /// The collector has no room at the moment.
    Overloaded = 6,
    /// The collector is stopping.
    ShuttingDown = 7,
    /// Something failed inside the collector, such as its disk.
    Internal = 8,
}

impl RefuseCode {
    /// The number that stands for this code in the format.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code with this number, or `None` if this version knows none.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Version,
            2 => Self::Identity,
            3 => Self::UnknownAgent,
            4 => Self::Protocol,
            5 => Self::Replaced,
            6 => Self::Overloaded,
            7 => Self::ShuttingDown,
            8 => Self::Internal,
            _ => return None,
        })
    }

    /// The name used in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Identity => "identity",
            Self::UnknownAgent => "unknown_agent",
            Self::Protocol => "protocol",
            Self::Replaced => "replaced",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }

    /// True if trying again is pointless until somebody changes a configuration, a
    /// certificate or a program. Agents still try again, but rarely.
    pub const fn needs_operator(self) -> bool {
        matches!(
            self,
            Self::Version | Self::Identity | Self::UnknownAgent | Self::Protocol
        )
    }
}

impl std::fmt::Display for RefuseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}
