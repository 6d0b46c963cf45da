//! Pages of applications through lives of an agent: exact totals, quarantine, hostile words.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tollgate::kinds;
use tollgate::page::{MAGIC, SlotWords, VERSION, at, header_checksum, put_bytes, words_for};
use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, MeterName, Scale, TenantId};

use super::world::{Life, TestEngine, Words, World, series};
use crate::attribute::{Attributor, Glob, Meter};
use crate::config::{SdkAllow, SdkTenants};
use crate::input::live::Live;
use crate::input::page::{MISSING_GRACE_MILLIS, PageRefusal, PageTally, Pass};

const WORDS: usize = 4096;
const SLOTS: usize = 16;
const USER: u32 = 1000;

/// A page as the SDK makes them.
struct Page {
    words: Vec<AtomicU64>,
    next: usize,
}

impl Page {
    fn new(id: u8) -> Self {
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let page = Self {
            words,
            next: at::DIRECTORY + SLOTS * 4,
        };
        page.put(at::MAGIC, MAGIC);
        page.put(at::VERSION, VERSION);
        page.put(at::WORDS, WORDS as u64);
        page.put(at::SLOTS_MAX, SLOTS as u64);
        put_bytes(&page.words[at::ID..], &[id; 16]);
        page.put(at::CHECKSUM, header_checksum(&page.words));
        page
    }

    fn put(&self, at: usize, value: u64) {
        self.words[at].store(value, Relaxed);
    }

    fn add(&self, cell: usize, n: u64) {
        self.words[cell].fetch_add(n, Relaxed);
        self.words[cell + 1].fetch_add(1, Relaxed);
    }

    /// A slot for a series of a tenant; where its cell is.
    fn slot(&mut self, tenant: &str, aggregation: Aggregation) -> usize {
        let key = series(tenant, "eu").to_canonical();
        let small = |value: usize| u32::try_from(value).expect("small");
        let cell = self.next + words_for(key.len());
        put_bytes(&self.words[self.next..], &key);
        let of = SlotWords {
            key_at: small(self.next),
            key_bytes: small(key.len()),
            cell_at: small(cell),
            cell_words: small(kinds::words(aggregation)),
            aggregation: aggregation.code(),
            scale: 0,
        };
        let count = self.words[at::COUNT].load(Relaxed);
        let slot = at::DIRECTORY + usize::try_from(count).expect("small") * 4;
        for (at, word) in (slot..).zip(of.to_words()) {
            self.put(at, word);
        }
        self.put(slot + 3, of.checksum(&key));
        self.next = cell + kinds::words(aggregation);
        self.put(at::COUNT, count + 1);
        cell
    }
}

fn allow(pattern: &str) -> SdkAllow {
    SdkAllow {
        uid: None,
        gid: None,
        tenants: SdkTenants::Patterns(vec![Glob::new(pattern)]),
        meters: Vec::new(),
    }
}

fn world() -> World {
    let mut world = World::new(7);
    world.config.writers.push("sdk".to_owned());
    world
}

fn start(world: &mut World) -> Life {
    world.start().expect("starts").0
}

fn tally(engine: &TestEngine, world: &World, aggregation: Aggregation) -> PageTally<Words> {
    let meter = Meter {
        unit: "By".to_owned(),
        scale: Scale::ZERO,
        aggregation,
        inexact: Inexact::Reject,
    };
    let name = MeterName::new("net.bytes").expect("valid");
    let meters = [(name, meter)].into_iter().collect();
    let live = Arc::new(Live::new(Attributor::new(meters, Vec::new())));
    let writer = engine.writer("sdk").expect("free");
    PageTally::new(writer, live, 42, world.now).expect("room")
}

fn billed(world: &World, tenant: &str) -> i128 {
    let billed = world.collector.billed();
    let name = series(tenant, "eu").to_string();
    billed.get(&name).copied().unwrap_or(0)
}

#[test]
fn a_page_is_counted_once_through_kills_of_the_agent() {
    let mut world = world();
    let mut page = Page::new(1);
    let cells = [
        page.slot("acme", Aggregation::Sum),
        page.slot("acme", Aggregation::Sum),
    ];
    let mut counted = 0;
    for round_of_life in 0..6u64 {
        let mut engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
        // Counts before and after the first agent, and while there was none.
        for round in 0..4 {
            for (cell, n) in cells.iter().zip([3, 1 << 40]) {
                page.add(*cell, n + round_of_life);
                counted += i128::from(n + round_of_life);
            }
            if round == 0 {
                let key = tally
                    .handle_page(&page.words, USER, &allow("a*"))
                    .expect("taken");
                page.put(at::HOME, tally.mirror());
                assert_eq!(
                    tally.handle_pass(key, &page.words, world.now, false),
                    Pass::Complete
                );
            } else if round < 3 {
                let key = tally
                    .handle_page(&page.words, USER, &allow("a*"))
                    .expect("taken");
                tally.handle_pass(key, &page.words, world.now, false);
            }
            world.now = world.now.plus_millis(7_000);
            engine.engine.handle_tick(world.now).expect("sealed");
        }
        // Killed: what came last is in the page only.
        drop((tally, engine));
        world.kill();
    }
    let engine = start(&mut world);
    let mut last = tally(&engine.engine, &world, Aggregation::Sum);
    let key = last
        .handle_page(&page.words, USER, &allow("a*"))
        .expect("known");
    assert_eq!(
        last.handle_pass(key, &page.words, world.now, false),
        Pass::Complete
    );
    last.handle_end(key, true, world.now);
    drop(last);
    world.finish(engine);
    assert_eq!(billed(&world, "acme"), counted);
    assert!(!world.collector.declared());
    world.collector.check_lines();
}

