//! From samples to cells: the way of every event through attribution into its cell, with the
//! account of what was received, accepted and rejected.
//!
//! For each input thread there is one [`Tally`], which owns the thread's [`Writer`]. An event
//! is one value: a packed line with three values is three events, and one bad value among
//! them costs only itself. `received = accepted + rejected` holds after every call.

use std::sync::Arc;

use tollgate_common::quantity::{Inexact, ParseQuantityError, ParsedQuantity};
use tollgate_common::{Aggregation, Quantity, Scale, SeriesKey, Timestamp, Window, WindowWidth};

use super::dogstatsd::{Item, Malformed, Metric, Value, parse_datagram, split_tags};
use super::interfaces::Increment;
use super::live::Live;
use super::{Listener, METRIC_BYTES_MAX, Sample, Source, TAGS_MAX};
use crate::aggregate::{AddError, InputLoss, Region, Rejection, SetError, Slot, Writer};
use crate::attribute::{AttributeError, Attributor, Cache, RawKey, Target};

/// Why an event is not counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// The line is not of its protocol.
    #[error("malformed: {0}")]
    Malformed(Malformed),
    /// The value is no number, out of range, or has too many decimal places.
    #[error("value: {0}")]
    Value(#[from] ParseQuantityError),
    /// A sum below zero.
    #[error("value is below zero, which a sum cannot take")]
    Negative,
    /// More than a cell takes at once.
    #[error("value is larger than a counter takes")]
    TooLarge,
    /// No rule or meter takes it.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// No room for another series.
    #[error("no room for another series (raise limits.series_max)")]
    SeriesFull,
    /// The counter waits for the next seal.
    #[error("counter of this series is full until the next seal")]
    CounterFull,
    /// A slot of another writer: a mistake of the agent itself.
    #[error("internal: slot belongs to another writer")]
    WrongSlot,
}

impl CountError {
    /// The reason in the account.
    pub const fn rejection(&self) -> Rejection {
        match self {
            Self::Malformed(Malformed::TooLong | Malformed::Tags) => Rejection::TooLarge,
            Self::Malformed(_)
            | Self::Value(ParseQuantityError::Syntax)
            | Self::Attribute(AttributeError::MeterName) => Rejection::Malformed,
            Self::Value(ParseQuantityError::Inexact(_)) => Rejection::Inexact,
            Self::Value(ParseQuantityError::Range) | Self::Negative | Self::TooLarge => {
                Rejection::OutOfRange
            }
            Self::Attribute(AttributeError::Aggregation) => Rejection::WrongType,
            Self::SeriesFull => Rejection::SeriesFull,
            Self::CounterFull => Rejection::CounterFull,
            Self::WrongSlot => Rejection::Other,
        }
    }
}

impl From<AddError> for CountError {
    fn from(error: AddError) -> Self {
        match error {
            AddError::TooLarge(_) => Self::TooLarge,
            AddError::CounterFull => Self::CounterFull,
            AddError::WrongSlot => Self::WrongSlot,
        }
    }
}

impl From<SetError> for CountError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::WrongSlot => Self::WrongSlot,
        }
    }
}

/// What a count through the admin socket became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The series as attributed.
    pub series: SeriesKey,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// What is in the cell now more (sum) or instead (last).
    pub quantity: Quantity,
    /// True if it was rounded as the meter declares.
    pub rounded: bool,
}

/// A place to count into and how.
#[derive(Clone, Copy)]
struct Place {
    slot: Slot,
    aggregation: Aggregation,
    scale: Scale,
    inexact: Inexact,
}

/// What the cache remembers of a name and its tags.
#[derive(Clone, Copy)]
enum Resolved {
    Place(Place),
    Refused(Rejection),
}

/// Counts the samples of one input thread.
pub struct Tally<R: Region> {
    writer: Writer<R>,
    live: Arc<Live>,
    /// The version of `live` that `attributor` and `cache` are of.
    version: u64,
    attributor: Arc<Attributor>,
    cache: Cache<Resolved>,
    width: WindowWidth,
}

