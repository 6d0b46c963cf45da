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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam::channel::{SendError, Sender, bounded};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tollgate_collector_core::fold::tenant::Accrual;
use tollgate_common::{TenantId, Timestamp};

pub use gauges::Gauges;
pub(crate) use store::lines;
use store::{Store, StoreError};

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

impl Freshness {
    /// Where so many tenants wait, and everything before `since` is in the accruals.
    pub(crate) fn new(waiting: usize, since: Timestamp, now: Timestamp) -> Self {
        Self {
            waiting,
            complete_until: Ord::min(since, now).to_string(),
            age_millis: now.millis_since(since).max(0),
        }
    }
}

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Write these.
    Rated(Vec<Rated>),
    /// Say so when everything before is written.
    Written(Asked),
}

/// A question how old accruals are once everything before is written.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Where to answer.
    pub(crate) answer: oneshot::Sender<Freshness>,
    /// Tenants that wait.
    pub(crate) waiting: usize,
    /// Everything before is rated and handed over.
    pub(crate) since: Timestamp,
    /// When it was asked.
    pub(crate) now: Timestamp,
}

/// What was rated and does not stand in the file.
#[derive(Debug, Default)]
struct Unwritten {
    /// The first of it since a write succeeded last.
    since: Option<Timestamp>,
    /// The fold has not been told.
    is_news: bool,
}

/// The way to the thread, for the fold.
#[derive(Debug)]
pub(crate) struct Accruals {
    work: Sender<Message>,
    unwritten: Arc<Mutex<Unwritten>>,
    thread: JoinHandle<()>,
}

/// The thread, with the file.
struct Writer {
    store: Store,
    unwritten: Arc<Mutex<Unwritten>>,
    metrics: Arc<Metrics>,
}

impl Accruals {
    /// Makes the file anew and starts the thread.
    pub(crate) fn spawn(path: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let store = Store::create(path).map_err(std::io::Error::other)?;
        let (work, messages) = bounded::<Message>(MESSAGES_MAX);
        let unwritten = Arc::<Mutex<Unwritten>>::default();
        let mut writer = Writer {
            store,
            unwritten: Arc::clone(&unwritten),
            metrics,
        };
        let thread = std::thread::Builder::new()
            .name("accruals".to_owned())
            .spawn(move || {
                for message in messages {
                    writer.handle(message);
                }
            })?;
        Ok(Self {
            work,
            unwritten,
            thread,
        })
    }

    /// True if the thread has as much to do as may wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.work.is_full()
    }

    /// Hands over; waits while there is no room. What cannot be handed over, because the thread has
    /// ended, is not written.
    pub(crate) fn tell(&self, message: Message) {
        if let Err(SendError(Message::Rated(rated))) = self.work.send(message) {
            tracing::error!("the thread of the accruals has ended: they grow old until a restart");
            note_unwritten(&self.unwritten, &rated);
        }
    }

    /// Since when what was handed over may not have been written, once for each failure.
    pub(crate) fn take_lost(&self) -> Option<Timestamp> {
        let mut unwritten = lock(&self.unwritten);
        let since = unwritten.since.filter(|_| unwritten.is_news);
        unwritten.is_news = false;
        since
    }

    /// Since when what was handed over is not written, as long as no write succeeds.
    pub(crate) fn unwritten_since(&self) -> Option<Timestamp> {
        lock(&self.unwritten).since
    }

    /// Waits until everything is written.
    pub(crate) fn finish(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::warn!("the thread of the accruals panicked");
        }
    }
}

impl Writer {
    fn handle(&mut self, message: Message) {
        match message {
            Message::Rated(rated) => match self.write(&rated) {
                Ok(()) => {
                    // Once the fold knows, it tells by itself who has to be rated again.
                    let mut unwritten = lock(&self.unwritten);
                    if !unwritten.is_news {
                        unwritten.since = None;
                    }
                    drop(unwritten);
                    self.metrics.accruals.show(self.store.totals());
                }
                Err(error) => {
                    tracing::warn!(%error, "accruals not written; everybody is rated again");
                    self.metrics.accrual_failures.inc();
                    note_unwritten(&self.unwritten, &rated);
                }
            },
            Message::Written(asked) => {
                if let Err(error) = self.see_to_the_file(asked.since) {
                    tracing::warn!(%error, "accruals not made anew");
                    self.metrics.accrual_failures.inc();
                }
                let unwritten = lock(&self.unwritten).since;
                let since = unwritten.map_or(asked.since, |since| Ord::min(since, asked.since));
                let freshness = Freshness::new(asked.waiting, since, asked.now);
                // Who asked may have gone.
                drop(asked.answer.send(freshness));
            }
        }
    }

    fn write(&mut self, rated: &[Rated]) -> Result<(), StoreError> {
        if let Some(first) = first_of(rated) {
            self.see_to_the_file(first)?;
        }
        self.store.write(rated)
    }

    /// Makes the file anew if somebody has removed it, or it cannot be read any more. What stood in it
    /// is rated again then.
    fn see_to_the_file(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.store.is_sound() {
            return Ok(());
        }
        tracing::warn!("the file of the accruals is gone or damaged, and is made anew");
        let since = self.store.as_of().map_or(now, |as_of| Ord::min(as_of, now));
        note(&self.unwritten, since);
        self.store.make_anew()
    }
}

fn lock(unwritten: &Mutex<Unwritten>) -> MutexGuard<'_, Unwritten> {
    unwritten.lock().unwrap_or_else(PoisonError::into_inner)
}

fn first_of(rated: &[Rated]) -> Option<Timestamp> {
    rated.iter().map(|rated| rated.as_of).min()
}

fn note_unwritten(unwritten: &Mutex<Unwritten>, rated: &[Rated]) {
    if let Some(first) = first_of(rated) {
        note(unwritten, first);
    }
}

fn note(unwritten: &Mutex<Unwritten>, first: Timestamp) {
    let mut unwritten = lock(unwritten);
    unwritten.since = Some(
        unwritten
            .since
            .map_or(first, |since| Ord::min(since, first)),
    );
    unwritten.is_news = true;
}

#[cfg(test)]
mod tests;
