//! The collector's program; see `tollgate_collector`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate_collector::cli::main_from(std::env::args_os())
}
