//! The usage of a billing period, series by series.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Aggregation, Detail, Dimensions, MeterName, Quantity, Rollup, Scale, Timestamp,
};

use super::book::{Booked, LineKey};
use super::state::{dimensions, pairs};
use crate::entry::{Digest, RefusedReason};
use crate::fold::kept::KeptDetail;
use crate::period::Period;
use crate::position::Position;

/// Most smallest units of one rollup, as a magnitude.
///
/// Agents count in `u64` within a window, so this leaves room for integrals. Sums of up to
/// 2^47 rollups, more than a partition ever sees, stay within the range of a quantity; what
/// is larger is booked as unrated by itself and never added to anything.
pub(super) const ROLLUP_UNITS_MAX: u128 = 1 << 80;

/// A series of one tenant with the declaration that its agent made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UsageKey {
    pub(super) meter: MeterName,
    #[serde(with = "dimensions")]
    pub(super) dimensions: Dimensions,
    pub(super) scale: Scale,
    pub(super) aggregation: Aggregation,
    /// Why the policy refused it; refused usage is counted apart.
    pub(super) refused: Option<RefusedReason>,
}

/// Usage of one series in one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// The sum, the newest or the largest value. Of unique nothing: see [`Usage::quantity`].
    quantity: Quantity,
    /// Of unique and distribution: everything that was seen in the period.
    #[serde(default, skip_serializing_if = "KeptDetail::is_none")]
    detail: KeptDetail,
    /// For `max`: there is a value, which may be below zero.
    #[serde(default, skip_serializing_if = "is_false")]
    known: bool,
    /// For `last`: which value stands.
    newest: Option<(Timestamp, AgentId)>,
    /// Rollups whose window reaches beyond the end of the period.
    pub(super) straddling: u64,
    /// The first journal entry that contributed since the last booking.
    pub(super) from: Option<Position>,
}

impl Usage {
    /// The sum, the newest or the largest value, or how many values differ.
    pub(super) fn quantity(&self) -> Quantity {
        match &self.detail.0 {
            Detail::Unique(sketch) => Quantity::new(sketch.estimate().into()),
            Detail::None | Detail::Distribution(_) => self.quantity,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over references"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

const fn yes() -> bool {
    true
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
    /// True if what is due without usage is due here. Former versions charged it wherever there
    /// was a book.
    #[serde(default = "yes")]
    pub(super) due: bool,
    #[serde(with = "pairs")]
    pub(super) usage: BTreeMap<UsageKey, Usage>,
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
            usage: BTreeMap::new(),
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

    /// Counts a rollup whose magnitude is within [`ROLLUP_UNITS_MAX`].
    pub(super) fn count(
        &mut self,
        position: Position,
        stamp: Timestamp,
        agent: &AgentId,
        row: &Rollup,
        refused: Option<RefusedReason>,
    ) {
        let key = UsageKey {
            meter: row.series.meter().clone(),
            dimensions: row.series.dimensions().clone(),
            scale: row.scale,
            aggregation: row.aggregation,
            refused,
        };
        let usage = self.usage.entry(key).or_default();
        match row.aggregation {
            Aggregation::Max => {
                let known = std::mem::replace(&mut usage.known, true);
                if !known || usage.quantity < row.value {
                    usage.quantity = row.value;
                }
            }
            // What the agent estimates of its part is no part of the whole's estimate, which is
            // made when somebody asks: a row of one value costs one value.
            Aggregation::Unique => {
                usage.detail.absorb(&row.detail);
            }
            Aggregation::Sum | Aggregation::Distribution | Aggregation::TimeWeighted => {
                usage.quantity = usage
                    .quantity
                    .checked_add(row.value)
                    .expect("2^47 rollups of 2^80 units fit a quantity");
                // The sum is what is billed; of more than 2^64 values the histogram tells
                // how the first were distributed.
                usage.detail.absorb(&row.detail);
            }
            Aggregation::Last => {
                let newest = (row.window.start(), agent.clone());
                // Equal: the same agent revised the window; what came later stands.
                if usage
                    .newest
                    .as_ref()
                    .is_some_and(|standing| *standing > newest)
                {
                    return;
                }
                usage.quantity = row.value;
                usage.newest = Some(newest);
            }
        }
        if row.window.end() > self.period.end {
            usage.straddling = usage.straddling.saturating_add(1);
        }
        usage.from.get_or_insert(position);
        if self.is_closed() {
            self.late_since.get_or_insert(stamp);
        }
    }
}