#[test]
fn what_may_have_been_billed_is_quarantined() {
    let mut world = world();
    let engine = start(&mut world);
    let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    page.add(cell, 5);
    page.put(at::HOME, 4711);
    let refused = tally.handle_page(&page.words, USER, &allow("*"));
    assert_eq!(refused, Err(PageRefusal::Quarantined));
    // Marked as ours, and unknown.
    page.put(at::HOME, tally.mirror());
    let refused = tally.handle_page(&page.words, USER, &allow("*"));
    assert_eq!(refused, Err(PageRefusal::Quarantined));
    // Never handed over: owed, but counted only once it is marked.
    page.put(at::HOME, 0);
    let key = tally
        .handle_page(&page.words, USER, &allow("*"))
        .expect("taken");
    let pass = tally.handle_pass(key, &page.words, world.now, false);
    assert_eq!(pass, Pass::NotYet);
    // Another user's page of the same name is another page.
    page.put(at::HOME, tally.mirror());
    let refused = tally.handle_page(&page.words, USER + 1, &allow("*"));
    assert_eq!(refused, Err(PageRefusal::Quarantined));
    assert_eq!(
        tally.handle_pass(key, &page.words, world.now, false),
        Pass::Complete
    );
    // Counts of a tenant that is not allowed are rejected, and backwards runs stop a cell.
    let other = page.slot("umbrella", Aggregation::Sum);
    page.add(other, 7);
    page.put(cell, 3);
    page.put(cell + 1, 9);
    let key = tally
        .handle_page(&page.words, USER, &allow("acme"))
        .expect("known");
    tally.handle_pass(key, &page.words, world.now, false);
    assert_eq!(tally.counts().stopped, 1);
    // Not a mirror that holds for ever.
    drop(tally);
    world.finish(engine);
    assert_eq!(billed(&world, "acme"), 5);
    assert_eq!(billed(&world, "umbrella"), 0);
}

#[test]
fn a_page_that_does_not_come_back_is_told() {
    let mut world = world();
    let page = {
        let engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
        let mut page = Page::new(1);
        let cell = page.slot("acme", Aggregation::Sum);
        page.add(cell, 5);
        let key = tally
            .handle_page(&page.words, USER, &allow("*"))
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        tally.handle_pass(key, &page.words, world.now, false);
        world.kill();
        page
    };
    let engine = start(&mut world);
    let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
    assert_eq!(tally.poll_vanished(world.now), None);
    let later = world.now.plus_millis(MISSING_GRACE_MILLIS);
    let vanished = tally.poll_vanished(later).expect("told");
    assert_eq!(
        vanished.tenants,
        vec![TenantId::new("acme").expect("valid")]
    );
    assert_eq!(tally.poll_vanished(later), None);
    let refused = tally.handle_page(&page.words, USER, &allow("*"));
    assert_eq!(refused, Err(PageRefusal::Quarantined));
    drop(tally);
    world.finish(engine);
    assert_eq!(billed(&world, "acme"), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a page holds and becomes: no panic, and nothing of another page changes.
    #[test]
    fn a_hostile_page_harms_nobody(
        writes in proptest::collection::vec((0..WORDS, any::<u64>(), any::<bool>()), 0..400),
    ) {
        let mut world = world();
        let engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
        let mut good = Page::new(1);
        let cell = good.slot("acme", Aggregation::Sum);
        good.add(cell, 5);
        let good_key = tally.handle_page(&good.words, USER, &allow("acme")).expect("taken");
        good.put(at::HOME, tally.mirror());
        let mut bad = Page::new(2);
        for aggregation in [Aggregation::Sum, Aggregation::Max, Aggregation::Unique,
                            Aggregation::Distribution, Aggregation::TimeWeighted] {
            bad.slot("evil", aggregation);
        }
        let bad_key = tally.handle_page(&bad.words, USER, &allow("evil")).expect("taken");
        bad.put(at::HOME, tally.mirror());
        for (at, value, small) in writes {
            bad.put(at, if small { value % 5000 } else { value });
            if at % 16 == 0 {
                tally.handle_pass(bad_key, &bad.words, world.now, false);
                let _ = tally.handle_page(&bad.words, USER, &allow("evil"));
            }
        }
        prop_assert_eq!(
            tally.handle_pass(good_key, &good.words, world.now, false),
            Pass::Complete
        );
        drop(tally);
        world.finish(engine);
        prop_assert_eq!(billed(&world, "acme"), 5);
    }
}
