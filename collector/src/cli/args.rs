//! The command line.

mod books;
mod catalog;
mod options;
mod period;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use tollgate_common::{AgentId, MeterName, TenantId};

pub use books::{
    ApprovalCommand, Decision, Format, InvoiceCommand, LineArgs, PartyCommand, ReconcileArgs, Whose,
};
pub use catalog::{ApplyArgs, CatalogCommand};
pub use options::{
    AppliesCatalog, Asks, Checks, ConfigArgs, OutputArgs, Reads, ReadsCatalog, RunOptions,
};

use crate::pki::LEAF_DAYS;

pub use period::{AgentCommand, DecisionArgs, PeriodCommand, RowsArgs, UsageCommand};

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

/// `pki`.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a certificate authority and the collector's certificate.
    #[command(
        long_about = "Makes a certificate authority (ca.pem, ca.key) and the collector's server certificate \
            (collector.pem, collector.key). Keys are ECDSA P-256 with mode 0600. Existing files are not \
            overwritten. Keep ca.key away from the collector's host once the agents have their certificates.",
        after_help = "Examples:\n  tollgate-collector pki init --dir pki\n  \
            tollgate-collector pki init --dir pki --name collector.example.net --name 192.0.2.7"
    )]
    Init {
        /// The folder; made if it does not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// A DNS name or IP address under which agents reach the collector; can be repeated.
        #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
        names: Vec<String>,
        /// Days that the collector's certificate is valid; the authority has ten years at least.
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace existing files. Every certificate of the old authority becomes worthless.
        #[arg(long)]
        force: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an agent's certificate.
    #[command(
        long_about = "Makes a client certificate (NAME.pem, NAME.key) with the authority in the folder. The \
            certificate's URI name tollgate://agent/NAME is what the collector knows the agent by; what the agent \
            may report is decided by the [[agent]] sections of the collector's configuration.",
        after_help = "Example:\n  tollgate-collector pki issue --dir pki --agent edge-1 --days 90"
    )]
    Issue {
        /// The folder with ca.pem and ca.key.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The agent's name.
        #[arg(long, value_name = "NAME")]
        agent: AgentId,
        /// Days that the certificate is valid.
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace existing files.
        #[arg(long)]
        force: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an agent's certificate.
    #[command(
        long_about = "Adds an agent's certificate to the folder's list of revoked ones and signs the list with the \
            authority (crl.pem). The collector reads the list that tls.crl names again within seconds of a change: \
            it ends the connections of revoked certificates and admits no new ones. To shut out an agent whatever \
            its certificate, remove its [[agent]] section and reload.",
        after_help = "Examples:\n  tollgate-collector pki revoke --dir pki --agent edge-1\n  \
            tollgate-collector pki revoke --dir pki --certificate lost.pem"
    )]
    Revoke {
        /// The folder with ca.pem and ca.key.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The agent whose certificate is in the folder.
        #[arg(long, value_name = "NAME", required_unless_present = "certificate")]
        agent: Option<AgentId>,
        /// The certificate, where the folder has another one of the agent or none. With --agent it must
        /// be that agent's.
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// List ledger entries.
    #[command(
        long_about = "Lists ledger entries with their arithmetic, from the data folder; the collector need not run.",
        after_help = "Examples:\n  tollgate-collector ledger list --tenant acme --from 2026-06-01 --to 2026-07-01\n  \
            tollgate-collector ledger list --kind loss --json"
    )]
    List {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Only of this meter.
        #[arg(long)]
        meter: Option<MeterName>,
        /// Only of this kind.
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(crate::sqlite::query::KINDS))]
        kind: Option<String>,
        /// Only of periods that begin at or after this instant.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Only of periods that begin before this instant.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Recompute the ledger from the journal and compare.
    #[command(
        long_about = "Reads the journal from its beginning, folds it anew, and compares every ledger entry of the \
            projection with what comes out: amounts, order and hash chain, and every row that queries read. Works \
            on the data folder, also while the collector runs. Exit code 3 if there is any difference.",
        after_help = "Example:\n  tollgate-collector ledger verify --json"
    )]
    Verify(Reads),
    /// Print the closing pack of some days.
    #[command(
        long_about = "Prints the trial balance, what stands on no invoice from the first day to the last, and each line \
            beside the same one of the period before. Counts entries by their day in the general ledger; reads the data \
            folder, the collector need not run.",
        after_help = "Example:\n  tollgate-collector ledger pack --from 2026-06-01 --to 2026-07-01 --json"
    )]
    Pack {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// First day.
        #[arg(long, value_name = "DAY")]
        from: String,
        /// First day after.
        #[arg(long, value_name = "DAY")]
        to: String,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Book a one-off line.
    #[command(
        long_about = "Asks the running collector to book a line by hand, with author and reason.",
        after_help = "Example:\n  tollgate-collector ledger line --tenant acme --line setup --text 'Setup fee' --amount 250.00 \
            --currency EUR --tax de=47.50 --reason 'contract 4711'"
    )]
    Line {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// The line.
        #[command(flatten)]
        line: LineArgs,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Book a goodwill credit.
    #[command(
        long_about = "Asks the running collector to book a credit: as `ledger line`, with the opposite sign.",
        after_help = "Example:\n  tollgate-collector ledger credit --tenant acme --line goodwill --text 'Outage of 12 June' \
            --amount 20.00 --currency EUR --reason 'SLA'"
    )]
    Credit {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// The credit.
        #[command(flatten)]
        line: LineArgs,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Keep a disputed line off invoices.
    #[command(
        long_about = "Asks the running collector to leave a line (the number of its ledger entry) off invoices until it is \
            released.",
        after_help = "Example:\n  tollgate-collector ledger hold 2-17 --tenant acme --reason 'disputed, ticket 99'"
    )]
    Hold {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// The ledger entry.
        entry: String,
        /// Whose.
        #[arg(long)]
        tenant: TenantId,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Let a disputed line onto invoices again.
    #[command(
        long_about = "Asks the running collector to take a line that was held onto the next invoice.",
        after_help = "Example:\n  tollgate-collector ledger release 2-17 --tenant acme --reason 'settled'"
    )]
    Release {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// The ledger entry.
        entry: String,
        /// Whose.
        #[arg(long)]
        tenant: TenantId,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
}

