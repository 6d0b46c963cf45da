//! The usage of a billing period, meter by meter.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, MeterName, Quantity, Rollup, Scale, TenantId, Timestamp};

use super::anew::Anew;
use super::book::{Booked, LineKey};
use super::crowd::{self, Crowd};
use super::meters::Meters;
use super::series::{Reporter, Series};
use super::state::pairs;
use crate::bill;
use crate::catalog::timeline::{self, Timeline};
use crate::entry::{Digest, RefusedReason};
use crate::fold::rows::Run;
use crate::period::{Calendars, Period, Zone};
use crate::position::Position;
use crate::rate::{self, GatherError, MeterUsage, Part, Shape};

/// A meter of one tenant with the declaration that agents made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UsageKey {
    pub(super) meter: MeterName,
    pub(super) scale: Scale,
    pub(super) aggregation: Aggregation,
    /// Why the policy refused it; refused usage is counted apart.
    pub(super) refused: Option<RefusedReason>,
}

impl UsageKey {
    /// What the rows of a run are counted under.
    pub(super) fn of(run: &Run<'_>) -> Self {
        let row = run.first();
        Self {
            meter: row.series.meter().clone(),
            scale: row.scale,
            aggregation: row.aggregation,
            refused: run.refused,
        }
    }
}

/// Usage of one meter in one period. There may be a million of them, nearly all of which are a sum
/// and no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// The parts of its [`UsageKey`], which would not fill whole words by itself.
    meter: MeterName,
    scale: Scale,
    aggregation: Aggregation,
    refused: Option<RefusedReason>,
    /// The first journal entry that contributed since the last booking.
    pub(super) from: Option<Position>,
    /// How many versions of the catalog it is parted by, and one more; `None` before it was looked
    /// at.
    versions: Option<NonZeroU32>,
    /// The sum, where values add up.
    sum: Quantity,
    /// What else there is.
    beyond: Option<Box<Beyond>>,
}

/// What hardly any usage has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Beyond {
    /// Where values do not add up: what stands for each series.
    series: Option<Series>,
    /// What prices need beyond one sum; `None` while they need nothing.
    parted: Option<Parted>,
    /// Rollups whose window reaches beyond the end of the period.
    straddling: u64,
}

/// Usage by parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Parted {
    /// Made anew from the versions after a restart.
    #[serde(skip)]
    shape: Option<Shape>,
    /// Of what adds up; else series know their parts.
    usage: MeterUsage,
}

impl PartialEq for Parted {
    fn eq(&self, other: &Self) -> bool {
        self.usage == other.usage
    }
}

/// By what usage of a period is parted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Versions<'a> {
    pub(super) timeline: &'a Timeline,
    pub(super) tenant: &'a TenantId,
    pub(super) calendars: &'a Calendars,
    pub(super) period: Period,
    /// How many versions count.
    pub(super) known: usize,
}

impl Versions<'_> {
    /// How usage is kept apart; `None` for one sum of the period. What is not rated needs no
    /// parts.
    fn shape_of(&self, key: &UsageKey) -> Option<Shape> {
        if key.refused.is_some() {
            return None;
        }
        let zone = Some(self.calendars.zone_of(self.period));
        let slices = self
            .timeline
            .slices_by(zone, self.tenant, self.period, self.known);
        let slices = bill::cut_by_grants(slices);
        let shape = Shape::new(
            self.period,
            key.aggregation,
            &priced_slices(&slices, &key.meter),
        );
        (!shape.is_plain()).then_some(shape)
    }

    /// True if a version was in force before the last ones, by the first `known`.
    fn had_any(&self, known: u32) -> bool {
        let versions = self.timeline.versions().iter().take(known as usize);
        versions
            .into_iter()
            .any(|version| version.concerns(self.tenant))
    }
}

