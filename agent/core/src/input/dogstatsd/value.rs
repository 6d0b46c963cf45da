//! One value of a line into its cell, exactly.

use tollgate_common::quantity::Inexact;
use tollgate_common::{Aggregation, Scale, Timestamp, limits};

use super::plan::{How, Plan};
use super::{Malformed, parse_value};
use crate::aggregate::{Region, Row, Slot};
use crate::input::tally::{CountError, Counting, unsigned};

/// Where the values of a line go.
pub(super) struct Place {
    pub(super) slot: Slot,
    /// What remains of earlier values, if the sampling rate does not give whole numbers.
    pub(super) carry: Option<u64>,
    pub(super) now: Timestamp,
    /// Whose the values are.
    pub(super) row: Row,
}

/// More places than any meter has.
const FINEST: Scale = match Scale::new(limits::SCALE_MAX) {
    Ok(scale) => scale,
    Err(_) => Scale::ZERO,
};

impl Place {
    /// Counts a value as the plan says.
    pub(super) fn count<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        plan: &Plan,
        value: &[u8],
    ) -> Result<(), CountError> {
        let (aggregation, scale, inexact, divisor, rate) = match plan.how {
            How::Refuse(reason) => return Err(CountError::Refused(reason)),
            How::Count {
                aggregation,
                scale,
                inexact,
                divisor,
                rate,
                ..
            } => (aggregation, scale, inexact, divisor, rate),
        };
        if value.is_empty() {
            return Err(CountError::Malformed(Malformed::Value));
        }
        if aggregation == Aggregation::Unique {
            return counting.insert(self.slot, value, self.now);
        }
        // A fraction of a unit may be a whole number once it is scaled: 0.5 at `@0.5`.
        if let (Some(rate), Aggregation::Sum) = (rate, aggregation)
            && let Some(units) = exact(value, divisor, rate.reciprocal(), scale)
        {
            return counting.count_units(self.slot, aggregation, units, self.now);
        }
        let parsed = parse_value(value, divisor, scale, inexact)?;
        let units = parsed.quantity.units();
        match (rate, aggregation) {
            (Some(rate), Aggregation::Sum) => {
                let units = unsigned(units)?;
                let scaled = rate.scale(units, self.carry.unwrap_or(rate.carry()));
                let scaled = scaled.ok_or(CountError::TooLarge)?;
                counting.writer.add(self.slot, scaled.units)?;
                self.carry = self.carry.map(|_| scaled.carry);
                counting.writer.estimated(u64::from(scaled.estimated));
            }
            (Some(rate), Aggregation::Distribution) => {
                let units = unsigned(units)?;
                let scaled = rate.scale(1, self.carry.unwrap_or(rate.carry()));
                let scaled = scaled.ok_or(CountError::TooLarge)?;
                counting.record(self.slot, self.row, units, scaled.units)?;
                self.carry = self.carry.map(|_| scaled.carry);
                counting.writer.estimated(u64::from(scaled.estimated));
            }
            _ => counting.count_units(self.slot, aggregation, units, self.now)?,
        }
        counting.writer.rounded(u64::from(parsed.rounded));
        Ok(())
    }
}

/// `value / divisor × numerator / denominator` in units of `scale`, if that is a whole number.
fn exact(value: &[u8], divisor: Option<&str>, ratio: (u64, u64), scale: Scale) -> Option<i128> {
    let fine = parse_value(value, divisor, FINEST, Inexact::Reject).ok()?;
    let places = u32::from(FINEST.get() - scale.get());
    let product = fine.quantity.units().checked_mul(i128::from(ratio.0))?;
    let denominator = i128::from(ratio.1).checked_mul(10i128.pow(places))?;
    (product % denominator == 0).then(|| product / denominator)
}
