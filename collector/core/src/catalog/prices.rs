//! Reads the prices of a card.

mod metered;

use std::str::FromStr;

use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::cards::Id;
use super::files::Part;
use super::matrix::RowContext;
use super::measure::{Amount, Measure};
use super::models::ModelName;
use super::price::{Blocks, FirstFlat, Interval, Model, Price, PriceTerms, Prorated, Scheme, Tier};
use super::read::{Field, Reader, Section};
use super::unit::Unit;
use super::versions::Spot;
use super::{
    CATALOG_ROWS_MAX, Catalog, Places, billing, per_event, percentile, sound, terms, tiers,
};
use crate::rate::{Currency, Ratio, Rounding, Site};
use metered::{read_bandwidth, read_charged, read_metered};

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

/// Most prices of one meter in one card.
const METER_PRICES_MAX: usize = 16;

/// Reads the prices, each with the place of its id; `None` if there is a mistake in one of them.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Option<(Vec<Price>, Vec<Spot>)> {
    let sections = reader.tables(root, "price", CATALOG_ROWS_MAX);
    if sections.is_empty() {
        reader.refuse(root.span(), "price", "a card needs at least one [[price]]");
        return None;
    }
    let currency = root
        .field("currency")
        .and_then(|field| field.value.as_str());
    let mut prices: Vec<Price> = Vec::with_capacity(sections.len());
    let mut spots: Vec<Spot> = Vec::with_capacity(sections.len());
    let mut sound = true;
    for section in &sections {
        let Some((price, id, meter)) = read_price(catalog, reader, section, currency, places)
        else {
            sound = false;
            continue;
        };
        let same_meter = |other: &&Price| price.meter.is_some() && other.meter == price.meter;
        let adds_up = (meter.as_ref())
            .and_then(|(name, _)| catalog.meter(name))
            .is_none_or(|meter| crate::rate::adds_up(meter.aggregation));
        let beside = || prices.iter().filter(same_meter);
        let mut excluded =
            beside().filter_map(|other| Some((other, price.excludes(other, adds_up)?)));
        if prices.iter().any(|other| other.id == price.id) {
            let message = format!("price `{}` is declared twice in this card", price.id);
            reader.refuse_field(&id, message);
            sound = false;
        } else if let (Some((other, why)), Some((name, meter))) = (excluded.next(), &meter) {
            let message = format!(
                "meter `{name}` has the price `{}` already, and {why} (expected prices beside it \
                 that need one sum of the period, or another meter)",
                other.id
            );
            reader.refuse_field(meter, message);
            sound = false;
        } else if let (true, Some((name, meter))) = (beside().count() >= METER_PRICES_MAX, &meter) {
            let message =
                format!("meter `{name}` has more than {METER_PRICES_MAX} prices in this card");
            reader.refuse_field(meter, message);
            sound = false;
        } else {
            prices.push(price);
            spots.push(Spot::of(&id));
        }
    }
    // What is not rated is not known to those who rate.
    for price in &prices {
        let Some(other) = price.selecting_meter() else {
            continue;
        };
        if !prices
            .iter()
            .any(|known| known.meter.as_ref() == Some(other))
        {
            let message = format!(
                "meter `{other}` selects the tiers of price `{}`, and has no price itself in this card \
                 (expected one, if only with `unit = \"0\"`)",
                price.id
            );
            reader.refuse(root.span(), "price", message);
            sound = false;
        }
    }
    sound.then_some((prices, spots))
}

type Named<'d> = Option<(MeterName, Field<'d>)>;

fn read_price<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    currency: Option<&str>,
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
    let of_card = currency.and_then(|code| match catalog.pricing_units.get(code) {
        Some(unit) => Some(*unit),
        None => code.parse::<Currency>().ok(),
    });
    let rounding = terms::read_rounding(reader, section, of_card);
    let terms = billing::read(catalog, reader, section, places);
    if matches!(model, Some((ModelName::Flat, _))) {
        let flat = amount(reader, section, "flat", "an amount such as \"25.00\"")?;
        if rounding.is_some_and(|rounding| matches!(rounding.site, Site::Event | Site::Increment)) {
            let message = "a fee has neither events nor increments (expected `at = \"line\"` or \
                           `\"invoice\"`)";
            reader.refuse(section.span(), &section.key("rounding"), message);
            return None;
        }
        let (Id(id), id_field) = id?;
        return Some((fee(id, flat, rounding?, terms?)?, id_field, None));
    }
    let (meter, meter_field) =
        reader.parse::<MeterName>(section, "meter", "the name of a declared meter")?;
    let Some(declared) = catalog.meter(&meter) else {
        if !places.broken_meters.contains(&meter) && !places.unread.contains(&Part::Meters) {
            let message = format!(
                "meter `{meter}` is not declared (expected a [[meter]] in meters.toml or meters/)"
            );
            reader.refuse_field(&meter_field, message);
        }
        return None;
    };
    let read = match &model {
        Some((ModelName::Percentile, _)) => read_bandwidth(reader, section, declared),
        Some((name @ (ModelName::Percentage | ModelName::PerEvent), _)) => {
            read_charged(reader, section, declared, *name, currency)
        }
        _ => read_metered(
            catalog,
            reader,
            section,
            model.map(|(name, _)| name),
            (declared, currency),
            places,
        ),
    };
    let (maximum, minimum) = terms::read_limits(reader, section)?;
    let (Id(id), id_field) = id?;
    let price = Price {
        id,
        maximum,
        minimum,
        rounding: rounding?,
        terms: terms?,
        ..read?
    };
    sound::check(reader, section, &price)?;
    Some((price, id_field, Some((meter, meter_field))))
}

