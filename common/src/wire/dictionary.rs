//! The series dictionary of one direction of a connection, and what both sides remember
//! about each series to guess its next row.
//!
//! Encoder and decoder run exactly this code on the same rows in the same order, so that
//! their states are equal after every frame. A guess is never trusted: what travels is the
//! difference to it, in arithmetic that wraps, so that any value can be expressed whatever
//! was guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definitions::rank;
use crate::batch::Total;
use crate::ids::{Incarnation, MeterName, TenantId};
use crate::limits::{DICTIONARY_BYTES_MAX, DICTIONARY_SERIES_MAX};
use crate::meter::{Aggregation, Scale};
use crate::quantity::Quantity;
use crate::series::SeriesKey;

/// Bytes that an entry stands for beyond its key and dimensions.
const ENTRY_BYTES: usize = 256;
/// Bytes that each dimension stands for beyond its key and value.
const DIMENSION_BYTES: usize = 96;
/// In place of an index into the totals: this series has no running total.
const NO_TOTAL: u32 = u32::MAX;
/// In place of an index into the entries.
const NO_ENTRY: u32 = u32::MAX;
/// Memory for so many entries is kept when the dictionary starts over.
const ENTRIES_KEPT: usize = 1 << 15;

const _: () = assert!(DICTIONARY_SERIES_MAX < NO_TOTAL as usize);

/// The dictionary would grow beyond its bound.
#[derive(Debug)]
pub(super) struct Full;

/// A series with the two properties that rows share.
pub(super) struct Entry {
    pub(super) series: Arc<SeriesKey>,
    pub(super) aggregation: Aggregation,
    pub(super) scale: Scale,
    total: u32,
    /// The series whose row came after this one's when it was last seen.
    successor: u32,
    /// A series that is known to come after this one in the order of rows; [`NO_ENTRY`] at first.
    after: u32,
    history: History,
}

/// What is guessed about the number of events.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum EventGuess {
    /// As many as the value: requests counted one by one.
    #[default]
    Value,
    /// As many as last time: a poll at a fixed interval.
    Last,
    /// As many per value as last time: a mean size.
    Ratio,
}

/// The last row of a series; for a new series, that of the row before it in the batch.
#[derive(Clone, Copy, Default)]
pub(super) struct History {
    value: i128,
    events: u64,
    event_guess: EventGuess,
    /// Above zero if the value before was a better guess of the value than zero. In [-16, 16].
    trust: i8,
    /// False until the first row of the series itself.
    own: bool,
}

impl History {
    /// The guess of the next value.
    pub(super) const fn value(&self) -> i128 {
        if self.trust > 0 { self.value } else { 0 }
    }

    /// The guess of the next number of events, once the value is known.
    pub(super) fn events(&self, value: i128) -> u64 {
        match self.event_guess {
            EventGuess::Value => low_bits(value),
            EventGuess::Last => self.events,
            EventGuess::Ratio => self.ratio(value),
        }
    }

    fn ratio(&self, value: i128) -> u64 {
        let short = |n: i128| u32::try_from(n).ok();
        match (short(value), short(self.value), u32::try_from(self.events)) {
            (Some(value), Some(last @ 1..), Ok(events)) => {
                (u64::from(value) * u64::from(events) + u64::from(last / 2)) / u64::from(last)
            }
            _ => self.events,
        }
    }

    /// What a new series begins with whose row comes after one with this history.
    pub(super) const fn handed_on(self) -> Self {
        Self {
            trust: 0,
            own: false,
            ..self
        }
    }

    /// Remembers a row of the series.
    pub(super) fn observe(&mut self, value: i128, events: u64) {
        if self.own {
            let gain = bits(value) - bits(value.wrapping_sub(self.value));
            let gain = i8::try_from(gain.clamp(-4, 4)).unwrap_or(0);
            self.trust = (self.trust + gain).clamp(-16, 16);
        }
        let by_value = low_bits(value).abs_diff(events);
        self.event_guess = if by_value == 0 {
            EventGuess::Value
        } else {
            let by_last = self.events.abs_diff(events);
            let by_ratio = self.ratio(value).abs_diff(events);
            if by_last <= by_ratio && by_last <= by_value {
                EventGuess::Last
            } else if by_ratio <= by_value {
                EventGuess::Ratio
            } else {
                EventGuess::Value
            }
        };
        self.value = value;
        self.events = events;
        self.own = true;
    }
}

