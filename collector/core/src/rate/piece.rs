//! What one version of a price charges for one accumulator, and what several of it are together.

use tollgate_common::Timestamp;

use super::Ratio;
use super::around::QuantityStep;
use super::each::Apart;
use super::events::EventSum;
use super::ranked::Ranked;
use super::tiers::TierAmount;
use crate::catalog::Row;
use crate::period::Period;

/// What one version of a price charges for one accumulator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'c> {
    /// The stretch in which the version was in force.
    pub span: Period,
    /// Where the rating interval begins, if it is not the period.
    pub interval: Option<Timestamp>,
    /// The row of the matrix.
    pub row: Option<&'c Row>,
    /// The percentile that is priced, if it is one.
    pub ranked: Option<Ranked>,
    /// The single events that are priced, if they are.
    pub events: Option<EventSum>,
    /// What is priced by itself, if anything is.
    pub apart: Option<Apart<'c>>,
    /// Length of the period in seconds, if a level is divided by it.
    pub over_secs: Option<Ratio>,
    /// The metered quantity, in the price's unit before conversion.
    pub metered: Ratio,
    /// From the metered to the charged quantity; each step with what it left.
    pub quantities: Vec<(QuantityStep<'c>, Ratio)>,
    /// What is charged for.
    pub charged: Ratio,
    /// The tiers; where a version goes on from a position, what it adds to each.
    pub tiers: Vec<TierAmount<'c>>,
    /// The part of the tiers' sum that counts: of the quantity, or of the period.
    pub share: Option<Ratio>,
    /// What it costs, before rounding.
    pub amount: Ratio,
}

impl<'c> Piece<'c> {
    pub(super) fn shared(mut self, share: Ratio) -> Option<Self> {
        self.amount = self.amount.checked_mul(share)?;
        self.share = (share != Ratio::ONE).then_some(share);
        Some(self)
    }

    /// Together with what the same version charges for the same row elsewhere.
    pub(super) fn and(mut self, other: &Self) -> Option<Self> {
        self.amount = self.amount.checked_add(other.amount)?;
        if let (Some(share), Some(more)) = (self.share, other.share) {
            // Shares of the same whole.
            self.share = Some(share.checked_add(more)?);
            return Some(self);
        }
        self.charged = self.charged.checked_add(other.charged)?;
        self.metered = self.metered.checked_add(other.metered)?;
        self.add_tiers(&other.tiers)?;
        Some(self)
    }

    /// Adds what another one has in each tier. `None` if that does not fit.
    pub(super) fn add_tiers(&mut self, others: &[TierAmount<'c>]) -> Option<()> {
        for tier in others {
            let same = |own: &&mut TierAmount<'c>| std::ptr::eq(own.tier, tier.tier);
            match self.tiers.iter_mut().find(same) {
                Some(own) => *own = own.and(tier)?,
                None => self.tiers.push(*tier),
            }
        }
        Some(())
    }

    /// What this adds to a lower position by the same version.
    pub(super) fn above(mut self, before: &Self) -> Option<Self> {
        self.amount = self.amount.checked_sub(before.amount)?;
        self.charged = self.charged.checked_sub(before.charged)?;
        for tier in &mut self.tiers {
            let same = |other: &&TierAmount<'c>| std::ptr::eq(other.tier, tier.tier);
            if let Some(other) = before.tiers.iter().find(same) {
                *tier = tier.less(other)?;
            }
        }
        // What stayed as it was is no part of this.
        self.tiers.retain(|tier| {
            !tier.quantity.is_zero() || !tier.amount.is_zero() || tier.flat.is_some()
        });
        Some(self)
    }
}
