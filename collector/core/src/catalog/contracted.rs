//! Contracted rates: what a tenant has agreed to pay for a price of its card in place of what the
//! card lists.
//!
//! They change prices of tiers, fees and percentages, and nothing else of a price. What the card
//! lists stays beside them, so that every line says both. A rate that holds for some time cuts the
//! versions of the card where it begins and ends, for this tenant alone.

use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use toml::de::DeValue;

use super::around::{BOUNDS_MAX, Names};
use super::cards::{Card, Date};
use super::discounts::{Validity, read_validity};
use super::matrix::Matrix;
use super::measure::{Amount, Measure, plain_decimal};
use super::per_event::PerEvent;
use super::price::{Model, Price, Tier, TierBy};
use super::prices::checked;
use super::read::{Field, Reader, Section};
use super::tiers::{self, exact_product};
use super::unit::Unit;
use super::{Catalog, Meter, Places, agreement, sound};

/// The key of a profile.
pub(super) const KEY: &str = "contracted";

/// What is agreed.
enum Rate {
    /// Everything costs so many times what the list says.
    Times(Decimal),
    /// The one unit price, or percentage.
    Unit(Decimal),
    /// The fee.
    Flat(Decimal),
    /// Other tiers.
    Tiers,
}

/// The days on which rates of a profile begin or end, in order; what is no date is judged elsewhere.
pub(super) fn days(root: &Section<'_>) -> Vec<NaiveDate> {
    let items = root.field(KEY).and_then(|field| field.items());
    let mut days: Vec<NaiveDate> = Vec::new();
    for item in items.unwrap_or_default().iter().take(BOUNDS_MAX) {
        let DeValue::Table(table) = item.value else {
            continue;
        };
        let texts = ["from", "until"].map(|key| table.get(key)?.get_ref().as_str());
        let read = texts.into_iter().flatten().map(str::parse::<Date>);
        days.extend(read.filter_map(Result::ok).map(|Date(day)| day));
    }
    days.sort_unstable();
    days.dedup();
    days
}

/// For each version of a card, oldest first, the days on which it begins or one of `days` cuts it.
pub(super) fn begins(versions: &[Arc<Card>], days: &[NaiveDate]) -> Vec<Vec<NaiveDate>> {
    let next = versions.iter().skip(1).map(|card| Some(card.from));
    let ends = next.chain([None]);
    let of = |(card, end): (&Arc<Card>, Option<NaiveDate>)| {
        let inside = |day: &&NaiveDate| card.from < **day && end.is_none_or(|end| **day < end);
        let cuts = days.iter().filter(inside).copied();
        std::iter::once(card.from).chain(cuts).collect()
    };
    versions.iter().zip(ends).map(of).collect()
}

/// What a rate was read for already: price, row, and when it holds.
type Known<'d> = Vec<(&'d str, Option<&'d str>, Validity)>;

/// Reads the contracted rates of a profile into its prices: those of the versions of its card, one
/// version behind the other, each with the day on which its version begins.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    (names, places): (&Names, &Places),
    prices: &mut [(NaiveDate, &mut Price)],
) -> Option<()> {
    let mut known: Known<'d> = Vec::new();
    let mut sound = true;
    for section in reader.tables(root, KEY, BOUNDS_MAX) {
        reader.only(
            &section,
            &[
                "price", "row", "times", "unit", "percent", "flat", "tiers", "from", "until",
            ],
        );
        sound &= read_one(
            (catalog, places),
            reader,
            &section,
            names,
            prices,
            &mut known,
        )
        .is_some();
    }
    sound.then_some(())
}

/// True if two rates hold on the same day.
fn overlap((from, until): Validity, (other_from, other_until): Validity) -> bool {
    let before = |from: Option<NaiveDate>, until: Option<NaiveDate>| {
        from.zip(until).is_none_or(|(from, until)| from < until)
    };
    before(from, other_until) && before(other_from, until)
}

