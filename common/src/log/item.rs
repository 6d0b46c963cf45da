//! What reading and opening find.

use serde::Serialize;

use super::LogPosition;

/// What is at a place of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A record, exactly as it was appended.
    Record {
        /// Where it is.
        position: LogPosition,
        /// Where to read on.
        next: LogPosition,
        /// What was appended.
        bytes: Vec<u8>,
    },
    /// A place where one or more records were, and cannot be read any more.
    Damaged {
        /// Where the damage starts.
        position: LogPosition,
        /// Where to read on.
        next: LogPosition,
        /// What is wrong.
        reason: DamageReason,
    },
}

impl LogItem {
    /// Where it is.
    pub fn position(&self) -> LogPosition {
        match self {
            Self::Record { position, .. } | Self::Damaged { position, .. } => *position,
        }
    }

    /// Where to read on after it.
    pub fn next(&self) -> LogPosition {
        match self {
            Self::Record { next, .. } | Self::Damaged { next, .. } => *next,
        }
    }
}

/// What is wrong with a damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DamageReason {
    /// One record: its header is intact, its payload does not match its checksum.
    #[error("the record does not match its checksum")]
    Payload,
    /// No entry starts here; any number of records may be lost.
    #[error("no valid entry starts here")]
    Unreadable,
    /// The segment ends before the end that the next segment names.
    #[error("the segment is shorter than it was")]
    Truncated,
    /// Whole segments are gone.
    #[error("the segment is missing")]
    Missing,
    /// A segment header is damaged. No record is lost; reading does not report it.
    #[error("the segment header is damaged, no record is lost")]
    SegmentHeader,
    /// A commit mark is damaged. No record is lost; reading does not report it.
    #[error("a commit mark is damaged, no record is lost")]
    Mark,
}

impl DamageReason {
    /// True if records may be lost.
    pub fn loses_records(self) -> bool {
        match self {
            Self::Payload | Self::Unreadable | Self::Truncated | Self::Missing => true,
            Self::SegmentHeader | Self::Mark => false,
        }
    }
}

/// A damaged place that opening found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where it starts.
    pub position: LogPosition,
    /// Where the log goes on.
    pub next: LogPosition,
    /// What is wrong.
    pub reason: DamageReason,
    /// How many records it cost, where the numbers around it tell.
    pub records: Option<u64>,
}

/// How much opening reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Every byte of every segment.
    All,
    /// Every byte of the newest segment, and the headers of the others. Damage in those is found
    /// when they are read.
    Newest,
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OpenReport {
    /// Segments.
    pub segments: u64,
    /// Valid records in the segments that were read.
    pub records: u64,
    /// Bytes past the last commit: cut, or passed over by a reader.
    pub cut_bytes: u64,
    /// Valid records among them: appended, never reported durable.
    pub cut_records: u64,
    /// Segment files that were removed because their creation had been interrupted.
    pub removed_segments: u64,
    /// Damaged places in order, the first [`OpenReport::DAMAGE_MAX`] of them.
    pub damage: Vec<Damage>,
    /// Damaged places in all.
    pub damage_count: u64,
}

impl OpenReport {
    /// Most damaged places that are listed.
    pub const DAMAGE_MAX: usize = 1024;

    pub(super) fn add_damage(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damage.len() < Self::DAMAGE_MAX {
            self.damage.push(damage);
        }
    }

    /// True if records that were durable once may be lost.
    pub fn loses_records(&self) -> bool {
        self.damage_count > self.damage.len() as u64
            || self.damage.iter().any(|place| place.reason.loses_records())
    }
}
