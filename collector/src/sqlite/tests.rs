//! Tests of the SQLite projection.

use std::sync::Arc;

use tollgate_collector_core::effect::{
    AccountState, AgentState, Effect, PeriodState, PeriodStatus, UsageChange,
};
use tollgate_collector_core::entry::RefusedReason;
use tollgate_collector_core::ledger::{Chain, EntryKind, Posting};
use tollgate_common::sketch::{Histogram, UniqueSketch, hash};
use tollgate_common::{
    AgentId, Aggregation, Detail, Dimensions, Incarnation, MeterName, Quantity, Scale, SeriesKey,
    TenantId, Timestamp, Window, WindowWidth,
};

use super::query::{Filter, QueryError, Reader};
use super::*;

mod pages;

const P: PartitionId = PartitionId(0);

fn position(number: u8) -> Position {
    Position::from_bytes([number; 16])
}

fn transaction(after: Option<u8>, upto: u8, effects: Vec<Effect>) -> Transaction {
    Transaction {
        partition: P,
        epoch: Epoch(1),
        after: after.map(position),
        upto: position(upto),
        effects,
    }
}

fn usage(tenant: &str, region: &str, start: i64, quantity: i128) -> UsageChange {
    let series = SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new("bytes").expect("valid"),
        Dimensions::new([("region", region)]).expect("valid"),
    );
    UsageChange {
        detail: tollgate_common::Detail::None,
        series: Arc::new(series.expect("short")),
        aggregation: Aggregation::Sum,
        scale: Scale::new(3).expect("in range"),
        window: Window::containing(
            Timestamp::from_secs(start),
            WindowWidth::from_secs(60).expect("divides"),
        ),
        refused: None,
        quantity: Quantity::new(quantity),
        events: u64::MAX,
        order: None,
    }
}

fn posting(tenant: &str, quantity: i128) -> Posting {
    let (start, end) = (Timestamp::EPOCH, Timestamp::from_secs(60));
    let mut posting = Posting::new(EntryKind::Charge, start, end, "requests", position(1));
    posting.tenant = Some(TenantId::new(tenant).expect("valid"));
    posting.meter = Some(MeterName::new("bytes").expect("valid"));
    posting.quantity = Quantity::new(quantity);
    posting.scale = Scale::new(3).expect("in range");
    posting.currency = Some("EUR".to_owned());
    posting.journal_from = position(0);
    posting
}

fn booked(chain: &mut Chain, tenant: &str, quantity: i128) -> Effect {
    Effect::Ledger(Box::new(
        chain.append(Timestamp::from_secs(9), posting(tenant, quantity)),
    ))
}

#[test]
fn usage_adds_exactly_beyond_64_bits() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    assert!(projection.was_created());
    let big = i128::from(u64::MAX);
    let effects = vec![
        Effect::Usage(usage("acme", "eu", 5, big)),
        Effect::Usage(usage("acme", "eu", 30, big)),
    ];
    projection
        .commit(&transaction(None, 1, effects))
        .expect("commits");

    let rows = Reader::open(&path)
        .expect("reads")
        .usage(&Filter::default())
        .expect("page")
        .items;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].units, "36893488147419103230");
    assert_eq!(rows[0].quantity, "36893488147419103.23");
    assert_eq!(rows[0].events, "36893488147419103230");
    assert_eq!(rows[0].start.as_deref(), Some("1970-01-01T00:00:00.000Z"));

    // What leaves the range stays at its end and stops nobody.
    let overflow = vec![
        Effect::Usage(usage("acme", "us", 0, 1)),
        Effect::Usage(usage("acme", "eu", 5, i128::MAX)),
    ];
    projection
        .commit(&transaction(Some(1), 2, overflow))
        .expect("commits");
    let rows = Reader::open(&path)
        .expect("reads")
        .usage(&Filter::default())
        .expect("page")
        .items;
    let units: Vec<_> = rows.iter().map(|row| row.units.clone()).collect();
    assert_eq!(units, [i128::MAX.to_string(), "1".to_owned()]);
}

