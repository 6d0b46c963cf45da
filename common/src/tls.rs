//! TLS for both sides: version 1.3, certificates on both sides, and who a certificate names.
//!
//! An agent is known by the one URI name of its certificate, `tollgate://agent/NAME`; the
//! collector by the server name that the agent is configured with. The crypto provider is
//! ring, named explicitly: nothing depends on a default of the process. There is no session
//! resumption and no early data, because a resumed session would skip the check of the
//! client's certificate.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ids::{AgentId, NameError};
use crate::time::Timestamp;
use crate::wire::ALPN;

/// What the URI name of an agent's certificate begins with.
pub const AGENT_URI_PREFIX: &str = "tollgate://agent/";
const URI_SCHEME: &str = "tollgate://";
/// Largest PEM file that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is far larger than certificates are.
    #[error("{file} is larger than {PEM_BYTES_MAX} bytes, which is no PEM file of certificates")]
    TooLarge {
        /// Which file.
        file: String,
    },
    /// A file is not PEM.
    #[error("{file} is not valid PEM: {source}")]
    Pem {
        /// Which file.
        file: String,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{file} holds no certificate (expected a `BEGIN CERTIFICATE` section)")]
    NoCertificate {
        /// Which file.
        file: String,
    },
    /// A file holds no private key.
    #[error("{file} holds no private key (expected a `BEGIN PRIVATE KEY` section)")]
    NoKey {
        /// Which file.
        file: String,
    },
    /// A certificate of an authority cannot be used.
    #[error("{file} holds a certificate that cannot serve as authority: {source}")]
    Authority {
        /// Which file.
        file: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file holds no certificate revocation list that can be used.
    #[error("{file} holds no usable certificate revocation list: {why}")]
    RevocationList {
        /// Which file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not fit, or cannot be used.
    #[error("certificate {certificate} and key {key} cannot be used together: {source}")]
    Identity {
        /// File of the certificate.
        certificate: String,
        /// File of the key.
        key: String,
        /// Why.
        source: rustls::Error,
    },
    /// The crypto provider lacks TLS 1.3.
    #[error("TLS 1.3 is not available: {0}")]
    Provider(rustls::Error),
    /// A certificate cannot be parsed.
    #[error("{file}: {source}")]
    Certificate {
        /// Which file.
        file: String,
        /// Why.
        source: IdentityError,
    },
}

/// Why a certificate does not tell who its owner is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("certificate is malformed: {0}")]
    Malformed(String),
    /// No URI name of Tollgate.
    #[error("certificate has no URI name `{AGENT_URI_PREFIX}NAME`")]
    Missing,
    /// More than one URI name of Tollgate.
    #[error("certificate has {0} URI names of Tollgate (expected exactly one)")]
    Several(usize),
    /// A URI name of Tollgate, but not of an agent.
    #[error("certificate has the URI name `{0}` (expected `{AGENT_URI_PREFIX}NAME`)")]
    NotAnAgent(String),
    /// The URI name names no valid agent.
    #[error("URI name of the certificate names no agent: {0}")]
    Name(#[from] NameError),
}

/// Text in PEM, and the file that errors name.
pub struct Pem {
    file: String,
    bytes: Vec<u8>,
}

impl Pem {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let file = path.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(path)
            .and_then(|opened| opened.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Err(source) => Err(TlsError::Read { file, source }),
            Ok(length) if length as u64 > PEM_BYTES_MAX => Err(TlsError::TooLarge { file }),
            Ok(_) => Ok(Self { file, bytes }),
        }
    }

    /// Takes text that is in memory; `origin` stands for the file in errors.
    pub fn new(origin: &str, text: &str) -> Self {
        Self {
            file: origin.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    /// The certificates in the order of the file; at least one.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match certificates {
            Err(source) => Err(TlsError::Pem {
                file: self.file.clone(),
                source,
            }),
            Ok(none) if none.is_empty() => Err(TlsError::NoCertificate {
                file: self.file.clone(),
            }),
            Ok(certificates) => Ok(certificates),
        }
    }

    /// The first private key.
    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|source| {
            let file = self.file.clone();
            match source {
                pem::Error::NoItemsFound => TlsError::NoKey { file },
                source => TlsError::Pem { file, source },
            }
        })
    }

    /// What the first certificate says about itself.
    pub fn certificate_info(&self) -> Result<CertificateInfo, TlsError> {
        let certificates = self.certificates()?;
        let first = certificates.first().map_or(&[][..], AsRef::as_ref);
        CertificateInfo::of(first).map_err(|source| TlsError::Certificate {
            file: self.file.clone(),
            source,
        })
    }

    /// The certificate revocation lists in the order of the file; at least one.
    fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&self.bytes).collect();
        match lists {
            Err(source) => Err(TlsError::Pem {
                file: self.file.clone(),
                source,
            }),
            Ok(none) if none.is_empty() => Err(TlsError::RevocationList {
                file: self.file.clone(),
                why: "expected a `BEGIN X509 CRL` section".to_owned(),
            }),
            Ok(lists) => Ok(lists),
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots
                .add(certificate)
                .map_err(|source| self.authority_error(source))?;
        }
        Ok(roots)
    }

    fn authority_error(&self, source: impl std::error::Error + Send + Sync + 'static) -> TlsError {
        TlsError::Authority {
            file: self.file.clone(),
            source: Box::new(source),
        }
    }
}

