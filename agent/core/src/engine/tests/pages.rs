//! Pages of applications through lives of an agent: exact totals, quarantine, hostile words.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use tollgate::cell::{Room, halves, histogram, level, unique};
use tollgate::kinds;
use tollgate::page::{MAGIC, SlotWords, VERSION, at, header_checksum, put_bytes, words_for};
use tollgate_common::quantity::Inexact;
use tollgate_common::sketch::UniqueSketch;
use tollgate_common::{Aggregation, Detail, LossReason, MeterName, Scale, TenantId};

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
        self.slot_of((tenant, "eu"), aggregation)
    }

    fn slot_of(&mut self, (tenant, region): (&str, &str), aggregation: Aggregation) -> usize {
        let key = series(tenant, region).to_canonical();
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
    PageTally::new(
        writer,
        live,
        engine.declarations(),
        42,
        (engine.alive_before(), world.now),
    )
    .expect("room")
}

/// Offers a page that is to be quarantined until it is, which is when that is declared; says how
/// often it was asked to come again.
fn quarantined(
    life: &mut Life,
    tally: &mut PageTally<Words>,
    page: &Page,
    user: u32,
    world: &mut World,
) -> u32 {
    let mut again = 0;
    loop {
        match tally.handle_page(&page.words, user, &allow("*"), world.now) {
            Err(PageRefusal::Quarantined) => return again,
            Err(PageRefusal::Declaring) => again += 1,
            other => panic!("{other:?}"),
        }
        assert!(again < 5, "never declared");
        world.now = world.now.plus_millis(2_000);
        life.engine.handle_tick(world.now).expect("sealed");
    }
}

/// What was declared lost, and how many events of it inputs know.
fn declared(world: &World) -> Vec<(LossReason, Option<TenantId>)> {
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    losses.map(|l| (l.reason, l.tenant.clone())).collect()
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
                    .handle_page(&page.words, USER, &allow("a*"), world.now)
                    .expect("taken");
                page.put(at::HOME, tally.mirror());
                assert_eq!(
                    tally.handle_pass(key, &page.words, world.now, false),
                    Pass::Complete
                );
            } else if round < 3 {
                let key = tally
                    .handle_page(&page.words, USER, &allow("a*"), world.now)
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
        .handle_page(&page.words, USER, &allow("a*"), world.now)
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

/// Ends a life of the agent: every other one by a kill.
fn end(world: &mut World, life: Life, tally: PageTally<Words>, killed: bool) {
    drop(tally);
    if killed {
        drop(life);
        world.kill();
    } else {
        world.finish(life);
    }
}

/// Counts in a page through lives of the agent, and gives the rows of what was sealed, merged
/// by window.
fn lives(
    aggregation: Aggregation,
    mut count: impl FnMut(&[AtomicU64], usize, i64),
) -> (World, Vec<AtomicU64>, usize, Rows) {
    let mut world = world();
    let mut page = Page::new(1);
    let cell = page.slot("acme", aggregation);
    for life in 0..8_i64 {
        let mut engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, aggregation);
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        for round in 0..5 {
            count(&page.words, cell, world.now.millis());
            world.now = world.now.plus_millis(3_000 + life);
            // Not always: an agent may end without having looked.
            if round != 4 || life % 3 == 0 {
                let pass = tally.handle_pass(key, &page.words, world.now, false);
                assert_eq!(pass, Pass::Complete, "{:?}", tally.counts());
            }
            assert_eq!(tally.counts().stopped, 0);
            engine.engine.handle_tick(world.now).expect("sealed");
        }
        let account = &engine.engine.status().inputs;
        assert!(account.iter().all(|input| input.account.balances()));
        end(&mut world, engine, tally, life % 2 == 0);
    }
    count(&page.words, cell, world.now.millis());
    let engine = start(&mut world);
    let mut last = tally(&engine.engine, &world, aggregation);
    let key = last
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("known");
    let pass = last.handle_pass(key, &page.words, world.now, false);
    assert_eq!(pass, Pass::Complete);
    end(&mut world, engine, last, false);
    assert!(!world.collector.declared());
    let mut rows = Rows::new();
    for row in world.collector.batches().flat_map(|batch| &batch.rows) {
        if row.aggregation == aggregation {
            let known = rows.entry(row.window.start().millis()).or_default();
            known.push((row.value.units(), row.events, row.detail.clone()));
        }
    }
    (world, page.words, cell, rows)
}

type Rows = std::collections::BTreeMap<i64, Vec<(i128, u64, Detail)>>;

fn events(rows: &Rows) -> u64 {
    rows.values().flatten().map(|row| row.1).sum()
}

