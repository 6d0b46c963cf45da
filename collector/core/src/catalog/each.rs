//! Prices of each: tiers, blocks and allowance begin anew with every value of a dimension.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::Meter;
use super::per_event::Dimension;
use super::read::{Field, Reader, Section};
use super::terms;
use crate::rate::adds_up;

/// Most dimensions that tell apart what is priced by itself.
const DIMENSIONS_MAX: usize = 8;

/// What is priced by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Each {
    /// The dimensions whose values tell it apart; at least one.
    pub dimensions: Arc<[Arc<str>]>,
    /// Most that one of it costs in a period, or in an interval in which tiers begin anew.
    pub maximum: Option<Decimal>,
    /// Least that one of it costs, if it is used.
    pub minimum: Option<Decimal>,
}

/// Reads `each`: a dimension, several, or a table with limits.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    price: &Section<'d>,
    meter: &Meter,
) -> Option<Option<Each>> {
    let Some(field) = price.field("each") else {
        return Some(None);
    };
    if !adds_up(meter.aggregation) {
        let message = format!(
            "what `{}` counts does not add up, so that it is one quantity of the period (expected \
             a meter of aggregation `sum`, `distribution` or `time_weighted`)",
            meter.name
        );
        reader.refuse_field(&field, message);
        return None;
    }
    let expected = "a dimension such as \"resource\", several such as [\"region\", \"resource\"], or \
                    a table such as { by = \"resource\", maximum = \"5.00\" }";
    let is_table = field.value.as_str().is_none() && field.value.as_array().is_none();
    let (by, limits) = if is_table {
        let table = reader.table(price, "each", expected)?;
        reader.only(&table, &["by", "maximum", "minimum"]);
        let limits = terms::read_limits(reader, &table);
        (reader.required(&table, "by", expected)?, limits?)
    } else {
        (field, (None, None))
    };
    let items = by.items();
    let fields: Vec<&Field<'d>> = match &items {
        Some(items) => items.iter().collect(),
        None => vec![&by],
    };
    let mut dimensions: Vec<Arc<str>> = Vec::with_capacity(fields.len());
    for field in fields {
        let name = reader.string(field, "a dimension such as \"resource\"")?;
        let name: Arc<str> = match name.parse::<Dimension>() {
            Ok(Dimension(name)) => name,
            Err(error) => {
                reader.refuse_field(field, error);
                return None;
            }
        };
        if dimensions.contains(&name) {
            reader.refuse_field(field, "it stands here twice");
            return None;
        }
        dimensions.push(name);
    }
    if dimensions.is_empty() || dimensions.len() > DIMENSIONS_MAX {
        reader.refuse_field(&by, format!("expected 1 to {DIMENSIONS_MAX} dimensions"));
        return None;
    }
    let (maximum, minimum) = limits;
    Some(Some(Each {
        dimensions: dimensions.into(),
        maximum,
        minimum,
    }))
}
