//! Reads the prices of a card.

use std::str::FromStr;

use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::cards::Id;
use super::measure::{Amount, Measure};
use super::price::{Above, Allowance, Blocks, Convert, FirstFlat, Model, Price, Scheme, Tier};
use super::read::{Field, Reader, Section, list};
use super::unit::Unit;
use super::{CATALOG_ROWS_MAX, Catalog, Places, tiers};
use crate::rate::{Mode, Ratio, Rounding, Site};

/// Most decimal places to which amounts are rounded.
const PLACES_MAX: u32 = 12;

/// The models that this version has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModelName {
    Flat,
    PerUnit,
    Package,
    Graduated,
    Volume,
}

const MODELS: &[(&str, ModelName)] = &[
    ("per_unit", ModelName::PerUnit),
    ("package", ModelName::Package),
    ("graduated", ModelName::Graduated),
    ("volume", ModelName::Volume),
    ("flat", ModelName::Flat),
];

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = MODELS.iter().find(|(name, _)| *name == text);
        known.map(|(_, model)| *model).ok_or_else(|| {
            let names: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
            format!(
                "model `{}` is not supported (expected {})",
                text.chars().take(32).collect::<String>(),
                list(&names)
            )
        })
    }
}

impl ModelName {
    /// The keys that a price of this model may have.
    fn keys(self) -> Vec<&'static str> {
        let mut keys = vec!["id", "model", "rounding"];
        if self == Self::Flat {
            keys.push("flat");
            return keys;
        }
        keys.extend(["meter", "per", "unit"]);
        match self {
            Self::Flat | Self::PerUnit => {}
            Self::Package => keys.push("blocks"),
            Self::Graduated | Self::Volume => {
                keys.extend(["tiers", "blocks", "bounds", "tier_by", "first_flat"]);
            }
        }
        keys.extend(["convert", "allowance", "maximum", "minimum"]);
        keys
    }
}

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

impl FromStr for Blocks {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exact" => Ok(Self::Exact),
            "started" => Ok(Self::Started),
            "full" => Ok(Self::Full),
            _ => Err(
                "expected `exact` (parts of `per` cost their share), `started` (as much as a \
                 whole one) or `full` (nothing)",
            ),
        }
    }
}

/// Reads the prices; `None` if there is a mistake in one of them.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Option<Vec<Price>> {
    let sections = reader.tables(root, "price", CATALOG_ROWS_MAX);
    if sections.is_empty() {
        reader.refuse(root.span(), "price", "a card needs at least one [[price]]");
        return None;
    }
    let mut prices: Vec<Price> = Vec::with_capacity(sections.len());
    let mut sound = true;
    for section in &sections {
        let Some((price, id, meter)) = read_price(catalog, reader, section, places) else {
            sound = false;
            continue;
        };
        let same_meter = |other: &&Price| price.meter.is_some() && other.meter == price.meter;
        if prices.iter().any(|other| other.id == price.id) {
            let message = format!("price `{}` is declared twice in this card", price.id);
            reader.refuse_field(&id, message);
            sound = false;
        } else if let (Some(other), Some((name, meter))) = (prices.iter().find(same_meter), &meter)
        {
            let message = format!(
                "meter `{name}` has the price `{}` already (expected one price for each meter)",
                other.id
            );
            reader.refuse_field(meter, message);
            sound = false;
        } else {
            prices.push(price);
        }
    }
    sound.then_some(prices)
}

type Named<'d> = Option<(MeterName, Field<'d>)>;

fn read_price<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<(Price, Field<'d>, Named<'d>)> {
    let model = reader.parse::<ModelName>(section, "model", "a model such as \"graduated\"");
    if let Some((model, _)) = &model {
        reader.only(section, &model.keys());
    }
    let id = reader.parse::<Id>(
        section,
        "id",
        "the name of the invoice line such as \"requests\"",
    );
    let rounding = read_rounding(reader, section);
    if matches!(model, Some((ModelName::Flat, _))) {
        let flat = amount(reader, section, "flat", "an amount such as \"25.00\"")?;
        let (Id(id), id_field) = id?;
        return Some((fee(id, flat, rounding?)?, id_field, None));
    }
    let (meter, meter_field) =
        reader.parse::<MeterName>(section, "meter", "the name of a declared meter")?;
    let Some(declared) = catalog.meter(&meter) else {
        if !places.broken_meters.contains(&meter) {
            let message = format!(
                "meter `{meter}` is not declared (expected a [[meter]] in meters.toml or meters/)"
            );
            reader.refuse_field(&meter_field, message);
        }
        return None;
    };
    let convert = read_convert(reader, section, &declared.billed_unit());
    // What is wrong further on depends on the unit.
    let (convert, unit) = convert?;
    let per = read_per(reader, section, &unit);
    let allowance = read_allowance(reader, section, &unit);
    let (maximum, minimum) = read_limits(reader, section)?;
    let model = read_model(reader, section, model?.0, &unit, per.as_ref());
    let rounding = rounding?;
    let model = model?;
    if rounding.site == Site::Increment && model.blocks == Blocks::Exact {
        let message = "increments are rounded only where whole blocks are charged (expected the \
                       model `package`, or `blocks = \"started\"`)";
        reader.refuse(section.span(), &section.key("rounding"), message);
        return None;
    }
    let (Id(id), id_field) = id?;
    let price = Price {
        id,
        meter: Some(meter.clone()),
        unit,
        per: per?,
        convert,
        allowance: allowance?,
        model,
        discounts: Vec::new(),
        maximum,
        minimum,
        rounding,
        fast: None,
    };
    Some((price, id_field, Some((meter, meter_field))))
}

