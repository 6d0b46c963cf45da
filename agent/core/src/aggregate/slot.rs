//! Slots: what a cell counts.
//!
//! A slot describes one series of one writer: where its key lies among the writer's keys,
//! its aggregation and scale, the index of its last-value cell, and a checksum over all of
//! that. The slot is complete before the writer publishes it by a release store of the
//! number of its slots. A reader checks it before it believes it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;
use tollgate_common::{Aggregation, Scale};

use super::layout::CellsLayout;
use super::words::{crc32c, get_bytes, words_for};

/// A slot's own words, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotHead {
    /// First word of the key among the writer's keys.
    pub(crate) key_at: u32,
    /// Bytes of the key.
    pub(crate) key_bytes: u32,
    pub(crate) aggregation: Aggregation,
    pub(crate) scale: Scale,
    /// Index of the last-value cell; 0 for sums.
    pub(crate) last: u32,
}

/// A slot whose checksum and key were good.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the index is looked at by tests only")
)]
pub(crate) struct SlotKey {
    pub(crate) key: tollgate_common::SeriesKey,
    pub(crate) aggregation: Aggregation,
    pub(crate) scale: Scale,
    pub(crate) last: u32,
}

impl SlotHead {
    fn first_words(self) -> [u64; 2] {
        [
            u64::from(self.key_at) << 32 | u64::from(self.key_bytes),
            u64::from(self.last) << 32
                | u64::from(self.aggregation.code()) << 8
                | u64::from(self.scale.get()),
        ]
    }

    fn checksum(self, key: &[u8]) -> u64 {
        let mut bytes = Vec::with_capacity(16 + key.len());
        for word in self.first_words() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(key);
        u64::from(crc32c(&bytes))
    }

    pub(crate) fn write(self, slot: &[AtomicU64], key: &[u8]) {
        let [place, kind] = self.first_words();
        slot[0].store(place, Relaxed);
        slot[1].store(kind, Relaxed);
        slot[2].store(self.checksum(key), Relaxed);
    }

    /// Reads the words of a slot, or `None` where they name something that cannot be. The
    /// checksum is not looked at.
    pub(crate) fn parse(layout: CellsLayout, slot: &[AtomicU64]) -> Option<Self> {
        let [place, kind] = [0, 1].map(|at: usize| slot[at].load(Relaxed));
        let head = Self {
            key_at: u32::try_from(place >> 32).ok()?,
            key_bytes: u32::try_from(place & 0xffff_ffff).ok()?,
            // This version of the file has cells for these two alone.
            aggregation: Aggregation::from_code(u8::try_from(kind >> 8 & 0xff).ok()?)
                .filter(|kind| matches!(kind, Aggregation::Sum | Aggregation::Last))?,
            scale: Scale::new(u8::try_from(kind & 0xff).ok()?).ok()?,
            last: u32::try_from(kind >> 32).ok()?,
        };
        let length = usize::try_from(head.key_bytes).ok()?;
        let end = usize::try_from(head.key_at).ok()? + words_for(length);
        let inside = length <= SERIES_KEY_BYTES_MAX
            && end <= layout.arena() as usize
            && (head.aggregation == Aggregation::Sum || head.last < layout.last());
        inside.then_some(head)
    }

    /// True if the checksum in the words of the slot is that of this description and `key`.
    pub(crate) fn is_good(self, slot: &[AtomicU64], key: &[u8]) -> bool {
        slot[2].load(Relaxed) == self.checksum(key)
    }

    /// Reads a slot and its key, or `None` where anything about them is wrong.
    pub(crate) fn read(
        layout: CellsLayout,
        slot: &[AtomicU64],
        keys: &[AtomicU64],
    ) -> Option<(Self, Vec<u8>)> {
        let head = Self::parse(layout, slot)?;
        let key = get_bytes(&keys[head.key_at as usize..], head.key_bytes as usize);
        let good = slot[2].load(Relaxed) == head.checksum(&key);
        good.then_some((head, key))
    }
}
