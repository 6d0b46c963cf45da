//! Forks, duplicates and losses of what is no sum.

use std::sync::Arc;

use tollgate_common::sketch::{Histogram, UniqueSketch};
use tollgate_common::{Aggregation, Batch, Detail, Rollup};

use super::books::{Books, Sealer, row};
use crate::fold::TenantInput;
use crate::fold::intake::{Intake, NoticeKind};

fn of(aggregation: Aggregation, meter: &str, value: i128, detail: Detail) -> Rollup {
    Rollup {
        aggregation,
        detail,
        ..row("acme", meter, "eu", 0, value)
    }
}

fn max(value: i128) -> Rollup {
    of(Aggregation::Max, "peak", value, Detail::None)
}

fn seat_time(value: i128) -> Rollup {
    of(Aggregation::TimeWeighted, "seats", value, Detail::None)
}

fn users(hashes: &[u64]) -> Rollup {
    let sketch = UniqueSketch::from_hashes(hashes.to_vec()).expect("sorted");
    let estimate = i128::from(sketch.estimate());
    of(
        Aggregation::Unique,
        "users",
        estimate,
        Detail::Unique(Arc::new(sketch)),
    )
}

fn latency(values: &[u64]) -> Rollup {
    let mut histogram = Histogram::new();
    for &value in values {
        histogram.record(value, 1).expect("few");
    }
    let sum = values.iter().map(|&value| i128::from(value)).sum();
    let detail = Detail::Distribution(Arc::new(histogram));
    of(Aggregation::Distribution, "latency", sum, detail)
}

/// A batch whose running totals are those of sums alone, as agents write them.
fn seal(sealer: &mut Sealer, rows: Vec<Rollup>, is_final: bool) -> Batch {
    let mut sealed = sealer.clone();
    let mut batch = sealed.seal(rows, is_final);
    let sums = |account: &str| account == "http.requests";
    batch.totals.retain(|total| sums(total.meter.as_str()));
    sealed.last_hash = batch.hash();
    *sealer = sealed;
    batch
}

/// Everything that was handed on for a meter: the rows merged into one.
fn handed_on(outputs: &[crate::fold::intake::IntakeOutput], meter: &str) -> Rollup {
    let inputs = outputs.iter().flat_map(|output| &output.inputs);
    let rows = inputs.filter_map(|(_, input)| match input {
        TenantInput::Rows(rows) => Some(rows.rows.iter()),
        _ => None,
    });
    let of_meter = rows
        .flatten()
        .filter(|(row, refused)| row.series.meter().as_str() == meter && refused.is_none());
    of_meter
        .map(|(row, _)| row.clone())
        .reduce(|mut all, row| {
            all.absorb(&row).expect("few values");
            all
        })
        .expect("some rows")
}

fn account(meter: &str) -> (String, String) {
    ("acme".to_owned(), meter.to_owned())
}

#[test]
fn a_fork_books_the_maximum_of_each_row() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    let mut outputs = vec![books.batch(&seal(&mut one, vec![max(1)], false))];
    let mut two = one.clone();
    let first = vec![
        max(70),
        users(&[1, 2]),
        latency(&[5, 5, 900]),
        seat_time(400),
    ];
    let second = vec![
        max(90),
        users(&[2, 3]),
        latency(&[5, 900, 900, 7]),
        seat_time(650),
    ];
    outputs.push(books.batch(&seal(&mut one, first, false)));
    let fork = seal(&mut two, second, false);
    outputs.push(books.batch(&fork));
    // The branch again: known by its hash, it changes nothing.
    outputs.push(books.batch(&fork));
    let whole = |meter| handed_on(&outputs, meter);
    assert_eq!(whole("peak").value.units(), 90);
    assert_eq!(whole("users").detail, users(&[1, 2, 3]).detail);
    // Bucket by bucket: two of 5, two of 900, one of 7.
    assert_eq!(
        whole("latency").detail,
        latency(&[5, 5, 7, 900, 900]).detail
    );
    // The sums: 910 of the first branch, 1812 of the other one.
    assert_eq!(whole("latency").value.units(), 1812);
    assert_eq!(whole("seats").value.units(), 650);
    // What both say is declared lost at most; maxima and sets lose nothing.
    assert_eq!(Books::of(&books.lost, &account("latency")), 910);
    assert_eq!(Books::of(&books.lost, &account("seats")), 400);
    assert_eq!(Books::of(&books.lost, &account("peak")), 0);
    assert_eq!(Books::of(&books.accepted, &account("latency")), 910 + 1812);
}

