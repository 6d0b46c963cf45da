//! Flipped bytes, missing files, and files of somebody else.

use proptest::prelude::*;

use super::super::entry::{
    EntryHeader, EntryKind, HeaderState, SegmentHeader, crc32c, group_check,
};
use super::super::*;
use super::{Log, config, items, name, open, record, records};
use crate::storage::memory::MemoryStorage;

/// Two segments, groups of one and three records.
fn sample() -> (MemoryStorage, Vec<LogItem>) {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    for number in 0..8 {
        log.append(&record(number)).expect("appends");
        if number != 2 && number != 3 {
            log.sync().expect("syncs");
        }
        if number == 4 {
            log.roll().expect("rolls");
        }
    }
    let items = items(&log);
    assert_eq!(items.len(), 8);
    (storage, items)
}

fn copy(storage: &MemoryStorage) -> MemoryStorage {
    let copy = MemoryStorage::new(2);
    for name in storage.names() {
        let bytes = storage.contents(&name).expect("a listed file");
        copy.set_contents(&name, &bytes);
    }
    copy
}

/// Every record that is not damaged, and nothing else; damage where records are missing.
fn check(log: &Log, report: &OpenReport, expected: &[LogItem], context: &str) {
    let found = items(log);
    let mut lost = 0;
    for item in expected {
        if found.contains(item) {
            continue;
        }
        lost += 1;
        let covered = found.iter().any(|place| {
            matches!(place, LogItem::Damaged { position, next, .. }
                if *position <= item.position() && item.next() <= *next)
        });
        assert!(covered, "{context}: {item:?} in {found:?}");
    }
    let records = |item: &&LogItem| matches!(item, LogItem::Record { .. });
    let count = found.iter().filter(records).count();
    assert_eq!(count, expected.len() - lost, "{context}: nothing new");
    assert!(lost <= 1, "{context}: one byte costs one record");
    assert_eq!(report.records, count as u64, "{context}");
    let reported: Vec<_> = report
        .damage
        .iter()
        .filter(|d| d.reason.loses_records())
        .collect();
    let read: Vec<_> = found.iter().filter(|item| !records(item)).collect();
    assert_eq!(
        reported.len(),
        read.len(),
        "{context}: the same on open and on read"
    );
    for (damage, item) in reported.iter().zip(&read) {
        assert_eq!(
            (damage.position, damage.next),
            (item.position(), item.next())
        );
        assert_eq!(damage.records, Some(1), "{context}");
    }
}

#[test]
fn every_flipped_byte_is_reported_and_costs_its_record_only() {
    let (sample, expected) = sample();
    for name in sample.names() {
        let length = sample.contents(&name).expect("a file").len() as u64;
        for offset in 0..length {
            for mask in [0x01, 0x80, 0xFF] {
                let context = format!("{name} {offset} {mask}");
                let storage = copy(&sample);
                assert!(storage.flip(&name, offset, mask));
                let (reader, read_report) =
                    SegmentLog::open_read_only(storage.clone()).expect("opens");
                let (log, report) = open(&storage);
                check(&log, &report, &expected, &context);
                // The last mark is the witness of the last group. A reader waits for the owner
                // to prove the group again.
                let witness = name == super::name(2) && offset >= length - 32;
                if witness {
                    assert_eq!(
                        (report.damage_count, report.cut_bytes),
                        (0, 32),
                        "{context}"
                    );
                } else {
                    check(&reader, &read_report, &expected, &context);
                    assert_eq!((report.damage_count, report.cut_bytes), (1, 0), "{context}");
                    let damage = report.damage[0];
                    let at = LogPosition::new(if name == super::name(1) { 1 } else { 2 }, 0);
                    assert_eq!(damage.position.segment(), at.segment(), "{context}");
                    let (from, to) = (damage.position.offset(), damage.next.offset());
                    let offset = u32::try_from(offset).expect("small");
                    assert!((from..to).contains(&offset), "{context}: {damage:?}");
                }
            }
        }
    }
}

