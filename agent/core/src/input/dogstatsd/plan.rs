//! How the values of a line are counted, shared by all lines that are counted alike.

use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, Scale, Timestamp};

use super::ratio::SampleRate;
use crate::aggregate::Rejection;
use crate::input::Kind;

/// Most plans that are kept: their numbers are 16 bits.
const PLANS_MAX: usize = 1 << 10;
/// The first number of a plan with a sampling rate.
const RATED_FROM: usize = PLANS_MAX / 2;
/// How often plans with a rate may be forgotten for others.
const RENEW_EVERY_MILLIS: u64 = 60_000;

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

    /// True if its sender has chosen a sampling rate.
    pub(super) const fn is_rated(&self) -> bool {
        matches!(self.how, How::Count { rate: Some(_), .. })
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
///
/// How many there are without a sampling rate follows from the configuration. Rates are what
/// senders choose, so those with one have numbers of their own: who sends a new rate with every
/// line takes the memory of such lines alone.
#[derive(Debug)]
pub(super) struct Plans {
    /// Without a rate, numbered from 0, and with one, numbered from [`RATED_FROM`].
    all: [Vec<Plan>; 2],
    /// The factor of each number, for the lines that need no more; 0 where there is none.
    factors: Vec<u64>,
    /// When those with a rate were forgotten last.
    renewed: Timestamp,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            all: [Vec::new(), Vec::new()],
            factors: vec![0; PLANS_MAX],
            renewed: Timestamp::EPOCH,
        }
    }
}

impl Plans {
    #[inline]
    pub(super) fn get(&self, number: u16) -> Option<&Plan> {
        let number = usize::from(number);
        match number.checked_sub(RATED_FROM) {
            Some(rated) => self.all[1].get(rated),
            None => self.all[0].get(number),
        }
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
        let rated = plan.is_rated();
        let (from, most) = if rated {
            (RATED_FROM, PLANS_MAX - RATED_FROM)
        } else {
            (0, RATED_FROM)
        };
        let plans = &mut self.all[usize::from(rated)];
        let at = match plans.iter().position(|known| known == plan) {
            Some(at) => at,
            None if plans.len() < most => {
                plans.push(*plan);
                self.factors[from + plans.len() - 1] = plan.factor;
                plans.len() - 1
            }
            None => return None,
        };
        u16::try_from(from + at).ok()
    }

    /// True if lines with a rate are to be forgotten now, because there are too many rates to
    /// remember others; now and then, or who sends ever new ones would have it done all the time.
    #[inline]
    pub(super) fn is_to_renew(&self, now: Timestamp) -> bool {
        let [_, rated] = &self.all;
        rated.len() == PLANS_MAX - RATED_FROM
            && now.millis().abs_diff(self.renewed.millis()) >= RENEW_EVERY_MILLIS
    }

    /// Forgets the plans with a rate, once no line has any of them.
    pub(super) fn renew(&mut self, now: Timestamp) {
        self.all[1].clear();
        self.factors[RATED_FROM..].fill(0);
        self.renewed = now;
    }

    pub(super) fn clear(&mut self) {
        self.all.iter_mut().for_each(Vec::clear);
        self.factors.fill(0);
    }
}
