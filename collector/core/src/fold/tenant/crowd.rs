//! Usage of meters of which there are too many.
//!
//! There are a handful of meters, and a catalog declares them; but who reports invents their names. What
//! a period keeps, and what its closing books line by line, is bounded: of the meters that no catalog
//! declares, those beyond the bound are counted together, by how agents declared them, and are unrated
//! for that reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, MeterName, Quantity, Scale, TenantId};

use super::TenantFold;
use super::book::{Line, LineAccount, LineKey, UnratedReason};
use super::state::pairs;
use super::usage::PeriodBook;
use crate::catalog::timeline::Timeline;
use crate::entry::RefusedReason;
use crate::fold::rows::Run;
use crate::position::Position;

/// Most meters of a tenant that a period keeps one by one, those apart that a catalog declares: enough for
/// whoever measures in earnest, and little enough for thousands of such tenants.
pub(super) const METERS_MAX: usize = 10_000;

/// In what the usage of a crowd agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct CrowdKey {
    scale: Scale,
    aggregation: Aggregation,
    refused: Option<RefusedReason>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Crowded {
    /// The sum, where values add up, else the largest.
    quantity: Quantity,
    /// The first journal entry that contributed since the last booking.
    from: Option<Position>,
}

/// Usage of all meters beyond the bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Crowd {
    #[serde(with = "pairs")]
    usage: BTreeMap<CrowdKey, Crowded>,
}

impl Crowd {
    /// Counts rows of one meter.
    pub(super) fn count(&mut self, position: Position, run: &Run<'_>) {
        let row = run.first();
        let key = CrowdKey {
            scale: row.scale,
            aggregation: row.aggregation,
            refused: run.refused,
        };
        let crowded = self.usage.entry(key).or_default();
        crowded.from.get_or_insert(position);
        crowded.quantity = if row.aggregation.adds_up() {
            crowded
                .quantity
                .checked_add(run.sum())
                .expect("2^47 rollups of 2^80 units fit a quantity")
        } else {
            let values = run.rows.iter().map(|row| row.value);
            values.fold(crowded.quantity, Ord::max)
        };
    }

    /// Adds what is booked of it.
    pub(super) fn lines(&self, lines: &mut BTreeMap<LineKey, Line>) {
        for (key, crowded) in &self.usage {
            let line = lines.entry(key.line()).or_default();
            line.quantity = crowded.quantity;
            line.from = crowded.from;
        }
    }

    /// Everything is booked.
    pub(super) fn settle(&mut self) {
        for crowded in self.usage.values_mut() {
            crowded.from = None;
        }
    }
}

impl CrowdKey {
    fn line(self) -> LineKey {
        let account = match self.refused {
            Some(reason) => LineAccount::Refused(reason),
            None => LineAccount::Unrated(UnratedReason::TooManyMeters),
        };
        LineKey {
            account,
            meter: None,
            scale: self.scale,
            aggregation: self.aggregation,
        }
    }
}

impl LineKey {
    /// True for usage of several meters together.
    pub(super) fn is_of_crowd(&self) -> bool {
        self.meter.is_none()
            && matches!(
                self.account,
                LineAccount::Unrated(UnratedReason::TooManyMeters) | LineAccount::Refused(_)
            )
    }
}

/// True if any catalog that was in force declares a meter.
pub(super) fn is_declared(timeline: &Timeline, meter: &MeterName) -> bool {
    let mut versions = timeline.versions().iter();
    versions.any(|version| version.catalog.meter(meter).is_some())
}

/// Whose usage of too many meters, of which scale.
pub type CrowdAccount = (TenantId, Scale);

impl TenantFold {
    /// As [`TenantFold::unbooked`], of meters of which there are too many.
    pub fn unbooked_of_crowds(&self) -> impl Iterator<Item = (CrowdAccount, bool, Quantity)> {
        let books = self
            .tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.books.values().map(move |book| (name, book)));
        let children = books.clone().flat_map(|(_, book)| book.children());
        books
            .chain(children)
            .flat_map(|(name, book)| unbooked(name, book))
    }
}

fn unbooked<'b>(
    name: &'b TenantId,
    book: &'b PeriodBook,
) -> impl Iterator<Item = (CrowdAccount, bool, Quantity)> + 'b {
    let usage = book.crowd.iter().flat_map(|crowd| &crowd.usage);
    let usage = usage.filter(|(key, _)| key.aggregation.adds_up());
    let counted = usage.map(move |(key, crowded)| {
        let account = (name.clone(), key.scale);
        (account, key.refused.is_some(), crowded.quantity)
    });
    let booked = book
        .booked
        .iter()
        .filter(|(line, _)| line.aggregation.adds_up() && line.is_of_crowd());
    let booked = booked.filter_map(move |(line, booked)| {
        let is_refused = matches!(line.account, LineAccount::Refused(_));
        let quantity = Quantity::ZERO.checked_sub(booked.quantity)?;
        Some(((name.clone(), line.scale), is_refused, quantity))
    });
    counted.chain(booked)
}
