//! The cut of what does not fit into a sum cell: last values, maxima, levels, histograms and
//! distinct counts.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::histogram::{CHUNK_BUCKETS, HistogramCut};
use tollgate::cell::level::{self, LevelCut, LevelState};
use tollgate::cell::{halves, unique};
use tollgate_common::sketch::{Histogram, REGISTERS, UniqueSketch};
use tollgate_common::{Aggregation, Detail, Timestamp, Window};

use super::CLOCK_STEP_MAX_MILLIS;
use super::cut::{Cut, Cutter, Part, SIDE_MAX, Seen, Side};
use super::order::Place;
use crate::aggregate::{CellCut, LevelBase, Put, Region};

/// Most rows that one cut makes of one level. A longer time is told in pieces of several
/// windows, each booked to the window in which it begins.
const LEVEL_ROWS_MAX: i64 = 128;

/// Memory that is used again from slot to slot.
#[derive(Default)]
pub(super) struct Scratch {
    histogram: HistogramCut,
    hashes: [Vec<u64>; 2],
}

type Cuts = (CellCut, CellCut);

impl<R: Region> Cutter<'_, R> {
    fn sequence(&self) -> u64 {
        self.applied.wrapping_add(1)
    }

    /// Cuts a slot that has a wide cell. What its writer stores faster than it can be read waits
    /// for the next seal.
    pub(super) fn wide(
        &self,
        (place, now, base): Seen,
        part: &mut Part,
        group: usize,
        scratch: &mut Scratch,
    ) -> Cut {
        let (writer, slot, cuts) = (place.writer(), place.slot(), (now, base));
        let Some(head) = self.cells.slot_head(writer, slot) else {
            part.damaged = true;
            return Cut::Busy;
        };
        let at = self.cells.place(writer, head);
        let found = match place.aggregation() {
            Aggregation::TimeWeighted => self.level(place, at, part, group, cuts),
            _ if cuts.0.since(cuts.1) == (0, 0) => Some(Cut::Idle),
            Aggregation::Distribution => {
                self.distribution(place, at, part, group, cuts, &mut scratch.histogram)
            }
            Aggregation::Unique => self.unique(place, at, part, group, &mut scratch.hashes),
            _ => self.halves(place, at, part, group),
        };
        if matches!(found, Some(Cut::Changed | Cut::Moved)) {
            self.cells.put_base(writer, slot, self.sequence(), now);
        }
        found.unwrap_or_else(|| {
            // Some of it may have been cut already.
            self.catch_up(std::iter::once(place));
            part.damaged = true;
            Cut::Busy
        })
    }

    fn bases(&self, place: Place, at: u32) -> Option<[&[AtomicU64]; 2]> {
        let base = |sequence| {
            let (writer, kind) = (place.writer(), place.aggregation());
            self.cells.wide_base(writer, at, kind, sequence)
        };
        Some([base(self.applied)?, base(self.sequence())?])
    }

    fn window_of(&self, millis: i64) -> Window {
        Window::containing(Timestamp::from_millis(millis), self.window.width())
    }

    fn plain(&self, at: i64, value: i128) -> Side {
        Side {
            window: self.window_of(at),
            value,
            detail: Detail::None,
            set: 0,
        }
    }

    /// Last values and maxima.
    fn halves(&self, place: Place, at: u32, part: &mut Part, group: usize) -> Option<Cut> {
        let cell = self.cells.wide(place.writer(), at, place.aggregation())?;
        let [base, next] = self.bases(place, at)?;
        let [Some(even), Some(odd)] = [0, 1].map(|half| halves::read(cell, half)) else {
            return Some(Cut::Busy);
        };
        let sets = match place.aggregation() {
            Aggregation::Last => self.cells.last_sets(place.writer(), at),
            _ => [0; 2],
        };
        for (((base, next), now), set) in base.iter().zip(next).zip([even, odd]).zip(sets) {
            let before = base.load(Relaxed);
            if now.events == before {
                continue;
            }
            next.put(now.events, Relaxed);
            let side = Side {
                set,
                ..self.plain(now.window, now.value.into())
            };
            let events = now.events.wrapping_sub(before);
            part.push(group, place, side, self.window, events);
        }
        Some(Cut::Changed)
    }

    /// Distinct values.
    fn unique(
        &self,
        place: Place,
        at: u32,
        part: &mut Part,
        group: usize,
        hashes: &mut [Vec<u64>; 2],
    ) -> Option<Cut> {
        let cell: unique::Cell<'_> = self.cells.unique(place.writer(), at)?;
        let [base, next] = self.bases(place, at)?;
        let [even, odd] = hashes;
        let (Some(even_cut), Some(odd_cut)) = (cell.read(0, even), cell.read(1, odd)) else {
            return Some(Cut::Busy);
        };
        for (half, (cut, words)) in [(even_cut, even), (odd_cut, odd)].into_iter().enumerate() {
            let before = base[half].load(Relaxed);
            if cut.inserts == before {
                continue;
            }
            let sketch = if cut.registers {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let registers = <Box<[u8; REGISTERS]>>::try_from(bytes.into_boxed_slice()).ok()?;
                UniqueSketch::from_registers(registers)
            } else {
                words.sort_unstable();
                words.dedup();
                UniqueSketch::from_hashes(words.clone())
            };
            let sketch = sketch.ok()?;
            next[half].put(cut.inserts, Relaxed);
            let side = Side {
                window: self.window_of(cut.window),
                value: sketch.estimate().into(),
                detail: Detail::Unique(Arc::new(sketch)),
                set: 0,
            };
            let events = cut.inserts.wrapping_sub(before);
            part.push(group, place, side, self.window, events);
        }
        Some(Cut::Changed)
    }

    /// Values by size, as counted between two cuts.
    fn distribution(
        &self,
        place: Place,
        at: u32,
        part: &mut Part,
        group: usize,
        (now, base): Cuts,
        cut: &mut HistogramCut,
    ) -> Option<Cut> {
        let writer = place.writer();
        self.cells.histogram(writer, place.slot(), at)?.read(cut);
        // Of the cells of the dead the last record may be there by half.
        if cut.damaged || !cut.whole && !self.is_final || cut.done != now.done {
            return if cut.damaged { None } else { Some(Cut::Busy) };
        }
        let mut buckets = Vec::new();
        for chunk in &cut.chunks {
            let base = self.cells.chunk_base(writer, chunk.at, self.applied)?;
            let next = self.cells.chunk_base(writer, chunk.at, self.sequence())?;
            let first = chunk.chunk * CHUNK_BUCKETS;
            for ((bucket, &count), (base, next)) in
                (first..).zip(&chunk.counts).zip(base.iter().zip(next))
            {
                let more = count.wrapping_sub(base.load(Relaxed));
                next.put(count, Relaxed);
                if more > 0 {
                    buckets.push((bucket, more));
                }
            }
        }
        let (sum, events) = now.since(base);
        let side = Side {
            window: self.window,
            value: sum.into(),
            detail: Detail::Distribution(Arc::new(Histogram::from_buckets(buckets).ok()?)),
            set: 0,
        };
        part.push(group, place, side, self.window, events);
        Some(Cut::Changed)
    }

    /// A level times the time that it held, window by window.
    ///
    /// A row is made for every window that has ended, whether the level was set in it or not.
    /// Only at the end of an incarnation, and where the clock is set, the time since the
    /// last window is told as well.
    fn level(
        &self,
        place: Place,
        at: u32,
        part: &mut Part,
        group: usize,
        cuts: Cuts,
    ) -> Option<Cut> {
        let cell = self.cells.wide(place.writer(), at, place.aggregation())?;
        let [base, next] = self.bases(place, at)?;
        let Some(cell) = level::read(cell) else {
            return Some(Cut::Busy);
        };
        if cell.events == 0 {
            return Some(Cut::Idle);
        }
        let (base, rebased) = self.level_base(LevelBase::read(base), &cell, part);
        let state = base.effective(cell, self.to.millis());
        let mut before = base.cut;
        if base.is_fresh() {
            before.at = self.from.millis().max(state.window.min(self.to.millis()));
            before.at = before.at.min(self.to.millis());
        }
        let start = before;
        let width = self.window.width().millis();
        let end = self.window_of(self.to.millis()).start().millis();
        let windows = end.saturating_sub(before.at).max(0) / width;
        let stride = width * (windows / LEVEL_ROWS_MAX + 1);
        let mut rows: Vec<(i64, u128)> = Vec::new();
        let mut tell = |cut: LevelCut, before: &mut LevelCut| {
            let area = cut.integral.saturating_sub(before.integral);
            if area > 0 {
                rows.push((before.at, area));
            }
            *before = cut;
        };
        let mut boundary = self.window_of(before.at).start().millis() + stride;
        while boundary <= end {
            let cut = state.at(boundary);
            // An instant before the last set that nobody remembers: the next one tells.
            if cut.at == boundary {
                tell(cut, &mut before);
            }
            boundary += stride;
        }
        let ends = self.is_final || self.next != self.to;
        let last = if ends {
            self.to.millis().max(state.since)
        } else {
            end
        };
        let cut = state.at(last);
        // A life that ends as it begins tells what was carried into it: the time since the last
        // cut of the one before.
        if (last > before.at || base.is_fresh()) && cut.at == last {
            tell(cut, &mut before);
        }
        let (_, events) = cuts.0.since(cuts.1);
        let held = if state.level > 0 {
            Cut::Busy
        } else {
            Cut::Idle
        };
        let turns = self.next != self.to;
        let moved = before != start || rebased;
        if !(moved || turns || ends && events > 0) {
            return Some(if events > 0 { Cut::Busy } else { held });
        }
        let told = rows.len();
        for (index, (at, area)) in rows.into_iter().enumerate() {
            let side = self.plain(
                at,
                i128::try_from(area).map_or(SIDE_MAX, |area| area.min(SIDE_MAX)),
            );
            let events = if index + 1 == told { events } else { 0 };
            part.push(group, place, side, self.window, events);
        }
        if told == 0 && events > 0 {
            let side = self.plain(start.at, 0);
            part.push(group, place, side, self.window, events);
        }
        let after = if turns {
            // The clock is set: the time in between is nobody's.
            Self::turned(&cell, self.next, part)
        } else if base.set_back && cell.since > self.to.millis() {
            LevelBase::marked(&cell, before.at)
        } else {
            LevelBase::plain(before)
        };
        after.write(next);
        // A level that has been 0 all the time is as good as idle, although time moves on.
        let idle = told == 0 && events == 0 && cell.level == 0;
        Some(if idle { Cut::Moved } else { Cut::Changed })
    }

    /// The baseline that a cut continues, and whether it is another than that of the cut before.
    fn level_base(&self, base: LevelBase, cell: &LevelState, part: &mut Part) -> (LevelBase, bool) {
        let beyond = |at: i64| at.saturating_add(CLOCK_STEP_MAX_MILLIS);
        if base.cut.at > beyond(self.to.millis()) {
            // The clock was set back while nobody sealed.
            (Self::turned(cell, self.to, part), true)
        } else if base.set_back && self.from.millis() > beyond(base.cut.at) {
            // A part of the seal at a step, whose last part never came: all is told by the old
            // time, which is that of this cut as well.
            (LevelBase::beginning(cell, self.to.millis()), true)
        } else {
            (base, false)
        }
    }

    /// Where a level goes on when the clock shows `at` all of a sudden. If it was set after that,
    /// its next set does not know how long it has held since, and the time from the seal before
    /// it is missing.
    fn turned(cell: &LevelState, at: Timestamp, part: &mut Part) -> LevelBase {
        let base = LevelBase::beginning(cell, at.millis());
        if base.set_back && cell.level > 0 {
            let until = Timestamp::from_millis(cell.since);
            part.set_back = part.set_back.max(Some(until));
        }
        base
    }
}
