//! A world for an engine: a disk, a home for cells, a clock, and a model of a collector.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Ack, Message, Resume, Welcome};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, Dimensions, Incarnation, Lineage, MeterName, ParentEnd,
    Quantity, Scale, SeriesKey, TenantId, Timestamp, Tombstone, WindowWidth,
};

use crate::aggregate::{CellsHome, SeriesLimits, Slot, Writer};
use crate::engine::{Engine, EngineConfig, EngineError, Start, StartError, StartReport};
use crate::ship::{Connection, ShipConfig};
use crate::spool::{SpoolConfig, SyncPolicy};

pub(super) type Words = Arc<Vec<AtomicU64>>;

/// What goes wrong in a replacement of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplaceFault {
    /// It dies before the new file has its name.
    Before,
    /// It dies after.
    After,
}

#[derive(Default)]
struct HomeState {
    current: Option<Words>,
    /// What is on the disk for certain.
    durable: Vec<u64>,
    faults: BTreeMap<u64, ReplaceFault>,
    replaced: u64,
}

/// A state directory's cells file in memory.
#[derive(Clone, Default)]
pub(super) struct MemoryHome(Arc<Mutex<HomeState>>);

impl MemoryHome {
    /// The replacement with this number (from 1) fails.
    pub(super) fn fail_at(&self, number: u64, fault: ReplaceFault) {
        self.0.lock().expect("alone").faults.insert(number, fault);
    }

    /// A copy of the file as it is now.
    pub(super) fn copy(&self) -> Self {
        let state = self.0.lock().expect("alone");
        let words = state.current.as_ref().map(|words| -> Words {
            let words = words.iter().map(|word| AtomicU64::new(word.load(Relaxed)));
            Arc::new(words.collect())
        });
        Self(Arc::new(Mutex::new(HomeState {
            current: words,
            durable: state.durable.clone(),
            ..HomeState::default()
        })))
    }

    /// The words of the file as they are now.
    pub(super) fn words(&self) -> Vec<u64> {
        let state = self.0.lock().expect("alone");
        let words = state.current.iter().flat_map(|words| words.iter());
        words.map(|word| word.load(Relaxed)).collect()
    }

    /// Puts other words into the file.
    pub(super) fn set_words(&self, words: &[u64]) {
        let words: Vec<_> = words.iter().map(|&word| AtomicU64::new(word)).collect();
        self.0.lock().expect("alone").current = Some(Arc::new(words));
    }

    pub(super) fn lose(&self) {
        self.0.lock().expect("alone").current = None;
    }

    /// The host loses power: of what was stored since the sync, some sectors survive.
    pub(super) fn crash(&self, seed: u64) {
        let mut state = self.0.lock().expect("alone");
        let mut random = seed | 1;
        if let Some(current) = state.current.take() {
            let mut words: Vec<u64> = current.iter().map(|word| word.load(Relaxed)).collect();
            let sectors = words.chunks_mut(64).zip(state.durable.chunks(64));
            for (word, durable) in sectors {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random & 1 == 1 {
                    word.copy_from_slice(durable);
                }
            }
            state.durable.clone_from(&words);
            state.current = Some(Arc::new(words.into_iter().map(AtomicU64::new).collect()));
        }
    }
}

impl CellsHome for MemoryHome {
    type Region = Words;

    fn load(&mut self) -> io::Result<Option<Words>> {
        Ok(self.0.lock().expect("alone").current.clone())
    }

    fn replace(&mut self, words: usize, fill: &mut dyn FnMut(&[AtomicU64])) -> io::Result<Words> {
        let mut state = self.0.lock().expect("alone");
        state.replaced += 1;
        let number = state.replaced;
        let fault = state.faults.remove(&number);
        if fault == Some(ReplaceFault::Before) {
            return Err(io::Error::other("killed before the rename"));
        }
        let region: Words = Arc::new((0..words).map(|_| AtomicU64::new(0)).collect());
        fill(&region);
        state.durable = region.iter().map(|word| word.load(Relaxed)).collect();
        state.current = Some(Arc::clone(&region));
        if fault == Some(ReplaceFault::After) {
            return Err(io::Error::other("killed after the rename"));
        }
        Ok(region)
    }
}

/// What a collector has of one incarnation.
#[derive(Default)]
pub(super) struct Line {
    /// Batches by sequence; `None` for a tombstone.
    pub(super) batches: BTreeMap<u64, (BatchHash, Option<Batch>)>,
}

