//! Counts whose tenant and dimensions are known only at the moment of counting.
//!
//! A [`CallSite`] stands for one place in the program that names its dimensions once. What its
//! values led to is remembered by thread, hashed over the values and compared byte by byte:
//! a hit costs a hash and a comparison, then an ordinary add. The memory is bounded; what
//! falls out of it is looked up again.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use tollgate_common::Aggregation;

use crate::meter::{Meter, drop_events};
use crate::page::ADD_MAX;
use crate::series::{Series, key};
use crate::{kinds, local};

/// Combinations of values that a thread remembers; a power of two.
const ENTRIES: usize = 1024;
/// Places that a combination may be in.
const WAYS: usize = 4;
/// Longest values that are remembered, all together.
const BYTES_MAX: usize = 512;

struct Entry {
    hash: u64,
    /// Which names belong to the values: where they are in memory, and the meter.
    names: usize,
    meter: usize,
    at: u32,
    /// Each value as its length and bytes.
    values: Box<[u8]>,
}

/// What the call sites of a thread counted last.
pub(crate) struct Recent {
    entries: Vec<Option<Entry>>,
    /// Nobody outside can aim at collisions.
    seed: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            seed: RandomState::default().hash_one(0),
        }
    }
}

/// Mixes a word into a hash: the halves of a product, one over the other.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half of a product")]
fn mix(hash: u64, word: u64) -> u64 {
    // An odd constant with its bits spread: the fraction of the golden ratio.
    let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

/// Mixes a text into a hash, eight bytes at a time, the last ones perhaps twice.
#[inline]
fn mix_text(mut hash: u64, text: &[u8]) -> u64 {
    hash = mix(hash, text.len() as u64);
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    if rest.is_empty() {
        return hash;
    }
    mix(hash, last_word(text))
}

/// The last eight bytes of a text, or all there are.
#[inline]
fn last_word(text: &[u8]) -> u64 {
    if let Some(last) = text.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    }
    text.iter()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// True if two texts of the same length are equal; without a call, as the values are short.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    let (words, _) = a.as_chunks::<8>();
    let (others, _) = b.as_chunks::<8>();
    a.len() == b.len() && words == others && last_word(a) == last_word(b)
}

impl Recent {
    #[inline]
    fn hash(&self, site: &CallSite, meter: usize, tenant: &str, values: &[&str]) -> u64 {
        let hash = mix(self.seed, (site.names() ^ meter << 48) as u64);
        let hash = mix_text(hash, tenant.as_bytes());
        values
            .iter()
            .fold(hash, |hash, value| mix_text(hash, value.as_bytes()))
    }

    #[inline]
    fn find(
        &self,
        hash: u64,
        site: &CallSite,
        meter: usize,
        tenant: &str,
        values: &[&str],
    ) -> Option<u32> {
        let first = index(hash);
        let entries = self.entries.get(first..first + WAYS)?;
        entries.iter().flatten().find_map(|entry| {
            let same = entry.hash == hash
                && entry.names == site.names()
                && entry.meter == meter
                && entry.is(tenant, values);
            same.then_some(entry.at)
        })
    }

    fn remember(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.entries.resize_with(ENTRIES, || None);
        }
        let first = index(entry.hash);
        // The others move over, and the oldest falls out.
        if let Some(ways) = self.entries.get_mut(first..first + WAYS) {
            ways.rotate_right(1);
            ways[0] = Some(entry);
        }
    }
}

fn index(hash: u64) -> usize {
    let set = hash & (ENTRIES / WAYS - 1) as u64;
    usize::try_from(set).unwrap_or(0) * WAYS
}

fn put(value: &str, out: &mut Vec<u8>) -> Option<()> {
    out.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    (out.len() <= BYTES_MAX).then_some(())
}

#[inline]
fn strip<'a>(rest: &'a [u8], value: &str) -> Option<&'a [u8]> {
    let (length, rest) = rest.split_first_chunk::<2>()?;
    if usize::from(u16::from_le_bytes(*length)) != value.len() {
        return None;
    }
    let (text, rest) = rest.split_at_checked(value.len())?;
    same(text, value.as_bytes()).then_some(rest)
}

impl Entry {
    #[inline]
    fn is(&self, tenant: &str, values: &[&str]) -> bool {
        let rest = strip(&self.values, tenant);
        values
            .iter()
            .try_fold(rest, |rest, value| Some(strip(rest?, value)))
            .flatten()
            .is_some_and(<[u8]>::is_empty)
    }
}