/// A frame may hold a million rows that each add one value to a large sketch.
#[test]
fn details_are_merged_once_for_each_window_whatever_a_frame_holds() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let seen = |value: u64| {
        let mut sketch = UniqueSketch::new();
        sketch.insert(hash(&value.to_le_bytes()));
        Detail::Unique(Arc::new(sketch))
    };
    let took = |value: u64| {
        let mut histogram = Histogram::new();
        histogram.record(value, 1).expect("one");
        Detail::Distribution(Arc::new(histogram))
    };
    let change = |region, aggregation, detail| {
        let mut change = usage("acme", region, 0, 1);
        (change.aggregation, change.detail, change.events) = (aggregation, detail, 1);
        Effect::Usage(change)
    };
    let frame = |from: u64| -> Vec<Effect> {
        let values = from..from + 5000;
        let each = values.flat_map(|value| {
            [
                change("eu", Aggregation::Unique, seen(value)),
                change("eu", Aggregation::Distribution, took(value)),
                change("us", Aggregation::Distribution, took(7)),
            ]
        });
        each.collect()
    };
    let merges = |projection: &SqliteProjection, effects: &[Effect]| {
        write::effects(&projection.connection, effects).expect("writes")
    };
    assert_eq!(merges(&projection, &frame(0)), 0, "nothing was stored");
    assert_eq!(merges(&projection, &frame(5000)), 3, "once each");
    projection
        .commit(&transaction(None, 1, frame(0)))
        .expect("commits");

    let rows = Reader::open(&path)
        .expect("reads")
        .usage(&Filter::default())
        .expect("page")
        .items;
    let of = |aggregation: &str| {
        let of = rows.iter().filter(|row| row.aggregation == aggregation);
        of.map(|row| (row.units.clone(), row.events.clone()))
            .collect::<Vec<_>>()
    };
    let all = "15000".to_owned();
    let both = (all.clone(), all.clone());
    assert_eq!(of("distribution"), [both.clone(), both]);
    let [(distinct, events)] = &of("unique")[..] else {
        panic!("{rows:?}");
    };
    assert_eq!(*events, all);
    let distinct: f64 = distinct.parse().expect("a number");
    assert!((distinct - 10_000.0).abs() < 10_000.0 * 0.07, "{distinct}");
}

#[test]
fn the_newest_of_last_values_stands_in_any_order() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    let last = |order: &str, quantity| {
        let mut change = usage("acme", "eu", 0, quantity);
        change.aggregation = Aggregation::Last;
        change.order = Some(order.to_owned());
        Effect::Usage(change)
    };
    let effects = vec![
        last("0002-a", 20),
        last("0001-b", 10),
        last("0003-a", 30),
        last("0002-z", 7),
    ];
    projection
        .commit(&transaction(None, 1, effects))
        .expect("commits");
    let rows = Reader::open(&path)
        .expect("reads")
        .usage(&Filter::default())
        .expect("page")
        .items;
    assert_eq!(rows[0].units, "30");
}

/// Two agents' rows of one window, for each aggregation: what stands is what the fold would
/// make of them, whatever the order.
#[test]
fn every_aggregation_merges_in_any_order() {
    let sketch = |values: std::ops::Range<u64>| {
        let mut sketch = UniqueSketch::new();
        for value in values {
            sketch.insert(hash(&value.to_le_bytes()));
        }
        sketch
    };
    let histogram = |values: &[u64]| {
        let mut histogram = Histogram::new();
        for &value in values {
            histogram.record(value, 1).expect("few");
        }
        histogram
    };
    let change = |region, aggregation, quantity, detail| {
        let mut change = usage("acme", region, 0, quantity);
        (change.aggregation, change.detail, change.events) = (aggregation, detail, 1);
        Effect::Usage(change)
    };
    let unique = |region, values| {
        let sketch = sketch(values);
        let estimate = i128::from(sketch.estimate());
        change(
            region,
            Aggregation::Unique,
            estimate,
            Detail::Unique(Arc::new(sketch)),
        )
    };
    let latency = |values: &[u64]| {
        let sum = values.iter().map(|&value| i128::from(value)).sum();
        let detail = Detail::Distribution(Arc::new(histogram(values)));
        change("a", Aggregation::Distribution, sum, detail)
    };
    let effects = vec![
        change("a", Aggregation::Max, -7, Detail::None),
        change("a", Aggregation::Max, -3, Detail::None),
        change("a", Aggregation::TimeWeighted, 40, Detail::None),
        change("a", Aggregation::TimeWeighted, 2, Detail::None),
        unique("a", 0..200),
        unique("a", 100..250),
        unique("b", 0..3000),
        unique("b", 2000..5000),
        latency(&[5, 1000]),
        latency(&[7]),
    ];
    let read = |effects: Vec<Effect>| {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join(FILE_NAME);
        let mut projection = SqliteProjection::open(&path).expect("opens");
        let transaction = transaction(None, 1, effects);
        projection.commit(&transaction).expect("commits");
        let reader = Reader::open(&path).expect("reads");
        let rows = reader.usage(&Filter::default()).expect("page").items;
        let totals = reader.usage_totals(&Filter::default()).expect("page").items;
        let json = |rows| serde_json::to_value(rows).expect("plain");
        (json(rows), json(totals))
    };
    let turned = effects.iter().rev().cloned().collect();
    let (rows, totals) = read(effects);
    assert_eq!((rows.clone(), totals.clone()), read(turned));
    let find = |aggregation: &str, region: &str| {
        let found =
            rows.as_array().expect("rows").iter().find(|row| {
                row["aggregation"] == aggregation && row["dimensions"]["region"] == region
            });
        found.expect("there is one").clone()
    };
    assert_eq!(find("max", "a")["units"], "-3");
    assert_eq!(find("time_weighted", "a")["units"], "42");
    assert_eq!(find("unique", "a")["units"], "250");
    assert_eq!(find("unique", "a")["exact"], true);
    let estimate = sketch(0..5000).estimate().to_string();
    assert_eq!(find("unique", "b")["units"], estimate.as_str());
    assert_eq!(find("unique", "b")["exact"], false);
    let distribution = find("distribution", "a");
    assert_eq!(distribution["units"], "1012");
    let figures = serde_json::json!(
        {"count": "3", "p50": "0.007", "p95": "1.003", "p99": "1.003", "max": "1.003"}
    );
    assert_eq!(distribution["distribution"], figures);
    // Sums over series are told of what adds up.
    let totals = totals.as_array().expect("rows");
    let of: Vec<_> = totals.iter().map(|row| &row["aggregation"]).collect();
    assert_eq!(of, ["distribution", "time_weighted"]);
}

