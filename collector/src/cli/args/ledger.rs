//! The command line of `ledger`.

use clap::Subcommand;
use tollgate_common::{MeterName, TenantId};

use super::{Asks, Decision, LineArgs, Reads};

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
        long_about = "Asks the running collector to book a credit: as `ledger line`, with the opposite sign. It gives back no \
            more tax than stands charged: with --of, the part of the line's taxes that its amount is of the line.",
        after_help = "Example:\n  tollgate-collector ledger credit --tenant acme --line goodwill --text 'Outage of 12 June' \
            --amount 20.00 --currency EUR --reason 'SLA'\n  \
            tollgate-collector ledger credit --tenant acme --line requests --text 'Counted twice' --amount 4.50 \
            --currency EUR --of 2-17 --reason 'ticket 98'"
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
