//! The bytes of a connection, and stored records.
//!
//! The first byte of the input chooses: raw bytes in pieces, frames whose checksum is made
//! right (otherwise hardly any input passes it), or a record. What decodes must encode and
//! decode again to the same message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_common::wire::{Decoder, Encoder, Message, decode_record, encode_record, negotiate};

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    match mode % 4 {
        0 => stream(data),
        1 => stream(&frames(data, false)),
        2 => stream(&frames(data, true)),
        _ => {
            let _ = decode_record(data).map(|message| again(&message));
            let repaired = frames(data, false);
            let _ = decode_record(&repaired).map(|message| again(&message));
        }
    }
});

/// Pieces of kind, flags, length and payload become frames with a right header. With `raw`
/// the length after decompression is what the input says.
fn frames(data: &[u8], raw: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((head, after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]])).min(after.len());
        let (payload, after) = after.split_at(length);
        rest = after;
        let start = out.len();
        let bytes = |length: usize| u32::try_from(length).expect("below 2^16").to_le_bytes();
        out.extend_from_slice(&bytes(payload.len()));
        out.extend_from_slice(&[0; 4]);
        // Bit 3 of the kind chooses the version.
        let version = 1 + (head[0] >> 3 & 1);
        out.extend_from_slice(&[version, head[0] % 8, head[1] & 3, 0]);
        let raw_length = if raw {
            usize::from(head[1]) << 8
        } else {
            payload.len()
        };
        out.extend_from_slice(&bytes(raw_length));
        out.extend_from_slice(payload);
        let check = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &out[start + 8..]);
        let check = u32::try_from(check).expect("32 bits").to_le_bytes();
        out[start + 4..start + 8].copy_from_slice(&check);
    }
    out
}

/// Decodes in two ways of cutting the stream into pieces, which must not matter.
fn stream(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    let pieces = decode(data, 7);
    assert_eq!(whole, pieces, "messages depend on how the bytes arrive");
    whole.iter().for_each(again);
}

fn decode(data: &[u8], piece: usize) -> Vec<Message> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for chunk in data.chunks(piece) {
        decoder.push(chunk);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

/// What decodes can be encoded, and is the same again.
fn again(message: &Message) {
    let mut bytes = Vec::new();
    if let Err(error) = Encoder::new(1).encode(message, &mut bytes) {
        // A peer may name impossible versions: the negotiation answers it, nobody sends it.
        let hello = matches!(message, Message::Hello(hello) if negotiate(hello).is_err());
        assert!(hello, "what was decoded cannot be encoded: {error}");
        return;
    }
    assert_eq!(decode(&bytes, bytes.len()), vec![message.clone()]);
    if let Message::Batch(batch) = message {
        let mut record = Vec::new();
        encode_record(batch, &mut record).expect("what was decoded can be encoded");
        assert_eq!(decode_record(&record).as_ref(), Ok(message));
        let _ = batch.hash();
    }
}
