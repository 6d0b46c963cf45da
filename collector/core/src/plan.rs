//! What a draft of the catalog would change for a tenant, and what a period costs by it.
//!
//! Both sides are worked out in the same way, from the usage that the projection has and by the
//! one way to a bill ([`crate::bill`]): what was in force, slice by slice, and the draft as if it
//! had been in force all the time. What other periods left (credit, grants, how far commitments
//! have come) is left out of both, so that the difference is that of the prices.
//!
//! What another tenant pays for is a part of that tenant's costs on the side on which it does
//! ([`paid_by`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;
use tollgate_common::sketch::UniqueSketch;
use tollgate_common::{
    Aggregation, Detail, Dimensions, MeterName, Quantity, Scale, TenantId, Timestamp, Window,
};

use crate::bill::{self, Bill, BillInput, Carried, Metered, NoBill, Stage};
use crate::catalog::timeline::{Slice, Timeline};
use crate::catalog::{Catalog, Meter};
use crate::period::{Calendar, Calendars, Period, Zone};
use crate::rate::{Currency, MeterUsage, Part, Shape, adds_up};

/// What a series has in one window, as the projection keeps it.
#[derive(Clone, Debug)]
pub struct WindowUsage {
    /// Which meter.
    pub meter: MeterName,
    /// Which series of it.
    pub dimensions: Dimensions,
    /// When.
    pub window: Window,
    /// How values combine.
    pub aggregation: Aggregation,
    /// Decimal places.
    pub scale: Scale,
    /// The sum, the largest or the newest value.
    pub quantity: Quantity,
    /// Of distinct values: the set.
    pub detail: Detail,
    /// Of the newest value: a text that orders values as they happened.
    pub order: String,
}

/// One side of a comparison: what a tenant's period is rated by.
#[derive(Clone, Debug)]
pub struct Terms {
    slices: Vec<Slice>,
    /// Where taxes and exchange rates stand.
    newest: Option<Arc<Catalog>>,
    period: Period,
    /// The whole period of the calendar, of which the period may be a part; `None` where it is one by
    /// what is agreed.
    whole: Option<Period>,
}

impl Terms {
    /// What is in force by all versions that were applied.
    pub fn in_force(timeline: &Timeline, tenant: &TenantId, period: Period) -> Self {
        let newest = timeline.newest_for(tenant);
        Self {
            slices: bill::cut_by_grants(timeline.slices(tenant, period, timeline.known())),
            newest: newest.map(|version| Arc::clone(&version.catalog)),
            period,
            whole: whole_of(timeline, tenant, period),
        }
    }

    /// The same where the period is a part of this one by what is in force.
    #[must_use]
    pub fn within(self, whole: Option<Period>) -> Self {
        Self {
            whole: whole.or(self.whole),
            ..self
        }
    }

    /// What is agreed at the end of the period.
    fn profile(&self) -> Option<&crate::catalog::Profile> {
        let mut profiles = self.slices.iter().rev();
        profiles.find_map(|slice| slice.profile.as_deref())
    }

    fn zone(&self) -> Zone {
        self.profile().map_or(Zone::UTC, |p| p.calendar.zone)
    }

    fn meter(&self, name: &MeterName) -> Option<&Meter> {
        let mut catalogs = self.slices.iter().rev();
        catalogs.find_map(|slice| slice.catalog.as_ref()?.meter(name))
    }

    fn slices(&self) -> Vec<bill::Slice<'_>> {
        self.slices.iter().map(Slice::for_bill).collect()
    }

    /// What a period costs a tenant who pays for the usage of each of these, and what is not rated.
    ///
    /// # Errors
    /// See [`NoBill`].
    pub fn cost<'u>(
        &self,
        tenant: &TenantId,
        each: impl IntoIterator<Item = (&'u TenantId, Vec<&'u WindowUsage>)>,
    ) -> Result<Cost, NoBill> {
        let slices = self.slices();
        let (zone, period) = (self.zone(), self.period);
        let mut usage: BTreeMap<MeterName, MeterUsage> = BTreeMap::new();
        let mut unrated = BTreeMap::new();
        for (whose, rows) in each {
            let mut gathered = Gathered::default();
            for row in rows {
                gathered.take(
                    row,
                    |meter| {
                        let shape = bill::shape(&slices, period, zone, meter);
                        (meter.billed_scale(), shape)
                    },
                    |name| self.meter(name),
                );
            }
            let (theirs, not_rated) = gathered.finish();
            unrated.extend(not_rated);
            for (meter, theirs) in theirs {
                let together = usage.entry(meter.clone()).or_default();
                if together.merge(whose, &theirs).is_err() {
                    unrated.insert(meter, TOO_LARGE);
                }
            }
        }
        usage.retain(|meter, _| unrated.get(meter).is_none_or(|reason| *reason != TOO_LARGE));
        let Some(profile) = self.profile() else {
            unrated.extend(usage.into_keys().map(|meter| (meter, "no_profile")));
            return Ok(Cost {
                unrated: unrated.into_iter().collect(),
                ..Cost::default()
            });
        };
        let metered: BTreeMap<&MeterName, Metered<'_>> = bill::metered(&slices, zone, &usage);
        let carried = Carried::default();
        let bill = bill::compute(&BillInput {
            tenant,
            period,
            whole: self
                .whole
                .unwrap_or_else(|| profile.calendar.period_containing(period.start)),
            zone,
            slices: &slices,
            catalog: self.newest.as_deref(),
            usage: &metered,
            stage: Stage::Final,
            due: true,
            next: None,
            after: None,
            carried: &carried,
            children: &[],
        })?;
        Ok(Cost::of(&bill, unrated))
    }
}

