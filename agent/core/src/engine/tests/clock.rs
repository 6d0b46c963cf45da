//! A wall clock that is set while the agent counts.

use tollgate_common::{Batch, Timestamp};

use super::world::{Life, World};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

/// Counts and ticks for so many seconds.
fn run(world: &mut World, life: &mut Life, secs: i64) {
    for second in 0..secs {
        if second % 3 == 0 {
            world.count(life, 1 + second.unsigned_abs());
        }
        world.tick(life, 1000).expect("goes on");
    }
}

fn steps(world: &World) -> Vec<i64> {
    let batches = world.collector.batches();
    let steps = batches.flat_map(|batch| &batch.steps);
    steps.map(|step| step.by_millis).collect()
}

/// Rows of a batch never are of a window that a batch before has closed.
fn closed_windows_stay_closed(world: &World) {
    let mut watermark = Timestamp::EPOCH;
    for batch in world.collector.batches() {
        for row in &batch.rows {
            assert!(row.window.start() >= watermark, "{row:?} after {watermark}");
        }
        assert!(batch.watermark >= watermark);
        watermark = batch.watermark;
    }
}

#[test]
fn steps_forward_and_back_keep_totals_and_closed_windows() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    run(&mut world, &mut life, 35);
    // Offline all the time.
    for step in [2 * HOUR, 20 * MINUTE, -30 * MINUTE, 5 * HOUR, -HOUR / 2] {
        world.wall_ahead += step;
        run(&mut world, &mut life, 47);
    }
    world.ship(&mut life).expect("ships");
    let told = steps(&world);
    // A clock that is set back while time stands still is told as it is found.
    let expected = [2 * HOUR, 20 * MINUTE, -30 * MINUTE, 5 * HOUR, -HOUR / 2];
    assert_eq!(told, expected);
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
    closed_windows_stay_closed(&world);
}

#[test]
fn windows_follow_a_step_forward_from_the_next_window_on() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    run(&mut world, &mut life, 21);
    let before = world.wall();
    world.wall_ahead += 3 * HOUR;
    run(&mut world, &mut life, 40);
    world.ship(&mut life).expect("ships");
    let late = |batch: &&Batch| batch.span.from >= before.plus_millis(2 * HOUR);
    let after = world.collector.batches().find(late).expect("sealed after");
    assert!(
        after.span.to.millis_since(after.span.from) <= 10_000,
        "no gap in the span"
    );
    let step = world
        .collector
        .batches()
        .find(|batch| !batch.steps.is_empty());
    let step = step.expect("told");
    assert!(
        step.span.to < before.plus_millis(MINUTE),
        "the old time ends with its window"
    );
    assert_eq!(
        step.watermark.millis() / 10_000,
        after.span.from.millis() / 10_000
    );
    let drift = life.engine.status().clock_ahead_millis;
    assert!(drift.abs() <= 500, "{drift}");
    world.finish(life);
    assert_eq!(world.collector.billed(), world.accepted);
    closed_windows_stay_closed(&world);
}

#[test]
fn a_clock_set_back_by_hours_is_believed_and_watermarks_stay() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    run(&mut world, &mut life, 21);
    let before = world.wall();
    world.wall_ahead -= 7 * HOUR;
    run(&mut world, &mut life, 40);
    world.ship(&mut life).expect("ships");
    assert_eq!(steps(&world), [-7 * HOUR]);
    let rows = world.collector.batches().flat_map(|batch| &batch.rows);
    let wrong = rows.filter(|row| row.window.start() > before.plus_millis(MINUTE));
    assert_eq!(wrong.count(), 0, "nothing waits for the wrong future");
    let mut watermark = Timestamp::EPOCH;
    for batch in world.collector.batches() {
        assert!(batch.watermark >= watermark);
        watermark = batch.watermark;
    }
    life.writers.clear();
    life.engine.handle_stop(world.now).expect("stops");
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
}

#[test]
fn a_kill_around_a_step_neither_loses_nor_doubles() {
    for kill in 0..25 {
        let mut world = World::new(1);
        let (mut life, _) = world.start().expect("starts");
        run(&mut world, &mut life, 12);
        world.wall_ahead += if kill % 2 == 0 {
            2 * HOUR
        } else {
            -20 * MINUTE
        };
        run(&mut world, &mut life, kill);
        drop(life);
        world.kill();
        // A new life begins with the wall clock as it is.
        world.now = world.wall();
        world.wall_ahead = 0;
        let (mut life, _) = world.start().expect("starts");
        run(&mut world, &mut life, 15);
        world.finish(life);
        assert_eq!(
            world.collector.billed(),
            world.accepted,
            "killed after {kill} s"
        );
        assert!(!world.collector.declared());
    }
}

#[test]
fn the_hello_tells_the_wall_clock() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.wall_ahead = 90_000;
    world.tick(&mut life, 100).expect("goes on");
    life.engine.handle_connecting(world.now);
    let hello = life.engine.handle_connected(world.now);
    assert_eq!(hello.now, world.wall());
}
