//! Lanes: several prices of one meter, each with a line of its own.
//!
//! Usage of a meter is kept apart as one of its prices needs it, the [keeping](Card::keeping) one.
//! The others need no parts of their own, so that theirs are sums of these. Where a card has several
//! prices of a meter, each of them gets a lane: its own slices, and the usage as it needs it.
//!
//! All of them price the same usage, which is accepted once. In the proof that usage is billed or
//! unrated it is the keeping price's: its lines carry the quantity, and those of the others none.

use tollgate_common::{MeterName, Quantity};

use super::{Metered, Slice, Unrated};
use crate::catalog::{Card, Interval, Price};
use crate::rate::{self, LineItem, MeterUsage, Part, adds_up};

/// One of several prices of a meter in a period; or the stretches in which it has none.
#[derive(Clone, Debug)]
pub(super) struct Lane<'c> {
    /// The slices of the period; those in which the price is not in force have none.
    pub(super) slices: Vec<rate::Slice<'c>>,
    /// What is rated by it.
    pub(super) usage: MeterUsage,
    /// In which slices it is the keeping price.
    keeps: Vec<bool>,
    /// The first slice, and the one that usage counts in, of a meter that does not add up: of a
    /// price that keeps nothing. `None` where the meter adds up, or the price keeps all.
    same: Option<u16>,
    /// Why it cannot be rated: its usage is then only what is its own in the proof of quantities.
    lost: Option<Unrated>,
}

/// Which of a lane's usage is its own in the proof of quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// So much.
    Some(Quantity),
}

/// What is rated: the whole usage of a meter, or a lane of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Track<'m, 'c> {
    pub(super) usage: &'m MeterUsage,
    pub(super) slices: &'m [rate::Slice<'c>],
    lane: Option<&'m Lane<'c>>,
}

/// The lanes of a meter; none where every card has one price of it at most.
pub(super) fn lanes<'c>(
    slices: &[Slice<'c>],
    kept: &[rate::Slice<'c>],
    meter: &MeterName,
    usage: &MeterUsage,
) -> Vec<Lane<'c>> {
    let prices = |slice: &Slice<'c>| {
        let card = slice.profile?.agreement.card(slice.card?);
        let own = card.prices.iter();
        let own = own.filter(|price| price.meter.as_ref() == Some(meter));
        Some(own.map(|price| (card, price)).collect::<Vec<_>>())
    };
    let priced: Vec<Vec<(&Card, &Price)>> = slices
        .iter()
        .map(|slice| prices(slice).unwrap_or_default())
        .collect();
    if priced.iter().all(|prices| prices.len() <= 1) {
        return Vec::new();
    }
    let mut lanes: Vec<Lane<'c>> = Vec::new();
    for (index, prices) in priced.iter().enumerate() {
        let keeping = kept[index].priced.map(|(_, price)| price);
        for &(card, price) in prices {
            let known = lanes.iter().position(|lane| lane.is_of(card, price));
            let lane = known.unwrap_or_else(|| {
                lanes.push(Lane::empty(kept));
                lanes.len() - 1
            });
            lanes[lane].slices[index].priced = Some((card, price));
            lanes[lane].keeps[index] = keeping.is_some_and(|keeping| keeping.id == price.id);
        }
    }
    if kept.iter().any(|slice| slice.priced.is_none()) {
        let mut unpriced = Lane::empty(kept);
        for (keeps, slice) in unpriced.keeps.iter_mut().zip(kept) {
            *keeps = slice.priced.is_none();
        }
        lanes.push(unpriced);
    }
    let mut catalogs = slices.iter().filter_map(|slice| slice.catalog);
    let sums = catalogs
        .find_map(|catalog| catalog.meter(meter))
        .is_none_or(|meter| adds_up(meter.aggregation));
    for lane in &mut lanes {
        if !sums {
            lane.join(kept);
        }
        if lane.lost.is_none() {
            match lane.of(usage) {
                Some(usage) => lane.usage = usage,
                None => lane.lost = Some(Unrated::TooLarge),
            }
        }
        if lane.lost.is_some() {
            lane.usage = lane.own(usage);
        }
    }
    lanes
}

