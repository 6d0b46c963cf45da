//! The desk: where the admin socket, the metrics and the service manager ask about a running
//! agent, and where a reload is asked for.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::Sender;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tollgate_agent_core::aggregate::TenantAccounts;
use tollgate_agent_core::config::Admin;
use tollgate_agent_core::engine::{Status, TopMemory};
use tollgate_agent_core::input::live::Live;
use tollgate_common::Timestamp;

use crate::admin::access::Access;
use crate::admin::tap::Taps;
use crate::admin::watch::{TopPage, TopQuery};
use crate::clock;
use crate::engine::{self, AgentEngine, Event};
use crate::health::Health;
use crate::input::sdk::board::{Board, PagesStatus};
use crate::reload::{Refusal, Reloaded};
use crate::ship::{Link, LinkStatus};

/// How long the engine may take to say how it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Most pages of `top` that are watched at a time: each remembers every series.
pub(crate) const VIEWERS_MAX: usize = 4;

/// Tenants whose accounts the status shows one by one.
const TENANTS_SHOWN: usize = 20;

/// Somebody waits for the outcome of a reload.
pub(crate) type ReloadRequest = oneshot::Sender<Result<Reloaded, Refusal>>;

/// How the configuration came to be in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigStatus {
    /// When the configuration in force was read.
    pub(crate) loaded_at: Timestamp,
    /// Reloads that were put into force.
    pub(crate) reloads: u64,
    /// Reloads that were refused.
    pub(crate) refused: u64,
    /// Why the last reload was refused; `None` if it was not.
    pub(crate) last_refusal: Option<String>,
    /// Keys of the file whose new value waits for a restart.
    pub(crate) restart: Vec<String>,
}

/// Everything that an agent shows of itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What the engine knows.
    #[serde(flatten)]
    pub(crate) status: Status,
    /// The accounts of tenants, the busiest [`TENANTS_SHOWN`] and the rest as one; only for who
    /// looks at the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenants: Option<TenantAccounts>,
    /// The pages of applications; `None` if they are no input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pages: Option<PagesStatus>,
    /// The connection that stands.
    pub(crate) link: Option<LinkStatus>,
    /// The configuration in force.
    pub(crate) config: ConfigStatus,
    /// Threads that give no sign of life.
    pub(crate) stuck: Vec<String>,
    /// The version of the program.
    pub(crate) version: &'static str,
}

/// The right to look at `top`; given back when dropped.
pub(crate) struct Viewer(Desk);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.0.viewers.fetch_sub(1, Relaxed);
    }
}

/// Cheap to clone; every clone is the same desk.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    events: Sender<Event>,
    reloads: mpsc::Sender<ReloadRequest>,
    link: Link,
    health: Health,
    taps: Arc<Taps>,
    access: Mutex<Access>,
    config: Mutex<ConfigStatus>,
    stopping: AtomicBool,
    viewers: AtomicUsize,
    pages: Arc<Board>,
}

impl Desk {
    pub(crate) fn new(
        events: Sender<Event>,
        reloads: mpsc::Sender<ReloadRequest>,
        link: Link,
        health: Health,
        live: &Arc<Live>,
        access: Access,
    ) -> Self {
        Self(Arc::new(Inner {
            events,
            reloads,
            link,
            health,
            taps: Taps::new(Arc::clone(live)),
            access: Mutex::new(access),
            config: Mutex::new(ConfigStatus {
                loaded_at: clock::wall(),
                reloads: 0,
                refused: 0,
                last_refusal: None,
                restart: Vec::new(),
            }),
            stopping: AtomicBool::new(false),
            viewers: AtomicUsize::new(0),
            pages: Arc::default(),
        }))
    }

