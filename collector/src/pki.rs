//! A small certificate authority: enough to run agents and a collector without an existing
//! PKI, and to make certificates for tests.
//!
//! One folder holds everything:
//!
//! | file | what | mode |
//! | --- | --- | --- |
//! | `ca.pem`, `ca.key` | the authority | 0644, 0600 |
//! | `collector.pem`, `collector.key` | the collector's server certificate | 0644, 0600 |
//! | `NAME.pem`, `NAME.key` | an agent's client certificate | 0644, 0600 |
//! | `crl.pem`, `revoked.txt` | certificates that are revoked, for the collector and to be added to | 0644 |
//!
//! An agent is known by the URI name `tollgate://agent/NAME` in its certificate and by
//! nothing else. Keys are ECDSA P-256.

mod revoke;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tollgate_common::AgentId;

pub use revoke::{CRL, REVOKED, Revoked, revoke};

/// File name of the authority's certificate.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// File name of the authority's key.
pub const CA_KEY: &str = "ca.key";
/// File name of the collector's certificate.
pub const COLLECTOR_CERTIFICATE: &str = "collector.pem";
/// File name of the collector's key.
pub const COLLECTOR_KEY: &str = "collector.key";
/// Days that the authority is valid for by default: ten years.
pub const CA_DAYS: u32 = 3653;
/// Days that a certificate is valid for by default.
pub const LEAF_DAYS: u32 = 825;
/// A new certificate is valid from this long ago, so that a host whose clock is a little
/// behind accepts it.
const BACKDATE: Duration = Duration::from_hours(1);
/// Names of the authority's own files, which no agent may take.
const TAKEN: [&str; 3] = ["ca", "collector", "crl"];

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of this name exists and `force` was not given.
    #[error("{0} exists and is not overwritten (choose another folder or name, or say --force)")]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A name cannot stand in a certificate or as a file name.
    #[error("`{name}` cannot be used: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not say which certificate is revoked.
    #[error("{path}: {reason}")]
    Revoked {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Making or reading a certificate failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First valid instant, to the second.
    pub not_before: SystemTime,
    /// Last valid instant, to the second.
    pub not_after: SystemTime,
}

impl Validity {
    /// Valid for `days` from now on (and for an hour before, for clocks that are behind).
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        let span = Duration::from_hours(24).saturating_mul(days);
        Self {
            not_before: now.checked_sub(BACKDATE).unwrap_or(now),
            not_after: now.checked_add(span).unwrap_or(now),
        }
    }

    /// Over since an hour ago: for tests.
    pub fn expired() -> Self {
        let now = SystemTime::now();
        let ago = |hours| {
            now.checked_sub(Duration::from_hours(hours))
                .unwrap_or(UNIX_EPOCH)
        };
        Self {
            not_before: ago(48),
            not_after: ago(1),
        }
    }

    fn apply(self, params: &mut CertificateParams) {
        let since_epoch = |time: SystemTime| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds(time))
        };
        params.not_before = since_epoch(self.not_before);
        params.not_after = since_epoch(self.not_after);
    }
}

