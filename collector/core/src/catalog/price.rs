//! Prices: how usage, or a period, becomes an amount.

use std::sync::Arc;

use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::discounts::Discount;
use super::each::Each;
use super::long_term::LongTerm;
use super::matrix::{Matrix, Row};
use super::measure::Measure;
use super::per_event::PerEvent;
use super::percentile::Percentile;
use super::unit::Unit;
use crate::period::{Every, Proration};
use crate::rate::{Fast, Mode, Ratio, Rounding};

/// What a meter, or a period, costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Its name on invoice lines; unique in the card.
    pub id: String,
    /// Whose usage it prices; `None` for a fee that is due for every period.
    pub meter: Option<MeterName>,
    /// What tiers, allowance and `per` are counted in: the meter's billed unit, or what that is
    /// converted to.
    pub unit: Unit,
    /// The amount of usage that unit prices are quoted for: a block.
    pub per: Measure,
    /// From the meter's quantity to the one that is priced.
    pub convert: Option<Convert>,
    /// What is included; of a matrix what its rows share.
    pub allowance: Option<Allowance>,
    /// How quantity becomes an amount; of a matrix this is its first row's, and each row has its
    /// own.
    pub model: Model,
    /// After what time tiers, blocks and allowance begin anew.
    pub interval: Interval,
    /// The longer term, if tiers go on over several periods.
    pub long_term: Option<LongTerm>,
    /// For a level over time that is divided by a length of time.
    pub over: Option<Over>,
    /// What is prorated with the price where it is in force for a part of a period.
    pub prorated: Prorated,
    /// Prices by dimensions and time of day.
    pub matrix: Option<Arc<Matrix>>,
    /// For bandwidth: the percentile that is priced in place of the sum.
    pub percentile: Option<Percentile>,
    /// How single events are priced, in place of the model.
    pub per_event: Option<PerEvent>,
    /// Where tiers, blocks and allowance are those of each value of dimensions.
    pub each: Option<Each>,
    /// True if its unit prices are percentages of money.
    pub is_percentage: bool,
    /// Where a tenant has contracted rates: the price as the card lists it.
    pub listed: Option<Arc<Price>>,
    /// Discounts on this price in the order in which they are applied: quantity, percent,
    /// amount, and each of them by precedence and then as in the file.
    pub discounts: Vec<Discount>,
    /// Most that a period costs; not negative.
    pub maximum: Option<Decimal>,
    /// Least that a period costs, used or not; not negative.
    pub minimum: Option<Decimal>,
    /// How and where it is rounded.
    pub rounding: Rounding,
    /// How it is billed and taxed.
    pub terms: PriceTerms,
    /// The same price in whole numbers, where it is a usual one.
    pub(crate) fast: Option<Fast>,
}

impl Price {
    /// True if it needs one sum of the period and nothing else.
    pub fn is_plain(&self) -> bool {
        self.interval == Interval::Period
            && self.over.is_none()
            && self.matrix.is_none()
            && self.percentile.is_none()
            && self.per_event.is_none()
            && self.each.is_none()
            && self.long_term.is_none()
            && self.selecting_meter().is_none()
    }

    /// How single events of a row are priced, or of a price without rows; `None` if they are not.
    pub fn events_of<'p>(&'p self, row: Option<&'p Row>) -> Option<&'p PerEvent> {
        match row {
            Some(row) => row.per_event.as_ref(),
            None => self.per_event.as_ref(),
        }
    }

    /// The dimension that tells apart the single events that it prices; `None` if it does not.
    pub fn event_dimension(&self) -> Option<&Arc<str>> {
        let rows = self.matrix.iter().flat_map(|matrix| &matrix.rows);
        let mut all = self
            .per_event
            .iter()
            .chain(rows.filter_map(|row| row.per_event.as_ref()));
        all.next().map(|event| &event.dimension)
    }

    /// The percentile that a row prices, or a price without rows; `None` if it does not.
    pub fn percentile_of<'p>(&'p self, row: Option<&'p Row>) -> Option<&'p Percentile> {
        match row {
            Some(row) => row.percentile.as_ref(),
            None => self.percentile.as_ref(),
        }
    }

    /// All percentiles that it prices, each with its row: of all rows or of none.
    pub fn percentiles(&self) -> impl Iterator<Item = (u16, Option<&Row>, &Percentile)> {
        let own = self
            .percentile
            .iter()
            .map(|percentile| (0, None, percentile));
        let rows = self.matrix.iter().flat_map(|matrix| &matrix.rows);
        let of_rows = (0..).zip(rows).filter_map(|(cell, row)| {
            let percentile = row.percentile.as_ref()?;
            Some((cell, Some(row), percentile))
        });
        own.chain(of_rows)
    }

    /// True if usage is told apart by dimensions: single events, or what is priced by itself.
    pub fn tells_apart(&self) -> bool {
        self.each.is_some() || self.event_dimension().is_some()
    }

