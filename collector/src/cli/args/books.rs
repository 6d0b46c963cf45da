//! The arguments of `invoice`, `party`, `approval`, `reconcile`, and of keeping the ledger by hand.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tollgate_common::TenantId;

use super::{Asks, Reads};

/// How documents are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, in the terminal.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// Lines as CSV, with the columns of FOCUS where it has them.
    Csv,
    /// A page to print.
    Html,
}

/// Who decides, and why.
#[derive(Clone, Debug, Args)]
pub struct Decision {
    /// Why; it is kept in the journal.
    #[arg(long)]
    pub reason: String,
    /// Who decides; the user id is journaled beside it.
    #[arg(long, env = "USER", default_value = "unknown")]
    pub author: String,
}

/// `invoice`.
#[derive(Debug, Subcommand)]
pub enum InvoiceCommand {
    /// List invoices and credit notes.
    #[command(
        long_about = "Lists invoices and credit notes in the order of their numbers, and what waits for an invoice, \
            from the data folder; the collector need not run.",
        after_help = "Example:\n  tollgate-collector invoice list --tenant acme"
    )]
    List {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Show an invoice or a credit note.
    #[command(
        long_about = "Shows a document with all its lines, from the data folder. It is made of ledger entries, and of \
            the legal data of both parties as they were when it was issued.",
        after_help = "Examples:\n  tollgate-collector invoice show INV-000042\n  \
            tollgate-collector invoice show INV-000042 --format html > INV-000042.html"
    )]
    Show {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Its number.
        number: String,
        /// Who issued it, where two issuers have the same number.
        #[arg(long)]
        issuer: Option<String>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show what an invoice would say.
    #[command(
        long_about = "Shows the invoice that the lines of closed periods would make, together with the open periods as \
            they stand (which needs the running collector). With --draft only what is booked: exactly what `invoice \
            issue` would issue now.",
        after_help = "Examples:\n  tollgate-collector invoice preview --tenant acme\n  \
            tollgate-collector invoice preview --tenant acme --draft --format html > draft.html"
    )]
    Preview {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Whose.
        #[arg(long)]
        tenant: TenantId,
        /// Only what is booked.
        #[arg(long)]
        draft: bool,
        /// Only this currency, where lines wait in several.
        #[arg(long)]
        currency: Option<String>,
        /// How to print.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Issue invoices.
    #[command(
        long_about = "Asks the running collector to issue an invoice over all lines of closed periods that wait, for \
            one tenant or for all. The next number of the issuer is given when the journal is read: numbers have no \
            gaps. With --so-far the open period is booked as it stands and billed too; later invoices bill what it \
            has come to less that. A total of zero or below zero is kept back as the issuer's `zero` and `negative` say.",
        after_help = "Examples:\n  tollgate-collector invoice issue --tenant acme --until 2026-07-01 --reason 'June'\n  \
            tollgate-collector invoice issue --all --reason 'June'\n  \
            tollgate-collector invoice issue --tenant acme --so-far --reason 'first half of July'"
    )]
    Issue {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// To whom.
        #[arg(long, required_unless_present = "all", conflicts_with = "all")]
        tenant: Option<TenantId>,
        /// To everybody for whom lines wait.
        #[arg(long)]
        all: bool,
        /// With what the open period costs so far, which is booked first.
        #[arg(long, conflicts_with_all = ["all", "until"])]
        so_far: bool,
        /// Only what ends no later than this instant (2026-07-01, or RFC 3339).
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Only this currency, where lines wait in several.
        #[arg(long)]
        currency: Option<String>,
        /// Several invoices in these proportions, such as 50,30,20: each bills its part of every line.
        #[arg(
            long,
            value_name = "PARTS",
            value_delimiter = ',',
            conflicts_with = "so_far"
        )]
        split: Vec<u32>,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Void an invoice by a credit note.
    #[command(
        long_about = "Asks the running collector to issue a credit note over a whole invoice. The invoice stays as it \
            is; its lines wait for an invoice again, together with whatever corrects them.",
        after_help = "Example:\n  tollgate-collector invoice void INV-000042 --tenant acme --reason 'wrong address'"
    )]
    Void {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Its number.
        number: String,
        /// Whose invoice.
        #[arg(long)]
        tenant: TenantId,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Show where a line comes from.
    #[command(
        long_about = "Walks from a line (the number of its ledger entry, such as 2-17) to its arithmetic, the windows of \
            usage that it rests on, and the agents and batches that brought them, with their positions in the journal. \
            Reads the data folder; the collector need not run.",
        after_help = "Example:\n  tollgate-collector invoice explain 2-17 --json"
    )]
    Explain {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// The ledger entry.
        line: String,
    },
    /// Write documents to files.
    #[command(
        long_about = "Writes every document to a folder, one file each (JSON or HTML), or all lines to one CSV file.",
        after_help = "Example:\n  tollgate-collector invoice export --format html --to invoices --tenant acme"
    )]
    Export {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// How documents are written: json, csv or html.
        #[arg(long, value_enum, default_value = "json")]
        format: Format,
        /// The folder; made if it does not exist.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

/// Whose legal data.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// Of a tenant.
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// Of an issuer.
    #[arg(long)]
    pub issuer: Option<String>,
}

