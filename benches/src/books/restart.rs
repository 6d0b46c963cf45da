//! `restart`: the real collector starts on a journal of ten gigabytes and a snapshot.
//!
//! What lies before the snapshot is weighed by nobody: its entries are copies of a few. Behind it
//! stand as many rollups as the collector ever lets gather before it takes the next snapshot.
//! [`SIZE`] in the environment makes all of it smaller, for a look.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tollgate_collector::run::DataDir;
use tollgate_collector::sqlite::SqliteProjection;
use tollgate_collector_core::entry::codec::{EntryDecoder, EntryEncoder};
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::journal::Journal;
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, Transaction};
use tollgate_common::log::LogConfig;

use super::population::{Population, Shape};
use crate::binaries::{self, Running, wait_until};
use crate::process::usage;
use crate::report::{Better, Case, Report};
use crate::setup;

/// The variable that says how many gigabytes the journal has, from 1 to 10.
const SIZE: &str = "TOLLGATE_BENCH_JOURNAL_GB";
/// The journal is at least so long if nothing is said.
const JOURNAL_GIGABYTES: u32 = 10;
/// Windows behind the snapshot for each gigabyte, of a million rollups each: a snapshot is taken
/// after 40 million.
const TAIL_WINDOWS: u32 = 4;
const PARTITIONS: u16 = 8;
/// Most that may wait for a commit.
const GROUP_BYTES: usize = 16 << 20;
const DEADLINE: Duration = Duration::from_mins(10);

pub(crate) fn run() -> Result<Report> {
    let gigabytes = gigabytes()?;
    let binaries = binaries::build()?;
    let folder = tempfile::tempdir()?;
    let (listen, http) = (setup::free_port()?, setup::free_port()?);
    setup::make_pki(&binaries, folder.path())?;
    setup::write_collector_config(folder.path(), listen, http)?;
    let written = write(&folder.path().join("data"), gigabytes)?;

    let begin = Instant::now();
    let running = Running::start(
        Command::new(&binaries.collector)
            .arg("run")
            .arg("--config")
            .arg(folder.path().join("collector.toml")),
    )?;
    wait_until("tollgate-collector", DEADLINE, || {
        setup::http_ok(http, "/readyz")
    })?;
    let took = begin.elapsed().as_secs_f64();
    let used = usage(running.pid())?;
    #[expect(clippy::cast_precision_loss, reason = "some ten gigabytes")]
    let [journal, snapshot, resident] = [
        written.journal as f64 / 1e9,
        written.snapshot as f64 / 1e6,
        used.resident_bytes as f64 / 1e6,
    ];
    #[expect(clippy::cast_precision_loss, reason = "forty million")]
    let rollups = written.rollups as f64;
    Ok(Report {
        bench: "restart",
        cases: vec![
            Case::new("from the start to ready", took, "s").target(60.0, Better::Lower),
            Case::new(
                "rollups behind the snapshot, a second of a core",
                rollups / used.cpu.as_secs_f64(),
                "rollups/s",
            )
            .target(2e6, Better::Higher),
            Case::new(
                "the same, a second of the clock",
                rollups / took,
                "rollups/s",
            ),
            Case::new("journal", journal, "GB"),
            Case::new("snapshot", snapshot, "MB"),
            Case::new("resident", resident, "MB"),
        ],
    })
}

/// How long the journal is to be.
fn gigabytes() -> Result<u32> {
    let Some(said) = std::env::var_os(SIZE) else {
        return Ok(JOURNAL_GIGABYTES);
    };
    let number = said.to_str().and_then(|said| said.parse().ok());
    number
        .filter(|number| (1..=JOURNAL_GIGABYTES).contains(number))
        .with_context(|| format!("{SIZE} is a whole number from 1 to {JOURNAL_GIGABYTES}"))
}

/// How much was written.
struct Written {
    journal: u64,
    snapshot: usize,
    /// Behind the snapshot.
    rollups: u64,
}

/// Writes a journal, a snapshot of it, and a projection that stands at its end.
fn write(data: &Path, gigabytes: u32) -> Result<Written> {
    let shape = Shape::LARGE;
    let (length, tail) = (
        u64::from(gigabytes) * 1_000_000_000,
        gigabytes * TAIL_WINDOWS,
    );
    let dir = DataDir::new(data);
    let _lock = dir.lock()?;
    let config = LogConfig {
        segment_bytes: 256 << 20,
        bytes_max: 4 * length,
    };
    let (mut journal, _) = dir.open_journal(config)?;
    let epoch = journal.acquire(PARTITION)?;
    let mut population = Population::new(shape)?;
    let (mut encoder, mut decoder) = (EntryEncoder::new(), EntryDecoder::new());
    let mut fold = Fold::new();
    let mut first = Vec::new();
    let beginning: Vec<_> = population.beginning(PARTITIONS)?.into();
    for stamped in beginning.into_iter().chain(population.window(0)) {
        first.push(encoder.encode(&stamped.entry)?.stamped(stamped.stamp));
    }
    let mut bytes = 0;
    let position = append(&mut journal, &first, &mut bytes)?;
    for entry in &first {
        drop(fold.apply(position, &decoder.decode(entry)?));
    }
    // Batches alone: what is said twice of a catalog would be another version.
    let filler: Vec<_> = first.split_off(2);
    let mut position = position;
    while bytes < length {
        position = append(&mut journal, &filler, &mut bytes)?;
    }
    let (intake, tenants, _) = fold.into_parts();
    let content = Fold::from_parts(intake, tenants, Some(position)).to_bytes();
    dir.snapshots()?.save_bytes(position, &content)?;
    for window in 1..=tail {
        let mut entries = Vec::new();
        for stamped in population.window(window) {
            entries.push(encoder.encode(&stamped.entry)?.stamped(stamped.stamp));
        }
        position = append(&mut journal, &entries, &mut bytes)?;
    }
    SqliteProjection::open(&dir.projection())?.commit(&Transaction {
        partition: PARTITION,
        epoch,
        after: None,
        upto: position,
        effects: Vec::new(),
    })?;
    Ok(Written {
        journal: bytes,
        snapshot: content.len(),
        rollups: u64::from(tail) * shape.all_series() as u64,
    })
}

/// Appends entries in groups; says where the last one stands.
fn append(journal: &mut impl Journal, entries: &[Vec<u8>], bytes: &mut u64) -> Result<Position> {
    let mut last = None;
    let mut staged = 0;
    for (index, entry) in entries.iter().enumerate() {
        journal.append(PARTITION, entry)?;
        staged += entry.len();
        *bytes += entry.len() as u64;
        if staged >= GROUP_BYTES || index + 1 == entries.len() {
            last = journal.commit(PARTITION)?.pop();
            staged = 0;
        }
    }
    last.context("at least one entry")
}
