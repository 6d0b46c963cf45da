//! From the text to checked values.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use tollgate_common::limits::SEGMENT_BYTES_MIN;
use tollgate_common::log::{LogConfig, SEGMENT_BYTES_MAX};
use tollgate_common::{AgentId, WindowWidth};
use toml::Spanned;

use super::books::{self, RawApproval, RawIssuer};
use super::catalog::{self, RawCatalog};
use super::{Config, ConfigError, FoldConfig, PARTITIONS_MAX, ReceiveConfig, TlsConfig};
use crate::policy::{PATTERNS_MAX, Pattern, Policy, Rule};
use crate::receive::WINDOW_BATCHES_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    data_dir: Spanned<String>,
    listen: Spanned<String>,
    #[serde(default = "default_http")]
    http: Spanned<String>,
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

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        ConfigError::new(file, text, span, error.message().to_owned())
    })?;
    let check = Check {
        text,
        file,
        folder: file.parent().unwrap_or_else(|| Path::new("")),
    };
    let data_dir = check.path(&raw.data_dir)?;
    let admin_socket = match &raw.admin_socket {
        Some(path) => check.path(path)?,
        None => data_dir.join("admin.sock"),
    };
    let (catalog, catalog_rules) = catalog::check(&check, raw.catalog)?;
    Ok(Config {
        admin_socket,
        catalog,
        catalog_rules,
        listen: check.address(&raw.listen)?,
        http: check.address(&raw.http)?,
        tls: TlsConfig {
            ca: check.path(&raw.tls.ca)?,
            certificate: check.path(&raw.tls.certificate)?,
            key: check.path(&raw.tls.key)?,
            crl: raw
                .tls
                .crl
                .as_ref()
                .map(|crl| check.path(crl))
                .transpose()?,
        },
        journal: check.journal(&raw.journal)?,
        fold: check.fold(&raw.fold)?,
        receive: check.receive(&raw.receive)?,
        policy: check.policy(&raw.agent)?,
        issuers: books::issuers(&check, &raw.issuer)?,
        approval: raw.approval.into(),
        data_dir,
    })
}

pub(super) struct Check<'a> {
    text: &'a str,
    file: &'a Path,
    folder: &'a Path,
}