/// The slices with the prices by which usage of a meter is kept apart.
pub(super) fn priced_slices<'c>(
    slices: &'c [timeline::Slice],
    meter: &MeterName,
) -> Vec<rate::Slice<'c>> {
    let of = |slice: &'c timeline::Slice| {
        let card = slice.card.as_deref();
        let price = card.and_then(|card| card.keeping(meter));
        rate::Slice {
            selects: None,
            span: Period {
                start: slice.from,
                end: slice.to,
            },
            zone: slice
                .profile
                .as_ref()
                .map_or(Zone::UTC, |profile| profile.calendar.zone),
            priced: card.zip(price),
        }
    };
    slices.iter().map(of).collect()
}

impl Usage {
    pub(super) fn new(key: UsageKey) -> Self {
        let UsageKey {
            meter,
            scale,
            aggregation,
            refused,
        } = key;
        let of_series = || Beyond {
            series: Some(Series::new(aggregation)),
            ..Beyond::default()
        };
        Self {
            meter,
            scale,
            aggregation,
            refused,
            from: None,
            versions: None,
            sum: Quantity::ZERO,
            beyond: (!aggregation.adds_up()).then(|| Box::new(of_series())),
        }
    }

    /// What it is counted under.
    pub(super) fn key(&self) -> UsageKey {
        UsageKey {
            meter: self.meter.clone(),
            scale: self.scale,
            aggregation: self.aggregation,
            refused: self.refused,
        }
    }

    /// What was measured.
    pub(super) fn meter(&self) -> &MeterName {
        &self.meter
    }

    /// Decimal places.
    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// How values combine.
    pub(super) fn aggregation(&self) -> Aggregation {
        self.aggregation
    }

    /// Why the policy refused it.
    pub(super) fn refused(&self) -> Option<RefusedReason> {
        self.refused
    }

    /// True if the rows of a run are counted into it.
    pub(super) fn is_of(&self, run: &Run<'_>) -> bool {
        let row = run.first();
        self.scale == row.scale
            && self.aggregation == row.aggregation
            && self.refused == run.refused
            && self.meter == *row.series.meter()
    }

    /// How its key orders to that of a run.
    pub(super) fn order_to(&self, run: &Run<'_>) -> Ordering {
        let row = run.first();
        let by_meter = self.meter.cmp(row.series.meter());
        by_meter
            .then_with(|| self.scale.cmp(&row.scale))
            .then_with(|| self.aggregation.cmp(&row.aggregation))
            .then_with(|| self.refused.cmp(&run.refused))
    }

    /// Rollups whose window reaches beyond the end of the period.
    pub(super) fn straddling(&self) -> u64 {
        self.beyond.as_ref().map_or(0, |beyond| beyond.straddling)
    }

    fn series(&self) -> Option<&Series> {
        self.beyond.as_ref()?.series.as_ref()
    }

    fn parted(&self) -> Option<&Parted> {
        self.beyond.as_ref()?.parted.as_ref()
    }

    fn parted_mut(&mut self) -> Option<&mut Parted> {
        self.beyond.as_mut()?.parted.as_mut()
    }

    /// The sum over all series: of what was counted, of the newest or the largest values, or of
    /// how many values differ.
    pub(super) fn quantity(&self) -> Quantity {
        match self.series() {
            Some(series) => series.quantity(),
            None => self.sum,
        }
    }

