//! Pages that may not be billed, and pages that are gone: quarantined, vanished, declared.

use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::level;
use tollgate::page::at;
use tollgate_common::{Aggregation, LossReason, TenantId, Timestamp};

use super::page_world::{
    Page, USER, WIDTH, allow, billed, declared, end, quarantined, start, tally, world,
};
use super::world::{Life, ReplaceFault, World};
use crate::input::page::{MISSING_GRACE_MILLIS, Pass};

/// Events that the input's account, which balances, calls lost in quarantine.
fn lost_in_quarantine(life: &Life) -> u64 {
    let inputs = life.engine.status().inputs;
    let input = inputs.iter().find(|input| input.name == "sdk");
    let account = &input.expect("there").account;
    assert!(account.balances());
    account.lost.get("quarantined").copied().unwrap_or(0)
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
    assert_eq!(lost_in_quarantine(&life), 4);
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
    tally.handle_end(key, world.now);
    // Back again, it is not counted twice.
    page.put(at::HOME, tally.mirror());
    quarantined(&mut life, &mut tally, &page, USER, &mut world);
    tally.poll_retired(world.now);
    assert_eq!((tally.counts().missing, tally.counts().quarantined), (0, 1));
    assert_eq!(lost_in_quarantine(&life), 1);
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

/// A page of fifteen cells that `write` fills in the first of four lives; the second has room for
/// so few series that not all of them fit, though the page's mark does.
fn lives_without_room(
    aggregation: Aggregation,
    write: impl Fn(&mut Page, usize, Timestamp),
) -> World {
    let mut world = world();
    let mut page = Page::new(1);
    let cells = (0..15).map(|n| page.slot_of(("acme", &n.to_string()), aggregation));
    let cells: Vec<_> = cells.collect();
    let most = 64;
    for (life, series_max) in [most, 4, most, most].into_iter().enumerate() {
        world.config.series_max = series_max;
        let mut engine = start(&mut world);
        let mut tally = tally(&engine.engine, &world, aggregation);
        if life == 0 {
            for &cell in &cells {
                write(&mut page, cell, world.now);
            }
            let taken = tally.handle_page(&page.words, USER, &allow("*"), world.now);
            let key = taken.expect("new");
            page.put(at::HOME, tally.mirror());
            let pass = tally.handle_pass(key, &page.words, world.now, false);
            assert_eq!(pass, Pass::Complete);
        } else {
            assert_eq!(page.words[at::HOME].load(Relaxed), tally.mirror());
            quarantined(&mut engine, &mut tally, &page, USER, &mut world);
        }
        let inputs = engine.engine.status().inputs;
        assert!(
            inputs.iter().all(|input| input.account.balances()),
            "{inputs:?}"
        );
        drop(tally);
        world.finish(engine);
    }
    let acme = TenantId::new("acme").expect("valid");
    assert!(declared(&world).contains(&(LossReason::PageQuarantined, Some(acme))));
    world
}

/// Whatever it counted since it was looked at last, its application takes with it.
#[test]
fn a_page_without_room_whose_application_ends_meanwhile_is_declared() {
    for killed in [false, true] {
        let mut world = world();
        world.config.series_max = 64;
        let mut page = Page::new(1);
        let cells = (0..15).map(|n| page.slot_of(("acme", &n.to_string()), Aggregation::Sum));
        let cells: Vec<_> = cells.collect();
        let life = start(&mut world);
        let mut tally = tally(&life.engine, &world, Aggregation::Sum);
        for &cell in &cells {
            page.add(cell, 5);
        }
        let taken = tally.handle_page(&page.words, USER, &allow("*"), world.now);
        let key = taken.expect("new");
        page.put(at::HOME, tally.mirror());
        tally.handle_pass(key, &page.words, world.now, false);
        let looked = world.now;
        end(&mut world, life, tally, false);
        // It counts on, and ends before there is an agent again.
        for &cell in &cells {
            page.add(cell, 7);
        }
        world.now = world.now.plus_millis(20_000);
        world.config.series_max = 4;
        if killed {
            world.home.fail_at(2, ReplaceFault::After);
            assert!(world.start().is_err());
            world.kill();
        }
        let begun = world.now;
        let life = start(&mut world);
        world.finish(life);
        let acme = (!killed).then(|| TenantId::new("acme").expect("valid"));
        assert_eq!(declared(&world), [(LossReason::PageVanished, acme)]);
        let mut losses = world.collector.batches().flat_map(|batch| &batch.losses);
        let loss = losses.next().expect("declared");
        assert!(loss.from <= looked && begun <= loss.to, "{loss:?}");
        assert!(looked.millis_since(loss.from) <= 10_000, "{loss:?}");
        assert_eq!(world.collector.billed().values().sum::<i128>(), 15 * 5);
    }
}

/// What found no room in a page was never in the agent's hands; that there was something is told.
#[test]
fn events_that_found_no_room_in_a_page_are_declared() {
    let mut world = world();
    let mut life = start(&mut world);
    let mut tally = tally(&life.engine, &world, Aggregation::Sum);
    let page = Page::new(1);
    let taken = tally.handle_page(&page.words, USER, &allow("*"), world.now);
    let key = taken.expect("new");
    page.put(at::HOME, tally.mirror());
    for dropped in [0, 9, 17] {
        page.put(at::DROPPED, dropped);
        tally.handle_pass(key, &page.words, world.now, false);
        world.now = world.now.plus_millis(2_000);
        life.engine.handle_tick(world.now).expect("sealed");
    }
    let inputs = life.engine.status().inputs;
    assert!(inputs.iter().all(|input| input.account.balances()));
    drop(tally);
    world.finish(life);
    // At once, and then once a minute or at the end.
    let refused = (LossReason::SeriesRefused, None);
    assert_eq!(declared(&world), [refused.clone(), refused]);
}

#[test]
fn a_page_for_which_there_is_no_room_any_more_is_not_counted_again() {
    let world = lives_without_room(Aggregation::Sum, |page, cell, _| page.add(cell, 5));
    let billed = world.collector.billed();
    assert_eq!(billed.values().sum::<i128>(), 15 * 5, "{billed:?}");
}

#[test]
fn a_page_that_comes_after_it_was_declared_is_declared_for_the_time_since_only() {
    for restarted in [false, true] {
        comes_after_it_was_declared(restarted);
    }
}

fn comes_after_it_was_declared(restarted: bool) {
    let mut world = world();
    let mut page = Page::new(1);
    let cell = page.slot("acme", Aggregation::Sum);
    let first = start(&mut world);
    let mut before = tally(&first.engine, &world, Aggregation::Sum);
    page.add(cell, 5);
    let key = before
        .handle_page(&page.words, USER, &allow("*"), world.now)
        .expect("taken");
    page.put(at::HOME, before.mirror());
    before.handle_pass(key, &page.words, world.now, false);
    drop(before);
    world.finish(first);
    let mut life = start(&mut world);
    let mut of_life = tally(&life.engine, &world, Aggregation::Sum);
    world.now = world.now.plus_millis(MISSING_GRACE_MILLIS);
    let told = world.now;
    assert!(of_life.poll_vanished(told).is_some());
    world.now = world.now.plus_millis(20_000);
    life.engine.handle_tick(world.now).expect("sealed");
    of_life.poll_retired(world.now);
    assert_eq!(of_life.counts().missing, 0, "durable, and forgotten");
    // What was declared is known to later lives, however they begin.
    let restart = |world: &mut World, life, of_life, killed| {
        if !restarted {
            return (life, of_life);
        }
        end(world, life, of_life, killed);
        let life = start(world);
        let of_life = tally(&life.engine, world, Aggregation::Sum);
        (life, of_life)
    };
    let (life, of_life) = restart(&mut world, life, of_life, true);
    let (mut life, mut of_life) = restart(&mut world, life, of_life, false);
    // Its application was stopped, or refused for want of room, all that time.
    page.add(cell, 7);
    let back = world.now;
    for again in [true, false] {
        let times = quarantined(&mut life, &mut of_life, &page, USER, &mut world);
        assert_eq!(times > 0, again);
    }
    assert_eq!(of_life.counts().quarantined, 1);
    assert_eq!(lost_in_quarantine(&life), 0);
    // Nor is it declared once more in a later life.
    let (mut life, mut of_life) = restart(&mut world, life, of_life, true);
    let times = quarantined(&mut life, &mut of_life, &page, USER, &mut world);
    assert_eq!((times, of_life.counts().missing), (0, 0));
    drop(of_life);
    world.finish(life);
    assert_eq!(billed(&world, "acme"), 5);
    let acme = Some(TenantId::new("acme").expect("valid"));
    let reasons = [LossReason::PageVanished, LossReason::PageQuarantined];
    assert_eq!(declared(&world), reasons.map(|of| (of, acme.clone())));
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    let times: Vec<_> = losses.map(|loss| (loss.from, loss.to)).collect();
    assert_eq!((times[0].1, times[1]), (told, (told, back)));
}

/// Notes of pages take a bounded part of the room, and the newest stay.
#[test]
fn what_is_remembered_of_pages_takes_little_room() {
    let mut world = world();
    world.config.series_max = 256;
    let mut life = start(&mut world);
    let mut of_life = tally(&life.engine, &world, Aggregation::Sum);
    let pages: Vec<_> = (1..20)
        .map(|id| {
            let mut page = Page::new(id);
            let cell = page.slot("acme", Aggregation::Sum);
            page.add(cell, 5);
            page.put(at::HOME, 4711);
            page
        })
        .collect();
    for page in &pages {
        assert!(quarantined(&mut life, &mut of_life, page, USER, &mut world) > 0);
    }
    end(&mut world, life, of_life, true);
    let mut life = start(&mut world);
    let mut of_life = tally(&life.engine, &world, Aggregation::Sum);
    let again: Vec<_> = pages
        .iter()
        .rev()
        .map(|page| quarantined(&mut life, &mut of_life, page, USER, &mut world) > 0)
        .collect();
    assert_eq!(again[..4], [false; 4], "the newest");
    assert!(again[4..].iter().all(|&again| again));
    // One that was never handed over is taken in spite of it.
    pages[0].put(at::HOME, 0);
    let taken = of_life.handle_page(&pages[0].words, USER, &allow("*"), world.now);
    assert!(taken.is_ok());
    end(&mut world, life, of_life, true);
    let life = start(&mut world);
    let of_life = tally(&life.engine, &world, Aggregation::Sum);
    assert_eq!(
        of_life.counts().missing,
        1,
        "known, and not held against it"
    );
    drop(of_life);
    world.finish(life);
}

#[test]
fn a_page_that_nobody_copied_from_and_comes_while_its_end_is_declared_is_counted() {
    for killed in [false, true] {
        let mut world = world();
        let mut page = Page::new(1);
        let cell = page.slot("acme", Aggregation::Sum);
        page.add(cell, 5);
        let first = start(&mut world);
        let mut before = tally(&first.engine, &world, Aggregation::Sum);
        // The agent ends before the application has marked its page.
        before
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        end(&mut world, first, before, true);
        let mut life = start(&mut world);
        let mut of_life = tally(&life.engine, &world, Aggregation::Sum);
        world.now = world.now.plus_millis(MISSING_GRACE_MILLIS);
        assert!(of_life.poll_vanished(world.now).is_some());
        // All it holds is owed, so it is taken for good, whatever becomes of the declaration.
        let mut key = of_life
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("nobody has copied from it");
        assert_eq!(of_life.poll_vanished(world.now), None);
        page.put(at::HOME, of_life.mirror());
        page.add(cell, 7);
        if killed {
            end(&mut world, life, of_life, true);
            life = start(&mut world);
            of_life = tally(&life.engine, &world, Aggregation::Sum);
            let again = of_life.handle_page(&page.words, USER, &allow("*"), world.now);
            key = again.expect("known to the next life");
        }
        world.now = world.now.plus_millis(20_000);
        life.engine.handle_tick(world.now).expect("sealed");
        of_life.poll_retired(world.now);
        let pass = of_life.handle_pass(key, &page.words, world.now, false);
        assert_eq!(pass, Pass::Complete, "{killed}");
        assert_eq!(of_life.counts().quarantined, 0);
        drop(of_life);
        world.finish(life);
        assert_eq!(billed(&world, "acme"), 12, "{killed}");
        // A kill takes the declaration, which nobody needs any more.
        let told = (!killed).then_some((LossReason::PageVanished, None));
        assert_eq!(declared(&world), Vec::from_iter(told));
    }
}

#[test]
fn levels_of_a_page_for_which_there_is_no_room_end_and_balance() {
    lives_without_room(Aggregation::TimeWeighted, |page, cell, now| {
        level::set(&page.words[cell..][..level::WORDS], now.millis(), WIDTH, 5);
    });
}

#[test]
fn what_applications_count_between_the_agents_end_and_that_of_the_host_is_declared() {
    for ends_first in [false, true] {
        let mut world = world();
        let mut page = Page::new(1);
        let cell = page.slot("acme", Aggregation::Sum);
        page.add(cell, 5);
        let life = start(&mut world);
        let mut before = tally(&life.engine, &world, Aggregation::Sum);
        let key = before
            .handle_page(&page.words, USER, &allow("*"), world.now)
            .expect("taken");
        page.put(at::HOME, before.mirror());
        before.handle_pass(key, &page.words, world.now, false);
        if ends_first {
            before.handle_end(key, world.now);
        }
        drop(before);
        world.finish(life);
        // Nobody sees this: the agent has stopped in order, and so does the host.
        page.add(cell, 7);
        world.boot += 1;
        let life = start(&mut world);
        let of_life = tally(&life.engine, &world, Aggregation::Sum);
        assert_eq!(of_life.counts().missing, 0, "no page outlives the host");
        drop(of_life);
        world.finish(life);
        assert_eq!(billed(&world, "acme"), 5);
        let acme = TenantId::new("acme").expect("valid");
        let told = (!ends_first).then_some((LossReason::PageVanished, Some(acme)));
        assert_eq!(declared(&world), Vec::from_iter(told), "{ends_first}");
    }
}
