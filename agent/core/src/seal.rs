//! Seal: differences of cells become a batch.
//!
//! A seal reads every cell, subtracts the baseline in force and writes the cut into the other
//! baseline array. The batch that results is only `Sealed`: nothing has changed yet for
//! anybody, and a seal that is given up (because the spool is full) leaves the counts where
//! they are. Once the spool has made the batch `Durable`, `apply`
//! makes the cut the baseline with one store.
//!
//! # Which window a count belongs to
//!
//! A sum has no time of its own: it was counted somewhere between two cuts. The whole
//! difference is booked to the window in which that span begins. Usually a span is one window
//! and a moment, because a seal follows a window's end closely. When it is wider (the agent
//! was down, the spool was full), the first window gets it all: the totals are exact, the
//! time within the span is not known, and the span in the batch says so. That window is
//! never before the watermark that the batch before gave, because a watermark is the start
//! of the window that its cut falls into. Last values carry their window, and one that comes
//! late becomes a row of its older window.
//!
//! # Time that goes back
//!
//! A cut never lies before the cut before, and watermarks never fall, while the clock is off
//! by less than [`CLOCK_STEP_MAX_MILLIS`]. A clock that goes back further was wrong before, by hours or
//! years, and rows booked to that future would wait for it: the span then begins at the
//! time that the clock shows now. The watermark stays, and the rows may come out as late.
//!
//! # Parts
//!
//! A batch is bounded in bytes. What does not fit keeps its baseline and goes into the next
//! batch, which follows at once. Only the last of these parts moves the cut time and the
//! watermark. A final batch has the running totals of all tenants and meters, or, where they
//! do not fit, of those that the parts before it had not.

mod cut;
mod known;
#[cfg(test)]
mod tests;

use tollgate_common::limits::BATCH_ROWS_MAX;
use tollgate_common::wire::{EncodeError, encode_record};
use tollgate_common::{
    Aggregation, Batch, BatchHash, BatchSeq, Loss, LossAmount, LossReason, Opening, Quantity,
    Rollup, Scale, SeriesKey, Span, Timestamp, Total, Window,
};

use crate::aggregate::{Cells, CutRecord, Region};
use crate::spool::Durable;
use cut::{Part, Place};
use known::{Kind, Known, Registry};

/// How far back a clock may go before what it showed earlier is taken for wrong: an hour.
/// Time services slew or step by less; a larger step is a clock that was set.
pub const CLOCK_STEP_MAX_MILLIS: i64 = 3_600_000;

/// Bytes of keys and columns after which a batch is full. Incompressible keys of that size
/// stay well below the largest frame.
const PART_BYTES_MAX: usize = 8 << 20;
/// A series gives at most two rows (a last value has two halves), and the last one is added
/// before the bound is looked at.
const PART_ROWS_MAX: usize = BATCH_ROWS_MAX / 2;

/// A batch that is complete but not yet durable.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) batch: Batch,
    pub(crate) hash: BatchHash,
    /// The record for the spool.
    pub(crate) record: Vec<u8>,
    /// False if what did not fit is left for another part.
    pub(crate) complete: bool,
}

/// Why a batch cannot be sealed. Both mean a broken agent, not a broken input.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A running total beyond 2^127.
    #[error("running total of {tenant}/{meter} is out of range")]
    Total {
        /// Whose.
        tenant: String,
        /// Of what.
        meter: String,
    },
    /// The batch has no record form.
    #[error("batch cannot be encoded for the spool")]
    Encode(#[from] EncodeError),
    /// The header of the cells has no record of the last cut.
    #[error("cells have no record of the cut of batch {0}")]
    NoCut(u64),
    /// The incarnation's final batch is sealed already.
    #[error("incarnation is final, nothing can follow")]
    Final,
}

/// Where an incarnation stands: what its next batch continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) sequence: u64,
    pub(crate) hash: BatchHash,
    pub(crate) cut: Timestamp,
    pub(crate) watermark: Timestamp,
    pub(crate) is_final: bool,
}

