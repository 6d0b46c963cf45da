//! What can go wrong, per operation.

use std::io;

use super::{LogPosition, SEGMENT_BYTES_MAX};
use crate::limits::{RECORD_BYTES_MAX, SEGMENT_BYTES_MIN};

/// The configuration of a log is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a segment of {segment_bytes} bytes is out of range: {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
)]
pub struct ConfigError {
    /// What was asked for.
    pub segment_bytes: u64,
}

/// A log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A segment was written by another version of this program.
    #[error(
        "{name} has format version {version}; this program knows version 1: open it with the program that wrote it"
    )]
    Version {
        /// The file.
        name: String,
        /// Its version.
        version: u16,
    },
    /// The storage failed.
    #[error("cannot {operation} {name}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file, or `the directory`.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// A reader cannot catch up with the log. What it knew before, it still knows.
pub type RefreshError = OpenError;

/// A record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log would grow beyond its bound. Nothing changed: trim, or wait.
    #[error("no room in the log for another record: {bytes} of at most {bytes_max} bytes are used")]
    Full {
        /// Bytes of the log now.
        bytes: u64,
        /// Its bound.
        bytes_max: u64,
    },
    /// The medium has no room. Everything appended since the last
    /// [`hand_over`](super::SegmentLog::hand_over) or [`sync`](super::SegmentLog::sync) is taken
    /// back; the log goes on from there.
    #[error("no room on the medium for another record")]
    NoSpace(#[source] io::Error),
    /// Nothing changed.
    #[error("a record of {length} bytes cannot be stored: 1 to {RECORD_BYTES_MAX} bytes fit")]
    Length {
        /// Bytes of the record.
        length: usize,
    },
    /// The log was opened for reading. Nothing changed.
    #[error("the log was opened for reading only")]
    ReadOnly,
    /// An earlier write or sync failed. Nothing changed: open the log again.
    #[error("an earlier write to the log failed; it must be opened again")]
    Poisoned,
    /// Writing failed, and the log is poisoned.
    #[error("cannot write to the log; it must be opened again")]
    Io(#[source] io::Error),
}

/// What was appended is not known to be durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The log was opened for reading.
    #[error("the log was opened for reading only")]
    ReadOnly,
    /// An earlier write or sync failed: open the log again.
    #[error("an earlier write to the log failed; it must be opened again")]
    Poisoned,
    /// The medium has no room. Everything appended since the last
    /// [`hand_over`](super::SegmentLog::hand_over) or [`sync`](super::SegmentLog::sync) is taken
    /// back; the log goes on from there.
    #[error("no room on the medium")]
    NoSpace(#[source] io::Error),
    /// Writing or syncing failed, and the log is poisoned.
    #[error("cannot make the log durable; it must be opened again")]
    Io(#[source] io::Error),
}

/// No new segment was started.
pub type RollError = SyncError;

/// Segments were not removed, or not all.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The log was opened for reading.
    #[error("the log was opened for reading only")]
    ReadOnly,
    /// An earlier write or sync failed: open the log again.
    #[error("an earlier write to the log failed; it must be opened again")]
    Poisoned,
    /// Removing failed, and the log is poisoned.
    #[error("cannot remove segment {segment} of the log; it must be opened again")]
    Io {
        /// Number of the segment.
        segment: u64,
        /// Why it failed.
        source: io::Error,
    },
}

/// Nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The position lies past the end: it belongs to another log, or this one has lost its end.
    #[error("position {from} is past the end of the log at {end}")]
    Ahead {
        /// Where reading should have started.
        from: LogPosition,
        /// The end of what is durable.
        end: LogPosition,
    },
    /// The storage failed.
    #[error("cannot read segment {segment} of the log")]
    Io {
        /// Number of the segment.
        segment: u64,
        /// Why it failed.
        source: io::Error,
    },
}
