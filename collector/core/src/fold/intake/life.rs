//! One life of an agent: which batches have come, which are lost, how far the chain reaches.

mod losses;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{Aggregation, Batch, Incarnation, LossReason, Timestamp};

use super::NoticeKind;
use super::kept_rows::{KeptRow, KeptRows};
use super::lost::{LOST_RANGES_MAX, LostRange, LostRanges, REMEMBERED_MAX, Testimony};
use super::outbox::{Origin, Outbox, unknown};
use super::restore::Hidden;
use super::totals::{Context, Figures, Totals};
use crate::entry::Digest;
use crate::fold::dedupe::IntervalSet;

/// Hashes kept per life. A batch that comes again within so many batches is known for a copy
/// or for a fork; the session's window is far smaller.
pub const HASHES_KEPT: usize = 512;
/// Batches per life whose rows are kept, so that a fork is booked by its row-wise maximum.
pub const ROW_BATCHES_KEPT: usize = 16;
/// Rows kept per life, over all these batches, where eight buckets of a histogram count as one
/// more; the rows of a larger batch are not kept.
pub const ROWS_KEPT_MAX: usize = 4096;
/// Batches that may lie beyond a hole. A hole with more behind it is declared lost.
const TAIL_MAX: usize = 4096;

/// What is kept of a batch for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recent {
    hash: Digest,
    /// Start of its span: the parts of one seal share it.
    from: Timestamp,
    /// Rows that add up.
    rows: Option<KeptRows>,
}

/// A batch beyond a hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tail {
    figures: Figures,
    parent: Digest,
    cut: Timestamp,
    watermark: Timestamp,
    is_final: bool,
}

/// One incarnation, or the losing branch of a fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// Sequence numbers up to here belong to another life; 0 except for a branch.
    base: u64,
    /// The incarnation that the batches of a branch name.
    pub(super) branch_of: Option<Incarnation>,
    received: IntervalSet,
    lost: LostRanges,
    /// Declared lost for good: batches that turn up are not booked any more.
    given_up: IntervalSet,
    /// Everything up to here is received or declared.
    prefix: u64,
    tail: BTreeMap<u64, Tail>,
    recent: BTreeMap<u64, Recent>,
    totals: Totals,
    /// The life before, as the first batch names it.
    pub(super) parent: Option<Incarnation>,
    /// The last batch that the child of this life knows of.
    expected: u64,
    final_at: Option<u64>,
    /// True once the life and all its ancestors have been accounted for.
    pub(super) settled: bool,
    /// Start of the span of the newest forked seal, so that its other parts are recognised.
    forked: Option<Timestamp>,
    /// True once a batch had rows that no running total covers, levels apart, be it that they are
    /// no sums or that the agent had no room for another total: then no total tells all that a
    /// lost batch held.
    unpriced: bool,
    /// What is remembered of lost batches beyond the prefix.
    remembered: BTreeMap<u64, Testimony>,
    /// What is declared because the life hides which one it follows.
    pub(super) hidden: Option<Hidden>,
    /// True once only the intervals are left.
    compacted: bool,
    /// End of the last span within the prefix.
    cut: Timestamp,
    watermark: Timestamp,
}

/// What a life says to a sequence number and a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Not there.
    No,
    /// The same batch is there.
    Same,
    /// Another batch has its number.
    Other,
    /// A batch has its number; its hash is no longer kept.
    Forgotten,
    /// Its number was given up as lost.
    GivenUp,
}

impl Life {
    pub(super) fn new(opened: Timestamp) -> Self {
        Self::with_base(0, None, opened)
    }

    /// The losing branch of a fork of `of`, whose first batch follows `base`.
    pub(super) fn branch(of: Incarnation, base: u64, opened: Timestamp) -> Self {
        Self::with_base(base, Some(of), opened)
    }

    fn with_base(base: u64, branch_of: Option<Incarnation>, opened: Timestamp) -> Self {
        Self {
            base,
            branch_of,
            received: IntervalSet::new(),
            lost: LostRanges::default(),
            given_up: IntervalSet::new(),
            prefix: base,
            tail: BTreeMap::new(),
            recent: BTreeMap::new(),
            totals: Totals::new(base, branch_of.is_none(), opened),
            parent: None,
            expected: 0,
            final_at: None,
            settled: false,
            forked: None,
            unpriced: false,
            remembered: BTreeMap::new(),
            hidden: None,
            compacted: false,
            cut: opened,
            watermark: Timestamp::EPOCH,
        }
    }

