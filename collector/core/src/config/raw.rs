//! From the text to checked values: every mistake is collected, not only the first.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tollgate_common::limits::{SEGMENT_BYTES_MIN, SOCKET_PATH_BYTES_MAX};
use tollgate_common::log::{LogConfig, SEGMENT_BYTES_MAX};
use tollgate_common::units::{DURATION_FORM, SIZE_FORM, parse_duration, parse_size};
use tollgate_common::{AgentId, WindowWidth};
use toml::Spanned;

use super::books::{self, RawApproval, RawIssuer};
use super::catalog::{self, RawCatalog};
use super::{
    CONNECTIONS_MAX, Config, ConfigError, ConfigErrors, FoldConfig, PARTITIONS_MAX, ReceiveConfig,
    TlsConfig,
};
use crate::policy::{PATTERNS_MAX, Pattern, Policy, Rule};
use crate::receive::WINDOW_BATCHES_MAX;

const DAY_MILLIS: i64 = 86_400_000;
/// Longest duration, in milliseconds.
const DURATION_MILLIS_MAX: i64 = 366 * DAY_MILLIS;
const SETTLEMENT_MILLIS: i64 = DAY_MILLIS;
const FUTURE_TOLERANCE_MILLIS: i64 = 5 * 60_000;
const USAGE_WINDOW_MILLIS: i64 = 60_000;
const HELLO_TIMEOUT_MILLIS: i64 = 10_000;
const SEGMENT_BYTES: u64 = 64 << 20;
const JOURNAL_BYTES_MAX: u64 = 1 << 50;
const WINDOW_BYTES: u64 = 32 << 20;
const WINDOW_BYTES_MAX: u64 = 1 << 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    data_dir: Spanned<String>,
    listen: Spanned<String>,
    #[serde(default = "default_http")]
    http: Spanned<String>,
    #[serde(default)]
    http_allow_remote: bool,
    catalog: Option<Spanned<RawCatalog>>,
    admin_socket: Option<Spanned<String>>,
    tls: RawTls,
    #[serde(default)]
    journal: RawJournal,
    #[serde(default)]
    fold: RawFold,
    #[serde(default)]
    receive: RawReceive,
    #[serde(default)]
    agent: Vec<Spanned<RawAgent>>,
    #[serde(default)]
    issuer: Vec<RawIssuer>,
    #[serde(default)]
    approval: RawApproval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    ca: Spanned<String>,
    certificate: Spanned<String>,
    key: Spanned<String>,
    crl: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJournal {
    segment_bytes: Option<Spanned<String>>,
    bytes_max: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFold {
    partitions: Option<Spanned<i64>>,
    settlement: Option<Spanned<String>>,
    future_tolerance: Option<Spanned<String>>,
    usage_window: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReceive {
    connections_max: Option<Spanned<i64>>,
    window_batches: Option<Spanned<i64>>,
    window_bytes: Option<Spanned<String>>,
    hello_timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    name: Spanned<String>,
    tenants: Spanned<Vec<Spanned<String>>>,
    meters: Spanned<Vec<Spanned<String>>>,
}

fn default_http() -> Spanned<String> {
    Spanned::new(0..0, "127.0.0.1:7431".to_owned())
}

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigErrors> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let error = ConfigError::new(file, text, span, error.message().to_owned());
        ConfigErrors::new(vec![error])
    })?;
    let mut check = Check {
        text,
        file,
        folder: file.parent().unwrap_or_else(|| Path::new("")),
        errors: Vec::new(),
    };
    let config = check.config(raw);
    match config {
        Some(config) if check.errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(check.errors)),
    }
}

/// Collects the mistakes while values are checked. What returns `None` has reported why.
pub(super) struct Check<'a> {
    text: &'a str,
    file: &'a Path,
    folder: &'a Path,
    errors: Vec<ConfigError>,
}

