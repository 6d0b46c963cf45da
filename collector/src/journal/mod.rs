//! The journal thread: the only writer, one commit for everybody who waits.
//!
//! Appends from all sessions come through one channel. The thread takes all that is waiting,
//! stages it, commits once, and only then hands out the proofs from which acknowledgements
//! are made. The fold reads what is committed through the same thread ([`RemoteJournal`]).
//!
//! What waits is bounded in bytes: a session that finds no room waits, stops reading its
//! connection, and QUIC's flow control stops the agent.
//!
//! A failed append or commit ends the thread and with it the process: nothing is known of
//! what was not committed, and the next sync would prove nothing. The supervisor starts the
//! collector again, which recovers from what is on the disk.

mod remote;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tollgate_collector_core::journal::group::{Durable, GroupCommit, Pending};
use tollgate_collector_core::journal::{Journal, JournalError, JournalItem, PartitionId};
use tollgate_collector_core::position::Position;

use crate::metrics::Metrics;

pub use remote::RemoteJournal;

/// Bytes that may wait for a commit, in units of [`BUDGET_UNIT`]: 64 MiB.
const BUDGET_UNITS: u32 = 1 << 16;
/// The unit in which waiting bytes are counted.
const BUDGET_UNIT: usize = 1 << 10;
/// Bytes that may wait for a commit.
pub const QUEUE_BYTES: u64 = BUDGET_UNITS as u64 * BUDGET_UNIT as u64;
/// Bytes of one group, about: more would make the first of the group wait too long.
const GROUP_BYTES: usize = 16 << 20;

/// Where the proofs of a group go: to a session, with its own entries only.
pub type Proofs = UnboundedSender<Vec<Durable>>;

/// The journal thread has ended; the process is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal has stopped")]
pub struct JournalStopped;

/// What the thread is asked to do.
enum Command {
    Append(Append),
    Read {
        after: Option<Position>,
        max_bytes: usize,
        answer: Sender<Result<Vec<JournalItem>, JournalError>>,
    },
    Last {
        answer: Sender<Result<Option<Position>, JournalError>>,
    },
    /// Commit what came before and end.
    Stop,
}

struct Append {
    entries: Vec<Pending>,
    proofs: Option<Proofs>,
    asked: Instant,
    /// Given back when the entries are durable.
    permit: Option<OwnedSemaphorePermit>,
}

/// The way to the journal thread.
#[derive(Clone, Debug)]
pub struct JournalHandle {
    commands: Sender<Command>,
    budget: Arc<Semaphore>,
    committed: Arc<AtomicU64>,
}

impl JournalHandle {
    /// Appends entries behind everything that was asked for before, and sends their proofs
    /// when they are durable. Waits while too much is waiting.
    pub async fn append(
        &self,
        entries: Vec<Pending>,
        proofs: Proofs,
    ) -> Result<(), JournalStopped> {
        let bytes: usize = entries.iter().map(|pending| pending.entry.len()).sum();
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT))
            .unwrap_or(BUDGET_UNITS)
            .clamp(1, BUDGET_UNITS);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(units)
            .await
            .map_err(|_| JournalStopped)?;
        self.send(Append {
            entries,
            proofs: Some(proofs),
            asked: Instant::now(),
            permit: Some(permit),
        })
    }

    /// Appends entries of the collector's own, which are few and wait for no room.
    pub fn append_own(
        &self,
        entries: Vec<Pending>,
        proofs: Option<Proofs>,
    ) -> Result<(), JournalStopped> {
        self.send(Append {
            entries,
            proofs,
            asked: Instant::now(),
            permit: None,
        })
    }

    fn send(&self, append: Append) -> Result<(), JournalStopped> {
        self.commands
            .send(Command::Append(append))
            .map_err(|_| JournalStopped)
    }

    /// Bytes that wait for a commit, about.
    pub fn waiting_bytes(&self) -> u64 {
        let room = self.budget.available_permits() as u64;
        u64::from(BUDGET_UNITS).saturating_sub(room) * BUDGET_UNIT as u64
    }

    /// Number of entries committed since the journal thread began.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Lets the thread commit what was asked for before, and end.
    pub fn stop(&self) {
        // If it has ended already there is nobody to tell.
        let _ = self.commands.send(Command::Stop);
    }
}

