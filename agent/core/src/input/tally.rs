//! From samples to cells: the way of every event through attribution into its cell, with the
//! account of what was received, accepted and rejected.
//!
//! For each input thread there is one [`Tally`], which owns the thread's [`Writer`]. An event
//! is one value: a packed line with three values is three events, and one bad value among
//! them costs only itself. `received = accepted + rejected` holds after every call.

use std::sync::Arc;

use tollgate_common::quantity::ParseQuantityError;
use tollgate_common::sketch::hash;
use tollgate_common::{
    Aggregation, Quantity, Scale, SeriesKey, TenantId, Timestamp, Window, WindowWidth,
};

use super::dogstatsd::{Lines, Malformed};
use super::interfaces::Increment;
use super::live::{Current, Live};
use super::{METRIC_BYTES_MAX, Sample, Source, TAGS_MAX};
use crate::aggregate::{
    AddError, InputLoss, Region, Rejection, Row, SeriesFull, SetError, Slot, Writer,
};
use crate::attribute::{AttributeError, Target};

/// How often idle series are let go of: what is remembered is searched for them each time.
const TEND_EVERY_MILLIS: u64 = 1000;

/// Why an event is not counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    /// The line is not of its protocol.
    #[error("malformed: {0}")]
    Malformed(Malformed),
    /// The value is no number, out of range, or has too many decimal places.
    #[error("value: {0}")]
    Value(#[from] ParseQuantityError),
    /// A sum, a level that is billed by time or a value of a distribution below zero.
    #[error("value is below zero, which only a last value or a maximum can be")]
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
    /// The series has been retired since it was looked up, or the slot is of another writer.
    #[error("internal: the series has to be looked up again")]
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

/// Why events are not counted, and whose they were, where that is known.
pub(super) struct Refusal {
    pub(super) error: CountError,
    tenant: Option<TenantId>,
}

impl<E: Into<CountError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            tenant: None,
        }
    }
}

impl Refusal {
    /// For the errors of a sample that was attributed.
    fn of<E: Into<CountError>>(target: &Target) -> impl Fn(E) -> Self {
        |error| Self {
            tenant: Some(target.series.tenant().clone()),
            error: error.into(),
        }
    }
}

/// Where a sample counts.
pub(super) struct Placed {
    pub(super) slot: Slot,
    /// Whose it is.
    pub(super) row: Row,
    /// True if there was no room for the dimensions; once there is, the slot is another one.
    pub(super) overflow: bool,
    pub(super) target: Target,
}

