//! One entry point for fuzzing everything that reads segments.

use super::entry::{EntryHeader, EntryKind, SegmentHeader, crc32c};
use super::{LogConfig, LogItem, LogPosition, SegmentLog};
use crate::limits::SEGMENT_BYTES_MIN;
use crate::storage::memory::MemoryStorage;

const FIRST: &str = "00000000000000000001.seg";
const SECOND: &str = "00000000000000000002.seg";

/// Opens arbitrary bytes as a log, reads it, writes to it, and opens it again. Panics if the
/// log breaks a promise.
///
/// The lowest two bits of the first byte choose what the rest is: 0, the bytes of one segment;
/// 1, of two segments (split in the middle); 2 and 3, instructions from which entries with
/// correct checksums and arbitrary fields are built (one or two segments), because a fuzzer
/// does not guess checksums. Good seeds for 0 are files of a real log.
pub fn fuzz_segment(bytes: &[u8]) {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let two = mode & 1 == 1;
    let (first, second) = bytes.split_at(if two { bytes.len() / 2 } else { bytes.len() });
    let storage = MemoryStorage::new(u64::from(*mode));
    let set = |name, number, bytes: &[u8], prior_end| {
        if mode & 2 == 0 {
            storage.set_contents(name, bytes);
            return 0;
        }
        let built = build(number, bytes, prior_end);
        storage.set_contents(name, &built);
        u32::try_from(built.len()).unwrap_or(u32::MAX)
    };
    let end = set(FIRST, 1, first, 0);
    if two {
        set(SECOND, 2, second, end);
    }
    judge(&storage);
}

/// A segment with a valid header and entries that are valid one by one. Each takes four bytes:
/// kind, length of the payload, group (counted back in entries), number; then comes its payload.
fn build(segment: u64, mut bytes: &[u8], prior_end: u32) -> Vec<u8> {
    let header = SegmentHeader {
        segment,
        prior_end,
        number_first: 1,
    };
    let mut file = header.encode().to_vec();
    let mut starts: Vec<u32> = Vec::new();
    while let [kind, length, group, number, rest @ ..] = bytes {
        let offset = u32::try_from(file.len()).unwrap_or(u32::MAX);
        starts.push(offset);
        let back = usize::from(*group).min(starts.len() - 1);
        let group = starts[starts.len() - 1 - back];
        let payload = &rest[..usize::from(*length).min(rest.len())];
        let check = crc32c(payload).wrapping_add(u32::from(kind >> 7));
        let entry = match kind & 3 {
            0 => None,
            1 => Some(EntryKind::Mark {
                count: u32::from(*length),
                check,
            }),
            _ => Some(EntryKind::Record {
                length: u32::from(*length),
                check,
            }),
        };
        if let Some(entry) = entry {
            let number = u64::from(*number);
            let (header, _) = EntryHeader::encode(entry, group, number, segment, offset);
            file.extend_from_slice(&header);
        }
        file.extend_from_slice(payload);
        bytes = &rest[payload.len()..];
    }
    file
}

fn read_all(log: &SegmentLog<MemoryStorage>) -> Vec<LogItem> {
    let (mut items, mut from) = (Vec::new(), LogPosition::ZERO);
    loop {
        let batch = log.read(from, 100).expect("the disk is sound");
        let Some(last) = batch.last() else { break };
        assert!(last.next() > from, "reading goes on");
        from = last.next();
        items.extend(batch);
    }
    let whole = log.read(LogPosition::ZERO, usize::MAX);
    assert_eq!(whole.expect("the disk is sound"), items, "piece by piece");
    items
}

fn judge(storage: &MemoryStorage) {
    let before = (storage.names(), storage.contents(FIRST));
    if let Ok((reader, _)) = SegmentLog::open_read_only(storage.clone()) {
        read_all(&reader);
    }
    assert_eq!((storage.names(), storage.contents(FIRST)), before);
    let config = LogConfig {
        segment_bytes: SEGMENT_BYTES_MIN,
        bytes_max: u64::MAX,
    };
    let Ok((mut log, _)) = SegmentLog::open(storage.clone(), config) else {
        return;
    };
    let mut items = read_all(&log);
    let position = log.append(b"new").expect("there is room");
    log.sync().expect("the disk is sound");
    let added = read_all(&log);
    assert!(added.starts_with(&items));
    assert_eq!(added.last().map(LogItem::position), Some(position));
    items = added;
    drop(log);
    let (log, report) = SegmentLog::open(storage.clone(), config).expect("opened before");
    assert_eq!(read_all(&log), items);
    assert_eq!(report.cut_bytes, 0);
    let (reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opened before");
    assert_eq!(read_all(&reader), items);
}
