//! SIGHUP: catalog, policy and certificates are read again.

use std::sync::Arc;

use quinn::Endpoint;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::{Digest, Entry, codec};

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
            let inputs = Inputs::read(&config).map_err(|error| error.to_string())?;
            Ok::<_, String>((config, inputs))
        });
        let (config, inputs) = read.await.map_err(|error| error.to_string())??;
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
        // Connections that are open keep the certificates that they were made with.
        self.endpoint.set_server_config(Some(server));
        Ok(())
    }
}