/// The three files that each side needs.
pub struct Credentials {
    /// Certificates of the authorities that the other side's certificate must come from.
    pub ca: Pem,
    /// The own certificate, followed by intermediate ones if there are any.
    pub certificate: Pem,
    /// The own private key.
    pub key: Pem,
}

impl Credentials {
    /// Reads the three files.
    pub fn read(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            ca: Pem::read(ca)?,
            certificate: Pem::read(certificate)?,
            key: Pem::read(key)?,
        })
    }

    fn identity_error(&self, source: rustls::Error) -> TlsError {
        TlsError::Identity {
            certificate: self.certificate.file.clone(),
            key: self.key.file.clone(),
            source,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The agent's side: trusts the authority, shows its certificate.
pub fn client_config(credentials: &Credentials) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_root_certificates(credentials.ca.roots()?)
        .with_client_auth_cert(
            credentials.certificate.certificates()?,
            credentials.key.key()?,
        )
        .map_err(|source| credentials.identity_error(source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// Which certificates a collector admits: those of the authority, but for what it has revoked.
#[derive(Clone, Debug)]
pub struct ClientGate(Arc<dyn ClientCertVerifier>);

impl ClientGate {
    /// Admits certificates of the authorities in `ca`, but for those that the revocation lists in
    /// `crl` name. A list counts as long as it stands there, whatever it says of its own end; an
    /// authority that has none has revoked nothing.
    pub fn new(ca: &Pem, crl: Option<&Pem>) -> Result<Self, TlsError> {
        let roots = Arc::new(ca.roots()?);
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        if let Some(crl) = crl {
            builder = builder
                .with_crls(crl.revocation_lists()?)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        let verifier = builder.build().map_err(|source| match (&source, crl) {
            (VerifierBuilderError::InvalidCrl(_), Some(crl)) => TlsError::RevocationList {
                file: crl.file.clone(),
                why: source.to_string(),
            },
            _ => ca.authority_error(source),
        })?;
        Ok(Self(verifier))
    }

    /// Whether a client with this chain, its own certificate first, may be connected at this time.
    pub fn admits(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<(), rustls::Error> {
        let (leaf, intermediates) = chain
            .split_first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        let now = Duration::from_millis(u64::try_from(now.millis()).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(now);
        self.0.verify_client_cert(leaf, intermediates, now)?;
        Ok(())
    }
}

/// The collector's side: shows its certificate, demands one of the authority.
pub fn server_config(credentials: &Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(credentials, &ClientGate::new(&credentials.ca, None)?)
}

/// The collector's side: shows its certificate, demands one that the gate admits.
pub fn server_config_with(
    credentials: &Credentials,
    gate: &ClientGate,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = Arc::clone(&gate.0);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            credentials.certificate.certificates()?,
            credentials.key.key()?,
        )
        .map_err(|source| credentials.identity_error(source))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(IdentityError::Malformed(format!(
            "{} bytes follow it",
            rest.len()
        ))),
        Err(error) => Err(IdentityError::Malformed(error.to_string())),
    }
}

/// The agent that a certificate names, from its DER bytes. The certificate must have been
/// verified by the handshake; this only reads it.
///
/// Among the URI names exactly one may be of the scheme `tollgate`; others are ignored.
pub fn agent_identity(der: &[u8]) -> Result<AgentId, IdentityError> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Malformed(error.to_string()))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(URI_SCHEME) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [] => Err(IdentityError::Missing),
        [uri] => match uri.strip_prefix(AGENT_URI_PREFIX) {
            Some(name) => Ok(AgentId::new(name)?),
            None => Err(IdentityError::NotAnAgent(uri.to_owned())),
        },
        _ => Err(IdentityError::Several(uris.len())),
    }
}

/// What a certificate says about itself, for logs, metrics and revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Serial number in hexadecimal, bytes separated by colons.
    pub serial: String,
    /// Subject, as distinguished name.
    pub subject: String,
    /// Not valid before this instant.
    pub not_before: Timestamp,
    /// Not valid after this instant.
    pub not_after: Timestamp,
}

impl CertificateInfo {
    /// Reads a certificate from its DER bytes.
    pub fn of(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            serial: certificate.raw_serial_as_string(),
            subject: certificate.subject().to_string(),
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
        })
    }

    /// Seconds until the certificate expires; negative once it has.
    pub const fn expires_in_secs(&self, now: Timestamp) -> i64 {
        self.not_after.secs() - now.secs()
    }
}

#[cfg(test)]
mod tests;
