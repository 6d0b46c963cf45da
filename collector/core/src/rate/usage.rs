//! Usage of a meter, gathered in the parts in which its prices need it ([`super::parts`]).
//!
//! Gathering is pure and additive: whoever has the windows, in whatever order, comes to the same
//! [`MeterUsage`]. That is all that [`super::rate_meter`] needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{Dimensions, Quantity, TenantId, Timestamp, Window};

use super::events::{EVENTS_MAX, Event, EventKey};
use super::parts::{Part, QUARTER_SECS, Shape, SlotRange};
use super::samples::{Samples, SlotKey};
use crate::period::Period;

/// Most parts of one meter's usage in one period: a month of minutes fits three times. What has
/// more cannot be rated.
pub const PARTS_MAX: usize = 1 << 17;

/// Usage that cannot be gathered; it is unrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GatherError {
    /// The sum leaves the range of a quantity, or a slot that of its samples.
    #[error("the sum of the usage does not fit the numbers")]
    Overflow,
    /// A negative quantity in a percentile's slots.
    #[error("neither a percentile nor single events can be of negative usage")]
    Negative,
    /// More than [`EVENTS_MAX`] single events.
    #[error("there are more than {EVENTS_MAX} single events (price them by their sum)")]
    TooManyEvents,
    /// More than [`PARTS_MAX`] parts.
    #[error("usage falls into more than {PARTS_MAX} parts (rate it by longer intervals)")]
    TooManyParts,
}

/// Usage of one meter of one tenant in one period, as its prices need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterUsage {
    parts: BTreeMap<Part, Quantity>,
    pub(super) samples: BTreeMap<SlotKey, Samples>,
    pub(super) events: BTreeMap<EventKey, Event>,
    /// When usage was declared lost: sorted, apart from each other, and made of whole quarters of
    /// an hour.
    pub(super) lost: Vec<Period>,
}

impl MeterUsage {
    /// Usage of a plain shape.
    pub fn whole(quantity: Quantity) -> Self {
        Self {
            parts: BTreeMap::from([(Part::default(), quantity)]),
            ..Self::default()
        }
    }

