//! The course of a demo.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Args;
use crate::figures::Figures;
use crate::http;
use crate::load::Loads;
use crate::process::{self, Process, Role};
use crate::report::Report;
use crate::table::Table;
use crate::world::{AGENTS, PERIOD_SECS, SETTLEMENT_SECS, World};

/// How long processes may take to start, stop and settle.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a killed process stays dead.
const DEAD: Duration = Duration::from_millis(700);

/// Runs the demo; true if everything agrees.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let world = World::create()?;
    match course(args, &world) {
        Ok(report) => {
            if args.json {
                report.write_json()?;
            } else {
                report.write_text()?;
            }
            if args.keep {
                let folder = world.keep();
                if !args.json {
                    report.write_line(&format!("everything is kept in {}", folder.display()))?;
                }
            }
            Ok(report.agrees())
        }
        Err(error) => {
            let folder = world.keep();
            Err(error.context(format!(
                "failed; logs and data are kept in {}",
                folder.display()
            )))
        }
    }
}

fn course(args: &Args, world: &World) -> Result<Report> {
    let mut table = Table::new(args.json);
    table.say(
        "starting a collector and two agents on loopback, with certificates of a CA made just now",
    )?;
    let mut collector = Process::start(Role::Collector, "collector", &world.config("collector"))?;
    wait_for_collector(world, &mut collector)?;
    let first = Process::start(Role::Agent, AGENTS[0], &world.config(AGENTS[0]))?;
    let mut second = Process::start(Role::Agent, AGENTS[1], &world.config(AGENTS[1]))?;
    wait_for_agents(world)?;
    let loads = Loads::start(world)?;

    let begin = Instant::now();
    let total = Duration::from_secs(args.seconds);
    let (mut agent_killed, mut collector_killed) = (false, false);
    while begin.elapsed() < total {
        if !agent_killed && begin.elapsed() > total / 3 {
            second.kill()?;
            std::thread::sleep(DEAD);
            second = Process::start(Role::Agent, AGENTS[1], &world.config(AGENTS[1]))?;
            agent_killed = true;
            table.say(&format!(
                "killed {} (SIGKILL) in the middle of its window and started it again",
                AGENTS[1]
            ))?;
        }
        if !collector_killed && begin.elapsed() > total * 2 / 3 {
            collector.kill()?;
            std::thread::sleep(DEAD);
            collector = Process::start(Role::Collector, "collector", &world.config("collector"))?;
            collector_killed = true;
            table.say("killed the collector (SIGKILL) and started it again")?;
            wait_for_collector(world, &mut collector)?;
        }
        table.draw(&Figures::read(world.http)?, begin.elapsed())?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let (lines, acknowledged) = loads.finish();
    table.say("the load is over; the agents stop (SIGTERM): they seal and ship what they have")?;
    first.stop(PATIENCE)?;
    second.stop(PATIENCE)?;
    table.say(&format!(
        "waiting for the last {PERIOD_SECS}-second period to end, settle and close"
    ))?;
    let figures = settled(world, &mut collector)?;
    let verified = verify(world)?;
    collector.stop(PATIENCE)?;
    let restarts = u32::from(agent_killed) + u32::from(collector_killed);
    Report::new(&figures, &acknowledged, lines, restarts, verified)
}

fn wait_for_collector(world: &World, collector: &mut Process) -> Result<()> {
    let begin = Instant::now();
    while http::get(world.http, "/readyz").is_err() {
        if !collector.is_running() {
            bail!("the collector ended by itself");
        }
        if begin.elapsed() > PATIENCE {
            bail!("the collector was not ready within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn wait_for_agents(world: &World) -> Result<()> {
    let begin = Instant::now();
    let connected = |agent| {
        std::os::unix::net::UnixStream::connect(world.admin_socket(agent)).is_ok()
            && world.dogstatsd_socket(agent).exists()
    };
    while !AGENTS.iter().all(|agent| connected(agent)) {
        if begin.elapsed() > PATIENCE {
            bail!("the agents were not ready within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until every period is closed and booked.
fn settled(world: &World, collector: &mut Process) -> Result<Figures> {
    let limit = PATIENCE + Duration::from_secs(PERIOD_SECS + SETTLEMENT_SECS);
    let begin = Instant::now();
    loop {
        let figures = Figures::read(world.http)?;
        if figures.is_settled()? {
            return Ok(figures);
        }
        if !collector.is_running() {
            bail!("the collector ended by itself");
        }
        if begin.elapsed() > limit {
            bail!(
                "not everything was booked within {limit:?}: {} periods are open; {:?}",
                figures.open_periods,
                figures.accounts
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `tollgate-collector ledger verify` in a process of its own, on the data as it lies on disk.
fn verify(world: &World) -> Result<bool> {
    let output = process::command(Role::Collector)?
        .args(["ledger", "verify", "--json", "--config"])
        .arg(world.config("collector"))
        .output()
        .context("ledger verify could not be started")?;
    Ok(output.status.success())
}
