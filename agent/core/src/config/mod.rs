//! Configuration of the agent: TOML text in, checked values or errors with their place out.
//!
//! Two steps: `raw` says which keys there are and of which type, `check` turns them into
//! values that keep their rules and reports every mistake at once, not only the first.
//! Unknown keys are mistakes. No file is opened here.

mod check;
mod error;
mod raw;

pub use error::{ConfigError, ConfigErrors};

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use tollgate_common::limits::{CONFIG_BYTES_MAX, SOCKET_PATH_BYTES_MAX};
use tollgate_common::{AgentId, MeterName, TenantId, WindowWidth};

use crate::aggregate::SeriesLimits;
use crate::attribute::{Attributor, Glob, Meter, Rule};
use crate::ship::{EndpointOrder, EndpointsConfig, ShipConfig};
use crate::spool::{SpoolConfig, SyncPolicy};

/// Most meters.
pub const METERS_MAX: usize = 10_000;
/// Most rules.
pub const RULES_MAX: usize = 10_000;
/// Most UDP sockets of the DogStatsD input.
pub const UDP_SOCKETS_MAX: u16 = 32;
/// Most collectors.
pub const ENDPOINTS_MAX: usize = 16;
/// Most series of the host.
pub const SERIES_MAX: u32 = crate::aggregate::SERIES_MAX;
/// Where metrics are shown unless the configuration says otherwise: the port that OpenTelemetry
/// registered for Prometheus exporters.
pub const METRICS_PORT: u16 = 9464;

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The agent's name; its certificate carries the same.
    pub agent: AgentId,
    /// Where cells and spool live.
    pub state_dir: PathBuf,
    /// How long a window is.
    pub window: WindowWidth,
    /// How long a stopping agent tries to ship what it has.
    pub stop_deadline: Duration,
    /// The admin socket; `None` for `admin.sock` in the state directory.
    pub admin_socket: Option<PathBuf>,
    /// Most bytes of memory in the worst case; an agent that may need more does not start.
    pub memory_max: Option<u64>,
    /// Who may use the admin socket besides owner and root.
    pub admin: Admin,
    /// Where metrics and health are shown; `None` for nowhere.
    pub metrics: Option<Metrics>,
    /// Whom it ships to.
    pub collector: Collector,
    /// Bounds of the spool.
    pub spool: Spool,
    /// Bounds of the cells.
    pub limits: Limits,
    /// What can be measured.
    pub meters: BTreeMap<MeterName, Meter>,
    /// Where counts come from.
    pub inputs: Inputs,
    /// Whose they are; the first match decides.
    pub rules: Vec<Rule>,
}

/// Who may use the admin socket besides the agent's own user and root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Name or number of a group whose members may read: status, top, tap.
    pub group: Option<String>,
    /// True if they may also count, which is to write bills.
    pub group_may_count: bool,
}

/// Metrics and health over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// A loopback address, unless the configuration allows another in so many words.
    pub listen: SocketAddr,
}

/// Whom the agent ships to, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Addresses; at least one.
    pub endpoints: Vec<Endpoint>,
    /// How they relate.
    pub order: EndpointOrder,
    /// After how long an endpoint that is not the first is left again, if a better one
    /// answers; zero for never.
    pub prefer_after: Duration,
    /// The name that a collector's certificate must have, where the endpoint names none;
    /// `None` for the endpoint's host.
    pub server_name: Option<String>,
    /// Most bytes per second that are written to a collector.
    pub bandwidth_max: Option<NonZeroU64>,
    /// How far this host's clock may be from the collector's before status and log warn.
    pub clock_warn: Duration,
    /// PEM file of the authority that signed the collector's certificate.
    pub ca: PathBuf,
    /// PEM file of the agent's certificate.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// The address of a collector: `host:port`, resolved when it is dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    server_name: Option<String>,
}

impl Endpoint {
    /// A name or an IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name that its certificate must have, if it is given for this endpoint.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }
}

/// Not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `host:port`")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::new(address.ip().to_string(), address.port());
        }
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(EndpointError);
        }
        Self::new(host.to_owned(), port.parse().map_err(|_| EndpointError)?)
    }
}

impl Endpoint {
    fn new(host: String, port: u16) -> Result<Self, EndpointError> {
        if port == 0 {
            return Err(EndpointError);
        }
        Ok(Self {
            host,
            port,
            server_name: None,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Bounds of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// Size of one segment file.
    pub segment_bytes: u64,
    /// A window's seal leaves so many bytes of the file system free.
    pub free_min: u64,
    /// What a power cut may take.
    pub sync: SyncPolicy,
}

impl From<Spool> for SpoolConfig {
    fn from(spool: Spool) -> Self {
        Self {
            segment_bytes: spool.segment_bytes,
            bytes_max: spool.bytes_max,
            free_min: spool.free_min,
            sync: spool.sync,
        }
    }
}

/// Bounds of the cells. A series beyond one of them loses its dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most series of all inputs together, 1 to [`SERIES_MAX`].
    pub series_max: u32,
    /// Most series of one tenant; `None` for no other limit than that of the host.
    pub series_per_tenant: Option<u32>,
    /// Most bytes of a series' key: tenant, meter, names and values of its dimensions.
    pub key_bytes: u32,
    /// Most dimensions of a series.
    pub dimensions_max: u32,
    /// After how long a series that nobody counts on gives its room to others; `None` for
    /// never.
    pub idle_series: Option<Duration>,
    /// Bytes of each input thread for what does not fit into a sum: last values, maxima, levels,
    /// distributions and sets; `None` for as many as the number of series lets expect.
    pub wide_bytes: Option<u64>,
}

impl From<Limits> for SeriesLimits {
    fn from(limits: Limits) -> Self {
        Self {
            series_max: limits.series_max,
            series_per_tenant: limits.series_per_tenant.unwrap_or(u32::MAX),
            key_bytes: limits.key_bytes,
            dimensions: limits.dimensions_max,
            idle_millis: limits.idle_series.map_or(i64::MAX, |idle| {
                i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)
            }),
            wide_bytes: limits.wide_bytes,
        }
    }
}

/// Where counts come from. The admin socket is always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// DogStatsD sockets.
    pub dogstatsd: Option<Dogstatsd>,
    /// The kernel's interface counters.
    pub interfaces: Option<Interfaces>,
    /// Applications that count in process.
    pub sdk: Option<Sdk>,
}

