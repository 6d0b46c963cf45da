//! Levels that more than one writer sets: a series has one level, whoever sets it.
//!
//! Every writer has cells of its own, and those of one series add up: of counts that is what is
//! wanted, of levels it is not. A gauge that is sent to the Unix socket and then over UDP is the
//! same gauge. So whoever sets a level ends that of the other writers' cells at the same
//! instant. The cells of a series are known here, and one lock of the series is held while any of
//! them is stored to: a cell still has one writer at a time.
//!
//! Mirrors of pages are not known here. Each process has a level of its own, and these add up.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use tollgate::cell::{CLOCK_STEP_MAX_MILLIS, level};

/// Bytes of a level beside its cell, at most: what is here, its place in the table, and in that of
/// the writer.
pub(crate) const LEVEL_BYTES: u64 = 192;

/// The cell of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelCell {
    pub(super) writer: u32,
    pub(super) slot: u32,
    /// The first word of the cell in the region.
    pub(super) at: usize,
}

/// The cells of one series.
pub(super) struct Level {
    hash: u64,
    cells: Mutex<Vec<LevelCell>>,
}

/// The levels of all writers.
#[derive(Default)]
pub(super) struct Levels(Mutex<HashTable<Arc<Level>>>);

/// What is guarded here is whole after every statement that changes it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Levels {
    /// A cell of a series with this hash has been made or found; `same` says whether another
    /// cell, which stays as long as it is asked about, is one of the same series.
    pub(super) fn join(
        &self,
        hash: u64,
        cell: LevelCell,
        same: impl Fn(LevelCell) -> bool,
    ) -> Arc<Level> {
        let mut levels = lock(&self.0);
        let is = |level: &Arc<Level>| lock(&level.cells).first().is_some_and(|&of| same(of));
        if let Some(level) = levels.find(hash, is) {
            let mut cells = lock(&level.cells);
            cells.retain(|of| (of.writer, of.slot) != (cell.writer, cell.slot));
            cells.push(cell);
            drop(cells);
            return Arc::clone(level);
        }
        let cells = Mutex::new(vec![cell]);
        let level = Arc::new(Level { hash, cells });
        levels.insert_unique(hash, Arc::clone(&level), |level| level.hash);
        level
    }

    /// The slot is about to be retired: nobody else stores to its cell from here on.
    pub(super) fn leave(&self, level: &Arc<Level>, writer: u32, slot: u32) {
        let mut levels = lock(&self.0);
        let mut cells = lock(&level.cells);
        cells.retain(|of| (of.writer, of.slot) != (writer, slot));
        let empty = cells.is_empty();
        drop(cells);
        if empty && let Ok(entry) = levels.find_entry(level.hash, |of| Arc::ptr_eq(of, level)) {
            entry.remove();
        }
    }
}

impl Level {
    /// Sets the level of the series through the cell of a writer's slot, and ends that of its
    /// other cells. Writers that are at it at the same time may know instants in another order
    /// than they come here; the later of two then counts from the earlier one on.
    pub(super) fn set(
        &self,
        words: &[AtomicU64],
        (writer, slot): (u32, u32),
        (now, width): (i64, i64),
        value: u64,
    ) {
        let cells = lock(&self.cells);
        let of = |cell: &LevelCell| words.get(cell.at..cell.at + level::WORDS);
        let newest = cells.iter().filter_map(|cell| {
            let state = level::read(of(cell)?)?;
            (state.events > 0).then_some(state.since)
        });
        // Like a cell, they stand still where a clock went back a little, and begin anew where
        // it was set.
        let newest = newest.max().unwrap_or(now);
        let set_back = now.saturating_add(CLOCK_STEP_MAX_MILLIS) < newest;
        let now = if set_back { now } else { now.max(newest) };
        // The own one first: a process killed in between leaves two, of which the newer is told
        // from the other by its instant.
        let is_own = |cell: &&LevelCell| (cell.writer, cell.slot) == (writer, slot);
        if let Some(own) = cells.iter().find(is_own).and_then(of) {
            level::set(own, now, width, value);
        }
        for other in cells.iter().filter(|cell| !is_own(cell)).filter_map(of) {
            if level::read(other).is_some_and(|state| state.level > 0) {
                level::set(other, now, width, 0);
            }
        }
    }
}
