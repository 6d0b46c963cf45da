//! What cells remember of a batch that the spool has lost.
//!
//! The running totals in the cells are those of the last batch that was applied. If just that
//! batch is gone, a tombstone with these totals prices it, and every other that is gone before
//! it, as a later batch of the incarnation would have.

use tollgate_common::limits::{TOMBSTONE_TOTALS_MAX, VALUE_UNITS_MAX};
use tollgate_common::{MeterName, Quantity, Remembered, SeriesRef, TenantId, Total};

use crate::aggregate::{Cells, Region};

/// What the cells know of the last batch that they were cut for; `None` without a whole record
/// of that cut. They must be under the boot id that wrote them.
pub(crate) fn remembered<R: Region>(cells: &Cells<R>) -> Option<Box<Remembered>> {
    let applied = cells.applied();
    let cut = cells.cut(applied)?;
    let mut is_complete = cells.has_room_for_pairs() && !cells.counts_beside_totals();
    let mut totals = Vec::new();
    for index in 0..cells.pairs() {
        match total(cells, index, applied) {
            Known::Total(total) => totals.push(total),
            Known::Nothing => {}
            Known::Untold => is_complete = false,
        }
    }
    totals.sort();
    is_complete &= totals.len() <= TOMBSTONE_TOTALS_MAX;
    totals.truncate(TOMBSTONE_TOTALS_MAX);
    Some(Box::new(Remembered {
        cut: cut.cut,
        watermark: cut.watermark,
        is_final: cut.is_final,
        is_complete,
        totals,
    }))
}

enum Known {
    Total(Total),
    /// Nothing was counted.
    Nothing,
    /// Something was counted that has no total, or none that can be read.
    Untold,
}

fn total<R: Region>(cells: &Cells<R>, index: u32, applied: u64) -> Known {
    let counted = cells.pair_total(index, applied);
    if counted.sum == 0 {
        return if counted.events == 0 {
            Known::Nothing
        } else {
            Known::Untold
        };
    }
    let read = || {
        let (names, scale) = cells.pair(index)?;
        let names = SeriesRef::new(&names);
        // A total beyond is a damaged cell: a collector would refuse the tombstone every time.
        let units = i128::try_from(counted.sum).ok()?;
        let units = (units <= VALUE_UNITS_MAX).then_some(units)?;
        Some(Total {
            tenant: TenantId::new(std::str::from_utf8(names.tenant()).ok()?).ok()?,
            meter: MeterName::new(std::str::from_utf8(names.meter()).ok()?).ok()?,
            scale,
            quantity: Quantity::new(units),
        })
    };
    read().map_or(Known::Untold, Known::Total)
}

#[cfg(test)]
#[path = "remembered_tests.rs"]
mod tests;
