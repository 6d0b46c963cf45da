//! Runs the deterministic simulation: a campaign of seeds, one seed with its trace, or the
//! planted bugs that a campaign must catch.

use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;
use tollgate_tests::sim::campaign::{Campaign, Report, catch, name_seed_on_panic, run_world};
use tollgate_tests::sim::options::{Canary, Options};

/// A campaign of so many seeds fails if it has never seen one of its probes.
const SEEDS_FOR_COVERAGE: u64 = 1000;
/// Failing seeds whose trace is printed; the rest is named only.
const TRACES_PRINTED: usize = 3;

/// Deterministic simulation of agents, network, disks and a collector.
///
/// Every seed is a world of its own: its faults, clocks, disks and load follow from the seed
/// alone, so a seed that fails here fails everywhere. The protocol, spool, journal and fold
/// are the production code. A campaign of 1000 seeds or more also fails if something that it
/// looks out for never happened.
#[derive(Parser)]
#[command(
    name = "simulate",
    after_help = "Examples:\n  simulate --seeds 0..1000        a campaign\n  simulate --seed 42              one run with its trace\n  simulate --canary all           planted bugs; each must be caught"
)]
struct Arguments {
    /// Seeds to run: first (included) and last (excluded).
    #[arg(long, value_name = "A..B", default_value = "0..1000", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Run one seed and print its trace.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Plant a bug: ack-before-sync, sync-lie, dedupe-off, skipped-dir-sync, or `all`, one after the
    /// other. Fails if a planted bug is not caught.
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    /// Worlds in which hosts are often set back to an image of themselves while their seals
    /// come in several parts.
    #[arg(long)]
    clones: bool,
    /// Threads [default: all processors].
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Run every Nth seed twice and compare the traces; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 20)]
    repeat: u64,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let expected = || format!("expected two numbers such as 0..1000, not `{text}`");
    let (from, to) = text.split_once("..").ok_or_else(expected)?;
    let from = from.trim().parse().map_err(|_| expected())?;
    let to = to.trim().parse().map_err(|_| expected())?;
    if from < to {
        Ok(from..to)
    } else {
        Err(expected())
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    name_seed_on_panic();
    let canaries = match arguments.canary.as_deref() {
        None => Vec::new(),
        Some("all") => Canary::ALL.to_vec(),
        Some(name) => match Canary::from_name(name) {
            Some(canary) => vec![canary],
            None => bail!(
                "unknown canary `{name}` (expected `all` or one of {})",
                names()
            ),
        },
    };
    match arguments.seed {
        Some(seed) => one_seed(&arguments, seed, canaries.first().copied()),
        None if canaries.is_empty() => campaign(&arguments),
        None => plant(&arguments, &canaries),
    }
}

fn names() -> String {
    Canary::ALL
        .iter()
        .map(|canary| canary.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn threads(arguments: &Arguments) -> usize {
    arguments
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
}

fn one_seed(arguments: &Arguments, seed: u64, canary: Option<Canary>) -> anyhow::Result<ExitCode> {
    let options = Options::from_seed(seed, canary);
    let options = if arguments.clones {
        options.with_clones()
    } else {
        options
    };
    let outcome = run_world(options.clone(), true);
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let result = json!({
            "seed": seed,
            "failure": outcome.failure,
            "trace_hash": format!("{:016x}", outcome.trace_hash),
            "events": outcome.events,
            "trace": outcome.trace,
        });
        writeln!(out, "{result}")?;
    } else {
        writeln!(out, "{options:#?}")?;
        for line in &outcome.trace {
            writeln!(out, "{line}")?;
        }
        write!(out, "{}", outcome.coverage)?;
        match &outcome.failure {
            Some(reason) => writeln!(out, "seed {seed} FAILED: {reason}")?,
            None => writeln!(out, "seed {seed} passed, trace {:016x}", outcome.trace_hash)?,
        }
    }
    Ok(exit_code(outcome.failure.is_none()))
}

fn campaign(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let report = Campaign {
        seeds: arguments.seeds.clone(),
        clones: arguments.clones,
        threads: threads(arguments),
        repeat_every: arguments.repeat,
    }
    .run();
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", to_json(&report))?;
    } else {
        print_report(&mut out, &report, arguments.clones)?;
    }
    let complete = !arguments.demands_coverage() || report.coverage.never().is_empty();
    Ok(exit_code(report.failures.is_empty() && complete))
}