#[test]
fn writing_goes_on_after_damage() {
    let (sample, expected) = sample();
    for name in sample.names() {
        let length = sample.contents(&name).expect("a file").len() as u64;
        for offset in (0..length).step_by(5) {
            let storage = copy(&sample);
            storage.flip(&name, offset, 0x40);
            let (mut log, _) = open(&storage);
            let before = items(&log);
            let position = log.append(b"after").expect("appends");
            log.sync().expect("syncs");
            drop(log);
            storage.crash();
            let (log, report) = open(&storage);
            let after = items(&log);
            assert!(after.starts_with(&before), "{name} {offset}");
            assert_eq!(after.len(), before.len() + 1, "{name} {offset}");
            assert_eq!(after.last().map(LogItem::position), Some(position));
            assert!(report.damage_count <= 1);
            let (reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
            assert_eq!(items(&reader), after);
            assert!(before.len() >= expected.len() - 1);
        }
    }
}

#[test]
fn damage_behind_damage_is_found_too() {
    let (storage, expected) = sample();
    for item in [&expected[1], &expected[3], &expected[6]] {
        let (segment, offset) = (item.position().segment(), item.position().offset());
        storage.flip(&name(segment), u64::from(offset) + 3, 0xFF);
    }
    let (log, report) = open(&storage);
    assert_eq!((report.damage_count, report.records), (3, 5));
    assert_eq!(log.committed_end().segment(), 2);
    let found = items(&log);
    assert_eq!(found.len(), 8);
    for (index, item) in found.iter().enumerate() {
        let damaged = [1, 3, 6].contains(&index);
        assert_eq!(matches!(item, LogItem::Damaged { .. }), damaged);
        assert_eq!(item.position(), expected[index].position());
    }
}

#[test]
fn a_lost_sector_costs_the_records_in_it() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(1 << 20, 1 << 30)).expect("opens");
    for number in 0..200 {
        log.append(&record(number)).expect("appends");
        log.sync().expect("syncs");
    }
    drop(log);
    let mut bytes = storage.contents(&name(1)).expect("a segment");
    bytes[5120..5632].fill(0);
    storage.set_contents(&name(1), &bytes);
    let (log, report) = open(&storage);
    let found = records(&log);
    let lost = 200 - found.len();
    assert!((3..10).contains(&lost), "{lost}");
    assert_eq!(report.damage_count, 1);
    let damage = report.damage[0];
    assert_eq!(
        damage.records,
        Some(lost as u64),
        "the numbers tell how many"
    );
    assert!((5120 - 200..=5120).contains(&damage.position.offset()));
}

#[test]
fn a_missing_segment_is_damage() {
    let storage = MemoryStorage::new(1);
    let (mut log, _) = open(&storage);
    for number in 0..5 {
        log.append(&record(number)).expect("appends");
        log.roll().expect("rolls");
    }
    drop(log);
    assert!(storage.lose_file(&name(2)) && storage.lose_file(&name(3)));
    let (log, report) = open(&storage);
    let (position, next) = (LogPosition::new(2, 40), LogPosition::new(4, 40));
    let reason = DamageReason::Missing;
    let damage = Damage {
        position,
        next,
        reason,
        records: Some(2),
    };
    assert_eq!(report.damage, [damage]);
    let damaged = LogItem::Damaged {
        position,
        next,
        reason,
    };
    assert_eq!(items(&log)[1], damaged);
    assert_eq!(log.read(position, 0).expect("reads"), [damaged]);
    let inside = LogPosition::new(3, 50);
    let rest = log.read(inside, 0).expect("reads");
    assert_eq!((rest[0].position(), rest[0].next()), (inside, next));
    assert_eq!(records(&log), [record(0), record(3), record(4)]);
}

#[test]
fn a_segment_that_became_shorter_is_damage() {
    let (storage, expected) = sample();
    let mut bytes = storage.contents(&name(1)).expect("a segment");
    let cut = expected[3].position().offset();
    bytes.truncate(usize::try_from(cut).expect("small") + 10);
    storage.set_contents(&name(1), &bytes);
    let (log, report) = open(&storage);
    let reasons: Vec<_> = report.damage.iter().map(|damage| damage.reason).collect();
    assert_eq!(reasons.last(), Some(&DamageReason::Truncated));
    assert!(report.loses_records());
    let found = items(&log);
    assert_eq!(found[..3], expected[..3]);
    assert_eq!(found[found.len() - 3..], expected[5..]);
    assert!(matches!(
        found[found.len() - 4],
        LogItem::Damaged {
            reason: DamageReason::Truncated,
            ..
        }
    ));
}

#[test]
fn a_newest_segment_without_a_readable_byte_is_damage_not_a_tail() {
    let (storage, expected) = sample();
    let length = storage.contents(&name(2)).expect("a segment").len();
    storage.set_contents(&name(2), &vec![0xEE; length]);
    let (mut log, report) = open(&storage);
    assert_eq!((report.cut_bytes, report.damage_count), (0, 2));
    let found = items(&log);
    assert_eq!(found[..5], expected[..5]);
    assert!(matches!(found[5..], [LogItem::Damaged { .. }]));
    log.append(b"after").expect("appends");
    log.sync().expect("syncs");
    assert_eq!(
        log.committed_end().segment(),
        3,
        "it is not written to again"
    );
    drop(log);
    let (log, report) = open(&storage);
    assert_eq!(records(&log).last(), Some(&b"after".to_vec()));
    assert!(report.loses_records());
}