impl<R: Region> Tally<R> {
    /// Counts through `writer` for whom the attributor of `live` says.
    ///
    /// `cache_entries` bounds how many different lines are remembered; `seed` is random.
    pub fn new(
        writer: Writer<R>,
        live: Arc<Live>,
        width: WindowWidth,
        cache_entries: usize,
        seed: u64,
    ) -> Self {
        let (version, attributor) = live.attributor();
        Self {
            writer,
            live,
            version,
            attributor,
            cache: Cache::new(cache_entries, seed),
            width,
        }
    }

    /// Takes a new attributor, if there is one, before the next event.
    #[inline]
    fn refresh(&mut self) {
        if self.live.version() != self.version {
            self.take_over();
        }
    }

    #[cold]
    fn take_over(&mut self) {
        (self.version, self.attributor) = self.live.attributor();
        self.cache.clear();
    }

    /// Counts every line of a DogStatsD datagram.
    ///
    /// `clock` is read only where a value has to be placed in time.
    pub fn handle_datagram(
        &mut self,
        listener: Listener,
        datagram: &[u8],
        mut clock: impl FnMut() -> Timestamp,
    ) {
        self.refresh();
        let mut received = 0;
        for item in parse_datagram(datagram) {
            match item {
                Item::Metric(metric) => {
                    received += self.handle_metric(listener, &metric, &mut clock);
                }
                Item::Unsupported(_) => {
                    received += 1;
                    self.writer.rejected(Rejection::Unsupported, 1);
                }
                Item::Malformed(malformed) => {
                    received += 1;
                    let reason = CountError::Malformed(malformed).rejection();
                    self.writer.rejected(reason, 1);
                }
            }
        }
        self.writer.received(received);
    }

    /// Counts the values of a line; says how many there were.
    fn handle_metric(
        &mut self,
        listener: Listener,
        metric: &Metric<'_>,
        clock: &mut impl FnMut() -> Timestamp,
    ) -> u64 {
        let key = RawKey {
            listener,
            aggregation: metric.aggregation(),
            name: metric.name_bytes(),
            tags: metric.tag_bytes(),
        };
        let resolved = match self.cache.get(&key) {
            Some(resolved) => resolved,
            None => self.resolve_metric(&key, metric),
        };
        let mut events = 0;
        for value in metric.values() {
            events += 1;
            match resolved {
                Resolved::Place(place) => {
                    if let Err(error) = self.count_value(place, &value, clock) {
                        self.writer.rejected(error.rejection(), 1);
                    }
                }
                Resolved::Refused(reason) => self.writer.rejected(reason, 1),
            }
        }
        events
    }

    #[cold]
    fn resolve_metric(&mut self, key: &RawKey<'_>, metric: &Metric<'_>) -> Resolved {
        let mut tags = Vec::new();
        let place = metric
            .name()
            .and_then(|name| split_tags(key.tags, &mut tags).map(|()| name))
            .map_err(CountError::Malformed)
            .and_then(|name| {
                self.place(&Sample {
                    source: Source::Dogstatsd(key.listener),
                    metric: name,
                    aggregation: Some(key.aggregation),
                    tags: &tags,
                })
            });
        let resolved = match place {
            Ok((_, place)) => Resolved::Place(place),
            Err(error) => Resolved::Refused(error.rejection()),
        };
        self.cache.insert(key, resolved);
        resolved
    }

    fn place(&mut self, sample: &Sample<'_>) -> Result<(SeriesKey, Place), CountError> {
        let Target {
            series,
            aggregation,
            scale,
            inexact,
        } = self.attributor.attribute(sample)?;
        let slot = self
            .writer
            .resolve(&series, aggregation, scale)
            .map_err(|_| CountError::SeriesFull)?;
        let place = Place {
            slot,
            aggregation,
            scale,
            inexact,
        };
        Ok((series, place))
    }

    fn count_value(
        &mut self,
        place: Place,
        value: &Value<'_>,
        clock: &mut impl FnMut() -> Timestamp,
    ) -> Result<(), CountError> {
        let parsed = value.quantity(place.scale, place.inexact)?;
        self.count_quantity(place, parsed, clock)
    }

