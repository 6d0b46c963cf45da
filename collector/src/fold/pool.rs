//! Threads that run tenant folds in parallel.
//!
//! A tenant fold belongs to the fold thread. For a chunk of entries it is lent, with its
//! inputs, to a thread of the pool and comes back with the effects; when all are back the
//! chunk is done. Between chunks everything is in one place, which is where snapshots are
//! taken and questions are answered.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};
use tollgate_collector_core::effect::Effect;
use tollgate_collector_core::fold::TenantInput;
use tollgate_collector_core::fold::tenant::TenantFold;
use tollgate_collector_core::position::Position;
use tollgate_common::Timestamp;

/// Inputs below which handing over costs more than it gains.
const INPUTS_MIN: usize = 64;

/// An input with the place and the stamp of the journal entry that caused it.
pub(super) type Placed = (Position, Timestamp, TenantInput);

/// A thread of the pool panicked: a defect. The state it held is gone, and the process must
/// recover from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant fold panicked; this is a defect, please report it with the lines above")]
pub struct FoldPanicked;

struct Job {
    index: usize,
    fold: TenantFold,
    inputs: Vec<Placed>,
}

struct Done {
    index: usize,
    outcome: Option<(TenantFold, Vec<Effect>)>,
}

/// The threads.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: Sender<Job>,
    done: Receiver<Done>,
}

impl Pool {
    /// Starts `threads` threads, which end when the pool is dropped.
    pub(super) fn new(threads: usize) -> std::io::Result<Self> {
        let (jobs, work) = bounded::<Job>(threads);
        let (results, done) = bounded(threads);
        for number in 0..threads {
            let (work, results) = (work.clone(), results.clone());
            std::thread::Builder::new()
                .name(format!("fold-{number}"))
                .spawn(move || {
                    for job in work {
                        let index = job.index;
                        let outcome =
                            catch_unwind(AssertUnwindSafe(|| run(job.fold, &job.inputs))).ok();
                        if results.send(Done { index, outcome }).is_err() {
                            return;
                        }
                    }
                })?;
        }
        Ok(Self { jobs, done })
    }

    /// Applies the inputs of each partition to its fold; returns the effects in the order of
    /// the partitions, within each in the order of the inputs.
    pub(super) fn apply(
        &self,
        folds: &mut Vec<TenantFold>,
        inputs: Vec<Vec<Placed>>,
    ) -> Result<Vec<Effect>, FoldPanicked> {
        let total: usize = inputs.iter().map(Vec::len).sum();
        let mut inputs = inputs;
        inputs.resize_with(folds.len(), Vec::new);
        if total < INPUTS_MIN {
            let each = folds.iter_mut().zip(&inputs);
            return Ok(each
                .flat_map(|(fold, inputs)| apply_all(fold, inputs))
                .collect());
        }
        let count = folds.len();
        let mut waiting = folds.drain(..).zip(inputs).enumerate();
        let mut outcomes: Vec<Option<(TenantFold, Vec<Effect>)>> = Vec::new();
        outcomes.resize_with(count, || None);
        let (mut out, mut back) = (0, 0);
        let mut lend = |jobs: &Sender<Job>| {
            waiting.next().is_some_and(|(index, (fold, inputs))| {
                jobs.send(Job {
                    index,
                    fold,
                    inputs,
                })
                .is_ok()
            })
        };
        // Never more jobs than both channels hold, so that nobody waits for the other.
        while out < self.jobs.capacity().unwrap_or(1) && lend(&self.jobs) {
            out += 1;
        }
        while back < out {
            let Ok(Done {
                index,
                outcome: Some(outcome),
            }) = self.done.recv()
            else {
                return Err(FoldPanicked);
            };
            outcomes[index] = Some(outcome);
            back += 1;
            if lend(&self.jobs) {
                out += 1;
            }
        }
        drop(waiting);
        let mut effects = Vec::new();
        for outcome in outcomes {
            let (fold, mut own) = outcome.ok_or(FoldPanicked)?;
            folds.push(fold);
            effects.append(&mut own);
        }
        Ok(effects)
    }
}

fn run(mut fold: TenantFold, inputs: &[Placed]) -> (TenantFold, Vec<Effect>) {
    let effects = apply_all(&mut fold, inputs);
    (fold, effects)
}

fn apply_all(fold: &mut TenantFold, inputs: &[Placed]) -> Vec<Effect> {
    inputs
        .iter()
        .flat_map(|(position, stamp, input)| fold.apply(*position, *stamp, input))
        .collect()
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
