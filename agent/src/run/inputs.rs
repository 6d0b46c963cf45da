//! The inputs of a running agent: their sockets, writers and threads.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tollgate_agent_core::config::Config;
use tollgate_agent_core::input::live::Live;
use tollgate_agent_core::input::page::PageTally;
use tollgate_agent_core::input::tally::Tally;
use tollgate_common::WindowWidth;
use tracing::warn;

use super::{RunError, cannot_spawn};
use crate::admin::access::Access;
use crate::admin::server::AdminSocket;
use crate::clock;
use crate::desk::Desk;
use crate::engine::AgentEngine;
use crate::health::Health;
use crate::input::dogstatsd::{self, Bound};
use crate::input::interfaces;
use crate::input::sdk::SdkSocket;
use crate::input::stop::Stop;
use crate::state_dir::MappedCells;

/// Writers of the cells. Their accounts are carried from one incarnation to the next by name.
const ADMIN: &str = "admin";
const INTERFACES: &str = "interfaces";
const SDK: &str = "sdk";

/// One writer for each input thread that this configuration starts.
pub(super) fn writer_names(config: &Config) -> Vec<String> {
    let sockets = config.inputs.dogstatsd.iter();
    let interfaces = config.inputs.interfaces.iter();
    let sdk = config.inputs.sdk.iter();
    std::iter::once(ADMIN.to_owned())
        .chain(sockets.flat_map(dogstatsd::writer_names))
        .chain(interfaces.map(|_| INTERFACES.to_owned()))
        .chain(sdk.map(|_| SDK.to_owned()))
        .collect()
}

/// Everything that listens, bound before anything runs.
pub(super) struct Sockets {
    admin: AdminSocket,
    dogstatsd: Vec<Bound>,
    sdk: Option<SdkSocket>,
}

impl Sockets {
    pub(super) fn bind(config: &Config) -> Result<Self, RunError> {
        let failed = |what: String| move |source| RunError::Listen { what, source };
        let dogstatsd = match &config.inputs.dogstatsd {
            Some(sockets) => dogstatsd::bind(sockets)
                .map_err(|(what, source)| RunError::Listen { what, source })?,
            None => Vec::new(),
        };
        let sdk = match &config.inputs.sdk {
            Some(sdk) => {
                let bound = SdkSocket::bind(sdk);
                Some(bound.map_err(failed(sdk.socket.display().to_string()))?)
            }
            None => None,
        };
        let path = config.admin_socket_path();
        let admin = AdminSocket::bind(&path, &config.admin);
        let admin = admin.map_err(failed(path.display().to_string()))?;
        Ok(Self {
            admin,
            dogstatsd,
            sdk,
        })
    }

    /// Who may use the admin socket.
    pub(super) fn access(&self) -> &Access {
        self.admin.access()
    }
}

/// One tally for each input thread.
pub(super) struct Tallies {
    admin: Tally<MappedCells>,
    /// In the order of the sockets.
    dogstatsd: Vec<Tally<MappedCells>>,
    interfaces: Option<Tally<MappedCells>>,
    sdk: Option<(PageTally<MappedCells>, WindowWidth)>,
}

impl Tallies {
    pub(super) fn new(
        config: &Config,
        engine: &AgentEngine,
        live: &Arc<Live>,
        sockets: &Sockets,
    ) -> Result<Self, RunError> {
        let tally = |name: &str, cache_bytes| {
            let writer = engine.writer(name).map_err(|error| {
                warn!(%error, name, "no writer");
                RunError::Ended("a writer of the cells")
            })?;
            let (live, window) = (Arc::clone(live), engine.window());
            let tally = Tally::new(writer, live, window, cache_bytes, rand::random());
            Ok::<_, RunError>(tally)
        };
        let inputs = &config.inputs;
        let cache_bytes = inputs.dogstatsd.as_ref().map_or(0, |d| d.cache_bytes);
        let dogstatsd = sockets.dogstatsd.iter();
        Ok(Self {
            // Neither of these sends lines.
            admin: tally(ADMIN, 0)?,
            interfaces: match inputs.interfaces {
                Some(_) => Some(tally(INTERFACES, 0)?),
                None => None,
            },
            sdk: match inputs.sdk {
                Some(_) => Some((page_tally(engine, live)?, engine.window())),
                None => None,
            },
            dogstatsd: dogstatsd
                .map(|bound| tally(&bound.writer_name(), cache_bytes))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn page_tally(engine: &AgentEngine, live: &Arc<Live>) -> Result<PageTally<MappedCells>, RunError> {
    let writer = engine.writer(SDK).map_err(|error| {
        warn!(%error, name = SDK, "no writer");
        RunError::Ended("a writer of the cells")
    })?;
    let tally = PageTally::new(
        writer,
        Arc::clone(live),
        engine.declarations(),
        rand::random(),
        (engine.alive_before(), clock::now()),
    );
    tally.ok_or_else(|| {
        warn!("no room for pages of applications; raise limits.series_max");
        RunError::Ended("the input of applications")
    })
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
        for (bound, tally) in sockets.dogstatsd.into_iter().zip(tallies.dogstatsd) {
            let name = bound.writer_name();
            self.spawn(&name, |stop| bound.start(tally, stop))?;
        }
        if let (Some(socket), Some((tally, width))) = (sockets.sdk, tallies.sdk) {
            let board = Arc::clone(desk.pages());
            self.spawn(SDK, |stop| socket.serve(tally, width, board, stop))?;
        }
        if let (Some(interfaces), Some(tally)) = (&config.inputs.interfaces, tallies.interfaces) {
            self.spawn(INTERFACES, |stop| {
                interfaces::spawn(interfaces.clone(), tally, stop)
            })?;
        }
        self.spawn(ADMIN, |stop| {
            sockets.admin.serve(tallies.admin, desk.clone(), stop)
        })
    }

    fn spawn(
        &mut self,
        name: &str,
        start: impl FnOnce(Stop) -> io::Result<JoinHandle<()>>,
    ) -> Result<(), RunError> {
        let stop = Stop::new(self.health.beat(name)).map_err(cannot_spawn("the stop signal"))?;
        let thread = start(stop.clone()).map_err(cannot_spawn("an input thread"))?;
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
