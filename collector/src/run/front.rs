//! Everything that listens: HTTP from the beginning, agents and the admin socket once the
//! journal has been replayed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::Endpoint;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::receive::SessionConfig;
use tollgate_common::Lineage;

use super::books::Books;
use super::catalogs::Desk;
use super::service::Service;
use super::{DataDir, Inputs, RunError, thresholds};
use crate::fold::FoldHandle;
use crate::journal::JournalHandle;
use crate::metrics::Metrics;
use crate::receive::{self, Shared};
use crate::serve::ReaderPool;
use crate::serve::admin;
use crate::serve::http::{self, HttpState};

/// How long HTTP requests under way may take at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// The HTTP server.
pub(super) struct HttpServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    ready: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    /// Listens; not ready.
    pub(super) async fn open(
        config: &Config,
        data: &DataDir,
        metrics: &Arc<Metrics>,
        fold: &FoldHandle,
    ) -> Result<Self, RunError> {
        let failed = |source| RunError::Http {
            address: config.http,
            source,
        };
        let listener = TcpListener::bind(config.http).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "HTTP is served beyond this host, without TLS and without authentication");
        }
        let ready = Arc::new(AtomicBool::new(false));
        let state = HttpState {
            readers: ReaderPool::new(data.projection()),
            accruals: ReaderPool::new(data.accruals()),
            fold: fold.clone(),
            metrics: Arc::clone(metrics),
            ready: Arc::clone(&ready),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(http::serve(listener, state, async {
            // Also when the server is dropped.
            let _ = stopped.await;
        }));
        Ok(Self {
            address,
            ready,
            metrics: Arc::clone(metrics),
            stop,
            task,
        })
    }

    /// What `/readyz` says.
    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
        self.metrics.ready.set(i64::from(ready));
    }

    /// Answers what is under way and ends.
    pub(super) async fn close(self) {
        let _ = self.stop.send(());
        let _ = timeout(FAREWELL, self.task).await;
    }
}

/// The QUIC listener and the admin socket.
pub(super) struct Front {
    pub(super) endpoint: Endpoint,
    pub(super) shared: Arc<Shared>,
    /// Where agents connect.
    pub(super) listen: SocketAddr,
    /// Where catalogs are applied.
    pub(super) catalogs: Arc<Desk>,
    /// Where people keep the books.
    pub(super) books: Arc<Books>,
    stop: watch::Sender<bool>,
    listener: JoinHandle<()>,
}

impl Front {
    /// Opens both.
    pub(super) fn open(
        config: &Config,
        data: &DataDir,
        inputs: &Inputs,
        lineage: Lineage,
        journal: &JournalHandle,
        fold: FoldHandle,
        http: &HttpServer,
    ) -> Result<Self, RunError> {
        let session = SessionConfig {
            lineage,
            window_batches: config.receive.window_batches,
            window_bytes: config.receive.window_bytes,
            hello_timeout_millis: config.receive.hello_timeout_millis,
        };
        let metrics = Arc::clone(&http.metrics);
        let policy = Arc::new(config.policy.clone());
        let shared = Arc::new(Shared::new(
            metrics,
            journal.clone(),
            fold.clone(),
            session,
            policy,
            inputs.gate.clone(),
        ));
        let endpoint = receive::bind(config.listen, Arc::clone(&inputs.tls))?;
        let listen = endpoint.local_addr().unwrap_or(config.listen);
        let admin_listener = admin::bind(&config.admin_socket)?;
        let (stop, stop_seen) = watch::channel(false);
        let serving = receive::serve(
            endpoint.clone(),
            Arc::clone(&shared),
            config.receive.connections_max,
            stop_seen.clone(),
        );
        let catalogs = Arc::new(Desk::new(
            fold.clone(),
            journal.clone(),
            &data.projection(),
            config.catalog_rules.clone(),
        ));
        let books = Arc::new(Books::new(config, data, fold.clone(), journal.clone()));
        let service = Service {
            catalogs: Arc::clone(&catalogs),
            books: Arc::clone(&books),
            fold,
            metrics: Arc::clone(&http.metrics),
            ready: Arc::clone(&http.ready),
            listen,
            http: http.address,
        };
        let service = Arc::new(service);
        tokio::spawn(thresholds::serve(Arc::clone(&service), stop_seen.clone()));
        tokio::spawn(admin::serve(admin_listener, service, stop_seen));
        Ok(Self {
            endpoint,
            shared,
            listen,
            catalogs,
            books,
            stop,
            listener: tokio::spawn(serving),
        })
    }

    /// Stops listening and gives open connections their last acknowledgements.
    pub(super) async fn close(self, config: &Config) {
        // Sessions that are gone need not hear it.
        let _ = self.stop.send(true);
        if let Err(error) = std::fs::remove_file(&config.admin_socket) {
            tracing::debug!(%error, "admin socket not removed");
        }
        let _ = self.listener.await;
    }
}
