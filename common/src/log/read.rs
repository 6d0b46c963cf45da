//! Reading records in order.

use std::io;

use super::entry::{ENTRY_HEADER_BYTES, HeaderState, SEGMENT_HEADER_BYTES, SegmentHeader, size};
use super::item::{DamageReason, LogItem};
use super::scan::{Payload, Scanner, Step, Want, judge_gap};
use super::segment::{self, Segment};
use super::{LogPosition, ReadError, SegmentLog};
use crate::storage::{Storage, StorageFile};

/// Least that is read from the file at once.
const READ_BYTES_MIN: usize = 4 << 10;
/// Most that is read from the file at once, except for a larger record.
const READ_BYTES_MAX: usize = 1 << 20;

/// What was read so far, and how much more may be.
struct Batch {
    items: Vec<LogItem>,
    bytes_left: usize,
}

impl Batch {
    /// True if an item of this size still fits; the first one always does.
    fn fits(&self, bytes: usize) -> bool {
        self.items.is_empty() || bytes <= self.bytes_left
    }

    fn push(&mut self, item: LogItem, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.items.push(item);
    }
}

/// What an item costs besides its payload, so that a million tiny records stay bounded too.
const ITEM_BYTES: usize = size(ENTRY_HEADER_BYTES);

impl<S: Storage> SegmentLog<S> {
    /// Reads committed items in order, starting with the first at or after `from`: as many as
    /// fit into `max_bytes` with 32 bytes of overhead each, but at least one if there is one.
    ///
    /// `from` is a position that this log gave out: of a record, `next` of an item, an end, or
    /// [`start`](Self::start). A position before the start reads from the start: an owner
    /// that minds what was trimmed compares the two. No other position is useful: inside a record it
    /// reads as damage up to the next one.
    pub fn read(&self, from: LogPosition, max_bytes: usize) -> Result<Vec<LogItem>, ReadError> {
        if from > self.readable {
            let end = self.readable;
            return Err(ReadError::Ahead { from, end });
        }
        let mut batch = Batch {
            items: Vec::new(),
            bytes_left: max_bytes,
        };
        let first = self
            .segments
            .partition_point(|segment| segment.number < from.segment());
        // The segment that `from` is in, or should be in.
        let mut expected = (first > 0).then(|| from.segment());
        for segment in self.segments.iter().skip(first) {
            if let Some(missing) = expected.filter(|number| *number < segment.number) {
                if !batch.fits(ITEM_BYTES) {
                    break;
                }
                let damaged = LogItem::Damaged {
                    position: LogPosition::new(missing, SEGMENT_HEADER_BYTES).max(from),
                    next: LogPosition::new(segment.number, SEGMENT_HEADER_BYTES),
                    reason: DamageReason::Missing,
                };
                batch.push(damaged, ITEM_BYTES);
            }
            expected = Some(segment.number + 1);
            let offset = if segment.number == from.segment() {
                from.offset().max(SEGMENT_HEADER_BYTES)
            } else {
                SEGMENT_HEADER_BYTES
            };
            let full = self
                .read_segment(segment, offset, &mut batch)
                .map_err(|source| ReadError::Io {
                    segment: segment.number,
                    source,
                })?;
            if full {
                break;
            }
        }
        Ok(batch.items)
    }

    /// Reads a segment from `offset`; true if there was more than fitted.
    fn read_segment(&self, segment: &Segment, offset: u32, batch: &mut Batch) -> io::Result<bool> {
        let number = segment.number;
        let end = if number == self.readable.segment() {
            self.readable.offset()
        } else {
            segment.end
        };
        if offset >= end {
            return Ok(false);
        }
        let active = self.active.as_ref();
        if let Some(active) = active.filter(|active| active.number == number) {
            return read_file(&active.file, segment, offset, end, batch);
        }
        let file = self.storage.open(&segment::name(number))?;
        read_file(&file, segment, offset, end, batch)
    }
}

/// A part of a segment on its way into a batch.
struct Reading<'a> {
    segment: u64,
    batch: &'a mut Batch,
    /// Number of the next record, if known.
    number: Option<u64>,
    gap: Option<(u32, u32)>,
}

