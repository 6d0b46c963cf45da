//! Opening: what is there, what of it counts, and making sure that it stays.

use std::collections::VecDeque;
use std::io;

use super::entry::{SEGMENT_HEADER_BYTES, size};
use super::item::{Check, Damage, DamageReason, OpenReport};
use super::recover::{Extent, Found, From, walk};
use super::scan::{CHUNK_BYTES, records_max};
use super::segment::{self, Opened, Segment, io_error};
use super::write::{Active, is_full};
use super::{LogConfig, LogPosition, OpenError, RefreshError, SegmentLog};
use crate::storage::{Storage, StorageFile};

/// Record numbers skip this many where it is unknown how many were lost: more than a segment
/// can hold, so that the gap in the numbers says "unknown".
const NUMBER_JUMP: u64 = 1 << 32;

/// A directory as it was found.
struct Loaded<F> {
    segments: VecDeque<Segment>,
    newest: Option<(Opened<F>, Found)>,
    number_next: u64,
}

impl<S: Storage> SegmentLog<S> {
    /// Opens a log for writing, or starts one in an empty directory, and checks every byte.
    ///
    /// What no sync has covered is cut; everything else is durable when this returns. The
    /// caller must be the only owner of the directory.
    pub fn open(storage: S, config: LogConfig) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(storage, config, Check::All)
    }

    /// Like [`open`](Self::open), reading as much as `check` says.
    pub fn open_with(
        storage: S,
        config: LogConfig,
        check: Check,
    ) -> Result<(Self, OpenReport), OpenError> {
        config.check()?;
        let mut report = OpenReport::default();
        let loaded = loop {
            let numbers = segment::list(&storage)?;
            let Some(leftover) = newest_leftover(&storage, &numbers)? else {
                break load(&storage, &numbers, check, Extent::Owner, &mut report)?;
            };
            let name = segment::name(leftover);
            storage
                .remove(&name)
                .map_err(|source| io_error("remove", &name, source))?;
            sync_dir(&storage)?;
            report.removed_segments += 1;
        };
        let mut log = Self::from_loaded(storage, Some(config), &loaded);
        if let Some((opened, found)) = loaded.newest {
            log.secure(opened, &found)?;
        } else {
            sync_dir(&log.storage)?;
        }
        Ok((log, report))
    }

    /// Opens a log for reading, beside its owner or without one, and changes nothing.
    ///
    /// What the owner's sync has returned for can be read, with one exception: when the owner
    /// died directly after a sync, its last group can be read once it has opened the log again.
    /// [`refresh`](Self::refresh) makes what came later visible.
    pub fn open_read_only(storage: S) -> Result<(Self, OpenReport), OpenError> {
        Self::open_read_only_with(storage, Check::All)
    }

    /// Like [`open_read_only`](Self::open_read_only), reading as much as `check` says.
    pub fn open_read_only_with(storage: S, check: Check) -> Result<(Self, OpenReport), OpenError> {
        let mut report = OpenReport::default();
        let numbers = reader_numbers(&storage)?;
        let loaded = load(&storage, &numbers, check, Extent::Reader, &mut report)?;
        Ok((Self::for_reading(storage, loaded), report))
    }

    /// Opens a log to look at it once, beside its owner or without one, and changes nothing: all
    /// of it can be read that an owner would find now, also what was only
    /// [handed over](Self::hand_over). It is not to be [refreshed](Self::refresh).
    pub fn inspect(storage: S) -> Result<(Self, OpenReport), OpenError> {
        let mut report = OpenReport::default();
        let numbers = reader_numbers(&storage)?;
        let loaded = load(&storage, &numbers, Check::All, Extent::Owner, &mut report)?;
        Ok((Self::for_reading(storage, loaded), report))
    }

    fn for_reading(storage: S, loaded: Loaded<S::File>) -> Self {
        let mut log = Self::from_loaded(storage, None, &loaded);
        let number_next = log.number_next;
        log.active = loaded
            .newest
            .map(|(opened, found)| Active::new(opened.number, opened.file, &found, number_next));
        log
    }

    /// Looks for what the owner has committed or trimmed since. Returns the new end.
    ///
    /// An owner has nothing to look for: for it, this is
    /// [`committed_end`](Self::committed_end).
    pub fn refresh(&mut self) -> Result<LogPosition, RefreshError> {
        if self.config.is_some() {
            return Ok(self.committed);
        }
        let numbers = reader_numbers(&self.storage)?;
        let mut report = OpenReport::default();
        let known = self.segments.iter().map(|segment| segment.number);
        if let Some(active) = &mut self.active
            && known.eq(numbers.iter().copied())
        {
            // The usual case: the newest segment has grown, or nothing happened.
            let name = segment::name(active.number);
            let end = active
                .file
                .len()
                .map_err(|source| io_error("get the length of", &name, source))?;
            let end = u32::try_from(end).unwrap_or(u32::MAX);
            let from = From {
                segment: active.number,
                offset: self.committed.offset(),
                number: Some(self.number_next),
            };
            let found = walk(&active.file, from, end, Extent::Reader, &mut report)
                .map_err(|source| io_error("read", &name, source))?;
            active.written = found.end;
            self.number_next = found.number_next.unwrap_or(self.number_next);
            self.committed = LogPosition::new(active.number, found.committed);
            self.readable = self.committed;
            if let Some(newest) = self.segments.back_mut() {
                newest.end = found.committed;
                newest.holds_records |= found.holds_records;
                newest.number_next = found.number_next;
            }
            return Ok(self.committed);
        }
        let loaded = load(
            &self.storage,
            &numbers,
            Check::Newest,
            Extent::Reader,
            &mut report,
        )?;
        self.set_loaded(&loaded);
        let number_next = self.number_next;
        self.active = loaded
            .newest
            .map(|(opened, found)| Active::new(opened.number, opened.file, &found, number_next));
        Ok(self.committed)
    }

    fn from_loaded(storage: S, config: Option<LogConfig>, loaded: &Loaded<S::File>) -> Self {
        let mut log = Self {
            storage,
            config,
            segments: VecDeque::new(),
            closed_bytes: 0,
            active: None,
            number_next: 1,
            committed: LogPosition::new(1, SEGMENT_HEADER_BYTES),
            readable: LogPosition::new(1, SEGMENT_HEADER_BYTES),
            poisoned: false,
        };
        log.set_loaded(loaded);
        log
    }

    fn set_loaded(&mut self, loaded: &Loaded<S::File>) {
        self.segments.clone_from(&loaded.segments);
        self.number_next = loaded.number_next;
        if let Some(newest) = self.segments.back() {
            self.committed = newest.end_position();
        }
        self.readable = self.committed;
        let closed = self.segments.len().saturating_sub(1);
        let closed = self.segments.iter().take(closed);
        self.closed_bytes = closed.map(|segment| u64::from(segment.end)).sum();
    }

    /// Cuts what does not count, and makes durable what does.
    fn secure(&mut self, opened: Opened<S::File>, found: &Found) -> Result<(), OpenError> {
        let name = segment::name(opened.number);
        let failed = |operation| {
            let name = &name;
            move |source| io_error(operation, name, source)
        };
        let (header, length) = (opened.header, u64::from(opened.length));
        let number_next = self.number_next;
        let mut active = Active::new(opened.number, opened.file, found, number_next);
        let lacks_witness = found.any_entry && found.end == found.committed;
        let proven = found.proven == found.committed;
        // What proves the end may be about to be cut: its witness comes first.
        let early = lacks_witness && proven;
        let refused =
            early && !optional(active.write_witness(number_next)).map_err(failed("write to"))?;
        let end = u64::from(active.written);
        if length > end || refused {
            active.file.set_len(end).map_err(failed("cut"))?;
        }
        // The header is proven by any entry behind it, and pointless if it is damaged.
        let unproven = !found.any_entry && header.is_some();
        let from = if unproven { 0 } else { found.proven };
        rewrite(&active.file, from, found.end).map_err(failed("rewrite the end of"))?;
        active.file.sync().map_err(failed("sync"))?;
        sync_dir(&self.storage)?;
        if lacks_witness
            && !proven
            && !optional(active.write_witness(number_next)).map_err(failed("write to"))?
        {
            active.file.set_len(end).map_err(failed("cut"))?;
        }
        if header.is_some() {
            self.active = Some(active);
        } else {
            // No group is added to it; the next append starts a new segment.
            self.closed_bytes += u64::from(found.committed);
        }
        Ok(())
    }
}

