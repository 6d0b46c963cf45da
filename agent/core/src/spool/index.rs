//! What the spool holds: one run per incarnation, with few enough marks to stay small.
//!
//! The index is made by reading the log once on open and kept up by appends and trims. It
//! holds a mark for every 64th batch rather than all of them, so that months of batches for
//! an absent collector cost little memory.

use std::collections::VecDeque;

use tollgate_common::limits::HELD_INCARNATIONS_MAX;
use tollgate_common::log::LogPosition;
use tollgate_common::wire::Held;
use tollgate_common::{Batch, BatchHash, BatchSeq, Incarnation, Timestamp, Tombstone};

use super::Backlog;
use super::anchor::Anchor;
use super::chain::Gap;

/// A mark is kept for every batch whose sequence number is a multiple of this.
const MARK_EVERY: u64 = 64;

/// What the index takes from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) position: LogPosition,
    pub(super) incarnation: Incarnation,
    pub(super) sequence: u64,
    /// The first batch that the entry stands for; before `sequence` only for a gap.
    from: u64,
    /// The hash of the batch before; `None` where that is not known.
    pub(super) parent_hash: Option<BatchHash>,
    /// The batch's own hash, zero where it is not known.
    hash: BatchHash,
    /// Sealed before this instant, if the entry is a batch.
    sealed_until: Option<Timestamp>,
    is_final: bool,
    /// It stands for batches that are released and gone.
    is_anchor: bool,
}

impl Entry {
    pub(super) fn of_batch(position: LogPosition, batch: &Batch, hash: BatchHash) -> Self {
        Self {
            position,
            incarnation: batch.incarnation,
            sequence: batch.sequence.get(),
            from: batch.sequence.get(),
            parent_hash: Some(batch.parent_hash),
            hash,
            sealed_until: Some(batch.watermark.min(batch.span.to)),
            is_final: batch.is_final,
            is_anchor: false,
        }
    }

    pub(super) fn of_tombstone(
        position: LogPosition,
        tombstone: &Tombstone,
        hash: BatchHash,
    ) -> Self {
        Self {
            position,
            incarnation: tombstone.incarnation,
            sequence: tombstone.sequence.get(),
            from: tombstone.sequence.get(),
            parent_hash: None,
            hash,
            sealed_until: None,
            is_final: false,
            is_anchor: false,
        }
    }

    pub(super) fn of_anchor(position: LogPosition, anchor: &Anchor) -> Self {
        Self {
            position,
            incarnation: anchor.tail.incarnation,
            sequence: anchor.tail.last,
            from: anchor.tail.last,
            parent_hash: None,
            hash: anchor.tail.last_hash,
            sealed_until: Some(anchor.tail.sealed_until),
            is_final: anchor.tail.is_final,
            is_anchor: true,
        }
    }

    pub(super) fn of_gap(position: LogPosition, gap: Gap) -> Self {
        Self {
            position,
            incarnation: gap.incarnation,
            sequence: gap.to,
            from: gap.from,
            parent_hash: None,
            hash: BatchHash::ZERO,
            sealed_until: None,
            is_final: false,
            is_anchor: false,
        }
    }
}

/// The end of an incarnation in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) incarnation: Incarnation,
    /// The last batch or tombstone, at least 1.
    pub(crate) last: u64,
    /// Its hash, zero if only a tombstone is left of it.
    pub(crate) last_hash: BatchHash,
    /// Everything before this instant is in the batches up to the last; the epoch if no batch
    /// is left to tell.
    pub(crate) sealed_until: Timestamp,
    /// True if the last batch ends the incarnation.
    pub(crate) is_final: bool,
}

/// Where to find a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    pub(super) position: LogPosition,
    /// When it was sealed, as far as that is known.
    sealed_until: Timestamp,
}

/// The batches of one incarnation that are held.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) incarnation: Incarnation,
    /// The first batch or tombstone that is held.
    pub(super) first: u64,
    first_parent: BatchHash,
    pub(super) tail: Tail,
    last_position: LogPosition,
    marks: VecDeque<Mark>,
    /// A collector needs nothing up to this one.
    released: u64,
}

impl Run {
    fn new(entry: &Entry) -> Self {
        Self {
            incarnation: entry.incarnation,
            first: entry.from,
            first_parent: entry.parent_hash.unwrap_or(BatchHash::ZERO),
            tail: Tail {
                incarnation: entry.incarnation,
                last: 0,
                last_hash: BatchHash::ZERO,
                sealed_until: Timestamp::EPOCH,
                is_final: false,
            },
            last_position: entry.position,
            marks: VecDeque::new(),
            released: 0,
        }
    }

    fn push(&mut self, entry: &Entry) {
        if entry.is_anchor && entry.sequence >= self.tail.last {
            // What was before it is let go, whether it can still be read or not.
            self.first = entry.sequence;
            self.first_parent = BatchHash::ZERO;
            self.marks.clear();
            self.released = entry.sequence;
        } else if entry.sequence <= self.tail.last {
            return;
        }
        if self.marks.is_empty() || entry.sequence.is_multiple_of(MARK_EVERY) {
            self.marks.push_back(Mark {
                sequence: entry.sequence,
                position: entry.position,
                sealed_until: entry.sealed_until.unwrap_or(self.tail.sealed_until),
            });
        }
        self.tail = Tail {
            last: entry.sequence,
            last_hash: entry.hash,
            sealed_until: entry.sealed_until.unwrap_or(self.tail.sealed_until),
            is_final: entry.is_final,
            ..self.tail
        };
        self.last_position = entry.position;
    }

