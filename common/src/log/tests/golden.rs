//! The bytes of version 1, for ever: a log that was written once can always be read.
//!
//! They were checked against a second encoder, written from `docs/formats/segment-log.md` alone.

use super::super::*;
use super::{name, open, records};
use crate::storage::memory::MemoryStorage;

/// A group of two records and a group of one, each with its mark; witnesses follow.
const FIRST: &str = "
    54 47 53 45 47 4c 4f 47 01 00 28 00 00 00 00 00
    01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00
    00 00 00 00 ae 85 d4 9d b7 e4 1c d9 01 00 00 00
    03 00 00 00 28 00 00 00 01 00 00 00 00 00 00 00
    e9 b2 94 2a 39 c9 9f ed 6f 6e 65 b7 e4 1c d9 01
    00 00 00 06 00 00 00 28 00 00 00 02 00 00 00 00
    00 00 00 28 94 fd 7a 2c e4 1e ab 73 65 63 6f 6e
    64 b7 e4 1c d9 02 00 00 00 02 00 00 00 28 00 00
    00 03 00 00 00 00 00 00 00 6b 51 d6 25 54 39 da
    01 b7 e4 1c d9 02 00 00 00 00 00 00 00 91 00 00
    00 03 00 00 00 00 00 00 00 00 00 00 00 ca 17 b6
    6e b7 e4 1c d9 01 00 00 00 01 00 00 00 91 00 00
    00 03 00 00 00 00 00 00 00 14 e9 ce 71 21 d1 3a
    ee 33 b7 e4 1c d9 02 00 00 00 01 00 00 00 91 00
    00 00 04 00 00 00 00 00 00 00 3f e2 be aa 52 bf
    8a 63 b7 e4 1c d9 02 00 00 00 00 00 00 00 f2 00
    00 00 04 00 00 00 00 00 00 00 00 00 00 00 5e 45
    29 2b";

/// The header of an empty segment.
const SECOND: &str = "
    54 47 53 45 47 4c 4f 47 01 00 28 00 12 01 00 00
    02 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00
    00 00 00 00 37 1e ad b1";

fn bytes(hex: &str) -> Vec<u8> {
    let words = hex.split_ascii_whitespace();
    words
        .map(|word| u8::from_str_radix(word, 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn version_1_is_written_as_ever() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"one").expect("appends");
    log.append(b"second").expect("appends");
    log.sync().expect("syncs");
    log.append(b"3").expect("appends");
    log.roll().expect("rolls");
    assert_eq!(storage.contents(&name(1)), Some(bytes(FIRST)));
    assert_eq!(storage.contents(&name(2)), Some(bytes(SECOND)));
}

#[test]
fn version_1_is_read_as_ever() {
    let storage = MemoryStorage::new(1);
    storage.set_contents(&name(1), &bytes(FIRST));
    storage.set_contents(&name(2), &bytes(SECOND));
    for reader in [false, true] {
        let (log, report) = if reader {
            SegmentLog::open_read_only(storage.clone()).expect("opens")
        } else {
            open(&storage)
        };
        assert_eq!((report.segments, report.records), (2, 3));
        assert_eq!((report.damage_count, report.cut_bytes), (0, 0));
        let expected = [&b"one"[..], b"second", b"3"];
        assert_eq!(records(&log), expected);
        assert_eq!(log.committed_end().to_string(), "2:40");
    }
    assert_eq!(storage.contents(&name(1)), Some(bytes(FIRST)), "unchanged");
}
