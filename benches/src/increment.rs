//! `increment`: nanoseconds for one count on the hot path.
//!
//! An application's handles of the SDK and the agent's own writer, beside the counters that
//! people use today and beside what a plain word costs. The variants run in turn within each
//! round, so that a change of the machine's speed meets all of them; the median over the
//! rounds counts. A figure with two threads is the time one thread takes for one count while
//! the other one counts on the same series.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use anyhow::{Context, Result};
use tollgate_agent_core::aggregate::{CellsHome, SeriesLimits, Slot, Writer};
use tollgate_agent_core::engine::{Engine, EngineConfig, Start};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{
    AgentId, Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId, Timestamp, WindowWidth,
};

use crate::peers::{self, Facade, OpenTelemetry, Prometheus};
use crate::report::{Better, Case, Report, median};

const ROUNDS: usize = 7;
const COUNTS: u64 = 10_000_000;
/// The slow variants: the peers take up to 150 ns.
const FEW: u64 = 1_000_000;
const WRITER: &str = "bench";

const FLOOR: &str = "plain single-writer load, add, store";
const FETCH: &str = "AtomicU64::fetch_add";
const LOCAL_ADD: &str = "plain thread-local add";

/// The dimensions that the ad-hoc variants take in turn.
const VALUES: [peers::Dimensions; 4] = [
    ["GET", "200", "eu-central-1"],
    ["POST", "201", "eu-central-1"],
    ["GET", "404", "us-east-1"],
    ["PUT", "500", "ap-south-1"],
];

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

