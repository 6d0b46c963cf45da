//! A card's versions for the parts of a period in which they are in force.

use rust_decimal::Decimal;

use super::lines::find;
use super::{BillInput, NoBill, Slice};
use crate::catalog::{Card, Price, Profile};
use crate::period::{Period, Proration};
use crate::rate::Ratio;

/// A card for the part of the period in which its versions are in force.
#[derive(Clone)]
pub(super) struct Plan<'c> {
    /// Its versions with their stretches, in order.
    pub(super) versions: Vec<(Period, &'c Card)>,
    /// What was agreed last.
    pub(super) profile: &'c Profile,
}

impl<'c> Plan<'c> {
    /// The last version.
    pub(super) fn card(&self) -> &'c Card {
        self.versions[self.versions.len() - 1].1
    }

    /// The plans of a period, in the order in which they were in force first. A card that comes
    /// back goes on where it was.
    pub(super) fn all(slices: &[Slice<'c>]) -> Vec<Self> {
        let mut plans: Vec<Self> = Vec::new();
        for slice in slices {
            let (Some(profile), Some(card)) = (slice.profile, slice.card) else {
                continue;
            };
            let card = profile.agreement.card(card);
            // Amounts of different currencies have nothing to do with each other.
            let same = |plan: &&mut Self| {
                plan.card().id == card.id && plan.card().currency == card.currency
            };
            match plans.iter_mut().find(same) {
                Some(plan) => {
                    plan.versions.push((slice.span, card));
                    plan.profile = profile;
                }
                None => plans.push(Self {
                    versions: vec![(slice.span, card)],
                    profile,
                }),
            }
        }
        plans
    }

    /// The one that is in force last: what a profile says goes by its card.
    pub(super) fn last(plans: &[Self]) -> Option<usize> {
        let ends = plans.iter().enumerate();
        ends.max_by_key(|(_, plan)| plan.versions.last().map(|(span, _)| span.start))
            .map(|(place, _)| place)
    }

    /// The prices of all versions.
    pub(super) fn prices(&self) -> impl Iterator<Item = &'c Price> + '_ {
        let cards = self.versions.iter().map(|(_, card)| *card);
        cards.flat_map(|card| &card.prices)
    }

    /// A maximum or minimum of the versions of a price, prorated like everything else. If it has to
    /// be `whole`, there is none where a version has none; else that version adds nothing to it.
    pub(super) fn limit(
        &self,
        input: &BillInput<'_>,
        price: &Price,
        of: fn(&Price) -> Option<Decimal>,
        whole: bool,
    ) -> Result<Option<Ratio>, NoBill> {
        let versions = || {
            self.versions
                .iter()
                .filter_map(|(_, card)| find(card, price))
        };
        let Some(by) = price.terms.prorate else {
            // A maximum stays, for what is used.
            if input.is_remainder() && !whole {
                return Ok(None);
            }
            let last = versions().next_back();
            return Ok(last.and_then(of).map(Ratio::from_decimal));
        };
        if versions().all(|version| of(version).is_none())
            || (whole && versions().any(|version| of(version).is_none()))
        {
            return Ok(None);
        }
        let amount = |card: &'c Card| of(find(card, price)?).map(Ratio::from_decimal);
        Ok(Some(self.prorated(input, Some(by), amount)?.0))
    }

    /// What each version says of something, prorated by how long it is in force: its sum, and
    /// which part of the whole period that is. Without proration the last word counts whole.
    pub(super) fn prorated(
        &self,
        input: &BillInput<'_>,
        by: Option<Proration>,
        amount: impl Fn(&'c Card) -> Option<Ratio>,
    ) -> Result<(Ratio, Ratio), NoBill> {
        let mut sum = Ratio::ZERO;
        let mut part = Ratio::ZERO;
        for (span, card) in &self.versions {
            let Some(amount) = amount(card) else { continue };
            let Some(by) = by else {
                (sum, part) = (amount, Ratio::ONE);
                continue;
            };
            let fraction = input.whole.fraction(*span, by, input.zone);
            let share = amount.checked_mul(fraction);
            sum = share
                .and_then(|share| sum.checked_add(share))
                .ok_or(NoBill::TooLarge)?;
            part = part.checked_add(fraction).ok_or(NoBill::TooLarge)?;
        }
        Ok((sum, part))
    }
}
