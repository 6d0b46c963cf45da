//! How many bytes and how much time a rollup costs.

use std::time::Instant;

use super::sample::Realistic;
use crate::wire::{Decoder, Encoder, Message, RecordDecoder, RecordEncoder};
use crate::{Batch, Dimensions, SeriesKey};

const BATCHES: usize = 10;

fn load(idle: f64) -> (Batch, Vec<Batch>) {
    let mut realistic = Realistic::new(7, idle);
    let first = realistic.next_batch();
    // Two windows until what both sides remember has settled.
    let mut batches: Vec<_> = (0..BATCHES + 2).map(|_| realistic.next_batch()).collect();
    (first, batches.split_off(2))
}

fn bytes_per_row(level: i32, idle: f64, spread: f64) -> (f64, f64) {
    let mut realistic = Realistic::new(7, idle);
    realistic.spread = spread;
    let mut encoder = Encoder::new(level);
    let mut decoder = Decoder::new();
    let mut sizes = Vec::new();
    for _ in 0..=BATCHES {
        let batch = realistic.next_batch();
        let mut frame = Vec::new();
        encoder.encode_batch(&batch, &mut frame).expect("encodes");
        decoder.push(&frame);
        assert_eq!(decoder.next(), Ok(Some(Message::Batch(batch.clone()))));
        sizes.push((frame.len(), batch.rows.len()));
    }
    let per_row = |sizes: &[(usize, usize)]| {
        let bytes: usize = sizes.iter().map(|size| size.0).sum();
        let rows: usize = sizes.iter().map(|size| size.1).sum();
        f64::from(u32::try_from(bytes).expect("small"))
            / f64::from(u32::try_from(rows).expect("small"))
    };
    (per_row(&sizes[..1]), per_row(&sizes[1..]))
}

#[test]
fn a_rollup_costs_at_most_six_bytes_once_its_series_is_known() {
    for (level, idle, spread) in [(1, 0.0, 0.3), (3, 0.0, 0.3), (1, 0.3, 0.3), (1, 0.0, 1.5)] {
        let (first, steady) = bytes_per_row(level, idle, spread);
        report(&format!(
            "level {level}, {:.0} % idle, spread {spread}: {steady:.2} bytes a rollup, \
             {first:.2} with definitions",
            idle * 100.0
        ));
        assert!(steady <= 6.0, "{steady:.2} bytes a rollup at level {level}");
    }
}

#[test]
fn a_record_costs_little_more_than_its_definitions() {
    let batch = Realistic::new(7, 0.0).next_batch();
    let mut record = Vec::new();
    RecordEncoder::new()
        .batch(&batch, &mut record)
        .expect("encodes");
    let per_row = record.len() / batch.rows.len();
    report(&format!("record: {per_row} bytes a rollup"));
    assert!(per_row <= 16);
}

/// Arcs of its own, as a batch read from a spool has.
fn reread(batch: &Batch) -> Batch {
    let mut batch = batch.clone();
    for row in &mut batch.rows {
        let pairs = Dimensions::new(row.series.dimensions().iter()).expect("valid");
        let (tenant, meter) = (row.series.tenant().clone(), row.series.meter().clone());
        row.series = SeriesKey::new(tenant, meter, pairs).expect("valid").into();
    }
    batch
}

/// Prints rows per second; it asserts nothing, for machines differ.
#[test]
fn speed() {
    let (first, batches) = load(0.0);
    let batches: Vec<_> = batches.iter().map(reread).collect();
    let rounds = if cfg!(debug_assertions) { 1 } else { 100 };
    let rows = rounds * batches.iter().map(|batch| batch.rows.len()).sum::<usize>();
    let mut encoder = Encoder::new(1);
    let mut frames = Vec::new();
    encoder.encode_batch(&first, &mut frames).expect("encodes");
    timed("encode", rows, || {
        for batch in (0..rounds).flat_map(|_| &batches) {
            encoder.encode_batch(batch, &mut frames).expect("encodes");
        }
    });
    let mut decoder = Decoder::new();
    timed("decode", rows, || {
        for piece in frames.chunks(65_536) {
            decoder.push(piece);
            while let Some(message) = decoder.next().expect("valid") {
                std::hint::black_box(message);
            }
        }
    });
    timed("hash", rows, || {
        for batch in (0..rounds).flat_map(|_| &batches) {
            std::hint::black_box(batch.hash());
        }
    });
    let mut records = RecordEncoder::new();
    let mut record = Vec::new();
    timed("encode records", rows, || {
        for batch in (0..rounds).flat_map(|_| &batches) {
            record.clear();
            records.batch(batch, &mut record).expect("encodes");
        }
    });
    let mut reader = RecordDecoder::new();
    timed("decode records", rows, || {
        for _ in 0..rounds * batches.len() {
            std::hint::black_box(reader.decode(&record).expect("valid"));
        }
    });
    let mut reader = RecordDecoder::with_cache(1);
    timed("decode records with cache", rows, || {
        for _ in 0..rounds * batches.len() {
            std::hint::black_box(reader.decode(&record).expect("valid"));
        }
    });
    timed("validate", rows, || {
        for batch in (0..rounds).flat_map(|_| &batches) {
            batch.validate().expect("valid");
        }
    });
}

fn timed(what: &str, rows: usize, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let nanos = start.elapsed().as_nanos() / rows as u128;
    report(&format!("{what}: {nanos} ns a row"));
}

#[expect(clippy::print_stderr, reason = "figures for whoever runs the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
