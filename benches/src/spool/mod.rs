//! `spool`: how fast batches reach the disk, and how fast a backlog leaves it again.

mod drain;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tollgate_common::log::{LogConfig, LogItem, SegmentLog};
use tollgate_common::storage::file::DirStorage;
use tollgate_common::storage::{Storage, StorageFile};
use tollgate_common::wire::{Encoder, Message, RecordDecoder, decode_record, encode_record};

use crate::report::{Better, Case, Report};
use crate::workload::Workload;

/// Bytes that one side writes in a round.
const ROUND_BYTES: usize = 128 << 20;
/// Both sides sync after so many bytes.
const GROUP_BYTES: usize = 8 << 20;
/// One write of the side that only writes.
const CHUNK_BYTES: usize = 1 << 20;
/// Both sides take turns; the median round of each counts.
const ROUNDS: usize = 5;
/// Batches of the backlog that is drained.
const BACKLOG: usize = 40;
/// Rollups of each.
const SERIES: usize = 20_000;

pub(crate) fn run() -> Result<Report> {
    let mut workload = Workload::new(SERIES, 1);
    let mut records = Vec::with_capacity(BACKLOG);
    for _ in 0..BACKLOG {
        let mut record = Vec::new();
        encode_record(&workload.batch(), &mut record)?;
        records.push(record);
    }
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    // The very bytes of the records, so that both sides fetch as much from memory.
    let plain = records.concat();
    let (mut ours, mut disk) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        disk.push(only_write(folder.path(), round, &plain)?);
        ours.push(append(
            &folder.path().join(format!("log-{round}")),
            &records,
        )?);
    }
    // Each round beside its own neighbour: a disk that others use as well drifts.
    let shares = ours.iter().zip(&disk).map(|(ours, disk)| ours / disk);
    let share = 100.0 * median(shares.collect());
    let (ours, disk) = (median(ours), median(disk));

    let path = folder.path().join("backlog");
    fill(&path, &records)?;
    let [cached, plain, read] = stages(&path)?;
    let mut cases = drain::run()?;
    cases.splice(
        0..0,
        [
            Case::new("append, a sync per 8 MiB", ours / 1e6, "MB/s").against(
                "floor: writes of 1 MiB to one file, the same syncs",
                disk / 1e6,
            ),
            Case::new("append, share of that floor", share, "%").target(80.0, Better::Higher),
            Case::new(
                "of a drain, on one core: read, decode, encode",
                cached / 1e6,
                "million rollups/s",
            )
            .against("every record decoded on its own", plain / 1e6)
            .against("read and checked only", read / 1e6),
        ],
    );
    Ok(Report {
        bench: "spool",
        cases,
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn rate(count: usize, since: Instant) -> f64 {
    per_second(count, since.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "sizes here are far below 2^52")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What the disk takes without a log: bytes per second.
fn only_write(folder: &Path, round: usize, bytes: &[u8]) -> Result<f64> {
    let storage = DirStorage::open(folder)?;
    let name = format!("floor-{round}");
    let mut chunks = bytes.chunks_exact(CHUNK_BYTES).cycle();
    let begin = Instant::now();
    let file = storage.create(&name)?;
    let mut written = 0;
    while written < ROUND_BYTES
        && let Some(chunk) = chunks.next()
    {
        file.write_at(written as u64, chunk)?;
        written += chunk.len();
        if written.is_multiple_of(GROUP_BYTES) {
            file.sync()?;
        }
    }
    let rate = rate(written, begin);
    drop(file);
    storage.remove(&name)?;
    Ok(rate)
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 256 << 20,
        bytes_max: 8 << 30,
    }
}

/// Bytes of records per second.
fn append(folder: &Path, records: &[Vec<u8>]) -> Result<f64> {
    let storage = DirStorage::open_or_create(folder)?;
    let (mut log, _) = SegmentLog::open(storage, config())?;
    let begin = Instant::now();
    let (mut written, mut group) = (0, 0);
    for record in records.iter().cycle() {
        log.append(record)?;
        written += record.len();
        group += record.len();
        if group >= GROUP_BYTES {
            log.sync()?;
            group = 0;
        }
        if written >= ROUND_BYTES {
            break;
        }
    }
    log.sync()?;
    let rate = rate(written, begin);
    drop(log);
    std::fs::remove_dir_all(folder)?;
    Ok(rate)
}

fn fill(folder: &Path, records: &[Vec<u8>]) -> Result<()> {
    let storage = DirStorage::open_or_create(folder)?;
    let (mut log, _) = SegmentLog::open(storage, config())?;
    for record in records {
        log.append(record)?;
    }
    log.sync()?;
    Ok(())
}

/// Rollups per second of one core's time: with series shared between records, without, and only read.
fn stages(folder: &Path) -> Result<[f64; 3]> {
    let (log, _) = SegmentLog::inspect(DirStorage::open(folder)?)?;
    let mut shared = RecordDecoder::with_cache(7);
    let cached = pass(&log, |bytes| Ok(Some(shared.decode(bytes)?)))?;
    let plain = pass(&log, |bytes| Ok(Some(decode_record(bytes)?)))?;
    let read = pass(&log, |_| Ok(None))?;
    Ok([cached, plain, read])
}

fn pass(
    log: &SegmentLog<DirStorage>,
    mut decode: impl FnMut(&[u8]) -> Result<Option<Message>>,
) -> Result<f64> {
    let mut encoder = Encoder::new(1);
    let mut frame = Vec::new();
    let begin = core_time();
    let (mut from, mut count) = (log.start(), 0);
    loop {
        let items = log.read(from, 1 << 20)?;
        let Some(last) = items.last() else {
            break;
        };
        from = last.next();
        for item in &items {
            let LogItem::Record { bytes, .. } = item else {
                bail!("the backlog is damaged");
            };
            count += SERIES;
            if let Some(message) = decode(bytes)? {
                frame.clear();
                encoder.encode(&message, &mut frame)?;
                black_box(&frame);
            }
        }
    }
    Ok(per_second(count, core_time().saturating_sub(begin)))
}

/// What this thread has had of a core: a busy machine does not change the figure.
fn core_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(spent.tv_sec).unwrap_or(0),
        u32::try_from(spent.tv_nsec).unwrap_or(0),
    )
}
