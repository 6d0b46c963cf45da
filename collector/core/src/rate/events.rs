//! Single events, priced one by one in the order of their time, then of their ids.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{Quantity, TenantId, Timestamp};

use super::charge::{Version, Work};
use super::piece::Piece;
use super::tiers::{Places, Table, TierAmount, list_amount, unit_amount};
use super::{Mode, Ratio, Site, metered};
use crate::catalog::{Measure, Model, PerEvent, Price, Row, Segment, Tier};

/// Most events of one meter in one period; what has more cannot be rated.
pub const EVENTS_MAX: usize = 1 << 20;

/// What tells events apart and orders them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventKey {
    /// When the window began in which it was counted; of what is priced by itself the beginning of
    /// the rating interval, or of the slice in it.
    pub at: Timestamp,
    /// Of what is priced by itself the row of the matrix; 0 for a price without rows, and for single
    /// events.
    pub cell: u16,
    /// Its id: the value of the meter's event dimension, or those of what is priced by itself.
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
    /// The row of the matrix; 0 for a price without rows.
    pub cell: u16,
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
    /// Of each segment of the price, or of each tier where events select them: what is charged for,
    /// rounded up to steps.
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
    /// Of no event; `model` is that of the price or of its row.
    pub(super) fn new(price: &PerEvent, model: &Model) -> Self {
        let parts = if price.by_size {
            model.tiers.len()
        } else {
            price.segments.len()
        };
        Self {
            count: 0,
            free: 0,
            charged: vec![Ratio::ZERO; parts],
            fixed: Ratio::ZERO,
            adjusted: Ratio::ZERO,
            amount: Ratio::ZERO,
        }
    }

    /// Adds an event, in the price's unit; `None` if a number leaves its range.
    pub(super) fn add(
        &mut self,
        (price, row): (&Price, Option<&Row>),
        (table, places): (Table<'_>, Places),
        (free, reached): (&mut Free, &mut Ratio),
        quantity: Ratio,
    ) -> Option<()> {
        let event = price.events_of(row)?;
        let per = row.map_or(&price.per, |row| &row.per);
        self.count += 1;
        let quantity = if event.free_rounded {
            rounded(event, quantity)?
        } else {
            quantity
        };
        let Some(quantity) = free.take(quantity)? else {
            self.free += 1;
            return Some(());
        };
        let mut fixed = Ratio::from_decimal(event.fixed);
        let mut plain = fixed;
        for (segment, charged) in event.segments.iter().zip(&mut self.charged) {
            let Some(inside) = inside(segment, quantity)? else {
                break;
            };
            let cost = inside
                .checked_div(per.value())?
                .checked_mul(Ratio::from_decimal(segment.unit))?;
            *charged = charged.checked_add(inside)?;
            plain = plain.checked_add(cost)?;
        }
        if event.in_tiers {
            let before = unit_amount(table, *reached)?;
            *reached = reached.checked_add(quantity)?;
            let cost = unit_amount(table, *reached)?.checked_sub(before)?;
            plain = plain.checked_add(cost)?;
        }
        let mut amount = plain;
        if event.by_size {
            let sized = self.sized(table, quantity)?;
            fixed = fixed.checked_add(sized.fees)?;
            plain = plain.checked_add(sized.plain)?;
            amount = plain.checked_add(sized.lifted)?;
        }
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

/// What an event costs in the tiers that it selects.
struct Sized {
    /// Without what least amounts of tiers add.
    plain: Ratio,
    /// What they add.
    lifted: Ratio,
    /// What of `plain` is fees of tiers.
    fees: Ratio,
}

impl EventSum {
    /// Counts an event in the tiers that it selects by its size.
    fn sized(&mut self, table: Table<'_>, quantity: Ratio) -> Option<Sized> {
        let mut sized = Sized {
            plain: Ratio::ZERO,
            lifted: Ratio::ZERO,
            fees: Ratio::ZERO,
        };
        let mut reached: Vec<TierAmount<'_>> = Vec::new();
        list_amount(table, quantity, |tier| reached.push(tier))?;
        for tier in &reached {
            let same = |other: &Tier| std::ptr::eq(other, tier.tier);
            let place = table.model.tiers.iter().position(same)?;
            let charged = self.charged.get_mut(place)?;
            *charged = charged.checked_add(tier.quantity)?;
            let plain = tier.exact.checked_sub(tier.lifted)?;
            sized.plain = sized.plain.checked_add(plain)?;
            sized.lifted = sized.lifted.checked_add(tier.lifted)?;
            sized.fees = sized.fees.checked_add(tier.fee()?)?;
        }
        Some(sized)
    }
}

/// What of an event lies in a segment, rounded up to its steps; `None` inside if it ends before.
#[expect(clippy::option_option, reason = "what ends before is not a failure")]
fn inside(segment: &Segment, quantity: Ratio) -> Option<Option<Ratio>> {
    let upto = match &segment.to {
        Some(to) if quantity.checked_cmp(to.value())?.is_gt() => to.value(),
        _ => quantity,
    };
    let inside = upto.checked_sub(segment.from)?;
    if inside.is_negative() {
        return Some(None);
    }
    Some(Some(match &segment.step {
        Some(step) => inside.round_to(step.value(), Mode::Up)?,
        None => inside,
    }))
}

/// An event's quantity, rounded up to the steps of all segments.
fn rounded(event: &PerEvent, quantity: Ratio) -> Option<Ratio> {
    let mut sum = Ratio::ZERO;
    for segment in &event.segments {
        match inside(segment, quantity)? {
            Some(inside) => sum = sum.checked_add(inside)?,
            None => break,
        }
    }
    Some(sum)
}

/// Events that are priced together: all of a price, or those of a row.
struct Together<'c> {
    free: Free,
    reached: Ratio,
    /// Of each version: its row, what its events cost, and what all have reached by its end.
    versions: Vec<Option<OfVersion<'c>>>,
}

struct OfVersion<'c> {
    row: Option<&'c Row>,
    sum: EventSum,
    end: Option<Ratio>,
}

