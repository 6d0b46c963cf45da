//! Campaigns: many seeds on several threads, and what they found.

use std::cell::Cell;
use std::io::Write as _;
use std::ops::Range;
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::options::{Canary, Options};
use super::world::{self, Outcome};

/// A seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What broke.
    pub reason: String,
    /// The end of the trace.
    pub tail: Vec<String>,
}

/// What a campaign found.
#[derive(Debug)]
pub struct Report {
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds that broke a promise, in order.
    pub failures: Vec<Failure>,
    /// What was exercised.
    pub coverage: Coverage,
    /// Events of all runs together.
    pub events: u64,
    /// Virtual milliseconds of all runs together.
    pub virtual_millis: u64,
    /// Seeds that ran twice to compare their traces.
    pub repeated: u64,
    /// Wall-clock time.
    pub elapsed: Duration,
}

/// How to run a campaign.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Number of threads, at least 1.
    pub threads: usize,
    /// Worlds [with clones](Options::with_clones).
    pub clones: bool,
    /// Every how many seeds a seed runs twice; 0 for never.
    pub repeat_every: u64,
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes a panic name the seed that it happened in: it ends the process before any report.
pub fn name_seed_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if let Some(seed) = SEED.get() {
            // Nothing can be done if this fails.
            let _ = writeln!(
                std::io::stderr(),
                "seed {seed} panics\n  reproduce: cargo run --release -p tollgate-tests --bin simulate -- --seed {seed}"
            );
        }
        before(info);
    }));
}

/// Runs one world.
pub fn run_world(options: Options, keep_trace: bool) -> Outcome {
    SEED.set(Some(options.seed));
    world::run(options, keep_trace)
}

/// The first of `seeds` that catches a planted bug, and how many seeds that took. A seed
/// counts only if the same world without the bug keeps all promises.
pub fn catch(canary: Canary, seeds: Range<u64>) -> (u64, Option<Failure>) {
    let mut tried = 0;
    for seed in seeds {
        tried += 1;
        let outcome = run_world(Options::from_seed(seed, Some(canary)), false);
        let Some(reason) = outcome.failure else {
            continue;
        };
        let mut healthy = Options::from_seed(seed, Some(canary));
        healthy.canary = None;
        if run_world(healthy, false).failure.is_none() {
            let tail = outcome.trace;
            return (tried, Some(Failure { seed, reason, tail }));
        }
    }
    (tried, None)
}

impl Campaign {
    fn outcome(&self, seed: u64) -> Outcome {
        let options = Options::from_seed(seed, None);
        let options = if self.clones {
            options.with_clones()
        } else {
            options
        };
        run_world(options, false)
    }

    /// Runs every seed.
    pub fn run(&self) -> Report {
        let started = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let report = Mutex::new(Report {
            seeds: 0,
            failures: Vec::new(),
            coverage: Coverage::default(),
            events: 0,
            virtual_millis: 0,
            repeated: 0,
            elapsed: Duration::ZERO,
        });
        thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            break;
                        }
                        self.one(seed, &report);
                    }
                });
            }
        });
        let mut report = report
            .into_inner()
            .expect("no thread panics with the report");
        report.failures.sort_by_key(|failure| failure.seed);
        report.elapsed = started.elapsed();
        report
    }

    /// Runs a seed and adds it to the report.
    fn one(&self, seed: u64, report: &Mutex<Report>) {
        let outcome = self.outcome(seed);
        let repeat = self.repeat_every != 0 && seed.is_multiple_of(self.repeat_every);
        let mut reason = outcome.failure;
        if repeat {
            let again = self.outcome(seed);
            if again.trace_hash != outcome.trace_hash {
                let differs = format!(
                    "two runs differ: trace {:016x} and {:016x}",
                    outcome.trace_hash, again.trace_hash
                );
                reason =
                    Some(reason.map_or(differs.clone(), |first| format!("{first}; {differs}")));
            }
        }
        let mut report = report.lock().expect("no thread panics with the report");
        report.seeds += 1;
        report.repeated += u64::from(repeat);
        report.coverage.merge(&outcome.coverage);
        report.events += outcome.events;
        report.virtual_millis += outcome.virtual_millis;
        if let Some(reason) = reason {
            report.failures.push(Failure {
                seed,
                reason,
                tail: outcome.trace,
            });
        }
    }
}
