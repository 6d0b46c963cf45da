//! The cells of one incarnation, shared between their writers and the sealer.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};

use tollgate_common::{Aggregation, Timestamp};

use super::Region;
use super::account::{ACCOUNT_WORDS, Account, AccountWords};
use super::header::{self, AT_RETIRED, CellsError, CutRecord, Identity};
use super::last::{self, LastCut};
use super::layout::{BASE_WORDS, CellsLayout, LAST_WORDS, SUM_WORDS};
use super::slot::SlotHead;
use super::words::read_bytes;
use super::writer::Writer;

/// Index of the published number of slots in a block's head.
const AT_COUNT: usize = 0;
/// Index of the account in a block's head.
const AT_ACCOUNT: usize = 16;
const _: () = assert!(AT_ACCOUNT + ACCOUNT_WORDS <= super::layout::BLOCK_HEAD_WORDS);

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

/// What a sum cell has counted, at a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SumCut {
    /// Everything counted by this incarnation.
    pub(crate) sum: u128,
    /// In so many events.
    pub(crate) events: u64,
}

/// The words and what is known about them; shared by all handles.
pub(crate) struct Shared<R> {
    region: R,
    layout: CellsLayout,
    identity: Identity,
    taken: Box<[AtomicBool]>,
}

impl<R: Region> Shared<R> {
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.region.words()
    }

    pub(crate) fn layout(&self) -> CellsLayout {
        self.layout
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    fn count_word(&self, writer: u32) -> &AtomicU64 {
        &self.words()[self.layout.head(writer).start + AT_COUNT]
    }

    /// Makes the first `count` slots visible to readers, with all that was stored before.
    pub(crate) fn publish(&self, writer: u32, count: u32) {
        self.count_word(writer).store(count.into(), Release);
    }

    /// Slots that are published; what no writer can have stored counts as all.
    pub(crate) fn published(&self, writer: u32) -> u32 {
        let count = self.count_word(writer).load(Acquire);
        u32::try_from(count)
            .unwrap_or(u32::MAX)
            .min(self.layout.series())
    }

    pub(crate) fn account(&self, writer: u32) -> &[AtomicU64] {
        let at = self.layout.head(writer).start + AT_ACCOUNT;
        &self.words()[at..at + ACCOUNT_WORDS]
    }

    pub(crate) fn slot(&self, writer: u32, slot: u32) -> Option<(SlotHead, Vec<u8>)> {
        let words = self.words();
        SlotHead::read(
            self.layout,
            &words[self.layout.slot(writer, slot)],
            &words[self.layout.keys(writer)],
        )
    }

    pub(crate) fn last_cell(&self, writer: u32, index: u32) -> &[AtomicU64] {
        let at = self.layout.lasts(writer).start + index as usize * LAST_WORDS;
        &self.words()[at..at + LAST_WORDS]
    }

    fn base(&self, writer: u32, slot: u32, parity: u64) -> &[AtomicU64] {
        let at = self.layout.bases(writer, parity).start + slot as usize * BASE_WORDS;
        &self.words()[at..at + BASE_WORDS]
    }

    /// The low word of a sum's baseline in force, for a writer that must not take it from
    /// the array that the sealer is writing.
    pub(crate) fn sum_in_force(&self, writer: u32, slot: u32) -> u64 {
        loop {
            let applied = header::applied(self.words());
            let low = self.base(writer, slot, applied)[0].load(Relaxed);
            fence(Acquire);
            if header::applied(self.words()) == applied {
                return low;
            }
        }
    }

    pub(crate) fn give_back(&self, writer: u32) {
        self.taken[writer as usize].store(false, Release);
    }
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

/// The cells of one incarnation, as the sealer sees them.
pub(crate) struct Cells<R> {
    shared: Arc<Shared<R>>,
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
        for (writer, account) in (0..layout.writers()).zip(accounts) {
            account.write(&words[layout.head(writer).start + AT_ACCOUNT..][..ACCOUNT_WORDS]);
        }
        retired.write(&words[AT_RETIRED..][..ACCOUNT_WORDS]);
    }

    /// Checks a region's header and takes it.
    pub(crate) fn open(region: R) -> Result<Self, CellsError> {
        let (identity, layout) = Identity::read(region.words())?;
        let taken = (0..layout.writers()).map(|_| AtomicBool::new(false));
        Ok(Self {
            shared: Arc::new(Shared {
                layout,
                identity,
                taken: taken.collect(),
                region,
            }),
        })
    }

    fn words(&self) -> &[AtomicU64] {
        self.shared.words()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    pub(crate) fn layout(&self) -> CellsLayout {
        self.shared.layout
    }

    /// The one handle that may count for the writer `name`.
    pub(crate) fn writer(&self, name: &str) -> Result<Writer<R>, WriterError> {
        let names = &self.identity().writers;
        let index = names
            .iter()
            .position(|n| n == name)
            .ok_or_else(|| WriterError::Unknown(name.to_owned()))?;
        if self.shared.taken[index].swap(true, Acquire) {
            return Err(WriterError::Taken(name.to_owned()));
        }
        let index = u32::try_from(index).expect("at most WRITERS_MAX writers");
        Ok(Writer::new(Arc::clone(&self.shared), index))
    }

    /// The name of a writer that is still held, if any is.
    pub(crate) fn held_writer(&self) -> Option<&str> {
        let taken = self.shared.taken.iter();
        taken
            .zip(&self.identity().writers)
            .find_map(|(taken, name)| taken.load(Acquire).then_some(name.as_str()))
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

    /// The key of a slot, or `None` if it is damaged.
    pub(crate) fn key(&self, writer: u32, slot: u32) -> Option<super::slot::SlotKey> {
        let (head, key) = self.shared.slot(writer, slot)?;
        Some(super::slot::SlotKey {
            key: tollgate_common::SeriesKey::from_canonical(&key).ok()?,
            aggregation: head.aggregation,
            scale: head.scale,
            last: head.last,
        })
    }

    /// What describes a slot, if it can be; its checksum is not looked at.
    pub(crate) fn slot_head(&self, writer: u32, slot: u32) -> Option<SlotHead> {
        let words = &self.words()[self.layout().slot(writer, slot)];
        SlotHead::parse(self.layout(), words)
    }

    /// Bytes of a slot's key as its description says, unchecked.
    pub(crate) fn key_bytes(&self, writer: u32, slot: u32) -> usize {
        let word = self.words()[self.layout().slot(writer, slot).start].load(Relaxed);
        usize::try_from(word & 0xffff_ffff).unwrap_or(usize::MAX)
    }

    /// Reads the key of a slot into `key`.
    pub(crate) fn read_key(&self, writer: u32, head: SlotHead, key: &mut Vec<u8>) {
        let at = self.layout().keys(writer).start + head.key_at as usize;
        read_bytes(&self.words()[at..], head.key_bytes as usize, key);
    }

    /// The first word of a slot's key: to have it at hand soon.
    pub(crate) fn touch_key(&self, writer: u32, head: SlotHead) -> u64 {
        let at = self.layout().keys(writer).start + head.key_at as usize;
        self.words()[at].load(Relaxed)
    }

    /// Reads the key of a slot into `key`; `None` if the slot is damaged.
    pub(crate) fn checked_key(
        &self,
        writer: u32,
        slot: u32,
        key: &mut Vec<u8>,
    ) -> Option<SlotHead> {
        let head = self.slot_head(writer, slot)?;
        self.read_key(writer, head, key);
        let words = &self.words()[self.layout().slot(writer, slot)];
        head.is_good(words, key).then_some(head)
    }

    /// Makes the baseline of a slot that is not in force after batch `applied` the one that is.
    pub(crate) fn copy_base(&self, writer: u32, slot: u32, applied: u64) {
        let from = self.shared.base(writer, slot, applied);
        let to = self.shared.base(writer, slot, applied.wrapping_add(1));
        for (to, from) in to[..BASE_WORDS].iter().zip(from) {
            to.store(from.load(Relaxed), Relaxed);
        }
    }

    /// Orders the stores of a cut after the flip before it: a writer that sees any of them
    /// also sees that the baselines have changed places.
    pub(crate) fn begin_cut() {
        fence(Release);
    }

    /// What a sum cell holds now, counted from the baseline of batch `applied`; `None` if the
    /// baseline is beyond what can be counted, so damaged.
    pub(crate) fn sum_now(&self, writer: u32, slot: u32, base: SumCut) -> Option<SumCut> {
        let at = self.layout().sums(writer).start + slot as usize * SUM_WORDS;
        let cell = &self.words()[at..at + SUM_WORDS];
        let events = cell[1].load(Acquire);
        let low = base.sum & u128::from(u64::MAX);
        let low = u64::try_from(low).expect("masked to 64 bits");
        let difference = cell[0].load(Relaxed).wrapping_sub(low);
        Some(SumCut {
            sum: base.sum.checked_add(difference.into())?,
            events,
        })
    }

    pub(crate) fn sum_base(&self, writer: u32, slot: u32, sequence: u64) -> SumCut {
        let base = self.shared.base(writer, slot, sequence);
        let [low, high, events] = [0, 1, 2].map(|at: usize| base[at].load(Relaxed));
        SumCut {
            sum: u128::from(high) << 64 | u128::from(low),
            events,
        }
    }

    pub(crate) fn put_sum_base(&self, writer: u32, slot: u32, sequence: u64, cut: SumCut) {
        let base = self.shared.base(writer, slot, sequence);
        let half = |value: u128| u64::try_from(value & u128::from(u64::MAX)).expect("masked");
        base[0].store(half(cut.sum), Relaxed);
        base[1].store(half(cut.sum >> 64), Relaxed);
        base[2].store(cut.events, Relaxed);
    }

    pub(crate) fn last_now(&self, writer: u32, cell: u32, half: usize) -> Option<LastCut> {
        last::read(self.shared.last_cell(writer, cell), half)
    }

    /// The counts of both halves of a last value at the cut of batch `sequence`.
    pub(crate) fn last_base(&self, writer: u32, slot: u32, sequence: u64) -> [u64; 2] {
        let base = self.shared.base(writer, slot, sequence);
        [0, 1].map(|at: usize| base[at].load(Relaxed))
    }

    pub(crate) fn put_last_base(&self, writer: u32, slot: u32, sequence: u64, events: [u64; 2]) {
        let base = self.shared.base(writer, slot, sequence);
        base[0].store(events[0], Relaxed);
        base[1].store(events[1], Relaxed);
    }

    /// How much a slot has counted, for those who only look: a few words are read, without
    /// the key's checksum. A wrong answer misleads a viewer, never a bill.
    pub(crate) fn activity(&self, writer: u32, slot: u32) -> Activity {
        let kind = self.words()[self.layout().slot(writer, slot)][1].load(Relaxed);
        if kind >> 8 & 0xff == u64::from(Aggregation::Last.code()) {
            let index = u32::try_from(kind >> 32).expect("shifted to 32 bits");
            let index = index.min(self.layout().last().saturating_sub(1));
            return Activity {
                events: last::events(self.shared.last_cell(writer, index)),
                ..Activity::default()
            };
        }
        let cell = &self.words()[self.layout().sums(writer)][slot as usize * SUM_WORDS..];
        Activity {
            generation: 0,
            events: cell[1].load(Relaxed),
            amount: cell[0].load(Relaxed),
        }
    }

    /// Events that this incarnation counted for a writer, and how many of them are sealed.
    ///
    /// A slot's kind is read without its checksum here: a wrong kind misleads the account
    /// of events, never a sum.
    fn events(&self, writer: u32) -> (u64, u64) {
        let applied = self.applied();
        let sums = &self.words()[self.layout().sums(writer)];
        let slots = 0..self.published(writer);
        slots.fold((0, 0), |(accepted, sealed): (u64, u64), slot| {
            let kind = self.words()[self.layout().slot(writer, slot)][1].load(Relaxed);
            let last = kind >> 8 & 0xff == u64::from(Aggregation::Last.code());
            let (now, base) = if last {
                let index = u32::try_from(kind >> 32).expect("shifted to 32 bits");
                let [even, odd] = self.last_base(writer, slot, applied);
                let index = index.min(self.layout().last().saturating_sub(1));
                let cell = self.shared.last_cell(writer, index);
                (last::events(cell), even.wrapping_add(odd))
            } else {
                let events = sums[slot as usize * SUM_WORDS + 1].load(Relaxed);
                (events, self.sum_base(writer, slot, applied).events)
            };
            (accepted.wrapping_add(now), sealed.wrapping_add(base))
        })
    }

    /// The accounts of all writers by name, as they stand.
    pub(crate) fn accounts(&self) -> Vec<(&str, Account)> {
        let names = self.identity().writers.iter();
        (0..)
            .zip(names)
            .map(|(writer, name)| {
                let (accepted, sealed) = self.events(writer);
                let words = AccountWords::read(self.shared.account(writer));
                (name.as_str(), words.to_account(accepted, sealed))
            })
            .collect()
    }

    /// The account of writers that are no longer configured.
    pub(crate) fn retired_account(&self) -> Account {
        AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS]).to_account(0, 0)
    }

    /// The accounts that a next incarnation with these writers starts from, and the one of
    /// writers that it does not have.
    pub(crate) fn carried_accounts(&self, writers: &[String]) -> (Vec<AccountWords>, AccountWords) {
        let mut retired = AccountWords::read(&self.words()[AT_RETIRED..][..ACCOUNT_WORDS]);
        let mut carried = vec![AccountWords::default(); writers.len()];
        for (index, name) in (0..).zip(&self.identity().writers) {
            let mut words = AccountWords::read(self.shared.account(index));
            let (accepted, sealed) = self.events(index);
            words.carry(accepted, sealed);
            match writers.iter().position(|writer| writer == name) {
                Some(at) => carried[at] = words,
                None => retired.merge(&words),
            }
        }
        (carried, retired)
    }
}
