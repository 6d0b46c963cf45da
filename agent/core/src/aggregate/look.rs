//! What stands in a cell, for those who only look: no bill is made of it.

use tollgate::cell::{halves, level};
use tollgate_common::Aggregation;
use tollgate_common::sketch::{REGISTERS, UniqueSketch};

use super::slot::SlotKey;
use super::{Cells, Region};

impl<R: Region> Cells<R> {
    /// The value that a series shows at present, in units of its meter: the last value, the
    /// maximum of the newest window, the level that holds, how many distinct values the newest
    /// window has seen. `None` for sums and distributions, which only grow, and for series that
    /// have seen nothing.
    pub(crate) fn standing(&self, writer: u32, series: &SlotKey) -> Option<i128> {
        let cell = self.wide(writer, series.place, series.aggregation);
        match series.aggregation {
            Aggregation::Sum | Aggregation::Distribution => None,
            Aggregation::Last | Aggregation::Max => {
                let cell = cell?;
                let halves = [0, 1].map(|half| halves::read(cell, half));
                let set = halves.into_iter().flatten().filter(|cut| cut.events > 0);
                set.max_by_key(|cut| cut.window).map(|cut| cut.value.into())
            }
            Aggregation::TimeWeighted => {
                let state = level::read(cell?).filter(|state| state.events > 0)?;
                Some(state.level.into())
            }
            Aggregation::Unique => self.distinct(writer, series.place),
        }
    }

    fn distinct(&self, writer: u32, place: u32) -> Option<i128> {
        let cell = self.unique(writer, place)?;
        let mut newest = None;
        for half in [0, 1] {
            let mut words = Vec::new();
            let cut = cell.read(half, &mut words).filter(|cut| cut.inserts > 0);
            newest = newest.max(cut.map(|cut| (cut.window, cut.registers, words)));
        }
        let (_, registers, mut words) = newest?;
        let sketch = if registers {
            let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            let bytes: Box<[u8; REGISTERS]> = bytes.try_into().ok()?;
            UniqueSketch::from_registers(bytes)
        } else {
            words.sort_unstable();
            words.dedup();
            UniqueSketch::from_hashes(words)
        };
        sketch.ok().map(|sketch| sketch.estimate().into())
    }
}
