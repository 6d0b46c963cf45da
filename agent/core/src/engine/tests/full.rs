//! A spool without room.

use std::collections::BTreeMap;

use tollgate_common::{Aggregation, Scale, WindowWidth};

use super::world::{World, series};
use crate::engine::{Pressure, Recovery, Stopped};

fn fill(world: &mut World) -> super::world::Life {
    world.config.spool.bytes_max = 64 << 10;
    let (mut life, _) = world.start().expect("starts");
    for round in 0..20_000 {
        world.count(&mut life, round % 2000);
        world.tick(&mut life, 10_000).expect("goes on");
        if life.engine.status().spool.full_since.is_some() {
            return life;
        }
    }
    panic!("the spool never fills");
}

#[test]
fn counts_stay_in_the_cells_until_there_is_room() {
    let mut world = World::new(1);
    let mut life = fill(&mut world);
    let sequence = life.engine.status().sequence;
    for _ in 0..50 {
        world.count(&mut life, 3);
        world.tick(&mut life, 10_000).expect("goes on");
    }
    assert_eq!(life.engine.status().sequence, sequence);
    assert!(world.storage.used() <= 64 << 10);
    world.ship(&mut life).expect("ships");
    world.tick(&mut life, 10_000).expect("seals");
    assert_eq!(life.engine.status().sequence, sequence + 1);
    assert_eq!(life.engine.status().spool.full_since, None);
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
}

#[test]
fn sealing_becomes_rarer_so_that_the_last_room_lasts() {
    let mut world = World::new(1);
    world.config.spool.bytes_max = 64 << 10;
    let (mut life, _) = world.start().expect("starts");
    let (mut ticks, mut seals) = (BTreeMap::new(), BTreeMap::new());
    let mut widest = 0;
    while life.engine.pressure() < Pressure::Hold {
        world.count(&mut life, 5);
        let before = life.engine.status();
        world.tick(&mut life, 10_000).expect("goes on");
        let after = life.engine.status();
        *ticks.entry(before.pressure).or_insert(0) += 1;
        *seals.entry(before.pressure).or_insert(0) += after.sequence - before.sequence;
        widest = widest.max(after.cut.millis_since(before.cut));
    }
    let windows = |of: Pressure| ticks[&of] / seals[&of].max(1);
    assert_eq!(windows(Pressure::None), 1);
    assert!(windows(Pressure::Rare) >= 4, "{ticks:?} {seals:?}");
    assert!(ticks[&Pressure::Rare] > ticks[&Pressure::None], "{ticks:?}");
    assert!(widest >= 160_000, "{widest}");
    world.ship(&mut life).expect("ships");
    assert_eq!(life.engine.pressure(), Pressure::None);
    let sequence = life.engine.status().sequence;
    world.tick(&mut life, 10_000).expect("seals");
    assert_eq!(life.engine.status().sequence, sequence + 1, "at once again");
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
}

/// The largest value, and how many differed at most in a row, of all that arrived.
fn largest(world: &World, aggregation: Aggregation) -> i128 {
    let batches = world.collector.batches();
    let rows = batches.flat_map(|batch| &batch.rows);
    let values = rows.filter(|row| row.aggregation == aggregation);
    values.map(|row| row.value.units()).max().unwrap_or(0)
}

#[test]
fn no_maximum_and_no_member_is_lost_while_seals_are_rare() {
    let mut world = World::new(1);
    world.config.spool.bytes_max = 64 << 10;
    let (mut life, _) = world.start().expect("starts");
    // Up to a seal after which at least eight windows wait for theirs.
    let (mut waited, mut sequence) = (0, 0);
    while waited < 8 || life.engine.status().sequence == sequence {
        let sealed = life.engine.status().sequence;
        waited = if sealed == sequence { waited + 1 } else { 0 };
        sequence = sealed;
        world.count(&mut life, 5);
        world.tick(&mut life, 10_000).expect("goes on");
    }
    let count = |world: &World, life: &mut super::world::Life, value: i64| {
        let now = life.engine.anchor().time(world.now);
        for writer in &mut life.writers {
            let key = series("acme", "eu");
            let mut slot = |kind| writer.resolve(&key, kind, Scale::ZERO).expect("room");
            let [max, unique] = [slot(Aggregation::Max), slot(Aggregation::Unique)];
            writer.received(2);
            writer.set_max(max, now, value).expect("accepted");
            writer
                .insert(unique, now, value.unsigned_abs())
                .expect("accepted");
        }
    };
    let sequence = life.engine.status().sequence;
    for value in [1000, 1, 2, 3, 4] {
        count(&world, &mut life, value);
        world.tick(&mut life, 10_000).expect("goes on");
        assert_eq!(life.engine.status().sequence, sequence, "not sealed yet");
    }
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(largest(&world, Aggregation::Max), 1000);
    // Windows with an even index had 1000, 2, 4, or those with an odd one.
    assert_eq!(largest(&world, Aggregation::Unique), 3);
    assert!(!world.collector.declared());
}

#[test]
fn a_full_agent_stops_and_starts_many_times() {
    let mut world = World::new(1);
    let mut life = fill(&mut world);
    let (mut continued, mut unsealed) = (0, 0);
    for round in 0..60 {
        world.count(&mut life, 2);
        if round % 2 == 0 {
            drop(life);
            world.kill();
        } else {
            life.writers.clear();
            let stopped = life.engine.handle_stop(world.now).expect("stops");
            unsealed += u32::from(stopped == Stopped::SpoolFull);
            drop(life);
        }
        world.now = world.now.plus_millis(1_000);
        let (next, report) = world.start().expect("starts");
        continued += u32::from(report.recovery == Recovery::Continued);
        life = next;
    }
    assert!(continued > 0 && unsealed > 0, "even the reserve is used up");
    world.ship(&mut life).expect("ships");
    world.tick(&mut life, 10_000).expect("seals");
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
    assert!(!world.collector.declared());
}

#[test]
fn cells_that_go_on_keep_their_windows_whatever_the_configuration_says() {
    let mut world = World::new(1);
    let mut life = fill(&mut world);
    let before = life.engine.window();
    for _ in 0..60 {
        world.count(&mut life, 2);
        drop(life);
        world.kill();
        world.now = world.now.plus_millis(1_000);
        let (next, report) = world.start().expect("starts");
        life = next;
        if report.recovery == Recovery::Continued {
            drop(life);
            world.kill();
            world.config.window = WindowWidth::from_secs(60).expect("divides 900");
            world.config.series_max *= 2;
            let (life, report) = world.start().expect("starts");
            assert_eq!(report.recovery, Recovery::Continued);
            assert_eq!(life.engine.window(), before);
            world.finish(life);
            return;
        }
    }
    panic!("the reserve is never used up");
}
