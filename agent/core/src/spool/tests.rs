use tollgate_common::limits::SEGMENT_BYTES_MIN;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Message, encode_record};
use tollgate_common::{
    AgentId, Batch, LossReason, Opening, Parent, ParentEnd, Span, Timestamp, Total,
};

mod inspect;
mod lazy;
mod room;

use super::*;
use crate::ship::Acknowledged;

const CONFIG: LogConfig = LogConfig {
    segment_bytes: SEGMENT_BYTES_MIN,
    bytes_max: 1 << 20,
};

fn incarnation(id: u8) -> Incarnation {
    Incarnation::from_bytes([id; 16])
}

/// Makes the batches of one incarnation after the other.
struct Maker {
    incarnation: Incarnation,
    sequence: u64,
    hash: BatchHash,
    parent: Option<Parent>,
}

impl Maker {
    fn new(id: u8) -> Self {
        Self {
            incarnation: incarnation(id),
            sequence: 0,
            hash: BatchHash::ZERO,
            parent: None,
        }
    }

    fn next(&mut self, is_final: bool) -> Sealed {
        self.sequence += 1;
        let at = Timestamp::from_secs(1_780_000_000 + i64::try_from(self.sequence).expect("few"));
        let total = Total {
            tenant: "acme".parse().expect("valid"),
            meter: "requests".parse().expect("valid"),
            scale: tollgate_common::Scale::ZERO,
            quantity: self.sequence.into(),
        };
        let batch = Batch {
            agent: AgentId::new("edge-1").expect("valid"),
            incarnation: self.incarnation,
            sequence: BatchSeq::new(self.sequence).expect("positive"),
            parent_hash: self.hash,
            span: Span { from: at, to: at },
            watermark: at,
            opening: (self.sequence == 1).then_some(Opening {
                parent: self.parent,
            }),
            is_final,
            rows: Vec::new(),
            totals: vec![total],
            losses: Vec::new(),
            steps: Vec::new(),
        };
        let mut record = Vec::new();
        encode_record(&batch, &mut record).expect("valid");
        self.hash = batch.hash();
        Sealed {
            hash: self.hash,
            record,
            complete: true,
            rows: 0,
            batch,
        }
    }

    fn child(&self, id: u8) -> Self {
        Self {
            parent: Some(Parent {
                incarnation: self.incarnation,
                last_sequence: self.sequence,
                last_hash: self.hash,
                end: ParentEnd::Final,
            }),
            ..Self::new(id)
        }
    }
}

fn open(storage: &MemoryStorage) -> Spool<MemoryStorage> {
    Spool::open(storage.clone(), CONFIG).expect("opens").0
}

fn all(spool: &Spool<MemoryStorage>) -> Vec<(Incarnation, u64, &'static str)> {
    let mut cursor = spool.cursor();
    let mut seen = Vec::new();
    while let Some(shipment) = spool.next(&mut cursor).expect("reads") {
        seen.push((
            shipment.incarnation,
            shipment.sequence,
            shipment.message.kind(),
        ));
    }
    seen
}

/// Damages the record that holds these bytes, wherever it lies.
fn damage(storage: &MemoryStorage, record: &[u8]) {
    for name in storage.names() {
        let contents = storage.contents(&name).expect("listed");
        let at = contents
            .windows(record.len())
            .position(|bytes| bytes == record);
        if let Some(at) = at {
            let middle = u64::try_from(at + record.len() / 2).expect("small");
            assert!(storage.flip(&name, middle, 0x10));
            return;
        }
    }
    panic!("no such record");
}

#[test]
fn what_is_appended_is_there_after_a_crash() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut maker = Maker::new(1);
    for number in 1..=200 {
        let sealed = maker.next(number == 200);
        let durable = spool.append(&sealed, Room::Ordinary).expect("room");
        assert_eq!(
            (durable.sequence().get(), durable.hash()),
            (number, sealed.hash)
        );
    }
    storage.crash();
    let spool = open(&storage);
    let tail = spool.tail(incarnation(1)).expect("held");
    assert_eq!((tail.last, tail.last_hash), (200, maker.hash));
    assert!(tail.is_final);
    assert_eq!(spool.newest(), Some(tail));
    assert_eq!(spool.backlog().batches, 200);
    assert_eq!(all(&spool).len(), 200);
    assert_eq!(spool.tail(incarnation(2)), None);
}

