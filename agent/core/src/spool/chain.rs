//! Which batches are missing between two records.
//!
//! Sequence numbers have no gaps when they are written. A gap that is read is damage: the
//! numbers on both sides tell which batches it cost. At the end of an incarnation its
//! child's opening tells its last number. What was before the oldest record is not known
//! here; it was trimmed, or the collector sees from its own numbers that it is missing.

use tollgate_common::{Incarnation, Opening};

/// Most batches that one gap stands for. More cannot come from damage of a bounded log; a
/// record that claims so is not believed.
const GAP_MAX: u64 = 1 << 24;

/// Batches `from..=to` of an incarnation, missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) incarnation: Incarnation,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The record before, and what follows from it for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    last: Option<(Incarnation, u64)>,
}

impl Chain {
    /// The chain after batch `sequence` of an incarnation.
    pub(crate) fn after(incarnation: Incarnation, sequence: u64) -> Self {
        Self {
            last: Some((incarnation, sequence)),
        }
    }

    /// Goes on to a record; returns what is missing before it, in order.
    pub(crate) fn follow(
        &mut self,
        incarnation: Incarnation,
        sequence: u64,
        opening: Option<&Opening>,
    ) -> [Option<Gap>; 2] {
        let gaps = match self.last {
            None => [None, None],
            Some((last, number)) if last == incarnation => {
                [gap(incarnation, number, sequence.saturating_sub(1)), None]
            }
            Some((last, number)) => [
                parent_end(opening, last).and_then(|end| gap(last, number, end)),
                gap(incarnation, 0, sequence.saturating_sub(1)),
            ],
        };
        self.last = Some((incarnation, sequence));
        gaps
    }
}

fn parent_end(opening: Option<&Opening>, last: Incarnation) -> Option<u64> {
    let parent = opening?.parent?;
    (parent.incarnation == last).then_some(parent.last_sequence)
}

/// What is missing after batch `known`, up to batch `end`.
fn gap(incarnation: Incarnation, known: u64, end: u64) -> Option<Gap> {
    (end > known && end - known <= GAP_MAX).then_some(Gap {
        incarnation,
        from: known + 1,
        to: end,
    })
}