impl<'c> Lane<'c> {
    fn empty(kept: &[rate::Slice<'c>]) -> Self {
        let bare = |slice: &rate::Slice<'c>| rate::Slice {
            priced: None,
            selects: None,
            ..*slice
        };
        Self {
            slices: kept.iter().map(bare).collect(),
            usage: MeterUsage::default(),
            keeps: vec![false; kept.len()],
            same: None,
            lost: None,
        }
    }

    fn is_of(&self, card: &Card, price: &Price) -> bool {
        let mut own = self.slices.iter().filter_map(|slice| slice.priced);
        own.any(|(other, known)| {
            other.id == card.id && other.currency == card.currency && known.id == price.id
        })
    }

    /// Of a meter that does not add up: usage of the price is that of the keeping price, if both are
    /// in force at the same times.
    fn join(&mut self, kept: &[rate::Slice<'c>]) {
        let has = |index: usize| self.slices[index].priced.is_some();
        let Some(first) = (0..kept.len()).find(|&index| has(index)) else {
            return;
        };
        if (0..kept.len()).all(|index| !has(index) || self.keeps[index]) {
            return;
        }
        let alike = |index: usize| has(index) == kept[index].continues(&kept[first]);
        self.same = u16::try_from(first).ok();
        if self.same.is_none() || !(0..kept.len()).all(alike) {
            self.lost = Some(Unrated::PriceChanged);
        }
    }

    /// Usage of the slices in which it is the keeping price, apart as it was gathered: all of it
    /// is reported where the lane cannot be rated.
    fn own(&self, gathered: &MeterUsage) -> MeterUsage {
        let mut usage = MeterUsage::default();
        for (part, quantity) in gathered.parts() {
            if self.keeps.get(usize::from(part.slice)) == Some(&true) {
                // Each part is there once, so nothing is added up.
                let _ = usage.add(part, quantity);
            }
        }
        usage
    }

    /// Usage that was gathered for the keeping prices, as this price needs it; `None` if a sum of
    /// it does not fit.
    fn of(&self, gathered: &MeterUsage) -> Option<MeterUsage> {
        let mut usage = MeterUsage::default();
        for (part, quantity) in gathered.parts() {
            let index = usize::from(part.slice);
            let keeps = self.keeps.get(index) == Some(&true);
            let price = self.slices.get(index).and_then(|slice| slice.priced);
            let part = match (keeps, self.same, price) {
                (true, None, _) => part,
                (false, None, Some((_, price))) => Part {
                    interval: if price.interval == Interval::Period {
                        0
                    } else {
                        part.interval
                    },
                    cell: 0,
                    ..part
                },
                (_, Some(slice), Some(_)) => Part {
                    slice,
                    ..Part::default()
                },
                (_, _, None) => continue,
            };
            usage.add(part, quantity).ok()?;
        }
        if self.keeps.contains(&true) {
            usage.take_details(gathered);
        }
        Some(usage)
    }

    /// What of its usage is its own in the proof of quantities.
    fn carried(&self, usage: &MeterUsage) -> Carried {
        if !self.keeps.contains(&true) {
            return Carried::Nothing;
        }
        let has = |index: usize| self.slices[index].priced.is_some();
        if (0..self.slices.len()).all(|index| !has(index) || self.keeps[index]) {
            return Carried::All;
        }
        let own = usage.parts().filter(|(part, _)| {
            part.cell != Part::NO_CELL && self.keeps.get(usize::from(part.slice)) == Some(&true)
        });
        Carried::Some(Quantity::checked_sum(own.map(|(_, sum)| sum)).unwrap_or(Quantity::MAX))
    }
}

impl Track<'_, '_> {
    /// What of its usage is its own in the proof of quantities.
    pub(super) fn carried(&self) -> Carried {
        self.lane
            .map_or(Carried::All, |lane| lane.carried(self.usage))
    }