    pub(super) fn prefix(&self) -> u64 {
        self.prefix
    }

    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    pub(super) fn watermark(&self) -> Timestamp {
        self.watermark
    }

    pub(super) fn cut(&self) -> Timestamp {
        self.cut
    }

    pub(super) fn is_compacted(&self) -> bool {
        self.compacted
    }

    /// True if the prefix reaches its final batch, or the last one that its child knows of.
    pub(super) fn is_closed(&self) -> bool {
        self.final_at.is_some_and(|last| last <= self.prefix)
            || (self.expected > 0 && self.prefix >= self.expected)
    }

    /// True if the journal has lost its first batch.
    pub(super) fn has_lost_beginning(&self) -> bool {
        let lost = self.lost.at(1);
        lost.is_some_and(|(_, range)| range.reason == LossReason::JournalDamaged)
    }

    /// True if nothing is missing that is known to have existed.
    pub(super) fn is_accounted(&self) -> bool {
        self.prefix >= self.expected
    }

    /// A child knows of batches up to `last`.
    pub(super) fn expect(&mut self, last: u64) {
        self.expected = self.expected.max(last);
    }

    /// The last sequence number that is known to exist: that of a batch beyond a hole, which perhaps
    /// another receiver appended, or the one that the child of this life names.
    pub(super) fn top(&self) -> u64 {
        self.expected.max(self.received.last().unwrap_or(0))
    }

    /// Sequence numbers known to exist, neither received nor declared.
    pub(super) fn gaps(&self) -> u64 {
        let top = self.top();
        let holes = self.received.missing(self.prefix.saturating_add(1), top);
        let missing: u64 = holes
            .iter()
            .fold(0, |sum, (from, to)| sum.saturating_add(to - from + 1));
        let beyond = |(from, range): (u64, &LostRange)| {
            let from = from.max(self.prefix.saturating_add(1));
            range
                .to
                .min(top)
                .checked_sub(from)
                .map_or(0, |n| n.saturating_add(1))
        };
        missing.saturating_sub(self.lost.iter().map(beyond).fold(0, u64::saturating_add))
    }

    pub(super) fn hash_of(&self, sequence: u64) -> Option<Digest> {
        self.recent.get(&sequence).map(|recent| recent.hash)
    }

    /// The last batch up to `sequence` whose hash is kept.
    pub(super) fn known_hash_upto(&self, sequence: u64) -> Option<(u64, Digest)> {
        let (&known, recent) = self.recent.range(..=sequence).next_back()?;
        Some((known, recent.hash))
    }

    /// The rows of batch `sequence` and of the parts of the same seal behind it, merged by
    /// series; `None` if they are no longer kept.
    pub(super) fn rows_of_seal(&self, sequence: u64) -> Option<Vec<KeptRow>> {
        let from = self.recent.get(&sequence)?.from;
        let parts = self.recent.range(sequence..).map(|(_, part)| part);
        let seal = parts.take_while(|part| part.from == from);
        let rows: Option<Vec<&KeptRows>> = seal.map(|part| part.rows.as_ref()).collect();
        Some(KeptRows::merge(rows?.into_iter()))
    }

    /// Notes that the seal of batch `sequence` has forked.
    pub(super) fn note_fork(&mut self, sequence: u64) {
        self.forked = self
            .recent
            .get(&sequence)
            .map(|batch| batch.from)
            .or(self.forked);
    }

    /// True if the batch is another part of a seal that has forked. While a host's clock
    /// stands still behind its last cut, later seals begin there too and are taken for parts.
    pub(super) fn is_part_of_fork(&self, batch: &Batch) -> bool {
        self.forked == Some(batch.span.from)
    }

    pub(super) fn knows(&self, sequence: u64, hash: Digest) -> Known {
        if self.given_up.contains(sequence) {
            return Known::GivenUp;
        }
        if !self.received.contains(sequence) {
            return Known::No;
        }
        match self.hash_of(sequence) {
            Some(known) if known == hash => Known::Same,
            Some(_) => Known::Other,
            None => Known::Forgotten,
        }
    }

    /// True unless a neighbour of `sequence` shows that the batch is of another branch.
    pub(super) fn fits(&self, sequence: u64, parent: Digest, hash: Digest) -> bool {
        let before = sequence
            .checked_sub(1)
            .and_then(|before| self.hash_of(before));
        let after = sequence
            .checked_add(1)
            .and_then(|after| self.tail.get(&after));
        before.is_none_or(|before| before == parent)
            && after.is_none_or(|after| after.parent == hash)
    }

