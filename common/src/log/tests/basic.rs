//! Appending, reading, rolling, trimming, bounds and poison.

use std::io;

use super::super::*;
use super::{Log, config, items, name, open, record, records};
use crate::limits::RECORD_BYTES_MAX;
use crate::storage::memory::MemoryStorage;

#[test]
fn records_come_back_in_order_after_the_sync() {
    let storage = MemoryStorage::new(1);
    let (mut log, report) = open(&storage);
    assert_eq!(report, OpenReport::default());
    assert_eq!(log.start(), log.committed_end());
    let first = log.append(b"one").expect("appends");
    let second = log.append(b"two").expect("appends");
    assert!(first < second && items(&log).is_empty(), "not durable yet");
    let end = log.sync().expect("syncs");
    assert!(second < end && end == log.committed_end());
    let expected = [
        LogItem::Record {
            position: first,
            next: second,
            bytes: b"one".to_vec(),
        },
        LogItem::Record {
            position: second,
            next: LogPosition::new(1, second.offset() + 35),
            bytes: b"two".to_vec(),
        },
    ];
    assert_eq!(
        log.read(LogPosition::ZERO, 1 << 20).expect("reads"),
        expected
    );
    assert_eq!(log.read(second, 0).expect("reads"), expected[1..]);
    assert_eq!(log.read(first, 0).expect("reads"), expected[..1]);
    assert!(log.read(end, 1000).expect("reads").is_empty());
    drop(log);
    let (log, report) = open(&storage);
    assert_eq!((report.records, report.cut_bytes), (2, 0));
    assert_eq!(items(&log), expected);
}

#[test]
fn one_group_costs_one_sync_and_two_writes() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"x").expect("appends");
    log.sync().expect("syncs");
    let before = storage.stats();
    for number in 0..20 {
        log.append(&record(number)).expect("appends");
    }
    log.sync().expect("syncs");
    log.sync().expect("nothing to do");
    let after = storage.stats();
    assert_eq!(after.syncs - before.syncs, 1);
    assert_eq!(after.writes - before.writes, 2);
    assert_eq!(after.operations - before.operations, 3);
}

#[test]
fn reading_the_tail_reads_nothing_else() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(1 << 30, 1 << 30)).expect("opens");
    for number in 0..2000 {
        log.append(&record(number)).expect("appends");
        log.sync().expect("syncs");
    }
    let from = log.append(b"tail").expect("appends");
    log.sync().expect("syncs");
    let before = storage.operations();
    assert_eq!(log.read(from, 1000).expect("reads").len(), 1);
    assert_eq!(storage.operations() - before, 1);
}

#[test]
fn segments_roll_between_groups() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    let mut expected = Vec::new();
    for group in 0..100 {
        for number in 0..5 {
            expected.push(record(group * 5 + number));
            log.append(expected.last().expect("one")).expect("appends");
        }
        log.sync().expect("syncs");
    }
    assert!(log.segments() > 5);
    assert_eq!(log.bytes(), storage.used());
    assert_eq!(records(&log), expected);
    for number in 1..=log.segments() as u64 {
        let bytes = storage.contents(&name(number)).expect("a segment").len();
        assert!(bytes <= 4096 + 700, "{bytes}");
    }
    let end = log.committed_end();
    let (bytes, segments) = (log.bytes(), log.segments());
    for check in [Check::All, Check::Newest] {
        let (log, report) =
            SegmentLog::open_with(storage.clone(), config(4096, 1 << 30), check).expect("opens");
        assert!(log.committed_end() >= end);
        assert_eq!((log.bytes(), log.segments()), (bytes, segments));
        assert_eq!(records(&log), expected);
        assert_eq!(report.damage, []);
        assert_eq!(report.records == 500, check == Check::All);
    }
}

#[test]
fn a_large_record_has_a_segment_of_its_own() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    let large = vec![7; RECORD_BYTES_MAX];
    for bytes in [&b"a"[..], &large, b"b"] {
        log.append(bytes).expect("appends");
        log.sync().expect("syncs");
    }
    assert_eq!(log.segments(), 3);
    assert!(
        log.buffer_bytes() <= 2 << 20,
        "a large record is not staged"
    );
    assert_eq!(log.read(log.start(), 10).expect("reads").len(), 1);
    assert_eq!(records(&log), [b"a".to_vec(), large, b"b".to_vec()]);
    let error = log
        .append(&vec![0; RECORD_BYTES_MAX + 1])
        .expect_err("too long");
    assert!(matches!(error, AppendError::Length { length } if length == RECORD_BYTES_MAX + 1));
    assert!(matches!(
        log.append(b""),
        Err(AppendError::Length { length: 0 })
    ));
    assert!(!log.is_poisoned());
}