impl Check<'_> {
    pub(super) fn error<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Result<T, ConfigError> {
        Err(ConfigError::new(self.file, self.text, span, message.into()))
    }

    pub(super) fn path(&self, path: &Spanned<String>) -> Result<std::path::PathBuf, ConfigError> {
        if path.get_ref().is_empty() {
            return self.error(
                path.span(),
                "the path is empty (expected a path, relative to the folder of this file)",
            );
        }
        Ok(self.folder.join(path.get_ref()))
    }

    fn address(&self, address: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
        match address.get_ref().parse() {
            Ok(address) => Ok(address),
            Err(_) => self.error(
                address.span(),
                format!("{:?} is no socket address (expected for example \"127.0.0.1:7430\" or \"[::1]:7430\")", address.get_ref()),
            ),
        }
    }

    pub(super) fn number(
        &self,
        number: Option<&Spanned<i64>>,
        default: i64,
        range: Range<i64>,
    ) -> Result<i64, ConfigError> {
        let Some(number) = number else {
            return Ok(default);
        };
        let value = *number.get_ref();
        if range.contains(&value) {
            return Ok(value);
        }
        self.error(
            number.span(),
            format!(
                "{value} is out of range (expected {} to {})",
                range.start,
                range.end - 1
            ),
        )
    }

    pub(super) fn millis(
        &self,
        text: Option<&Spanned<String>>,
        default: i64,
    ) -> Result<i64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        match duration_millis(text.get_ref()) {
            Some(millis) => Ok(millis),
            None => self.error(
                text.span(),
                format!("{:?} is no duration (expected for example \"500ms\", \"10s\", \"5m\", \"24h\" or \"7d\", at most 366 days)", text.get_ref()),
            ),
        }
    }

    fn bytes(
        &self,
        text: Option<&Spanned<String>>,
        default: u64,
        range: Range<u64>,
    ) -> Result<u64, ConfigError> {
        let Some(text) = text else { return Ok(default) };
        let Some(bytes) = size_bytes(text.get_ref()) else {
            return self.error(
                text.span(),
                format!("{:?} is no size (expected for example \"65536\", \"64KiB\", \"8MiB\" or \"1GiB\")", text.get_ref()),
            );
        };
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        self.error(
            text.span(),
            format!(
                "{bytes} bytes are out of range (expected {} to {} bytes)",
                range.start,
                range.end - 1
            ),
        )
    }

    fn journal(&self, raw: &RawJournal) -> Result<LogConfig, ConfigError> {
        let segment_bytes = self.bytes(
            raw.segment_bytes.as_ref(),
            64 << 20,
            SEGMENT_BYTES_MIN..SEGMENT_BYTES_MAX + 1,
        )?;
        let bytes_max = self.bytes(raw.bytes_max.as_ref(), 1 << 50, segment_bytes..u64::MAX)?;
        Ok(LogConfig {
            segment_bytes,
            bytes_max,
        })
    }

    fn fold(&self, raw: &RawFold) -> Result<FoldConfig, ConfigError> {
        let partitions =
            self.number(raw.partitions.as_ref(), 4, 1..i64::from(PARTITIONS_MAX) + 1)?;
        let usage_window = match &raw.usage_window {
            None => 60_000,
            Some(text) => self.millis(Some(text), 0)?,
        };
        let span = raw.usage_window.as_ref().map_or(0..0, Spanned::span);
        let width = u32::try_from(usage_window / 1000)
            .ok()
            .filter(|_| usage_window % 1000 == 0);
        let Some(usage_window) = width.and_then(|secs| WindowWidth::from_secs(secs).ok()) else {
            return self.error(span, "the width of a window divides 900 seconds (expected for example \"10s\", \"1m\" or \"15m\")");
        };
        Ok(FoldConfig {
            partitions: u16::try_from(partitions).unwrap_or(PARTITIONS_MAX),
            settlement_millis: self.millis(raw.settlement.as_ref(), 24 * 3_600_000)?,
            future_tolerance_millis: self.millis(raw.future_tolerance.as_ref(), 5 * 60_000)?,
            usage_window,
        })
    }

    fn receive(&self, raw: &RawReceive) -> Result<ReceiveConfig, ConfigError> {
        let window = self.number(
            raw.window_batches.as_ref(),
            64,
            1..i64::from(WINDOW_BATCHES_MAX) + 1,
        )?;
        Ok(ReceiveConfig {
            window_batches: u32::try_from(window).unwrap_or(WINDOW_BATCHES_MAX),
            window_bytes: self.bytes(raw.window_bytes.as_ref(), 32 << 20, 1..(1 << 30) + 1)?,
            hello_timeout_millis: self.millis(raw.hello_timeout.as_ref(), 10_000)?,
        })
    }

    fn policy(&self, agents: &[Spanned<RawAgent>]) -> Result<Policy, ConfigError> {
        let mut names = BTreeSet::new();
        let mut rules = Vec::new();
        for agent in agents {
            let raw = agent.get_ref();
            let name = self.pattern(&raw.name)?;
            if name.is_exact() && AgentId::new(name.as_str()).is_err() {
                return self.error(raw.name.span(), format!("`{name}` is no name of an agent (expected a name as in its certificate, at most 128 bytes, without a leading underscore)"));
            }
            if !names.insert(name.clone()) {
                return self.error(
                    raw.name.span(),
                    format!("a second entry for `{name}` (expected one [[agent]] per name)"),
                );
            }
            rules.push(Rule {
                name,
                tenants: self.patterns(&raw.tenants)?,
                meters: self.patterns(&raw.meters)?,
            });
        }
        let span = agents.first().map_or(0..0, Spanned::span);
        Policy::new(rules).or_else(|error| self.error(span, error.to_string()))
    }

    pub(super) fn patterns(
        &self,
        list: &Spanned<Vec<Spanned<String>>>,
    ) -> Result<Vec<Pattern>, ConfigError> {
        if list.get_ref().len() > PATTERNS_MAX {
            return self.error(list.span(), format!("more than {PATTERNS_MAX} patterns"));
        }
        list.get_ref()
            .iter()
            .map(|text| self.pattern(text))
            .collect()
    }

    pub(super) fn pattern(&self, text: &Spanned<String>) -> Result<Pattern, ConfigError> {
        Pattern::new(text.get_ref()).or_else(|error| self.error(text.span(), error.to_string()))
    }
}

/// `500ms`, `10s`, `5m`, `24h`, `7d`; at most 366 days.
fn duration_millis(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = text[..digits].parse::<i64>().ok()?.checked_mul(unit)?;
    (millis <= 366 * 86_400_000).then_some(millis)
}

/// A number of bytes, with `KiB`, `MiB`, `GiB` or `TiB` behind it or nothing.
fn size_bytes(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}
