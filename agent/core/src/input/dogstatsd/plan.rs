//! How the values of a line are counted, shared by all lines that are counted alike.

use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, Scale};

use super::ratio::SampleRate;
use crate::aggregate::Rejection;
use crate::input::Kind;

/// Most plans that are kept: their numbers are 16 bits.
const PLANS_MAX: usize = 1 << 10;

/// What to do with the values of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// What a small whole number is multiplied by to be the units to add to a sum; 0 where a
    /// value needs more than that.
    pub(super) factor: u64,
    pub(super) kind: Kind,
    pub(super) how: How,
}

/// Counted or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Count {
        aggregation: Aggregation,
        scale: Scale,
        inexact: Inexact,
        divisor: Option<&'static str>,
        rate: Option<SampleRate>,
        /// There was no room for the dimensions.
        overflow: bool,
    },
    Refuse(Rejection),
}

impl Plan {
    pub(super) fn new(kind: Kind, how: How) -> Self {
        let factor = match how {
            How::Count {
                aggregation: Aggregation::Sum,
                scale,
                divisor: None,
                rate,
                ..
            } => rate
                .map_or(Some(1), SampleRate::whole)
                .and_then(|events| events.checked_mul(10u64.pow(u32::from(scale.get()))))
                .unwrap_or(0),
            _ => 0,
        };
        Self { factor, kind, how }
    }

    /// True if there was no room for the dimensions.
    pub(super) const fn is_overflow(&self) -> bool {
        matches!(self.how, How::Count { overflow: true, .. })
    }

    /// The rate, if values have to be scaled by more than a whole number.
    pub(super) fn fraction(&self) -> Option<SampleRate> {
        match self.how {
            How::Count {
                aggregation: Aggregation::Sum | Aggregation::Distribution,
                rate: Some(rate),
                ..
            } if rate.whole().is_none() => Some(rate),
            _ => None,
        }
    }
}

/// All plans in use, by number.
#[derive(Debug, Default)]
pub(super) struct Plans {
    all: Vec<Plan>,
    /// The factor of each, for the lines that need no more.
    factors: Vec<u64>,
}

impl Plans {
    #[inline]
    pub(super) fn get(&self, number: u16) -> Option<&Plan> {
        self.all.get(usize::from(number))
    }

    /// What a small whole number is multiplied by, as [`Plan::factor`] says; 0 for a number
    /// that no plan has.
    #[inline]
    pub(super) fn factor(&self, number: u16) -> u64 {
        let factor = self.factors.get(usize::from(number));
        factor.copied().unwrap_or(0)
    }

    /// The number of a plan; `None` if there are too many different ones.
    pub(super) fn number(&mut self, plan: &Plan) -> Option<u16> {
        let found = self.all.iter().position(|known| known == plan);
        let at = found.or_else(|| {
            (self.all.len() < PLANS_MAX).then(|| {
                self.all.push(*plan);
                self.factors.push(plan.factor);
                self.all.len() - 1
            })
        });
        at.and_then(|at| u16::try_from(at).ok())
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= PLANS_MAX
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.factors.clear();
    }
}
