//! The loop around a running agent: signals, reloads, the watchdog, and the stop in order.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tollgate_agent_core::config::{Collector, Config};
use tracing::{error, info, warn};

use super::inputs::{Inputs, Sockets, Tallies};
use super::{Outcome, Reread, RunError, cannot_spawn};
use crate::budget::Budget;
use crate::desk::{Desk, ReloadRequest};
use crate::engine::{AgentEngine, Event};
use crate::health::Health;
use crate::metrics::http::MetricsServer;
use crate::notify::Notifier;
use crate::output::chain;
use crate::reload::{self, CertificateFiles, Refusal, Reloaded};
use crate::ship::{self, Link};
use tollgate_agent_core::input::live::Live;

/// How often life is looked at without a watchdog that wants to be fed more often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Reloads that may wait.
const RELOADS_MAX: usize = 4;
/// How long a connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What an agent is put together from.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) reread: Reread,
    pub(super) engine: AgentEngine,
    pub(super) sockets: Sockets,
    pub(super) tallies: Tallies,
    pub(super) live: Arc<Live>,
    pub(super) health: Health,
}

pub(super) async fn supervise(
    parts: Parts,
    shutdown: impl Future<Output = ()>,
) -> Result<Outcome, RunError> {
    let Parts {
        config,
        reread,
        engine,
        sockets,
        tallies,
        live,
        health,
    } = parts;
    let mut shutdown = std::pin::pin!(shutdown);
    // Signals are heard from the first poll on: one that comes while the agent starts ends it in
    // order as well.
    let stopped = std::future::poll_fn(|context| {
        std::task::Poll::Ready(shutdown.as_mut().poll(context).is_ready())
    });
    let stopped = stopped.await;
    let handle = crate::engine::spawn(engine, health.beat("engine"));
    let handle = handle.map_err(cannot_spawn("the engine"))?;
    let (events, mut ended) = (handle.events, handle.ended);
    let link = Link::default();
    let (collector, collector_seen) = watch::channel(Arc::new(config.collector.clone()));
    let shipper = tokio::spawn(ship::ship(
        config.agent.clone(),
        collector_seen,
        link.clone(),
        handle.orders,
        handle.close,
        events.clone(),
    ));
    let (reloads, requests) = mpsc::channel(RELOADS_MAX);
    let desk = Desk::new(
        events.clone(),
        reloads,
        link,
        health.clone(),
        &live,
        sockets.access().clone(),
    );
    let mut inputs = Inputs::new(health.clone());
    let started = inputs.start(&config, sockets, tallies, &desk);
    let mut supervisor = Supervisor {
        certificates: CertificateFiles::look(&config.collector),
        config,
        reread,
        collector,
        live,
        desk,
        health,
        notifier: Notifier::new(),
        metrics: None,
        inputs,
    };
    let started = match started {
        Ok(()) => supervisor.begin().await,
        failed => failed,
    };
    let mut early = None;
    let mut ended_input = false;
    if started.is_ok() && !stopped {
        tokio::select! {
            () = shutdown => {}
            result = &mut ended => early = Some(result),
            result = supervisor.watch(requests) => ended_input = result.is_err(),
        }
    }
    info!("stopping: draining the inputs");
    supervisor.notifier.stopping();
    supervisor.desk.note_stopping();
    let patience = supervisor.config.stop_deadline;
    let inputs = supervisor.inputs;
    // Whatever the reason, nobody may count or seal any more once the lock is given back.
    // Joining blocks, and the connection must go on meanwhile.
    let joined = tokio::task::spawn_blocking(move || inputs.stop()).await;
    let all_well = started.is_ok() && !ended_input && joined.is_ok_and(|joined| joined);
    let failed = early.is_some();
    let ended = if let Some(result) = early {
        result
    } else {
        let patience = if all_well { patience } else { Duration::ZERO };
        let deadline = Instant::now() + patience;
        let _ = events.send(Event::Stop { deadline });
        ended.await
    };
    // The connection says goodbye once the engine's end of the channel is gone.
    let _ = tokio::time::timeout(GOODBYE, shipper).await;
    // It has said that it ended, so this does not block.
    let _ = handle.thread.join();
    let ended = ended.map_err(|_| RunError::Ended("the engine"))?;
    if let Some(error) = ended.error {
        return Err(error.into());
    }
    started?;
    if failed {
        return Err(RunError::Ended("the engine"));
    }
    if !all_well {
        return Err(RunError::Ended("an input"));
    }
    info!(drained = ended.drained, "stopped");
    Ok(Outcome {
        drained: ended.drained,
    })
}

