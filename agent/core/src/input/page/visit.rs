//! One slot of a page: what it says, whether that may be counted, and its cell.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use tollgate::cell::{halves, histogram, level, sum, unique};
use tollgate::page::{PageReader, PageSlot};
use tollgate_common::{Aggregation, SeriesKey, Timestamp};

use super::{Entry, Known, PageTally, access};
use crate::aggregate::{Allowance, FollowError, Owner, PageKey, Region, Rejection, Slot};

/// How far the window of a value may lie in the past and in the future.
const WINDOW_PAST_MILLIS: i64 = 86_400_000;
const WINDOW_FUTURE_MILLIS: i64 = 3_600_000;
/// What it costs to look at a cell that has not changed, to describe a slot, to copy a wide
/// cell, and to give up on one that changes faster than it can be read.
const WORK_LOOK: u32 = 1;
const WORK_DESCRIBE: u32 = 256;
const WORK_WIDE: u32 = 64;
const WORK_GIVEN_UP: u32 = 1 << 15;

/// Memory that is used again for every wide cell.
#[derive(Default)]
pub(super) struct Scratch {
    histogram: histogram::HistogramCut,
    unique: Vec<u64>,
}

/// What a look at a slot cost, and whether something of it has to wait.
#[derive(Clone, Copy, Default)]
pub(super) struct Visited {
    pub(super) work: u32,
    pub(super) waits: bool,
}

/// Why a cell is not counted in this pass.
enum Stop {
    Later(u32),
    Backwards,
}

impl From<FollowError> for Stop {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Backwards => Self::Backwards,
            FollowError::Later | FollowError::WrongSlot => Self::Later(WORK_WIDE),
        }
    }
}

impl<R: Region> PageTally<R> {
    /// Looks at one slot.
    pub(super) fn visit(
        &mut self,
        (page, known): (PageKey, &mut Known),
        reader: &PageReader<'_>,
        slot: u32,
        now: Timestamp,
        orphaned: bool,
    ) -> Visited {
        let mut visited = Visited {
            work: WORK_LOOK,
            waits: false,
        };
        let Some(mut entry) = known.entries.get_mut(slot as usize).map(std::mem::take) else {
            return visited;
        };
        if matches!(entry, Entry::Waiting) {
            visited.work = WORK_DESCRIBE;
            entry = self.describe(page, known, reader, slot);
        }
        match &mut entry {
            Entry::Waiting => visited.waits = true,
            Entry::Malformed | Entry::Stopped => {}
            Entry::Rejected {
                reason,
                tenant,
                aggregation,
                cell,
                events,
            } => {
                let counted = cell_events(reader, cell, *aggregation);
                let more = sum::events_between(counted, *events);
                if more > 0 && known.allowance.take(0, more).is_ok() {
                    *events = counted;
                    known.rejected.insert(slot, counted);
                    let row = self.writer.row(tenant);
                    self.writer.received(more);
                    self.writer.received_for(row, more);
                    self.writer.rejected_in(row, *reason, more);
                }
            }
            Entry::Mirrored {
                slot,
                row,
                aggregation,
                cell,
                events,
            } => {
                self.writer.follow_for(*row);
                let cell = reader.words().get(cell.clone()).unwrap_or(&[]);
                let look = Look {
                    slot: *slot,
                    aggregation: *aggregation,
                    heap: reader.words(),
                    cell,
                    now,
                    orphaned,
                };
                match self.follow(&look, events, &mut known.allowance) {
                    Ok(work) => visited.work = work,
                    Err(Stop::Later(work)) => {
                        visited.work = work;
                        visited.waits = true;
                    }
                    Err(Stop::Backwards) => {
                        entry = Entry::Stopped;
                        self.writer.received(1);
                        self.writer.rejected(Rejection::OutOfRange, 1);
                    }
                }
            }
        }
        known.entries[slot as usize] = entry;
        self.writer.settle();
        visited
    }

