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
mod order;
#[cfg(test)]
mod reuse_tests;
mod sort;
#[cfg(test)]
mod tests;
mod totals;
mod wide;

use tollgate_common::limits::BATCH_ROWS_MAX;
use tollgate_common::wire::{EncodeError, Message, RecordStream, decode_record};
use tollgate_common::{
    Batch, BatchHash, BatchSeq, ClockStep, Loss, LossAmount, LossReason, Opening, Quantity, RowRef,
    SeriesRef, Span, Timestamp, Window,
};

use crate::aggregate::{Cells, CutRecord, Idle, Region};
use crate::spool::Durable;
use cut::{Cutter, Part};
use order::{Order, Place};
use totals::Totals;
use wide::Scratch;

/// How far back a clock may go before what it showed earlier is taken for wrong: an hour.
/// Time services slew or step by less; a larger step is a clock that was set.
pub const CLOCK_STEP_MAX_MILLIS: i64 = 3_600_000;

/// Bytes of keys and columns after which a batch is full. Incompressible keys of that size
/// stay well below the largest frame.
pub(crate) const PART_BYTES_MAX: usize = 8 << 20;
/// A series gives a few rows, and the last one is added before the bound is looked at.
const PART_ROWS_MAX: usize = BATCH_ROWS_MAX / 2;
/// Memory for rows and records above this size is given back when a seal is complete.
const MEMORY_KEPT: usize = 1 << 20;
/// Rows whose keys are fetched together.
const AHEAD: usize = 64;
/// The compression level of records: they are written once and mostly read never.
const RECORD_LEVEL: i32 = 1;

/// A batch that is complete but not yet durable.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// The batch without its rows and totals.
    pub(crate) batch: Batch,
    pub(crate) hash: BatchHash,
    /// The record for the spool.
    pub(crate) record: Vec<u8>,
    pub(crate) rows: u64,
    /// False if what did not fit is left for another part.
    pub(crate) complete: bool,
}

/// Where a seal cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutAt {
    /// The window time of the cut.
    pub(crate) to: Timestamp,
    /// The clock is set at this cut, and the next span begins at another time.
    pub(crate) step: Option<(ClockStep, Timestamp)>,
}

impl From<Timestamp> for CutAt {
    fn from(to: Timestamp) -> Self {
        Self { to, step: None }
    }
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
    /// The description of a slot changed under the sealer's hands.
    #[error(
        "description of slot {0} changed after it was checked; is another process writing to the cells file?"
    )]
    Slot(u32),
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
    /// Nothing of the cells: losses are declared.
    Losses,
}

/// Reads cells and makes batches of them.
///
/// It remembers ten bytes for every slot, and what of the last batch it needs.
pub(crate) struct Sealer {
    order: Order,
    idle: Idle,
    scratch: Scratch,
    totals: Totals,
    /// The place at which the next part begins; those that have a place are done after that.
    next: usize,
    /// What the parts so far belong to.
    mode: Mode,
    part_bytes_max: usize,
    /// The places whose two baselines differ, after the batch with this number was made: it
    /// is only them that the next cut has to make equal. `None` if nothing is known.
    changed: Option<(u64, Vec<Place>)>,
    part: Part,
    stream: RecordStream,
    record: Vec<u8>,
    /// The last batch that declared damage. It does so again if it is sealed again.
    damage_declared: u64,
}

impl Sealer {
    /// A sealer whose batches have up to `part_bytes_max` bytes, where that is less than what
    /// a frame allows.
    pub(crate) fn with_part_bytes(part_bytes_max: usize) -> Self {
        Self {
            order: Order::default(),
            idle: Idle::default(),
            scratch: Scratch::default(),
            totals: Totals::default(),
            next: 0,
            mode: Mode::Window,
            part_bytes_max: part_bytes_max.min(PART_BYTES_MAX),
            changed: None,
            part: Part::default(),
            stream: RecordStream::new(RECORD_LEVEL),
            record: Vec::new(),
            damage_declared: 0,
        }
    }

