//! Reading a journal partition entry by entry, with its rule for damage.
//!
//! A damaged entry stops the reader. It is passed over only if a later [`Entry::Lost`] names
//! its position: somebody has decided that it cannot be fetched again.

use std::collections::{BTreeSet, VecDeque};

use super::{Journal, JournalError, JournalItem, PartitionId};
use crate::entry::codec::{DecodeError, EntryDecoder};
use crate::entry::{Entry, Stamped};
use crate::position::Position;

/// Bytes that are asked for at a time.
const READ_BYTES: usize = 4 << 20;

/// Why the journal cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A committed entry is damaged and nobody has given it up.
    #[error(
        "journal entry at {position} is damaged ({reason}); the fold stops before it. Restore the \
         segment from a copy, or decide with `repair` that the entry is lost: that journals its \
         position with author and reason, and the fold goes on behind it"
    )]
    Damaged {
        /// Where.
        position: Position,
        /// What is wrong.
        reason: String,
    },
    /// An entry has a valid checksum and still cannot be decoded: it was written by another
    /// version.
    #[error("journal entry at {position} cannot be decoded: {source}")]
    Undecodable {
        /// Where.
        position: Position,
        /// Why.
        source: DecodeError,
    },
}

/// Reads one partition in order.
///
/// The reader holds no journal: it is handed one for each step, because the writer owns it.
pub struct Reader {
    decoder: EntryDecoder,
    partition: PartitionId,
    after: Option<Position>,
    buffer: VecDeque<JournalItem>,
    /// Positions that `Lost` entries name; filled when the first damage is met.
    given_up: BTreeSet<Position>,
}

impl Reader {
    /// Reads what follows `after`, or everything for `None`.
    pub fn new(partition: PartitionId, after: Option<Position>) -> Self {
        Self::with_decoder(partition, after, EntryDecoder::new())
    }

    /// The same with a decoder of the caller's, see [`EntryDecoder::with_cache`].
    pub fn with_decoder(
        partition: PartitionId,
        after: Option<Position>,
        decoder: EntryDecoder,
    ) -> Self {
        Self {
            decoder,
            partition,
            after,
            buffer: VecDeque::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// The last position that was returned or passed over.
    pub fn position(&self) -> Option<Position> {
        self.after
    }

    /// The next entry, `None` at the end of what is committed. After an error the same call
    /// gives the same error, until the journal is repaired.
    pub fn next<J: Journal>(
        &mut self,
        journal: &J,
    ) -> Result<Option<(Position, Stamped)>, ReadError> {
        loop {
            if self.buffer.is_empty() {
                self.buffer = journal.read(self.partition, self.after, READ_BYTES)?.into();
            }
            match self.buffer.pop_front() {
                None => return Ok(None),
                Some(JournalItem::Entry { position, bytes }) => {
                    let error = match self.decoder.decode(&bytes) {
                        Ok(stamped) => {
                            self.after = Some(position);
                            return Ok(Some((position, stamped)));
                        }
                        Err(source) => ReadError::Undecodable { position, source },
                    };
                    self.pass(journal, position, error)?;
                }
                Some(JournalItem::Damaged { position, reason }) => {
                    self.pass(journal, position, ReadError::Damaged { position, reason })?;
                }
            }
        }
    }

    /// Passes over `position` if it was given up, otherwise fails with `error`.
    fn pass<J: Journal>(
        &mut self,
        journal: &J,
        position: Position,
        error: ReadError,
    ) -> Result<(), ReadError> {
        if self.is_given_up(journal, position)? {
            self.after = Some(position);
            Ok(())
        } else {
            self.buffer.clear();
            Err(error)
        }
    }

    /// Looks whether a later entry gives up `position`.
    fn is_given_up<J: Journal>(
        &mut self,
        journal: &J,
        position: Position,
    ) -> Result<bool, ReadError> {
        if self.given_up.contains(&position) {
            return Ok(true);
        }
        let mut after = position;
        loop {
            let items = journal.read(self.partition, Some(after), READ_BYTES)?;
            if items.is_empty() {
                return Ok(self.given_up.contains(&position));
            }
            for item in items {
                match item {
                    JournalItem::Entry { position, bytes } => {
                        after = position;
                        if let Ok(Stamped {
                            entry: Entry::Lost(lost),
                            ..
                        }) = self.decoder.decode(&bytes)
                        {
                            self.given_up.insert(lost.position);
                        }
                    }
                    JournalItem::Damaged { position, .. } => after = position,
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
