//! Single events, priced one by one in the order of their time, then of their ids.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Quantity, TenantId, Timestamp};

use super::tiers::Places;
use super::{Mode, Ratio, Site};
use crate::catalog::{Measure, PerEvent, Price};

/// Most events of one meter in one period; what has more cannot be rated.
pub const EVENTS_MAX: usize = 1 << 20;

/// What tells events apart and orders them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventKey {
    /// When the window began in which it was counted.
    pub at: Timestamp,
    /// Its id: the value of the meter's event dimension.
    pub id: Box<str>,
    /// Whose it is, where the events of several tenants stand together: the ids of one say nothing
    /// of those of another. Not part of a state, which is that of one tenant.
    #[serde(skip)]
    pub tenant: Option<TenantId>,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The slice of the period in which it lies.
    pub slice: u16,
    /// How much it is.
    pub quantity: Quantity,
}

/// What the events of a version of a price cost together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSum {
    /// How many there are.
    pub count: u64,
    /// How many of them are free.
    pub free: u64,
    /// Of each segment of the price: what is charged for, rounded up to its steps.
    pub charged: Vec<Ratio>,
    /// What fees of single events are together.
    pub fixed: Ratio,
    /// What minimum, maximum and rounding of single events change.
    pub adjusted: Ratio,
    /// What they cost.
    pub amount: Ratio,
}

/// What is left of what is free.
pub(super) struct Free {
    events: Option<u64>,
    quantity: Option<Ratio>,
    ended: bool,
}

impl Free {
    pub(super) fn new(price: &PerEvent) -> Self {
        Self {
            events: price.free_events.map(u64::from),
            quantity: price.free_quantity.as_ref().map(Measure::value),
            ended: price.free_events.is_none() && price.free_quantity.is_none(),
        }
    }

    /// What of an event is not free; `None` inside for an event that is free.
    ///
    /// Where both events and a quantity are free, the first that is exhausted ends both. The event
    /// that goes beyond the quantity pays for what exceeds it.
    #[expect(clippy::option_option, reason = "a free event is not a failure")]
    fn take(&mut self, quantity: Ratio) -> Option<Option<Ratio>> {
        let is_spent = |left: Option<Ratio>| left.is_some_and(Ratio::is_zero);
        self.ended |= self.events == Some(0) || is_spent(self.quantity);
        if self.ended {
            return Some(Some(quantity));
        }
        if let Some(left) = self.quantity {
            let rest = left.checked_sub(quantity)?;
            if rest.is_negative() {
                self.ended = true;
                return Some(Some(quantity.checked_sub(left)?));
            }
            self.quantity = Some(rest);
        }
        self.events = self.events.map(|left| left - 1);
        Some(None)
    }
}

impl EventSum {
    pub(super) fn new(price: &PerEvent) -> Self {
        Self {
            count: 0,
            free: 0,
            charged: vec![Ratio::ZERO; price.segments.len()],
            fixed: Ratio::ZERO,
            adjusted: Ratio::ZERO,
            amount: Ratio::ZERO,
        }
    }

    /// Adds an event, in the price's unit; `None` if a number leaves its range.
    pub(super) fn add(
        &mut self,
        price: &Price,
        places: Places,
        free: &mut Free,
        quantity: Ratio,
    ) -> Option<()> {
        let event = price.per_event.as_ref()?;
        self.count += 1;
        let Some(quantity) = free.take(quantity)? else {
            self.free += 1;
            return Some(());
        };
        let fixed = Ratio::from_decimal(event.fixed);
        let mut plain = fixed;
        for (segment, charged) in event.segments.iter().zip(&mut self.charged) {
            let upto = match &segment.to {
                Some(to) if quantity.checked_cmp(to.value())?.is_gt() => to.value(),
                _ => quantity,
            };
            let mut inside = upto.checked_sub(segment.from)?;
            if inside.is_negative() {
                break;
            }
            if let Some(step) = &segment.step {
                inside = inside.round_to(step.value(), Mode::Up)?;
            }
            let cost = inside
                .checked_div(price.per.value())?
                .checked_mul(Ratio::from_decimal(segment.unit))?;
            *charged = charged.checked_add(inside)?;
            plain = plain.checked_add(cost)?;
        }
        let mut amount = plain;
        for (limit, is_beyond) in [
            (event.minimum, std::cmp::Ordering::Less),
            (event.maximum, std::cmp::Ordering::Greater),
        ] {
            if let Some(limit) = limit.map(Ratio::from_decimal)
                && amount.checked_cmp(limit)? == is_beyond
            {
                amount = limit;
            }
        }
        if price.rounding.site == Site::Event {
            let rounded: Decimal = places.round(amount)?;
            amount = Ratio::from_decimal(rounded);
        }
        self.fixed = self.fixed.checked_add(fixed)?;
        self.adjusted = self.adjusted.checked_add(amount.checked_sub(plain)?)?;
        self.amount = self.amount.checked_add(amount)?;
        Some(())
    }
}
