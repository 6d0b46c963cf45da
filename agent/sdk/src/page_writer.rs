//! A page as the client makes one, in ordinary memory, for tests of who reads pages.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate_common::Aggregation;

use crate::kinds;
use crate::page::{MAGIC, SlotWords, VERSION, at, header_checksum, put_bytes, words_for};

/// A page under construction, and then in use.
pub struct PageWriter {
    /// All of it.
    pub words: Vec<AtomicU64>,
    /// The first word that nothing is described in.
    pub next: usize,
}

impl PageWriter {
    /// A page of so many words with room for so many slots, none of which is taken.
    pub fn new(words: usize, slots: usize, id: [u8; 16]) -> Self {
        let page = Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            next: at::DIRECTORY + slots * 4,
        };
        page.put(at::MAGIC, MAGIC);
        page.put(at::VERSION, VERSION);
        page.put(at::WORDS, words as u64);
        page.put(at::SLOTS_MAX, slots as u64);
        put_bytes(&page.words[at::ID..], &id);
        page.put(at::CHECKSUM, header_checksum(&page.words));
        page
    }

    /// Writes a word.
    pub fn put(&self, at: usize, value: u64) {
        self.words[at].store(value, Relaxed);
    }

    /// Counts in the cell of a sum.
    pub fn add(&self, cell: usize, n: u64) {
        self.words[cell].fetch_add(n, Relaxed);
        self.words[cell + 1].fetch_add(1, Relaxed);
    }

    /// A slot for the series with this canonical key; where its cell is.
    ///
    /// # Panics
    /// If the page has no room for it.
    pub fn slot_of_key(&mut self, key: &[u8], aggregation: Aggregation) -> usize {
        let small = |value: usize| u32::try_from(value).expect("a page has fewer than 2^32 words");
        let cell = self.next + words_for(key.len());
        put_bytes(&self.words[self.next..], key);
        let of = SlotWords {
            key_at: small(self.next),
            key_bytes: small(key.len()),
            cell_at: small(cell),
            cell_words: small(kinds::words(aggregation)),
            aggregation: aggregation.code(),
            scale: 0,
        };
        let count = self.words[at::COUNT].load(Relaxed);
        let slot = at::DIRECTORY + usize::try_from(count).expect("we count them") * 4;
        for (at, word) in (slot..).zip(of.to_words()) {
            self.put(at, word);
        }
        self.put(slot + 3, of.checksum(key));
        self.next = cell + kinds::words(aggregation);
        self.put(at::COUNT, count + 1);
        cell
    }
}
