//! A running agent: puts the parts together, and takes them apart in the right order.
//!
//! Start: lock, certificates, sockets, engine (which recovers), then threads. Stop: inputs
//! drain and drop their writers, the engine seals the final batch, the shipper has until the
//! deadline, the rest stays in the spool.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use tollgate_agent_core::attribute::Attributor;
use tollgate_agent_core::config::{Config, Dogstatsd};
use tollgate_agent_core::engine::{Engine, EngineConfig, EngineError, Start, StartError};
use tollgate_agent_core::input::Listener;
use tollgate_agent_core::input::tally::Tally;
use tollgate_agent_core::ship::ShipConfig;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::file::DirStorage;
use tracing::{debug, info, warn};

use crate::admin::server::{AdminSocket, StatusSource};
use crate::clock;
use crate::engine::Event;
use crate::input::dogstatsd::{self, Bound};
use crate::input::interfaces;
use crate::input::stop::Stop;
use crate::ship::{self, IdentityError};
use crate::state_dir::{MappedCells, StateDir, StateDirError, boot_id};

/// Writers of the cells. Their accounts are carried from one incarnation to the next by name.
const ADMIN: &str = "admin";
const DOGSTATSD_UDP: &str = "dogstatsd.udp";
const DOGSTATSD_UNIX: &str = "dogstatsd.unix";
const INTERFACES: &str = "interfaces";