impl Standing {
    pub(crate) fn of<R: Region>(cells: &Cells<R>) -> Result<Self, SealError> {
        let identity = cells.identity();
        let sequence = cells.applied();
        if sequence == 0 {
            return Ok(Self {
                sequence,
                hash: BatchHash::ZERO,
                cut: identity.opened_at,
                watermark: Window::containing(identity.opened_at, identity.window).start(),
                is_final: false,
            });
        }
        let cut = cells.cut(sequence).ok_or(SealError::NoCut(sequence))?;
        Ok(Self {
            sequence,
            hash: cut.hash,
            cut: cut.cut,
            watermark: cut.watermark,
            is_final: cut.is_final,
        })
    }

    /// The span of a cut at `to`.
    fn span(&self, to: Timestamp) -> Span {
        if to.plus_millis(CLOCK_STEP_MAX_MILLIS) < self.cut {
            return Span { from: to, to };
        }
        Span {
            from: self.cut,
            to: to.max(self.cut),
        }
    }
}

/// What to seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A window's worth.
    Window,
    /// The end of the incarnation.
    Final,
}

/// Reads cells and makes batches of them; remembers what it knows about the series.
pub(crate) struct Sealer {
    registry: Registry,
    /// The writer and slot at which the next part begins.
    next: (u32, u32),
    /// What the parts so far belong to.
    mode: Mode,
    part_bytes_max: usize,
    /// The last batch that declared damage. It does so again if it is sealed again.
    damage_declared: u64,
}

impl Sealer {
    /// A sealer whose batches have up to `part_bytes_max` bytes, where that is less than what
    /// a frame allows.
    pub(crate) fn with_part_bytes(part_bytes_max: usize) -> Self {
        Self {
            registry: Registry::default(),
            next: (0, 0),
            mode: Mode::Window,
            part_bytes_max: part_bytes_max.min(PART_BYTES_MAX),
            damage_declared: 0,
        }
    }

    /// Begins again with the first slot, after a part that did not become durable.
    pub(crate) fn rewind(&mut self) {
        self.next = (0, 0);
    }

    /// Cuts at `to` and makes the next batch; with [`Sealed::complete`] unset there is more.
    pub(crate) fn seal<R: Region>(
        &mut self,
        cells: &Cells<R>,
        to: Timestamp,
        mode: Mode,
    ) -> Result<Sealed, SealError> {
        let before = Standing::of(cells)?;
        if before.is_final {
            return Err(SealError::Final);
        }
        // A final batch that went on where a window's part stopped would miss what the slots
        // before have counted since.
        if self.mode != mode {
            self.rewind();
            self.mode = mode;
        }
        let span = before.span(to);
        let mut part = self.cut(cells, before.sequence, span, mode);
        let complete = part.stop.is_none();
        let start = part.stop.unwrap_or((0, 0));
        let identity = cells.identity();
        let sequence = BatchSeq::new(before.sequence.saturating_add(1)).unwrap_or(BatchSeq::FIRST);
        let first = before.sequence == 0;
        let damaged = part.damaged || self.damage_declared == sequence.get();
        if damaged {
            self.damage_declared = sequence.get();
        }
        let (cut, watermark) = if complete {
            let window = Window::containing(span.to, identity.window).start();
            (span.to, window.max(before.watermark))
        } else {
            (before.cut, before.watermark)
        };
        let batch = Batch {
            agent: identity.agent.clone(),
            incarnation: identity.incarnation,
            sequence,
            parent_hash: before.hash,
            span,
            watermark,
            opening: first.then_some(Opening {
                parent: identity.parent,
            }),
            is_final: complete && mode == Mode::Final,
            totals: self.totals(&part.totals)?,
            losses: losses(cells, first, damaged, span),
            rows: merge(std::mem::take(&mut part.rows)),
            steps: Vec::new(),
        };
        let hash = batch.hash();
        let mut record = Vec::new();
        encode_record(&batch, &mut record)?;
        cells.put_cut(&CutRecord {
            sequence: sequence.get(),
            hash,
            cut,
            watermark,
            is_final: batch.is_final,
        });
        self.next = start;
        Ok(Sealed {
            batch,
            hash,
            record,
            complete,
        })
    }

