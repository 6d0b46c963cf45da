//! From samples to cells: the way of every event through attribution into its cell, with the
//! account of what was received, accepted and rejected.
//!
//! For each input thread there is one [`Tally`], which owns the thread's [`Writer`]. An event
//! is one value: a packed line with three values is three events, and one bad value among
//! them costs only itself. `received = accepted + rejected` holds after every call.

use std::sync::Arc;

use tollgate_common::quantity::ParseQuantityError;
use tollgate_common::{Aggregation, Quantity, Scale, SeriesKey, Timestamp, Window, WindowWidth};

use super::dogstatsd::{Lines, Malformed};
use super::interfaces::Increment;
use super::live::{Current, Live};
use super::{METRIC_BYTES_MAX, Sample, Source, TAGS_MAX};
use crate::aggregate::{AddError, InputLoss, Region, Rejection, SetError, Slot, Writer};
use crate::attribute::{AttributeError, Target};

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
    /// Refused before, for the same reason.
    #[error("refused: {}", .0.as_str())]
    Refused(Rejection),
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
            Self::Refused(reason) => *reason,
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
            AddError::NoRoom => Self::SeriesFull,
        }
    }
}

impl From<SetError> for CountError {
    fn from(error: SetError) -> Self {
        match error {
            SetError::WrongSlot => Self::WrongSlot,
            SetError::Negative => Self::Negative,
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

/// Counts the samples of one input thread.
pub struct Tally<R: Region> {
    pub(super) counting: Counting<R>,
    pub(super) lines: Lines,
    live: Arc<Live>,
    /// The version of `live` that the attributor and what is remembered are of.
    version: u64,
}

/// What every kind of input counts with.
pub(super) struct Counting<R: Region> {
    pub(super) writer: Writer<R>,
    /// What is in force, of the tally's version.
    pub(super) current: Current,
    width: WindowWidth,
}

impl<R: Region> Counting<R> {
    /// The slot of a sample, and how it is counted there.
    pub(super) fn place(&mut self, sample: &Sample<'_>) -> Result<(Slot, Target), CountError> {
        let target = self.current.attributor.attribute(sample)?;
        // The cells hold no others yet.
        if !matches!(target.aggregation, Aggregation::Sum | Aggregation::Last) {
            return Err(CountError::Refused(Rejection::Unsupported));
        }
        let slot = self
            .writer
            .resolve(&target.series, target.aggregation, target.scale)
            .map_err(|_| CountError::SeriesFull)?;
        Ok((slot, target))
    }

    /// Accounts for events that are not counted.
    #[cold]
    pub(super) fn reject(&mut self, error: &CountError, events: u64) {
        self.writer.rejected(error.rejection(), events);
    }

    /// True if the second is not in the window of `now`.
    pub(super) fn is_another_window(&self, seconds: u64, now: Timestamp) -> bool {
        let here = Window::containing(now, self.width);
        let seconds = i64::try_from(seconds).ok();
        let millis = seconds.and_then(|s| s.checked_mul(1000));
        millis.is_none_or(|at| at < here.start().millis() || at >= here.end().millis())
    }

    /// Counts a quantity.
    pub(super) fn count_units(
        &mut self,
        slot: Slot,
        aggregation: Aggregation,
        units: i128,
        now: Timestamp,
    ) -> Result<(), CountError> {
        match aggregation {
            Aggregation::Sum => {
                if units < 0 {
                    return Err(CountError::Negative);
                }
                let units = u64::try_from(units).map_err(|_| CountError::TooLarge)?;
                self.writer.add(slot, units)?;
            }
            Aggregation::Last => {
                let units = i64::try_from(units).map_err(|_| CountError::TooLarge)?;
                let window = Window::containing(now, self.width);
                self.writer.set(slot, window.start(), units)?;
            }
            // No slot of these can be resolved.
            _ => return Err(CountError::WrongSlot),
        }
        Ok(())
    }

    /// Records a value `count` times.
    pub(super) fn record(&mut self, _: Slot, _: u64, _: u64) -> Result<(), CountError> {
        // No slot can be resolved.
        Err(CountError::WrongSlot)
    }

    /// Puts a member into a set.
    pub(super) fn insert(&mut self, _: Slot, _: &[u8], _: Timestamp) -> Result<(), CountError> {
        // No slot can be resolved.
        Err(CountError::WrongSlot)
    }
}

impl<R: Region> Tally<R> {
    /// Counts through `writer` for whom the attributor of `live` says.
    ///
    /// `cache_bytes` bounds the memory in which lines are remembered; `seed` is random.
    pub fn new(
        writer: Writer<R>,
        live: Arc<Live>,
        width: WindowWidth,
        cache_bytes: usize,
        seed: u64,
    ) -> Self {
        let (version, current) = live.current();
        Self {
            counting: Counting {
                writer,
                current,
                width,
            },
            lines: Lines::new(cache_bytes, seed),
            live,
            version,
        }
    }

    /// Takes a new attributor, if there is one, before the next event.
    #[inline]
    pub(super) fn refresh(&mut self) {
        if self.live.version() != self.version {
            self.take_over();
        }
    }

    #[cold]
    fn take_over(&mut self) {
        (self.version, self.counting.current) = self.live.current();
        self.lines.forget();
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
        self.counting.writer.received(1);
        let result = self.count(metric, tags, value, now);
        let rejection = self.account_for(&result);
        if self.is_watched() {
            let sample = Sample {
                source: Source::Admin,
                metric,
                kind: None,
                tags,
            };
            self.observe_sample(&sample, value, rejection);
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
            kind: None,
            tags,
        };
        let (slot, target) = self.counting.place(&sample)?;
        let parsed = Quantity::parse_decimal(value, target.scale, target.inexact)?;
        let units = parsed.quantity.units();
        self.counting
            .count_units(slot, target.aggregation, units, now)?;
        self.counting.writer.rounded(u64::from(parsed.rounded));
        Ok(Counted {
            series: target.series,
            scale: target.scale,
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
        self.counting.writer.received(1);
        let result = self.increment(increment, now);
        let rejection = self.account_for(&result);
        if self.is_watched() {
            let tags = increment.tags();
            let value = increment.amount.to_string();
            self.observe_sample(&increment.sample(&tags), &value, rejection);
        }
        result
    }

    fn increment(&mut self, increment: &Increment<'_>, now: Timestamp) -> Result<(), CountError> {
        let tags = increment.tags();
        let (slot, target) = self.counting.place(&increment.sample(&tags))?;
        // The kernel counts whole bytes and packets, the meter perhaps thousandths of them.
        let factor = 10i128.pow(u32::from(target.scale.get()));
        let units = i128::from(increment.amount)
            .checked_mul(factor)
            .ok_or(CountError::TooLarge)?;
        self.counting
            .count_units(slot, target.aggregation, units, now)
    }

    /// Puts a failure into the account; says with which reason.
    fn account_for<T>(&mut self, result: &Result<T, CountError>) -> Option<Rejection> {
        let error = result.as_ref().err()?;
        self.counting.reject(error, 1);
        Some(error.rejection())
    }

    /// True while somebody wants to see every event.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.counting.current.observer.is_some()
    }

    /// Accounts for events that were received and are refused without being looked at.
    pub fn refused(&mut self, reason: Rejection, events: u64) {
        self.counting.writer.received(events);
        self.counting.writer.rejected(reason, events);
    }

    /// Accounts for events that are known to be lost before they were received.
    pub fn lost(&mut self, cause: InputLoss, events: u64) {
        self.counting.writer.lost(cause, events);
    }

    /// Lines that are remembered.
    pub fn lines_remembered(&self) -> usize {
        self.lines.remembered()
    }

    /// Series in use.
    pub fn series(&self) -> u32 {
        self.counting.writer.series()
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
