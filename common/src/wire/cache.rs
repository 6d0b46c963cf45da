//! Series that records defined before: the journal repeats the same keys in every record.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::series::{SeriesKey, SeriesKeyError};

/// Where nothing else is said, the cache starts over when it reaches this size, in bytes.
pub(super) const CACHE_BYTES_MAX: usize = 96 << 20;
/// Memory of an entry beside the bytes of its key, which are there twice: the place in the
/// table, the series with its texts, and what the allocator adds.
const ENTRY_BYTES: usize = 288;

/// Canonical bytes and the series they stand for.
pub(super) struct SeriesCache {
    table: HashTable<(Box<[u8]>, Arc<SeriesKey>)>,
    /// Seeded, because whoever names the series could aim at one slot.
    hasher: FixedState,
    /// Of all entries, as estimated.
    bytes: usize,
    bytes_max: usize,
}

impl SeriesCache {
    /// A cache that starts over when it reaches about `bytes_max` bytes.
    pub(super) fn new(seed: u64, bytes_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            bytes: 0,
            bytes_max,
        }
    }

    /// The series with this canonical form.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Arc<SeriesKey>, SeriesKeyError> {
        let hash = self.hasher.hash_one(key);
        if let Some((_, series)) = self.table.find(hash, |entry| *entry.0 == *key) {
            return Ok(Arc::clone(series));
        }
        let series = Arc::new(SeriesKey::from_canonical(key)?);
        let bytes = ENTRY_BYTES + 2 * key.len();
        if self.bytes + bytes > self.bytes_max {
            self.table = HashTable::new();
            self.bytes = 0;
        }
        self.bytes += bytes;
        let hasher = &self.hasher;
        let entry = (Box::from(key), Arc::clone(&series));
        self.table
            .insert_unique(hash, entry, |entry| hasher.hash_one(&*entry.0));
        Ok(series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::sample::series;

    const BYTES_MAX: usize = 1 << 20;

    #[test]
    fn the_same_bytes_are_the_same_series() {
        let mut cache = SeriesCache::new(7, BYTES_MAX);
        let key = series("acme", "m", &[("a", "1")]).to_canonical();
        let first = cache.get(&key).expect("valid");
        assert!(Arc::ptr_eq(&first, &cache.get(&key).expect("valid")));
        assert_eq!(first.to_canonical(), key);
        assert!(cache.get(&key[1..]).is_err());
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut cache = SeriesCache::new(7, BYTES_MAX);
        let long = "x".repeat(256);
        let count = 2 * BYTES_MAX / 1400;
        for n in 0..count {
            let number = format!("{n:08}");
            let pairs = ["b", "c", "d", "e", "f"].map(|key| (key, long.as_str()));
            let mut all = vec![("a", number.as_str())];
            all.extend(pairs);
            let key = series("acme", "m", &all).to_canonical();
            cache.get(&key).expect("valid");
            assert!(cache.bytes <= BYTES_MAX);
        }
        assert!(cache.table.len() < count);
    }
}
