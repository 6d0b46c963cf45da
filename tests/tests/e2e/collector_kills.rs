//! SIGKILL between the system calls with which a collector changes its disk: journal, database and
//! snapshot.
//!
//! strace lets the collector run until its Nth call of a kind and kills it instead of making the
//! call. Starting is swept, which reads what the death before left; appending, syncing, booking and
//! acknowledging by attaching to a collector that runs; the last snapshot by stopping one. A client
//! counts all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::counting::{TENANTS, assert_billed_exactly, count_until};
use crate::strace::{Strace, strace_works};
use crate::support::{PATIENCE, World};

/// Which calls of a start are swept, and at which of them it dies.
const STARTING: [(&str, &[usize]); 4] = [
    ("pwrite64", &[1, 2, 5, 9]),
    ("fdatasync", &[1, 2, 4]),
    ("ftruncate", &[1]),
    ("unlink", &[1]),
];
/// The calls with which a running collector makes entries durable and books them.
const RUNNING: [(&str, &[usize]); 2] = [
    ("pwrite64", &[1, 2, 3, 4, 6, 9, 14]),
    ("fdatasync", &[1, 2, 3, 5]),
];
/// The calls with which one that stops leaves a snapshot behind.
const STOPPING: [(&str, &[usize]); 4] = [
    ("pwrite64", &[1, 3]),
    ("fdatasync", &[1]),
    ("fsync", &[1]),
    ("rename", &[1]),
];

/// Kinds of calls, and at which of each.
type Sweep = [(&'static str, &'static [usize])];

/// All points of a sweep.
fn points(sweep: &'static Sweep) -> impl Iterator<Item = (&'static str, usize)> {
    let kinds = sweep.iter();
    kinds.flat_map(|(call, at)| at.iter().map(move |nth| (*call, *nth)))
}

/// Starts a collector under strace; it dies at the call, or else once it is ready.
fn kill_a_start(world: &World, point: (&str, usize)) {
    let config = world.path("collector.toml");
    Strace::ends_a_start(point, "tollgate-collector", &config, || {
        world.get("/readyz").is_some()
    });
}

/// Attaches to a collector that runs and waits for its end at this call from now on.
fn kill_a_commit(world: &World, point: (&str, usize)) {
    let collector = world.start_collector();
    let pid = collector.pid().to_string();
    let mut strace = Strace::start(point, &["-p", &pid], &[]);
    assert!(
        strace.ended(PATIENCE),
        "an agent ships every second, but the collector never came to {point:?}"
    );
    drop(collector);
}

/// Stops a collector, which dies at this call if it comes to it.
fn kill_a_stop(world: &World, point: (&str, usize)) {
    let mut collector = world.start_collector();
    let pid = collector.pid().to_string();
    let mut strace = Strace::start(point, &["-p", &pid], &[]);
    // Attached or not: either way it has to come back.
    std::thread::sleep(Duration::from_millis(100));
    if collector.is_running() {
        collector.terminate();
    }
    assert!(strace.ended(PATIENCE), "the collector does not stop");
    drop(collector);
}

#[test]
fn sigkill_of_the_collector_between_calls_loses_and_doubles_nothing() {
    if !strace_works() {
        return;
    }
    let world = Arc::new(World::new(&[("edge-1", &TENANTS)]));
    let agent = world.start_agent("edge-1");
    let stop = Arc::new(AtomicBool::new(false));
    let counter = {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        std::thread::spawn(move || {
            count_until(&world, &AtomicU64::new(0), || stop.load(Ordering::Relaxed))
        })
    };
    let mut kills = 0;
    for point in points(&STARTING) {
        kill_a_start(&world, point);
        kills += 1;
    }
    for point in points(&RUNNING) {
        kill_a_commit(&world, point);
        kills += 1;
    }
    for point in points(&STOPPING) {
        kill_a_stop(&world, point);
        kills += 1;
    }
    assert!(kills >= 20, "only {kills} kills");
    let collector = world.start_collector();
    stop.store(true, Ordering::Relaxed);
    let known = counter.join().expect("the counting thread ended well");
    // After so many connections that came to nothing, the agent waits longer for the next one than
    // for its own end.
    let counted: i128 = known.acknowledged.values().sum();
    world.wait("all that was acknowledged has come", || {
        let accounts = world.items("/v1/conservation?limit=10000");
        let accepted = accounts.iter().filter_map(|account| {
            let text = account["accepted"].as_str()?;
            text.parse::<i128>().ok()
        });
        accepted.sum::<i128>() >= counted
    });
    agent.stop();
    world.wait_settled();
    assert_billed_exactly(&world, &known);
    collector.stop();
    world.assert_verified();
}