    /// The usage as prices need it; what of it cannot be told is not described.
    ///
    /// # Errors
    /// If not all of it could be gathered; see [`GatherError`].
    pub(super) fn metered(&self, anew: Option<Anew>) -> Result<Cow<'_, MeterUsage>, GatherError> {
        let gathered = self.gathered()?;
        let Some(anew) = anew else {
            return Ok(gathered);
        };
        let part = anew.part_of(&gathered, self.series().is_none());
        let mut usage = MeterUsage::default();
        usage.add(part, self.quantity())?;
        Ok(Cow::Owned(usage))
    }

    fn gathered(&self) -> Result<Cow<'_, MeterUsage>, GatherError> {
        match (self.series(), self.parted()) {
            (Some(series), parted) => {
                let mut usage = series.usage()?;
                let lost = parted.map(|parted| parted.usage.lost());
                lost.into_iter()
                    .flatten()
                    .for_each(|span| usage.lose(*span));
                Ok(Cow::Owned(usage))
            }
            (None, Some(parted)) => Ok(Cow::Borrowed(&parted.usage)),
            (None, None) => Ok(Cow::Owned(MeterUsage::whole(self.sum))),
        }
    }

    fn count(&mut self, run: &Run<'_>, reporter: &Reporter<'_>, versions: &Versions<'_>) {
        self.part_by(versions);
        if let Some(Beyond {
            series: Some(series),
            parted,
            ..
        }) = self.beyond.as_deref_mut()
        {
            let shape = parted.as_ref().and_then(|parted| parted.shape.as_ref());
            series.count(run.rows, reporter, shape);
            return;
        }
        self.sum = self
            .sum
            .checked_add(run.sum())
            .expect("2^47 rollups of 2^80 units fit a quantity");
        if let Some(Parted {
            shape: Some(shape),
            usage,
        }) = self.parted_mut()
        {
            for row in run.rows {
                let dimensions = row.series.dimensions();
                usage
                    .count_somewhere(shape, row.window, dimensions, row.value)
                    .expect("2^47 rollups of 2^80 units fit a quantity");
            }
        }
    }

    /// Sees to it that usage is parted as the versions in force need it.
    ///
    /// A version takes effect behind its stamp, and usage of later windows is not counted before;
    /// so what was gathered stays as it is, as that of earlier slices. Only the first version of
    /// all is in force since ever: if it needs parts, nobody knows those of what came before, and
    /// nothing describes it.
    fn part_by(&mut self, versions: &Versions<'_>) {
        let known = u32::try_from(versions.known).unwrap_or(u32::MAX - 1);
        let before = self.versions.replace(NonZeroU32::MIN.saturating_add(known));
        let before = before.map(|before| before.get() - 1);
        let has_shape = |parted: &Parted| parted.shape.is_some();
        if before == Some(known) && self.parted().is_none_or(has_shape) {
            return;
        }
        let shape = versions.shape_of(&self.key());
        if let Some(parted) = self.parted_mut() {
            parted.shape = shape.or_else(|| Some(Shape::plain(versions.period)));
            return;
        }
        if shape.is_none() {
            return;
        }
        let mut usage = MeterUsage::default();
        if self.series().is_none() && !self.sum.is_zero() {
            let described = before.is_some_and(|before| versions.had_any(before));
            let part = Part {
                cell: if described { 0 } else { Part::NO_CELL },
                ..Part::default()
            };
            usage
                .add(part, self.sum)
                .expect("there is room for a first part");
        }
        self.beyond.get_or_insert_default().parted = Some(Parted { shape, usage });
    }

    /// Notes that usage was declared lost, where samples are taken.
    fn lose(&mut self, span: Period) {
        if let Some(parted) = self.parted_mut() {
            parted.usage.lose(span);
        }
    }
}

/// What is known of one period of one tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PeriodBook {
    pub(super) period: Period,
    /// How often it was closed.
    pub(super) rounds: u32,
    /// The catalog of the last closing.
    pub(super) catalog: Option<Digest>,
    /// Stamp of the first usage since the last closing.
    pub(super) late_since: Option<Timestamp>,
    /// How many versions of the catalog were known at the first closing: no later one concerns
    /// the period.
    pub(super) known: Option<u32>,
    /// The catalog by which an operator had it rated anew.
    pub(super) rerated: Option<Digest>,
    /// True if what is due without usage is due here.
    pub(super) due: bool,
    /// How often it was booked before it was closed.
    pub(super) interims: u32,
    usage: Meters,
    /// What else was used, of meters of which there are too many.
    pub(super) crowd: Option<Box<Crowd>>,
    /// What others used for whom the tenant pays, by tenant: their usage, and what is booked of it.
    pub(super) children: BTreeMap<TenantId, PeriodBook>,
    /// What the ledger says so far.
    #[serde(with = "pairs")]
    pub(super) booked: BTreeMap<LineKey, Booked>,
}

