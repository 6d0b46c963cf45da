//! Reads the tiers of a price.

use std::str::FromStr;

use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::measure::{Amount, Measure, plain_decimal};
use super::price::{Bounds, FirstFlat, Tier, TierBy};
use super::prices::{amount, checked};
use super::read::{Field, Reader, Section};
use super::unit::Unit;
use super::{Catalog, TIERS_MAX};
use crate::rate::{Mode, Ratio};

impl FromStr for Bounds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "inclusive" => Ok(Self::Inclusive),
            "exclusive" => Ok(Self::Exclusive),
            _ => Err(
                "expected `inclusive` (`to` is the last quantity of its tier) or `exclusive` (the \
                 first of the next one)",
            ),
        }
    }
}

impl FromStr for FirstFlat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "usage" => Ok(Self::Usage),
            "always" => Ok(Self::Always),
            "prorated" => Ok(Self::Prorated),
            _ => Err(
                "expected `usage` (due for any quantity above zero), `always` (for every period, \
                 whole) or `prorated` (for the part of it in which the price is in force)",
            ),
        }
    }
}

/// Reads tiers and checks that their bounds rise and that only the last has none.
pub(super) fn read<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
    per: Option<&Measure>,
) -> Option<Vec<Tier>> {
    read_priced(reader, section, (unit, None), per, "unit")
}

/// As [`read`], with the unit of bounds where another meter selects the tier, and the key that tiers
/// have in place of `unit`.
pub(super) fn read_priced<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    (unit, selecting): (&Unit, Option<&Unit>),
    per: Option<&Measure>,
    name: &str,
) -> Option<Vec<Tier>> {
    let whole = reader.required(
        section,
        "tiers",
        "tiers such as [{ to = \"2000000\", unit = \"0.40\" }, { unit = \"0.25\" }]",
    )?;
    let base = reader.maybe::<Amount>(
        section,
        "unit",
        "the base price of tiers with `times`, such as \"0.40\"",
    )?;
    let sections = reader.tables(section, "tiers", TIERS_MAX);
    if sections.is_empty() {
        reader.refuse_field(&whole, "a price with tiers needs at least one tier");
        return None;
    }
    if let Some((_, field)) = &base
        && !sections.iter().any(|tier| tier.has("times"))
    {
        let message = "a price with tiers has a `unit` only as the base of `times`, which no tier \
                       has (expected no `unit`)";
        reader.refuse_field(field, message);
        return None;
    }
    let base = base.map(|(Amount(base), _)| base);
    let mut tiers: Vec<Tier> = Vec::with_capacity(sections.len());
    let mut sound = true;
    let mut below = Ratio::ZERO;
    for (index, tier) in sections.iter().enumerate() {
        reader.only(
            tier,
            &["to", "holds", name, "times", "flat", "per", "minimum"],
        );
        let is_last = index + 1 == sections.len();
        let own_per = read_own_per(reader, tier, unit);
        let price = read_tier_price(reader, tier, base, name);
        let minimum = reader.maybe::<Amount>(tier, "minimum", "an amount such as \"5.00\"");
        let from = below;
        let block = match &own_per {
            Some(Some(own)) => Some(own),
            _ => per,
        };
        let (of, block) = match selecting {
            Some(selecting) => (selecting, Block::None),
            None => (unit, Block::Of(block)),
        };
        let to = read_upper(reader, tier, is_last, of, block, &mut below);
        match (price, to, own_per, minimum) {
            (Some((unit, flat)), Some(to), Some(per), Some(minimum)) => tiers.push(Tier {
                from,
                to,
                unit,
                flat,
                per,
                minimum: minimum.map(|(Amount(minimum), _)| minimum),
            }),
            _ => sound = false,
        }
    }
    sound.then_some(tiers)
}

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_own_per<'d>(
    reader: &mut Reader<'d>,
    tier: &Section<'d>,
    unit: &Unit,
) -> Option<Option<Measure>> {
    let Some(field) = tier.field("per") else {
        return Some(None);
    };
    let expected = format!("what this tier's price is quoted for, such as \"1000 {unit}\"");
    let text = reader.string(&field, &expected)?;
    checked(reader, &field, Measure::with_unit(text, unit)).map(Some)
}

