//! The page of this process, and the blocks that its threads lease.
//!
//! Every thread that counts leases a *block*: cells that only it stores to. When the thread
//! ends, the block goes back and the next thread goes on with it, where its cells stand: a
//! page holds as many cells of a series as threads ever counted it at the same time.
//!
//! A lease is a word that every count looks at: it says what may be added. The words are wiped
//! in a child after `fork`, and when the page is given up: then the next count of every thread comes here
//! and gets a new page. Nothing on that way waits for anything but the short lock of the
//! arena, and nothing of it is on the way of an ordinary count.

mod arena;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cell::lease;
use crate::kinds;
use crate::page::hello::Answer;
use crate::page::{self, ADD_MAX, PageLayout, at, put_bytes};
use crate::recent::{self, Recent};
use crate::series::{NO_ID, Series};
use crate::sys::{self, Published, Wiped};
use crate::{Level, Options, handover};
pub(crate) use arena::PageRoom;

/// Most blocks of a page. Threads beyond that share one, under a lock.
const BLOCKS_MAX: usize = 4096;
/// A place in a table that leads nowhere.
pub(crate) const NOWHERE: u32 = u32::MAX;
/// What the word of a lease holds while it is in force: every amount that may be added is
/// smaller, and none is smaller than the 0 that is there otherwise.
pub(crate) const LEASED: u64 = ADD_MAX + 1;
/// Words of a thread's first and largest piece of the arena, in which its counters lie.
const CHUNK_WORDS: (usize, usize) = (32, 512);
/// One part in so many of the page is kept for series without dimensions.
const RESERVE: usize = 16;
/// Width of an agent's windows unless it says otherwise.
const WINDOW_SECS: i64 = 10;
/// How long after it has the page an agent has looked at it, if it does not tell: once a second.
const LOOKED_MILLIS: i64 = 3000;
/// The clock that counts are given their windows by may be so far behind.
const COARSE_MILLIS: i64 = 20;
/// Instead of an instant: no agent has the page.
const NOBODY: i64 = i64::MAX;
/// Instead of an instant: the agent does not tell of its looks.
const UNTOLD: i64 = i64::MAX;
/// Nothing that was counted is known to be looked at.
const NEVER: i64 = i64::MIN;
/// How long to wait before trying again to make a page.
const RETRY_MILLIS: i64 = 1000;

static CURRENT: Published<Page> = Published::none();
/// The process that is making a page right now, or 0.
static MAKING: AtomicU32 = AtomicU32::new(0);
/// When it makes sense to try again, after a failure.
static RETRY_AT: AtomicI64 = AtomicI64::new(0);
/// Events dropped while there was no page.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The cells of one thread, or of those that share one.
pub(crate) struct Block {
    /// The word of its lease.
    lease: usize,
    /// Where the cell of each numbered series is.
    table: &'static [AtomicU32],
    cells: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    chunk: std::ops::Range<usize>,
    chunk_words: usize,
    /// What call sites counted last; none if there is no memory for it.
    recent: Option<Recent>,
}

impl Block {
    fn new(lease: usize) -> Self {
        Self {
            lease,
            table: &[],
            cells: HashMap::default(),
            chunk: 0..0,
            chunk_words: CHUNK_WORDS.0,
            recent: None,
        }
    }

    /// Notes where a numbered series is. The old table stays for who still looks at it: a
    /// table doubles, so all of them together are less than twice the last one.
    fn note(&mut self, id: u32, at: u32) {
        if id == NO_ID {
            return;
        }
        let index = id as usize;
        if index >= self.table.len() {
            let length = (index + 1).next_power_of_two().max(16);
            let table: Box<[AtomicU32]> = (0..length)
                .map(|index| {
                    let old = self.table.get(index);
                    AtomicU32::new(old.map_or(NOWHERE, |old| old.load(Relaxed)))
                })
                .collect();
            self.table = Box::leak(table);
        }
        self.table[index].store(at, Relaxed);
    }
}

/// What a thread needs to count.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) table: &'static [AtomicU32],
    pub(crate) words: &'static [AtomicU64],
    /// [`LEASED`] while the lease holds, 0 from then on.
    pub(crate) word: &'static AtomicU64,
    pub(crate) recent: Option<Recent>,
}

struct Arena {
    next: usize,
    slots: u32,
    keys: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    free: Vec<Block>,
    /// Chunks that cells gave back: place and words.
    chunks: Vec<(u32, u32)>,
    blocks: usize,
}

