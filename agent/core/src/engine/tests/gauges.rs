//! Gauges: what a series shows is one value, whichever input sets it, and as long as it holds.

use std::collections::BTreeMap;

use tollgate_common::{Aggregation, LossReason, MeterName, Scale, SeriesKey, TenantId};

use super::world::{Fault, Life, ReplaceFault, World, series};
use crate::aggregate::{SeriesFull, Slot};

fn resolve(
    life: &mut Life,
    writer: usize,
    key: &SeriesKey,
    kind: Aggregation,
) -> Result<Slot, SeriesFull> {
    life.writers[writer].resolve(key, kind, Scale::ZERO)
}

/// Sets a level through a writer.
fn set_level(world: &World, life: &mut Life, writer: usize, key: &SeriesKey, value: i64) {
    let slot = resolve(life, writer, key, Aggregation::TimeWeighted).expect("room");
    let now = life.engine.anchor().time(world.now);
    let writer = &mut life.writers[writer];
    writer.received(1);
    writer.set_level(slot, now, value).expect("accepted");
}

/// Level × milliseconds that was billed of each series.
fn billed(world: &World) -> BTreeMap<String, i128> {
    let mut billed = BTreeMap::new();
    for row in world.collector.batches().flat_map(|batch| &batch.rows) {
        if row.aggregation == Aggregation::TimeWeighted {
            *billed.entry(row.series.to_string()).or_default() += row.value.units();
        }
    }
    billed
}

/// What was set, and since when.
#[derive(Default)]
struct Held(i64, i64, i128);

impl Held {
    fn set(&mut self, now: i64, value: i64) {
        self.2 += i128::from(self.0) * i128::from(now - self.1);
        (self.0, self.1) = (value, now);
    }
}

#[test]
fn a_level_is_billed_once_whoever_sets_it() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let key = series("acme", "eu");
    let mut held = Held::default();
    for (round, value) in [5, 7, 7, 0, 3, 9, 2, 0, 0, 4].into_iter().enumerate() {
        for writer in [round % 2, (round / 2 + 1) % 2] {
            set_level(&world, &mut life, writer, &key, value);
            held.set(world.now.millis(), value);
            world.tick(&mut life, 1_700).expect("goes on");
        }
        world.tick(&mut life, 7_000).expect("goes on");
        if round % 4 == 2 {
            drop(life);
            world.kill();
            life = world.start().expect("starts").0;
        }
    }
    held.set(world.now.millis(), 0);
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(billed(&world)[&key.to_string()], held.2);
    assert!(!world.collector.declared());
}

#[test]
fn writers_that_set_a_level_in_another_order_than_their_clocks_tell_leave_no_time_out() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let key = series("acme", "eu");
    let [a, b] = [0, 1]
        .map(|writer| resolve(&mut life, writer, &key, Aggregation::TimeWeighted).expect("room"));
    let now = life.engine.anchor().time(world.now);
    let set = |life: &mut Life, writer: usize, slot, millis, value| {
        life.writers[writer].received(1);
        let at = now.plus_millis(millis);
        life.writers[writer]
            .set_level(slot, at, value)
            .expect("accepted");
    };
    set(&mut life, 0, a, 0, 10);
    set(&mut life, 0, a, 1_000, 20);
    // Comes later with an earlier time.
    set(&mut life, 1, b, 900, 3);
    set(&mut life, 0, a, 2_000, 0);
    world.tick(&mut life, 10_000).expect("goes on");
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(billed(&world)[&key.to_string()], 10 * 1_000 + 3 * 1_000);
}

#[test]
fn of_last_values_the_newest_stands_whoever_sets_it() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::new(1);
        let (mut life, _) = world.start().expect("starts");
        let key = series("acme", "eu");
        let mut last = 0;
        for round in 0..4 {
            for writer in order {
                last += 1;
                let slot = resolve(&mut life, writer, &key, Aggregation::Last).expect("room");
                let now = life.engine.anchor().time(world.now);
                life.writers[writer].received(1);
                let set = life.writers[writer].set(slot, now, last);
                set.expect("accepted");
            }
            if round == 1 {
                drop(life);
                world.kill();
                life = world.start().expect("starts").0;
            }
            world.tick(&mut life, 10_000).expect("goes on");
        }
        world.ship(&mut life).expect("ships");
        world.finish(life);
        let rows = world.collector.batches().flat_map(|batch| &batch.rows);
        let lasts = rows.filter(|row| row.aggregation == Aggregation::Last);
        let lasts: Vec<_> = lasts.map(|row| (row.value.units(), row.events)).collect();
        assert_eq!(lasts, [(2, 2), (4, 2), (6, 2), (8, 2)], "{order:?}");
    }
}