/// Unit price and flat fee of a tier; it has one of them at least.
fn read_tier_price<'d>(
    reader: &mut Reader<'d>,
    tier: &Section<'d>,
    base: Option<Decimal>,
    name: &str,
) -> Option<(Option<Decimal>, Option<Decimal>)> {
    let expected = "a price as a decimal string such as \"0.40\"";
    if let (true, Some(field)) = (tier.has(name), tier.field("times")) {
        reader.refuse_field(&field, format!("a tier has `{name}` or `times`, not both"));
        return None;
    }
    let flat = reader.maybe::<Amount>(tier, "flat", "a fee such as \"5.00\"")?;
    let flat = flat.map(|(Amount(flat), _)| flat);
    let unit = if let Some(field) = tier.field("times") {
        let text = reader.string(&field, "a factor of the price's `unit`, such as \"0.8\"")?;
        let times = checked(reader, &field, plain_decimal(text))?;
        let Some(base) = base else {
            let message = "there is no base price (expected `unit` in the price)";
            reader.refuse_field(&field, message);
            return None;
        };
        let Some(product) = exact_product(base, times) else {
            reader.refuse_field(
                &field,
                "the product with the base price has too many digits",
            );
            return None;
        };
        Some(product)
    } else if flat.is_some() && !tier.has(name) {
        None
    } else {
        Some(amount(reader, tier, name, expected)?)
    };
    Some((unit, flat))
}

/// A product that is not rounded.
pub(super) fn exact_product(left: Decimal, right: Decimal) -> Option<Decimal> {
    let mantissa = left.mantissa().checked_mul(right.mantissa())?;
    Decimal::try_from_i128_with_scale(mantissa, left.scale() + right.scale())
        .ok()
        .map(|product| product.normalize())
}

/// What bounds are counted in where they are counted in blocks.
#[derive(Clone, Copy)]
pub(super) enum Block<'m> {
    /// In these; without a sound `per` there is a mistake elsewhere.
    Of(Option<&'m Measure>),
    /// They are not.
    None,
}

/// The upper bound of a tier, by `to` or by `holds`; `None` for a mistake.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_upper<'d>(
    reader: &mut Reader<'d>,
    tier: &Section<'d>,
    is_last: bool,
    unit: &Unit,
    block: Block<'_>,
    below: &mut Ratio,
) -> Option<Option<Measure>> {
    let (to, holds) = (tier.field("to"), tier.field("holds"));
    if let (Some(_), Some(field)) = (&to, &holds) {
        reader.refuse_field(field, "a tier has `to` or `holds`, not both");
        return None;
    }
    match (to.or(holds), is_last) {
        (None, true) => Some(None),
        (Some(field), true) => {
            reader.refuse_field(
                &field,
                "the last tier must not have a bound: usage above it would have no price \
                 (expected a last tier without `to`)",
            );
            None
        }
        (None, false) => {
            let message =
                "missing (expected the last quantity of this tier; only the last tier has none)";
            reader.refuse(tier.span(), &tier.key("to"), message);
            None
        }
        (Some(field), false) => {
            let bound = read_bound(reader, &field, unit, block)?;
            let bound = if tier.has("holds") {
                let Some(value) = below.checked_add(bound.value()) else {
                    reader.refuse_field(&field, "the bound does not fit the numbers");
                    return None;
                };
                Measure::made(value.to_string(), value)
            } else {
                bound
            };
            if bound.value().checked_cmp(*below) != Some(std::cmp::Ordering::Greater) {
                let message = format!(
                    "bounds must rise: {bound} is not above {below}, where this tier begins"
                );
                reader.refuse_field(&field, message);
                return None;
            }
            *below = bound.value();
            Some(Some(bound))
        }
    }
}