    /// Decides about a slot that is new.
    fn describe(
        &mut self,
        page: PageKey,
        known: &mut Known,
        reader: &PageReader<'_>,
        slot: u32,
    ) -> Entry {
        let Some(of) = reader.slot(slot) else {
            if known.malformed.insert(slot) {
                self.writer.received(1);
                self.writer.rejected(Rejection::Malformed, 1);
            }
            return Entry::Malformed;
        };
        let Some(access) = &known.access else {
            return Entry::Waiting;
        };
        let PageSlot {
            key,
            aggregation,
            scale,
            cell,
        } = of;
        let rejected = |reason, key: &SeriesKey, cell: Range<usize>| {
            let counted = known.rejected.get(&slot).copied();
            let before = || cell_events(reader, &cell, aggregation);
            Entry::Rejected {
                reason,
                tenant: key.tenant().clone(),
                aggregation,
                // What was rejected before the agent's start is in the account.
                events: counted.unwrap_or_else(|| if known.resumed { before() } else { 0 }),
                cell,
            }
        };
        let Some(tenant) = access::tenant(access, key.tenant()) else {
            return rejected(Rejection::Other, &key, cell);
        };
        let declared = self.attributor.meters().get(key.meter());
        let Some(declared) = declared.filter(|_| access::meter(access, key.meter())) else {
            return rejected(Rejection::UnknownMeter, &key, cell);
        };
        if (declared.aggregation, declared.scale) != (aggregation, scale) {
            return rejected(Rejection::WrongType, &key, cell);
        }
        let dimensions = key.dimensions().clone();
        let Ok(key) = SeriesKey::new(tenant, key.meter().clone(), dimensions) else {
            return rejected(Rejection::TooLarge, &key, cell);
        };
        let owner = Owner { page, slot };
        let Some(slot) = self.writer.mirror(&key, owner, aggregation, scale) else {
            known.counts_for(key.tenant());
            return Entry::Waiting;
        };
        // A cell stays with whom it first counted for, and so does its account, whomever the
        // configuration names by now.
        let tenant = self.writer.tenant_of(slot);
        let tenant = tenant.as_ref().unwrap_or(key.tenant());
        known.counts_for(tenant);
        known.has_windows |= matches!(
            aggregation,
            Aggregation::Max | Aggregation::Last | Aggregation::Unique
        );
        Entry::Mirrored {
            slot,
            row: self.writer.row(tenant),
            aggregation,
            cell,
            // Looked at once at least, whatever it shows.
            events: [u64::MAX; 2],
        }
    }

    /// Brings a mirror to its cell: the work that it was.
    fn follow(
        &mut self,
        look: &Look<'_>,
        seen: &mut [u64; 2],
        allowance: &mut Allowance,
    ) -> Result<u32, Stop> {
        let (slot, aggregation) = (look.slot, look.aggregation);
        match aggregation {
            Aggregation::Sum => {
                let [sum, done] = look.cell else {
                    return Err(Stop::Backwards);
                };
                // The events first: what is seen as counted is in the sum that is seen.
                let done = done.load(Acquire);
                if done == seen[0] {
                    return Ok(WORK_LOOK);
                }
                let sum = sum.load(Relaxed);
                self.writer.follow_sum(slot, sum, done, allowance)?;
                seen[0] = done;
                Ok(WORK_LOOK * 4)
            }
            Aggregation::Last | Aggregation::Max => {
                for half in [0, 1] {
                    let cut = halves::read(look.cell, half);
                    let Some(cut) = look.settled(cut)? else {
                        continue;
                    };
                    if cut.events == seen[half] || cut.events == 0 || look.is_old(cut.window)? {
                        continue;
                    }
                    let of = (half, &cut);
                    self.writer.follow_half(slot, aggregation, of, allowance)?;
                    seen[half] = cut.events;
                }
                Ok(WORK_WIDE)
            }
            Aggregation::TimeWeighted => {
                let Some(state) = look.settled(level::read(look.cell))? else {
                    return Ok(WORK_WIDE);
                };
                if state.events == seen[0] || state.events == 0 {
                    return Ok(WORK_WIDE);
                }
                if look.now.plus_millis(WINDOW_FUTURE_MILLIS).millis() < state.since {
                    return Err(Stop::Backwards);
                }
                allowance.take(0, 1)?;
                self.writer.follow_level(slot, &state)?;
                seen[0] = state.events;
                Ok(WORK_WIDE)
            }
            Aggregation::Distribution => self.follow_histogram(look, &mut seen[0], allowance),
            Aggregation::Unique => self.follow_unique(look, seen, allowance),
        }
    }

