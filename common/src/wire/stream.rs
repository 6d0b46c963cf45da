//! Records made row by row.
//!
//! [`RecordEncoder`](super::RecordEncoder) makes a record of a [`Batch`]; this one makes the
//! same bytes, and the same hash, of rows whose keys lie elsewhere. A seal of a million series
//! so needs no key, no list of rows and no dictionary of its own: in a record every series is
//! new, so that what a dictionary would remember is the row before.

use super::archive::{self, BatchV2, count32};
use super::dictionary::{History, entry_bytes};
use super::frame::{FrameWriter, Kind};
use super::rows::{WindowTable, put_record_row};
use super::varint::elide_zeros;
use super::{EncodeError, FLAG_FINAL, FLAG_RESET, FLAG_TOTALS_EXPECTED, FrameVersion};
use super::{definitions, details, head, totals};
use crate::batch::{Batch, BatchError, BatchHash, Canonical, RowRef};
use crate::limits::DICTIONARY_BYTES_MAX;
use crate::meter::{Aggregation, Scale};
use crate::quantity::Quantity;
use crate::series_ref::SeriesRef;

/// A running total whose names lie elsewhere; see [`crate::Total`].
#[derive(Clone, Copy, Debug)]
pub struct TotalRef<'a> {
    /// Tenant and meter as the canonical form of a key begins, see [`SeriesRef::names`].
    pub names: SeriesRef<'a>,
    /// Decimal places.
    pub scale: Scale,
    /// Everything counted by the incarnation up to and including this batch.
    pub quantity: Quantity,
    /// The sum of the batch's `sum` rows of this tenant, meter and scale; `None` if it has none.
    pub counted: Option<Quantity>,
}

/// Encodes one record after the other from borrowed rows.
///
/// The order is: [`begin`](Self::begin), every row in the order of a batch, every total in
/// the order of a batch, [`finish`](Self::finish). What is written is a record only if rows
/// and totals keep the rules of [`Batch::validate`]. An error leaves nothing behind; begin anew.
pub struct RecordStream {
    frames: FrameWriter,
    columns: BatchV2,
    raw: Vec<u8>,
    canonical: Canonical,
    windows: WindowTable,
    history: History,
    /// The series of the row before.
    key: Vec<u8>,
    kind: Option<(Aggregation, Scale)>,
    /// Tenant and meter of the total before.
    names: Vec<u8>,
    rows: usize,
    totals: usize,
    /// The totals are exactly those of the tenants, meters and scales with a `sum` row.
    as_expected: bool,
    definitions: usize,
    dictionary_bytes: usize,
    version: FrameVersion,
}

impl RecordStream {
    /// An encoder that compresses with zstd at `level`: 1 (fast) to 3 (small), 0 for none.
    pub fn new(level: i32) -> Self {
        Self {
            frames: FrameWriter::new(level),
            columns: BatchV2::default(),
            raw: Vec::new(),
            canonical: Canonical::default(),
            windows: WindowTable::new(crate::Timestamp::EPOCH),
            history: History::default(),
            key: Vec::new(),
            kind: None,
            names: Vec::new(),
            rows: 0,
            totals: 0,
            as_expected: true,
            definitions: 0,
            dictionary_bytes: 0,
            version: FrameVersion::V1,
        }
    }

    /// Begins the record of a batch like `head`, whose own rows and totals must be empty, with
    /// `rows` rows.
    pub fn begin(&mut self, head: &Batch, rows: usize) -> Result<(), EncodeError> {
        head.validate()?;
        self.columns.clear();
        head::encode(head, &mut self.columns.base)?;
        self.canonical.head(head, rows);
        self.windows = WindowTable::new(head.watermark);
        self.history = History::default();
        self.key.clear();
        self.kind = None;
        self.names.clear();
        (self.rows, self.totals, self.as_expected) = (0, 0, true);
        (self.definitions, self.dictionary_bytes) = (0, 0);
        self.version = FrameVersion::V1;
        Ok(())
    }

