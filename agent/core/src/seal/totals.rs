//! Running totals: what the incarnation has counted for each tenant, meter and scale.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use tollgate_common::limits::VALUE_UNITS_MAX;
use tollgate_common::wire::{EncodeError, RecordStream, TotalRef};
use tollgate_common::{Aggregation, Quantity, Scale, SeriesRef};

use super::SealError;
use crate::aggregate::{Cells, PairTotal, Region};

/// Bytes that a total takes in a batch beside its names, generously.
const TOTAL_BYTES: usize = 48;

/// A tenant's meter at a scale.
struct Pair {
    /// Tenant and meter as a canonical key begins, and a zero: a key without dimensions.
    names: Box<[u8]>,
    scale: Scale,
    /// Everything counted in batches that are durable.
    total: u128,
    /// What the batch at hand adds.
    counted: Option<u128>,
    /// A part of the seal at hand has told the total.
    told: bool,
    /// Events in batches that are durable, and those that the batch at hand adds.
    events: (u64, u64),
    /// The batch at hand has rows of it.
    busy: bool,
    /// The cells have room for it, and it is not damaged. Without room, it would be forgotten
    /// with this process, and so it is never told.
    kept: bool,
}

/// All pairs.
///
/// The table is for finding a pair only; nothing that can be observed follows its order, so
/// its fixed seed is harmless. Who could choose keys to collide would slow the meeting of
/// new series, which are bounded.
#[derive(Default)]
pub(super) struct Totals {
    pairs: Vec<Pair>,
    table: HashTable<u32>,
    hasher: FixedState,
    /// Pairs that the batch at hand tells.
    touched: Vec<u32>,
    /// Pairs that it has rows of: their totals in the cells differ between the parities.
    busy: Vec<u32>,
    loaded: bool,
    /// The batch at hand has rows of a sum whose total is not kept, and so is not told.
    untold: bool,
    /// A batch had rows whose amount is in no total, because of their aggregation.
    beside: bool,
    /// The pair that was asked for last.
    last: u32,
}

impl Totals {
    /// Learns the totals that the cells keep, once.
    pub(super) fn load<R: Region>(&mut self, cells: &Cells<R>) {
        if std::mem::replace(&mut self.loaded, true) {
            return;
        }
        for index in 0..cells.pairs() {
            let total = cells.pair_total(index, cells.applied());
            let (names, scale) = cells.pair(index).unwrap_or_default();
            // A damaged one keeps its place and is found by nobody.
            let at = self.insert(names.into(), scale);
            let pair = &mut self.pairs[at as usize];
            (pair.total, pair.events.0) = (total.sum, total.events);
            // So much nobody has counted: a collector would refuse every batch that tells it.
            pair.kept = total.sum <= VALUE_UNITS_MAX.unsigned_abs();
        }
    }

    /// A slot of this series is there.
    pub(super) fn meet<R: Region>(
        &mut self,
        cells: &Cells<R>,
        series: SeriesRef<'_>,
        scale: Scale,
    ) {
        if self.find(series, scale).is_none() {
            let names = [series.names(), &[0]].concat();
            let index = self.insert(names.into(), scale);
            let kept = index == cells.pairs() && {
                let names = &self.pairs[index as usize].names;
                cells.put_pair(names, scale)
            };
            self.pairs[index as usize].kept = kept;
        }
    }

    /// The batch at hand has a row of this series, which was met: its value and so many events.
    pub(super) fn count(
        &mut self,
        series: SeriesRef<'_>,
        (aggregation, scale): (Aggregation, Scale),
        value: i128,
        events: u64,
    ) {
        // Last values are not summed up, so that a lost one leaves no amount unknown.
        self.beside |= !matches!(aggregation, Aggregation::Sum | Aggregation::Last);
        let Some(index) = self.find(series, scale) else {
            return;
        };
        let pair = &mut self.pairs[index as usize];
        if !std::mem::replace(&mut pair.busy, true) {
            self.busy.push(index);
        }
        pair.events.1 = pair.events.1.wrapping_add(events);
        if aggregation != Aggregation::Sum {
            return;
        }
        if !pair.kept {
            self.untold = true;
            return;
        }
        if pair.counted.is_none() {
            self.touched.push(index);
        }
        // Saturation is reported as out of range when the total is told.
        pair.counted = Some(
            pair.counted
                .unwrap_or(0)
                .saturating_add(value.unsigned_abs()),
        );
    }

    /// Writes what the batch at hand makes of the totals into the cells, for batch `sequence`.
    pub(super) fn put<R: Region>(&self, cells: &Cells<R>, sequence: u64) {
        // A meter may be declared with another aggregation while the agent runs: its total goes
        // on and does not show that there is more.
        if self.beside {
            cells.note_beside_totals();
        }
        for &index in &self.busy {
            let pair = &self.pairs[index as usize];
            let total = PairTotal {
                sum: pair.total.saturating_add(pair.counted.unwrap_or(0)),
                events: pair.events.0.wrapping_add(pair.events.1),
            };
            if pair.kept {
                cells.put_pair_total(index, sequence, total);
            }
        }
    }

