//! The words of one incarnation and what is known about them; shared by all handles.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam::queue::ArrayQueue;
use hashbrown::HashMap;
use tollgate::cell::baseline::parity;
use tollgate::cell::retire;
use tollgate_common::limits::{DIMENSIONS_MAX, SERIES_KEY_BYTES_MAX};
use tollgate_common::{SeriesKey, TenantId};

use super::Region;
use super::account::ACCOUNT_WORDS;
use super::gauge::Levels;
use super::header::{self, Identity};
use super::layout::{Areas, BASE_WORDS, CellsLayout, SLOT_WORDS, SUM_WORDS};
use super::table;
use super::words::Put;

/// Index of the published number of slots in a block's head.
pub(super) const AT_COUNT: usize = 0;
/// Index of the number of slots that were retired or given to another series.
const AT_CHANGES: usize = 1;
/// Index of the place of the newest tenant's record.
pub(super) const AT_TENANTS: usize = 2;
/// Index of the account in a block's head.
pub(super) const AT_ACCOUNT: usize = 16;
const _: () = assert!(AT_ACCOUNT + ACCOUNT_WORDS <= super::layout::BLOCK_HEAD_WORDS);

/// Requests to retire a series that may wait for one writer.
const RETIRE_MAX: usize = 4096;

/// What one agent's series may be. A series beyond a limit loses its dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Most series of all writers together.
    pub series_max: u32,
    /// Most series of one tenant, of all writers together.
    pub series_per_tenant: u32,
    /// Most bytes of a series' key in its canonical form.
    pub key_bytes: u32,
    /// Most dimensions of a series.
    pub dimensions: u32,
    /// Milliseconds after which a series that nobody counts on may be retired, so that another
    /// takes its room.
    pub idle_millis: i64,
    /// Bytes for wide cells of each writer; `None` for as many as its number of series lets
    /// expect.
    pub wide_bytes: Option<u64>,
}

impl Default for SeriesLimits {
    /// Nothing beyond what the vocabulary and the room allow; an hour is idle.
    fn default() -> Self {
        Self {
            series_max: u32::MAX,
            series_per_tenant: u32::MAX,
            key_bytes: u32::try_from(SERIES_KEY_BYTES_MAX).expect("small"),
            dimensions: u32::try_from(DIMENSIONS_MAX).expect("small"),
            idle_millis: 3_600_000,
            wide_bytes: None,
        }
    }
}

/// What a writer says of its series; it alone stores here, and whoever likes reads.
#[derive(Debug, Default)]
pub(super) struct Cardinality {
    /// Series in use.
    pub(super) live: AtomicU32,
    /// Lookups of series that lost their dimensions, since the start.
    pub(super) overflowed: AtomicU64,
    /// Series retired since the start.
    pub(super) retired: AtomicU64,
    /// Slots given to another series since the start.
    pub(super) reused: AtomicU64,
}

/// The sealer asks a writer to retire a slot whose cell was last seen like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retire {
    pub(super) slot: u32,
    /// The second word of the sum cell.
    pub(super) done: u64,
}

pub(crate) struct Shared<R> {
    region: R,
    layout: CellsLayout,
    /// The areas of each writer.
    areas: Box<[Areas]>,
    identity: Identity,
    limits: SeriesLimits,
    taken: Box<[AtomicBool]>,
    /// Writers that have been had, whose series are among `live`.
    begun: Box<[AtomicBool]>,
    retire: Box<[ArrayQueue<Retire>]>,
    /// Up to which of a writer's changes the sealer has taken them in.
    seen: Box<[AtomicU64]>,
    cardinality: Box<[Cardinality]>,
    /// Series in use, of all writers.
    live: AtomicU32,
    /// Series in use by tenant, where that is limited. Writers meet here when one makes or
    /// retires a series, never when it counts; the sealer does not come here.
    tenants: Mutex<HashMap<TenantId, u32, foldhash::quality::RandomState>>,
    /// Levels, which several writers may set.
    levels: Levels,
    /// How many last values have been set, which tells whose is the newest.
    sets: AtomicU32,
}

