//! What is priced by itself: each value of dimensions has tiers, blocks and allowance of its own, and
//! limits if the price has them.

use std::collections::BTreeMap;

use tollgate_common::{Quantity, TenantId, Timestamp};

use super::charge::{Entries, Work};
use super::meter::Parted;
use super::parts::{SEPARATOR, interval_of};
use super::piece::Piece;
use super::{Ratio, Site};

/// So many of what is priced by itself are shown one by one.
const SHOWN_MAX: usize = 20;

/// Of what a piece is, where each is priced by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart<'c> {
    /// The values of its dimensions; `None` for several together.
    pub name: Option<Vec<&'c str>>,
    /// How many there are.
    pub count: u64,
    /// What limits and rounding of each change.
    pub adjusted: Ratio,
}

/// What tells apart what is priced by itself: the rating interval, the row's name, the values of the
/// dimensions, and whose it is.
type Key<'c> = (u32, &'c str, &'c str, Option<&'c TenantId>);

/// A piece that several share: of which version, and of which row.
type Others<'c> = BTreeMap<(usize, &'c str), Piece<'c>>;

impl Parted<'_> {
    /// By how much sums of what is priced by itself are below zero, all together; not above it.
    pub(super) fn below_of_each(self) -> Option<Quantity> {
        let mut sums: BTreeMap<Key<'_>, Quantity> = BTreeMap::new();
        for (key, event) in &self.usage.events {
            let slice = self.slices.get(usize::from(event.slice))?;
            if !slice.continues(&self.slices[self.first]) {
                continue;
            }
            let (_, price) = slice.priced?;
            let row = price.matrix.as_ref().and_then(|m| m.row(event.cell));
            let interval = interval_of(self.period, self.zone(), price.interval, key.at);
            let name = row.map_or("", |row| row.id.as_str());
            let sum = sums.entry((interval, name, &key.id, key.tenant.as_ref()));
            let sum = sum.or_default();
            *sum = sum.checked_add(event.quantity)?;
        }
        Quantity::checked_sum(sums.into_values().filter(|sum| sum.is_negative()))
    }
}

impl<'c> Work<'_, 'c> {
    /// Each by itself, in the order of intervals, rows and names: the first ones are shown one by one,
    /// and the others together.
    pub(super) fn by_itself(
        &self,
        each: &mut impl FnMut(usize, Piece<'c>) -> Option<()>,
    ) -> Option<()> {
        let mut all: BTreeMap<Key<'c>, Entries<'c>> = BTreeMap::new();
        for (key, event) in &self.parted.usage.events {
            let Some(at) = self.version_of(event.slice) else {
                continue;
            };
            let price = self.versions[at].price;
            let row = match &price.matrix {
                Some(matrix) => Some(matrix.row(event.cell)?),
                None => None,
            };
            let (period, zone) = (self.parted.period, self.parted.zone());
            let interval = interval_of(period, zone, price.interval, key.at);
            let name = row.map_or("", |row| row.id.as_str());
            all.entry((interval, name, &key.id, key.tenant.as_ref()))
                .or_default()
                .push((at, row, event.quantity));
        }
        let mut others: Others<'c> = BTreeMap::new();
        for (index, ((interval, row, id, _), entries)) in all.iter().enumerate() {
            let since = i64::from(*interval) * 1000;
            let begin = self.parted.period.start.plus_millis(since);
            let mut pieces = self.of_one(begin, entries)?;
            for (at, piece) in &mut pieces {
                let apart = piece.apart.as_mut()?;
                if index < SHOWN_MAX {
                    apart.name = Some(id.split(SEPARATOR).collect());
                    continue;
                }
                let piece = piece.clone().without_steps()?;
                let together = match others.remove(&(*at, *row)) {
                    Some(before) => before.beside(&piece)?,
                    None => piece,
                };
                others.insert((*at, *row), together);
            }
            if index < SHOWN_MAX {
                pieces
                    .into_iter()
                    .try_for_each(|(at, piece)| each(at, piece))?;
            }
        }
        others
            .into_iter()
            .try_for_each(|((at, _), piece)| each(at, piece))
    }

    /// The pieces of one of them, with the version of each.
    fn of_one(&self, begin: Timestamp, entries: &Entries<'c>) -> Option<Vec<(usize, Piece<'c>)>> {
        let mut pieces: Vec<(usize, Piece<'c>)> = Vec::with_capacity(1);
        self.adding(begin, entries, &mut |at, mut piece| {
            piece.apart = Some(Apart {
                name: None,
                count: u64::from(pieces.is_empty()),
                adjusted: Ratio::ZERO,
            });
            pieces.push((at, piece));
            Some(())
        })?;
        let mut sum = Ratio::ZERO;
        for (_, piece) in &pieces {
            sum = sum.checked_add(piece.amount)?;
        }
        // Limits and rounding are those of the version in which it was used last.
        let (at, piece) = pieces.last_mut()?;
        let version = self.versions[*at];
        let limits = version.price.each.as_ref()?;
        let mut amount = sum;
        let units = entries.iter().map(|(_, _, quantity)| quantity.units());
        let is_used = units.sum::<i128>() > 0;
        if let Some(most) = limits.maximum.map(Ratio::from_decimal)
            && amount.checked_cmp(most)?.is_gt()
        {
            amount = most;
        }
        if let Some(least) = limits.minimum.map(Ratio::from_decimal)
            && is_used
            && amount.checked_cmp(least)?.is_lt()
        {
            amount = least;
        }
        if version.price.rounding.site == Site::Event {
            amount = Ratio::from_decimal(version.places().round(amount)?);
        }
        let adjusted = amount.checked_sub(sum)?;
        piece.amount = piece.amount.checked_add(adjusted)?;
        piece.apart.as_mut()?.adjusted = adjusted;
        Some(pieces)
    }
}

impl Piece<'_> {
    /// As one of several: what was charged in each tier, as the share of it that counts.
    fn without_steps(mut self) -> Option<Self> {
        self.quantities = Vec::new();
        if let Some(share) = self.share.take() {
            for tier in &mut self.tiers {
                tier.quantity = tier.quantity.checked_mul(share)?;
                tier.exact = tier.exact.checked_mul(share)?;
                tier.amount = tier.amount.checked_mul(share)?;
                tier.blocks = None;
            }
        }
        Some(self)
    }

    /// Together with what another one has of the same version and row.
    fn beside(mut self, other: &Self) -> Option<Self> {
        self.amount = self.amount.checked_add(other.amount)?;
        self.charged = self.charged.checked_add(other.charged)?;
        self.metered = self.metered.checked_add(other.metered)?;
        if let (Some(own), Some(others)) = (&mut self.apart, &other.apart) {
            own.count += others.count;
            own.adjusted = own.adjusted.checked_add(others.adjusted)?;
        }
        self.add_tiers(&other.tiers)?;
        Some(self)
    }
}
