//! Figures that are no usage of anything.

use tollgate_common::{Aggregation, Batch, LossAmount, Quantity};

use super::error::SessionError;

/// Largest magnitude of a value, a total or a loss. Sums of honest figures stay so far within
/// the range of a quantity that they cannot leave it.
pub const VALUE_MAX: Quantity = Quantity::new(1 << 96);

/// Figures beyond [`VALUE_MAX`] are no usage of anything.
pub(super) fn check_values(batch: &Batch) -> Result<(), SessionError> {
    let fits =
        |quantity: Quantity| (-VALUE_MAX.units()..=VALUE_MAX.units()).contains(&quantity.units());
    let rows = batch.rows.iter().all(|row| fits(row.value));
    let totals = batch
        .totals
        .iter()
        .all(|total| fits(total.quantity) && !total.quantity.is_negative());
    let losses = batch.losses.iter().all(|loss| match loss.amount {
        LossAmount::Exact(quantity) | LossAmount::AtMost(quantity) => {
            fits(quantity) && !quantity.is_negative()
        }
        LossAmount::Unknown => true,
    });
    let sums = batch
        .rows
        .iter()
        .all(|row| row.aggregation != Aggregation::Sum || !row.value.is_negative());
    if rows && totals && losses && sums {
        Ok(())
    } else {
        Err(SessionError::Protocol(format!(
            "batch {} has a figure beyond 2^96 or below zero",
            batch.sequence
        )))
    }
}
