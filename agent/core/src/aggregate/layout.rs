//! Where everything lies in a region of cells.
//!
//! A region is one header of two pages, then one block per writer, then the running totals.
//! Blocks start at page boundaries, so that writers share no cache line and no page. Within a block the cells of
//! all series lie together; keys, which are written once, wide cells, and what only the
//! sealer touches (baselines, running totals) lie apart from them. `docs/formats/cells.md`
//! has the picture.

use std::ops::Range;

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;

/// Words of a page of 4096 bytes.
pub(crate) const PAGE_WORDS: usize = 512;
/// Words of the header: a page that never changes and a page that does.
pub(crate) const HEADER_WORDS: usize = 2 * PAGE_WORDS;
/// Words at the start of a writer's block: published count and account.
pub(crate) const BLOCK_HEAD_WORDS: usize = 64;
/// Words that describe one series: place and length of its key, kind, generation, checksum.
pub(crate) const SLOT_WORDS: usize = 2;
/// Words of every series' cell: sum, and events with the generation.
pub(crate) const SUM_WORDS: usize = tollgate::cell::sum::WORDS;
/// Words of a series' baseline: sum and events.
pub(crate) const BASE_WORDS: usize = 2;
/// Words of a running total: its name, then sum (low, high) and events of both parities.
pub(crate) const PAIR_WORDS: usize = 8;
/// Words of the names of running totals, for each of them.
pub(crate) const PAIR_NAME_WORDS: usize = 6;
/// Wide cells and chunks start at multiples of so many words: a cache line.
pub(crate) const WIDE_UNIT: u32 = 8;

/// Most writers of one region.
pub const WRITERS_MAX: u32 = 64;
/// Most series of one writer.
pub const SERIES_MAX: u32 = 1 << 20;
/// Most bytes of keys of one writer.
pub const KEY_BYTES_MAX: u64 = 1 << 30;
/// Most bytes of wide cells of one writer.
pub const WIDE_BYTES_MAX: u64 = 1 << 33;

/// Words of the longest key of an overflow series: the place of a wide cell, what the cell
/// counts on from, three lengths, tenant, meter and `overflow=true`.
const OVERFLOW_KEY_WORDS: u32 = 38;
/// Most tenants for whose records there is room from the start, see [`super::tenants`].
const TENANTS_TOLD: u32 = 1024;
const _: () = assert!(
    OVERFLOW_KEY_WORDS as usize * 8
        >= 24
            + 3
            + tollgate_common::limits::TENANT_BYTES_MAX
            + tollgate_common::limits::METER_BYTES_MAX
            + 3
            + "overflow".len()
            + "true".len()
);

/// The sizes of a region of cells.
///
/// Past `series_max` series, or when the keys are full, a writer's new series lose their
/// dimensions; room for such overflow series is added on top of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellsLayout {
    writers: u32, // in [1, WRITERS_MAX]
    series: u32,  // in [1, 2 × SERIES_MAX], with the reserve
    reserve: u32, // of these for overflow series, below `series`
    arena: u32,   // words of keys
    wide: u32,    // words of wide cells, a multiple of WIDE_UNIT
    pairs: u32,   // running totals, in [1, 2 × SERIES_MAX]
}

/// Where a writer's areas begin, in words from the start of the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Areas {
    pub(crate) slots: usize,
    pub(crate) keys: Range<usize>,
    pub(crate) sums: usize,
    /// Of even and of odd batches.
    pub(crate) bases: [usize; 2],
}

/// Sizes that are out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cells layout: {what} is {value}, but must be {min} to {max}")]
pub struct LayoutError {
    what: &'static str,
    value: u64,
    min: u64,
    max: u64,
}

fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), LayoutError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(LayoutError {
            what,
            value,
            min,
            max,
        })
    }
}

