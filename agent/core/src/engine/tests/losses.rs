//! Losses that are declared while the agent runs.

use tollgate_common::{
    Aggregation, Dimensions, Loss, LossAmount, LossReason, MeterName, Quantity, Scale, SeriesKey,
    TenantId, Timestamp,
};

use super::world::{Fault, World};
use crate::aggregate::{InputLoss, Rejection};

fn vanished(tenant: &str, amount: LossAmount) -> Loss {
    Loss {
        reason: LossReason::PageVanished,
        tenant: Some(TenantId::new(tenant).expect("valid")),
        meter: None,
        amount,
        from: Timestamp::from_millis(1_000),
        to: Timestamp::from_millis(2_000),
    }
}

fn declared(world: &World) -> Vec<Loss> {
    let batches = world.collector.batches();
    batches.flat_map(|batch| batch.losses.clone()).collect()
}

#[test]
fn a_declaration_is_durable_at_the_next_tick_and_arrives_once() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let declarations = life.engine.declarations();
    world.count(&mut life, 5);
    let loss = vanished("acme", LossAmount::Exact(Quantity::new(7)));
    let first = declarations.declare(loss.clone());
    assert!(!declarations.is_durable(first));
    assert!(life.engine.poll_timeout().is_some_and(|at| at <= world.now));
    world.tick(&mut life, 10).expect("seals");
    assert!(declarations.is_durable(first));
    // What is counted waits for the end of its window.
    assert_eq!(life.engine.status().inputs[0].account.open, 3);
    // Another one waits a moment, so that a storm of them does not fill the spool.
    let second = declarations.declare(vanished("umbrella", LossAmount::Unknown));
    world.tick(&mut life, 10).expect("ticks");
    assert!(!declarations.is_durable(second));
    world.tick(&mut life, 1_000).expect("seals");
    assert!(declarations.is_durable(second));
    drop(life);
    world.kill();
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 5);
    world.ship(&mut life).expect("ships");
    world.finish(life);
    assert_eq!(
        declared(&world),
        [loss, vanished("umbrella", LossAmount::Unknown)]
    );
    assert_eq!(world.collector.billed(), world.accepted);
    let of_their_own = world.collector.batches().filter(|b| !b.losses.is_empty());
    assert!(
        of_their_own
            .into_iter()
            .all(|b| b.rows.is_empty() && b.totals.is_empty())
    );
}

#[test]
fn a_stop_declares_what_waits() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    world.count(&mut life, 5);
    life.engine
        .declarations()
        .declare(vanished("acme", LossAmount::Unknown));
    life.writers[0].lost(InputLoss::Shutdown, 3);
    world.finish(life);
    let reasons: Vec<_> = declared(&world).iter().map(|loss| loss.reason).collect();
    assert_eq!(
        reasons,
        [LossReason::PageVanished, LossReason::InputStopped]
    );
    assert_eq!(world.collector.billed(), world.accepted);
}

#[test]
fn what_accounts_say_is_declared_with_its_time() {
    let mut world = World::new(1);
    let (mut life, _) = world.start().expect("starts");
    let began = world.now;
    world.tick(&mut life, 2_000).expect("ticks");
    life.writers[0].rejected(Rejection::SeriesFull, 2);
    let acme = TenantId::new("acme").expect("valid");
    life.writers[0].rejected_for(&acme, Rejection::SeriesFull, 3);
    life.writers[1].lost(InputLoss::CounterReset, 1);
    // Kernel drops are not declared: nobody had accepted them, and the account has them.
    life.writers[1].lost(InputLoss::KernelDrop, 1);
    world.tick(&mut life, 2_000).expect("declares");
    world.ship(&mut life).expect("ships");
    let losses = declared(&world);
    let reasons: Vec<_> = losses.iter().map(|loss| loss.reason).collect();
    assert_eq!(
        reasons,
        [
            LossReason::CounterReset,
            LossReason::SeriesRefused,
            LossReason::SeriesRefused
        ]
    );
    // Whose it was is said where it is known.
    let of: Vec<_> = losses.iter().map(|loss| loss.tenant.clone()).collect();
    assert_eq!(of, [None, Some(acme), None]);
    for loss in losses {
        assert_eq!(loss.from, began.plus_millis(2_000));
        assert_eq!(loss.to, began.plus_millis(4_000));
        assert_eq!(loss.amount, LossAmount::Unknown);
    }
    // More of it within the minute waits, with its time, for the minute's end or the agent's.
    for tenant in 0..20 {
        let tenant = TenantId::new(&format!("t{tenant}")).expect("valid");
        life.writers[0].rejected_for(&tenant, Rejection::SeriesFull, 1);
    }
    world.tick(&mut life, 2_000).expect("ticks");
    assert_eq!(declared(&world).len(), 3, "once");
    world.finish(life);
    let losses = declared(&world).split_off(3);
    assert_eq!(losses.len(), 17, "sixteen tenants, and all others");
    assert!(losses.iter().all(|of| of.from == began.plus_millis(4_000)));
}

