//! The order of the series: every slot in the order in which a batch has its rows.
//!
//! Four bytes a slot, and two for the generation that it is known with. A slot that has been
//! retired or given to another series loses its place and is looked at again like a new one;
//! new slots are sorted among themselves and merged in.

use std::cmp::Ordering;

use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::totals::Totals;
use crate::aggregate::{Cells, Found, Region, SERIES_MAX, State, WRITERS_MAX};

const SLOT_BITS: u32 = 21;
const WRITER_BITS: u32 = 6;
const KIND_AT: u32 = SLOT_BITS + WRITER_BITS;
const SAME_AT: u32 = KIND_AT + 3;
const _: () = assert!(2 * SERIES_MAX <= 1 << SLOT_BITS && WRITERS_MAX <= 1 << WRITER_BITS);

/// A slot, its aggregation, and whether it counts the same series as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    fn new(writer: u32, slot: u32, aggregation: Aggregation) -> Self {
        let kind = u32::from(aggregation.code());
        Self(slot | writer << SLOT_BITS | kind << KIND_AT)
    }

    pub(super) fn slot(self) -> u32 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }

    pub(super) fn writer(self) -> u32 {
        self.0 >> SLOT_BITS & ((1 << WRITER_BITS) - 1)
    }

    pub(super) fn aggregation(self) -> Aggregation {
        let code = u8::try_from(self.0 >> KIND_AT & 7).unwrap_or(0);
        Aggregation::from_code(code).expect("made of an aggregation's code")
    }

    /// True if the series is that of the place before, counted by another writer.
    pub(super) fn same(self) -> bool {
        self.0 >> SAME_AT & 1 == 1
    }

    fn with_same(self, same: bool) -> Self {
        Self(self.0 & !(1 << SAME_AT) | u32::from(same) << SAME_AT)
    }
}

