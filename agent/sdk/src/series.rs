//! Series as an application names them: checked once, numbered for the tables of threads.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use tollgate_common::{Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId};

use crate::sys::{self, Published, Wiped};

/// The number of a series that has none: it is looked up by its key.
pub(crate) const NO_ID: u32 = u32::MAX;
/// Most series with a number.
const IDS_MAX: u32 = 1 << 20;

/// Names that no series can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn because(reason: impl std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// A series and how it is counted.
pub(crate) struct Series {
    /// Its number, or [`NO_ID`].
    pub(crate) id: u32,
    pub(crate) key: SeriesKey,
    /// Aggregation and scale, then the canonical form: what tells it from others.
    pub(crate) name: Box<[u8]>,
    pub(crate) aggregation: Aggregation,
    pub(crate) scale: Scale,
}

/// Bytes of a name before the key.
pub(crate) const NAME_HEAD: usize = 2;

pub(crate) fn name(key: &SeriesKey, aggregation: Aggregation, scale: Scale) -> Vec<u8> {
    let mut name = Vec::with_capacity(NAME_HEAD + key.canonical_len());
    name.extend([aggregation.code(), scale.get()]);
    key.write_canonical(&mut name);
    name
}

pub(crate) fn key<'a>(
    tenant: &str,
    meter: &MeterName,
    dimensions: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<SeriesKey, Invalid> {
    let tenant = TenantId::new(tenant).map_err(Invalid::because)?;
    let dimensions = Dimensions::new(dimensions).map_err(Invalid::because)?;
    SeriesKey::new(tenant, meter.clone(), dimensions).map_err(Invalid::because)
}

type Known = HashMap<Box<[u8]>, Arc<Series>>;

/// All numbered series of the process. They stay: a number is an index of many tables.
static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
/// The levels of the process by the numbers of their series: in a child after `fork`, which has
/// none yet, all of them are 0. Only what is used of it takes memory.
static LEVELS: Published<&'static [AtomicU64]> = Published::none();

impl Series {
    pub(crate) fn unnumbered(key: SeriesKey, aggregation: Aggregation, scale: Scale) -> Self {
        Self {
            id: NO_ID,
            name: name(&key, aggregation, scale).into(),
            key,
            aggregation,
            scale,
        }
    }

    /// The series with its number; equal series are one.
    pub(crate) fn numbered(key: SeriesKey, aggregation: Aggregation, scale: Scale) -> Arc<Self> {
        let mut series = Self::unnumbered(key, aggregation, scale);
        let Some(mut known) = try_known() else {
            return Arc::new(series);
        };
        let known = known.get_or_insert_with(HashMap::new);
        if let Some(there) = known.get(&series.name) {
            return Arc::clone(there);
        }
        let id = u32::try_from(known.len()).unwrap_or(NO_ID);
        if id >= IDS_MAX {
            return Arc::new(series);
        }
        if aggregation == Aggregation::TimeWeighted && LEVELS.get().is_none() {
            // Without memory there is none, and what is counted there is dropped visibly.
            if let Ok(levels) = sys::wiped_on_fork(Wiped::Levels, IDS_MAX as usize) {
                LEVELS.set(Box::new(levels));
            }
        }
        series.id = id;
        let series = Arc::new(series);
        known.insert(series.name.clone(), Arc::clone(&series));
        series
    }
}

impl Series {
    /// The level of the process. `None` for a series without a number.
    pub(crate) fn level(&self) -> Option<&'static AtomicU64> {
        LEVELS.get()?.get(self.id as usize)
    }
}

/// All series whose level is not 0.
pub(crate) fn with_levels() -> Vec<Arc<Series>> {
    if LEVELS.get().is_none() {
        return Vec::new();
    }
    // In a child the lock may be one that nobody holds any more; it has no levels either.
    let Some(known) = try_known() else {
        return Vec::new();
    };
    let all = known.iter().flat_map(HashMap::values);
    let levels = all.filter(|series| {
        series.aggregation == Aggregation::TimeWeighted
            && series.level().is_some_and(|level| level.load(Relaxed) != 0)
    });
    levels.cloned().collect()
}

const LOCK_ATTEMPTS: u32 = 100_000;

/// In a child after `fork` the lock may be one that nobody holds any more.
fn try_known() -> Option<MutexGuard<'static, Option<Known>>> {
    (0..LOCK_ATTEMPTS).find_map(|_| {
        let known = KNOWN.try_lock().ok();
        if known.is_none() {
            std::thread::yield_now();
        }
        known
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_series_are_one_and_bad_names_are_told() {
        let meter = MeterName::new("series.test").expect("valid");
        let make = |region| {
            let key = key("acme", &meter, [("region", region)]).expect("valid");
            Series::numbered(key, Aggregation::Sum, Scale::ZERO)
        };
        let (a, b, c) = (make("eu"), make("eu"), make("us"));
        assert!(Arc::ptr_eq(&a, &b));
        assert_ne!(a.id, c.id);
        let error = key("a b", &meter, []).expect_err("a space");
        assert!(error.to_string().contains("tenant"), "{error}");
        assert!(key("acme", &meter, [("x", "\n")]).is_err());
    }
}
