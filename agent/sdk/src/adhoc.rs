//! Counts whose tenant and dimensions are known only at the moment of counting.
//!
//! A [`CallSite`] stands for one place in the program that names its dimensions once. What its
//! values led to is remembered by thread, hashed over the values and compared byte by byte:
//! a hit costs a hash and a comparison, then an ordinary add. The memory is bounded; what
//! falls out of it is looked up again.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use tollgate_common::Aggregation;

use crate::meter::{Meter, drop_events};
use crate::page::ADD_MAX;
use crate::series::{Series, key};
use crate::{kinds, local};

/// Combinations of values that a thread remembers; a power of two.
const ENTRIES: usize = 1024;
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
#[derive(Default)]
pub(crate) struct Recent {
    entries: Vec<Option<Entry>>,
    state: RandomState,
}

impl Recent {
    #[inline]
    fn hash(&self, site: &CallSite, meter: usize, tenant: &str, values: &[&str]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_usize(site.names() ^ meter);
        hasher.write(tenant.as_bytes());
        for value in values {
            hasher.write(value.as_bytes());
        }
        hasher.finish()
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
        for at in [first, first ^ 1] {
            if let Some(Some(entry)) = self.entries.get(at)
                && entry.hash == hash
                && entry.names == site.names()
                && entry.meter == meter
                && entry.is(tenant, values)
            {
                return Some(entry.at);
            }
        }
        None
    }

    fn remember(&mut self, entry: Entry) {
        if self.entries.is_empty() {
            self.entries.resize_with(ENTRIES, || None);
        }
        let first = index(entry.hash);
        // The one that was there moves over, and what was there falls out.
        self.entries.swap(first, first ^ 1);
        self.entries[first] = Some(entry);
    }
}

fn index(hash: u64) -> usize {
    usize::try_from(hash & (ENTRIES as u64 - 1)).unwrap_or(0)
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
    rest.strip_prefix(value.as_bytes())
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