/// `journal`.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Show journal entries.
    #[command(
        long_about = "Shows the entries of the journal in order: position, stamp, kind and a summary; damaged \
            entries are named with their position. Works on the data folder, also while the collector runs.",
        after_help = "Examples:\n  tollgate-collector journal inspect --limit 20\n  \
            tollgate-collector journal inspect --after 00000000000000010000000000001000 --json"
    )]
    Inspect {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Only entries behind this position.
        #[arg(long, value_name = "POSITION")]
        after: Option<String>,
        /// Most entries to show.
        #[arg(long, default_value_t = 1000, value_name = "N")]
        limit: usize,
        /// Show batches with all their rows.
        #[arg(long)]
        rows: bool,
    },
    /// Say that the journal was restored from a backup.
    #[command(
        long_about = "Journals that the data folder was restored from a backup: a new lineage begins, agents hear \
            of it, and what the lost end of the journal may have held is declared lost as far as nobody can send \
            it again. Snapshots and projection are discarded, because they may speak of the lost end; the next \
            start builds them anew. The collector must not run. Do this before its first start on the restored \
            folder.",
        after_help = "Example:\n  sudo -u tollgate tollgate-collector journal restored --reason 'disk of 2026-06-01 died, backup of 03:00'"
    )]
    Restored {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Why; it is kept in the journal.
        #[arg(long)]
        reason: String,
        /// Who decides.
        #[arg(long, env = "USER", default_value = "unknown")]
        author: String,
    },
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