/// Bytes of keys for each series that a writer may have: most keys are shorter.
const KEY_BYTES_PER_SERIES: u64 = 128;
/// Different raw lines that are remembered for each series.
const CACHE_PER_SERIES: usize = 2;
/// How long the engine may take to say how it is.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an agent could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A socket cannot be opened.
    #[error("cannot listen on {what}")]
    Listen {
        /// On what.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The files of the state directory cannot be recovered.
    #[error("cannot start from the state directory {}", path.display())]
    Start {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: StartError,
    },
    /// The engine failed while running; a restart recovers.
    #[error("engine failed; a restart recovers from its files")]
    Engine(#[from] EngineError),
    /// A thread or the runtime cannot be started.
    #[error("cannot start {what}")]
    Spawn {
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A part of the agent ended although it should not have.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

fn cannot_spawn(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Spawn { what, source }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Every batch had been released by the collector; otherwise the rest is in the spool.
    pub drained: bool,
}

/// Runs an agent until `shutdown` is ready, then stops it in order.
///
/// Blocks the calling thread. `shutdown` is polled within a tokio runtime with timers and
/// signals enabled.
pub fn run(config: &Config, shutdown: impl Future<Output = ()>) -> Result<Outcome, RunError> {
    let state = StateDir::open(&config.state_dir)?;
    // Checked before anything is touched, although every connection reads them again.
    ship::client_config(&config.agent, &config.collector)?;
    let sockets = Sockets::bind(config)?;
    let engine = start_engine(config, &state)?;
    let tallies = Tallies::new(config, &engine)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot_spawn("the runtime"))?;
    let outcome = runtime.block_on(supervise(config, engine, sockets, tallies, shutdown));
    // Name resolution may hang in a thread of its own; the process does not wait for it.
    runtime.shutdown_background();
    drop(state);
    outcome
}

type AgentEngine = Engine<MappedCells, DirStorage>;

fn start_engine(config: &Config, state: &StateDir) -> Result<AgentEngine, RunError> {
    let series_max = config.limits.series_max;
    let engine_config = EngineConfig {
        agent: config.agent.clone(),
        window: config.window,
        writers: [ADMIN, DOGSTATSD_UDP, DOGSTATSD_UNIX, INTERFACES]
            .map(str::to_owned)
            .to_vec(),
        series_max,
        key_bytes: u64::from(series_max) * KEY_BYTES_PER_SERIES,
        spool: LogConfig {
            segment_bytes: config.spool.segment_bytes,
            bytes_max: config.spool.bytes_max,
        },
        ship: ShipConfig::default(),
    };
    let start = Start {
        now: clock::now(),
        boot_id: boot_id()?,
        random: rand::random(),
    };
    let started = Engine::start(&engine_config, &mut state.cells(), state.spool()?, start);
    let (engine, report) = started.map_err(|source| RunError::Start {
        path: config.state_dir.clone(),
        source,
    })?;
    info!(
        agent = %config.agent,
        incarnation = %report.incarnation,
        recovery = ?report.recovery,
        rows_recovered = report.rows_recovered,
        "started"
    );
    if let Some(damage) = &report.cells_damage {
        warn!(damage, "the cells could not be read; the loss is declared");
    }
    debug!(?report, "start report");
    Ok(engine)
}

/// Everything that listens, bound before anything runs.
struct Sockets {
    admin: AdminSocket,
    dogstatsd: Vec<Bound>,
}

impl Sockets {
    fn bind(config: &Config) -> Result<Self, RunError> {
        let failed = |what: String| move |source| RunError::Listen { what, source };
        let mut dogstatsd = Vec::new();
        if let Some(Dogstatsd {
            udp,
            unix,
            receive_buffer,
        }) = &config.inputs.dogstatsd
        {
            if let Some(address) = udp {
                let bound = dogstatsd::bind_udp(*address, *receive_buffer);
                dogstatsd.push(bound.map_err(failed(format!("UDP {address}")))?);
            }
            if let Some(path) = unix {
                let bound = dogstatsd::bind_unix(path, *receive_buffer);
                dogstatsd.push(bound.map_err(failed(path.display().to_string()))?);
            }
        }
        let path = config.admin_socket_path();
        let admin = AdminSocket::bind(&path).map_err(failed(path.display().to_string()))?;
        Ok(Self { admin, dogstatsd })
    }
}

/// One tally for each input thread.
struct Tallies {
    admin: Tally<MappedCells>,
    udp: Tally<MappedCells>,
    unix: Tally<MappedCells>,
    interfaces: Tally<MappedCells>,
}

impl Tallies {
    fn new(config: &Config, engine: &AgentEngine) -> Result<Self, RunError> {
        let attributor = Arc::new(config.attributor());
        let tally = |name| tally(config, engine, &attributor, name);
        Ok(Self {
            admin: tally(ADMIN)?,
            udp: tally(DOGSTATSD_UDP)?,
            unix: tally(DOGSTATSD_UNIX)?,
            interfaces: tally(INTERFACES)?,
        })
    }
}

fn tally(
    config: &Config,
    engine: &AgentEngine,
    attributor: &Arc<Attributor>,
    name: &'static str,
) -> Result<Tally<MappedCells>, RunError> {
    let writer = engine.writer(name).map_err(|error| {
        warn!(%error, name, "no writer");
        RunError::Ended("a writer of the cells")
    })?;
    let series = usize::try_from(config.limits.series_max).unwrap_or(usize::MAX);
    Ok(Tally::new(
        writer,
        Arc::clone(attributor),
        engine.window(),
        series.saturating_mul(CACHE_PER_SERIES),
        rand::random(),
    ))
}

async fn supervise(
    config: &Config,
    engine: AgentEngine,
    sockets: Sockets,
    tallies: Tallies,
    shutdown: impl Future<Output = ()>,
) -> Result<Outcome, RunError> {
    let handle = crate::engine::spawn(engine).map_err(cannot_spawn("the engine"))?;
    let (events, mut ended) = (handle.events, handle.ended);
    let shipper = tokio::spawn(ship::ship(
        config.agent.clone(),
        config.collector.clone(),
        handle.orders,
        handle.close,
        events.clone(),
    ));
    let stop = Stop::new().map_err(cannot_spawn("the stop signal"))?;
    let mut inputs = Vec::new();
    let started = start_inputs(config, sockets, tallies, &events, &stop, &mut inputs);
    let mut early = None;
    if started.is_ok() {
        tokio::select! {
            () = shutdown => {}
            result = &mut ended => early = Some(result),
        }
    }
    info!("stopping: draining the inputs");
    stop.raise();
    // Whatever the reason, nobody may count or seal any more once the lock is given back.
    // Joining blocks, and the connection must go on meanwhile.
    let joined = tokio::task::spawn_blocking(move || join(inputs)).await;
    let all_well = started.is_ok() && joined.is_ok_and(|joined| joined);
    let failed = early.is_some();
    let ended = if let Some(result) = early {
        result
    } else {
        let patience = if all_well {
            config.stop_deadline
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + patience;
        let _ = events.send(Event::Stop { deadline });
        ended.await
    };
    // The connection says goodbye once the engine's end of the channel is gone.
    let _ = tokio::time::timeout(Duration::from_secs(2), shipper).await;
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

/// Waits for all threads; true if none panicked.
fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let results: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    results.iter().all(Result::is_ok)
}

fn start_inputs(
    config: &Config,
    sockets: Sockets,
    tallies: Tallies,
    events: &Sender<Event>,
    stop: &Stop,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<(), RunError> {
    let (mut udp, mut unix) = (Some(tallies.udp), Some(tallies.unix));
    for bound in sockets.dogstatsd {
        let tally = match bound.listener {
            Listener::Udp => udp.take(),
            Listener::Unix => unix.take(),
        };
        if let Some(tally) = tally {
            let thread = bound.serve(tally, stop.clone());
            threads.push(thread.map_err(cannot_spawn("a DogStatsD thread"))?);
        }
    }
    if let Some(interfaces) = &config.inputs.interfaces {
        let thread = interfaces::spawn(interfaces.clone(), tallies.interfaces, stop.clone());
        threads.push(thread.map_err(cannot_spawn("the interface thread"))?);
    }
    let status = status_source(events.clone());
    let admin = sockets.admin.serve(tallies.admin, status, stop.clone());
    threads.push(admin.map_err(cannot_spawn("the admin thread"))?);
    Ok(())
}

fn status_source(events: Sender<Event>) -> StatusSource {
    Arc::new(move || {
        let (sender, receiver) = bounded(1);
        let deadline = Instant::now() + STATUS_TIMEOUT;
        events.send_deadline(Event::Status(sender), deadline).ok()?;
        receiver.recv_deadline(deadline).ok()
    })
}