    /// Takes in a batch that is not there yet. Its rows are handed on by the caller.
    ///
    /// True if it replaces a declared loss.
    pub(super) fn insert(
        &mut self,
        batch: &Batch,
        hash: Digest,
        figures: Figures,
        origin: &Origin,
        out: &mut Outbox,
    ) -> bool {
        let sequence = batch.sequence.get();
        // An agent whose room for totals is used up tells none of its newest accounts.
        self.unpriced |= figures.iter().any(|(_, figure)| figure.total.is_none());
        self.remember(sequence, hash, batch);
        self.received.insert(sequence);
        let replaces = self.take_back(sequence, origin, out);
        let cut = batch.span.to;
        if replaces && sequence <= self.prefix {
            self.totals.late(
                sequence,
                &figures,
                cut,
                &mut Context {
                    origin,
                    lost: &self.lost,
                    out,
                },
            );
            self.cut = self.cut.max(cut);
            self.watermark = self.watermark.max(batch.watermark);
            if batch.is_final {
                self.final_at = Some(sequence);
                self.price_unknown(origin, out);
            }
            return true;
        }
        let parent = Digest(*batch.parent_hash.as_bytes());
        let tail = Tail {
            figures,
            parent,
            cut,
            watermark: batch.watermark,
            is_final: batch.is_final,
        };
        self.tail.insert(sequence, tail);
        self.drain(origin, out);
        if self.tail.len() > TAIL_MAX
            && let Some((&first, _)) = self.tail.first_key_value()
        {
            let detail = format!("{TAIL_MAX} batches lie beyond a hole; it is declared lost");
            out.notice(NoticeKind::Gap, Some(origin), Some(self.prefix + 1), detail);
            let (from, to) = (self.prefix + 1, first - 1);
            self.declare_lost((from, to), LossReason::JournalDamaged, cut, origin, out);
        }
        self.bound();
        replaces
    }

    /// Moves the prefix over everything that is received or declared.
    fn drain(&mut self, origin: &Origin, out: &mut Outbox) {
        while let Some(next) = self.prefix.checked_add(1) {
            if let Some(tail) = self.tail.remove(&next) {
                let mut context = Context {
                    origin,
                    lost: &self.lost,
                    out,
                };
                self.totals
                    .advance(next, &tail.figures, tail.cut, &mut context);
                self.prefix = next;
                self.cut = self.cut.max(tail.cut);
                self.watermark = self.watermark.max(tail.watermark);
                if tail.is_final {
                    self.final_at = Some(next);
                    self.price_unknown(origin, out);
                }
            } else if let Some((_, range)) = self.lost.at(next) {
                self.recall((next, range.to), origin, out);
                self.prefix = range.to;
            } else if let Some((_, to)) = self.given_up.interval_of(next) {
                self.prefix = to;
            } else {
                break;
            }
        }
    }

    /// Keeps hash and rows, and forgets the oldest.
    fn remember(&mut self, sequence: u64, hash: Digest, batch: &Batch) {
        let rows = (batch.rows.len() <= ROWS_KEPT_MAX)
            .then(|| KeptRows::of(&batch.rows, batch.incarnation))
            .filter(|rows| rows.weight() <= ROWS_KEPT_MAX);
        self.unpriced |= batch
            .rows
            .iter()
            .any(|row| !matches!(row.aggregation, Aggregation::Sum | Aggregation::Last));
        let from = batch.span.from;
        self.recent.insert(sequence, Recent { hash, from, rows });
        while self.recent.len() > HASHES_KEPT {
            self.recent.pop_first();
        }
        let (mut batches, mut rows) = (0, 0);
        for recent in self.recent.values_mut().rev() {
            let Some(kept) = &recent.rows else {
                // Whatever is older was dropped before, except at the very beginning.
                if batches >= ROW_BATCHES_KEPT {
                    break;
                }
                batches += 1;
                continue;
            };
            batches += 1;
            rows += kept.weight();
            if batches > ROW_BATCHES_KEPT || rows > ROWS_KEPT_MAX {
                recent.rows = None;
            }
        }
    }

    /// Forgets everything but the intervals and the hash of the last batch. Losses that stand
    /// can no longer be taken back.
    pub(super) fn compact(&mut self) {
        for (from, range) in self.lost.iter() {
            self.given_up.insert_range(from, range.to);
        }
        self.lost.clear();
        self.totals.clear();
        self.remembered.clear();
        self.recent = self.recent.pop_last().into_iter().collect();
        for recent in self.recent.values_mut() {
            recent.rows = None;
        }
        self.compacted = true;
    }
}
