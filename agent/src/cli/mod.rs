//! The command line: `tollgate-agent run | check | count | status | reload | top | tap | spool`.

mod ask;
mod check;
mod manual;
mod run;
mod spool;
mod tap;
mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tollgate_agent_core::config::Endpoint;
use tollgate_common::units::parse_duration;

use crate::load::Overrides;

/// Everything went as asked.
pub const EXIT_OK: u8 = 0;
/// The command failed; standard error says why.
pub const EXIT_FAILURE: u8 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// No agent answers at the admin socket (`EX_UNAVAILABLE` of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The configuration is wrong or cannot be read (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed; standard error says why
  2   wrong command line
  69  no agent answers at the admin socket
  78  wrong configuration; standard error names file, line, key and what was expected";

/// Meters usage on this host and ships it to a collector.
///
/// The agent counts what its inputs see (DogStatsD, network interfaces, applications that count in
/// process, its admin socket) into cells that survive its own death, seals them into a batch at the end of each window, and
/// ships every batch from a spool on disk until a collector has it. Usage that was accepted
/// is billed exactly once or declared lost.
#[derive(Debug, Parser)]
#[command(name = "tollgate-agent", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT.
    ///
    /// On the first signal the inputs stop, what the sockets still hold is counted, a final
    /// batch is sealed, and the spool is shipped for at most `stop_deadline`. What is left
    /// waits in the spool for the next start. A second signal ends the process at once; that
    /// loses nothing either.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent run --config /etc/tollgate/tollgate-agent.toml\n",
        "  TOLLGATE_AGENT_LOG=debug tollgate-agent run --log-format json\n",
        "  tollgate-agent run --endpoint 10.0.0.5:7430 --endpoint 10.0.1.5:7430"
    ))]
    Run(RunArgs),
    /// Check a configuration without running it.
    ///
    /// Reads the file and the certificates that it names, and reports every mistake with
    /// file, line, column, key and what was expected.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent check --config tollgate-agent.toml\n",
        "  tollgate-agent check --config new.toml --no-files --json"
    ))]
    Check(CheckArgs),
    /// Count something and wait until it is counted.
    ///
    /// Goes through the admin socket of a running agent. When the command ends with 0 the
    /// value is in its cell: the agent may be killed and nothing is lost. When it ends with 1
    /// because the agent refused, nothing was counted. If the connection breaks in between,
    /// the command says that the outcome is unknown.
    ///
    /// Metric and tags are mapped to tenant, meter and dimensions by the rules of the agent's
    /// configuration (rules with input = "admin" or without `input`). What the value does is up to
    /// the meter: it is added (`sum`), is the new level (`last`, `time_weighted`), counts if it is
    /// the largest (`max`), is one more value of a `distribution`, or one of the distinct values
    /// that `unique` counts.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent count http.requests 5 --tag customer=acme --tag region=eu\n",
        "  tollgate-agent count storage.used 1.5e9 --tag customer=acme --json"
    ))]
    Count(CountArgs),
    /// Show the account of a running agent.
    ///
    /// For each input, the busiest tenants, and each of them at every input: what was received,
    /// accepted, rejected (by reason) and lost (by cause). At every instant received = accepted +
    /// rejected + lost + under way, and accepted = sealed + open + discarded. Then the spool and the
    /// connection.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent status\n",
        "  tollgate-agent status --json | jq .spool"
    ))]
    Status(StatusArgs),
    /// Have a running agent read its configuration again.
    ///
    /// The same as SIGHUP, but with an answer: which keys changed, and which need a restart.
    /// Rules, meters, collectors, certificates, metrics, the rights of the admin socket,
    /// `stop_deadline` and `memory_max` change without losing a count. A file with a mistake
    /// is refused, and the configuration before stays in force.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent check && tollgate-agent reload\n",
        "  tollgate-agent reload --json | jq .restart"
    ))]
    Reload(StatusArgs),
    /// Look at the spool on disk, repair it, or take batches out of it.
    ///
    /// Works on the state directory; the agent need not run, and for `repair` must not.
    #[command(subcommand)]
    Spool(spool::SpoolCommand),
    /// Watch the busiest tenants, meters and series.
    ///
    /// A page that is drawn anew every interval: rates per tenant, meter and series, inputs
    /// with what they rejected and lost, spool and connection. Keys: q quits, p pauses, s
    /// changes the order, Tab the view, t and m take a pattern for tenants and meters, c
    /// clears both. Without a terminal, or with --once, it looks twice and prints one page.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent top\n",
        "  tollgate-agent top --tenant 'acme*' --sort quantity\n",
        "  tollgate-agent top --once --rows 5\n",
        "  tollgate-agent top --json --interval 10s | jq .rates.by_tenant"
    ))]
    Top(TopArgs),
    /// Watch raw input as it is attributed.
    ///
    /// Every event that fits is shown with the tenant, meter and dimensions that the rules
    /// give it, or with the reason why it is rejected. A tap never holds an input back: what
    /// is above --rate is skipped and counted. Patterns take `*` and `?`.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent tap --tenant _unattributed --limit 20\n",
        "  tollgate-agent tap --input dogstatsd.udp --metric 'http.*'\n",
        "  tollgate-agent tap --rejected --json"
    ))]
    Tap(TapArgs),
    /// Write a manual page or a shell's completions to standard output.
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "TOLLGATE_AGENT_CONFIG",
        default_value = "/etc/tollgate/tollgate-agent.toml"
    )]
    config: PathBuf,
    /// Overrides `admin_socket`.
    #[arg(long, value_name = "PATH", env = "TOLLGATE_AGENT_ADMIN_SOCKET")]
    admin_socket: Option<PathBuf>,
    /// Overrides `state_dir`.
    #[arg(long, value_name = "DIR", env = "TOLLGATE_AGENT_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Overrides `collector.endpoints`; may be given several times.
    #[arg(
        long = "endpoint",
        value_name = "HOST:PORT",
        env = "TOLLGATE_AGENT_ENDPOINTS",
        value_delimiter = ','
    )]
    endpoints: Vec<Endpoint>,
    /// Overrides `stop_deadline`, such as 5s.
    #[arg(
        long,
        value_name = "DURATION",
        env = "TOLLGATE_AGENT_STOP_DEADLINE",
        value_parser = parse_duration
    )]
    stop_deadline: Option<Duration>,
    /// How the log is written to standard error.
    #[arg(
        long,
        value_enum,
        default_value_t = LogFormat::Text,
        env = "TOLLGATE_AGENT_LOG_FORMAT"
    )]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,tollgate_agent::ship=debug`.
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        env = "TOLLGATE_AGENT_LOG"
    )]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Check the text only, not the certificate files that it names.
    #[arg(long)]
    no_files: bool,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CountArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The metric, as rules name it.
    metric: String,
    /// A decimal, not negative for a `sum` meter.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// A tag; may be given several times.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write one JSON object to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TopArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Most rows of each list.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    rows: u16,
    /// What comes first.
    #[arg(long, value_enum, default_value_t = SortArg::Events)]
    sort: SortArg,
    /// Only tenants that fit this pattern.
    #[arg(long, value_name = "PATTERN")]
    tenant: Option<String>,
    /// Only meters that fit this pattern.
    #[arg(long, value_name = "PATTERN")]
    meter: Option<String>,
    /// How often to look.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Look twice, print one page, and end.
    #[arg(long)]
    once: bool,
    /// Like --once, as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the rows of `top` are ordered by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortArg {
    /// Events counted.
    Events,
    /// Amount counted, in units of the meters.
    Quantity,
}

#[derive(Debug, Args)]
struct TapArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this input: its kind, such as `dogstatsd`, or a listener, such as `dogstatsd.udp`.
    #[arg(long, value_name = "PATTERN")]
    input: Option<String>,
    /// Only tenants that fit this pattern.
    #[arg(long, value_name = "PATTERN")]
    tenant: Option<String>,
    /// Only meters that fit this pattern.
    #[arg(long, value_name = "PATTERN")]
    meter: Option<String>,
    /// Only metrics, by the name that came in, that fit this pattern.
    #[arg(long, value_name = "PATTERN")]
    metric: Option<String>,
    /// Only what is not counted.
    #[arg(long)]
    rejected: bool,
    /// End after so many events.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Most events a second.
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Write a JSON object per event.
    #[arg(long)]
    json: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    if range.contains(&interval) {
        Ok(interval)
    } else {
        Err(format!("expected {:?} to {:?}", range.start(), range.end()))
    }
}

fn parse_tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

impl ConfigArgs {
    fn overrides(&self) -> Overrides {
        Overrides {
            state_dir: self.state_dir.clone(),
            admin_socket: self.admin_socket.clone(),
            ..Overrides::default()
        }
    }
}

/// Executes a command line, the first argument being the program's name.
///
/// This is the whole of `tollgate-agent`, so that another binary can take its role.
pub fn main_from<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no error; a closed pipe is neither.
            let _ = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE);
            return ExitCode::from(code);
        }
    };
    let code = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(&args),
        Command::Count(args) => ask::count(args),
        Command::Status(args) => ask::status(&args),
        Command::Reload(args) => ask::reload(&args),
        Command::Spool(command) => spool::spool(command),
        Command::Top(args) => top::top(&args),
        Command::Tap(args) => tap::tap(args),
        Command::Manual(args) => manual::manual(&args),
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
