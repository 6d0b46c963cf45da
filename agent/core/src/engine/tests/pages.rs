//! Pages of applications through lives of an agent: exact totals of every kind.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::{halves, histogram, level, unique};
use tollgate::page::at;
use tollgate_common::sketch::UniqueSketch;
use tollgate_common::{Aggregation, Detail, TenantId};

use super::page_world::{Page, PageHeap, USER, WIDTH, allow, billed, end, start, tally, world};
use super::world::{Words, World};
use crate::aggregate::TenantAccount;
use crate::config::{SdkAllow, SdkTenants};
use crate::input::page::{PageTally, Pass};

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
    last.handle_end(key, world.now);
    drop(last);
    world.finish(engine);
    assert_eq!(billed(&world, "acme"), counted);
    assert!(!world.collector.declared());
    world.collector.check_lines();
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
    (world, page.0.words, cell, rows)
}

type Rows = std::collections::BTreeMap<i64, Vec<(i128, u64, Detail)>>;

fn events(rows: &Rows) -> u64 {
    rows.values().flatten().map(|row| row.1).sum()
}

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
            halves::set(words, at, WIDTH, value, halves::Keep::Max, |_, _| true);
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
fn a_maximum_survives_rare_seals_and_the_absence_of_the_agent() {
    let mut world = world();
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Max);
    let mut life = start(&mut world);
    let mut tally_of = tally(&life.engine, &world, Aggregation::Max);
    let key = tally_of
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    page.put(at::HOME, tally_of.mirror());
    let words = &page.words[cell..cell + halves::WORDS];
    let set = |world: &mut World, value, taken: bool| {
        let now = world.now.millis();
        halves::set(words, now, WIDTH, value, halves::Keep::Max, |_, _| taken);
        world.now = world.now.plus_millis(2 * WIDTH);
    };
    // Copied each time, and sealed when all windows are over.
    for value in [1000, 1, 2] {
        set(&mut world, value, true);
        let pass = tally_of.handle_pass(key, &page.words, world.now, false);
        assert_eq!(pass, Pass::Complete);
    }
    life.engine.handle_tick(world.now).expect("sealed");
    drop((tally_of, life));
    world.kill();
    for value in [2000, 3, 4] {
        set(&mut world, value, false);
    }
    let life = start(&mut world);
    let mut last = tally(&life.engine, &world, Aggregation::Max);
    let key = last
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("known");
    let pass = last.handle_pass(key, &page.words, world.now, false);
    assert_eq!(pass, Pass::Complete);
    end(&mut world, life, last, false);
    let rows = world.collector.batches().flat_map(|batch| &batch.rows);
    let maxima = rows.filter(|row| row.aggregation == Aggregation::Max);
    let maxima: Vec<_> = maxima.map(|row| (row.value.units(), row.events)).collect();
    assert_eq!(maxima, [(1000, 3), (2000, 3)]);
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
            of.insert(&mut heap, (now, WIDTH), hash, |_, _| true)
                .expect("room");
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
        tally.handle_end(key, world.now);
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
    tally.handle_end(key, world.now);
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
        let tenants = engine.engine.glance().tenant_accounts(8);
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
        let (_, shown) = tally.counts_of(key).expect("known");
        assert_eq!(shown, [TenantId::new("acme").expect("valid")]);
        // What is received is received for the tenant that it is accepted for.
        let accounts = life_of.engine.glance().tenant_accounts(8);
        let received = |name: &str| {
            let named = |t: &&TenantAccount| t.tenant.as_ref().is_some_and(|t| t.as_str() == name);
            let of = accounts.busiest.iter().find(named)?;
            let sdk = of.inputs.iter().find(|input| input.input == "sdk")?;
            assert!(sdk.account.balances(), "{tenant}: {sdk:?}");
            Some(sdk.account.received)
        };
        assert_eq!(received("acme"), Some(life as u64 + 1), "{accounts:?}");
        assert_eq!(received("umbrella"), None, "{accounts:?}");
        end(&mut world, life_of, tally, life == 0);
    }
    assert_eq!(billed(&world, "acme") + billed(&world, "umbrella"), 10);
    assert_eq!(billed(&world, "acme"), 10);
}

#[test]
fn a_page_that_was_done_with_and_comes_back_uncounted_is_counted_once_however_idle_it_is() {
    let mut world = world();
    world.config.limits.idle_millis = 20_000;
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    page.add(cell, 5);
    let take = |tally: &mut PageTally<Words>, page: &Page, now| {
        tally
            .handle_page(&page.words, USER, &allow("*"), now)
            .expect("taken")
    };
    // Nobody has copied from it when it is done with, so that it may come again.
    let key = take(&mut tally, &page, world.now);
    tally.handle_end(key, world.now);
    let key = take(&mut tally, &page, world.now);
    page.put(at::HOME, tally.mirror());
    for _ in 0..3 {
        page.add(cell, 7);
        tally.handle_pass(key, &page.words, world.now, false);
        for _ in 0..5 {
            world.now = world.now.plus_millis(10_000);
            life.engine.handle_tick(world.now).expect("sealed");
            tally.poll_retired(world.now);
        }
    }
    drop(tally);
    world.finish(life);
    assert_eq!(billed(&world, "acme"), 5 + 3 * 7);
}
