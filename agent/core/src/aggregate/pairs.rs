//! Running totals: what every tenant and meter has counted since the incarnation began.
//!
//! They lie in an area of their own behind the blocks of the writers, in two parities like
//! the baselines, and only the sealer stores to them. A total outlives the slots that it was
//! counted in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::totals;
use tollgate_common::limits::{METER_BYTES_MAX, TENANT_BYTES_MAX};
use tollgate_common::{Scale, SeriesKey};

use super::header::{beside_word, pairs_word};
use super::layout::PAIR_WORDS;
use super::words::{Put, crc32c, get_bytes, put_bytes, words_for};
use super::{Cells, Region};

/// True for a series that has lost its dimensions to a limit.
pub(super) fn is_overflow(key: &SeriesKey) -> bool {
    key.dimensions().len() == 1 && key.dimensions().get("overflow") == Some("true")
}

/// A running total at a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairTotal {
    pub(crate) sum: u128,
    pub(crate) events: u64,
}

const AT_FIGURES: std::ops::Range<usize> = 1..1 + 2 * totals::FIGURES;
const AT_CHECKSUM: usize = PAIR_WORDS - 1;
const _: () = assert!(AT_FIGURES.end == AT_CHECKSUM);

fn checksum(first: u64, names: &[u8]) -> u64 {
    let mut bytes = first.to_le_bytes().to_vec();
    bytes.extend_from_slice(names);
    u64::from(crc32c(&bytes))
}

impl<R: Region> Cells<R> {
    fn pair_words(&self, pair: u32) -> &[AtomicU64] {
        let at = self.layout().totals().start + pair as usize * PAIR_WORDS;
        &self.words()[at..at + PAIR_WORDS]
    }

    /// Totals in use.
    pub(crate) fn pairs(&self) -> u32 {
        let count = totals::published(pairs_word(self.words()));
        u32::try_from(count)
            .unwrap_or(u32::MAX)
            .min(self.layout().pairs())
    }

    /// True if there is certainly room for another total, however long its names: then there
    /// never was a total without a place.
    pub(crate) fn has_room_for_pairs(&self) -> bool {
        let used = self
            .pairs()
            .checked_sub(1)
            .map_or(0, |last| self.names_end(last));
        let longest = words_for(3 + TENANT_BYTES_MAX + METER_BYTES_MAX);
        self.pairs() < self.layout().pairs()
            && used.saturating_add(longest) <= self.layout().names().len()
    }

    /// True once a batch was to be sealed with rows whose amount no total tells. A file of an
    /// agent that did not note it says false.
    pub(crate) fn counts_beside_totals(&self) -> bool {
        beside_word(self.words()).load(Relaxed) != 0
    }

    /// Notes it, before the first such batch goes into the spool.
    pub(crate) fn note_beside_totals(&self) {
        beside_word(self.words()).put(1, Relaxed);
    }

    /// Where the names of a total end in their area.
    fn names_end(&self, pair: u32) -> usize {
        let first = self.pair_words(pair)[0].load(Relaxed);
        let bytes = usize::try_from(first >> 16 & 0xffff).expect("masked");
        usize::try_from(first >> 32).unwrap_or(usize::MAX) + words_for(bytes)
    }

    /// Whose total that is: tenant and meter as the canonical form of a key without
    /// dimensions, and the scale; `None` if its record is damaged.
    pub(crate) fn pair(&self, pair: u32) -> Option<(Vec<u8>, Scale)> {
        let words = self.pair_words(pair);
        let first = words[0].load(Relaxed);
        let at = usize::try_from(first >> 32).ok()?;
        let bytes = usize::try_from(first >> 16 & 0xffff).ok()?;
        let names = &self.words()[self.layout().names()];
        let name = get_bytes(names.get(at..at + words_for(bytes))?, bytes);
        let good = words[AT_CHECKSUM].load(Relaxed) == checksum(first, &name);
        let scale = Scale::new(u8::try_from(first & 0xff).ok()?).ok()?;
        good.then_some((name, scale))
    }

    /// The total as of the cut of batch `sequence`.
    pub(crate) fn pair_total(&self, pair: u32, sequence: u64) -> PairTotal {
        let [low, high, events] = totals::figures(&self.pair_words(pair)[AT_FIGURES], sequence);
        PairTotal {
            sum: u128::from(high) << 64 | u128::from(low),
            events,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "each half is 64 bits")]
    pub(crate) fn put_pair_total(&self, pair: u32, sequence: u64, total: PairTotal) {
        let figures = [total.sum as u64, (total.sum >> 64) as u64, total.events];
        let words = &self.pair_words(pair)[AT_FIGURES];
        totals::put_figures(words, sequence, figures, Put::put);
    }

    /// Makes the next total, at zero in both parities; false if there is no room. `names` are
    /// as [`Cells::pair`] gives them.
    pub(crate) fn put_pair(&self, names: &[u8], scale: Scale) -> bool {
        let index = self.pairs();
        let area = &self.words()[self.layout().names()];
        // They are made one after the other and never given up.
        let at = index.checked_sub(1).map_or(0, |last| self.names_end(last));
        let end = at.saturating_add(words_for(names.len()));
        if index >= self.layout().pairs() || end > area.len() {
            return false;
        }
        put_bytes(&area[at..end], names);
        let words = self.pair_words(index);
        for word in words {
            word.put(0, Relaxed);
        }
        let first = (at as u64) << 32 | (names.len() as u64) << 16 | u64::from(scale.get());
        words[0].put(first, Relaxed);
        words[AT_CHECKSUM].put(checksum(first, names), Relaxed);
        totals::publish(pairs_word(self.words()), Put::put);
        true
    }
}
