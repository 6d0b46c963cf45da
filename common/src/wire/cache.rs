//! Series that records defined before: the journal repeats the same keys in every record.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::ids::{MeterName, TenantId};
use crate::series::{SeriesKey, SeriesKeyError};

/// Where nothing else is said, the cache is full at this size, in bytes: a million series.
pub(super) const CACHE_BYTES_MAX: usize = 256 << 20;
/// Memory of an entry beside the bytes of its key: the entry, its place in the table, the series
/// with its dimensions, and what the allocator adds.
const ENTRY_BYTES: usize = 144;
/// The same of a name that series share.
const NAME_BYTES: usize = 64;
/// A full cache starts over when it knew fewer than one of so many series that it was asked for.
const KNOWN_MIN: u64 = 8;

/// In place of an index: no series, or none that is known.
const NONE: u32 = u32::MAX;

/// Names that series share: a million series have a handful of meters, and every record may bring
/// them anew.
#[derive(Default)]
struct SharedNames {
    tenants: HashTable<TenantId>,
    meters: HashTable<MeterName>,
}

impl SharedNames {
    /// The series with the names that others of the same names have. Names that are new are shared from
    /// now on if `keep`; answers how many bytes that takes.
    fn share(&mut self, hasher: &FixedState, series: SeriesKey, keep: bool) -> (SeriesKey, usize) {
        let (tenant, a) = shared(&mut self.tenants, hasher, series.tenant(), keep, |name| {
            name.as_str()
        });
        let (meter, b) = shared(&mut self.meters, hasher, series.meter(), keep, |name| {
            name.as_str()
        });
        (series.with_equal_names(tenant, meter), a + b)
    }
}

fn shared<T: Clone>(
    table: &mut HashTable<T>,
    hasher: &FixedState,
    name: &T,
    keep: bool,
    text: impl Fn(&T) -> &str,
) -> (T, usize) {
    let hash = hasher.hash_one(text(name));
    if let Some(known) = table.find(hash, |known| text(known) == text(name)) {
        return (known.clone(), 0);
    }
    if !keep {
        return (name.clone(), 0);
    }
    table.insert_unique(hash, name.clone(), |known| hasher.hash_one(text(known)));
    (name.clone(), NAME_BYTES + text(name).len())
}

/// A series that records define.
struct Known {
    series: Arc<SeriesKey>,
    /// Upper half of the hash of its canonical form.
    hash: u32,
    /// The series that was asked for after this one when it was last seen.
    successor: u32,
    /// The successor comes after it in the order of keys, too.
    rising: bool,
}

impl Known {
    fn hash(&self) -> u64 {
        spread(self.hash)
    }
}

/// A hash of 64 bits out of half of one.
const fn spread(half: u32) -> u64 {
    (half as u64) << 32 | half as u64
}

/// Canonical bytes and the series they stand for.
///
/// Records of one agent define much the same series in the same order, so that the next one is
/// mostly the one that came next before: no hash is needed to find it, and their order is known.
///
/// Agents come in turn, each with series of its own. A cache that made room for the newest would
/// have none of them left when its agent comes again; a full one keeps what it has, for as long as
/// that serves some of what it is asked for.
pub(super) struct SeriesCache {
    known: Vec<Known>,
    table: HashTable<u32>,
    names: SharedNames,
    /// Seeded, because whoever names the series could aim at one slot.
    hasher: FixedState,
    /// The series that was asked for last in the record at hand.
    last: u32,
    /// The same while it is not among those that are known.
    stranger: Option<Arc<SeriesKey>>,
    /// Of all entries, as estimated.
    bytes: usize,
    bytes_max: usize,
    /// Since it is full: how often it was asked, and how often it knew.
    asked: u64,
    knew: u64,
}

/// What the cache gives for a key.
pub(super) struct Cached {
    pub(super) series: Arc<SeriesKey>,
    /// True if it is known to come after the one asked for before in this record.
    pub(super) rising: bool,
}

impl SeriesCache {
    /// A cache that is full at about `bytes_max` bytes.
    pub(super) fn new(seed: u64, bytes_max: usize) -> Self {
        Self {
            known: Vec::new(),
            table: HashTable::new(),
            names: SharedNames::default(),
            hasher: FixedState::with_seed(seed),
            last: NONE,
            stranger: None,
            bytes: 0,
            bytes_max,
            asked: 0,
            knew: 0,
        }
    }

    /// Another record begins.
    pub(super) fn begin(&mut self) {
        self.last = NONE;
        self.stranger = None;
        if self.asked > KNOWN_MIN * self.known.len() as u64 {
            if self.knew.saturating_mul(KNOWN_MIN) < self.asked {
                *self = Self {
                    hasher: self.hasher.clone(),
                    ..Self::new(0, self.bytes_max)
                };
            }
            (self.asked, self.knew) = (0, 0);
        }
    }

