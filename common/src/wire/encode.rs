//! Messages to frames.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::archive::{self, BatchV2};
use super::dictionary::{Dictionary, Entry};
use super::frame::{FrameWriter, Kind};
use super::{
    EncodeError, FLAG_FINAL, FLAG_RESET, FLAG_TOTALS_EXPECTED, FrameVersion, GRANT_VERSION,
    Message, VERSION, control, definitions, details, head, rows, tombstone, totals,
};
use crate::batch::{Batch, BatchError, Rollup, Tombstone};
use crate::limits::DICTIONARY_BYTES_MAX;
use crate::window::Window;

/// The compression level of records, which are written once and mostly read never.
const RECORD_LEVEL: i32 = 1;
/// Scratch memory above this size is given back after use.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;

/// Encodes the messages of one direction of a connection.
///
/// It holds the dictionary of that direction, so that its frames must reach one [`Decoder`]
/// in the order in which they were made, none left out.
///
/// [`Decoder`]: super::Decoder
pub struct Encoder {
    frames: FrameWriter,
    dictionary: Dictionary,
    index: SeriesIndex,
    /// The next batch begins a new dictionary: the first one, or one after a failure.
    must_reset: bool,
    references: Vec<u32>,
    columns: BatchV2,
    raw: Vec<u8>,
    /// The newest version that the other side understands.
    version: u8,
}

impl Encoder {
    /// An encoder that compresses with zstd at `level`: 1 (fast) to 3 (small), 0 for none.
    /// What is outside is moved to the nearest.
    pub fn new(level: i32) -> Self {
        Self {
            frames: FrameWriter::new(level),
            dictionary: Dictionary::default(),
            index: SeriesIndex::default(),
            must_reset: true,
            references: Vec::new(),
            columns: BatchV2::default(),
            raw: Vec::new(),
            version: VERSION,
        }
    }

    /// Speaks no version above `version`, the one that [`negotiate`] found. A batch that needs
    /// a newer one is refused with [`EncodeError::NotInVersion`].
    ///
    /// [`negotiate`]: super::negotiate
    pub fn set_version(&mut self, version: u8) {
        self.version = version.min(VERSION);
    }

    /// Appends the frame of `message` to `out`.
    ///
    /// If that fails, `out` is as it was, and the other side needs to know nothing: the next
    /// batch defines its series anew.
    pub fn encode(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let kind = match message {
            Message::Batch(batch) => return self.encode_batch(batch, out),
            Message::Tombstone(tombstone) => return self.encode_tombstone(tombstone, out),
            Message::Hello(hello) => {
                control::encode_hello(hello, &mut self.raw)?;
                Kind::Hello
            }
            Message::Welcome(welcome) => {
                control::encode_welcome(welcome, &mut self.raw)?;
                Kind::Welcome
            }
            Message::Ack(ack) => {
                control::encode_ack(ack, &mut self.raw)?;
                Kind::Ack
            }
            Message::Refuse(refuse) => {
                control::encode_refuse(refuse, &mut self.raw)?;
                Kind::Refuse
            }
            Message::Grant(grant) => {
                if self.version < GRANT_VERSION {
                    return Err(EncodeError::NotInVersion(self.version));
                }
                control::encode_grant(grant, &mut self.raw)?;
                return self
                    .frames
                    .write(FrameVersion::V2, Kind::Grant, &self.raw, out);
            }
        };
        self.frames.write(FrameVersion::V1, kind, &self.raw, out)
    }

    /// Appends the frame of a tombstone; as [`Encoder::encode`], without a copy.
    pub fn encode_tombstone(
        &mut self,
        tombstone: &Tombstone,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let newest = if self.version >= FrameVersion::V2 as u8 {
            FrameVersion::V2
        } else {
            FrameVersion::V1
        };
        let version = tombstone::encode(tombstone, newest, &mut self.raw)?;
        self.frames.write(version, Kind::Tombstone, &self.raw, out)
    }

    /// Appends the frame of a batch; as [`Encoder::encode`], without a copy.
    pub fn encode_batch(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let encoded = self.try_encode_batch(batch, out);
        // What was added for this batch is unknown to the other side, and so must go.
        self.must_reset = encoded.is_err();
        if self.raw.capacity() > SCRATCH_BYTES_KEPT {
            self.raw = Vec::new();
            self.columns = BatchV2::default();
            self.references = Vec::new();
        }
        encoded
    }

