//! Bytes of an attacker, a bad disk or another version: an error, never a panic, never more
//! memory than allowed.

use super::sample::{Realistic, full, full_v2};
use crate::limits::{CONTROL_RAW_BYTES_MAX, FRAME_BYTES_MAX, FRAME_RAW_BYTES_MAX};
use crate::wire::{DecodeError, Decoder, Encoder, Message, decode_record, encode_record};

/// One message of each kind, and a batch of each version.
fn messages() -> Vec<Message> {
    let mut messages = super::sample::messages();
    messages.push(Message::Batch(full_v2()));
    messages
}

fn frame_of(message: &Message, level: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    Encoder::new(level)
        .encode(message, &mut frame)
        .expect("encodes");
    frame
}

fn decode(bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next()
}

/// Makes the checksum right again.
fn reseal(frame: &mut [u8]) {
    let checksum = crc_fast::crc32_iscsi(&frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn every_flipped_byte_is_noticed() {
    for level in [0, 1] {
        for message in messages() {
            let frame = frame_of(&message, level);
            // Of the long batch of version 2 a part of the bytes will do.
            for at in (0..frame.len()).step_by(1 + frame.len() / 2000) {
                for mask in [0x01, 0x80, 0xff] {
                    let mut flipped = frame.clone();
                    flipped[at] ^= mask;
                    // A length that grew leaves the frame incomplete.
                    assert!(!matches!(decode(&flipped), Ok(Some(_))), "byte {at}");
                    assert!(decode_record(&flipped).is_err(), "byte {at}");
                }
            }
        }
    }
}

/// With the checksum made right, damage reaches the archive and the columns. What still
/// decodes must be a valid message.
#[test]
fn flipped_bytes_behind_a_good_checksum_never_panic() {
    let mut bulk = Realistic::new(3, 0.97);
    let mut encoder = Encoder::new(0);
    let mut stream = Vec::new();
    for _ in 0..2 {
        encoder
            .encode_batch(&bulk.next_batch(), &mut stream)
            .expect("encodes");
    }
    let mut frames: Vec<_> = messages()
        .iter()
        .flat_map(|message| [frame_of(message, 0), frame_of(message, 1)])
        .map(|frame| (Vec::new(), frame))
        .collect();
    let length = u32::from_le_bytes([stream[0], stream[1], stream[2], stream[3]]);
    let second = stream.split_off(16 + usize::try_from(length).expect("short"));
    frames.push((stream, second));
    let mut refused = 0;
    for (before, frame) in &frames {
        for at in (8..frame.len()).step_by(1 + frame.len() / 2000) {
            for mask in [0x01, 0x02, 0x7f, 0x80, 0xff] {
                let mut flipped = frame.clone();
                flipped[at] ^= mask;
                reseal(&mut flipped);
                let mut decoder = Decoder::new();
                decoder.push(before);
                assert_eq!(
                    decoder.next().map(|message| message.is_some()),
                    Ok(!before.is_empty())
                );
                decoder.push(&flipped);
                match decoder.next() {
                    Ok(Some(Message::Batch(batch))) => assert_eq!(batch.validate(), Ok(())),
                    Ok(_) => {}
                    Err(error) => {
                        refused += 1;
                        assert_eq!(decoder.next(), Err(error));
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn truncated_frames_are_incomplete_and_truncated_records_are_errors() {
    for message in messages() {
        let frame = frame_of(&message, 1);
        for end in (0..frame.len()).step_by(1 + frame.len() / 2000) {
            assert_eq!(decode(&frame[..end]), Ok(None));
            assert!(decode_record(&frame[..end]).is_err());
        }
        let mut longer = frame.clone();
        longer.push(0);
        assert!(decode_record(&longer).is_err());
    }
    // Cut payloads with a header that agrees reach the archive.
    let [v1, v2] = [full(), full_v2()].map(|batch| frame_of(&Message::Batch(batch), 0));
    let ends = (17..v1.len()).map(|end| (&v1, end));
    for (frame, end) in ends.chain((17..v2.len()).step_by(7).map(|end| (&v2, end))) {
        let mut cut = frame[..end].to_vec();
        let length = u32::try_from(end - 16).expect("short").to_le_bytes();
        cut[..4].copy_from_slice(&length);
        cut[12..16].copy_from_slice(&length);
        reseal(&mut cut);
        assert!(decode(&cut).is_err(), "{end}");
    }
}

#[test]
fn an_oversize_frame_is_refused_with_its_length() {
    let declared = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits");
    for length in [0, declared, u32::MAX] {
        let mut decoder = Decoder::new();
        let bytes = length.to_le_bytes();
        decoder.push(&bytes[..3]);
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(&bytes[3..]);
        assert!(matches!(
            decoder.next(),
            Err(DecodeError::FrameLength { .. })
        ));
        // Nothing is collected after that, and the error stays.
        decoder.push(&[0; 4096]);
        assert_eq!(decoder.buffered(), 0);
        assert!(matches!(
            decoder.next(),
            Err(DecodeError::FrameLength { .. })
        ));
    }
}

#[test]
fn what_nobody_takes_is_not_collected() {
    let mut decoder = Decoder::new();
    let frame = frame_of(&messages()[4], 0);
    let megabyte: Vec<u8> = frame
        .iter()
        .copied()
        .cycle()
        .take(frame.len() << 14)
        .collect();
    for _ in 0..200 {
        decoder.push(&megabyte);
        assert!(decoder.buffered() <= 2 * (16 + FRAME_BYTES_MAX));
    }
    assert!(matches!(decoder.next(), Err(DecodeError::Overrun(_))));
}

#[test]
fn unknown_headers_are_named() {
    let change = |at: usize, byte: u8| {
        let mut frame = frame_of(&messages()[4], 0);
        frame[at] = byte;
        reseal(&mut frame);
        decode(&frame)
    };
    assert_eq!(change(8, 0), Err(DecodeError::Version(0)));
    assert_eq!(change(8, 2), Err(DecodeError::Version(2)));
    assert_eq!(change(9, 0), Err(DecodeError::Kind(0)));
    assert_eq!(change(9, 7), Err(DecodeError::Kind(7)));
    assert_eq!(change(10, 2), Err(DecodeError::Flags(2)));
    assert!(matches!(change(11, 1), Err(DecodeError::Range(_))));
    assert!(matches!(change(12, 99), Err(DecodeError::Range(_))));
    let mut frame = frame_of(&messages()[4], 0);
    frame[4] ^= 1;
    assert!(matches!(decode(&frame), Err(DecodeError::Checksum { .. })));
}

/// A frame of `kind` whose payload is `payload`, as it is, declared to become `raw` bytes.
fn compressed(kind: u8, payload: &[u8], raw: usize) -> Vec<u8> {
    let mut frame = vec![0; 16];
    let length = u32::try_from(payload.len()).expect("short");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[8..12].copy_from_slice(&[1, kind, 1, 0]);
    frame[12..16].copy_from_slice(&u32::try_from(raw).expect("short").to_le_bytes());
    frame.extend_from_slice(payload);
    reseal(&mut frame);
    frame
}

#[test]
fn decompression_is_bounded_by_what_was_declared() {
    const BATCH: u8 = 3;
    const ACK: u8 = 5;
    let bomb = zstd::bulk::compress(&vec![0; 2 * FRAME_RAW_BYTES_MAX], 1).expect("compresses");
    assert!(bomb.len() < 64 << 10);
    for declared in [1, 1000, FRAME_RAW_BYTES_MAX] {
        let error = decode(&compressed(BATCH, &bomb, declared)).expect_err("a bomb");
        assert!(matches!(error, DecodeError::Decompress { .. }), "{error}");
    }
    let small = zstd::bulk::compress(&[0; 1000], 1).expect("compresses");
    for declared in [999, 1001] {
        let error = decode(&compressed(BATCH, &small, declared)).expect_err("not that long");
        assert!(matches!(error, DecodeError::Decompress { .. }), "{error}");
    }
    for (kind, declared) in [
        (BATCH, 0),
        (BATCH, FRAME_RAW_BYTES_MAX + 1),
        (ACK, CONTROL_RAW_BYTES_MAX + 1),
    ] {
        let error = decode(&compressed(kind, &small, declared)).expect_err("too long");
        assert!(matches!(error, DecodeError::RawLength { .. }), "{error}");
    }
    assert_eq!(
        decode(&compressed(BATCH, &small, 1000)),
        Err(DecodeError::Archive("batch"))
    );
}

#[test]
fn a_window_beyond_the_bound_is_refused() {
    // Frame header of RFC 8878: magic, no single segment, window of 2^24, a raw last block.
    let window = |byte| [0x28, 0xb5, 0x2f, 0xfd, 0x00, byte, 0x09, 0x00, 0x00, 0x00];
    let refusal = |byte| decode(&compressed(3, &window(byte), 1)).expect_err("no batch");
    let error = refusal(14 << 3);
    assert!(error.to_string().contains("8 MiB"), "{error}");
    let error = refusal((13 << 3) | 1);
    assert!(error.to_string().contains("8 MiB"), "{error}");
    assert_eq!(refusal(13 << 3), DecodeError::Archive("batch"));
}

/// What an attacker can write into version 2 that no agent writes.
#[test]
fn details_that_are_none_are_refused() {
    let refusal = |change: &dyn Fn(&mut crate::Batch)| {
        let mut batch = full_v2();
        change(&mut batch);
        let mut out = Vec::new();
        Encoder::new(0)
            .encode_batch(&batch, &mut out)
            .expect_err("no batch")
    };
    let error = refusal(&|batch| {
        let row = batch.rows.iter_mut().find(|row| !row.detail.is_none());
        row.expect("there are some").detail = crate::Detail::None;
    });
    assert!(error.to_string().contains("invalid"), "{error}");
    let many = refusal(&|batch| {
        let row = batch
            .rows
            .iter()
            .find(|row| row.detail.canonical_len() > 4096)
            .expect("registers")
            .clone();
        let windows = (0..2048).map(|n| crate::Rollup {
            window: super::sample::window(1_790_000_000 + 10 * n),
            ..row.clone()
        });
        batch.rows.extend(windows);
    });
    assert!(matches!(many, crate::wire::EncodeError::Batch(_)), "{many}");
}

/// A frame of version 1 with an aggregation of version 2, and a control frame of version 2.
#[test]
fn versions_are_not_mixed() {
    let mut frame = frame_of(&messages()[4], 0);
    frame[8] = 2;
    reseal(&mut frame);
    assert_eq!(decode(&frame), Err(DecodeError::Version(2)));
    let mut batch = full();
    batch.rows.truncate(1);
    let plain = frame_of(&Message::Batch(batch), 0);
    let key = b"region\x02\x00eu";
    let at = plain.windows(key.len()).position(|bytes| bytes == key);
    let at = at.expect("the definition") + key.len();
    assert_eq!(plain[at], 1, "the aggregation follows the key");
    let mut changed = plain;
    changed[at] = 3;
    reseal(&mut changed);
    assert_eq!(
        decode(&changed),
        Err(DecodeError::Range("aggregation of a definition"))
    );
}

#[test]
fn records_are_batches_or_tombstones_that_need_nothing_else() {
    for message in messages() {
        let is_record = matches!(message, Message::Batch(_) | Message::Tombstone(_));
        let decoded = decode_record(&frame_of(&message, 1));
        assert_eq!(decoded.is_ok(), is_record, "{decoded:?}");
    }
    let mut realistic = Realistic::new(5, 0.0);
    let mut encoder = Encoder::new(1);
    let mut second = Vec::new();
    for _ in 0..2 {
        second.clear();
        encoder
            .encode_batch(&realistic.next_batch(), &mut second)
            .expect("encodes");
    }
    assert_eq!(decode_record(&second), Err(DecodeError::NotSelfContained));
    // On a connection it refers to what the other side has not got.
    assert!(matches!(
        decode(&second),
        Err(DecodeError::Dangling { row: 0, .. })
    ));
}

#[test]
fn a_record_in_the_middle_of_a_connection_starts_over() {
    let mut realistic = Realistic::new(5, 0.5);
    let mut decoder = Decoder::new();
    for _ in 0..3 {
        let batch = realistic.next_batch();
        let mut record = Vec::new();
        encode_record(&batch, &mut record).expect("encodes");
        decoder.push(&record);
        assert_eq!(decoder.next(), Ok(Some(Message::Batch(batch))));
    }
}
