//! Walks over the entries of a segment through a bounded buffer, and past damage.

use std::io;

use super::entry::{Crc32c, ENTRY_HEADER_BYTES, EntryHeader, EntryKind, MARKER, crc32c, size};
use super::item::DamageReason;
use crate::storage::StorageFile;

/// How much opening reads at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// What is at an offset.
#[derive(Debug)]
pub(super) enum Step {
    /// A valid entry header.
    Entry {
        offset: u32,
        header: EntryHeader,
        payload: Payload,
        next: u32,
    },
    /// No valid entry from here up to there.
    Gap { from: u32, to: u32 },
    /// The end of what was to be read.
    End,
}

/// What to do with the payload of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Check it and keep it.
    Load,
    /// Check it.
    Verify,
    /// Do not read it.
    Skip,
}

/// What is behind a valid entry header.
#[derive(Debug)]
pub(super) enum Payload {
    /// Nothing (a mark), or nothing was wanted.
    None,
    /// It matches its checksum. Kept only if that was wanted.
    Valid(Vec<u8>),
    /// It does not, or the file ends within it.
    Damaged,
}

/// A part of a segment's file.
pub(super) struct Scanner<'a, F> {
    file: &'a F,
    segment: u64,
    end: u32,
    chunk: usize,
    buffer: Vec<u8>,
    /// Offset of the first byte of the buffer.
    start: u32,
}

impl<'a, F: StorageFile> Scanner<'a, F> {
    /// Reads below `end`, at least `chunk` bytes at a time.
    pub(super) fn new(file: &'a F, segment: u64, end: u32, chunk: usize) -> Self {
        Self {
            file,
            segment,
            end,
            chunk,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Where reading ends: as asked, or before, where the file turned out to be shorter.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// The bytes from `offset`, at least `need` of them unless the end comes before.
    fn bytes(&mut self, offset: u32, need: usize) -> io::Result<&[u8]> {
        let left = size(self.end.saturating_sub(offset));
        let need = need.min(left);
        let held = offset
            .checked_sub(self.start)
            .map(size)
            .filter(|skip| skip + need <= self.buffer.len());
        let skip = if let Some(skip) = held {
            skip
        } else {
            self.buffer.clear();
            self.buffer.resize(self.chunk.max(need).min(left), 0);
            let count = self.file.read_at(u64::from(offset), &mut self.buffer)?;
            if count < self.buffer.len() {
                self.buffer.truncate(count);
                let count = u32::try_from(count).expect("no more than was asked for");
                self.end = offset + count;
            }
            self.start = offset;
            0
        };
        let held = &self.buffer[skip..];
        Ok(&held[..held.len().min(left)])
    }

    fn header(&mut self, offset: u32) -> io::Result<Option<EntryHeader>> {
        let segment = self.segment;
        let bytes = self.bytes(offset, size(ENTRY_HEADER_BYTES))?;
        Ok(EntryHeader::decode(bytes, segment, offset))
    }

    /// What is at `offset`. `want` is asked about a record by the length of its payload.
    pub(super) fn step(&mut self, offset: u32, want: impl FnOnce(u32) -> Want) -> io::Result<Step> {
        if offset >= self.end {
            return Ok(Step::End);
        }
        let Some(header) = self.header(offset)? else {
            if offset >= self.end {
                return Ok(Step::End);
            }
            let to = self.find(offset + 1)?;
            return Ok(Step::Gap { from: offset, to });
        };
        let next = offset.saturating_add(header.bytes()).min(self.end);
        let payload = match header.kind {
            EntryKind::Mark { .. } => Payload::None,
            EntryKind::Record { length, check } => {
                let from = offset + ENTRY_HEADER_BYTES;
                match want(length) {
                    Want::Skip => Payload::None,
                    _ if self.end.saturating_sub(from) < length => Payload::Damaged,
                    Want::Load => self.load(from, length, check)?,
                    Want::Verify => self.verify(from, length, check)?,
                }
            }
        };
        // The file may have turned out to be shorter.
        let next = next.min(self.end).max(offset + 1);
        Ok(Step::Entry {
            offset,
            header,
            payload,
            next,
        })
    }

    /// The first offset from `from` on at which a valid entry header starts, or the end.
    fn find(&mut self, mut from: u32) -> io::Result<u32> {
        loop {
            let bytes = self.bytes(from, size(ENTRY_HEADER_BYTES))?;
            if bytes.len() < size(ENTRY_HEADER_BYTES) {
                return Ok(self.end);
            }
            let (count, found) = match bytes.windows(MARKER.len()).position(|at| at == MARKER) {
                Some(at) => (at, true),
                None => (bytes.len() + 1 - MARKER.len(), false),
            };
            // Both lie in the buffer, whose offsets fit.
            from += u32::try_from(count).expect("a place in the buffer");
            if found {
                if self.header(from)?.is_some() {
                    return Ok(from);
                }
                from += 1;
            }
        }
    }

    /// Checks a payload without holding it whole.
    fn verify(&mut self, from: u32, length: u32, check: u32) -> io::Result<Payload> {
        let mut crc = Crc32c::new();
        let mut done = 0;
        while done < length {
            let rest = size(length - done);
            let bytes = self.bytes(from + done, 1)?;
            if bytes.is_empty() {
                return Ok(Payload::Damaged);
            }
            let part = &bytes[..bytes.len().min(rest)];
            crc.update(part);
            done += u32::try_from(part.len()).expect("a part of the payload");
        }
        Ok(if crc.finish() == check {
            Payload::Valid(Vec::new())
        } else {
            Payload::Damaged
        })
    }

    /// Reads and checks a payload. Its length was bounded by the header and by the file.
    fn load(&mut self, from: u32, length: u32, check: u32) -> io::Result<Payload> {
        let length = size(length);
        let held = self.bytes(from, 1)?;
        let mut payload;
        if let Some(held) = held.get(..length) {
            payload = held.to_vec();
        } else {
            payload = vec![0; length];
            let count = self.file.read_at(u64::from(from), &mut payload)?;
            payload.truncate(count);
        }
        Ok(if payload.len() == length && crc32c(&payload) == check {
            Payload::Valid(payload)
        } else {
            Payload::Damaged
        })
    }
}

/// Judges a gap: how many records it cost, where the numbers tell, and what to call it.
///
/// `before` is the number that the next record should have had, `after` the number that it has.
pub(super) fn judge_gap(
    bytes: u32,
    before: Option<u64>,
    after: Option<u64>,
) -> (DamageReason, Option<u64>) {
    // The shortest record is one byte longer than a mark.
    let records = if bytes <= ENTRY_HEADER_BYTES {
        Some(0)
    } else {
        before
            .zip(after)
            .and_then(|(before, after)| after.checked_sub(before))
            .filter(|records| *records <= records_max(bytes))
    };
    match records {
        Some(0) => (DamageReason::Mark, Some(0)),
        records => (DamageReason::Unreadable, records),
    }
}

/// The most records that so many bytes may have held.
pub(super) fn records_max(bytes: u32) -> u64 {
    u64::from(bytes / (ENTRY_HEADER_BYTES + 1))
}
