//! From what is written to what is right: every value is checked, every mistake reported.

mod dogstatsd;
mod limits;
mod operate;
mod rule;
mod sdk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use tollgate_common::limits::{SCALE_MAX, SEGMENT_BYTES_MIN, SOCKET_PATH_BYTES_MAX};
use tollgate_common::units::{
    DURATION_FORM, RATE_FORM, SIZE_FORM, parse_duration, parse_rate, parse_size,
};
use tollgate_common::{AgentId, Aggregation, MeterName, Scale, WindowWidth};
use toml::Spanned;

use super::error::{ConfigError, ConfigErrors, error_at};
use super::raw::{self, Text};
use super::{
    Collector, Config, ENDPOINTS_MAX, Endpoint, Inputs, Interfaces, METERS_MAX, RULES_MAX, Spool,
};
use crate::attribute::{Glob, Meter};
use crate::spool::SyncPolicy;

const STATE_DIR: &str = "/var/lib/tollgate-agent";
const WINDOW_SECS: u32 = 10;
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const PREFER_AFTER: Duration = Duration::from_mins(5);
const CLOCK_WARN: Duration = Duration::from_secs(2);
const BANDWIDTH_MIN: u64 = 1 << 10;
const SPOOL_BYTES_MAX: u64 = 1 << 30;
const SEGMENT_BYTES: u64 = 8 << 20;
const SPOOL_FREE_MIN: u64 = 64 << 20;
const SYNC_INTERVAL: Duration = Duration::from_secs(30);
/// Fewer segments than this would leave nothing to trim when the spool is full.
const SEGMENTS_MIN: u64 = 4;
const INTERVAL: Duration = Duration::from_secs(1);
const UNIT_BYTES_MAX: usize = 64;
/// A level times seconds has three decimal places more than the level.
const LEVEL_SCALE_MAX: u8 = SCALE_MAX - 3;

const NAME_FORM: &str = "ASCII letters, digits and . _ - / : @";

