//! The canonical content of a batch, hashed as it is written.
//!
//! `docs/formats/batch-hash.md` describes the bytes. They go into BLAKE3 in pieces, so that
//! the content of a large batch never lies in memory as a whole.

use super::{Batch, BatchHash, ClockStep, Detail, Opening, ParentEnd, Rollup};
use crate::ids::{MeterName, TenantId};
use crate::loss::{Loss, LossAmount};
use crate::meter::{Aggregation, Scale};
use crate::quantity::Quantity;
use crate::series_ref::SeriesRef;
use crate::time::Timestamp;
use crate::window::Window;

/// Bytes that are collected before they are hashed: BLAKE3 takes many chunks of 1 KiB at a
/// time where it can.
const PIECE_BYTES: usize = 64 << 10;

/// A rollup whose series lies elsewhere; see [`super::Rollup`].
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// What was counted.
    pub series: SeriesRef<'a>,
    /// How the value combines with others.
    pub aggregation: Aggregation,
    /// Decimal places of the value.
    pub scale: Scale,
    /// The window that the usage belongs to.
    pub window: Window,
    /// What the aggregation makes of the window's values.
    pub value: Quantity,
    /// How many accepted events made the value.
    pub events: u64,
    /// What the value alone does not say.
    pub detail: &'a Detail,
}

/// Writes the canonical content: head, rows, totals, and what finishes it.
#[derive(Default)]
pub(crate) struct Canonical {
    out: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Canonical {
    /// What comes before the rows; the batch's own rows are not looked at.
    pub(crate) fn head(&mut self, batch: &Batch, rows: usize) {
        self.out.clear();
        self.hasher.reset();
        self.bytes(b"tollgate batch v1\0");
        self.text(batch.agent.as_str().as_bytes());
        self.bytes(batch.incarnation.as_bytes());
        self.u64(batch.sequence.get());
        self.bytes(batch.parent_hash.as_bytes());
        self.time(batch.span.from);
        self.time(batch.span.to);
        self.time(batch.watermark);
        self.opening(batch.opening.as_ref());
        self.out.push(u8::from(batch.is_final));
        self.len(rows);
    }

    pub(crate) fn row(&mut self, row: &RowRef<'_>) {
        self.bytes(row.series.bytes());
        self.numbers(
            (row.aggregation, row.scale),
            row.window,
            row.value,
            row.events,
        );
        self.detail(row.detail);
    }

    /// The same of a rollup with its own series.
    pub(crate) fn rollup(&mut self, row: &Rollup) {
        row.series.write_canonical(&mut self.out);
        self.numbers(
            (row.aggregation, row.scale),
            row.window,
            row.value,
            row.events,
        );
        self.detail(&row.detail);
    }

    /// What every row has behind its series, put together first: there may be a million of them.
    fn numbers(
        &mut self,
        (aggregation, scale): (Aggregation, Scale),
        window: Window,
        value: Quantity,
        events: u64,
    ) {
        let mut bytes = [0; 42];
        bytes[0] = aggregation.code();
        bytes[1] = scale.get();
        bytes[2..10].copy_from_slice(&window.start().millis().to_le_bytes());
        bytes[10..18].copy_from_slice(&u64::from(window.width().secs()).to_le_bytes());
        bytes[18..34].copy_from_slice(&value.units().to_le_bytes());
        bytes[34..].copy_from_slice(&events.to_le_bytes());
        self.bytes(&bytes);
    }

    fn detail(&mut self, detail: &Detail) {
        match detail {
            Detail::None => {}
            Detail::Unique(sketch) => sketch.write_canonical(&mut self.out),
            Detail::Distribution(histogram) => histogram.write_canonical(&mut self.out),
        }
        self.flush(PIECE_BYTES);
    }

    pub(crate) fn totals(&mut self, totals: usize) {
        self.len(totals);
    }

    pub(crate) fn total(&mut self, [tenant, meter]: [&[u8]; 2], scale: Scale, quantity: Quantity) {
        self.text(tenant);
        self.text(meter);
        self.out.push(scale.get());
        self.quantity(quantity);
        self.flush(PIECE_BYTES);
    }

    /// The hash; after that another batch can begin.
    pub(crate) fn finish(&mut self, losses: &[Loss], steps: &[ClockStep]) -> BatchHash {
        self.len(losses.len());
        for loss in losses {
            self.loss(loss);
        }
        // Nothing at all where there is no step: batches from before steps keep their hash.
        if !steps.is_empty() {
            self.len(steps.len());
            for step in steps {
                self.time(step.at);
                self.bytes(&step.by_millis.to_le_bytes());
            }
        }
        self.flush(0);
        BatchHash(*self.hasher.finalize().as_bytes())
    }

    fn flush(&mut self, above: usize) {
        if self.out.len() >= above {
            self.hasher.update(&self.out);
            self.out.clear();
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn len(&mut self, length: usize) {
        self.u64(length as u64);
    }

    fn text(&mut self, text: &[u8]) {
        self.len(text.len());
        self.bytes(text);
    }

    fn time(&mut self, time: Timestamp) {
        self.bytes(&time.millis().to_le_bytes());
    }

    fn quantity(&mut self, quantity: Quantity) {
        self.bytes(&quantity.units().to_le_bytes());
    }

    fn optional_text(&mut self, text: Option<&str>) {
        self.out.push(u8::from(text.is_some()));
        self.text(text.unwrap_or("").as_bytes());
    }

    fn opening(&mut self, opening: Option<&Opening>) {
        let parent = opening.map(|opening| opening.parent.as_ref());
        self.out.push(match parent {
            None => 0,
            Some(None) => 1,
            Some(Some(_)) => 2,
        });
        if let Some(Some(parent)) = parent {
            self.bytes(parent.incarnation.as_bytes());
            self.u64(parent.last_sequence);
            self.bytes(parent.last_hash.as_bytes());
            match parent.end {
                ParentEnd::Final => self.out.push(0),
                ParentEnd::Unclean { reason, from, to } => {
                    self.out.push(reason.code());
                    self.time(from);
                    self.time(to);
                }
            }
        }
    }

    fn loss(&mut self, loss: &Loss) {
        self.out.push(loss.reason.code());
        self.optional_text(loss.tenant.as_ref().map(TenantId::as_str));
        self.optional_text(loss.meter.as_ref().map(MeterName::as_str));
        let (code, quantity) = match loss.amount {
            LossAmount::Exact(quantity) => (0, quantity),
            LossAmount::AtMost(quantity) => (1, quantity),
            LossAmount::Unknown => (2, Quantity::ZERO),
        };
        self.out.push(code);
        self.quantity(quantity);
        self.time(loss.from);
        self.time(loss.to);
    }
}