const WIDTH: i64 = 10_000;

#[test]
fn levels_go_on_exactly_through_lives() {
    let (world, words, cell, rows) = lives(Aggregation::TimeWeighted, |words, cell, now| {
        let words = &words[cell..cell + level::WORDS];
        level::set(words, now, WIDTH, 5);
        level::set(words, now + 1_000, WIDTH, 2);
    });
    let state = level::read(&words[cell..cell + level::WORDS]).expect("quiet");
    let exact = state.at(world.now.millis().max(state.since)).integral;
    let billed: i128 = rows.values().flatten().map(|row| row.0).sum();
    assert_eq!(billed, i128::try_from(exact).expect("small"));
}

#[test]
fn maxima_go_on_exactly_through_lives() {
    let mut sets = Vec::new();
    let (_, _, _, rows) = lives(Aggregation::Max, |words, cell, now| {
        let value = 1000 - i64::try_from(sets.len()).expect("small");
        for (at, value) in [(now, value), (now + 1, value - 500)] {
            let words = &words[cell..cell + halves::WORDS];
            halves::set(words, at, WIDTH, value, halves::Keep::Max);
            sets.push((at, value));
        }
    });
    assert_eq!(events(&rows), sets.len() as u64);
    for (start, rows) in rows {
        let of = sets.iter().filter(|set| set.0 - set.0 % WIDTH == start);
        let exact = of.map(|set| i128::from(set.1)).max();
        assert_eq!(rows.iter().map(|row| row.0).max(), exact, "{start}");
    }
}

#[test]
fn distinct_values_go_on_exactly_through_lives() {
    let mut inserts = Vec::new();
    let mut heap = PageHeap(1024);
    let (_, _, _, rows) = lives(Aggregation::Unique, |words, cell, now| {
        for n in 0..3 {
            let hash = tollgate_common::sketch::hash(&(inserts.len() / 5 + n).to_le_bytes());
            let halves = &words[cell..cell + unique::WORDS];
            let of = unique::Cell {
                halves,
                heap: words,
            };
            of.insert(&mut heap, now, WIDTH, hash).expect("room");
            inserts.push((now - now % WIDTH, hash));
        }
    });
    assert_eq!(events(&rows), inserts.len() as u64);
    for (start, rows) in rows {
        let of = inserts.iter().filter(|insert| insert.0 == start);
        let exact: std::collections::BTreeSet<u64> = of.map(|insert| insert.1).collect();
        let mut all = UniqueSketch::default();
        for (_, _, detail) in rows {
            if let Detail::Unique(sketch) = detail {
                all.merge(&sketch);
            }
        }
        assert_eq!(all.estimate(), exact.len() as u64, "{start}");
    }
}

#[test]
fn distributions_go_on_exactly_through_lives() {
    let mut exact = (0, 0_u64);
    let mut heap = PageHeap(1024);
    let (_, _, _, rows) = lives(Aggregation::Distribution, |words, cell, _| {
        let (sum, head) = words[cell..].split_at(2);
        let head = &head[..histogram::WORDS];
        let of = histogram::Cell {
            head,
            sum: &sum[..2],
            heap: words,
        };
        for value in [1, 300 + exact.1, 1 << 59] {
            of.record(&mut heap, histogram::CHUNK_BUCKETS, (value, 2), 0, || {
                words[cell].load(Relaxed)
            })
            .expect("room");
            exact = (exact.0 + i128::from(value) * 2, exact.1 + 2);
        }
    });
    // More than 2^64 in all: the sum of a page wraps.
    let billed: i128 = rows.values().flatten().map(|row| row.0).sum();
    assert_eq!((billed, events(&rows)), exact);
    for (_, events, detail) in rows.values().flatten() {
        let Detail::Distribution(histogram) = detail else {
            panic!("no histogram");
        };
        assert_eq!(histogram.count(), *events);
    }
}

#[test]
fn a_slot_that_counted_for_another_page_does_not_count_again() {
    let mut world = world();
    world.config.limits.idle_millis = 20_000;
    let mut engine = start(&mut world);
    let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
    let mut counted = 0;
    for id in 0..40_u8 {
        let mut page = Page::new(id);
        let cell = page.slot("acme", Aggregation::Sum);
        page.put(cell, 1000 - u64::from(id) * 20);
        page.put(cell + 1, 100 - u64::from(id));
        counted += 1000 - i128::from(id) * 20;
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        let pass = tally.handle_pass(key, &page.words, world.now, true);
        assert_eq!(pass, Pass::Complete);
        assert_eq!(tally.counts().stopped, 0, "{id}");
        tally.handle_end(key, true, world.now);
        for _ in 0..5 {
            world.now = world.now.plus_millis(10_000);
            engine.engine.handle_tick(world.now).expect("sealed");
            tally.poll_retired(world.now);
        }
    }
    drop(tally);
    world.finish(engine);
    assert_eq!(billed(&world, "acme"), counted);
    world.collector.check_lines();
}

