//! Orderly lives: seal, ship, stop, start.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tollgate_common::{AgentId, ParentEnd, Window};

use super::world::World;
use crate::engine::{EngineError, Recovery, StartError, TopMemory, TopQuery};
use crate::seal::Mode;
use crate::spool::Room;

#[test]
fn windows_are_sealed_shipped_and_accounted() {
    let mut world = World::new(1);
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.recovery, Recovery::First);
    world.count(&mut life, 5);
    let status = life.engine.status();
    assert_eq!(status.sequence, 1, "the opening is sealed at once");
    assert_eq!(status.inputs[0].account.open, 3);
    assert!(status.inputs[0].account.balances());

    world.tick(&mut life, 7_000).expect("seals");
    let status = life.engine.status();
    assert_eq!((status.sequence, status.inputs[1].account.sealed), (2, 3));
    assert_eq!(status.inputs[0].account.received, 3);
    assert_eq!(world.ship(&mut life).expect("ships"), 2);
    assert_eq!(world.collector.billed(), world.accepted);
    assert!(life.engine.is_drained());

    // The rows belong to the window in which the span began.
    let batch = world.collector.batches().find(|b| !b.rows.is_empty());
    let batch = batch.expect("sealed");
    assert!(batch.rows.iter().all(|row| {
        row.window == Window::containing(batch.span.from, row.window.width()) && row.events == 2
    }));
    assert_eq!(world.ship(&mut life).expect("ships"), 0, "nothing again");
    world.finish(life);
}

/// What others read while the engine counts and seals adds up at every instant.
#[test]
fn who_looks_does_so_beside_the_engine() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let (glance, now, stop) = (life.engine.glance(), world.now, AtomicBool::new(false));
    let accepted = || -> u64 {
        let accounts = glance.tenant_accounts(10);
        accounts
            .busiest
            .iter()
            .map(|tenant| tenant.account.accepted)
            .sum()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut memory, query) = (TopMemory::default(), TopQuery::default());
            let mut before = 0;
            while !stop.load(Relaxed) {
                let now_accepted = accepted();
                assert!(now_accepted >= before, "{now_accepted} after {before}");
                before = now_accepted;
                glance.top(&mut memory, &query, now);
            }
        });
        for amount in 0..300 {
            world.count(&mut life, amount);
            world.tick(&mut life, 10_000).expect("seals");
            world.ship(&mut life).expect("ships");
        }
        stop.store(true, Relaxed);
    });
    let (seen, accepted) = (glance.status(), accepted());
    let inputs = life.engine.status().inputs;
    assert_eq!(seen.inputs, inputs);
    let of_inputs: u64 = inputs.iter().map(|input| input.account.accepted).sum();
    assert_eq!(accepted, of_inputs);
    world.finish(life);
}

#[test]
fn a_clean_stop_is_followed_by_a_child_that_names_it() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 9);
    assert!(matches!(
        life.engine.handle_stop(world.now),
        Err(EngineError::WriterHeld(name)) if name == "a"
    ));
    let first = life.engine.status().incarnation;
    drop(world.stop(life).expect("stops"));
    // Not even a loss of power harms what was stopped in order.
    world.crash(3);
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.recovery, Recovery::Clean);
    let parent = report.parent.expect("has one");
    assert_eq!((parent.incarnation, parent.end), (first, ParentEnd::Final));
    let account = life.engine.status().inputs[0].account.clone();
    assert!(account.balances());
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
    assert!(!world.collector.declared());
    world.finish(life);
}

#[test]
fn a_killed_life_is_finished_by_the_next() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 9);
    world.tick(&mut life, 7_000).expect("seals");
    world.count(&mut life, 4);
    drop(life);
    world.kill();
    world.now = world.now.plus_millis(3_600_000);
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(
        (report.recovery, report.rows_recovered),
        (Recovery::Killed, 3)
    );
    let account = life.engine.status().inputs[0].account.clone();
    assert_eq!(
        (account.accepted, account.sealed, account.received),
        (6, 6, 6)
    );
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
    assert!(!world.collector.declared());
    world.finish(life);
}

