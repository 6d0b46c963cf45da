//! The cut: cells against their baselines, slot by slot in the order of the series.
//!
//! The cut of a part goes into the baselines that are not in force, and what has changed
//! is remembered in 32 bytes a row. Making a record of it comes after that, so that
//! all counts of a part are cut within moments. The loop here is short and its turns do not
//! depend on each other: the processor waits for many slots at a time.

use std::sync::Arc;

use tollgate_common::limits::BATCH_DETAIL_BYTES_MAX;
use tollgate_common::{Aggregation, Detail, Timestamp, Window};

use super::order::{Order, Place};
use super::wide::Scratch;
use crate::aggregate::{CellCut, Cells, Idle, KeyPlace, Region};

/// Bytes that a row or a total takes beside its names, generously.
const ROW_BYTES: usize = 48;
/// Places whose cells are fetched together.
const AHEAD: usize = 32;
/// In place of an index: the row needs nothing more.
const PLAIN: u32 = u32::MAX;

/// A row of the part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    /// Where the key is: the record is made when much else has been looked at.
    pub(super) key: KeyPlace,
    side: u32,
    value: u64,
    pub(super) events: u64,
}

/// What a row has that most rows have not.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) window: Window,
    pub(super) value: i128,
    pub(super) detail: Detail,
    /// Of a last value the number of its set, or 0 if that is not known.
    pub(super) set: u32,
}

/// True if a set is known to have been made after another one.
fn is_newer(set: u32, than: u32) -> bool {
    set != 0 && (than == 0 || set.wrapping_sub(than) < 1 << 31)
}

/// Largest value of a row: a collector takes no larger one. Only levels that stand for nothing
/// real come so far.
pub(super) const SIDE_MAX: i128 = 1 << 95;

/// An upper bound of what a detail takes.
fn detail_bytes(detail: &Detail) -> usize {
    match detail {
        Detail::None => 0,
        Detail::Unique(sketch) => sketch.canonical_len(),
        Detail::Distribution(histogram) => histogram.canonical_len(),
    }
}

/// Two writers have counted for the same series and window.
fn merged(
    aggregation: Aggregation,
    (before, detail, set): (i128, &Detail, u32),
    later: Side,
) -> Side {
    let mut side = later;
    match aggregation {
        Aggregation::Last => {
            if is_newer(set, side.set) {
                (side.value, side.set) = (before, set);
            }
            return side;
        }
        Aggregation::Max => side.value = side.value.max(before),
        // At most as many differences below 2^64 as there are slots, or integrals.
        _ => side.value = side.value.saturating_add(before).min(SIDE_MAX),
    }
    match (&mut side.detail, detail) {
        (Detail::Unique(sketch), Detail::Unique(other)) => {
            let sketch = Arc::make_mut(sketch);
            sketch.merge(other);
            side.value = sketch.estimate().into();
        }
        (Detail::Distribution(histogram), Detail::Distribution(other)) => {
            // Counts of buckets are below those of events, which are below 2^64.
            let merged = Arc::make_mut(histogram).merge(other);
            debug_assert!(merged.is_ok());
        }
        _ => {}
    }
    side
}

/// A part in the making.
#[derive(Default)]
pub(super) struct Part {
    pub(super) rows: Vec<Row>,
    sides: Vec<Side>,
    /// An upper bound of what rows and totals take in the record, before compression.
    pub(super) bytes: usize,
    detail_bytes: usize,
    pub(super) damaged: bool,
    /// A slot with a row whose description cannot be.
    pub(super) unreadable: Option<u32>,
    /// Levels were set up to then, by a clock that was set back.
    pub(super) set_back: Option<Timestamp>,
    /// The place at which the next part begins.
    pub(super) next: usize,
}

impl Part {
    pub(super) fn clear(&mut self, next: usize) {
        self.rows.clear();
        self.sides.clear();
        (self.bytes, self.detail_bytes) = (0, 0);
        (self.damaged, self.set_back, self.next) = (false, None, next);
        self.unreadable = None;
    }

    /// Tells the rows of a place, among those from `group` on, where their key is; so many of
    /// them are more than there were.
    #[inline]
    fn take_key(&mut self, group: usize, more: usize, place: Place, key: Option<KeyPlace>) {
        let of_place = |row: &&mut Row| row.place == place;
        for row in self.rows[group..].iter_mut().filter(of_place) {
            match key {
                Some(key) => row.key = key,
                None => self.unreadable = Some(place.slot()),
            }
        }
        self.bytes += more * (key.map_or(0, KeyPlace::bytes) + ROW_BYTES);
    }

    /// Window, value and detail of a row; `span` is the window of the span.
    #[inline]
    pub(super) fn side(&self, row: &Row, span: Window) -> (Window, i128, &Detail) {
        match self.sides.get(row.side as usize) {
            Some(side) => (side.window, side.value, &side.detail),
            None => (span, row.value.into(), &Detail::None),
        }
    }

    /// Adds what a slot counts to the rows of its series, which begin at `group`.
    pub(super) fn push(
        &mut self,
        group: usize,
        place: Place,
        side: Side,
        span: Window,
        events: u64,
    ) {
        let rows = &self.rows[group..];
        let at = rows.partition_point(|row| self.side(row, span).0 < side.window);
        let mut row = Row {
            place,
            key: KeyPlace::NONE,
            side: PLAIN,
            value: 0,
            events,
        };
        let mut side = side;
        let met = rows.get(at).copied();
        if let Some(met) = met.filter(|met| self.side(met, span).0 == side.window) {
            let (_, before, detail) = self.side(&met, span);
            let set = self.sides.get(met.side as usize).map_or(0, |side| side.set);
            side = merged(place.aggregation(), (before, detail, set), side);
            row.events = met.events.saturating_add(events);
            self.rows.remove(group + at);
        }
        match u64::try_from(side.value) {
            Ok(value) if side.window == span && side.detail.is_none() && side.set == 0 => {
                row.value = value;
            }
            _ => {
                self.detail_bytes += detail_bytes(&side.detail);
                row.side = u32::try_from(self.sides.len()).expect("sides are bounded like rows");
                self.sides.push(side);
            }
        }
        self.rows.insert(group + at, row);
    }
}

