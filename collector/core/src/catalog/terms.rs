//! Reads what stands around a price: conversion, allowance, maximum and minimum, rounding, and
//! after what time it begins anew.

use std::str::FromStr;

use rust_decimal::Decimal;

use super::Meter;
use super::measure::{Amount, Measure};
use super::price::{Above, Allowance, Convert, Interval, Over, Prorated};
use super::prices::checked;
use super::read::{Reader, Section};
use super::unit::Unit;
use crate::rate::{Currency, Mode, Ratio, Rounding, Site};

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
        let all = [
            Self::Period,
            Self::Day,
            Self::Hour,
            Self::Quarter,
            Self::Window,
        ];
        let known = all.into_iter().find(|interval| interval.as_str() == text);
        known.ok_or(
            "not an interval after which tiers begin anew (expected `period`, `P1D`, `PT1H`, \
             `PT15M` or `window`, or a longer term of months or years such as `P1Y`)",
        )
    }
}

/// The end of a unit that is a level over the length that `over` names.
const MONTH: &str = ".mo";

/// Where a level over time is divided by a length of time: the level's unit, and what it is divided
/// by.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_over<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    meter: &Meter,
) -> Option<Option<(Unit, Over)>> {
    let Some(field) = section.field("over") else {
        return Some(None);
    };
    let text = reader.string(&field, "\"period\", or a time such as \"730 h\"")?;
    let length_secs = if text == "period" {
        None
    } else {
        let seconds: Option<Unit> = "s".parse().ok();
        let Ok(length) = Measure::with_unit(text, &seconds?) else {
            let message = "not a length that levels are divided by (expected `period`: its true \
                           length, or a time such as `730 h`)";
            reader.refuse_field(&field, message);
            return None;
        };
        Some(length.value())
    };
    let billed = meter.billed_unit();
    let Some((level, unit_secs)) = billed.level() else {
        let message = format!(
            "only what is counted times time is divided by a length of time (expected a meter of \
             aggregation `time_weighted` or a unit such as `GiB.h`, and `{}` counts `{billed}`)",
            meter.name
        );
        reader.refuse_field(&field, message);
        return None;
    };
    let over = Over {
        unit_secs,
        length_secs,
    };
    Some(Some((level, over)))
}

/// The unit of a level that is divided by a length: the level itself, or the level times `mo` where
/// the price is quoted so, as it has to be where the length is no period.
pub(super) fn level_unit<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    level: &Unit,
    over: Over,
) -> Option<Unit> {
    let per = section.field("per");
    let text = per.as_ref().and_then(|field| field.value.as_str());
    if text.is_some_and(|text| text.ends_with(MONTH)) {
        return format!("{level}{MONTH}").parse().ok();
    }
    if let (Some(_), Some(field)) = (over.length_secs, &per) {
        let message = format!(
            "a level over a length that is no period is no level any more (expected `per` in a unit \
             that says so, such as `1 {level}{MONTH}`)"
        );
        reader.refuse_field(field, message);
        return None;
    }
    Some(level.clone())
}

/// Reads which quantities are prorated with the price.
pub(super) fn read_prorated<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
) -> Option<Prorated> {
    let mut prorated = Prorated::default();
    let Some(field) = section.field("prorated") else {
        return Some(prorated);
    };
    let names = field.items().unwrap_or_default();
    for item in &names {
        match item.value.as_str() {
            Some("allowance") if section.has("allowance") || section.has("rows") => {
                prorated.allowance = true;
            }
            Some("tiers") if section.has("tiers") || section.has("rows") => prorated.tiers = true,
            _ => {
                let message = "expected what the price has of `allowance` and `tiers`";
                reader.refuse_field(item, message);
                return None;
            }
        }
    }
    if names.is_empty() {
        reader.refuse_field(
            &field,
            "expected an array such as [\"allowance\", \"tiers\"]",
        );
        return None;
    }
    Some(prorated)
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
    reader.only(&table, &["from", "to", "step", "round"]);
    let mode = reader.parse::<Rounded>(
        &table,
        "round",
        "how it is rounded, such as \"up\", or \"none\"",
    );
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
        "what it becomes, such as \"1 GB\"; without `from`, what it is rounded to multiples of",
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
    let step = read_step(reader, &table, &unit, &to)?;
    let (Rounded(mode), mode_field) = mode?;
    let rounds_alone = !table.has("from");
    if mode.is_none() && (rounds_alone || table.has("step")) {
        let message = "nothing is left to be done (expected `from`, or a way to round)";
        reader.refuse_field(&mode_field, message);
        return None;
    }
    let convert = Convert {
        from,
        to,
        factor,
        round: mode.map(|mode| (step, mode)),
    };
    Some((Some(convert), unit))
}

/// A way to round, or none.
struct Rounded(Option<Mode>);

impl FromStr for Rounded {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        let mode = text.parse::<Mode>();
        mode.map(|mode| Self(Some(mode)))
            .map_err(|expected| format!("{expected}, or `none` beside `from`"))
    }
}

/// What a converted quantity is rounded to multiples of: one of its unit, unless `step` says
/// otherwise; what is not converted is rounded to `to`.
fn read_step<'d>(
    reader: &mut Reader<'d>,
    table: &Section<'d>,
    unit: &Unit,
    to: &Measure,
) -> Option<Measure> {
    let converts = table.has("from");
    match table.field("step") {
        None if converts => Some(Measure::made(format!("1 {unit}"), Ratio::ONE)),
        None => Some(to.clone()),
        Some(field) if !converts => {
            let message = "what is not converted is rounded to multiples of `to` (expected `from` \
                           beside `step`)";
            reader.refuse_field(&field, message);
            None
        }
        Some(field) => {
            let expected = format!("what it is rounded to multiples of, such as \"1 {unit}\"");
            let text = reader.string(&field, &expected)?;
            checked(reader, &field, Measure::with_unit(text, unit))
        }
    }
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

/// What amounts are rounded to multiples of.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_multiple<'d>(
    reader: &mut Reader<'d>,
    table: &Section<'d>,
    site: Site,
    currency: Option<Currency>,
) -> Option<Option<Ratio>> {
    let expected = "an amount as a decimal string such as \"0.05\"";
    let Some((Amount(to), field)) = reader.maybe::<Amount>(table, "to", expected)? else {
        return Some(None);
    };
    let places = to.normalize().scale();
    let message = if to.is_zero() {
        "nothing is a multiple of it (expected more than zero)"
    } else if table.has("places") {
        "its multiples have their decimal places (expected `to` or `places`)"
    } else if site == Site::Invoice {
        "what is rounded is the sum of several lines (expected `total` in the card, or another `at`)"
    } else if currency.is_some_and(|currency| places > currency.exponent()) {
        "it is finer than what can be paid in the card's currency (expected fewer decimal places)"
    } else {
        return Some(Some(Ratio::from_decimal(to)));
    };
    reader.refuse_field(&field, message);
    None
}

/// How and where amounts are rounded. The currency is that of the card, as far as it is known.
pub(super) fn read_rounding<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    currency: Option<Currency>,
) -> Option<Rounding> {
    if !section.has("rounding") {
        return Some(Rounding::default());
    }
    let table = reader.table(
        section,
        "rounding",
        "a table such as { at = \"line\", mode = \"half_up\", places = 2 }",
    )?;
    reader.only(&table, &["at", "mode", "places", "to"]);
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
    let site = site?;
    let step = read_multiple(reader, &table, site, currency)?;
    Some(Rounding {
        site,
        mode: mode?,
        places,
        step,
    })
}
