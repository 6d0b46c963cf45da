//! An agent in memory: its cells, its disk, and what it ships.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tollgate_agent_core::aggregate::{CellsHome, SeriesLimits};
use tollgate_agent_core::engine::{Engine, EngineConfig, Start, StartError};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_agent_core::spool::{SpoolConfig, SyncPolicy};
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Ack, Message, Welcome};
use tollgate_common::{AgentId, Batch, Lineage, Timestamp, WindowWidth};

pub(crate) type Words = Arc<Vec<AtomicU64>>;
pub(crate) type MemoryEngine = Engine<Words, MemoryStorage>;

/// The name of the writer that counts.
pub(crate) const WRITER: &str = "w";

/// The file of cells.
#[derive(Default)]
pub(crate) struct Home(Option<Words>);

impl CellsHome for Home {
    type Region = Words;

    fn load(&mut self) -> io::Result<Option<Words>> {
        Ok(self.0.clone())
    }

    fn replace(&mut self, words: usize, fill: &mut dyn FnMut(&[AtomicU64])) -> io::Result<Words> {
        let region: Words = Arc::new((0..words).map(|_| AtomicU64::new(0)).collect());
        fill(&region);
        self.0 = Some(Arc::clone(&region));
        Ok(region)
    }
}

impl Home {
    /// The process is gone: nobody else holds the memory.
    #[allow(dead_code, reason = "not every target kills an agent")]
    pub(crate) fn kill(&mut self) {
        if let Some(words) = &self.0 {
            let words = words.iter().map(|word| AtomicU64::new(word.load(Relaxed)));
            self.0 = Some(Arc::new(words.collect()));
        }
    }
}

/// Starts an agent of a life with this number.
pub(crate) fn start(
    home: &mut Home,
    storage: &MemoryStorage,
    now: Timestamp,
    life: u8,
) -> Result<MemoryEngine, StartError> {
    let config = EngineConfig {
        agent: AgentId::new("edge-1").expect("valid"),
        window: WindowWidth::from_secs(10).expect("divides 900"),
        writers: vec![WRITER.to_owned()],
        series_max: 32,
        key_bytes: 8192,
        limits: SeriesLimits::default(),
        spool: SpoolConfig {
            segment_bytes: 4096,
            bytes_max: 1 << 20,
            free_min: 0,
            sync: SyncPolicy::Always,
        },
        ship: ShipConfig::default(),
    };
    let start = Start {
        now,
        boot_id: [1; 16],
        random: [life; 16],
    };
    Engine::start(&config, home, storage.clone(), start).map(|(engine, _)| engine)
}

/// Everything that goes out on one connection, at most so many messages.
pub(crate) fn drain(engine: &mut MemoryEngine, now: Timestamp, most: usize) -> Vec<Batch> {
    engine.handle_connecting(now);
    let hello = engine.handle_connected(now);
    let welcome = Welcome {
        version: hello.version_max,
        lineage: Lineage::from_bytes([7; 16]),
        now,
        resume: Vec::new(),
        window_batches: 4,
        window_bytes: 1 << 20,
    };
    let mut batches = Vec::new();
    if engine
        .handle_message(now, Message::Welcome(welcome))
        .is_err()
    {
        return batches;
    }
    for _ in 0..most {
        let Ok(Some(message)) = engine.poll_transmit(now) else {
            break;
        };
        let (incarnation, durable) = match message {
            Message::Batch(batch) => {
                let of = (batch.incarnation, batch.sequence.get());
                batches.push(batch);
                of
            }
            Message::Tombstone(tombstone) => (tombstone.incarnation, tombstone.sequence.get()),
            other => panic!("an agent does not send a {}", other.kind()),
        };
        let ack = Ack {
            incarnation,
            durable,
            releasable: durable,
        };
        if engine.handle_message(now, Message::Ack(ack)).is_err() {
            break;
        }
    }
    batches
}
