//! `increment`: nanoseconds for one count on the hot path, one thread.
//!
//! Ours adds to a cell of the agent (sum and events) through a resolved slot, with every
//! check that the production path has. The variants run in turn within each round, so that a
//! change of the machine's speed meets all of them; the median over the rounds counts.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use tollgate_agent_core::aggregate::{CellsHome, Slot, Writer};
use tollgate_agent_core::engine::{Engine, EngineConfig, Start};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{
    AgentId, Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId, Timestamp, WindowWidth,
};

use crate::report::{Better, Case, Report, median};

const ROUNDS: usize = 7;
const COUNTS: u64 = 20_000_000;
const WRITER: &str = "bench";

type Words = Arc<Vec<AtomicU64>>;

/// Cells in ordinary memory: a mapped file that is in the page cache costs the same.
#[derive(Default)]
struct MemoryHome(Option<Words>);

impl CellsHome for MemoryHome {
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

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
}

/// Runs all variants on one series, then ours over a thousand series.
pub(crate) fn run() -> Result<Report> {
    let mut writer = writer()?;
    let slots: Vec<Slot> = (0..1000)
        .map(|index| {
            writer
                .resolve(&series(index)?, Aggregation::Sum, Scale::ZERO)
                .context("a free slot")
        })
        .collect::<Result<_>>()?;
    let (single, plain, shared) = (slots[0], AtomicU64::new(0), AtomicU64::new(0));
    let (mut ours, mut many, mut local, mut floor, mut fetch) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        ours.push(nanoseconds(|_| {
            writer.add(black_box(single), black_box(1)).is_ok()
        }));
        many.push(nanoseconds(|n| {
            let slot = slots[usize::try_from(n % 1000).unwrap_or(0)];
            writer.add(black_box(slot), black_box(1)).is_ok()
        }));
        local.push(nanoseconds(|_| {
            LOCAL.with(|cell| {
                cell.set(cell.get().wrapping_add(black_box(1)));
                true
            })
        }));
        floor.push(nanoseconds(|_| {
            let cell = black_box(&plain);
            cell.store(
                cell.load(Ordering::Relaxed).wrapping_add(black_box(1)),
                Ordering::Relaxed,
            );
            true
        }));
        fetch.push(nanoseconds(|_| {
            black_box(&shared).fetch_add(black_box(1), Ordering::Relaxed);
            true
        }));
    }
    let (floor, fetch) = (median(floor), median(fetch));
    Ok(Report {
        bench: "increment",
        cases: vec![
            Case::new("one series, sum and events, one thread", median(ours), "ns")
                .target(fetch, Better::Lower)
                .against("plain thread-local add", median(local))
                .against("single-writer load, add, store", floor)
                .against("AtomicU64::fetch_add", fetch),
            Case::new("a thousand series in turn", median(many), "ns"),
        ],
    })
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a short run")]
fn nanoseconds(mut count: impl FnMut(u64) -> bool) -> f64 {
    let begin = Instant::now();
    for n in 0..COUNTS {
        assert!(count(n), "a count was refused");
    }
    begin.elapsed().as_nanos() as f64 / COUNTS as f64
}

fn writer() -> Result<Writer<Words>> {
    let config = EngineConfig {
        agent: AgentId::new("bench-1")?,
        window: WindowWidth::from_secs(10)?,
        writers: vec![WRITER.to_owned()],
        series_max: 4096,
        key_bytes: 1 << 20,
        spool: LogConfig {
            segment_bytes: 1 << 20,
            bytes_max: 1 << 24,
        }
        .into(),
        ship: ShipConfig::default(),
    };
    let start = Start {
        now: Timestamp::from_secs(1_780_315_200),
        boot_id: [1; 16],
        random: [2; 16],
    };
    let (engine, _) = Engine::start(
        &config,
        &mut MemoryHome::default(),
        MemoryStorage::new(1),
        start,
    )?;
    Ok(engine.writer(WRITER)?)
}

fn series(index: usize) -> Result<SeriesKey> {
    let dimensions = Dimensions::new([("region", "eu-central-1"), ("pop", &format!("p{index}"))])?;
    Ok(SeriesKey::new(
        TenantId::new("acme")?,
        MeterName::new("http.requests")?,
        dimensions,
    )?)
}
