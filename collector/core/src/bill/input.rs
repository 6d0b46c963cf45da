//! What a bill is worked out from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollgate_common::{MeterName, Quantity, TenantId};

use super::Carried;
use super::lanes::{self, Lane};
use crate::catalog::{Card, Catalog, Meter, Profile};
use crate::period::{Period, Zone};
use crate::rate::{self, MeterUsage, Ratio, Shape};

/// A stretch of a period in which nothing changes by which the tenant is rated. The slices of a
/// period tile it, in order.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'c> {
    /// The stretch.
    pub span: Period,
    /// What meters are looked up in; `None` if no catalog was ever applied.
    pub catalog: Option<&'c Catalog>,
    /// What is agreed; `None` if the tenant has no profile and there is no default one.
    pub profile: Option<&'c Profile>,
    /// The version of the card that is in force, if any is.
    pub card: Option<&'c Card>,
}

/// Which bill of a period it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// More of the period is to come: a preview, an accrual or a threshold invoice. Minimums and
    /// what is missing to commitments are not due yet.
    Interim,
    /// The whole period.
    #[default]
    Final,
    /// The whole period, and the last one of the agreement: terms of commitments end with it, and
    /// nothing is charged in advance.
    Last,
}

impl std::str::FromStr for Stage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "interim" => Ok(Self::Interim),
            "final" => Ok(Self::Final),
            "last" => Ok(Self::Last),
            _ => Err(
                "expected `interim` (more of the period is to come), `final` (all of it) or \
                 `last` (and the agreement ends with it)",
            ),
        }
    }
}

/// The period behind this one, for fees in advance.
#[derive(Clone, Copy, Debug)]
pub struct Next<'c> {
    /// The period.
    pub period: Period,
    /// What is agreed for it, as far as is known.
    pub profile: &'c Profile,
    /// The version of the card that will be in force.
    pub card: &'c Card,
}

/// The usage of one meter, and what is in force for it when.
#[derive(Clone, Debug)]
pub struct Metered<'c> {
    /// By the parts that [`shape`] tells apart.
    pub usage: Cow<'c, MeterUsage>,
    /// The slices of the period with the prices that it is kept apart by.
    pub slices: Vec<rate::Slice<'c>>,
    /// Each price by itself, where a card has several of the meter; else empty.
    pub(super) lanes: Vec<Lane<'c>>,
}

impl<'c> Metered<'c> {
    /// Usage of a meter in these slices of a period.
    pub fn new(
        slices: &[Slice<'c>],
        zone: Zone,
        meter: &MeterName,
        usage: Cow<'c, MeterUsage>,
    ) -> Self {
        let kept = priced(slices, zone, meter);
        Self {
            lanes: lanes::lanes(slices, &kept, meter, &usage),
            slices: kept,
            usage,
        }
    }
}

/// How usage of a meter is kept apart in these slices of a period.
pub fn shape(slices: &[Slice<'_>], period: Period, zone: Zone, meter: &Meter) -> Shape {
    Shape::new(
        period,
        meter.aggregation,
        &priced(slices, zone, &meter.name),
    )
}

/// The slices with the prices by which usage of a meter is kept apart.
fn priced<'c>(slices: &[Slice<'c>], zone: Zone, meter: &MeterName) -> Vec<rate::Slice<'c>> {
    let priced = |slice: &Slice<'c>| {
        let card = slice.profile?.agreement.card(slice.card?);
        Some((card, card.keeping(meter)?))
    };
    slices
        .iter()
        .map(|slice| rate::Slice {
            span: slice.span,
            zone,
            priced: priced(slice),
            selects: None,
        })
        .collect()
}

