//! What every part of the world shares: time, chance, the trace, and who watches.

use std::fmt;

use tollgate_common::Timestamp;

use super::coverage::{Coverage, Probe};
use super::options::Options;
use super::oracle::Oracle;
use super::random::Random;
use super::trace::Trace;

/// A promise that was broken; ends the run.
pub type Broken = String;

/// The shared part of a run.
#[derive(Debug)]
pub struct Context {
    /// True time. Nodes see it through their own clocks.
    pub now: Timestamp,
    /// What the run looks like.
    pub options: Options,
    /// Chance.
    pub random: Random,
    /// What happened.
    pub trace: Trace,
    /// What was exercised.
    pub coverage: Coverage,
    /// Who watches.
    pub oracle: Oracle,
}

impl Context {
    /// The beginning of a run.
    pub fn new(options: Options, keep_trace: bool) -> Self {
        Self {
            now: options.start,
            random: Random::new(options.seed),
            trace: Trace::new(options.start, keep_trace),
            coverage: Coverage::default(),
            oracle: Oracle::new(options.agents),
            options,
        }
    }

    /// Records an event.
    pub fn trace(&mut self, what: fmt::Arguments<'_>) {
        self.trace.event(self.now, what);
    }

    /// Counts a probe.
    pub fn hit(&mut self, probe: Probe) {
        self.coverage.hit(probe);
    }

    /// The instant after a random span around `mean` milliseconds.
    pub fn after_about(&mut self, mean: u64) -> Timestamp {
        let millis = self.random.millis(1, 2 * mean.max(1));
        self.now.plus_millis(millis)
    }
}