    fn waiting(&self) -> u64 {
        let done = self.released.max(self.first.saturating_sub(1));
        self.tail.last.saturating_sub(done)
    }

    /// About when the first batch that is not released was sealed: between marks, batches are
    /// taken to be sealed evenly.
    fn oldest(&self) -> Timestamp {
        let wanted = self.released.saturating_add(1).max(self.first);
        let after = self.marks.partition_point(|mark| mark.sequence <= wanted);
        let end = (self.tail.last, self.tail.sealed_until);
        let next = self.marks.get(after);
        let (next, until) = next.map_or(end, |mark| (mark.sequence, mark.sealed_until));
        let Some(mark) = after.checked_sub(1).map(|at| self.marks[at]) else {
            return until;
        };
        let (part, whole) = (wanted - mark.sequence, next.saturating_sub(mark.sequence));
        let millis = until.millis_since(mark.sealed_until).max(0);
        let share = i128::from(millis) * i128::from(part) / i128::from(whole.max(1));
        let share = i64::try_from(share).unwrap_or(millis);
        mark.sealed_until.plus_millis(share.min(millis))
    }

    /// The last mark at or before a batch.
    fn mark(&self, sequence: u64) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.sequence <= sequence);
        after.checked_sub(1).map(|at| self.marks[at])
    }
}

/// The runs in the order of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    runs: VecDeque<Run>,
}

impl Index {
    pub(super) fn push(&mut self, entry: Entry) {
        // Nearly always the newest; a tombstone inferred for a parent belongs to the one
        // before it.
        let run = self
            .runs
            .iter_mut()
            .rfind(|run| run.incarnation == entry.incarnation);
        if let Some(run) = run {
            run.push(&entry);
        } else {
            let mut run = Run::new(&entry);
            run.push(&entry);
            self.runs.push_back(run);
        }
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub(super) fn run(&self, incarnation: Incarnation) -> Option<&Run> {
        self.runs.iter().rfind(|run| run.incarnation == incarnation)
    }

    pub(super) fn newest(&self) -> Option<&Run> {
        self.runs.back()
    }

    pub(super) fn mark(&self, incarnation: Incarnation, sequence: u64) -> Option<Mark> {
        self.run(incarnation)?.mark(sequence)
    }

    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.runs.iter().filter_map(|run| {
            Some(Held {
                incarnation: run.incarnation,
                first: BatchSeq::new(run.first)?,
                first_parent: run.first_parent,
                last: BatchSeq::new(run.tail.last)?,
                last_hash: run.tail.last_hash,
            })
        });
        held.take(HELD_INCARNATIONS_MAX).collect()
    }

    /// Notes a release; true if it says something new. Never believes more than is held.
    pub(super) fn release(&mut self, incarnation: Incarnation, sequence: u64) -> bool {
        let run = self
            .runs
            .iter_mut()
            .find(|run| run.incarnation == incarnation);
        let Some(run) = run else {
            return false;
        };
        let sequence = sequence.min(run.tail.last);
        let changed = sequence > run.released;
        run.released = run.released.max(sequence);
        changed
    }

    /// Where the first item lies that is not released, or a little before; `None` if all is.
    pub(super) fn needed_from(&self) -> Option<LogPosition> {
        let run = self.runs.iter().find(|run| run.waiting() > 0)?;
        let wanted = run.released.saturating_add(1).max(run.first);
        // Without a mark nothing may go.
        Some(
            run.mark(wanted)
                .map_or(LogPosition::ZERO, |mark| mark.position),
        )
    }

    /// The log now starts at `start`, with `first` as its first record.
    pub(super) fn trimmed(&mut self, start: LogPosition, first: Option<Entry>) {
        self.runs.retain(|run| run.last_position >= start);
        for run in &mut self.runs {
            run.marks.retain(|mark| mark.position >= start);
        }
        // Of a run before the one with the first record only inferred tombstones are left,
        // and they are found by marks alone.
        if let Some(first) = first {
            let before = |run: &&mut Run| run.incarnation != first.incarnation;
            for run in self.runs.iter_mut().take_while(before) {
                let inferred = run
                    .marks
                    .front()
                    .map_or(run.tail.last, |mark| mark.sequence);
                run.first = run.first.max(inferred);
                run.first_parent = BatchHash::ZERO;
            }
        }
        if let Some(first) = first
            && let Some(run) = self.runs.front_mut()
            && run.incarnation == first.incarnation
            // What an anchor has let go may still lie here, and does not come back.
            && run.first <= first.sequence
        {
            run.first = first.sequence;
            run.first_parent = first.parent_hash.unwrap_or(BatchHash::ZERO);
            if run
                .marks
                .front()
                .is_none_or(|mark| mark.sequence > first.sequence)
            {
                run.marks.push_front(Mark {
                    sequence: first.sequence,
                    position: first.position,
                    sealed_until: first.sealed_until.unwrap_or(run.tail.sealed_until),
                });
            }
        }
    }

    pub(super) fn backlog(&self) -> Backlog {
        let waiting = self.runs.iter().map(Run::waiting).filter(|&n| n > 0);
        let oldest = self.runs.iter().find(|run| run.waiting() > 0);
        let backlog = Backlog {
            oldest: oldest.map(Run::oldest),
            ..Backlog::default()
        };
        waiting.fold(backlog, |backlog, batches| Backlog {
            batches: backlog.batches.saturating_add(batches),
            incarnations: backlog.incarnations + 1,
            ..backlog
        })
    }
}
