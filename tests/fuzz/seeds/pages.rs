//! Seeds for pages of applications: one slot of each kind, and a page that is full.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{halves, level};
use tollgate::kinds;
use tollgate::page::{MAGIC, SlotWords, VERSION, at, header_checksum, put_bytes, words_for};
use tollgate_common::{Aggregation, Dimensions, MeterName, SeriesKey, TenantId};

use crate::Seed;

/// As many words as the target gives a page.
const WORDS: usize = 2048;
const SLOTS: usize = 16;

fn key(meter: &str) -> Vec<u8> {
    SeriesKey::new(
        TenantId::new("acme").expect("valid"),
        MeterName::new(meter).expect("valid"),
        Dimensions::new([("region", "eu")]).expect("valid"),
    )
    .expect("short")
    .to_canonical()
}

fn page(kinds: &[Aggregation]) -> Vec<u8> {
    let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    let put = |at: usize, value: u64| words[at].store(value, Relaxed);
    put(at::MAGIC, MAGIC);
    put(at::VERSION, VERSION);
    put(at::WORDS, WORDS as u64);
    put(at::SLOTS_MAX, SLOTS as u64);
    put_bytes(&words[at::ID..], &[7; 16]);
    put(at::CHECKSUM, header_checksum(&words));
    put(at::COUNT, kinds.len() as u64);
    let mut next = at::DIRECTORY + SLOTS * 4;
    for (slot, &aggregation) in kinds.iter().enumerate() {
        let key = key("http.requests");
        put_bytes(&words[next..], &key);
        let cell_at = next + words_for(key.len());
        let of = SlotWords {
            key_at: u32::try_from(next).expect("small"),
            key_bytes: u32::try_from(key.len()).expect("small"),
            cell_at: u32::try_from(cell_at).expect("small"),
            cell_words: u32::try_from(kinds::words(aggregation)).expect("small"),
            aggregation: aggregation.code(),
            scale: 0,
        };
        let at = at::DIRECTORY + slot * 4;
        for (word, value) in words[at..].iter().zip(of.to_words()) {
            word.store(value, Relaxed);
        }
        put(at + 3, of.checksum(&key));
        next = cell_at + kinds::words(aggregation);
        let cell = &words[cell_at..next];
        match aggregation {
            Aggregation::Max | Aggregation::Last => {
                halves::set(cell, 1_780_315_200_000, 10_000, -5, halves::Keep::Max, |_, _| true);
            }
            Aggregation::TimeWeighted => level::set(cell, 1_780_315_200_000, 10_000, 5),
            _ => cell.iter().take(2).for_each(|word| word.store(3, Relaxed)),
        }
    }
    // The target takes a first byte of flags; zero leaves the header as it is.
    let mut bytes = vec![0];
    bytes.extend(
        words[..next]
            .iter()
            .flat_map(|word| word.load(Relaxed).to_le_bytes()),
    );
    bytes
}

pub(crate) fn pages() -> Vec<Seed> {
    use Aggregation::{Distribution, Last, Max, Sum, TimeWeighted, Unique};
    vec![
        ("empty", page(&[])),
        ("sums", page(&[Sum; SLOTS])),
        (
            "kinds",
            page(&[Sum, Last, Max, Unique, Distribution, TimeWeighted]),
        ),
    ]
}
