//! Where everything lies in a region of cells.
//!
//! A region is one header of two pages, then one block per writer. Blocks start at page
//! boundaries, so that writers share no cache line and no page. Within a block the cells of
//! all series lie together; keys, which are written once, and baselines, which only the
//! sealer touches, lie apart from them. `docs/formats/cells.md` has the picture.

use std::ops::Range;

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;

/// Words of a page of 4096 bytes.
pub(crate) const PAGE_WORDS: usize = 512;
/// Words of the header: a page that never changes and a page that does.
pub(crate) const HEADER_WORDS: usize = 2 * PAGE_WORDS;
/// Words at the start of a writer's block: published count and account.
pub(crate) const BLOCK_HEAD_WORDS: usize = 64;
/// Words that describe one series: place and length of its key, its kind and checksum.
pub(crate) const SLOT_WORDS: usize = 3;
/// Words of a sum cell: sum, events.
pub(crate) const SUM_WORDS: usize = 2;
/// Words of a last-value cell: two halves by window parity of count, two windows, two values.
pub(crate) const LAST_WORDS: usize = 10;
/// Words of a series' baseline: sum (low, high), events; or the two counts of a last value.
pub(crate) const BASE_WORDS: usize = 3;

/// Most writers of one region.
pub const WRITERS_MAX: u32 = 64;
/// Most series of one writer.
pub const SERIES_MAX: u32 = 1 << 20;
/// Most bytes of keys of one writer.
pub const KEY_BYTES_MAX: u64 = 1 << 30;

/// Words of the longest key of an overflow series: three lengths, tenant, meter and
/// `overflow=true`.
const OVERFLOW_KEY_WORDS: u32 = 35;
const _: () = assert!(
    OVERFLOW_KEY_WORDS as usize * 8
        >= 3 + tollgate_common::limits::TENANT_BYTES_MAX
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
    last: u32,    // last-value cells, at most `series`
    arena: u32,   // words of keys
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
        Ok(Self {
            writers,
            series: series_max + reserve,
            reserve,
            // Gauges are fewer than counters and their cells five times as large.
            last: (series_max / 4).max(16) + reserve,
            arena: key_words + reserve * OVERFLOW_KEY_WORDS,
        })
    }

    /// The layout whose words are in a header.
    pub(crate) fn from_words(words: [u64; 3]) -> Result<Self, LayoutError> {
        let (high, low) = (|word: u64| word >> 32, |word: u64| word & 0xffff_ffff);
        let (writers, series) = (high(words[0]), low(words[0]));
        let (reserve, last) = (high(words[1]), low(words[1]));
        let arena = words[2];
        within("number of writers", writers, 1, u64::from(WRITERS_MAX))?;
        within("series slots", series, 1, 2 * u64::from(SERIES_MAX))?;
        within("overflow slots", reserve, 0, series - 1)?;
        within("last-value cells", last, 0, 2 * u64::from(SERIES_MAX))?;
        within("words of keys", arena, 1, u64::from(u32::MAX) / 4)?;
        let narrow = |value: u64| u32::try_from(value).expect("just compared with its maximum");
        Ok(Self {
            writers: narrow(writers),
            series: narrow(series),
            reserve: narrow(reserve),
            last: narrow(last),
            arena: narrow(arena),
        })
    }

    /// The words that a header keeps of this layout.
    pub(crate) fn to_words(self) -> [u64; 3] {
        [
            u64::from(self.writers) << 32 | u64::from(self.series),
            u64::from(self.reserve) << 32 | u64::from(self.last),
            u64::from(self.arena),
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

    pub(crate) fn last(self) -> u32 {
        self.last
    }

    pub(crate) fn arena(self) -> u32 {
        self.arena
    }

    /// Words of the whole region.
    pub fn words(self) -> usize {
        HEADER_WORDS + self.writers as usize * self.block_words()
    }

    fn arena_at(self) -> usize {
        BLOCK_HEAD_WORDS + self.series as usize * SLOT_WORDS
    }

    fn sums_at(self) -> usize {
        (self.arena_at() + self.arena as usize).next_multiple_of(8)
    }

    fn lasts_at(self) -> usize {
        self.sums_at() + self.series as usize * SUM_WORDS
    }

    fn bases_at(self) -> usize {
        (self.lasts_at() + self.last as usize * LAST_WORDS).next_multiple_of(8)
    }

    fn block_words(self) -> usize {
        (self.bases_at() + 2 * self.series as usize * BASE_WORDS).next_multiple_of(PAGE_WORDS)
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

    /// The words that describe one series.
    pub(crate) fn slot(self, writer: u32, slot: u32) -> Range<usize> {
        let at = self.block(writer) + BLOCK_HEAD_WORDS + slot as usize * SLOT_WORDS;
        at..at + SLOT_WORDS
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

    /// All last-value cells of a writer.
    pub(crate) fn lasts(self, writer: u32) -> Range<usize> {
        let at = self.block(writer) + self.lasts_at();
        at..at + self.last as usize * LAST_WORDS
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
                layout.slot(writer, 0).start..layout.slot(writer, layout.series() - 1).end,
                layout.keys(writer),
                layout.sums(writer),
                layout.lasts(writer),
                layout.bases(writer, 0),
                layout.bases(writer, 1),
            ]);
        }
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
        assert!(CellsLayout::from_words([0, 0, 0]).is_err());
        assert!(CellsLayout::from_words([u64::MAX; 3]).is_err());
        assert!(CellsLayout::new(0, 1, 4096).is_err());
        assert!(CellsLayout::new(1, SERIES_MAX + 1, 4096).is_err());
        assert!(CellsLayout::new(1, 1, 1).is_err());
    }
}
