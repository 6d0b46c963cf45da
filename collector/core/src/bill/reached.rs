//! How far tiers have come that go on over several billing periods.
//!
//! Each period leaves how much it priced; a later one of the term begins where all earlier ones ended.

use tollgate_common::Quantity;

use super::carried::{Carried, Reached, Term};
use super::line::{BillLine, Source};
use super::{BillInput, commit};
use crate::catalog::{Card, Meter, Price};
use crate::rate::LineItem;

/// What earlier periods of the term have of a price; the largest number if that does not fit.
pub(super) fn before(input: &BillInput<'_>, card: &Card, price: &Price, meter: &Meter) -> Quantity {
    let Some((key, term)) = place(input, card, price, meter) else {
        return Quantity::ZERO;
    };
    let before = input.carried.reached_before(&key, term, input.period);
    before.unwrap_or(Quantity::MAX)
}

/// Notes what the period has of the prices of its lines.
pub(super) fn note_all(input: &BillInput<'_>, lines: &[BillLine<'_>], carried: &mut Carried) {
    for line in lines {
        if let Source::Rated(item) = &line.source {
            note(input, item, carried);
        }
    }
}

fn note(input: &BillInput<'_>, item: &LineItem<'_>, carried: &mut Carried) {
    let Some(meter) = item.meter else { return };
    let Some((key, term)) = place(input, item.card, item.price, meter) else {
        return;
    };
    if !item.quantity.is_zero() {
        let reached = Reached {
            term,
            quantity: item.quantity,
        };
        let parts = carried.reached.entry(key).or_default();
        parts.insert(input.period.start, reached);
    }
}

/// What is counted of a price, and in which term: `None` if its tiers begin anew with the period. What is
/// counted in other units begins anew.
pub(super) fn place(
    input: &BillInput<'_>,
    card: &Card,
    price: &Price,
    meter: &Meter,
) -> Option<(String, Term)> {
    let term = price.long_term?;
    let term = term.containing(input.zone, commit::beginning(input))?;
    let days = Term {
        start: input.zone.date_at(term.start),
        end: input.zone.date_at(term.end),
    };
    let scale = meter.billed_scale().get();
    let key = format!("{} {} {} {scale}", card.id, price.id, meter.name);
    Some((key, days))
}
