//! Dated exchange rates: what one unit of a currency is in another.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use super::cards::Date;
use super::measure::Amount;
use super::read::{Reader, Section};
use super::{CATALOG_ROWS_MAX, Catalog, Places, pricing_units};
use crate::period::Zone;
use crate::rate::Currency;
use tollgate_common::Timestamp;

/// The rates between pairs of currencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeRates(BTreeMap<(&'static str, &'static str), BTreeMap<NaiveDate, Decimal>>);

/// A rate by which an amount was converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// From which currency.
    pub from: Currency,
    /// To which.
    pub to: Currency,
    /// The day from which it is in force, in the tenant's zone.
    pub date: NaiveDate,
    /// What one unit of `from` is in `to`; above zero.
    pub rate: Decimal,
}

impl ExchangeRates {
    /// The last rate before an instant: the newest whose day begins, in the zone, before it.
    pub fn last_before(
        &self,
        from: Currency,
        to: Currency,
        zone: Zone,
        instant: Timestamp,
    ) -> Option<ExchangeRate> {
        let rates = self.0.get(&(from.code(), to.code()))?;
        let (date, rate) = rates
            .range(..=zone.date_at(instant))
            .rev()
            .find(|(date, _)| zone.start_of_day(**date) < instant)?;
        Some(ExchangeRate {
            from,
            to,
            date: *date,
            rate: *rate,
        })
    }

    /// True if there is any rate between two currencies.
    pub fn knows(&self, from: Currency, to: Currency) -> bool {
        self.0.contains_key(&(from.code(), to.code()))
    }
}

/// Reads a file of exchange rates into the catalog.
pub(super) fn read<'d>(
    catalog: &mut Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    reader.only(root, &["rate"]);
    for section in reader.tables(root, "rate", CATALOG_ROWS_MAX) {
        reader.only(&section, &["from", "to", "date", "rate"]);
        let from = pricing_units::read_currency(catalog, reader, &section, "from");
        let to = pricing_units::read_currency(catalog, reader, &section, "to");
        let date = reader.parse::<Date>(&section, "date", "a date such as \"2026-06-30\"");
        let expected = "what one unit of `from` is in `to`, as a decimal string such as \"1.085\"";
        let rate = reader.parse::<Amount>(&section, "rate", expected);
        let (Some((from, _)), Some((to, to_field)), Some((Date(date), field)), Some((rate, at))) =
            (from, to, date, rate)
        else {
            continue;
        };
        let Amount(rate) = rate;
        if from == to {
            reader.refuse_field(&to_field, format!("{from} is always one {to}"));
        } else if rate.is_zero() {
            reader.refuse_field(&at, "expected a rate above zero");
        } else if places.claim(
            reader,
            &field,
            &format!("rate {from} to {to} of {date}"),
            path,
        ) {
            let rates = catalog.exchange.0.entry((from.code(), to.code()));
            rates.or_default().insert(date, rate);
        }
    }
}
