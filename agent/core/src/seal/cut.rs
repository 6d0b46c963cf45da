//! The cut of one slot: its cell against its baseline, and the row that comes of it.

use std::sync::Arc;

use tollgate_common::{
    Aggregation, Detail, Quantity, Rollup, Scale, SeriesKey, Window, WindowWidth,
};

use super::Mode;
use crate::aggregate::{Cells, Region, SumCut};

/// Bytes that a row or a total takes beside its names, generously.
const ROW_BYTES: usize = 48;
/// A part in the making.
#[derive(Default)]
pub(super) struct Part {
    pub(super) rows: Vec<Rollup>,
    pub(super) bytes: usize,
    /// Per tenant and meter: everything counted, and whether this batch tells it.
    pub(super) totals: Vec<(u128, bool)>,
    pub(super) damaged: bool,
    /// Where the part is full.
    pub(super) stop: Option<(u32, u32)>,
}

/// One slot at a cut.
pub(super) struct Place<'a, R> {
    pub(super) cells: &'a Cells<R>,
    pub(super) writer: u32,
    pub(super) slot: u32,
    pub(super) applied: u64,
    /// False if this part leaves the slot for another one: its baseline stays.
    pub(super) include: bool,
}

impl<R: Region> Place<'_, R> {
    fn put(&self, cut: SumCut) {
        self.cells
            .put_sum_base(self.writer, self.slot, self.applied.wrapping_add(1), cut);
    }

    pub(super) fn sum(
        &self,
        part: &mut Part,
        key: &Arc<SeriesKey>,
        scale: Scale,
        window: Window,
        (pair, mode): (u32, Mode),
    ) {
        let base = self.cells.sum_base(self.writer, self.slot, self.applied);
        let now = match self.cells.sum_now(self.writer, self.slot, base) {
            Some(now) if self.include => now,
            Some(_) => base,
            None => {
                part.damaged = true;
                base
            }
        };
        self.put(now);
        let index = pair as usize;
        if part.totals.len() <= index {
            part.totals.resize(index + 1, (0, false));
        }
        let total = &mut part.totals[index];
        // Saturation is reported as out of range when the total is told.
        total.0 = total.0.saturating_add(now.sum);
        let counted = now != base;
        let told = counted || self.include && mode == Mode::Final && now.sum > 0;
        if told && !total.1 {
            total.1 = true;
            let names = key.tenant().as_str().len() + key.meter().as_str().len();
            part.bytes += names + ROW_BYTES;
        }
        if counted {
            // The difference of two cuts is below 2^64, see `ADD_MAX`.
            let value = now.sum.saturating_sub(base.sum);
            part.push(Rollup {
                series: Arc::clone(key),
                aggregation: Aggregation::Sum,
                scale,
                window,
                value: Quantity::new(i128::try_from(value).unwrap_or(i128::MAX)),
                events: now.events.wrapping_sub(base.events),
                detail: Detail::None,
            });
        }
    }

    pub(super) fn last(
        &self,
        part: &mut Part,
        key: &Arc<SeriesKey>,
        scale: Scale,
        cell: u32,
        width: WindowWidth,
    ) {
        let base = self.cells.last_base(self.writer, self.slot, self.applied);
        let mut cut = base;
        for half in [0, 1] {
            // A value that the writer sets faster than it can be read waits for the next seal.
            let now = self.cells.last_now(self.writer, cell, half);
            let Some(now) = now.filter(|now| self.include && now.events != base[half]) else {
                continue;
            };
            cut[half] = now.events;
            part.push(Rollup {
                series: Arc::clone(key),
                aggregation: Aggregation::Last,
                scale,
                window: Window::containing(now.window, width),
                value: Quantity::new(now.value.into()),
                events: now.events.wrapping_sub(base[half]),
                detail: Detail::None,
            });
        }
        self.cells
            .put_last_base(self.writer, self.slot, self.applied.wrapping_add(1), cut);
    }

    /// True if a damaged slot's sum cell has counted since the last cut, which is declared
    /// as lost; the count is then cut like any other.
    pub(super) fn damaged_counts(&self) -> bool {
        let base = self.cells.sum_base(self.writer, self.slot, self.applied);
        let now = self.cells.sum_now(self.writer, self.slot, base);
        let now = now.unwrap_or(base);
        self.put(now);
        now != base
    }
}

impl Part {
    fn push(&mut self, row: Rollup) {
        let key = &row.series;
        let dimensions = key.dimensions().iter();
        let dimensions: usize = dimensions.map(|(k, v)| k.len() + v.len() + 3).sum();
        self.bytes +=
            key.tenant().as_str().len() + key.meter().as_str().len() + dimensions + ROW_BYTES;
        self.rows.push(row);
    }
}
