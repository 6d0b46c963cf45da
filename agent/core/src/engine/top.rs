//! The busiest tenants, meters and series: what was counted between two looks.
//!
//! The engine keeps nothing for it, and its thread does nothing for it. Who looks brings what the last look saw ([`TopMemory`],
//! about 32 bytes a series) and takes it away again, so that an agent nobody looks at pays
//! nothing, and two who look do not disturb each other. A look reads two words of every slot;
//! keys are read once for each slot, and then only for the rows that are shown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, Incarnation, MeterName, SeriesKey, TenantId, Timestamp};

use crate::aggregate::{Activity, Cells, Region};
use crate::attribute::Glob;

/// Most rows of each list.
pub const TOP_ROWS_MAX: usize = 500;

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopOrder {
    /// Events counted.
    #[default]
    Events,
    /// Amount counted, in whole units of the meters.
    Quantity,
}

/// What to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopQuery {
    /// Most rows of each list, at most [`TOP_ROWS_MAX`].
    pub rows: usize,
    /// What comes first.
    pub order: TopOrder,
    /// Only tenants that fit this pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only meters that fit this pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
}

/// What was counted between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRates {
    /// Milliseconds between the two; 0 at the first look, which then shows no amounts.
    pub millis: u64,
    /// Events of everything that fits.
    pub events: u64,
    /// Series in use that fit.
    pub series: u64,
    /// The busiest tenants.
    pub by_tenant: Vec<TopGroup>,
    /// The busiest meters.
    pub by_meter: Vec<TopGroup>,
    /// The busiest series.
    pub by_series: Vec<TopSeries>,
}

/// A tenant or a meter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopGroup {
    /// Its name.
    pub name: String,
    /// Series in use.
    pub series: u64,
    /// Series that lost their dimensions.
    pub overflow_series: u64,
    /// Events counted.
    pub events: u64,
    /// Events counted without their dimensions.
    pub overflow_events: u64,
    /// Amount counted, in units of 10^-[`TOP_SCALE`]; a decimal string.
    pub amount: String,
}

/// A series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopSeries {
    /// The input that counts it.
    pub input: String,
    /// Who pays.
    pub tenant: String,
    /// What is counted.
    pub meter: String,
    /// As `{key=value,…}`.
    pub dimensions: String,
    /// How values combine.
    pub aggregation: String,
    /// Events counted.
    pub events: u64,
    /// Amount counted, in units of 10^-[`TOP_SCALE`]; a decimal string. Of a distribution the sum
    /// of its values; 0 for aggregations that do not add up.
    pub amount: String,
    /// What stands at present, in the same units: the last value, the maximum of the newest
    /// window, the level that holds, the number of distinct values of the newest window. `None`
    /// for sums and distributions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Decimal places of the amounts shown: the most that a meter may have.
pub const TOP_SCALE: u8 = 12;

/// What one look remembers for the next; kept by who looks.
#[derive(Debug, Default)]
pub struct TopMemory {
    /// When the last look was, and at which life of the agent.
    last: Option<(Timestamp, Incarnation)>,
    /// By writer and slot.
    slots: Vec<Vec<Seen>>,
    /// Tenant and meter of the groups that slots belong to.
    groups: Vec<(TenantId, MeterName)>,
    numbers: HashMap<(TenantId, MeterName), u32, FixedState>,
}

impl TopMemory {
    /// Bytes for each slot.
    pub const SLOT_BYTES: usize = size_of::<Seen>();
}

/// A slot at the last look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Another number means another series in the same slot.
    generation: u32,
    group: u32,
    overflow: bool,
    scale: u8,
    has_amount: bool,
    events: u64,
    amount: u64,
}

/// What was counted since the last look.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    series: u64,
    overflow_series: u64,
    events: u64,
    overflow_events: u64,
    /// In units of 10^-[`TOP_SCALE`].
    amount: u128,
}

impl Growth {
    fn add(&mut self, other: &Self) {
        self.series += other.series;
        self.overflow_series += other.overflow_series;
        self.events = self.events.saturating_add(other.events);
        self.overflow_events = self.overflow_events.saturating_add(other.overflow_events);
        self.amount = self.amount.saturating_add(other.amount);
    }

    fn rank(&self, order: TopOrder) -> u128 {
        match order {
            TopOrder::Events => self.events.into(),
            TopOrder::Quantity => self.amount,
        }
    }

    fn group(&self, name: &str) -> TopGroup {
        TopGroup {
            name: name.to_owned(),
            series: self.series,
            overflow_series: self.overflow_series,
            events: self.events,
            overflow_events: self.overflow_events,
            amount: self.amount.to_string(),
        }
    }
}