/// Bits of the magnitude.
const fn bits(value: i128) -> i32 {
    128 - value.unsigned_abs().leading_zeros().cast_signed()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a guess: any number will do, as long as both sides compute the same"
)]
const fn low_bits(value: i128) -> u64 {
    value as u64
}

/// What is known about one running total.
struct TotalState {
    tenant: TenantId,
    meter: MeterName,
    scale: Scale,
    /// The total in the newest batch that had it, valid in `epoch` only.
    known: i128,
    epoch: u64,
    /// Sum of the rows of the batch at hand.
    pending: i128,
    touched: bool,
}

/// The dictionary; references are indices into it.
pub(super) struct Dictionary {
    entries: Vec<Entry>,
    bytes: usize,
    /// [`DICTIONARY_BYTES_MAX`], less in tests.
    bytes_max: usize,
    totals: Vec<TotalState>,
    total_index: BTreeMap<(TenantId, MeterName, Scale), u32>,
    /// Totals with rows in the batch at hand.
    touched: Vec<u32>,
    incarnation: Option<Incarnation>,
    /// Counts the changes of incarnation; totals of an incarnation before do not count.
    epoch: u64,
    /// The first series of the last batch.
    first: u32,
    /// The series of the last row of the batch at hand.
    last: Option<u32>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self::with_bytes_max(DICTIONARY_BYTES_MAX)
    }
}

impl Dictionary {
    pub(super) const fn with_bytes_max(bytes_max: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            bytes_max,
            totals: Vec::new(),
            total_index: BTreeMap::new(),
            touched: Vec::new(),
            incarnation: None,
            epoch: 0,
            first: 0,
            last: None,
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        entries.shrink_to(ENTRIES_KEPT);
        *self = Self {
            entries,
            ..Self::with_bytes_max(self.bytes_max)
        };
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, reference: usize) -> Option<&Entry> {
        self.entries.get(reference)
    }

    /// The series that was defined last.
    pub(super) fn newest(&self) -> Option<&SeriesKey> {
        self.entries.last().map(|entry| &*entry.series)
    }

    /// Adds a series at the end. Whether it is there already is for the caller to know.
    pub(super) fn define(
        &mut self,
        series: Arc<SeriesKey>,
        key_bytes: usize,
        aggregation: Aggregation,
        scale: Scale,
    ) -> Result<(), Full> {
        let bytes = entry_bytes(key_bytes, series.dimensions().len());
        let bytes = self.bytes.saturating_add(bytes);
        if bytes > self.bytes_max || self.entries.len() >= DICTIONARY_SERIES_MAX {
            return Err(Full);
        }
        self.bytes = bytes;
        let total = match aggregation {
            Aggregation::Sum => self.total_of(&series, scale),
            _ => NO_TOTAL,
        };
        let next = index32(self.entries.len() + 1);
        self.entries.push(Entry {
            series,
            aggregation,
            scale,
            total,
            successor: next,
            after: NO_ENTRY,
            history: History::default(),
        });
        Ok(())
    }

    fn total_of(&mut self, series: &SeriesKey, scale: Scale) -> u32 {
        // Series are defined in order, so that the one before mostly has the same total.
        if let Some(before) = self.entries.last()
            && let Some(total) = self.totals.get(before.total as usize)
            && total.scale == scale
            && total.meter == *series.meter()
            && total.tenant == *series.tenant()
        {
            return before.total;
        }
        let key = (series.tenant().clone(), series.meter().clone(), scale);
        let totals = &mut self.totals;
        *self.total_index.entry(key).or_insert_with_key(|key| {
            totals.push(TotalState {
                tenant: key.0.clone(),
                meter: key.1.clone(),
                scale,
                known: 0,
                epoch: 0,
                pending: 0,
                touched: false,
            });
            index32(totals.len() - 1)
        })
    }

    /// Begins a batch.
    pub(super) fn begin(&mut self, incarnation: Incarnation) {
        if self.incarnation != Some(incarnation) {
            self.incarnation = Some(incarnation);
            self.epoch += 1;
        }
        self.last = None;
    }

    /// The series of the row before in the batch at hand.
    pub(super) const fn last(&self) -> Option<u32> {
        self.last
    }

    /// The guess of the next row's series. It may not exist.
    pub(super) fn expected(&self) -> u32 {
        self.successor_of(self.last)
    }