#[test]
fn trimming_keeps_the_last_record() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    let mut positions = Vec::new();
    for number in 0..200 {
        positions.push(log.append(&record(number)).expect("appends"));
        log.sync().expect("syncs");
    }
    let segments = log.segments();
    let middle = positions[100];
    let used = storage.used();
    let freed = log.trim(middle).expect("trims");
    assert_eq!(freed, used - storage.used());
    assert_eq!(log.bytes(), storage.used());
    assert!(log.start() <= middle && log.segments() < segments);
    assert_eq!(log.start().segment(), middle.segment());
    assert_eq!(log.trim(middle).expect("trims"), 0);
    let rest = log.read(LogPosition::ZERO, usize::MAX).expect("reads");
    assert_eq!(rest.first().map(LogItem::position), Some(log.start()));

    log.roll().expect("rolls");
    log.append(b"not durable").expect("appends");
    let last = positions[199];
    log.trim(LogPosition::new(u64::MAX, 0)).expect("trims");
    assert_eq!(log.start().segment(), last.segment());
    assert_eq!(records(&log).last(), Some(&record(199)));
    drop(log);
    let (log, report) = open(&storage);
    assert_eq!(records(&log).last(), Some(&record(199)));
    assert_eq!(report.damage, []);
}

#[test]
fn rolling_an_empty_segment_does_nothing() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    let first = log.roll().expect("rolls");
    assert_eq!(log.roll().expect("rolls"), first);
    log.append(b"x").expect("appends");
    let second = log.roll().expect("rolls");
    assert!(second > first && log.segments() == 2);
    assert_eq!(records(&log), [b"x"], "roll syncs");
    assert_eq!(log.roll().expect("rolls"), second);
}

#[test]
fn a_full_log_refuses_and_goes_on_after_a_trim() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(4096, 20_000)).expect("opens");
    let mut count = 0;
    let error = loop {
        match log.append(&record(count)) {
            Ok(_) => log.sync().expect("syncs"),
            Err(error) => break error,
        };
        count += 1;
    };
    assert!(matches!(
        error,
        AppendError::Full {
            bytes_max: 20_000,
            ..
        }
    ));
    assert!(!log.is_poisoned() && log.bytes() <= 20_000 && log.bytes() > 19_500);
    assert_eq!(log.bytes(), storage.used());
    assert_eq!(records(&log).len() as u64, count);
    assert!(log.trim(log.committed_end()).expect("trims") > 0);
    log.append(b"again").expect("appends");
    log.sync().expect("syncs");
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    for segment_bytes in [0, 4095, SEGMENT_BYTES_MAX + 1] {
        let error = SegmentLog::open(MemoryStorage::new(1), config(segment_bytes, 1 << 30))
            .expect_err("refused");
        assert!(matches!(error, OpenError::Config(_)));
    }
}

#[test]
fn a_position_past_the_end_is_an_error() {
    let (mut log, _) = open(&MemoryStorage::new(1));
    let staged = log.append(b"x").expect("appends");
    let end = log.committed_end();
    assert!(staged >= end);
    let from = LogPosition::new(2, 40);
    let error = log.read(from, 10).expect_err("ahead");
    assert!(matches!(error, ReadError::Ahead { from: f, end: e } if (f, e) == (from, end)));
}

fn poisoned(log: &mut Log) {
    assert!(log.is_poisoned());
    assert!(matches!(log.append(b"x"), Err(AppendError::Poisoned)));
    assert!(matches!(log.sync(), Err(SyncError::Poisoned)));
    assert!(matches!(log.roll(), Err(RollError::Poisoned)));
    assert!(matches!(log.trim(log.start()), Err(TrimError::Poisoned)));
    assert_eq!(records(log), [b"kept"], "reading goes on");
}

#[test]
fn a_failed_write_or_sync_poisons() {
    for failing in 1..=3 {
        let storage = MemoryStorage::new(failing);
        let (mut log, _) = open(&storage);
        log.append(b"kept").expect("appends");
        log.sync().expect("syncs");
        log.append(b"second").expect("appends");
        // 1 writes the group, 2 syncs it, 3 writes the witness.
        storage.fail_at(failing, io::ErrorKind::Other, false);
        let result = log.sync();
        storage.heal();
        if failing < 3 {
            assert!(matches!(result, Err(SyncError::Io(_))));
            poisoned(&mut log);
        } else {
            result.expect("the group is durable");
            assert!(log.is_poisoned());
            assert!(matches!(log.append(b"x"), Err(AppendError::Poisoned)));
        }
        drop(log);
        storage.crash();
        let (log, _) = open(&storage);
        let kept = records(&log);
        assert!(kept.starts_with(&[b"kept".to_vec()]));
        assert!(failing < 3 || kept.len() == 2);
    }
}

