//! Spools looked at from outside, and made whole.

use tollgate_common::{Aggregation, Dimensions, Quantity, Rollup, Scale, SeriesKey, Window};

use super::*;
use crate::spool::inspect::{Inspection, Missing, Piece, RepairError, repair};

/// A batch whose rows explain its totals.
fn counted(maker: &mut Maker, total: &mut i128, amount: i128, is_final: bool) -> Sealed {
    let mut sealed = maker.next(is_final);
    *total += amount;
    let series = SeriesKey::new(
        "acme".parse().expect("valid"),
        "requests".parse().expect("valid"),
        Dimensions::new([("region", "eu")]).expect("valid"),
    );
    let width = tollgate_common::WindowWidth::from_secs(10).expect("divides 900");
    sealed.batch.rows = vec![Rollup {
        series: std::sync::Arc::new(series.expect("short")),
        aggregation: Aggregation::Sum,
        scale: Scale::ZERO,
        window: Window::containing(sealed.batch.span.from, width),
        value: Quantity::new(amount),
        events: 1,
        detail: tollgate_common::Detail::None,
    }];
    sealed.batch.totals[0].quantity = Quantity::new(*total);
    sealed.record.clear();
    encode_record(&sealed.batch, &mut sealed.record).expect("valid");
    sealed.hash = sealed.batch.hash();
    maker.hash = sealed.hash;
    sealed
}

fn describe(inspection: &Inspection<MemoryStorage>) -> Vec<String> {
    let places = inspection.places().map(|place| place.expect("reads"));
    places
        .map(|place| match place.piece {
            Piece::Batch { batch, .. } => format!("batch {}", batch.sequence),
            Piece::Tombstone(tombstone) => format!("tombstone {}", tombstone.sequence),
            Piece::Anchor { sequence, .. } => format!("anchor {sequence}"),
            Piece::Gap { from, to, .. } => format!("gap {from}-{to}"),
            Piece::Damage { .. } => "damage".to_owned(),
            Piece::Foreign { .. } => "foreign".to_owned(),
        })
        .collect()
}

#[test]
fn a_repair_leaves_tombstones_and_says_what_is_gone() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    let (mut maker, mut total) = (Maker::new(1), 0);
    let sealed: Vec<_> = (1..=6)
        .map(|number| counted(&mut maker, &mut total, number * 100, number == 6))
        .collect();
    for sealed in &sealed {
        spool.append(sealed, Room::Reserve).expect("room");
    }
    drop(spool);
    damage(&storage, &sealed[2].record);
    damage(&storage, &sealed[3].record);
    let before = storage.contents(&storage.names()[0]);
    let inspection = Inspection::open(storage.clone()).expect("opens");
    let expected = [
        "batch 1", "batch 2", "damage", "damage", "gap 3-4", "batch 5", "batch 6",
    ];
    assert_eq!(describe(&inspection), expected);
    let target = MemoryStorage::new(2);
    let repaired = repair(&inspection, target.clone(), CONFIG.into()).expect("repairs");
    assert_eq!((repaired.records, repaired.places), (4, 2));
    assert_eq!(repaired.tombstones, [(incarnation(1), 3, 4)]);
    let gone = Missing {
        incarnation: incarnation(1),
        tenant: "acme".parse().expect("valid"),
        meter: "requests".parse().expect("valid"),
        scale: Scale::ZERO,
        quantity: Quantity::new(700),
    };
    assert_eq!(repaired.missing, [gone]);
    assert_eq!(
        storage.contents(&storage.names()[0]),
        before,
        "the original is untouched"
    );
    target.crash();
    let whole = Inspection::open(target.clone()).expect("opens");
    let expected = [
        "batch 1",
        "batch 2",
        "tombstone 3",
        "tombstone 4",
        "batch 5",
        "batch 6",
    ];
    assert_eq!(describe(&whole), expected);
    // The same goes out, and the end is the same.
    let (old, new) = (open(&storage), open(&target));
    assert_eq!(all(&old), all(&new));
    assert_eq!(old.newest(), new.newest());
    // A repair of a whole spool changes nothing.
    let third = MemoryStorage::new(3);
    let repaired = repair(&whole, third.clone(), CONFIG.into()).expect("repairs");
    assert_eq!((repaired.records, repaired.places), (6, 0));
    assert!(repaired.tombstones.is_empty());
    assert_eq!(all(&open(&third)), all(&new));
}

#[test]
fn what_another_version_wrote_is_not_thrown_away() {
    let storage = MemoryStorage::new(1);
    let mut spool = open(&storage);
    spool
        .append(&Maker::new(1).next(false), Room::Ordinary)
        .expect("room");
    spool.log.append(b"a record of next year").expect("room");
    spool.log.sync().expect("syncs");
    drop(spool);
    let inspection = Inspection::open(storage).expect("opens");
    assert_eq!(describe(&inspection), ["batch 1", "foreign"]);
    let error = repair(&inspection, MemoryStorage::new(2), CONFIG.into()).expect_err("refused");
    assert!(matches!(error, RepairError::Foreign(_)), "{error}");
}

#[test]
fn an_inspection_sees_what_waits_for_its_sync_and_anchors() {
    let storage = MemoryStorage::new(1);
    let config = SpoolConfig {
        sync: SyncPolicy::Interval { millis: 1000 },
        ..SpoolConfig::from(CONFIG)
    };
    let (mut spool, _) = Spool::open(storage.clone(), config).expect("opens");
    let mut maker = Maker::new(1);
    for _ in 0..3 {
        spool
            .append(&maker.next(false), Room::Ordinary)
            .expect("room");
    }
    let look = || describe(&Inspection::open(storage.clone()).expect("opens"));
    assert_eq!(look(), ["batch 1", "batch 2", "batch 3"]);
    let acknowledged = Acknowledged::for_test(incarnation(1), 3);
    spool.release(acknowledged).expect("lets go");
    spool
        .append(&maker.next(false), Room::Ordinary)
        .expect("room");
    assert_eq!(look(), ["batch 1", "anchor 3", "batch 4"]);
    let target = MemoryStorage::new(2);
    let inspection = Inspection::open(storage.clone()).expect("opens");
    repair(&inspection, target.clone(), config).expect("repairs");
    let copy = Inspection::open(target).expect("opens");
    assert_eq!(describe(&copy), ["batch 1", "anchor 3", "batch 4"]);
}