    /// The series with this canonical form.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Cached, SeriesKeyError> {
        self.asked += u64::from(self.is_full());
        let before = self.known.get(self.last as usize);
        let expected = before.map_or(0, |before| before.successor);
        let as_expected = self.known.get(expected as usize);
        if let Some(found) = as_expected.filter(|known| known.series.is_canonical(key)) {
            let rising = before.is_some_and(|before| before.rising);
            let series = Arc::clone(&found.series);
            self.turn_to(expected);
            return Ok(Cached { series, rising });
        }
        let [_, half] = halves(self.hasher.hash_one(key));
        let known = &self.known;
        let is = |at: &u32| {
            let known = &known[*at as usize];
            known.hash == half && known.series.is_canonical(key)
        };
        let at = if let Some(at) = self.table.find(spread(half), is) {
            *at
        } else {
            let near = self.stranger.as_ref();
            let near = near.or(before.map(|before| &before.series));
            let series = SeriesKey::from_canonical_near(key, near.map(|near| &**near))?;
            let is_full = self.is_full();
            let (series, bytes) = self.names.share(&self.hasher, series, !is_full);
            self.bytes += bytes;
            let series = Arc::new(series);
            if is_full {
                self.last = NONE;
                self.stranger = Some(Arc::clone(&series));
                let rising = false;
                return Ok(Cached { series, rising });
            }
            self.add(half, series, key.len())
        };
        let series = Arc::clone(&self.known[at as usize].series);
        let mut rising = false;
        if let Some(before) = self.known.get_mut(self.last as usize) {
            rising = before.series < series;
            (before.successor, before.rising) = (at, rising);
        }
        self.turn_to(at);
        Ok(Cached { series, rising })
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    fn turn_to(&mut self, at: u32) {
        self.last = at;
        self.stranger = None;
        self.knew += u64::from(self.is_full());
    }

    fn add(&mut self, half: u32, series: Arc<SeriesKey>, key_bytes: usize) -> u32 {
        self.bytes += ENTRY_BYTES + key_bytes;
        let at = u32::try_from(self.known.len()).unwrap_or(NONE);
        // By quarters: the usual doubling could leave as much again unused.
        if self.known.len() == self.known.capacity() {
            self.known.reserve_exact(Ord::max(16, self.known.len() / 4));
        }
        self.known.push(Known {
            series,
            hash: half,
            // In the first record that is all there is to go by.
            successor: NONE,
            rising: false,
        });
        let known = &self.known;
        self.table
            .insert_unique(spread(half), at, |at| known[*at as usize].hash());
        at
    }
}

/// Lower and upper half of a hash.
#[expect(clippy::cast_possible_truncation, reason = "halves are wanted")]
const fn halves(hash: u64) -> [u32; 2] {
    [hash as u32, (hash >> 32) as u32]
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
    fn series_of_different_records_share_their_names() {
        let mut cache = SeriesCache::new(7, BYTES_MAX);
        let mut names = |tenant: &str, meter: &str| {
            cache.begin();
            let key = series(tenant, meter, &[("a", tenant)]).to_canonical();
            let found = cache.get(&key).expect("valid").series;
            [
                found.tenant().as_str().as_ptr(),
                found.meter().as_str().as_ptr(),
            ]
        };
        let [acme, requests] = names("acme", "requests");
        assert_eq!(names("rival", "requests")[1], requests);
        assert_eq!(names("acme", "bytes")[0], acme);
        assert_ne!(names("acme", "bytes")[1], requests);
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

    fn numbered(from: usize, to: usize) -> impl Iterator<Item = Vec<u8>> {
        let long = "x".repeat(256);
        (from..to).map(move |n| {
            let number = format!("{n:08}");
            let pairs = ["b", "c", "d", "e", "f"].map(|key| (key, long.as_str()));
            let mut all = vec![("a", number.as_str())];
            all.extend(pairs);
            series("acme", "m", &all).to_canonical()
        })
    }

    #[test]
    fn a_full_cache_keeps_what_serves_and_gives_up_what_does_not() {
        let mut cache = SeriesCache::new(7, BYTES_MAX);
        let count = 2 * BYTES_MAX / 1400;
        let mut ask = |from: usize| {
            cache.begin();
            for key in numbered(from, from + count) {
                let found = cache.get(&key).expect("valid").series;
                assert_eq!(found.to_canonical(), key);
            }
            assert!(cache.bytes < BYTES_MAX + 2 * 1400);
            assert_eq!(cache.table.len(), cache.known.len());
            let last = cache.known.first().expect("some are known");
            last.series.to_string()
        };
        let first = ask(0);
        for _ in 0..20 {
            assert_eq!(ask(0), first, "half of them are known all the time");
        }
        assert!(
            (0..40).any(|_| ask(count) != first),
            "others take their place"
        );
    }
}
