//! `accrual-latency`: from a count at a real agent to the accrual that has it, rated, over HTTP.
//!
//! Agent and collector are processes of their own on loopback, under a steady load of other tenants.
//! Probes count for tenants of their own, at any point of a window, and look every 50 ms. What they
//! wait for is the rest of the window, and what this bench is about: seal, sync, shipping, journal and
//! its sync, fold, rating.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::{self, Binaries, Running, wait_until};
use crate::load::{Load, Shape};
use crate::report::{Better, Case, Report, median};
use crate::setup;

/// Other tenants' load.
const LOAD: Shape = Shape {
    series: 2000,
    datagram_bytes: 1432,
    tags: true,
};
const LINES_PER_SECOND: f64 = 20_000.0;
/// Tenants that count and look, each on a thread of its own.
const PROBES: usize = 16;
const LOOK: Duration = Duration::from_millis(50);
/// What a probe counts at a time, and what that costs more by the catalog of [`setup`], in cents.
const COUNT: u32 = 1000;
const CENTS: u64 = 40;
/// Beyond the window.
const TARGET_SECS: f64 = 2.0;
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn run() -> Result<Report> {
    let binaries = binaries::build()?;
    let mut cases = Vec::new();
    for (window, rounds) in [(1, 20), (10, 7)] {
        let measured = measure(&binaries, window, rounds)?;
        let name = format!("count to rated accrual, window {window} s");
        let target = f64::from(window) + TARGET_SECS;
        let p99 = quantile(&measured.latencies, 99);
        cases.push(Case::new(format!("{name}: p99"), p99, "s").target(target, Better::Lower));
        let middle = median(measured.latencies.clone());
        cases.push(Case::new(format!("{name}: median"), middle, "s"));
        let most = quantile(&measured.latencies, 100);
        cases.push(Case::new(format!("{name}: longest"), most, "s"));
        let age = Case::new(
            format!("{name}: oldest accrual of anybody"),
            measured.age,
            "s",
        );
        cases.push(age.target(60.0, Better::Lower));
    }
    Ok(Report {
        bench: "accrual-latency",
        cases,
    })
}

struct Measured {
    /// In seconds.
    latencies: Vec<f64>,
    /// The largest `accrual_age_seconds` that the collector said of itself.
    age: f64,
}

fn quantile(latencies: &[f64], percent: usize) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn measure(binaries: &Binaries, window: u32, rounds: usize) -> Result<Measured> {
    // On the disk, as a data folder would be.
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let folder = folder.path();
    let (listen, http) = (setup::free_port()?, setup::free_port()?);
    let dogstatsd = setup::free_port()?;
    setup::make_pki(binaries, folder)?;
    setup::write_collector_config(folder, listen, http)?;
    setup::write_agent_config(folder, listen, Some(dogstatsd))?;
    set_window(folder, window)?;
    let _collector = setup::start_collector(binaries, folder, http)?;
    let _agent = Running::start(
        Command::new(&binaries.agent)
            .arg("run")
            .arg("--config")
            .arg(folder.join("agent.toml")),
    )?;
    wait_until("tollgate-agent", LIMIT, || {
        setup::agent_status(binaries, folder).is_ok()
    })?;

    // A probe waits up to a window for its amount, and up to a window before it counts again.
    let probing = Duration::from_secs(u64::from(window) * 2 + 3);
    let all = probing * u32::try_from(rounds)?;
    let load = thread::spawn(move || Load::new(LOAD).send(dogstatsd, LINES_PER_SECOND, all));
    // Everybody is known before anything is measured.
    thread::sleep(Duration::from_secs(u64::from(window) * 2));
    let probes: Vec<_> = (0..PROBES)
        .map(|number| thread::spawn(move || probe(number, rounds, window, dogstatsd, http)))
        .collect();
    let mut age: f64 = 0.0;
    while probes.iter().any(|probe| !probe.is_finished()) {
        let now = setup::metric(http, "tollgate_collector_accrual_age_seconds")?;
        age = age.max(now);
        thread::sleep(Duration::from_millis(200));
    }
    let mut latencies = Vec::new();
    for probe in probes {
        let probed = probe.join().ok().context("a probe panicked")?;
        latencies.extend(probed?);
    }
    if load.is_finished() {
        bail!("the load ended before the probes; the figures are of no use");
    }
    Ok(Measured { latencies, age })
}

fn set_window(folder: &Path, seconds: u32) -> Result<()> {
    let path = folder.join("agent.toml");
    let text = std::fs::read_to_string(&path)?;
    let changed = text.replace("window = \"10s\"", &format!("window = \"{seconds}s\""));
    Ok(std::fs::write(path, changed)?)
}

/// Counts and waits until the accrual says so, again and again.
fn probe(
    number: usize,
    rounds: usize,
    window: u32,
    to: SocketAddr,
    http: SocketAddr,
) -> Result<Vec<f64>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to)?;
    let tenant = format!("probe-{number:02}");
    let line = format!("http.requests.probe:{COUNT}|c|#customer:{tenant},region:r0,pop:p00");
    let path = format!("/v1/accruals?tenant={tenant}");
    let mut latencies = Vec::new();
    // The first round makes the tenant known.
    for round in 1..=rounds as u64 {
        // An answer comes when a window ends: without this, every count would fall on its beginning.
        let step = number + PROBES * usize::try_from(round)?;
        let share = golden_share(u32::try_from(step)?);
        thread::sleep(Duration::from_secs(u64::from(window)).mul_f64(share));
        let counted = Instant::now();
        socket.send(line.as_bytes())?;
        while amount(&setup::get(http, &path)?)? < round * CENTS {
            if counted.elapsed() > LIMIT {
                bail!("what {tenant} counted was not rated within {LIMIT:?}");
            }
            thread::sleep(LOOK);
        }
        if round > 1 {
            latencies.push(counted.elapsed().as_secs_f64());
        }
    }
    Ok(latencies)
}

/// The fractional part of `step` golden ratios: steps that spread evenly over 0 to 1.
fn golden_share(step: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (f64::from(step) * GOLDEN).fract()
}

/// What the open periods of an answer cost, in cents.
fn amount(answer: &str) -> Result<u64> {
    let answer: Value = serde_json::from_str(answer)?;
    let mut cents = 0;
    for item in answer["items"].as_array().context("no items")? {
        for line in item["lines"].as_array().context("no lines")? {
            if let Some(text) = line["amount"].as_str() {
                cents += text.replace('.', "").parse::<u64>()?;
            }
        }
    }
    Ok(cents)
}
