//! Usage in a TOML file: one quantity for a meter, or rows of it by time and dimensions.

use std::collections::BTreeMap;

use tollgate_common::{
    Aggregation, Dimensions, MeterName, Quantity, Timestamp, Window, WindowWidth,
};

use super::super::measure;
use super::super::read::{Field, Reader, Section};
use super::super::{CATALOG_ROWS_MAX, Meter};
use super::Meters;
use super::levels::{self, Levels};
use crate::bill::{Offline, shape};
use crate::period::Period;
use crate::rate::{GatherError, MeterUsage, Part, Shape};

/// Keys of a row; all others are dimensions.
const KEYS: &[&str] = &["quantity", "rate", "slots", "time"];
/// Windows in which usage counts whose row does not say how wide its slots are.
const WINDOW_SECS: u32 = 900;

/// Most slots that the rows of one file fill with `slots`, of all meters and children together.
pub(super) const SLOTS_MAX: u32 = 1 << 21;

/// Reads the table `usage`; `room` is how many slots its rows may still fill.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    offline: &Offline<'_>,
    room: &mut u32,
) -> Option<Meters> {
    let mut carried = levels::read_carried(reader, root, offline)?;
    let mut usage = Meters::new();
    let mut sound = true;
    let table = if root.has("usage") {
        let expected = "a table such as { \"http.requests\" = \"3500000\" }";
        Some(reader.table(root, "usage", expected)?)
    } else {
        None
    };
    let names = table.iter().flat_map(|table| {
        let names = table.names().into_iter();
        names.filter_map(move |name| Some((table, table.field(&name)?, name)))
    });
    for (table, field, name) in names {
        let meter = MeterName::new(&name).ok();
        let Some(meter) = meter.and_then(|name| offline.catalog.meter(&name)) else {
            let message = format!(
                "meter `{}` is not declared (expected a [[meter]] in meters.toml or meters/)",
                name.chars().take(64).collect::<String>()
            );
            reader.refuse_field(&field, message);
            sound = false;
            continue;
        };
        let mut gather = Gather::new(meter, offline);
        gather
            .levels
            .carried(carried.remove(&meter.name).unwrap_or_default());
        match read_meter(reader, table, &name, &field, &mut gather, room) {
            Some(()) => match gather.finish(room) {
                Ok(used) => {
                    usage.insert(meter.name.clone(), used);
                }
                Err(error) => {
                    reader.refuse_field(&field, error);
                    sound = false;
                }
            },
            None => sound = false,
        }
    }
    // What stands and is not changed.
    for (name, carried) in carried {
        let meter = offline.catalog.meter(&name)?;
        let mut gather = Gather::new(meter, offline);
        gather.levels.carried(carried);
        match gather.finish(room) {
            Ok(used) => {
                usage.insert(name, used);
            }
            Err(error) => {
                reader.refuse(root.span(), "before.level", error);
                sound = false;
            }
        }
    }
    sound.then_some(usage)
}

fn read_meter<'d>(
    reader: &mut Reader<'d>,
    table: &Section<'d>,
    name: &str,
    field: &Field<'d>,
    gather: &mut Gather<'_>,
    room: &mut u32,
) -> Option<()> {
    let whole = Place {
        span: field.span.clone(),
        key: field.key.clone(),
    };
    if field.value.as_array().is_none() {
        let expected = "a quantity such as \"3500000\" or \"12.5 GB\", or an array of rows";
        let text = reader.string(field, expected)?;
        let quantity = super::checked(reader, field, gather.meter.read_signed(text))?;
        let row = Row {
            dimensions: Dimensions::none(),
            at: gather.period.start,
            quantity,
        };
        gather.add(reader, &whole, &row)?;
    } else {
        for section in reader.tables(table, name, CATALOG_ROWS_MAX) {
            let place = Place {
                span: section.span(),
                key: section.key("quantity"),
            };
            gather.row(reader, &section, &place, room)?;
        }
    }
    Some(())
}

/// Where something stands.
struct Place {
    span: std::ops::Range<usize>,
    key: String,
}

/// What was used at some time.
pub(super) struct Row {
    pub(super) dimensions: Dimensions,
    pub(super) at: Timestamp,
    pub(super) quantity: Quantity,
}

