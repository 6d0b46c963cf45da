//! The whole way in one command: count, ship, rate and book this machine's own usage.
//!
//! The demo starts a collector and two agents as processes of their own (it executes itself
//! in these roles, so that one build is enough), loads them, kills some of them, and checks
//! in the end that what was counted is what was booked.

mod figures;
mod http;
mod load;
mod process;
mod report;
mod run;
mod table;
mod world;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

/// Count, ship, rate and book this machine's own usage, on loopback, in one command.
///
/// Exit codes: 0 the sums agree and the ledger verifies; 1 they do not, or something failed.
#[derive(Debug, Parser)]
#[command(name = "tollgate-demo", version)]
pub(crate) struct Args {
    /// How long usage is produced, in seconds (at least 6).
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(6..=3600))]
    pub(crate) seconds: u64,
    /// Print one JSON object at the end and nothing else.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the folder with configuration, certificates, logs and data.
    #[arg(long)]
    pub(crate) keep: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = process::take_role(&arguments) {
        return code;
    }
    let args = Args::parse();
    match run::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tollgate-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
