//! The trace of a run: what happened, in order, and its hash.
//!
//! Two runs of one seed must have the same hash; a difference means that something outside
//! of the seed (a hash map's order, a clock, a thread) leaked into the run.

use std::fmt::{self, Write as _};

use tollgate_common::Timestamp;

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

/// Lines kept of a run that is not verbose, for the report of a failure.
const TAIL_LINES: usize = 40;

/// Records events; prints nothing itself.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    start: Timestamp,
    line: String,
    events: u64,
    keep_all: bool,
    lines: Vec<String>,
}

impl Trace {
    /// An empty trace of a run that starts at `start`. With `keep_all` every line is kept,
    /// otherwise the newest few.
    pub fn new(start: Timestamp, keep_all: bool) -> Self {
        Self {
            hash: FNV_OFFSET,
            start,
            line: String::new(),
            events: 0,
            keep_all,
            lines: Vec::new(),
        }
    }

    /// Records what happens at `now`.
    pub fn event(&mut self, now: Timestamp, what: fmt::Arguments<'_>) {
        self.line.clear();
        let millis = now.millis_since(self.start);
        write!(
            self.line,
            "{:>6}.{:03} {what}",
            millis / 1000,
            millis % 1000
        )
        .expect("writing to a string does not fail");
        for &byte in self.line.as_bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.events += 1;
        if !self.keep_all && self.lines.len() >= 2 * TAIL_LINES {
            self.lines.drain(..TAIL_LINES);
        }
        self.lines.push(self.line.clone());
    }

    /// Hash over all events so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
