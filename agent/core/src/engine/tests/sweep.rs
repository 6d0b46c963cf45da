//! A process that dies at every operation of its disk, in turn.

use super::world::{Fault, Life, ReplaceFault, World};
use crate::engine::{EngineError, StartError};
use crate::spool::SyncPolicy;

/// How a life ends that is hit by a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Crash(u64),
}

/// What a script did.
struct Outcome {
    world: World,
    died: u32,
    /// What was accepted and not yet sealed when a life ended.
    open: i128,
}

/// Why a life ended, told where that was not meant.
#[derive(Debug)]
#[expect(dead_code, reason = "printed by a failing test")]
enum Death {
    Engine(EngineError),
    Start(StartError),
}

impl From<EngineError> for Death {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<StartError> for Death {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

const STEPS: u64 = 14;

/// One step of a life; steps 4 and 10 end it.
fn step(world: &mut World, life: &mut Option<Life>, number: u64) -> Result<bool, Death> {
    let mut running = match life.take() {
        Some(running) => running,
        None => world.start()?.0,
    };
    world.count(&mut running, number + 1);
    match number {
        4 => {
            drop(running);
            world.kill();
            return Ok(false);
        }
        10 => {
            drop(world.stop(running)?);
            return Ok(true);
        }
        _ => {}
    }
    world.tick(&mut running, 10_000)?;
    if number % 3 == 2 {
        world.ship(&mut running)?;
    }
    let spool = running.engine.status().spool;
    // Safe from a power cut: synced, or let go by the collector.
    let safe = spool.unsynced == 0 || spool.batches == 0;
    let sealed = spool.full_since.is_none() && safe;
    *life = Some(running);
    Ok(sealed)
}

fn die(world: &mut World, end: End) {
    match end {
        End::Kill => world.kill(),
        End::Crash(seed) => world.crash(seed),
    }
    world.now = world.now.plus_millis(2_500);
}

fn run(end: End, seed: u64, prepare: impl Fn(&mut World)) -> Outcome {
    let mut world = World::new(seed);
    // Small, so that ten ticks fill segments and releases trim them.
    world.config.spool.bytes_max = 64 << 10;
    prepare(&mut world);
    let mut life = None;
    let (mut died, mut sealed, mut open) = (0, 0, 0);
    for number in 0..STEPS {
        match step(&mut world, &mut life, number) {
            Ok(true) => sealed = world.accepted_total(),
            Ok(false) => {}
            Err(death) => {
                assert!(died < 3, "{death:?}");
                died += 1;
                open += world.accepted_total() - sealed;
                sealed = world.accepted_total();
                die(&mut world, end);
            }
        }
    }
    let life = match life {
        Some(life) => life,
        None => world.start().expect("starts").0,
    };
    if !finish(&mut world, life, end) {
        died += 1;
        open += world.accepted_total() - sealed;
    }
    Outcome { world, died, open }
}

/// Ends the last life; false if a fault comes only now, which is survived as well.
fn finish(world: &mut World, mut life: Life, end: End) -> bool {
    let mut last = |life: &mut Life| -> Result<(), EngineError> {
        life.writers.clear();
        life.engine.handle_stop(world.now)?;
        world.ship(life).map(drop)
    };
    let undisturbed = last(&mut life).is_ok();
    if !undisturbed {
        drop(life);
        die(world, end);
        let (life, _) = world.start().expect("starts");
        world.finish(life);
    }
    world.collector.check_lines();
    undisturbed
}

/// Operations of an undisturbed run.
fn operations() -> u64 {
    let outcome = run(End::Kill, 1, |_| {});
    assert_eq!(outcome.died, 0);
    assert_eq!(outcome.world.collector.billed(), outcome.world.accepted);
    outcome.world.storage.operations()
}

const LAZY: [SyncPolicy; 2] = [
    SyncPolicy::Interval { millis: 25_000 },
    SyncPolicy::OnDisconnect { millis: 25_000 },
];

/// A spool that does not sync every batch, and a connection that stays.
fn lazily(policy: SyncPolicy) -> impl Fn(&mut World) {
    move |world| {
        world.config.spool.sync = policy;
        world.stay = true;
    }
}

#[test]
fn a_lazy_spool_loses_nothing_to_a_kill_at_any_operation() {
    for policy in LAZY {
        let lazy = lazily(policy);
        let outcome = run(End::Kill, 1, &lazy);
        assert_eq!(outcome.world.collector.billed(), outcome.world.accepted);
        let operations = outcome.world.storage.operations();
        let syncs = outcome.world.storage.stats().syncs;
        assert!(syncs < run(End::Kill, 1, |_| {}).world.storage.stats().syncs);
        for number in 1..=operations {
            for fault in [Fault::Stop, Fault::Error] {
                let outcome = run(End::Kill, number, |world| {
                    lazy(world);
                    world.fault_at(number, fault);
                });
                assert_eq!(
                    outcome.world.collector.billed(),
                    outcome.world.accepted,
                    "{policy:?}: {fault:?} at operation {number}"
                );
                assert!(!outcome.world.collector.declared(), "at {number}");
            }
        }
    }
}

#[test]
fn a_lazy_spool_declares_what_a_crash_at_any_operation_takes() {
    let mut beyond = 0;
    for policy in LAZY {
        let lazy = lazily(policy);
        let operations = run(End::Kill, 1, &lazy).world.storage.operations();
        for number in 1..=operations {
            for seed in [number, number + 7_919, number + 15_013] {
                let outcome = run(End::Crash(seed), seed, |world| {
                    lazy(world);
                    world.fault_at(number, Fault::Stop);
                });
                let world = &outcome.world;
                let lost = world.accepted_total() - world.billed_total();
                assert!(lost >= 0, "{policy:?}: doubled at operation {number}");
                assert!(lost == 0 || world.collector.declared(), "at {number}");
                assert!(
                    lost <= outcome.open,
                    "{policy:?}: {lost} of {} open at operation {number}, seed {seed}",
                    outcome.open
                );
                for (series, billed) in world.collector.billed() {
                    assert!(billed <= world.accepted[&series]);
                }
                beyond += u32::from(lost > 0);
            }
        }
    }
    assert!(beyond > 50, "{beyond}");
}

#[test]
fn a_kill_at_any_operation_neither_loses_nor_doubles() {
    let operations = operations();
    let mut died = 0;
    for number in 1..=operations {
        let outcome = run(End::Kill, 1, |world| world.fault_at(number, Fault::Stop));
        assert_eq!(
            outcome.world.collector.billed(),
            outcome.world.accepted,
            "killed at operation {number}"
        );
        assert!(!outcome.world.collector.declared(), "at {number}");
        died += outcome.died;
    }
    assert!(
        u64::from(died) * 10 >= operations * 9,
        "{died} of {operations}"
    );
}

#[test]
fn an_error_at_any_operation_neither_loses_nor_doubles() {
    let operations = operations();
    for number in 1..=operations {
        let outcome = run(End::Kill, 1, |world| {
            world.fault_at(number, Fault::Error);
        });
        let billed = outcome.world.billed_total();
        let accepted = outcome.world.accepted_total();
        // A failed sync loses its pages; what was to be sealed is still in the cells.
        assert_eq!(billed, accepted, "failed at operation {number}");
    }
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_sealed_and_declares_the_rest() {
    let operations = operations();
    for number in 1..=operations {
        for seed in [number, number + 7_919] {
            let outcome = run(End::Crash(seed), seed, |world| {
                world.fault_at(number, Fault::Stop);
            });
            let world = &outcome.world;
            let lost = world.accepted_total() - world.billed_total();
            assert!(lost >= 0, "doubled at operation {number}");
            assert!(lost == 0 || world.collector.declared(), "at {number}");
            assert!(
                lost <= outcome.open,
                "sealed and lost at operation {number}"
            );
            for (series, billed) in world.collector.billed() {
                assert!(billed <= world.accepted[&series]);
            }
        }
    }
}

/// The sweep must be able to fail: on a disk whose syncs do nothing, what was reported as
/// sealed is lost somewhere.
#[test]
fn a_disk_that_lies_is_caught() {
    let caught = (1..=operations()).any(|number| {
        let run = std::panic::AssertUnwindSafe(|| {
            run(End::Crash(number), number, |world| {
                world.storage.set_ignore_sync(true);
                world.fault_at(number, Fault::Stop);
            })
        });
        let outcome = std::panic::catch_unwind(run);
        outcome.map_or(true, |outcome| {
            outcome.world.accepted_total() - outcome.world.billed_total() > outcome.open
        })
    });
    assert!(caught);
}

#[test]
fn a_death_around_the_replacement_of_cells_neither_loses_nor_doubles() {
    for number in 1..=3 {
        for fault in [ReplaceFault::Before, ReplaceFault::After] {
            let outcome = run(End::Kill, 1, |world| world.home.fail_at(number, fault));
            assert_eq!(outcome.died, 1);
            assert_eq!(outcome.world.collector.billed(), outcome.world.accepted);
            assert!(!outcome.world.collector.declared());
        }
    }
}

#[test]
fn two_kills_in_a_row_neither_lose_nor_double() {
    let operations = operations();
    let mut state = 42u64;
    for _ in 0..150 {
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        };
        let first = 1 + random() % operations;
        let fault = if random() % 2 == 0 {
            ReplaceFault::Before
        } else {
            ReplaceFault::After
        };
        // The recovery from the first death meets the second one in its replacement.
        let replacement = 2 + random() % 2;
        let outcome = run(End::Kill, 1, |world| {
            world.fault_at(first, Fault::Stop);
            world.home.fail_at(replacement, fault);
        });
        assert_eq!(
            outcome.world.collector.billed(),
            outcome.world.accepted,
            "killed at operation {first} and {fault:?} replacement {replacement}"
        );
    }
}
