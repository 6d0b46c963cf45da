//! The way of DogStatsD lines at rate: scanned, looked up in the cache, added.
//!
//! Lines are taken in groups of up to [`GROUP`], whatever datagrams they came in, and each
//! step is taken for the whole group before the next: cut and hash, look into the table,
//! compare the key, add. The loads of one step do not depend on each other, so the
//! processor waits for many cache misses at once instead of one after the other; with a
//! million series that is what a line costs.
//!
//! A line whose name and suffix were seen before, with a small whole number as its value, for
//! a sum, is done by that. All of them are received, in the account of the input and in those
//! of their tenants, before the first is counted. Everything else goes through [`Lines::count_slowly`], line by
//! line in the order of arrival, and so does nothing else: gauges keep their order.
#![expect(
    clippy::inline_always,
    reason = "steps of a loop over lines, each a few dozen instructions"
)]

mod learn;

use std::ops::Range;

use tollgate_common::Timestamp;

use super::plan::{How, Plan, Plans};
use super::scan::{DATAGRAM_SLACK_BYTES, Found, Line, Scanner};
use super::value::Place;
use super::{Ignored, Item, Malformed, parse_line, split_values};
use crate::aggregate::{AddError, Region, Row, Slot, SumsAtRate};
use crate::attribute::{Hit, LineCache, LineKey, NO_ENTRY};
use crate::input::Listener;
use crate::input::tally::{CountError, Counting, Refusal, Tally};

/// Lines that are taken together: enough to overlap their misses, few enough to stay in the
/// first cache.
const GROUP: usize = 64;

/// What remembers lines, and the lines of the group being taken.
pub(in crate::input) struct Lines {
    scanner: Scanner,
    cache: LineCache,
    plans: Plans,
    group: Vec<Pending>,
    /// A datagram with room behind it.
    padded: Vec<u8>,
    /// A key without its timestamp.
    untimed: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Pending {
    line: Line,
    entry: u32,
    hash: u64,
    /// True for a line that needs no more than an add of so much there.
    small: bool,
    row: Row,
    slot: u64,
    units: u64,
}

/// Where the lines of a group came from.
#[derive(Clone, Copy)]
struct Origin<'a> {
    listener: Listener,
    buffer: &'a [u8],
    now: Timestamp,
}

impl<'a> Origin<'a> {
    #[inline(always)]
    fn key(&self, line: &Line) -> LineKey<'a> {
        LineKey {
            buffer: self.buffer,
            listener: self.listener,
            name_at: line.at,
            name_len: u32::from(line.name_len),
            suffix_at: line.suffix_at,
            suffix_len: line.end.wrapping_sub(line.suffix_at),
        }
    }
}

/// How the values of a line are counted.
struct Known {
    payload: u64,
    plan: Plan,
    /// Whose it is.
    row: Row,
    /// Its entry in the cache; [`NO_ENTRY`] if it could not be remembered.
    entry: u32,
}

/// Why no value of a line is counted.
struct Refused {
    /// How many events the line held.
    events: u64,
    refusal: Refusal,
}

impl Lines {
    pub(in crate::input) fn new(cache_bytes: usize, seed: u64) -> Self {
        Self {
            scanner: Scanner::default(),
            cache: LineCache::new(cache_bytes, seed),
            plans: Plans::default(),
            group: Vec::with_capacity(GROUP),
            padded: Vec::new(),
            untimed: Vec::new(),
        }
    }

    /// Forgets every line.
    pub(in crate::input) fn forget(&mut self) {
        self.plans.clear();
        self.cache.clear();
    }

    /// Forgets the lines with a sampling rate.
    #[cold]
    fn forget_rated(&mut self, now: Timestamp) {
        let plans = &self.plans;
        let is_rated = |hit: Hit| plans.get(hit.plan).is_some_and(Plan::is_rated);
        self.cache.retain(|hit| !is_rated(hit));
        self.plans.renew(now);
    }

    /// Forgets the lines of slots that are gone, which are sorted, and those for which there may be room now.
    pub(in crate::input) fn forget_slots(&mut self, gone: &[u64]) {
        let plans = &self.plans;
        self.cache.retain(|hit| {
            let plan = plans.get(hit.plan);
            plan.is_some_and(|plan| match plan.how {
                How::Count { .. } => {
                    !plan.is_overflow() && gone.binary_search(&hit.payload).is_err()
                }
                How::Refuse(_) => true,
            })
        });
    }

    pub(in crate::input) fn remembered(&self) -> usize {
        self.cache.len()
    }