/// The times of every variant, round by round.
#[derive(Default)]
struct Times(BTreeMap<&'static str, Vec<f64>>);

impl Times {
    fn add(&mut self, variant: &'static str, nanoseconds: f64) {
        self.0.entry(variant).or_default().push(nanoseconds);
    }

    fn median(&mut self, variant: &'static str) -> f64 {
        median(self.0.remove(variant).unwrap_or_default())
    }
}

/// Runs all variants.
pub(crate) fn run() -> Result<Report> {
    tollgate::Options::default()
        .without_thread()
        .install()
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Facade::install()?;
    let mut times = Times::default();
    let peers = Peers::new()?;
    let mut ours = Ours::new()?;
    for _ in 0..ROUNDS {
        ours.round(&mut times);
        floors(&mut times);
        peers.round(&mut times);
    }
    Ok(Report {
        bench: "increment",
        cases: cases(&mut times),
    })
}

fn cases(times: &mut Times) -> Vec<Case> {
    let floor = times.median(FLOOR);
    let shared = times.median("shared");
    let adhoc = [
        ("prometheus with_label_values", "prometheus ad hoc"),
        ("metrics counter!", "metrics ad hoc"),
        ("OpenTelemetry with 3 attributes", "otel ad hoc"),
    ]
    .map(|(label, variant)| (label, times.median(variant)));
    let best = adhoc.iter().map(|(_, ns)| *ns).fold(f64::MAX, f64::min);
    let mut bound = Case::new(
        "SDK handle bound to its thread",
        times.median("bound"),
        "ns",
    )
    .target(floor * 1.5, Better::Lower)
    .against(FLOOR, floor)
    .against(LOCAL_ADD, times.median(LOCAL_ADD))
    .against(FETCH, times.median(FETCH));
    let mut one = Case::new("SDK handle shared, 1 thread", shared, "ns").target(3.5, Better::Lower);
    let mut two = Case::new(
        "SDK handle shared, 2 threads",
        times.median("shared 2"),
        "ns",
    )
    // No slower than with one thread, but for noise.
    .target(3.5f64.min(shared * 1.15), Better::Lower);
    for (peer, one_thread, two_threads) in [
        ("prometheus cached", "prometheus 1", "prometheus 2"),
        ("metrics cached", "metrics 1", "metrics 2"),
        ("OpenTelemetry bound", "otel 1", "otel 2"),
    ] {
        let ns = times.median(one_thread);
        bound = bound.against(peer, ns);
        one = one.against(peer, ns);
        two = two.against(peer, times.median(two_threads));
    }
    let mut dimensions = Case::new("SDK, 3 ad-hoc dimensions", times.median("ad hoc"), "ns")
        .target(best / 3.0, Better::Lower);
    for (label, ns) in adhoc {
        dimensions = dimensions.against(label, ns);
    }
    vec![
        bound,
        one,
        two,
        dimensions,
        Case::new("agent's writer, one series", times.median("writer"), "ns"),
        Case::new(
            "agent's writer, a thousand series in turn",
            times.median("writer 1000"),
            "ns",
        ),
    ]
}

fn floors(times: &mut Times) {
    let (plain, shared) = (AtomicU64::new(0), AtomicU64::new(0));
    times.add(
        LOCAL_ADD,
        nanoseconds(COUNTS, |_| {
            LOCAL.with(|cell| cell.set(cell.get().wrapping_add(black_box(1))));
        }),
    );
    times.add(
        FLOOR,
        nanoseconds(COUNTS, |_| {
            let cell = black_box(&plain);
            let next = cell.load(Ordering::Relaxed).wrapping_add(black_box(1));
            cell.store(next, Ordering::Relaxed);
        }),
    );
    times.add(
        FETCH,
        nanoseconds(COUNTS, |_| {
            black_box(&shared).fetch_add(black_box(1), Ordering::Relaxed);
        }),
    );
}

struct Peers {
    prometheus: Prometheus,
    otel: OpenTelemetry,
}

impl Peers {
    fn new() -> Result<Self> {
        Ok(Self {
            prometheus: Prometheus::new()?,
            otel: OpenTelemetry::new(),
        })
    }

    fn round(&self, times: &mut Times) {
        let (prometheus, facade) = (
            self.prometheus.cached(&VALUES[0]),
            Facade::cached(&VALUES[0]),
        );
        let bound = self.otel.bound(&VALUES[0]);
        for (variant, threads) in [("prometheus 1", 1), ("prometheus 2", 2)] {
            let ns = together(threads, || black_box(&prometheus).inc_by(black_box(1)));
            times.add(variant, ns);
        }
        for (variant, threads) in [("metrics 1", 1), ("metrics 2", 2)] {
            let ns = together(threads, || black_box(&facade).increment(black_box(1)));
            times.add(variant, ns);
        }
        for (variant, threads) in [("otel 1", 1), ("otel 2", 2)] {
            let ns = together(threads, || black_box(&bound).add(black_box(1)));
            times.add(variant, ns);
        }
        let turn = |n: u64| black_box(&VALUES[usize::try_from(n % 4).unwrap_or(0)]);
        times.add(
            "prometheus ad hoc",
            nanoseconds(FEW, |n| self.prometheus.count(turn(n))),
        );
        times.add(
            "metrics ad hoc",
            nanoseconds(FEW, |n| Facade::count(turn(n))),
        );
        times.add(
            "otel ad hoc",
            nanoseconds(FEW, |n| self.otel.count(turn(n))),
        );
    }
}

struct Ours {
    meter: tollgate::Meter,
    counter: tollgate::Counter,
    writer: Writer<Words>,
    slots: Vec<Slot>,
}

impl Ours {
    fn new() -> Result<Self> {
        let mut writer = writer()?;
        let slots = (0..1000)
            .map(|index| {
                writer
                    .resolve(&series(index)?, Aggregation::Sum, Scale::ZERO)
                    .context("a free slot")
            })
            .collect::<Result<_>>()?;
        let meter = tollgate::Meter::new("http.requests")?;
        let dimensions: Vec<_> = peers::NAMES.into_iter().zip(VALUES[0]).collect();
        Ok(Self {
            counter: meter.counter("acme", &dimensions)?,
            meter,
            writer,
            slots,
        })
    }

    fn round(&mut self, times: &mut Times) {
        let local = self.counter.local();
        times.add(
            "bound",
            nanoseconds(COUNTS, |_| black_box(&local).add(black_box(1))),
        );
        for (variant, threads) in [("shared", 1), ("shared 2", 2)] {
            let ns = together(threads, || black_box(&self.counter).add(black_box(1)));
            times.add(variant, ns);
        }
        let meter = &self.meter;
        times.add(
            "ad hoc",
            nanoseconds(FEW, |n| {
                let [method, status, region] =
                    *black_box(&VALUES[usize::try_from(n % 4).unwrap_or(0)]);
                tollgate::count!(
                    meter, "acme", 1,
                    "method" => method, "status" => status, "region" => region
                );
            }),
        );
        let (writer, slots) = (&mut self.writer, &self.slots);
        let mut refused = 0u64;
        times.add(
            "writer",
            nanoseconds(COUNTS, |_| {
                refused += u64::from(writer.add(black_box(slots[0]), black_box(1)).is_err());
            }),
        );
        times.add(
            "writer 1000",
            nanoseconds(COUNTS, |n| {
                let slot = slots[usize::try_from(n % 1000).unwrap_or(0)];
                refused += u64::from(writer.add(black_box(slot), black_box(1)).is_err());
            }),
        );
        assert_eq!(refused, 0, "a count was refused");
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a short run")]
fn nanoseconds(counts: u64, mut count: impl FnMut(u64)) -> f64 {
    let begin = Instant::now();
    for n in 0..counts {
        count(n);
    }
    begin.elapsed().as_nanos() as f64 / counts as f64
}

/// The time of one count when `threads` threads count at once: the slowest thread's.
fn together(threads: usize, count: impl Fn() + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let one = || {
        // A thread's first count finds its cell.
        count();
        barrier.wait();
        nanoseconds(COUNTS, |_| count())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let mine = one();
        others
            .into_iter()
            .map(|thread| thread.join().expect("counting does not panic"))
            .fold(mine, f64::max)
    })
}

fn writer() -> Result<Writer<Words>> {
    let config = EngineConfig {
        agent: AgentId::new("bench-1")?,
        window: WindowWidth::from_secs(10)?,
        writers: vec![WRITER.to_owned()],
        series_max: 4096,
        key_bytes: 1 << 20,
        limits: SeriesLimits::default(),
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
