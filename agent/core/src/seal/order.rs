//! The order of the series: every slot in the order in which a batch has its rows.
//!
//! Four bytes a slot. Slots never change their series while they are known here, so that an
//! order once found stays; new slots are sorted among themselves and merged in.

use std::cmp::Ordering;

use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::totals::Totals;
use crate::aggregate::{Cells, Region, SERIES_MAX, WRITERS_MAX};

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
    /// How many slots of each writer are known.
    known: Vec<u32>,
    /// Slots whose description does not match its checksum: what they count is not known.
    pub(super) damaged: Vec<(u32, u32)>,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, at: usize) -> Option<Place> {
        self.places.get(at).copied()
    }

    /// Takes in the slots that were published since. True if one of them is damaged.
    pub(super) fn absorb<R: Region>(&mut self, cells: &Cells<R>, totals: &mut Totals) -> bool {
        let writers = cells.layout().writers();
        self.known.resize(writers as usize, 0);
        let damaged = self.damaged.len();
        let (mut fresh, mut key) = (Vec::new(), Vec::new());
        for writer in 0..writers {
            let published = cells.published(writer);
            for slot in self.known[writer as usize]..published {
                let head = cells.checked_key(writer, slot, &mut key);
                let head = head.filter(|_| SeriesRef::new(&key).check().is_ok());
                let Some(head) = head else {
                    self.damaged.push((writer, slot));
                    continue;
                };
                if head.aggregation == Aggregation::Sum {
                    let base = cells.sum_base(writer, slot, cells.applied());
                    totals.meet(SeriesRef::new(&key), head.scale, base.sum);
                }
                fresh.push(Place::new(writer, slot, head.aggregation));
            }
            self.known[writer as usize] = published;
        }
        if !fresh.is_empty() {
            let mut compare = Compare::new(cells);
            fresh.sort_unstable_by(|&a, &b| compare.places(a, b));
            self.merge(&fresh, &mut compare);
        }
        self.damaged.len() > damaged
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