/// A price that is due for every period.
fn fee(id: String, flat: Decimal, rounding: Rounding) -> Option<Price> {
    let tier = Tier {
        from: Ratio::ZERO,
        to: None,
        unit: None,
        flat: Some(flat),
        per: None,
    };
    Some(Price {
        id,
        meter: None,
        unit: "1".parse().ok()?,
        per: Measure::made("1".to_owned(), Ratio::ONE),
        convert: None,
        allowance: None,
        model: Model {
            first_flat: FirstFlat::Always,
            ..one_tier(tier, Blocks::Exact)
        },
        discounts: Vec::new(),
        maximum: None,
        minimum: None,
        rounding,
        fast: None,
    })
}

fn one_tier(tier: Tier, blocks: Blocks) -> Model {
    Model {
        scheme: Scheme::Graduated,
        tiers: vec![tier],
        bounds: super::Bounds::default(),
        blocks,
        tier_by: None,
        first_flat: FirstFlat::default(),
    }
}

fn read_model<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    name: ModelName,
    unit: &Unit,
    per: Option<&Measure>,
) -> Option<Model> {
    let scheme = match name {
        ModelName::Graduated => Scheme::Graduated,
        ModelName::Volume => Scheme::Volume,
        ModelName::Flat | ModelName::PerUnit | ModelName::Package => {
            let price = amount(
                reader,
                section,
                "unit",
                "a price as a decimal string such as \"0.40\"",
            );
            let blocks = match (name, section.has("blocks")) {
                (ModelName::Package, false) => Some(Blocks::Started),
                _ => reader.or_default(section, "blocks", "\"started\" or \"full\""),
            };
            let tier = Tier {
                from: Ratio::ZERO,
                to: None,
                unit: Some(price?),
                flat: None,
                per: None,
            };
            return Some(one_tier(tier, blocks?));
        }
    };
    let blocks = reader.or_default(section, "blocks", "\"exact\", \"started\" or \"full\"");
    let bounds = reader.or_default(section, "bounds", "\"inclusive\" or \"exclusive\"");
    let first_flat = reader.or_default(section, "first_flat", "\"usage\" or \"always\"");
    let tier_by = tiers::read_tier_by(reader, section, unit);
    let tiers = tiers::read(reader, section, unit, per);
    Some(Model {
        scheme,
        tiers: tiers?,
        bounds: bounds?,
        blocks: blocks?,
        tier_by: tier_by?,
        first_flat: first_flat?,
    })
}

fn read_per<'d>(reader: &mut Reader<'d>, section: &Section<'d>, unit: &Unit) -> Option<Measure> {
    let expected = format!("what the unit price is quoted for, such as \"1000 {unit}\"");
    let (text, field) = reader.text(section, "per", &expected)?;
    Measure::with_unit(text, unit)
        .map_err(|error| reader.refuse_field(&field, error))
        .ok()
}

/// A conversion, and the unit that the price counts in; `None` for a mistake.
fn read_convert<'d>(
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

#[expect(clippy::option_option, reason = "a mistake is not an absence")]
fn read_allowance<'d>(
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

fn read_limits<'d>(
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

fn read_rounding<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Rounding> {
    if !section.has("rounding") {
        return Some(Rounding::default());
    }
    let table = reader.table(
        section,
        "rounding",
        "a table such as { at = \"line\", mode = \"half_up\", places = 2 }",
    )?;
    reader.only(&table, &["at", "mode", "places"]);
    let site = reader.or_default(&table, "at", "\"line\", \"tier\" or \"increment\"");
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

/// A required amount that is not negative.
pub(super) fn amount<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    name: &str,
    expected: &str,
) -> Option<Decimal> {
    let (Amount(amount), _) = reader.parse::<Amount>(section, name, expected)?;
    Some(amount)
}

/// Notes the mistake.
pub(super) fn checked<T>(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    result: Result<T, impl std::fmt::Display>,
) -> Option<T> {
    result
        .map_err(|error| reader.refuse_field(field, error))
        .ok()
}
