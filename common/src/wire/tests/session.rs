//! What lives as long as a connection: dictionary, totals, bounds, failures.

use std::sync::Arc;

use super::sample::{bare, series, sum, total};
use crate::wire::{DecodeError, Decoder, EncodeError, Encoder, Message};
use crate::{Batch, Rollup, SeriesKey};

const START: i64 = 1_780_315_200;

/// Encodes for one connection and checks that the other end understands.
struct Pair {
    encoder: Encoder,
    decoder: Decoder,
}

impl Pair {
    fn new() -> Self {
        Self {
            encoder: Encoder::new(0),
            decoder: Decoder::new(),
        }
    }

    /// Bytes of the frame.
    fn send(&mut self, batch: &Batch) -> usize {
        let mut frame = Vec::new();
        self.encoder
            .encode_batch(batch, &mut frame)
            .expect("encodes");
        self.decoder.push(&frame);
        assert_eq!(self.decoder.next(), Ok(Some(Message::Batch(batch.clone()))));
        frame.len()
    }
}

fn keys(tenant: &str, count: usize) -> Vec<Arc<SeriesKey>> {
    (0..count)
        .map(|n| series(tenant, "m", &[("n", &format!("{n:06}"))]))
        .collect()
}

fn batch_of(sequence: u64, rows: Vec<Rollup>) -> Batch {
    Batch {
        rows,
        ..bare(sequence)
    }
}

#[test]
fn series_are_defined_once() {
    let mut pair = Pair::new();
    let all = keys("acme", 100);
    let rows = |keys: &[Arc<SeriesKey>]| keys.iter().map(|key| sum(key, START, 5, 5)).collect();
    let first = pair.send(&batch_of(1, rows(&all[..50])));
    let second = pair.send(&batch_of(2, rows(&all[..50])));
    // Left without compression: one byte per value, and what every batch has.
    assert!(second < 350 && first > second + 50 * 5, "{first}, {second}");
    let wider = pair.send(&batch_of(3, rows(&all)));
    let subset: Vec<_> = all.iter().step_by(3).cloned().collect();
    pair.send(&batch_of(4, rows(&subset)));
    pair.send(&batch_of(5, rows(&[])));
    let again = pair.send(&batch_of(6, rows(&all)));
    assert!(again + 50 * 5 < wider, "{wider}, {again}");
}

#[test]
fn totals_that_follow_from_the_rows_cost_nothing() {
    let mut pair = Pair::new();
    let rows = |value| {
        vec![
            sum(&series("acme", "a", &[]), START, value, 1),
            sum(&series("acme", "b", &[]), START, value, 1),
        ]
    };
    let with_totals = |sequence, quantity| {
        let mut batch = batch_of(sequence, rows(7));
        batch.totals = vec![
            total("acme", "a", quantity),
            total("acme", "b", 7 + quantity),
        ];
        batch
    };
    pair.send(&with_totals(5, 1 << 60));
    let expected = pair.send(&with_totals(6, (1 << 60) + 7));
    let without_any = pair.send(&with_totals(7, (1 << 60) + 14));
    assert_eq!(expected, without_any);
    let surprising = pair.send(&with_totals(8, 3));
    assert!(surprising > expected + 8);
    // Another incarnation starts at zero.
    let mut reborn = with_totals(1, 7);
    reborn.incarnation = crate::Incarnation::from_bytes([3; 16]);
    reborn.totals[1].quantity = crate::Quantity::new(7);
    assert_eq!(pair.send(&reborn), expected);
}

#[test]
fn totals_without_rows_travel_in_full() {
    let mut pair = Pair::new();
    let rows = || vec![sum(&series("acme", "a", &[]), START, 7, 1)];
    let mut batch = batch_of(1, rows());
    batch.totals = vec![
        total("acme", "a", 7),
        total("acme", "gone", 9),
        total("z", "a", 1),
    ];
    pair.send(&batch);
    let mut last = batch_of(2, rows());
    last.is_final = true;
    last.totals = vec![total("acme", "a", 14), total("acme", "gone", 9)];
    pair.send(&last);
    let mut odd = batch_of(3, rows());
    odd.totals = vec![];
    pair.send(&odd);
    // The rows of the batch above are not in what both sides know, on either side.
    odd.sequence = odd.sequence.next();
    odd.totals = vec![total("acme", "a", 28)];
    pair.send(&odd);
}

