//! Version 1 of the cells file, read only.
//!
//! What an agent of the foundation has left behind is brought to the present form as the life
//! that it was: the same incarnation, the same cuts, the same differences between cells and
//! baselines. What it holds is then sealed like what this version leaves behind.
//! `docs/formats/cells.md` describes both forms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use tollgate::cell::sum::EVENTS_MASK;
use tollgate_common::limits::SERIES_KEY_BYTES_MAX;
use tollgate_common::{Aggregation, Scale, SeriesRef};

use super::cells::Cells;
use super::header::{self, CellsError, Identity};
use super::layout::{
    BLOCK_HEAD_WORDS, CellsLayout, HEADER_WORDS, PAGE_WORDS, PAIR_NAME_WORDS, WIDE_UNIT,
};
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
        let index = if let Some(index) = self.0.get(&of) {
            *index
        } else {
            let index = cells.pairs();
            if !cells.put_pair(&of.0, scale) {
                return;
            }
            self.0.insert(of, index);
            index
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
            self.pairs(),
        ])?)
    }

    /// Running totals to make room for: one for each tenant, meter and scale, and more where
    /// their names are long.
    fn pairs(&self) -> u64 {
        let mut names: BTreeSet<(Vec<u8>, Scale)> = BTreeSet::new();
        for writer in 0..self.writers {
            let block = self.block(writer);
            for slot in (0..self.published(block)).filter_map(|slot| self.slot(block, slot)) {
                let series = SeriesRef::new(&slot.key);
                if series.check().is_ok() {
                    names.insert((series.names().to_vec(), slot.scale));
                }
            }
        }
        // Behind each there is a zero.
        let words = names.iter().map(|(names, _)| words_for(names.len() + 1));
        let words: usize = words.sum();
        names.len().max(words.div_ceil(PAIR_NAME_WORDS)).max(1) as u64
    }

    fn published(&self, block: &[AtomicU64]) -> u32 {
        let count = u32::try_from(block[AT_COUNT].load(Relaxed)).unwrap_or(u32::MAX);
        count.min(self.series)
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
        let count = self.published(block);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_common::{
        AgentId, Dimensions, Incarnation, MeterName, SeriesKey, TenantId, Timestamp, WindowWidth,
    };

    use super::super::slot::SlotUse;
    use super::super::words::crc32c_words;
    use super::*;

    const SERIES: u32 = 6;
    const ARENA: u32 = 300;

    fn key(meter: &str, path: u32) -> SeriesKey {
        SeriesKey::new(
            TenantId::new(&"t".repeat(60)).expect("valid"),
            MeterName::new(meter).expect("valid"),
            Dimensions::new([("path", path.to_string())]).expect("valid"),
        )
        .expect("short")
    }

    /// What an agent of version 1 leaves behind, word by word as its document described: four
    /// sums and two last values, batch `applied` in force, and another cut under way.
    fn left_behind(applied: u64) -> Vec<AtomicU64> {
        let mut old = Old {
            words: &[],
            identity: Identity {
                agent: AgentId::new("edge-1").expect("valid"),
                incarnation: Incarnation::from_bytes([3; 16]),
                boot_id: [9; 16],
                opened_at: Timestamp::from_secs(1_780_000_000),
                window: WindowWidth::from_secs(10).expect("divides 900"),
                parent: None,
                inherited: None,
                writers: vec!["a".to_owned()],
            },
            writers: 1,
            series: SERIES,
            reserve: 1,
            last: 2,
            arena: ARENA,
        };
        let length = HEADER_WORDS + old.block_words();
        let words: Vec<AtomicU64> = (0..length + 8192).map(|_| AtomicU64::new(0)).collect();
        let put = |at: usize, value: u64| words[at].store(value, Relaxed);
        let layout = CellsLayout::new(1, 10, 4096).expect("in range");
        old.identity.write(layout, &words);
        put(1, VERSION);
        put(2, 1 << 32 | u64::from(SERIES));
        put(3, 1 << 32 | 2);
        put(4, ARENA.into());
        put(41, 0);
        put(511, crc32c_words(&words[..511]).into());
        put(512, applied);
        let block = HEADER_WORDS;
        let (slots, keys) = (block + BLOCK_HEAD_WORDS, SERIES as usize * SLOT_WORDS);
        let keys = slots + keys;
        let mut key_at = 0;
        for slot in 0..SERIES {
            let last = slot >= 4;
            let mut bytes = Vec::new();
            let meter = "m".repeat(40 + slot as usize / 2);
            key(&meter, slot).write_canonical(&mut bytes);
            let kind = if last {
                Aggregation::Last
            } else {
                Aggregation::Sum
            };
            let place = u64::from(key_at) << 32 | bytes.len() as u64;
            let kind = u64::from(slot.saturating_sub(4)) << 32 | u64::from(kind.code()) << 8 | 2;
            let mut checked = [place.to_le_bytes(), kind.to_le_bytes()].concat();
            checked.extend_from_slice(&bytes);
            let at = slots + slot as usize * SLOT_WORDS;
            put(at, place);
            put(at + 1, kind);
            put(at + 2, crc32c(&checked).into());
            put_bytes(&words[keys + key_at as usize..], &bytes);
            key_at += u32::try_from(words_for(bytes.len())).expect("short");
            for sequence in [applied, applied + 1] {
                let parity = usize::from(sequence & 1 == 1);
                let base = old.bases_at() + (parity * SERIES as usize + slot as usize) * BASE_WORDS;
                let step = if sequence == applied { 1 } else { 2 };
                let base = block + base;
                // (low, high, events) of a sum; counts of both halves of a last value.
                let of = if last {
                    [step, step + 1, 0]
                } else {
                    [100 * step, 0, 10 * step]
                };
                for (word, value) in (base..).zip(of) {
                    put(word, value);
                }
            }
            if last {
                let lasts = block + old.sums_at() + SERIES as usize * SUM_WORDS;
                let cell = lasts + (slot as usize - 4) * LAST_WORDS;
                put(cell, 5);
                put(cell + 5, 6);
            } else {
                put(
                    block + old.sums_at() + slot as usize * SUM_WORDS,
                    1000 + u64::from(slot),
                );
                put(block + old.sums_at() + slot as usize * SUM_WORDS + 1, 50);
            }
        }
        put(block + AT_COUNT, SERIES.into());
        put(block + AT_ACCOUNT, 500);
        old.words = &[];
        words
    }

    #[test]
    fn a_file_of_version_1_goes_on_as_the_life_that_it_was() {
        for applied in [4, 5] {
            let words = left_behind(applied);
            assert!(is_old(&words));
            let old = Old::read(&words).expect("whole");
            let layout = old.layout().expect("in range");
            let new: Vec<AtomicU64> = (0..layout.words()).map(|_| AtomicU64::new(0)).collect();
            old.fill(&new).expect("fits");
            assert!(!is_old(&new), "it is not converted twice");
            let cells = Cells::open(Arc::new(new)).expect("good");
            assert_eq!((cells.applied(), cells.published(0)), (applied, SERIES));
            assert_eq!(cells.identity(), old.identity());
            for slot in 0..SERIES {
                let now = cells.now(0, slot).expect("quiet");
                let SlotUse::Series(of) = cells.slot(0, slot, now.generation()) else {
                    panic!("slot {slot} of batch {applied}");
                };
                assert_eq!(of.key, key(&"m".repeat(40 + slot as usize / 2), slot));
                // As it was cut, and as the cut that was under way has it.
                for (sequence, step) in [(applied, 1), (applied + 1, 2)] {
                    let since = now.since(cells.base(0, slot, sequence));
                    let expected = match of.aggregation {
                        Aggregation::Sum => (1000 + u64::from(slot) - 100 * step, 50 - 10 * step),
                        _ => (0, 11 - (2 * step + 1)),
                    };
                    assert_eq!(since, expected, "slot {slot}, batch {sequence}");
                }
                if of.aggregation == Aggregation::Last {
                    let base = cells.wide_base(0, of.place, of.aggregation, applied + 1);
                    let base = base.expect("inside");
                    assert_eq!([0, 1].map(|half: usize| base[half].load(Relaxed)), [2, 3]);
                }
            }
            // Two slots each for the first two meters, and the last values' one: long names.
            assert_eq!(cells.pairs(), 3);
            for (pair, total) in [(0, (200, 20)), (1, (200, 20)), (2, (0, 6))] {
                let found = cells.pair_total(pair, applied);
                assert_eq!((found.sum, found.events), total, "pair {pair}");
            }
            let account = cells.accounts().remove(0).1;
            assert_eq!(account.accepted, 4 * 50 + 2 * 11);
            assert!(account.balances());
        }
        let words = left_behind(4);
        words[1].store(3, Relaxed);
        words[511].store(crc32c_words(&words[..511]).into(), Relaxed);
        assert!(!is_old(&words));
        let refused = Cells::open(words).map(drop).expect_err("newer");
        assert!(matches!(refused, CellsError::Version(3)));
        assert!(refused.to_string().contains('3'), "{refused}");
    }
}
