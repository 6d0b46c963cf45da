//! Appending, handing over, syncing.

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

/// A record of so many bytes is not staged but handed to the file at once: copying it first would
/// cost as much as checking it. Few enough in this crate's tests that their sweeps over every
/// storage operation meet both ways.
const DIRECT_BYTES: usize = if cfg!(test) { 512 } else { 64 << 10 };

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
    /// Where the group stands without what no mark covers yet.
    marked: Stand,
    /// Where its first record is, or will be: behind the witness.
    base: Stand,
}

/// A place in a group that can be gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    end: u32,
    count: u32,
    check: u32,
    number_next: u64,
}

impl<F: StorageFile> Active<F> {
    /// A segment as it was found; the next record is to have the number `number_next`.
    pub(super) fn new(number: u64, file: F, found: &Found, number_next: u64) -> Self {
        Self::ending(number, file, (found.committed, found.end), number_next)
    }

    /// A segment whose last group ends at `committed`, and its witness, if there is one, at `end`.
    fn ending(number: u64, file: F, (committed, end): (u32, u32), number_next: u64) -> Self {
        let stand = Stand {
            end,
            count: 0,
            check: 0,
            number_next,
        };
        Self {
            number,
            file,
            written: end,
            buffer: Vec::new(),
            group_start: committed,
            group_count: 0,
            group_check: 0,
            marked: stand,
            base: stand,
        }
    }

    /// Records that no mark covers yet.
    fn has_staged(&self) -> bool {
        self.group_count > self.marked.count
    }

    /// Bytes that the file has and no sync has covered.
    pub(super) fn unsynced(&self) -> u64 {
        u64::from(self.marked.end.saturating_sub(self.base.end))
    }

    /// The records so far are covered by a mark that ends here.
    fn mark_stands(&mut self, number_next: u64) {
        self.marked = Stand {
            end: self.written,
            count: self.group_count,
            check: self.group_check,
            number_next,
        };
    }

    /// Forgets what is staged behind `stand`.
    fn go_back(&mut self, stand: Stand) {
        self.buffer.clear();
        self.written = stand.end;
        self.group_count = stand.count;
        self.group_check = stand.check;
        self.marked = stand;
    }

    /// Cuts what was written behind the last mark, after a medium without room took only a part.
    /// True if the file is proven to end there; then nothing has happened.
    fn take_back(&mut self) -> bool {
        let end = u64::from(self.marked.end);
        let cut = self.file.set_len(end).and_then(|()| self.file.len());
        let proven = cut.is_ok_and(|length| length == end);
        self.go_back(self.marked);
        proven
    }

