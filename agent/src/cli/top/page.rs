//! From two answers of the agent to what is shown: rates, and texts for numbers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tollgate_agent_core::engine::TOP_SCALE;

use crate::admin::watch::{TopPage, TopRates};

/// A page as it is shown.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rates: TopRates,
    pub(super) inputs: Vec<InputRow>,
    status: Value,
}

/// An input between two looks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InputRow {
    pub(super) name: String,
    pub(super) series: u64,
    pub(super) series_max: u64,
    /// Events a second.
    pub(super) received: f64,
    pub(super) accepted: f64,
    pub(super) rejected: f64,
    pub(super) lost: f64,
    /// Reasons and causes with their totals, the largest first.
    pub(super) reasons: Vec<(String, u64)>,
}

impl Page {
    pub(super) fn new(new: TopPage, before: Option<&Self>) -> Self {
        let TopPage { rates, status } = new;
        let none = Vec::new();
        let list = |status: &'_ Value| status["inputs"].as_array().cloned();
        let inputs = list(&status).unwrap_or_else(|| none.clone());
        let old = before.and_then(|page| list(&page.status)).unwrap_or(none);
        let rows = inputs.iter().map(|input| {
            let old = old.iter().find(|old| old["name"] == input["name"]);
            input_row(input, old, rates.millis)
        });
        Self {
            inputs: rows.collect(),
            rates,
            status,
        }
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.status.pointer(pointer)?.as_str()
    }

    fn number(&self, pointer: &str) -> Option<u64> {
        self.status.pointer(pointer)?.as_u64()
    }

    /// Who the agent is.
    pub(super) fn agent_line(&self) -> String {
        format!(
            "{} {}  incarnation {}  sealed batches {}",
            self.text("/agent").unwrap_or("?"),
            self.text("/version").unwrap_or(""),
            self.text("/incarnation")
                .unwrap_or("?")
                .get(..8)
                .unwrap_or("?"),
            self.number("/sequence").unwrap_or(0),
        )
    }

    /// True while the collector takes batches.
    pub(super) fn is_connected(&self) -> bool {
        self.text("/ship/connection") == Some("shipping")
    }

    /// How the connection stands.
    pub(super) fn connection_line(&self) -> String {
        let state = self.text("/ship/connection").unwrap_or("?");
        let mut line = state.to_owned();
        if let Some(endpoint) = self.text("/link/endpoint") {
            line.push_str(&format!("  {endpoint}"));
        }
        if let Some(rtt) = self.number("/link/rtt_micros") {
            line.push_str(&format!("  rtt {}", micros(rtt)));
        }
        let offset = self.status.pointer("/ship/clock/offset_millis");
        if let Some(offset) = offset.and_then(Value::as_i64) {
            line.push_str(&format!("  clock offset {offset} ms"));
        }
        if let Some(in_flight) = self.number("/ship/in_flight") {
            line.push_str(&format!("  in flight {in_flight}"));
        }
        match self.text("/ship/last_error") {
            Some(error) if !self.is_connected() => line.push_str(&format!("  ({error})")),
            _ => {}
        }
        line
    }

    /// The pages of applications; empty if they are no input.
    pub(super) fn pages_line(&self) -> String {
        if self.status["pages"].is_null() {
            return "no input".to_owned();
        }
        let number = |key: &str| self.status["pages"][key].as_u64().unwrap_or(0);
        let mut line = format!(
            "{} connected  {} cells  {}",
            number("connected"),
            number("mirrored"),
            bytes(number("bytes"))
        );
        for key in [
            "missing",
            "waiting",
            "rejected",
            "stopped",
            "dropped",
            "quarantined",
        ] {
            if number(key) > 0 {
                line.push_str(&format!("  {key} {}", number(key)));
            }
        }
        let of = self.status.pointer("/pages/applications/0");
        if let Some(name) = of.and_then(|of| of["name"].as_str()) {
            line.push_str(&format!("  largest {name}"));
        }
        line
    }

