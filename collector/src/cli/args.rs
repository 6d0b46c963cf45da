//! The command line.

mod books;
mod catalog;
mod journal;
mod ledger;
mod options;
mod period;
mod pki;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use tollgate_common::TenantId;

pub use books::{
    ApprovalCommand, Decision, Format, InvoiceCommand, LineArgs, PartyCommand, ReconcileArgs, Whose,
};
pub use catalog::{ApplyArgs, CatalogCommand};
pub use options::{
    AppliesCatalog, Asks, Checks, ConfigArgs, OutputArgs, Reads, ReadsCatalog, RunOptions,
};

pub use journal::JournalCommand;
pub use ledger::LedgerCommand;
pub use period::{AgentCommand, DecisionArgs, PeriodCommand, RowsArgs, UsageCommand};
pub use pki::PkiCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed
  2   the command line is wrong
  3   a difference was found (ledger verify, ledger pack, reconcile)
  4   usage is not rated (rate)
  74  the journal could not be written; start again, it recovers from what is on the disk
  78  the configuration, the catalog or a certificate file is wrong";

/// Receives usage from agents, keeps it in a journal, rates it, and keeps the ledger.
#[derive(Debug, Parser)]
#[command(
    name = "tollgate-collector",
    version,
    max_term_width = 100,
    after_help = EXIT_CODES,
    long_about = "Receives usage from agents over QUIC, keeps it in a journal, folds it into billing periods, rates \
        it by a catalog of TOML files, and books it in a hash-chained ledger.\n\n\
        First steps:\n\n  \
        tollgate-collector pki init --dir pki\n  \
        tollgate-collector pki issue --dir pki --agent edge-1\n  \
        tollgate-collector check --config tollgate-collector.toml\n  \
        tollgate-collector run --config tollgate-collector.toml"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How logs are written (to standard error).
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "TOLLGATE_COLLECTOR_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// Which logs are written: a level, or directives such as `info,quinn=warn`.
    #[arg(
        long,
        global = true,
        default_value = "info",
        env = "TOLLGATE_COLLECTOR_LOG_LEVEL",
        value_name = "LEVEL"
    )]
    pub log_level: String,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the collector.
    #[command(
        long_about = "Runs the collector until SIGTERM or SIGINT.\n\n\
            It replays the journal, listens for agents (QUIC) and answers over HTTP and over the admin socket. \
            SIGHUP reads the catalog, the policy and the certificates again; broken ones are refused and the old \
            ones stay in force. On SIGTERM it stops listening, makes durable what has arrived, folds it, writes a \
            snapshot and exits.",
        after_help = "Examples:\n  tollgate-collector run --config collector.toml\n  \
            TOLLGATE_COLLECTOR_HTTP=127.0.0.1:9000 tollgate-collector run --log-format json"
    )]
    Run(RunOptions),

    /// Check configuration, catalog and certificates without starting anything.
    #[command(
        long_about = "Reads the configuration, the catalog and the certificate files as `run` would, says what it \
            found, and shows every mistake with its file, line and key. Starts nothing and writes nothing.",
        after_help = "Examples:\n  tollgate-collector check --config tollgate-collector.toml\n  \
            tollgate-collector check && systemctl reload tollgate-collector"
    )]
    Check(Checks),

    /// Check, plan, apply and compare catalogs.
    #[command(subcommand)]
    Catalog(CatalogCommand),

    /// Rate a usage file by a catalog, without a server.
    #[command(
        long_about = "Rates the usage in a file as a closing would, and shows every line with its arithmetic, what \
            stands around the lines, tax, commitments, grants and the sums. Needs no configuration, no data folder and no running collector.\n\n\
            The file names quantities by meter, in the meter's unit or with a unit of its kind:\n\n  \
            period = \"2026-06\"\n  usage.\"http.requests\" = \"3500000\"\n  usage.\"net.bytes\" = \"12.5 GB\"\n\n\
            A test of the catalog (*.test.toml) is such a file; what it expects is not looked at. A .csv file has the \
            columns meter, quantity, time, tenant and dimensions; a .jsonl file has a CloudEvent on each line. Both \
            need --tenant and --period.",
        after_help = "Example:\n  tollgate-collector rate --catalog catalog --tenant acme --usage june.toml --json"
    )]
    Rate {
        /// The catalog folder.
        #[arg(long, env = "TOLLGATE_COLLECTOR_CATALOG", value_name = "DIR")]
        catalog: PathBuf,
        /// Whose profile applies, instead of the file's `profile`.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// The usage file.
        #[arg(long, value_name = "FILE")]
        usage: PathBuf,
        /// Which period, instead of the file's: a month (2026-06), a day in it, or an RFC 3339 instant.
        #[arg(long, value_name = "PERIOD")]
        period: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },

    /// Make certificates.
    #[command(subcommand)]
    Pki(PkiCommand),

    /// List billing periods, see what they wait for, and close them.
    #[command(subcommand)]
    Period(PeriodCommand),

    /// Show what open periods would cost if they ended now.
    #[command(
        long_about = "Shows what the open periods of a tenant would cost if they ended now, line by line; without a tenant \
            what those of everybody amount to. Beside it how much of the usage is rated, refused, or unrated for which \
            reason, and until when everything is in these figures. Asks the running collector, which rates whom it is \
            asked for at once; everybody is never more than a minute old.",
        after_help = "Examples:\n  tollgate-collector accruals\n  tollgate-collector accruals --tenant acme --json"
    )]
    Accruals {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Whose open periods, line by line.
        #[arg(long)]
        tenant: Option<TenantId>,
    },

    /// Correct usage.
    #[command(subcommand)]
    Usage(UsageCommand),

    /// Say that agents are gone.
    #[command(subcommand)]
    Agent(AgentCommand),

    /// List and verify the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),

    /// Show, issue, void and explain invoices.
    #[command(subcommand)]
    Invoice(InvoiceCommand),

    /// Keep the legal data of issuers and tenants.
    #[command(subcommand)]
    Party(PartyCommand),

    /// Agree to what needs two persons.
    #[command(subcommand)]
    Approval(ApprovalCommand),

    /// Compare the ledger with a statement of somebody else.
    #[command(
        long_about = "Sums the lines of the ledger and the rows of a CSV statement (of a cloud provider, or of a billing \
            system behind this one) by keys, and shows how far they drift apart, key by key and in total. Exit code 3 \
            if a drift is beyond what the map tolerates.",
        after_help = "Example:\n  tollgate-collector reconcile --statement june.csv --map focus.toml --from 2026-06-01 --to 2026-07-01"
    )]
    Reconcile(ReconcileArgs),

    /// Look into the journal, or mark it as restored.
    #[command(subcommand)]
    Journal(JournalCommand),

    /// Ask the running collector how it stands.
    #[command(
        long_about = "Asks the running collector over its admin socket: addresses, readiness, how far the fold is.",
        after_help = "Example:\n  tollgate-collector status --json"
    )]
    Status(Asks),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Two options of one name, of which one would win in silence.
    #[test]
    fn no_command_contradicts_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_is_where_the_service_has_it() {
        let command = Cli::command();
        let status = command.find_subcommand("status").expect("a command");
        let config = status.get_arguments().find(|arg| arg.get_id() == "config");
        let defaults = config.expect("an option").get_default_values();
        assert_eq!(defaults, ["/etc/tollgate/tollgate-collector.toml"]);
    }

    /// Where things are, as far as it matters to a command.
    #[test]
    fn commands_offer_only_options_that_matter() {
        let offered = |path: &[&str]| {
            let mut command = Cli::command();
            for name in path {
                let found = command.find_subcommand(name);
                command = found.unwrap_or_else(|| panic!("no {name}")).clone();
            }
            let places = [
                "config",
                "data_dir",
                "admin_socket",
                "catalog",
                "listen",
                "http",
            ];
            let ids = command.get_arguments().map(|arg| arg.get_id().to_string());
            ids.filter(|id| places.contains(&id.as_str()))
                .collect::<Vec<_>>()
        };
        let folder = ["config", "data_dir"];
        let socket = ["config", "data_dir", "admin_socket"];
        for path in [
            &["ledger", "verify"][..],
            &["ledger", "list"],
            &["journal", "inspect"],
            &["journal", "restored"],
            &["period", "list"],
            &["invoice", "list"],
            &["party", "set"],
            &["catalog", "history"],
            &["reconcile"],
        ] {
            assert_eq!(offered(path), folder, "{path:?}");
        }
        for path in [
            &["status"][..],
            &["accruals"],
            &["ledger", "line"],
            &["period", "close"],
            &["invoice", "issue"],
            &["invoice", "preview"],
            &["usage", "correct"],
            &["agent", "retire"],
            &["approval", "give"],
        ] {
            assert_eq!(offered(path), socket, "{path:?}");
        }
        assert_eq!(
            offered(&["catalog", "plan"]),
            ["config", "data_dir", "catalog"]
        );
        assert_eq!(offered(&["catalog", "apply"]).len(), 4);
        for path in [["run"], ["check"]] {
            assert_eq!(offered(&path).len(), 6, "{path:?}");
        }
    }
}
