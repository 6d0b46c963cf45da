//! Spool: sealed batches on disk, from the seal until a collector lets them go.
//!
//! The spool is a segment log of self-contained records, one batch or tombstone each. It is
//! the only way from seal to ship: a batch that is `Sealed` becomes `Durable` here, and
//! only what is read from here is shipped. What a collector acknowledged as releasable is
//! trimmed, whole segments at a time; the newest record always stays, so that the last
//! sequence and hash survive.
//!
//! A record that cannot be read any more costs itself. Its sequence number follows from its
//! neighbours (see `chain`), and a tombstone goes out in its place.
//!
//! A part of the space is kept in reserve: a seal at a window's end may not use it, the final
//! seal of an incarnation, openings and tombstones may. So an agent whose spool is full can
//! still stop and start in order.

mod chain;
mod index;
mod reader;
#[cfg(test)]
mod tests;

use tollgate_common::log::{
    AppendError, LogConfig, LogPosition, OpenError, OpenReport, ReadError, SegmentLog, SyncError,
    TrimError,
};
use tollgate_common::storage::Storage;
use tollgate_common::wire::{EncodeError, Held, encode_tombstone_record};
use tollgate_common::{BatchHash, BatchSeq, Incarnation, Tombstone};

use crate::seal::Sealed;
use crate::ship::Acknowledged;
pub(crate) use index::Tail;
use index::{Entry, Index};
pub(crate) use reader::{Cursor, Shipment};

/// Smallest spool: room for a few segments and records.
pub const SPOOL_BYTES_MIN: u64 = 64 << 10;
/// Largest reserve; a full seal and many openings fit.
const RESERVE_BYTES_MAX: u64 = 16 << 20;
/// What a log adds to a record (header, commit mark, a segment header), generously.
const RECORD_OVERHEAD: u64 = 256;
/// Most tombstones that are written for batches that the spool lost at its end.
pub(crate) const MISSING_MAX: u64 = 4096;

/// Proof that a batch is in the spool and synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    incarnation: Incarnation,
    sequence: BatchSeq,
    hash: BatchHash,
}

impl Durable {
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn sequence(&self) -> BatchSeq {
        self.sequence
    }

    pub(crate) fn hash(&self) -> BatchHash {
        self.hash
    }
}

/// Which part of the spool an append may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// All but the reserve.
    Ordinary,
    /// Everything.
    Reserve,
}

