//! Sorting the places of series that are new, in memory that does not grow with their keys.
//!
//! Places come in the order of their slots, some ten thousands at a time: the bytes that their
//! keys compare by are laid side by side and sorted there, and only the places are kept. The
//! runs that come of it are merged with a few keys of each at hand. Every key is read twice
//! that way, and never for a single comparison.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::order::Place;
use crate::aggregate::{Cells, KeyPlace, Region};

/// Places of a run.
const RUN_PLACES: usize = if cfg!(test) { 7 } else { 1 << 15 };
/// Bytes of keys after which a run ends, if it has not so many places.
const RUN_BYTES: usize = 4 << 20;
/// Places of a run whose keys are read together, while runs are merged.
const AHEAD: usize = if cfg!(test) { 3 } else { 16 };

/// Appends what a slot's series compares by: key, aggregation and scale.
fn write_rank(series: SeriesRef<'_>, aggregation: Aggregation, scale: Scale, out: &mut Vec<u8>) {
    series.write_rank(out);
    out.extend([aggregation.code(), scale.get()]);
}

/// A place of the run at hand.
struct Entry {
    /// The first bytes behind those that all of the run have in common.
    prefix: u64,
    /// Where its bytes are.
    at: u32,
    end: u32,
    place: Place,
}

/// Sorts new places by series, aggregation, scale, writer and slot.
#[derive(Default)]
pub(super) struct Sorter {
    /// The bytes of the run at hand.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// Sorted runs, one after the other, and where each ends.
    places: Vec<Place>,
    ends: Vec<usize>,
}

impl Sorter {
    /// Takes a place with the key of its series, which has been checked.
    pub(super) fn push(&mut self, place: Place, series: SeriesRef<'_>, scale: Scale) {
        let at = self.bytes.len();
        write_rank(series, place.aggregation(), scale, &mut self.bytes);
        let narrow = |at: usize| u32::try_from(at).expect("a run is some megabytes");
        self.entries.push(Entry {
            prefix: 0,
            at: narrow(at),
            end: narrow(self.bytes.len()),
            place,
        });
        if self.entries.len() == RUN_PLACES || self.bytes.len() >= RUN_BYTES {
            self.end_run();
        }
    }

    /// Sorts the run at hand and keeps its places.
    fn end_run(&mut self) {
        let bytes = &self.bytes;
        let rank = |entry: &Entry| &bytes[entry.at as usize..entry.end as usize];
        let Some(first) = self.entries.first().map(rank) else {
            return;
        };
        let common = self.entries.iter().fold(first.len(), |common, entry| {
            let same = first[..common].iter().zip(rank(entry));
            same.take_while(|(a, b)| a == b).count()
        });
        for entry in &mut self.entries {
            let rest = &bytes[entry.at as usize + common..entry.end as usize];
            let mut prefix = [0; 8];
            let length = rest.len().min(8);
            prefix[..length].copy_from_slice(&rest[..length]);
            entry.prefix = u64::from_be_bytes(prefix);
        }
        self.entries.sort_unstable_by(|a, b| {
            let by_bytes = || rank(a).cmp(rank(b));
            let by_slot = || a.place.position().cmp(&b.place.position());
            a.prefix
                .cmp(&b.prefix)
                .then_with(by_bytes)
                .then_with(by_slot)
        });
        let mut before: Option<&Entry> = None;
        for entry in &self.entries {
            let same = before.is_some_and(|before| rank(before) == rank(entry));
            self.places.push(entry.place.with_same(same));
            before = Some(entry);
        }
        self.ends.push(self.places.len());
        self.bytes.clear();
        self.entries.clear();
    }

    /// All places in order; each says whether it counts the same series as the one before.
    pub(super) fn finish<R: Region>(mut self, cells: &Cells<R>) -> Vec<Place> {
        self.end_run();
        // Their memory goes before that of the merged ones comes.
        (self.bytes, self.entries) = (Vec::new(), Vec::new());
        if self.ends.len() <= 1 {
            return self.places;
        }
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut runs: Vec<Run> = begins
            .zip(&self.ends)
            .map(|(begin, &end)| Run::new(begin, end))
            .collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            let head = run.next(cells, &self.places, Vec::new());
            heads.extend(head.map(|head| Reverse((head, number))));
        }
        let mut merged = Vec::with_capacity(self.places.len());
        let mut last = Vec::new();
        while let Some(mut top) = heads.peek_mut() {
            let Reverse((head, number)) = &mut *top;
            merged.push(head.place.with_same(last == head.rank));
            // What is read next goes where the one before the last was.
            let room = std::mem::replace(&mut last, std::mem::take(&mut head.rank));
            match runs[*number].next(cells, &self.places, room) {
                Some(next) => *head = next,
                None => drop(PeekMut::pop(top)),
            }
        }
        merged
    }
}

/// The first place of a run that is not merged yet.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    rank: Vec<u8>,
    position: (u32, u32),
    place: Place,
}

/// A run that is being merged, with the keys of its next few places.
struct Run {
    next: usize,
    end: usize,
    /// What the places from `next` on compare by, one after the other, and where each ends.
    ranks: Vec<u8>,
    ends: [usize; AHEAD],
    /// Of these, how many there are, and how many have been taken.
    read: usize,
    taken: usize,
}

impl Run {
    fn new(next: usize, end: usize) -> Self {
        Self {
            next,
            end,
            ranks: Vec::new(),
            ends: [0; AHEAD],
            read: 0,
            taken: 0,
        }
    }

    /// The next place; what it compares by goes into `room`.
    fn next<R: Region>(
        &mut self,
        cells: &Cells<R>,
        places: &[Place],
        mut room: Vec<u8>,
    ) -> Option<Head> {
        if self.taken == self.read {
            self.read_ahead(cells, &places[self.next..self.end]);
        }
        let place = (self.taken < self.read).then(|| places[self.next])?;
        let from = self
            .taken
            .checked_sub(1)
            .map_or(0, |before| self.ends[before]);
        room.clear();
        room.extend_from_slice(&self.ranks[from..self.ends[self.taken]]);
        self.taken += 1;
        self.next += 1;
        Some(Head {
            rank: room,
            position: place.position(),
            place,
        })
    }

    /// Reads the keys of the next places: first where all of them are, then all of them, so that
    /// the waits for memory overlap.
    fn read_ahead<R: Region>(&mut self, cells: &Cells<R>, places: &[Place]) {
        self.ranks.clear();
        (self.read, self.taken) = (places.len().min(AHEAD), 0);
        let mut keys = [KeyPlace::NONE; AHEAD];
        for (key, place) in keys.iter_mut().zip(places) {
            // What was checked before does not change; if it does, any order will do.
            let known = cells.key_place(place.writer(), place.slot());
            *key = known.unwrap_or(KeyPlace::NONE);
        }
        let touched = keys.iter().zip(places).fold(0, |touched, (key, place)| {
            touched ^ cells.touch_key(place.writer(), *key)
        });
        std::hint::black_box(touched);
        let mut bytes = Vec::new();
        for ((key, place), end) in keys.iter().zip(places).zip(&mut self.ends) {
            cells.read_key(place.writer(), *key, &mut bytes);
            let series = SeriesRef::new(&bytes);
            write_rank(series, place.aggregation(), key.scale, &mut self.ranks);
            *end = self.ranks.len();
        }
    }
}
