//! Fold: the thread that owns the fold's state.
//!
//! It reads what the journal thread has committed, folds it in chunks, and writes the
//! effects of each chunk to the projection together with its position. Between chunks it
//! answers questions, proposes closings, lets time pass in the journal, and takes snapshots.

mod accruing;
mod engine;
mod error;
pub mod handle;
mod json;
mod ledger;
pub mod operate;
mod pool;
mod restored;
mod snapshots;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, select};
use tokio::sync::oneshot;
use tollgate_collector_core::entry::{Entry, codec};
use tollgate_collector_core::journal::group::{Pending, Token};
use tollgate_collector_core::projection::Projection;

pub(crate) use engine::{Beginning, Engine};
pub use error::FoldError;
pub use handle::{AskError, FoldHandle};
pub use restored::read_state;
pub(crate) use snapshots::Snapshots;

use crate::accruals::Accruals;
use crate::journal::{JournalHandle, RemoteJournal};
use crate::metrics::Metrics;
use accruing::Accruing;
use handle::Question;

/// How often the thread looks whether a period is due.
const TICK: Duration = Duration::from_secs(1);
/// For how long questions are answered at a time.
const ANSWERS: Duration = Duration::from_millis(10);
/// Without any entry for so long, a clock entry lets the journal's time go on, once anybody
/// has reported.
const QUIET_MILLIS: i64 = 60_000;
/// How often tenants without a profile are counted.
const PROFILES_INTERVAL: Duration = Duration::from_secs(30);
/// Snapshots are taken after so many entries …
const SNAPSHOT_ENTRIES: u64 = 50_000;
/// … or after so many rollups, so that a restart has seconds and not minutes of them to fold again
/// …
const SNAPSHOT_ROLLUPS: u64 = 40_000_000;
/// … or after so much time with any entry at all, whichever is first.
const SNAPSHOT_INTERVAL: Duration = Duration::from_mins(10);

/// The running thread.
#[derive(Debug)]
pub(crate) struct FoldThread {
    /// Tells it to fold what is committed, take a snapshot and end.
    pub(crate) stop: Sender<()>,
    /// Its end, and why.
    pub(crate) thread: JoinHandle<Result<(), FoldError>>,
}

/// What the thread works with.
pub(crate) struct Parts<P> {
    pub(crate) engine: Engine<P>,
    pub(crate) snapshots: Snapshots,
    pub(crate) accruals: Accruals,
    pub(crate) remote: RemoteJournal,
    pub(crate) journal: JournalHandle,
    pub(crate) wake: Receiver<()>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Starts the thread, which answers `questions`.
pub(crate) fn spawn<P>(
    parts: Parts<P>,
    questions: Receiver<Question>,
) -> std::io::Result<FoldThread>
where
    P: Projection + Send + 'static,
{
    let (stop, stopped) = bounded(1);
    let now = Instant::now();
    let Parts {
        mut engine,
        snapshots,
        accruals,
        remote,
        journal,
        wake,
        metrics,
    } = parts;
    let worker = Worker {
        accruing: Accruing::new(accruals, &mut engine),
        engine,
        snapshots,
        remote,
        journal,
        wake,
        metrics,
        questions,
        stopped,
        folded: 0,
        waiting: Vec::new(),
        ticked: now,
        profiles_counted: None,
        clock_asked: tollgate_common::Timestamp::EPOCH,
        snapshot_entries: 0,
        snapshot_rollups: 0,
        snapshot_taken: now,
    };
    let thread = std::thread::Builder::new()
        .name("fold".to_owned())
        .spawn(move || worker.run())?;
    Ok(FoldThread { stop, thread })
}

/// Somebody who waits until the fold has come so far.
struct Waiting {
    entries: u64,
    answer: oneshot::Sender<()>,
}

struct Worker<P> {
    engine: Engine<P>,
    snapshots: Snapshots,
    accruing: Accruing,
    remote: RemoteJournal,
    journal: JournalHandle,
    wake: Receiver<()>,
    metrics: Arc<Metrics>,
    questions: Receiver<Question>,
    stopped: Receiver<()>,
    /// Entries folded of those that the journal thread has committed.
    folded: u64,
    waiting: Vec<Waiting>,
    ticked: Instant,
    /// When tenants without a profile were counted; `None` before the first time.
    profiles_counted: Option<Instant>,
    /// When a clock entry was last asked for.
    clock_asked: tollgate_common::Timestamp,
    snapshot_entries: u64,
    snapshot_rollups: u64,
    snapshot_taken: Instant,
}

impl<P: Projection> Worker<P> {
    fn run(mut self) -> Result<(), FoldError> {
        loop {
            let count = self.step()?;
            self.answer_waiting();
            self.answer_questions();
            // Also while entries keep coming: periods are due whether or not the fold ever
            // catches up.
            self.tick(count == 0);
            let again = self.accruing.turn(&mut self.engine, &self.metrics);
            if count > 0 {
                self.snapshot_if_due();
                continue;
            }
            let rest = TICK.saturating_sub(self.ticked.elapsed());
            let rest = again.map_or(rest, |again| rest.min(again));
            let questions = self.questions.clone();
            select! {
                recv(self.wake) -> woken => if woken.is_err() {
                    // The journal thread has ended; nothing more will come.
                    return Ok(());
                },
                recv(questions) -> question => if let Ok(question) = question {
                    self.answer(question);
                } else {
                    std::thread::sleep(rest);
                },
                recv(self.stopped) -> _ => return self.finish(),
                default(rest) => {},
            }
        }
    }