    /// The guess of the series after `last`, or of the first one.
    pub(super) fn successor_of(&self, last: Option<u32>) -> u32 {
        last.and_then(|last| self.entries.get(last as usize))
            .map_or(self.first, |entry| entry.successor)
    }

    /// True if the rows of `reference` come after those of `last` in a batch. Both must exist and
    /// differ. Once found out, that takes one comparison of numbers.
    pub(super) fn is_after(&mut self, last: u32, reference: u32) -> bool {
        let (before, entry) = (
            &self.entries[last as usize],
            &self.entries[reference as usize],
        );
        if before.after == reference {
            return true;
        }
        if rank(before) >= rank(entry) {
            return false;
        }
        self.entries[last as usize].after = reference;
        true
    }

    /// The next row is of the series `reference`, which must exist. `new` says that this is
    /// its first row ever: it starts with the history of the row before, whose series is
    /// mostly of the same meter.
    pub(super) fn turn_to(&mut self, reference: u32, new: bool) -> &History {
        let inherited = match self.last {
            Some(last) if last != reference => {
                let before = &mut self.entries[last as usize];
                before.successor = reference;
                before.history
            }
            Some(_) => History::default(),
            None => {
                self.first = reference;
                History::default()
            }
        };
        self.last = Some(reference);
        let entry = &mut self.entries[reference as usize];
        if new {
            entry.history = inherited.handed_on();
        }
        &entry.history
    }

    /// Remembers the row of the series that [`Dictionary::turn_to`] turned to.
    pub(super) fn observe(&mut self, value: i128, events: u64) {
        let Some(last) = self.last else { return };
        let entry = &mut self.entries[last as usize];
        entry.history.observe(value, events);
        if let Some(total) = self.totals.get_mut(entry.total as usize) {
            total.pending = total.pending.wrapping_add(value);
            if !total.touched {
                total.touched = true;
                self.touched.push(entry.total);
            }
        }
    }

    /// The totals that a batch with these rows should carry, in order, each with its guess.
    pub(super) fn expected_totals(&mut self) -> impl ExactSizeIterator<Item = (Total, i128)> + '_ {
        let totals = &self.totals;
        // Rows are sorted by tenant and meter, but not by scale: rarely anything to do.
        self.touched.sort_by(|&a, &b| {
            let key = |index: u32| {
                let total = &totals[index as usize];
                (&total.tenant, &total.meter, total.scale)
            };
            key(a).cmp(&key(b))
        });
        let this = &*self;
        this.touched.iter().map(|&index| {
            let state = &this.totals[index as usize];
            let total = Total {
                tenant: state.tenant.clone(),
                meter: state.meter.clone(),
                scale: state.scale,
                quantity: Quantity::ZERO,
            };
            (total, this.guess(state))
        })
    }

    fn guess(&self, total: &TotalState) -> i128 {
        let known = if total.epoch == self.epoch {
            total.known
        } else {
            0
        };
        known.wrapping_add(total.pending)
    }

    /// The guess of one total, zero for one without series.
    pub(super) fn expected_total(&self, total: &Total) -> i128 {
        self.find_total(total)
            .map_or(0, |index| self.guess(&self.totals[index as usize]))
    }

    fn find_total(&self, total: &Total) -> Option<u32> {
        let key = (total.tenant.clone(), total.meter.clone(), total.scale);
        self.total_index.get(&key).copied()
    }

    /// Ends a batch: remembers its totals. `as_expected` says that they are those of
    /// [`Dictionary::expected_totals`], in number and order.
    pub(super) fn finish(&mut self, totals: &[Total], as_expected: bool) {
        for (position, total) in totals.iter().enumerate() {
            let index = if as_expected {
                self.touched.get(position).copied()
            } else {
                self.find_total(total)
            };
            if let Some(state) = index.and_then(|index| self.totals.get_mut(index as usize)) {
                state.known = total.quantity.units();
                state.epoch = self.epoch;
            }
        }
        for index in self.touched.drain(..) {
            let total = &mut self.totals[index as usize];
            total.pending = 0;
            total.touched = false;
        }
    }
}

/// What an entry counts towards the bound of a dictionary.
pub(super) const fn entry_bytes(key_bytes: usize, dimensions: usize) -> usize {
    ENTRY_BYTES + key_bytes + DIMENSION_BYTES * dimensions
}

/// An index that is known to be below [`DICTIONARY_SERIES_MAX`] + 1.
fn index32(index: usize) -> u32 {
    u32::try_from(index).expect("the dictionary is bounded below 2^32 entries")
}