/// All slots that are known, in order.
#[derive(Default)]
pub(super) struct Order {
    places: Vec<Place>,
    /// The generations of the slots of each writer that are known.
    known: Vec<Vec<u16>>,
    /// How many slots of each writer had changed hands when they were looked at last.
    changes: Vec<u64>,
    /// Places of retired slots of which something was not sealed yet.
    lingering: Vec<(u32, u32, u16)>,
    /// Slots whose description does not match its checksum: what they count is not known.
    pub(super) damaged: Vec<(u32, u32)>,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All places.
    pub(super) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
    }

    pub(super) fn get(&self, at: usize) -> Option<Place> {
        self.places.get(at).copied()
    }

    /// Takes in the slots that were published since. True if one of them is damaged.
    pub(super) fn absorb<R: Region>(&mut self, cells: &Cells<R>, totals: &mut Totals) -> bool {
        let writers = cells.layout().writers();
        self.known.resize_with(writers as usize, Vec::new);
        self.changes.resize(writers as usize, 0);
        totals.load(cells);
        let damaged = self.damaged.len();
        let (mut fresh, mut key) = (Vec::new(), Vec::new());
        for slot in self.unknown(cells) {
            let (writer, slot, generation) = slot;
            match cells.find(writer, slot, generation, &mut key) {
                Found::Series(head) if SeriesRef::new(&key).check().is_ok() => {
                    if head.state == State::Retired {
                        if is_sealed(cells, writer, slot) {
                            continue;
                        }
                        self.lingering.push((writer, slot, generation));
                    }
                    totals.meet(cells, SeriesRef::new(&key), head.scale);
                    fresh.push(Place::new(writer, slot, head.aggregation));
                }
                Found::Free => {}
                Found::Series(_) | Found::Damaged => self.damaged.push((writer, slot)),
            }
        }
        if !fresh.is_empty() {
            let mut compare = Compare::new(cells);
            fresh.sort_unstable_by(|&a, &b| compare.places(a, b));
            self.merge(&fresh, &mut compare);
        }
        self.damaged.len() > damaged
    }

    /// True if a slot still counts for the series that it is known for.
    pub(super) fn is_current(&self, place: Place, generation: u16) -> bool {
        let known = &self.known[place.writer() as usize];
        known.get(place.slot() as usize) == Some(&generation)
    }

    /// The slots that are new, or have changed hands; the latter lose their places.
    fn unknown<R: Region>(&mut self, cells: &Cells<R>) -> Vec<(u32, u32, u16)> {
        let mut unknown = Vec::new();
        let mut gone = false;
        // Once the other baseline is written, the writer may use the room of their keys.
        // Of a seal in parts one may have written it long ago, and then a slot may have its next
        // series, whose place is not to be taken out: that one is found below.
        let (sealed, lingering) = std::mem::take(&mut self.lingering)
            .into_iter()
            .filter(|&(writer, slot, generation)| cells.generation(writer, slot) == generation)
            .partition::<Vec<_>, _>(|&(writer, slot, _)| is_sealed(cells, writer, slot));
        self.lingering = lingering;
        if !sealed.is_empty() {
            self.remove(cells, &sealed);
        }
        for writer in 0..cells.layout().writers() {
            let changes = cells.changes(writer);
            let known = &mut self.known[writer as usize];
            if self.changes[writer as usize] != changes {
                self.changes[writer as usize] = changes;
                for (slot, generation) in (0..).zip(known.iter_mut()) {
                    let now = cells.generation(writer, slot);
                    if *generation != now {
                        *generation = now;
                        unknown.push((writer, slot, now));
                        gone = true;
                    }
                }
            }
            for slot in u32::try_from(known.len()).unwrap_or(u32::MAX)..cells.published(writer) {
                let generation = cells.generation(writer, slot);
                known.push(generation);
                unknown.push((writer, slot, generation));
            }
        }
        if gone {
            self.remove(cells, &unknown);
        }
        unknown
    }

    /// Lets the writers have the room of series that were retired before slots were last taken
    /// in, and of which everything is sealed: the order has none of them any more. Not before
    /// their baselines have been made equal, which stores to their wide cells.
    pub(super) fn acknowledge<R: Region>(&self, cells: &Cells<R>) {
        for (writer, &changes) in (0..).zip(&self.changes) {
            cells.acknowledge(writer, changes);
        }
    }

    /// Takes out the places of these slots, which are sorted.
    fn remove<R: Region>(&mut self, cells: &Cells<R>, slots: &[(u32, u32, u16)]) {
        let mut slots = slots.to_vec();
        slots.sort_unstable();
        let is_gone = |writer: u32, slot: u32| {
            let found = slots.binary_search_by_key(&(writer, slot), |slot| (slot.0, slot.1));
            found.is_ok()
        };
        let mut after = Vec::new();
        let mut kept = 0;
        self.places.retain(|place| {
            let gone = is_gone(place.writer(), place.slot());
            if gone {
                after.push(kept);
            } else {
                kept += 1;
            }
            !gone
        });
        self.damaged
            .retain(|&(writer, slot)| !is_gone(writer, slot));
        after.dedup();
        let mut compare = Compare::new(cells);
        for at in after {
            if let Some(place) = self.places.get_mut(at) {
                *place = place.with_same(false);
            }
            self.look_back(at, &mut compare);
        }
    }

    /// Puts sorted places where they belong, from the last to the first. Between two of them
    /// the places that were there move in one piece.
    fn merge<R: Region>(&mut self, fresh: &[Place], compare: &mut Compare<'_, R>) {
        let mut unmoved = self.places.len();
        let mut end = unmoved + fresh.len();
        self.places.resize(end, Place(0));
        for &place in fresh.iter().rev() {
            let at = self.upper_bound(unmoved, place, compare);
            let moved = unmoved - at;
            self.places.copy_within(at..unmoved, end - moved);
            if moved > 0 {
                self.look_back(end, compare);
            }
            end -= moved + 1;
            self.places[end] = place;
            self.look_back(end + 1, compare);
            unmoved = at;
        }
        self.look_back(end, compare);
    }

    /// Finds out whether the place counts the same series as the one before it.
    fn look_back<R: Region>(&mut self, at: usize, compare: &mut Compare<'_, R>) {
        if at > 0 && at < self.places.len() {
            let same = compare.series(self.places[at - 1], self.places[at]) == Ordering::Equal;
            self.places[at] = self.places[at].with_same(same);
        }
    }

    /// How many of the first `length` places come before `place`: looked for from the end, in
    /// steps that double, because both lists are in order.
    fn upper_bound<R: Region>(
        &self,
        length: usize,
        place: Place,
        compare: &mut Compare<'_, R>,
    ) -> usize {
        let (mut low, mut high, mut step) = (0, length, 1);
        while high > 0 {
            let at = high.saturating_sub(step);
            if compare.places(self.places[at], place) == Ordering::Greater {
                (high, step) = (at, step * 2);
            } else {
                low = at + 1;
                break;
            }
        }
        low + self.places[low..high]
            .partition_point(|&other| compare.places(other, place) != Ordering::Greater)
    }
}

/// True if all that a slot has counted is in durable batches.
fn is_sealed<R: Region>(cells: &Cells<R>, writer: u32, slot: u32) -> bool {
    let base = cells.base(writer, slot, cells.applied());
    let now = cells.now(writer, slot);
    now.is_some_and(|now| now.since(base) == (0, 0))
}

/// Compares the series of slots where they lie.
struct Compare<'a, R> {
    cells: &'a Cells<R>,
    keys: [Vec<u8>; 2],
}

impl<'a, R: Region> Compare<'a, R> {
    fn new(cells: &'a Cells<R>) -> Self {
        Self {
            cells,
            keys: [Vec::new(), Vec::new()],
        }
    }

    fn load(&mut self, side: usize, place: Place) -> (Aggregation, Scale) {
        let key = &mut self.keys[side];
        // What was checked before does not change; if it does, any order will do.
        if let Some(head) = self.cells.slot_head(place.writer(), place.slot()) {
            self.cells.read_key(place.writer(), head, key);
            (head.aggregation, head.scale)
        } else {
            key.clear();
            (Aggregation::Sum, Scale::ZERO)
        }
    }

    fn series(&mut self, a: Place, b: Place) -> Ordering {
        let (kind_a, kind_b) = (self.load(0, a), self.load(1, b));
        let [key_a, key_b] = &self.keys;
        let keys = SeriesRef::new(key_a).cmp(&SeriesRef::new(key_b));
        keys.then(kind_a.cmp(&kind_b))
    }

    /// By series, aggregation, scale, writer.
    fn places(&mut self, a: Place, b: Place) -> Ordering {
        self.series(a, b)
            .then_with(|| (a.writer(), a.slot()).cmp(&(b.writer(), b.slot())))
    }
}
