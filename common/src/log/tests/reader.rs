//! A reader beside the owner.

use super::super::*;
use super::{items, open, record, records};
use crate::storage::memory::MemoryStorage;

#[test]
fn a_reader_sees_exactly_what_is_synced() {
    let storage = MemoryStorage::new(1);
    let (mut reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens nothing");
    assert!(items(&reader).is_empty());
    let (mut log, _) = open(&storage);
    let mut expected = Vec::new();
    for number in 0..150 {
        expected.push(record(number));
        log.append(expected.last().expect("one")).expect("appends");
        if number % 3 == 2 {
            let end = log.sync().expect("syncs");
            assert!(reader.refresh().expect("refreshes") >= end);
            assert_eq!(reader.refresh().expect("again"), reader.committed_end());
            assert_eq!(records(&reader), expected);
        }
        if number == 75 {
            log.trim(log.committed_end()).expect("trims");
            reader.refresh().expect("refreshes");
            expected = records(&log);
            // Number 75 is not synced yet.
            expected.push(record(75));
        }
    }
    assert_eq!(items(&reader), items(&log));
    assert_eq!(reader.bytes(), log.bytes());
}

#[test]
fn a_reader_does_not_see_what_is_written_but_not_synced() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"one").expect("appends");
    log.sync().expect("syncs");
    let (mut reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
    // Written by the group's size, not by the sync.
    log.append(&vec![1; 2 << 20]).expect("appends");
    reader.refresh().expect("refreshes");
    assert_eq!(records(&reader), [b"one"]);
    // The whole group is written and the sync fails: still nothing.
    storage.fail_at(2, std::io::ErrorKind::Other, false);
    log.sync().expect_err("asked for");
    reader.refresh().expect("refreshes");
    assert_eq!(records(&reader), [b"one"]);
    let (other, report) = SegmentLog::open_read_only(storage.clone()).expect("opens");
    assert_eq!(records(&other), [b"one"]);
    assert_eq!((report.records, report.cut_records), (1, 1));
    drop(log);
    let (_log, _) = open(&storage);
    reader.refresh().expect("refreshes");
    assert_eq!(records(&reader).len(), 2, "the owner has proven it");
}

#[test]
fn a_reader_follows_through_rolls_and_trims_it_did_not_see() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"one").expect("appends");
    log.sync().expect("syncs");
    let (mut reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
    for number in 0..200 {
        log.append(&record(number)).expect("appends");
        log.sync().expect("syncs");
    }
    log.trim(log.committed_end()).expect("trims");
    reader.refresh().expect("refreshes");
    assert_eq!(items(&reader), items(&log));
    assert_eq!(reader.start(), log.start());
}

#[test]
fn a_reader_refuses_to_write_and_changes_nothing() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"one").expect("appends");
    log.sync().expect("syncs");
    log.append(&vec![1; 2 << 20]).expect("appends");
    drop(log);
    let before = (storage.stats(), storage.contents(&super::name(1)));
    let (mut reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
    assert!(matches!(reader.append(b"x"), Err(AppendError::ReadOnly)));
    assert!(matches!(reader.sync(), Err(SyncError::ReadOnly)));
    assert!(matches!(reader.roll(), Err(RollError::ReadOnly)));
    assert!(matches!(
        reader.trim(reader.committed_end()),
        Err(TrimError::ReadOnly)
    ));
    assert!(!reader.is_poisoned());
    let after = (storage.stats(), storage.contents(&super::name(1)));
    assert_eq!(
        (after.0.writes, after.0.syncs),
        (before.0.writes, before.0.syncs)
    );
    assert_eq!(after.1, before.1);
}
