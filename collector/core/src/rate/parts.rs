//! What usage of a meter is kept apart by, because its prices need more than one sum.
//!
//! A [`Shape`] follows from the prices that are in force for a meter in a period. It says, of every
//! window of every series, in which [`Part`] its usage counts: in which slice of the period (the
//! version of the price), in which rating interval and in which cell of a matrix. A price without
//! any of this has a plain shape: one part, the default one. For a percentile price usage is also
//! sampled slot by slot, see [`super::samples`].
//!
//! What is gathered so is [`super::MeterUsage`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, Dimensions, Timestamp, Window};

use super::Ratio;
use super::events::EventKey;
use super::samples::{Direction, Samples, SlotKey};
use crate::catalog::{Card, Interval, Matrix, Percentile, Price, Row};
use crate::period::{Period, Zone};

/// Most slices of one period: more than an hour of 900 seconds each has in a year.
pub const SLICES_MAX: usize = 1 << 16;

/// No window crosses a multiple of this.
pub(super) const QUARTER_SECS: i64 = 900;

/// Between the values of several dimensions, which have no control characters.
pub(super) const SEPARATOR: &str = "\u{1f}";

/// A stretch of a period in which nothing changes that a meter's price depends on.
///
/// The slices of a period tile it, in order; a slice's index is what [`Part::slice`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice<'c> {
    /// The stretch.
    pub span: Period,
    /// Whose clocks count.
    pub zone: Zone,
    /// The version of the card that is in force, and of the meter's price in it; `None` where
    /// there is no card or no price of the meter.
    pub priced: Option<(&'c Card, &'c Price)>,
    /// What another meter counts in the whole period, in its billed unit, where [that selects the
    /// tier](crate::catalog::TierBy::Meter) of the price; `None` also if it does not fit the
    /// numbers.
    pub selects: Option<Ratio>,
}

impl Slice<'_> {
    /// The day on which it begins.
    pub fn day(&self) -> chrono::NaiveDate {
        self.zone.date_at(self.span.start)
    }

    /// True if the same price goes on in `other`: the same id, on the same card, in the same
    /// currency. Such slices make one line.
    pub fn continues(&self, other: &Slice<'_>) -> bool {
        match (self.priced, other.priced) {
            (Some((card, price)), Some((other_card, other_price))) => {
                card.id == other_card.id
                    && card.currency == other_card.currency
                    && price.id == other_price.id
            }
            (None, None) => true,
            _ => false,
        }
    }
}

/// One of the sums that usage of a meter in a period is kept in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Part {
    /// The slice, by its index in the period. Of a meter that does not add up over time (the
    /// largest or newest value, distinct values) the first slice of the same price.
    #[serde(default)]
    pub slice: u16,
    /// Where the rating interval begins, in seconds after the period does; 0 for the whole period.
    /// Of a row whose tiers are pooled: where the window begins. Of a percentile of values that do not
    /// add up: where the slot begins.
    #[serde(default)]
    pub interval: u32,
    /// The row of the matrix; 0 for a price without rows, [`Part::NO_CELL`] for usage that no row
    /// describes.
    #[serde(default)]
    pub cell: u16,
}

impl Part {
    /// The cell of usage that no row of a matrix describes, or whose direction a percentile price
    /// asks for and does not find.
    pub const NO_CELL: u16 = u16::MAX;

    /// What nothing describes of the same slice.
    pub(super) fn undescribed(self) -> Self {
        Self {
            interval: 0,
            cell: Self::NO_CELL,
            ..self
        }
    }
}

/// In which parts usage of a meter counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    period: Period,
    /// Ordered by their beginning; never empty.
    slices: Vec<Sliced>,
}

/// What one slice asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sliced {
    from: Timestamp,
    /// What its parts say.
    slice: u16,
    zone: Zone,
    interval: Interval,
    matrix: Option<Arc<Matrix>>,
    /// Of a meter that does not add up, where usage of each row counts: slice and row of the first
    /// version of the price that has a row of this name.
    cells: Vec<(u16, u16)>,
    /// Of each row of the matrix, or of the price without rows; empty where no percentile is priced.
    sampled: Vec<Sampled>,
    /// The length of slots by which values that do not add up are kept, where a percentile of them is
    /// priced.
    gauged: Option<u32>,
    told: Option<Told>,
}

