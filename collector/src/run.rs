//! The collector as a whole: opens what it needs in the right order, runs until it is told
//! to stop or something fails, and closes in the opposite order.
//!
//! ```text
//! lock ─► HTTP (not ready) ─► journal, projection, snapshot ─► replay
//!      ─► journal thread, fold thread ─► figures, policy, catalog journaled
//!      ─► QUIC, admin socket ─► ready
//! ```

pub(crate) mod books;
mod catalogs;
mod data_dir;
mod front;
mod inputs;
mod reload;
mod restored;
mod revoked;
mod service;
mod start;
mod threads;
mod thresholds;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::codec::EncodeError;
use tollgate_collector_core::journal::JournalError;

use crate::fold::{self, FoldError};
use crate::metrics::Metrics;
use crate::receive::ListenError;
use crate::serve::admin::AdminError;

pub use data_dir::{DataDir, DataDirError};
use front::{Front, HttpServer};
pub use inputs::{InputError, Inputs, read_catalog};
use reload::Reloader;
pub use restored::{Marked, mark_restored};
use threads::Threads;

/// How often the list of revoked certificates is looked at.
const REVOKED_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the collector ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Catalog or certificates are wrong.
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal failed while running: what was not acknowledged is unknown, and starting
    /// again recovers.
    #[error("{0}")]
    Journal(JournalError),
    /// The fold failed.
    #[error("{0}")]
    Fold(#[from] FoldError),
    /// The QUIC listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The HTTP listener cannot be opened.
    #[error("cannot listen on {address} (HTTP): {source}")]
    Http {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The admin socket cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A catalog or policy does not fit a journal entry.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A thread or signal handler could not be set up.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A thread panicked.
    #[error("the {0} thread panicked; this is a defect, please report it with the lines above")]
    Panicked(&'static str),
    /// A journal cannot be marked as restored.
    #[error("{0}")]
    Restore(String),
    /// It was told to stop before it was ready.
    #[error("stopped before the journal was replayed")]
    Interrupted,
}

/// Gives the configuration as it is in the file now, or what is wrong with it.
pub type Reread = dyn Fn() -> Result<Config, String> + Send + Sync;

/// Runs a collector until `shutdown` is over or something fails. SIGHUP reads the catalog and
/// the certificates again.
///
/// Needs a tokio runtime with time and I/O.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let same = config.clone();
    run_with_reread(config, Arc::new(move || Ok(same.clone())), shutdown).await
}

/// As [`run`]; SIGHUP takes the policy from what `reread` gives, too.
pub async fn run_with_reread(
    config: Config,
    reread: Arc<Reread>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let mut shutdown = pin!(shutdown);
    let inputs = Inputs::read(&config)?;
    let data = DataDir::new(&config.data_dir);
    let mut folder = read_catalog(&config);
    if !data.has_journal() {
        folder = Ok(folder?);
    }
    let _lock = data.lock()?;
    let metrics = Arc::new(Metrics::new());
    let mut hangup = signal(SignalKind::hangup()).map_err(|source| RunError::System {
        what: "cannot handle SIGHUP",
        source,
    })?;
    let (fold, questions) = fold::handle::channel();
    let http = HttpServer::open(&config, &data, &metrics, &fold).await?;

    let started = start::start(&config, &data, folder, &metrics, shutdown.as_mut()).await?;
    let lineage = started.lineage;
    let mut threads = Threads::spawn(started, questions, &data, &metrics).await?;
    let front = Front::open(
        &config,
        &data,
        &inputs,
        lineage,
        &threads.journal,
        fold.clone(),
        &http,
    )?;
    let mut reloader = Reloader::new(reread, &config, &inputs, &front);

    // An error means that the fold has ended, which is noticed below.
    let _ = fold.reached(threads.journal.committed()).await;
    http.set_ready(true);
    tracing::info!(
        listen = %front.listen,
        http = %http.address,
        data_dir = %config.data_dir.display(),
        %lineage,
        "collector is ready"
    );
    let failed = {
        // One future for all rounds: what it has seen of the threads must not be lost.
        let mut failure = pin!(threads.failure());
        let mut look = tokio::time::interval(REVOKED_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.as_mut() => break None,
                _ = hangup.recv() => reloader.reload().await,
                _ = look.tick() => reloader.poll_revoked().await,
                error = failure.as_mut() => break Some(error),
            }
        }
    };
    http.set_ready(false);
    if let Some(error) = failed {
        // Nothing more can be made durable or folded; what is on the disk decides.
        return Err(error);
    }
    tracing::info!("stopping: what has arrived is made durable and folded");
    front.close(&config).await;
    threads.finish().await?;
    http.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// SIGTERM or SIGINT.
pub async fn termination() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
