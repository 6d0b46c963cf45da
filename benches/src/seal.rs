//! `seal` and `series-memory`: a million active series, their seal and what they take.
//!
//! The cells are the real agent's: a file in a state directory, allocated in full and mapped, of
//! which only those pages are resident that something was stored to.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tollgate_agent::{MappedCells, StateDir};
use tollgate_agent_core::aggregate::{Slot, Writer};
use tollgate_agent_core::engine::{Engine, EngineConfig, Start};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::file::DirStorage;
use tollgate_common::{
    AgentId, Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId, Timestamp, WindowWidth,
};

use crate::report::{Better, Case, Report, median};

const SERIES: u32 = 1_000_000;
const ROUNDS: usize = 5;
/// Series of the writer whose increments are timed.
const TIMED: usize = 1000;
const START_SECS: i64 = 1_780_315_200;
const WIDTH_SECS: u32 = 10;

type BenchEngine = Engine<MappedCells, DirStorage>;

struct Setup {
    engine: BenchEngine,
    writer: Writer<MappedCells>,
    slots: Vec<Slot>,
    key_bytes: usize,
    secs: i64,
    /// How long it took to make each series, in nanoseconds.
    made: Histogram<u64>,
    _state: StateDir,
    _dir: tempfile::TempDir,
}

fn key(index: u32) -> Result<SeriesKey> {
    let (tenant, pop) = (index % 997, index / 997 % 16);
    let dimensions = Dimensions::new([
        ("customer.path", format!("/v1/items/{}", index / 997 / 16)),
        ("pop", format!("p{pop}")),
        ("region", "eu-central-1".to_owned()),
    ])?;
    Ok(SeriesKey::new(
        TenantId::new(&format!("tenant-{tenant:04}"))?,
        MeterName::new("http.requests")?,
        dimensions,
    )?)
}

impl Setup {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir().context("a directory for the spool")?;
        let config = EngineConfig {
            agent: AgentId::new("bench-1")?,
            window: WindowWidth::from_secs(WIDTH_SECS)?,
            writers: vec!["million".to_owned(), "timed".to_owned()],
            series_max: SERIES,
            key_bytes: u64::from(SERIES) * 96,
            limits: tollgate_agent_core::aggregate::SeriesLimits::default(),
            spool: LogConfig {
                segment_bytes: 64 << 20,
                bytes_max: 4 << 30,
            }
            .into(),
            ship: ShipConfig::default(),
        };
        let start = Start {
            now: Timestamp::from_secs(START_SECS),
            boot_id: [1; 16],
            random: [2; 16],
        };
        let state = StateDir::open(dir.path())?;
        let (engine, _) = Engine::start(&config, &mut state.cells(), state.spool()?, start)?;
        let writer = engine.writer("million")?;
        Ok(Self {
            engine,
            writer,
            slots: Vec::new(),
            key_bytes: 0,
            secs: START_SECS,
            made: Histogram::new(3)?,
            _state: state,
            _dir: dir,
        })
    }

    fn resolve(&mut self) -> Result<()> {
        self.slots.reserve_exact(SERIES as usize);
        for index in 0..SERIES {
            let key = key(index)?;
            self.key_bytes += key.canonical_len();
            let start = Instant::now();
            let slot = self.writer.resolve(&key, Aggregation::Sum, Scale::ZERO)?;
            let elapsed = u64::try_from(start.elapsed().as_nanos())?;
            self.made.record(elapsed)?;
            self.slots.push(slot);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<()> {
        for (slot, n) in self.slots.iter().zip(0u64..) {
            self.writer.add(*slot, 100 + n * 31 % 5000)?;
        }
        Ok(())
    }

    /// Milliseconds of this thread's core, and of the clock, for one seal.
    fn seal(&mut self) -> Result<(f64, f64)> {
        self.secs += i64::from(WIDTH_SECS);
        let (core, clock) = (core_millis(), Instant::now());
        self.engine.handle_tick(Timestamp::from_secs(self.secs))?;
        let elapsed = clock.elapsed().as_secs_f64() * 1e3;
        Ok((core_millis() - core, elapsed))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds and nanoseconds of one run"
)]
fn core_millis() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Times single increments until told to stop.
fn timed(writer: &mut Writer<MappedCells>, stop: &AtomicBool) -> Result<Histogram<u64>> {
    let mut slots = Vec::new();
    for index in 0..TIMED {
        let key = key(u32::try_from(index)?)?;
        slots.push(writer.resolve(&key, Aggregation::Sum, Scale::ZERO)?);
    }
    let mut histogram = Histogram::new(3)?;
    for slot in slots.iter().cycle() {
        if stop.load(Relaxed) {
            break;
        }
        let start = Instant::now();
        writer.add(*slot, 1)?;
        histogram.record(u64::try_from(start.elapsed().as_nanos())?)?;
    }
    Ok(histogram)
}

/// One round of what `work` does while another thread's increments are timed.
fn beside<T>(
    writer: &mut Writer<MappedCells>,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Histogram<u64>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let timing = scope.spawn(|| timed(writer, &stop));
        let done = work();
        stop.store(true, Relaxed);
        let histogram = timing.join().expect("timing does not panic")?;
        Ok((done?, histogram))
    })
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds")]
fn latencies(cases: &mut Vec<Case>, when: &str, (quiet, busy): (&Histogram<u64>, &Histogram<u64>)) {
    for (name, quantile) in [
        ("p50", 0.5),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("p99.99", 0.9999),
    ] {
        let of = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile) as f64;
        cases.push(
            Case::new(
                format!("one increment {when}, clock read included, {name}"),
                of(busy),
                "ns",
            )
            .against("with nothing else going on", of(quiet)),
        );
    }
}