    /// The next row.
    pub fn row(&mut self, row: &RowRef<'_>) -> Result<(), EncodeError> {
        let columns = &mut self.columns.base;
        let key = row.series.bytes();
        let kind = Some((row.aggregation, row.scale));
        let repeated = self.kind == kind && self.key == key;
        if !repeated {
            self.dictionary_bytes += entry_bytes(key.len(), row.series.dimension_count());
            if self.dictionary_bytes > DICTIONARY_BYTES_MAX {
                return Err(EncodeError::TooLong {
                    what: "series of the batch (by their estimated memory in bytes)",
                    length: self.dictionary_bytes,
                    max: DICTIONARY_BYTES_MAX,
                });
            }
            definitions::put_front_coded(&mut columns.definitions, &self.key, key);
            let codes = [row.aggregation.code(), row.scale.get()];
            columns.definitions.extend_from_slice(&codes);
            self.definitions += 1;
            if self.rows > 0 {
                self.history = self.history.handed_on();
            }
            self.key.clear();
            self.key.extend_from_slice(key);
            self.kind = kind;
        }
        put_record_row(row, repeated, &mut self.history, &mut self.windows, columns)?;
        if row.aggregation.adds_up() && row.value.is_negative() {
            return Err(BatchError::NegativeSum(self.rows).into());
        }
        if !row.detail.fits(row.aggregation) {
            return Err(BatchError::Detail(self.rows).into());
        }
        if !matches!(row.aggregation, Aggregation::Sum | Aggregation::Last) {
            self.version = FrameVersion::V2;
            details::put(row.detail, &mut self.columns);
        }
        self.canonical.row(row);
        self.rows += 1;
        Ok(())
    }

    /// All rows are told; `totals` totals follow. `complete` if every tenant, meter and scale
    /// with a `sum` row is among them.
    pub fn begin_totals(&mut self, totals: usize, complete: bool) {
        self.canonical.totals(totals);
        self.as_expected = complete;
    }

    /// The next total.
    pub fn total(&mut self, total: &TotalRef<'_>) -> Result<(), EncodeError> {
        let columns = &mut self.columns.base;
        let names = total.names.names();
        definitions::put_front_coded(&mut columns.total_keys, &self.names, names);
        columns.total_keys.push(total.scale.get());
        self.names.clear();
        self.names.extend_from_slice(names);
        let guess = total.counted.map_or(0, Quantity::units);
        totals::put_difference(&mut columns.total_values, total.quantity, guess)?;
        let texts = [total.names.tenant(), total.names.meter()];
        self.canonical.total(texts, total.scale, total.quantity);
        self.totals += 1;
        self.as_expected &= total.counted.is_some();
        Ok(())
    }

    /// Appends the record to `out`, which stays as it was if that fails. `head` is the same as
    /// before. Gives the batch's hash.
    pub fn finish(&mut self, head: &Batch, out: &mut Vec<u8>) -> Result<BatchHash, EncodeError> {
        let columns = &mut self.columns.base;
        elide_zeros(&mut columns.windows);
        elide_zeros(&mut columns.events);
        elide_zeros(&mut columns.total_values);
        columns.window_count = self.windows.write(&mut columns.window_table);
        columns.row_count = count32(self.rows);
        columns.definition_count = count32(self.definitions);
        columns.total_count = count32(self.totals);
        columns.flags = FLAG_RESET;
        if head.is_final {
            columns.flags |= FLAG_FINAL;
        }
        // Who reads the rows knows which totals they ask for, and in which order.
        if self.as_expected {
            columns.flags |= FLAG_TOTALS_EXPECTED;
            columns.total_keys.clear();
        }
        if head.steps.is_empty() && self.version == FrameVersion::V1 {
            archive::write(&self.columns.base, &mut self.raw)?;
        } else {
            self.version = FrameVersion::V2;
            details::put_steps(&head.steps, &mut self.columns);
            archive::write(&self.columns, &mut self.raw)?;
        }
        self.frames
            .write(self.version, Kind::Batch, &self.raw, out)?;
        Ok(self.canonical.finish(&head.losses, &head.steps))
    }

    /// Gives the memory of the columns back.
    pub fn shrink(&mut self) {
        self.columns = BatchV2::default();
        self.raw = Vec::new();
    }
}
