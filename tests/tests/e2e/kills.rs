//! SIGKILL at random moments: every acknowledged count is billed exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::counting::{TENANTS, assert_billed_exactly, count_until};
use crate::support::World;

const COUNTS: u64 = 1_000_000;
const KILLS: usize = 22;

#[test]
fn sigkill_of_agent_and_collector_loses_and_doubles_nothing() {
    let world = Arc::new(World::new(&[("edge-1", &TENANTS)]));
    let mut collector = world.start_collector();
    let mut agent = world.start_agent("edge-1");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let finished = Arc::new(AtomicBool::new(false));
    let counter = {
        let (world, acknowledged, finished) = (
            Arc::clone(&world),
            Arc::clone(&acknowledged),
            Arc::clone(&finished),
        );
        std::thread::spawn(move || {
            let done = || acknowledged.load(Ordering::Relaxed) >= COUNTS;
            let known = count_until(&world, &acknowledged, done);
            finished.store(true, Ordering::Relaxed);
            known
        })
    };
    // Kills are spread over the million by progress, with a jitter from a fixed sequence, so
    // that a fast and a slow machine both see all of them before the counts are through.
    let mut kills = 0;
    while kills < KILLS && !finished.load(Ordering::Relaxed) {
        let due = COUNTS * kills as u64 / (KILLS as u64 + 1);
        if acknowledged.load(Ordering::Relaxed) < due {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        std::thread::sleep(Duration::from_millis(kills as u64 * 37 % 101));
        if kills % 3 == 2 {
            collector.kill();
            collector = world.start_collector();
        } else {
            agent.kill();
            agent = world.start_agent("edge-1");
        }
        kills += 1;
    }
    let known = counter.join().expect("the counting thread ended well");
    assert!(
        kills >= 20,
        "only {kills} kills happened before the counts were through"
    );
    agent.stop();
    world.wait_settled();
    assert_billed_exactly(&world, &known);
    collector.stop();
    world.assert_verified();
}
