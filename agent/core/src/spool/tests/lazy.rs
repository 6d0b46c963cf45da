//! Spools that do not sync every batch.

use super::*;

const MILLIS: u64 = 30_000;

fn open_with(storage: &MemoryStorage, sync: SyncPolicy) -> Spool<MemoryStorage> {
    let config = SpoolConfig {
        sync,
        segment_bytes: 1 << 20,
        ..SpoolConfig::from(CONFIG)
    };
    Spool::open(storage.clone(), config).expect("opens").0
}

fn lazy(storage: &MemoryStorage) -> Spool<MemoryStorage> {
    let mut spool = open_with(storage, SyncPolicy::OnDisconnect { millis: MILLIS });
    spool.set_connected(true);
    spool
}

fn append(spool: &mut Spool<MemoryStorage>, maker: &mut Maker) {
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
}

fn release(spool: &mut Spool<MemoryStorage>, up_to: u64) {
    let acknowledged = Acknowledged::for_test(incarnation(1), up_to);
    spool.release(acknowledged).expect("lets go");
}

/// The next shipment that a collector which has everything up to `known` does not have.
fn after(
    spool: &Spool<MemoryStorage>,
    cursor: &mut Cursor,
    known: u64,
) -> Option<(u64, &'static str)> {
    loop {
        let next = spool.next(cursor).expect("reads")?;
        if next.sequence > known {
            return Some((next.sequence, next.message.kind()));
        }
    }
}

#[test]
fn while_connected_and_acknowledged_nothing_is_synced_and_little_is_left_to_write() {
    let storage = MemoryStorage::new(1);
    let mut spool = lazy(&storage);
    let mut maker = Maker::new(1);
    append(&mut spool, &mut maker);
    let (syncs, used) = (storage.stats().syncs, storage.used());
    assert!(syncs > 0, "the first batch of a life is always synced");
    for number in 2..=500 {
        append(&mut spool, &mut maker);
        let mut cursor = spool.cursor_past(|_| number - 1);
        let next = after(&spool, &mut cursor, number - 1);
        assert_eq!(next, Some((number, "batch")), "there at once");
        release(&mut spool, number);
        assert_eq!(after(&spool, &mut cursor, number), None);
    }
    assert_eq!(storage.stats().syncs, syncs);
    assert!(storage.used() < used + 300, "{} {used}", storage.used());
    assert_eq!(spool.backlog().batches, 0);
    let held = spool.held();
    assert_eq!((held[0].first.get(), held[0].last.get()), (500, 500));
    assert_eq!(held[0].last_hash, maker.hash);
    // A killed process knows all of it; the next batch follows without a gap.
    drop(spool);
    storage.kill();
    let mut spool = lazy(&storage);
    let tail = spool.tail(incarnation(1)).expect("held");
    assert_eq!((tail.last, tail.last_hash), (500, maker.hash));
    assert_eq!(spool.backlog().batches, 0);
    append(&mut spool, &mut maker);
    let mut cursor = spool.cursor_past(|_| 500);
    assert_eq!(after(&spool, &mut cursor, 500), Some((501, "batch")));
    assert_eq!(after(&spool, &mut cursor, 501), None);
}

#[test]
fn a_collector_that_lost_what_it_had_released_is_told() {
    let storage = MemoryStorage::new(1);
    let mut spool = lazy(&storage);
    let mut maker = Maker::new(1);
    for _ in 0..9 {
        append(&mut spool, &mut maker);
    }
    release(&mut spool, 9);
    append(&mut spool, &mut maker);
    let mut cursor = spool.cursor_past(|_| 4);
    let first = spool.next(&mut cursor).expect("reads").expect("something");
    let Message::Tombstone(tombstone) = first.message else {
        panic!("not a tombstone");
    };
    assert_eq!(tombstone.sequence.get(), 9);
    assert_eq!(tombstone.reason, LossReason::JournalDamaged);
    let next = spool.next(&mut cursor).expect("reads").expect("the tenth");
    assert_eq!((next.sequence, next.message.kind()), (10, "batch"));
}

#[test]
fn a_cursor_survives_that_its_place_is_gone() {
    let storage = MemoryStorage::new(1);
    let mut spool = lazy(&storage);
    let mut maker = Maker::new(1);
    let mut cursor = spool.cursor();
    let mut seen = Vec::new();
    for number in 1..=60 {
        append(&mut spool, &mut maker);
        while let Some(shipment) = spool.next(&mut cursor).expect("reads") {
            if shipment.message.kind() == "batch" {
                seen.push(shipment.sequence);
            }
        }
        if number % 7 == 0 {
            release(&mut spool, number);
        }
    }
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
}

