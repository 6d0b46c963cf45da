//! The collector's configuration: a TOML text, checked.
//!
//! Unknown keys are refused, and every mistake is reported with its place and with what was
//! expected, not only the first. Paths are relative to the folder of the file.

mod books;
mod catalog;
mod raw;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tollgate_common::limits::SEGMENT_BYTES_MIN;
use tollgate_common::log::{LogConfig, SEGMENT_BYTES_MAX};
use tollgate_common::mistakes::{InText, Mistakes};
use tollgate_common::{Lineage, TenantId, WindowWidth};

pub use books::{Approval, IssuerRule};

use crate::entry::{Opened, PublicKey};
use crate::policy::Policy;
use crate::receive::WINDOW_BATCHES_MAX;

/// Most tenant partitions.
pub const PARTITIONS_MAX: u16 = 256;
/// Most connections of agents that can be allowed.
pub const CONNECTIONS_MAX: u32 = 1 << 16;

/// Files of the collector's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificates of the authority that signs agents, PEM.
    pub ca: PathBuf,
    /// The collector's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// What the authority has revoked: certificate revocation lists, PEM.
    pub crl: Option<PathBuf>,
}

/// Figures of the fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldConfig {
    /// Tenant partitions, 1 to [`PARTITIONS_MAX`]; fixed once the journal has begun.
    pub partitions: u16,
    /// How long after its end a period waits for agents, in milliseconds.
    pub settlement_millis: i64,
    /// How far a watermark may run ahead of the collector's clock, in milliseconds.
    pub future_tolerance_millis: i64,
    /// Width of the windows in which usage is kept for queries.
    pub usage_window: WindowWidth,
}

/// How many agents are served at a time, and what one of them may have on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// Connections at a time, handshakes included, 1 to [`CONNECTIONS_MAX`].
    pub connections_max: u32,
    /// Batches without acknowledgement, 1 to [`WINDOW_BATCHES_MAX`].
    pub window_batches: u32,
    /// Bytes without acknowledgement.
    pub window_bytes: u64,
    /// How long the hello may take, in milliseconds.
    pub hello_timeout_millis: i64,
}

/// Who may change prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogRules {
    /// True if a catalog is applied only with a signature by one of `trusted_keys`.
    pub require_signature: bool,
    /// Whose signatures count, by name.
    pub trusted_keys: BTreeMap<String, PublicKey>,
    /// True if a catalog waits until somebody else than its author approves it.
    pub second_person: bool,
}

impl CatalogRules {
    /// True if catalogs come by `catalog apply` only: no start and no reload can sign or approve.
    pub const fn by_hand_only(&self) -> bool {
        self.require_signature || self.second_person
    }
}

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where journal, snapshots and projections live.
    pub data_dir: PathBuf,
    /// Where agents connect, by QUIC.
    pub listen: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// True if that may be an address that other hosts can reach.
    pub http_allow_remote: bool,
    /// The folder of the catalog.
    pub catalog: PathBuf,
    /// Who may change prices.
    pub catalog_rules: CatalogRules,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Certificates.
    pub tls: TlsConfig,
    /// Bounds of the journal.
    pub journal: LogConfig,
    /// Figures of the fold.
    pub fold: FoldConfig,
    /// Bounds of a connection.
    pub receive: ReceiveConfig,
    /// What agents may report.
    pub policy: Policy,
    /// Who issues documents, in the order in which they are tried.
    pub issuers: Vec<IssuerRule>,
    /// What needs a second person.
    pub approval: Approval,
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key with its table, such as `fold.partitions`; empty where there is none.
    pub key: String,
    /// What is wrong and what was expected.
    pub message: String,
    /// The place in the text, in bytes.
    pub span: Range<usize>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl InText for ConfigError {
    fn start(&self) -> usize {
        self.span.start
    }
}

/// All mistakes that were found in a configuration.
pub type ConfigErrors = Mistakes<ConfigError>;

/// HTTP is served beyond this host although nobody has said that it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a loopback address, and HTTP shows what every customer uses and owes, without \
     encryption or authentication (expected 127.0.0.1 or [::1], or http_allow_remote = true)"
)]
pub struct RemoteHttp(std::net::IpAddr);

/// Refuses an address that other hosts can reach unless that is `allowed`.
pub fn check_http(http: SocketAddr, allowed: bool) -> Result<(), RemoteHttp> {
    if allowed || http.ip().is_loopback() {
        Ok(())
    } else {
        Err(RemoteHttp(http.ip()))
    }
}

impl ConfigError {
    fn new(file: &Path, text: &str, span: Range<usize>, message: String) -> Self {
        let start = floor_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key: key_at(text, start),
            message,
            span: start..floor_boundary(text, span.end).max(start),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The key of the line that holds `at`, behind the name of its table.
fn key_at(text: &str, at: usize) -> String {
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let name = |line: &str| line.trim().trim_matches(['[', ']']).trim().to_owned();
    if line.trim_start().starts_with('[') {
        return name(line);
    }
    let table = text[..line_start].lines().rev().find(|line| {
        let line = line.trim_start();
        line.starts_with('[') && !line.contains('=') && !line.contains('"')
    });
    let key = line.split_once('=').map_or("", |(key, _)| key.trim());
    match (table, key) {
        (None, key) => key.to_owned(),
        (Some(table), "") => name(table),
        (Some(table), key) => format!("{}.{key}", name(table)),
    }
}

impl Config {
    /// Checks `text`, the content of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigErrors> {
        raw::parse(text, file)
    }

    /// Who issues documents to a tenant: the first whose patterns match.
    pub fn issuer_of(&self, tenant: &TenantId) -> Option<&IssuerRule> {
        let mut issuers = self.issuers.iter();
        issuers.find(|rule| {
            let mut tenants = rule.tenants.iter();
            tenants.any(|pattern| pattern.matches(tenant.as_str()))
        })
    }

    /// The figures that the journal has to know, for a journal of this lineage.
    pub fn opened(&self, lineage: Lineage) -> Opened {
        Opened {
            lineage,
            partitions: self.fold.partitions,
            usage_window_secs: self.fold.usage_window.secs(),
            settlement_millis: self.fold.settlement_millis,
            future_tolerance_millis: self.fold.future_tolerance_millis,
        }
    }
}

const _: () = assert!(SEGMENT_BYTES_MIN <= SEGMENT_BYTES_MAX);
const _: () = assert!(WINDOW_BATCHES_MAX >= 1);

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
