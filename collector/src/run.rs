//! The collector as a whole: opens what it needs in the right order, runs until it is told
//! to stop or something fails, and closes in the opposite order.
//!
//! ```text
//! lock ─► HTTP (not ready) ─► journal, projection, snapshot ─► replay
//!      ─► journal thread, fold thread ─► figures, policy, catalog journaled
//!      ─► QUIC, admin socket ─► ready
//! ```

mod data_dir;
mod inputs;
mod reload;
mod service;
mod start;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::codec::EncodeError;
use tollgate_collector_core::journal::JournalError;
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::receive::SessionConfig;

use crate::fold::{self, FoldError, FoldThread, Snapshots};
use crate::journal::{self, JournalStopped, JournalThread, RemoteJournal};
use crate::metrics::Metrics;
use crate::receive::{self, ListenError, Shared};
use crate::serve::ReaderPool;
use crate::serve::admin::{self, AdminError};
use crate::serve::http::{self, HttpState};

pub use data_dir::{DataDir, DataDirError};
pub use inputs::{InputError, Inputs};
use reload::Reloader;
use service::Service;
use start::Started;

/// How long HTTP requests under way may take at the end.
const HTTP_FAREWELL: Duration = Duration::from_secs(3);

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
    /// It was told to stop before it was ready.
    #[error("stopped before the journal was replayed")]
    Interrupted,
}

impl From<JournalStopped> for RunError {
    fn from(stopped: JournalStopped) -> Self {
        Self::Journal(JournalError::Io(stopped.to_string()))
    }
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
    let _lock = data.lock()?;
    let metrics = Arc::new(Metrics::new());
    let ready = Arc::new(AtomicBool::new(false));
    let mut hangup = signal(SignalKind::hangup()).map_err(|source| RunError::System {
        what: "cannot handle SIGHUP",
        source,
    })?;

    let http_listener = TcpListener::bind(config.http)
        .await
        .map_err(|source| RunError::Http {
            address: config.http,
            source,
        })?;
    let http_address = http_listener.local_addr().unwrap_or(config.http);
    warn_if_public(http_address);

    let (fold_handle, questions) = fold::handle::channel();
    let (http_stop, http_stopped) = oneshot::channel::<()>();
    let state = HttpState {
        readers: ReaderPool::new(data.projection()),
        fold: fold_handle.clone(),
        metrics: Arc::clone(&metrics),
        ready: Arc::clone(&ready),
    };
    let http = tokio::spawn(http::serve(http_listener, state, async {
        let _ = http_stopped.await;
    }));

    let started = start::start(&config, &data, &inputs, &metrics, shutdown.as_mut()).await?;
    let Started {
        engine,
        group,
        announce,
        lineage,
    } = started;
    let JournalThread {
        handle: journal,
        wake,
        thread,
    } = journal::spawn(group, PARTITION, Arc::clone(&metrics)).map_err(|source| {
        RunError::System {
            what: "cannot start the journal thread",
            source,
        }
    })?;
    let mut journal_end = watch_thread("journal", thread);
    let snapshots =
        Snapshots::spawn(data.snapshots()?, Arc::clone(&metrics)).map_err(|source| {
            RunError::System {
                what: "cannot start the snapshot thread",
                source,
            }
        })?;
    let parts = fold::Parts {
        engine,
        snapshots,
        remote: RemoteJournal::new(journal.clone(), PARTITION),
        journal: journal.clone(),
        wake,
        metrics: Arc::clone(&metrics),
    };
    let FoldThread {
        stop: fold_stop,
        thread,
    } = fold::spawn(parts, questions).map_err(|source| RunError::System {
        what: "cannot start the fold thread",
        source,
    })?;
    let mut fold_end = watch_thread("fold", thread);
    service::append(&journal, announce).await?;

    let session = SessionConfig {
        lineage,
        window_batches: config.receive.window_batches,
        window_bytes: config.receive.window_bytes,
        hello_timeout_millis: config.receive.hello_timeout_millis,
    };
    let policy = Arc::new(config.policy.clone());
    let shared = Arc::new(Shared::new(
        Arc::clone(&metrics),
        journal.clone(),
        fold_handle.clone(),
        session,
        policy,
    ));
    let endpoint = receive::bind(config.listen, Arc::clone(&inputs.tls))?;
    let listen = endpoint.local_addr().unwrap_or(config.listen);
    let (stop, stop_seen) = watch::channel(false);
    let mut listener = tokio::spawn(receive::serve(
        endpoint.clone(),
        Arc::clone(&shared),
        stop_seen.clone(),
    ));
    let service = Service {
        fold: fold_handle.clone(),
        journal: journal.clone(),
        metrics: Arc::clone(&metrics),
        ready: Arc::clone(&ready),
        listen,
        http: http_address,
    };
    let admin_listener = admin::bind(&config.admin_socket)?;
    tokio::spawn(admin::serve(
        admin_listener,
        Arc::new(service),
        stop_seen.clone(),
    ));
    let mut reloader = Reloader::new(reread, &config, &inputs, endpoint, Arc::clone(&shared));

    fold_handle.reached(journal.committed()).await.ok();
    ready.store(true, Ordering::Release);
    metrics.ready.set(1);
    tracing::info!(%listen, http = %http_address, data_dir = %config.data_dir.display(), %lineage, "collector is ready");

    let failed = loop {
        tokio::select! {
            () = shutdown.as_mut() => break None,
            _ = hangup.recv() => reloader.reload().await,
            ended = &mut journal_end => break Some(ended_early("journal", ended, RunError::Journal)),
            ended = &mut fold_end => break Some(ended_early("fold", ended, RunError::Fold)),
        }
    };
    ready.store(false, Ordering::Release);
    metrics.ready.set(0);
    // Nobody can turn it off again, and sessions that are gone need not hear it.
    let _ = stop.send(true);
    let _ = std::fs::remove_file(&config.admin_socket);
    if let Some(error) = failed {
        // Nothing more can be made durable or folded; what is on the disk decides.
        return Err(error);
    }
    tracing::info!("stopping: what has arrived is made durable and folded");
    let _ = (&mut listener).await;
    let _ = fold_stop.send(());
    fold_end
        .await
        .map_err(|_| RunError::Panicked("fold"))?
        .map_err(RunError::Fold)?;
    journal.stop();
    journal_end
        .await
        .map_err(|_| RunError::Panicked("journal"))?
        .map_err(RunError::Journal)?;
    let _ = http_stop.send(());
    let _ = timeout(HTTP_FAREWELL, http).await;
    tracing::info!("stopped");
    Ok(())
}

/// The end of a thread as something to wait for. A panic closes the channel.
fn watch_thread<E: Send + 'static>(
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

fn warn_if_public(http: SocketAddr) {
    if !http.ip().is_loopback() {
        tracing::warn!(%http, "HTTP is served beyond this host, without TLS and without authentication");
    }
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
