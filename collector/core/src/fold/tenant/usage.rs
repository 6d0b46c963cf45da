//! The usage of a billing period, meter by meter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, MeterName, Quantity, Rollup, Scale, Timestamp};

use super::book::{Booked, LineKey};
use super::series::{Reporter, Series};
use super::state::pairs;
use crate::entry::{Digest, RefusedReason};
use crate::fold::packed::reserve;
use crate::fold::rows::Run;
use crate::period::Period;
use crate::position::Position;

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

    fn is_of(&self, run: &Run<'_>) -> bool {
        let row = run.first();
        self.scale == row.scale
            && self.aggregation == row.aggregation
            && self.refused == run.refused
            && self.meter == *row.series.meter()
    }
}

/// Usage of one meter in one period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) key: UsageKey,
    /// The sum, where values add up.
    sum: Quantity,
    /// Where they do not: what stands for each series.
    series: Option<Box<Series>>,
    /// Rollups whose window reaches beyond the end of the period.
    pub(super) straddling: u64,
    /// The first journal entry that contributed since the last booking.
    pub(super) from: Option<Position>,
}

impl Usage {
    fn new(key: UsageKey) -> Self {
        let of_series = !key.aggregation.adds_up();
        Self {
            series: of_series.then(|| Box::new(Series::new(key.aggregation))),
            key,
            sum: Quantity::ZERO,
            straddling: 0,
            from: None,
        }
    }

    /// The sum over all series: of what was counted, of the newest or the largest values, or of
    /// how many values differ.
    pub(super) fn quantity(&self) -> Quantity {
        match &self.series {
            Some(series) => series.quantity(),
            None => self.sum,
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
    /// True if what is due without usage is due here.
    pub(super) due: bool,
    /// In the order of their keys.
    usage: Vec<Usage>,
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
            due: false,
            usage: Vec::new(),
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

    /// The usage, in the order of the keys.
    pub(super) fn usage(&self) -> &[Usage] {
        &self.usage
    }

    /// Counts those rows of a run that begin in this period and are within the bound of a rollup.
    pub(super) fn count(
        &mut self,
        (position, stamp): (Position, Timestamp),
        run: &Run<'_>,
        reporter: &Reporter<'_>,
    ) {
        let end = self.period.end;
        let usage = self.usage_of(run);
        if let Some(series) = &mut usage.series {
            series.count(run.rows, reporter);
        } else {
            usage.sum = usage
                .sum
                .checked_add(run.sum())
                .expect("2^47 rollups of 2^80 units fit a quantity");
        }
        let reaches_beyond = |row: &&Rollup| row.window.end() > end;
        let straddling = run.rows.iter().filter(reaches_beyond).count() as u64;
        usage.straddling = usage.straddling.saturating_add(straddling);
        usage.from.get_or_insert(position);
        if self.is_closed() {
            self.late_since.get_or_insert(stamp);
        }
    }

    fn usage_of(&mut self, run: &Run<'_>) -> &mut Usage {
        // There are a handful of meters, mostly met in their order.
        let known = self.usage.iter().position(|usage| usage.key.is_of(run));
        let at = known.unwrap_or_else(|| {
            let usage = Usage::new(UsageKey::of(run));
            let at = self.usage.partition_point(|known| known.key < usage.key);
            reserve(&mut self.usage, 1);
            self.usage.insert(at, usage);
            at
        });
        &mut self.usage[at]
    }

    /// Everything is booked: what is kept is only for usage that comes late.
    pub(super) fn settle(&mut self) {
        self.late_since = None;
        for usage in &mut self.usage {
            usage.from = None;
            if let Some(series) = &mut usage.series {
                series.pack();
            }
        }
        self.usage.shrink_to_fit();
    }
}