#[test]
fn a_dropped_process_leaves_the_last_transaction() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut chain = Chain::new(0);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    projection
        .commit(&transaction(None, 1, vec![booked(&mut chain, "acme", 5)]))
        .expect("commits");
    projection
        .commit(&transaction(
            Some(1),
            2,
            vec![booked(&mut chain, "acme", 6)],
        ))
        .expect("commits");
    // A killed process neither closes its connection nor checkpoints.
    std::mem::forget(projection);

    let projection = SqliteProjection::open(&path).expect("opens again");
    assert!(!projection.was_created());
    assert_eq!(projection.position(P).expect("reads"), Some(position(2)));
    let entries = projection.ledger(0, 0, 10).expect("reads");
    let mut check = Chain::new(0);
    assert!(entries.iter().all(|entry| check.verify_next(entry).is_ok()));
    assert_eq!(check, chain);
    assert_eq!(projection.ledger(0, 1, 10).expect("reads").len(), 1);
    assert!(projection.ledger(1, 0, 10).expect("reads").is_empty());
}

#[test]
fn another_fold_that_moved_or_owns_the_file_is_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut projection = SqliteProjection::open(&dir.path().join(FILE_NAME)).expect("opens");
    projection
        .commit(&transaction(None, 1, Vec::new()))
        .expect("commits");
    let error = projection
        .commit(&transaction(None, 2, Vec::new()))
        .expect_err("moved");
    assert!(
        matches!(error, ProjectionError::Moved { found: Some(p), .. } if p == position(1)),
        "{error}"
    );

    let mut newer = transaction(Some(1), 2, Vec::new());
    newer.epoch = Epoch(2);
    projection.commit(&newer).expect("commits");
    let error = projection
        .commit(&transaction(Some(2), 3, Vec::new()))
        .expect_err("fenced");
    assert!(
        matches!(
            error,
            ProjectionError::Fenced {
                current: Epoch(2),
                ours: Epoch(1)
            }
        ),
        "{error}"
    );
}

#[test]
fn the_ledger_cannot_be_changed_in_place() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    let mut projection = SqliteProjection::open(&path).expect("opens");
    projection
        .commit(&transaction(
            None,
            1,
            vec![booked(&mut Chain::new(0), "acme", 5)],
        ))
        .expect("commits");
    let other = Connection::open(&path).expect("opens");
    for sql in [
        "UPDATE ledger SET amount = '0'",
        "DELETE FROM ledger",
        "INSERT OR REPLACE INTO ledger SELECT * FROM ledger",
    ] {
        let error = other.execute(sql, []).expect_err(sql);
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
    let twice = transaction(Some(1), 2, vec![booked(&mut Chain::new(0), "acme", 6)]);
    assert!(projection.commit(&twice).is_err(), "the number is taken");
    projection.clear().expect("the owner may build anew");
    assert_eq!(projection.position(P).expect("reads"), None);
    assert!(projection.ledger(0, 0, 1).expect("reads").is_empty());
    projection
        .commit(&transaction(
            None,
            1,
            vec![booked(&mut Chain::new(0), "acme", 5)],
        ))
        .expect("commits");
}

#[test]
fn a_file_of_another_layout_is_emptied_and_reading_one_is_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join(FILE_NAME);
    drop(SqliteProjection::open(&path).expect("opens"));
    let other = Connection::open(&path).expect("opens");
    other
        .execute("UPDATE meta SET value = '0'", [])
        .expect("changes");
    drop(other);
    assert!(matches!(
        Reader::open(&path),
        Err(QueryError::Layout { .. })
    ));
    assert!(SqliteProjection::open(&path).expect("opens").was_created());

    std::fs::write(
        &path,
        "not a database, long enough to be taken for a header of one, and so on, and so on",
    )
    .expect("writes");
    let error = SqliteProjection::open(&path).expect_err("not a database");
    assert!(error.to_string().contains("delete it"), "{error}");
    assert!(matches!(
        Reader::open(&dir.path().join("none")),
        Err(QueryError::Missing(_))
    ));
}