#[test]
fn an_interrupted_creation_is_removed() {
    for bytes in [&b""[..], b"TGSEGLOG", &[0; 40]] {
        let (storage, expected) = sample();
        storage.set_contents(&name(3), bytes);
        let (reader, _) = SegmentLog::open_read_only(storage.clone()).expect("opens");
        assert_eq!(items(&reader), expected);
        assert_eq!(storage.names().len(), 3, "a reader changes nothing");
        let (mut log, report) = open(&storage);
        assert_eq!((report.removed_segments, report.damage_count), (1, 0));
        assert_eq!(storage.names().len(), 2);
        log.roll().expect("the number is free");
        assert_eq!(log.segments(), 3);
    }
}

#[test]
fn another_version_is_refused() {
    let (storage, _) = sample();
    let mut bytes = storage.contents(&name(1)).expect("a segment");
    bytes[8] = 2;
    let crc = crc32c(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(SegmentHeader::decode(&bytes, 1), HeaderState::Version(2));
    storage.set_contents(&name(1), &bytes);
    let error = SegmentLog::open(storage.clone(), config(4096, 1 << 20)).expect_err("refused");
    assert!(matches!(error, OpenError::Version { version: 2, .. }));
    SegmentLog::open_read_only(storage).expect_err("refused");
}

/// A record whose payload is the image of another log must not come alive when the header
/// before it is damaged.
#[test]
fn a_payload_that_looks_like_a_log_stays_a_payload() {
    let (sample, _) = sample();
    let inner = sample.contents(&name(1)).expect("a segment");
    let storage = MemoryStorage::new(1);
    let (mut log, _) = SegmentLog::open(storage.clone(), config(1 << 20, 1 << 30)).expect("opens");
    for _ in 0..3 {
        log.append(&inner).expect("appends");
    }
    log.sync().expect("syncs");
    drop(log);
    // The length of the second record.
    let second = 40 + 32 + inner.len() as u64;
    storage.flip(&name(1), second + 8, 1);
    let (log, report) = open(&storage);
    assert_eq!(
        (records(&log), report.records),
        (vec![inner.clone(), inner], 2)
    );
}

/// A mark commits exactly the records that it was written for.
#[test]
fn a_mark_of_other_records_commits_nothing() {
    let payload = b"stale";
    let kind = EntryKind::Record {
        length: 5,
        check: crc32c(payload),
    };
    let (record, header) = EntryHeader::encode(kind, 40, 1, 1, 40);
    let right = group_check(0, header.crc);
    for (count, check, committed) in [(1, right, 1), (1, right ^ 1, 0), (2, right, 0)] {
        let mark = EntryKind::Mark { count, check };
        let (mark, _) = EntryHeader::encode(mark, 40, 2, 1, 77);
        let segment = SegmentHeader {
            segment: 1,
            prior_end: 0,
            number_first: 1,
        };
        let bytes = [&segment.encode()[..], &record, payload, &mark].concat();
        let storage = MemoryStorage::new(1);
        storage.set_contents(&name(1), &bytes);
        let (log, report) = open(&storage);
        assert_eq!(records(&log).len(), committed);
        assert_eq!(report.records + report.cut_records, 1);
        assert_eq!(report.cut_bytes, if committed == 1 { 0 } else { 69 });
    }
}

#[test]
fn other_files_are_left_alone() {
    let (storage, expected) = sample();
    storage.set_contents("cells", b"not a segment");
    storage.set_contents("00000000000000000009.tmp", b"");
    let (log, _) = open(&storage);
    assert_eq!(items(&log), expected);
    assert_eq!(storage.names().len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_segment(&bytes);
    }

    #[test]
    fn arbitrary_entries_are_harmless(
        mode in 2_u8..4,
        entries in prop::collection::vec(
            (0_u8..4, 0_u8..6, 0_u8..4, 0_u8..8, any::<bool>()),
            0..40,
        ),
    ) {
        let mut bytes = vec![mode];
        for (kind, length, group, number, wrong) in entries {
            bytes.extend([kind | u8::from(wrong) << 7, length, group, number]);
            bytes.extend((0..length).map(|at| at ^ number));
        }
        fuzz_segment(&bytes);
    }

    #[test]
    fn a_real_log_with_arbitrary_damage_is_harmless(
        places in prop::collection::vec((1_u64..3, 0_u64..1200, 1_u8..), 0..12),
        cut in prop::option::of((1_u64..3, 0_usize..1200)),
    ) {
        let (storage, _) = sample();
        for (segment, offset, mask) in places {
            storage.flip(&name(segment), offset, mask);
        }
        if let Some((segment, length)) = cut {
            let mut bytes = storage.contents(&name(segment)).expect("a segment");
            bytes.truncate(length);
            storage.set_contents(&name(segment), &bytes);
        }
        let (log, _) = open(&storage);
        let found = items(&log);
        let whole = log.read(LogPosition::ZERO, usize::MAX).expect("reads");
        prop_assert_eq!(&whole, &found);
        let appended: Vec<_> = (0..8).map(record).collect();
        prop_assert!(records(&log).iter().all(|bytes| appended.contains(bytes)));
        drop(log);
        let (log, _) = open(&storage);
        prop_assert_eq!(items(&log), found);
    }
}