    /// Folds a chunk; keeps count of how far behind the fold is.
    fn step(&mut self) -> Result<usize, FoldError> {
        let committed = self.journal.committed();
        let count = self.engine.step(&self.remote)?;
        self.folded += count as u64;
        if count == 0 {
            self.folded = self.folded.max(committed);
        }
        let lag = self.journal.committed().saturating_sub(self.folded);
        self.metrics
            .fold_lag
            .set(i64::try_from(lag).unwrap_or(i64::MAX));
        Ok(count)
    }

    /// Folds what is left, takes a last snapshot, and ends.
    fn finish(mut self) -> Result<(), FoldError> {
        while self.step()? > 0 {}
        self.answer_waiting();
        if self.engine.entries() > self.snapshot_entries {
            self.snapshot();
        }
        self.snapshots.finish();
        self.accruing.finish();
        Ok(())
    }

    fn answer_waiting(&mut self) {
        let folded = self.folded;
        let (due, later) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|w: &Waiting| w.entries <= folded);
        self.waiting = later;
        for waiting in due {
            // Who asked may have gone.
            let _ = waiting.answer.send(());
        }
    }

    /// Answers what is asked, for a while: who asks all the time, and HTTP asks nobody who it is, must
    /// not keep the fold from folding.
    fn answer_questions(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < ANSWERS
            && let Ok(question) = self.questions.try_recv()
        {
            self.answer(question);
        }
    }