    #[inline(always)]
    fn push(&mut self, origin: &Origin<'_>, line: Line) -> bool {
        let hash = match line.value {
            Found::Odd => 0,
            Found::Small(_) | Found::Text => self.cache.hash(&origin.key(&line)),
        };
        self.group.push(Pending {
            line,
            entry: NO_ENTRY,
            hash,
            slot: 0,
            units: 0,
            row: Row::NONE,
            small: false,
        });
        self.group.len() == GROUP
    }

    fn count_padded<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        origin: &Origin<'_>,
        datagram: Range<usize>,
    ) {
        let Some(bytes) = origin.buffer.get(datagram) else {
            return;
        };
        let mut padded = std::mem::take(&mut self.padded);
        padded.clear();
        padded.extend_from_slice(bytes);
        padded.extend_from_slice(&[0; DATAGRAM_SLACK_BYTES]);
        let origin = Origin {
            buffer: &padded,
            ..*origin
        };
        if self.scanner.start(&padded, 0, bytes.len()) {
            while let Some(line) = self.scanner.next(&padded) {
                if self.push(&origin, line) {
                    self.flush(counting, &origin);
                }
            }
        }
        self.flush(counting, &origin);
        self.padded = padded;
    }

    /// Counts the group and empties it.
    fn flush<R: Region>(&mut self, counting: &mut Counting<R>, origin: &Origin<'_>) {
        if self.group.is_empty() {
            return;
        }
        let mut group = std::mem::take(&mut self.group);
        for pending in &mut group {
            pending.entry = self.cache.candidate(pending.hash);
        }
        let mut small = 0u64;
        for pending in &mut group {
            self.look_up(pending, origin);
            small = small.wrapping_add(pending.small.into());
        }
        counting.writer.received(small);
        receive(&counting.writer.sums_at_rate(), &group);
        let mut rest = &group[..];
        while let Some((pending, error)) = count_small(&counting.writer.sums_at_rate(), &mut rest) {
            match error {
                Some(error) => counting.reject_in(pending.row, &error.into(), 1),
                None => self.count_slowly(counting, origin, pending),
            }
        }
        counting.writer.settle();
        group.clear();
        self.group = group;
    }

    /// Where the first candidate was another line's.
    #[inline(never)]
    fn look_further(&self, pending: &Pending, origin: &Origin<'_>) -> Option<Hit> {
        let found = self.cache.find(pending.hash, &origin.key(&pending.line));
        found.map(|(_, hit)| hit)
    }

    /// Finds out where and how much to add, for a line that needs no more.
    #[inline(always)]
    fn look_up(&self, pending: &mut Pending, origin: &Origin<'_>) {
        let Found::Small(value) = pending.line.value else {
            return;
        };
        let key = origin.key(&pending.line);
        let hit = self.cache.check(pending.entry, &key);
        let Some(hit) = hit.or_else(|| self.look_further(pending, origin)) else {
            return;
        };
        let factor = self.plans.factor(hit.plan);
        let (units, overflow) = u64::from(value).overflowing_mul(factor);
        pending.slot = hit.payload;
        pending.units = units;
        pending.row = Row::from_number(hit.row);
        pending.small = factor != 0 && !overflow;
    }

    /// Counts any line.
    #[inline(never)]
    fn count_slowly<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        origin: &Origin<'_>,
        pending: &Pending,
    ) {
        let line = &pending.line;
        let bytes = &origin.buffer[line.at as usize..line.end as usize];
        if line.value == Found::Odd {
            return count_odd(counting, bytes);
        }
        let values_at = usize::from(line.name_len) + 1;
        let values = &bytes[values_at..(line.suffix_at - line.at) as usize - 1];
        let key = origin.key(line);
        if let Some(known) = self.known(pending.hash, &key) {
            return self.count_values(counting, origin.now, &known, values);
        }
        if let Some(ignored) = Ignored::of(bytes) {
            return counting.writer.ignored(ignored);
        }
        match self.learn(counting, origin.now, pending.hash, &key, values) {
            Ok((known, at)) => self.count_values(counting, at, &known, values),
            Err(Refused { events, refusal }) => {
                counting.receive_refused(&refusal, events);
                counting.reject(&refusal, events);
            }
        }
    }

    fn count_values<R: Region>(
        &mut self,
        counting: &mut Counting<R>,
        now: Timestamp,
        known: &Known,
        values: &[u8],
    ) {
        let events = split_values(known.plan.kind, values).count() as u64;
        counting.writer.received(events);
        counting.writer.received_for(known.row, events);
        let fraction = known.plan.fraction();
        let before = fraction.map(|rate| {
            let carried = self.cache.carry(known.entry);
            carried.unwrap_or(rate.carry())
        });
        let mut place = Place {
            slot: Slot::from_bits(known.payload),
            carry: before,
            now,
            row: known.row,
        };
        for value in split_values(known.plan.kind, values) {
            if let Err(error) = place.count(counting, &known.plan, value) {
                match error {
                    CountError::Refused(_) => counting.reject(&error.into(), 1),
                    error => counting.reject_in(place.row, &error, 1),
                }
            }
        }
        if let Some(carry) = place.carry.filter(|_| place.carry != before) {
            self.cache.set_carry(known.entry, carry);
        }
    }

    fn known(&self, hash: u64, key: &LineKey<'_>) -> Option<Known> {
        let (entry, hit) = self.cache.find(hash, key)?;
        Some(Known {
            payload: hit.payload,
            plan: *self.plans.get(hit.plan)?,
            row: Row::from_number(hit.row),
            entry,
        })
    }
}

