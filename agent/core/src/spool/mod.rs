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
//! When a record is synced is up to the [`SyncPolicy`]. Every record is with the operating system
//! before anything else happens, so that a killed process loses none. A lazy spool drops what is
//! released before it was synced, and leaves an anchor (see `anchor`) in its place. The first
//! and the last batch of an incarnation, tombstones, and everything that a start writes are always
//! synced: what survives a power cut knows the incarnation, and its cells are not read again.
//!
//! A part of the space is kept in reserve: a seal at a window's end may not use it, the final
//! seal of an incarnation, openings and tombstones may. So an agent whose spool is full can
//! still stop and start in order.

mod anchor;
mod chain;
mod config;
mod index;
pub mod inspect;
mod lazy;
mod reader;
#[cfg(test)]
mod tests;

use tollgate_common::log::{
    AppendError, LogPosition, OpenError, OpenReport, ReadError, SegmentLog, SyncError, TrimError,
};
use tollgate_common::storage::Storage;
use tollgate_common::wire::{EncodeError, Held, encode_tombstone_record};
use tollgate_common::{BatchHash, BatchSeq, Incarnation, Timestamp, Tombstone};

use crate::seal::Sealed;
use crate::ship::Acknowledged;
pub use config::{SpoolConfig, SyncPolicy};
pub(crate) use index::Tail;
use index::{Entry, Index};
use lazy::{Generation, Waiting};
pub(crate) use reader::{CACHE_BYTES, Cursor, Shipment};

/// Smallest spool: room for a few segments and records.
pub const SPOOL_BYTES_MIN: u64 = 64 << 10;
/// Largest reserve; a full seal and many openings fit.
const RESERVE_BYTES_MAX: u64 = 16 << 20;
/// What a log adds to a record (header, commit mark, a segment header), generously.
const RECORD_OVERHEAD: u64 = 256;
/// Most tombstones that are written for batches that the spool lost at its end.
pub(crate) const MISSING_MAX: u64 = 4096;

/// Proof that a batch is in the spool as the sync policy promises: a killed process never loses
/// it. A host that loses its power may lose one that is not synced; then it also loses its
/// cells, the incarnation does not go on, and its child declares the rest lost.
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
    #[error("spool is full ({bytes} of {bytes_max} bytes used, {free} bytes free on the disk)")]
    Full {
        /// Bytes in use.
        bytes: u64,
        /// Bytes allowed.
        bytes_max: u64,
        /// Bytes free on the file system.
        free: u64,
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
    /// About when the oldest batch was sealed.
    pub(crate) oldest: Option<Timestamp>,
}

/// The spool.
pub(crate) struct Spool<S: Storage> {
    log: SegmentLog<S>,
    index: Index,
    config: SpoolConfig,
    /// What waits for a sync.
    waiting: Waiting,
    /// Positions behind the last sync have another meaning since.
    generation: Generation,
}

