use tollgate_common::storage::memory::MemoryStorage;

use super::*;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: 4096,
    bytes_max: 1 << 20,
};

fn journal(storage: &MemoryStorage) -> SegmentJournal<MemoryStorage> {
    SegmentJournal::open(storage.clone(), CONFIG)
        .expect("opens")
        .0
}

fn write(journal: &mut SegmentJournal<MemoryStorage>, groups: &[usize]) -> Vec<Position> {
    let mut positions = Vec::new();
    let mut number = 0u32;
    for &group in groups {
        for _ in 0..group {
            number += 1;
            let mut entry = vec![7; 700];
            entry[..4].copy_from_slice(&number.to_le_bytes());
            journal.append(PARTITION, &entry).expect("fits");
        }
        positions.extend(journal.commit(PARTITION).expect("synced"));
    }
    positions
}

fn read_all(
    journal: &SegmentJournal<MemoryStorage>,
    after: Option<Position>,
    max_bytes: usize,
) -> Vec<JournalItem> {
    let (mut after, mut items) = (after, Vec::new());
    loop {
        let more = journal.read(PARTITION, after, max_bytes).expect("reads");
        let Some(JournalItem::Entry { position, .. } | JournalItem::Damaged { position, .. }) =
            more.last()
        else {
            return items;
        };
        after = Some(*position);
        items.extend(more);
    }
}

#[test]
fn entries_come_back_in_order_from_anywhere() {
    let storage = MemoryStorage::new(1);
    let mut journal = journal(&storage);
    assert_eq!(journal.last(PARTITION).expect("reads"), None);
    let positions = write(&mut journal, &[1, 5, 3, 5, 1, 5]);
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert!(journal.log().segments() >= 2);
    for max_bytes in [1, 1000, 1 << 20] {
        let all = read_all(&journal, None, max_bytes);
        assert_eq!(all.len(), 20);
        for (index, position) in positions.iter().enumerate() {
            let rest = read_all(&journal, Some(*position), max_bytes);
            assert_eq!(rest, all[index + 1..], "after entry {index}");
        }
    }
    assert_eq!(
        journal.last(PARTITION).expect("reads"),
        positions.last().copied()
    );
    drop(journal);
    let journal = self::journal(&storage);
    assert_eq!(
        journal.last(PARTITION).expect("reads"),
        positions.last().copied()
    );
    assert_eq!(read_all(&journal, None, 1 << 20).len(), 20);
}

#[test]
fn what_is_not_committed_is_not_there() {
    let storage = MemoryStorage::new(2);
    let mut journal = journal(&storage);
    let positions = write(&mut journal, &[2]);
    journal.append(PARTITION, b"staged").expect("fits");
    assert_eq!(read_all(&journal, None, 1 << 20).len(), 2);
    drop(journal);
    storage.crash();
    let journal = self::journal(&storage);
    assert_eq!(read_all(&journal, None, 1 << 20).len(), 2);
    assert_eq!(
        journal.last(PARTITION).expect("reads"),
        positions.last().copied()
    );
}

#[test]
fn a_full_journal_says_so_and_a_failed_one_is_poisoned() {
    let storage = MemoryStorage::new(3);
    let small = LogConfig {
        bytes_max: 8192,
        ..CONFIG
    };
    let mut journal = SegmentJournal::open(storage.clone(), small)
        .expect("opens")
        .0;
    let mut result = Ok(());
    for _ in 0..100 {
        result = journal
            .append(PARTITION, &[1; 700])
            .and_then(|()| journal.commit(PARTITION).map(|_| ()));
        if result.is_err() {
            break;
        }
    }
    assert!(matches!(result, Err(JournalError::Full(_))), "{result:?}");

    let storage = MemoryStorage::new(4);
    let mut journal = self::journal(&storage);
    write(&mut journal, &[1]);
    storage.fail_at(1, std::io::ErrorKind::Other, false);
    let mut failed = 0;
    for _ in 0..3 {
        let result = journal
            .append(PARTITION, &[1; 700])
            .and_then(|()| journal.commit(PARTITION).map(|_| ()));
        if let Err(error) = result {
            assert!(matches!(error, JournalError::Poisoned(_)), "{error:?}");
            failed += 1;
        }
    }
    assert!(failed >= 2, "nothing is trusted after a failure");
}

#[test]
fn another_partition_is_refused() {
    let mut journal = journal(&MemoryStorage::new(5));
    assert!(journal.acquire(PartitionId(1)).is_err());
    assert!(journal.acquire(PARTITION).is_ok());
}