#[test]
fn a_level_ends_with_its_application() {
    let mut world = world();
    let mut engine = start(&mut world);
    let mut tally = tally(&engine.engine, &world, Aggregation::TimeWeighted);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::TimeWeighted);
    let begin = world.now.millis();
    level::set(&page.words[cell..cell + level::WORDS], begin, WIDTH, 3);
    let key = tally
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    page.put(at::HOME, tally.mirror());
    world.now = world.now.plus_millis(25_000);
    let pass = tally.handle_pass(key, &page.words, world.now, true);
    assert_eq!(pass, Pass::Complete);
    tally.handle_end(key, true, world.now);
    for _ in 0..10 {
        world.now = world.now.plus_millis(10_000);
        engine.engine.handle_tick(world.now).expect("sealed");
        tally.poll_retired(world.now);
    }
    drop(tally);
    world.finish(engine);
    let rows = world.collector.batches().flat_map(|batch| &batch.rows);
    let billed: i128 = rows.map(|row| row.value.units()).sum();
    assert_eq!(billed, 3 * 25_000);
}

/// Room in a page behind everything that is described.
struct PageHeap(u32);

impl Room for PageHeap {
    fn take(&mut self, words: u32) -> Option<u32> {
        let at = self.0;
        self.0 = at.checked_add(words).filter(|end| *end as usize <= WORDS)?;
        Some(at)
    }

    fn give(&mut self, _: u32, _: u32) {}
}

#[test]
fn what_may_have_been_billed_is_quarantined_and_declared() {
    let mut world = world();
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let acme = Some(TenantId::new("acme").expect("valid"));
    // Another agent's, and marked as ours but unknown.
    for (id, home) in [(1, 4711), (2, tally.mirror())] {
        let mut page = Page::new(id);
        let cell = page.slot("acme", Aggregation::Sum);
        page.add(cell, 5);
        page.add(cell, 7);
        page.put(at::HOME, home);
        let again = quarantined(&mut life, &mut tally, &page, USER, &mut world);
        assert!(again > 0, "it is the evidence until it is declared");
        // Declared once, however often it comes.
        assert_eq!(
            quarantined(&mut life, &mut tally, &page, USER, &mut world),
            0
        );
    }
    let inputs = life.engine.status().inputs;
    let input = inputs
        .iter()
        .find(|input| input.name == "sdk")
        .expect("there");
    assert_eq!(input.account.lost.get("quarantined"), Some(&4));
    assert!(input.account.balances());
    assert_eq!(tally.counts().quarantined, 2);
    // An empty one has nothing to declare.
    let empty = Page::new(3);
    empty.put(at::HOME, 4711);
    assert_eq!(
        quarantined(&mut life, &mut tally, &empty, USER, &mut world),
        0
    );
    drop(tally);
    world.finish(life);
    assert_eq!(billed(&world, "acme"), 0);
    let lost = (LossReason::PageQuarantined, acme);
    assert_eq!(declared(&world), [lost.clone(), lost]);
}

#[test]
fn a_page_that_is_marked_as_anothers_is_declared_as_far_as_it_is_not_counted() {
    let mut world = world();
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    page.add(cell, 5);
    let key = tally
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    page.put(at::HOME, tally.mirror());
    tally.handle_pass(key, &page.words, world.now, false);
    page.add(cell, 7);
    page.put(at::HOME, 4711);
    for _ in 0..2 {
        let pass = tally.handle_pass(key, &page.words, world.now, false);
        assert_eq!(pass, Pass::Quarantined);
    }
    tally.handle_end(key, true, world.now);
    // Back again, it is not counted twice.
    page.put(at::HOME, tally.mirror());
    quarantined(&mut life, &mut tally, &page, USER, &mut world);
    tally.poll_retired(world.now);
    assert_eq!((tally.counts().missing, tally.counts().quarantined), (0, 1));
    let inputs = life.engine.status().inputs;
    let input = inputs
        .iter()
        .find(|input| input.name == "sdk")
        .expect("there");
    assert_eq!(input.account.lost.get("quarantined"), Some(&1));
    drop(tally);
    world.finish(life);
    assert_eq!(billed(&world, "acme"), 5);
    let acme = TenantId::new("acme").expect("valid");
    assert_eq!(
        declared(&world),
        [(LossReason::PageQuarantined, Some(acme))]
    );
}

