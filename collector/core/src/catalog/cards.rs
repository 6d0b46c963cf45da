//! Rate cards: versioned, effective-dated prices.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use tollgate_common::MeterName;

use super::around::{self, Around, Names};
use super::price::Price;
use super::read::{Reader, Section};
use super::tax::{self, TaxStyle};
use super::total::{self, TotalRounding};
use super::versions::{Spot, VersionPlace};
use super::{Catalog, Places, check_id, prices, pricing_units, read_date};
use crate::rate::Currency;

/// One version of a rate card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What profiles call it.
    pub id: String,
    /// What its prices are in.
    pub currency: Currency,
    /// In force from 00:00 of this date in the tenant's zone on.
    pub from: NaiveDate,
    /// In which order amounts are computed.
    pub order: Order,
    /// Of meters, and fees, in the order of the file.
    pub prices: Vec<Price>,
    /// What stands around them; discounts on single lines are with their prices.
    pub around: Around,
    /// How its amounts are taxed.
    pub tax: TaxStyle,
    /// To what the total of a bill is rounded, if it is.
    pub total: Option<TotalRounding>,
}

impl Card {
    /// The price by which usage of a meter is kept apart, and whose lines carry its quantity: the
    /// one that [needs parts](Price::needs_parts), or else the first one.
    pub fn keeping(&self, meter: &MeterName) -> Option<&Price> {
        let own = self.prices.iter();
        let own = own.filter(|price| price.meter.as_ref() == Some(meter));
        let mut first = None;
        for price in own {
            if price.needs_parts() {
                return Some(price);
            }
            first.get_or_insert(price);
        }
        first
    }

    /// True if something is due by it in a period in which nothing is used.
    pub fn is_due_unused(&self) -> bool {
        self.around.is_due_unused() || self.prices.iter().any(Price::is_due_unused)
    }
}

/// A named and frozen order of computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// `amounts-first/1`: as `standard/1`, but what is taken off single lines comes before what is
    /// taken off groups, and that before what is taken off the invoice; of each amounts come before
    /// percentages.
    AmountsFirst1,
    /// `commitments-first/1`: as `standard/1`, but what is taken off several lines together comes
    /// behind commitments, and is taken from what is missing to minimums and commitments too.
    CommitmentsFirst1,
    /// `standard/1`: aggregate, convert, allowance, price, percent discounts, amount discounts,
    /// maximum, minimum, commitment, currency conversion, tax, credit-note balance, grants.
    #[default]
    Standard1,
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "standard/1" => Ok(Self::Standard1),
            "amounts-first/1" => Ok(Self::AmountsFirst1),
            "commitments-first/1" => Ok(Self::CommitmentsFirst1),
            _ => Err(
                "unknown order of computation (expected `standard/1`, `amounts-first/1` or \
                 `commitments-first/1`)"
                    .to_owned(),
            ),
        }
    }
}

/// A date such as `2026-01-01`.
pub(super) struct Date(pub(super) NaiveDate);

impl FromStr for Date {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read_date(text)
            .map(Self)
            .ok_or("not a date (expected one such as \"2026-01-01\")")
    }
}

/// An identifier.
pub(super) struct Id(pub(super) String);

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
    reader.only(
        root,
        &[
            "id",
            "currency",
            "from",
            "order",
            "price",
            "tax",
            "discount",
            "maximum",
            "minimum",
            "commitment",
            "total",
        ],
    );
    let id = reader.parse::<Id>(root, "id", "the card's name such as \"edge\"");
    let currency = pricing_units::read_currency(catalog, reader, root, "currency");
    let from = reader.parse::<Date>(
        root,
        "from",
        "the date from which it is in force, such as \"2026-01-01\"",
    );
    let order = reader.parse::<Order>(root, "order", "\"standard/1\"");
    let mut prices = prices::read(catalog, reader, root, places);
    let tax = tax::read_style(reader, root);
    let total = total::read(reader, root);
    let around = prices.as_mut().and_then(|(prices, _)| {
        let name = id.as_ref().map_or("", |(Id(id), _)| id);
        let currency = currency.as_ref().map(|(currency, _)| *currency);
        let order = order.as_ref().map_or(Order::default(), |(order, _)| *order);
        let names = Names::of((name, currency), order, prices.iter());
        around::read(reader, root, (&names, None), prices)
    });
    for price in prices.iter_mut().flat_map(|(prices, _)| prices) {
        catalog.quicken(price);
    }
    let Some((Id(id), field)) = id else { return };
    let (
        Some((currency, currency_field)),
        Some((Date(from), _)),
        Some((order, _)),
        Some((prices, ids)),
    ) = (currency, from, order, prices)
    else {
        places.broken_cards.insert(id);
        return;
    };
    let (Some(around), Some(tax), Some(total)) = (around, tax, total) else {
        places.broken_cards.insert(id);
        return;
    };
    if !places.claim(reader, &field, &format!("card `{id}` from {from}"), path) {
        return;
    }
    let place = VersionPlace {
        file: path.to_owned(),
        currency: Spot::of(&currency_field),
        ids,
    };
    places.versions.insert((id.clone(), from), place);
    let versions = catalog.cards.entry(id.clone()).or_default();
    let at = versions.partition_point(|card| card.from < from);
    let card = Card {
        id,
        currency,
        from,
        order,
        prices,
        around,
        tax,
        total,
    };
    versions.insert(at, Arc::new(card));
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard1 => f.pad("standard/1"),
            Self::AmountsFirst1 => f.pad("amounts-first/1"),
            Self::CommitmentsFirst1 => f.pad("commitments-first/1"),
        }
    }
}
