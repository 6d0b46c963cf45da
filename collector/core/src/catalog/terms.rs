//! Reads what stands around a price: conversion, allowance, maximum and minimum, rounding, and
//! after what time it begins anew.

use std::str::FromStr;

use rust_decimal::Decimal;

use super::Meter;
use super::measure::{Amount, Measure};
use super::price::{Above, Allowance, Convert, Interval};
use super::prices::checked;
use super::read::{Reader, Section};
use super::unit::Unit;
use crate::rate::{Mode, Ratio, Rounding};

/// Most decimal places to which amounts are rounded.
const PLACES_MAX: u32 = 12;

impl FromStr for Above {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "excess" => Ok(Self::Excess),
            "all" => Ok(Self::All),
            _ => Err("expected `excess` (what exceeds it is charged) or `all` (then all is)"),
        }
    }
}

impl FromStr for Interval {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Period, Self::Day, Self::Hour, Self::Window];
        let known = all.into_iter().find(|interval| interval.as_str() == text);
        known.ok_or(
            "not an interval after which tiers begin anew (expected `period`, `P1D`, `PT1H` or \
             `window`)",
        )
    }
}

/// Where a level over time is divided by the length of the period: the unit that the price counts
/// in then, and the seconds of the time unit that the meter's billed unit ends with.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_over<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
) -> Option<Option<(Unit, Ratio)>> {
    let Some(field) = section.field("over") else {
        return Some(None);
    };
    let text = reader.string(&field, "\"period\"")?;
    if text != "period" {
        let message =
            "not a length that levels are divided by (expected `period`: its true length)";
        reader.refuse_field(&field, message);
        return None;
    }
    let billed = meter.billed_unit();
    let level = billed.level();
    if level.is_none() {
        let message = format!(
            "only what is counted times time is divided by the length of the period (expected a \
             meter of aggregation `time_weighted` or a unit such as `GiB.h`, and `{}` counts \
             `{billed}`)",
            meter.name
        );
        reader.refuse_field(&field, message);
    }
    level.map(Some)
}

/// A conversion, and the unit that the price counts in; `None` for a mistake.
pub(super) fn read_convert<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    metered: &Unit,
) -> Option<(Option<Convert>, Unit)> {
    if !section.has("convert") {
        return Some((None, metered.clone()));
    }
    let table = reader.table(
        section,
        "convert",
        "a table such as { to = \"1 GB\", round = \"up\" }",
    )?;
    reader.only(&table, &["from", "to", "round"]);
    let mode = reader.parse::<Mode>(&table, "round", "how it is rounded, such as \"up\"");
    let from = match table.field("from") {
        None => None,
        Some(field) => {
            let expected = format!("an amount of the meter's unit such as \"4 {metered}\"");
            let text = reader.string(&field, &expected)?;
            Some(checked(reader, &field, Measure::with_unit(text, metered))?)
        }
    };
    let (text, field) = reader.text(
        &table,
        "to",
        "what it becomes, and is rounded to multiples of, such as \"1 GB\"",
    )?;
    let unit = match (&from, Measure::unit_of(text)) {
        (Some(_), Some(unit)) => unit,
        _ => metered.clone(),
    };
    let to = checked(reader, &field, Measure::with_unit(text, &unit))?;
    let from = from.unwrap_or_else(|| to.clone());
    let Some(factor) = to.value().checked_div(from.value()) else {
        reader.refuse_field(&field, "the factor does not fit the numbers");
        return None;
    };
    let (mode, _) = mode?;
    let convert = Convert {
        from,
        to,
        factor,
        mode,
    };
    Some((Some(convert), unit))
}

/// What is included.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_allowance<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
) -> Option<Option<Allowance>> {
    let Some(field) = section.field("allowance") else {
        return Some(None);
    };
    let expected = "a quantity such as \"1000\", or a table such as \
                    { quantity = \"1000\", above = \"all\" }";
    if field.value.as_str().is_some() {
        let text = reader.string(&field, expected)?;
        let quantity = checked(reader, &field, Measure::bound(text, unit))?;
        let above = Above::default();
        return Some(Some(Allowance { quantity, above }));
    }
    let table = reader.table(section, "allowance", expected)?;
    reader.only(&table, &["quantity", "above"]);
    let above = reader.or_default(&table, "above", "\"excess\" or \"all\"");
    let (text, field) = reader.text(&table, "quantity", "a quantity such as \"1000\"")?;
    let quantity = checked(reader, &field, Measure::bound(text, unit))?;
    Some(Some(Allowance {
        quantity,
        above: above?,
    }))
}

/// The most and the least that a period costs.
pub(super) fn read_limits<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
) -> Option<(Option<Decimal>, Option<Decimal>)> {
    let expected = "an amount as a decimal string such as \"100.00\"";
    let maximum = reader.maybe::<Amount>(section, "maximum", expected)?;
    let minimum = reader.maybe::<Amount>(section, "minimum", expected)?;
    let maximum = maximum.map(|(Amount(amount), _)| amount);
    if let (Some(maximum), Some((Amount(minimum), field))) = (maximum, &minimum)
        && maximum < *minimum
    {
        let message = format!("the minimum {minimum} is above the maximum {maximum}");
        reader.refuse_field(field, message);
        return None;
    }
    Some((maximum, minimum.map(|(Amount(amount), _)| amount)))
}

/// How and where amounts are rounded.
pub(super) fn read_rounding<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
) -> Option<Rounding> {
    if !section.has("rounding") {
        return Some(Rounding::default());
    }
    let table = reader.table(
        section,
        "rounding",
        "a table such as { at = \"line\", mode = \"half_up\", places = 2 }",
    )?;
    reader.only(&table, &["at", "mode", "places"]);
    let site = reader.or_default(
        &table,
        "at",
        "\"line\", \"tier\", \"event\" or \"increment\"",
    );
    let mode = reader.or_default(&table, "mode", "such as \"half_up\"");
    let places = if table.has("places") {
        let expected = "an integer from 0 to 12: the decimal places of amounts";
        Some(reader.integer(&table, "places", PLACES_MAX, expected)?)
    } else {
        None
    };
    Some(Rounding {
        site: site?,
        mode: mode?,
        places,
    })
}