#[test]
fn pages_are_counted_when_they_are_marked_and_for_whom_they_may() {
    let mut world = world();
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    page.add(cell, 5);
    // Never handed over: owed, but counted only once it is marked.
    let key = tally
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    let pass = tally.handle_pass(key, &page.words, world.now, false);
    assert_eq!(pass, Pass::NotYet);
    // Another user's page of the same name is another page.
    page.put(at::HOME, tally.mirror());
    quarantined(&mut life, &mut tally, &page, USER + 1, &mut world);
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
        .handle_page(&page.words, USER, &allow("acme"), world.now)
        .expect("known");
    tally.handle_pass(key, &page.words, world.now, false);
    assert_eq!((tally.counts().stopped, tally.counts().rejected), (1, 1));
    // Not a mirror that holds for ever.
    drop(tally);
    world.finish(life);
    assert_eq!(billed(&world, "acme"), 5);
    assert_eq!(billed(&world, "umbrella"), 0);
}

#[test]
fn what_has_no_room_counts_without_its_dimensions_and_never_twice() {
    let mut world = world();
    // The other writers of the world have four series of this tenant.
    world.config.limits.series_per_tenant = 4 + 3;
    let mut page = Page::new(1);
    let regions = ["eu", "us", "ap", "sa", "af"];
    let cells = regions.map(|region| page.slot_of(("acme", region), Aggregation::Sum));
    let mut counted = 0;
    for life in 0..4_u8 {
        // With room for everything, in the end: what is counted stays where it is.
        if life == 3 {
            world.config.limits.series_per_tenant = 100;
        }
        let mut engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        for (cell, n) in cells.iter().zip([1, 10, 100, 1000, 10_000]) {
            page.add(*cell, n);
            counted += i128::from(n);
        }
        let pass = tally.handle_pass(key, &page.words, world.now, false);
        assert_eq!(pass, Pass::Complete, "{life}: {:?}", tally.counts());
        world.now = world.now.plus_millis(11_000);
        engine.engine.handle_tick(world.now).expect("sealed");
        let tenants = engine.engine.tenant_accounts(8);
        let acme = tenants
            .busiest
            .iter()
            .find(|t| t.tenant.as_ref().is_some_and(|t| t.as_str() == "acme"));
        assert!(
            acme.is_some_and(|acme| acme.overflow_events > 0),
            "{tenants:?}"
        );
        end(&mut world, engine, tally, life % 2 == 0);
    }
    let billed = world.collector.billed();
    assert_eq!(billed.values().sum::<i128>(), counted);
    let overflow = billed
        .iter()
        .filter(|(name, _)| name.contains("overflow=true"));
    let overflow: i128 = overflow.map(|(_, n)| n).sum();
    assert_eq!(overflow, 4 * 11_000, "{billed:?}");
    world.collector.check_lines();
}

#[test]
fn a_cell_stays_with_whom_it_counted_for() {
    let mut world = world();
    let mut page = Page::new(1);
    let cell = page.slot("x", Aggregation::Sum);
    for (life, tenant) in ["acme", "umbrella"].into_iter().enumerate() {
        let life_of = start(&mut world);
        let mut tally = tally(&life_of.engine, &world, Aggregation::Sum);
        let access = SdkAllow {
            tenants: SdkTenants::Fixed(TenantId::new(tenant).expect("valid")),
            ..allow("*")
        };
        let key = tally
            .handle_page(&page.words, USER, &access, world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        page.add(cell, 5);
        tally.handle_pass(key, &page.words, world.now, false);
        end(&mut world, life_of, tally, life == 0);
    }
    assert_eq!(billed(&world, "acme") + billed(&world, "umbrella"), 10);
    assert_eq!(billed(&world, "acme"), 10);
}

#[test]
fn a_page_that_is_never_done_takes_a_bounded_share() {
    let mut world = world();
    let life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Max);
    let mut pages = Vec::new();
    for id in 0..20 {
        let mut page = Page::new(id);
        let cell = page.slot("acme", Aggregation::Max);
        // Written for ever: the windows of both halves lie behind anything that can be read.
        for word in 0..halves::WORDS {
            page.put(cell + word, u64::MAX >> 1);
        }
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        // Never marked: it asks to be looked at again and again.
        pages.push((key, page, world.now));
    }
    let (begin, mut looks) = (world.now, vec![0_u32; pages.len()]);
    while world.now.millis_since(begin) < 60_000 {
        for ((key, page, due), looks) in pages.iter_mut().zip(&mut looks) {
            if *due <= world.now {
                let pass = tally.handle_pass(*key, &page.words, world.now, false);
                assert_eq!(pass, Pass::NotYet);
                *due = world.now.plus_millis(tally.pause(*key, pass, world.now));
                *looks += 1;
            }
        }
        world.now = world.now.plus_millis(1);
    }
    // A look a second, four more a second and 64 at once; of all 32 more a second and 256.
    assert!(
        looks
            .iter()
            .all(|&looks| (60..=60 + 4 * 60 + 64 + 1).contains(&looks)),
        "{looks:?}"
    );
    let all: u32 = looks.iter().sum();
    assert!(all <= 20 * 61 + 32 * 60 + 256, "{all}");
    drop(tally);
}

