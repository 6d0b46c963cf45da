//! Versions of a card that follow each other: what goes on under one id has to be counted in one way.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::NaiveDate;

use super::read::{Field, line_and_column};
use super::{Card, Catalog, CatalogError, CatalogErrors, Commitment, Price};
use crate::rate::adds_up;

/// A place in a file, of which line and column are worked out once they are asked for.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    span: Range<usize>,
    key: String,
}

impl Spot {
    pub(super) fn of(field: &Field<'_>) -> Self {
        Self {
            span: field.span.clone(),
            key: field.key.clone(),
        }
    }
}

/// Where a version of a card says what.
pub(super) struct VersionPlace {
    pub(super) file: String,
    pub(super) currency: Spot,
    /// The ids of its prices, in their order.
    pub(super) ids: Vec<Spot>,
}

/// By card and first day.
pub(super) type VersionPlaces = BTreeMap<(String, NaiveDate), VersionPlace>;

/// Checks that the versions of each card are in one currency, that each price goes on from the
/// last version that had one of its id, and that commitments keep their terms.
pub(super) fn check(catalog: &Catalog, places: &VersionPlaces, errors: &mut Vec<CatalogError>) {
    for versions in catalog.cards.values() {
        let mut known: BTreeMap<&str, (&Card, &Price)> = BTreeMap::new();
        let mut before: Option<&Card> = None;
        let mut terms: BTreeMap<&str, (&Card, &Commitment)> = BTreeMap::new();
        let first = versions.first().map(|first| first.from);
        for card in versions {
            let Some(place) = places.get(&(card.id.clone(), card.from)) else {
                continue;
            };
            let mut refuse = |spot: &Spot, message: String| {
                let text = catalog.files.get(&place.file).map_or("", String::as_str);
                let (line, column) = line_and_column(text, spot.span.start);
                if errors.len() < CatalogErrors::MAX {
                    errors.push(CatalogError {
                        file: place.file.clone(),
                        line,
                        column,
                        span: spot.span.clone(),
                        key: spot.key.clone(),
                        message,
                    });
                }
            };
            if let Some(other) = before
                && other.currency != card.currency
            {
                let message = format!(
                    "card `{}` is in {} from {} on (expected the same currency in all its \
                     versions, or another card)",
                    card.id, other.currency, other.from
                );
                refuse(&place.currency, message);
            }
            if let Some(other) = before
                && other.order != card.order
            {
                let message = format!(
                    "card `{}` has the order `{}` from {} on (expected the same in all its versions, \
                     or another card)",
                    card.id, other.order, other.from
                );
                refuse(&place.currency, message);
            }
            before = Some(card);
            for commitment in &card.around.commitments {
                let last = terms.insert(&commitment.id, (card, commitment));
                let of = |commitment: &Commitment| (commitment.term, commitment.from.or(first));
                if let Some((version, other)) = last
                    && of(other) != of(commitment)
                {
                    let message = format!(
                        "commitment `{}` has other terms than in the version from {}: what has counted \
                         would be forgotten (expected the same `term` and `from`, or another id)",
                        commitment.id, version.from
                    );
                    refuse(&place.currency, message);
                }
            }
            for (price, spot) in card.prices.iter().zip(&place.ids) {
                let last = known.insert(&price.id, (card, price));
                let Some((version, other)) = last else {
                    continue;
                };
                let meter = price.meter.as_ref().and_then(|name| catalog.meter(name));
                let adds_up = meter.is_none_or(|meter| adds_up(meter.aggregation));
                if let Some(why) = other.differs(price, adds_up) {
                    let message = format!(
                        "price `{}` does not go on from the one of this id in the version from {}: \
                         {why} (expected another id)",
                        price.id, version.from
                    );
                    refuse(spot, message);
                }
            }
        }
    }
}