pub(crate) fn seal() -> Result<Report> {
    let mut setup = Setup::new()?;
    let mut writer = setup.engine.writer("timed")?;
    let ((), making) = beside(&mut writer, || setup.resolve())?;
    setup.count()?;
    let (first, _) = setup.seal()?;
    let (mut idle, mut core, mut clock) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        idle.push(setup.seal()?.0);
        setup.count()?;
        let (core_millis, clock_millis) = setup.seal()?;
        core.push(core_millis);
        clock.push(clock_millis);
    }
    let ((), quiet) = beside(&mut writer, || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        Ok(())
    })?;
    let ((), sealing) = beside(&mut writer, || {
        for _ in 0..ROUNDS {
            setup.count()?;
            setup.seal()?;
        }
        Ok(())
    })?;
    let mut cases = vec![
        Case::new("a million active series, core time", median(core), "ms")
            .target(250.0, Better::Lower),
        Case::new(
            "of it: looking at a million series, none active",
            median(idle),
            "ms",
        ),
        Case::new(
            "a million active series, clock time with the spool",
            median(clock),
            "ms",
        ),
        Case::new(
            "the first seal, which sorts a million new series, core time",
            first,
            "ms",
        ),
    ];
    latencies(&mut cases, "during seals", (&quiet, &sealing));
    latencies(
        &mut cases,
        "of another input while series are made",
        (&quiet, &making),
    );
    for (name, value) in [
        ("p99.9", setup.made.value_at_quantile(0.999)),
        ("the longest", setup.made.max()),
    ] {
        let name = format!("making one of a million series, {name}");
        cases.push(Case::new(name, micros(value), "us"));
    }
    Ok(Report {
        bench: "seal",
        cases,
    })
}

/// A field of `/proc/self/status` in bytes: `VmRSS`, or `VmHWM`, the most of that since it was
/// last forgotten.
fn memory_field(field: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let line = line.context("the kernel does not tell how much memory is resident")?;
    let number = line.trim_matches(|c: char| !c.is_ascii_digit());
    Ok(number.parse::<u64>()? * 1024)
}

/// What `work` leaves resident, and the most that was resident meanwhile.
fn resident(work: impl FnOnce() -> Result<()>) -> Result<(u64, u64)> {
    // Forgets the most so far (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5")?;
    work()?;
    Ok((memory_field("VmRSS:")?, memory_field("VmHWM:")?))
}

#[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
pub(crate) fn memory() -> Result<Report> {
    let mut setup = Setup::new()?;
    // The bench's own list of slots is none of the agent's.
    setup.slots = vec![Slot::from_bits(1); SERIES as usize];
    setup.slots.clear();
    let before = memory_field("VmRSS:")?;
    let (made, making) = resident(|| setup.resolve())?;
    let (first, first_most) = resident(|| {
        setup.count()?;
        setup.seal().map(drop)
    })?;
    let (after, most) = resident(|| {
        for _ in 0..3 {
            setup.count()?;
            setup.seal()?;
        }
        Ok(())
    })?;
    let per = |bytes: u64| {
        let bytes = bytes.saturating_sub(before);
        (bytes as f64 - setup.key_bytes as f64) / f64::from(SERIES)
    };
    let case = |name, bytes| Case::new(name, per(bytes), "By");
    let named = "a series beside its key, after four seals";
    Ok(Report {
        bench: "series-memory",
        cases: vec![
            case(named, after).target(128.0, Better::Lower),
            case("the same, at most during a seal", most).target(128.0, Better::Lower),
            case("the same, before the first seal", made),
            case("the same, at most while series are made", making),
            case("the same, after the first seal", first),
            case("the same, at most during the first seal", first_most),
            Case::new("a key", setup.key_bytes as f64 / f64::from(SERIES), "By"),
        ],
    })
}