#[test]
fn levels_beyond_a_limit_are_refused_and_declared() {
    let mut world = World::new(1);
    world.config.limits.series_per_tenant = 1;
    let (mut life, _) = world.start().expect("starts");
    let keys = ["eu", "us", "asia"].map(|region| series("hooli", region));
    set_level(&world, &mut life, 0, &keys[0], 5);
    for (key, writer) in [(&keys[1], 0), (&keys[2], 1), (&keys[0].to_overflow(), 0)] {
        let refused = resolve(&mut life, writer, key, Aggregation::TimeWeighted);
        assert_eq!(refused, Err(SeriesFull), "{key}");
        let hand = &mut life.writers[writer];
        hand.received(1);
        hand.rejected_for(key.tenant(), crate::aggregate::Rejection::SeriesFull, 1);
    }
    // Another kind goes on without its dimensions.
    resolve(&mut life, 0, &keys[1], Aggregation::Max).expect("overflow");
    let begin = life.engine.anchor().time(world.now).millis();
    world.tick(&mut life, 10_000).expect("goes on");
    world.ship(&mut life).expect("ships");
    let end = life.engine.anchor().time(world.now).millis();
    world.finish(life);
    let expected = BTreeMap::from([(keys[0].to_string(), 5 * i128::from(end - begin))]);
    assert_eq!(billed(&world), expected);
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    assert!(
        losses
            .into_iter()
            .any(|loss| loss.reason == LossReason::SeriesRefused)
    );
}

#[test]
fn a_level_of_an_input_that_is_removed_goes_on() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let key = series("acme", "eu");
    let mut held = Held::default();
    set_level(&world, &mut life, 1, &key, 5);
    held.set(world.now.millis(), 5);
    world.tick(&mut life, 12_000).expect("goes on");
    world.ship(&mut life).expect("ships");
    world.finish(life);
    world.config.writers.pop();
    let (mut life, _) = world.start().expect("starts");
    world.tick(&mut life, 10_000).expect("goes on");
    // The input that is left takes it over.
    set_level(&world, &mut life, 0, &key, 2);
    held.set(world.now.millis(), 2);
    world.tick(&mut life, 10_000).expect("goes on");
    held.set(world.now.millis(), 0);
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(billed(&world)[&key.to_string()], held.2);
    assert!(!world.collector.declared());
}

/// A life of three levels, after which there is no room for them.
fn levels_without_room() -> World {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let keys = ["eu", "us", "asia"].map(|region| series("acme", region));
    for key in &keys {
        set_level(&world, &mut life, 1, key, 1);
    }
    world.tick(&mut life, 10_000).expect("goes on");
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(refused(&world), []);
    world.config.writers.pop();
    world.config.series_max = 1;
    world
}

/// Whose levels of what are declared as ended.
fn refused(world: &World) -> Vec<(Option<TenantId>, Option<MeterName>)> {
    let losses = world.collector.batches().flat_map(|batch| &batch.losses);
    losses
        .filter(|loss| loss.reason == LossReason::SeriesRefused)
        .map(|loss| (loss.tenant.clone(), loss.meter.clone()))
        .collect()
}

#[test]
fn a_level_for_which_the_next_life_has_no_room_is_declared() {
    let mut world = levels_without_room();
    let (mut life, _) = world.start().expect("starts");
    world.ship(&mut life).expect("ships");
    let key = series("acme", "eu");
    let named = (Some(key.tenant().clone()), Some(key.meter().clone()));
    assert_eq!(refused(&world), [named]);
    world.finish(life);
}

/// Between the store that puts the new cells in place and the batch with the declaration.
#[test]
fn a_kill_does_not_take_the_declaration_of_a_level_without_room() {
    for killed_at in 0.. {
        let mut world = levels_without_room();
        if killed_at == 0 {
            // With nothing written under the new name yet.
            world.home.fail_at(2, ReplaceFault::After);
        } else {
            world.fault_at(world.storage.operations() + killed_at, Fault::Stop);
        }
        if world.start().is_ok() {
            assert!(killed_at > 2, "no operation of a start was met");
            break;
        }
        world.kill();
        world.now = world.now.plus_millis(1_000);
        let (mut life, _) = world.start().expect("starts");
        world.ship(&mut life).expect("ships");
        world.finish(life);
        assert!(!refused(&world).is_empty(), "killed at {killed_at}");
    }
}