#[test]
fn hashes_and_positions_of_any_batch_are_found() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut maker = Maker::new(1);
    let hashes: Vec<BatchHash> = (0..300)
        .map(|_| {
            let sealed = maker.next(false);
            spool.append(&sealed, Room::Ordinary).expect("room");
            sealed.hash
        })
        .collect();
    for spool in [spool, open(&storage)] {
        for (number, hash) in (1..).zip(&hashes) {
            let found = spool.hash_of(incarnation(1), number).expect("reads");
            assert_eq!(found, Some(*hash), "batch {number}");
            let mut cursor = spool.cursor_past(|_| number - 1);
            let mut next = spool.next(&mut cursor).expect("reads").expect("held");
            assert!(next.sequence <= number && next.sequence + 64 > number);
            while next.sequence < number {
                next = spool.next(&mut cursor).expect("reads").expect("held");
            }
            assert_eq!(next.sequence, number);
        }
        let past = spool.hash_of(incarnation(1), 301).expect("reads");
        assert_eq!(past, None);
        let mut cursor = spool.cursor_past(|_| 300);
        assert_eq!(spool.next(&mut cursor).expect("reads"), None);
    }
}

#[test]
fn released_segments_go_and_the_newest_record_stays() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut maker = Maker::new(1);
    for _ in 0..200 {
        spool
            .append(&maker.next(false), Room::Ordinary)
            .expect("room");
    }
    let bytes = spool.bytes();
    let release = |spool: &mut Spool<MemoryStorage>, to| {
        let acknowledged = Acknowledged::for_test(incarnation(1), to);
        spool.release(acknowledged).expect("trims");
    };
    release(&mut spool, 100);
    // Up to 64 batches and a segment more may stay.
    assert!(spool.bytes() < bytes * 3 / 4);
    let held = spool.held();
    assert!(held[0].first.get() <= 101 && held[0].first.get() > 40);
    assert_ne!(held[0].first_parent, BatchHash::ZERO);
    assert_eq!(spool.backlog().batches, 100);
    let oldest = Some(Timestamp::from_secs(1_780_000_101));
    assert_eq!(spool.backlog().oldest, oldest, "between marks");
    assert_eq!(open(&storage).held(), held, "the same after a start");
    let before = spool.hash_of(incarnation(1), held[0].first.get() - 1);
    assert_eq!(before.expect("reads"), Some(held[0].first_parent));

    // More than there is cannot be released, and what is left is enough to go on.
    release(&mut spool, u64::MAX);
    assert_eq!((spool.backlog().batches, spool.backlog().oldest), (0, None));
    assert!(spool.bytes() <= 2 * SEGMENT_BYTES_MIN);
    let tail = open(&storage).tail(incarnation(1)).expect("held");
    assert_eq!((tail.last, tail.last_hash), (200, maker.hash));
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    assert_eq!(spool.backlog().batches, 1);
    release(&mut spool, 150);
    assert_eq!(spool.backlog().batches, 1, "releases do not go back");
}

#[test]
fn damaged_records_become_tombstones() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut first = Maker::new(1);
    let mut sealed: Vec<Sealed> = (0..10).map(|_| first.next(false)).collect();
    let mut second = first.child(2);
    sealed.extend((0..5).map(|_| second.next(false)));
    for sealed in &sealed {
        spool.append(sealed, Room::Ordinary).expect("room");
    }
    drop(spool);
    // Two in the middle, the last two of the parent, and the second of the child.
    for index in [3, 4, 8, 9, 11] {
        damage(&storage, &sealed[index].record);
    }
    let spool = open(&storage);
    let seen = all(&spool);
    let expected: Vec<_> = sealed
        .iter()
        .enumerate()
        .map(|(index, sealed)| {
            let lost = [3, 4, 8, 9, 11].contains(&index);
            let kind = if lost { "tombstone" } else { "batch" };
            (sealed.batch.incarnation, sealed.batch.sequence.get(), kind)
        })
        .collect();
    assert_eq!(seen, expected);
    let held = spool.held();
    assert_eq!((held[0].last.get(), held[1].first.get()), (10, 1));
    // The hash of a lost batch is known from the one after it.
    let hash = spool.hash_of(incarnation(1), 5).expect("reads");
    assert_eq!(hash, Some(sealed[4].hash));
    // Resuming in a gap gives the rest of it.
    let mut cursor = spool.cursor_past(|id| if id == incarnation(1) { 9 } else { 0 });
    let next = std::iter::from_fn(|| spool.next(&mut cursor).expect("reads"));
    let next = next.skip_while(|s| s.incarnation == incarnation(1) && s.sequence < 10);
    assert_eq!(next.count(), 6);
}

