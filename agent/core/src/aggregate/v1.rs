//! Version 1 of the cells file, read only.
//!
//! What an agent of the foundation has left behind is brought to the present form as the life
//! that it was: the same incarnation, the same cuts, the same differences between cells and
//! baselines. What it holds is then sealed like what this version leaves behind.
//! `docs/formats/cells.md` describes both forms.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use tollgate::cell::sum::EVENTS_MASK;
use tollgate_common::limits::SERIES_KEY_BYTES_MAX;
use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::cells::Cells;
use super::header::{self, CellsError, Identity};
use super::layout::{BLOCK_HEAD_WORDS, CellsLayout, HEADER_WORDS, PAGE_WORDS, WIDE_UNIT};
use super::pairs::PairTotal;
use super::shared::{AT_ACCOUNT, AT_COUNT};
use super::slot::{SlotHead, State};
use super::wide;
use super::words::{crc32c, get_bytes, put_bytes, words_for};

/// The version that this module reads.
const VERSION: u64 = 1;
const SLOT_WORDS: usize = 3;
const SUM_WORDS: usize = 2;
const LAST_WORDS: usize = 10;
const BASE_WORDS: usize = 3;
/// Words of a last value in the present form.
const WIDE_WORDS: u32 = 16;

/// A region of version 1.
pub(crate) struct Old<'a> {
    words: &'a [AtomicU64],
    identity: Identity,
    writers: u32,
    series: u32,
    reserve: u32,
    last: u32,
    arena: u32,
}

/// One slot of it.
struct OldSlot {
    key: Vec<u8>,
    aggregation: Aggregation,
    scale: Scale,
    last: u32,
}

/// True if a region whose first page is whole is of version 1.
pub(crate) fn is_old(words: &[AtomicU64]) -> bool {
    header::version(words) == Ok(VERSION)
}

/// The running totals in the making, by names and scale.
#[derive(Default)]
struct Totals(BTreeMap<(Vec<u8>, Scale), u32>);

impl Totals {
    fn add(
        &mut self,
        cells: &Cells<&[AtomicU64]>,
        (key, scale): (&[u8], Scale),
        parity: u64,
        (sum, events): (u128, u64),
    ) {
        if SeriesRef::new(key).check().is_err() {
            return;
        }
        let names = [SeriesRef::new(key).names(), &[0]].concat();
        let of = (names, scale);
        let index = match self.0.get(&of) {
            Some(index) => *index,
            None => {
                let index = cells.pairs();
                if !cells.put_pair(&of.0, scale) {
                    return;
                }
                self.0.insert(of, index);
                index
            }
        };
        let before = cells.pair_total(index, parity);
        let total = PairTotal {
            sum: before.sum.saturating_add(sum),
            events: before.events.wrapping_add(events),
        };
        cells.put_pair_total(index, parity, total);
    }
}

impl<'a> Old<'a> {
    /// Checks the header of a region.
    pub(crate) fn read(words: &'a [AtomicU64]) -> Result<Self, CellsError> {
        let version = header::version(words)?;
        if version != VERSION {
            return Err(CellsError::Version(version));
        }
        let half = |at: usize, shift: u32| {
            let half = words[at].load(Relaxed) >> shift & 0xffff_ffff;
            u32::try_from(half).expect("masked to 32 bits")
        };
        let (writers, series, reserve, last) = (half(2, 32), half(2, 0), half(3, 32), half(3, 0));
        let arena = half(4, 0);
        let field = |good: bool, name| good.then_some(()).ok_or(CellsError::Field(name));
        field((1..=64).contains(&writers), "number of writers")?;
        field((1..1 << 21).contains(&series), "number of series")?;
        field(reserve < series, "number of overflow slots")?;
        field(last <= 1 << 21, "number of last values")?;
        field(
            arena > 0 && arena < 1 << 30 && half(4, 32) == 0,
            "words of keys",
        )?;
        let old = Self {
            words,
            identity: Identity::read_fields(words, writers)?,
            writers,
            series,
            reserve,
            last,
            arena,
        };
        let expected = HEADER_WORDS + writers as usize * old.block_words();
        if words.len() < expected {
            return Err(CellsError::Short {
                expected,
                actual: words.len(),
            });
        }
        Ok(old)
    }