impl Line {
    fn durable(&self) -> u64 {
        let mut last = 0;
        for &sequence in self.batches.keys() {
            if sequence != last + 1 {
                break;
            }
            last = sequence;
        }
        last
    }
}

/// A collector that checks everything it is told.
#[derive(Default)]
pub(super) struct Collector {
    pub(super) lines: BTreeMap<Incarnation, Line>,
    pub(super) repeated: u64,
    pub(super) tombstones: Vec<Tombstone>,
}

impl Collector {
    fn take(&mut self, message: Message) -> Ack {
        let (incarnation, sequence, hash, batch) = match message {
            Message::Batch(batch) => {
                batch.validate().expect("valid batch");
                let hash = batch.hash();
                (batch.incarnation, batch.sequence.get(), hash, Some(batch))
            }
            Message::Tombstone(t) => {
                let (incarnation, sequence) = (t.incarnation, t.sequence.get());
                self.tombstones.push(t);
                (incarnation, sequence, BatchHash::ZERO, None)
            }
            other => panic!("an agent does not send a {}", other.kind()),
        };
        let line = self.lines.entry(incarnation).or_default();
        match line.batches.get(&sequence) {
            Some((known, Some(_))) => {
                self.repeated += 1;
                assert!(batch.is_none() || *known == hash, "fork at {sequence}");
            }
            Some((_, None)) if batch.is_none() => self.repeated += 1,
            _ => {
                line.batches.insert(sequence, (hash, batch));
            }
        }
        let durable = line.durable();
        Ack {
            incarnation,
            durable,
            releasable: durable,
        }
    }

    /// The sum of all rows of a series, and of all incarnations.
    pub(super) fn billed(&self) -> BTreeMap<String, i128> {
        let mut billed = BTreeMap::new();
        for batch in self.batches() {
            for row in batch
                .rows
                .iter()
                .filter(|r| r.aggregation == Aggregation::Sum)
            {
                *billed.entry(row.series.to_string()).or_insert(0) += row.value.units();
            }
        }
        billed
    }

    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        let lines = self.lines.values();
        lines.flat_map(|line| {
            line.batches
                .values()
                .filter_map(|(_, batch)| batch.as_ref())
        })
    }

    /// True if some batch declares usage as lost.
    pub(super) fn declared(&self) -> bool {
        self.batches().any(|batch| {
            let parent = batch.opening.and_then(|opening| opening.parent);
            !batch.losses.is_empty() || parent.is_some_and(|p| p.end != ParentEnd::Final)
        })
    }

    /// Checks the chain of every incarnation, its watermarks and its running totals.
    pub(super) fn check_lines(&self) {
        for line in self.lines.values() {
            let mut before = BatchHash::ZERO;
            let mut watermark = Timestamp::EPOCH;
            let mut totals: BTreeMap<(String, String), Quantity> = BTreeMap::new();
            let count = line.batches.len() as u64;
            assert_eq!(line.durable(), count, "sequences have no gaps");
            let whole = line.batches.values().all(|(_, batch)| batch.is_some());
            for (&sequence, (hash, batch)) in &line.batches {
                let Some(batch) = batch else { continue };
                if whole {
                    assert_eq!(batch.parent_hash, before);
                }
                before = *hash;
                assert!(batch.watermark >= watermark);
                assert!(
                    !batch.is_final || sequence == count,
                    "nothing follows a final batch"
                );
                for row in &batch.rows {
                    // What names its window itself, such as a page does, may be late.
                    let late = [Aggregation::Last, Aggregation::Max, Aggregation::Unique];
                    assert!(row.window.start() >= watermark || late.contains(&row.aggregation));
                    let (tenant, meter) = (row.series.tenant(), row.series.meter());
                    if row.aggregation == Aggregation::Sum {
                        let key = (tenant.to_string(), meter.to_string());
                        let total = totals.entry(key).or_default();
                        *total = total.checked_add(row.value).expect("in range");
                    }
                }
                watermark = batch.watermark;
                for total in batch.totals.iter().filter(|_| whole) {
                    let key = (total.tenant.to_string(), total.meter.to_string());
                    assert_eq!(
                        totals.get(&key).copied().unwrap_or_default(),
                        total.quantity
                    );
                }
            }
        }
    }
}

