//! The bytes of a journal entry: what decodes encodes to the same entry.
//!
//! The first byte chooses whether the input is an entry, or kind, stamp and body to which a
//! right header is made.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_collector_core::entry::codec::{decode, encode};

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        check(data);
        return;
    }
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let Some((stamp, body)) = rest.split_first_chunk::<5>() else {
        return;
    };
    let mut entry = Vec::with_capacity(16 + body.len());
    entry.extend_from_slice(b"TJ\x01");
    entry.push(kind % 12);
    let length = u32::try_from(body.len()).expect("inputs are short");
    entry.extend_from_slice(&length.to_le_bytes());
    entry.extend_from_slice(stamp);
    entry.extend_from_slice(&[0; 3]);
    entry.extend_from_slice(body);
    check(&entry);
});

fn check(bytes: &[u8]) {
    let Ok(stamped) = decode(bytes) else { return };
    let encoded = encode(&stamped.entry).expect("what was decoded can be encoded");
    let again = decode(&encoded.stamped(stamped.stamp)).expect("what was encoded can be decoded");
    assert_eq!(again, stamped);
}