    /// Asks the engine from an ordinary thread.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut AgentEngine) -> T + Send + 'static,
    ) -> Option<T> {
        engine::ask(&self.0.events, ANSWER_TIMEOUT, question)
    }

    /// The whole report, for an ordinary thread.
    pub(crate) fn report(&self) -> Option<Report> {
        // The engine only says where to look: this thread pays for looking.
        let glance = self.ask(|engine| engine.glance())?;
        let tenants = glance.tenant_accounts(TENANTS_SHOWN);
        Some(self.complete(glance.status(), Some(tenants)))
    }

    /// The whole report, for the runtime.
    pub(crate) async fn report_async(&self) -> Option<Report> {
        let question = |engine: &mut AgentEngine| engine.glance();
        let glance = engine::ask_async(&self.0.events, ANSWER_TIMEOUT, question).await?;
        // Neither the engine nor the connection to the collector waits for a million cells.
        let status = tokio::task::spawn_blocking(move || glance.status());
        Some(self.complete(status.await.ok()?, None))
    }

    fn complete(&self, status: Status, tenants: Option<TenantAccounts>) -> Report {
        Report {
            status,
            tenants,
            pages: self.0.pages.status(),
            link: self.0.link.status(),
            config: lock(&self.0.config).clone(),
            stuck: self.0.health.stuck(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// A page of `top`; the memory of one viewer comes and goes with it.
    pub(crate) fn top(&self, memory: &mut TopMemory, query: &TopQuery) -> Option<TopPage> {
        let glance = self.ask(|engine| engine.glance())?;
        let rates = glance.top(memory, query, clock::steady());
        let status = serde_json::to_value(self.complete(glance.status(), None)).ok()?;
        Some(TopPage { rates, status })
    }

    /// The right to look at `top`; `None` if too many have it.
    pub(crate) fn view(&self) -> Option<Viewer> {
        let viewers = &self.0.viewers;
        viewers
            .fetch_update(Relaxed, Relaxed, |n| (n < VIEWERS_MAX).then_some(n + 1))
            .ok()
            .map(|_| Viewer(self.clone()))
    }

    /// Where the input of applications says how it is.
    pub(crate) fn pages(&self) -> &Arc<Board> {
        &self.0.pages
    }

    /// Those who watch events.
    pub(crate) fn taps(&self) -> &Arc<Taps> {
        &self.0.taps
    }

    /// True after the final batch; `None` if the engine does not answer.
    pub(crate) async fn is_closed(&self) -> Option<bool> {
        let question = |engine: &mut AgentEngine| engine.is_closed();
        engine::ask_async(&self.0.events, ANSWER_TIMEOUT, question).await
    }

    /// One line for the service manager.
    pub(crate) async fn line(&self) -> Option<String> {
        let question = |engine: &mut AgentEngine| (engine.spool_status(), engine.ship_status());
        let asked = engine::ask_async(&self.0.events, ANSWER_TIMEOUT, question).await;
        let (spool, ship) = asked?;
        let connection = match self.0.link.status() {
            Some(link) => format!("connected to {}", link.endpoint),
            None => ship.last_error.map_or_else(
                || "not connected".to_owned(),
                |error| format!("not connected ({error})"),
            ),
        };
        let refused = match lock(&self.0.config).last_refusal {
            Some(_) => "; the last reload was refused",
            None => "",
        };
        Some(format!(
            "{connection}; {} batches wait in the spool{refused}",
            spool.batches
        ))
    }

    /// Threads that give no sign of life.
    pub(crate) fn stuck(&self) -> Vec<String> {
        self.0.health.stuck()
    }

    /// The inputs are drained; nothing new should be sent here.
    pub(crate) fn note_stopping(&self) {
        self.0.stopping.store(true, Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Relaxed)
    }

    /// Asks for a reload and waits for its outcome; `None` if the agent is stopping. Not for
    /// the runtime's own thread.
    pub(crate) fn reload(&self) -> Option<Result<Reloaded, Refusal>> {
        let (sender, outcome) = oneshot::channel();
        self.0.reloads.blocking_send(sender).ok()?;
        outcome.blocking_recv().ok()
    }

    /// Remembers what became of a reload.
    pub(crate) fn note_reload(&self, result: &Result<Reloaded, Refusal>) {
        let mut config = lock(&self.0.config);
        match result {
            Ok(done) => {
                config.loaded_at = clock::wall();
                config.reloads += 1;
                config.last_refusal = None;
                config.restart.clone_from(&done.restart);
            }
            Err(refusal) => {
                config.refused += 1;
                config.last_refusal = Some(refusal.message.clone());
            }
        }
    }

    /// Who may ask what.
    pub(crate) fn access(&self) -> Access {
        lock(&self.0.access).clone()
    }

    /// Lets others ask from now on.
    pub(crate) fn set_access(&self, admin: &Admin, socket: &Path) -> std::io::Result<()> {
        let access = Access::new(admin)?;
        access.apply(socket)?;
        *lock(&self.0.access) = access;
        Ok(())
    }
}

/// Nothing that is kept here is left half changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
