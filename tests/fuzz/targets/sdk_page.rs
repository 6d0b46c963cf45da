//! Pages of applications: any words, with and without a header that fits.
#![no_main]

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use libfuzzer_sys::fuzz_target;
use tollgate::cell::{halves, histogram, level, unique};
use tollgate::page::{MAGIC, PageReader, VERSION, at, header_checksum};
use tollgate_common::Aggregation;

/// Words of a page with a few slots.
const WORDS: usize = 2048;

fuzz_target!(|data: &[u8]| {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
    for (word, bytes) in words.iter().zip(data.chunks(8)) {
        let mut packed = [0; 8];
        packed[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(packed), Relaxed);
    }
    // Few inputs would get past the header otherwise.
    if flags & 1 == 1 {
        words[at::MAGIC].store(MAGIC, Relaxed);
        words[at::VERSION].store(VERSION, Relaxed);
        words[at::WORDS].store(WORDS as u64, Relaxed);
        words[at::SLOTS_MAX].store(u64::from(flags >> 1), Relaxed);
        words[at::CHECKSUM].store(header_checksum(&words), Relaxed);
    }
    let Ok(reader) = PageReader::open(&words) else {
        return;
    };
    for number in 0..reader.published() {
        let Some(slot) = reader.slot(number) else {
            continue;
        };
        let cell = reader.cell(&slot);
        match slot.aggregation {
            Aggregation::Sum => assert_eq!(cell.len(), 2),
            Aggregation::Last | Aggregation::Max => {
                let _ = [halves::read(cell, 0), halves::read(cell, 1)];
            }
            Aggregation::TimeWeighted => {
                let _ = level::read(cell).map(|state| state.at(i64::MAX));
            }
            Aggregation::Distribution => {
                let (sum, head) = cell.split_at(2);
                let heap = reader.words();
                let mut cut = histogram::HistogramCut::default();
                histogram::Cell { head, sum, heap }.read_few(&mut cut);
            }
            Aggregation::Unique => {
                let cell = unique::Cell {
                    halves: cell,
                    heap: reader.words(),
                };
                let mut copy = Vec::new();
                let _ = [cell.read(0, &mut copy), cell.read(1, &mut copy)];
            }
        }
    }
});
