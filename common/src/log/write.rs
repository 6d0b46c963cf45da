//! Appending and syncing.

use std::io;

use super::entry::{
    ENTRY_HEADER_BYTES, EntryHeader, EntryKind, SEGMENT_HEADER_BYTES, SegmentHeader, crc32c,
    group_check, size,
};
use super::recover::Found;
use super::segment::{self, Segment};
use super::{AppendError, LogPosition, RollError, SegmentLog, SyncError};
use crate::limits::RECORD_BYTES_MAX;
use crate::storage::{Storage, StorageFile};

/// Staged bytes are handed to the file when they are this many, or at the sync.
const BUFFER_BYTES: usize = 1 << 20;

/// What a group takes besides its records: its mark and its witness.
const GROUP_BYTES: u64 = 2 * ENTRY_HEADER_BYTES as u64;

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) number: u64,
    pub(super) file: F,
    /// Bytes handed to the file.
    pub(super) written: u32,
    /// Bytes behind them.
    buffer: Vec<u8>,
    /// Start of the present group.
    group_start: u32,
    /// Its records so far.
    group_count: u32,
    /// Its check so far.
    group_check: u32,
}

impl<F: StorageFile> Active<F> {
    /// A segment as it was found.
    pub(super) fn new(number: u64, file: F, found: &Found) -> Self {
        Self::ending(number, file, found.committed, found.end)
    }

    /// A segment whose last group ends at `committed`, and its witness, if there is one, at `end`.
    fn ending(number: u64, file: F, committed: u32, end: u32) -> Self {
        Self {
            number,
            file,
            written: end,
            buffer: Vec::new(),
            group_start: committed,
            group_count: 0,
            group_check: 0,
        }
    }

    /// Where the next entry starts.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.written) + self.buffer.len() as u64
    }

    /// The same as an offset.
    fn offset(&self) -> u32 {
        u32::try_from(self.end()).expect("append keeps segments below 4 GiB")
    }

    fn stage_record(&mut self, number: u64, record: &[u8]) -> u32 {
        let offset = self.offset();
        let kind = EntryKind::Record {
            length: u32::try_from(record.len()).expect("bounded by the caller"),
            check: crc32c(record),
        };
        let (bytes, header) =
            EntryHeader::encode(kind, self.group_start, number, self.number, offset);
        self.buffer.extend_from_slice(&bytes);
        self.buffer.extend_from_slice(record);
        self.group_count += 1;
        self.group_check = group_check(self.group_check, header.crc);
        offset
    }

    fn stage_mark(&mut self, number_next: u64) {
        let kind = EntryKind::Mark {
            count: self.group_count,
            check: self.group_check,
        };
        let offset = self.offset();
        let (bytes, _) =
            EntryHeader::encode(kind, self.group_start, number_next, self.number, offset);
        self.buffer.extend_from_slice(&bytes);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(u64::from(self.written), &self.buffer)?;
        self.written = self.offset();
        self.buffer.clear();
        // One large record must not cost its size for ever.
        self.buffer.shrink_to(2 * BUFFER_BYTES);
        Ok(())
    }

    /// Starts a group, after everything was synced, with the witness of that.
    pub(super) fn write_witness(&mut self, number_next: u64) -> io::Result<()> {
        self.group_start = self.offset();
        self.group_count = 0;
        self.group_check = 0;
        self.stage_mark(number_next);
        let result = self.flush();
        self.buffer.clear();
        result
    }
}

/// Why nothing can be written.
enum Closed {
    ReadOnly,
    Poisoned,
}

impl<S: Storage> SegmentLog<S> {
    /// Stages a record (1 to [`RECORD_BYTES_MAX`] bytes). It is durable, and can be read, after
    /// the next [`sync`](Self::sync); the position is its place then.
    ///
    /// All records between two syncs form a group, which a crash leaves whole or not at all.
    pub fn append(&mut self, record: &[u8]) -> Result<LogPosition, AppendError> {
        let config = match (self.config, self.check_writable()) {
            (Some(config), Ok(())) => config,
            (None, _) | (_, Err(Closed::ReadOnly)) => return Err(AppendError::ReadOnly),
            (_, Err(Closed::Poisoned)) => return Err(AppendError::Poisoned),
        };
        if record.is_empty() || record.len() > RECORD_BYTES_MAX {
            let length = record.len();
            return Err(AppendError::Length { length });
        }
        let need = u64::from(ENTRY_HEADER_BYTES) + record.len() as u64 + GROUP_BYTES;
        let (roll, fits) = match &self.active {
            None => (true, true),
            Some(active) => {
                let end = active.end().saturating_add(need);
                let begun = active.group_count > 0;
                let used = active.end() > u64::from(SEGMENT_HEADER_BYTES);
                (
                    !begun && used && end > config.segment_bytes,
                    // Only a group of gigabytes does not.
                    !begun || u32::try_from(end).is_ok(),
                )
            }
        };
        let header = if roll { SEGMENT_HEADER_BYTES } else { 0 };
        let bytes = self.bytes();
        if !fits || bytes + need + u64::from(header) > config.bytes_max {
            return Err(AppendError::Full {
                bytes,
                bytes_max: config.bytes_max,
            });
        }
        if roll {
            self.start_segment()
                .map_err(|error| AppendError::Io(self.poison(error)))?;
        }
        let number = self.number_next;
        let active = self
            .active
            .as_mut()
            .expect("a segment was started if none was active");
        let offset = active.stage_record(number, record);
        let position = LogPosition::new(active.number, offset);
        self.number_next = number.saturating_add(1);
        if active.buffer.len() >= BUFFER_BYTES
            && let Err(error) = active.flush()
        {
            return Err(AppendError::Io(self.poison(error)));
        }
        Ok(position)
    }