impl<'c> Together<'c> {
    /// No events of a row, by its name, or of prices without rows.
    fn new(versions: &[Version<'c>], name: &str) -> Option<Self> {
        let of = |version: &Version<'c>| {
            let row = match &version.price.matrix {
                Some(matrix) => Some(matrix.rows.iter().find(|row| row.id == name)?),
                None => None,
            };
            Some(OfVersion {
                row,
                sum: EventSum::new(version.price.events_of(row)?, version.table(row).model),
                end: None,
            })
        };
        let all: Vec<Option<OfVersion<'c>>> = versions.iter().map(of).collect();
        // What is free is said by the first version.
        let (version, first) = versions
            .iter()
            .zip(&all)
            .find_map(|(version, of)| Some((version, of.as_ref()?)))?;
        Some(Self {
            free: Free::new(version.price.events_of(first.row)?),
            reached: Ratio::ZERO,
            versions: all,
        })
    }
}

impl<'c> Work<'_, 'c> {
    /// Single events, in order, each by the version of its time; those of each row by themselves,
    /// in the order of the names.
    pub(super) fn events(
        &self,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut all: BTreeMap<&'c str, Together<'c>> = BTreeMap::new();
        if self.versions.first()?.price.matrix.is_none() {
            all.insert("", Together::new(self.versions, "")?);
        }
        for event in self.parted.usage.events.values() {
            let Some(at) = self.version_of(event.slice) else {
                continue;
            };
            let version = self.versions[at];
            let row = match &version.price.matrix {
                Some(matrix) => Some(matrix.row(event.cell)?),
                None => None,
            };
            let name = row.map_or("", |row| row.id.as_str());
            let together = match all.entry(name) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Together::new(self.versions, name)?),
            };
            let by = (version.table(row), version.places());
            let quantity = metered(event.quantity, Some(self.meter))?;
            let of = together.versions[at].as_mut()?;
            let (free, reached) = (&mut together.free, &mut together.reached);
            of.sum
                .add((version.price, row), by, (free, reached), quantity)?;
            of.end = Some(together.reached);
        }
        for together in all.into_values() {
            self.pieces_of_events(together, each)?;
        }
        Some(())
    }

    fn pieces_of_events(
        &self,
        together: Together<'c>,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut before = None;
        for (at, of) in together.versions.into_iter().enumerate() {
            let Some(of) = of else { continue };
            let version = self.versions[at];
            let end = of.end.or(before).unwrap_or(Ratio::ZERO);
            let tiers = version.tiers_of_events(of.row, before, end)?;
            before = Some(end);
            if of.sum.count == 0 && tiers.is_empty() && self.versions.len() > 1 {
                continue;
            }
            each(at, version.event_piece(of.row, of.sum, tiers)?)?;
        }
        Some(())
    }
}

impl<'c> Version<'c> {
    /// What events have in tiers from one position to another, with the fees of the tiers that they
    /// reach. Without a position before, nothing was reached.
    fn tiers_of_events(
        self,
        row: Option<&'c Row>,
        before: Option<Ratio>,
        end: Ratio,
    ) -> Option<Vec<TierAmount<'c>>> {
        let mut tiers: Vec<TierAmount<'c>> = Vec::new();
        if !self.price.events_of(row)?.in_tiers {
            return Some(tiers);
        }
        let table = self.table(row);
        list_amount(table, end, |tier| tiers.push(tier))?;
        let mut lower: Vec<TierAmount<'c>> = Vec::new();
        if let Some(before) = before {
            list_amount(table, before, |tier| lower.push(tier))?;
        }
        for tier in &mut tiers {
            let same = |other: &&TierAmount<'c>| std::ptr::eq::<Tier>(other.tier, tier.tier);
            if let Some(other) = lower.iter().find(same) {
                *tier = tier.less(other)?;
            }
        }
        tiers.retain(|tier| !tier.quantity.is_zero() || tier.flat.is_some());
        Some(tiers)
    }

    fn event_piece(
        self,
        row: Option<&'c Row>,
        sum: EventSum,
        tiers: Vec<TierAmount<'c>>,
    ) -> Option<Piece<'c>> {
        let (mut charged, mut amount) = (Ratio::ZERO, sum.amount);
        for part in sum
            .charged
            .iter()
            .chain(tiers.iter().map(|tier| &tier.quantity))
        {
            charged = charged.checked_add(*part)?;
        }
        for tier in &tiers {
            amount = amount.checked_add(tier.fee()?)?;
        }
        Some(Piece {
            span: self.span,
            interval: None,
            row,
            ranked: None,
            over_secs: None,
            metered: charged,
            quantities: Vec::new(),
            charged,
            tiers,
            share: None,
            amount,
            events: Some(sum),
            apart: None,
        })
    }
}