    /// Makes all totals that are not in force after batch `applied` those that are.
    pub(super) fn catch_up_all<R: Region>(cells: &Cells<R>, applied: u64) {
        for index in 0..cells.pairs() {
            Self::catch_up(cells, index, applied);
        }
    }

    fn catch_up<R: Region>(cells: &Cells<R>, index: u32, applied: u64) {
        let total = cells.pair_total(index, applied);
        cells.put_pair_total(index, applied.wrapping_add(1), total);
    }

    fn find(&mut self, series: SeriesRef<'_>, scale: Scale) -> Option<u32> {
        let names = series.names();
        let is = |pair: &Pair| pair.scale == scale && pair.is_named(names);
        // Series come in order, so that the pair is mostly the one before.
        if self.pairs.get(self.last as usize).is_some_and(is) {
            return Some(self.last);
        }
        let hash = self.hasher.hash_one((names, scale));
        let found = self
            .table
            .find(hash, |&index| is(&self.pairs[index as usize]));
        self.last = *found?;
        Some(self.last)
    }

    fn insert(&mut self, names: Box<[u8]>, scale: Scale) -> u32 {
        let index = u32::try_from(self.pairs.len()).expect("pairs are fewer than 2^32");
        self.pairs.push(Pair {
            names,
            scale,
            total: 0,
            counted: None,
            told: false,
            events: (0, 0),
            busy: false,
            kept: true,
        });
        let hash = |pair: &Pair| self.hasher.hash_one((pair.names(), pair.scale));
        let pairs = &self.pairs;
        self.table
            .insert_unique(hash(&pairs[index as usize]), index, |&other| {
                hash(&pairs[other as usize])
            });
        self.last = index;
        index
    }

    /// True if all totals that no part of the seal has told yet fit into a batch of `bytes` so
    /// far.
    pub(super) fn rest_fits(&self, bytes: usize, bytes_max: usize) -> bool {
        let rest = self.pairs.iter().filter(|pair| pair.is_left());
        bytes.saturating_add(rest.map(Pair::bytes).sum()) <= bytes_max
    }

    /// Adds totals that no part of the seal has told yet to those of the batch at hand, whose
    /// rows are counted, as long as there is room.
    pub(super) fn add_rest(&mut self, mut bytes: usize, bytes_max: usize) {
        for (index, pair) in (0..).zip(&self.pairs) {
            if pair.is_left() && pair.counted.is_none() {
                if bytes >= bytes_max {
                    return;
                }
                bytes += pair.bytes();
                self.touched.push(index);
            }
        }
    }

    /// Tells the totals of the batch at hand, in order.
    pub(super) fn tell(&mut self, record: &mut RecordStream) -> Result<(), SealError> {
        let pairs = &mut self.pairs;
        self.touched.sort_unstable_by(|&a, &b| {
            let rank = |index: u32| {
                let pair = &pairs[index as usize];
                (SeriesRef::new(&pair.names), pair.scale)
            };
            rank(a).cmp(&rank(b))
        });
        record.begin_totals(self.touched.len(), !self.untold);
        for &index in &self.touched {
            let pair = &mut pairs[index as usize];
            pair.told = true;
            let names = SeriesRef::new(&pair.names);
            let total = pair.total.checked_add(pair.counted.unwrap_or(0));
            let out_of_range = || SealError::Total {
                tenant: String::from_utf8_lossy(names.tenant()).into_owned(),
                meter: String::from_utf8_lossy(names.meter()).into_owned(),
            };
            let quantity = |units: u128| {
                let units = i128::try_from(units).map_err(|_| out_of_range())?;
                Ok::<_, SealError>(Quantity::new(units))
            };
            let told: Result<(), EncodeError> = record.total(&TotalRef {
                names,
                scale: pair.scale,
                quantity: quantity(total.ok_or_else(out_of_range)?)?,
                counted: pair.counted.map(quantity).transpose()?,
            });
            told?;
        }
        Ok(())
    }

    /// The batch at hand is durable, or it is given up.
    pub(super) fn settle<R: Region>(&mut self, cells: &Cells<R>, applied: u64, durable: bool) {
        self.touched.clear();
        self.untold = false;
        for index in self.busy.drain(..) {
            let pair = &mut self.pairs[index as usize];
            let counted = pair.counted.take().filter(|_| durable);
            pair.total = pair.total.saturating_add(counted.unwrap_or(0));
            let events = std::mem::take(&mut pair.events.1);
            pair.events.0 = pair.events.0.wrapping_add(if durable { events } else { 0 });
            pair.busy = false;
            if pair.kept {
                Self::catch_up(cells, index, applied);
            }
        }
    }

    /// A seal begins anew: nothing is told.
    pub(super) fn forget_told(&mut self) {
        for pair in &mut self.pairs {
            pair.told = false;
        }
    }
}

impl Pair {
    fn names(&self) -> &[u8] {
        self.names.split_last().map_or(&[], |(_, names)| names)
    }

    fn bytes(&self) -> usize {
        self.names.len() + TOTAL_BYTES
    }

    /// True if there is something to tell that is not told.
    fn is_left(&self) -> bool {
        !self.told && self.kept && self.total > 0
    }

    fn is_named(&self, names: &[u8]) -> bool {
        self.names() == names
    }
}
