//! Rate cards: versioned, effective-dated prices.

use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::measure::{Measure, Unit, plain_decimal};
use super::read::{Field, Reader, Section, list};
use super::{CATALOG_ROWS_MAX, Catalog, Places, TIERS_MAX, check_id, read_date};
use crate::rate::{Currency, Ratio};

/// One version of a rate card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What profiles call it.
    pub id: String,
    /// What its prices are in.
    pub currency: Currency,
    /// In force for periods that begin at or after 00:00 of this date in the tenant's zone.
    pub from: NaiveDate,
    /// In which order amounts are computed.
    pub order: Order,
    /// At most one for each meter, in the order of the file.
    pub prices: Vec<Price>,
}

/// A named and frozen order of computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `standard/1`: of its steps this version has aggregate, convert and price.
    Standard1,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "standard/1" => Ok(Self::Standard1),
            _ => Err("unknown order of computation (expected `standard/1`)".to_owned()),
        }
    }
}

/// What a meter costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Its name on invoice lines; unique in the card.
    pub id: String,
    /// Whose usage it prices.
    pub meter: MeterName,
    /// The amount of usage that unit prices are quoted for.
    pub per: Measure,
    /// How usage becomes an amount.
    pub model: Model,
}

/// How usage becomes an amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// Every unit costs the same.
    PerUnit {
        /// Price for each `per`; not negative.
        unit: Decimal,
    },
    /// The units between two bounds cost what their tier says.
    Graduated {
        /// In order; only the last one has no bound. Never empty.
        tiers: Vec<Tier>,
    },
}

/// A step of a graduated price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The last quantity that belongs to it; `None` for the last tier.
    pub to: Option<Measure>,
    /// Price for each `per`; not negative.
    pub unit: Decimal,
}

/// The models that this version has.
#[derive(Clone, Copy)]
enum ModelName {
    PerUnit,
    Graduated,
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "per_unit" => Ok(Self::PerUnit),
            "graduated" => Ok(Self::Graduated),
            other => Err(format!(
                "model `{}` is not supported (expected {})",
                other.chars().take(32).collect::<String>(),
                list(&["per_unit", "graduated"])
            )),
        }
    }
}

/// A unit price.
struct UnitPrice(Decimal);

impl FromStr for UnitPrice {
    type Err = super::MeasureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        plain_decimal(text).map(Self)
    }
}

/// A date such as `2026-01-01`.
struct Date(NaiveDate);

impl FromStr for Date {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read_date(text)
            .map(Self)
            .ok_or("not a date (expected one such as \"2026-01-01\")")
    }
}

/// An identifier.
struct Id(String);

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_id(text).map(|()| Self(text.to_owned()))
    }
}

/// Reads the file of one card version into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &["id", "currency", "from", "order", "price"]);
    let id = reader.parse::<Id>(root, "id", "the card's name such as \"edge\"");
    let currency = reader.parse::<Currency>(root, "currency", "an ISO 4217 code such as \"EUR\"");
    let from = reader.parse::<Date>(
        root,
        "from",
        "the date from which it is in force, such as \"2026-01-01\"",
    );
    let order = reader.parse::<Order>(root, "order", "\"standard/1\"");
    let prices = read_prices(catalog, reader, root, places);
    let Some((Id(id), field)) = id else { return };
    let (Some((currency, _)), Some((Date(from), _)), Some((order, _)), Some(prices)) =
        (currency, from, order, prices)
    else {
        places.broken_cards.insert(id);
        return;
    };
    if !places.claim(reader, &field, &format!("card `{id}` from {from}"), path) {
        return;
    }
    let versions = catalog.cards.entry(id.clone()).or_default();
    let at = versions.partition_point(|card| card.from < from);
    let card = Card {
        id,
        currency,
        from,
        order,
        prices,
    };
    versions.insert(at, card);
}

/// Reads the prices; `None` if there is a mistake in one of them.
fn read_prices<'d>(
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
        if prices.iter().any(|other| other.id == price.id) {
            let message = format!("price `{}` is declared twice in this card", price.id);
            reader.refuse_field(&id, message);
            sound = false;
        } else if let Some(other) = prices.iter().find(|other| other.meter == price.meter) {
            let message = format!(
                "meter `{}` has the price `{}` already (expected one price for each meter)",
                price.meter, other.id
            );
            reader.refuse_field(&meter, message);
            sound = false;
        } else {
            prices.push(price);
        }
    }
    sound.then_some(prices)
}