#[test]
fn the_lost_opening_of_a_child_is_a_tombstone_too() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut first = Maker::new(1);
    let end = first.next(true);
    let mut second = first.child(2);
    let (opening, next) = (second.next(false), second.next(false));
    for sealed in [&end, &opening, &next] {
        spool.append(sealed, Room::Ordinary).expect("room");
    }
    damage(&storage, &opening.record);
    let spool = open(&storage);
    assert_eq!(
        all(&spool),
        [
            (incarnation(1), 1, "batch"),
            (incarnation(2), 1, "tombstone"),
            (incarnation(2), 2, "batch"),
        ]
    );
    assert_eq!(spool.held()[1].first.get(), 1);
}

#[test]
fn tombstones_of_batches_lost_at_the_end_are_records() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut maker = Maker::new(1);
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    let lost = maker.next(false);
    let tombstone = Tombstone {
        agent: lost.batch.agent.clone(),
        incarnation: lost.batch.incarnation,
        sequence: lost.batch.sequence,
        reason: LossReason::SpoolDamaged,
        remembered: None,
    };
    spool.append_tombstone(&tombstone, lost.hash).expect("room");
    assert_eq!(
        spool.durable_tail(incarnation(1)).map(|d| d.hash()),
        Some(lost.hash)
    );
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    let spool = open(&storage);
    let kinds: Vec<_> = all(&spool).into_iter().map(|seen| seen.2).collect();
    assert_eq!(kinds, ["batch", "tombstone", "batch"]);
    let mut cursor = spool.cursor_past(|_| 1);
    let next = spool.next(&mut cursor).expect("reads").expect("held");
    assert!(next.sequence <= 2, "nothing is skipped");
    assert!(matches!(
        next.message,
        Message::Tombstone(_) | Message::Batch(_)
    ));
}

#[test]
fn a_spool_that_failed_stays_failed() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut maker = Maker::new(1);
    storage.fail_at(1, std::io::ErrorKind::Other, false);
    assert!(spool.append(&maker.next(false), Room::Ordinary).is_err());
    let error = spool.append(&maker.next(false), Room::Ordinary);
    assert!(matches!(error, Err(SpoolError::Append(_))));
}

#[test]
fn what_is_trimmed_is_not_said_to_be_held_where_only_damage_is_left() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let mut parent = Maker::new(1);
    for _ in 1..64 {
        spool
            .append(&parent.next(false), Room::Ordinary)
            .expect("room");
    }
    // The last batch of the parent is the first record of its segment.
    spool.log.roll().expect("rolls");
    let last = parent.next(true);
    spool.append(&last, Room::Ordinary).expect("room");
    let mut child = parent.child(2);
    for _ in 1..=20 {
        spool
            .append(&child.next(false), Room::Ordinary)
            .expect("room");
    }
    drop(spool);
    damage(&storage, &last.record);
    let mut spool = open(&storage);
    spool
        .release(Acknowledged::for_test(incarnation(1), 63))
        .expect("trims");
    let held = spool.held();
    assert_eq!((held[0].first.get(), held[0].last.get()), (64, 64));
    // Whatever the collector says it has, the tombstone comes, and nothing waits for ever.
    for known in [0, 40, 63] {
        let mut cursor = spool.cursor_past(|of| if of == incarnation(1) { known } else { 0 });
        let next = spool.next(&mut cursor).expect("reads").expect("there");
        assert_eq!((next.incarnation, next.sequence), (incarnation(1), 64));
    }
}
