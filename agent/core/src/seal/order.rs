//! The order of the series: every slot in the order in which a batch has its rows.
//!
//! Four bytes a slot, and two for the generation that it is known with. A slot that has been
//! retired or given to another series loses its place and is looked at again like a new one;
//! new slots are sorted among themselves, see [`sort`](super::sort), and merged in.

use std::cmp::Ordering;

use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::sort::Sorter;
use super::totals::Totals;
use crate::aggregate::{Cells, Found, KeyPlace, Region, SERIES_MAX, State, WRITERS_MAX};

const SLOT_BITS: u32 = 21;
const WRITER_BITS: u32 = 6;
const KIND_AT: u32 = SLOT_BITS + WRITER_BITS;
const SAME_AT: u32 = KIND_AT + 3;
const _: () = assert!(2 * SERIES_MAX <= 1 << SLOT_BITS && WRITERS_MAX <= 1 << WRITER_BITS);

/// A slot, its aggregation, and whether it counts the same series as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

impl Place {
    fn new(writer: u32, slot: u32, aggregation: Aggregation) -> Self {
        let kind = u32::from(aggregation.code());
        Self(slot | writer << SLOT_BITS | kind << KIND_AT)
    }

    /// A slot without its series: it is no place in the order.
    fn of(writer: u32, slot: u32) -> Self {
        Self(slot | writer << SLOT_BITS)
    }

    fn without_series(self) -> Self {
        Self(self.0 & ((1 << KIND_AT) - 1))
    }

