//! Meters: what is counted, in which unit, and how its values combine.

use std::str::FromStr;
use std::sync::Arc;

use tollgate_common::limits::SCALE_MAX;
use tollgate_common::{Aggregation, MeterName, Quantity, Scale};

use super::measure::{self, MeasureError};
use super::read::{Reader, Section};
use super::{CATALOG_ROWS_MAX, Catalog, Places, Unit, per_event, read_scale};

/// A declared meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name.
    pub name: MeterName,
    /// Its unit.
    pub unit: Unit,
    /// Decimal places of its quantities.
    pub scale: Scale,
    /// How its values combine.
    pub aggregation: Aggregation,
    /// The dimension whose value is the id of an event, where single events are counted: each
    /// series in a window is one.
    pub event: Option<Arc<str>>,
    /// True if it counts events: one each, whatever else they say.
    pub counts: bool,
}

impl Meter {
    /// Reads a quantity such as `3500000`, in the billed unit, or `12.5 GB`.
    ///
    /// # Errors
    /// See [`MeasureError`].
    pub fn read_quantity(&self, text: &str) -> Result<Quantity, MeasureError> {
        let unit = self.billed_unit();
        if self.aggregation == Aggregation::TimeWeighted && !text.contains(' ') {
            // Ten seats, or ten seconds of a seat?
            let number = measure::plain_decimal(text).map_or("10", |_| text);
            let example = format!("{number} {}.h", self.unit);
            return Err(MeasureError::NoUnit { example });
        }
        measure::quantity(text, &unit, self.billed_scale())
    }

    /// What a row of a usage file counts that says no quantity: of a meter that counts events one.
    pub fn uncounted(&self) -> Option<Quantity> {
        self.counts.then_some(Quantity::new(1))
    }

    /// As [`Meter::read_quantity`], of a quantity that may be below zero, where the meter's values add up.
    ///
    /// # Errors
    /// See [`MeasureError`].
    pub fn read_signed(&self, text: &str) -> Result<Quantity, MeasureError> {
        match text.strip_prefix('-') {
            Some(rest) if self.aggregation.adds_up() => {
                let quantity = self.read_quantity(rest)?;
                Quantity::ZERO
                    .checked_sub(quantity)
                    .ok_or(MeasureError::Digits)
            }
            _ => self.read_quantity(text),
        }
    }

    /// Decimal places of what is billed: of a level over time three more, because agents count
    /// its milliseconds.
    pub fn billed_scale(&self) -> Scale {
        let billed = self.aggregation.rollup_scale(self.scale);
        // Checked when the catalog was read.
        billed.unwrap_or(self.scale)
    }

    /// The unit of what is billed: of a level over time the unit times seconds, `{seat}.s`.
    pub fn billed_unit(&self) -> Unit {
        match self.aggregation {
            Aggregation::TimeWeighted => self.unit.times_seconds(),
            _ => self.unit.clone(),
        }
    }
}

/// How values combine, as a catalog says it.
struct Combined {
    aggregation: Aggregation,
    counts: bool,
}

impl FromStr for Combined {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Agents add the ones up.
        let counts = text == "count";
        let text = if counts { "sum" } else { text };
        let aggregation = text.parse::<Aggregation>();
        let aggregation = aggregation.map_err(|error| format!("{error}, or `count` for events"))?;
        Ok(Self {
            aggregation,
            counts,
        })
    }
}

impl Catalog {
    pub(super) fn read_meters<'d>(
        &mut self,
        reader: &mut Reader<'d>,
        root: &Section<'d>,
        path: &str,
        places: &mut Places,
    ) {
        reader.only(root, &["meter"]);
        for section in reader.tables(root, "meter", CATALOG_ROWS_MAX) {
            reader.only(&section, &["name", "unit", "scale", "aggregation", "event"]);
            let name = reader.parse::<MeterName>(
                &section,
                "name",
                "a meter's name such as \"http.requests\"",
            );
            let unit =
                reader.parse::<Unit>(&section, "unit", "a unit such as \"By\" or \"{request}\"");
            let scale = read_scale(reader, &section);
            let aggregation = reader.parse::<Combined>(&section, "aggregation", "such as \"sum\"");
            let Some((name, field)) = name else { continue };
            if !places.claim(reader, &field, &format!("meter `{name}`"), path) {
                continue;
            }
            let (
                Some((unit, _)),
                Some(scale),
                Some((
                    Combined {
                        aggregation,
                        counts,
                    },
                    field,
                )),
            ) = (unit, scale, aggregation)
            else {
                places.broken_meters.insert(name);
                continue;
            };
            if aggregation.rollup_scale(scale).is_none() {
                let message = format!(
                    "a level over time needs three decimal places more than its scale {scale}, \
                     and {SCALE_MAX} are the most (expected a scale of at most {})",
                    SCALE_MAX - 3
                );
                reader.refuse_field(&field, message);
                places.broken_meters.insert(name);
                continue;
            }
            if counts && scale != Scale::ZERO {
                let message = "events are counted whole (expected `scale = 0`)";
                reader.refuse_field(&field, message);
                places.broken_meters.insert(name);
                continue;
            }
            let Some(event) = per_event::read_dimension(reader, &section, aggregation) else {
                places.broken_meters.insert(name);
                continue;
            };
            let meter = Meter {
                name: name.clone(),
                unit,
                scale,
                aggregation,
                event,
                counts,
            };
            self.meters.insert(name, meter);
        }
    }
}