/// Looks after an agent that runs.
struct Supervisor {
    /// What is in force: of a reload, the part that could be applied.
    config: Config,
    reread: Reread,
    collector: watch::Sender<Arc<Collector>>,
    certificates: CertificateFiles,
    live: Arc<Live>,
    desk: Desk,
    health: Health,
    notifier: Notifier,
    metrics: Option<MetricsServer>,
    inputs: Inputs,
}

impl Supervisor {
    /// The last steps of a start.
    async fn begin(&mut self) -> Result<(), RunError> {
        if let Some(metrics) = self.config.metrics {
            let bound = MetricsServer::bind(metrics.listen, &self.desk).await;
            let failed = |source| RunError::Listen {
                what: format!("TCP {}", metrics.listen),
                source,
            };
            self.metrics = Some(bound.map_err(failed)?);
        }
        self.notifier.ready();
        self.tell_status().await;
        Ok(())
    }

    /// Serves signals, requests and the watchdog; ends only if an input has ended.
    async fn watch(&mut self, mut requests: mpsc::Receiver<ReloadRequest>) -> Result<(), ()> {
        let hangup = signal(SignalKind::hangup());
        let mut hangup = hangup
            .inspect_err(|error| warn!(%error, "SIGHUP is not heard; use `tollgate-agent reload`"))
            .ok();
        let watchdog = Notifier::watchdog();
        // Three looks for each time that the watchdog wants to be fed.
        let every = watchdog.map_or(LOOK_EVERY, |limit| (limit / 3).min(LOOK_EVERY));
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = looks.tick() => self.look().await?,
                _ = hung_up => {
                    let _ = self.reload().await;
                }
                Some(request) = requests.recv() => {
                    // Who asked may have gone.
                    let _ = request.send(self.reload().await);
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), ()> {
        if !self.inputs.all_run() {
            error!("an input has ended; the agent stops, and a restart recovers");
            return Err(());
        }
        let stuck = self.health.stuck();
        if stuck.is_empty() {
            self.notifier.feed_watchdog();
        } else {
            error!(
                ?stuck,
                "threads give no sign of life; the watchdog is not fed"
            );
        }
        self.tell_status().await;
        Ok(())
    }

    async fn tell_status(&mut self) {
        if self.notifier.is_there()
            && let Some(line) = self.desk.line().await
        {
            self.notifier.status(line);
        }
    }

    /// Reads the configuration again and puts into force what can be; on any mistake nothing
    /// is changed.
    async fn reload(&mut self) -> Result<Reloaded, Refusal> {
        self.notifier.reloading();
        let result = self.try_reload().await;
        match &result {
            Ok(done) if done.restart.is_empty() => {
                info!(changed = ?done.changed, "configuration reloaded");
            }
            Ok(done) => warn!(
                changed = ?done.changed,
                restart = ?done.restart,
                "configuration reloaded, but some keys need a restart"
            ),
            Err(refusal) => error!(
                error = refusal.message,
                "configuration refused; the one before stays in force"
            ),
        }
        self.desk.note_reload(&result);
        self.notifier.ready();
        result
    }

    async fn try_reload(&mut self) -> Result<Reloaded, Refusal> {
        let new = (self.reread)().map_err(|error| Refusal::from_load(&error))?;
        ship::client_config(&new.agent, &new.collector)
            .map_err(|error| Refusal::new(chain(&error)))?;
        let budget = Budget::of(&new).map_err(Refusal::new)?;
        if let Some(excess) = budget.excess() {
            return Err(Refusal::new(excess));
        }
        let mut change = reload::compare(&self.config, &new);
        // What can fail comes first.
        let metrics = match new.metrics {
            Some(metrics) if change.has("metrics") => {
                let bound = MetricsServer::bind(metrics.listen, &self.desk).await;
                let failed =
                    |e| Refusal::new(format!("cannot listen on TCP {}: {e}", metrics.listen));
                Some(bound.map_err(failed)?)
            }
            _ => None,
        };
        if change.has("admin") {
            let applied = self
                .desk
                .set_access(&new.admin, &self.config.admin_socket_path());
            applied.map_err(|error| Refusal::new(error.to_string()))?;
        }
        // From here on nothing fails.
        if change.has("metrics") {
            self.metrics = metrics;
        }
        if change.has("meter") || change.has("rule") {
            self.live.set_attributor(new.attributor());
        }
        // Certificates may have been renewed under the same names; the connection that
        // stands was made with the old ones.
        let certificates = CertificateFiles::look(&new.collector);
        let renewed = certificates != self.certificates;
        if renewed || change.has("collector") {
            self.collector.send_replace(Arc::new(new.collector.clone()));
            self.certificates = certificates;
        }
        if renewed && !change.has("collector") {
            change.changed.push("certificates".to_owned());
        }
        reload::take_over(&mut self.config, new);
        Ok(change)
    }
}
