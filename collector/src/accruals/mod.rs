//! Accruals: what open periods would cost if they ended now, kept at hand for whoever asks.
//!
//! The fold says who has changed and rates them, a bounded share of its time ([`crate::fold`]); a
//! thread of its own turns what was rated into rows of a file, `accruals.sqlite`, and keeps the sum of
//! everybody's shares and amounts up to date. Readers open the file themselves. Nothing in it is
//! authoritative: each start makes it anew, from everybody.

mod gauges;
pub mod query;
mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tollgate_collector_core::fold::tenant::Accrual;
use tollgate_common::{TenantId, Timestamp};

pub use gauges::Gauges;
use store::Store;
pub(crate) use store::lines;

use crate::metrics::Metrics;

/// File name below the data folder.
pub const FILE_NAME: &str = "accruals.sqlite";
/// Messages that may wait for the thread; the fold waits for room before it rates more.
const MESSAGES_MAX: usize = 8;

/// A tenant's open periods, all of them, with what those have of them for whom it pays.
#[derive(Debug)]
pub(crate) struct Rated {
    /// Whose.
    pub(crate) payer: TenantId,
    /// By what the journal said until then.
    pub(crate) as_of: Timestamp,
    /// What stands.
    pub(crate) accruals: Vec<Accrual>,
}

/// How old accruals are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// Tenants that have changed since they were rated last.
    pub waiting: usize,
    /// Everything that the journal said before this instant is in the accruals.
    pub complete_until: String,
    /// How long ago that is; 0 where nothing waits.
    pub age_millis: i64,
}

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Write these.
    Rated(Vec<Rated>),
    /// Say so when everything before is written.
    Written(oneshot::Sender<Freshness>, Freshness),
}

/// The way to the thread, for the fold.
#[derive(Debug)]
pub(crate) struct Accruals {
    work: Sender<Message>,
    /// Rows were lost that were rated since then.
    lost: Arc<Mutex<Option<Timestamp>>>,
    thread: JoinHandle<()>,
}

impl Accruals {
    /// Makes the file anew and starts the thread.
    pub(crate) fn spawn(path: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let mut store = Store::create(path).map_err(std::io::Error::other)?;
        let (work, messages) = bounded::<Message>(MESSAGES_MAX);
        let lost = Arc::new(Mutex::new(None));
        let failed = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("accruals".to_owned())
            .spawn(move || {
                for message in messages {
                    match message {
                        Message::Rated(rated) => match store.write(&rated) {
                            Ok(()) => metrics.accruals.show(store.totals()),
                            Err(error) => {
                                tracing::warn!(%error, "accruals not written; everybody is rated again");
                                metrics.accrual_failures.inc();
                                note_lost(&failed, &rated);
                            }
                        },
                        // Who asked may have gone.
                        Message::Written(answer, freshness) => drop(answer.send(freshness)),
                    }
                }
            })?;
        Ok(Self { work, lost, thread })
    }

    /// True if the thread has as much to do as may wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.work.is_full()
    }

    /// Hands over; waits while there is no room.
    pub(crate) fn tell(&self, message: Message) {
        if self.work.send(message).is_err() {
            tracing::warn!("the thread of the accruals has ended");
        }
    }

    /// Since when what was handed over may not have been written, once.
    pub(crate) fn take_lost(&self) -> Option<Timestamp> {
        self.lost
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::warn!("the thread of the accruals panicked");
        }
    }
}

fn note_lost(lost: &Mutex<Option<Timestamp>>, rated: &[Rated]) {
    let Some(first) = rated.iter().map(|rated| rated.as_of).min() else {
        return;
    };
    let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
    *lost = Some(lost.map_or(first, |before| Ord::min(before, first)));
}
