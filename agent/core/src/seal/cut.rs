//! The cut: cells against their baselines, slot by slot in the order of the series.
//!
//! The cut of a part goes into the baselines that are not in force, and what has changed
//! is remembered in 24 bytes a row. Making a record of it comes after that, so that
//! all counts of a part are cut within moments. The loop here is short and its turns do not
//! depend on each other: the processor waits for many slots at a time.

use tollgate_common::{Aggregation, Window, WindowWidth};

use super::order::{Order, Place};
use crate::aggregate::{Cells, Region};

/// Bytes that a row or a total takes beside its names, generously.
const ROW_BYTES: usize = 48;
/// In place of an index: the row needs nothing more.
const PLAIN: u32 = u32::MAX;

/// A row of the part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    side: u32,
    value: u64,
    pub(super) events: u64,
}

/// What a row has that most rows have not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) window: Window,
    pub(super) value: i128,
}

/// A part in the making.
#[derive(Default)]
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    sides: Vec<Side>,
    /// An upper bound of what rows and totals take in the record, before compression.
    pub(super) bytes: usize,
    pub(super) damaged: bool,
    /// The place at which the next part begins.
    pub(super) next: usize,
}

impl Part {
    pub(super) fn clear(&mut self, next: usize) {
        self.rows.clear();
        self.sides.clear();
        (self.bytes, self.damaged, self.next) = (0, false, next);
    }

    /// Window and value of a row; `window` is that of the span.
    pub(super) fn side(&self, row: &Row, window: Window) -> Side {
        match self.sides.get(row.side as usize) {
            Some(side) => *side,
            None => Side {
                window,
                value: row.value.into(),
            },
        }
    }

    /// Adds what a slot counts to the rows of its series, which begin at `group`.
    fn push(&mut self, group: usize, place: Place, side: Side, span: Window, events: u64) {
        let rows = &self.rows[group..];
        let at = rows.partition_point(|row| self.side(row, span).window < side.window);
        let mut row = Row {
            place,
            side: PLAIN,
            value: 0,
            events,
        };
        let mut side = side;
        let met = rows.get(at).copied();
        let met = met.filter(|met| self.side(met, span).window == side.window);
        if let Some(met) = met {
            let before = self.side(&met, span).value;
            side.value = match place.aggregation() {
                // The place of a later writer comes later, and its value stands.
                Aggregation::Last => side.value,
                Aggregation::Max => before.max(side.value),
                // At most 64 differences below 2^64.
                _ => before.saturating_add(side.value),
            };
            row.events = met.events.saturating_add(events);
            self.rows.remove(group + at);
        }
        match u64::try_from(side.value) {
            Ok(value) if side.window == span => row.value = value,
            _ => {
                row.side = u32::try_from(self.sides.len()).expect("sides are bounded like rows");
                self.sides.push(side);
            }
        }
        self.rows.insert(group + at, row);
    }
}

/// What a cut is made of.
pub(super) struct Cutter<'a, R> {
    pub(super) cells: &'a Cells<R>,
    /// The batch whose baselines are in force.
    pub(super) applied: u64,
    /// The window that what has no time of its own belongs to.
    pub(super) window: Window,
    pub(super) part_bytes_max: usize,
    pub(super) part_rows_max: usize,
}

impl<R: Region> Cutter<'_, R> {
    /// Cuts the places from `part.next` on, until the part is full. `changed` gets the places
    /// whose baselines now differ.
    pub(super) fn cut(&self, order: &Order, part: &mut Part, changed: &mut Vec<Place>) {
        let width = self.cells.identity().window;
        let mut group = 0;
        while let Some(place) = order.get(part.next) {
            if !place.same() {
                if part.bytes >= self.part_bytes_max || part.rows.len() >= self.part_rows_max {
                    return;
                }
                group = part.rows.len();
            }
            let rows = part.rows.len();
            let moved = match place.aggregation() {
                Aggregation::Last => self.last(place, part, group, width),
                _ => self.sum(place, part, group),
            };
            if moved {
                changed.push(place);
            }
            if part.rows.len() > rows {
                let key = self.cells.key_bytes(place.writer(), place.slot());
                part.bytes += (part.rows.len() - rows) * (key + ROW_BYTES);
            }
            part.next += 1;
        }
    }

    fn sum(&self, place: Place, part: &mut Part, group: usize) -> bool {
        let (writer, slot) = (place.writer(), place.slot());
        let base = self.cells.sum_base(writer, slot, self.applied);
        let Some(now) = self.cells.sum_now(writer, slot, base) else {
            // Beyond what can be counted.
            part.damaged = true;
            return false;
        };
        if now == base {
            return false;
        }
        self.cells
            .put_sum_base(writer, slot, self.applied.wrapping_add(1), now);
        let events = now.events.wrapping_sub(base.events);
        // The difference of two cuts is below 2^64, see `ADD_MAX`.
        let value = now.sum.saturating_sub(base.sum);
        match u64::try_from(value) {
            Ok(value) if part.rows.len() == group => part.rows.push(Row {
                place,
                side: PLAIN,
                value,
                events,
            }),
            _ => {
                let side = Side {
                    window: self.window,
                    value: i128::try_from(value).unwrap_or(i128::MAX),
                };
                part.push(group, place, side, self.window, events);
            }
        }
        true
    }

    fn last(&self, place: Place, part: &mut Part, group: usize, width: WindowWidth) -> bool {
        let (writer, slot) = (place.writer(), place.slot());
        let Some(head) = self.cells.slot_head(writer, slot) else {
            part.damaged = true;
            return false;
        };
        let base = self.cells.last_base(writer, slot, self.applied);
        let mut cut = base;
        for half in [0, 1] {
            // A value that the writer sets faster than it can be read waits for the next seal.
            let now = self.cells.last_now(writer, head.last, half);
            let Some(now) = now.filter(|now| now.events != base[half]) else {
                continue;
            };
            cut[half] = now.events;
            let side = Side {
                window: Window::containing(now.window, width),
                value: now.value.into(),
            };
            let events = now.events.wrapping_sub(base[half]);
            part.push(group, place, side, self.window, events);
        }
        self.cells
            .put_last_base(writer, slot, self.applied.wrapping_add(1), cut);
        cut != base
    }

    /// True if the sum cell of a damaged slot has counted since the last cut, which is declared
    /// as lost; the count is then cut like any other.
    pub(super) fn damaged(&self, (writer, slot): (u32, u32)) -> bool {
        let base = self.cells.sum_base(writer, slot, self.applied);
        let now = self.cells.sum_now(writer, slot, base).unwrap_or(base);
        self.cells
            .put_sum_base(writer, slot, self.applied.wrapping_add(1), now);
        now != base
    }

    /// Makes the baselines of a slot that are not in force those that are.
    pub(super) fn catch_up(&self, (writer, slot): (u32, u32)) {
        self.cells.copy_base(writer, slot, self.applied);
    }
}