/// The running thread.
#[derive(Debug)]
pub struct JournalThread {
    /// The way to it.
    pub handle: JournalHandle,
    /// Gets a token after each commit; holds one at most.
    pub wake: Receiver<()>,
    /// Its end, and why.
    pub thread: JoinHandle<Result<(), JournalError>>,
}

/// Starts the thread over `group`.
pub fn spawn<J>(
    group: GroupCommit<J>,
    partition: PartitionId,
    metrics: Arc<Metrics>,
) -> std::io::Result<JournalThread>
where
    J: Journal + Send + 'static,
{
    let (commands, receiver) = unbounded();
    let (waker, wake) = bounded(1);
    let budget = Arc::new(Semaphore::new(
        usize::try_from(BUDGET_UNITS).expect("32 bits fit"),
    ));
    let committed = Arc::new(AtomicU64::new(0));
    let handle = JournalHandle {
        commands,
        budget: Arc::clone(&budget),
        committed: Arc::clone(&committed),
    };
    let writer = Writer {
        group,
        partition,
        committed,
        waker,
        metrics,
        failure: None,
    };
    let thread = std::thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            let ended = writer.run(&receiver);
            // Whoever waits for room would wait for ever.
            budget.close();
            ended
        })?;
    Ok(JournalThread {
        handle,
        wake,
        thread,
    })
}

struct Writer<J> {
    group: GroupCommit<J>,
    partition: PartitionId,
    committed: Arc<AtomicU64>,
    waker: Sender<()>,
    metrics: Arc<Metrics>,
    failure: Option<JournalError>,
}

impl<J: Journal> Writer<J> {
    fn run(mut self, commands: &Receiver<Command>) -> Result<(), JournalError> {
        // When every handle is gone nobody can ask any more.
        while let Ok(first) = commands.recv() {
            let mut group = Vec::new();
            let mut go_on = self.take(first, &mut group);
            while go_on && self.group.staged_bytes() < GROUP_BYTES && self.failure.is_none() {
                match commands.try_recv() {
                    Ok(command) => go_on = self.take(command, &mut group),
                    Err(_) => break,
                }
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.commit(group)?;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Does one command, or stages it; false at the end.
    fn take(&mut self, command: Command, group: &mut Vec<Staged>) -> bool {
        // An answer that nobody waits for any more is dropped.
        match command {
            Command::Append(append) => {
                let count = append.entries.len();
                for pending in append.entries {
                    if let Err(error) = self.group.stage(crate::time::now(), pending) {
                        self.failure = Some(error);
                        return false;
                    }
                }
                group.push(Staged {
                    count,
                    proofs: append.proofs,
                    asked: append.asked,
                    _permit: append.permit,
                });
            }
            Command::Read {
                after,
                max_bytes,
                answer,
            } => {
                let _ = answer.send(self.group.journal().read(self.partition, after, max_bytes));
            }
            Command::Last { answer } => {
                let _ = answer.send(self.group.journal().last(self.partition));
            }
            Command::Stop => return false,
        }
        true
    }

    fn commit(&mut self, group: Vec<Staged>) -> Result<(), JournalError> {
        if self.group.staged() == 0 {
            return Ok(());
        }
        let bytes = self.group.staged_bytes() as u64;
        let mut proofs = self.group.commit()?.into_iter();
        let count = proofs.len() as u64;
        self.committed.fetch_add(count, Ordering::AcqRel);
        self.metrics.journal_entries.inc_by(count);
        self.metrics.journal_bytes.inc_by(bytes);
        self.metrics.journal_commits.inc();
        let oldest = group.iter().map(|staged| staged.asked).min();
        if let Some(oldest) = oldest {
            self.metrics.commit_latency.record(oldest.elapsed());
        }
        for staged in group {
            let own: Vec<Durable> = proofs.by_ref().take(staged.count).collect();
            if let Some(sender) = staged.proofs {
                // A session that is gone needs no proof; its agent will ask where to go on.
                let _ = sender.send(own);
            }
        }
        match self.waker.try_send(()) {
            // Full: the fold is awake already. Disconnected: it has ended.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => Ok(()),
        }
    }
}

/// An append that is staged.
struct Staged {
    count: usize,
    proofs: Option<Proofs>,
    asked: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
mod tests;
