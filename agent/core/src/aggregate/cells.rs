//! The cells of one incarnation, as the sealer sees them.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use serde::Serialize;
use tollgate::cell::sum::EVENTS_MASK;
use tollgate::cell::{baseline, histogram, sum, unique};
use tollgate_common::{Aggregation, Timestamp};

use super::Region;
use super::account::{ACCOUNT_WORDS, AccountWords};
use super::header::{self, AT_RETIRED, CellsError, CutRecord, Identity};
use super::layout::CellsLayout;
use super::shared::{AT_ACCOUNT, Retire, SeriesLimits, Shared};
use super::slot::{self, Found, KeyPlace, SlotHead, SlotKey, SlotUse};
use super::wide;
use super::words::{Put, read_bytes};
use super::writer::Writer;

/// Why a writer cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriterError {
    /// No writer of that name is configured.
    #[error("there is no writer `{0}`; the configuration of the engine names them")]
    Unknown(String),
    /// Cells have one writer, and it exists already.
    #[error("writer `{0}` exists already; it must be dropped before it can be had again")]
    Taken(String),
}

/// What a sum cell shows, or its baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CellCut {
    /// The sum, wrapping.
    pub(crate) sum: u64,
    /// The events, wrapping, and in a cell the generation above them.
    pub(crate) done: u64,
}

impl CellCut {
    #[inline]
    pub(crate) fn generation(self) -> u16 {
        sum::generation(self.done)
    }

    /// What was counted since `base`: sum and events.
    #[inline]
    pub(crate) fn since(self, base: Self) -> (u64, u64) {
        let events = sum::events_between(self.done, base.done);
        // A baseline is ahead by one where a writer was killed before it counted an event.
        let ahead = events > EVENTS_MASK / 2;
        let events = if ahead { 0 } else { events };
        (self.sum.wrapping_sub(base.sum), events)
    }
}

/// How many series a writer has, and what became of earlier ones since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cardinality {
    /// Series in use.
    pub series: u32,
    /// Lookups of series that lost their dimensions to a limit, since the start.
    pub overflow_lookups: u64,
    /// Series that were idle and made room, since the start.
    pub retired_series: u64,
    /// Times that a new series took the room of a retired one, since the start.
    pub reused_slots: u64,
}

/// What a slot has counted since its cells were made. Both numbers only grow, and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Another number means that the slot was given to another series.
    pub(crate) generation: u32,
    pub(crate) events: u64,
    /// The sum of what was added; 0 for aggregations that are no sums.
    pub(crate) amount: u64,
}

/// The cells of one incarnation, as the sealer sees them, or who only looks.
pub(crate) struct Cells<R> {
    shared: Arc<Shared<R>>,
}

impl<R> Clone for Cells<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Region> Cells<R> {
    /// Fills a region of zeros for a fresh incarnation, with accounts carried over.
    pub(crate) fn fill(
        words: &[AtomicU64],
        layout: CellsLayout,
        identity: &Identity,
        accounts: &[AccountWords],
        retired: &AccountWords,
    ) {
        identity.write(layout, words);
        header::set_last_alive(words, identity.opened_at);
        header::set_receipts(words);
        for (writer, account) in (0..layout.writers()).zip(accounts) {
            account.write(&words[layout.head(writer).start + AT_ACCOUNT..][..ACCOUNT_WORDS]);
        }
        retired.write(&words[AT_RETIRED..][..ACCOUNT_WORDS]);
    }

    /// Checks a region's header and takes it, with nothing limited but by its room.
    pub(crate) fn open(region: R) -> Result<Self, CellsError> {
        Self::open_with(region, SeriesLimits::default())
    }

    /// Checks a region's header and takes it.
    pub(crate) fn open_with(region: R, limits: SeriesLimits) -> Result<Self, CellsError> {
        let (identity, layout) = Identity::read(region.words())?;
        Ok(Self {
            shared: Arc::new(Shared::new(region, layout, identity, limits)),
        })
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.shared.words()
    }

    pub(super) fn shared(&self) -> &Shared<R> {
        &self.shared
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.shared.identity()
    }

    pub(crate) fn layout(&self) -> CellsLayout {
        self.shared.layout()
    }