/// Why usage is not rated that cannot be gathered.
const TOO_LARGE: &str = "amount_too_large";

/// A draft as if it had been in force for ever.
pub fn drafted(catalog: &Arc<Catalog>) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.apply(Timestamp::EPOCH, Arc::clone(catalog), None);
    timeline
}

/// The whole period of the calendar that a tenant's period is, or is what a change of calendar left
/// of ([`Calendars::whole_of`]); `None` if no calendar that was in force has such a period.
pub fn whole_of(timeline: &Timeline, tenant: &TenantId, period: Period) -> Option<Period> {
    let concerned = timeline
        .versions()
        .iter()
        .filter(|version| version.concerns(tenant));
    let set = concerned.map(|version| {
        let profile = version.catalog.profile(tenant);
        let calendar = profile.map_or(Calendar::DEFAULT, |profile| profile.calendar);
        (version.stamp, calendar)
    });
    let mut changes = vec![(Timestamp::EPOCH, Calendar::DEFAULT)];
    changes.extend(set);
    // A tenant's calendars begin with what is in force when it is heard of first.
    (0..changes.len()).find_map(|first| {
        let (&(_, calendar), later) = changes[first..].split_first()?;
        let mut calendars = Calendars::new(calendar);
        for (stamp, calendar) in later {
            calendars.change(*stamp, *calendar);
        }
        let is_one = calendars.period_containing(period.start) == period;
        is_one.then(|| calendars.whole_of(period))
    })
}

/// What of a tenant's usage is for `payer` to pay, which may be the tenant itself.
pub fn paid_by<'u>(
    timeline: &Timeline,
    payer: &TenantId,
    tenant: &TenantId,
    usage: impl IntoIterator<Item = &'u WindowUsage>,
) -> Vec<&'u WindowUsage> {
    let pays = |row: &&WindowUsage| {
        let other = timeline.payer(tenant, row.window.start());
        other.unwrap_or(tenant) == payer
    };
    usage.into_iter().filter(pays).collect()
}

/// What a period costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// What the amounts are in; `None` without lines.
    pub currency: Option<Currency>,
    /// The sum of the lines, without tax.
    pub net: Decimal,
    /// The same with tax.
    pub total: Decimal,
    /// Each line with its net amount, by its name; several of one name are added.
    pub lines: BTreeMap<String, Decimal>,
    /// Meters with usage that is not rated, and why.
    pub unrated: Vec<(MeterName, &'static str)>,
}