/// One page.
pub(crate) struct Page {
    words: &'static [AtomicU64],
    layout: PageLayout,
    id: [u8; 16],
    fd: OwnedFd,
    /// Word 0 tells that the page is in use, the others belong to blocks.
    leases: &'static [AtomicU64],
    /// Since when an agent has it, in steady milliseconds, or [`NOBODY`].
    attended: AtomicI64,
    /// What was counted before this instant of the wall clock is in the hands of that agent;
    /// [`UNTOLD`] if it does not say so.
    looked: AtomicI64,
    arena: Mutex<Arena>,
    /// For threads without a block of their own.
    shared: Mutex<Block>,
    /// Levels have one cell for all threads.
    levels: Mutex<Block>,
}

/// The page of this process, made if there is none. `None` if none can be had at present.
pub(crate) fn current() -> Option<&'static Page> {
    present().or_else(make)
}

#[cold]
fn make() -> Option<&'static Page> {
    let pid = std::process::id();
    loop {
        if let Some(page) = present() {
            return Some(page);
        }
        if sys::coarse_millis() < RETRY_AT.load(Relaxed) {
            return None;
        }
        let making = MAKING.load(Relaxed);
        // What a parent was making when it forked, nobody is making in the child.
        if making != pid
            && MAKING
                .compare_exchange(making, pid, Relaxed, Relaxed)
                .is_ok()
        {
            let made = if CURRENT.get().is_some_and(Page::is_in_use) {
                Ok(())
            } else {
                Page::new(Options::installed().page_bytes).map(|page| {
                    let page = CURRENT.set(Box::new(page));
                    // Of a page before this one, if it was of this process.
                    Level::carry();
                    handover::start(page);
                })
            };
            if made.is_err() {
                let at = sys::coarse_millis().saturating_add(RETRY_MILLIS);
                RETRY_AT.store(at, Relaxed);
            }
            MAKING.store(0, Release);
        } else {
            std::thread::yield_now();
        }
    }
}

/// The page of this process, if there is one.
pub(crate) fn present() -> Option<&'static Page> {
    CURRENT.get().filter(|page| page.is_in_use())
}

/// Width of windows in milliseconds, as the agent said or as it is by default.
pub(crate) fn window_millis() -> i64 {
    present().map_or(WINDOW_SECS * 1000, Page::window_millis)
}

/// True if an agent has looked at the page since the window ended that lies two windows of `width`
/// before that of `now`: what was counted in it is in the agent's hands. What nobody has looked
/// at has to stay, whether there is no agent or one that does not get to it.
#[cold]
pub(crate) fn is_attended(now: i64, width: i64) -> bool {
    present().is_some_and(|page| {
        let ended = now - now.rem_euclid(width) - width;
        page.is_looked_at(ended, now)
    })
}

/// Notes events that found no room.
pub(crate) fn dropped(events: u64) {
    match present() {
        Some(page) => page.dropped(events),
        None => {
            DROPPED.fetch_add(events, Relaxed);
        }
    }
}

/// Events that found no room, of this process.
pub(crate) fn dropped_total() -> u64 {
    let of_page = present().map_or(0, |page| page.words[at::DROPPED].load(Relaxed));
    DROPPED.load(Relaxed).saturating_add(of_page)
}

impl Page {
    fn new(bytes: u64) -> io::Result<Self> {
        let layout = PageLayout::for_bytes(bytes);
        let (fd, words) = sys::sealed_memory(layout.words())?;
        let leases = sys::wiped_on_fork(Wiped::Leases, BLOCKS_MAX + 1)?;
        let id = sys::random()?;
        let word = |at: usize, value: u64| words[at].store(value, Relaxed);
        word(at::MAGIC, page::MAGIC);
        word(at::VERSION, page::VERSION);
        word(at::WORDS, layout.words() as u64);
        word(at::SLOTS_MAX, layout.slots_max().into());
        put_bytes(&words[at::ID..], &id);
        word(at::CREATED, sys::precise_millis().cast_unsigned());
        word(at::CHECKSUM, page::header_checksum(words));
        leases[0].store(lease::IN_USE, Release);
        Ok(Self {
            words,
            layout,
            id,
            fd,
            leases,
            attended: AtomicI64::new(NOBODY),
            looked: AtomicI64::new(NEVER),
            arena: Mutex::new(Arena {
                next: layout.arena(),
                slots: 0,
                keys: HashMap::default(),
                free: Vec::new(),
                chunks: Vec::new(),
                blocks: 0,
            }),
            shared: Mutex::new(Block::new(0)),
            levels: Mutex::new(Block::new(0)),
        })
    }

    /// False in a child after `fork`, and once the page has been given up.
    pub(crate) fn is_in_use(&self) -> bool {
        self.leases[0].load(Relaxed) == lease::IN_USE
    }

    /// Ends all leases: the next count of every thread starts a new page.
    pub(crate) fn give_up(&self) {
        if let [in_use, leases @ ..] = self.leases {
            lease::end_all(in_use, leases);
        }
    }