/// Where the next record goes: the newest segment and its length.
fn end_of_spool(world: &World) -> (String, usize) {
    let name = world.storage.names().into_iter().max().expect("a segment");
    let length = world.storage.contents(&name).expect("there").len();
    (name, length)
}

#[test]
fn a_damaged_final_batch_is_priced_by_what_the_cells_remember() {
    // A meter of its own, and one whose total goes on from before it was declared anew.
    let cases = [
        (true, None),
        (true, Some("peak")),
        (true, Some("net.bytes")),
        (false, None),
    ];
    for (damaged, counted_max) in cases {
        let mut world = World::new(1);
        let (mut life, _) = world.start().expect("starts");
        for _ in 0..3 {
            world.count(&mut life, 5);
            world.tick(&mut life, 10_000).expect("seals");
        }
        world.ship(&mut life).expect("ships");
        let shipped = world.billed_total();
        world.count(&mut life, 70);
        if let Some(meter) = counted_max {
            let key = SeriesKey::new(
                TenantId::new("acme").expect("valid"),
                MeterName::new(meter).expect("valid"),
                Dimensions::default(),
            );
            let key = key.expect("short");
            let writer = &mut life.writers[0];
            let slot = writer.resolve(&key, Aggregation::Max, Scale::ZERO);
            let set = writer.set_max(slot.expect("room"), world.now, 3);
            set.expect("counts");
        }
        let (before, length) = end_of_spool(&world);
        world.stop(life).expect("stops in order");
        let (after, _) = end_of_spool(&world);
        if damaged {
            let at = if after == before { length } else { 0 };
            assert!(world.storage.flip(&after, at as u64 + 64, 0x10));
        }
        let (mut life, report) = world.start().expect("starts");
        assert_eq!(report.tombstones, u64::from(damaged));
        let accepted = world.accepted_total();
        world.count(&mut life, 1);
        world.ship(&mut life).expect("ships");
        let [tombstone] = world.collector.tombstones.as_slice() else {
            assert!(!damaged && world.collector.tombstones.is_empty());
            continue;
        };
        let remembered = tombstone.remembered.as_ref().expect("the cells are whole");
        assert!(remembered.is_final);
        assert_eq!(remembered.is_complete, counted_max.is_none());
        let totals: i128 = remembered.totals.iter().map(|t| t.quantity.units()).sum();
        // All that was counted before the last start; what has not arrived of it is the loss.
        assert_eq!(totals, accepted);
        assert!(accepted > shipped);
    }
}

#[test]
fn whoever_keeps_the_evidence_declares_through_a_kill_at_any_operation() {
    let script = |fault: Option<(u64, Fault)>| {
        let mut world = World::new(1);
        if let Some((number, fault)) = fault {
            world.fault_at(number, fault);
        }
        // Evidence outlives the process until its loss is durable.
        let (mut evidence, mut billed) = (true, false);
        for _ in 0..4 {
            let Ok((mut life, _)) = world.start() else {
                world.kill();
                continue;
            };
            world.count(&mut life, 3);
            let declarations = life.engine.declarations();
            let ticket =
                evidence.then(|| declarations.declare(vanished("acme", LossAmount::Unknown)));
            let alive = (0..3).all(|_| world.tick(&mut life, 7_000).is_ok());
            evidence = ticket.is_some_and(|ticket| !declarations.is_durable(ticket));
            if alive && world.ship(&mut life).is_ok() && world.stop(life).is_ok() {
                billed = true;
                break;
            }
            world.kill();
        }
        assert!(billed && !evidence, "{fault:?}");
        // The fault may come only now.
        let finished = (0..2).any(|_| {
            let last = world.start().map(|(mut life, _)| {
                life.writers.clear();
                let stopped = life.engine.handle_stop(world.now).is_ok();
                stopped && world.ship(&mut life).is_ok()
            });
            last.unwrap_or(false) || {
                world.kill();
                false
            }
        });
        assert!(finished, "{fault:?}");
        let times = declared(&world).len();
        assert!((1..=2).contains(&times), "{fault:?}: {times} times");
        assert_eq!(world.collector.billed(), world.accepted, "{fault:?}");
        world.storage.operations()
    };
    let operations = script(None);
    for number in 1..=operations {
        for fault in [Fault::Stop, Fault::Error] {
            script(Some((number, fault)));
        }
    }
}
