//! A small campaign of the simulation on every test run, and the planted bugs.
//!
//! The large one is `cargo run --release -p tollgate-tests --bin simulate`.

use std::thread::available_parallelism;

use tollgate_tests::sim::campaign::{Campaign, catch, run_world};
use tollgate_tests::sim::options::{Canary, Options};

/// Seeds of the campaign: the binary runs these and a thousand others, many times as fast. Here the
/// assertions of debug builds are on.
const SEEDS: u64 = 10;
/// Seeds of the campaign in which hosts are set back to images of themselves.
const CLONE_SEEDS: u64 = 3;
/// A planted bug has to be found within so many seeds.
const CANARY_SEEDS: u64 = 1000;

fn check(seeds: u64, clones: bool) {
    let report = Campaign {
        seeds: 0..seeds,
        clones,
        threads: available_parallelism().map_or(1, usize::from),
        repeat_every: 10,
    }
    .run();
    let failures: Vec<_> = report
        .failures
        .iter()
        .map(|failure| {
            format!(
                "seed {}: {}\n    {}\n  reproduce: cargo run --release -p tollgate-tests --bin simulate -- --seed {}{}",
                failure.seed,
                failure.reason,
                failure.tail.join("\n    "),
                failure.seed,
                if clones { " --clones" } else { "" },
            )
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(report.seeds, seeds);
}

#[test]
fn nothing_is_lost_or_counted_twice() {
    check(SEEDS, false);
}

#[test]
fn copies_of_hosts_are_not_billed_twice() {
    check(CLONE_SEEDS, true);
}

#[test]
fn one_seed_is_one_run() {
    let first = run_world(Options::from_seed(7, None), true);
    let second = run_world(Options::from_seed(7, None), true);
    assert_eq!(first.trace, second.trace);
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_ne!(
        first.trace_hash,
        run_world(Options::from_seed(8, None), false).trace_hash
    );
}

#[test]
fn planted_bugs_are_caught() {
    for &canary in Canary::ALL {
        let (_, caught) = catch(canary, 0..CANARY_SEEDS);
        assert!(
            caught.is_some(),
            "{} was not caught in {CANARY_SEEDS} seeds: the simulation is too tame",
            canary.name()
        );
    }
}