impl CellsLayout {
    /// Room for `writers` writers with `series_max` series and `key_bytes` bytes of keys each.
    pub fn new(writers: u32, series_max: u32, key_bytes: u64) -> Result<Self, LayoutError> {
        within(
            "number of writers",
            writers.into(),
            1,
            u64::from(WRITERS_MAX),
        )?;
        within(
            "series per writer",
            series_max.into(),
            1,
            u64::from(SERIES_MAX),
        )?;
        within(
            "bytes of keys per writer",
            key_bytes,
            SERIES_KEY_BYTES_MAX as u64,
            KEY_BYTES_MAX,
        )?;
        // One overflow series for sixteen ordinary ones: tenants and meters are few beside
        // what their dimensions multiply them to.
        let reserve = (series_max / 16).max(16);
        let key_words = u32::try_from(key_bytes.div_ceil(8)).expect("KEY_BYTES_MAX is 2^30");
        let layout = Self {
            writers,
            series: series_max + reserve,
            reserve,
            arena: key_words + reserve * OVERFLOW_KEY_WORDS,
            wide: 0,
            pairs: (series_max / 4).max(16) + reserve + 1,
        };
        // Small ones have room for the records of as many tenants, 40 words each, besides.
        let tenants = u64::from(series_max.min(TENANTS_TOLD) + 1);
        let bytes = u64::from(series_max) * 32 + (64 << 10);
        layout.with_wide_bytes(bytes.max(2 * tenants * 40 * 8))
    }

    /// The same with so many bytes for what does not fit into a sum cell: last values, maxima,
    /// levels, histograms and distinct counts of each writer.
    pub fn with_wide_bytes(self, bytes: u64) -> Result<Self, LayoutError> {
        within(
            "bytes of wide cells per writer",
            bytes,
            4096,
            WIDE_BYTES_MAX,
        )?;
        let words = bytes.div_ceil(8).next_multiple_of(WIDE_UNIT.into());
        let wide = u32::try_from(words).expect("WIDE_BYTES_MAX is 2^33");
        Ok(Self { wide, ..self })
    }

    /// The layout whose words are in a header.
    pub(crate) fn from_words(words: [u64; 4]) -> Result<Self, LayoutError> {
        let (high, low) = (|word: u64| word >> 32, |word: u64| word & 0xffff_ffff);
        let (writers, series) = (high(words[0]), low(words[0]));
        let (reserve, wide) = (high(words[1]), low(words[1]));
        let (arena, pairs) = (words[2], words[3]);
        within("number of writers", writers, 1, u64::from(WRITERS_MAX))?;
        within("series slots", series, 1, 2 * u64::from(SERIES_MAX))?;
        within("overflow slots", reserve, 0, series - 1)?;
        within("words of keys", arena, 1, u64::from(u32::MAX) / 4)?;
        within("words of wide cells", wide, 1, WIDE_BYTES_MAX / 8)?;
        within("units of wide cells", wide % u64::from(WIDE_UNIT), 0, 0)?;
        within("running totals", pairs, 1, 2 * u64::from(SERIES_MAX))?;
        let narrow = |value: u64| u32::try_from(value).expect("just compared with its maximum");
        Ok(Self {
            writers: narrow(writers),
            series: narrow(series),
            reserve: narrow(reserve),
            arena: narrow(arena),
            wide: narrow(wide),
            pairs: narrow(pairs),
        })
    }

    /// The words that a header keeps of this layout.
    pub(crate) fn to_words(self) -> [u64; 4] {
        [
            u64::from(self.writers) << 32 | u64::from(self.series),
            u64::from(self.reserve) << 32 | u64::from(self.wide),
            u64::from(self.arena),
            u64::from(self.pairs),
        ]
    }

    /// Number of writers.
    pub fn writers(self) -> u32 {
        self.writers
    }

    /// Slots of one writer, those for overflow series included.
    pub(crate) fn series(self) -> u32 {
        self.series
    }

    /// Slots and key words that only overflow series may use.
    pub(crate) fn reserve(self) -> (u32, u32) {
        (
            self.reserve,
            (self.reserve * OVERFLOW_KEY_WORDS).min(self.arena),
        )
    }

    pub(crate) fn pairs(self) -> u32 {
        self.pairs
    }

    pub(crate) fn arena(self) -> u32 {
        self.arena
    }

    /// Words of wide cells of one writer.
    pub(crate) fn wide_words(self) -> u32 {
        self.wide
    }

    /// Words of wide cells that only overflow series may use.
    pub(crate) fn wide_reserve(self) -> u32 {
        (self.reserve * 4 * WIDE_UNIT).min(self.wide / 4)
    }

    /// The slots of one writer.
    pub(crate) fn slots(self, writer: u32) -> Range<usize> {
        let at = self.block(writer) + BLOCK_HEAD_WORDS;
        at..at + self.series as usize * SLOT_WORDS
    }