impl<R: Region> Shared<R> {
    pub(super) fn new(
        region: R,
        layout: CellsLayout,
        identity: Identity,
        limits: SeriesLimits,
    ) -> Self {
        let writers = 0..layout.writers();
        Self {
            areas: writers.clone().map(|writer| layout.areas(writer)).collect(),
            taken: writers.clone().map(|_| AtomicBool::new(false)).collect(),
            begun: writers.clone().map(|_| AtomicBool::new(false)).collect(),
            retire: writers
                .clone()
                .map(|_| ArrayQueue::new(RETIRE_MAX))
                .collect(),
            seen: writers.clone().map(|_| AtomicU64::new(0)).collect(),
            cardinality: writers.map(|_| Cardinality::default()).collect(),
            live: AtomicU32::new(0),
            tenants: Mutex::default(),
            levels: Levels::default(),
            sets: AtomicU32::new(0),
            region,
            layout,
            identity,
            limits,
        }
    }

    /// Makes all of it durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.region.sync()
    }

    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.region.words()
    }

    #[inline]
    pub(crate) fn layout(&self) -> CellsLayout {
        self.layout
    }

    pub(super) fn limits(&self) -> SeriesLimits {
        self.limits
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The words at the start of a writer's block.
    pub(super) fn head(&self, writer: u32) -> &[AtomicU64] {
        &self.words()[self.layout.head(writer)]
    }

    /// Makes the first `count` slots visible to readers, with all that was stored before.
    pub(super) fn publish(&self, writer: u32, count: u32) {
        self.head(writer)[AT_COUNT].put(count.into(), Release);
    }

    /// Slots that are published; what no writer can have stored counts as all.
    pub(crate) fn published(&self, writer: u32) -> u32 {
        let count = self.head(writer)[AT_COUNT].load(Acquire);
        u32::try_from(count)
            .unwrap_or(u32::MAX)
            .min(self.layout.series())
    }

    /// A slot was retired, or given to another series.
    pub(super) fn changed(&self, writer: u32) {
        retire::changed(&self.head(writer)[AT_CHANGES], Put::put);
    }

    /// The sealer has taken in that many changes: it does not look for the series that the
    /// slots had before.
    pub(super) fn acknowledge(&self, writer: u32, changes: u64) {
        retire::acknowledge(&self.seen[writer as usize], changes);
    }

    pub(super) fn acknowledged(&self, writer: u32) -> u64 {
        retire::acknowledged(&self.seen[writer as usize])
    }

    /// How many slots have been retired or given to other series.
    pub(crate) fn changes(&self, writer: u32) -> u64 {
        retire::changes(&self.head(writer)[AT_CHANGES])
    }

    pub(super) fn account(&self, writer: u32) -> &[AtomicU64] {
        &self.head(writer)[AT_ACCOUNT..AT_ACCOUNT + ACCOUNT_WORDS]
    }

    pub(super) fn applied_word(&self) -> &AtomicU64 {
        header::applied_word(self.words())
    }

    #[inline]
    pub(super) fn base(&self, writer: u32, slot: u32, sequence: u64) -> &[AtomicU64] {
        let bases = self.areas[writer as usize].bases[parity(sequence)];
        let at = bases + slot as usize * BASE_WORDS;
        &self.words()[at..at + BASE_WORDS]
    }

    /// The baselines of both parities.
    pub(super) fn bases(&self, writer: u32, slot: usize) -> [&[AtomicU64]; 2] {
        [0, 1].map(|parity| {
            let at = self.areas[writer as usize].bases[parity] + slot * BASE_WORDS;
            &self.words()[at..at + BASE_WORDS]
        })
    }

    #[inline]
    pub(super) fn sum_cell(&self, writer: u32, slot: u32) -> &[AtomicU64] {
        let at = self.areas[writer as usize].sums + slot as usize * SUM_WORDS;
        &self.words()[at..at + SUM_WORDS]
    }

    /// What describes a slot.
    #[inline]
    pub(super) fn slot_words(&self, writer: u32, slot: u32) -> &[AtomicU64] {
        let at = self.areas[writer as usize].slots + slot as usize * SLOT_WORDS;
        &self.words()[at..at + SLOT_WORDS]
    }

    /// All keys of a writer.
    #[inline]
    pub(super) fn keys(&self, writer: u32) -> &[AtomicU64] {
        &self.words()[self.areas[writer as usize].keys.clone()]
    }

    /// True if everything that a slot at rest has counted is sealed.
    pub(super) fn settled(&self, writer: u32, slot: u32) -> bool {
        let bases = self.bases(writer, slot as usize);
        table::settled(self.applied_word(), self.sum_cell(writer, slot), bases)
    }

    pub(super) fn take(&self, writer: usize) -> bool {
        !self.taken[writer].swap(true, Acquire)
    }

    /// True for the first time that a writer is had.
    pub(super) fn begin(&self, writer: u32) -> bool {
        !self.begun[writer as usize].swap(true, Relaxed)
    }

    pub(super) fn is_taken(&self, writer: usize) -> bool {
        self.taken[writer].load(Acquire)
    }

    pub(super) fn give_back(&self, writer: u32) {
        self.taken[writer as usize].store(false, Release);
    }

    pub(super) fn retire_queue(&self, writer: u32) -> &ArrayQueue<Retire> {
        &self.retire[writer as usize]
    }

    pub(super) fn cardinality(&self, writer: u32) -> &Cardinality {
        &self.cardinality[writer as usize]
    }

    pub(super) fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The number of the set of a last value that is being made: none before has it, but for
    /// those so long ago that numbers have begun again, and 0 is none.
    pub(super) fn next_set(&self) -> u32 {
        self.sets.fetch_add(1, Relaxed).wrapping_add(1).max(1)
    }

    /// Sets were made up to this number, by an earlier process.
    pub(super) fn sets_made(&self, number: u32) {
        self.sets.fetch_max(number, Relaxed);
    }

    /// Series in use, of all writers.
    pub(super) fn live(&self) -> u32 {
        self.live.load(Relaxed)
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, u32, foldhash::quality::RandomState>> {
        // The map is whole after every statement that changes it.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a limit allows another series with this key, whose canonical form has `bytes`.
    pub(super) fn admit(&self, key: &SeriesKey, bytes: usize) -> bool {
        let limits = self.limits;
        bytes <= limits.key_bytes as usize
            && key.dimensions().len() <= limits.dimensions as usize
            && self.live.load(Relaxed) < limits.series_max
            && (limits.series_per_tenant == u32::MAX
                || self
                    .tenants()
                    .get(key.tenant())
                    .is_none_or(|&series| series < limits.series_per_tenant))
    }

    /// True if a tenant beyond its limit may have another mirror without dimensions.
    pub(super) fn admit_overflow(&self, tenant: &TenantId) -> bool {
        let most = self.limits.series_per_tenant;
        most == u32::MAX
            || self
                .tenants()
                .get(tenant)
                .is_none_or(|&series| series < most.saturating_mul(2))
    }

    /// Accounts for a series made (1) or retired (-1).
    pub(super) fn count_series(&self, tenant: Option<&TenantId>, change: i32) {
        self.live.fetch_add(change.cast_unsigned(), Relaxed);
        let limited = self.limits.series_per_tenant < u32::MAX;
        let Some(tenant) = tenant.filter(|_| limited) else {
            return;
        };
        let mut tenants = self.tenants();
        let series = match tenants.get_mut(tenant) {
            Some(series) => series,
            None => tenants.entry(tenant.clone()).or_insert(0),
        };
        *series = series.saturating_add_signed(change);
        if *series == 0 {
            tenants.remove(tenant);
        }
    }
}