#[test]
fn a_failed_append_poisons() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"kept").expect("appends");
    log.sync().expect("syncs");
    storage.fail_at(1, io::ErrorKind::Other, false);
    let error = log.append(&vec![1; 2 << 20]).expect_err("fails");
    assert!(matches!(error, AppendError::Io(_)));
    poisoned(&mut log);
}

#[test]
fn a_failed_trim_poisons() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    log.append(b"old").expect("appends");
    log.roll().expect("rolls");
    log.append(b"kept").expect("appends");
    log.sync().expect("syncs");
    storage.fail_at(2, io::ErrorKind::Other, false);
    let error = log.trim(log.committed_end()).expect_err("fails");
    assert!(matches!(error, TrimError::Io { segment: 1, .. }));
    assert!(matches!(log.append(b"x"), Err(AppendError::Poisoned)));
    drop(log);
    let (log, report) = open(&storage);
    assert_eq!(
        (records(&log), report.damage_count),
        (vec![b"kept".to_vec()], 0)
    );
}

/// The kernel forgets the pages of a failed sync. A log that trusted the next one would
/// report a group durable that is not there.
#[test]
fn reopening_writes_again_what_a_failed_sync_lost() {
    for seed in 0..100 {
        let storage = MemoryStorage::new(seed);
        let (mut log, _) = open(&storage);
        log.append(b"first").expect("appends");
        log.sync().expect("syncs");
        log.append(&[7; 3000]).expect("appends");
        storage.fail_at(2, io::ErrorKind::Other, false);
        log.sync().expect_err("asked for");
        drop(log);
        storage.kill();
        let (log, _) = open(&storage);
        let seen = records(&log);
        storage.crash();
        let (log, report) = open(&storage);
        assert_eq!(records(&log), seen, "seed {seed}");
        assert_eq!(report.damage_count, 0);
    }
}

#[test]
fn a_full_disk_loses_nothing_durable() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    let mut durable = 0;
    storage.set_capacity(Some(10_000));
    loop {
        let appended = log.append(&record(durable)).is_ok();
        if !appended || log.sync().is_err() {
            break;
        }
        durable += 1;
    }
    assert!(!log.is_poisoned() && durable > 50);
    assert_eq!(records(&log).len() as u64, durable);
    drop(log);
    // The disk is as full as can be: opening, reading and trimming work all the same.
    storage.set_capacity(Some(storage.used()));
    storage.kill();
    let (mut log, report) = open(&storage);
    assert_eq!(records(&log).len() as u64, durable);
    assert_eq!(report.damage_count, 0);
    assert!(!log.is_poisoned());
    assert!(log.trim(log.committed_end()).expect("trims") > 0);
    log.append(b"again").expect("appends");
    log.sync().expect("syncs");
    assert_eq!(records(&log).last(), Some(&b"again".to_vec()));
}

#[cfg(feature = "io")]
#[test]
fn the_log_works_on_a_real_directory() {
    use crate::storage::file::DirStorage;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage = || DirStorage::open(folder.path()).expect("opens");
    let settings = config(4096, 1 << 20);
    let (mut log, _) = SegmentLog::open(storage(), settings).expect("opens");
    let (mut reader, _) = SegmentLog::open_read_only(storage()).expect("opens");
    for number in 0..300 {
        log.append(&record(number)).expect("appends");
        if number % 7 == 0 {
            let end = log.sync().expect("syncs");
            assert!(reader.refresh().expect("refreshes") >= end);
        }
    }
    log.sync().expect("syncs");
    let committed = log.committed_end();
    drop(log);
    let (log, report) = SegmentLog::open(storage(), settings).expect("opens");
    assert_eq!((report.records, report.cut_bytes), (300, 0));
    assert!(log.committed_end() >= committed);
    reader.refresh().expect("refreshes");
    let read = reader.read(LogPosition::ZERO, usize::MAX).expect("reads");
    assert_eq!(
        read,
        log.read(LogPosition::ZERO, usize::MAX).expect("reads")
    );
    assert_eq!(read.len(), 300);
}