    /// True if usage has to be kept apart for it.
    pub fn needs_parts(&self) -> bool {
        self.interval != Interval::Period
            || self.matrix.is_some()
            || self.percentile.is_some()
            || self.per_event.is_some()
            || self.each.is_some()
    }

    /// What keeps `other` from being priced beside this price, from the same usage, if anything
    /// does. `adds_up` if the meter's values do.
    pub fn excludes(&self, other: &Self, adds_up: bool) -> Option<&'static str> {
        let by_interval = |price: &Self| {
            price.matrix.is_none()
                && price.percentile.is_none()
                && price.per_event.is_none()
                && price.each.is_none()
        };
        let same_parts =
            || self.interval == other.interval && by_interval(self) && by_interval(other);
        if self.needs_parts() && other.needs_parts() && !same_parts() {
            return Some("both need usage by parts: rows, intervals, slots or single events");
        }
        let by_time = |price: &Self| {
            let moves = |matrix: &Matrix| {
                matrix.bands.is_some() || matrix.rows.iter().any(|row| row.pool.is_some())
            };
            price.interval != Interval::Period || price.matrix.as_deref().is_some_and(moves)
        };
        let by_slot = |price: &Self| price.percentiles().next().is_some();
        let is_timed = |price: &Self| by_time(price) || by_slot(price);
        if !adds_up && (is_timed(self) || is_timed(other)) {
            return Some(
                "one of them needs usage by time, and what the meter counts does not add up",
            );
        }
        None
    }

    /// The meter that selects the tier, if it is another one.
    pub fn selecting_meter(&self) -> Option<&MeterName> {
        let rows = self.matrix.iter().flat_map(|matrix| &matrix.rows);
        let mut models = std::iter::once(&self.model).chain(rows.map(|row| &row.model));
        models.find_map(|model| match &model.tier_by {
            Some(TierBy::Meter(name)) => Some(name),
            Some(TierBy::Rounded { .. } | TierBy::Peak) | None => None,
        })
    }

    /// What keeps `other` from being a later version of this price under the same id, if anything
    /// does: it is counted in another way, so that no line could go on. `adds_up` if the meter's
    /// values do.
    pub fn differs(&self, other: &Self, adds_up: bool) -> Option<&'static str> {
        let slots = |price: &Self| -> Vec<u32> {
            let all = price.percentiles();
            all.map(|(_, _, percentile)| percentile.slot_secs).collect()
        };
        let (slot, other_slot) = (slots(self), slots(other));
        if self.meter.is_some() != other.meter.is_some() {
            return Some("one of them is a fee");
        }
        if self.meter != other.meter {
            return Some("they are of different meters");
        }
        if slot.is_empty() != other_slot.is_empty() {
            return Some("one of them is a percentile");
        }
        if !slot.is_empty()
            && !self
                .percentiles()
                .map(row_id)
                .eq(other.percentiles().map(row_id))
        {
            return Some("their rows by percentile are others, or in another order");
        }
        if slot != other_slot {
            return Some("their slots differ in length");
        }
        if self.event_dimension().is_some() != other.event_dimension().is_some() {
            return Some("one of them prices single events");
        }
        let each = |price: &Self| price.each.as_ref().map(|each| Arc::clone(&each.dimensions));
        if each(self) != each(other) {
            return Some("they price by themselves what different dimensions say");
        }
        if (self.interval, self.long_term) != (other.interval, other.long_term) {
            return Some("their tiers begin anew at different times");
        }
        if self.interval != Interval::Period && self.over.is_some() != other.over.is_some() {
            return Some("one of them divides by the length of the period");
        }
        if !adds_up && self.matrix.is_some() != other.matrix.is_some() {
            return Some("one of them has rows, and what the meter counts does not add up");
        }
        None
    }

    /// The price as the card lists it for everybody.
    pub fn as_listed(&self) -> &Self {
        self.listed.as_deref().unwrap_or(self)
    }

    /// The amount of a fee; `None` for what has a meter.
    pub fn flat_fee(&self) -> Option<Decimal> {
        let first = self.model.tiers.first().filter(|_| self.meter.is_none());
        first.and_then(|tier| tier.flat)
    }

    /// True if something may be due for a period without usage.
    pub fn is_due_unused(&self) -> bool {
        self.meter.is_none()
            || self.minimum.is_some_and(|minimum| !minimum.is_zero())
            || self.percentiles().any(|(_, _, p)| p.commit.is_some())
            || (self.model.first_flat != FirstFlat::Usage
                && self
                    .model
                    .tiers
                    .first()
                    .is_some_and(|tier| tier.flat.is_some()))
    }
}

/// The name of the row of a percentile, if it has one.
fn row_id<'p>((_, row, _): (u16, Option<&'p Row>, &'p Percentile)) -> Option<&'p str> {
    row.map(|row| row.id.as_str())
}

