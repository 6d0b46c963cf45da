//! One slot of a page: what it says, whether that may be counted, and its cell.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use tollgate::cell::{halves, histogram, level, sum, unique};
use tollgate::page::{PageReader, PageSlot};
use tollgate_common::{Aggregation, SeriesKey, Timestamp};

use super::{Entry, PageTally, access};
use crate::aggregate::{FollowError, Owner, PageKey, Region, Rejection, Slot};
use crate::config::SdkAllow;

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
        page: PageKey,
        access: &SdkAllow,
        reader: &PageReader<'_>,
        slot: u32,
        entry: &mut Entry,
        now: Timestamp,
    ) -> Visited {
        let mut visited = Visited {
            work: WORK_LOOK,
            waits: false,
        };
        if matches!(entry, Entry::Waiting) {
            visited.work = WORK_DESCRIBE;
            *entry = self.describe(page, access, reader, slot);
        }
        match entry {
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
                if more > 0 {
                    *events = counted;
                    self.writer.received(more);
                    self.writer.rejected_for(tenant, *reason, more);
                }
            }
            Entry::Mirrored {
                slot,
                aggregation,
                cell,
                events,
            } => {
                let (slot, aggregation) = (*slot, *aggregation);
                let cell = reader.words().get(cell.clone()).unwrap_or(&[]);
                match self.follow(slot, aggregation, reader.words(), cell, events, now) {
                    Ok((work, accepted)) => {
                        visited.work = work;
                        self.writer.received(accepted);
                    }
                    Err(Stop::Later(work)) => {
                        visited.work = work;
                        visited.waits = true;
                    }
                    Err(Stop::Backwards) => {
                        *entry = Entry::Stopped;
                        self.writer.received(1);
                        self.writer.rejected(Rejection::OutOfRange, 1);
                    }
                }
            }
        }
        visited
    }

    /// Decides about a slot that is new.
    fn describe(
        &mut self,
        page: PageKey,
        access: &SdkAllow,
        reader: &PageReader<'_>,
        slot: u32,
    ) -> Entry {
        let Some(of) = reader.slot(slot) else {
            self.writer.received(1);
            self.writer.rejected(Rejection::Malformed, 1);
            return Entry::Malformed;
        };
        let PageSlot {
            key,
            aggregation,
            scale,
            cell,
        } = of;
        let Some(tenant) = access::tenant(access, key.tenant()) else {
            return rejected(Rejection::Other, &key, aggregation, cell);
        };
        let declared = self.attributor.meters().get(key.meter());
        let Some(declared) = declared.filter(|_| access::meter(access, key.meter())) else {
            return rejected(Rejection::UnknownMeter, &key, aggregation, cell);
        };
        if (declared.aggregation, declared.scale) != (aggregation, scale) {
            return rejected(Rejection::WrongType, &key, aggregation, cell);
        }
        let dimensions = key.dimensions().clone();
        let Ok(key) = SeriesKey::new(tenant, key.meter().clone(), dimensions) else {
            return rejected(Rejection::TooLarge, &key, aggregation, cell);
        };
        let owner = Owner { page, slot };
        match self.writer.mirror(&key, owner, aggregation, scale) {
            Some(slot) => Entry::Mirrored {
                slot,
                aggregation,
                cell,
                // Looked at once at least, whatever it shows.
                events: [u64::MAX; 2],
            },
            None => Entry::Waiting,
        }
    }

    /// Brings a mirror to its cell: the work, and the events that were new.
    fn follow(
        &mut self,
        slot: Slot,
        aggregation: Aggregation,
        heap: &[AtomicU64],
        cell: &[AtomicU64],
        seen: &mut [u64; 2],
        now: Timestamp,
    ) -> Result<(u32, u64), Stop> {
        match aggregation {
            Aggregation::Sum => {
                let [sum, done] = cell else {
                    return Err(Stop::Backwards);
                };
                // The events first: what is seen as counted is in the sum that is seen.
                let done = done.load(Acquire);
                if done == seen[0] {
                    return Ok((WORK_LOOK, 0));
                }
                let events = self.writer.follow_sum(slot, sum.load(Relaxed), done)?;
                seen[0] = done;
                Ok((WORK_LOOK * 4, events))
            }
            Aggregation::Last | Aggregation::Max => {
                let mut events = 0;
                for half in [0, 1] {
                    let cut = halves::read(cell, half).ok_or(Stop::Later(WORK_GIVEN_UP))?;
                    if cut.events == seen[half] || cut.events == 0 {
                        continue;
                    }
                    seen[half] = cut.events;
                    let window = Timestamp::from_millis(cut.window);
                    if !is_near(window, now) {
                        return Err(Stop::Backwards);
                    }
                    events += self
                        .writer
                        .follow_half(slot, aggregation, window, cut.value)?;
                }
                Ok((WORK_WIDE, events))
            }
            Aggregation::TimeWeighted => {
                let state = level::read(cell).ok_or(Stop::Later(WORK_GIVEN_UP))?;
                if state.events == seen[0] || state.events == 0 {
                    return Ok((WORK_WIDE, 0));
                }
                let since = Timestamp::from_millis(state.since);
                if now.plus_millis(WINDOW_FUTURE_MILLIS) < since || state.window > state.since {
                    return Err(Stop::Backwards);
                }
                let events = self.writer.follow_level(slot, &state)?;
                seen[0] = state.events;
                Ok((WORK_WIDE, events))
            }
            Aggregation::Distribution => self.follow_histogram(slot, heap, cell, &mut seen[0]),
            Aggregation::Unique => self.follow_unique(slot, heap, cell, seen, now),
        }
    }

    fn follow_histogram(
        &mut self,
        slot: Slot,
        heap: &[AtomicU64],
        cell: &[AtomicU64],
        seen: &mut u64,
    ) -> Result<(u32, u64), Stop> {
        let (sum, head) = cell
            .split_at_checked(sum::WORDS)
            .filter(|(_, head)| head.len() == histogram::WORDS)
            .ok_or(Stop::Backwards)?;
        let done = sum[1].load(Acquire);
        if done == *seen {
            return Ok((WORK_LOOK, 0));
        }
        let cut = &mut self.scratch.histogram;
        histogram::Cell { head, sum, heap }.read_few(cut);
        if cut.damaged {
            return Err(Stop::Backwards);
        }
        let chunks = u32::try_from(cut.chunks.len()).unwrap_or(u32::MAX);
        let work = chunks.saturating_mul(4 * histogram::CHUNK_BUCKETS) + WORK_WIDE;
        if !cut.whole {
            return Err(Stop::Later(work));
        }
        let events = self
            .writer
            .follow_histogram(slot, &self.scratch.histogram)?;
        *seen = self.scratch.histogram.done;
        Ok((work, events))
    }

    fn follow_unique(
        &mut self,
        slot: Slot,
        heap: &[AtomicU64],
        cell: &[AtomicU64],
        seen: &mut [u64; 2],
        now: Timestamp,
    ) -> Result<(u32, u64), Stop> {
        if cell.len() != unique::WORDS {
            return Err(Stop::Backwards);
        }
        let cell = unique::Cell { halves: cell, heap };
        let (mut work, mut events) = (WORK_LOOK, 0);
        for half in [0, 1] {
            let before = cell.inserts(half);
            if before == 0 || before == seen[half] {
                continue;
            }
            let content = &mut self.scratch.unique;
            let cut = cell.read(half, content).ok_or(Stop::Later(WORK_GIVEN_UP))?;
            let window = Timestamp::from_millis(cut.window);
            if !is_near(window, now) {
                return Err(Stop::Backwards);
            }
            work += WORK_WIDE + 8 * u32::try_from(content.len()).unwrap_or(u32::MAX >> 4);
            let known = if seen[half] == u64::MAX {
                0
            } else {
                seen[half]
            };
            let more = cut.inserts.wrapping_sub(known);
            events += self
                .writer
                .follow_unique(slot, &cut, &self.scratch.unique, more)?;
            seen[half] = cut.inserts;
        }
        Ok((work, events))
    }
}

fn is_near(window: Timestamp, now: Timestamp) -> bool {
    now <= window.plus_millis(WINDOW_PAST_MILLIS) && window <= now.plus_millis(WINDOW_FUTURE_MILLIS)
}

fn rejected(
    reason: Rejection,
    key: &SeriesKey,
    aggregation: Aggregation,
    cell: Range<usize>,
) -> Entry {
    Entry::Rejected {
        reason,
        tenant: key.tenant().clone(),
        aggregation,
        cell,
        events: 0,
    }
}

/// The events of a cell that is not counted.
fn cell_events(reader: &PageReader<'_>, cell: &Range<usize>, aggregation: Aggregation) -> u64 {
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
