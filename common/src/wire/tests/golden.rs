//! Versions 1 and 2 in bytes, for ever: what an older build wrote must be read by every newer
//! one.

use super::sample::{full, full_v2, messages, remembering};
use crate::Batch;
use crate::wire::{Decoder, Encoder, Message, decode_record, encode_record};

/// One frame per line in hexadecimal: the sample messages in order, uncompressed; then the
/// sample batch as a compressed record.
const FRAMES: &str = include_str!("../../../testdata/wire-v1.hex");

/// The sample batch of version 2, uncompressed; then as a compressed record; then a tombstone of
/// version 2.
const FRAMES_V2: &str = include_str!("../../../testdata/wire-v2.hex");

fn frames(text: &str) -> Vec<Vec<u8>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let digits = line.as_bytes().chunks_exact(2);
            let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            digits
                .map(|pair| byte(pair).expect("hexadecimal"))
                .collect()
        })
        .collect()
}

fn written_now() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(0);
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for message in messages() {
        let mut frame = Vec::new();
        encoder.encode(&message, &mut frame).expect("encodes");
        frames.push(frame);
    }
    let mut record = Vec::new();
    encode_record(&full(), &mut record).expect("encodes");
    frames.push(record);
    frames
}

#[test]
fn version_1_is_read() {
    let frames = frames(FRAMES);
    let (record, frames) = frames.split_last().expect("the file has frames");
    let mut decoder = Decoder::new();
    for (frame, message) in frames.iter().zip(messages()) {
        decoder.push(frame);
        assert_eq!(decoder.next(), Ok(Some(message)));
    }
    assert_eq!(frames.len(), messages().len());
    assert_eq!(decode_record(record), Ok(Message::Batch(full())));
}

#[test]
fn version_1_is_written() {
    let mut golden = frames(FRAMES);
    let mut now = written_now();
    // What zstd makes of the record may change with its release.
    golden.pop();
    now.pop();
    for (index, (golden, now)) in golden.iter().zip(&now).enumerate() {
        assert_eq!(golden, now, "frame {index} is now {now:02x?}");
    }
}

#[test]
fn version_2_is_read_and_written() {
    let frames = <[Vec<u8>; 3]>::try_from(frames(FRAMES_V2)).expect("three frames");
    let [frame, record, tombstone] = frames;
    let batch = full_v2();
    let mut decoder = Decoder::new();
    decoder.push(&frame);
    assert_eq!(decoder.next(), Ok(Some(Message::Batch(batch.clone()))));
    assert_eq!(decode_record(&record), Ok(Message::Batch(batch.clone())));
    let mut now = Vec::new();
    let encoded = Encoder::new(0).encode_batch(&batch, &mut now);
    encoded.expect("encodes");
    assert_eq!(frame, now);
    let remembering = Message::Tombstone(remembering());
    now.clear();
    let encoded = Encoder::new(0).encode(&remembering, &mut now);
    encoded.expect("encodes");
    assert_eq!(tombstone, now, "{now:02x?}");
    decoder.push(&tombstone);
    assert_eq!(decoder.next(), Ok(Some(remembering)));
}

/// A batch that version 1 can tell is told in version 1: an older build reads the spool.
#[test]
fn the_oldest_version_that_suffices_is_written() {
    let version = |batch: Batch| {
        let mut record = Vec::new();
        encode_record(&batch, &mut record).expect("encodes");
        record[8]
    };
    assert_eq!(version(full()), 1);
    assert_eq!(version(full_v2()), 2);
    let mut stepped = full();
    stepped.steps = full_v2().steps;
    assert_eq!(version(stepped), 2);
}

#[test]
fn the_hash_covers_details_and_steps() {
    let batch = full_v2();
    assert_eq!(
        batch.hash().to_string(),
        "80245a7e5b0db31b8d5d8ce58aad96c80d797a2bcd0cf7a015d50fb1e13564bd"
    );
    let mut other = batch.clone();
    other.steps.pop();
    assert_ne!(other.hash(), batch.hash());
    for index in 0..batch.rows.len() {
        if !batch.rows[index].detail.is_none() {
            let mut other = batch.clone();
            let aggregation = other.rows[index].aggregation;
            other.rows[index].detail = super::sample::detail_of(aggregation, 1 << 40);
            assert_ne!(other.hash(), batch.hash());
        }
    }
}

/// The hash of the sample batch is part of the format of every journal.
#[test]
fn the_hash_of_a_batch_is_for_ever() {
    assert_eq!(
        full().hash().to_string(),
        "926cc7004464556593685ce8330cd40586143f44a112f1b990fad96244117d5c"
    );
}

/// The canonical content of `docs/formats/batch-hash.md`, put together by hand.
#[test]
fn the_hash_covers_the_documented_bytes() {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let batch = full();
    let mut out = b"tollgate batch v1\0".to_vec();
    text(&mut out, "edge-1");
    out.extend(b"incarnation nr 1");
    out.extend(1u64.to_le_bytes());
    out.extend([0; 32]);
    for time in [1_780_315_200_007i64, 1_780_315_210_009, 1_780_315_210_000] {
        out.extend(time.to_le_bytes());
    }
    out.push(2);
    out.extend(b"incarnation nr 0");
    out.extend(41u64.to_le_bytes());
    out.extend([7; 32]);
    out.push(1);
    out.extend(1_780_315_100_001i64.to_le_bytes());
    out.extend(1_780_315_200_002i64.to_le_bytes());
    out.push(1);
    out.extend(4u64.to_le_bytes());
    for row in &batch.rows {
        out.extend(row.series.to_canonical());
        out.extend([row.aggregation.code(), row.scale.get()]);
        out.extend(row.window.start().millis().to_le_bytes());
        out.extend(10u64.to_le_bytes());
        out.extend(row.value.units().to_le_bytes());
        out.extend(row.events.to_le_bytes());
    }
    out.extend(2u64.to_le_bytes());
    for (tenant, meter, quantity) in [("acme", "http.requests", 123_456i128), ("zz", "unseen", 0)] {
        text(&mut out, tenant);
        text(&mut out, meter);
        out.push(0);
        out.extend(quantity.to_le_bytes());
    }
    out.extend(2u64.to_le_bytes());
    out.extend([3, 1]);
    text(&mut out, "_unattributed");
    out.push(0);
    text(&mut out, "");
    out.push(1);
    out.extend(99i128.to_le_bytes());
    out.extend(0i64.to_le_bytes());
    out.extend(253_402_300_799_999i64.to_le_bytes());
    out.extend([1, 0]);
    text(&mut out, "");
    out.push(1);
    text(&mut out, "net.bytes");
    out.push(2);
    out.extend(0i128.to_le_bytes());
    out.extend(1000i64.to_le_bytes());
    out.extend(2000i64.to_le_bytes());
    assert_eq!(batch.hash().as_bytes(), blake3::hash(&out).as_bytes());
}
