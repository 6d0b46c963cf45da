//! What every thread keeps: the block that it leases, and the way to its cells.
//!
//! The way of an ordinary count is [`cell`]: the number of the series leads through a table to
//! the place of the cell, and the lease is compared. Whatever is not ordinary goes to
//! [`count_slowly`]: the thread's first count, a series that is new to it, a page that is not
//! in use any more (a fork, a page given up), a thread whose local memory is gone already.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::adhoc::Recent;
use crate::process::{self, Block, Lease, NOWHERE, Page};
use crate::series::Series;

static NO_LEASE: AtomicU64 = AtomicU64::new(0);

const NONE: Lease = Lease {
    table: &[],
    words: &[],
    word: &NO_LEASE,
    number: u64::MAX,
};

thread_local! {
    // Without a destructor: it can be read as long as the thread runs.
    static LEASE: Cell<Lease> = const { Cell::new(NONE) };
    /// True while the slow way is taken: a signal handler that counts must not take it again.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static OWNED: Owned = const { Owned(RefCell::new(None)) };
}

struct Owned(RefCell<Option<(Block, &'static Page)>>);

impl Drop for Owned {
    fn drop(&mut self) {
        LEASE.set(NONE);
        if let Some((block, page)) = self.0.take() {
            page.give_back(block);
        }
    }
}

/// The cell of the series number `id`, if this thread has counted there before.
#[inline]
pub(crate) fn cell<const WORDS: usize>(id: u32) -> Option<&'static [AtomicU64; WORDS]> {
    let lease = LEASE.get();
    let at = lease.table.get(id as usize)?.load(Relaxed);
    if lease.word.load(Relaxed) != lease.number {
        return None;
    }
    lease.words.get(at as usize..)?.first_chunk()
}

/// The same for a cell of any size, with the memory that its chunks are in.
#[inline]
pub(crate) fn wide_cell(
    id: u32,
    words: usize,
) -> Option<(&'static [AtomicU64], &'static [AtomicU64])> {
    let lease = LEASE.get();
    let at = lease.table.get(id as usize)?.load(Relaxed) as usize;
    if lease.word.load(Relaxed) != lease.number {
        return None;
    }
    Some((lease.words.get(at..at.checked_add(words)?)?, lease.words))
}

/// The cell at a place that this thread was told before, if its lease still holds.
#[inline]
pub(crate) fn cell_at<const WORDS: usize>(at: u32) -> Option<&'static [AtomicU64; WORDS]> {
    let lease = LEASE.get();
    lease.words.get(at as usize..)?.first_chunk()
}

/// The lease of this thread.
pub(crate) fn lease() -> Lease {
    LEASE.get()
}

/// True while the lease holds.
pub(crate) fn holds(lease: &Lease) -> bool {
    lease.word.load(Relaxed) == lease.number
}

/// Counts with everything that may have to be made first. False if there is no room; the
/// caller then notes what is dropped.
#[cold]
#[inline(never)]
pub(crate) fn count_slowly(series: &Series, count: &mut dyn FnMut(&[AtomicU64])) -> bool {
    if BUSY.replace(true) {
        return false;
    }
    let done = slowly(series, count);
    BUSY.set(false);
    done
}

fn slowly(series: &Series, count: &mut dyn FnMut(&[AtomicU64])) -> bool {
    let Some(page) = process::current() else {
        return false;
    };
    let own = with_block(page, |block| {
        let at = page.resolve(block, series);
        LEASE.set(page.access(block));
        at
    });
    match own {
        Some(NOWHERE) => false,
        Some(at) => page.cell(at, series).map(count).is_some(),
        None => page.count_shared(series, count),
    }
}

/// Runs with the block of this thread, leased if need be; `None` without one.
fn with_block<T>(page: &'static Page, run: impl FnOnce(&mut Block) -> T) -> Option<T> {
    let owned = OWNED.try_with(|owned| {
        let mut owned = owned.0.try_borrow_mut().ok()?;
        if owned
            .as_ref()
            .is_some_and(|(_, of)| !std::ptr::eq(*of, page))
        {
            *owned = None;
            LEASE.set(NONE);
        }
        let (block, _) = match &mut *owned {
            Some(owned) => owned,
            none => none.insert((page.lease()?, page)),
        };
        Some(run(block))
    });
    owned.ok().flatten()
}

/// Where a series is in this thread's block; `None` without block or room.
#[cold]
#[inline(never)]
pub(crate) fn place(series: &Series) -> Option<u32> {
    if BUSY.replace(true) {
        return None;
    }
    let at = process::current().and_then(|page| {
        with_block(page, |block| {
            let at = page.resolve(block, series);
            LEASE.set(page.access(block));
            at
        })
    });
    BUSY.set(false);
    at.filter(|at| *at != NOWHERE)
}

/// Runs with what call sites of this thread counted last, if the lease holds.
#[inline]
pub(crate) fn with_recent<T>(run: impl FnOnce(&mut Recent) -> T) -> Option<T> {
    if !holds(&LEASE.get()) {
        return None;
    }
    OWNED
        .try_with(|owned| {
            let mut owned = owned.0.try_borrow_mut().ok()?;
            let (block, _) = owned.as_mut()?;
            Some(run(&mut block.recent))
        })
        .ok()
        .flatten()
}
