//! Remembers what raw bytes were resolved to, so that a line seen before costs one hash.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::input::Listener;
use tollgate_common::Aggregation;

/// Most bytes of names and tags that a cache holds: with the table about twice that.
pub const CACHE_BYTES_MAX: usize = 16 << 20;

/// The raw form of a sample: what must be equal for the answer to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawKey<'a> {
    /// Where the line came in.
    pub listener: Listener,
    /// The type of the line.
    pub aggregation: Aggregation,
    /// The name as sent.
    pub name: &'a [u8],
    /// The tags as sent.
    pub tags: &'a [u8],
}

struct Entry<T> {
    hash: u64,
    listener: Listener,
    aggregation: Aggregation,
    name_length: usize,
    /// Name and tags in one allocation.
    bytes: Box<[u8]>,
    target: T,
}

impl<T> Entry<T> {
    fn is(&self, key: &RawKey<'_>) -> bool {
        let (name, tags) = self.bytes.split_at(self.name_length);
        self.listener == key.listener
            && self.aggregation == key.aggregation
            && name == key.name
            && tags == key.tags
    }
}

/// A bounded map from [`RawKey`] to `T`.
///
/// When it is full it forgets everything and learns again: that costs each live key one slow
/// lookup, needs no bookkeeping on the fast path, and a sender of endless new keys gains
/// nothing by it. What is forgotten is only a shortcut; no count depends on it.
pub struct Cache<T> {
    table: HashTable<Entry<T>>,
    state: FixedState,
    entries_max: usize,
    bytes: usize,
}

impl<T: Copy> Cache<T> {
    /// A cache of at most `entries_max` keys. `seed` is random per process, so that senders
    /// cannot choose keys that collide.
    pub fn new(entries_max: usize, seed: u64) -> Self {
        Self {
            table: HashTable::new(),
            state: FixedState::with_seed(seed),
            entries_max: entries_max.max(1),
            bytes: 0,
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn hash(&self, key: &RawKey<'_>) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64((key.name.len() as u64) << 8 | u64::from(key.aggregation.code()));
        hasher.write(key.name);
        hasher.write(key.tags);
        hasher.finish()
    }

    /// What `key` was resolved to.
    #[inline]
    pub fn get(&self, key: &RawKey<'_>) -> Option<T> {
        let entry = self.table.find(self.hash(key), |entry| entry.is(key))?;
        Some(entry.target)
    }

    /// Remembers `target` for `key`, which is not in the cache.
    pub fn insert(&mut self, key: &RawKey<'_>, target: T) {
        let length = key.name.len() + key.tags.len();
        if self.table.len() >= self.entries_max || self.bytes + length > CACHE_BYTES_MAX {
            self.clear();
        }
        let hash = self.hash(key);
        let entry = Entry {
            hash,
            listener: key.listener,
            aggregation: key.aggregation,
            name_length: key.name.len(),
            bytes: [key.name, key.tags].concat().into(),
            target,
        };
        self.bytes += length;
        self.table.insert_unique(hash, entry, |entry| entry.hash);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.table.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key<'a>(name: &'a str, tags: &'a str) -> RawKey<'a> {
        RawKey {
            listener: Listener::Udp,
            aggregation: Aggregation::Sum,
            name: name.as_bytes(),
            tags: tags.as_bytes(),
        }
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let mut cache = Cache::new(10, 7);
        cache.insert(&key("ab", "c"), 1);
        assert_eq!(cache.get(&key("ab", "c")), Some(1));
        assert_eq!(cache.get(&key("a", "bc")), None);
        let unix = RawKey {
            listener: Listener::Unix,
            ..key("ab", "c")
        };
        assert_eq!(cache.get(&unix), None);
        let gauge = RawKey {
            aggregation: Aggregation::Last,
            ..key("ab", "c")
        };
        assert_eq!(cache.get(&gauge), None);
    }

    #[test]
    fn keys_and_bytes_are_bounded() {
        let mut cache = Cache::new(100, 7);
        for n in 0..1000 {
            cache.insert(&key(&n.to_string(), ""), n);
            assert!(cache.len() <= 100);
            assert_eq!(cache.get(&key(&n.to_string(), "")), Some(n));
        }
        let large = "x".repeat(CACHE_BYTES_MAX / 2);
        let mut cache = Cache::new(100, 7);
        for n in 0..3 {
            cache.insert(&key(&n.to_string(), &large), n);
        }
        assert!(cache.len() < 3);
    }
}
