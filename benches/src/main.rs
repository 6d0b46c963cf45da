//! One runner for every figure of the project; see `docs/benchmarks.md`.

mod binaries;
mod books;
mod dogstatsd;
mod footprint;
mod increment;
mod load;
mod mmsg;
mod peers;
mod process;
mod rate;
mod receive;
mod report;
mod seal;
mod setup;
mod spool;
mod wire;
mod workload;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::report::Report;

/// Measures Tollgate beside its peers and floors, in one run.
#[derive(Parser)]
#[command(
    name = "tollgate-benches",
    version,
    after_help = "Without NAME the benches are listed."
)]
struct Args {
    /// Which bench to run, or `all`.
    name: Option<String>,
    /// One JSON object a bench instead of a table.
    #[arg(long)]
    json: bool,
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Report>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "increment",
        about: "nanoseconds for one count on the hot path",
        run: increment::run,
    },
    Bench {
        name: "dogstatsd",
        about: "lines per second on one core, beside a receive-only loop, npm statsd and collectd",
        run: dogstatsd::run,
    },
    Bench {
        name: "wire",
        about: "bytes that a rollup costs on the wire",
        run: wire::run,
    },
    Bench {
        name: "seal",
        about: "sealing a million active series, and what their writers notice",
        run: seal::seal,
    },
    Bench {
        name: "series-memory",
        about: "bytes that the engine holds for a series beside its key, at a million",
        run: seal::memory,
    },
    Bench {
        name: "spool",
        about: "append with group sync beside the bare disk; a backlog from disk to a local collector",
        run: spool::run,
    },
    Bench {
        name: "receive",
        about: "rollups per second from QUIC to durable acknowledgement",
        run: receive::run,
    },
    Bench {
        name: "rate",
        about: "line items per second on one core",
        run: rate::run,
    },
    Bench {
        name: "fold",
        about: "rollups per second through the fold on one core, bytes of state for a series",
        run: books::fold::run,
    },
    Bench {
        name: "percentile",
        about: "a month of 95th percentiles for ten thousand ports",
        run: books::percentile::run,
    },
    Bench {
        name: "restart",
        about: "the collector starts on ten gigabytes of journal and a snapshot",
        run: books::restart::run,
    },
    Bench {
        name: "rerate",
        about: "a month of 100,000 tenants rated and booked anew from a snapshot, beside DuckDB",
        run: books::rerate::run,
    },
    Bench {
        name: "accrual-latency",
        about: "from a count at a real agent to its rated accrual",
        run: books::latency::run,
    },
    Bench {
        name: "footprint",
        about: "memory and CPU of an idle agent, size of the binaries",
        run: footprint::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let done = match arguments.as_slice() {
        // A copy of this program as a peer with a process of its own.
        [_, flag, address, file] if flag == dogstatsd::RECEIVE_ONLY => {
            dogstatsd::receive_only(address, Path::new(file))
        }
        _ => run(&Args::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tollgate-benches: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let Some(name) = &args.name else {
        for bench in BENCHES {
            writeln!(out, "{:12} {}", bench.name, bench.about)?;
        }
        return Ok(());
    };
    let chosen: Vec<_> = BENCHES
        .iter()
        .filter(|b| name == "all" || b.name == name)
        .collect();
    if chosen.is_empty() {
        bail!("no bench is called `{name}`; run without a name to list them");
    }
    for bench in chosen {
        let report = (bench.run)()?;
        if args.json {
            report.write_json(&mut out)?;
        } else {
            report.write_table(&mut out)?;
        }
    }
    Ok(())
}
