//! What the sealer knows about slots: their series, decoded once, and the tenants and meters
//! that have running totals.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use tollgate_common::{Aggregation, MeterName, Scale, SeriesKey, TenantId};

use crate::aggregate::{Cells, Region, SlotKey};

/// A tenant's meter at a scale.
pub(crate) type Pair = (TenantId, MeterName, Scale);

/// What a slot counts.
#[derive(Debug)]
pub(crate) enum Known {
    /// A series.
    Series {
        key: Arc<SeriesKey>,
        scale: Scale,
        kind: Kind,
    },
    /// Its description does not match its checksum: what it counts is not known.
    Damaged,
}

/// How a series is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the sum cell of the slot, and in the total of this pair.
    Sum { pair: u32 },
    /// In this last-value cell.
    Last { cell: u32 },
}

/// A slot, and whether it is seen for the first time.
pub(crate) struct Met<'a> {
    pub(crate) known: &'a Known,
    pub(crate) is_new: bool,
}

/// Everything known, by writer and slot.
///
/// The map is for finding a pair only; nothing that can be observed follows its order, so its
/// fixed seed is harmless. Who could choose keys to collide would slow the meeting of new
/// series, which are bounded.
#[derive(Default)]
pub(crate) struct Registry {
    writers: Vec<Vec<Known>>,
    pairs: Vec<Pair>,
    index: HashMap<Pair, u32, FixedState>,
}

impl Registry {
    /// What is known of a slot. Slots are met in order.
    pub(crate) fn meet<R: Region>(&mut self, cells: &Cells<R>, writer: u32, slot: u32) -> Met<'_> {
        let (at, slot_at) = (writer as usize, slot as usize);
        if self.writers.len() <= at {
            self.writers.resize_with(at + 1, Vec::new);
        }
        let is_new = self.writers[at].len() <= slot_at;
        if is_new {
            let known = match cells.key(writer, slot) {
                Some(key) => self.describe(key),
                None => Known::Damaged,
            };
            self.writers[at].push(known);
        }
        Met {
            known: &self.writers[at][slot_at],
            is_new,
        }
    }

    fn describe(&mut self, slot: SlotKey) -> Known {
        let kind = match slot.aggregation {
            Aggregation::Last => Kind::Last { cell: slot.last },
            _ => Kind::Sum {
                pair: self.pair_of(&slot.key, slot.scale),
            },
        };
        Known::Series {
            key: Arc::new(slot.key),
            scale: slot.scale,
            kind,
        }
    }

    fn pair_of(&mut self, key: &SeriesKey, scale: Scale) -> u32 {
        let pair = (key.tenant().clone(), key.meter().clone(), scale);
        if let Some(&index) = self.index.get(&pair) {
            return index;
        }
        let index = u32::try_from(self.pairs.len()).expect("pairs are no more than slots");
        self.pairs.push(pair.clone());
        self.index.insert(pair, index);
        index
    }

    pub(crate) fn pair(&self, index: u32) -> &Pair {
        &self.pairs[index as usize]
    }
}