/// What a count through the admin socket became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The series as attributed.
    pub series: SeriesKey,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// What is in the cell now more (sum), instead (last, level), or among others (maximum,
    /// distribution); for a member of a set 1, whether or not the set had it before.
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
    /// When idle series were last let go of.
    tended: Timestamp,
    /// Slots of series that were let go of.
    gone: Vec<u64>,
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
    pub(super) fn place(&mut self, sample: &Sample<'_>) -> Result<Placed, Refusal> {
        let target = self.current.attributor.attribute(sample)?;
        let (slot, overflow) = self.slot(&target).map_err(Refusal::of(&target))?;
        let row = self.writer.row(target.series.tenant());
        Ok(Placed {
            slot,
            row,
            overflow,
            target,
        })
    }

    /// The slot of what a sample was attributed to, and whether the dimensions found no room.
    fn slot(&mut self, target: &Target) -> Result<(Slot, bool), CountError> {
        self.writer
            .resolve_telling(&target.series, target.aggregation, target.scale)
            .map_err(|SeriesFull| CountError::SeriesFull)
    }

    /// Accounts for an event, received before, of the tenant it was attributed to.
    fn receive_for(&mut self, target: &Target) {
        let row = self.writer.row(target.series.tenant());
        self.writer.received_for(row, 1);
    }

    /// Accounts for events that are received and will be rejected.
    #[cold]
    pub(super) fn receive_refused(&mut self, refusal: &Refusal, events: u64) {
        self.writer.received(events);
        if let Some(tenant) = &refusal.tenant {
            let row = self.writer.row(tenant);
            self.writer.received_for(row, events);
        }
    }

    /// Accounts for events that are not counted.
    #[cold]
    pub(super) fn reject(&mut self, refusal: &Refusal, events: u64) {
        let reason = refusal.error.rejection();
        match &refusal.tenant {
            Some(tenant) => self.writer.rejected_for(tenant, reason, events),
            None => self.writer.rejected(reason, events),
        }
    }

    /// Accounts for events that were received for a tenant and are not counted.
    #[cold]
    pub(super) fn reject_in(&mut self, row: Row, error: &CountError, events: u64) {
        self.writer.rejected_in(row, error.rejection(), events);
    }

    /// The instant that a second means, if it is in the window of `now`; nothing is counted
    /// ahead of time.
    pub(super) fn within_window(&self, seconds: u64, now: Timestamp) -> Option<Timestamp> {
        let here = Window::containing(now, self.width);
        let millis = i64::try_from(seconds).ok()?.checked_mul(1000)?;
        let inside = millis >= here.start().millis() && millis < here.end().millis();
        inside.then(|| Timestamp::from_millis(millis).min(now))
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
            Aggregation::Sum => self.writer.add(slot, unsigned(units)?)?,
            Aggregation::Distribution => self.writer.record(slot, unsigned(units)?, 1)?,
            Aggregation::Last => self.writer.set(slot, now, signed(units)?)?,
            Aggregation::Max => self.writer.set_max(slot, now, signed(units)?)?,
            Aggregation::TimeWeighted => self.writer.set_level(slot, now, signed(units)?)?,
            // A quantity is no member of a set.
            Aggregation::Unique => return Err(CountError::Refused(Rejection::WrongType)),
        }
        Ok(())
    }

    /// Records a value `count` times, each of them an event, of which one is known to have
    /// been received. It is one event if there is an error, for the caller to reject.
    pub(super) fn record(
        &mut self,
        slot: Slot,
        row: Row,
        value: u64,
        count: u64,
    ) -> Result<(), CountError> {
        let more = count.saturating_sub(1);
        if more > 0 {
            self.writer.received(more);
            self.writer.received_for(row, more);
        }
        let recorded = self.writer.record(slot, value, count);
        if recorded.is_err() && more > 0 {
            self.writer.not_received(row, more);
        }
        Ok(recorded?)
    }

    /// Puts a member into a set.
    pub(super) fn insert(
        &mut self,
        slot: Slot,
        member: &[u8],
        now: Timestamp,
    ) -> Result<(), CountError> {
        Ok(self.writer.insert(slot, now, hash(member))?)
    }
}

/// An amount that cannot be below zero.
pub(super) fn unsigned(units: i128) -> Result<u64, CountError> {
    if units < 0 {
        return Err(CountError::Negative);
    }
    u64::try_from(units).map_err(|_| CountError::TooLarge)
}