/// `party`.
#[derive(Debug, Subcommand)]
pub enum PartyCommand {
    /// Set what documents will say of an issuer or a tenant.
    #[command(
        long_about = "Reads a TOML file with `name`, `address` (lines), `country`, `vat_id`, `registration`, `contact`, \
            `bank`, `reverse_charge` and `note`. Documents that are issued from now on say so; issued ones stay.",
        after_help = "Example:\n  tollgate-collector party set --tenant acme --file acme.toml"
    )]
    Set {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// The file.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Show what documents will say.
    #[command(
        long_about = "Shows what documents that are issued now will say of an issuer or a tenant.",
        after_help = "Example:\n  tollgate-collector party show --tenant acme"
    )]
    Show {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Whose.
        #[command(flatten)]
        whose: Whose,
    },
    /// Erase what is known of an issuer or a tenant, also from issued documents.
    #[command(
        long_about = "Overwrites the legal data of an issuer or a tenant, also those of issued documents. The ledger has \
            only salted digests of them: it stays as it is, and `ledger verify` still holds.",
        after_help = "Example:\n  tollgate-collector party erase --tenant acme --reason 'request of 2026-07-02'"
    )]
    Erase {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Whose.
        #[command(flatten)]
        whose: Whose,
        /// Who decides, and why.
        #[command(flatten)]
        decision: Decision,
    },
}

/// `approval`.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List what waits for a second person.
    #[command(
        long_about = "Lists what somebody asked for and somebody else has to agree to ([approval] in the \
            configuration). It waits in the running collector and is forgotten when that stops.",
        after_help = "Example:\n  tollgate-collector approval list"
    )]
    List(Asks),
    /// Agree to something that waits.
    #[command(
        long_about = "Agrees to something that waits; it is done and journaled with both names.",
        after_help = "Example:\n  tollgate-collector approval give 7 --reason 'checked'"
    )]
    Give {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Its number.
        id: u64,
        /// Who agrees, and why.
        #[command(flatten)]
        decision: Decision,
    },
    /// Reject something that waits.
    #[command(
        long_about = "Rejects something that waits; nothing is done.",
        after_help = "Example:\n  tollgate-collector approval reject 7 --reason 'wrong amount'"
    )]
    Reject {
        /// How to print.
        #[command(flatten)]
        output: Asks,
        /// Its number.
        id: u64,
        /// Who rejects, and why.
        #[command(flatten)]
        decision: Decision,
    },
}

/// A one-off line.
#[derive(Clone, Debug, Args)]
pub struct LineArgs {
    /// Whose books.
    #[arg(long)]
    pub tenant: TenantId,
    /// Its name on the invoice.
    #[arg(long)]
    pub line: String,
    /// What it is for.
    #[arg(long)]
    pub text: String,
    /// The amount, above zero.
    #[arg(long)]
    pub amount: String,
    /// Its currency (ISO 4217).
    #[arg(long)]
    pub currency: String,
    /// General-ledger account.
    #[arg(long, default_value = tollgate_collector_core::ledger::GL_DEFAULT)]
    pub gl: String,
    /// Tax on it, on top of the amount.
    #[arg(long, value_name = "CODE=AMOUNT")]
    pub tax: Option<String>,
    /// Of a credit: the line's entry of which it gives back a part, with its part of what taxes stand
    /// charged for that.
    #[arg(long, value_name = "ENTRY", conflicts_with = "tax")]
    pub of: Option<String>,
    /// First instant of what it is for; by default now.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// First instant after.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// The day on which it counts in the general ledger; by default that of the posting.
    #[arg(long, value_name = "DAY")]
    pub date: Option<String>,
    /// Tells it from all others: a second one with the same key is not booked. By default a random
    /// one.
    #[arg(long)]
    pub key: Option<String>,
}

/// `reconcile`.
#[derive(Clone, Debug, Args)]
pub struct ReconcileArgs {
    /// How to print.
    #[command(flatten)]
    pub output: Reads,
    /// The statement, CSV.
    #[arg(long, value_name = "FILE")]
    pub statement: PathBuf,
    /// What its columns are called in the ledger, TOML.
    #[arg(long, value_name = "FILE")]
    pub map: PathBuf,
    /// Only entries of this tenant.
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// Only entries of periods that begin at or after this instant.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only entries of periods that begin before this instant.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
}