pub(super) type TestEngine = Engine<Words, MemoryStorage>;

/// One life of an agent and its two input threads.
pub(super) struct Life {
    pub(super) engine: TestEngine,
    pub(super) writers: Vec<Writer<Words>>,
    pub(super) slots: Vec<Vec<Slot>>,
}

/// Everything around the engine.
pub(super) struct World {
    pub(super) storage: MemoryStorage,
    pub(super) home: MemoryHome,
    pub(super) collector: Collector,
    pub(super) config: EngineConfig,
    /// The steady time.
    pub(super) now: Timestamp,
    /// How far the wall clock is ahead of it, in milliseconds.
    pub(super) wall_ahead: i64,
    pub(super) boot: u8,
    lives: u8,
    pub(super) accepted: BTreeMap<String, i128>,
    fault: Option<(u64, Fault)>,
    /// Connections are kept after shipping.
    pub(super) stay: bool,
}

/// What goes wrong at an operation of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process or the host ends in the middle of it.
    Stop,
    /// It fails.
    Error,
}

pub(super) const START_MILLIS: i64 = 1_780_000_003_000;

pub(super) fn config() -> EngineConfig {
    EngineConfig {
        agent: AgentId::new("edge-1").expect("valid"),
        window: WindowWidth::from_secs(10).expect("divides 900"),
        writers: vec!["a".to_owned(), "b".to_owned()],
        series_max: 16,
        key_bytes: 4096,
        limits: SeriesLimits::default(),
        spool: SpoolConfig {
            segment_bytes: 4096,
            bytes_max: 1 << 20,
            free_min: 0,
            sync: SyncPolicy::Always,
        },
        ship: ShipConfig::default(),
    }
}

