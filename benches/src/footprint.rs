//! `footprint`: what an idle agent costs its host, and the size of the binaries.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::binaries::{self, Running, wait_until};
use crate::process::usage;
use crate::report::{Better, Case, Report, median};
use crate::setup;

const RUNS: usize = 3;
const IDLE: Duration = Duration::from_secs(10);

/// Runs an agent with nothing to do, connected to a collector.
pub(crate) fn run() -> Result<Report> {
    let binaries = binaries::build()?;
    let folder = tempfile::tempdir()?;
    let (listen, http) = (setup::free_port()?, setup::free_port()?);
    setup::make_pki(&binaries, folder.path())?;
    setup::write_collector_config(folder.path(), listen, http)?;
    setup::write_agent_config(folder.path(), listen, Some(setup::free_port()?))?;
    let _collector = setup::start_collector(&binaries, folder.path(), http)?;
    let (mut resident, mut share) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let agent = Running::start(
            Command::new(&binaries.agent)
                .arg("run")
                .arg("--config")
                .arg(folder.path().join("agent.toml")),
        )?;
        wait_until("tollgate-agent", Duration::from_secs(10), || {
            setup::agent_status(&binaries, folder.path()).is_ok()
        })?;
        std::thread::sleep(Duration::from_secs(1));
        let (begin, before) = (Instant::now(), usage(agent.pid())?.cpu);
        std::thread::sleep(IDLE);
        let after = usage(agent.pid())?;
        share.push(
            after.cpu.saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64() * 100.0,
        );
        resident.push(mebibytes(after.resident_bytes));
    }
    Ok(Report {
        bench: "footprint",
        cases: vec![
            Case::new("idle agent, resident", median(resident), "MiB").target(12.0, Better::Lower),
            Case::new("idle agent, share of a core", median(share), "%").target(0.2, Better::Lower),
            Case::new(
                "tollgate-agent, file size",
                mebibytes(fs::metadata(&binaries.agent)?.len()),
                "MiB",
            )
            .target(12.0, Better::Lower),
            Case::new(
                "tollgate-collector, file size",
                mebibytes(fs::metadata(&binaries.collector)?.len()),
                "MiB",
            ),
        ],
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of processes and files are below 2^52"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