/// Why the spool failed. Apart from [`SpoolError::Full`], every one of these means that the
/// agent stops and recovers by starting again.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is no room; nothing has changed.
    #[error("spool is full ({bytes} of {bytes_max} bytes)")]
    Full {
        /// Bytes in use.
        bytes: u64,
        /// Bytes allowed.
        bytes_max: u64,
    },
    /// The configured size is too small.
    #[error("spool of {0} bytes is too small (spool.bytes_max: at least {SPOOL_BYTES_MIN})")]
    TooSmall(u64),
    /// The spool cannot be opened.
    #[error("spool cannot be opened")]
    Open(#[from] OpenError),
    /// A record could not be appended.
    #[error("spool cannot be written")]
    Append(#[source] AppendError),
    /// What was appended is not known to be durable.
    #[error("spool cannot be synced")]
    Sync(#[from] SyncError),
    /// The spool cannot be read.
    #[error("spool cannot be read")]
    Read(#[from] ReadError),
    /// Released segments could not be removed.
    #[error("spool cannot be trimmed")]
    Trim(#[from] TrimError),
    /// A tombstone has no record form.
    #[error("tombstone cannot be encoded")]
    Encode(#[from] EncodeError),
}

/// Where an incarnation lies in the spool, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) batches: u64,
    pub(crate) incarnations: u64,
}

/// The spool.
pub(crate) struct Spool<S: Storage> {
    log: SegmentLog<S>,
    index: Index,
    bytes_max: u64,
}

/// The configuration of the log below: segments small enough that a spool whose batches are
/// all released can always be trimmed to make room.
fn log_config(config: LogConfig) -> LogConfig {
    let quarter = (config.bytes_max / 4).max(tollgate_common::limits::SEGMENT_BYTES_MIN);
    LogConfig {
        segment_bytes: config.segment_bytes.min(quarter),
        bytes_max: config.bytes_max,
    }
}

impl<S: Storage> Spool<S> {
    /// Opens the log, cuts its torn tail, and reads through it to know what it holds.
    pub(crate) fn open(storage: S, config: LogConfig) -> Result<(Self, OpenReport), SpoolError> {
        if config.bytes_max < SPOOL_BYTES_MIN {
            return Err(SpoolError::TooSmall(config.bytes_max));
        }
        let (log, report) = SegmentLog::open(storage, log_config(config))?;
        let mut spool = Self {
            index: Index::default(),
            bytes_max: config.bytes_max,
            log,
        };
        let mut cursor = Cursor::at(spool.log.start());
        while let Some(found) = cursor.next_entry(&spool.log)? {
            spool.index.push(found);
        }
        Ok((spool, report))
    }

    /// Largest batch, in bytes before compression, that leaves room for others.
    pub(crate) fn part_bytes_max(bytes_max: u64) -> usize {
        usize::try_from(bytes_max / 16).unwrap_or(usize::MAX)
    }

    fn check_room(&self, length: usize, room: Room) -> Result<(), SpoolError> {
        let reserve = match room {
            Room::Ordinary => (self.bytes_max / 8).min(RESERVE_BYTES_MAX),
            Room::Reserve => 0,
        };
        let bytes = self.log.bytes();
        let after = bytes.saturating_add(length as u64 + RECORD_OVERHEAD);
        if after > self.bytes_max - reserve {
            return Err(SpoolError::Full {
                bytes,
                bytes_max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn append_record(&mut self, record: &[u8]) -> Result<LogPosition, SpoolError> {
        let position = self.log.append(record).map_err(|error| match error {
            AppendError::Full { bytes, bytes_max } => SpoolError::Full { bytes, bytes_max },
            error => SpoolError::Append(error),
        })?;
        self.log.sync()?;
        Ok(position)
    }

    /// Appends a batch completely and syncs it.
    pub(crate) fn append(&mut self, sealed: &Sealed, room: Room) -> Result<Durable, SpoolError> {
        self.check_room(sealed.record.len(), room)?;
        let position = self.append_record(&sealed.record)?;
        self.index
            .push(Entry::of_batch(position, &sealed.batch, sealed.hash));
        Ok(Durable {
            incarnation: sealed.batch.incarnation,
            sequence: sealed.batch.sequence,
            hash: sealed.hash,
        })
    }

    /// Appends a tombstone. `hash` is that of the lost batch where it is known.
    pub(crate) fn append_tombstone(
        &mut self,
        tombstone: &Tombstone,
        hash: BatchHash,
    ) -> Result<(), SpoolError> {
        let mut record = Vec::new();
        encode_tombstone_record(tombstone, &mut record)?;
        self.check_room(record.len(), Room::Reserve)?;
        let position = self.append_record(&record)?;
        self.index
            .push(Entry::of_tombstone(position, tombstone, hash));
        Ok(())
    }

    /// The end of an incarnation, as the spool knows it.
    pub(crate) fn tail(&self, incarnation: Incarnation) -> Option<Tail> {
        self.index.run(incarnation).map(|run| run.tail)
    }

    /// The end of the newest incarnation.
    pub(crate) fn newest(&self) -> Option<Tail> {
        self.index.newest().map(|run| run.tail)
    }

    /// Proof for the last batch of an incarnation, found in the spool when it was opened.
    pub(crate) fn durable_tail(&self, incarnation: Incarnation) -> Option<Durable> {
        let tail = self.tail(incarnation)?;
        Some(Durable {
            incarnation,
            sequence: BatchSeq::new(tail.last)?,
            hash: tail.last_hash,
        })
    }

    /// What is held, oldest first.
    pub(crate) fn held(&self) -> Vec<Held> {
        self.index.held()
    }

    /// The hash of a batch that is held, or of the one before the first, where the spool
    /// knows it. Its own record is not needed: the batch after it names it.
    pub(crate) fn hash_of(
        &self,
        incarnation: Incarnation,
        sequence: u64,
    ) -> Result<Option<BatchHash>, SpoolError> {
        let Some(run) = self.index.run(incarnation) else {
            return Ok(None);
        };
        if sequence == run.tail.last {
            return Ok(Some(run.tail.last_hash).filter(|hash| *hash != BatchHash::ZERO));
        }
        let Some(after) = sequence.checked_add(1) else {
            return Ok(None);
        };
        if after < run.first || after > run.tail.last {
            return Ok(None);
        }
        let mut cursor = self.cursor_at(incarnation, after);
        while let Some(found) = cursor.next_entry(&self.log)? {
            if found.incarnation != incarnation || found.sequence > after {
                break;
            }
            if found.sequence == after {
                return Ok(found.parent_hash.filter(|hash| *hash != BatchHash::ZERO));
            }
        }
        Ok(None)
    }

    /// A cursor at the oldest item that is held.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor::at(self.log.start())
    }

    /// A cursor at or before a batch.
    fn cursor_at(&self, incarnation: Incarnation, sequence: u64) -> Cursor {
        match self.index.mark(incarnation, sequence) {
            Some(mark) => Cursor::after(mark.position, incarnation, mark.sequence),
            None => self.cursor(),
        }
    }

    /// A cursor from which everything that `wanted` wants will come: `wanted` gives the last
    /// batch of an incarnation that is not wanted.
    pub(crate) fn cursor_past(&self, skip: impl Fn(Incarnation) -> u64) -> Cursor {
        let first = self
            .index
            .runs()
            .find(|run| skip(run.incarnation) < run.tail.last);
        match first {
            Some(run) => {
                let wanted = skip(run.incarnation).saturating_add(1).max(run.first);
                self.cursor_at(run.incarnation, wanted)
            }
            None => Cursor::at(self.log.committed_end()),
        }
    }

    /// The next batch or tombstone at a cursor; `None` at the end.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Result<Option<Shipment>, SpoolError> {
        cursor.next_shipment(&self.log)
    }

    /// Lets go what a collector will never ask for again.
    pub(crate) fn release(&mut self, acknowledged: Acknowledged) -> Result<(), SpoolError> {
        let changed = self
            .index
            .release(acknowledged.incarnation(), acknowledged.releasable());
        if !changed {
            return Ok(());
        }
        let before = self.index.needed_from().unwrap_or(self.log.committed_end());
        if before.segment() <= self.log.start().segment() {
            return Ok(());
        }
        if self.log.trim(before)? > 0 {
            let start = self.log.start();
            let mut cursor = Cursor::at(start);
            let first = cursor.next_entry(&self.log)?;
            self.index.trimmed(start, first);
        }
        Ok(())
    }

    /// Batches and tombstones that are not released.
    pub(crate) fn backlog(&self) -> Backlog {
        self.index.backlog()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}
