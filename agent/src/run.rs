//! A running agent: puts the parts together, and takes them apart in the right order.
//!
//! Start: memory budget, lock, certificates, sockets, engine (which recovers), then threads.
//! While it runs, this is where signals, reloads and the watchdog are handled. Stop: inputs
//! drain and drop their writers, the engine seals the final batch, the shipper has until the
//! deadline, the rest stays in the spool.

mod inputs;
mod supervise;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tollgate_agent_core::config::Config;
use tollgate_agent_core::engine::{EngineConfig, EngineError, Start, StartError};
use tollgate_agent_core::input::live::Live;
use tracing::{debug, info, warn};

use crate::budget::Budget;
use crate::clock;
use crate::engine::AgentEngine;
use crate::health::Health;
use crate::load::LoadError;
use crate::ship::{self, IdentityError};
use crate::state_dir::{StateDir, StateDirError, boot_id};
use inputs::{Sockets, Tallies};

/// Threads of the runtime for what blocks: names are looked up (two at most), and cells are
/// read for metrics.
pub(crate) const BLOCKING_THREADS: usize = 4;
pub(crate) const BLOCKING_STACK_BYTES: usize = 1 << 20;

/// Bytes of keys for each series that a writer may have: most keys are shorter.
const KEY_BYTES_PER_SERIES: u64 = 96;

/// Room for some keys as long as they may be, also where there are few series.
const KEY_BYTES_MIN: u64 = 64 << 10;

/// Why an agent could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The configuration may need more memory than it allows.
    #[error("memory budget: {0}")]
    Memory(String),
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

/// Reads the configuration anew, as it was read at the start.
pub type Reread = Box<dyn Fn() -> Result<Config, LoadError> + Send + Sync>;

/// Runs an agent until `shutdown` is ready, then stops it in order.
///
/// Blocks the calling thread. `shutdown` is polled within a tokio runtime with timers and
/// signals enabled. On SIGHUP, or when asked over the admin socket, the configuration is
/// taken from `reread` and put into force as far as that is possible without a restart.
pub fn run(
    config: Config,
    reread: Reread,
    shutdown: impl Future<Output = ()>,
) -> Result<Outcome, RunError> {
    let budget = Budget::of(&config).map_err(RunError::Memory)?;
    if let Some(excess) = budget.excess() {
        return Err(RunError::Memory(excess));
    }
    let state = StateDir::open(&config.state_dir)?;
    // Checked before anything is touched, although every connection reads them again.
    ship::client_config(&config.agent, &config.collector)?;
    let sockets = Sockets::bind(&config)?;
    let engine = start_engine(&config, &state)?;
    let live = Arc::new(Live::new(config.attributor()));
    let tallies = Tallies::new(&config, &engine, &live, &sockets)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK_BYTES)
        .build()
        .map_err(cannot_spawn("the runtime"))?;
    let health = Health::default();
    let agent = supervise::Parts {
        config,
        reread,
        engine,
        sockets,
        tallies,
        live,
        health,
    };
    let outcome = runtime.block_on(supervise::supervise(agent, shutdown));
    // Name resolution may hang in a thread of its own; the process does not wait for it.
    runtime.shutdown_background();
    drop(state);
    outcome
}

/// What the configuration means for the engine.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    let series_max = config.limits.series_max;
    EngineConfig {
        agent: config.agent.clone(),
        window: config.window,
        writers: inputs::writer_names(config),
        series_max,
        key_bytes: (u64::from(series_max) * KEY_BYTES_PER_SERIES).max(KEY_BYTES_MIN),
        limits: config.limits.into(),
        spool: config.spool.into(),
        ship: config.collector.ship_config(),
    }
}

fn start_engine(config: &Config, state: &StateDir) -> Result<AgentEngine, RunError> {
    let engine_config = engine_config(config);
    let start = Start {
        now: clock::steady(),
        boot_id: boot_id()?,
        random: rand::random(),
    };
    let started = AgentEngine::start(&engine_config, &mut state.cells(), state.spool()?, start);
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
