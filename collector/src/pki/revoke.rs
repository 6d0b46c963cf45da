//! Revoking certificates: `revoked.txt` remembers them, `crl.pem` tells the collector.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams, SerialNumber,
};
use tollgate_common::AgentId;
use tollgate_common::tls::{self, Pem};

use super::{Authority, CA_DAYS, PkiError, seconds, stem_of, write};

/// File name of the list of revoked certificates, signed by the authority.
pub const CRL: &str = "crl.pem";
/// File name of what that list is made of: a line with serial number and second since 1970 each.
pub const REVOKED: &str = "revoked.txt";

/// What was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number in hexadecimal, bytes separated by colons.
    pub serial: String,
    /// Certificates in the list, this one included.
    pub revoked: usize,
    /// The files written.
    pub files: Vec<PathBuf>,
}

/// Which certificate is revoked.
fn certificate_of(dir: &Path, agent: Option<&AgentId>, file: Option<&Path>) -> PathBuf {
    match (agent, file) {
        (_, Some(file)) => file.to_owned(),
        (Some(agent), None) => dir.join(format!("{}.pem", stem_of(agent))),
        (None, None) => dir.to_owned(),
    }
}

/// Revokes an agent's certificate with the authority in `dir`: that in `file`, or `NAME.pem` of the
/// folder. It must be the agent's where one is given. What was revoked before stays so; once
/// more changes nothing.
pub fn revoke(
    dir: &Path,
    agent: Option<&AgentId>,
    file: Option<&Path>,
) -> Result<Revoked, PkiError> {
    let path = certificate_of(dir, agent, file);
    let unclear = |reason: String| PkiError::Revoked {
        path: path.clone(),
        reason,
    };
    let pem = Pem::read(&path).map_err(|error| unclear(error.to_string()))?;
    if let Some(agent) = agent {
        // Names of files do not tell `a/b` from `a_b`, and a list of revoked ones only grows.
        check_owner(&pem, agent).map_err(unclear)?;
    }
    let info = pem.certificate_info();
    let serial = info.map_err(|error| unclear(error.to_string()))?.serial;
    let mut known = read(&dir.join(REVOKED))?;
    if !known.iter().any(|(known, _)| *known == serial) {
        known.push((serial.clone(), seconds(SystemTime::now())));
    }
    let list = Authority::load(dir)?.revocation_list(&known)?;
    let mut text = String::new();
    for (serial, at) in &known {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{serial} {at}");
    }
    // In this order: what the list names is remembered.
    let files = vec![
        write(&dir.join(REVOKED), &text)?,
        write(&dir.join(CRL), &list)?,
    ];
    Ok(Revoked {
        serial,
        revoked: known.len(),
        files,
    })
}

/// Refuses a certificate that is not the agent's.
fn check_owner(pem: &Pem, agent: &AgentId) -> Result<(), String> {
    let certificates = pem.certificates().map_err(|error| error.to_string())?;
    let first = certificates.first().map_or(&[][..], AsRef::as_ref);
    match tls::agent_identity(first) {
        Ok(owner) if owner == *agent => Ok(()),
        Ok(owner) => Err(format!(
            "this is the certificate of agent `{owner}`, not of `{agent}`; \
             say with --certificate which file has the one to revoke"
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn read(path: &Path) -> Result<Vec<(String, u64)>, PkiError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            let path = path.to_owned();
            return Err(PkiError::File { path, source });
        }
        Ok(text) => text,
    };
    let line = |line: &str| {
        let (serial, at) = line.split_once(' ')?;
        bytes_of(serial)?;
        Some((serial.to_owned(), at.parse().ok()?))
    };
    let mut known = Vec::new();
    for (number, text) in (1_usize..).zip(text.lines()) {
        known.push(line(text).ok_or_else(|| PkiError::Revoked {
            path: path.to_owned(),
            reason: format!("line {number}: expected a serial number such as `0a:1b` and a second"),
        })?);
    }
    Ok(known)
}

/// The bytes of a serial number in hexadecimal with colons.
fn bytes_of(serial: &str) -> Option<Vec<u8>> {
    let byte = |pair| u8::from_str_radix(pair, 16).ok();
    serial.split(':').map(byte).collect()
}

impl Authority {
    /// The signed list of these serial numbers, with the seconds at which they were revoked; PEM.
    fn revocation_list(&self, revoked: &[(String, u64)]) -> Result<String, PkiError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = seconds(SystemTime::now());
        let one = |(serial, at): &(String, u64)| RevokedCertParams {
            serial_number: SerialNumber::from(bytes_of(serial).unwrap_or_default()),
            revocation_time: epoch + Duration::from_secs(*at),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: epoch + Duration::from_secs(now),
            next_update: epoch + Duration::from_secs(now) + Duration::from_hours(24) * CA_DAYS,
            crl_number: SerialNumber::from(now),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, &self.key)?;
        Ok(params.signed_by(&issuer)?.pem()?)
    }
}