    /// Adds to a part: of a meter that adds up what a window has, of another what a series has in
    /// the part.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn add(&mut self, part: Part, quantity: Quantity) -> Result<(), GatherError> {
        if let Some(sum) = self.parts.get_mut(&part) {
            *sum = sum.checked_add(quantity).ok_or(GatherError::Overflow)?;
            return Ok(());
        }
        if !self.has_room_for(part) {
            return Err(GatherError::TooManyParts);
        }
        self.parts.insert(part, quantity);
        Ok(())
    }

    /// What nothing describes has one part for each slice, and always room.
    fn has_room_for(&self, part: Part) -> bool {
        self.parts.len() < PARTS_MAX || part == part.undescribed() || self.parts.contains_key(&part)
    }

    /// Adds to a part, or to what nothing describes where there is no room for a part more.
    ///
    /// # Errors
    /// If a sum does not fit.
    pub fn add_somewhere(&mut self, part: Part, quantity: Quantity) -> Result<(), GatherError> {
        let has_room = self.has_room_for(part);
        self.add(if has_room { part } else { part.undescribed() }, quantity)
    }

    /// Counts what a window of a series has, of a meter that adds up: in its part, as an event, and
    /// in the slots of a percentile. A window wider than a slot is spread over its slots, largest
    /// remainders first.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn count(
        &mut self,
        shape: &Shape,
        window: Window,
        dimensions: &Dimensions,
        quantity: Quantity,
    ) -> Result<(), GatherError> {
        let part = shape.part_of(window, dimensions);
        if !self.has_room_for(part) {
            return Err(GatherError::TooManyParts);
        }
        // A price is of a percentile or of single events: if one of them fails, nothing is counted.
        if let Some(slots) = shape.slots_of(window, dimensions) {
            self.sample(shape.period(), slots, quantity)?;
        } else if part.cell != Part::NO_CELL
            && let Some(key) = shape.event_of(window, dimensions, part)
        {
            if quantity.is_negative() && shape.has_events(window) {
                return Err(GatherError::Negative);
            }
            self.add_event(key, (part.slice, part.cell), quantity)?;
        }
        self.add(part, quantity)
    }

    /// The same; what cannot be counted so is what nothing describes, and the rest is not touched by
    /// it: a negative sample, say, or one event too many.
    ///
    /// # Errors
    /// If a sum does not fit.
    pub fn count_somewhere(
        &mut self,
        shape: &Shape,
        window: Window,
        dimensions: &Dimensions,
        quantity: Quantity,
    ) -> Result<(), GatherError> {
        if self.count(shape, window, dimensions, quantity).is_ok() {
            return Ok(());
        }
        self.add(shape.part_of(window, dimensions).undescribed(), quantity)
    }

    /// Counts an event; what is counted of the same one in the same window is added.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn add_event(
        &mut self,
        key: EventKey,
        (slice, cell): (u16, u16),
        quantity: Quantity,
    ) -> Result<(), GatherError> {
        if let Some(known) = self.events.get_mut(&key) {
            let sum = known.quantity.checked_add(quantity);
            known.quantity = sum.ok_or(GatherError::Overflow)?;
            return Ok(());
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(GatherError::TooManyEvents);
        }
        let event = Event {
            slice,
            cell,
            quantity,
        };
        self.events.insert(key, event);
        Ok(())
    }

    /// The single events, in the order in which they are priced.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&EventKey, &Event)> {
        self.events.iter()
    }

    /// Spreads a quantity over slots.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn sample(
        &mut self,
        period: Period,
        slots: SlotRange,
        quantity: Quantity,
    ) -> Result<(), GatherError> {
        let samples = self
            .samples
            .entry(slots.key)
            .or_insert_with(|| Samples::new(period, slots.key.slot_secs));
        samples.spread(slots.first, slots.count, quantity)
    }

    /// Notes that usage was declared lost: slots that this touches, and that have nothing, may be
    /// excluded from a percentile. It is widened to whole quarters of an hour, so that what is
    /// kept is bounded by the length of the period.
    pub fn lose(&mut self, span: Period) {
        let (from, to) = (span.start.secs(), span.end.plus_millis(999).secs());
        let mut from = from - from.rem_euclid(QUARTER_SECS);
        let mut to = to + (-to).rem_euclid(QUARTER_SECS);
        if to <= from {
            return;
        }
        self.lost.retain(|other| {
            let apart = other.end.secs() < from || to < other.start.secs();
            if !apart {
                from = Ord::min(from, other.start.secs());
                to = Ord::max(to, other.end.secs());
            }
            apart
        });
        let at = self.lost.partition_point(|other| other.start.secs() < from);
        let whole = Period {
            start: Timestamp::from_secs(from),
            end: Timestamp::from_secs(to),
        };
        self.lost.insert(at, whole);
    }

    /// Adds what a tenant used to what others did. All is gathered by the same shape, of a meter
    /// whose values add up over tenants. Single events stay those of their tenant.
    ///
    /// # Errors
    /// See [`GatherError`].
    pub fn merge(&mut self, tenant: &TenantId, other: &Self) -> Result<(), GatherError> {
        for (part, quantity) in &other.parts {
            self.add_somewhere(*part, *quantity)?;
        }
        for (key, samples) in &other.samples {
            match self.samples.get_mut(key) {
                Some(mine) => mine.merge(samples)?,
                None => {
                    self.samples.insert(*key, samples.clone());
                }
            }
        }
        for span in &other.lost {
            self.lose(*span);
        }
        for (key, event) in &other.events {
            let mut key = key.clone();
            key.tenant.get_or_insert_with(|| tenant.clone());
            self.add_event(key, (event.slice, event.cell), event.quantity)?;
        }
        Ok(())
    }

    /// Takes over what another usage has beside its parts: samples, single events, and when usage
    /// was lost.
    pub(crate) fn take_details(&mut self, other: &Self) {
        self.samples.clone_from(&other.samples);
        self.events.clone_from(&other.events);
        self.lost.clone_from(&other.lost);
    }

    /// The parts with their sums.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (Part, Quantity)> + Clone {
        self.parts.iter().map(|(part, sum)| (*part, *sum))
    }

    /// The samples of a percentile.
    pub fn samples(&self, key: SlotKey) -> Option<&Samples> {
        self.samples.get(&key)
    }

    /// When usage was declared lost.
    pub fn lost(&self) -> &[Period] {
        &self.lost
    }

    /// All parts together; `None` if the sum does not fit.
    pub fn total(&self) -> Option<Quantity> {
        Quantity::checked_sum(self.parts.values().copied())
    }
}
