//! Seeds for pages of applications: one slot of each kind, a page that is full, and what is said when
//! a page is handed over.

use tollgate::page::hello::{self, Answer};
use tollgate_common::Aggregation;

use crate::Seed;
use crate::page::{KINDS, Page, SLOTS};

fn page(kinds: &[Aggregation]) -> Vec<u8> {
    let mut page = Page::new(7);
    for &aggregation in kinds {
        page.slot("acme", aggregation);
    }
    for slot in 0..kinds.len() {
        page.count(slot, 1_780_315_200_000, 3);
    }
    // The target takes a first byte of flags; zero leaves the header as it is.
    let mut bytes = vec![0];
    bytes.extend(page.bytes());
    bytes
}

pub(crate) fn pages() -> Vec<Seed> {
    vec![
        ("empty", page(&[])),
        ("sums", page(&[Aggregation::Sum; SLOTS])),
        ("kinds", page(&KINDS)),
    ]
}

pub(crate) fn handover() -> Vec<Seed> {
    let answer = |code, tells| Answer {
        code,
        window_secs: 10,
        mirror: 77,
        tells,
    };
    let mut looks = vec![3];
    for began in [1_780_315_200_000, 1_780_315_201_000, 0, -1] {
        looks.extend(hello::look(began));
    }
    vec![
        ("hello", hello::hello([7; 16], 8 << 20).to_vec()),
        ("taken", answer(hello::TAKEN, true).to_bytes().to_vec()),
        ("busy", answer(hello::BUSY, false).to_bytes().to_vec()),
        ("looks", looks),
    ]
}