    /// Whose counts these are.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sums_at(&self) -> usize {
        let keys_at = BLOCK_HEAD_WORDS + self.series as usize * SLOT_WORDS;
        (keys_at + self.arena as usize).next_multiple_of(8)
    }

    fn bases_at(&self) -> usize {
        let lasts_at = self.sums_at() + self.series as usize * SUM_WORDS;
        (lasts_at + self.last as usize * LAST_WORDS).next_multiple_of(8)
    }

    fn block_words(&self) -> usize {
        (self.bases_at() + 2 * self.series as usize * BASE_WORDS).next_multiple_of(PAGE_WORDS)
    }

    fn block(&self, writer: u32) -> &'a [AtomicU64] {
        let words = self.block_words();
        &self.words[HEADER_WORDS + writer as usize * words..][..words]
    }

    fn slot(&self, block: &[AtomicU64], slot: u32) -> Option<OldSlot> {
        let at = BLOCK_HEAD_WORDS + slot as usize * SLOT_WORDS;
        let [place, kind, checksum] = [0, 1, 2].map(|word: usize| block[at + word].load(Relaxed));
        let length = usize::try_from(place & 0xffff_ffff).ok()?;
        let key_at = usize::try_from(place >> 32).ok()?;
        if length > SERIES_KEY_BYTES_MAX || key_at + words_for(length) > self.arena as usize {
            return None;
        }
        let keys = BLOCK_HEAD_WORDS + self.series as usize * SLOT_WORDS;
        let key = get_bytes(&block[keys + key_at..], length);
        let mut bytes = [place.to_le_bytes(), kind.to_le_bytes()].concat();
        bytes.extend_from_slice(&key);
        let slot = OldSlot {
            aggregation: Aggregation::from_code(u8::try_from(kind >> 8 & 0xff).ok()?)?,
            scale: Scale::new(u8::try_from(kind & 0xff).ok()?).ok()?,
            last: u32::try_from(kind >> 32).ok()?,
            key,
        };
        let good = match slot.aggregation {
            Aggregation::Sum => true,
            Aggregation::Last => slot.last < self.last,
            _ => false,
        };
        (good && checksum == u64::from(crc32c(&bytes))).then_some(slot)
    }

    /// The layout that has room for the same.
    pub(crate) fn layout(&self) -> Result<CellsLayout, CellsError> {
        // A place before each key, at most; last values need no more of those than there are.
        let arena = u64::from(self.arena) + u64::from(self.series);
        let wide = (self.last + 1) * WIDE_WORDS + WIDE_UNIT;
        Ok(CellsLayout::from_words([
            u64::from(self.writers) << 32 | u64::from(self.series),
            u64::from(self.reserve) << 32 | u64::from(wide),
            arena,
            u64::from(self.series) * u64::from(self.writers).min(2),
        ])?)
    }

    /// Fills a region of zeros of that layout with the same life.
    pub(crate) fn fill(&self, words: &[AtomicU64]) -> Result<(), CellsError> {
        let layout = self.layout()?;
        self.identity.write(layout, words);
        let progress = PAGE_WORDS..HEADER_WORDS;
        for (from, to) in self.words[progress.clone()].iter().zip(&words[progress]) {
            to.store(from.load(Relaxed), Relaxed);
        }
        let cells = Cells::open(words)?;
        let mut totals = Totals::default();
        for writer in 0..self.writers {
            self.fill_writer(&cells, &mut totals, writer);
        }
        Ok(())
    }

    fn fill_writer(&self, cells: &Cells<&[AtomicU64]>, totals: &mut Totals, writer: u32) {
        let (block, layout, words) = (self.block(writer), cells.layout(), cells.words());
        let head = &words[layout.head(writer)];
        for (from, to) in block[AT_ACCOUNT..BLOCK_HEAD_WORDS]
            .iter()
            .zip(&head[AT_ACCOUNT..])
        {
            to.store(from.load(Relaxed), Relaxed);
        }
        let (slots, keys) = (&words[layout.slots(writer)], &words[layout.keys(writer)]);
        let (mut key_at, mut place) = (0, WIDE_UNIT);
        let count = u32::try_from(block[AT_COUNT].load(Relaxed)).unwrap_or(u32::MAX);
        let count = count.min(self.series);
        for slot in 0..count {
            let base_at = |parity: usize| {
                let at = parity * self.series as usize + slot as usize;
                self.bases_at() + at * BASE_WORDS
            };
            let bases = [0, 1].map(|parity| {
                [0, 1, 2].map(|word: usize| block[base_at(parity) + word].load(Relaxed))
            });
            let sum_at = self.sums_at() + slot as usize * SUM_WORDS;
            let mut now = [0, 1].map(|word: usize| block[sum_at + word].load(Relaxed));
            let mut cuts = bases.map(|[low, _, events]| [low, events]);
            // Without a good description the slot stays damaged, and what it counts is
            // declared lost as before.
            if let Some(old) = self.slot(block, slot) {
                let head = SlotHead {
                    key_at,
                    key_bytes: u32::try_from(old.key.len()).expect("keys are short"),
                    mirrors: false,
                    aggregation: old.aggregation,
                    scale: old.scale,
                    generation: 0,
                    state: State::Live,
                };
                if old.aggregation == Aggregation::Last {
                    (now, cuts) =
                        self.fill_last((block, &old), cells.heap(writer), (place, slot), bases);
                    keys[key_at as usize].store(place.into(), Relaxed);
                    place += WIDE_WORDS;
                }
                put_bytes(head.key_words(keys), &old.key);
                head.write(&slots[slot as usize * 2..], keys);
                key_at += head.room();
                for (parity, [low, high, _]) in (0..).zip(bases) {
                    let sum = u128::from(high) << 64 | u128::from(low);
                    let sum = if old.aggregation == Aggregation::Sum {
                        sum
                    } else {
                        0
                    };
                    let events = cuts[usize::from(parity == 1)][1];
                    totals.add(cells, (&old.key, old.scale), parity, (sum, events));
                }
            }
            let sums = &words[layout.sums(writer)][slot as usize * 2..];
            sums[0].store(now[0], Relaxed);
            sums[1].store(now[1] & EVENTS_MASK, Relaxed);
            for (parity, [sum, events]) in (0..).zip(cuts) {
                let base = &words[layout.bases(writer, parity)][slot as usize * 2..];
                base[0].store(sum, Relaxed);
                base[1].store(events & EVENTS_MASK, Relaxed);
            }
        }
        head[AT_COUNT].store(count.into(), Release);
    }

    /// Copies a last value into a wide cell; its sum cell and baselines count its events.
    fn fill_last(
        &self,
        (block, old): (&[AtomicU64], &OldSlot),
        heap: &[AtomicU64],
        (place, slot): (u32, u32),
        bases: [[u64; 3]; 2],
    ) -> ([u64; 2], [[u64; 2]; 2]) {
        let lasts_at = self.sums_at() + self.series as usize * SUM_WORDS;
        let cell = &block[lasts_at + old.last as usize * LAST_WORDS..][..LAST_WORDS];
        let wide = &heap[place as usize..][..WIDE_WORDS as usize];
        wide::put_owner(wide, slot, 0);
        for (from, to) in cell.iter().zip(&wide[wide::cell_range(Aggregation::Last)]) {
            to.store(from.load(Relaxed), Relaxed);
        }
        for (parity, [even, odd, _]) in (0..).zip(bases) {
            let base = &wide[wide::base_range(Aggregation::Last, parity)];
            base[0].store(even, Relaxed);
            base[1].store(odd, Relaxed);
        }
        let events = tollgate::cell::halves::events(cell);
        (
            [0, events],
            bases.map(|[even, odd, _]| [0, even.wrapping_add(odd)]),
        )
    }
}