    /// What series may be.
    pub(crate) fn limits(&self) -> SeriesLimits {
        self.shared.limits()
    }

    /// The one handle that may count for the writer `name`.
    pub(crate) fn writer(&self, name: &str) -> Result<Writer<R>, WriterError> {
        let names = &self.identity().writers;
        let index = names
            .iter()
            .position(|n| n == name)
            .ok_or_else(|| WriterError::Unknown(name.to_owned()))?;
        if !self.shared.take(index) {
            return Err(WriterError::Taken(name.to_owned()));
        }
        let index = u32::try_from(index).expect("at most WRITERS_MAX writers");
        Ok(Writer::new(Arc::clone(&self.shared), index))
    }

    /// The name of a writer that is still held, if any is.
    pub(crate) fn held_writer(&self) -> Option<&str> {
        let mut names = self.identity().writers.iter().enumerate();
        names.find_map(|(index, name)| self.shared.is_taken(index).then_some(name.as_str()))
    }

    pub(crate) fn applied(&self) -> u64 {
        header::applied(self.words())
    }

    /// Makes the cut of batch `sequence` the baseline: the one store that flips the arrays.
    pub(crate) fn set_applied(&self, sequence: u64) {
        header::set_applied(self.words(), sequence);
    }

    pub(crate) fn cut(&self, sequence: u64) -> Option<CutRecord> {
        header::cut(self.words(), sequence)
    }

    pub(crate) fn put_cut(&self, cut: &CutRecord) {
        header::put_cut(self.words(), cut);
    }