/// What a level over time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// The seconds of the time unit that the meter's billed unit ends with.
    pub unit_secs: Ratio,
    /// So many seconds; `None` for the true length of the period.
    pub length_secs: Option<Ratio>,
}

/// Quantities that are prorated where a price is in force for a part of a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prorated {
    /// What is included.
    pub allowance: bool,
    /// The bounds of tiers.
    pub tiers: bool,
}

/// After what time tiers, blocks and allowance begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interval {
    /// With the billing period.
    #[default]
    Period,
    /// With every day of the tenant's zone, and with the period.
    Day,
    /// With every quarter of an hour, which no window crosses.
    Quarter,
    /// With every hour, counted from the beginning of the period.
    Hour,
    /// With every window in which agents count.
    Window,
}

impl Interval {
    /// As it is written in a catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Day => "P1D",
            Self::Quarter => "PT15M",
            Self::Hour => "PT1H",
            Self::Window => "window",
        }
    }
}

/// How a price is billed and taxed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTerms {
    /// The codes of its taxes; `None` for those of the profile.
    pub taxes: Option<Vec<String>>,
    /// When a fee is billed.
    pub billed: Billed,
    /// For which periods a fee is due.
    pub due: Due,
    /// For how long a fee is not due when the agreement begins.
    pub trial: Option<Every>,
    /// How a fee, a maximum and a minimum are reduced for a part of a period; `None` for not at
    /// all.
    pub prorate: Option<Proration>,
    /// The general-ledger account that it earns for; `None` for
    /// [`GL_DEFAULT`](crate::ledger::GL_DEFAULT).
    pub gl: Option<String>,
}

/// For which periods a fee is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// For all.
    #[default]
    EveryPeriod,
    /// For the one in which the agreement begins.
    Once,
    /// For those in which a term of this length begins, counted from the agreement's first day.
    Every(Every),
}

/// When a fee is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Billed {
    /// With the invoice of its period.
    #[default]
    InArrears,
    /// With the invoice of the period before.
    InAdvance,
}

/// A conversion of the cumulative quantity before it is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convert {
    /// So much of the meter's unit …
    pub from: Measure,
    /// … is so much of the price's unit.
    pub to: Measure,
    /// `to / from`.
    pub factor: Ratio,
    /// To what multiples of the price's unit the result is rounded, and how; `None` for not at all.
    pub round: Option<(Measure, Mode)>,
}

/// A quantity that is included in every period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How much, in the price's unit.
    pub quantity: Measure,
    /// What usage above it is charged for.
    pub above: Above,
}

/// What is charged where usage exceeds the allowance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Above {
    /// What exceeds it.
    #[default]
    Excess,
    /// All usage.
    All,
}

/// How a quantity becomes an amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What a quantity beyond the first tier costs.
    pub scheme: Scheme,
    /// In order; only the last one has no bound. Never empty.
    pub tiers: Vec<Tier>,
    /// The tier that a bound belongs to.
    pub bounds: Bounds,
    /// What parts of a block cost.
    pub blocks: Blocks,
    /// What selects tiers; `None` for the quantity that is priced.
    pub tier_by: Option<TierBy>,
    /// When the first tier's flat fee is due.
    pub first_flat: FirstFlat,
}

/// What a quantity beyond the first tier costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The units between two bounds cost what their tier says.
    Graduated,
    /// All units cost what the tier of the whole quantity says.
    Volume,
}

/// The tier that a bound itself belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bounds {
    /// `to` is the last quantity of its tier.
    #[default]
    Inclusive,
    /// `to` is the first quantity of the next tier.
    Exclusive,
}

/// What parts of a block (`per`) cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocks {
    /// Their share.
    #[default]
    Exact,
    /// As much as a whole one.
    Started,
    /// Nothing.
    Full,
}

/// When the first tier's flat fee is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstFlat {
    /// For any quantity above zero.
    #[default]
    Usage,
    /// For every period, whole.
    Always,
    /// For every period, for the part of it in which the price is in force.
    Prorated,
}

/// What selects tiers in place of the quantity that is priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TierBy {
    /// The same, rounded.
    Rounded {
        /// To multiples of this.
        to: Measure,
        /// How.
        mode: Mode,
    },
    /// What another meter counts in the period; bounds are in its billed unit.
    Meter(MeterName),
    /// The highest level of the period.
    Peak,
}

/// A step of a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// It begins above this quantity.
    pub from: Ratio,
    /// The last quantity that belongs to it (the first that does not, with exclusive bounds);
    /// `None` for the last tier.
    pub to: Option<Measure>,
    /// Price for each `per`; not negative. `None` if there is only a flat fee.
    pub unit: Option<Decimal>,
    /// Due once the tier is reached; not negative.
    pub flat: Option<Decimal>,
    /// What its unit price is quoted for; `None` for the price's `per`.
    pub per: Option<Measure>,
    /// Least that what lies in it costs, flat fee included; not negative.
    pub minimum: Option<Decimal>,
}