fn read_one<'d>(
    (catalog, places): (&Catalog, &Places),
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    names: &Names,
    prices: &mut [(NaiveDate, &mut Price)],
    known: &mut Known<'d>,
) -> Option<()> {
    let (id, field) = reader.text(section, "price", "the id of a price of the card")?;
    if !names.ids.contains(id) {
        let shown: String = id.chars().take(64).collect();
        let message = format!("price `{shown}` is not declared in the profile's card");
        reader.refuse_field(&field, message);
        return None;
    }
    let row = match section.field("row") {
        Some(field) => Some(reader.string(&field, "the id of a row of the price")?),
        None => None,
    };
    let valid = read_validity(reader, section)?;
    let is_twice = known.iter().any(|(other, of, when)| {
        *other == id && (of.is_none() || row.is_none() || *of == row) && overlap(*when, valid)
    });
    if is_twice {
        let message = format!(
            "price `{id}` has a contracted rate already (expected one, or others at other times)"
        );
        reader.refuse_field(&field, message);
        return None;
    }
    known.push((id, row, valid));
    let (rate, rate_field) = read_rate(reader, section)?;
    let mut found = false;
    let holds = |begin: NaiveDate| {
        valid.0.is_none_or(|from| from <= begin) && valid.1.is_none_or(|until| begin < until)
    };
    let all = prices.iter_mut().filter(|(begin, _)| holds(*begin));
    for price in all.map(|(_, price)| price).filter(|price| price.id == id) {
        if row.is_some_and(|row| !has_row(price, row)) {
            continue;
        }
        found = true;
        if price.listed.is_none() {
            catalog.quicken(price);
            price.listed = Some(Arc::new(price.clone()));
        }
        let mut context = Context {
            catalog,
            places,
            tiers: None,
        };
        if let Err(refusal) = apply(&mut context, reader, section, &rate, price, row) {
            if let Refusal::Message(message) = refusal {
                reader.refuse_field(&rate_field, message);
            }
            return None;
        }
        // What a card may not have, nobody may agree.
        sound::check(reader, section, price)?;
    }
    if found {
        return Some(());
    }
    let (field, message) = match section.field("row") {
        Some(field) => (
            field,
            format!("price `{id}` has no such row in any version of the card of that time"),
        ),
        None => (
            field,
            format!("no version of the card has price `{id}` at that time"),
        ),
    };
    reader.refuse_field(&field, message);
    None
}

fn has_row(price: &Price, id: &str) -> bool {
    let rows = |matrix: &Arc<Matrix>| matrix.rows.iter().any(|row| row.id == id);
    price.matrix.as_ref().is_some_and(rows)
}

fn read_rate<'d>(reader: &mut Reader<'d>, section: &Section<'d>) -> Option<(Rate, Field<'d>)> {
    let kinds = ["times", "unit", "percent", "flat", "tiers"];
    let told: Vec<&str> = kinds.into_iter().filter(|kind| section.has(kind)).collect();
    let kind = match told[..] {
        [kind] => kind,
        // The unit is what tiers are `times` of.
        ["unit", "tiers"] => "tiers",
        _ => {
            let message = "expected one of `times`, `unit`, `percent`, `flat` and `tiers`";
            reader.refuse(section.span(), &section.key("times"), message);
            return None;
        }
    };
    let field = section.field(kind)?;
    match kind {
        "tiers" => Some((Rate::Tiers, field)),
        "times" => {
            let text = reader.string(&field, "a factor of the list price, such as \"0.85\"")?;
            let times = checked(reader, &field, plain_decimal(text))?;
            Some((Rate::Times(times), field))
        }
        _ => {
            let expected = "a price as a decimal string such as \"0.35\"";
            let (Amount(amount), field) = reader.parse::<Amount>(section, kind, expected)?;
            let rate = if kind == "flat" {
                Rate::Flat(amount)
            } else {
                Rate::Unit(amount)
            };
            Some((rate, field))
        }
    }
}

/// Why a rate does not fit a price.
enum Refusal {
    Message(&'static str),
    /// It is noted already.
    Noted,
}

const SEVERAL: &str =
    "the price has not one unit price, but several or none (expected `times` or `tiers`)";

/// What rates are read with, for one price of one version of the card.
struct Context<'c> {
    catalog: &'c Catalog,
    places: &'c Places,
    /// The tiers that were read last, and what their prices are quoted for: rows are many, and
    /// mostly quoted for the same.
    tiers: Option<(Measure, Vec<Tier>)>,
}