    /// Why it cannot be rated, and how much usage that concerns: `None` of a price beside the one
    /// that carries the usage.
    pub(super) fn lost(&self) -> Option<(Unrated, Option<Quantity>)> {
        let lane = self.lane?;
        let carries = lane.keeps.contains(&true);
        let quantity = || self.usage.total().unwrap_or(Quantity::MAX);
        Some((lane.lost?, carries.then(quantity)))
    }

    /// The same of a part of the usage, such as one tenant's: how much of it is priced, and how much
    /// of that the line carries.
    pub(super) fn share(
        &self,
        gathered: &MeterUsage,
        item: &LineItem<'_>,
    ) -> Option<(Quantity, Quantity)> {
        let first = self.slices.iter().find(|slice| is_of(slice, item))?;
        let sum = |usage: &MeterUsage| {
            let parts = usage.parts().filter(|(part, _)| {
                let slice = self.slices.get(usize::from(part.slice));
                part.cell != Part::NO_CELL && slice.is_some_and(|slice| slice.continues(first))
            });
            Quantity::checked_sum(parts.map(|(_, quantity)| quantity))
        };
        let Some(lane) = self.lane else {
            let all = sum(gathered)?;
            return Some((all, all));
        };
        let own = lane.of(gathered)?;
        let all = sum(&own)?;
        let carried = match lane.carried(&own) {
            Carried::All => all,
            Carried::Nothing => Quantity::ZERO,
            Carried::Some(quantity) => quantity,
        };
        Some((all, carried))
    }
}

fn is_of(slice: &rate::Slice<'_>, item: &LineItem<'_>) -> bool {
    slice.priced.is_some_and(|(card, price)| {
        card.id == item.card.id && card.currency == item.card.currency && price.id == item.price.id
    })
}

impl<'c> Metered<'c> {
    /// All that is rated, each by itself.
    pub(super) fn tracks(&self) -> impl Iterator<Item = Track<'_, 'c>> {
        let whole = self.lanes.is_empty().then_some(Track {
            usage: &self.usage,
            slices: &self.slices,
            lane: None,
        });
        let lanes = self.lanes.iter().map(|lane| Track {
            usage: &lane.usage,
            slices: &lane.slices,
            lane: Some(lane),
        });
        whole.into_iter().chain(lanes)
    }

    /// What a line was rated from.
    pub(super) fn track(&self, item: &LineItem<'_>) -> Option<Track<'_, 'c>> {
        let mut tracks = self.tracks();
        tracks.find(|track| track.slices.iter().any(|slice| is_of(slice, item)))
    }

    /// How much of a line's quantity is its own in the proof that usage is billed or unrated: all
    /// of it, but where several prices of the meter price the same usage.
    pub fn carried(&self, item: &LineItem<'_>) -> Quantity {
        let Some(track) = self.track(item) else {
            return item.quantity;
        };
        match track.carried() {
            Carried::All => item.quantity,
            Carried::Nothing => Quantity::ZERO,
            // What is below zero is reported beside the line.
            Carried::Some(own) => track
                .excess(item)
                .and_then(|excess| own.checked_sub(excess))
                .unwrap_or(own),
        }
    }
}

impl Track<'_, '_> {
    /// By how much sums of the usage of a line are below zero; not above it.
    fn excess(&self, item: &LineItem<'_>) -> Option<Quantity> {
        let own = self
            .usage
            .parts()
            .filter(|(part, _)| part.cell != Part::NO_CELL);
        let sum = Quantity::checked_sum(own.map(|(_, sum)| sum))?;
        sum.checked_sub(item.quantity)
    }
}
