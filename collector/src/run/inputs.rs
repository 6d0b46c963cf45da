//! What the configuration refers to: the catalog and the certificates.

use std::path::PathBuf;
use std::sync::Arc;

use tollgate_collector_core::catalog::{Catalog, CatalogErrors};
use tollgate_collector_core::config::{Config, TlsConfig};
use tollgate_common::tls::{self, ClientGate, Credentials, Pem, TlsError};

use super::revoked::{Looks, looks};
use crate::catalog_dir::{self, CatalogDirError};

/// What is wrong with the catalog or the certificates.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The catalog folder cannot be read.
    #[error("catalog: {0}")]
    CatalogDir(#[from] CatalogDirError),
    /// The catalog is wrong.
    #[error("{dir}: {errors}")]
    Catalog {
        /// The catalog folder.
        dir: PathBuf,
        /// The mistakes.
        errors: CatalogErrors,
        /// The files, for showing the places.
        files: std::collections::BTreeMap<String, String>,
    },
    /// A certificate or key is wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The TLS configuration, checked.
#[derive(Clone)]
pub struct Inputs {
    /// The listener's side of TLS.
    pub tls: Arc<rustls::ServerConfig>,
    /// Which certificates of agents it admits.
    pub gate: ClientGate,
    /// The files that it was made of.
    pub credentials: Arc<Credentials>,
    /// How the list of revoked certificates looked just before it was read.
    pub(super) crl: Option<Looks>,
}

impl Inputs {
    /// Reads and checks the certificates that `config` refers to.
    pub fn read(config: &Config) -> Result<Self, InputError> {
        let crl = looks(&config.tls);
        let (credentials, gate, tls) = read_tls(&config.tls)?;
        Ok(Self {
            tls,
            gate,
            credentials: Arc::new(credentials),
            crl,
        })
    }
}

/// Reads and checks certificates and revocation lists.
fn read_tls(
    tls: &TlsConfig,
) -> Result<(Credentials, ClientGate, Arc<rustls::ServerConfig>), TlsError> {
    let credentials = Credentials::read(&tls.ca, &tls.certificate, &tls.key)?;
    let crl = tls.crl.as_deref().map(Pem::read).transpose()?;
    let gate = ClientGate::new(&credentials.ca, crl.as_ref())?;
    let config = tls::server_config_with(&credentials, &gate)?;
    Ok((credentials, gate, config))
}

/// Reads and checks the catalog folder.
pub fn read_catalog(config: &Config) -> Result<Catalog, InputError> {
    let files = catalog_dir::read(&config.catalog)?;
    Catalog::parse(&files).map_err(|errors| InputError::Catalog {
        dir: config.catalog.clone(),
        errors,
        files,
    })
}