/// By what usage is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// The dimension whose values are single events.
    Event(Arc<str>),
    /// The dimensions whose values are priced by themselves.
    Each(Arc<[Arc<str>]>),
}

impl Told {
    fn of(price: &Price) -> Option<Self> {
        match &price.each {
            Some(each) => Some(Self::Each(Arc::clone(&each.dimensions))),
            None => Some(Self::Event(Arc::clone(price.event_dimension()?))),
        }
    }

    /// The name of what a series is of; `None` if it does not say.
    fn name(&self, dimensions: &Dimensions) -> Option<Box<str>> {
        match self {
            Self::Event(dimension) => dimensions.get(dimension).map(Box::from),
            Self::Each(all) => {
                let values: Option<Vec<&str>> = all.iter().map(|key| dimensions.get(key)).collect();
                Some(values?.join(SEPARATOR).into())
            }
        }
    }
}

/// Samples that a percentile price asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sampled {
    slot_secs: u32,
    /// Usage without a direction is of no use to it.
    needs_direction: bool,
}

impl Sampled {
    fn of(price: &Price) -> Vec<Self> {
        let of = |percentile: &Percentile| Self {
            slot_secs: percentile.slot_secs,
            needs_direction: percentile.directions.needs_direction(),
        };
        let all = price.percentiles();
        all.map(|(_, _, percentile)| of(percentile)).collect()
    }
}

impl Shape {
    /// The shape of a meter that nobody prices, or whose price needs one sum of the period.
    pub fn plain(period: Period) -> Self {
        let whole = Sliced {
            from: period.start,
            slice: 0,
            zone: Zone::UTC,
            interval: Interval::Period,
            matrix: None,
            cells: Vec::new(),
            sampled: Vec::new(),
            gauged: None,
            told: None,
        };
        Self {
            period,
            slices: vec![whole],
        }
    }

