//! An agent or a collector, chosen by the first argument: so that the end-to-end tests run
//! the real programs as processes of their own whatever was built before.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|role| role.to_str()) {
        Some("tollgate-agent") => tollgate_agent::cli::main_from(arguments),
        Some("tollgate-collector") => tollgate_collector::cli::main_from(arguments),
        _ => ExitCode::from(2),
    }
}