impl PeriodBook {
    pub(super) fn new(period: Period) -> Self {
        Self {
            period,
            rounds: 0,
            catalog: None,
            late_since: None,
            known: None,
            rerated: None,
            due: false,
            interims: 0,
            usage: Meters::default(),
            crowd: None,
            children: BTreeMap::new(),
            booked: BTreeMap::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.rounds > 0
    }

    /// True if a closing would book something that is not booked yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_closed() || self.late_since.is_some()
    }

    /// From now on what is due without usage is due here; a closed period is to be settled again.
    /// False if it was so already.
    pub(super) fn owe(&mut self, stamp: Timestamp) -> bool {
        let is_new = !std::mem::replace(&mut self.due, true);
        if is_new && self.is_closed() {
            self.late_since.get_or_insert(stamp);
        }
        is_new
    }

    /// Has the names of its meters in common with other books, as they have that are made from the
    /// journal: a snapshot brings each anew.
    pub(super) fn share_names(&mut self, meters: &mut BTreeSet<MeterName>) {
        for usage in self.usage.values_mut() {
            match meters.get(&usage.meter) {
                Some(known) => usage.meter = known.clone(),
                None => {
                    meters.insert(usage.meter.clone());
                }
            }
        }
        for child in self.children.values_mut() {
            child.share_names(meters);
        }
    }

    /// The usage, in the order of the keys.
    pub(super) fn usage(&self) -> &Meters {
        &self.usage
    }

    /// Counts those rows of a run that begin in this period and are within the bound of a rollup.
    pub(super) fn count(
        &mut self,
        (position, stamp): (Position, Timestamp),
        run: &Run<'_>,
        reporter: &Reporter<'_>,
        (timeline, tenant, calendars): (&Timeline, &TenantId, &Calendars),
    ) {
        let end = self.period.end;
        let versions = Versions {
            timeline,
            tenant,
            calendars,
            period: self.period,
            known: self.known.map_or(timeline.known(), |known| known as usize),
        };
        if self.is_closed() {
            self.late_since.get_or_insert(stamp);
        }
        let is_declared = || crowd::is_declared(timeline, run.first().series.meter());
        let Some(usage) = self.usage.of(run, is_declared) else {
            self.crowd.get_or_insert_default().count(position, run);
            return;
        };
        usage.count(run, reporter, &versions);
        if run.extent.end > end {
            let reaches_beyond = |row: &&Rollup| row.window.start() < end && row.window.end() > end;
            let straddling = run.rows.iter().filter(reaches_beyond).count() as u64;
            let beyond = usage.beyond.get_or_insert_default();
            beyond.straddling = beyond.straddling.saturating_add(straddling);
        }
        usage.from.get_or_insert(position);
    }

    /// Notes that usage of a meter was declared lost.
    pub(super) fn lose(&mut self, meter: &MeterName, span: Period) {
        let own = self.usage.values_mut();
        own.filter(|usage| usage.meter == *meter)
            .for_each(|usage| usage.lose(span));
    }

    /// Everything is booked: what is kept is only for usage that comes late.
    ///
    /// `known` is how many versions of the catalog there are.
    pub(super) fn settle(&mut self, known: usize) {
        self.late_since = None;
        self.known
            .get_or_insert(u32::try_from(known).unwrap_or(u32::MAX));
        for usage in self.usage.values_mut() {
            usage.from = None;
            if let Some(series) = usage.beyond.as_mut().and_then(|b| b.series.as_mut()) {
                series.pack();
            }
        }
        self.usage.shrink();
        if let Some(crowd) = &mut self.crowd {
            crowd.settle();
        }
        for child in self.children.values_mut() {
            child.settle(known);
        }
    }
}