    /// The shape that follows from the slices of a period, of which at most [`SLICES_MAX`] count.
    pub fn new(period: Period, aggregation: Aggregation, slices: &[Slice<'_>]) -> Self {
        if slices.is_empty() {
            return Self::plain(period);
        }
        let adds_up = adds_up(aggregation);
        let sliced = |(index, slice): (usize, &Slice<'_>)| {
            let first = if adds_up {
                index
            } else {
                let same = |other: &Slice<'_>| other.continues(slice);
                slices.iter().position(same).unwrap_or(index)
            };
            let price = slice.priced.map(|(_, price)| price);
            Sliced {
                from: slice.span.start,
                slice: u16::try_from(first).unwrap_or(u16::MAX),
                zone: slice.zone,
                interval: price.map_or(Interval::Period, |price| price.interval),
                matrix: price.and_then(|price| price.matrix.clone()),
                cells: if first == index {
                    Vec::new()
                } else {
                    first_cells(slices, index)
                },
                // Values that do not add up are kept series by series, in parts by slot.
                sampled: price
                    .filter(|_| adds_up)
                    .map(Sampled::of)
                    .unwrap_or_default(),
                gauged: price.filter(|_| !adds_up).and_then(|price| {
                    let (_, _, percentile) = price.percentiles().next()?;
                    Some(percentile.slot_secs)
                }),
                told: price.and_then(Told::of),
            }
        };
        Self {
            period,
            slices: slices
                .iter()
                .take(SLICES_MAX)
                .enumerate()
                .map(sliced)
                .collect(),
        }
    }

    /// The period.
    pub fn period(&self) -> Period {
        self.period
    }

    /// True if all usage counts in the default part, and nothing else is to be known of it.
    pub fn is_plain(&self) -> bool {
        let [only] = &self.slices[..] else {
            return false;
        };
        only.interval == Interval::Period
            && only.matrix.is_none()
            && only.sampled.is_empty()
            && only.gauged.is_none()
            && only.told.is_none()
    }

    fn at(&self, instant: Timestamp) -> &Sliced {
        let behind = self.slices.partition_point(|slice| slice.from <= instant);
        // What begins before the period, which nobody asks for, counts with its first slice.
        &self.slices[behind.saturating_sub(1)]
    }

    /// The parts in which values of a window count that do not add up: one, or that of each slot which
    /// the window touches. A window that goes on beyond a quarter of an hour counts in that in which
    /// it begins.
    pub fn parts_of(
        &self,
        window: Window,
        dimensions: &Dimensions,
    ) -> impl Iterator<Item = Part> + use<> {
        let first = self.part_of(window, dimensions);
        let slot_secs = self.at(window.start()).gauged;
        let after = |secs: i64| secs - self.period.start.secs();
        let begin = window.start().secs();
        let quarter = begin - begin.rem_euclid(QUARTER_SECS) + QUARTER_SECS;
        let end = after(Ord::min(window.end().secs(), quarter));
        let end = u32::try_from(end).unwrap_or(0);
        let next =
            slot_secs.map(|secs| (first.interval.saturating_add(secs)..end).step_by(secs as usize));
        let others = next.into_iter().flatten();
        std::iter::once(first).chain(others.map(move |interval| Part { interval, ..first }))
    }

    /// The part in which usage of a window counts; the first one of several.
    pub fn part_of(&self, window: Window, dimensions: &Dimensions) -> Part {
        let begin = window.start();
        let slice = self.at(begin);
        let mut cell = match &slice.matrix {
            Some(matrix) => matrix.cell(slice.zone, begin, dimensions),
            None => 0,
        };
        if let Some(sampled) = slice.sampled.get(usize::from(cell))
            && sampled.needs_direction
            && Direction::of(dimensions) == Direction::Other
        {
            cell = Part::NO_CELL;
        }
        if let Some(told) = &slice.told
            && told.name(dimensions).is_none()
        {
            cell = Part::NO_CELL;
        }
        // A pool is filled window by window.
        let pooled = slice.matrix.as_ref().is_some_and(|m| m.is_pooled(cell));
        let interval = match slice.gauged {
            Some(slot_secs) => self.slot(slot_secs, begin),
            None if pooled => self.interval(slice.zone, Interval::Window, begin),
            None => self.interval(slice.zone, slice.interval, begin),
        };
        let translated = slice.cells.get(usize::from(cell));
        let (index, cell) = translated.copied().unwrap_or((slice.slice, cell));
        Part {
            slice: index,
            interval,
            cell,
        }
    }

    /// True if usage of a window of a series may be below zero: neither a percentile nor single events
    /// can be of that.
    pub fn takes_below_zero(&self, window: Window, dimensions: &Dimensions) -> bool {
        self.slots_of(window, dimensions).is_none() && !self.has_events(window)
    }

    /// True if usage of a window is single events.
    pub(super) fn has_events(&self, window: Window) -> bool {
        matches!(self.at(window.start()).told, Some(Told::Event(_)))
    }

    /// Where the rating interval of an instant begins, in seconds after the period does.
    fn interval(&self, zone: Zone, interval: Interval, instant: Timestamp) -> u32 {
        interval_of(self.period, zone, interval, instant)
    }

    /// Where the slot of an instant begins, in seconds after the period does.
    fn slot(&self, slot_secs: u32, instant: Timestamp) -> u32 {
        let after = instant.secs() - self.period.start.secs();
        u32::try_from(after - after.rem_euclid(slot_secs.into())).unwrap_or(0)
    }

    /// The single event that usage of a window of a series is, or what is priced by itself; `None`
    /// where usage is not told apart, or a series does not say which one it is. What counts together
    /// of the same has the same key.
    pub(super) fn event_of(
        &self,
        window: Window,
        dimensions: &Dimensions,
        part: Part,
    ) -> Option<EventKey> {
        let slice = self.at(window.start());
        let told = slice.told.as_ref()?;
        let (at, cell) = match told {
            Told::Event(_) => (window.start(), 0),
            Told::Each(_) => {
                let begin = self
                    .period
                    .start
                    .plus_millis(i64::from(part.interval) * 1000);
                (Ord::max(begin, slice.from), part.cell)
            }
        };
        Some(EventKey {
            at,
            cell,
            id: told.name(dimensions)?,
            tenant: None,
        })
    }

    /// The length of the slots of which a percentile is asked for.
    pub fn slot_secs(&self, window: Window, dimensions: &Dimensions) -> Option<u32> {
        let sampled = self.slots_of(window, dimensions);
        let own = sampled.map(|range| range.key.slot_secs);
        own.or(self.at(window.start()).gauged)
    }

    /// The slots in which usage of a window is sampled: their key, the first one, and how many.
    /// `None` where no percentile is asked for.
    pub fn slots_of(&self, window: Window, dimensions: &Dimensions) -> Option<SlotRange> {
        let slice = self.at(window.start());
        let cell = match &slice.matrix {
            Some(matrix) if !slice.sampled.is_empty() => {
                matrix.cell(slice.zone, window.start(), dimensions)
            }
            _ => 0,
        };
        let sampled = slice.sampled.get(usize::from(cell))?;
        let slot = i64::from(sampled.slot_secs);
        let after = |instant: Timestamp| instant.secs() - self.period.start.secs();
        let first = after(window.start()).max(0) / slot;
        let last = (after(window.end()) - 1).max(0) / slot;
        // A window at the end of the period may reach beyond it; that belongs to its last slot.
        let most = i64::from(Samples::slots(self.period, sampled.slot_secs)) - 1;
        let (first, last) = (first.min(most), last.min(most));
        Some(SlotRange {
            key: SlotKey {
                slot_secs: sampled.slot_secs,
                direction: Direction::of(dimensions),
                cell,
            },
            first: u32::try_from(first).unwrap_or(0),
            count: u32::try_from(last - first + 1).unwrap_or(1),
        })
    }
}

/// Where the rating interval of an instant begins, in seconds after the period does.
pub(super) fn interval_of(
    period: Period,
    zone: Zone,
    interval: Interval,
    instant: Timestamp,
) -> u32 {
    let start = match interval {
        Interval::Period => return 0,
        Interval::Window => instant,
        Interval::Day => zone.start_of_local_day(instant),
        Interval::Quarter => {
            let secs = instant.secs();
            Timestamp::from_secs(secs - secs.rem_euclid(QUARTER_SECS))
        }
        Interval::Hour => {
            let since = instant.secs() - period.start.secs();
            Timestamp::from_secs(instant.secs() - since.rem_euclid(3600))
        }
    };
    let after = start.secs() - period.start.secs();
    u32::try_from(after).unwrap_or(0)
}

/// For each row of the price in a slice: the first slice of the price with a row of the same name,
/// and which one it is there.
fn first_cells(slices: &[Slice<'_>], index: usize) -> Vec<(u16, u16)> {
    let matrix = |slice: &Slice<'_>| slice.priced.and_then(|(_, price)| price.matrix.clone());
    let Some(rows) = matrix(&slices[index]) else {
        return Vec::new();
    };
    let mut first: BTreeMap<&str, (u16, u16)> = BTreeMap::new();
    let own = slices.iter().enumerate().take(index + 1);
    let own: Vec<(usize, Arc<Matrix>)> = own
        .filter(|(_, other)| other.continues(&slices[index]))
        .filter_map(|(at, other)| Some((at, matrix(other)?)))
        .collect();
    for (at, matrix) in &own {
        for (cell, row) in matrix.rows.iter().enumerate() {
            let place = (
                u16::try_from(*at).unwrap_or(u16::MAX),
                u16::try_from(cell).unwrap_or(Part::NO_CELL),
            );
            first.entry(&row.id).or_insert(place);
        }
    }
    let place = |row: &Row| first.get(row.id.as_str()).copied();
    rows.rows.iter().filter_map(place).collect()
}

/// The slots that a window covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// Of which samples.
    pub key: SlotKey,
    /// The first slot, from 0.
    pub first: u32,
    /// How many; at least one.
    pub count: u32,
}

/// True if usage of several stretches of time is the sum of what each has.
pub const fn adds_up(aggregation: Aggregation) -> bool {
    match aggregation {
        Aggregation::Sum | Aggregation::Distribution | Aggregation::TimeWeighted => true,
        Aggregation::Max | Aggregation::Last | Aggregation::Unique => false,
    }
}