/// Whole seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A certificate and its private key, as PEM text.
#[derive(Clone, Debug)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority.
    pub fn generate(validity: Validity) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        validity.apply(&mut params);
        params
            .distinguished_name
            .push(DnType::CommonName, "Tollgate CA");
        // It signs agents and collectors, never another authority.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key })
    }

    /// The authority whose files are in `dir`.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let read = |name| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(|source| PkiError::File { path, source })
        };
        let key = KeyPair::from_pem(&read(CA_KEY)?)?;
        Ok(Self {
            certificate: read(CA_CERTIFICATE)?,
            key,
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A server certificate for a collector reached under these DNS names or IP addresses.
    pub fn collector(
        &self,
        names: &[String],
        validity: Validity,
    ) -> Result<KeyedCertificate, PkiError> {
        let params = CertificateParams::new(names.to_vec()).map_err(|error| PkiError::Name {
            name: names.join(", "),
            reason: error.to_string(),
        })?;
        self.sign(
            params,
            "tollgate-collector",
            ExtendedKeyUsagePurpose::ServerAuth,
            validity,
        )
    }

    /// A client certificate for an agent.
    pub fn agent(&self, agent: &AgentId, validity: Validity) -> Result<KeyedCertificate, PkiError> {
        let mut params = CertificateParams::default();
        let uri = format!("tollgate://agent/{agent}");
        let uri = uri
            .as_str()
            .try_into()
            .map_err(|error: rcgen::Error| PkiError::Name {
                name: agent.to_string(),
                reason: error.to_string(),
            })?;
        params.subject_alt_names.push(SanType::URI(uri));
        self.sign(
            params,
            agent.as_str(),
            ExtendedKeyUsagePurpose::ClientAuth,
            validity,
        )
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<KeyedCertificate, PkiError> {
        validity.apply(&mut params);
        // Common names are bounded to 64 characters (X.520); nothing reads them here.
        let short: String = common_name.chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, short);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)?;
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(KeyedCertificate {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

/// What `pki init` makes.
#[derive(Clone, Debug)]
pub struct Init {
    /// The folder; made if it does not exist.
    pub dir: PathBuf,
    /// DNS names and IP addresses under which agents reach the collector.
    pub names: Vec<String>,
    /// How long the collector's certificate is valid; the authority has [`CA_DAYS`] at least.
    pub days: u32,
    /// Whether existing files are replaced.
    pub force: bool,
}

/// Makes an authority and a collector certificate; returns the files written.
pub fn init(what: &Init) -> Result<Vec<PathBuf>, PkiError> {
    fs::create_dir_all(&what.dir).map_err(|source| PkiError::File {
        path: what.dir.clone(),
        source,
    })?;
    let names = [CA_CERTIFICATE, CA_KEY, COLLECTOR_CERTIFICATE, COLLECTOR_KEY];
    refuse_existing(&what.dir, &names, what.force)?;
    let authority = Authority::generate(Validity::days(CA_DAYS.max(what.days)))?;
    let collector = authority.collector(&what.names, Validity::days(what.days))?;
    let ca_key = authority.key.serialize_pem();
    let contents = [
        &authority.certificate,
        &ca_key,
        &collector.certificate,
        &collector.key,
    ];
    names
        .iter()
        .zip(contents)
        .map(|(name, content)| write(&what.dir.join(name), content))
        .collect()
}

/// Makes a certificate for an agent with the authority in `dir`; returns the files written.
pub fn issue(
    dir: &Path,
    agent: &AgentId,
    validity: Validity,
    force: bool,
) -> Result<Vec<PathBuf>, PkiError> {
    let stem = stem_of(agent);
    let hidden = stem.starts_with('.');
    if TAKEN.contains(&stem.as_str()) || hidden {
        let reason = if hidden {
            "its files would be hidden"
        } else {
            "the authority's own files have that name"
        };
        return Err(PkiError::Name {
            name: agent.to_string(),
            reason: reason.to_owned(),
        });
    }
    let names = [format!("{stem}.pem"), format!("{stem}.key")];
    refuse_existing(dir, &[&names[0], &names[1]], force)?;
    let issued = Authority::load(dir)?.agent(agent, validity)?;
    Ok(vec![
        write(&dir.join(&names[0]), &issued.certificate)?,
        write(&dir.join(&names[1]), &issued.key)?,
    ])
}

/// What the names of an agent's files begin with: `/` is allowed in its name and not in a file's.
fn stem_of(agent: &AgentId) -> String {
    agent.as_str().replace('/', "_")
}

fn refuse_existing(dir: &Path, names: &[&str], force: bool) -> Result<(), PkiError> {
    let existing = names
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.symlink_metadata().is_ok());
    match existing {
        Some(path) if !force => Err(PkiError::Exists(path)),
        _ => Ok(()),
    }
}

/// Writes a file whole or not at all: under another name first, then renamed. A key is
/// never readable by others, not even for a moment.
fn write(path: &Path, content: &str) -> Result<PathBuf, PkiError> {
    let is_key = path.extension().is_some_and(|extension| extension == "key");
    let mode = if is_key { 0o600 } else { 0o644 };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let attempt = || -> io::Result<()> {
        // A rest of an interrupted run would keep its mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn init_in(dir: &Path, force: bool) -> Result<Vec<PathBuf>, PkiError> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        init(&Init {
            dir: dir.to_owned(),
            names,
            days: 30,
            force,
        })
    }

    #[test]
    fn makes_an_authority_and_agents_with_private_keys() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pki = dir.path().join("pki");
        let mut files = init_in(&pki, false).expect("init");
        let agent = AgentId::new("edge-1").expect("valid");
        files.extend(issue(&pki, &agent, Validity::days(1), false).expect("issue"));
        assert_eq!(files.len(), 6);
        for file in files {
            let mode = fs::metadata(&file).expect("exists").permissions().mode() & 0o777;
            let expected = if file.extension().is_some_and(|e| e == "key") {
                0o600
            } else {
                0o644
            };
            assert_eq!(mode & !0o022, expected, "{}", file.display());
        }
    }

    #[test]
    fn overwrites_only_by_force() {
        let dir = tempfile::tempdir().expect("temporary folder");
        init_in(dir.path(), false).expect("first");
        let before = fs::read(dir.path().join(CA_KEY)).expect("key");
        assert!(matches!(
            init_in(dir.path(), false),
            Err(PkiError::Exists(_))
        ));
        assert_eq!(fs::read(dir.path().join(CA_KEY)).expect("key"), before);
        init_in(dir.path(), true).expect("forced");
        assert_ne!(fs::read(dir.path().join(CA_KEY)).expect("key"), before);

        let agent = AgentId::new("a").expect("valid");
        issue(dir.path(), &agent, Validity::days(1), false).expect("first");
        assert!(matches!(
            issue(dir.path(), &agent, Validity::days(1), false),
            Err(PkiError::Exists(_))
        ));
    }

    #[test]
    fn agents_cannot_take_the_authoritys_names_or_leave_the_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        init_in(dir.path(), false).expect("init");
        for name in ["ca", "collector", "..", "../x"] {
            let agent = AgentId::new(name).expect("a valid agent name");
            let result = issue(dir.path(), &agent, Validity::days(1), true);
            assert!(matches!(result, Err(PkiError::Name { .. })), "{name}");
        }
        let agent = AgentId::new("rack/7").expect("valid");
        let files = issue(dir.path(), &agent, Validity::days(1), false).expect("issue");
        assert_eq!(files[0], dir.path().join("rack_7.pem"));
    }

    #[test]
    fn a_missing_authority_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let agent = AgentId::new("a").expect("valid");
        let error = issue(dir.path(), &agent, Validity::days(1), false).expect_err("no authority");
        assert!(error.to_string().contains("ca.key"), "{error}");
    }
}
