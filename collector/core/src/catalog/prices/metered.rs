//! Prices of a meter: by its sum or by rows, by percentile, by percentage or by single events.

use std::sync::Arc;

use super::super::measure::Measure;
use super::super::models::ModelName;
use super::super::price::{Interval, Model, Price, PriceTerms, Prorated};
use super::super::read::{Reader, Section};
use super::super::unit::Unit;
use super::super::{Catalog, Meter, Places, each, long_term, matrix, per_event, percentile, terms};
use super::{read_model, read_per};
use crate::rate::Rounding;

/// A price without conversion, discounts and limits.
pub(super) fn bare(meter: &Meter, unit: Unit, per: Measure, model: Model) -> Price {
    Price {
        id: String::new(),
        meter: Some(meter.name.clone()),
        unit,
        per,
        convert: None,
        allowance: None,
        model,
        interval: Interval::Period,
        long_term: None,
        over: None,
        prorated: Prorated::default(),
        matrix: None,
        percentile: None,
        per_event: None,
        each: None,
        is_percentage: false,
        listed: None,
        discounts: Vec::new(),
        maximum: None,
        minimum: None,
        rounding: Rounding::default(),
        terms: PriceTerms::default(),
        fast: None,
    }
}

pub(super) fn read_bandwidth<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
) -> Option<Price> {
    let read = percentile::read(reader, section, meter)?;
    let convert = percentile::read_convert(reader, section, &read.unit)?;
    Some(Price {
        convert,
        percentile: Some(read.percentile),
        ..bare(meter, read.unit, read.per, read.model)
    })
}

/// A percentage, or a price of single events.
pub(super) fn read_charged<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
    name: ModelName,
    currency: Option<&str>,
) -> Option<Price> {
    let unit = meter.billed_unit();
    if name != ModelName::Percentage {
        let read = per_event::read(reader, section, meter, None)?;
        return Some(Price {
            per_event: read.per_event,
            ..bare(meter, unit, read.per, read.model)
        });
    }
    let read = per_event::read_percentage(reader, section, meter, currency)?;
    let allowance = terms::read_allowance(reader, section, &unit)?;
    let (interval, long_term) = long_term::read(reader, section, meter)?;
    for name in ["allowance", "interval"] {
        if let (Some(field), Some(_)) = (section.field(name), &read.per_event) {
            let message = format!(
                "single events are priced in the period (expected no `{name}`, but `free_events` \
                 or `free_quantity` for what is free)"
            );
            reader.refuse_field(&field, message);
            return None;
        }
    }
    Some(Price {
        allowance,
        interval,
        long_term,
        per_event: read.per_event,
        is_percentage: true,
        ..bare(meter, unit, read.per, read.model)
    })
}

pub(super) fn read_metered<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    name: Option<ModelName>,
    (meter, currency): (&Meter, Option<&str>),
    places: &Places,
) -> Option<Price> {
    let over = terms::read_over(reader, section, meter)?;
    let metered = match &over {
        Some((level, over)) => terms::level_unit(reader, section, level, *over)?,
        None => meter.billed_unit(),
    };
    // What is wrong further on depends on the unit.
    let (convert, unit) = terms::read_convert(reader, section, &metered)?;
    // Rows may each say for themselves.
    let is_matrix = name == Some(ModelName::Matrix);
    let per = if is_matrix && !section.has("per") {
        None
    } else {
        Some(read_per(reader, section, &unit)?)
    };
    let interval = long_term::read(reader, section, meter);
    let allowance = terms::read_allowance(reader, section, &unit);
    let name = name?;
    let (model, matrix) = if name == ModelName::Matrix {
        let of_meter = (meter, currency);
        let matrix = matrix::read(
            catalog,
            reader,
            section,
            of_meter,
            (&unit, per.as_ref()),
            places,
        )?;
        (matrix.rows.first()?.model.clone(), Some(Arc::new(matrix)))
    } else {
        let model = read_model(catalog, reader, section, name, &unit, per.as_ref());
        (model?, None)
    };
    let per = per.or_else(|| Some(matrix.as_ref()?.rows.first()?.per.clone()))?;
    let (interval, long_term) = interval?;
    Some(Price {
        convert,
        allowance: allowance?,
        interval,
        long_term,
        each: each::read(reader, section, meter)?,
        over: over.map(|(_, over)| over),
        prorated: terms::read_prorated(reader, section)?,
        is_percentage: matrix
            .as_ref()
            .is_some_and(|matrix| matrix.rows.iter().all(|row| row.is_percentage)),
        matrix,
        ..bare(meter, unit, per, model)
    })
}
