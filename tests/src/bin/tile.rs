//! Looks whether billing periods tile time: every zone of the compiled data, every kind of calendar,
//! seven decades. Unit tests look at samples of the same.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::Parser;
use tollgate_collector_core::period::{ZONE_DATA, Zone, tiling};
use tollgate_common::Timestamp;

/// Checks that billing periods tile time in every zone.
#[derive(Debug, Parser)]
struct Args {
    /// First year. Before 1980 some zones had offsets that are no multiple of a quarter of an hour.
    #[arg(long, default_value_t = 1980, value_parser = clap::value_parser!(i64).range(1980..=2100))]
    from: i64,
    /// First year that is not looked at.
    #[arg(long, default_value_t = 2050, value_parser = clap::value_parser!(i64).range(1981..=2101))]
    until: i64,
}

/// About the beginning of a year: the walk begins with the period that contains it.
fn year(year: i64) -> Timestamp {
    Timestamp::from_secs((year - 1970) * 31_556_952)
}

fn complain(error: &str) {
    // If even that fails, the exit code still tells.
    let _ = writeln!(io::stderr().lock(), "{error}");
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (from, until) = (year(args.from), year(args.until));
    let zones: Vec<Zone> = tiling::zones().collect();
    let next = AtomicUsize::new(0);
    let (periods, failures) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&zone) = zones.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for calendar in tiling::calendars(zone) {
                        match tiling::check(calendar, from, until) {
                            Ok(seen) => periods.fetch_add(seen, Ordering::Relaxed),
                            Err(error) => {
                                complain(&error);
                                failures.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                    }
                }
            });
        }
    });
    let (periods, failures) = (periods.into_inner(), failures.into_inner());
    let told = writeln!(
        io::stdout(),
        "{} zones ({ZONE_DATA}), {} to {}: {periods} periods, {failures} calendars do not tile time",
        zones.len(),
        args.from,
        args.until
    );
    ExitCode::from(u8::from(failures > 0 || told.is_err()))
}
