//! Contracted rates: what a tenant has agreed to pay for a price of its card in place of what the
//! card lists.
//!
//! They change prices of tiers, fees and percentages, and nothing else of a price. What the card
//! lists stays beside them, so that every line says both.

use std::collections::BTreeSet;
use std::sync::Arc;

use rust_decimal::Decimal;

use super::around::{BOUNDS_MAX, Names};
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

/// Reads the contracted rates of a profile into its prices: those of the versions of its card, one
/// version behind the other.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    (names, places): (&Names, &Places),
    prices: &mut [Price],
) -> Option<()> {
    let mut known: BTreeSet<(&str, Option<&str>)> = BTreeSet::new();
    let mut sound = true;
    for section in reader.tables(root, KEY, BOUNDS_MAX) {
        reader.only(
            &section,
            &["price", "row", "times", "unit", "percent", "flat", "tiers"],
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

fn read_one<'d>(
    (catalog, places): (&Catalog, &Places),
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    names: &Names,
    prices: &mut [Price],
    known: &mut BTreeSet<(&'d str, Option<&'d str>)>,
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
    let is_twice = known
        .iter()
        .any(|(other, of)| *other == id && (of.is_none() || row.is_none() || *of == row));
    if is_twice {
        let message = format!("price `{id}` has a contracted rate already (expected one)");
        reader.refuse_field(&field, message);
        return None;
    }
    known.insert((id, row));
    let (rate, rate_field) = read_rate(reader, section)?;
    let mut found = false;
    for price in prices.iter_mut().filter(|price| price.id == id) {
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
    if let (false, Some(field)) = (found, section.field("row")) {
        let message = format!("price `{id}` has no such row in any version of the card");
        reader.refuse_field(&field, message);
        return None;
    }
    Some(())
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
        Rate::Tiers if price.event_dimension().is_some() && !price.is_percentage => {
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
            [] if event.in_tiers => {}
            _ => return Err(Refusal::Message(SEVERAL)),
        },
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
