//! The journal thread and the fold thread, from their start to their end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate_collector_core::journal::JournalError;
use tollgate_collector_core::journal::segment::PARTITION;

use super::start::Started;
use super::{DataDir, RunError, service};
use crate::accruals::Accruals;
use crate::fold::handle::Question;
use crate::fold::{self, FoldError, FoldThread, Snapshots};
use crate::journal::{self, JournalHandle, JournalThread, RemoteJournal};
use crate::metrics::Metrics;

/// How long the journal thread gets to say that it was the reason.
const CAUSE_PATIENCE: Duration = Duration::from_millis(200);

/// The running threads.
pub(super) struct Threads {
    /// The way to the journal.
    pub(super) journal: JournalHandle,
    journal_end: oneshot::Receiver<Result<(), JournalError>>,
    /// Dropping it ends the fold as well.
    fold_stop: Sender<()>,
    fold_end: oneshot::Receiver<Result<(), FoldError>>,
}

impl Threads {
    /// Starts both and journals what has to be announced.
    pub(super) async fn spawn(
        started: Started,
        questions: Receiver<Question>,
        data: &DataDir,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, RunError> {
        let system = |what| move |source| RunError::System { what, source };
        let Started {
            engine,
            group,
            announce,
            ..
        } = started;
        let snapshots = Snapshots::spawn(data.snapshots()?, Arc::clone(metrics))
            .map_err(system("cannot start the snapshot thread"))?;
        let accruals = Accruals::spawn(&data.accruals(), Arc::clone(metrics))
            .map_err(system("cannot start the thread of the accruals"))?;
        let JournalThread {
            handle: journal,
            wake,
            thread,
        } = journal::spawn(group, PARTITION, Arc::clone(metrics))
            .map_err(system("cannot start the journal thread"))?;
        let journal_end = watch("journal", thread);
        let parts = fold::Parts {
            engine,
            snapshots,
            accruals,
            remote: RemoteJournal::new(journal.clone(), PARTITION),
            journal: journal.clone(),
            wake,
            metrics: Arc::clone(metrics),
        };
        let FoldThread {
            stop: fold_stop,
            thread,
        } = fold::spawn(parts, questions).map_err(system("cannot start the fold thread"))?;
        let fold_end = watch("fold", thread);
        let mut threads = Self {
            journal,
            journal_end,
            fold_stop,
            fold_end,
        };
        if service::append(&threads.journal, announce).await.is_err() {
            return Err(threads.failure().await);
        }
        Ok(threads)
    }

    /// Returns when one of them has ended although nobody told it to, with the reason.
    pub(super) async fn failure(&mut self) -> RunError {
        let failed = tokio::select! {
            ended = &mut self.journal_end => return ended_early("journal", ended, RunError::Journal),
            ended = &mut self.fold_end => ended_early("fold", ended, RunError::Fold),
        };
        // The fold reads through the journal thread: if that has failed, it is the reason.
        match timeout(CAUSE_PATIENCE, &mut self.journal_end).await {
            Ok(ended) => ended_early("journal", ended, RunError::Journal),
            Err(_) => failed,
        }
    }

    /// Folds what is committed, takes a snapshot, and ends both.
    pub(super) async fn finish(self) -> Result<(), RunError> {
        // If it has ended already, the reason comes next.
        let _ = self.fold_stop.send(());
        self.fold_end
            .await
            .map_err(|_| RunError::Panicked("fold"))?
            .map_err(RunError::Fold)?;
        self.journal.stop();
        self.journal_end
            .await
            .map_err(|_| RunError::Panicked("journal"))?
            .map_err(RunError::Journal)
    }
}

/// The end of a thread as something to wait for. A panic closes the channel.
fn watch<E: Send + 'static>(
    name: &'static str,
    thread: JoinHandle<Result<(), E>>,
) -> oneshot::Receiver<Result<(), E>> {
    let (sender, receiver) = oneshot::channel();
    let watcher = std::thread::Builder::new().name(format!("{name}-end"));
    let spawned = watcher.spawn(move || {
        if let Ok(result) = thread.join() {
            // Nobody waits any more when the process is ending.
            let _ = sender.send(result);
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "cannot watch the {name} thread");
    }
    receiver
}

/// Why a thread that should run for ever ended.
fn ended_early<E>(
    name: &'static str,
    ended: Result<Result<(), E>, oneshot::error::RecvError>,
    wrap: impl FnOnce(E) -> RunError,
) -> RunError {
    match ended {
        Ok(Err(error)) => wrap(error),
        Ok(Ok(())) => RunError::Journal(JournalError::Io(format!(
            "the {name} thread ended by itself"
        ))),
        Err(_) => RunError::Panicked(name),
    }
}