impl Check<'_> {
    /// Everything is looked at before anything is given up.
    fn config(&mut self, raw: Raw) -> Option<Config> {
        let data_dir = self.path(&raw.data_dir);
        let admin_socket = match &raw.admin_socket {
            Some(path) => self.socket_path(path),
            None => data_dir.as_ref().map(|data| data.join("admin.sock")),
        };
        let catalog = catalog::check(self, raw.catalog);
        let listen = self.address(&raw.listen);
        let http = self.http(&raw.http, raw.http_allow_remote);
        let tls = self.tls(&raw.tls);
        let journal = self.journal(&raw.journal);
        let fold = self.fold(&raw.fold);
        let receive = self.receive(&raw.receive);
        let policy = self.policy(&raw.agent);
        let issuers = books::issuers(self, &raw.issuer);
        let (catalog, catalog_rules) = catalog?;
        Some(Config {
            data_dir: data_dir?,
            admin_socket: admin_socket?,
            catalog,
            catalog_rules,
            listen: listen?,
            http: http?,
            http_allow_remote: raw.http_allow_remote,
            tls: tls?,
            journal: journal?,
            fold: fold?,
            receive: receive?,
            policy: policy?,
            issuers,
            approval: raw.approval.into(),
        })
    }

    pub(super) fn report(&mut self, span: Range<usize>, message: impl Into<String>) {
        let error = ConfigError::new(self.file, self.text, span, message.into());
        self.errors.push(error);
    }

    /// Reports, and has no value.
    fn none<T>(&mut self, span: Range<usize>, message: impl Into<String>) -> Option<T> {
        self.report(span, message);
        None
    }

    fn ok<T, E: fmt::Display>(&mut self, span: Range<usize>, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.report(span, error.to_string()))
            .ok()
    }

    pub(super) fn path(&mut self, path: &Spanned<String>) -> Option<PathBuf> {
        if path.get_ref().is_empty() || path.get_ref().contains('\0') {
            let what = if path.get_ref().is_empty() {
                "the path is empty"
            } else {
                "no path has a zero byte"
            };
            let message = format!("{what} (expected a path, relative to the folder of this file)");
            return self.none(path.span(), message);
        }
        Some(self.folder.join(path.get_ref()))
    }

    fn socket_path(&mut self, path: &Spanned<String>) -> Option<PathBuf> {
        let bytes = path.get_ref().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            let message = format!(
                "the path has {bytes} bytes (expected at most {SOCKET_PATH_BYTES_MAX}, as Unix sockets allow)"
            );
            return self.none(path.span(), message);
        }
        self.path(path)
    }

    fn tls(&mut self, raw: &RawTls) -> Option<TlsConfig> {
        let ca = self.path(&raw.ca);
        let certificate = self.path(&raw.certificate);
        let key = self.path(&raw.key);
        let crl = raw.crl.as_ref().map(|crl| self.path(crl));
        Some(TlsConfig {
            ca: ca?,
            certificate: certificate?,
            key: key?,
            crl: match crl {
                Some(crl) => Some(crl?),
                None => None,
            },
        })
    }

    fn address(&mut self, address: &Spanned<String>) -> Option<SocketAddr> {
        let parsed = address.get_ref().parse().map_err(|_| {
            format!(
                "{:?} is no socket address (expected for example \"127.0.0.1:7430\" or \"[::1]:7430\")",
                address.get_ref()
            )
        });
        self.ok(address.span(), parsed)
    }

    /// HTTP shows what every customer uses and owes to whoever can connect.
    fn http(&mut self, address: &Spanned<String>, remote: bool) -> Option<SocketAddr> {
        let http = self.address(address)?;
        let allowed = super::check_http(http, remote).map(|()| http);
        self.ok(address.span(), allowed)
    }

    pub(super) fn number(
        &mut self,
        number: Option<&Spanned<i64>>,
        default: i64,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let Some(number) = number else {
            return Some(default);
        };
        let value = *number.get_ref();
        if range.contains(&value) {
            return Some(value);
        }
        let message = format!(
            "{value} is out of range (expected {} to {})",
            range.start(),
            range.end()
        );
        self.none(number.span(), message)
    }

    /// At most 366 days.
    pub(super) fn millis(&mut self, text: Option<&Spanned<String>>, default: i64) -> Option<i64> {
        let Some(text) = text else {
            return Some(default);
        };
        let duration = parse_duration(text.get_ref())
            .map_err(|error| format!("{error} (expected {DURATION_FORM})"));
        let duration = self.ok(text.span(), duration)?;
        let millis = i64::try_from(duration.as_millis()).ok();
        let millis = millis
            .filter(|millis| *millis <= DURATION_MILLIS_MAX)
            .ok_or_else(|| {
                format!(
                    "{} is out of range (expected at most 366 days)",
                    text.get_ref()
                )
            });
        self.ok(text.span(), millis)
    }

    fn bytes(
        &mut self,
        text: Option<&Spanned<String>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(text) = text else {
            return Some(default);
        };
        let size =
            parse_size(text.get_ref()).map_err(|error| format!("{error} (expected {SIZE_FORM})"));
        let bytes = self.ok(text.span(), size)?;
        if range.contains(&bytes) {
            return Some(bytes);
        }
        let message = format!(
            "{} is out of range (expected {} to {} bytes)",
            text.get_ref(),
            range.start(),
            range.end()
        );
        self.none(text.span(), message)
    }

    fn journal(&mut self, raw: &RawJournal) -> Option<LogConfig> {
        let segment_range = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        let segment_bytes = self.bytes(raw.segment_bytes.as_ref(), SEGMENT_BYTES, segment_range);
        let least = segment_bytes.unwrap_or(SEGMENT_BYTES_MIN);
        let bytes_max = self.bytes(
            raw.bytes_max.as_ref(),
            JOURNAL_BYTES_MAX,
            least..=u64::MAX - 1,
        );
        Some(LogConfig {
            segment_bytes: segment_bytes?,
            bytes_max: bytes_max?,
        })
    }

    fn fold(&mut self, raw: &RawFold) -> Option<FoldConfig> {
        let partitions = self.number(raw.partitions.as_ref(), 4, 1..=i64::from(PARTITIONS_MAX));
        let usage_window = self.usage_window(raw.usage_window.as_ref());
        let settlement = self.millis(raw.settlement.as_ref(), SETTLEMENT_MILLIS);
        let tolerance = self.millis(raw.future_tolerance.as_ref(), FUTURE_TOLERANCE_MILLIS);
        Some(FoldConfig {
            partitions: u16::try_from(partitions?).unwrap_or(PARTITIONS_MAX),
            settlement_millis: settlement?,
            future_tolerance_millis: tolerance?,
            usage_window: usage_window?,
        })
    }

    fn usage_window(&mut self, text: Option<&Spanned<String>>) -> Option<WindowWidth> {
        let millis = self.millis(text, USAGE_WINDOW_MILLIS)?;
        let width = u32::try_from(millis / 1000)
            .ok()
            .filter(|_| millis % 1000 == 0)
            .and_then(|secs| WindowWidth::from_secs(secs).ok());
        let width = width.ok_or(
            "the width of a window divides 900 seconds (expected for example \"10s\", \"1m\" or \"15m\")",
        );
        self.ok(text.map_or(0..0, Spanned::span), width)
    }

    fn receive(&mut self, raw: &RawReceive) -> Option<ReceiveConfig> {
        let connections = self.number(
            raw.connections_max.as_ref(),
            1024,
            1..=i64::from(CONNECTIONS_MAX),
        );
        let window = self.number(
            raw.window_batches.as_ref(),
            64,
            1..=i64::from(WINDOW_BATCHES_MAX),
        );
        let window_bytes = self.bytes(
            raw.window_bytes.as_ref(),
            WINDOW_BYTES,
            1..=WINDOW_BYTES_MAX,
        );
        let hello_timeout = self.millis(raw.hello_timeout.as_ref(), HELLO_TIMEOUT_MILLIS);
        Some(ReceiveConfig {
            connections_max: u32::try_from(connections?).unwrap_or(CONNECTIONS_MAX),
            window_batches: u32::try_from(window?).unwrap_or(WINDOW_BATCHES_MAX),
            window_bytes: window_bytes?,
            hello_timeout_millis: hello_timeout?,
        })
    }

    fn policy(&mut self, agents: &[Spanned<RawAgent>]) -> Option<Policy> {
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for agent in agents {
            rules.extend(self.rule(agent.get_ref(), &mut names));
        }
        let span = agents.first().map_or(0..0, Spanned::span);
        self.ok(span, Policy::new(rules))
    }

    fn rule(&mut self, raw: &RawAgent, names: &mut BTreeSet<Pattern>) -> Option<Rule> {
        let name = self.pattern(&raw.name);
        let tenants = self.patterns(&raw.tenants);
        let meters = self.patterns(&raw.meters);
        let name = name?;
        if name.is_exact() && AgentId::new(name.as_str()).is_err() {
            return self.none(raw.name.span(), format!("`{name}` is no name of an agent (expected a name as in its certificate, at most 128 bytes, without a leading underscore)"));
        }
        if !names.insert(name.clone()) {
            return self.none(
                raw.name.span(),
                format!("a second entry for `{name}` (expected one [[agent]] per name)"),
            );
        }
        Some(Rule {
            name,
            tenants: tenants?,
            meters: meters?,
        })
    }

    pub(super) fn patterns(
        &mut self,
        list: &Spanned<Vec<Spanned<String>>>,
    ) -> Option<Vec<Pattern>> {
        if list.get_ref().len() > PATTERNS_MAX {
            return self.none(list.span(), format!("more than {PATTERNS_MAX} patterns"));
        }
        let patterns: Vec<_> = list
            .get_ref()
            .iter()
            .map(|text| self.pattern(text))
            .collect();
        patterns.into_iter().collect()
    }

    pub(super) fn pattern(&mut self, text: &Spanned<String>) -> Option<Pattern> {
        self.ok(text.span(), Pattern::new(text.get_ref()))
    }
}
