//! The seam behind which the journal stands.
//!
//! A journal is one or more partitions, each an ordered, durable sequence of opaque entries.
//! The trait fits two homes: segment files of this process, and a replicated stream of an
//! existing engine. From the second come three of its rules:
//!
//! - Several writers may append to one partition. A position is known only once the entry is
//!   committed, so `append` stages and `commit` answers.
//! - Positions are opaque and ordered; there is no arithmetic on them.
//! - The reader of a partition (the fold's owner) may move to another machine. It names its
//!   epoch when it takes over, and a writer or owner of an older epoch is refused.

pub mod group;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod reader;
pub mod segment;

use crate::position::Position;

/// A partition of the journal. The embedded journal has one, number 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u16);

/// The generation of ownership of a partition; grows each time the owner changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A committed entry as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalItem {
    /// An entry that can be read.
    Entry {
        /// Where it stands.
        position: Position,
        /// Its bytes, see [`crate::entry`].
        bytes: Vec<u8>,
    },
    /// An entry that was committed and cannot be read any more. The fold halts before it
    /// until it is repaired.
    Damaged {
        /// Where it stands.
        position: Position,
        /// What is wrong with it, for the operator.
        reason: String,
    },
}

/// Why a journal did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An earlier write or sync failed. What was not committed is unknown; the journal must
    /// be opened anew.
    #[error("journal is poisoned by an earlier failure ({0}); restart the collector to recover")]
    Poisoned(String),
    /// The journal has no room.
    #[error("journal is full: {0}")]
    Full(String),
    /// Another owner has taken over.
    #[error("journal partition is owned by epoch {current:?}, this is {ours:?}")]
    Fenced {
        /// The epoch in force.
        current: Epoch,
        /// The epoch of the caller.
        ours: Epoch,
    },
    /// Reading or writing failed.
    #[error("journal: {0}")]
    Io(String),
}

/// Durable, append-only input; everything else is derived from it.
pub trait Journal {
    /// Becomes the owner of a partition and fences everybody of an older epoch.
    fn acquire(&mut self, partition: PartitionId) -> Result<Epoch, JournalError>;

    /// Stages entries in order behind what is staged already. Nothing is promised before
    /// [`Journal::commit`]. After an error the staged group is abandoned.
    fn append(&mut self, partition: PartitionId, entry: &[u8]) -> Result<(), JournalError>;

    /// Makes all staged entries durable and returns their positions in the order of the
    /// appends. One call serves everybody who staged something (group commit).
    fn commit(&mut self, partition: PartitionId) -> Result<Vec<Position>, JournalError>;

    /// Committed items after `after` (from the beginning for `None`), in order, at least one
    /// if there is any, about `max_bytes` at the most.
    fn read(
        &self,
        partition: PartitionId,
        after: Option<Position>,
        max_bytes: usize,
    ) -> Result<Vec<JournalItem>, JournalError>;

    /// The position of the last committed item, `None` while the partition is empty.
    fn last(&self, partition: PartitionId) -> Result<Option<Position>, JournalError>;
}
