//! How much memory an engine needs in its worst case, computed from its configuration.
//!
//! Each part is a bound, not an estimate of the usual: every series in use, keys as long as
//! the arena allows, a whole seal and the largest batches under way. The agent compares the
//! sum with `memory_max` before it starts, and a test compares it with a filled agent.

use tollgate_common::Rollup;
use tollgate_common::limits::DICTIONARY_BYTES_MAX;

use super::EngineConfig;
use crate::aggregate::{
    CellsLayout, LEVEL_BYTES, LayoutError, TENANTS_SEEN_MAX, index_bytes, level_words,
};
use crate::seal::PART_BYTES_MAX;
use crate::spool::CACHE_BYTES;

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

/// Bytes of a slot for who seals: its place in the order, its generation, since when it is idle,
/// each with a sixteenth to spare, and its place among what the last batch changed.
const ORDER_BYTES: u64 = 4 + 2 + 4 + 1 + 4;
/// Bytes of a slot while slots are taken in, which is before a batch is made: fresh places twice,
/// while runs of them are merged, and what changed hands or was taken out, in lists that double.
const ABSORB_BYTES: u64 = 2 * 4 + 2 * 4 + 4;
/// The run of fresh places that is sorted, and the heads of others.
const SORT_BYTES: u64 = 10 << 20;

/// Bytes that a tenant may cost while its account is read.
const TENANT_BYTES: u64 = 640;
/// Bytes of a slot in the lists of its writer: free, retired, and the rooms of its key and cell.
const LIST_BYTES: u64 = 32;

impl EngineConfig {
    /// How the cells are laid out.
    pub(super) fn layout(&self) -> Result<CellsLayout, LayoutError> {
        let writers = u32::try_from(self.writers.len()).unwrap_or(u32::MAX);
        let layout = CellsLayout::new(writers, self.series_max, self.key_bytes)?;
        match self.limits.wide_bytes {
            Some(bytes) => layout.with_wide_bytes(bytes),
            None => Ok(layout),
        }
    }

    /// The worst case of an engine that may have `rows_queued` decoded rows under way.
    pub fn memory_max(&self, rows_queued: u64) -> Result<Vec<MemoryPart>, LayoutError> {
        let layout = self.layout()?;
        let writers = u64::from(layout.writers());
        let slots = u64::from(layout.series()) * writers;
        // Slots hold what is in use and what has been; in use at a time are no more series than
        // the host may have, and those for overflow of every writer.
        let overflow = u64::from(layout.reserve().0) * writers;
        let series = slots.min(u64::from(self.limits.series_max).saturating_add(overflow));
        let key_bytes = u64::from(self.limits.key_bytes).saturating_mul(series);
        let keys = key_bytes.min(self.key_bytes * writers);
        let part = |name, bytes| MemoryPart { name, bytes };
        // Each writer's table is made for all of its slots, and does not grow.
        let table = index_bytes(layout.series()) as u64;
        let batch_bytes = PART_BYTES_MAX as u64;
        let absorb = slots * ABSORB_BYTES + SORT_BYTES;
        let sealing = slots * ORDER_BYTES + absorb.max(3 * batch_bytes + COMPRESSOR_BYTES);
        // A batch may come on top of what is queued; it has no more rows than there are series
        // in use, each for the windows that a last value may straddle.
        let rows = rows_queued.saturating_add(series.saturating_mul(2));
        // A batch that is read while a backlog drains may name each series once more.
        let backlog = CACHE_BYTES as u64 + 3 * batch_bytes + COMPRESSOR_BYTES;
        let level_words = u64::from(level_words());
        let levels = (u64::from(layout.wide_words()) / level_words * writers).min(series);
        let lookup = table * writers + slots * LIST_BYTES + levels * LEVEL_BYTES;
        let dictionary = (2 * (series * KEY_BYTES + keys)).min(2 * DICTIONARY_BYTES_MAX as u64);
        Ok(vec![
            part("cells (mapped file)", layout.words() as u64 * 8),
            part("lookup of series", lookup),
            part("sealing", sealing),
            part("reading the spool", backlog),
            part("rows on their way", rows * ROW_BYTES + 2 * batch_bytes),
            part("series dictionary", dictionary),
            part(
                "accounts of tenants",
                TENANTS_SEEN_MAX as u64 * TENANT_BYTES,
            ),
        ])
    }
}