/// Gathers the rows of one meter.
pub(super) struct Gather<'m> {
    meter: &'m Meter,
    period: Period,
    shape: Shape,
    usage: MeterUsage,
    /// Of meters that do not add up over time: what each series has in a part, and since when.
    series: BTreeMap<(Part, Dimensions), (Timestamp, Quantity)>,
    /// How many slots the rows of a series have filled.
    filled: BTreeMap<Dimensions, u32>,
    /// Levels that hold.
    levels: Levels,
}

impl<'m> Gather<'m> {
    pub(super) fn new(meter: &'m Meter, offline: &Offline<'_>) -> Self {
        Self {
            meter,
            period: offline.period,
            shape: shape(&offline.slices, offline.period, offline.zone(), meter),
            usage: MeterUsage::default(),
            series: BTreeMap::new(),
            filled: BTreeMap::new(),
            levels: Levels::default(),
        }
    }

    fn row<'d>(
        &mut self,
        reader: &mut Reader<'d>,
        section: &Section<'d>,
        place: &Place,
        room: &mut u32,
    ) -> Option<()> {
        if let Some(field) = section.field("at") {
            reader.refuse_field(&field, "a row says when it was used with `time`");
            return None;
        }
        if levels::is_level(self.meter) && levels::KEYS.iter().any(|key| section.has(key)) {
            let keys = [KEYS, levels::KEYS].concat();
            let dimensions = read_dimensions(reader, section, &keys)?;
            let at = self.time(reader, section)?;
            return self.levels.row(reader, section, self.meter, dimensions, at);
        }
        let dimensions = read_dimensions(reader, section, KEYS)?;
        if section.has("slots") {
            return self.slots(reader, section, place, dimensions, room);
        }
        if let Some(field) = section.field("rate") {
            reader.refuse_field(&field, "a rate lasts for a number of `slots`");
            return None;
        }
        let quantity = match self.meter.uncounted() {
            Some(one) if !section.has("quantity") => one,
            _ => {
                let expected = "a quantity such as \"3500000\"";
                let (text, field) = reader.text(section, "quantity", expected)?;
                super::checked(reader, &field, self.meter.read_signed(text))?
            }
        };
        let row = Row {
            dimensions,
            at: self.time(reader, section)?,
            quantity,
        };
        self.add(reader, place, &row)
    }

    /// When it was, if a row says so.
    fn time<'d>(&self, reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Timestamp> {
        Some(match section.field("time") {
            None => self.period.start,
            Some(field) => {
                let expected = "an instant such as \"2026-06-15T12:00:00Z\"";
                let text = reader.string(&field, expected)?;
                let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) else {
                    reader.refuse_field(&field, format!("expected {expected}"));
                    return None;
                };
                let at = Timestamp::from_millis(at.timestamp_millis());
                if !self.period.contains(at) {
                    let message = format!("it is not in the period {}", self.period);
                    reader.refuse_field(&field, message);
                    return None;
                }
                at
            }
        })
    }

    /// Rows with `slots` follow each other: the next one of the same dimensions goes on where the
    /// last one ended.
    fn slots<'d>(
        &mut self,
        reader: &mut Reader<'d>,
        section: &Section<'d>,
        place: &Place,
        dimensions: Dimensions,
        room: &mut u32,
    ) -> Option<()> {
        let first_window = window_at(self.period.start, WINDOW_SECS);
        let secs = self
            .shape
            .slot_secs(first_window, &dimensions)
            .unwrap_or(WINDOW_SECS);
        let length = (self.period.end.secs() - self.period.start.secs()) / i64::from(secs);
        let all = u32::try_from(length).unwrap_or(u32::MAX);
        let before = self.filled.get(&dimensions).copied().unwrap_or(0);
        let left = all.saturating_sub(before);
        let is_rest = section
            .field("slots")
            .is_some_and(|field| field.value.as_str() == Some("rest"));
        let count = if is_rest {
            left
        } else {
            let expected = format!("\"rest\", or how many slots of {secs} s; {left} are left");
            reader.integer(section, "slots", left, &expected)?
        };
        let Some(rest) = room.checked_sub(count) else {
            let message = format!(
                "all rows of a file together fill at most {SLOTS_MAX} slots (expected fewer, or a \
                 file of rows with `time`)"
            );
            reader.refuse(section.span(), &section.key("slots"), message);
            return None;
        };
        *room = rest;
        let quantity = self.per_slot(reader, section, secs)?;
        for slot in before..before + count {
            let after = i64::from(slot) * i64::from(secs);
            let row = Row {
                dimensions: dimensions.clone(),
                at: self.period.start.plus_millis(after * 1000),
                quantity,
            };
            self.add(reader, place, &row)?;
        }
        self.filled.insert(dimensions, before + count);
        Some(())
    }

    /// What each slot has: a `quantity`, or a `rate` for its length.
    fn per_slot<'d>(
        &self,
        reader: &mut Reader<'d>,
        section: &Section<'d>,
        secs: u32,
    ) -> Option<Quantity> {
        if section.has("quantity") {
            let (text, field) = reader.text(section, "quantity", "a quantity for each slot")?;
            return super::checked(reader, &field, self.meter.read_quantity(text));
        }
        let (text, field) = reader.text(section, "rate", "a rate such as \"260 Mbit/s\"")?;
        let (unit, scale) = (self.meter.billed_unit(), self.meter.billed_scale());
        let quantity = measure::over_time(text, &unit, scale, secs);
        super::checked(reader, &field, quantity)
    }

    fn add(&mut self, reader: &mut Reader<'_>, place: &Place, row: &Row) -> Option<()> {
        self.count(row)
            .map_err(|error| reader.refuse(place.span.clone(), &place.key, error))
            .ok()
    }

    /// What the level of a series is from an instant on (`level`), or what is added to it (`delta`).
    pub(super) fn level(
        &mut self,
        dimensions: Dimensions,
        at: Timestamp,
        (key, text): (&str, &str),
    ) -> Result<(), String> {
        let change = levels::Change::read(key, text, self.meter);
        let change = change.map_err(|error| error.to_string())?;
        self.levels.change(dimensions, at, change);
        Ok(())
    }

    /// Counts a row.
    pub(super) fn count(&mut self, row: &Row) -> Result<(), GatherError> {
        let window = window_at(row.at, WINDOW_SECS);
        // The narrowest window that begins there, so that no slot but its own is touched.
        let window = match self.shape.slot_secs(window, &row.dimensions) {
            Some(secs) => window_at(row.at, gcd(secs, WINDOW_SECS)),
            None => window,
        };
        let dimensions = &row.dimensions;
        if self.meter.aggregation.adds_up() {
            return self
                .usage
                .count(&self.shape, window, dimensions, row.quantity);
        }
        for part in self.shape.parts_of(window, dimensions) {
            let one = self.series.entry((part, dimensions.clone()));
            let (since, value) = one.or_insert((row.at, row.quantity));
            match self.meter.aggregation {
                Aggregation::Last if row.at >= *since => (*since, *value) = (row.at, row.quantity),
                Aggregation::Last => {}
                // Distinct values too: nobody knows which of several rows are the same.
                _ => *value = Ord::max(*value, row.quantity),
            }
        }
        Ok(())
    }

    /// All that was counted; `room` is how many windows levels may fill.
    pub(super) fn finish(mut self, room: &mut u32) -> Result<MeterUsage, GatherError> {
        let (period, levels) = (self.period, std::mem::take(&mut self.levels));
        levels.integrate(period, &self.shape, &mut self.usage, room)?;
        for ((part, _), (_, value)) in std::mem::take(&mut self.series) {
            self.usage.add(part, value)?;
        }
        Ok(self.usage)
    }
}

/// The greatest number that divides both.
const fn gcd(mut one: u32, mut other: u32) -> u32 {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// The window of a width in which an instant lies; for wider slots the widest one.
pub(super) fn window_at(instant: Timestamp, secs: u32) -> Window {
    let width = WindowWidth::from_secs(secs).or_else(|_| WindowWidth::from_secs(WINDOW_SECS));
    Window::containing(instant, width.expect("a window divides itself"))
}

/// Reads the dimensions of a row: all keys but `keys`.
pub(super) fn read_dimensions<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    keys: &[&str],
) -> Option<Dimensions> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for name in section.names() {
        if keys.contains(&name.as_str()) {
            continue;
        }
        let Some(field) = section.field(&name) else {
            continue;
        };
        let value = reader.string(&field, "the value of a dimension such as \"eu\"")?;
        pairs.push((name, value.to_owned()));
    }
    match Dimensions::new(pairs) {
        Ok(dimensions) => Some(dimensions),
        Err(error) => {
            reader.refuse(section.span(), &section.key("quantity"), error);
            None
        }
    }
}