    /// Words of the whole region.
    pub fn words(self) -> usize {
        (self.names().end).next_multiple_of(PAGE_WORDS)
    }

    fn arena_at(self) -> usize {
        BLOCK_HEAD_WORDS + self.series as usize * SLOT_WORDS
    }

    fn sums_at(self) -> usize {
        (self.arena_at() + self.arena as usize).next_multiple_of(8)
    }

    fn wide_at(self) -> usize {
        (self.sums_at() + self.series as usize * SUM_WORDS).next_multiple_of(8)
    }

    fn bases_at(self) -> usize {
        self.wide_at() + self.wide as usize
    }

    fn block_words(self) -> usize {
        (self.bases_at() + 2 * self.series as usize * BASE_WORDS).next_multiple_of(PAGE_WORDS)
    }

    fn pairs_at(self) -> usize {
        HEADER_WORDS + self.writers as usize * self.block_words()
    }

    fn names_at(self) -> usize {
        self.pairs_at() + self.pairs as usize * PAIR_WORDS
    }

    fn block(self, writer: u32) -> usize {
        debug_assert!(writer < self.writers);
        HEADER_WORDS + writer as usize * self.block_words()
    }

    /// The head of a writer's block.
    pub(crate) fn head(self, writer: u32) -> Range<usize> {
        let at = self.block(writer);
        at..at + BLOCK_HEAD_WORDS
    }

    /// A writer's keys.
    pub(crate) fn keys(self, writer: u32) -> Range<usize> {
        let at = self.block(writer) + self.arena_at();
        at..at + self.arena as usize
    }

    /// All sum cells of a writer.
    pub(crate) fn sums(self, writer: u32) -> Range<usize> {
        let at = self.block(writer) + self.sums_at();
        at..at + self.series as usize * SUM_WORDS
    }

    /// A writer's wide cells.
    pub(crate) fn wide(self, writer: u32) -> Range<usize> {
        let at = self.block(writer) + self.wide_at();
        at..at + self.wide as usize
    }

    /// All running totals.
    pub(crate) fn totals(self) -> Range<usize> {
        self.pairs_at()..self.names_at()
    }

    /// The names of running totals.
    pub(crate) fn names(self) -> Range<usize> {
        let at = self.names_at();
        at..at + self.pairs as usize * PAIR_NAME_WORDS
    }

    /// Where everything of a writer lies, for those who ask often.
    pub(crate) fn areas(self, writer: u32) -> Areas {
        Areas {
            slots: self.slots(writer).start,
            keys: self.keys(writer),
            sums: self.sums(writer).start,
            bases: [0, 1].map(|parity| self.bases(writer, parity).start),
        }
    }

    /// All baselines of a writer in the array that `parity` names.
    pub(crate) fn bases(self, writer: u32, parity: u64) -> Range<usize> {
        let words = self.series as usize * BASE_WORDS;
        let at = self.block(writer) + self.bases_at() + usize::from(parity & 1 == 1) * words;
        at..at + words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_do_not_overlap_and_fill_the_block() {
        let layout = CellsLayout::new(3, 100, 4096).expect("in range");
        let mut areas = Vec::new();
        areas.push(0..HEADER_WORDS);
        for writer in 0..3 {
            areas.extend([
                layout.head(writer),
                layout.slots(writer),
                layout.keys(writer),
                layout.sums(writer),
                layout.wide(writer),
                layout.bases(writer, 0),
                layout.bases(writer, 1),
            ]);
        }
        areas.extend([layout.totals(), layout.names()]);
        for pair in areas.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{pair:?}");
        }
        assert!(areas.last().is_some_and(|area| area.end <= layout.words()));
        assert_eq!(layout.head(1).start % PAGE_WORDS, 0);
        assert_eq!(layout.words() % PAGE_WORDS, 0);
    }

    #[test]
    fn words_round_trip_and_are_checked() {
        let layout = CellsLayout::new(4, 65_536, 4 << 20).expect("in range");
        assert_eq!(CellsLayout::from_words(layout.to_words()), Ok(layout));
        assert!(CellsLayout::from_words([0; 4]).is_err());
        assert!(CellsLayout::from_words([u64::MAX; 4]).is_err());
        assert!(CellsLayout::new(0, 1, 4096).is_err());
        assert!(CellsLayout::new(1, SERIES_MAX + 1, 4096).is_err());
        assert!(CellsLayout::new(1, 1, 1).is_err());
    }
}