#[test]
fn a_failed_batch_leaves_the_connection_usable() {
    let mut pair = Pair::new();
    let good = |sequence| batch_of(sequence, vec![sum(&keys("acme", 1)[0], START, 5, 5)]);
    pair.send(&good(1));
    let mut out = b"kept".to_vec();
    let unknown = sum(&keys("bmce", 1)[0], START, i128::MIN, 5);
    let mut level = unknown.clone();
    level.aggregation = crate::Aggregation::Last;
    for row in [unknown, level] {
        let bad = batch_of(2, vec![sum(&keys("acme", 1)[0], START, 5, 5), row]);
        pair.encoder
            .encode_batch(&bad, &mut out)
            .expect_err("a value out of range");
        assert_eq!(out, b"kept");
    }
    pair.send(&good(2));
    pair.send(&batch_of(3, vec![sum(&keys("bmce", 1)[0], START, 5, 5)]));
}

/// A collector that knows version 1 alone gets everything that version 1 can tell, on the same
/// connection before and after a batch that it cannot get.
#[test]
fn a_peer_of_version_1_is_spoken_to_in_version_1() {
    let mut pair = Pair::new();
    pair.encoder.set_version(1);
    let good = |sequence| batch_of(sequence, vec![sum(&keys("acme", 1)[0], START, 5, 5)]);
    pair.send(&good(2));
    let mut out = Vec::new();
    let refused = pair
        .encoder
        .encode_batch(&super::sample::full_v2(), &mut out);
    assert!(matches!(refused, Err(EncodeError::NotInVersion(1))));
    assert_eq!(out, b"");
    pair.send(&good(3));
    pair.encoder.set_version(9);
    pair.send(&super::sample::full_v2());
    pair.send(&good(4));
}

#[test]
fn a_full_dictionary_starts_over_on_both_sides() {
    const SERIES: usize = 100;
    // Each stands for 256 bytes, 96 of its dimension, and its key.
    const KEY_BYTES: usize = "8tenant-11m11n.6123456".len();
    let mut pair = Pair::new();
    let bytes_max = 4 * SERIES * (256 + 96 + KEY_BYTES);
    pair.encoder.set_dictionary_bytes_max(bytes_max);
    pair.decoder.set_dictionary_bytes_max(bytes_max);
    let batch = |sequence: u64| {
        let keys = keys(&format!("tenant-{sequence}"), SERIES);
        batch_of(
            sequence,
            keys.iter().map(|key| sum(key, START, 5, 5)).collect(),
        )
    };
    let new: Vec<_> = (1..=4)
        .map(|sequence| pair.send(&batch(sequence)))
        .collect();
    let known = pair.send(&batch(1));
    assert!(
        new.iter().all(|&size| size > known + SERIES),
        "{new:?}, {known}"
    );
    // The fifth does not fit: it starts over, so that the first must be defined again.
    assert_eq!(pair.send(&batch(5)), new[1]);
    assert!(pair.send(&batch(5)) <= known);
    assert_eq!(pair.send(&batch(1)), new[0]);
    // A decoder with less room than its encoder refuses what does not fit.
    let mut frame = Vec::new();
    pair.encoder
        .encode_batch(&batch(2), &mut frame)
        .expect("fits");
    pair.decoder.set_dictionary_bytes_max(bytes_max / 8);
    pair.decoder.push(&frame);
    assert_eq!(pair.decoder.next(), Err(DecodeError::DictionaryFull));
    // One batch that does not fit at all is refused, and nothing else suffers.
    pair.encoder.set_dictionary_bytes_max(bytes_max / 8);
    let refused = pair.encoder.encode_batch(&batch(3), &mut frame);
    assert!(matches!(refused, Err(EncodeError::TooLong { .. })));
}