impl Reading<'_> {
    /// True if there was room.
    fn push_damage(&mut self, from: u32, to: u32, reason: DamageReason) -> bool {
        let fits = self.batch.fits(ITEM_BYTES);
        if fits {
            let damaged = LogItem::Damaged {
                position: LogPosition::new(self.segment, from),
                next: LogPosition::new(self.segment, to),
                reason,
            };
            self.batch.push(damaged, ITEM_BYTES);
        }
        fits
    }

    /// Reports a gap that cost records, now that it is known what follows. True if there was
    /// room.
    fn close_gap(&mut self, after: Option<u64>) -> bool {
        let Some((from, to)) = self.gap.take() else {
            return true;
        };
        let (reason, _) = judge_gap(to - from, self.number, after);
        !reason.loses_records() || self.push_damage(from, to, reason)
    }

    fn push_record(&mut self, from: u32, to: u32, bytes: Vec<u8>) {
        let cost = bytes.len() + ITEM_BYTES;
        let record = LogItem::Record {
            position: LogPosition::new(self.segment, from),
            next: LogPosition::new(self.segment, to),
            bytes,
        };
        self.batch.push(record, cost);
    }
}

/// The number that the record at `offset` should have, from the headers before it: needed only
/// where reading starts at damage, to tell whether it cost records.
fn number_at<F: StorageFile>(file: &F, segment: u64, offset: u32) -> io::Result<Option<u64>> {
    let mut header = [0; size(SEGMENT_HEADER_BYTES)];
    let count = file.read_at(0, &mut header)?;
    let mut number = match SegmentHeader::decode(&header[..count], segment) {
        HeaderState::Valid(header) => Some(header.number_first),
        HeaderState::Version(_) | HeaderState::Invalid => None,
    };
    let mut scanner = Scanner::new(file, segment, offset, READ_BYTES_MAX);
    let mut at = SEGMENT_HEADER_BYTES;
    loop {
        match scanner.step(at, |_| Want::Skip)? {
            Step::Entry { header, next, .. } => {
                number = Some(header.number_next());
                at = next;
            }
            Step::Gap { to, .. } => at = to,
            Step::End => return Ok(number),
        }
    }
}

/// Reads a segment's file from `offset` to `end`; true if there was more than fitted.
fn read_file<F: StorageFile>(
    file: &F,
    segment: &Segment,
    mut offset: u32,
    end: u32,
    batch: &mut Batch,
) -> io::Result<bool> {
    let chunk = batch
        .bytes_left
        .saturating_add(ITEM_BYTES)
        .clamp(READ_BYTES_MIN, READ_BYTES_MAX);
    let mut scanner = Scanner::new(file, segment.number, end, chunk);
    let mut reading = Reading {
        segment: segment.number,
        batch,
        number: None,
        gap: None,
    };
    loop {
        let mut fits = true;
        let step = scanner.step(offset, |length| {
            fits = reading.batch.fits(size(length) + ITEM_BYTES);
            if fits { Want::Load } else { Want::Skip }
        })?;
        match step {
            Step::Gap { from, to } => {
                if reading.number.is_none() && to - from > ENTRY_HEADER_BYTES {
                    reading.number = number_at(file, segment.number, from)?;
                }
                reading.gap = Some((from, to));
                offset = to;
            }
            Step::Entry {
                offset: position,
                header,
                payload,
                next,
            } => {
                if !reading.close_gap(Some(header.number)) || !fits {
                    return Ok(true);
                }
                reading.number = Some(header.number_next());
                match payload {
                    Payload::None => {}
                    Payload::Valid(bytes) => reading.push_record(position, next, bytes),
                    Payload::Damaged => {
                        if !reading.push_damage(position, next, DamageReason::Payload) {
                            return Ok(true);
                        }
                    }
                }
                offset = next;
            }
            Step::End => break,
        }
    }
    let readable = scanner.end();
    // The number behind a missing end says nothing about a gap before it.
    let after = segment.number_next.filter(|_| readable == end);
    let mut room = reading.close_gap(after);
    if room && readable < end {
        room = reading.push_damage(readable.max(offset), end, DamageReason::Truncated);
    }
    Ok(!room)
}
