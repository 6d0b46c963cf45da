//! How a spool is bounded, and what it promises.

use serde::Serialize;
use tollgate_common::log::LogConfig;

/// When what is appended is synced. A killed process loses nothing under any of them; they
/// differ in what a host loses that is reset or loses its power. `docs/spool.md` has the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum SyncPolicy {
    /// Every batch before it is shipped.
    Always,
    /// Everything that is older than this.
    Interval {
        /// In milliseconds, at least 1.
        millis: u64,
    },
    /// At once while no collector is connected; while one is, what is older than this.
    OnDisconnect {
        /// In milliseconds, at least 1.
        millis: u64,
    },
}

impl SyncPolicy {
    /// How long something may wait for a sync, in milliseconds; `None` for not at all.
    pub(super) fn patience(self, connected: bool) -> Option<u64> {
        match self {
            Self::Always => None,
            Self::Interval { millis } => Some(millis),
            Self::OnDisconnect { millis } => connected.then_some(millis),
        }
    }
}

/// Bounds of a spool and its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Size of one segment file, in bytes.
    pub segment_bytes: u64,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// A seal at a window's end leaves so many bytes of the file system free; 0 for no bound.
    pub free_min: u64,
    /// When it is synced.
    pub sync: SyncPolicy,
}

impl From<LogConfig> for SpoolConfig {
    /// A spool that syncs always and uses all of its file system.
    fn from(log: LogConfig) -> Self {
        Self {
            segment_bytes: log.segment_bytes,
            bytes_max: log.bytes_max,
            free_min: 0,
            sync: SyncPolicy::Always,
        }
    }
}

impl SpoolConfig {
    /// The configuration of the log below: segments small enough that a spool whose batches are
    /// all released can always be trimmed to make room.
    pub(super) fn log(self) -> LogConfig {
        let quarter = (self.bytes_max / 4).max(tollgate_common::limits::SEGMENT_BYTES_MIN);
        LogConfig {
            segment_bytes: self.segment_bytes.min(quarter),
            bytes_max: self.bytes_max,
        }
    }
}