/// A place, its sum cell as it is now, and the baseline of that in force.
pub(super) type Seen = (Place, CellCut, CellCut);

/// What the cut of a slot has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing has been counted.
    Idle,
    /// Nothing to seal, but it is in use.
    Busy,
    /// Nothing to seal, but its baselines differ now.
    Moved,
    /// Something to seal, and its baselines differ now.
    Changed,
}

/// What a cut is made of.
pub(super) struct Cutter<'a, R> {
    pub(super) cells: &'a Cells<R>,
    /// The batch whose baselines are in force.
    pub(super) applied: u64,
    /// The window that what has no time of its own belongs to.
    pub(super) window: Window,
    /// The time of the cut before, of the cut, and where the next span begins.
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) next: Timestamp,
    /// Nothing is counted after this cut.
    pub(super) is_final: bool,
    pub(super) part_bytes_max: usize,
    pub(super) part_rows_max: usize,
}

impl<R: Region> Cutter<'_, R> {
    /// Cuts the places from `part.next` on, until the part is full. `changed` gets the places
    /// whose baselines now differ.
    pub(super) fn cut(
        &self,
        order: &Order,
        (idle, scratch): (&mut Idle, &mut Scratch),
        part: &mut Part,
        changed: &mut Vec<Place>,
    ) {
        let longest = self.cells.limits().idle_millis;
        for writer in 0..self.cells.layout().writers() {
            idle.make_room(writer, self.cells.published(writer), self.to);
        }
        let (mut group, mut touched) = (0, part.next);
        while let Some(place) = order.get(part.next) {
            if !place.same() {
                if part.bytes + part.detail_bytes >= self.part_bytes_max
                    || part.detail_bytes >= BATCH_DETAIL_BYTES_MAX / 2
                    || part.rows.len() >= self.part_rows_max
                {
                    return;
                }
                group = part.rows.len();
            }
            if part.next == touched {
                self.touch(order.some(touched, AHEAD));
                touched += AHEAD;
            }
            let rows = part.rows.len();
            let (writer, slot) = (place.writer(), place.slot());
            let base = self.cells.base(writer, slot, self.applied);
            let now = self.cells.now(writer, slot);
            // A slot that has changed hands since the order was made has nothing to seal for
            // the series it is known for, and comes up again with its new one.
            let now = now.filter(|now| order.is_current(place, now.generation()));
            let seen = (place, now.unwrap_or(base), base);
            let found = match place.aggregation() {
                Aggregation::Sum => self.sum(seen, part, group),
                _ if now.is_none() => Cut::Busy,
                _ => self.wide(seen, part, group, scratch),
            };
            let moved = matches!(found, Cut::Changed | Cut::Moved);
            let counted = now.is_none() || matches!(found, Cut::Busy | Cut::Changed);
            if idle.note((writer, slot), counted, self.to, longest)
                && let Some(now) = now
            {
                // If too many wait, the slot comes up again.
                let _ = self.cells.retire(writer, slot, now);
            }
            if moved {
                changed.push(place);
            }
            if !matches!(found, Cut::Idle) {
                let more = part.rows.len() - rows;
                part.take_key(group, more, place, self.cells.key_place(writer, slot));
            }
            part.next += 1;
        }
    }

    /// Loads something of what is looked at next, in a loop so short that the processor waits for
    /// all of it at a time.
    fn touch(&self, places: &[Place]) {
        let touched = places.iter().fold(0, |touched, place| {
            let (writer, slot) = (place.writer(), place.slot());
            touched ^ self.cells.touch_cell(writer, slot, self.applied)
        });
        std::hint::black_box(touched);
    }

    #[inline]
    fn sum(&self, (place, now, base): Seen, part: &mut Part, group: usize) -> Cut {
        let (value, events) = now.since(base);
        if value == 0 && events == 0 {
            return Cut::Idle;
        }
        let next = self.applied.wrapping_add(1);
        self.cells.put_base(place.writer(), place.slot(), next, now);
        if part.rows.len() == group {
            part.rows.push(Row {
                place,
                key: KeyPlace::NONE,
                side: PLAIN,
                value,
                events,
            });
        } else {
            let side = Side {
                window: self.window,
                value: value.into(),
                detail: Detail::None,
                set: 0,
            };
            part.push(group, place, side, self.window, events);
        }
        Cut::Changed
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

    /// Makes the baselines of places that are not in force those that are.
    pub(super) fn catch_up(&self, places: impl Iterator<Item = Place>) {
        for place in places {
            let (writer, slot) = (place.writer(), place.slot());
            if place.aggregation() != Aggregation::Sum {
                self.cells.copy_wide_base(writer, slot, self.applied);
            }
            self.cells.copy_base(writer, slot, self.applied);
        }
    }

    /// The same for all slots, when nothing is known of what the batch before has changed. What
    /// a slot without a place says of its wide cell is not to be believed.
    pub(super) fn catch_up_all(&self, order: &Order) {
        self.catch_up(order.iter());
        for writer in 0..self.cells.layout().writers() {
            for slot in 0..self.cells.published(writer) {
                self.cells.copy_base(writer, slot, self.applied);
            }
        }
    }
}
