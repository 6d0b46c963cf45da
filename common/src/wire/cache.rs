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

/// In place of an index: no series, or none that is known.
const NONE: u32 = u32::MAX;

/// A series that records define.
struct Known {
    /// Its canonical form.
    key: Box<[u8]>,
    series: Arc<SeriesKey>,
    /// The series that was asked for after this one when it was last seen.
    successor: u32,
    /// The successor comes after it in the order of keys, too.
    rising: bool,
}

/// Canonical bytes and the series they stand for.
///
/// Records of one agent define much the same series in the same order, so that the next one is
/// mostly the one that came next before: no hash is needed to find it, and their order is known.
pub(super) struct SeriesCache {
    known: Vec<Known>,
    table: HashTable<u32>,
    /// Seeded, because whoever names the series could aim at one slot.
    hasher: FixedState,
    /// The series that was asked for last in the record at hand.
    last: u32,
    /// Of all entries, as estimated.
    bytes: usize,
    bytes_max: usize,
}

/// What the cache gives for a key.
pub(super) struct Cached {
    pub(super) series: Arc<SeriesKey>,
    /// True if it is known to come after the one asked for before in this record.
    pub(super) rising: bool,
}

impl SeriesCache {
    /// A cache that starts over when it reaches about `bytes_max` bytes.
    pub(super) fn new(seed: u64, bytes_max: usize) -> Self {
        Self {
            known: Vec::new(),
            table: HashTable::new(),
            hasher: FixedState::with_seed(seed),
            last: NONE,
            bytes: 0,
            bytes_max,
        }
    }

    /// Another record begins.
    pub(super) fn begin(&mut self) {
        self.last = NONE;
    }

    /// The series with this canonical form.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Cached, SeriesKeyError> {
        let before = self.known.get(self.last as usize);
        let expected = before.map_or(0, |before| before.successor);
        let as_expected = self.known.get(expected as usize);
        if let Some(found) = as_expected.filter(|known| *known.key == *key) {
            let rising = before.is_some_and(|before| before.rising);
            let series = Arc::clone(&found.series);
            self.last = expected;
            return Ok(Cached { series, rising });
        }
        let hash = self.hasher.hash_one(key);
        let known = &self.known;
        let is = |at: &u32| *known[*at as usize].key == *key;
        let at = match self.table.find(hash, is) {
            Some(at) => *at,
            None => self.add(hash, key)?,
        };
        let series = Arc::clone(&self.known[at as usize].series);
        let mut rising = false;
        if let Some(before) = self.known.get_mut(self.last as usize) {
            rising = before.series < series;
            (before.successor, before.rising) = (at, rising);
        }
        self.last = at;
        Ok(Cached { series, rising })
    }

    fn add(&mut self, hash: u64, key: &[u8]) -> Result<u32, SeriesKeyError> {
        let series = Arc::new(SeriesKey::from_canonical(key)?);
        let bytes = ENTRY_BYTES + 2 * key.len();
        if self.bytes + bytes > self.bytes_max {
            self.known = Vec::new();
            self.table = HashTable::new();
            self.last = NONE;
            self.bytes = 0;
        }
        self.bytes += bytes;
        let at = u32::try_from(self.known.len()).unwrap_or(NONE);
        self.known.push(Known {
            key: key.into(),
            series,
            // In the first record that is all there is to go by.
            successor: NONE,
            rising: false,
        });
        let (known, hasher) = (&self.known, &self.hasher);
        self.table
            .insert_unique(hash, at, |at| hasher.hash_one(&*known[*at as usize].key));
        Ok(at)
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
        let first = cache.get(&key).expect("valid").series;
        let again = cache.get(&key).expect("valid").series;
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(first.to_canonical(), key);
        assert!(cache.get(&key[1..]).is_err());
    }

    #[test]
    fn the_order_of_two_series_is_remembered_and_never_assumed() {
        let mut cache = SeriesCache::new(7, BYTES_MAX);
        let keys = ["a", "b", "c"].map(|meter| series("acme", meter, &[]).to_canonical());
        let mut rising = |order: &[usize]| -> Vec<bool> {
            cache.begin();
            order
                .iter()
                .map(|&at| {
                    let found = cache.get(&keys[at]).expect("valid");
                    assert_eq!(found.series.to_canonical(), keys[at]);
                    found.rising
                })
                .collect()
        };
        for _ in 0..2 {
            assert_eq!(rising(&[0, 1, 2]), [false, true, true]);
        }
        for _ in 0..2 {
            assert_eq!(rising(&[0, 2, 1, 1]), [false, true, false, false]);
        }
        assert_eq!(rising(&[1, 2]), [false, true]);
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
        assert_eq!(cache.table.len(), cache.known.len());
    }
}