fn signed(units: i128) -> Result<i64, CountError> {
    i64::try_from(units).map_err(|_| CountError::TooLarge)
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
            tended: Timestamp::EPOCH,
            gone: Vec::new(),
        }
    }

    /// Retires idle series, unless that was just done: counting does it now and then, and who
    /// receives nothing may.
    #[inline]
    pub fn tend(&mut self, now: Timestamp) {
        if now.millis().abs_diff(self.tended.millis()) >= TEND_EVERY_MILLIS {
            self.tended = now;
            self.retire_idle();
        }
    }

    /// Gives room of series that have been idle to others, and forgets the lines that led to
    /// them; to be called now and then, also while nothing is counted.
    #[cold]
    pub fn retire_idle(&mut self) {
        let gone = &mut self.gone;
        gone.clear();
        let any = self.counting.writer.poll_retired_into(|slot| {
            gone.push(slot.to_bits());
        });
        gone.sort_unstable();
        if any {
            self.lines.forget_slots(gone);
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
        self.tend(now);
        self.counting.writer.received(1);
        let result = self.count(metric, tags, value, now);
        let rejection = self.account_for(&result);
        self.counting.writer.settle();
        if self.is_watched() {
            let sample = Sample {
                source: Source::Admin,
                metric,
                kind: None,
                tags,
            };
            self.observe_sample(&sample, value, rejection);
        }
        result.map_err(|refusal| refusal.error)
    }

    fn count(
        &mut self,
        metric: &str,
        tags: &[(&str, &str)],
        value: &str,
        now: Timestamp,
    ) -> Result<Counted, Refusal> {
        if metric.len() > METRIC_BYTES_MAX {
            return Err(CountError::Malformed(Malformed::TooLong).into());
        }
        if tags.len() > TAGS_MAX {
            return Err(CountError::Malformed(Malformed::Tags).into());
        }
        let sample = Sample {
            source: Source::Admin,
            metric,
            kind: None,
            tags,
        };
        let target = self.counting.current.attributor.attribute(&sample)?;
        self.counting.receive_for(&target);
        let (quantity, rounded) = self
            .value(&target, value, now)
            .map_err(Refusal::of(&target))?;
        self.counting.writer.rounded(u64::from(rounded));
        Ok(Counted {
            series: target.series,
            scale: target.scale,
            quantity,
            rounded,
        })
    }

    /// Counts a decimal number, or for a set any text that is not empty.
    fn value(
        &mut self,
        target: &Target,
        value: &str,
        now: Timestamp,
    ) -> Result<(Quantity, bool), CountError> {
        let counting = &mut self.counting;
        if target.aggregation == Aggregation::Unique {
            if value.is_empty() {
                return Err(CountError::Malformed(Malformed::Value));
            }
            let (slot, _) = counting.slot(target)?;
            counting.insert(slot, value.as_bytes(), now)?;
            return Ok((Quantity::from(1), false));
        }
        let parsed = Quantity::parse_decimal(value, target.scale, target.inexact)?;
        let (slot, _) = counting.slot(target)?;
        let units = parsed.quantity.units();
        counting.count_units(slot, target.aggregation, units, now)?;
        Ok((parsed.quantity, parsed.rounded))
    }

    /// Counts traffic of an interface.
    pub fn handle_increment(
        &mut self,
        increment: &Increment<'_>,
        now: Timestamp,
    ) -> Result<(), CountError> {
        self.refresh();
        self.tend(now);
        self.counting.writer.received(1);
        let result = self.increment(increment, now);
        let rejection = self.account_for(&result);
        self.counting.writer.settle();
        if self.is_watched() {
            let tags = increment.tags();
            let value = increment.amount.to_string();
            self.observe_sample(&increment.sample(&tags), &value, rejection);
        }
        result.map_err(|refusal| refusal.error)
    }

    fn increment(&mut self, increment: &Increment<'_>, now: Timestamp) -> Result<(), Refusal> {
        let tags = increment.tags();
        let sample = increment.sample(&tags);
        let target = self.counting.current.attributor.attribute(&sample)?;
        self.counting.receive_for(&target);
        // The kernel counts whole bytes and packets, the meter perhaps thousandths of them.
        let factor = 10i128.pow(u32::from(target.scale.get()));
        let units = i128::from(increment.amount)
            .checked_mul(factor)
            .ok_or(CountError::TooLarge);
        let counting = &mut self.counting;
        units
            .and_then(|units| {
                let (slot, _) = counting.slot(&target)?;
                counting.count_units(slot, target.aggregation, units, now)
            })
            .map_err(Refusal::of(&target))
    }

    /// Puts a failure into the account; says with which reason.
    fn account_for<T>(&mut self, result: &Result<T, Refusal>) -> Option<Rejection> {
        let refusal = result.as_ref().err()?;
        self.counting.reject(refusal, 1);
        Some(refusal.error.rejection())
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
        self.counting.writer.settle();
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
