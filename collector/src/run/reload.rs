//! SIGHUP: catalog, policy and certificates are read again. The list of revoked certificates is
//! read again by itself when it has changed.

use std::sync::Arc;

use quinn::Endpoint;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::config::{Config, TlsConfig};
use tollgate_collector_core::entry::{Digest, Entry, codec};
use tollgate_common::tls::Credentials;

use super::books::{BookRules, Books};
use super::catalogs::{Desk, Wish};
use super::front::Front;
use super::revoked::{Change, RevokedList};
use super::{Inputs, Reread, read_catalog, service};
use crate::receive::{self, Shared};

/// Who applies a catalog that nobody applied by name.
pub(super) const AUTHOR: &str = "the collector's configuration";

/// Reads again and puts in force what is right; what is broken is refused as a whole while
/// the old stays.
pub(super) struct Reloader {
    reread: Arc<Reread>,
    policy: Digest,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    catalogs: Arc<Desk>,
    tls: TlsConfig,
    /// The authority and the certificate in force.
    credentials: Arc<Credentials>,
    revoked: RevokedList,
    books: Arc<Books>,
}

impl Reloader {
    /// What is in force now.
    pub(super) fn new(
        reread: Arc<Reread>,
        config: &Config,
        inputs: &Inputs,
        front: &Front,
    ) -> Self {
        Self {
            reread,
            catalogs: Arc::clone(&front.catalogs),
            books: Arc::clone(&front.books),
            policy: config.policy.digest(),
            endpoint: front.endpoint.clone(),
            shared: Arc::clone(&front.shared),
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
            Ok(()) => tracing::info!(policy = %self.policy, "reloaded"),
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
            let catalog = read_catalog(&config).map_err(|error| error.to_string())?;
            let inputs = Inputs::read(&config).map_err(|error| error.to_string())?;
            Ok::<_, String>((config, catalog, inputs))
        });
        let (config, catalog, inputs) = read.await.map_err(|error| error.to_string())??;
        let server =
            receive::server_config(Arc::clone(&inputs.tls)).map_err(|error| error.to_string())?;

        let rules = self.catalogs.rules();
        self.catalogs.set_rules(config.catalog_rules.clone());
        if let Err(error) = self.take_folder(&catalog).await {
            self.catalogs.set_rules((*rules).clone());
            return Err(error);
        }
        let mut entries = Vec::new();
        if config.policy.digest() != self.policy {
            entries.push(Entry::Policy(config.policy.change()));
        }
        let encoded = entries
            .iter()
            .map(codec::encode)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        service::append(&self.shared.journal, encoded)
            .await
            .map_err(|error| error.to_string())?;
        if self.books.set_rules(BookRules::of(&config)) {
            tracing::info!("[approval] and [[issuer]] have changed and are in force");
        }
        // Only now: a batch that is judged by a policy stands behind it in the journal.
        self.policy = config.policy.digest();
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
    /// Applies the catalog folder where it is not in force, unless catalogs come by hand only.
    async fn take_folder(&self, catalog: &Catalog) -> Result<(), String> {
        let status = self.shared.fold.status().await;
        let status = status.map_err(|error| error.to_string())?;
        let digest = catalog.digest().to_string();
        if status.catalog.as_ref() == Some(&digest) {
            return Ok(());
        }
        if self.catalogs.rules().by_hand_only() {
            tracing::warn!(
                folder = digest,
                in_force = status.catalog,
                "the catalog folder is not what is in force, and a reload cannot sign or approve it; \
                 put it in force with `tollgate-collector catalog apply`"
            );
            return Ok(());
        }
        let wish = Wish {
            files: catalog.files().clone(),
            tenants: None,
            author: AUTHOR.to_owned(),
            reason: "reloaded with the configuration".to_owned(),
            signatures: Vec::new(),
        };
        self.catalogs.apply(wish).await.map(|_| ())
    }
}
