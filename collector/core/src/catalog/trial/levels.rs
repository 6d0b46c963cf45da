//! Levels in a usage file: what holds from when on, until it is changed.

use std::collections::BTreeMap;

use tollgate_common::{Dimensions, MeterName, Quantity, Timestamp};

use super::super::read::{Reader, Section};
use super::super::{CATALOG_ROWS_MAX, MeasureError, Meter, measure};
use super::rows::{read_dimensions, window_at};
use crate::bill::Offline;
use crate::period::Period;
use crate::rate::{GatherError, MeterUsage, Shape};

/// Keys of a row of a level.
pub(super) const KEYS: &[&str] = &["level", "delta"];
/// Windows that a level is spread over.
const WINDOW_SECS: u32 = 900;

/// What series stood at when the period began, by meter, in the smallest unit of the level.
pub(super) type Carried = BTreeMap<MeterName, BTreeMap<Dimensions, i128>>;

/// A change of a level.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    To(i128),
    By(i128),
}

impl Change {
    /// Reads what stands under `level`, or under `delta`.
    pub(super) fn read(key: &str, text: &str, meter: &Meter) -> Result<Self, MeasureError> {
        let units = |text| measure::quantity(text, &meter.unit, meter.scale).map(Quantity::units);
        if key == "level" {
            return units(text).map(Self::To);
        }
        match text.strip_prefix('-') {
            Some(rest) => units(rest).map(|units| Self::By(-units)),
            None => units(text).map(Self::By),
        }
    }
}

/// The changes of a meter's levels, series by series.
#[derive(Debug, Default)]
pub(super) struct Levels {
    carried: BTreeMap<Dimensions, i128>,
    changes: BTreeMap<Dimensions, Vec<(Timestamp, Change)>>,
}

impl Levels {
    pub(super) fn carried(&mut self, carried: BTreeMap<Dimensions, i128>) {
        self.carried = carried;
    }

    /// Reads `level`, what it is from then on, or `delta`, what is added to it.
    pub(super) fn row<'d>(
        &mut self,
        reader: &mut Reader<'d>,
        section: &Section<'d>,
        meter: &Meter,
        dimensions: Dimensions,
        at: Timestamp,
    ) -> Option<()> {
        let key = if section.has("delta") {
            "delta"
        } else {
            "level"
        };
        let expected = format!("a level such as \"10\", in `{}`", meter.unit);
        let (text, field) = reader.text(section, key, &expected)?;
        let change = super::checked(reader, &field, Change::read(key, text, meter))?;
        for other in ["quantity", "rate", "slots"] {
            if let Some(field) = section.field(other) {
                reader.refuse_field(&field, "a row has a level or a quantity, not both");
                return None;
            }
        }
        if let (true, Some(field)) = (section.has("delta"), section.field("level")) {
            reader.refuse_field(&field, "a row has `level` or `delta`, not both");
            return None;
        }
        self.change(dimensions, at, change);
        Some(())
    }

    /// Notes a change of the level of a series.
    pub(super) fn change(&mut self, dimensions: Dimensions, at: Timestamp, change: Change) {
        let changes = self.changes.entry(dimensions).or_default();
        changes.push((at, change));
    }

    /// Adds the integral of all levels over the period; `room` is how many windows they may fill.
    pub(super) fn integrate(
        mut self,
        period: Period,
        shape: &Shape,
        usage: &mut MeterUsage,
        room: &mut u32,
    ) -> Result<(), GatherError> {
        for series in self.carried.keys() {
            self.changes.entry(series.clone()).or_default();
        }
        for (series, mut changes) in self.changes {
            // Of the same instant in the order of the file.
            changes.sort_by_key(|(at, _)| *at);
            let mut level = self.carried.get(&series).copied().unwrap_or(0);
            let mut from = period.start;
            for (at, change) in changes {
                hold((from, at), level, &series, shape, usage, room)?;
                from = at;
                level = match change {
                    Change::To(level) => level,
                    Change::By(delta) => level.checked_add(delta).ok_or(GatherError::Overflow)?,
                };
                if level < 0 {
                    return Err(GatherError::Negative);
                }
            }
            hold((from, period.end), level, &series, shape, usage, room)?;
        }
        Ok(())
    }
}

/// Adds what a level is over a stretch of time, window by window where prices need that.
fn hold(
    (from, to): (Timestamp, Timestamp),
    level: i128,
    series: &Dimensions,
    shape: &Shape,
    usage: &mut MeterUsage,
    room: &mut u32,
) -> Result<(), GatherError> {
    let mut from = from;
    while from < to && level != 0 {
        let window = window_at(from, WINDOW_SECS);
        let end = if shape.is_plain() {
            to
        } else {
            Ord::min(window.end(), to)
        };
        *room = room.checked_sub(1).ok_or(GatherError::TooManyParts)?;
        // Level times milliseconds: what agents count.
        let units = level.checked_mul(end.millis_since(from).into());
        let quantity = Quantity::new(units.ok_or(GatherError::Overflow)?);
        usage.count(shape, window, series, quantity)?;
        from = end;
    }
    Ok(())
}

fn read_level<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    key: &str,
    meter: &Meter,
) -> Option<i128> {
    let expected = format!("a level such as \"10\", in `{}`", meter.unit);
    let (text, field) = reader.text(section, key, &expected)?;
    let level = measure::quantity(text, &meter.unit, meter.scale);
    Some(super::checked(reader, &field, level)?.units())
}

/// Reads `before.level`: of each meter one level, or rows with dimensions.
pub(super) fn read_carried<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    offline: &Offline<'_>,
) -> Option<Carried> {
    let mut carried = Carried::new();
    if !root.has("before") {
        return Some(carried);
    }
    let before = reader.table(root, "before", "a table of what earlier periods left")?;
    if !before.has("level") {
        return Some(carried);
    }
    let expected = "a table of levels such as { seats = \"10\" }";
    let levels = reader.table(&before, "level", expected)?;
    for name in levels.names() {
        let field = levels.field(&name)?;
        let meter = MeterName::new(&name).ok();
        let meter = meter.and_then(|name| offline.catalog.meter(&name));
        let Some(meter) = meter.filter(|meter| is_level(meter)) else {
            let message = "only a declared meter with the aggregation `time_weighted` has a level \
                           that holds";
            reader.refuse_field(&field, message);
            return None;
        };
        let own = carried.entry(meter.name.clone()).or_default();
        if field.value.as_array().is_none() {
            let level = read_level(reader, &levels, &name, meter)?;
            own.insert(Dimensions::none(), level);
            continue;
        }
        for row in reader.tables(&levels, &name, CATALOG_ROWS_MAX) {
            let level = read_level(reader, &row, "level", meter)?;
            own.insert(read_dimensions(reader, &row, &["level"])?, level);
        }
    }
    Some(carried)
}

/// True if the meter's usage is a level over time.
pub(super) fn is_level(meter: &Meter) -> bool {
    meter.aggregation == tollgate_common::Aggregation::TimeWeighted
}
