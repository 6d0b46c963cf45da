//! `run`: logs, signals, exit code.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::{EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, LogFormat, RunArgs};
use crate::load::{self, Overrides};
use crate::output::{chain, complain};
use crate::run::{Outcome, RunError};

pub(super) fn run(args: RunArgs) -> u8 {
    let overrides = Overrides {
        endpoints: args.endpoints,
        stop_deadline: args.stop_deadline,
        ..args.config.overrides()
    };
    let path = args.config.config;
    let config = match load::load(&path, &overrides) {
        Ok(config) => config,
        Err(error) => {
            complain(error.report());
            return EXIT_CONFIG;
        }
    };
    if let Err(error) = log(args.log_format, &args.log_level) {
        complain(format_args!(
            "Error: --log-level {:?}: {error} (expected a level such as `info`, or a filter)",
            args.log_level
        ));
        return EXIT_USAGE;
    }
    let reread = Box::new(move || load::load(&path, &overrides));
    match crate::run::run(config, reread, signalled()) {
        Ok(Outcome { drained: true }) => EXIT_OK,
        Ok(Outcome { drained: false }) => {
            warn!("the rest is in the spool and ships after the next start");
            EXIT_OK
        }
        Err(error) => {
            error!(error = chain(&error), "agent failed");
            match error {
                RunError::Identity(_) | RunError::Memory(_) => EXIT_CONFIG,
                _ => EXIT_FAILURE,
            }
        }
    }
}

fn log(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    // A subscriber that is already there stays: another binary may have set its own.
    let _ = match format {
        LogFormat::Text => builder
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Ready at the first SIGTERM or SIGINT; the second ends the process at once.
async fn signalled() {
    let signals = signal(SignalKind::terminate())
        .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "cannot listen for signals; SIGKILL loses nothing either");
            return std::future::pending().await;
        }
    };
    either(&mut terminate, &mut interrupt).await;
    info!("signal received");
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        warn!("second signal: ending now; what was counted is in the cells");
        std::process::exit(i32::from(EXIT_FAILURE));
    });
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
