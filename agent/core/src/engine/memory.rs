//! How much memory an engine needs in its worst case, computed from its configuration.
//!
//! Each part is a bound, not an estimate of the usual: every series in use, keys as long as
//! the arena allows, a whole seal and the largest batches under way. The agent compares the
//! sum with `memory_max` before it starts, and a test compares it with a filled agent.

use tollgate_common::Rollup;

use super::EngineConfig;
use crate::aggregate::{CellsLayout, LayoutError};
use crate::seal::PART_BYTES_MAX;

/// Where the memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// What needs it.
    pub name: &'static str,
    /// Most bytes.
    pub bytes: u64,
}

/// A row on its way to the collector beside its key: the rollup, its place in the series
/// dictionary of the connection, and what the allocator adds.
const ROW_BYTES: u64 = size_of::<Rollup>() as u64 + 96;
/// A key in memory beside its bytes: three texts, their pointers, a reference count.
const KEY_BYTES: u64 = 160;
/// Buffers of the compressor at the levels that are used.
const COMPRESSOR_BYTES: u64 = 4 << 20;

impl EngineConfig {
    /// The worst case of an engine that may have `rows_queued` decoded rows under way.
    pub fn memory_max(&self, rows_queued: u64) -> Result<Vec<MemoryPart>, LayoutError> {
        let writers = u32::try_from(self.writers.len()).unwrap_or(u32::MAX);
        let layout = CellsLayout::new(writers, self.series_max, self.key_bytes)?;
        let slots = u64::from(layout.series()) * u64::from(writers);
        let keys = self.key_bytes * u64::from(writers);
        let part = |name, bytes| MemoryPart { name, bytes };
        // Each writer's table doubles when seven of eight places are taken; old and new are
        // both there while it grows.
        let table = (u64::from(layout.series()) * 8 / 7 + 1).next_power_of_two() * 5;
        // The order of the slots, what the last batch changed, and the sort of fresh ones.
        let order = slots * 4 * 4;
        let batch_bytes = PART_BYTES_MAX as u64;
        // A batch may come on top of what is queued; it has no more rows than there are slots,
        // each for the windows that a last value may straddle.
        let rows = rows_queued.saturating_add(slots.saturating_mul(2));
        Ok(vec![
            part("cells (mapped file)", layout.words() as u64 * 8),
            part("lookup of series", table * u64::from(writers) * 3 / 2),
            part("sealing", order + 3 * batch_bytes + COMPRESSOR_BYTES),
            part("reading the spool", 3 * batch_bytes + COMPRESSOR_BYTES),
            part("rows on their way", rows * ROW_BYTES),
            part("series dictionary", 2 * (slots * KEY_BYTES + keys)),
        ])
    }
}