#[test]
fn a_page_that_does_not_come_back_is_told() {
    let mut world = world();
    let begin = world.now;
    let page = {
        let mut engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, Aggregation::Sum);
        let mut page = Page::new(1);
        let cell = page.slot("acme", Aggregation::Sum);
        page.add(cell, 5);
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        tally.handle_pass(key, &page.words, world.now, false);
        world.now = world.now.plus_millis(100_000);
        engine.engine.handle_tick(world.now).expect("sealed");
        drop((tally, engine));
        world.kill();
        page
    };
    let alive = world.now;
    // A life that is too short to tell.
    world.now = world.now.plus_millis(500_000);
    {
        let mut engine = start(&mut world);
        let mut short = tally(&engine.engine, &world, Aggregation::Sum);
        assert_eq!(short.poll_vanished(world.now), None);
        world.now = world.now.plus_millis(20_000);
        engine.engine.handle_tick(world.now).expect("sealed");
        drop((short, engine));
        world.kill();
    }
    world.now = world.now.plus_millis(500_000);
    let mut life = start(&mut world);
    let mut first = tally(&life.engine, &world, Aggregation::Sum);
    assert_eq!(first.poll_vanished(world.now), None);
    world.now = world.now.plus_millis(MISSING_GRACE_MILLIS);
    let told = world.now;
    let acme = TenantId::new("acme").expect("valid");
    let vanished = first.poll_vanished(world.now).expect("told");
    assert_eq!(vanished.tenants, vec![acme.clone()]);
    assert_eq!(first.poll_vanished(world.now), None);
    assert!(quarantined(&mut life, &mut first, &page, USER, &mut world) > 0);
    first.poll_retired(world.now);
    assert_eq!(first.counts().missing, 0);
    drop((first, life));
    world.kill();
    // Told once, and forgotten.
    let life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let later = world.now.plus_millis(2 * MISSING_GRACE_MILLIS);
    assert_eq!(tally.poll_vanished(later), None);
    drop(tally);
    world.finish(life);
    assert_eq!(declared(&world), [(LossReason::PageVanished, Some(acme))]);
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    for loss in losses {
        // From shortly before the end of the life that had seen it last, not of the short one.
        assert!(begin < loss.from && loss.from <= alive, "{loss:?}");
        assert!(
            alive.millis_since(loss.from) <= 10_000 && loss.to == told,
            "{loss:?}"
        );
    }
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
        let good_key = tally.handle_page(&good.words, USER, &allow("acme"), world.now).expect("taken");
        good.put(at::HOME, tally.mirror());
        let mut bad = Page::new(2);
        for aggregation in [Aggregation::Sum, Aggregation::Max, Aggregation::Unique,
                            Aggregation::Distribution, Aggregation::TimeWeighted] {
            bad.slot("evil", aggregation);
        }
        let bad_key = tally.handle_page(&bad.words, USER, &allow("evil"), world.now).expect("taken");
        bad.put(at::HOME, tally.mirror());
        for (at, value, small) in writes {
            bad.put(at, if small { value % 5000 } else { value });
            if at % 16 == 0 {
                tally.handle_pass(bad_key, &bad.words, world.now, false);
                let _ = tally.handle_page(&bad.words, USER, &allow("evil"), world.now);
            }
        }
        prop_assert_eq!(
            tally.handle_pass(good_key, &good.words, world.now, false),
            Pass::Complete
        );
        drop(tally);
        world.finish(engine);
        prop_assert_eq!(billed(&world, "acme"), 5);
        // Nothing that a collector refuses.
        for row in world.collector.batches().flat_map(|batch| &batch.rows) {
            prop_assert!((0..=1 << 96).contains(&row.value.units()) || !row.aggregation.adds_up());
            if let Detail::Distribution(histogram) = &row.detail {
                prop_assert!(histogram.count() <= 1 << 48);
            }
        }
    }
}