/// What a row says of how quantity becomes an amount.
pub(super) struct RowModel {
    pub(super) model: Model,
    pub(super) per_event: Option<per_event::PerEvent>,
    pub(super) percentile: Option<percentile::Percentile>,
    /// What a percentage, or a price of events, is quoted for.
    pub(super) per: Option<Measure>,
    pub(super) is_percentage: bool,
}

/// The model of a row, which has the same keys as that of a price: per unit without `tiers`, and
/// graduated with them, unless it says otherwise.
pub(super) fn read_row_model<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    row: &Section<'d>,
    context: &RowContext<'_>,
    per: Option<&Measure>,
) -> Option<RowModel> {
    let name = match reader.maybe::<ModelName>(row, "model", "a model such as \"graduated\"")? {
        Some((name, field)) if name.row_keys().is_empty() => {
            let message = "no model of a row (expected `per_unit`, `package`, `graduated`, \
                           `volume`, `percentage`, `per_event` or `percentile`)";
            reader.refuse_field(&field, message);
            return None;
        }
        Some((name, _)) => name,
        None if row.has("tiers") => ModelName::Graduated,
        None => ModelName::PerUnit,
    };
    let mut keys = vec!["id", "when", "band", "model"];
    keys.extend(name.row_keys());
    reader.only(row, &keys);
    let read = match name {
        ModelName::Percentage => {
            per_event::read_percentage(reader, row, context.meter, context.currency)?
        }
        ModelName::PerEvent => per_event::read(reader, row, context.meter, per)?,
        ModelName::Percentile => {
            let read = percentile::read(reader, row, context.meter)?;
            return Some(RowModel {
                model: read.model,
                per_event: None,
                percentile: Some(read.percentile),
                per: Some(read.per),
                is_percentage: false,
            });
        }
        _ => {
            return Some(RowModel {
                model: read_model(catalog, reader, row, name, context.unit, per)?,
                per_event: None,
                percentile: None,
                per: None,
                is_percentage: false,
            });
        }
    };
    Some(RowModel {
        model: read.model,
        per_event: read.per_event,
        percentile: None,
        per: Some(read.per),
        is_percentage: name == ModelName::Percentage,
    })
}

/// A price that is due for every period.
fn fee(id: String, flat: Decimal, rounding: Rounding, terms: PriceTerms) -> Option<Price> {
    let tier = Tier {
        from: Ratio::ZERO,
        to: None,
        unit: None,
        flat: Some(flat),
        per: None,
        minimum: None,
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
        rounding,
        terms,
        fast: None,
    })
}

/// A model of one tier.
pub(super) fn one_tier(tier: Tier, blocks: Blocks) -> Model {
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
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    name: ModelName,
    unit: &Unit,
    per: Option<&Measure>,
) -> Option<Model> {
    let scheme = match name {
        ModelName::Graduated => Scheme::Graduated,
        ModelName::Volume => Scheme::Volume,
        // A matrix and a percentile are read elsewhere.
        ModelName::Flat
        | ModelName::PerUnit
        | ModelName::Package
        | ModelName::Matrix
        | ModelName::Percentile
        | ModelName::Percentage
        | ModelName::PerEvent => {
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
                minimum: None,
            };
            return Some(one_tier(tier, blocks?));
        }
    };
    let blocks = reader.or_default(section, "blocks", "\"exact\", \"started\" or \"full\"");
    let bounds = reader.or_default(section, "bounds", "\"inclusive\" or \"exclusive\"");
    let first_flat = reader.or_default(
        section,
        "first_flat",
        "\"usage\", \"always\" or \"prorated\"",
    );
    let by_volume = scheme == Scheme::Volume;
    let selects = tiers::read_tier_by(catalog, reader, section, unit, by_volume)?;
    let selecting = selects.as_ref().and_then(|selects| selects.unit.as_ref());
    let tiers = tiers::read_priced(reader, section, (unit, selecting), per, "unit");
    Some(Model {
        scheme,
        tiers: tiers?,
        bounds: bounds?,
        blocks: blocks?,
        tier_by: selects.map(|selects| selects.by),
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
