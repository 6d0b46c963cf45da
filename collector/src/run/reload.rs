//! SIGHUP: catalog, policy and certificates are read again. The list of revoked certificates is
//! read again by itself when it has changed.

use std::sync::Arc;

use quinn::Endpoint;
use tollgate_collector_core::config::{Config, TlsConfig};
use tollgate_collector_core::entry::{Digest, Entry, codec};
use tollgate_common::tls::Credentials;

use super::revoked::{Change, RevokedList};
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
    /// The authority and the certificate in force.
    credentials: Arc<Credentials>,
    revoked: RevokedList,
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
            tls: config.tls.clone(),
            credentials: Arc::clone(&inputs.credentials),
            revoked: RevokedList::new(inputs.crl),
        }
    }

    /// Reads the list of revoked certificates again if it has changed. One that is broken or
    /// gone changes nothing, is reported once, and is tried again the next time.
    pub(super) async fn poll_revoked(&mut self) {
        if self.tls.crl.is_none() {
            return;
        }
        let (tls, credentials) = (self.tls.clone(), Arc::clone(&self.credentials));
        let mut revoked = self.revoked.clone();
        let read = tokio::task::spawn_blocking(move || {
            let change = revoked.poll(&tls, &credentials);
            (revoked, change)
        });
        let Ok((revoked, change)) = read.await else {
            return;
        };
        self.revoked = revoked;
        match change {
            Some(Change::Taken(gate, server)) => {
                self.endpoint.set_server_config(Some(server));
                self.shared.set_gate(gate);
                tracing::info!("the list of revoked certificates has changed and is in force");
            }
            Some(Change::Refused { why, is_known }) if !is_known => {
                self.shared.metrics.reload_failures.inc();
                tracing::error!(
                    error = why,
                    "list of revoked certificates refused; what was in force stays in force"
                );
            }
            Some(Change::Refused { .. }) | None => {}
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
        // Connections that are open keep the collector's certificate that they were made with; the
        // agent's is looked at again.
        self.endpoint.set_server_config(Some(server));
        self.shared.set_gate(inputs.gate);
        self.tls = config.tls;
        self.credentials = inputs.credentials;
        self.revoked = RevokedList::new(inputs.crl);
        Ok(())
    }
}