/// Reads `2000000`, `2 TB` or `10 blocks`.
fn read_bound<'d>(
    reader: &mut Reader<'d>,
    field: &Field<'d>,
    unit: &Unit,
    block: Block<'_>,
) -> Option<Measure> {
    let text = reader.string(field, "a quantity as a decimal string such as \"2000000\"")?;
    let Some(number) = text.strip_suffix(" blocks") else {
        return checked(reader, field, Measure::bound(text, unit));
    };
    let Block::Of(block) = block else {
        let message =
            format!("nothing is counted in blocks here (expected a quantity of `{unit}`)");
        reader.refuse_field(field, message);
        return None;
    };
    let block = block?.value();
    let number = Ratio::from_decimal(checked(reader, field, plain_decimal(number))?);
    let Some(value) = number.checked_mul(block).filter(|value| !value.is_zero()) else {
        reader.refuse_field(
            field,
            "the number of blocks must be above zero and fit the numbers",
        );
        return None;
    };
    Some(Measure::made(text.to_owned(), value))
}

/// What selects tiers in place of the quantity that is priced.
pub(super) struct Selects {
    pub(super) by: TierBy,
    /// What bounds are counted in, if another meter selects.
    pub(super) unit: Option<Unit>,
}

/// Reads `tier_by`. `by_volume` if one tier prices the whole quantity.
#[expect(clippy::option_option, reason = "a mistake is not an absence")]
pub(super) fn read_tier_by<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
    by_volume: bool,
) -> Option<Option<Selects>> {
    let Some(field) = section.field("tier_by") else {
        return Some(None);
    };
    let expected = "a table such as { to = \"1 GB\", round = \"down\" }, \
                    { meter = \"http.requests\" } or { level = \"peak\" }";
    let table = reader.table(section, "tier_by", expected)?;
    reader.only(&table, &["to", "round", "meter", "level"]);
    let other = ["meter", "level"].into_iter().find(|name| table.has(name));
    let Some(other) = other else {
        let mode = reader.parse::<Mode>(&table, "round", "how it is rounded, such as \"down\"");
        let (text, field) = reader.text(&table, "to", "a quantity such as \"1 GB\"")?;
        let to = checked(reader, &field, Measure::bound(text, unit))?;
        let (mode, _) = mode?;
        let by = TierBy::Rounded { to, mode };
        return Some(Some(Selects { by, unit: None }));
    };
    if !by_volume {
        let message = "another quantity selects the one tier that prices all (expected the model \
                       `volume`)";
        reader.refuse_field(&field, message);
        return None;
    }
    if table.names().len() > 1 {
        reader.refuse_field(&field, format!("expected `{other}` and nothing else"));
        return None;
    }
    if other == "level" {
        let (text, field) = reader.text(&table, "level", "\"peak\"")?;
        if text != "peak" {
            reader.refuse_field(&field, "expected `peak`: the highest level of the period");
            return None;
        }
        let by = TierBy::Peak;
        return Some(Some(Selects { by, unit: None }));
    }
    let expected = "the name of the meter whose quantity selects the tier";
    let (name, field) = reader.parse::<MeterName>(&table, "meter", expected)?;
    let Some(meter) = catalog.meter(&name) else {
        let message = format!(
            "meter `{name}` is not declared (expected a [[meter]] in meters.toml or meters/)"
        );
        reader.refuse_field(&field, message);
        return None;
    };
    if !meter.aggregation.adds_up() {
        // A part of the period has its own maximum, and nobody knows what the parts have together.
        let message = format!(
            "what meter `{name}` counts (`{}`) does not add up over a period that is cut (expected \
             a meter of aggregation `sum`, `distribution` or `time_weighted`)",
            meter.aggregation
        );
        reader.refuse_field(&field, message);
        return None;
    }
    let unit = Some(meter.billed_unit());
    let by = TierBy::Meter(name);
    Some(Some(Selects { by, unit }))
}