    #[inline]
    pub(super) fn slot(self) -> u32 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }

    #[inline]
    pub(super) fn writer(self) -> u32 {
        self.0 >> SLOT_BITS & ((1 << WRITER_BITS) - 1)
    }

    #[inline]
    pub(super) fn aggregation(self) -> Aggregation {
        let code = u8::try_from(self.0 >> KIND_AT & 7).unwrap_or(0);
        Aggregation::from_code(code).expect("made of an aggregation's code")
    }

    /// What decides between places of the same series.
    pub(super) fn position(self) -> (u32, u32) {
        (self.writer(), self.slot())
    }

    /// True if the series is that of the place before, counted by another writer.
    #[inline]
    pub(super) fn same(self) -> bool {
        self.0 >> SAME_AT & 1 == 1
    }

    pub(super) fn with_same(self, same: bool) -> Self {
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
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All places.
    pub(super) fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().copied()
    }

    /// Up to so many places from `at` on.
    pub(super) fn some(&self, at: usize, length: usize) -> &[Place] {
        let rest = self.places.get(at..).unwrap_or_default();
        &rest[..length.min(rest.len())]
    }

    #[inline]
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
        let (mut sorter, mut key) = (Sorter::default(), Vec::new());
        let mut meet =
            |order: &mut Self, slot| order.meet(cells, slot, totals, &mut sorter, &mut key);
        for (writer, slot) in self.changed_hands(cells).into_iter().map(Place::position) {
            let generation = self.known[writer as usize][slot as usize];
            meet(self, (writer, slot, generation));
        }
        for writer in 0..writers {
            let first = self.known[writer as usize].len();
            let published = cells.published(writer);
            grow(&mut self.known[writer as usize], published as usize);
            for slot in u32::try_from(first).unwrap_or(u32::MAX)..published {
                let generation = cells.generation(writer, slot);
                self.known[writer as usize].push(generation);
                meet(self, (writer, slot, generation));
            }
        }
        let fresh = sorter.finish(cells);
        if self.places.is_empty() {
            self.places = fresh;
        } else if !fresh.is_empty() {
            self.merge(&fresh, &mut Compare::new(cells));
        }
        self.damaged.len() > damaged
    }

    /// Takes in a slot whose place is to be found.
    fn meet<R: Region>(
        &mut self,
        cells: &Cells<R>,
        (writer, slot, generation): (u32, u32, u16),
        totals: &mut Totals,
        sorter: &mut Sorter,
        key: &mut Vec<u8>,
    ) {
        match cells.find(writer, slot, generation, key) {
            Found::Series(head) if SeriesRef::new(key).check().is_ok() => {
                if head.state == State::Retired {
                    if is_sealed(cells, writer, slot) {
                        return;
                    }
                    self.lingering.push((writer, slot, generation));
                }
                let series = SeriesRef::new(key);
                totals.meet(cells, series, head.scale);
                let place = Place::new(writer, slot, head.aggregation);
                sorter.push(place, series, head.scale);
            }
            Found::Free => {}
            Found::Series(_) | Found::Damaged => self.damaged.push((writer, slot)),
        }
    }

    /// True if a slot still counts for the series that it is known for.
    #[inline]
    pub(super) fn is_current(&self, place: Place, generation: u16) -> bool {
        let known = &self.known[place.writer() as usize];
        known.get(place.slot() as usize) == Some(&generation)
    }

    /// The slots that have changed hands, which lose their places.
    fn changed_hands<R: Region>(&mut self, cells: &Cells<R>) -> Vec<Place> {
        let mut changed = Vec::new();
        // Once the other baseline is written, the writer may use the room of their keys.
        // Of a seal in parts one may have written it long ago, and then a slot may have its next
        // series, whose place is not to be taken out: that one is found below.
        let (sealed, lingering) = std::mem::take(&mut self.lingering)
            .into_iter()
            .filter(|&(writer, slot, generation)| cells.generation(writer, slot) == generation)
            .partition::<Vec<_>, _>(|&(writer, slot, _)| is_sealed(cells, writer, slot));
        self.lingering = lingering;
        if !sealed.is_empty() {
            let sealed = sealed.into_iter();
            let mut sealed: Vec<_> = sealed.map(|slot| Place::of(slot.0, slot.1)).collect();
            sealed.sort_unstable();
            self.remove(cells, &sealed);
        }
        for writer in 0..cells.layout().writers() {
            let changes = cells.changes(writer);
            if self.changes[writer as usize] == changes {
                continue;
            }
            self.changes[writer as usize] = changes;
            for (slot, generation) in (0..).zip(&mut self.known[writer as usize]) {
                let now = cells.generation(writer, slot);
                if *generation != now {
                    *generation = now;
                    changed.push(Place::of(writer, slot));
                }
            }
        }
        if !changed.is_empty() {
            self.remove(cells, &changed);
        }
        changed
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
    fn remove<R: Region>(&mut self, cells: &Cells<R>, slots: &[Place]) {
        let is_gone = |place: Place| slots.binary_search(&place).is_ok();
        // Where something was taken out, as the places are numbered then.
        let mut after: Vec<u32> = Vec::new();
        let mut kept = 0;
        self.places.retain(|place| {
            let gone = is_gone(place.without_series());
            if !gone {
                kept += 1;
            } else if after.last() != Some(&kept) {
                after.push(kept);
            }
            !gone
        });
        self.damaged
            .retain(|&(writer, slot)| !is_gone(Place::of(writer, slot)));
        let mut compare = Compare::new(cells);
        for at in after.into_iter().map(|at| at as usize) {
            if let Some(place) = self.places.get_mut(at) {
                *place = place.with_same(false);
            }
            self.look_back(at, &mut compare);
        }
    }

    /// Puts sorted places where they belong, from the last to the first. Between two of them
    /// the places that were there move in one piece. Whether they count the same series as the
    /// one before they know, if nothing comes in between.
    fn merge<R: Region>(&mut self, fresh: &[Place], compare: &mut Compare<'_, R>) {
        let mut unmoved = self.places.len();
        let mut end = unmoved + fresh.len();
        grow(&mut self.places, end);
        self.places.resize(end, Place(0));
        for &place in fresh.iter().rev() {
            let at = self.upper_bound(unmoved, place, compare);
            let moved = unmoved - at;
            self.places.copy_within(at..unmoved, end - moved);
            end -= moved + 1;
            self.places[end] = place;
            if moved > 0 {
                // The first of the moved ones, and the new one behind the last of them.
                self.look_back(end + 1, compare);
                self.look_back(end + 1 + moved, compare);
            }
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

/// Makes room for `length` elements, and a sixteenth more: what grows with a million series must
/// not have twice the room that it needs.
fn grow<T>(list: &mut Vec<T>, length: usize) {
    if list.capacity() < length {
        list.reserve_exact(length + length / 16 - list.len());
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
        let known = self.cells.key_place(place.writer(), place.slot());
        let known = known.unwrap_or(KeyPlace::NONE);
        self.cells.read_key(place.writer(), known, key);
        (place.aggregation(), known.scale)
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
            .then_with(|| a.position().cmp(&b.position()))
    }
}