#[test]
fn what_waits_is_synced_in_time() {
    let storage = MemoryStorage::new(1);
    let mut spool = open_with(&storage, SyncPolicy::Interval { millis: MILLIS });
    let mut maker = Maker::new(1);
    append(&mut spool, &mut maker);
    assert_eq!(spool.poll_timeout(), None);
    append(&mut spool, &mut maker);
    append(&mut spool, &mut maker);
    let sealed = Timestamp::from_secs(1_780_000_002);
    let due = spool.poll_timeout().expect("something waits");
    assert_eq!(due, sealed.plus_millis(30_000));
    spool.handle_tick(due.plus_millis(-1)).expect("waits");
    assert!(spool.unsynced() > 0);
    spool.handle_tick(due).expect("syncs");
    assert_eq!((spool.unsynced(), spool.poll_timeout()), (0, None));
    storage.crash();
    assert_eq!(open(&storage).tail(incarnation(1)).expect("held").last, 3);
    // A clock that goes back delays no sync beyond the interval.
    let mut spool = open_with(&storage, SyncPolicy::Interval { millis: MILLIS });
    append(&mut spool, &mut maker);
    let long_ago = Timestamp::from_secs(1_000_000_000);
    spool.handle_tick(long_ago).expect("waits");
    assert_eq!(spool.poll_timeout(), Some(long_ago.plus_millis(30_000)));
}

#[test]
fn a_lost_connection_ends_the_waiting() {
    let storage = MemoryStorage::new(1);
    let mut spool = lazy(&storage);
    let mut maker = Maker::new(1);
    append(&mut spool, &mut maker);
    append(&mut spool, &mut maker);
    assert!(spool.unsynced() > 0);
    spool.set_connected(false);
    let now = Timestamp::from_secs(1_780_000_002);
    assert!(spool.poll_timeout().expect("due") <= now);
    spool.handle_tick(now).expect("syncs");
    assert_eq!(spool.unsynced(), 0);
    let syncs = storage.stats().syncs;
    append(&mut spool, &mut maker);
    assert!(storage.stats().syncs > syncs, "every batch from now on");
    // Ends and tombstones are synced whatever the policy.
    spool.set_connected(true);
    append(&mut spool, &mut maker);
    spool
        .append(&maker.next(true), Room::Reserve)
        .expect("room");
    assert_eq!(spool.unsynced(), 0);
}

/// After a power cut the spool ends with some batch that was appended, or with the anchor, and
/// never before what was synced.
#[test]
fn a_power_cut_leaves_a_true_end() {
    for seed in 0..300 {
        let storage = MemoryStorage::new(seed);
        let mut spool = lazy(&storage);
        let mut maker = Maker::new(1);
        let mut hashes = vec![BatchHash::ZERO];
        let mut synced = 1;
        for number in 1..=30 + seed % 9 {
            append(&mut spool, &mut maker);
            hashes.push(maker.hash);
            if (number + seed) % 4 == 0 {
                release(&mut spool, number);
            }
            if (number + seed) % 11 == 0 {
                spool
                    .handle_tick(Timestamp::from_secs(1_790_000_000))
                    .expect("syncs");
                synced = number;
            }
        }
        drop(spool);
        storage.crash();
        let (spool, report) = Spool::open(storage.clone(), CONFIG).expect("opens");
        assert_eq!(report.damage_count, 0, "seed {seed}");
        let tail = spool.tail(incarnation(1)).expect("the opening is synced");
        assert!(tail.last >= synced, "seed {seed}");
        let at = usize::try_from(tail.last).expect("small");
        assert_eq!(tail.last_hash, hashes[at], "seed {seed}");
    }
}

#[test]
fn a_trim_does_not_bring_back_what_was_let_go() {
    let storage = MemoryStorage::new(1);
    let config = SpoolConfig {
        sync: SyncPolicy::OnDisconnect { millis: MILLIS },
        ..SpoolConfig::from(CONFIG)
    };
    let (mut spool, _) = Spool::open(storage.clone(), config).expect("opens");
    let mut maker = Maker::new(1);
    while spool.log.segments() < 3 {
        append(&mut spool, &mut maker);
    }
    spool.set_connected(true);
    // The newest segment has nothing that is synced: the one before it must stay.
    while spool.log.segments() < 4 {
        append(&mut spool, &mut maker);
    }
    for _ in 0..3 {
        append(&mut spool, &mut maker);
    }
    let last = maker.sequence;
    release(&mut spool, last);
    assert!(spool.log.segments() < 4, "trimmed");
    let first = spool.held()[0].first.get();
    assert_eq!(first, last, "what is held has no hole");
    // Somebody without anything gets the anchor's tombstone and nothing before it.
    let mut cursor = spool.cursor_past(|_| first - 1);
    assert_eq!(
        after(&spool, &mut cursor, first - 1),
        Some((last, "tombstone"))
    );
    assert_eq!(spool.backlog().batches, 0);
}
