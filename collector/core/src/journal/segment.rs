//! The embedded journal: one partition in a segment log.

use tollgate_common::log::{
    AppendError, Check, LogConfig, LogItem, LogPosition, OpenError, OpenReport, SegmentLog,
    SyncError,
};
use tollgate_common::storage::Storage;

use super::{Epoch, Journal, JournalError, JournalItem, PartitionId};
use crate::position::Position;

/// The only partition.
pub const PARTITION: PartitionId = PartitionId(0);

/// Bytes asked for at a time while looking for the last entry.
const SCAN_BYTES: usize = 4 << 20;

/// A journal in one segment log.
pub struct SegmentJournal<S: Storage> {
    log: SegmentLog<S>,
    epoch: Epoch,
    staged: Vec<Position>,
    last: Option<Position>,
}

impl<S: Storage> SegmentJournal<S> {
    /// Opens or creates the journal for writing, cutting what was never committed. The report
    /// names damaged places; they stop the fold only where it reads them.
    pub fn open(storage: S, config: LogConfig) -> Result<(Self, OpenReport), OpenError> {
        let (log, report) = SegmentLog::open_with(storage, config, Check::Newest)?;
        Ok((Self::over(log), report))
    }

    /// Opens an existing journal for reading, beside a collector that may be running.
    pub fn open_read_only(storage: S) -> Result<(Self, OpenReport), OpenError> {
        let (log, report) = SegmentLog::open_read_only_with(storage, Check::Newest)?;
        Ok((Self::over(log), report))
    }

    /// The same after a look at every byte: the report names also damage that costs no entry.
    pub fn open_read_only_whole(storage: S) -> Result<(Self, OpenReport), OpenError> {
        let (log, report) = SegmentLog::open_read_only_with(storage, Check::All)?;
        Ok((Self::over(log), report))
    }

    fn over(log: SegmentLog<S>) -> Self {
        Self {
            log,
            epoch: Epoch(0),
            staged: Vec::new(),
            last: None,
        }
    }

    /// The log below, for figures and for inspection.
    pub fn log(&self) -> &SegmentLog<S> {
        &self.log
    }

    /// Begins a new segment, so that those before can be archived.
    pub fn roll(&mut self) -> Result<(), JournalError> {
        self.log
            .roll()
            .map(|_| ())
            .map_err(|error| self.failed(&error.to_string()))
    }

    fn failed(&self, error: &str) -> JournalError {
        if self.log.is_poisoned() {
            JournalError::Poisoned(error.to_owned())
        } else {
            JournalError::Io(error.to_owned())
        }
    }

    /// Items from `from` on, without the item that stands at `after`.
    fn items(&self, from: LogPosition, max_bytes: usize) -> Result<Vec<LogItem>, JournalError> {
        self.log
            .read(from, max_bytes)
            .map_err(|error| JournalError::Io(error.to_string()))
    }
}

/// Big-endian and padded behind, so that positions order as the log's do.
pub fn position_of(position: LogPosition) -> Position {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&position.to_bytes());
    Position::from_bytes(bytes)
}

/// The inverse of [`position_of`].
pub fn log_position_of(position: Position) -> LogPosition {
    let mut bytes = [0; 12];
    bytes.copy_from_slice(&position.as_bytes()[..12]);
    LogPosition::from_bytes(bytes)
}

impl<S: Storage> Journal for SegmentJournal<S> {
    fn acquire(&mut self, partition: PartitionId) -> Result<Epoch, JournalError> {
        // One process owns the directory for writing; nobody else has to be fenced.
        check(partition)?;
        self.epoch.0 += 1;
        Ok(self.epoch)
    }

    fn append(&mut self, partition: PartitionId, entry: &[u8]) -> Result<(), JournalError> {
        check(partition)?;
        match self.log.append(entry) {
            Ok(position) => {
                self.staged.push(position_of(position));
                Ok(())
            }
            Err(error @ AppendError::Full { .. }) => Err(JournalError::Full(error.to_string())),
            // The entries that were staged are gone with it: only a fresh start knows what is there.
            Err(error @ AppendError::NoSpace(_)) => Err(JournalError::Poisoned(error.to_string())),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn commit(&mut self, partition: PartitionId) -> Result<Vec<Position>, JournalError> {
        check(partition)?;
        if self.staged.is_empty() {
            return Ok(Vec::new());
        }
        self.log.sync().map_err(|error| match error {
            SyncError::NoSpace(_) => JournalError::Poisoned(error.to_string()),
            error => self.failed(&error.to_string()),
        })?;
        let staged = std::mem::take(&mut self.staged);
        self.last = staged.last().copied();
        Ok(staged)
    }

    fn read(
        &self,
        partition: PartitionId,
        after: Option<Position>,
        max_bytes: usize,
    ) -> Result<Vec<JournalItem>, JournalError> {
        check(partition)?;
        let after = after.map(log_position_of);
        let start = self.log.start();
        if let Some(gone) = after.filter(|after| after.segment() < start.segment()) {
            return Err(JournalError::Io(format!(
                "what follows {} was asked for, and the journal begins with segment {}; put the archived segments back",
                position_of(gone),
                start.segment()
            )));
        }
        let from = after.unwrap_or(start);
        let mut items = self.items(from, max_bytes)?;
        // The log reads from a position on; the item at `after` itself is known. If it fills
        // the answer, what follows has to be asked for.
        let first = items.first().filter(|item| Some(item.position()) == after);
        if let Some(next) = first.map(LogItem::next) {
            items.remove(0);
            if items.is_empty() {
                items = self.items(next, max_bytes)?;
            }
        }
        Ok(items.into_iter().map(item).collect())
    }

    fn last(&self, partition: PartitionId) -> Result<Option<Position>, JournalError> {
        check(partition)?;
        if self.last.is_some() {
            return Ok(self.last);
        }
        // Only after opening. The newest segment is read, and older ones while they are empty.
        let oldest = self.log.start().segment();
        let newest = self.log.committed_end().segment();
        for segment in (oldest..=newest).rev() {
            let mut from = start_of(segment);
            let mut last = None;
            loop {
                let items = self.items(from, SCAN_BYTES)?;
                let Some(item) = items.last() else { break };
                last = Some(position_of(item.position()));
                from = item.next();
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }
}

/// Before the first entry of a segment.
fn start_of(segment: u64) -> LogPosition {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&segment.to_be_bytes());
    LogPosition::from_bytes(bytes)
}

fn item(item: LogItem) -> JournalItem {
    match item {
        LogItem::Record {
            position, bytes, ..
        } => JournalItem::Entry {
            position: position_of(position),
            bytes,
        },
        LogItem::Damaged {
            position, reason, ..
        } => JournalItem::Damaged {
            position: position_of(position),
            reason: reason.to_string(),
        },
    }
}

fn check(partition: PartitionId) -> Result<(), JournalError> {
    if partition == PARTITION {
        Ok(())
    } else {
        Err(JournalError::Io(format!(
            "the embedded journal has no partition {}",
            partition.0
        )))
    }
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