    fn follow_histogram(
        &mut self,
        look: &Look<'_>,
        seen: &mut u64,
        allowance: &mut Allowance,
    ) -> Result<u32, Stop> {
        let (sum, head) = look
            .cell
            .split_at_checked(sum::WORDS)
            .filter(|(_, head)| head.len() == histogram::WORDS)
            .ok_or(Stop::Backwards)?;
        let done = sum[1].load(Acquire);
        if done == *seen {
            return Ok(WORK_LOOK);
        }
        let cut = &mut self.scratch.histogram;
        let heap = look.heap;
        histogram::Cell { head, sum, heap }.read_few(cut);
        if cut.damaged {
            return Err(Stop::Backwards);
        }
        let chunks = u32::try_from(cut.chunks.len()).unwrap_or(u32::MAX);
        let work = chunks.saturating_mul(4 * histogram::CHUNK_BUCKETS) + WORK_WIDE;
        if !cut.whole {
            if !look.orphaned {
                return Err(Stop::Later(work));
            }
            // Killed within a record, of which the bucket may be there and the rest not.
            let counts = cut.chunks.iter().flat_map(|chunk| &chunk.counts);
            cut.done = counts.fold(0_u64, |sum, &count| sum.wrapping_add(count));
        }
        let cut = &self.scratch.histogram;
        self.writer.follow_histogram(look.slot, cut, allowance)?;
        *seen = done;
        Ok(work)
    }

    fn follow_unique(
        &mut self,
        look: &Look<'_>,
        seen: &mut [u64; 2],
        allowance: &mut Allowance,
    ) -> Result<u32, Stop> {
        if look.cell.len() != unique::WORDS {
            return Err(Stop::Backwards);
        }
        let cell = unique::Cell {
            halves: look.cell,
            heap: look.heap,
        };
        let mut work = WORK_LOOK;
        for half in [0, 1] {
            let before = cell.inserts(half);
            if before == 0 || before == seen[half] {
                continue;
            }
            let content = &mut self.scratch.unique;
            let Some(cut) = look.settled(cell.read(half, content))? else {
                continue;
            };
            if cut.inserts == 0 || look.is_old(cut.window)? {
                continue;
            }
            work += WORK_WIDE + 8 * u32::try_from(content.len()).unwrap_or(u32::MAX >> 4);
            let content = &self.scratch.unique;
            let of = (half, &cut);
            self.writer
                .follow_unique(look.slot, of, content, allowance)?;
            seen[half] = cut.inserts;
        }
        Ok(work)
    }
}

/// A cell that is looked at.
struct Look<'a> {
    slot: Slot,
    aggregation: Aggregation,
    heap: &'a [AtomicU64],
    cell: &'a [AtomicU64],
    now: Timestamp,
    /// Nobody writes any more.
    orphaned: bool,
}

impl Look<'_> {
    /// What was read of the cell; `None` if there is nothing and never will be.
    fn settled<T>(&self, read: Option<T>) -> Result<Option<T>, Stop> {
        match read {
            Some(read) => Ok(Some(read)),
            None if self.orphaned => Ok(None),
            None => Err(Stop::Later(WORK_GIVEN_UP)),
        }
    }

    /// True for a window so long ago that it was told, or is not told any more. No honest
    /// window lies far in the future.
    fn is_old(&self, window: i64) -> Result<bool, Stop> {
        if self.now.plus_millis(WINDOW_FUTURE_MILLIS).millis() < window {
            return Err(Stop::Backwards);
        }
        Ok(window < self.now.plus_millis(-WINDOW_PAST_MILLIS).millis())
    }
}

/// The events of a cell that is not counted.
pub(super) fn cell_events(
    reader: &PageReader<'_>,
    cell: &Range<usize>,
    aggregation: Aggregation,
) -> u64 {
    let cell = reader.words().get(cell.clone()).unwrap_or(&[]);
    let word = |at: usize| cell.get(at).map_or(0, |word| word.load(Relaxed));
    match aggregation {
        Aggregation::Sum | Aggregation::Distribution => sum::events(word(1)),
        Aggregation::Last | Aggregation::Max => word(0).wrapping_add(word(halves::HALF_WORDS)),
        Aggregation::Unique => {
            let cell = unique::Cell {
                halves: cell,
                heap: &[],
            };
            cell.inserts(0).wrapping_add(cell.inserts(1))
        }
        Aggregation::TimeWeighted => word(0),
    }
}
