//! Logs, written to standard error.

use tracing_subscriber::EnvFilter;

use super::args::{Cli, LogFormat};
use super::{Exit, Failure};

/// Sets up logging as the command line wants it. A second call in one process changes
/// nothing.
pub(super) fn init(cli: &Cli) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&cli.log_level).map_err(|error| {
        Failure::new(Exit::Usage, format!("--log-level `{}`: {error} (expected error, warn, info, debug, trace, or directives such as info,quinn=warn)", cli.log_level))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match cli.log_format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A program that has logging already, such as the demo, keeps its own.
    drop(set);
    Ok(())
}