impl Arguments {
    /// Whether a campaign is so long that everything rare has to happen in it: what a long one
    /// never sees is dead, and proves nothing.
    fn demands_coverage(&self) -> bool {
        !self.clones && self.seeds.end - self.seeds.start >= SEEDS_FOR_COVERAGE
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn print_report(out: &mut impl Write, report: &Report, clones: bool) -> anyhow::Result<()> {
    let seconds = report.elapsed.as_secs_f64();
    writeln!(
        out,
        "{} seeds in {seconds:.1} s ({:.1}/s), {} events, {:.1} virtual hours, {} run twice",
        report.seeds,
        report.seeds as f64 / seconds.max(0.001),
        report.events,
        report.virtual_millis as f64 / 3_600_000.0,
        report.repeated,
    )?;
    write!(out, "{}", report.coverage)?;
    let never = report.coverage.never();
    if !never.is_empty() {
        writeln!(out, "never seen: {}", never.join(", "))?;
    }
    for (index, failure) in report.failures.iter().enumerate() {
        writeln!(out, "\nseed {} FAILED: {}", failure.seed, failure.reason)?;
        if index < TRACES_PRINTED {
            for line in &failure.tail {
                writeln!(out, "    {line}")?;
            }
        }
        writeln!(
            out,
            "  reproduce: cargo run --release -p tollgate-tests --bin simulate -- --seed {}{}",
            failure.seed,
            if clones { " --clones" } else { "" },
        )?;
    }
    writeln!(
        out,
        "{} of {} seeds failed",
        report.failures.len(),
        report.seeds
    )?;
    Ok(())
}

fn to_json(report: &Report) -> serde_json::Value {
    let coverage: serde_json::Map<_, _> = report
        .coverage
        .iter()
        .map(|(probe, count)| (probe.label().to_owned(), json!(count)))
        .collect();
    let failures: Vec<_> = report
        .failures
        .iter()
        .map(|failure| json!({ "seed": failure.seed, "reason": failure.reason }))
        .collect();
    json!({
        "seeds": report.seeds,
        "seconds": report.elapsed.as_secs_f64(),
        "events": report.events,
        "virtual_seconds": report.virtual_millis / 1000,
        "repeated": report.repeated,
        "coverage": coverage,
        "never_seen": report.coverage.never(),
        "failures": failures,
    })
}

fn plant(arguments: &Arguments, canaries: &[Canary]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut caught = serde_json::Map::new();
    let mut all = true;
    for &canary in canaries {
        let (tried, first) = catch(canary, arguments.seeds.clone());
        all &= first.is_some();
        let result = first
            .as_ref()
            .map(|failure| json!({ "seed": failure.seed, "reason": failure.reason }));
        caught.insert(canary.name().to_owned(), json!(result));
        if !arguments.json {
            match &first {
                Some(failure) => writeln!(
                    out,
                    "canary {:<18} caught after {} seeds, by seed {}: {}",
                    canary.name(),
                    tried,
                    failure.seed,
                    failure.reason
                ),
                None => writeln!(
                    out,
                    "canary {:<18} NOT CAUGHT in {} seeds: the simulation is too tame",
                    canary.name(),
                    tried
                ),
            }
            .context("writing the result")?;
        }
    }
    if arguments.json {
        writeln!(out, "{}", serde_json::Value::Object(caught))?;
    }
    Ok(exit_code(all))
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