/// Applications that count in process and hand over their pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sdk {
    /// The Unix stream socket.
    pub socket: PathBuf,
    /// The mode of the socket's file: who can connect at all.
    pub mode: u32,
    /// Most pages at a time.
    pub pages_max: u32,
    /// Largest page, in bytes.
    pub page_bytes_max: u64,
    /// Most bytes of all pages together.
    pub pages_bytes_max: u64,
    /// Who may count for whom; the first entry that fits a peer decides, and a peer that fits
    /// none is refused.
    pub allow: Vec<SdkAllow>,
}

/// For whom a peer may count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdkAllow {
    /// Only peers with this user id.
    pub uid: Option<u32>,
    /// Only peers with this group id.
    pub gid: Option<u32>,
    /// For these tenants.
    pub tenants: SdkTenants,
    /// Only these meters; all that are declared if there is none.
    pub meters: Vec<Glob>,
}

/// The tenants of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdkTenants {
    /// Whatever it says, its counts are this tenant's.
    Fixed(TenantId),
    /// The one that it names, if a pattern fits.
    Patterns(Vec<Glob>),
}

/// DogStatsD sockets, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dogstatsd {
    /// A loopback address, or any other if the configuration allows remote senders.
    pub udp: Option<SocketAddr>,
    /// UDP sockets that share the address, 1 to [`UDP_SOCKETS_MAX`]; each has a thread and a
    /// writer of its own.
    pub udp_sockets: u16,
    /// A Unix datagram socket.
    pub unix: Option<PathBuf>,
    /// A Unix stream socket.
    pub unix_stream: Option<PathBuf>,
    /// Permissions of both socket files.
    pub unix_mode: u32,
    /// Bytes that the kernel is asked to queue for each socket.
    pub receive_buffer: u32,
    /// Bytes in which each thread remembers the lines that it has seen.
    pub cache_bytes: usize,
}

/// The kernel's interface counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// How often they are read.
    pub interval: Duration,
    /// Interfaces that are not metered at all.
    pub exclude: Vec<Glob>,
}

impl Collector {
    /// The name that the certificate of an endpoint must have.
    pub fn server_name_of<'a>(&'a self, endpoint: &'a Endpoint) -> &'a str {
        endpoint
            .server_name()
            .or(self.server_name.as_deref())
            .unwrap_or(endpoint.host())
    }

    /// How the agent ships to it.
    pub fn ship_config(&self) -> ShipConfig {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        ShipConfig {
            endpoints: EndpointsConfig {
                names: self.endpoints.iter().map(Endpoint::to_string).collect(),
                order: self.order,
                prefer_after_millis: millis(self.prefer_after),
                ..EndpointsConfig::default()
            },
            clock_warn_millis: millis(self.clock_warn),
            ..ShipConfig::default()
        }
    }
}

impl Config {
    /// The same with every relative path below `base`, the folder of the configuration file.
    #[must_use]
    pub fn resolved(mut self, base: &Path) -> Self {
        let collector = &mut self.collector;
        let sockets = self
            .inputs
            .dogstatsd
            .iter_mut()
            .flat_map(|d| d.unix.iter_mut().chain(&mut d.unix_stream));
        let pages = self.inputs.sdk.iter_mut().map(|sdk| &mut sdk.socket);
        let paths = [
            &mut self.state_dir,
            &mut collector.ca,
            &mut collector.certificate,
            &mut collector.key,
        ];
        for path in paths
            .into_iter()
            .chain(&mut self.admin_socket)
            .chain(sockets)
            .chain(pages)
        {
            *path = base.join(&path);
        }
        self
    }

    /// Where the admin socket is.
    pub fn admin_socket_path(&self) -> PathBuf {
        match &self.admin_socket {
            Some(path) => path.clone(),
            None => self.state_dir.join("admin.sock"),
        }
    }

    /// What decides whose a count is.
    pub fn attributor(&self) -> Attributor {
        Attributor::new(self.meters.clone(), self.rules.clone())
    }
}

/// Reads and checks a configuration.
///
/// Never panics, whatever the text is.
pub fn parse(text: &str) -> Result<Config, ConfigErrors> {
    if text.len() > CONFIG_BYTES_MAX {
        let message = format!(
            "configuration has {} bytes, more than the {CONFIG_BYTES_MAX} allowed",
            text.len()
        );
        let error = ConfigError {
            span: 0..0,
            line: 1,
            column: 1,
            key: String::new(),
            message,
            expected: None,
        };
        return Err(ConfigErrors::new(vec![error]));
    }
    let root: raw::Root =
        toml::from_str(text).map_err(|e| ConfigErrors::new(vec![error::from_toml(text, &e)]))?;
    check::Checker::new(text).root(root)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod rules_doc_tests;
