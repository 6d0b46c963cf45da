//! The simulated collector reads what is committed and books it.

use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::projection::{Projection, Transaction};
use tollgate_collector_core::receive::Desk;

use super::super::agent::Crash;
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::{CollectorNode, Process};

impl CollectorNode {
    /// Reads what is committed, books it, and answers those who said hello.
    pub(super) fn fold(&mut self, context: &mut Context) -> Result<(), Broken> {
        let disk = self.journal_disk.clone();
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.fold_at = None;
        // Sometimes the fold falls behind.
        let most = if self.random.chance(200) {
            1 + self.random.below(4)
        } else {
            u64::MAX
        };
        let mut effects = Vec::new();
        let mut read = 0;
        while read < most {
            let next = match process.reader.next(process.group.journal()) {
                Ok(next) => next,
                Err(error) if disk.is_stopped() || disk.stats().injected_failures > 0 => {
                    context.trace(format_args!("the fold cannot read: {error}"));
                    let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
                    return self.go_down(crash, context);
                }
                Err(error) => return Err(format!("the fold cannot read: {error}")),
            };
            let Some((position, stamped)) = next else {
                break;
            };
            effects.extend(process.fold.apply(position, &stamped));
            read += 1;
        }
        if let Some(upto) = process.fold.position().filter(|_| read > 0) {
            let after = self
                .projection
                .position(PARTITION)
                .map_err(|error| error.to_string())?;
            Self::note(&effects, context)?;
            let process = self.process.as_ref().expect("it was there a moment ago");
            let transaction = Transaction {
                partition: PARTITION,
                epoch: process.epoch,
                after,
                upto,
                effects,
            };
            context.trace.event(
                context.now,
                format_args!(
                    "collector folds {read} entries, {} effects",
                    transaction.effects.len()
                ),
            );
            self.projection
                .commit(&transaction)
                .map_err(|error| error.to_string())?;
            context.hit(Probe::CheckedStep);
            self.check_step()?;
            self.check_dues()?;
        }
        if read == most {
            self.schedule(context);
        }
        self.answer_hellos(context)
    }

    fn answer_hellos(&mut self, context: &mut Context) -> Result<(), Broken> {
        let local = self.local(context.now);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Process {
            sessions,
            encoder,
            pending,
            fold,
            ..
        } = &mut **process;
        let mut answered = Vec::new();
        for (id, link) in sessions {
            let Some(query) = link.session.poll_query() else {
                continue;
            };
            let progress = fold.intake().progress(&query);
            let mut desk = Desk {
                policy: &self.policy,
                encoder,
            };
            link.session
                .handle_progress(local, progress, &mut desk)
                .map_err(|error| format!("session {}: {error}", id.0))?;
            pending.extend(link.session.take_pending());
            answered.push(*id);
        }
        if !pending.is_empty() {
            self.schedule(context);
        }
        answered
            .into_iter()
            .try_for_each(|id| self.drain_session(id, context))
    }
}
