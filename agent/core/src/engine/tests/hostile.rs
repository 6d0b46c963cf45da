//! Pages that nobody should make: whatever they hold, nobody else is harmed.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;
use tollgate::cell::{halves, histogram, level, unique};
use tollgate::kinds;
use tollgate::page::{SlotWords, at, put_bytes, words_for};
use tollgate_common::{Aggregation, Detail};

use super::page_world::{Page, PageHeap, USER, WIDTH, WORDS, allow, billed, start, tally, world};
use super::world::{World, series};
use crate::input::page::{PageRefusal, PageTally, Pass};

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

/// As if an agent looked at the page all the time.
const TAKEN: fn(usize, u64) -> bool = |_, _| true;

/// Counts something in a cell of any kind, as an application does.
fn count(
    page: &Page,
    cell: usize,
    aggregation: Aggregation,
    heap: &mut PageHeap,
    now: i64,
    n: u64,
) {
    let words = &page.words[cell..cell + kinds::words(aggregation)];
    match aggregation {
        Aggregation::Sum => page.add(cell, n),
        Aggregation::Last | Aggregation::Max => {
            halves::set(words, now, WIDTH, n.cast_signed(), halves::Keep::Max, TAKEN);
        }
        Aggregation::TimeWeighted => level::set(words, now, WIDTH, n),
        Aggregation::Unique => {
            let (halves, heap_words) = (words, &page.words[..]);
            let of = unique::Cell {
                halves,
                heap: heap_words,
            };
            let _ = of.insert(
                heap,
                (now, WIDTH),
                tollgate_common::sketch::hash(&n.to_le_bytes()),
                TAKEN,
            );
        }
        Aggregation::Distribution => {
            let (sum, head) = words.split_at(2);
            let of = histogram::Cell {
                head,
                sum,
                heap: &page.words,
            };
            let base = || sum[0].load(Relaxed);
            let _ = of.record(heap, histogram::CHUNK_BUCKETS, (n, 1), 0, base);
        }
    }
}

const KINDS: [Aggregation; 5] = [
    Aggregation::Sum,
    Aggregation::Max,
    Aggregation::TimeWeighted,
    Aggregation::Unique,
    Aggregation::Distribution,
];

/// What is billed to a tenant: windows with their values, events and details, in order.
fn rows(world: &World, tenant: &str) -> Vec<(i64, i128, u64, Detail)> {
    let batches = world.collector.batches();
    let rows = batches.flat_map(|batch| &batch.rows);
    let of = rows.filter(|row| row.series.tenant().as_str() == tenant);
    of.map(|row| {
        let start = row.window.start().millis();
        (start, row.value.units(), row.events, row.detail.clone())
    })
    .collect()
}