/// One place in a program that counts with dimensions of the moment; see
/// [`count!`](crate::count).
#[derive(Debug)]
pub struct CallSite {
    keys: &'static [&'static str],
}

impl CallSite {
    /// A place that names these dimensions.
    #[must_use]
    pub const fn new(keys: &'static [&'static str]) -> Self {
        Self { keys }
    }

    fn names(&self) -> usize {
        self.keys.as_ptr().addr()
    }

    /// Adds `n` for a tenant, with one value for each dimension.
    ///
    /// Names that no series can have, and counts without room, are dropped and noted
    /// ([`dropped`](crate::dropped)).
    #[inline]
    pub fn count(&self, meter: &Meter, tenant: &str, values: &[&str], n: u64) {
        let identity = meter.identity();
        let found = local::with_recent(|recent| {
            let hash = recent.hash(self, identity, tenant, values);
            let found = recent.find(hash, self, identity, tenant, values);
            found.and_then(local::cell_at)
        });
        match found.flatten() {
            Some(cell) if n <= ADD_MAX => kinds::add(cell, n),
            _ => self.count_new(meter, tenant, values, n),
        }
    }

    #[cold]
    #[inline(never)]
    fn count_new(&self, meter: &Meter, tenant: &str, values: &[&str], n: u64) {
        if n > ADD_MAX || values.len() != self.keys.len() {
            return drop_events(1);
        }
        let pairs = self.keys.iter().copied().zip(values.iter().copied());
        let Ok(key) = key(tenant, meter.name(), pairs) else {
            return drop_events(1);
        };
        let series = Series::unnumbered(key, Aggregation::Sum, meter.scale());
        let Some(at) = local::place(&series) else {
            let counted = local::count_slowly(&series, &mut |cell| kinds::add_to(cell, n));
            if !counted {
                drop_events(1);
            }
            return;
        };
        let mut bytes = Vec::new();
        let whole = put(tenant, &mut bytes)
            .and_then(|()| values.iter().try_for_each(|value| put(value, &mut bytes)));
        let identity = meter.identity();
        local::with_recent(|recent| {
            if whole.is_some() {
                recent.remember(Entry {
                    hash: recent.hash(self, identity, tenant, values),
                    names: self.names(),
                    meter: identity,
                    at,
                    values: bytes.into(),
                });
            }
        });
        match local::cell_at(at) {
            Some(cell) => kinds::add(cell, n),
            None => drop_events(1),
        }
    }
}

/// Counts with dimensions of the moment: `count!(meter, tenant, n, "region" => region, …)`.
///
/// The names are texts of the program, tenant and values anything that is `AsRef<str>`.
///
/// ```
/// let meter = tollgate::Meter::new("http.requests")?;
/// let region = String::from("eu");
/// tollgate::count!(meter, "acme", 1, "region" => region, "method" => "GET");
/// # Ok::<(), tollgate::Invalid>(())
/// ```
#[macro_export]
macro_rules! count {
    ($meter:expr, $tenant:expr, $n:expr $(, $key:literal => $value:expr)* $(,)?) => {{
        static SITE: $crate::CallSite = $crate::CallSite::new(&[$($key),*]);
        SITE.count(
            &$meter,
            ::core::convert::AsRef::<str>::as_ref(&$tenant),
            &[$(::core::convert::AsRef::<str>::as_ref(&$value)),*],
            $n,
        )
    }};
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_compared_whole(a in "[ab]{0,20}", b in "[ab]{0,20}") {
            prop_assert_eq!(same(a.as_bytes(), b.as_bytes()), a == b);
            let hash = |text: &str| mix_text(7, text.as_bytes());
            prop_assert_eq!(hash(&a) == hash(&b), a == b);
        }

        #[test]
        fn values_are_told_apart_where_they_join(values in proptest::collection::vec("[ab]{0,3}", 1..4),
                                                 others in proptest::collection::vec("[ab]{0,3}", 1..4)) {
            let mut bytes = Vec::new();
            for value in &values {
                put(value, &mut bytes);
            }
            let entry = Entry { hash: 0, names: 0, meter: 0, at: 0, values: bytes.into() };
            let texts: Vec<&str> = others.iter().map(String::as_str).collect();
            prop_assert_eq!(entry.is(texts[0], &texts[1..]), values == others);
        }
    }
}
