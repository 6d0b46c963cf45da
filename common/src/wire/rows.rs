//! The rows of a batch as columns.
//!
//! References travel as one code per row: 0 = the series that came next last time,
//! 1 = the next definition of this frame, 2 = the series of the row before, otherwise
//! 3 + zigzag(reference - expected reference).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::archive::{ArchivedBatchV1, BatchV1};
use super::cache::SeriesCache;
use super::definitions;
use super::details::DetailReader;
use super::dictionary::{Dictionary, History};
use super::varint::{
    Reader, SparseReader, elide_zeros, put_u64, put_u128, unzigzag64, zigzag64, zigzag128,
};
use super::{DecodeError, EncodeError, FrameVersion};
use crate::batch::{Batch, BatchError, Detail, Rollup, RowRef};
use crate::limits::BATCH_ROWS_MAX;
use crate::quantity::Quantity;
use crate::time::Timestamp;
use crate::window::{Window, WindowWidth};

const EXPECTED: u64 = 0;
const NEW: u64 = 1;
const REPEATED: u64 = 2;
const OTHER: u64 = 3;

/// Writes the columns of the rows, whose series the caller has looked up or added:
/// `references[i]` is the series of row `i`, and those from `defined` on are new, in order.
pub(super) fn encode(
    batch: &Batch,
    references: &[u32],
    defined: usize,
    dictionary: &mut Dictionary,
    columns: &mut BatchV1,
) -> Result<(), EncodeError> {
    let mut next_new = defined;
    let mut windows = WindowTable::new(batch.watermark);
    for (row, &reference) in batch.rows.iter().zip(references) {
        let index = reference as usize;
        let new = index == next_new;
        let code = if new {
            next_new += 1;
            NEW
        } else if reference == dictionary.expected() {
            EXPECTED
        } else if dictionary.last() == Some(reference) {
            REPEATED
        } else {
            OTHER + zigzag64(i64::from(reference) - i64::from(dictionary.expected()))
        };
        put_u64(&mut columns.series, code);
        put_u64(&mut columns.windows, windows.index_of(row.window));
        let history = dictionary.turn_to(reference, new);
        put_numbers(row.value, row.events, history, columns)?;
        dictionary.observe(row.value.units(), row.events);
    }
    elide_zeros(&mut columns.series);
    elide_zeros(&mut columns.windows);
    elide_zeros(&mut columns.events);
    columns.window_count = windows.write(&mut columns.window_table);
    columns.row_count = super::archive::count32(batch.rows.len());
    Ok(())
}

/// Writes a row of a record, in which every series is new: `repeated` says that it is that of
/// the row before.
pub(super) fn put_record_row(
    row: &RowRef<'_>,
    repeated: bool,
    history: &mut History,
    windows: &mut WindowTable,
    columns: &mut BatchV1,
) -> Result<(), EncodeError> {
    put_u64(&mut columns.series, if repeated { REPEATED } else { NEW });
    put_u64(&mut columns.windows, windows.index_of(row.window));
    put_numbers(row.value, row.events, history, columns)?;
    history.observe(row.value.units(), row.events);
    Ok(())
}

fn put_numbers(
    value: Quantity,
    events: u64,
    history: &History,
    columns: &mut BatchV1,
) -> Result<(), EncodeError> {
    let value = value.units();
    if value == i128::MIN {
        return Err(EncodeError::Range { what: "value" });
    }
    put_value(&mut columns.values, value.wrapping_sub(history.value()));
    let difference = events.wrapping_sub(history.events(value));
    put_u64(&mut columns.events, zigzag64(difference.cast_signed()));
    Ok(())
}

fn put_value(column: &mut Vec<u8>, difference: i128) {
    match i64::try_from(difference) {
        Ok(short) => put_u64(column, zigzag64(short)),
        Err(_) => put_u128(column, zigzag128(difference)),
    }
}