fn read_price<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    places: &Places,
) -> Option<(Price, Field<'d>, Field<'d>)> {
    let model = reader.parse::<ModelName>(section, "model", "\"per_unit\" or \"graduated\"");
    match model {
        Some((ModelName::PerUnit, _)) => {
            reader.only(section, &["id", "meter", "model", "per", "unit"]);
        }
        Some((ModelName::Graduated, _)) => {
            reader.only(section, &["id", "meter", "model", "per", "tiers"]);
        }
        None => {}
    }
    let id = reader.parse::<Id>(
        section,
        "id",
        "the name of the invoice line such as \"requests\"",
    );
    let meter = reader.parse::<MeterName>(section, "meter", "the name of a declared meter");
    let (meter, meter_field) = meter?;
    let Some(declared) = catalog.meter(&meter) else {
        if !places.broken_meters.contains(&meter) {
            let message = format!(
                "meter `{meter}` is not declared (expected a [[meter]] in meters.toml or meters/)"
            );
            reader.refuse_field(&meter_field, message);
        }
        return None;
    };
    let unit = &declared.billed_unit();
    let expected = format!("what the unit price is quoted for, such as \"1000 {unit}\"");
    let per = reader
        .text(section, "per", &expected)
        .and_then(|(text, field)| {
            Measure::with_unit(text, unit)
                .map_err(|error| reader.refuse_field(&field, error))
                .ok()
        });
    let model = match model?.0 {
        ModelName::PerUnit => Model::PerUnit {
            unit: read_unit_price(reader, section)?,
        },
        ModelName::Graduated => Model::Graduated {
            tiers: read_tiers(reader, section, unit)?,
        },
    };
    let (Id(id), id_field) = id?;
    let price = Price {
        id,
        meter,
        per: per?,
        model,
    };
    Some((price, id_field, meter_field))
}

fn read_unit_price<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<Decimal> {
    let price = reader.parse::<UnitPrice>(
        section,
        "unit",
        "a price as a decimal string such as \"0.40\"",
    );
    price.map(|(UnitPrice(price), _)| price)
}

/// Reads tiers and checks that their bounds rise and that only the last has none.
fn read_tiers<'d>(
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    unit: &Unit,
) -> Option<Vec<Tier>> {
    let whole = reader.required(
        section,
        "tiers",
        "tiers such as [{ to = \"2000000\", unit = \"0.40\" }, { unit = \"0.25\" }]",
    )?;
    let sections = reader.tables(section, "tiers", TIERS_MAX);
    if sections.is_empty() {
        reader.refuse_field(&whole, "a graduated price needs at least one tier");
        return None;
    }
    let mut tiers: Vec<Tier> = Vec::with_capacity(sections.len());
    let mut sound = true;
    let mut below = Ratio::ZERO;
    for (index, tier) in sections.iter().enumerate() {
        reader.only(tier, &["to", "unit"]);
        let price = read_unit_price(reader, tier);
        let is_last = index + 1 == sections.len();
        let to = match (tier.field("to"), is_last) {
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
                let message = "missing (expected the last quantity of this tier; only the last tier has none)";
                reader.refuse(tier.span(), &tier.key("to"), message);
                None
            }
            (Some(field), false) => read_bound(reader, &field, unit, &mut below).map(Some),
        };
        match (price, to) {
            (Some(unit), Some(to)) => tiers.push(Tier { to, unit }),
            _ => sound = false,
        }
    }
    sound.then_some(tiers)
}

/// Reads a bound, which must lie above the one before.
fn read_bound<'d>(
    reader: &mut Reader<'d>,
    field: &Field<'d>,
    unit: &Unit,
    below: &mut Ratio,
) -> Option<Measure> {
    let text = reader.string(field, "a quantity as a decimal string such as \"2000000\"")?;
    let bound = match Measure::bound(text, unit) {
        Ok(bound) => bound,
        Err(error) => {
            reader.refuse_field(field, error);
            return None;
        }
    };
    if bound.value().checked_cmp(*below) != Some(std::cmp::Ordering::Greater) {
        let message =
            format!("bounds must rise: {bound} is not above {below}, where this tier begins");
        reader.refuse_field(field, message);
        return None;
    }
    *below = bound.value();
    Some(bound)
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard1 => f.pad("standard/1"),
        }
    }
}
