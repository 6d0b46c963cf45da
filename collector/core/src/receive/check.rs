//! Figures that are no usage of anything.

use tollgate_common::limits::VALUE_UNITS_MAX;
use tollgate_common::{Batch, Detail, LossAmount, Quantity, Tombstone, Total};

use super::error::SessionError;

/// Largest magnitude of a value, a total or a loss; see [`VALUE_UNITS_MAX`].
pub const VALUE_MAX: Quantity = Quantity::new(VALUE_UNITS_MAX);

/// Most values of one histogram: in a window of a second 2^48 are more than hosts can count,
/// and 2^16 such rows of one series fit into its period.
const COUNT_MAX: u64 = 1 << 48;

fn fits(quantity: Quantity) -> bool {
    (-VALUE_MAX.units()..=VALUE_MAX.units()).contains(&quantity.units())
}

/// Totals only grow, from zero.
fn totals_fit(totals: &[Total]) -> bool {
    totals
        .iter()
        .all(|total| fits(total.quantity) && !total.quantity.is_negative())
}

/// Figures beyond [`VALUE_MAX`] are no usage of anything.
pub(super) fn check_values(batch: &Batch) -> Result<(), SessionError> {
    let rows = batch.rows.iter().all(|row| fits(row.value));
    let totals = totals_fit(&batch.totals);
    let losses = batch.losses.iter().all(|loss| match loss.amount {
        LossAmount::Exact(quantity) | LossAmount::AtMost(quantity) => {
            fits(quantity) && !quantity.is_negative()
        }
        LossAmount::Unknown => true,
    });
    let sums = batch
        .rows
        .iter()
        .all(|row| !row.aggregation.adds_up() || !row.value.is_negative());
    let counts = batch.rows.iter().all(|row| match &row.detail {
        Detail::Distribution(histogram) => histogram.count() <= COUNT_MAX,
        Detail::None | Detail::Unique(_) => true,
    });
    if rows && totals && losses && sums && counts {
        Ok(())
    } else {
        Err(SessionError::Protocol(format!(
            "batch {} has a figure beyond 2^96, a histogram of more than 2^48 values, or a sum \
             below zero",
            batch.sequence
        )))
    }
}

/// What a tombstone remembers prices a loss like the totals of a batch, and is held to the
/// same rule.
pub(super) fn check_remembered(tombstone: &Tombstone) -> Result<(), SessionError> {
    let remembered = tombstone.remembered.as_ref();
    if remembered.is_none_or(|remembered| totals_fit(&remembered.totals)) {
        return Ok(());
    }
    Err(SessionError::Protocol(format!(
        "the tombstone of batch {} remembers a total beyond 2^96 or below zero",
        tombstone.sequence
    )))
}
