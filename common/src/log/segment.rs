//! Segments as files: their names and what is known of each.

use std::io;

use super::entry::{HeaderState, SEGMENT_HEADER_BYTES, SegmentHeader, size};
use super::{LogPosition, OpenError};
use crate::storage::{Storage, StorageFile};

const SUFFIX: &str = ".seg";
const DIGITS: usize = 20;

/// What the log knows of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// From 1, without gaps as long as no file is lost.
    pub(super) number: u64,
    /// End of what belongs to the log; not kept up to date for the active segment.
    pub(super) end: u32,
    /// It holds a durable record, or may hold one.
    pub(super) holds_records: bool,
    /// Number of the record that follows behind its end, if known.
    pub(super) number_next: Option<u64>,
}

impl Segment {
    pub(super) fn end_position(&self) -> LogPosition {
        LogPosition::new(self.number, self.end)
    }
}

/// The file name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The number of a segment's file; `None` for other files.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    // The last number is not used, so that there always is a next one.
    let number = digits.parse().ok().filter(|_| plain)?;
    (1..u64::MAX).contains(&number).then_some(number)
}

pub(super) fn io_error(operation: &'static str, name: &str, source: io::Error) -> OpenError {
    OpenError::Io {
        operation,
        name: name.to_owned(),
        source,
    }
}

/// The numbers of all segments, in order.
pub(super) fn list<S: Storage>(storage: &S) -> Result<Vec<u64>, OpenError> {
    let names = storage
        .list()
        .map_err(|source| io_error("list", "the directory", source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A segment's file as it was found.
pub(super) struct Opened<F> {
    pub(super) number: u64,
    pub(super) file: F,
    /// Taken before anything else was read; a longer file counts as far as offsets reach.
    pub(super) length: u32,
    /// `None` if it is damaged.
    pub(super) header: Option<SegmentHeader>,
}

impl<F: StorageFile> Opened<F> {
    /// True if the file was created and nothing was written behind its header, and not even
    /// that is valid.
    pub(super) fn is_leftover(&self) -> bool {
        self.header.is_none() && self.length <= SEGMENT_HEADER_BYTES
    }
}

/// Opens the file of a segment and judges its header. `None` if it is gone.
pub(super) fn open<S: Storage>(
    storage: &S,
    number: u64,
) -> Result<Option<Opened<S::File>>, OpenError> {
    let name = name(number);
    let file = match storage.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", &name, error)),
    };
    let length = file
        .len()
        .map_err(|source| io_error("get the length of", &name, source))?;
    let mut bytes = [0; size(SEGMENT_HEADER_BYTES)];
    let count = file
        .read_at(0, &mut bytes)
        .map_err(|source| io_error("read", &name, source))?;
    let header = match SegmentHeader::decode(&bytes[..count], number) {
        HeaderState::Valid(header) => Some(header),
        HeaderState::Invalid => None,
        HeaderState::Version(version) => return Err(OpenError::Version { name, version }),
    };
    Ok(Some(Opened {
        number,
        file,
        length: u32::try_from(length).unwrap_or(u32::MAX),
        header,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segment_names_are_segments() {
        assert_eq!(number(&name(17)), Some(17));
        for other in [
            "17.seg",
            "00000000000000000000.seg",
            "18446744073709551615.seg",
            "99999999999999999999.seg",
            "0000000000000000001x.seg",
            "+0000000000000000001.seg",
            "00000000000000000001.seg.tmp",
            "cells",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