    /// Writes the cut of every slot into the baselines of the next batch, and collects rows.
    fn cut<R: Region>(&mut self, cells: &Cells<R>, applied: u64, span: Span, mode: Mode) -> Part {
        let width = cells.identity().window;
        let mut part = Part::default();
        Cells::<R>::begin_cut();
        for writer in 0..cells.layout().writers() {
            for slot in 0..cells.published(writer) {
                let met = self.registry.meet(cells, writer, slot);
                let at = (writer, slot);
                let place = Place {
                    cells,
                    writer,
                    slot,
                    applied,
                    include: at >= self.next && part.stop.is_none(),
                };
                match met.known {
                    Known::Damaged => {
                        let (is_new, counts) = (met.is_new, place.damaged_counts());
                        part.damaged |= is_new || counts;
                    }
                    Known::Series { key, scale, kind } => match *kind {
                        Kind::Sum { pair } => {
                            let window = Window::containing(span.from, width);
                            place.sum(&mut part, key, *scale, window, (pair, mode));
                        }
                        Kind::Last { cell } => place.last(&mut part, key, *scale, cell, width),
                    },
                }
                let full = part.bytes >= self.part_bytes_max || part.rows.len() >= PART_ROWS_MAX;
                if part.stop.is_none() && full {
                    part.stop = next_slot(cells, at);
                }
            }
        }
        part
    }

    fn totals(&self, totals: &[(u128, bool)]) -> Result<Vec<Total>, SealError> {
        let mut told = Vec::new();
        for (pair, &(sum, _)) in (0..).zip(totals).filter(|(_, (_, told))| *told) {
            let (tenant, meter, scale) = self.registry.pair(pair);
            let quantity = i128::try_from(sum).map_err(|_| SealError::Total {
                tenant: tenant.to_string(),
                meter: meter.to_string(),
            })?;
            told.push(Total {
                tenant: tenant.clone(),
                meter: meter.clone(),
                scale: *scale,
                quantity: Quantity::new(quantity),
            });
        }
        told.sort();
        Ok(told)
    }
}

/// The slot after `at`, or `None` if that was the last one.
fn next_slot<R: Region>(cells: &Cells<R>, at: (u32, u32)) -> Option<(u32, u32)> {
    let (writer, slot) = at;
    if slot + 1 < cells.published(writer) {
        return Some((writer, slot + 1));
    }
    (writer + 1..cells.layout().writers())
        .find(|&writer| cells.published(writer) > 0)
        .map(|writer| (writer, 0))
}

/// Sorts rows and makes one of those of several writers for the same series and window: sums
/// add up; of last values the one of the later writer stands.
fn merge(mut rows: Vec<Rollup>) -> Vec<Rollup> {
    fn order(row: &Rollup) -> (&SeriesKey, Aggregation, Scale, Window) {
        (&row.series, row.aggregation, row.scale, row.window)
    }
    rows.sort_by(|a, b| order(a).cmp(&order(b)));
    rows.dedup_by(|later, kept| {
        if order(later) != order(kept) {
            return false;
        }
        kept.value = match kept.aggregation {
            Aggregation::Sum => {
                let sum = kept.value.checked_add(later.value);
                sum.expect("at most 64 differences below 2^64 fit 2^127")
            }
            Aggregation::Max => kept.value.max(later.value),
            _ => later.value,
        };
        kept.events = kept.events.saturating_add(later.events);
        true
    });
    rows
}

fn losses<R: Region>(cells: &Cells<R>, first: bool, damaged: bool, span: Span) -> Vec<Loss> {
    let loss = |reason, from, to| Loss {
        reason,
        tenant: None,
        meter: None,
        amount: LossAmount::Unknown,
        from,
        to,
    };
    let inherited = cells.identity().inherited.filter(|_| first);
    let inherited = inherited.map(|i| loss(i.reason, i.from, i.to));
    let damaged = damaged.then(|| loss(LossReason::CellsDamaged, span.from, span.to));
    inherited.into_iter().chain(damaged).collect()
}

/// Makes the cut of a batch that is durable the baseline.
///
/// This is the only store that changes what is sealed. The proof that the batch is durable
/// is the argument.
pub(crate) fn apply<R: Region>(cells: &Cells<R>, durable: &Durable) -> bool {
    let next = cells.applied().wrapping_add(1);
    let ours = durable.incarnation() == cells.identity().incarnation
        && durable.sequence().get() == next
        && cells
            .cut(next)
            .is_some_and(|cut| cut.hash == durable.hash());
    if ours {
        cells.set_applied(next);
    }
    ours
}