/// Collects the mistakes while values are checked.
pub(super) struct Checker<'a> {
    text: &'a str,
    errors: Vec<ConfigError>,
    /// Every meter's name, also of those with a mistake: a rule that names one is right.
    named: BTreeSet<MeterName>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            errors: Vec::new(),
            named: BTreeSet::new(),
        }
    }

    /// The checked configuration, or all mistakes.
    pub(super) fn root(mut self, root: raw::Root) -> Result<Config, ConfigErrors> {
        let agent = self.parsed::<AgentId>(&root.agent, NAME_FORM);
        let state_dir = match &root.state_dir {
            Some(path) => self.path(path),
            None => Some(PathBuf::from(STATE_DIR)),
        };
        let window = self.window(root.window.as_ref());
        let stop_deadline = self.duration(
            root.stop_deadline.as_ref(),
            STOP_DEADLINE,
            Duration::ZERO..=Duration::from_hours(1),
        );
        let admin_socket = root
            .admin_socket
            .as_ref()
            .map(|path| self.socket_path(path));
        let memory_max = root.memory_max.as_ref().map(|text| self.memory_max(text));
        let admin = self.admin(&root.admin);
        let metrics = root.metrics.as_ref().map(|raw| self.metrics(raw));
        let collector = self.collector(root.collector);
        let spool = self.spool(&root.spool);
        let limits = self.limits(&root.limits);
        let inputs = self.inputs(root.input);
        let meters = self.meters(root.meter);
        let rules = self.rules(root.rule);
        let config = (|| {
            Some(Config {
                agent: agent?,
                state_dir: state_dir?,
                window: window?,
                stop_deadline: stop_deadline?,
                admin_socket: match admin_socket {
                    Some(path) => Some(path?),
                    None => None,
                },
                memory_max: match memory_max {
                    Some(bytes) => Some(bytes?),
                    None => None,
                },
                admin: admin?,
                metrics: match metrics {
                    Some(metrics) => Some(metrics?),
                    None => None,
                },
                collector: collector?,
                spool: spool?,
                limits: limits?,
                meters,
                inputs: inputs?,
                rules,
            })
        })();
        match config {
            Some(config) if self.errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(self.errors)),
        }
    }

    fn report(&mut self, span: Range<usize>, message: impl fmt::Display, expected: &str) {
        let expected = (!expected.is_empty()).then(|| expected.to_owned());
        let error = error_at(self.text, span, message.to_string(), expected);
        self.errors.push(error);
    }

    fn ok<T, E: fmt::Display>(
        &mut self,
        span: Range<usize>,
        result: Result<T, E>,
        expected: &str,
    ) -> Option<T> {
        result
            .map_err(|error| self.report(span, error, expected))
            .ok()
    }

    fn parsed<T: std::str::FromStr<Err: fmt::Display>>(
        &mut self,
        text: &Text,
        expected: &str,
    ) -> Option<T> {
        self.ok(text.span(), text.get_ref().parse(), expected)
    }

    fn path(&mut self, text: &Text) -> Option<PathBuf> {
        if text.get_ref().is_empty() || text.get_ref().contains('\0') {
            self.report(text.span(), "not a path", "the path of a file");
            return None;
        }
        Some(PathBuf::from(text.get_ref()))
    }

    fn socket_path(&mut self, text: &Text) -> Option<PathBuf> {
        if text.get_ref().len() > SOCKET_PATH_BYTES_MAX {
            let message = format!("path has {} bytes", text.get_ref().len());
            let expected = format!("at most {SOCKET_PATH_BYTES_MAX}, as Unix sockets allow");
            self.report(text.span(), message, &expected);
            return None;
        }
        self.path(text)
    }

    fn duration(
        &mut self,
        text: Option<&Text>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let Some(text) = text else {
            return Some(default);
        };
        let duration = self.ok(text.span(), parse_duration(text.get_ref()), DURATION_FORM)?;
        if !range.contains(&duration) {
            let message = format!("{} is out of range", text.get_ref());
            let expected = format!("{:?} to {:?}", range.start(), range.end());
            self.report(text.span(), message, &expected);
            return None;
        }
        Some(duration)
    }

    fn size(
        &mut self,
        text: Option<&Text>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let Some(text) = text else {
            return Some(default);
        };
        let size = self.ok(text.span(), parse_size(text.get_ref()), SIZE_FORM)?;
        if !range.contains(&size) {
            let message = format!("{} is out of range", text.get_ref());
            let expected = format!("{} to {} bytes", range.start(), range.end());
            self.report(text.span(), message, &expected);
            return None;
        }
        Some(size)
    }

    fn window(&mut self, text: Option<&Text>) -> Option<WindowWidth> {
        let default = Duration::from_secs(u64::from(WINDOW_SECS));
        let range = Duration::from_secs(1)..=Duration::from_mins(15);
        let width = self.duration(text, default, range)?;
        let span = text.map(Spanned::span).unwrap_or_default();
        if width.subsec_nanos() != 0 {
            self.report(span, "window is not a whole number of seconds", "");
            return None;
        }
        let seconds = u32::try_from(width.as_secs()).unwrap_or(u32::MAX);
        self.ok(span, WindowWidth::from_secs(seconds), "")
    }

    fn collector(&mut self, raw: raw::Collector) -> Option<Collector> {
        let endpoints_span = raw.endpoints.span();
        let given = raw.endpoints.into_inner();
        if given.is_empty() || given.len() > ENDPOINTS_MAX {
            let message = format!("{} endpoints", given.len());
            let expected = format!("1 to {ENDPOINTS_MAX} addresses such as \"127.0.0.1:7430\"");
            self.report(endpoints_span, message, &expected);
            return None;
        }
        let endpoints: Vec<_> = given
            .into_iter()
            .filter_map(|endpoint| self.endpoint(endpoint))
            .collect();
        let prefer_after = self.duration(
            raw.prefer_after.as_ref(),
            PREFER_AFTER,
            Duration::ZERO..=Duration::from_hours(24),
        );
        let clock_warn = self.duration(
            raw.clock_warn.as_ref(),
            CLOCK_WARN,
            Duration::from_millis(1)..=Duration::from_hours(24),
        );
        let bandwidth_max = match &raw.bandwidth_max {
            Some(text) => Some(self.bandwidth(text)?),
            None => None,
        };
        let server_name = raw.server_name.and_then(|name| self.server_name(name));
        Some(Collector {
            endpoints,
            order: raw.order.map(Spanned::into_inner).unwrap_or_default(),
            prefer_after: prefer_after?,
            server_name,
            bandwidth_max,
            clock_warn: clock_warn?,
            ca: self.path(&raw.ca)?,
            certificate: self.path(&raw.certificate)?,
            key: self.path(&raw.key)?,
        })
    }

    fn endpoint(&mut self, raw: Spanned<raw::Endpoint>) -> Option<Endpoint> {
        let span = raw.span();
        let raw = raw.into_inner();
        let parsed = raw.address.parse::<Endpoint>();
        let endpoint = self.ok(span.clone(), parsed, raw::ENDPOINT_FORM)?;
        Some(Endpoint {
            server_name: match raw.server_name {
                Some(name) => Some(self.server_name(Spanned::new(span, name))?),
                None => None,
            },
            ..endpoint
        })
    }

    fn bandwidth(&mut self, text: &Text) -> Option<NonZeroU64> {
        let rate = self.ok(text.span(), parse_rate(text.get_ref()), RATE_FORM)?;
        // Less than this would not even carry acknowledgements and signs of life for long.
        let allowed = NonZeroU64::new(rate).filter(|rate| rate.get() >= BANDWIDTH_MIN);
        if allowed.is_none() {
            let message = format!("{} is too little", text.get_ref());
            self.report(text.span(), message, "at least \"1 KiB/s\"");
        }
        allowed
    }

    fn server_name(&mut self, name: Text) -> Option<String> {
        let span = name.span();
        let name = name.into_inner();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) {
            self.report(
                span,
                "not a server name",
                "a DNS name or IP address of the collector's certificate",
            );
            return None;
        }
        Some(name)
    }

    fn spool(&mut self, raw: &raw::Spool) -> Option<Spool> {
        let segment_range = SEGMENT_BYTES_MIN..=(1 << 30);
        let segment_bytes = self.size(raw.segment_bytes.as_ref(), SEGMENT_BYTES, segment_range);
        let bytes_max = self.size(raw.bytes_max.as_ref(), SPOOL_BYTES_MAX, 0..=u64::MAX);
        let free_min = self.size(raw.free_min.as_ref(), SPOOL_FREE_MIN, 0..=(1 << 50));
        let sync = self.sync(raw);
        let (segment_bytes, bytes_max) = (segment_bytes?, bytes_max?);
        if bytes_max / SEGMENTS_MIN < segment_bytes {
            let given = raw.bytes_max.as_ref().or(raw.segment_bytes.as_ref());
            self.report(
                given.map(Spanned::span).unwrap_or_default(),
                format!(
                    "a spool of {bytes_max} bytes is too small for segments of {segment_bytes}"
                ),
                &format!("bytes_max of at least {SEGMENTS_MIN} times segment_bytes"),
            );
            return None;
        }
        Some(Spool {
            bytes_max,
            segment_bytes,
            free_min: free_min?,
            sync: sync?,
        })
    }

    fn sync(&mut self, raw: &raw::Spool) -> Option<SyncPolicy> {
        let range = Duration::from_millis(10)..=Duration::from_hours(1);
        let interval = self.duration(raw.sync_interval.as_ref(), SYNC_INTERVAL, range)?;
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let policy = raw
            .sync
            .as_ref()
            .map_or(raw::Sync::Always, |sync| *sync.get_ref());
        match (policy, &raw.sync_interval) {
            (raw::Sync::Always, Some(interval)) => {
                self.report(
                    interval.span(),
                    "an interval, although every batch is synced",
                    "it together with sync = \"interval\" or \"on_disconnect\"",
                );
                None
            }
            (raw::Sync::Always, None) => Some(SyncPolicy::Always),
            (raw::Sync::Interval, _) => Some(SyncPolicy::Interval { millis }),
            (raw::Sync::OnDisconnect, _) => Some(SyncPolicy::OnDisconnect { millis }),
        }
    }

    fn inputs(&mut self, raw: raw::Inputs) -> Option<Inputs> {
        let dogstatsd = raw.dogstatsd.map(|dogstatsd| self.dogstatsd(dogstatsd));
        let interfaces = raw
            .interfaces
            .map(|interfaces| self.interfaces(&interfaces));
        let sdk = raw.sdk.map(|sdk| self.sdk(sdk));
        Some(Inputs {
            dogstatsd: match dogstatsd {
                Some(dogstatsd) => Some(dogstatsd?),
                None => None,
            },
            interfaces: match interfaces {
                Some(interfaces) => Some(interfaces?),
                None => None,
            },
            sdk: match sdk {
                Some(sdk) => Some(sdk?),
                None => None,
            },
        })
    }

    fn interfaces(&mut self, raw: &raw::Interfaces) -> Option<Interfaces> {
        let range = Duration::from_millis(100)..=Duration::from_hours(1);
        Some(Interfaces {
            interval: self.duration(raw.interval.as_ref(), INTERVAL, range)?,
            exclude: raw
                .exclude
                .iter()
                .map(|pattern| Glob::new(pattern.get_ref()))
                .collect(),
        })
    }

    fn meters(&mut self, raw: Vec<raw::Meter>) -> BTreeMap<MeterName, Meter> {
        let mut meters = BTreeMap::new();
        for raw in raw {
            let span = raw.name.span();
            let Some((name, meter)) = self.meter(raw) else {
                continue;
            };
            if meters.len() == METERS_MAX {
                self.report(span, format!("more than {METERS_MAX} meters"), "");
                break;
            }
            if meters.contains_key(&name) {
                self.report(
                    span,
                    format!("meter `{name}` is declared twice"),
                    "each name once",
                );
            }
            meters.insert(name, meter);
        }
        meters
    }

    fn meter(&mut self, raw: raw::Meter) -> Option<(MeterName, Meter)> {
        let name: Option<MeterName> = self.parsed(&raw.name, NAME_FORM);
        self.named.extend(name.clone());
        let scale = match raw.scale {
            Some(scale) => self.ok(scale.span(), Scale::new(*scale.get_ref()), ""),
            None => Some(Scale::ZERO),
        };
        let aggregation = match &raw.aggregation {
            Some(text) => self.parsed(text, ""),
            None => Some(Aggregation::Sum),
        };
        if let (Some(text), Some(Aggregation::TimeWeighted), Some(scale)) =
            (&raw.aggregation, aggregation, scale)
            && scale.get() > LEVEL_SCALE_MAX
        {
            let message = format!("a scale of {} for a level", scale.get());
            let expected = format!(
                "at most {LEVEL_SCALE_MAX}: the amount billed, level times seconds, has three \
                 decimal places more"
            );
            self.report(text.span(), message, &expected);
        }
        if let (Some(text), Some(Aggregation::Unique), Some(scale)) =
            (&raw.aggregation, aggregation, scale)
            && scale != Scale::ZERO
        {
            let message = format!("a scale of {} for a number of values", scale.get());
            self.report(text.span(), message, "a scale of 0: values are whole");
        }
        let unit_span = raw.unit.span();
        let unit = raw.unit.into_inner();
        if unit.is_empty() || unit.len() > UNIT_BYTES_MAX || unit.chars().any(char::is_control) {
            self.report(
                unit_span,
                "not a unit",
                "a unit in UCUM style, such as \"By\", \"s\", \"1\" or \"{request}\"",
            );
        }
        let meter = Meter {
            unit,
            scale: scale?,
            aggregation: aggregation?,
            inexact: raw.inexact.unwrap_or_default(),
        };
        Some((name?, meter))
    }
}