/// The books of a life, its batches applied in this order, and again after a restart.
fn in_order(batches: &[Batch], order: &[usize]) -> Vec<Rollup> {
    let mut books = Books::new();
    let mut outputs = Vec::new();
    for &index in order {
        outputs.push(books.batch(&batches[index]));
        let bytes = books.intake.to_bytes();
        books.intake = Intake::from_bytes(&bytes).expect("own bytes");
        assert_eq!(books.intake.to_bytes(), bytes);
    }
    ["peak", "users", "latency", "seats"]
        .map(|meter| handed_on(&outputs, meter))
        .to_vec()
}

#[test]
fn order_and_duplicates_do_not_matter() {
    let mut sealer = Sealer::new(1);
    let batches: Vec<Batch> = [(3, 1, 40), (9, 2, 7), (5, 1, 80_000)]
        .map(|(peak, user, value)| {
            let rows = vec![
                max(peak),
                users(&[user]),
                latency(&[value]),
                seat_time(peak),
            ];
            seal(&mut sealer, rows, false)
        })
        .to_vec();
    let straight = in_order(&batches, &[0, 1, 2]);
    assert_eq!(straight[0].value.units(), 9);
    assert_eq!(straight[1].detail, users(&[1, 2]).detail);
    assert_eq!(straight[2].value.units(), 80_047);
    assert_eq!(straight[3].value.units(), 17);
    for order in [&[2, 1, 0][..], &[1, 1, 0, 2, 0, 1], &[0, 2, 2, 1]] {
        assert_eq!(in_order(&batches, order), straight);
    }
}

/// Running totals price sums alone. A life that counts other things keeps the declaration that
/// a lost batch may have held more; a level that is lost is one that the next one replaces.
#[test]
fn totals_do_not_price_what_they_do_not_cover() {
    let level = of(Aggregation::Last, "seats.now", 4, Detail::None);
    for (more, counts_more) in [
        (None, false),
        (Some(level), false),
        (Some(max(3)), true),
        (Some(users(&[1, 2])), true),
        (Some(latency(&[5, 900])), true),
        (Some(seat_time(40)), true),
    ] {
        let mut sealer = Sealer::new(1);
        let mut books = Books::new();
        let requests = |value| row("acme", "http.requests", "eu", 0, value);
        let rows: Vec<_> = [Some(requests(5)), more].into_iter().flatten().collect();
        books.batch(&seal(&mut sealer, rows.clone(), false));
        seal(&mut sealer, rows.clone(), false);
        books.tombstone(sealer.incarnation, 2);
        books.batch(&seal(&mut sealer, rows, true));
        assert_eq!(Books::of(&books.lost, &account("http.requests")), 5);
        assert_eq!(books.unknown_standing(), usize::from(counts_more));
    }
}

#[test]
fn clock_steps_are_noticed_and_counted() {
    let mut sealer = Sealer::new(1);
    let mut books = Books::new();
    let mut batch = sealer.seal(vec![row("acme", "http.requests", "eu", 0, 1)], false);
    batch.steps = vec![tollgate_common::ClockStep {
        at: tollgate_common::Timestamp::from_secs(7),
        by_millis: -2500,
    }];
    books.batch(&batch);
    books.batch(&batch);
    assert_eq!(books.noticed(NoticeKind::ClockStep), 1);
    let state = books.agent.clone().expect("heard of");
    assert_eq!((state.clock_steps, state.duplicates), (1, 1));
    let notice = books
        .notices
        .iter()
        .find(|n| n.kind == NoticeKind::ClockStep);
    let detail = &notice.expect("noticed").detail;
    assert_eq!(
        detail,
        "clock was set by -2500 ms to 1970-01-01T00:00:07.000Z"
    );
}
