//! The DogStatsD line protocol: one datagram holds lines, one line holds values of a metric.
//!
//! ```text
//! name:value[:value…]|type[|@rate][|#tag:value,tag…][|c:container][|T1700000000][|e:…][|card:…]
//! ```
//!
//! Every line stands for itself: a malformed one is reported and the next is read. Nothing is
//! copied or allocated; an [`Item`] borrows from the datagram, and names and tags stay bytes
//! until somebody needs them as text ([`Metric::name`], [`split_tags`]).
//!
//! Fields after the type may come in any order. Fields of protocol versions that this one
//! does not know are skipped, as the protocol asks; a repeated field counts with its last
//! value. Events (`_e{…`) and service checks (`_sc|…`) are recognised and not counted.
//!
//! This is the grammar, read a byte at a time. Lines at rate go through `scan` and
//! the cache of `count`, and come here when they are new; tests compare the two.

mod count;
mod plan;
mod ratio;
mod scan;
mod value;

pub(super) use count::Lines;
pub use ratio::SampleRate;
pub use scan::DATAGRAM_SLACK_BYTES;

use std::fmt;

use tollgate_common::quantity::{Inexact, ParseQuantityError, ParsedQuantity};
use tollgate_common::{Quantity, Scale};

use super::{Kind, LINE_BYTES_MAX, METRIC_BYTES_MAX, TAGS_MAX};

/// One line of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Values of a metric.
    Metric(Metric<'a>),
    /// A line of the protocol that is not usage.
    Ignored(Ignored),
    /// A line that is not of the protocol.
    Malformed(Malformed),
}

/// Lines that are part of the protocol and hold no usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ignored {
    /// `_e{…`.
    Event,
    /// `_sc|…`.
    ServiceCheck,
}

impl Ignored {
    /// What this line is, if it is one of these.
    fn of(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"_e{") {
            Some(Self::Event)
        } else if line.starts_with(b"_sc|") {
            Some(Self::ServiceCheck)
        } else {
            None
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
    suffix: Suffix<'a>,
}

/// What follows the values of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Suffix<'a> {
    pub(super) kind: Kind,
    pub(super) rate: Option<SampleRate>,
    pub(super) tags: &'a [u8],
    /// Seconds since the epoch.
    pub(super) timestamp: Option<u64>,
}

impl fmt::Debug for Metric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric")
            .field("name", &String::from_utf8_lossy(self.name))
            .field("values", &String::from_utf8_lossy(self.values))
            .field("kind", &self.suffix.kind)
            .field("rate", &self.suffix.rate)
            .field("tags", &String::from_utf8_lossy(self.suffix.tags))
            .field("timestamp", &self.suffix.timestamp)
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
        self.suffix.tags
    }

    /// The type.
    pub const fn kind(&self) -> Kind {
        self.suffix.kind
    }

    /// The sampling rate, if it is not 1. Gauges and sets have none: neither a level nor a
    /// set of values depends on how often it is sampled.
    pub const fn rate(&self) -> Option<SampleRate> {
        self.suffix.rate
    }

    /// The time that the sender gives, in seconds since the epoch.
    pub const fn timestamp(&self) -> Option<u64> {
        self.suffix.timestamp
    }

    /// The values as written, at least one.
    pub fn values(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        split_values(self.suffix.kind, self.values)
    }
}

/// The values of a line, packed with colons. A set has one value, which may hold colons.
pub(super) fn split_values(kind: Kind, values: &[u8]) -> impl Iterator<Item = &[u8]> {
    let packed = kind != Kind::Set;
    values.split(move |byte| packed && *byte == b':')
}

/// The exact quantity of a value as written: divided by `divisor`, in units of `scale`.
pub(super) fn parse_value(
    value: &[u8],
    divisor: Option<&str>,
    scale: Scale,
    inexact: Inexact,
) -> Result<ParsedQuantity, ParseQuantityError> {
    if divisor.is_none()
        && let Some(units) = small_integer(value)
        && let Some(quantity) = i128::from(units)
            .checked_mul(POWERS[usize::from(scale.get())])
            .map(Quantity::new)
    {
        return Ok(ParsedQuantity {
            quantity,
            rounded: false,
        });
    }
    let text = std::str::from_utf8(value).map_err(|_| ParseQuantityError::Syntax)?;
    match divisor {
        None => Quantity::parse_decimal(text, scale, inexact),
        Some(divisor) => Quantity::parse_scaled(text, divisor, scale, inexact),
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
    if let Some(ignored) = Ignored::of(line) {
        return Item::Ignored(ignored);
    }
    match parse_metric(line) {
        Ok(metric) => Item::Metric(metric),
        Err(malformed) => Item::Malformed(malformed),
    }
}

fn parse_metric(line: &[u8]) -> Result<Metric<'_>, Malformed> {
    let (name, rest) = cut(line, b':');
    let rest = rest.ok_or(Malformed::Name)?;
    check_name(name)?;
    let (values, rest) = cut(rest, b'|');
    if values.is_empty() {
        return Err(Malformed::Value);
    }
    Ok(Metric {
        name,
        values,
        suffix: parse_suffix(rest.ok_or(Malformed::Type)?)?,
    })
}

fn check_name(name: &[u8]) -> Result<(), Malformed> {
    if name.is_empty() || name.len() > METRIC_BYTES_MAX || name.contains(&b'|') {
        return Err(Malformed::Name);
    }
    Ok(())
}

/// Reads what follows the bar after the values: the type and the fields.
fn parse_suffix(suffix: &[u8]) -> Result<Suffix<'_>, Malformed> {
    let (kind, mut rest) = cut(suffix, b'|');
    let kind = match kind {
        b"c" => Kind::Count,
        b"g" => Kind::Gauge,
        b"h" => Kind::Histogram,
        b"d" => Kind::Distribution,
        b"ms" => Kind::Timer,
        b"s" => Kind::Set,
        _ => return Err(Malformed::Type),
    };
    let mut parsed = Suffix {
        kind,
        rate: None,
        tags: b"",
        timestamp: None,
    };
    while let Some(fields) = rest {
        let (field, after) = cut(fields, b'|');
        rest = after;
        match field {
            [b'#', tags @ ..] => parsed.tags = tags,
            [b'@', rate @ ..] => {
                let rate = SampleRate::parse(rate).ok_or(Malformed::Rate)?;
                let applies = !matches!(kind, Kind::Gauge | Kind::Set) && !rate.is_one();
                parsed.rate = applies.then_some(rate);
            }
            [b'T', seconds @ ..] => {
                let seconds = small_integer(seconds).ok_or(Malformed::Timestamp)?;
                parsed.timestamp = Some(seconds);
            }
            _ => {}
        }
    }
    Ok(parsed)
}

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
