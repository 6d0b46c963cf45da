//! What applications and agents say to each other when a page is handed over.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::page::hello::{self, ANSWER_BYTES, Answer, HELLO_BYTES, LOOK_BYTES};

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<HELLO_BYTES>()
        && let Some((id, size)) = hello::parse_hello(bytes)
    {
        assert_eq!(hello::hello(id, size), *bytes);
    }
    if let Some(bytes) = data.first_chunk::<ANSWER_BYTES>()
        && let Some(answer) = Answer::parse(bytes)
    {
        assert_eq!(Answer::parse(&answer.to_bytes()), Some(answer));
    }
    // Looks come in pieces of any size; the newest whole one counts.
    let Some((&size, looks)) = data.split_first() else {
        return;
    };
    let (mut got, mut newest) = (Vec::new(), None);
    for piece in looks.chunks(usize::from(size).max(1)) {
        got.extend_from_slice(piece);
        newest = hello::take_looks(&mut got).or(newest);
        assert!(got.len() < LOOK_BYTES);
    }
    let (whole, _) = looks.as_chunks::<LOOK_BYTES>();
    assert_eq!(newest, whole.last().map(|look| i64::from_le_bytes(*look)));
});
