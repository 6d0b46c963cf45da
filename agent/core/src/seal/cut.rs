//! The cut: cells against their baselines, slot by slot in the order of the series.
//!
//! The cut of a part goes into the baselines that are not in force, and what has changed
//! is remembered in 24 bytes a row. Making a record of it comes after that, so that
//! all counts of a part are cut within moments. The loop here is short and its turns do not
//! depend on each other: the processor waits for many slots at a time.

use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::halves;
use tollgate_common::{Aggregation, Timestamp, Window};

use super::order::{Order, Place};
use crate::aggregate::{CellCut, Cells, Idle, Region};

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

/// A place, its sum cell as it is now, and the baseline of that in force.
type Seen = (Place, CellCut, CellCut);

/// What a cut is made of.
pub(super) struct Cutter<'a, R> {
    pub(super) cells: &'a Cells<R>,
    /// The batch whose baselines are in force.
    pub(super) applied: u64,
    /// The window that what has no time of its own belongs to.
    pub(super) window: Window,
    /// The time of the cut.
    pub(super) to: Timestamp,
    pub(super) part_bytes_max: usize,
    pub(super) part_rows_max: usize,
}

impl<R: Region> Cutter<'_, R> {
    /// Cuts the places from `part.next` on, until the part is full. `changed` gets the places
    /// whose baselines now differ.
    pub(super) fn cut(
        &self,
        order: &Order,
        idle: &mut Idle,
        part: &mut Part,
        changed: &mut Vec<Place>,
    ) {
        let longest = self.cells.limits().idle_millis;
        let mut group = 0;
        while let Some(place) = order.get(part.next) {
            if !place.same() {
                if part.bytes >= self.part_bytes_max || part.rows.len() >= self.part_rows_max {
                    return;
                }
                group = part.rows.len();
            }
            let rows = part.rows.len();
            let (writer, slot) = (place.writer(), place.slot());
            let base = self.cells.base(writer, slot, self.applied);
            let now = self.cells.now(writer, slot);
            // A slot that has changed hands since the order was made has nothing to seal for
            // the series it is known for, and comes up again with its new one.
            let now = now.filter(|now| order.is_current(place, now.generation()));
            let seen = (place, now.unwrap_or(base), base);
            let moved = match place.aggregation() {
                Aggregation::Sum => self.sum(seen, part, group),
                Aggregation::Last | Aggregation::Max => self.halves(seen, part, group),
                _ => false,
            };
            let counted = now.is_none_or(|now| now.since(base) != (0, 0));
            if idle.note((writer, slot), counted, self.to, longest)
                && let Some(now) = now
            {
                // If too many wait, the slot comes up again.
                let _ = self.cells.retire(writer, slot, now);
            }
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

    fn sum(&self, (place, now, base): Seen, part: &mut Part, group: usize) -> bool {
        let (value, events) = now.since(base);
        if value == 0 && events == 0 {
            return false;
        }
        let next = self.applied.wrapping_add(1);
        self.cells.put_base(place.writer(), place.slot(), next, now);
        if part.rows.len() == group {
            part.rows.push(Row {
                place,
                side: PLAIN,
                value,
                events,
            });
        } else {
            let side = Side {
                window: self.window,
                value: value.into(),
            };
            part.push(group, place, side, self.window, events);
        }
        true
    }

    /// Last values and maxima.
    fn halves(&self, (place, now, base): Seen, part: &mut Part, group: usize) -> bool {
        let (writer, slot, kind) = (place.writer(), place.slot(), place.aggregation());
        if now.since(base).1 == 0 {
            return false;
        }
        let next = self.applied.wrapping_add(1);
        let at = self.cells.slot_head(writer, slot);
        let at = at.map_or(0, |head| self.cells.place(writer, head));
        let words = |sequence| self.cells.wide_base(writer, at, kind, sequence);
        let cell = self.cells.wide(writer, at, kind);
        let (Some(cell), Some(old), Some(new)) = (cell, words(self.applied), words(next)) else {
            part.damaged = true;
            return false;
        };
        // Values that the writer sets faster than they can be read wait for the next seal.
        let [Some(even), Some(odd)] = [0, 1].map(|half| halves::read(cell, half)) else {
            return false;
        };
        self.cells.put_base(writer, slot, next, now);
        for ((old, new), half) in old.iter().zip(new).zip([even, odd]) {
            let before = old.load(Relaxed);
            new.store(half.events, Relaxed);
            if half.events == before {
                continue;
            }
            let start = Timestamp::from_millis(half.window);
            let side = Side {
                window: Window::containing(start, self.cells.identity().window),
                value: half.value.into(),
            };
            let events = half.events.wrapping_sub(before);
            part.push(group, place, side, self.window, events);
        }
        true
    }

    /// True if the sum cell of a damaged slot has counted since the last cut, which is declared
    /// as lost; the count is then cut like any other.
    pub(super) fn damaged(&self, (writer, slot): (u32, u32)) -> bool {
        let base = self.cells.base(writer, slot, self.applied);
        let now = self.cells.now(writer, slot).unwrap_or(base);
        self.cells
            .put_base(writer, slot, self.applied.wrapping_add(1), now);
        now.since(base) != (0, 0)
    }

    /// Makes the baselines of a slot that are not in force those that are.
    pub(super) fn catch_up(&self, (writer, slot): (u32, u32)) {
        self.cells.copy_base(writer, slot, self.applied);
    }
}