/// Receives the lines of a group that need no more than an add, for their tenants.
#[inline]
fn receive<R: Region>(sums: &SumsAtRate<'_, R>, group: &[Pending]) {
    for pending in group.iter().filter(|pending| pending.small) {
        sums.received_for(pending.row, 1);
    }
}

/// Counts such lines up to the first other one, or one that is refused with the error.
#[inline]
fn count_small<'g, R: Region>(
    sums: &SumsAtRate<'_, R>,
    group: &mut &'g [Pending],
) -> Option<(&'g Pending, Option<AddError>)> {
    while let Some((pending, rest)) = group.split_first() {
        *group = rest;
        if !pending.small {
            return Some((pending, None));
        }
        if let Err(error) = sums.add(Slot::from_bits(pending.slot), pending.units) {
            return Some((pending, Some(error)));
        }
    }
    None
}

/// Counts a line that has no value to look for.
#[cold]
fn count_odd<R: Region>(counting: &mut Counting<R>, line: &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return;
    }
    let malformed = match parse_line(line) {
        Item::Ignored(ignored) => return counting.writer.ignored(ignored),
        Item::Malformed(malformed) => malformed,
        // The scanner and the grammar agree about the form of a line.
        Item::Metric(_) => Malformed::Name,
    };
    counting.writer.received(1);
    counting.reject(&CountError::Malformed(malformed).into(), 1);
}

impl<R: Region> Tally<R> {
    /// Counts every line of the DogStatsD datagrams that lie in `buffer`, which has
    /// [`DATAGRAM_SLACK_BYTES`] behind each. `now` is the time of all of them.
    ///
    /// Nothing is allocated for lines that were seen before.
    pub fn handle_datagrams(
        &mut self,
        listener: Listener,
        buffer: &[u8],
        datagrams: impl IntoIterator<Item = Range<usize>>,
        now: Timestamp,
    ) {
        self.refresh();
        self.tend(now);
        if self.is_watched() {
            self.observe_datagrams(listener, buffer, datagrams, now);
        } else {
            self.count_datagrams(listener, buffer, datagrams, now);
        }
    }

    /// The same without a look at what may have changed.
    pub(in crate::input) fn count_datagrams(
        &mut self,
        listener: Listener,
        buffer: &[u8],
        datagrams: impl IntoIterator<Item = Range<usize>>,
        now: Timestamp,
    ) {
        let Self {
            counting, lines, ..
        } = self;
        if lines.plans.is_to_renew(now) {
            lines.forget_rated(now);
        }
        let origin = Origin {
            listener,
            buffer,
            now,
        };
        for datagram in datagrams {
            if !lines.scanner.start(buffer, datagram.start, datagram.len()) {
                // Counted from a copy that has room behind it.
                lines.flush(counting, &origin);
                lines.count_padded(counting, &origin, datagram);
                continue;
            }
            while let Some(line) = lines.scanner.next(buffer) {
                if lines.push(&origin, line) {
                    lines.flush(counting, &origin);
                }
            }
        }
        lines.flush(counting, &origin);
    }

    /// Counts every line of a DogStatsD datagram.
    pub fn handle_datagram(&mut self, listener: Listener, datagram: &[u8], now: Timestamp) {
        let whole = std::iter::once(0..datagram.len());
        self.handle_datagrams(listener, datagram, whole, now);
    }
}