/// An honest page and a hostile one that is written to between looks; the rows of the honest.
fn beside(
    aggregation: Aggregation,
    writes: &[(usize, u64)],
    hostile: bool,
) -> Result<Vec<(i64, i128, u64, Detail)>, TestCaseError> {
    let mut world = world();
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, aggregation);
    let take = |tally: &mut PageTally<_>, page: &Page, tenant: &str, world: &World| {
        let key = tally.handle_page(&page.words, USER, &allow(tenant), world.now);
        page.put(at::HOME, tally.mirror());
        key.expect("taken")
    };
    let (mut good, bad, mut kept) = (Page::new(1), Page::new(2), Page::new(2));
    let cell = good.slot("acme", aggregation);
    let bad_cell = kept.slot("evil", aggregation);
    let (mut good_heap, mut bad_heap) = (PageHeap(1024), PageHeap(1024));
    let good_key = take(&mut tally, &good, "acme", &world);
    let bad_key = hostile.then(|| take(&mut tally, &bad, "evil", &world));
    for (round, chunk) in (0..).zip(writes.chunks(20)) {
        count(
            &good,
            cell,
            aggregation,
            &mut good_heap,
            world.now.millis(),
            round,
        );
        if let Some(key) = bad_key {
            for &(at, value) in chunk {
                // In the cell or behind it, where its chunks are.
                let at = match at % 3 {
                    0 => bad_cell + at % kinds::words(aggregation),
                    1 => 1024 + at % 512,
                    _ => at,
                };
                // It goes on from what is in order, so that every other look finds that.
                count(
                    &kept,
                    bad_cell,
                    aggregation,
                    &mut bad_heap,
                    world.now.millis(),
                    value >> 8,
                );
                for (at, word) in kept.words.iter().enumerate().skip(at::COUNT) {
                    bad.put(at, word.load(Relaxed));
                }
                tally.handle_pass(key, &bad.words, world.now, false);
                bad.put(at.min(WORDS - 1), value);
                tally.handle_pass(key, &bad.words, world.now, value % 16 == 0);
            }
        }
        let pass = tally.handle_pass(good_key, &good.words, world.now, false);
        prop_assert_eq!(pass, Pass::Complete);
        world.now = world.now.plus_millis(7_000);
        life.engine.handle_tick(world.now).expect("sealed");
        let inputs = life.engine.status().inputs;
        prop_assert!(inputs.iter().all(|input| input.account.balances()));
    }
    drop(tally);
    world.finish(life);
    for row in world.collector.batches().flat_map(|batch| &batch.rows) {
        let tenant = row.series.tenant().as_str();
        let whose = ["acme", "evil", "_unattributed"].contains(&tenant);
        prop_assert!(whose || !hostile, "{tenant}");
        prop_assert!((0..=1 << 96).contains(&row.value.units()) || !row.aggregation.adds_up());
    }
    Ok(rows(&world, "acme"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Levels, histograms, distinct values and maxima that change under the agent's eyes.
    #[test]
    fn a_hostile_page_of_any_kind_leaves_others_exactly_as_they_are(
        kind in 0..KINDS.len(),
        writes in proptest::collection::vec(
            (0..WORDS, prop_oneof![any::<u64>(), 0..5000_u64, Just(u64::MAX), Just(1 << 32)]),
            1..160,
        ),
    ) {
        // Header and home stay, or the page ends at once.
        let writes: Vec<_> = writes.into_iter().map(|(at, value)| (at.max(at::COUNT), value)).collect();
        let alone = beside(KINDS[kind], &writes, false)?;
        let attacked = beside(KINDS[kind], &writes, true)?;
        prop_assert_eq!(alone, attacked);
    }
}

/// Written to by a thread of its own, without rest and without order, while it is looked at.
#[test]
fn a_page_that_changes_while_it_is_read_ends_in_no_panic_and_no_stall() {
    for aggregation in KINDS {
        let mut world = world();
        let life = start(&mut world);
        let mut tally = tally(&life.engine, &world, aggregation);
        let mut bad = Page::new(2);
        let cell = bad.slot("evil", aggregation);
        let mut heap = PageHeap(1024);
        for n in 0..50 {
            count(&bad, cell, aggregation, &mut heap, world.now.millis(), n);
        }
        let key = tally
            .handle_page(&bad.words, USER, &allow("evil"), world.now)
            .expect("taken");
        bad.put(at::HOME, tally.mirror());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = 88_172_645_463_325_252_u64;
                while !done.load(Relaxed) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = usize::try_from(random >> 16).unwrap_or(0);
                    let at = match random % 4 {
                        0 => at::COUNT + at % (WORDS - at::COUNT),
                        1 => 1024 + at % 1024,
                        _ => cell + at % kinds::words(aggregation),
                    };
                    bad.put(
                        at,
                        if random.is_multiple_of(5) {
                            random % 5000
                        } else {
                            random
                        },
                    );
                }
            });
            for look in 0..300_i64 {
                let now = world.now.plus_millis(look);
                tally.handle_pass(key, &bad.words, now, look % 7 == 0);
                if look % 50 == 0 {
                    let _ = tally.handle_page(&bad.words, USER, &allow("evil"), now);
                }
            }
            done.store(true, Relaxed);
        });
        drop(tally);
        world.finish(life);
        for row in world.collector.batches().flat_map(|batch| &batch.rows) {
            assert!(row.series.tenant().as_str() != "acme" || row.events == 0);
        }
    }
}

type Change = fn(&mut SlotWords);

/// A slot with these words and key, under a good checksum.
fn forge(page: &mut Page, of: SlotWords, key: &[u8]) {
    let count = page.words[at::COUNT].load(Relaxed);
    let slot = at::DIRECTORY + usize::try_from(count).expect("small") * 4;
    for (at, word) in (slot..).zip(of.to_words()) {
        page.put(at, word);
    }
    page.put(slot + 3, of.checksum(key));
    page.put(at::COUNT, count + 1);
}

