//! The cache agrees with a plain map, and its memory is bounded.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A buffer that holds one key, with slack behind it.
struct Keyed(Vec<u8>, usize, usize, Listener);

fn keyed(name: &str, suffix: &str) -> Keyed {
    let bytes = [
        b"..",
        name.as_bytes(),
        b":1|",
        suffix.as_bytes(),
        &[0xa5; SLACK_BYTES],
    ]
    .concat();
    Keyed(bytes, name.len(), suffix.len(), Listener::Udp)
}

impl Keyed {
    fn key(&self) -> LineKey<'_> {
        LineKey {
            buffer: &self.0,
            listener: self.3,
            name_at: 2,
            name_len: self.1 as u32,
            suffix_at: 5 + self.1 as u32,
            suffix_len: self.2 as u32,
        }
    }
}

fn get(cache: &LineCache, keyed: &Keyed) -> Option<u64> {
    let key = keyed.key();
    let hash = cache.hash(&key);
    let found = cache.find(hash, &key).map(|(_, hit)| hit.payload);
    // The short way finds nothing else.
    if let Some(hit) = cache.check(cache.candidate(hash), &key) {
        assert_eq!(Some(hit.payload), found);
    }
    found
}

fn put(cache: &mut LineCache, keyed: &Keyed, payload: u64) -> u32 {
    let key = keyed.key();
    let hash = cache.hash(&key);
    let (plan, row) = (7, u16::MAX);
    cache.insert(hash, &key, Hit { payload, plan, row }, None)
}

#[test]
fn every_part_of_the_key_counts() {
    let mut cache = LineCache::new(0, 7);
    put(&mut cache, &keyed("ab", "c|#d"), 1);
    assert_eq!(get(&cache, &keyed("ab", "c|#d")), Some(1));
    for (name, suffix) in [
        ("a", "bc|#d"),
        ("ab", "c|#e"),
        ("ab", "c|#dd"),
        ("ab", "g|#d"),
    ] {
        assert_eq!(get(&cache, &keyed(name, suffix)), None, "{name} {suffix}");
    }
    let unix = Keyed(keyed("ab", "c|#d").0, 2, 4, Listener::Unix);
    assert_eq!(get(&cache, &unix), None);
}

#[test]
fn a_carry_belongs_to_its_entry() {
    let mut cache = LineCache::new(0, 7);
    let (a, b) = (keyed("a", "c|@0.3"), keyed("b", "c"));
    let key = a.key();
    let hit = Hit {
        payload: 1,
        plan: 0,
        row: 0,
    };
    let entry = cache.insert(cache.hash(&key), &key, hit, Some(5));
    let plain = put(&mut cache, &b, 2);
    assert_eq!((cache.carry(entry), cache.carry(plain)), (Some(5), None));
    cache.set_carry(entry, u64::MAX);
    cache.set_carry(plain, 3);
    assert_eq!(cache.carry(entry), Some(u64::MAX));
    assert_eq!((get(&cache, &a), get(&cache, &b)), (Some(1), Some(2)));
}

#[test]
fn memory_is_bounded_and_the_newest_stay() {
    for bytes in [CACHE_BYTES_MIN, 300_000] {
        let mut cache = LineCache::new(bytes, 7);
        for n in 0..12_000u64 {
            let key = keyed(&n.to_string(), &"x".repeat((n % 40) as usize));
            put(&mut cache, &key, n);
            assert_eq!(get(&cache, &key), Some(n));
            assert!(cache.bytes() <= bytes, "{} at {n}", cache.bytes());
        }
        assert!(cache.evicted() > 0 && cache.len() > 500);
        for n in 11_700..12_000u64 {
            let key = keyed(&n.to_string(), &"x".repeat((n % 40) as usize));
            assert_eq!(get(&cache, &key), Some(n));
        }
        // Every key that is found is counted, and no other.
        let found = (0..12_000u64)
            .filter(|n| {
                let key = keyed(&n.to_string(), &"x".repeat((n % 40) as usize));
                get(&cache, &key).is_some()
            })
            .count();
        assert_eq!(found, cache.len());
    }
}

#[test]
fn a_key_costs_little_beside_its_bytes() {
    let mut cache = LineCache::new(64 << 20, 7);
    let mut keys = 0;
    for n in 0..100_000u64 {
        let key = keyed(&format!("http.requests.{n:06}"), "c");
        keys += key.1 + key.2;
        put(&mut cache, &key, n);
        if n > 20_000 {
            let beside = cache.bytes() - STEP_BYTES - keys;
            assert!(beside <= 27 * cache.len(), "{beside} bytes at {n}");
        }
    }
    assert_eq!(cache.evicted(), 0);
}

proptest! {
    #[test]
    fn agrees_with_a_map(
        steps in proptest::collection::vec((0u8..4, "[ab.]{0,40}", "c|g|c\\|#[a-c]{0,30}"), 0..300),
        seed: u64,
    ) {
        let mut cache = LineCache::new(0, seed);
        let mut map = BTreeMap::new();
        for (n, (step, name, suffix)) in (0u64..).zip(steps) {
            let key = keyed(&name, &suffix);
            match step {
                0 => {
                    prop_assert_eq!(get(&cache, &key), map.get(&(name, suffix)).copied());
                }
                1 | 2 => {
                    map.entry((name, suffix)).or_insert_with(|| {
                        put(&mut cache, &key, n);
                        n
                    });
                }
                _ => {
                    cache.retain(|hit| hit.payload % 3 != 0);
                    map.retain(|_, payload| *payload % 3 != 0);
                }
            }
            prop_assert_eq!(cache.len(), map.len());
        }
        for ((name, suffix), payload) in &map {
            prop_assert_eq!(get(&cache, &keyed(name, suffix)), Some(*payload));
        }
    }
}
