//! Reading a page that somebody else writes, and trusting nothing of it.
//!
//! Every word may change at any time, also while it is read, and may hold anything. So each
//! is loaded once, what it says is checked against the size of the memory, and keys are
//! copied before they are looked at.

use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use tollgate_common::limits::SERIES_KEY_BYTES_MAX;
use tollgate_common::{Aggregation, Scale, SeriesKey};

use super::{MAGIC, PageLayout, SLOT_WORDS, SlotWords, VERSION, at, get_bytes, header_checksum};
use crate::kinds;

/// Why memory is not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Too short, or it does not start like a page.
    #[error("memory is not a page")]
    Magic,
    /// Of another version.
    #[error("page has version {0}, this agent reads version {VERSION}")]
    Version(u64),
    /// The checksum of its header is wrong.
    #[error("header of the page is damaged (checksum)")]
    Checksum,
    /// Its sizes do not fit the memory.
    #[error("sizes in the header of the page do not fit the memory")]
    Sizes,
}

/// What a slot says that it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageSlot {
    /// Which series.
    pub key: SeriesKey,
    /// How its values combine.
    pub aggregation: Aggregation,
    /// Decimal places of its meter.
    pub scale: Scale,
    /// Where its cell is; within the memory.
    pub cell: Range<usize>,
}

/// A page whose header was good when it was opened.
#[derive(Clone, Copy, Debug)]
pub struct PageReader<'a> {
    words: &'a [AtomicU64],
    layout: PageLayout,
    id: [u8; 16],
    created: i64,
}

impl<'a> PageReader<'a> {
    /// Checks the header of a page.
    pub fn open(words: &'a [AtomicU64]) -> Result<Self, PageError> {
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Relaxed));
        if words.len() < at::DIRECTORY || word(at::MAGIC) != MAGIC {
            return Err(PageError::Magic);
        }
        if word(at::VERSION) != VERSION {
            return Err(PageError::Version(word(at::VERSION)));
        }
        if word(at::CHECKSUM) != header_checksum(words) {
            return Err(PageError::Checksum);
        }
        let layout = PageLayout::claimed(words.len(), word(at::WORDS), word(at::SLOTS_MAX));
        let id = get_bytes(&words[at::ID..], 16);
        Ok(Self {
            words,
            layout: layout.ok_or(PageError::Sizes)?,
            id: id.try_into().map_err(|_| PageError::Magic)?,
            created: word(at::CREATED).cast_signed(),
        })
    }

    /// The page's random name.
    #[must_use]
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// When it was made, in milliseconds since 1970, as it says.
    #[must_use]
    pub const fn created(&self) -> i64 {
        self.created
    }

    /// All words.
    #[must_use]
    pub const fn words(&self) -> &'a [AtomicU64] {
        self.words
    }

    fn word(&self, at: usize) -> u64 {
        self.words.get(at).map_or(0, |word| word.load(Acquire))
    }

    /// The mirror that it was handed to; 0 for none.
    #[must_use]
    pub fn home(&self) -> u64 {
        self.word(at::HOME)
    }

    /// Events that found no room in it.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.word(at::DROPPED)
    }

    /// Slots that are published; never more than there is room for.
    #[must_use]
    pub fn published(&self) -> u32 {
        let count = u32::try_from(self.word(at::COUNT)).unwrap_or(u32::MAX);
        count.min(self.layout.slots_max())
    }

    /// What a slot counts, or `None` if anything about it is wrong.
    #[must_use]
    pub fn slot(&self, slot: u32) -> Option<PageSlot> {
        if slot >= self.layout.slots_max() {
            return None;
        }
        let at = self.layout.slot(slot);
        let words = self.words.get(at..at + SLOT_WORDS)?;
        let [key, cell, kind, checksum] = [0, 1, 2, 3].map(|at: usize| words[at].load(Acquire));
        let slot = SlotWords::from_words([key, cell, kind])?;
        let length = usize::try_from(slot.key_bytes).ok()?;
        if length > SERIES_KEY_BYTES_MAX {
            return None;
        }
        let key = get_bytes(self.range(slot.key_at, super::words_for(length))?.1, length);
        if key.len() != length || slot.checksum(&key) != checksum {
            return None;
        }
        let aggregation = Aggregation::from_code(slot.aggregation)?;
        let cell_words = kinds::words(aggregation);
        if usize::try_from(slot.cell_words) != Ok(cell_words) {
            return None;
        }
        Some(PageSlot {
            key: SeriesKey::from_canonical(&key).ok()?,
            aggregation,
            scale: Scale::new(slot.scale).ok()?,
            cell: self.range(slot.cell_at, cell_words)?.0,
        })
    }

    /// Words of the arena, by place and number.
    fn range(&self, at: u32, words: usize) -> Option<(Range<usize>, &'a [AtomicU64])> {
        let start = usize::try_from(at).ok()?;
        let end = start.checked_add(words)?;
        if start < self.layout.arena() {
            return None;
        }
        Some((start..end, self.words.get(start..end)?))
    }

    /// The words of a cell that [`Self::slot`] described.
    #[must_use]
    pub fn cell(&self, slot: &PageSlot) -> &'a [AtomicU64] {
        self.words.get(slot.cell.clone()).unwrap_or(&[])
    }
}
