//! A backlog that waits on an agent's disk, shipped by the real agent to the real collector.
//!
//! The two share the machine. The clock runs from the collector's welcome to the moment at which
//! the agent has let go of its last batch: read, sent, journaled, synced, acknowledged.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tollgate_common::AgentId;
use tollgate_common::log::{LogConfig, SegmentLog};
use tollgate_common::storage::file::DirStorage;
use tollgate_common::wire::RecordEncoder;

use crate::binaries::{self, Binaries, Running, wait_until};
use crate::process::usage;
use crate::report::{Better, Case};
use crate::setup;
use crate::workload::Workload;

/// Rollups of the backlog.
const ROLLUPS: usize = 4_000_000;
/// Longest time that starting or draining may take.
const LIMIT: Duration = Duration::from_mins(2);
/// How often the agent is asked.
const LOOK: Duration = Duration::from_millis(20);

/// A backlog of batches of 20,000 series, and one of batches of 200,000.
pub(super) fn run() -> Result<Vec<Case>> {
    let binaries = binaries::build()?;
    let mut cases = Vec::new();
    for (series, target) in [(20_000, Some(1.0)), (200_000, None)] {
        let drained = drain(&binaries, series)?;
        let name = format!("drain to a local collector, {series} series a batch");
        let mut case = Case::new(name, drained.rate / 1e6, "million rollups/s");
        if let Some(target) = target {
            case = case.target(target, Better::Higher);
        }
        cases.push(case);
        for (side, cpu) in [("agent", drained.agent), ("collector", drained.collector)] {
            let name = format!("{side} CPU meanwhile, for a million rollups");
            cases.push(Case::new(name, cpu, "s"));
        }
    }
    Ok(cases)
}

/// Rollups per second, and the seconds of a core that each side took for a million of them.
struct Drained {
    rate: f64,
    agent: f64,
    collector: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a few million rollups")]
fn drain(binaries: &Binaries, series: usize) -> Result<Drained> {
    // On the disk, as a state directory would be.
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let folder = folder.path();
    let (listen, http) = (setup::free_port()?, setup::free_port()?);
    let metrics = setup::free_port()?;
    setup::make_pki(binaries, folder)?;
    setup::write_collector_config(folder, listen, http)?;
    setup::write_agent_config(folder, listen, None)?;
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(folder.join("agent.toml"))?;
    writeln!(config, "\n[metrics]\nlisten = \"{metrics}\"")?;
    let batches = ROLLUPS / series;
    fill(&folder.join("state"), series, batches)?;

    let agent = Running::start(
        Command::new(&binaries.agent)
            .arg("run")
            .arg("--config")
            .arg(folder.join("agent.toml")),
    )?;
    wait_until("tollgate-agent", LIMIT, || {
        waiting(metrics).is_ok_and(|waiting| waiting >= batches)
    })?;
    let collector = setup::start_collector(binaries, folder, http)?;
    let began = Instant::now();
    // A busy agent may put off an answer; then it is asked again.
    while !setup::metric(metrics, "tollgate_agent_connected").is_ok_and(|connected| connected > 0.0)
    {
        pause(began)?;
    }
    let before = [usage(agent.pid())?.cpu, usage(collector.pid())?.cpu];
    let began = Instant::now();
    while !waiting(metrics).is_ok_and(|waiting| waiting == 0) {
        pause(began)?;
    }
    let took = began.elapsed();
    let after = [usage(agent.pid())?.cpu, usage(collector.pid())?.cpu];
    let rollups = (series * batches) as f64;
    let per_million =
        |side: usize| after[side].saturating_sub(before[side]).as_secs_f64() * 1e6 / rollups;
    Ok(Drained {
        rate: rollups / took.as_secs_f64(),
        agent: per_million(0),
        collector: per_million(1),
    })
}

fn pause(since: Instant) -> Result<()> {
    if since.elapsed() > LIMIT {
        bail!("the backlog was not drained within {LIMIT:?}");
    }
    std::thread::sleep(LOOK);
    Ok(())
}

/// Writes the spool of an agent that stopped in order while no collector was there.
fn fill(state: &Path, series: usize, batches: usize) -> Result<()> {
    let mut workload = Workload::new(series, 3).of_agent(AgentId::new(setup::AGENT)?);
    let storage = DirStorage::open_or_create(&state.join("spool"))?;
    let config = LogConfig {
        segment_bytes: 16 << 20,
        bytes_max: 8 << 30,
    };
    let (mut log, _) = SegmentLog::open(storage, config)?;
    let (mut encoder, mut record) = (RecordEncoder::new(), Vec::new());
    for number in 1..=batches {
        let batch = if number == batches {
            workload.last_batch()
        } else {
            workload.batch()
        };
        record.clear();
        encoder.batch(&batch, &mut record)?;
        log.append(&record)?;
        log.sync()?;
    }
    Ok(())
}

/// Batches that the agent has not let go.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number below a million"
)]
fn waiting(metrics: SocketAddr) -> Result<usize> {
    Ok(setup::metric(metrics, "tollgate_agent_spool_batches")? as usize)
}