pub(super) fn series(tenant: &str, region: &str) -> SeriesKey {
    SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new("net.bytes").expect("valid"),
        Dimensions::new([("region", region)]).expect("valid"),
    )
    .expect("short")
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            storage: MemoryStorage::new(seed),
            home: MemoryHome::default(),
            collector: Collector::default(),
            config: config(),
            now: Timestamp::from_millis(START_MILLIS),
            wall_ahead: 0,
            boot: 1,
            lives: 0,
            accepted: BTreeMap::new(),
            fault: None,
            stay: false,
        }
    }

    /// A host with a copy of this one's state directory, and a collector of its own.
    pub(super) fn copy(&self) -> Self {
        let storage = MemoryStorage::new(99);
        for name in self.storage.names() {
            let bytes = self.storage.contents(&name).expect("listed");
            storage.set_contents(&name, &bytes);
        }
        Self {
            storage,
            home: self.home.copy(),
            collector: Collector::default(),
            config: self.config.clone(),
            now: self.now,
            wall_ahead: self.wall_ahead,
            boot: self.boot,
            // Other random names.
            lives: self.lives + 100,
            accepted: BTreeMap::new(),
            fault: None,
            stay: false,
        }
    }

    /// The operation of the disk with this number, counted from the beginning, goes wrong.
    pub(super) fn fault_at(&mut self, number: u64, fault: Fault) {
        self.fault = Some((number, fault));
        self.arm();
    }

    /// The disk forgets a fault with a process; it is meant for the whole run.
    fn arm(&self) {
        let Some((number, fault)) = self.fault else {
            return;
        };
        let Some(from_now) = number.checked_sub(self.storage.operations()) else {
            return;
        };
        match fault {
            _ if from_now == 0 => {}
            Fault::Stop => self.storage.stop_at(from_now),
            Fault::Error => self.storage.fail_at(from_now, io::ErrorKind::Other, false),
        }
    }

    pub(super) fn start(&mut self) -> Result<(Life, StartReport), StartError> {
        self.lives += 1;
        let start = Start {
            now: self.now,
            boot_id: [self.boot; 16],
            random: [self.lives; 16],
        };
        let storage = self.storage.clone();
        let (engine, report) = Engine::start(&self.config, &mut self.home, storage, start)?;
        let mut life = Life {
            writers: Vec::new(),
            slots: Vec::new(),
            engine,
        };
        let inputs = ["a", "b"].iter().copied();
        for name in inputs.filter(|input| self.config.writers.iter().any(|name| name == input)) {
            let mut writer = life.engine.writer(name).expect("free");
            let slots = Self::keys().map(|key| {
                let slot = writer.resolve(&key, Aggregation::Sum, Scale::ZERO);
                slot.expect("room")
            });
            life.slots.push(slots.into());
            life.writers.push(writer);
        }
        Ok((life, report))
    }

    fn keys() -> [SeriesKey; 3] {
        [
            series("acme", "eu"),
            series("acme", "us"),
            series("umbrella", "eu"),
        ]
    }

    /// Counts with both writers, and remembers what was accepted.
    pub(super) fn count(&mut self, life: &mut Life, amount: u64) {
        for (writer, slots) in life.writers.iter_mut().zip(&life.slots) {
            for ((slot, key), factor) in slots.iter().zip(Self::keys()).zip(1..) {
                writer.received(1);
                writer.add(*slot, amount * factor).expect("accepted");
                *self.accepted.entry(key.to_string()).or_insert(0) +=
                    i128::from(amount) * i128::from(factor);
            }
        }
    }

    pub(super) fn tick(&mut self, life: &mut Life, millis: i64) -> Result<(), EngineError> {
        self.now = self.now.plus_millis(millis);
        life.engine.handle_wall(self.now, self.wall());
        life.engine.handle_tick(self.now)
    }

    /// What the wall clock shows.
    pub(super) fn wall(&self) -> Timestamp {
        self.now.plus_millis(self.wall_ahead)
    }

    /// One connection: everything that the spool has goes out and is acknowledged.
    pub(super) fn ship(&mut self, life: &mut Life) -> Result<u64, EngineError> {
        let engine = &mut life.engine;
        if engine.status().ship.connection != Connection::Shipping {
            self.connect(engine)?;
        }
        let mut sent = 0;
        loop {
            // Fill the window, then acknowledge all of it.
            let mut acks = Vec::new();
            while let Some(message) = engine.poll_transmit(self.now)? {
                sent += 1;
                acks.push(self.collector.take(message));
            }
            assert!(acks.len() <= 3, "the window holds");
            if acks.is_empty() {
                break;
            }
            for ack in acks {
                engine.handle_message(self.now, Message::Ack(ack))?;
            }
        }
        if !self.stay {
            engine.handle_disconnected(self.now, 0, "done");
        }
        Ok(sent)
    }

    fn connect(&self, engine: &mut TestEngine) -> Result<(), EngineError> {
        engine.handle_connecting(self.now);
        let hello = engine.handle_connected(self.now);
        let resume = hello.held.iter().filter_map(|held| {
            let stored = self.collector.lines.get(&held.incarnation)?;
            let durable = stored.durable();
            let known = stored.batches.get(&durable);
            Some(Resume {
                incarnation: held.incarnation,
                durable,
                durable_hash: known.map_or(BatchHash::ZERO, |(hash, _)| *hash),
                releasable: durable,
            })
        });
        let welcome = Welcome {
            version: hello.version_max,
            lineage: Lineage::from_bytes([7; 16]),
            now: self.now,
            resume: resume.collect(),
            window_batches: 3,
            window_bytes: 1 << 20,
        };
        engine.handle_message(self.now, Message::Welcome(welcome))
    }

    pub(super) fn stop(&mut self, mut life: Life) -> Result<TestEngine, EngineError> {
        life.writers.clear();
        life.engine.handle_stop(self.now)?;
        Ok(life.engine)
    }

    /// The process is gone; its files stay as they are.
    pub(super) fn kill(&mut self) {
        self.storage.kill();
        self.arm();
    }

    /// The host is gone; it comes back under another boot id.
    pub(super) fn crash(&mut self, seed: u64) {
        self.storage.crash();
        self.home.crash(seed);
        self.boot += 1;
        self.arm();
    }

    pub(super) fn accepted_total(&self) -> i128 {
        self.accepted.values().sum()
    }

    pub(super) fn billed_total(&self) -> i128 {
        self.collector.billed().values().sum()
    }

    /// Stops in order, ships everything, and starts once more to ship the stop's own batch.
    pub(super) fn finish(&mut self, life: Life) {
        let engine = self.stop(life).expect("stops");
        let mut life = Life {
            engine,
            writers: Vec::new(),
            slots: Vec::new(),
        };
        self.ship(&mut life).expect("ships");
        assert!(life.engine.is_drained());
        self.collector.check_lines();
    }
}