    fn answer(&mut self, question: Question) {
        let engine = &mut self.engine;
        match question {
            Question::Reached { entries, answer } if entries > self.folded => {
                self.waiting.push(Waiting { entries, answer });
            }
            Question::Reached { answer, .. } => {
                let _ = answer.send(());
            }
            Question::Progress { query, answer } => {
                let _ = answer.send(engine.progress(&query));
            }
            Question::Accrue { tenant, answer } => {
                self.accruing.answer(engine, &self.metrics, tenant, answer);
            }
            Question::Accruals { tenant, answer } => {
                let _ = answer.send(engine.accruals(tenant.as_ref()));
            }
            Question::Standings {
                tenant,
                over,
                answer,
            } => {
                let now = crate::time::now();
                let _ = answer.send(engine.standings(tenant.as_ref(), over, now));
            }
            Question::Closing { request, answer } => {
                let _ = answer.send(engine.close_by_hand(request, crate::time::now()));
            }
            Question::Operate {
                request,
                note,
                answer,
            } => {
                let _ = answer.send(engine.operate(*request, note, crate::time::now()));
            }
            Question::MayDecide { manual, answer } => {
                let _ = answer.send(engine.may_decide(&manual));
            }
            Question::Done { operated, answer } => {
                let _ = answer.send(engine.has_done(&operated));
            }
            Question::Unsettled {
                operated,
                note,
                answer,
            } => {
                let _ = answer.send(engine.unsettled(&operated, &note, crate::time::now()));
            }

            Question::Issue { wish, answer } => {
                let _ = answer.send(engine.issue(&wish, crate::time::now()));
            }
            Question::ToBill { answer } => {
                let _ = answer.send(engine.to_bill());
            }
            Question::Interim {
                tenant,
                note,
                answer,
            } => {
                let _ = answer.send(engine.interim(&tenant, &note, crate::time::now()));
            }
            Question::Dues { answer } => {
                let _ = answer.send(engine.dues());
            }
            Question::Status { answer } => {
                let _ = answer.send(engine.status());
            }
        }
    }

    /// Proposes closings that are due. Where one would be due if the journal knew the time,
    /// or nothing has told it for long, a clock entry tells it.
    ///
    /// A fold that has not caught up needs no clock entry: the entries before it bring time.
    fn tick(&mut self, caught_up: bool) {
        if self.ticked.elapsed() < TICK {
            return;
        }
        self.ticked = Instant::now();
        self.snapshot_if_due();
        self.count_without_profile();
        let engine = &mut self.engine;
        let mut entries = engine.take_closings();
        let (now, stamp) = (crate::time::now(), engine.intake().stamp());
        let quiet = now.millis_since(stamp.max(self.clock_asked)) >= QUIET_MILLIS;
        let anybody = engine.intake().agents().next().is_some();
        if caught_up
            && entries.is_empty()
            && now > stamp
            && ((quiet && anybody) || engine.would_close(now))
        {
            self.clock_asked = now;
            entries.push(Entry::Clock);
        }
        let pending: Vec<Pending> = entries.iter().filter_map(encode).collect();
        if !pending.is_empty() && self.journal.append_own(pending, None).is_err() {
            tracing::debug!("the journal has stopped; closings wait for the next start");
        }
    }

    fn count_without_profile(&mut self) {
        let counted = self.profiles_counted;
        if counted.is_none_or(|counted| counted.elapsed() >= PROFILES_INTERVAL) {
            self.profiles_counted = Some(Instant::now());
            let count = self.engine.without_profile().count;
            let gauge = &self.metrics.tenants_without_profile;
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn snapshot_if_due(&mut self) {
        let new = self.engine.entries() - self.snapshot_entries;
        let rollups = self.engine.rollups() - self.snapshot_rollups;
        if new >= SNAPSHOT_ENTRIES
            || rollups >= SNAPSHOT_ROLLUPS
            || (new > 0 && self.snapshot_taken.elapsed() >= SNAPSHOT_INTERVAL)
        {
            self.snapshot();
        }
    }

    fn snapshot(&mut self) {
        if let Some((position, bytes)) = self.engine.snapshot() {
            self.snapshots.save(position, bytes);
        }
        self.snapshot_entries = self.engine.entries();
        self.snapshot_rollups = self.engine.rollups();
        self.snapshot_taken = Instant::now();
    }
}

/// An entry of the collector's own. One that cannot be encoded is logged and left out: the
/// fold would propose it again for ever.
fn encode(entry: &Entry) -> Option<Pending> {
    match codec::encode(entry) {
        Ok(entry) => Some(Pending {
            token: Token::NOBODY,
            entry,
        }),
        Err(error) => {
            tracing::error!(%error, "an entry of the collector's own cannot be written");
            None
        }
    }
}
