//! Bills without a ledger: from one catalog, for trying prices and for the tests beside them.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{MeterName, TenantId};

use super::fees::advance;
use super::{
    Advance, Bill, BillInput, Carried, Child, Metered, Next, NoBill, Slice, Stage, Term, compute,
    metered,
};
use crate::catalog::{Catalog, Meter, Profile};
use crate::period::{Period, Zone};
use crate::rate::MeterUsage;

use super::grants::cuts;
use super::{commit, reached};

/// A period by one catalog, as if that had been in force for ever.
#[derive(Clone, Debug)]
pub struct Offline<'c> {
    /// The catalog.
    pub catalog: &'c Catalog,
    /// Whose period.
    pub tenant: &'c TenantId,
    /// What is agreed with the tenant.
    pub profile: &'c Profile,
    /// The period.
    pub period: Period,
    /// Cut by the versions of the card, and by grants.
    pub slices: Vec<Slice<'c>>,
}

/// What is used in a period, and what was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of each meter; with children, of all together.
    pub meters: BTreeMap<MeterName, MeterUsage>,
    /// Of each tenant that the payer pays for, itself among them.
    pub children: BTreeMap<TenantId, BTreeMap<MeterName, MeterUsage>>,
    /// What other periods left.
    pub carried: Carried,
    /// Which bill of the period.
    pub stage: Stage,
}

impl<'c> Offline<'c> {
    /// A tenant's period; `None` without a profile.
    pub fn new(catalog: &'c Catalog, tenant: &'c TenantId, period: Period) -> Option<Self> {
        let profile = catalog.profile(tenant)?;
        Some(Self {
            catalog,
            tenant,
            profile,
            period,
            slices: slices(catalog, profile, period),
        })
    }

    /// Whose clocks count.
    pub fn zone(&self) -> Zone {
        self.profile.calendar.zone
    }

    /// The usage with the prices that are in force for it.
    pub fn metered(&self, usage: &'c Usage) -> BTreeMap<&'c MeterName, Metered<'c>> {
        metered(&self.slices, self.zone(), &usage.meters)
    }

    /// The children with their usage.
    pub fn children(usage: &'c Usage) -> Vec<Child<'c>> {
        let children = usage.children.iter();
        children
            .map(|(tenant, usage)| Child { tenant, usage })
            .collect()
    }

    /// The bill.
    ///
    /// # Errors
    /// See [`NoBill`].
    pub fn bill(
        &'c self,
        usage: &'c Usage,
        metered: &'c BTreeMap<&'c MeterName, Metered<'c>>,
        children: &'c [Child<'c>],
    ) -> Result<Bill<'c>, NoBill> {
        compute(&self.input(usage, metered, children))
    }

    /// A fee that was charged in advance, of the last version in the period that has it; `None` if
    /// there is no such fee.
    pub fn advance(&self, id: &str, amount: Decimal) -> Option<Advance> {
        let mut cards = self.slices.iter().rev().filter_map(|slice| slice.card);
        cards.find_map(|card| {
            let mut fees = card.prices.iter().filter(|price| price.meter.is_none());
            let price = fees.find(|price| price.id == id)?;
            Some(advance(card, price, self.profile, amount))
        })
    }

    /// What a commitment is called in [`Carried`], with its term in this period and its taxes.
    pub fn commitment_term(&self, id: &str) -> Option<(String, Term, Vec<String>)> {
        let (usage, metered) = (Usage::default(), BTreeMap::new());
        commit::term_of(&self.input(&usage, &metered, &[]), id)
    }

    /// What is counted of a price whose tiers go on over several periods: what it is called in
    /// [`Carried`], its term and its meter. `None` if there is no such price.
    pub fn reached(&self, id: &str) -> Option<(String, Term, &'c Meter)> {
        let (usage, metered) = (Usage::default(), BTreeMap::new());
        let input = self.input(&usage, &metered, &[]);
        let mut cards = self.slices.iter().rev().filter_map(|slice| slice.card);
        cards.find_map(|card| {
            let mut prices = card.prices.iter();
            let price = prices.find(|price| price.id == id)?;
            let meter = self.catalog.meter(price.meter.as_ref()?)?;
            let (key, term) = reached::place(&input, card, price, meter)?;
            Some((key, term, meter))
        })
    }

    fn input<'a>(
        &'a self,
        usage: &'a Usage,
        metered: &'a BTreeMap<&'a MeterName, Metered<'a>>,
        children: &'a [Child<'a>],
    ) -> BillInput<'a> {
        let next = self.next();
        BillInput {
            tenant: self.tenant,
            period: self.period,
            whole: self.profile.calendar.period_containing(self.period.start),
            zone: self.zone(),
            slices: &self.slices,
            catalog: Some(self.catalog),
            usage: metered,
            stage: self.stage(usage),
            due: true,
            next,
            after: next.map(|next| (next.profile, next.card)),
            carried: &usage.carried,
            children,
        }
    }

    /// The last bill is that of the period in which the agreement ends.
    fn stage(&self, usage: &Usage) -> Stage {
        let ends = self.profile.validity().end <= self.period.end;
        match usage.stage {
            Stage::Final if ends => Stage::Last,
            stage => stage,
        }
    }

    /// What is agreed when the period is over.
    fn next(&self) -> Option<Next<'c>> {
        if !self.profile.validity().contains(self.period.end) {
            return None;
        }
        let period = self.profile.calendar.period_containing(self.period.end);
        let card = self
            .catalog
            .card_for(self.profile, self.zone(), period.start)?;
        Some(Next {
            period,
            profile: self.profile,
            card,
        })
    }
}

/// The stretches of a period, cut where a version of the card comes into force and where a grant
/// begins or ends.
fn slices<'c>(catalog: &'c Catalog, profile: &'c Profile, period: Period) -> Vec<Slice<'c>> {
    let zone = profile.calendar.zone;
    let valid = profile.validity();
    let versions = catalog.versions_for(profile).iter();
    let mut starts: Vec<_> = versions
        .map(|card| zone.start_of_day(card.from))
        .chain([valid.start, valid.end])
        .filter(|from| period.start < *from && *from < period.end)
        .chain(cuts(profile, period, zone))
        .chain([period.start])
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).copied().chain([period.end]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let card = || catalog.card_for(profile, zone, start);
            let agreed = valid.contains(start).then_some(profile);
            Slice {
                span: Period { start, end },
                catalog: Some(catalog),
                profile: agreed,
                card: agreed.and_then(|_| card()),
            }
        })
        .collect()
}