    fn try_encode_batch(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        batch.validate_but_order_of_rows()?;
        let version = details::version_of(batch);
        if version as u8 > self.version {
            return Err(EncodeError::NotInVersion(self.version));
        }
        if self.must_reset {
            self.reset();
        }
        let mut defined = self.dictionary.len();
        if !self.resolve(batch)? {
            self.reset();
            defined = 0;
            if !self.resolve(batch)? {
                return Err(EncodeError::TooLong {
                    what: "series of the batch (by their estimated memory in bytes)",
                    length: DICTIONARY_BYTES_MAX + 1,
                    max: DICTIONARY_BYTES_MAX,
                });
            }
        }
        self.columns.clear();
        self.dictionary.begin(batch.incarnation);
        let columns = &mut self.columns.base;
        head::encode(batch, columns)?;
        definitions::encode(&self.dictionary, defined, columns);
        rows::encode(
            batch,
            &self.references,
            defined,
            &mut self.dictionary,
            columns,
        )?;
        if totals::encode(&batch.totals, &mut self.dictionary, columns)? {
            columns.flags |= FLAG_TOTALS_EXPECTED;
        }
        if batch.is_final {
            columns.flags |= FLAG_FINAL;
        }
        if defined == 0 {
            columns.flags |= FLAG_RESET;
        }
        match version {
            FrameVersion::V1 => archive::write(&self.columns.base, &mut self.raw)?,
            FrameVersion::V2 => {
                details::encode(batch, &mut self.columns);
                archive::write(&self.columns, &mut self.raw)?;
            }
        }
        self.frames.write(version, Kind::Batch, &self.raw, out)
    }

    fn reset(&mut self) {
        self.dictionary.reset();
        self.index = SeriesIndex::default();
    }

    /// Bounds the dictionary more tightly than the format does, as the decoder must, too.
    #[cfg(test)]
    pub(super) fn set_dictionary_bytes_max(&mut self, bytes_max: usize) {
        self.dictionary = Dictionary::with_bytes_max(bytes_max);
    }

    /// Finds or adds the series of every row, which must be in order; false if the dictionary is
    /// full before the end.
    fn resolve(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        let dictionary = &mut self.dictionary;
        let defined = dictionary.len();
        let mut last = None;
        let mut before: Option<Window> = None;
        self.references.clear();
        for (index, row) in batch.rows.iter().enumerate() {
            let found = match last {
                Some(last) if matches(dictionary, last, row) => Some(last),
                _ if defined == 0 => None,
                _ => {
                    let expected = dictionary.successor_of(last);
                    if matches(dictionary, expected, row) {
                        Some(expected)
                    } else {
                        self.index.find(dictionary, defined, row)
                    }
                }
            };
            let reference = if let Some(found) = found {
                found
            } else {
                let added = archive::count32(dictionary.len());
                let key_bytes = row.series.canonical_len();
                let series = Arc::clone(&row.series);
                if dictionary
                    .define(series, key_bytes, row.aggregation, row.scale)
                    .is_err()
                {
                    return Ok(false);
                }
                added
            };
            let in_order = match last {
                None => true,
                Some(last) if last == reference => before < Some(row.window),
                Some(last) => dictionary.is_after(last, reference),
            };
            if !in_order {
                return Err(BatchError::Order { what: "row", index });
            }
            self.references.push(reference);
            before = Some(row.window);
            last = Some(reference);
        }
        Ok(true)
    }
}

fn matches(dictionary: &Dictionary, reference: u32, row: &Rollup) -> bool {
    dictionary
        .get(reference as usize)
        .is_some_and(|entry| is_series_of(entry, row))
}

fn is_series_of(entry: &Entry, row: &Rollup) -> bool {
    entry.aggregation == row.aggregation
        && entry.scale == row.scale
        && (Arc::ptr_eq(&entry.series, &row.series) || entry.series == row.series)
}

/// Finds series that do not come in the expected order. Filled when first needed: a record,
/// and a connection whose series never change, do without.
#[derive(Default)]
struct SeriesIndex {
    table: HashTable<u32>,
    indexed: usize,
}

impl SeriesIndex {
    /// The reference of the row's series among the first `defined`.
    fn find(&mut self, dictionary: &Dictionary, defined: usize, row: &Rollup) -> Option<u32> {
        let hasher = FixedState::default();
        let hash_of = |reference: &u32| {
            dictionary
                .get(*reference as usize)
                .map_or(0, |entry| hasher.hash_one(&*entry.series))
        };
        while self.indexed < defined {
            let reference = archive::count32(self.indexed);
            self.table
                .insert_unique(hash_of(&reference), reference, hash_of);
            self.indexed += 1;
        }
        self.table
            .find(hasher.hash_one(&*row.series), |&reference| {
                matches(dictionary, reference, row)
            })
            .copied()
    }
}

/// Encodes records: frames that need nothing outside themselves.
///
/// Keeps its memory between records; [`encode_record`] is the same for a single one.
pub struct RecordEncoder(Encoder);

impl Default for RecordEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordEncoder {
    /// An encoder of records.
    pub fn new() -> Self {
        Self(Encoder::new(RECORD_LEVEL))
    }

    /// Appends the record of `batch` to `out`, which stays as it was if that fails.
    pub fn batch(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.must_reset = true;
        self.0.encode_batch(batch, out)
    }

    /// Appends the record of `tombstone` to `out`, which stays as it was if that fails.
    pub fn tombstone(
        &mut self,
        tombstone: &Tombstone,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        self.0.encode_tombstone(tombstone, out)
    }
}

/// Appends `batch` to `out` as a record, a frame that defines all of its series.
pub fn encode_record(batch: &Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    RecordEncoder::new().batch(batch, out)
}

/// Appends `tombstone` to `out` as a record.
pub fn encode_tombstone_record(
    tombstone: &Tombstone,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    RecordEncoder::new().tombstone(tombstone, out)
}
