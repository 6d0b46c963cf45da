//! How cells, their keys and their chunks find room in a page.

use std::sync::atomic::Ordering::{Relaxed, Release};

use tollgate_common::Aggregation;

use super::{Arena, Block, CHUNK_WORDS, Page};
use crate::cell::Room;
use crate::kinds;
use crate::page::{SLOT_WORDS, SlotWords, at, put_bytes, words_for};
use crate::series::{NAME_HEAD, Series, name};

impl Page {
    /// Makes a cell, or one without dimensions where there is no room for it.
    pub(super) fn allocate(
        &self,
        arena: &mut Arena,
        block: &mut Block,
        series: &Series,
    ) -> Option<u32> {
        if let Some(at) = self.publish(arena, block, series, &series.name, true) {
            block.cells.insert(series.name.clone(), at);
            return Some(at);
        }
        if series.aggregation == Aggregation::TimeWeighted {
            // Of several levels in one cell the last would stand for all of them.
            return None;
        }
        let key = series.key.to_overflow();
        let name = name(&key, series.aggregation, series.scale);
        let at = if let Some(&at) = block.cells.get(name.as_slice()) {
            at
        } else {
            let at = self.publish(arena, block, series, &name, false)?;
            block.cells.insert(name.into(), at);
            at
        };
        self.words[at::OVERFLOWED].fetch_add(1, Relaxed);
        // Bounded by what else this block may hold, so that names do not pile up.
        if block.cells.len() < 2 * self.layout.slots_max() as usize {
            block.cells.insert(series.name.clone(), at);
        }
        Some(at)
    }

    fn publish(
        &self,
        arena: &mut Arena,
        block: &mut Block,
        series: &Series,
        name: &[u8],
        ordinary: bool,
    ) -> Option<u32> {
        let key = name.get(NAME_HEAD..)?;
        let words = kinds::words(series.aggregation);
        let known = arena.keys.get(key).copied();
        let key_words = if known.is_some() {
            0
        } else {
            words_for(key.len())
        };
        let (mut end, mut slots_end) = (self.layout.words(), self.layout.slots_max());
        if ordinary {
            end = self.ordinary_end();
            slots_end -= slots_end.div_ceil(16);
        }
        let in_chunk = words < CHUNK_WORDS.0;
        let fits_chunk = in_chunk && block.chunk.len() >= words;
        let chunk_words = if fits_chunk {
            0
        } else if in_chunk {
            block.chunk_words
        } else {
            words.next_multiple_of(8)
        };
        if arena.slots >= slots_end || arena.next + key_words + 7 + chunk_words > end {
            return None;
        }
        let key_at = if let Some(key_at) = known {
            key_at
        } else {
            let key_at = u32::try_from(arena.next).ok()?;
            put_bytes(&self.words[arena.next..], key);
            arena.next += key_words;
            arena.keys.insert(key.into(), key_at);
            key_at
        };
        if !fits_chunk {
            // Cells of different threads share no cache line.
            let start = arena.next.next_multiple_of(8);
            arena.next = start + chunk_words;
            if in_chunk {
                block.chunk = start..arena.next;
                block.chunk_words = (2 * block.chunk_words).min(CHUNK_WORDS.1);
            }
        }
        let cell_at = if in_chunk {
            let at = block.chunk.start;
            block.chunk.start += words;
            at
        } else {
            arena.next - chunk_words
        };
        let slot = SlotWords {
            key_at,
            key_bytes: u32::try_from(key.len()).ok()?,
            cell_at: u32::try_from(cell_at).ok()?,
            cell_words: u32::try_from(words).ok()?,
            aggregation: series.aggregation.code(),
            scale: series.scale.get(),
        };
        let at = self.layout.slot(arena.slots);
        let place = &self.words[at..at + SLOT_WORDS];
        for (word, value) in place.iter().zip(slot.to_words()) {
            word.store(value, Relaxed);
        }
        place[SLOT_WORDS - 1].store(slot.checksum(key), Relaxed);
        arena.slots += 1;
        self.words[at::COUNT].store(arena.slots.into(), Release);
        Some(slot.cell_at)
    }
}

/// Chunks for cells that grow, from the arena of a page.
pub(crate) struct PageRoom<'a>(&'a Page);

impl<'a> PageRoom<'a> {
    pub(super) fn of(page: &'a Page) -> Self {
        Self(page)
    }
}

impl Room for PageRoom<'_> {
    fn take(&mut self, words: u32) -> Option<u32> {
        let mut arena = self.0.arena();
        if let Some(at) = arena.chunks.iter().position(|chunk| chunk.1 == words) {
            return Some(arena.chunks.swap_remove(at).0);
        }
        let at = arena.next.next_multiple_of(8);
        let end = at.checked_add(words as usize)?;
        if end > self.0.ordinary_end() {
            return None;
        }
        arena.next = end;
        u32::try_from(at).ok()
    }

    fn give(&mut self, at: u32, words: u32) {
        self.0.arena().chunks.push((at, words));
    }
}