    /// Begins again with the first slot, after a part that did not become durable.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
        self.totals.forget_told();
    }

    /// Takes back the memory of a batch that is in the spool, or is given up.
    pub(crate) fn recycle(&mut self, sealed: Sealed) {
        self.record = sealed.record;
        if sealed.complete && self.record.capacity() > MEMORY_KEPT {
            self.record = Vec::new();
            self.part = Part::default();
            self.stream.shrink();
        }
    }

    /// Makes the next batch of nothing but declared losses. It cuts nothing: the batch after it
    /// continues the same span. It has no figures that a scale could be taken from, so that
    /// amounts of losses are whole units.
    pub(crate) fn declare<R: Region>(
        &mut self,
        cells: &Cells<R>,
        to: Timestamp,
        losses: Vec<Loss>,
    ) -> Result<Sealed, SealError> {
        self.make(cells, to.into(), Mode::Losses, losses)
    }

    /// Cuts and makes the next batch; with [`Sealed::complete`] unset there is more.
    pub(crate) fn seal<R: Region>(
        &mut self,
        cells: &Cells<R>,
        at: impl Into<CutAt>,
        mode: Mode,
    ) -> Result<Sealed, SealError> {
        self.make(cells, at.into(), mode, Vec::new())
    }

    fn make<R: Region>(
        &mut self,
        cells: &Cells<R>,
        at: CutAt,
        mode: Mode,
        declared: Vec<Loss>,
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
        let span = before.span(at.to);
        let next = at.step.map_or(span.to, |(_, next)| next);
        let complete = self.cut(cells, before.sequence, (span, next), mode);
        let sequence = BatchSeq::new(before.sequence.saturating_add(1)).unwrap_or(BatchSeq::FIRST);
        if self.part.damaged || self.damage_declared == sequence.get() {
            self.part.damaged = true;
            self.damage_declared = sequence.get();
        }
        let (cut, watermark) = if complete {
            let window = Window::containing(next, cells.identity().window).start();
            (next, window.max(before.watermark))
        } else {
            (before.cut, before.watermark)
        };
        let first = before.sequence == 0;
        let identity = cells.identity();
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
            totals: Vec::new(),
            losses: losses(cells, first, self.part.damaged, span)
                .chain(self.part.set_back.map(|to| set_back(next.min(span.to), to)))
                .chain(declared)
                .collect(),
            rows: Vec::new(),
            steps: at
                .step
                .filter(|_| complete)
                .map(|(step, _)| step)
                .into_iter()
                .collect(),
        };
        let hash = self.encode(cells, &batch)?;
        cells.put_cut(&CutRecord {
            sequence: sequence.get(),
            hash,
            cut,
            watermark,
            is_final: batch.is_final,
        });
        self.next = if complete { 0 } else { self.part.next };
        if complete {
            self.totals.forget_told();
        }
        Ok(Sealed {
            batch,
            hash,
            record: std::mem::take(&mut self.record),
            rows: self.part.rows.len() as u64,
            complete,
        })
    }

    /// Writes a part's cut into the baselines of the next batch. True if the seal is complete
    /// with it.
    fn cut<R: Region>(
        &mut self,
        cells: &Cells<R>,
        applied: u64,
        (span, next): (Span, Timestamp),
        mode: Mode,
    ) -> bool {
        let identity = cells.identity();
        let cutter = Cutter {
            cells,
            applied,
            window: Window::containing(span.from, identity.window),
            from: span.from,
            to: span.to,
            next,
            is_final: mode == Mode::Final,
            part_bytes_max: self.part_bytes_max,
            part_rows_max: PART_ROWS_MAX,
        };
        let is_new = self.next == 0 && self.order.absorb(cells, &mut self.totals);
        Cells::<R>::begin_cut();
        let mut changed = match self.changed.take() {
            Some((made, changed)) if made == applied || made == applied.wrapping_add(1) => {
                self.totals.settle(cells, applied, made == applied);
                cutter.catch_up(changed.iter().copied());
                changed
            }
            _ => {
                self.totals.settle(cells, applied, false);
                Totals::catch_up_all(cells, applied);
                cutter.catch_up_all(&self.order);
                Vec::new()
            }
        };
        self.order.acknowledge(cells);
        changed.clear();
        self.part.clear(self.next);
        self.part.damaged = is_new;
        for &slot in &self.order.damaged {
            cells.copy_base(slot.0, slot.1, applied);
            self.part.damaged |= self.next == 0 && cutter.damaged(slot);
        }
        if mode != Mode::Losses {
            let marks = (&mut self.idle, &mut self.scratch);
            cutter.cut(&self.order, marks, &mut self.part, &mut changed);
        }
        self.changed = Some((applied.wrapping_add(1), changed));
        let told = mode == Mode::Window || {
            let totals = &self.totals;
            totals.rest_fits(self.part.bytes, self.part_bytes_max)
        };
        mode != Mode::Losses && self.part.next >= self.order.len() && told
    }

    /// Makes the record of the part, whose head is `batch`.
    fn encode<R: Region>(
        &mut self,
        cells: &Cells<R>,
        batch: &Batch,
    ) -> Result<BatchHash, SealError> {
        let span = Window::containing(batch.span.from, cells.identity().window);
        let stream = &mut self.stream;
        stream.begin(batch, self.part.rows.len())?;
        // It was good when it was met; if it is not any more, memory is broken.
        if let Some(slot) = self.part.unreadable {
            return Err(SealError::Slot(slot));
        }
        let mut key = Vec::new();
        for rows in self.part.rows.chunks(AHEAD) {
            let touched = rows.iter().fold(0, |touched, row| {
                touched ^ cells.touch_key(row.place.writer(), row.key)
            });
            std::hint::black_box(touched);
            for row in rows {
                cells.read_key(row.place.writer(), row.key, &mut key);
                let series = SeriesRef::new(&key);
                let (window, value, detail) = self.part.side(row, span);
                let (aggregation, scale) = (row.place.aggregation(), row.key.scale);
                self.totals
                    .count(series, (aggregation, scale), value, row.events);
                stream.row(&RowRef {
                    series,
                    aggregation,
                    // What has no such scale keeps its own, and is told as unrated for it.
                    scale: aggregation.rollup_scale(scale).unwrap_or(scale),
                    window,
                    value: Quantity::new(value),
                    events: row.events,
                    detail,
                })?;
            }
        }
        if self.mode == Mode::Final && self.part.next >= self.order.len() {
            self.totals.add_rest(self.part.bytes, self.part_bytes_max);
        }
        self.totals.tell(stream)?;
        self.totals.put(cells, batch.sequence.get());
        self.record.clear();
        let hash = stream.finish(batch, &mut self.record)?;
        debug_assert!(
            matches!(decode_record(&self.record), Ok(Message::Batch(read)) if read.hash() == hash),
            "what is sealed can be read"
        );
        Ok(hash)
    }
}

/// What levels miss that were set by a clock that was ahead: for each at most a window.
fn set_back(from: Timestamp, to: Timestamp) -> Loss {
    Loss {
        reason: LossReason::ClockSetBack,
        tenant: None,
        meter: None,
        amount: LossAmount::Unknown,
        from,
        to,
    }
}

fn losses<R: Region>(
    cells: &Cells<R>,
    first: bool,
    damaged: bool,
    span: Span,
) -> impl Iterator<Item = Loss> {
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
    inherited.into_iter().chain(damaged)
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
