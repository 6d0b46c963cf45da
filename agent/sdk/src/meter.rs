//! Meters and the handles that count.
//!
//! A handle is resolved once and then counts: [`Counter`], [`Max`], [`Histogram`], [`Unique`]
//! and [`Level`] may be cloned and used by any thread, each of which has a cell of its own; a
//! [`LocalCounter`] stays in its thread and is the fastest of all. Counting never fails, waits
//! or panics: what finds no room is dropped and noted ([`dropped`](crate::dropped)).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use tollgate_common::{Aggregation, MeterName, Scale, sketch};

use crate::cell::newest::{self, Told};
use crate::cell::sum::WORDS as SUM_WORDS;
use crate::cell::{halves, histogram, level, sum, unique};
use crate::local::Held;
use crate::page::ADD_MAX;
use crate::process::{self, PageRoom};
use crate::series::{self, Invalid, Series, key};
use crate::{kinds, local, sys};

/// Notes events that are not counted.
#[cold]
pub(crate) fn drop_events(events: u64) {
    process::dropped(events);
}

/// What is measured: a name and a decimal scale, as the agent's configuration declares them.
#[derive(Clone)]
pub struct Meter {
    name: MeterName,
    scale: Scale,
    /// Tells meters apart where their call sites are remembered.
    identity: u32,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({}, scale {})", self.name, self.scale)
    }
}

static METERS: AtomicU32 = AtomicU32::new(1);

impl Meter {
    /// A meter that counts whole units.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        Self::with_scale(name, 0)
    }

    /// A meter that counts units of 10^-`scale`; the scale is at most 12.
    pub fn with_scale(name: &str, scale: u8) -> Result<Self, Invalid> {
        Ok(Self {
            name: MeterName::new(name).map_err(Invalid::because)?,
            scale: Scale::new(scale).map_err(Invalid::because)?,
            identity: METERS.fetch_add(1, Relaxed),
        })
    }

    pub(crate) fn name(&self) -> &MeterName {
        &self.name
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    pub(crate) fn identity(&self) -> u32 {
        self.identity
    }

    fn series(
        &self,
        tenant: &str,
        dimensions: &[(&str, &str)],
        aggregation: Aggregation,
    ) -> Result<Arc<Series>, Invalid> {
        let key = key(tenant, &self.name, dimensions.iter().copied())?;
        Ok(Series::numbered(key, aggregation, self.scale))
    }

    /// A counter of a tenant; for meters with the aggregation `sum`.
    pub fn counter(&self, tenant: &str, dimensions: &[(&str, &str)]) -> Result<Counter, Invalid> {
        let series = self.series(tenant, dimensions, Aggregation::Sum)?;
        let id = series.id;
        Ok(Counter { id, series })
    }

    /// The largest value of each window; for meters with the aggregation `max`.
    pub fn max(&self, tenant: &str, dimensions: &[(&str, &str)]) -> Result<Max, Invalid> {
        let series = self.series(tenant, dimensions, Aggregation::Max)?;
        Ok(Max { series })
    }

    /// Values by their size; for meters with the aggregation `distribution`.
    pub fn histogram(
        &self,
        tenant: &str,
        dimensions: &[(&str, &str)],
    ) -> Result<Histogram, Invalid> {
        let series = self.series(tenant, dimensions, Aggregation::Distribution)?;
        Ok(Histogram { series })
    }

    /// How many different values each window had; for meters with the aggregation `unique`.
    pub fn unique(&self, tenant: &str, dimensions: &[(&str, &str)]) -> Result<Unique, Invalid> {
        let series = self.series(tenant, dimensions, Aggregation::Unique)?;
        Ok(Unique { series })
    }

    /// A level that is billed by the time that it holds; for meters with the aggregation
    /// `time_weighted`. All handles of a series in a process share one level, which starts
    /// at 0.
    pub fn level(&self, tenant: &str, dimensions: &[(&str, &str)]) -> Result<Level, Invalid> {
        let series = self.series(tenant, dimensions, Aggregation::TimeWeighted)?;
        Ok(Level { series })
    }
}

