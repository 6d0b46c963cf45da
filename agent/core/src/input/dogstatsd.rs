//! The DogStatsD line protocol: one datagram holds lines, one line holds values of a metric.
//!
//! ```text
//! name:value[:value…]|type[|@rate][|#tag:value,tag…][|c:container][|T1700000000][|e:…][|card:…]
//! ```
//!
//! Counters (`c`) and gauges (`g`) are read; histograms, distributions, timers, sets, events
//! and service checks are recognised and reported as unsupported. Every line stands for
//! itself: a malformed one is reported and the next is read. Nothing is copied or allocated;
//! an [`Item`] borrows from the datagram, and names and tags stay bytes until somebody needs
//! them as text ([`Metric::name`], [`split_tags`]).
//!
//! Fields after the type may come in any order. Fields of protocol versions that this one
//! does not know are skipped, as the protocol asks; a repeated field counts with its last
//! value. The timestamp `T` is checked and otherwise not used: a counter cell belongs to the
//! time between two cuts.

use std::fmt;
use std::num::NonZeroU64;

use tollgate_common::quantity::{Inexact, ParseQuantityError, ParsedQuantity};
use tollgate_common::{Aggregation, Quantity, Scale};

use super::{LINE_BYTES_MAX, METRIC_BYTES_MAX, TAGS_MAX};

/// One line of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Values of a counter or gauge.
    Metric(Metric<'a>),
    /// A well-known line that this version does not count.
    Unsupported(Unsupported),
    /// A line that is not of the protocol.
    Malformed(Malformed),
}

/// Lines that are part of the protocol and not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unsupported {
    /// Type `h`.
    Histogram,
    /// Type `d`.
    Distribution,
    /// Type `ms`.
    Timer,
    /// Type `s`.
    Set,
    /// `_e{…`.
    Event,
    /// `_sc|…`.
    ServiceCheck,
}

impl Unsupported {
    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Histogram => "histogram",
            Self::Distribution => "distribution",
            Self::Timer => "timer",
            Self::Set => "set",
            Self::Event => "event",
            Self::ServiceCheck => "service_check",
        }
    }
}

/// Why a line is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Malformed {
    /// More than [`LINE_BYTES_MAX`] bytes.
    #[error("line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// No `:` after the name, or nothing before it.
    #[error("expected `name:value|type`")]
    Name,
    /// Nothing between `:` and `|`.
    #[error("value is empty")]
    Value,
    /// No type, or one that the protocol does not have.
    #[error("expected type `c`, `g`, `h`, `d`, `ms` or `s`")]
    Type,
    /// A sampling rate that is no number above 0 and at most 1.
    #[error("sampling rate is not above 0 and at most 1")]
    Rate,
    /// A timestamp that is no number of seconds.
    #[error("timestamp is not a number of seconds")]
    Timestamp,
    /// More than [`TAGS_MAX`] tags.
    #[error("more than {TAGS_MAX} tags")]
    Tags,
    /// Name or tags are not UTF-8.
    #[error("name or tags are not UTF-8")]
    Utf8,
}

/// The values of one line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Metric<'a> {
    name: &'a [u8],
    values: &'a [u8],
    rate: Option<&'a str>,
    tags: &'a [u8],
    timestamp: Option<NonZeroU64>,
    aggregation: Aggregation,
}

impl fmt::Debug for Metric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric")
            .field("name", &String::from_utf8_lossy(self.name))
            .field("values", &String::from_utf8_lossy(self.values))
            .field("rate", &self.rate)
            .field("tags", &String::from_utf8_lossy(self.tags))
            .field("timestamp", &self.timestamp)
            .field("aggregation", &self.aggregation)
            .finish()
    }
}

impl<'a> Metric<'a> {
    /// The bytes of the name, 1 to [`METRIC_BYTES_MAX`], not checked for UTF-8.
    pub const fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// The name.
    pub fn name(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.name).map_err(|_| Malformed::Utf8)
    }

    /// The bytes of the tags as sent, without the `#`; see [`split_tags`].
    pub const fn tag_bytes(&self) -> &'a [u8] {
        self.tags
    }

    /// How the values combine: a counter is a sum, a gauge the last value.
    pub const fn aggregation(&self) -> Aggregation {
        self.aggregation
    }

    /// The sampling rate as written, if it is not 1: above 0 and below 1. Gauges have none.
    pub const fn rate(&self) -> Option<&'a str> {
        self.rate
    }

    /// The time that the sender gives, in seconds since the epoch.
    pub const fn timestamp(&self) -> Option<NonZeroU64> {
        self.timestamp
    }

    /// The values, at least one.
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let rate = self.rate;
        self.values
            .split(|byte| *byte == b':')
            .map(move |bytes| Value { bytes, rate })
    }
}

/// One value as written, with the sampling rate that applies to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    bytes: &'a [u8],
    rate: Option<&'a str>,
}

impl Value<'_> {
    /// The exact quantity: the value divided by the sampling rate, in units of `scale`.
    pub fn quantity(
        &self,
        scale: Scale,
        inexact: Inexact,
    ) -> Result<ParsedQuantity, ParseQuantityError> {
        if self.rate.is_none()
            && let Some(units) = small_integer(self.bytes)
            && let Some(quantity) = i128::from(units)
                .checked_mul(POWERS[usize::from(scale.get())])
                .map(Quantity::new)
        {
            return Ok(ParsedQuantity {
                quantity,
                rounded: false,
            });
        }
        let text = std::str::from_utf8(self.bytes).map_err(|_| ParseQuantityError::Syntax)?;
        match self.rate {
            None => Quantity::parse_decimal(text, scale, inexact),
            Some(rate) => Quantity::parse_scaled(text, rate, scale, inexact),
        }
    }
}

