//! Arguments of `period`, `usage` and `agent`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tollgate_common::{AgentId, MeterName, TenantId};

use super::{Asks, Reads};

/// Who decides, why, and whether it is done.
#[derive(Clone, Debug, Args)]
pub struct DecisionArgs {
    /// Why; it is kept in the journal.
    #[arg(long)]
    pub reason: String,
    /// Who decides; the user id is journaled beside it.
    #[arg(long, env = "USER", default_value = "unknown")]
    pub author: String,
    /// Journal it. Without this, what it would change is shown and nothing is done.
    #[arg(long)]
    pub apply: bool,
}

/// `period`.
#[derive(Debug, Subcommand)]
pub enum PeriodCommand {
    /// List billing periods.
    #[command(
        long_about = "Lists billing periods with their state, from the data folder; the collector need not run.",
        after_help = "Example:\n  tollgate-collector period list --tenant acme --json"
    )]
    List {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Only what begins at or after this instant (2026-06-01, or RFC 3339).
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Only what begins before this instant.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
    },
    /// Show what periods wait for: who is missing, and since when.
    #[command(
        long_about = "Asks the running collector for the periods that a closing would change: open ones, and closed ones \
            with late usage that is not settled. Shows what each waits for: its end, agents that have not reported past \
            its end (with the instant until which they have reported everything), or its settlement time.",
        after_help = "Examples:\n  tollgate-collector period status --tenant acme\n  \
            tollgate-collector period status --over --json"
    )]
    Status {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Only periods that are over and not closed.
        #[arg(long)]
        over: bool,
    },
    /// Close a period now, before it is complete or settled.
    #[command(
        long_about = "Asks the running collector to close a tenant's period although agents are missing or its \
            settlement time is not over. The decision is journaled with author and reason. Usage that arrives later \
            becomes an adjustment.",
        after_help = "Example:\n  tollgate-collector period close --tenant acme --at 2026-06-01 --reason 'contract ended'"
    )]
    Close {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Whose period.
        #[arg(long)]
        tenant: TenantId,
        /// An instant in the period (2026-06-01, RFC 3339, or milliseconds since 1970).
        #[arg(long, value_name = "TIME")]
        at: String,
        /// Why; it is kept in the journal.
        #[arg(long)]
        reason: String,
        /// Who decides; the user id is journaled beside it.
        #[arg(long, env = "USER", default_value = "unknown")]
        author: String,
    },
    /// Rate closed periods anew by another version of the catalog.
    #[command(
        long_about = "Asks the running collector what the closed periods of a tenant would cost by another version of the \
            catalog, and with --apply journals the decision and books the differences: by the policy of the profile as \
            reversals and new charges, or in the next period. Closed entries stay as they are.",
        after_help = "Example:\n  tollgate-collector period rerate --tenant acme --from 2026-05-01 --to 2026-07-01 \
            --by 3f6a90c1 --reason 'wrong price in May'"
    )]
    Rerate {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Whose periods.
        #[arg(long)]
        tenant: TenantId,
        /// Periods that begin at this instant or later …
        #[arg(long, value_name = "TIME")]
        from: String,
        /// … and before this one.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Digest of a version that was in force, or its first digits; six at least.
        #[arg(long, value_name = "DIGEST")]
        by: String,
        /// Who, why, and whether.
        #[command(flatten)]
        decision: DecisionArgs,
    },
}

/// `usage`.
#[derive(Debug, Subcommand)]
pub enum UsageCommand {
    /// Add usage that nobody reported, take some back, or release what was refused.
    #[command(
        long_about = "Asks the running collector what a correction would change in money, and with --apply journals it with \
            author and reason and books the difference. Usage of an open period counts into it; that of a closed one is \
            booked by the policy of the profile.\n\n\
            One row is given by --meter, --at and --quantity; many by a file of [[row]] tables with these keys \
            (and `dimensions`, `release`).",
        after_help = "Examples:\n  tollgate-collector usage correct --tenant acme --meter http.requests --at 2026-06-14T12:00:00Z \
            --quantity=-1500 --key ticket-812 --reason 'counted twice by the proxy'\n  \
            tollgate-collector usage correct --tenant acme --file june.toml --key backfill-june --reason 'agent was down' --apply"
    )]
    Correct {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Whose usage.
        #[arg(long)]
        tenant: TenantId,
        /// Tells this correction from others: it is done once.
        #[arg(long)]
        key: String,
        /// The rows.
        #[command(flatten)]
        rows: RowsArgs,
        /// Who, why, and whether.
        #[command(flatten)]
        decision: DecisionArgs,
    },
}

/// The rows of a correction.
#[derive(Clone, Debug, Args)]
pub struct RowsArgs {
    /// A TOML file with `[[row]]` tables.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["meter", "at", "quantity", "dimensions", "release"])]
    pub file: Option<PathBuf>,
    /// Which meter.
    #[arg(long, required_unless_present = "file")]
    pub meter: Option<MeterName>,
    /// When it was used (RFC 3339, a day, or milliseconds since 1970).
    #[arg(long, value_name = "TIME", required_unless_present = "file")]
    pub at: Option<String>,
    /// How much more, or with `-` how much less, in the meter's unit or with a unit (`12.5 GB`).
    #[arg(
        long,
        value_name = "QUANTITY",
        required_unless_present = "file",
        allow_hyphen_values = true
    )]
    pub quantity: Option<String>,
    /// A dimension of its series, KEY=VALUE; can be repeated.
    #[arg(long = "dimension", value_name = "KEY=VALUE")]
    pub dimensions: Vec<String>,
    /// Count what the policy refused for this reason.
    #[arg(long, value_name = "REASON", value_parser = ["tenant_not_allowed", "meter_not_allowed", "from_the_future"])]
    pub release: Option<String>,
}

/// `agent`.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Do not wait for an agent any more.
    #[command(
        long_about = "Journals that an agent is gone for good: no period waits for it any more. What it reports after all \
            counts, and from then on it is waited for again. Take its [[agent]] section away too if it must not report.",
        after_help = "Example:\n  tollgate-collector agent retire --agent edge-7 --reason 'host taken down' --apply"
    )]
    Retire {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Who.
        #[arg(long)]
        agent: AgentId,
        /// Who, why, and whether.
        #[command(flatten)]
        decision: DecisionArgs,
    },
}
