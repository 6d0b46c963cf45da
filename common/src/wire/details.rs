//! What version 2 adds to a batch: the details of its rows, and clock steps.
//!
//! A histogram is its number of buckets, the gaps between them and their counts less 1; a
//! sketch of distinct values is its hashes or its registers as they are. Each kind of number
//! has a column of its own, so that zstd sees equal things together.

use std::sync::Arc;

use super::archive::{ArchivedBatchV2, BatchV2, count32};
use super::head::{put_time, read_time};
use super::varint::{Reader, put_u64, zigzag64};
use super::{DecodeError, FrameVersion};
use crate::batch::{Batch, ClockStep, Detail, Rollup};
use crate::limits::{BATCH_DETAIL_BYTES_MAX, BATCH_STEPS_MAX};
use crate::meter::Aggregation;
use crate::sketch::{BUCKETS, EXACT_MAX, Histogram, REGISTERS, SketchError, UniqueSketch};

/// In the column of sizes: registers follow. Otherwise 1 + the number of hashes.
const REGISTERS_FOLLOW: u64 = 0;

/// The oldest version that can carry the batch.
pub(super) fn version_of(batch: &Batch) -> FrameVersion {
    let old = |row: &Rollup| matches!(row.aggregation, Aggregation::Sum | Aggregation::Last);
    if batch.steps.is_empty() && batch.rows.iter().all(old) {
        FrameVersion::V1
    } else {
        FrameVersion::V2
    }
}

/// Writes the details and the steps of a batch that was validated.
pub(super) fn encode(batch: &Batch, columns: &mut BatchV2) {
    for row in &batch.rows {
        put(&row.detail, columns);
    }
    put_steps(&batch.steps, columns);
}

/// Writes the detail of a row.
pub(super) fn put(detail: &Detail, columns: &mut BatchV2) {
    match detail {
        Detail::None => {}
        Detail::Unique(sketch) => put_unique(sketch, columns),
        Detail::Distribution(histogram) => put_histogram(histogram, columns),
    }
}

/// Writes the clock steps of a batch.
pub(super) fn put_steps(steps: &[ClockStep], columns: &mut BatchV2) {
    for step in steps {
        put_u64(&mut columns.steps, put_time(step.at));
        put_u64(&mut columns.steps, zigzag64(step.by_millis));
    }
    columns.step_count = count32(steps.len());
}

fn put_histogram(histogram: &Histogram, columns: &mut BatchV2) {
    put_u64(&mut columns.sizes, histogram.buckets().len() as u64);
    let mut next = 0;
    for &(bucket, count) in histogram.buckets() {
        // Buckets strictly increase, and no count is 0.
        put_u64(&mut columns.buckets, u64::from(bucket - next));
        put_u64(&mut columns.bucket_counts, count - 1);
        next = bucket + 1;
    }
}

fn put_unique(sketch: &UniqueSketch, columns: &mut BatchV2) {
    if let Some(hashes) = sketch.hashes() {
        put_u64(&mut columns.sizes, 1 + hashes.len() as u64);
        for hash in hashes {
            columns.hashes.extend_from_slice(&hash.to_le_bytes());
        }
    }
    if let Some(registers) = sketch.registers() {
        put_u64(&mut columns.sizes, REGISTERS_FOLLOW);
        columns.registers.extend_from_slice(registers);
    }
}

/// Reads the details of rows, in their order.
pub(super) struct DetailReader<'a> {
    sizes: Reader<'a>,
    buckets: Reader<'a>,
    bucket_counts: Reader<'a>,
    hashes: Reader<'a>,
    registers: Reader<'a>,
    /// Canonical bytes that the rest may have: what bounds the memory of a batch's details.
    bytes_left: usize,
}

impl<'a> DetailReader<'a> {
    pub(super) fn new(archive: &'a ArchivedBatchV2) -> Self {
        Self {
            sizes: Reader::new("detail sizes", &archive.sizes),
            buckets: Reader::new("buckets", &archive.buckets),
            bucket_counts: Reader::new("bucket counts", &archive.bucket_counts),
            hashes: Reader::new("hashes", &archive.hashes),
            registers: Reader::new("registers", &archive.registers),
            bytes_left: BATCH_DETAIL_BYTES_MAX,
        }
    }

    /// The detail of the next row, which is of `aggregation`.
    pub(super) fn next(&mut self, aggregation: Aggregation) -> Result<Detail, DecodeError> {
        match aggregation {
            Aggregation::Distribution => {
                let histogram = self.histogram()?;
                Ok(Detail::Distribution(Arc::new(histogram)))
            }
            Aggregation::Unique => {
                let sketch = self.unique()?;
                Ok(Detail::Unique(Arc::new(sketch)))
            }
            _ => Ok(Detail::None),
        }
    }

    fn histogram(&mut self) -> Result<Histogram, DecodeError> {
        let count = self.sizes.index()?;
        if count > BUCKETS as usize {
            return Err(self.sizes.malformed());
        }
        self.spend(4 + 12 * count)?;
        let mut buckets = Vec::with_capacity(count);
        let mut next = 0_u32;
        for _ in 0..count {
            let bucket = u32::try_from(self.buckets.u64()?)
                .ok()
                .and_then(|gap| next.checked_add(gap))
                .filter(|&bucket| bucket < BUCKETS)
                .ok_or(self.buckets.malformed())?;
            let count = self
                .bucket_counts
                .u64()?
                .checked_add(1)
                .ok_or(self.bucket_counts.malformed())?;
            buckets.push((bucket, count));
            next = bucket + 1;
        }
        Histogram::from_buckets(buckets).map_err(DecodeError::Sketch)
    }

    fn unique(&mut self) -> Result<UniqueSketch, DecodeError> {
        let size = self.sizes.index()?;
        let Some(count) = size.checked_sub(1) else {
            self.spend(4 + REGISTERS)?;
            let taken = self.registers.take(REGISTERS)?;
            let registers = <&[u8; REGISTERS]>::try_from(taken);
            let registers = registers.map_err(|_| self.registers.malformed())?;
            return UniqueSketch::from_registers(Box::new(*registers)).map_err(DecodeError::Sketch);
        };
        if count > EXACT_MAX {
            return Err(DecodeError::Sketch(SketchError::TooManyHashes(count)));
        }
        self.spend(4 + 8 * count)?;
        let (hashes, _) = self.hashes.take(8 * count)?.as_chunks::<8>();
        let hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash));
        UniqueSketch::from_hashes(hashes.collect()).map_err(DecodeError::Sketch)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or(DecodeError::TooMany {
                what: "bytes of details",
                count: BATCH_DETAIL_BYTES_MAX + 1,
                max: BATCH_DETAIL_BYTES_MAX,
            })?;
        Ok(())
    }

    /// Refuses what no row has asked for.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        self.sizes.finish()?;
        self.buckets.finish()?;
        self.bucket_counts.finish()?;
        self.hashes.finish()?;
        self.registers.finish()
    }
}

/// Reads the clock steps.
pub(super) fn decode_steps(archive: &ArchivedBatchV2) -> Result<Vec<ClockStep>, DecodeError> {
    let count = archive.step_count.to_native() as usize;
    if count > BATCH_STEPS_MAX {
        return Err(DecodeError::TooMany {
            what: "clock steps",
            count,
            max: BATCH_STEPS_MAX,
        });
    }
    let mut reader = Reader::new("clock steps", &archive.steps);
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        let at = read_time(reader.u64()?, "time of a clock step")?;
        let by_millis = reader.zigzag64()?;
        steps.push(ClockStep { at, by_millis });
    }
    reader.finish()?;
    Ok(steps)
}