/// True if something was done, false if there is no room for it: a log must open on a full
/// disk, to be read and trimmed.
fn optional(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_full(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_dir<S: Storage>(storage: &S) -> Result<(), OpenError> {
    storage
        .sync_dir()
        .map_err(|source| io_error("sync", "the directory", source))
}

/// Writes the bytes of a part of a file again.
///
/// They may be visible and clean, and yet not on the medium: the kernel drops the dirty flag
/// of pages whose sync has failed. A sync alone would then report success and do nothing.
fn rewrite<F: StorageFile>(file: &F, mut from: u32, end: u32) -> io::Result<()> {
    let mut buffer = vec![0; size(end.saturating_sub(from)).min(CHUNK_BYTES)];
    while from < end {
        let length = size(end - from).min(buffer.len());
        let part = &mut buffer[..length];
        let count = file.read_at(u64::from(from), part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(u64::from(from), &part[..count])?;
        from += u32::try_from(count).expect("no more than was asked for");
    }
    Ok(())
}

/// The number of the newest segment, if its creation was interrupted.
fn newest_leftover<S: Storage>(storage: &S, numbers: &[u64]) -> Result<Option<u64>, OpenError> {
    let Some(newest) = numbers.last().copied() else {
        return Ok(None);
    };
    let opened = segment::open(storage, newest)?;
    Ok(opened
        .is_some_and(|file| file.is_leftover())
        .then_some(newest))
}

/// The segments that a reader looks at: without one that is just being created.
fn reader_numbers<S: Storage>(storage: &S) -> Result<Vec<u64>, OpenError> {
    let mut numbers = segment::list(storage)?;
    while newest_leftover(storage, &numbers)?.is_some() {
        numbers.pop();
    }
    Ok(numbers)
}

/// Reads the segments with these numbers, as far as `check` says.
fn load<S: Storage>(
    storage: &S,
    numbers: &[u64],
    check: Check,
    extent: Extent,
    report: &mut OpenReport,
) -> Result<Loaded<S::File>, OpenError> {
    let mut loader = Loader {
        check,
        report,
        segments: VecDeque::new(),
        number_next: None,
        number_known: 1,
    };
    // Each segment is judged when its successor's header is known.
    let mut waiting: Option<Opened<S::File>> = None;
    for number in numbers {
        let Some(opened) = segment::open(storage, *number)? else {
            // Trimmed meanwhile, and all before it as well.
            loader.segments.clear();
            waiting = None;
            continue;
        };
        if let Some(closed) = &waiting {
            loader.closed(closed, &opened)?;
        }
        waiting = Some(opened);
    }
    let newest = match waiting {
        Some(opened) => {
            let found = loader.newest(&opened, extent)?;
            Some((opened, found))
        }
        None => None,
    };
    let Loader {
        segments,
        number_known,
        ..
    } = loader;
    report.segments = segments.len() as u64;
    Ok(Loaded {
        segments,
        newest,
        number_next: number_known,
    })
}

struct Loader<'a> {
    check: Check,
    report: &'a mut OpenReport,
    segments: VecDeque<Segment>,
    /// Number of the next record as told by the segment before, if known.
    number_next: Option<u64>,
    /// A number that no record has had.
    number_known: u64,
}

impl Loader<'_> {
    /// Where scanning a segment starts; reports its header if that is damaged.
    fn begin<F>(&mut self, opened: &Opened<F>) -> From {
        let number = match opened.header {
            Some(header) => Some(header.number_first),
            None => self.number_next,
        };
        if opened.header.is_none() {
            let number = opened.number;
            self.report.add_damage(Damage {
                position: LogPosition::new(number, 0),
                next: LogPosition::new(number, SEGMENT_HEADER_BYTES),
                reason: DamageReason::SegmentHeader,
                records: Some(0),
            });
        }
        From {
            segment: opened.number,
            offset: SEGMENT_HEADER_BYTES,
            number,
        }
    }

    fn closed<F: StorageFile>(
        &mut self,
        opened: &Opened<F>,
        next: &Opened<F>,
    ) -> Result<(), OpenError> {
        // A header tells about the segment directly before it only.
        let header = next.header.filter(|_| opened.number + 1 == next.number);
        let end = header.map_or(opened.length, |header| {
            header.prior_end.max(SEGMENT_HEADER_BYTES)
        });
        let number_next = header.map(|header| header.number_first);
        let from = self.begin(opened);
        let readable = end.min(opened.length);
        let (records, number_after) = match self.check {
            Check::All => {
                let extent = Extent::Closed {
                    // The numbers behind a missing end say nothing about a gap before it.
                    number_next: number_next.filter(|_| readable == end),
                };
                let found = walk(&opened.file, from, readable, extent, self.report)
                    .map_err(|source| io_error("read", &segment::name(opened.number), source))?;
                if readable < end {
                    let records = number_next
                        .zip(found.number_next)
                        .and_then(|(next, number)| next.checked_sub(number));
                    self.report.add_damage(Damage {
                        position: LogPosition::new(opened.number, readable),
                        next: LogPosition::new(opened.number, end),
                        reason: DamageReason::Truncated,
                        records,
                    });
                }
                (found.holds_records, number_next.or(found.number_next))
            }
            Check::Newest => {
                let some = match (number_next, from.number) {
                    (Some(next), Some(first)) => next > first,
                    _ => records_max(end - SEGMENT_HEADER_BYTES) > 0,
                };
                (some, number_next)
            }
        };
        self.push(Segment {
            number: opened.number,
            end,
            holds_records: records || readable < end,
            number_next: number_after,
        });
        self.know(number_after, from.number);
        if opened.number + 1 < next.number {
            let after = next.header.map(|header| header.number_first);
            let records = after
                .zip(number_after)
                .and_then(|(after, before)| after.checked_sub(before));
            self.report.add_damage(Damage {
                position: LogPosition::new(opened.number + 1, SEGMENT_HEADER_BYTES),
                next: LogPosition::new(next.number, SEGMENT_HEADER_BYTES),
                reason: DamageReason::Missing,
                records,
            });
        }
        Ok(())
    }

    fn newest<F: StorageFile>(
        &mut self,
        opened: &Opened<F>,
        extent: Extent,
    ) -> Result<Found, OpenError> {
        let from = self.begin(opened);
        let mut found = walk(&opened.file, from, opened.length, extent, self.report)
            .map_err(|source| io_error("read", &segment::name(opened.number), source))?;
        if opened.header.is_none() && !found.any_entry {
            // Something was here, and nothing of it can be read: that is no torn tail.
            let cut = u64::from(opened.length - found.committed);
            self.report.cut_bytes -= cut;
            self.report.add_damage(Damage {
                position: LogPosition::new(opened.number, SEGMENT_HEADER_BYTES),
                next: LogPosition::new(opened.number, opened.length),
                reason: DamageReason::Unreadable,
                records: None,
            });
            found.committed = opened.length;
            found.end = opened.length;
            found.proven = opened.length;
            found.holds_records = true;
            found.number_next = None;
        }
        self.push(Segment {
            number: opened.number,
            end: found.committed,
            holds_records: found.holds_records,
            number_next: found.number_next,
        });
        self.know(found.number_next, from.number);
        Ok(found)
    }

    fn push(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    /// Notes the number of the record after a segment, or one beyond what it can have held: what
    /// is appended then must not look like what was lost.
    fn know(&mut self, after: Option<u64>, first: Option<u64>) {
        self.number_next = after;
        let first = first.unwrap_or(self.number_known);
        let bound = after.unwrap_or(first.saturating_add(NUMBER_JUMP));
        self.number_known = self.number_known.max(bound);
    }
}
