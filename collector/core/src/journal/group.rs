//! Group commit: one sync serves everybody who staged something, and hands out the proof.

use tollgate_common::Timestamp;

use super::{Journal, JournalError, PartitionId};
use crate::entry::codec::EncodedEntry;
use crate::position::Position;

/// Says which session asked for an entry, and which of its entries it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The session, or 0 where nobody waits for an answer.
    pub session: u64,
    /// The session's own number for the entry; sessions number in the order of appending.
    pub number: u64,
}

impl Token {
    /// For entries that nobody waits for.
    pub const NOBODY: Self = Self {
        session: 0,
        number: 0,
    };
}

/// An entry that waits for its place in the journal.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Who asked for it.
    pub token: Token,
    /// The entry, without its stamp.
    pub entry: EncodedEntry,
}

/// Proof that an entry is synced in the journal.
///
/// Only [`GroupCommit::commit`] makes one, and only a session that holds one can
/// acknowledge: what is not durable cannot be acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub struct Durable {
    token: Token,
    position: Position,
}

impl Durable {
    /// Who asked for the entry.
    pub const fn token(&self) -> Token {
        self.token
    }

    /// Where it stands.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// A proof of nothing: the bug "acknowledge before sync", for showing that tests find it.
    #[cfg(any(test, feature = "testing"))]
    pub const fn forged(token: Token) -> Self {
        Self {
            token,
            position: Position::from_bytes([0; 16]),
        }
    }
}

/// The writing side of one journal partition.
#[derive(Debug)]
pub struct GroupCommit<J> {
    journal: J,
    partition: PartitionId,
    /// The stamp of the last entry; stamps never go backwards.
    stamp: Timestamp,
    staged: Vec<Token>,
    staged_bytes: usize,
}

impl<J: Journal> GroupCommit<J> {
    /// Writes to `partition` of `journal`, whose last entry has the stamp `stamp` (the epoch
    /// for an empty journal).
    pub fn new(journal: J, partition: PartitionId, stamp: Timestamp) -> Self {
        Self {
            journal,
            partition,
            stamp,
            staged: Vec::new(),
            staged_bytes: 0,
        }
    }

    /// Stages an entry with the time `now`, or with the stamp of the entry before if the
    /// clock went backwards. [`JournalError::Full`] refuses this entry only; after any other
    /// error the journal has to be opened anew.
    pub fn stage(&mut self, now: Timestamp, pending: Pending) -> Result<(), JournalError> {
        let stamp = self.stamp.max(now);
        let bytes = pending.entry.stamped(stamp);
        self.journal.append(self.partition, &bytes)?;
        self.stamp = stamp;
        self.staged.push(pending.token);
        self.staged_bytes += bytes.len();
        Ok(())
    }

    /// Syncs what is staged and returns the proofs, in the order of staging.
    pub fn commit(&mut self) -> Result<Vec<Durable>, JournalError> {
        let tokens = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let positions = self.journal.commit(self.partition)?;
        if positions.len() != tokens.len() {
            return Err(JournalError::Io(format!(
                "{} entries were staged and {} were committed",
                tokens.len(),
                positions.len()
            )));
        }
        Ok(tokens
            .into_iter()
            .zip(positions)
            .map(|(token, position)| Durable { token, position })
            .collect())
    }

    /// Number of staged entries.
    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Bytes of the staged entries.
    pub fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// The stamp of the last staged entry.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// The journal, for reading.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// The journal itself.
    pub fn journal_mut(&mut self) -> &mut J {
        &mut self.journal
    }
}
