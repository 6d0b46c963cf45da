use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{Lineage, Timestamp};

use super::*;
use crate::entry::{Entry, Opened, Stamped};

fn fold(entries: u8) -> Fold {
    let mut fold = Fold::new();
    for n in 1..=entries {
        let entry = if n == 1 {
            Entry::Opened(Opened {
                lineage: Lineage::from_bytes([1; 16]),
                partitions: 2,
                usage_window_secs: 60,
                settlement_millis: 0,
                future_tolerance_millis: 0,
            })
        } else {
            Entry::Clock
        };
        fold.apply(
            position(n),
            &Stamped {
                stamp: Timestamp::from_secs(i64::from(n)),
                entry,
            },
        );
    }
    fold
}

fn position(n: u8) -> Position {
    let mut bytes = [0; 16];
    bytes[0] = n;
    Position::from_bytes(bytes)
}

fn loaded(storage: &MemoryStorage, upto: u8) -> Option<Position> {
    let store = SnapshotStore::new(storage.clone());
    store
        .load(Some(position(upto)))
        .expect("reads")
        .fold
        .and_then(|fold| fold.position())
}

#[test]
fn the_newest_that_the_projections_cover_is_loaded() {
    let storage = MemoryStorage::new(1);
    let store = SnapshotStore::new(storage.clone());
    assert!(store.save(&Fold::new()).is_err(), "nothing to save");
    for n in [2, 4, 9] {
        store.save(&fold(n)).expect("saves");
    }
    assert_eq!(storage.names().len(), SNAPSHOTS_KEPT);
    assert_eq!(loaded(&storage, 9), Some(position(9)));
    assert_eq!(loaded(&storage, 8), Some(position(4)));
    assert_eq!(loaded(&storage, 3), None);
    assert!(
        store.load(None).expect("reads").fold.is_none(),
        "empty projections need every effect"
    );
    let back = store
        .load(Some(position(9)))
        .expect("reads")
        .fold
        .expect("there");
    assert_eq!(back.to_bytes(), fold(9).to_bytes());
    store.save(&fold(9)).expect("again, over itself");
    store.clear().expect("removes");
    assert_eq!(loaded(&storage, 9), None);
}

#[test]
fn every_damaged_byte_is_noticed_and_the_older_one_serves() {
    let storage = MemoryStorage::new(2);
    let store = SnapshotStore::new(storage.clone());
    store.save(&fold(2)).expect("saves");
    store.save(&fold(4)).expect("saves");
    let newest = name_of(position(4));
    let length = storage.contents(&newest).expect("there").len() as u64;
    for at in 0..length {
        assert!(storage.flip(&newest, at, 1));
        let found = store.load(Some(position(9))).expect("reads");
        assert_eq!(
            found.fold.and_then(|fold| fold.position()),
            Some(position(2)),
            "byte {at}"
        );
        assert_eq!(found.unusable.len(), 1);
        assert!(storage.flip(&newest, at, 1));
    }
    assert_eq!(loaded(&storage, 9), Some(position(4)));
    let whole = storage.contents(&newest).expect("there");
    for length in [0, 1, HEADER_BYTES, whole.len() - 1] {
        storage.set_contents(&newest, &whole[..length]);
        assert_eq!(loaded(&storage, 9), Some(position(2)), "cut to {length}");
    }
}

#[test]
fn a_crash_while_saving_leaves_the_one_before() {
    for seed in 0..40 {
        let storage = MemoryStorage::new(seed);
        SnapshotStore::new(storage.clone())
            .save(&fold(2))
            .expect("saves");
        storage.stop_at(seed % 9 + 1);
        let _ = SnapshotStore::new(storage.clone()).save(&fold(4));
        storage.crash();
        assert!(loaded(&storage, 9) >= Some(position(2)), "seed {seed}");
        SnapshotStore::new(storage.clone())
            .save(&fold(5))
            .expect("goes on");
        assert_eq!(loaded(&storage, 9), Some(position(5)), "seed {seed}");
    }
}

#[test]
fn those_of_another_history_are_removed() {
    let storage = MemoryStorage::new(5);
    let store = SnapshotStore::new(storage.clone());
    for n in [4, 9] {
        store.save(&fold(n)).expect("saves");
    }
    assert_eq!(
        store.discard_after(Some(position(9))).expect("reads").len(),
        0
    );
    assert_eq!(
        store.discard_after(Some(position(5))).expect("reads").len(),
        1
    );
    assert_eq!(loaded(&storage, 20), Some(position(4)));
    assert_eq!(store.discard_after(None).expect("reads").len(), 1);
    assert_eq!(loaded(&storage, 20), None);
}
