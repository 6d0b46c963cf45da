//! SIGKILL between every two system calls with which an agent changes its disk.
//!
//! strace lets the agent run until its Nth call of that kind and kills it instead of making
//! the call. Starting and recovering is swept from the first call on; sealing and appending
//! by attaching to an agent that runs. A client counts all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::counting::{TENANTS, assert_billed_exactly, count_until};
use crate::strace::{Strace, strace_works};
use crate::support::{PATIENCE, World};

/// Calls that change what a restarted agent finds.
const CALLS: [&str; 10] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "fallocate",
    "ftruncate",
    "msync",
    "rename",
    "renameat",
    "unlink",
    "unlinkat",
];
/// How often a start is swept; what it finds differs each time.
const SWEEPS: usize = 2;
/// The calls with which a running agent makes a seal durable, and how often it makes them in
/// two seals: write and sync of the batch, then its witness.
const SEALING: [(&str, usize); 2] = [("pwrite64", 5), ("fdatasync", 3)];
/// How often sealing is swept.
const SEAL_SWEEPS: usize = 7;

/// Starts an agent under strace and waits for its end at this call; false if it came through
/// with fewer, and was killed while it ran.
fn kill_a_start(world: &World, point: (&str, usize)) -> bool {
    let config = world.path("edge-1.toml");
    // A start that has come through answers; what it does then is swept below.
    Strace::ends_a_start(point, "tollgate-agent", &config, || {
        let client = world.admin("edge-1");
        client.is_some_and(|mut client| client.status().is_ok())
    })
}

/// Attaches to an agent that runs and waits for its end at this call from now on.
fn kill_a_seal(world: &World, point: (&str, usize)) {
    let agent = world.start_agent("edge-1");
    let pid = agent.pid().to_string();
    let mut strace = Strace::start(point, &["-p", &pid], &[]);
    assert!(
        strace.ended(PATIENCE),
        "the agent seals every second, but never came to {point:?}"
    );
    drop(agent);
}

#[test]
fn sigkill_between_any_two_calls_loses_and_doubles_nothing() {
    if !strace_works() {
        return;
    }
    let world = Arc::new(World::new(&[("edge-1", &TENANTS)]));
    let collector = world.start_collector();
    let stop = Arc::new(AtomicBool::new(false));
    let counter = {
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        std::thread::spawn(move || {
            count_until(&world, &AtomicU64::new(0), || stop.load(Ordering::Relaxed))
        })
    };
    let mut kills = 0;
    for _ in 0..SWEEPS {
        for call in CALLS {
            kills += (1..1000)
                .take_while(|&nth| kill_a_start(&world, (call, nth)))
                .count()
                + 1;
        }
    }
    for _ in 0..SEAL_SWEEPS {
        for (call, count) in SEALING {
            for nth in 1..=count {
                kill_a_seal(&world, (call, nth));
                kills += 1;
            }
        }
    }
    assert!(kills >= 100, "only {kills} kills");
    let agent = world.start_agent("edge-1");
    stop.store(true, Ordering::Relaxed);
    let known = counter.join().expect("the counting thread ended well");
    agent.stop();
    world.wait_settled();
    assert_billed_exactly(&world, &known);
    collector.stop();
    world.assert_verified();
}