    /// Makes everything that was appended durable, with one sync of one file. Returns the end
    /// of what is durable. Without anything to do, it does nothing.
    pub fn sync(&mut self) -> Result<LogPosition, SyncError> {
        match self.check_writable() {
            Ok(()) => {}
            Err(Closed::ReadOnly) => return Err(SyncError::ReadOnly),
            Err(Closed::Poisoned) => return Err(SyncError::Poisoned),
        }
        let number_next = self.number_next;
        let Some(active) = self.active.as_mut().filter(|active| active.group_count > 0) else {
            return Ok(self.committed);
        };
        active.stage_mark(number_next);
        if let Err(error) = active.flush().and_then(|()| active.file.sync()) {
            return Err(SyncError::Io(self.poison(error)));
        }
        self.committed = LogPosition::new(active.number, active.written);
        if let Some(newest) = self.segments.back_mut() {
            newest.holds_records = true;
            newest.number_next = Some(number_next);
        }
        // The group is durable whether its witness can be written or not.
        if active.write_witness(number_next).is_err() {
            self.poisoned = true;
        }
        Ok(self.committed)
    }

    /// Syncs, and starts a new segment unless the newest is empty. Returns the end of what is
    /// durable.
    pub fn roll(&mut self) -> Result<LogPosition, RollError> {
        self.sync()?;
        if self.poisoned {
            return Err(RollError::Poisoned);
        }
        let empty = u64::from(SEGMENT_HEADER_BYTES);
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.end() > empty)
        {
            self.start_segment()
                .map_err(|error| RollError::Io(self.poison(error)))?;
        }
        Ok(self.committed)
    }

    fn check_writable(&self) -> Result<(), Closed> {
        match self.config {
            None => Err(Closed::ReadOnly),
            Some(_) if self.poisoned => Err(Closed::Poisoned),
            Some(_) => Ok(()),
        }
    }

    fn poison(&mut self, error: io::Error) -> io::Error {
        self.poisoned = true;
        error
    }

    /// Closes the newest segment, all of which is synced, and starts the next.
    fn start_segment(&mut self) -> io::Result<()> {
        let prior = self.segments.back().map(|newest| {
            let end = self.active.as_ref().map_or(newest.end, Active::offset);
            (newest.number, end)
        });
        let (last, prior_end) = prior.unwrap_or((0, 0));
        let number = last
            .checked_add(1)
            .filter(|number| *number < u64::MAX)
            .ok_or_else(|| io::Error::other("segment numbers are used up"))?;
        let header = SegmentHeader {
            segment: number,
            prior_end,
            number_first: self.number_next,
        };
        if let Some(active) = &self.active {
            // The last witness: the header that is about to be written vouches for it.
            active.file.sync()?;
        }
        let file = self.storage.create(&segment::name(number))?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.storage.sync_dir()?;
        if let (Some(newest), Some(active)) = (self.segments.back_mut(), &self.active) {
            newest.end = active.offset();
            self.closed_bytes += active.end();
        }
        self.segments.push_back(Segment {
            number,
            end: SEGMENT_HEADER_BYTES,
            holds_records: false,
            number_next: Some(self.number_next),
        });
        let start = SEGMENT_HEADER_BYTES;
        self.active = Some(Active::ending(number, file, start, start));
        self.committed = LogPosition::new(number, SEGMENT_HEADER_BYTES);
        Ok(())
    }
}

#[cfg(test)]
impl<S: Storage> SegmentLog<S> {
    /// Memory held for staging.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.active
            .as_ref()
            .map_or(0, |active| active.buffer.capacity())
    }
}

const _: () = assert!(size(u32::MAX) > RECORD_BYTES_MAX);
