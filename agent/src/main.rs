//! The `tollgate-agent` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_agent::cli::main_from(std::env::args_os())
}
