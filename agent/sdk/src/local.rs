//! What every thread keeps: the block that it leases, and the way to its cells.
//!
//! The way of an ordinary count is [`cell`]: the number of the series leads through a table to
//! the place of the cell, and the lease is compared. Whatever is not ordinary goes to
//! [`count_slowly`]: the thread's first count, a series that is new to it, a page that is not
//! in use any more (a fork, a page given up), a thread whose local memory is gone already.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::page::ADD_MAX;
use crate::process::{self, Block, Lease, NOWHERE, Page};
use crate::recent::Named;
use crate::series::Series;

static NO_LEASE: AtomicU64 = AtomicU64::new(0);

const NONE: Lease = Lease {
    table: &[],
    words: &[],
    word: &NO_LEASE,
    recent: None,
};

thread_local! {
    // Without a destructor: it can be read as long as the thread runs.
    static LEASE: Cell<Lease> = const { Cell::new(NONE) };
    /// True while the slow way is taken. What counts from within it, an allocator for example,
    /// must not take it again: its event is dropped.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static OWNED: Owned = const { Owned(RefCell::new(None)) };
}

struct Owned(RefCell<Option<Rc<Held>>>);

impl Drop for Owned {
    fn drop(&mut self) {
        LEASE.set(NONE);
        self.0.take();
    }
}

/// The block of a thread. It goes back when the thread has ended and the last handle that was
/// bound to it is gone, so that nobody else gets cells in which somebody still counts.
pub(crate) struct Held {
    block: RefCell<Option<Block>>,
    page: &'static Page,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.page.give_back(block);
        }
    }
}

/// The cell of the series number `id`, if this thread has counted there before and may add `n`
/// there: one comparison tells that the lease holds and that `n` is not too large.
#[inline]
pub(crate) fn sum_cell<const WORDS: usize>(id: u32, n: u64) -> Option<&'static [AtomicU64; WORDS]> {
    let lease = LEASE.get();
    let at = lease.table.get(id as usize)?.load(Relaxed);
    if n >= lease.word.load(Relaxed) {
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
    if !lease.holds() {
        return None;
    }
    Some((lease.words.get(at..at.checked_add(words)?)?, lease.words))
}

/// The cell at a place that this thread was told before, if its lease still holds.
pub(crate) fn cell_at<const WORDS: usize>(at: u32) -> Option<&'static [AtomicU64; WORDS]> {
    let lease = LEASE.get();
    if !lease.holds() {
        return None;
    }
    lease.words.get(at as usize..)?.first_chunk()
}

/// The cell that the same names led to before, if `n` may be added there.
#[inline]
pub(crate) fn remembered<const N: usize, const WORDS: usize>(
    named: &Named<'_, N>,
    n: u64,
) -> Option<&'static [AtomicU64; WORDS]> {
    let lease = LEASE.get();
    if n >= lease.word.load(Relaxed) {
        return None;
    }
    let at = lease.recent?.find(named)?;
    lease.words.get(at as usize..)?.first_chunk()
}

/// Remembers where the cell of these names is.
pub(crate) fn remember<const N: usize>(named: &Named<'_, N>, at: u32) {
    let lease = LEASE.get();
    if let Some(recent) = lease.recent
        && lease.holds()
        && !BUSY.replace(true)
    {
        recent.remember(named, at);
        BUSY.set(false);
    }
}

/// A cell that stays in its thread.
pub(crate) struct Bound {
    pub(crate) cell: &'static [AtomicU64],
    /// The word of the lease: what is smaller may be added to the cell.
    pub(crate) word: &'static AtomicU64,
    /// Keeps the block.
    pub(crate) held: Rc<Held>,
}

/// Finds the cell of a series for a handle; `None` without a block or room.
pub(crate) fn bind(series: &Series) -> Option<Bound> {
    let at = place(series)?;
    let lease = LEASE.get();
    let start = at as usize;
    let end = start.checked_add(crate::kinds::words(series.aggregation))?;
    let held = OWNED.try_with(|owned| owned.0.try_borrow().ok()?.clone());
    Some(Bound {
        cell: lease.words.get(start..end)?,
        word: lease.word,
        held: held.ok().flatten()?,
    })
}

impl Lease {
    /// False in a child after `fork`, and once the page is given up.
    fn holds(&self) -> bool {
        self.word.load(Relaxed) > ADD_MAX
    }
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
    let held = OWNED.try_with(|owned| {
        let mut owned = owned.0.try_borrow_mut().ok()?;
        if owned
            .as_ref()
            .is_some_and(|held| !std::ptr::eq(held.page, page))
        {
            *owned = None;
            LEASE.set(NONE);
        }
        if owned.is_none() {
            let block = RefCell::new(Some(page.lease()?));
            *owned = Some(Rc::new(Held { block, page }));
        }
        owned.clone()
    });
    let held = held.ok().flatten()?;
    let mut block = held.block.try_borrow_mut().ok()?;
    block.as_mut().map(run)
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
