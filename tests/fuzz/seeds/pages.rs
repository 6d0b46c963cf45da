//! Seeds for pages of applications: one slot of each kind, a page that is full, steps of an agent
//! that counts pages, and what is said when a page is handed over.

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

/// Steps of the target: see there.
pub(crate) fn steps() -> Vec<Seed> {
    const STORE: u8 = 0;
    const COUNT: u8 = 2;
    const LOOK: u8 = 3;
    const LAST_LOOK: u8 = 0x83;
    const HONEST: u8 = 4;
    const TICK: u8 = 5;
    const RESTART: u8 = 6;
    const KILL: u8 = 0x86;
    const BRING: u8 = 7;
    const END: u8 = 0x87;
    let every_kind = |looks: &[u8]| {
        let counts = (0..6).flat_map(|slot| [COUNT, slot, 9 + slot]);
        counts.chain(looks.iter().copied()).collect::<Vec<u8>>()
    };
    let store = |at: u16, value: u64| {
        let mut step = vec![STORE];
        step.extend(at.to_le_bytes());
        step.extend(value.to_le_bytes());
        step
    };
    let lives = [
        every_kind(&[LOOK, HONEST, 5, TICK, 22]),
        every_kind(&[LOOK, KILL, HONEST, 7, BRING]),
        every_kind(&[TICK, 22, RESTART, LAST_LOOK, END, TICK, 140]),
    ];
    let hostile = [
        every_kind(&[LOOK]),
        store(150, u64::MAX),
        store(160, 1 << 60),
        vec![LOOK, HONEST, 3],
        store(9, u64::MAX),
        store(8, 0),
        vec![LOOK, BRING, LAST_LOOK, KILL, TICK, 255],
    ];
    vec![("lives", lives.concat()), ("hostile", hostile.concat())]
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