    /// Where the next entry starts.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.written) + self.buffer.len() as u64
    }

    /// The same as an offset.
    fn offset(&self) -> u32 {
        u32::try_from(self.end()).expect("append keeps segments below 4 GiB")
    }

    /// Stages a record, or hands a long one over; returns its offset.
    fn take_record(&mut self, number: u64, record: &[u8]) -> io::Result<u32> {
        if record.len() < DIRECT_BYTES {
            let offset = self.stage_record(number, record);
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
            return Ok(offset);
        }
        let offset = self.stage_header(number, record);
        self.flush()?;
        self.file.write_at(u64::from(self.written), record)?;
        self.written += u32::try_from(record.len()).expect("bounded by the caller");
        Ok(offset)
    }

    fn stage_record(&mut self, number: u64, record: &[u8]) -> u32 {
        let offset = self.stage_header(number, record);
        self.buffer.extend_from_slice(record);
        offset
    }

    fn stage_header(&mut self, number: u64, record: &[u8]) -> u32 {
        let offset = self.offset();
        let kind = EntryKind::Record {
            length: u32::try_from(record.len()).expect("bounded by the caller"),
            check: crc32c(record),
        };
        let (bytes, header) =
            EntryHeader::encode(kind, self.group_start, number, self.number, offset);
        self.buffer.extend_from_slice(&bytes);
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
        Ok(())
    }

    /// Starts a group, after everything was synced, with the witness of that.
    pub(super) fn write_witness(&mut self, number_next: u64) -> io::Result<()> {
        self.group_start = self.offset();
        self.group_count = 0;
        self.group_check = 0;
        self.mark_stands(number_next);
        self.base = self.marked;
        self.stage_mark(number_next);
        let result = self.flush();
        self.buffer.clear();
        if result.is_ok() {
            self.mark_stands(number_next);
            self.base = self.marked;
        }
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
                let begun = active.has_staged();
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
            self.start_segment().map_err(|failed| match failed {
                StartFailed::Full(error) => AppendError::NoSpace(error),
                StartFailed::Other(error) => AppendError::Io(self.poison(error)),
            })?;
        }
        let number = self.number_next;
        let active = self
            .active
            .as_mut()
            .expect("a segment was started if none was active");
        let segment = active.number;
        match active.take_record(number, record) {
            Ok(offset) => {
                self.number_next = number.saturating_add(1);
                Ok(LogPosition::new(segment, offset))
            }
            Err(error) => Err(match self.write_failed(error) {
                WriteFailed::Full(error) => AppendError::NoSpace(error),
                WriteFailed::Other(error) => AppendError::Io(error),
            }),
        }
    }

    /// Judges a failed write. A medium without room is no damage, if what was written of the
    /// records behind the last mark can be cut off again: then the log stands at that mark.
    fn write_failed(&mut self, error: io::Error) -> WriteFailed {
        if is_full(&error)
            && let Some(active) = self.active.as_mut()
            && active.take_back()
        {
            self.number_next = active.marked.number_next;
            return WriteFailed::Full(error);
        }
        WriteFailed::Other(self.poison(error))
    }

    /// Hands everything that was appended to the operating system, with a mark and without a
    /// sync: the end of this process does not lose it, and it can be read. The end of the
    /// machine may lose it, from some record on. Returns the end of what can be read.
    pub fn hand_over(&mut self) -> Result<LogPosition, SyncError> {
        match self.check_writable() {
            Ok(()) => {}
            Err(Closed::ReadOnly) => return Err(SyncError::ReadOnly),
            Err(Closed::Poisoned) => return Err(SyncError::Poisoned),
        }
        let number_next = self.number_next;
        let Some(active) = self.active.as_mut().filter(|active| active.has_staged()) else {
            return Ok(self.readable);
        };
        active.stage_mark(number_next);
        if let Err(error) = active.flush() {
            return Err(match self.write_failed(error) {
                WriteFailed::Full(error) => SyncError::NoSpace(error),
                WriteFailed::Other(error) => SyncError::Io(error),
            });
        }
        active.mark_stands(number_next);
        self.readable = LogPosition::new(active.number, active.written);
        if let Some(newest) = self.segments.back_mut() {
            newest.number_next = Some(number_next);
        }
        Ok(self.readable)
    }

    /// Puts one record in the place of everything that was handed over and never synced, for an
    /// owner that needs none of it any more: the kernel then has nothing left to write. `None`
    /// if there is nothing like that.
    ///
    /// The record is handed over, not synced. What was synced stays as it is. After the end of
    /// the machine the log ends with the new record, or as it did at some time before.
    pub fn replace_unsynced(&mut self, record: &[u8]) -> Result<Option<LogPosition>, SyncError> {
        self.hand_over()?;
        let Some(active) = self.active.as_mut().filter(|active| active.unsynced() > 0) else {
            return Ok(None);
        };
        let (before, base) = (active.marked.end, active.base);
        // A record that is no shorter would leave the end of another behind the new mark.
        if record.is_empty() || record.len() as u64 + GROUP_BYTES >= u64::from(before - base.end) {
            return Ok(None);
        }
        active.go_back(base);
        let offset = active.stage_record(base.number_next, record);
        let number_next = base.number_next.saturating_add(1);
        active.stage_mark(number_next);
        // First written over, then cut: a process that dies in between leaves the record, its
        // mark, and a tail without one.
        let replaced = active.flush();
        let length = u64::from(active.written);
        if let Err(error) = replaced.and_then(|()| active.file.set_len(length)) {
            return Err(SyncError::Io(self.poison(error)));
        }
        active.mark_stands(number_next);
        self.number_next = number_next;
        self.readable = LogPosition::new(active.number, active.written);
        let position = LogPosition::new(active.number, offset);
        if let Some(newest) = self.segments.back_mut() {
            newest.number_next = Some(number_next);
        }
        Ok(Some(position))
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
        if active.has_staged() {
            active.stage_mark(number_next);
            if let Err(error) = active.flush() {
                return Err(match self.write_failed(error) {
                    WriteFailed::Full(error) => SyncError::NoSpace(error),
                    WriteFailed::Other(error) => SyncError::Io(error),
                });
            }
            active.mark_stands(number_next);
        }
        // A sync that fails for lack of room has lost pages like any other.
        if let Err(error) = active.file.sync() {
            return Err(SyncError::Io(self.poison(error)));
        }
        self.committed = LogPosition::new(active.number, active.written);
        self.readable = self.committed;
        if let Some(newest) = self.segments.back_mut() {
            newest.holds_records = true;
            newest.number_next = Some(number_next);
        }
        // The group is durable whether its witness can be written or not.
        if let Err(error) = active.write_witness(number_next)
            && !(is_full(&error) && active.take_back())
        {
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
            self.start_segment().map_err(|failed| match failed {
                StartFailed::Full(error) => RollError::NoSpace(error),
                StartFailed::Other(error) => RollError::Io(self.poison(error)),
            })?;
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

    /// Closes the newest segment and starts the next. Everything in it is handed over.
    fn start_segment(&mut self) -> Result<(), StartFailed> {
        let prior = self.segments.back().map(|newest| {
            let end = self.active.as_ref().map_or(newest.end, Active::offset);
            (newest.number, end)
        });
        let (last, prior_end) = prior.unwrap_or((0, 0));
        let number = last
            .checked_add(1)
            .filter(|number| *number < u64::MAX)
            .ok_or_else(|| StartFailed::Other(io::Error::other("segment numbers are used up")))?;
        let header = SegmentHeader {
            segment: number,
            prior_end,
            number_first: self.number_next,
        };
        if let Some(active) = &self.active {
            // The last witness, and what was handed over only: the header that is about to be
            // written vouches for both.
            active.file.sync().map_err(StartFailed::Other)?;
            if active.group_count > 0
                && let Some(newest) = self.segments.back_mut()
            {
                newest.holds_records = true;
            }
        }
        let name = segment::name(number);
        let file = match self.storage.create(&name) {
            Ok(file) => file,
            Err(error) if is_full(&error) => return Err(StartFailed::Full(error)),
            Err(error) => return Err(StartFailed::Other(error)),
        };
        if let Err(error) = file.write_at(0, &header.encode()) {
            drop(file);
            let removed = is_full(&error) && self.storage.remove(&name).is_ok();
            return Err(if removed {
                StartFailed::Full(error)
            } else {
                StartFailed::Other(error)
            });
        }
        file.sync()
            .and_then(|()| self.storage.sync_dir())
            .map_err(StartFailed::Other)?;
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
        self.active = Some(Active::ending(
            number,
            file,
            (start, start),
            self.number_next,
        ));
        self.committed = LogPosition::new(number, SEGMENT_HEADER_BYTES);
        self.readable = self.committed;
        Ok(())
    }
}

/// How a write failed.
enum WriteFailed {
    /// The medium has no room. The log stands at its last mark.
    Full(io::Error),
    /// The log is poisoned.
    Other(io::Error),
}

/// How a new segment failed to begin.
enum StartFailed {
    /// The medium has no room. Nothing has changed.
    Full(io::Error),
    /// The log is to be poisoned.
    Other(io::Error),
}

/// True if the error says that the medium, or a quota, has no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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