#[test]
fn lengths_places_and_texts_that_cannot_be_are_malformed() {
    let good = series("evil", "eu").to_canonical();
    let small = |value: usize| u32::try_from(value).expect("small");
    let words = |at: usize, key: &[u8]| SlotWords {
        key_at: small(at),
        key_bytes: small(key.len()),
        cell_at: small(at + words_for(key.len())),
        cell_words: 2,
        aggregation: Aggregation::Sum.code(),
        scale: 0,
    };
    let mut not_utf8 = good.clone();
    let last = not_utf8.len() - 1;
    not_utf8[last] = 0xff;
    let mut cut_short = good.clone();
    cut_short.pop();

    let nothing: Change = |_| {};
    let cases: [(&[u8], Change); 14] = [
        (&not_utf8, nothing),
        (&cut_short, nothing),
        (&[], nothing),
        (&[0xff; 64], nothing),
        (&good, |slot| slot.key_bytes = u32::MAX),
        (&good, |slot| slot.key_bytes = 2049),
        (&good, |slot| slot.key_at = u32::MAX),
        (&good, |slot| slot.key_at = 0),
        (&good, |slot| slot.cell_at = u32::MAX),
        (&good, |slot| slot.cell_at = 8),
        (&good, |slot| slot.cell_words = 0),
        (&good, |slot| slot.cell_words = u32::MAX),
        (&good, |slot| slot.aggregation = 200),
        (&good, |slot| slot.scale = 255),
    ];
    for (number, (key, change)) in cases.into_iter().enumerate() {
        let mut world = world();
        let life = start(&mut world);
        let mut tally = tally(&life.engine, &world, Aggregation::Sum);
        let mut page = Page::new(1);
        let at = page.next;
        put_bytes(&page.words[at..], key);
        let mut of = words(at, key);
        page.add(of.cell_at as usize, 7);
        change(&mut of);
        forge(&mut page, of, key);
        let key = tally
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, tally.mirror());
        let pass = tally.handle_pass(key, &page.words, world.now, false);
        assert_eq!(
            (pass, tally.counts().mirrored),
            (Pass::Complete, 0),
            "{number}"
        );
        let inputs = life.engine.status().inputs;
        let input = inputs
            .iter()
            .find(|input| input.name == "sdk")
            .expect("there");
        assert_eq!(
            input.account.rejected.get("malformed"),
            Some(&1),
            "{number}"
        );
        drop(tally);
        world.finish(life);
        assert_eq!(billed(&world, "evil"), 0, "{number}");
    }
}

/// Chunks that lie nowhere, or everywhere.
#[test]
fn places_of_chunks_outside_of_the_page_stop_the_cell() {
    for place in [u64::from(u32::MAX), WORDS as u64 - 1, WORDS as u64] {
        for aggregation in [Aggregation::Distribution, Aggregation::Unique] {
            let mut world = world();
            let life = start(&mut world);
            let mut tally = tally(&life.engine, &world, aggregation);
            let mut page = Page::new(1);
            let cell = page.slot("evil", aggregation);
            // Every word a place, in both halves of it; events that belong to it.
            for word in 0..kinds::words(aggregation) {
                page.put(cell + word, place << 32 | place);
            }
            page.put(cell, 1);
            page.put(cell + 1, 1);
            let key = tally
                .handle_page(&page.words, USER, &allow("*"), world.now)
                .expect("taken");
            page.put(at::HOME, tally.mirror());
            for orphaned in [false, true] {
                tally.handle_pass(key, &page.words, world.now, orphaned);
            }
            drop(tally);
            world.finish(life);
            assert_eq!(billed(&world, "evil"), 0);
        }
    }
}

/// No sealed file gets shorter; memory that does is no page any more.
#[test]
fn a_page_that_is_shorter_than_it_says_is_none() {
    let mut world = world();
    let life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    page.add(cell, 5);
    let key = tally
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    page.put(at::HOME, tally.mirror());
    assert_eq!(
        tally.handle_pass(key, &page.words, world.now, false),
        Pass::Complete
    );
    for length in [0, 1, 7, at::DIRECTORY, cell, WORDS - 1] {
        let short: &[AtomicU64] = &page.words[..length];
        let refused = tally.handle_page(short, USER, &allow("*"), world.now);
        assert!(matches!(refused, Err(PageRefusal::NotAPage(_))), "{length}");
        let pass = tally.handle_pass(key, short, world.now, true);
        assert_eq!(pass, Pass::Quarantined, "{length}");
    }
    drop(tally);
    world.finish(life);
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