impl Cost {
    fn of(bill: &Bill<'_>, unrated: BTreeMap<MeterName, &'static str>) -> Self {
        let mut lines: BTreeMap<String, Decimal> = BTreeMap::new();
        for line in &bill.lines {
            // Each of them fits, and so does their sum, which is a part of the bill's.
            let sum = lines.entry(line.key.name()).or_default();
            *sum = sum.checked_add(line.net).unwrap_or(*sum);
        }
        let mut all: Vec<(MeterName, &'static str)> = unrated.into_iter().collect();
        let of_bill = bill
            .unrated
            .iter()
            .filter(|usage| !usage.quantity.is_zero());
        all.extend(of_bill.filter_map(|usage| Some((usage.meter.clone()?, usage.reason.as_str()))));
        Self {
            currency: bill.currency,
            net: bill.net,
            total: bill.total,
            lines,
            unrated: all,
        }
    }
}

/// Usage of one tenant's period on its way to the parts that the prices ask for.
#[derive(Default)]
struct Gathered {
    /// Decimal places that are billed, and the shape; `None` for a meter that nobody declared.
    shapes: BTreeMap<MeterName, Option<(Scale, Shape)>>,
    usage: BTreeMap<MeterName, MeterUsage>,
    /// Of what does not add up over time: what stands for each series in each part.
    standing: BTreeMap<(MeterName, Part, Dimensions), Standing>,
    unrated: BTreeMap<MeterName, &'static str>,
}

enum Standing {
    Largest(Quantity),
    Newest(String, Quantity),
    Distinct(Box<UniqueSketch>),
}

impl Gathered {
    fn take<'m>(
        &mut self,
        row: &WindowUsage,
        shape: impl FnOnce(&'m Meter) -> (Scale, Shape),
        declared: impl Fn(&MeterName) -> Option<&'m Meter>,
    ) {
        let meter = declared(&row.meter);
        let known = self
            .shapes
            .entry(row.meter.clone())
            .or_insert_with(|| meter.map(shape));
        let (Some((scale, shape)), Some(meter)) = (known, meter) else {
            self.unrated.insert(row.meter.clone(), "undeclared_meter");
            return;
        };
        if *scale != row.scale || meter.aggregation != row.aggregation {
            let reason = if *scale == row.scale {
                "aggregation_mismatch"
            } else {
                "scale_mismatch"
            };
            self.unrated.insert(row.meter.clone(), reason);
            return;
        }
        if adds_up(row.aggregation) {
            let usage = self.usage.entry(row.meter.clone()).or_default();
            let counted = usage.count(shape, row.window, &row.dimensions, row.quantity);
            if counted.is_err() {
                self.unrated.insert(row.meter.clone(), TOO_LARGE);
            }
            return;
        }
        for part in shape.parts_of(row.window, &row.dimensions) {
            let key = (row.meter.clone(), part, row.dimensions.clone());
            let standing = self.standing.entry(key);
            match (row.aggregation, &row.detail) {
                (Aggregation::Unique, Detail::Unique(seen)) => {
                    let distinct = || Standing::Distinct(Box::default());
                    if let Standing::Distinct(sketch) = standing.or_insert_with(distinct) {
                        sketch.merge(seen);
                    }
                }
                (Aggregation::Unique, _) => {}
                (Aggregation::Last, _) => {
                    let newest = || Standing::Newest(row.order.clone(), row.quantity);
                    let standing = standing.or_insert_with(newest);
                    if matches!(standing, Standing::Newest(order, _) if *order <= row.order) {
                        *standing = newest();
                    }
                }
                _ => {
                    let standing = standing.or_insert(Standing::Largest(row.quantity));
                    if let Standing::Largest(largest) = standing {
                        *largest = Ord::max(*largest, row.quantity);
                    }
                }
            }
        }
    }

    /// The usage of each meter, and the meters whose usage cannot be rated whole.
    fn finish(
        mut self,
    ) -> (
        BTreeMap<MeterName, MeterUsage>,
        BTreeMap<MeterName, &'static str>,
    ) {
        for ((meter, part, _), standing) in self.standing {
            let quantity = match standing {
                Standing::Largest(quantity) | Standing::Newest(_, quantity) => quantity,
                Standing::Distinct(sketch) => Quantity::new(sketch.estimate().into()),
            };
            let usage = self.usage.entry(meter.clone()).or_default();
            if usage.add(part, quantity).is_err() {
                self.unrated.insert(meter, TOO_LARGE);
            }
        }
        self.usage.retain(|meter, _| {
            self.unrated
                .get(meter)
                .is_none_or(|reason| *reason != TOO_LARGE)
        });
        (self.usage, self.unrated)
    }
}

/// What of a tenant's terms a draft changes, in a few words; empty if nothing.
pub fn concerns(timeline: &Timeline, draft: &Arc<Catalog>, tenant: &TenantId) -> Vec<&'static str> {
    let before = timeline.newest_for(tenant).map(|version| &*version.catalog);
    let mut found = Vec::new();
    let profile = |catalog: Option<&Catalog>| catalog.and_then(|c| c.profile(tenant).cloned());
    let (old, new) = (profile(before), profile(Some(draft)));
    match (&old, &new) {
        (None, Some(_)) => found.push("gets a profile"),
        (Some(_), None) => found.push("loses its profile"),
        (Some(old), Some(new)) if old != new => found.push("another profile"),
        _ => {}
    }
    if let (Some(before), Some(old), Some(new)) = (before, old, new) {
        if before.versions(&old.card) != draft.versions(&new.card) {
            found.push("other prices");
        }
        if before.meters().ne(draft.meters()) {
            found.push("other meters");
        }
    }
    found
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