impl<S: Storage> Spool<S> {
    /// Opens the log, cuts its torn tail, and reads through it to know what it holds.
    pub(crate) fn open(
        storage: S,
        config: impl Into<SpoolConfig>,
    ) -> Result<(Self, OpenReport), SpoolError> {
        let config = config.into();
        if config.bytes_max < SPOOL_BYTES_MIN {
            return Err(SpoolError::TooSmall(config.bytes_max));
        }
        let (log, report) = SegmentLog::open(storage, config.log())?;
        let mut spool = Self {
            index: Index::default(),
            config,
            waiting: Waiting::default(),
            generation: Generation::default(),
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
        let (reserve, free_min) = match room {
            Room::Ordinary => (
                (self.config.bytes_max / 8).min(RESERVE_BYTES_MAX),
                self.config.free_min,
            ),
            Room::Reserve => (0, 0),
        };
        let length = (length as u64).saturating_add(RECORD_OVERHEAD);
        let after = self.log.bytes().saturating_add(length);
        let short = free_min > 0 && self.free() < free_min.saturating_add(length);
        if after > self.config.bytes_max - reserve || short {
            return Err(self.full());
        }
        Ok(())
    }

    fn full(&self) -> SpoolError {
        SpoolError::Full {
            bytes: self.log.bytes(),
            bytes_max: self.config.bytes_max,
            free: self.free(),
        }
    }

    /// Bytes left for what may not use the reserve, and how many there are in all.
    pub(crate) fn room(&self) -> (u64, u64) {
        let reserve = (self.config.bytes_max / 8).min(RESERVE_BYTES_MAX);
        let room = self.config.bytes_max - reserve;
        (room.saturating_sub(self.log.bytes()), room)
    }

    /// Bytes free on the file system; without an answer the writes themselves will tell.
    pub(crate) fn free(&self) -> u64 {
        self.log.storage().free().unwrap_or(u64::MAX)
    }

    fn append_record(&mut self, record: &[u8], sync: bool) -> Result<LogPosition, SpoolError> {
        let position = match self.log.append(record) {
            Ok(position) => position,
            Err(AppendError::Full { .. } | AppendError::NoSpace(_)) => return Err(self.full()),
            Err(error) => return Err(SpoolError::Append(error)),
        };
        let done = if sync {
            self.log.sync()
        } else {
            self.log.hand_over()
        };
        match done {
            Ok(_) => {
                if sync {
                    self.waiting.synced();
                }
                Ok(position)
            }
            // It was taken back whole; nothing has changed.
            Err(SyncError::NoSpace(_)) => Err(self.full()),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends a batch completely, and syncs it unless the policy lets it wait.
    pub(crate) fn append(&mut self, sealed: &Sealed, room: Room) -> Result<Durable, SpoolError> {
        self.check_room(sealed.record.len(), room)?;
        let batch = &sealed.batch;
        let wait =
            room == Room::Ordinary && batch.opening.is_none() && !batch.is_final && self.may_wait();
        let position = self.append_record(&sealed.record, !wait)?;
        if wait {
            self.waiting.add(&batch.agent, batch.span.to);
        }
        self.index
            .push(Entry::of_batch(position, batch, sealed.hash));
        Ok(Durable {
            incarnation: batch.incarnation,
            sequence: batch.sequence,
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
        let position = self.append_record(&record, true)?;
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
        Cursor::at(self.log.start()).of(self.generation, self.seed())
    }

    /// The name of the newest incarnation is random.
    fn seed(&self) -> u64 {
        let newest = self.newest();
        newest.map_or(0, |tail| {
            let (seed, _) = tail
                .incarnation
                .as_bytes()
                .split_first_chunk()
                .expect("16 bytes");
            u64::from_le_bytes(*seed)
        })
    }

    /// A cursor at or before a batch.
    fn cursor_at(&self, incarnation: Incarnation, sequence: u64) -> Cursor {
        match self.index.mark(incarnation, sequence) {
            Some(mark) => Cursor::after(mark.position, incarnation, mark.sequence)
                .of(self.generation, self.seed()),
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
            None => Cursor::at(self.log.readable_end()).of(self.generation, self.seed()),
        }
    }

    /// The next batch or tombstone at a cursor; `None` at the end.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Result<Option<Shipment>, SpoolError> {
        if let Some(moved) = self.generation.moved(cursor) {
            *cursor = Cursor::at(moved).of(self.generation, self.seed());
        }
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
        self.recycle()?;
        self.trim()
    }

    /// Removes the segments that nobody needs any more.
    fn trim(&mut self) -> Result<(), SpoolError> {
        let before = self.index.needed_from().unwrap_or(self.log.readable_end());
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
        self.config.bytes_max
    }

    /// Bytes that are not synced yet.
    pub(crate) fn unsynced(&self) -> u64 {
        self.log.unsynced_bytes()
    }
}