/// What was counted since `memory` was here last.
pub(super) fn look<R: Region>(
    cells: &Cells<R>,
    memory: &mut TopMemory,
    query: &TopQuery,
    now: Timestamp,
) -> TopRates {
    let incarnation = cells.identity().incarnation;
    let millis = match memory.last {
        Some((at, of)) if of == incarnation => now.millis_since(at).max(1),
        _ => {
            *memory = TopMemory::default();
            0
        }
    };
    memory.last = Some((now, incarnation));
    let mut look = Look::new(memory, query, millis == 0);
    for (writer, name) in (0..).zip(&cells.identity().writers) {
        look.writer(cells, writer, name);
    }
    let mut rates = look.finish();
    rates.millis = u64::try_from(millis).unwrap_or(0);
    rates
}

/// One look under way.
struct Look<'a> {
    memory: &'a mut TopMemory,
    order: TopOrder,
    rows: usize,
    tenant: Option<Glob>,
    meter: Option<Glob>,
    /// The first look has nothing to compare with.
    first: bool,
    /// By group; `None` for groups that do not fit.
    growths: Vec<Option<Growth>>,
    /// The busiest so far, the least busy of them on top.
    busiest: BinaryHeap<Reverse<(u128, u32, u32)>>,
    details: HashMap<(u32, u32), TopSeries, FixedState>,
}

impl<'a> Look<'a> {
    fn new(memory: &'a mut TopMemory, query: &TopQuery, first: bool) -> Self {
        let mut look = Self {
            order: query.order,
            rows: query.rows.min(TOP_ROWS_MAX),
            tenant: query.tenant.as_deref().map(Glob::new),
            meter: query.meter.as_deref().map(Glob::new),
            first,
            growths: Vec::new(),
            busiest: BinaryHeap::new(),
            details: HashMap::default(),
            memory,
        };
        for at in 0..look.memory.groups.len() {
            let fits = look.fits(at);
            look.growths.push(fits);
        }
        look
    }

    fn fits(&self, group: usize) -> Option<Growth> {
        let (tenant, meter) = &self.memory.groups[group];
        let fits = |glob: &Option<Glob>, name: &str| glob.as_ref().is_none_or(|g| g.matches(name));
        let all = fits(&self.tenant, tenant.as_str()) && fits(&self.meter, meter.as_str());
        all.then(Growth::default)
    }

    fn group(&mut self, key: &SeriesKey) -> u32 {
        let pair = (key.tenant().clone(), key.meter().clone());
        if let Some(number) = self.memory.numbers.get(&pair) {
            return *number;
        }
        let at = self.memory.groups.len();
        // A group has at least one slot, and slots are numbered in 32 bits.
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        self.memory.groups.push(pair.clone());
        self.memory.numbers.insert(pair, number);
        let fits = self.fits(at);
        self.growths.push(fits);
        number
    }
}

