//! Records that a writer was killed in.
//!
//! A histogram says how many values were begun and how many are done. A writer killed within a
//! record leaves the two apart, and a seal that finds them so waits for the end of the record.
//! Nobody will end that of the dead, so the life that takes the cells over does, before
//! anybody counts.

use std::sync::atomic::Ordering::Relaxed;

use tollgate::cell::histogram::HistogramCut;
use tollgate::cell::sum::EVENTS_MASK;
use tollgate_common::Aggregation;

use super::Region;
use super::cells::Cells;
use super::slot::SlotUse;

impl<R: Region> Cells<R> {
    /// Ends the records that the writers of the life before were killed in; how many. Nobody
    /// was told that such a record is accepted: it counts if its bucket has been counted, and
    /// otherwise never was. To be called while nobody has a writer.
    pub(crate) fn end_records(&self) -> u32 {
        let mut ended = 0;
        for writer in 0..self.layout().writers() {
            for slot in 0..self.published(writer) {
                ended += u32::from(self.end_record(writer, slot).unwrap_or(false));
            }
        }
        ended
    }

    fn end_record(&self, writer: u32, slot: u32) -> Option<bool> {
        let head = self.slot_head(writer, slot)?;
        if head.aggregation != Aggregation::Distribution {
            return Some(false);
        }
        let now = self.now(writer, slot)?;
        let SlotUse::Series(series) = self.slot(writer, slot, now.generation()) else {
            return Some(false);
        };
        let cell = self.histogram(writer, slot, series.place)?;
        let begun = cell.head[0].load(Relaxed) & EVENTS_MASK;
        let done = now.done & EVENTS_MASK;
        if begun == done {
            return Some(false);
        }
        let mut cut = HistogramCut::default();
        cell.read(&mut cut);
        let mut counted = 0u64;
        for chunk in &cut.chunks {
            let base = self.chunk_base(writer, chunk.at, self.applied())?;
            for (count, base) in chunk.counts.iter().zip(base) {
                counted = counted.wrapping_add(count.wrapping_sub(base.load(Relaxed)));
            }
        }
        let (_, events) = now.since(self.base(writer, slot, self.applied()));
        let more = begun.wrapping_sub(done) & EVENTS_MASK;
        // A mirror is brought to what its page shows, again and again.
        if series.owner.is_none() && counted == events.wrapping_add(more) {
            let word = now.done & !EVENTS_MASK | begun;
            cell.sum[1].store(word, Relaxed);
        } else {
            cell.head[0].store(done, Relaxed);
        }
        Some(true)
    }
}