    /// How the spool stands.
    pub(super) fn spool_line(&self) -> String {
        let number = |pointer| self.number(pointer).unwrap_or(0);
        let mut line = format!(
            "{} of {}  waiting batches {}",
            bytes(number("/spool/bytes")),
            bytes(number("/spool/bytes_max")),
            number("/spool/batches"),
        );
        // The collector has let go of everything before the oldest batch that waits.
        if let Some(oldest) = self.number("/spool/oldest") {
            line.push_str(&format!("  oldest {}", age(oldest)));
        }
        if let Some(since) = self.number("/spool/full_since") {
            line.push_str(&format!("  FULL since {}", age(since)));
        }
        line
    }
}

fn input_row(input: &Value, old: Option<&Value>, millis: u64) -> InputRow {
    let sum = |value: &Value, key: &str| match &value[key] {
        Value::Object(map) => map.values().filter_map(Value::as_u64).sum(),
        other => other.as_u64().unwrap_or(0),
    };
    let rate = |key: &str| match old {
        Some(old) => per_second(sum(input, key).saturating_sub(sum(old, key)), millis),
        None => 0.0,
    };
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for key in ["rejected", "lost"] {
        for (reason, n) in input[key].as_object().into_iter().flatten() {
            *reasons.entry(reason.clone()).or_default() += n.as_u64().unwrap_or(0);
        }
    }
    // An account that does not balance is the agent's own error.
    for key in ["missing", "surplus"] {
        if let Some(n) = input[key].as_u64().filter(|n| *n > 0) {
            reasons.insert(format!("UNBALANCED ({key})"), n);
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    InputRow {
        name: input["name"].as_str().unwrap_or("?").to_owned(),
        series: input["series"].as_u64().unwrap_or(0),
        series_max: input["series_max"].as_u64().unwrap_or(0),
        received: rate("received"),
        accepted: rate("accepted"),
        rejected: rate("rejected"),
        lost: rate("lost"),
        reasons,
    }
}

/// A rate for people; no bill is made of it.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn per_second(count: u64, millis: u64) -> f64 {
    if millis == 0 {
        return 0.0;
    }
    count as f64 * 1000.0 / millis as f64
}

/// An amount a second in units of a meter, from its decimal string.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn amount_per_second(amount: &str, millis: u64) -> f64 {
    if millis == 0 {
        return 0.0;
    }
    let units = amount.parse::<u128>().unwrap_or(0) as f64;
    units / 10f64.powi(i32::from(TOP_SCALE)) * 1000.0 / millis as f64
}

/// A value in units of a meter, from its decimal string.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn amount(value: &str) -> f64 {
    value.parse::<i128>().unwrap_or(0) as f64 / 10f64.powi(i32::from(TOP_SCALE))
}

/// As [`short`], with a sign where there is one.
pub(super) fn short_signed(number: f64) -> String {
    let sign = if number < 0.0 { "-" } else { "" };
    format!("{sign}{}", short(number.abs()))
}

/// A number in at most seven characters.
pub(super) fn short(number: f64) -> String {
    let mut value = number;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if value < 999.95 {
            return match unit {
                "" if value == 0.0 => "0".to_owned(),
                "" if value.fract() == 0.0 => format!("{value:.0}"),
                _ => format!("{value:.1}{unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.0}E")
}

/// A size in at most ten characters.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1023.95 {
            return match unit {
                "B" => format!("{value:.0} B"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn micros(micros: u64) -> String {
    if micros < 1000 {
        format!("{micros} us")
    } else {
        format!("{:.1} ms", micros as f64 / 1000.0)
    }
}

/// How long ago an instant was, in milliseconds since 1970.
fn age(millis: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = now
        .unwrap_or_default()
        .saturating_sub(Duration::from_millis(millis));
    let seconds = age.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