/// Reads the rows, and checks that they are in order; the definitions are added to the dictionary
/// first.
pub(super) fn decode(
    archive: &ArchivedBatchV1,
    watermark: Timestamp,
    dictionary: &mut Dictionary,
    seen: &mut definitions::Seen,
    cache: Option<&mut SeriesCache>,
    mut details: Option<&mut DetailReader<'_>>,
) -> Result<Vec<Rollup>, DecodeError> {
    // Every row has at least one byte in the column of values, which nothing elides: the
    // frame's own length bounds what is allocated for rows and definitions.
    let possible = archive.values.len().min(BATCH_ROWS_MAX);
    let count = archive.row_count.to_native() as usize;
    if count > possible {
        return Err(DecodeError::TooMany {
            what: "rows",
            count,
            max: possible,
        });
    }
    let defined = dictionary.len();
    let version = match details {
        None => FrameVersion::V1,
        Some(_) => FrameVersion::V2,
    };
    definitions::decode(archive, version, count, dictionary, seen, cache)?;
    let windows = read_windows(archive, count, watermark)?;
    let mut next_new = defined;
    let mut series = SparseReader::new("series", &archive.series);
    let mut window_column = SparseReader::new("windows", &archive.windows);
    let mut values = Reader::new("values", &archive.values);
    let mut events = SparseReader::new("events", &archive.events);
    let mut rows = Vec::with_capacity(count);
    let mut before: Option<Window> = None;
    for row in 0..count {
        let code = series.u64()?;
        let new = code == NEW;
        let reference = reference_of(code, row, next_new, dictionary)?;
        next_new += usize::from(new);
        let window = usize::try_from(window_column.u64()?)
            .ok()
            .and_then(|index| windows.get(index))
            .ok_or(DecodeError::Range("window of a row"))?;
        // The definitions of one frame are in order, and so are their numbers.
        let in_order = match dictionary.last() {
            None => true,
            Some(last) if last == reference => before.is_some_and(|before| before < *window),
            Some(last) if last.min(reference) as usize >= defined => last < reference,
            Some(last) => dictionary.is_after(last, reference),
        };
        if !in_order {
            let what = "row";
            return Err(BatchError::Order { what, index: row }.into());
        }
        before = Some(*window);
        let history = dictionary.turn_to(reference, new);
        let value = history.value().wrapping_add(values.zigzag128()?);
        if value == i128::MIN {
            return Err(DecodeError::Range("value of a row"));
        }
        let difference = unzigzag64(events.u64()?).cast_unsigned();
        let row_events = history.events(value).wrapping_add(difference);
        dictionary.observe(value, row_events);
        // The reference was checked to exist above.
        let Some(entry) = dictionary.get(reference as usize) else {
            return Err(dangling(row, i64::from(reference)));
        };
        rows.push(Rollup {
            series: Arc::clone(&entry.series),
            aggregation: entry.aggregation,
            scale: entry.scale,
            window: *window,
            value: Quantity::new(value),
            events: row_events,
            detail: match &mut details {
                None => Detail::None,
                Some(details) => details.next(entry.aggregation)?,
            },
        });
    }
    series.finish()?;
    window_column.finish()?;
    values.finish()?;
    events.finish()?;
    let unused = dictionary.len() - next_new;
    if unused > 0 {
        return Err(DecodeError::UnusedDefinition(unused));
    }
    Ok(rows)
}

/// The series that `code` stands for: one that rows have used before, or the next definition.
fn reference_of(
    code: u64,
    row: usize,
    next_new: usize,
    dictionary: &Dictionary,
) -> Result<u32, DecodeError> {
    let expected = dictionary.expected();
    if code == NEW {
        return match u32::try_from(next_new) {
            Ok(reference) if next_new < dictionary.len() => Ok(reference),
            _ => Err(dangling(row, i64::try_from(next_new).unwrap_or(i64::MAX))),
        };
    }
    let reference = match code {
        EXPECTED => i64::from(expected),
        REPEATED => dictionary.last().map_or(-1, i64::from),
        other => i64::from(expected).wrapping_add(unzigzag64(other - OTHER)),
    };
    match u32::try_from(reference) {
        Ok(short) if (short as usize) < next_new => Ok(short),
        _ => Err(dangling(row, reference)),
    }
}

fn dangling(row: usize, reference: i64) -> DecodeError {
    DecodeError::Dangling { row, reference }
}

/// The distinct windows of a batch in the order of their first row; mostly there is one.
pub(super) struct WindowTable {
    table: Vec<Window>,
    index: BTreeMap<Window, u64>,
    last: Option<(Window, u64)>,
    base: Timestamp,
}

impl WindowTable {
    pub(super) const fn new(base: Timestamp) -> Self {
        Self {
            table: Vec::new(),
            index: BTreeMap::new(),
            last: None,
            base,
        }
    }

    fn index_of(&mut self, window: Window) -> u64 {
        if let Some((last, index)) = self.last
            && last == window
        {
            return index;
        }
        let next = self.table.len() as u64;
        let index = *self.index.entry(window).or_insert_with(|| {
            self.table.push(window);
            next
        });
        self.last = Some((window, index));
        index
    }

    /// Writes width and start of each window, in seconds, the start as difference to the one
    /// before and for the first to the watermark.
    pub(super) fn write(&self, column: &mut Vec<u8>) -> u32 {
        let mut base = self.base.secs();
        for window in &self.table {
            put_u64(column, u64::from(window.width().secs()));
            put_u64(column, zigzag64(window.start().secs() - base));
            base = window.start().secs();
        }
        super::archive::count32(self.table.len())
    }
}

fn read_windows(
    archive: &ArchivedBatchV1,
    rows: usize,
    base: Timestamp,
) -> Result<Vec<Window>, DecodeError> {
    let count = archive.window_count.to_native() as usize;
    let possible = rows.min(archive.window_table.len() / 2);
    if count > possible {
        return Err(DecodeError::TooMany {
            what: "windows",
            count,
            max: possible,
        });
    }
    let mut reader = Reader::new("window table", &archive.window_table);
    let mut windows = Vec::with_capacity(count);
    let mut base = base.secs();
    for _ in 0..count {
        let width = u32::try_from(reader.u64()?)
            .ok()
            .and_then(|secs| WindowWidth::from_secs(secs).ok())
            .ok_or(DecodeError::Range("width of a window"))?;
        let start = base
            .checked_add(reader.zigzag64()?)
            .filter(|secs| (0..=Timestamp::MAX.secs()).contains(secs))
            .ok_or(DecodeError::Range("start of a window"))?;
        base = start;
        let window = Window::starting(Timestamp::from_secs(start), width)
            .map_err(|_| DecodeError::Range("start of a window"))?;
        windows.push(window);
    }
    reader.finish()?;
    Ok(windows)
}