fn apply<'d>(
    context: &mut Context<'_>,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    rate: &Rate,
    price: &mut Price,
    row: Option<&str>,
) -> Result<(), Refusal> {
    let name = if price.is_percentage {
        "percent"
    } else {
        "unit"
    };
    let refused = match rate {
        Rate::Unit(_) | Rate::Tiers if price.meter.is_none() => {
            Some("the price is a fee (expected `flat` or `times`)")
        }
        Rate::Flat(_) if price.meter.is_some() => {
            Some("only a fee is `flat` (expected `times`, `unit` or `tiers`)")
        }
        Rate::Unit(_) if price.is_percentage && !section.has(name) => {
            Some("the price is a percentage (expected `percent`)")
        }
        Rate::Unit(_) if !section.has(name) => Some("the price is no percentage (expected `unit`)"),
        Rate::Tiers
            if price.event_dimension().is_some() && !price.is_percentage && !by_size(price) =>
        {
            Some("single events have increments in place of tiers (expected `times` or `unit`)")
        }
        _ => None,
    };
    if let Some(message) = refused {
        return Err(Refusal::Message(message));
    }
    let unit = price.unit.clone();
    if let Some(matrix) = &mut price.matrix {
        let matrix = Arc::make_mut(matrix);
        for own in &mut matrix.rows {
            if row.is_none_or(|row| own.id == row) {
                let per = own.per.clone();
                change_events(rate, own.per_event.as_mut())?;
                change(
                    context,
                    reader,
                    section,
                    rate,
                    (&mut own.model, &unit, &per, name),
                )?;
            }
        }
        if let Some(first) = matrix.rows.first() {
            price.model = first.model.clone();
        }
        return Ok(());
    }
    change_events(rate, price.per_event.as_mut())?;
    let per = price.per.clone();
    change(
        context,
        reader,
        section,
        rate,
        (&mut price.model, &unit, &per, name),
    )
}

/// True if each event selects tiers by its own size.
fn by_size(price: &Price) -> bool {
    let rows = price.matrix.iter().flat_map(|matrix| &matrix.rows);
    let of_rows = rows.filter_map(|row| row.per_event.as_ref());
    let mut all = price.per_event.iter().chain(of_rows);
    all.all(|event| event.by_size)
}

/// Fees and increments of single events.
fn change_events(rate: &Rate, event: Option<&mut PerEvent>) -> Result<(), Refusal> {
    let Some(event) = event else {
        return Ok(());
    };
    match rate {
        Rate::Times(times) => {
            let units = event.segments.iter_mut().map(|segment| &mut segment.unit);
            for amount in units.chain([&mut event.fixed]) {
                *amount = product(*amount, *times)?;
            }
        }
        Rate::Unit(amount) => match &mut event.segments[..] {
            [only] => only.unit = *amount,
            [] if event.in_tiers || event.by_size => {}
            _ => return Err(Refusal::Message(SEVERAL)),
        },
        // Each event goes on selecting them.
        Rate::Tiers if event.by_size => {}
        Rate::Tiers => {
            event.segments.clear();
            event.in_tiers = true;
        }
        Rate::Flat(_) => {}
    }
    Ok(())
}

fn change<'d>(
    context: &mut Context<'_>,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    rate: &Rate,
    (model, unit, per, name): (&mut Model, &Unit, &Measure, &str),
) -> Result<(), Refusal> {
    match rate {
        Rate::Times(times) => {
            for tier in &mut model.tiers {
                for amount in [&mut tier.unit, &mut tier.flat].into_iter().flatten() {
                    *amount = product(*amount, *times)?;
                }
            }
        }
        Rate::Unit(amount) => match &mut model.tiers[..] {
            [tier] if tier.flat.is_none() => tier.unit = Some(*amount),
            _ => return Err(Refusal::Message(SEVERAL)),
        },
        Rate::Flat(amount) => {
            for tier in &mut model.tiers {
                tier.flat = Some(*amount);
            }
        }
        Rate::Tiers => {
            let tiers = match context.tiers.take() {
                Some((quoted, tiers)) if quoted == *per => tiers,
                _ => {
                    let catalog = context.catalog;
                    let selecting = match &model.tier_by {
                        Some(TierBy::Meter(other)) => catalog.meter(other).map(Meter::billed_unit),
                        _ => None,
                    };
                    let units = (unit, selecting.as_ref());
                    tiers::read_priced(reader, section, units, Some(per), name)
                        .ok_or(Refusal::Noted)?
                }
            };
            // Each row has them for itself.
            let more = tiers.len().saturating_sub(model.tiers.len());
            agreement::claim_own(context.places, more).map_err(Refusal::Message)?;
            model.tiers.clone_from(&tiers);
            context.tiers = Some((per.clone(), tiers));
        }
    }
    Ok(())
}

fn product(amount: Decimal, times: Decimal) -> Result<Decimal, Refusal> {
    let message = "the product with the list price has too many digits";
    exact_product(amount, times).ok_or(Refusal::Message(message))
}