    fn count_quantity(
        &mut self,
        place: Place,
        parsed: ParsedQuantity,
        clock: &mut impl FnMut() -> Timestamp,
    ) -> Result<(), CountError> {
        let units = parsed.quantity.units();
        match place.aggregation {
            Aggregation::Sum => {
                if units < 0 {
                    return Err(CountError::Negative);
                }
                let units = u64::try_from(units).map_err(|_| CountError::TooLarge)?;
                self.writer.add(place.slot, units)?;
            }
            Aggregation::Last => {
                let units = i64::try_from(units).map_err(|_| CountError::TooLarge)?;
                let window = Window::containing(clock(), self.width);
                self.writer.set(place.slot, window, units)?;
            }
            // No slot of these can be resolved.
            _ => return Err(CountError::WrongSlot),
        }
        if parsed.rounded {
            self.writer.rounded(1);
        }
        Ok(())
    }

    /// Counts one value of the admin socket; when this returns `Ok` it is in its cell.
    pub fn handle_count(
        &mut self,
        metric: &str,
        tags: &[(&str, &str)],
        value: &str,
        now: Timestamp,
    ) -> Result<Counted, CountError> {
        self.refresh();
        self.writer.received(1);
        let result = self.count(metric, tags, value, now);
        if let Err(error) = &result {
            self.writer.rejected(error.rejection(), 1);
        }
        result
    }

    fn count(
        &mut self,
        metric: &str,
        tags: &[(&str, &str)],
        value: &str,
        now: Timestamp,
    ) -> Result<Counted, CountError> {
        if metric.len() > METRIC_BYTES_MAX {
            return Err(CountError::Malformed(Malformed::TooLong));
        }
        if tags.len() > TAGS_MAX {
            return Err(CountError::Malformed(Malformed::Tags));
        }
        let sample = Sample {
            source: Source::Admin,
            metric,
            aggregation: None,
            tags,
        };
        let (series, place) = self.place(&sample)?;
        let parsed = Quantity::parse_decimal(value, place.scale, place.inexact)?;
        self.count_quantity(place, parsed, &mut || now)?;
        Ok(Counted {
            series,
            scale: place.scale,
            quantity: parsed.quantity,
            rounded: parsed.rounded,
        })
    }

    /// Counts traffic of an interface.
    pub fn handle_increment(
        &mut self,
        increment: &Increment<'_>,
        now: Timestamp,
    ) -> Result<(), CountError> {
        self.refresh();
        self.writer.received(1);
        let result = self.increment(increment, now);
        if let Err(error) = &result {
            self.writer.rejected(error.rejection(), 1);
        }
        result
    }

    fn increment(&mut self, increment: &Increment<'_>, now: Timestamp) -> Result<(), CountError> {
        let tags = [
            ("interface", increment.interface),
            ("direction", increment.direction.as_str()),
        ];
        let sample = Sample {
            source: Source::Interfaces,
            metric: increment.traffic.metric(),
            aggregation: Some(Aggregation::Sum),
            tags: &tags,
        };
        let (_, place) = self.place(&sample)?;
        // The kernel counts whole bytes and packets, the meter perhaps thousandths of them.
        let factor = 10i128.pow(u32::from(place.scale.get()));
        let units = i128::from(increment.amount)
            .checked_mul(factor)
            .ok_or(CountError::TooLarge)?;
        let parsed = ParsedQuantity {
            quantity: Quantity::new(units),
            rounded: false,
        };
        self.count_quantity(place, parsed, &mut || now)
    }

    /// Accounts for events that were received and are refused without being looked at.
    pub fn refused(&mut self, reason: Rejection, events: u64) {
        self.writer.received(events);
        self.writer.rejected(reason, events);
    }

    /// Accounts for events that are known to be lost before they were received.
    pub fn lost(&mut self, cause: InputLoss, events: u64) {
        self.writer.lost(cause, events);
    }

    /// Series in use.
    pub fn series(&self) -> u32 {
        self.writer.series()
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