/// All meters of a period: those with usage, and those that a card prices.
pub fn metered<'c>(
    slices: &[Slice<'c>],
    zone: Zone,
    usage: impl IntoIterator<Item = (&'c MeterName, &'c MeterUsage)>,
) -> BTreeMap<&'c MeterName, Metered<'c>> {
    let mut metered = BTreeMap::new();
    for (meter, usage) in usage {
        let usage = Cow::Borrowed(usage);
        metered.insert(meter, Metered::new(slices, zone, meter, usage));
    }
    let cards = slices.iter().filter_map(|slice| slice.card);
    for meter in cards.flat_map(|card| card.prices.iter().filter_map(|price| price.meter.as_ref()))
    {
        metered.entry(meter).or_insert_with(|| {
            Metered::new(slices, zone, meter, Cow::Owned(MeterUsage::default()))
        });
    }
    select(slices, &mut metered);
    metered
}

/// Tells every price whose tiers another meter selects how much that counts in the period.
fn select(slices: &[Slice<'_>], metered: &mut BTreeMap<&MeterName, Metered<'_>>) {
    let mut totals: BTreeMap<MeterName, Option<Quantity>> = BTreeMap::new();
    for (name, usage) in &*metered {
        let total = usage.usage.total();
        totals.insert(
            (*name).clone(),
            total.map(|total| Ord::max(total, Quantity::ZERO)),
        );
    }
    let selects = |slice: &Slice<'_>, priced: &rate::Slice<'_>| {
        let other = priced.priced?.1.selecting_meter()?;
        let total = totals.get(other).copied().unwrap_or(Some(Quantity::ZERO))?;
        let meter = slice.catalog?.meter(other)?;
        let scale = u32::from(meter.billed_scale().get());
        Ratio::new(total.units(), 10i128.checked_pow(scale)?)
    };
    for usage in metered.values_mut() {
        let lanes = usage.lanes.iter_mut().map(|lane| &mut lane.slices);
        for priced in std::iter::once(&mut usage.slices).chain(lanes) {
            for (priced, slice) in priced.iter_mut().zip(slices) {
                priced.selects = selects(slice, priced);
            }
        }
    }
}

/// A tenant whose usage another one pays for.
#[derive(Clone, Copy, Debug)]
pub struct Child<'c> {
    /// Who; the payer itself is one of them if it has usage of its own.
    pub tenant: &'c TenantId,
    /// Its usage since it joined, within the payer's period: a part of the input's usage.
    pub usage: &'c BTreeMap<MeterName, MeterUsage>,
}

/// What a bill is worked out from.
#[derive(Clone, Copy, Debug)]
pub struct BillInput<'c> {
    /// Whose bill.
    pub tenant: &'c TenantId,
    /// Which period.
    pub period: Period,
    /// The whole period of the calendar, of which a change of calendars may have left a part:
    /// what fees, maximums and minimums are stated for, what a percentile costs its share of, and by
    /// whose length levels are divided.
    pub whole: Period,
    /// Whose clocks count.
    pub zone: Zone,
    /// What is in force when. Never empty for a bill with lines.
    pub slices: &'c [Slice<'c>],
    /// Where taxes and exchange rates stand: the newest catalog that was known at the period's
    /// first closing; `None` if no catalog was ever applied.
    pub catalog: Option<&'c Catalog>,
    /// The usage of each meter, see [`metered`]; with children, of all together.
    pub usage: &'c BTreeMap<&'c MeterName, Metered<'c>>,
    /// Which bill of the period.
    pub stage: Stage,
    /// Whether the period owes what is due without usage: fees, minimums.
    pub due: bool,
    /// The next period, if fees are billed for it in advance; `None` if the agreement ends or its
    /// future is not known.
    pub next: Option<Next<'c>>,
    /// What is agreed behind the period: the terms of commitments that this does not name end with
    /// it. `None` for what is in force last in the period.
    pub after: Option<(&'c Profile, &'c Card)>,
    /// What other periods of the tenant left.
    pub carried: &'c Carried,
    /// Between whom the lines are shared out; empty if the tenant has no children.
    pub children: &'c [Child<'c>],
}

impl BillInput<'_> {
    /// True if the whole period is billed.
    pub(super) fn is_final(&self) -> bool {
        self.stage != Stage::Interim
    }

    /// True if what is not prorated is not due: less than half of a period is billed.
    pub(super) fn is_remainder(&self) -> bool {
        self.period.is_remainder_of(self.whole)
    }
}
