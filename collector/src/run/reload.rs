//! SIGHUP: catalog, policy and certificates are read again. So are certificates when the list
//! of revoked ones has changed.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use quinn::Endpoint;
use tollgate_collector_core::config::{Config, TlsConfig};
use tollgate_collector_core::entry::{Digest, Entry, codec};

use super::inputs::read_tls;
use super::start::catalog_entry;
use super::{Inputs, Reread, service};
use crate::receive::{self, Shared};

/// Reads again and puts in force what is right; what is broken is refused as a whole while
/// the old stays.
pub(super) struct Reloader {
    reread: Arc<Reread>,
    catalog: Digest,
    policy: Digest,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    tls: TlsConfig,
    /// How the list of revoked certificates looked when it was read last.
    crl: Option<Looks>,
}

/// When a file was changed, and how long it is.
type Looks = (Option<SystemTime>, u64);

fn looks(tls: &TlsConfig) -> Option<Looks> {
    let metadata = fs::metadata(tls.crl.as_ref()?).ok()?;
    Some((metadata.modified().ok(), metadata.len()))
}

impl Reloader {
    /// What is in force now.
    pub(super) fn new(
        reread: Arc<Reread>,
        config: &Config,
        inputs: &Inputs,
        endpoint: Endpoint,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            reread,
            catalog: inputs.catalog.digest(),
            policy: config.policy.digest(),
            endpoint,
            shared,
            crl: looks(&config.tls),
            tls: config.tls.clone(),
        }
    }

    /// Reads certificates again if the list of revoked ones has changed. A list that is broken or
    /// gone changes nothing, and is reported once.
    pub(super) async fn poll_revoked(&mut self) {
        if self.tls.crl.is_none() {
            return;
        }
        let tls = self.tls.clone();
        let known = self.crl;
        let read = tokio::task::spawn_blocking(move || {
            let found = looks(&tls);
            (found != known).then(|| (found, read_tls(&tls).map_err(|error| error.to_string())))
        });
        let Ok(Some((found, read))) = read.await else {
            return;
        };
        self.crl = found;
        let server = read.and_then(|(_, gate, config)| {
            let server = receive::server_config(config).map_err(|error| error.to_string())?;
            Ok((gate, server))
        });
        match server {
            Ok((gate, server)) => {
                self.endpoint.set_server_config(Some(server));
                self.shared.set_gate(gate);
                tracing::info!("list of revoked certificates changed; certificates are read again");
            }
            Err(error) => {
                self.shared.metrics.reload_failures.inc();
                tracing::error!(
                    error,
                    "list of revoked certificates refused; what was in force stays in force"
                );
            }
        }
    }

    /// Reloads; errors are logged and counted.
    pub(super) async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => tracing::info!(catalog = %self.catalog, policy = %self.policy, "reloaded"),
            Err(error) => {
                self.shared.metrics.reload_failures.inc();
                tracing::error!(error, "reload refused; what was in force stays in force");
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), String> {
        let reread = Arc::clone(&self.reread);
        let read = tokio::task::spawn_blocking(move || {
            let config = reread()?;
            // Before it is read, so that a change meanwhile is seen.
            let crl = looks(&config.tls);
            let inputs = Inputs::read(&config).map_err(|error| error.to_string())?;
            Ok::<_, String>((config, inputs, crl))
        });
        let (config, inputs, crl) = read.await.map_err(|error| error.to_string())??;
        let server =
            receive::server_config(Arc::clone(&inputs.tls)).map_err(|error| error.to_string())?;

        let mut entries = Vec::new();
        if config.policy.digest() != self.policy {
            entries.push(Entry::Policy(config.policy.change()));
        }
        if inputs.catalog.digest() != self.catalog {
            entries.push(catalog_entry(&inputs));
        }
        let encoded = entries
            .iter()
            .map(codec::encode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        service::append(&self.shared.journal, encoded)
            .await
            .map_err(|error| error.to_string())?;
        // Only now: a batch that is judged by a policy stands behind it in the journal.
        self.policy = config.policy.digest();
        self.catalog = inputs.catalog.digest();
        self.shared.set_policy(Arc::new(config.policy));
        // Connections that are open keep the collector's certificate that they were made with; the
        // agent's is looked at again.
        self.endpoint.set_server_config(Some(server));
        self.shared.set_gate(inputs.gate);
        (self.tls, self.crl) = (config.tls, crl);
        Ok(())
    }
}
