//! The inputs of a running agent: their sockets, writers and threads.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tollgate_agent_core::config::{Config, Dogstatsd};
use tollgate_agent_core::input::Listener;
use tollgate_agent_core::input::live::Live;
use tollgate_agent_core::input::tally::Tally;
use tracing::warn;

use super::{RunError, cannot_spawn};
use crate::admin::access::Access;
use crate::admin::server::AdminSocket;
use crate::desk::Desk;
use crate::engine::AgentEngine;
use crate::health::Health;
use crate::input::dogstatsd::{self, Bound};
use crate::input::interfaces;
use crate::input::stop::Stop;
use crate::state_dir::MappedCells;

/// Writers of the cells. Their accounts are carried from one incarnation to the next by name.
const ADMIN: &str = "admin";
const DOGSTATSD_UDP: &str = "dogstatsd.udp";
const DOGSTATSD_UNIX: &str = "dogstatsd.unix";
const INTERFACES: &str = "interfaces";
/// All of them.
pub(super) const WRITERS: [&str; 4] = [ADMIN, DOGSTATSD_UDP, DOGSTATSD_UNIX, INTERFACES];

/// Different raw lines that are remembered for each series.
const CACHE_PER_SERIES: usize = 2;

/// Everything that listens, bound before anything runs.
pub(super) struct Sockets {
    admin: AdminSocket,
    dogstatsd: Vec<Bound>,
}

impl Sockets {
    pub(super) fn bind(config: &Config) -> Result<Self, RunError> {
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
        let admin = AdminSocket::bind(&path, &config.admin);
        let admin = admin.map_err(failed(path.display().to_string()))?;
        Ok(Self { admin, dogstatsd })
    }

    /// Who may use the admin socket.
    pub(super) fn access(&self) -> &Access {
        self.admin.access()
    }
}

/// One tally for each input thread.
pub(super) struct Tallies {
    admin: Tally<MappedCells>,
    udp: Tally<MappedCells>,
    unix: Tally<MappedCells>,
    interfaces: Tally<MappedCells>,
}

impl Tallies {
    pub(super) fn new(
        config: &Config,
        engine: &AgentEngine,
        live: &Arc<Live>,
    ) -> Result<Self, RunError> {
        let tally = |name| tally(config, engine, live, name);
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
    live: &Arc<Live>,
    name: &'static str,
) -> Result<Tally<MappedCells>, RunError> {
    let writer = engine.writer(name).map_err(|error| {
        warn!(%error, name, "no writer");
        RunError::Ended("a writer of the cells")
    })?;
    let series = usize::try_from(config.limits.series_max).unwrap_or(usize::MAX);
    Ok(Tally::new(
        writer,
        Arc::clone(live),
        engine.window(),
        series.saturating_mul(CACHE_PER_SERIES),
        rand::random(),
    ))
}

/// A running input.
struct Input {
    stop: Stop,
    thread: JoinHandle<()>,
}

/// The inputs that run.
pub(super) struct Inputs {
    health: Health,
    running: Vec<Input>,
}

impl Inputs {
    pub(super) fn new(health: Health) -> Self {
        Self {
            health,
            running: Vec::new(),
        }
    }

    /// Starts everything that the configuration wants; what has been started before an error
    /// is kept, and ends with [`Inputs::stop`].
    pub(super) fn start(
        &mut self,
        config: &Config,
        sockets: Sockets,
        tallies: Tallies,
        desk: &Desk,
    ) -> Result<(), RunError> {
        let (mut udp, mut unix) = (Some(tallies.udp), Some(tallies.unix));
        for bound in sockets.dogstatsd {
            let (name, tally) = match bound.listener {
                Listener::Udp => (DOGSTATSD_UDP, udp.take()),
                Listener::Unix => (DOGSTATSD_UNIX, unix.take()),
            };
            if let Some(tally) = tally {
                self.spawn(name, |stop| bound.serve(tally, stop))?;
            }
        }
        if let Some(interfaces) = &config.inputs.interfaces {
            self.spawn(INTERFACES, |stop| {
                interfaces::spawn(interfaces.clone(), tallies.interfaces, stop)
            })?;
        }
        self.spawn(ADMIN, |stop| {
            sockets.admin.serve(tallies.admin, desk.clone(), stop)
        })
    }

    fn spawn(
        &mut self,
        name: &'static str,
        start: impl FnOnce(Stop) -> io::Result<JoinHandle<()>>,
    ) -> Result<(), RunError> {
        let stop = Stop::new(self.health.beat(name)).map_err(cannot_spawn("the stop signal"))?;
        let thread = start(stop.clone()).map_err(cannot_spawn(name))?;
        self.running.push(Input { stop, thread });
        Ok(())
    }

    /// True if all threads that were started still run.
    pub(super) fn all_run(&self) -> bool {
        self.running.iter().all(|input| !input.thread.is_finished())
    }

    /// Tells all inputs to drain, and waits for them; true if none panicked. Blocks.
    pub(super) fn stop(self) -> bool {
        for input in &self.running {
            input.stop.raise();
        }
        let joined: Vec<_> = self
            .running
            .into_iter()
            .map(|input| input.thread.join())
            .collect();
        joined.iter().all(Result::is_ok)
    }
}