macro_rules! prints_its_series {
    ($($handle:ident)*) => {$(
        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($handle), "({})"), self.series.key)
            }
        }
    )*};
}

prints_its_series!(Counter LocalCounter Max Histogram Unique Level);

/// A counter that any thread may use. Not for signal handlers, like everything that counts.
#[derive(Clone)]
pub struct Counter {
    id: u32,
    series: Arc<Series>,
}

impl Counter {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n` in one event; at most 2^56 - 1, more is dropped.
    #[inline]
    pub fn add(&self, n: u64) {
        match local::sum_cell::<SUM_WORDS>(self.id, n) {
            Some(cell) => kinds::add(cell, n),
            None => self.add_slowly(n),
        }
    }

    #[cold]
    #[inline(never)]
    fn add_slowly(&self, n: u64) {
        let count = &mut |cell: &[AtomicU64]| kinds::add_to(cell, n);
        if n > ADD_MAX || !local::count_slowly(&self.series, count) {
            drop_events(1);
        }
    }

    /// The same counter, bound to the calling thread.
    pub fn local(&self) -> LocalCounter {
        let local = LocalCounter {
            cell: Cell::new(&NO_CELL),
            word: Cell::new(&NO_CELL[0]),
            series: Arc::clone(&self.series),
            held: RefCell::new(None),
        };
        local.bind();
        local
    }
}

static NO_CELL: [AtomicU64; SUM_WORDS] = [const { AtomicU64::new(0) }; SUM_WORDS];

/// A counter that stays in its thread: a load, an add and a store.
///
/// It keeps the cells of its thread: those of a thread that has ended are given to the next one
/// when the last handle that was bound there is dropped.
pub struct LocalCounter {
    cell: Cell<&'static [AtomicU64; SUM_WORDS]>,
    /// What is smaller may be added: 0 once the cell is not this thread's any more.
    word: Cell<&'static AtomicU64>,
    series: Arc<Series>,
    /// The cell's block. Neither `Send` nor `Sync`.
    held: RefCell<Option<Rc<Held>>>,
}

impl LocalCounter {
    /// Counts one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n` in one event; at most 2^56 - 1, more is dropped.
    #[inline]
    pub fn add(&self, n: u64) {
        // One comparison for the lease and the largest amount.
        if n < self.word.get().load(Relaxed) {
            kinds::add(self.cell.get(), n);
        } else {
            self.add_slowly(n);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_slowly(&self, n: u64) {
        let count = &mut |cell: &[AtomicU64]| kinds::add_to(cell, n);
        if n > ADD_MAX || !local::count_slowly(&self.series, count) {
            drop_events(1);
        }
        if n <= ADD_MAX {
            self.bind();
        }
    }

    /// Finds the cell of this thread; without one every count goes the slow way.
    fn bind(&self) {
        if let Some(bound) = local::bind(&self.series)
            && let Some(cell) = bound.cell.first_chunk()
        {
            self.cell.set(cell);
            self.word.set(bound.word);
            self.held.replace(Some(bound.held));
        }
    }
}

/// Counts in a cell whose memory may grow.
fn count_wide(
    series: &Series,
    mut count: impl FnMut(&[AtomicU64], &[AtomicU64], &mut PageRoom<'static>) -> bool,
) {
    let Some(page) = process::current() else {
        return drop_events(1);
    };
    let words = kinds::words(series.aggregation);
    let mut counted = false;
    if let Some((cell, heap)) = local::wide_cell(series.id, words) {
        counted = count(cell, heap, &mut page.room());
    } else {
        local::count_slowly(series, &mut |cell| {
            counted = count(cell, page.words(), &mut page.room());
        });
    }
    if !counted {
        drop_events(1);
    }
}

/// The largest value of each window.
#[derive(Clone)]
pub struct Max {
    series: Arc<Series>,
}

impl Max {
    /// Takes a value into account.
    pub fn record(&self, value: i64) {
        let width = process::window_millis();
        let mut set = |cell: &[AtomicU64]| {
            let (now, keep) = (sys::coarse_millis(), halves::Keep::Max);
            let taken = |_, _| process::is_attended(now, width);
            halves::set(cell, now, width, value, keep, taken);
        };
        if let Some((cell, _)) = local::wide_cell(self.series.id, halves::WORDS) {
            set(cell);
        } else if !local::count_slowly(&self.series, &mut set) {
            drop_events(1);
        }
    }
}

/// Values by their size, with two significant digits, and their exact sum.
#[derive(Clone)]
pub struct Histogram {
    series: Arc<Series>,
}

impl Histogram {
    /// Records a value, below 2^56.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// Records the same value several times; `value` × `count` is at most 2^56 - 1.
    pub fn record_many(&self, value: u64, count: u64) {
        let whole = value.checked_mul(count).is_some_and(|n| n <= ADD_MAX);
        if !whole || value > ADD_MAX || count > ADD_MAX {
            return drop_events(count);
        }
        count_wide(&self.series, |cell, heap, room| {
            let (sum, head) = cell.split_at(sum::WORDS);
            let cell = histogram::Cell { head, sum, heap };
            let base = || sum[0].load(Relaxed);
            let words = histogram::CHUNK_BUCKETS;
            cell.record(room, words, (value, count), 0, base).is_ok()
        });
    }
}

/// How many different values each window had: exact up to 256, then estimated.
#[derive(Clone)]
pub struct Unique {
    series: Arc<Series>,
}

impl Unique {
    /// Takes a value into account.
    pub fn insert(&self, value: impl AsRef<[u8]>) {
        self.insert_hash(sketch::hash(value.as_ref()));
    }

    /// Takes a value into account by its XXH64 with seed 0.
    pub fn insert_hash(&self, hash: u64) {
        let width = process::window_millis();
        count_wide(&self.series, |halves, heap, room| {
            let cell = unique::Cell { halves, heap };
            let now = sys::coarse_millis();
            let taken = |_, _| process::is_attended(now, width);
            cell.insert(room, (now, width), hash, taken).is_ok()
        });
    }
}

/// A level that is billed by the time that it holds.
#[derive(Clone)]
pub struct Level {
    series: Arc<Series>,
}

impl Level {
    /// The level is `value` from now on.
    pub fn set(&self, value: u64) {
        let value = value.min(i64::MAX.unsigned_abs());
        self.change(|_| value);
    }

    /// The level is higher by `n` from now on.
    pub fn add(&self, n: u64) {
        let most = i64::MAX.unsigned_abs();
        self.change(|level| level.saturating_add(n).min(most));
    }

    /// The level is lower by `n` from now on; not below 0.
    pub fn sub(&self, n: u64) {
        self.change(|level| level.saturating_sub(n));
    }

    /// Stores the levels of the process in a page that has taken the place of another one.
    pub(crate) fn carry() {
        for series in series::with_levels() {
            Self { series }.change(|level| level);
        }
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        // There is none beyond the number of series that a process tells apart.
        let Some(level) = self.series.level() else {
            return drop_events(1);
        };
        // It is given no reason to fail.
        let _ = level.fetch_update(AcqRel, Acquire, |level| Some(change(level)));
        let told = newest::tell(level, |load| {
            let Some(page) = process::current() else {
                return Told::Nothing;
            };
            let (width, mut now) = (page.window_millis(), 0);
            let stored = page.try_count_level(&self.series, |cell| {
                now = load();
                level::set(cell, sys::precise_millis(), width, now);
            });
            match stored {
                None => Told::ByAnother,
                Some(false) => Told::Nothing,
                Some(true) => Told::Value(now),
            }
        });
        if !told {
            drop_events(1);
        }
    }
}