    pub(crate) fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn dropped(&self, events: u64) {
        self.words[at::DROPPED].fetch_add(events, Relaxed);
    }

    fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block for the calling thread: one that another thread has left, or a new one.
    pub(crate) fn lease(&self) -> Option<Block> {
        let mut arena = self.arena();
        let block = match arena.free.pop() {
            Some(block) => block,
            None if arena.blocks < BLOCKS_MAX => {
                arena.blocks += 1;
                let mut block = Block::new(arena.blocks);
                block.recent = sys::lazy_memory(recent::WORDS)
                    .ok()
                    .and_then(|memory| Recent::new(memory, self.secret()));
                block
            }
            None => return None,
        };
        // Given up in this moment, the word must not come to life again.
        lease::grant(&self.leases[0], &self.leases[block.lease], LEASED).then_some(block)
    }

    /// Nobody outside can aim at collisions in what is remembered.
    fn secret(&self) -> u64 {
        let random = sys::random().unwrap_or(self.id);
        random
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// Where the part of the arena ends that is not kept for series without dimensions.
    fn ordinary_end(&self) -> usize {
        let end = self.layout.words();
        end - (end - self.layout.arena()) / RESERVE
    }

    pub(crate) fn room(&self) -> PageRoom<'_> {
        PageRoom::of(self)
    }

    /// Takes back the block of a thread that ends.
    pub(crate) fn give_back(&self, block: Block) {
        if self.is_in_use() {
            self.leases[block.lease].store(0, Relaxed);
            self.arena().free.push(block);
        }
    }

    pub(crate) fn access(&self, block: &Block) -> Lease {
        Lease {
            table: block.table,
            words: self.words,
            word: &self.leases[block.lease],
            recent: block.recent,
        }
    }

    /// Where the cell of a series is in a block, made if need be; [`NOWHERE`] without room.
    pub(crate) fn resolve(&self, block: &mut Block, series: &Series) -> u32 {
        let found = match block.cells.get(&series.name) {
            Some(&at) => Some(at),
            None => self.allocate(&mut self.arena(), block, series),
        };
        let Some(found) = found else {
            return NOWHERE;
        };
        block.note(series.id, found);
        found
    }

    /// Counts for a thread that has no block: it is ending, or there are too many.
    pub(crate) fn count_shared(&self, series: &Series, count: impl FnOnce(&[AtomicU64])) -> bool {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.resolve(&mut shared, series);
        let cell = self.cell(at, series);
        cell.map(count).is_some()
    }

    /// Counts in the one cell of a level, unless another thread is at it.
    pub(crate) fn try_count_level(
        &self,
        series: &Series,
        count: impl FnOnce(&[AtomicU64]),
    ) -> Option<bool> {
        let mut levels = self.levels.try_lock().ok()?;
        let at = self.resolve(&mut levels, series);
        let cell = self.cell(at, series);
        Some(cell.map(count).is_some())
    }

    pub(crate) fn cell(&self, at: u32, series: &Series) -> Option<&'static [AtomicU64]> {
        let at = at as usize;
        self.words.get(at..at + kinds::words(series.aggregation))
    }

    /// Width of windows in milliseconds, as the agent said or as it is by default.
    pub(crate) fn window_millis(&self) -> i64 {
        let secs = self.words[at::WINDOW].load(Relaxed);
        i64::try_from(secs)
            .ok()
            .filter(|secs| (1..=900).contains(secs))
            .unwrap_or(WINDOW_SECS)
            * 1000
    }

    /// Notes that the page is in the hands of the mirror that an answer names, which may count
    /// from it now.
    pub(crate) fn hand_over(&self, answer: Answer) {
        self.words[at::WINDOW].store(answer.window_secs.into(), Relaxed);
        self.words[at::HOME].store(answer.mirror, Release);
        let looked = if answer.tells { NEVER } else { UNTOLD };
        self.looked.store(looked, Relaxed);
        self.attended.store(sys::steady_millis(), Relaxed);
    }

    /// The agent has told that what was counted before this instant is in its hands.
    pub(crate) fn looked_at(&self, before: i64) {
        self.looked.store(before, Relaxed);
    }

    fn is_looked_at(&self, ended: i64, now: i64) -> bool {
        let since = self.attended.load(Relaxed);
        match self.looked.load(Relaxed) {
            _ if since == NOBODY => false,
            UNTOLD => sys::steady_millis().saturating_sub(since) >= LOOKED_MILLIS,
            // A look after now was before the clock was set back.
            looked => looked >= ended + COARSE_MILLIS && looked <= now + COARSE_MILLIS,
        }
    }

    /// The agent that had the page has gone.
    pub(crate) fn let_go(&self) {
        self.attended.store(NOBODY, Relaxed);
    }

    /// True once an agent has it.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.words[at::HOME].load(Relaxed) != 0
    }
}