    /// Makes all of it durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.shared.sync()
    }

    pub(crate) fn last_alive(&self) -> Timestamp {
        header::last_alive(self.words())
    }

    pub(crate) fn set_last_alive(&self, now: Timestamp) {
        header::set_last_alive(self.words(), now);
    }

    pub(crate) fn released(&self) -> u64 {
        header::released(self.words())
    }

    pub(crate) fn set_released(&self, sequence: u64) {
        header::set_released(self.words(), sequence);
    }

    pub(crate) fn published(&self, writer: u32) -> u32 {
        self.shared.published(writer)
    }

    /// What a slot is for, whose cell was seen with this generation.
    pub(crate) fn slot(&self, writer: u32, slot: u32, generation: u16) -> SlotUse {
        let words = self.slot_words(writer, slot);
        slot::read(self.layout(), words, self.keys(writer), generation)
    }

    /// The series of a slot; `None` if it has none, or is damaged.
    pub(crate) fn key(&self, writer: u32, slot: u32) -> Option<SlotKey> {
        match self.slot(writer, slot, self.generation(writer, slot)) {
            SlotUse::Series(key) => Some(key),
            SlotUse::Free | SlotUse::Damaged => None,
        }
    }

    /// How much a slot has counted, for those who only look.
    pub(crate) fn activity(&self, writer: u32, slot: u32) -> Activity {
        let [amount, done] =
            [0, 1].map(|at: usize| self.shared.sum_cell(writer, slot)[at].load(Relaxed));
        Activity {
            generation: sum::generation(done).into(),
            events: sum::events(done),
            amount,
        }
    }

    /// How many series a writer has.
    pub(crate) fn cardinality(&self, writer: u32) -> Cardinality {
        let shown = self.shared.cardinality(writer);
        Cardinality {
            series: shown.live.load(Relaxed),
            overflow_lookups: shown.overflowed.load(Relaxed),
            retired_series: shown.retired.load(Relaxed),
            reused_slots: shown.reused.load(Relaxed),
        }
    }

    /// Series in use, of all writers.
    pub(crate) fn live(&self) -> u32 {
        self.shared.live()
    }

    #[inline]
    fn slot_words(&self, writer: u32, slot: u32) -> &[AtomicU64] {
        self.shared.slot_words(writer, slot)
    }

    #[inline]
    fn keys(&self, writer: u32) -> &[AtomicU64] {
        self.shared.keys(writer)
    }

    /// How many slots of a writer have been retired or given to other series.
    pub(crate) fn changes(&self, writer: u32) -> u64 {
        self.shared.changes(writer)
    }

    /// The sealer has taken in that many changes of a writer, and looks at no key of a retired
    /// slot of which everything is sealed: the writer may use its room.
    pub(crate) fn acknowledge(&self, writer: u32, changes: u64) {
        self.shared.acknowledge(writer, changes);
    }

    /// The generation of a slot's cell.
    pub(crate) fn generation(&self, writer: u32, slot: u32) -> u16 {
        sum::generation(self.shared.sum_cell(writer, slot)[1].load(Acquire))
    }

    /// What describes a slot, if it can be; its checksum is not looked at.
    pub(crate) fn slot_head(&self, writer: u32, slot: u32) -> Option<SlotHead> {
        SlotHead::parse(self.layout(), self.slot_words(writer, slot))
    }

    /// Where a slot's key lies, if its description can be; its checksum is not looked at.
    #[inline]
    pub(crate) fn key_place(&self, writer: u32, slot: u32) -> Option<KeyPlace> {
        self.slot_head(writer, slot).map(SlotHead::key_place)
    }

    /// Reads a key into `key`.
    #[inline]
    pub(crate) fn read_key(&self, writer: u32, place: KeyPlace, key: &mut Vec<u8>) {
        read_bytes(place.words(self.keys(writer)), place.bytes(), key);
    }

    /// Something of the first and of the last word of a key: to have them at hand soon.
    #[inline]
    pub(crate) fn touch_key(&self, writer: u32, place: KeyPlace) -> u64 {
        let ends = |words: &[AtomicU64]| match words {
            [first, .., last] => first.load(Relaxed) ^ last.load(Relaxed),
            [only] => only.load(Relaxed),
            [] => 0,
        };
        ends(place.words(self.keys(writer)))
    }

    /// What a slot is for, whose cell was seen with this generation; its key goes into `key`.
    pub(crate) fn find(&self, writer: u32, slot: u32, generation: u16, key: &mut Vec<u8>) -> Found {
        let words = self.slot_words(writer, slot);
        slot::find(self.layout(), words, self.keys(writer), generation, key)
    }

    /// The place of the wide cell of a slot; 0 for sums.
    pub(crate) fn place(&self, writer: u32, head: SlotHead) -> u32 {
        head.place(self.keys(writer))
    }

    /// Makes the baselines of a sum cell that are not in force after batch `applied` those that
    /// are. For a retired slot this may be what its writer waits for: nothing of the series is
    /// to be stored after that.
    #[inline]
    pub(crate) fn copy_base(&self, writer: u32, slot: u32, applied: u64) {
        // Orders what was stored to the wide cell before.
        fence(Release);
        let base = self.base(writer, slot, applied);
        self.put_base(writer, slot, applied.wrapping_add(1), base);
    }

    /// The same for the wide cell of a slot, before its sum cell. The slot must be one that
    /// the order of the sealer has, or has had since retired slots were last acknowledged: the
    /// room of any other may be another series' by now.
    pub(crate) fn copy_wide_base(&self, writer: u32, slot: u32, applied: u64) {
        let next = applied.wrapping_add(1);
        let head = self.slot_head(writer, slot);
        let Some(head) = head.filter(|head| slot::is_wide(head.aggregation)) else {
            return;
        };
        let place = self.place(writer, head);
        let base = |sequence| self.wide_base(writer, place, head.aggregation, sequence);
        let copy = |from: Option<&[AtomicU64]>, to: Option<&[AtomicU64]>| {
            let pairs = to.into_iter().flatten().zip(from.into_iter().flatten());
            pairs.for_each(|(to, from)| to.put(from.load(Relaxed), Relaxed));
        };
        copy(base(applied), base(next));
        if head.aggregation == Aggregation::Distribution
            && let Some(cell) = self.wide(writer, place, head.aggregation)
        {
            for (_, at) in histogram::chunks(cell) {
                let base = |sequence| self.chunk_base(writer, at, sequence);
                copy(base(applied), base(next));
            }
        }
    }

    /// The histogram of a slot.
    pub(crate) fn histogram(
        &self,
        writer: u32,
        slot: u32,
        place: u32,
    ) -> Option<histogram::Cell<'_>> {
        Some(histogram::Cell {
            head: self.wide(writer, place, Aggregation::Distribution)?,
            sum: self.shared.sum_cell(writer, slot),
            heap: self.heap(writer),
        })
    }

    /// The distinct values of a wide cell.
    pub(crate) fn unique(&self, writer: u32, place: u32) -> Option<unique::Cell<'_>> {
        Some(unique::Cell {
            halves: self.wide(writer, place, Aggregation::Unique)?,
            heap: self.heap(writer),
        })
    }

    /// Orders the stores of a cut after the flip before it: a writer that sees any of them
    /// also sees that the baselines have changed places.
    pub(crate) fn begin_cut() {
        baseline::begin_cut();
    }

    /// The sum cell of a slot.
    pub(super) fn sum_words(&self, writer: u32, slot: u32) -> &[AtomicU64] {
        self.shared.sum_cell(writer, slot)
    }

    /// What the sum cell of a slot shows now; `None` while it changes hands.
    #[inline]
    pub(crate) fn now(&self, writer: u32, slot: u32) -> Option<CellCut> {
        let [sum, done] = sum::read(self.shared.sum_cell(writer, slot))?;
        Some(CellCut { sum, done })
    }

    /// What the sum cell of a slot showed at the cut of batch `sequence`.
    #[inline]
    pub(crate) fn base(&self, writer: u32, slot: u32, sequence: u64) -> CellCut {
        let base = self.shared.base(writer, slot, sequence);
        CellCut {
            sum: base[0].load(Relaxed),
            done: base[1].load(Relaxed),
        }
    }

    /// Something of the sum cell of a slot and of its baseline in force after batch `applied`: to
    /// have them at hand soon.
    #[inline]
    pub(crate) fn touch_cell(&self, writer: u32, slot: u32, applied: u64) -> u64 {
        let base = self.shared.base(writer, slot, applied);
        self.shared.sum_cell(writer, slot)[0].load(Relaxed) ^ base[0].load(Relaxed)
    }

    #[inline]
    pub(crate) fn put_base(&self, writer: u32, slot: u32, sequence: u64, cut: CellCut) {
        let base = self.shared.base(writer, slot, sequence);
        base[0].put(cut.sum, Relaxed);
        base[1].put(sum::events(cut.done), Relaxed);
    }

    /// A writer's wide cells, which places refer to.
    pub(crate) fn heap(&self, writer: u32) -> &[AtomicU64] {
        &self.words()[self.layout().wide(writer)]
    }

    /// The words of a wide cell as [`tollgate::cell`] knows it; `None` if the place is not one.
    pub(crate) fn wide(
        &self,
        writer: u32,
        place: u32,
        aggregation: Aggregation,
    ) -> Option<&[AtomicU64]> {
        let words = self.heap(writer).get(place as usize..)?;
        words.get(wide::cell_range(aggregation))
    }

    /// The numbers of the last sets of both halves of a last value.
    pub(crate) fn last_sets(&self, writer: u32, place: u32) -> [u32; 2] {
        wide::sets(self.heap(writer).get(place as usize..).unwrap_or(&[]))
    }

    /// The baseline of a wide cell that batch `sequence` writes: for last values, maxima and
    /// distinct counts the counts of both halves, for levels instant and integral (low, high).
    pub(crate) fn wide_base(
        &self,
        writer: u32,
        place: u32,
        aggregation: Aggregation,
        sequence: u64,
    ) -> Option<&[AtomicU64]> {
        let words = self.heap(writer).get(place as usize..)?;
        words.get(wide::base_range(aggregation, sequence))
    }

    /// The baseline of a histogram's chunk that batch `sequence` writes, one word for each
    /// bucket.
    pub(crate) fn chunk_base(&self, writer: u32, at: u32, sequence: u64) -> Option<&[AtomicU64]> {
        let words = self.heap(writer).get(at as usize..)?;
        words.get(wide::chunk_base_range(sequence))
    }

    /// Asks the writer to retire a slot, unless something is counted on it beyond `seen`. The
    /// writer does so in its own time, and may refuse; false if too many requests wait.
    pub(crate) fn retire(&self, writer: u32, slot: u32, seen: CellCut) -> bool {
        let request = Retire {
            slot,
            done: seen.done,
        };
        self.shared.retire_queue(writer).push(request).is_ok()
    }
}