/// 10^n for every scale that a meter can have.
const POWERS: [i128; tollgate_common::limits::SCALE_MAX as usize + 1] = {
    let mut powers = [1; tollgate_common::limits::SCALE_MAX as usize + 1];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// Plain digits that fit `u64` for sure: nearly every value of a counter.
fn small_integer(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 18 {
        return None;
    }
    let mut units = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        units = units * 10 + u64::from(digit);
    }
    Some(units)
}

/// The lines of a datagram; empty ones are skipped.
pub fn parse_datagram(datagram: &[u8]) -> Items<'_> {
    Items { rest: datagram }
}

/// Iterator over the lines of a datagram, made by [`parse_datagram`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        while !self.rest.is_empty() {
            let (line, rest) = cut(self.rest, b'\n');
            self.rest = rest.unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                return Some(parse_line(line));
            }
        }
        None
    }
}

/// What is before the first `separator`, and what is after it if there is one.
fn cut(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// Reads one line without its newline.
pub fn parse_line(line: &[u8]) -> Item<'_> {
    if line.len() > LINE_BYTES_MAX {
        return Item::Malformed(Malformed::TooLong);
    }
    if line.starts_with(b"_e{") {
        return Item::Unsupported(Unsupported::Event);
    }
    if line.starts_with(b"_sc|") {
        return Item::Unsupported(Unsupported::ServiceCheck);
    }
    match parse_metric(line) {
        Ok(item) => item,
        Err(malformed) => Item::Malformed(malformed),
    }
}

fn parse_metric(line: &[u8]) -> Result<Item<'_>, Malformed> {
    let (name, rest) = cut(line, b':');
    let rest = rest.ok_or(Malformed::Name)?;
    if name.is_empty() || name.len() > METRIC_BYTES_MAX || name.contains(&b'|') {
        return Err(Malformed::Name);
    }
    let (values, rest) = cut(rest, b'|');
    if values.is_empty() {
        return Err(Malformed::Value);
    }
    let (kind, mut rest) = cut(rest.ok_or(Malformed::Type)?, b'|');
    let aggregation = match kind {
        b"c" => Aggregation::Sum,
        b"g" => Aggregation::Last,
        b"h" => return Ok(Item::Unsupported(Unsupported::Histogram)),
        b"d" => return Ok(Item::Unsupported(Unsupported::Distribution)),
        b"ms" => return Ok(Item::Unsupported(Unsupported::Timer)),
        b"s" => return Ok(Item::Unsupported(Unsupported::Set)),
        _ => return Err(Malformed::Type),
    };
    let mut metric = Metric {
        name,
        values,
        rate: None,
        tags: b"",
        timestamp: None,
        aggregation,
    };
    while let Some(fields) = rest {
        let (field, after) = cut(fields, b'|');
        rest = after;
        match field {
            [b'#', tags @ ..] => metric.tags = tags,
            // The level of a gauge does not depend on how often it is sampled.
            [b'@', rate @ ..] => {
                let rate = parse_rate(rate)?;
                metric.rate = rate.filter(|_| aggregation == Aggregation::Sum);
            }
            [b'T', seconds @ ..] => {
                let seconds = small_integer(seconds).ok_or(Malformed::Timestamp)?;
                metric.timestamp = NonZeroU64::new(seconds);
            }
            _ => {}
        }
    }
    Ok(Item::Metric(metric))
}

/// A rate as written, `None` for exactly 1.
fn parse_rate(bytes: &[u8]) -> Result<Option<&str>, Malformed> {
    if bytes == b"1" {
        return Ok(None);
    }
    let rate = std::str::from_utf8(bytes).map_err(|_| Malformed::Rate)?;
    // At most 1 means that one sample stands for at least one event. A rate so small that
    // its reciprocal is out of range is no sampling rate of this world.
    match Quantity::parse_scaled("1", rate, PROBE_SCALE, Inexact::Round) {
        Ok(ParsedQuantity { quantity, rounded }) => {
            match quantity
                .units()
                .cmp(&POWERS[usize::from(PROBE_SCALE.get())])
            {
                std::cmp::Ordering::Greater => Ok(Some(rate)),
                std::cmp::Ordering::Equal => Ok(rounded.then_some(rate)),
                std::cmp::Ordering::Less => Err(Malformed::Rate),
            }
        }
        Err(_) => Err(Malformed::Rate),
    }
}

/// Twelve places tell any usual rate from 1.
const PROBE_SCALE: Scale = match Scale::new(tollgate_common::limits::SCALE_MAX) {
    Ok(scale) => scale,
    Err(_) => Scale::ZERO,
};

/// Splits the tags of a line: `key:value` or a bare `key`, separated by commas.
///
/// Empty tags are skipped. At most [`TAGS_MAX`] are given; more is an error, so that a line
/// is never attributed by a part of its tags.
pub fn split_tags<'a>(tags: &'a [u8], out: &mut Vec<(&'a str, &'a str)>) -> Result<(), Malformed> {
    out.clear();
    let tags = std::str::from_utf8(tags).map_err(|_| Malformed::Utf8)?;
    for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
        if out.len() == TAGS_MAX {
            return Err(Malformed::Tags);
        }
        out.push(tag.split_once(':').unwrap_or((tag, "")));
    }
    Ok(())
}

#[cfg(test)]
#[path = "dogstatsd_tests.rs"]
mod tests;
