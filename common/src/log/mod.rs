//! The segment log: a directory of append-only files with group sync.
//!
//! The agent's spool and the collector's journal are both this log. The bytes, and what every
//! crash and every damage does to them, are described in `docs/formats/segment-log.md`; in short:
//!
//! - [`append`](SegmentLog::append) stages records, [`sync`](SegmentLog::sync) makes all of
//!   them durable with one sync. A group is whole or absent after a crash.
//! - [`hand_over`](SegmentLog::hand_over) does so without a sync, for an owner that bears to lose
//!   the end of the log with the machine, and not with the process.
//! - Opening cuts what is not whole at the end, and reports how much.
//! - A damaged record before the last commit costs itself only. It is reported by position, on
//!   open and when it is read; what that means is up to the owner.
//! - A write or sync that fails poisons the log: every later change fails until the log is
//!   opened again, because the state of the pages is unknown. A write that only finds no room is
//!   cut off again, and the log goes on.
//!
//! To fuzz the parser, call `fuzz_segment` (feature `testing`) with arbitrary bytes.

mod entry;
mod error;
#[cfg(any(test, feature = "testing"))]
mod fuzz;
mod item;
mod open;
mod position;
mod read;
mod recover;
mod scan;
mod segment;
#[cfg(test)]
mod tests;
mod trim;
mod write;

pub use error::{
    AppendError, ConfigError, OpenError, ReadError, RefreshError, RollError, SyncError, TrimError,
};
#[cfg(any(test, feature = "testing"))]
pub use fuzz::fuzz_segment;
pub use item::{Check, Damage, DamageReason, LogItem, OpenReport};
pub use position::{LogPosition, ParsePositionError};

use std::collections::VecDeque;

use crate::limits;
use crate::storage::Storage;
use segment::Segment;
use write::Active;

/// Largest size to which a segment may be configured, in bytes. Offsets are 32 bits wide, and
/// a group may run over the configured size.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;

/// Bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment that has reached this size is followed by a new one at the next group.
    /// [`limits::SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// All segments together never grow beyond this: a full log refuses appends.
    pub bytes_max: u64,
}

impl LogConfig {
    fn check(self) -> Result<(), ConfigError> {
        if (limits::SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            Ok(())
        } else {
            Err(ConfigError {
                segment_bytes: self.segment_bytes,
            })
        }
    }
}

/// A segment log in a directory.
///
/// One `SegmentLog` owns the directory for writing. Any number may be
/// [opened read-only](SegmentLog::open_read_only) beside it, in the same or in other processes.
#[derive(Debug)]
pub struct SegmentLog<S: Storage> {
    storage: S,
    /// `None` for a reader.
    config: Option<LogConfig>,
    /// Oldest first. Numbers rise; where one is missing, a segment was lost.
    segments: VecDeque<Segment>,
    /// Bytes of all segments but the active one.
    closed_bytes: u64,
    /// The newest segment, if it can be written to (for a reader: if it is there).
    active: Option<Active<S::File>>,
    /// Number of the next record.
    number_next: u64,
    committed: LogPosition,
    /// What was handed over ends here; never before `committed`.
    readable: LogPosition,
    poisoned: bool,
}

impl<S: Storage> SegmentLog<S> {
    /// The position of the oldest record that is still here, or the end if there is none.
    pub fn start(&self) -> LogPosition {
        self.segments.front().map_or(self.committed, |segment| {
            LogPosition::new(segment.number, entry::SEGMENT_HEADER_BYTES)
        })
    }

    /// The end of what is durable.
    pub fn committed_end(&self) -> LogPosition {
        self.committed
    }

    /// The end of what [`read`](Self::read) returns: durable, or
    /// [handed over](Self::hand_over) behind that.
    pub fn readable_end(&self) -> LogPosition {
        self.readable
    }

    /// Bytes behind the last sync that were handed over.
    pub fn unsynced_bytes(&self) -> u64 {
        self.active.as_ref().map_or(0, Active::unsynced)
    }

    /// Bytes of all segments, staged records included.
    pub fn bytes(&self) -> u64 {
        self.closed_bytes + self.active.as_ref().map_or(0, Active::end)
    }

    /// Segments of the log.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// True after a write or a sync failed: nothing can be written until the log is opened again.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The storage below.
    pub fn storage(&self) -> &S {
        &self.storage
    }
}