#[test]
fn a_crashed_host_loses_what_was_open_and_says_so() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let (mut life, _) = world.start().expect("starts");
        world.count(&mut life, 9);
        world.tick(&mut life, 7_000).expect("seals");
        let sealed = world.accepted.clone();
        let cut = life.engine.status().watermark;
        world.count(&mut life, 4);
        drop(life);
        world.crash(seed);
        world.now = world.now.plus_millis(60_000);
        let (mut life, report) = world.start().expect("starts");
        assert_eq!(report.recovery, Recovery::Lost);
        let end = report.parent.expect("has one").end;
        let ParentEnd::Unclean { from, to, .. } = end else {
            panic!("{end:?}");
        };
        assert_eq!((from, to), (cut, world.now));
        assert!(life.engine.status().inputs[0].account.balances());
        world.ship(&mut life).expect("ships");
        assert_eq!(world.collector.billed(), sealed);
        world.finish(life);
    }
}

#[test]
fn a_life_that_sealed_nothing_is_passed_over_and_its_loss_declared() {
    let mut world = World::new(1);
    let (life, _) = world.start().expect("starts");
    let first = life.engine.status().incarnation;
    drop(world.stop(life).expect("stops"));
    // The child's opening does not get into the spool: it waits for room.
    world.storage.set_capacity(Some(world.storage.used()));
    let (life, _) = world.start().expect("starts");
    assert!(life.engine.status().spool.full_since.is_some());
    drop(life);
    world.storage.set_capacity(None);
    world.crash(2);
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.parent.map(|parent| parent.incarnation), Some(first));
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.lines.len(), 2);
    assert!(world.collector.declared());
    world.finish(life);
}

#[test]
fn a_renamed_agent_does_not_take_over_what_another_counted() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 9);
    drop(life);
    world.kill();
    let agent = world.config.agent.clone();
    world.config.agent = AgentId::new("edge-2").expect("valid");
    assert!(matches!(
        world.start(),
        Err(StartError::OtherAgent { found, .. }) if found == agent
    ));
    world.config.agent = agent;
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.recovery, Recovery::Killed);
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
    world.finish(life);
}

#[test]
fn lost_cells_are_declared() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 9);
    drop(life);
    world.kill();
    world.home.lose();
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.recovery, Recovery::Lost);
    world.ship(&mut life).expect("ships");
    assert!(world.collector.declared());
    world.finish(life);
}

#[test]
fn a_clock_that_goes_back_stops_nothing() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    for step in [
        10_000,
        -3_000,
        10_000,
        -40_000,
        10_000,
        -40_000_000,
        10_000,
        10_000,
    ] {
        world.count(&mut life, 1);
        let before = life.engine.status().sequence;
        world.tick(&mut life, step).expect("ticks");
        world.tick(&mut life, 10_000).expect("seals");
        assert!(life.engine.status().sequence > before);
    }
    let status = life.engine.status();
    assert!(status.cut <= world.now, "a wrong clock is forgotten");
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
}

#[test]
fn a_batch_that_is_durable_and_not_applied_is_applied_by_the_next_life() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 9);
    let at = world.now.plus_millis(10_000);
    let engine = &mut life.engine;
    let sealed = engine.sealer.seal(&engine.cells, at, Mode::Window);
    let sealed = sealed.expect("seals");
    engine.spool.append(&sealed, Room::Ordinary).expect("room");
    // Counted between the cut and the death, before the store that applies the batch.
    world.count(&mut life, 2);
    drop(life);
    world.kill();
    let (mut life, report) = world.start().expect("starts");
    assert_eq!(report.parent.map(|parent| parent.last_sequence), Some(3));
    world.ship(&mut life).expect("ships");
    assert_eq!(world.collector.billed(), world.accepted);
    assert!(!world.collector.declared());
    world.finish(life);
}
