//! Pricing units: what a card may be priced in that is no money, such as tokens or points.
//!
//! What one is worth stands in `rates/`, dated like that of a currency.

use super::read::{Field, Reader, Section};
use super::{Catalog, Places};
use crate::rate::{Currency, PRICING_UNIT_PLACES_MAX};

/// Most pricing units of one catalog.
const UNITS_MAX: usize = 64;

/// Reads a file of pricing units into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &["unit"]);
    for section in reader.tables(root, "unit", UNITS_MAX) {
        reader.only(&section, &["id", "places"]);
        let id = reader.text(&section, "id", "the unit's name such as \"tokens\"");
        let decimals = if section.has("places") {
            let expected = "an integer from 0 to 9: the decimal places of its amounts";
            reader.integer(&section, "places", PRICING_UNIT_PLACES_MAX, expected)
        } else {
            Some(0)
        };
        let (Some((id, field)), Some(decimals)) = (id, decimals) else {
            continue;
        };
        if catalog.pricing_units.len() >= UNITS_MAX {
            let message = format!("a catalog has at most {UNITS_MAX} pricing units");
            reader.refuse_field(&field, message);
            return;
        }
        match Currency::pricing_unit(id, decimals) {
            Err(error) => reader.refuse_field(&field, error),
            Ok(unit) => {
                if places.claim(reader, &field, &format!("pricing unit `{id}`"), path) {
                    catalog.pricing_units.insert(id.to_owned(), unit);
                }
            }
        }
    }
}

/// Reads a currency, or a pricing unit that the catalog declares.
pub(super) fn read_currency<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    section: &Section<'d>,
    name: &str,
) -> Option<(Currency, Field<'d>)> {
    let expected = "an ISO 4217 code such as \"EUR\", or the name of a pricing unit";
    let (text, field) = reader.text(section, name, expected)?;
    if let Some(unit) = catalog.pricing_units.get(text) {
        return Some((*unit, field));
    }
    match text.parse::<Currency>() {
        Ok(currency) => Some((currency, field)),
        Err(error) => {
            let small = text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if small && text.len() != 3 {
                let shown: String = text.chars().take(32).collect();
                let message = format!(
                    "pricing unit `{shown}` is not declared (expected a [[unit]] in units/, or an ISO \
                     4217 code such as `EUR`)"
                );
                reader.refuse_field(&field, message);
            } else {
                reader.refuse_field(&field, error);
            }
            None
        }
    }
}