impl Look<'_> {
    fn writer<R: Region>(&mut self, cells: &Cells<R>, writer: u32, name: &str) {
        let at = writer as usize;
        if self.memory.slots.len() <= at {
            self.memory.slots.resize_with(at + 1, Vec::new);
        }
        for slot in 0..cells.published(writer) {
            let activity = cells.activity(writer, slot);
            let known = self.memory.slots[at].get(slot as usize).copied();
            let same = known.filter(|seen| seen.generation == activity.generation);
            let learned = same.or_else(|| {
                let mut seen = self.learn(cells, writer, slot, activity.generation)?;
                if known.is_some_and(|known| known.group != u32::MAX) {
                    // A slot that was reused goes on where the series before it ended.
                    (seen.events, seen.amount) = (activity.events, activity.amount);
                }
                Some(seen)
            });
            let Some(seen) = learned else {
                continue;
            };
            self.count(cells, (writer, slot, name), &seen, activity);
            let slots = &mut self.memory.slots[at];
            let now = Seen {
                events: activity.events,
                amount: activity.amount,
                ..seen
            };
            let index = slot as usize;
            if slots.len() <= index {
                // At once for all, so that it takes no more memory than there are slots.
                let all = cells.published(writer) as usize;
                slots.reserve_exact(all.max(index + 1) - slots.len());
                slots.resize(index + 1, Seen::NONE);
            }
            slots[index] = now;
        }
    }

    /// Reads the key of a slot that the last look did not see; its growth is everything that
    /// it holds, except at the first look.
    fn learn<R: Region>(
        &mut self,
        cells: &Cells<R>,
        writer: u32,
        slot: u32,
        generation: u32,
    ) -> Option<Seen> {
        let key = cells.key(writer, slot)?;
        let overflow = key
            .key
            .dimensions()
            .iter()
            .any(|(k, v)| k == "overflow" && v == "true");
        Some(Seen {
            generation,
            group: self.group(&key.key),
            overflow,
            scale: key.scale.get(),
            has_amount: matches!(
                key.aggregation,
                Aggregation::Sum | Aggregation::Distribution
            ),
            events: 0,
            amount: 0,
        })
    }

    fn count<R: Region>(
        &mut self,
        cells: &Cells<R>,
        (writer, slot, name): (u32, u32, &str),
        seen: &Seen,
        activity: Activity,
    ) {
        let Some(Some(growth)) = self.growths.get_mut(seen.group as usize) else {
            return;
        };
        let new = if self.first {
            Growth::default()
        } else {
            seen.growth(activity)
        };
        let new = Growth {
            series: 1,
            overflow_series: u64::from(seen.overflow),
            overflow_events: if seen.overflow { new.events } else { 0 },
            ..new
        };
        growth.add(&new);
        let rank = new.rank(self.order);
        if new.events == 0 || self.rows == 0 {
            return;
        }
        if self.busiest.len() == self.rows {
            let least = self.busiest.peek().map_or(0, |Reverse((rank, ..))| *rank);
            if rank <= least {
                return;
            }
            if let Some(Reverse((_, writer, slot))) = self.busiest.pop() {
                self.details.remove(&(writer, slot));
            }
        }
        let Some(key) = cells.key(writer, slot) else {
            return;
        };
        self.busiest.push(Reverse((rank, writer, slot)));
        let series = TopSeries {
            input: name.to_owned(),
            tenant: key.key.tenant().to_string(),
            meter: key.key.meter().to_string(),
            dimensions: format!("{{{}}}", key.key.dimensions()),
            aggregation: key.aggregation.to_string(),
            events: new.events,
            amount: new.amount.to_string(),
            value: cells.standing(writer, &key).map(|value| {
                let scale = match key.aggregation {
                    // A number of values has no places.
                    Aggregation::Unique => 0,
                    _ => seen.scale,
                };
                value.saturating_mul(factor(scale)).to_string()
            }),
        };
        self.details.insert((writer, slot), series);
    }

    fn finish(mut self) -> TopRates {
        let mut total = Growth::default();
        let mut tenants: BTreeMap<&TenantId, Growth> = BTreeMap::new();
        let mut meters: BTreeMap<&MeterName, Growth> = BTreeMap::new();
        for ((tenant, meter), growth) in self.memory.groups.iter().zip(&self.growths) {
            let Some(growth) = growth else {
                continue;
            };
            total.add(growth);
            tenants.entry(tenant).or_default().add(growth);
            meters.entry(meter).or_default().add(growth);
        }
        let mut by_series = self.busiest.into_vec();
        by_series.sort_unstable();
        let by_series = by_series
            .into_iter()
            .filter_map(|Reverse((_, writer, slot))| self.details.remove(&(writer, slot)))
            .collect();
        TopRates {
            millis: 0,
            events: total.events,
            series: total.series,
            by_tenant: top(
                tenants.into_iter().map(|(n, g)| (n.as_str(), g)),
                self.order,
                self.rows,
            ),
            by_meter: top(
                meters.into_iter().map(|(n, g)| (n.as_str(), g)),
                self.order,
                self.rows,
            ),
            by_series,
        }
    }
}

/// From units of a scale to those that are shown.
fn factor(scale: u8) -> i128 {
    10i128.pow(u32::from(TOP_SCALE.saturating_sub(scale)))
}

impl Seen {
    /// No slot has this generation.
    const NONE: Self = Self {
        generation: u32::MAX,
        group: u32::MAX,
        overflow: false,
        scale: 0,
        has_amount: false,
        events: 0,
        amount: 0,
    };

    fn growth(&self, now: Activity) -> Growth {
        // Cells only grow, and wrap.
        let units = if self.has_amount {
            now.amount.wrapping_sub(self.amount)
        } else {
            0
        };
        let factor = factor(self.scale).unsigned_abs();
        Growth {
            events: now.events.wrapping_sub(self.events),
            amount: u128::from(units).saturating_mul(factor),
            ..Growth::default()
        }
    }
}

/// The busiest first; names decide between equals, so that rows do not jump about.
fn top<'n>(
    groups: impl Iterator<Item = (&'n str, Growth)>,
    order: TopOrder,
    rows: usize,
) -> Vec<TopGroup> {
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|(_, growth)| Reverse((growth.rank(order), growth.events, growth.series)));
    groups.truncate(rows);
    groups
        .iter()
        .map(|(name, growth)| growth.group(name))
        .collect()
}
