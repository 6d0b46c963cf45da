//! The command line of `catalog`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tollgate_common::TenantId;

use super::{AppliesCatalog, Reads, ReadsCatalog};

/// `catalog`.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Check a catalog and run the tests that stand beside its prices.
    #[command(
        long_about = "Reads a catalog folder, shows every mistake with its file, line and key, and runs its tests \
            (*.test.toml): usage in, lines and their sum out. Exit code 78 if anything is wrong.",
        after_help = "Example:\n  tollgate-collector catalog check --catalog /etc/tollgate/catalog"
    )]
    Check {
        /// The catalog folder.
        #[arg(long, env = "TOLLGATE_COLLECTOR_CATALOG", value_name = "DIR")]
        catalog: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Run the tests of a catalog one by one.
    #[command(
        long_about = "Runs the tests that stand beside the prices (*.test.toml) and says of each whether it passes; \
            one that fails shows the arithmetic. Exit code 1 if one fails, 78 if the catalog itself is wrong.",
        after_help = "Example:\n  tollgate-collector catalog test --catalog catalog"
    )]
    Test {
        /// The catalog folder.
        #[arg(long, env = "TOLLGATE_COLLECTOR_CATALOG", value_name = "DIR")]
        catalog: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what the catalog folder would change, for whom, and in money.
    #[command(
        long_about = "Compares the catalog folder with what is in force: which tenants it changes anything for, and \
            what the current and the last closed period of each of them would have cost by it, per tenant and in \
            total. Works on the data folder, also while the collector runs; changes nothing.",
        after_help = "Examples:\n  tollgate-collector catalog plan --catalog draft\n  \
            tollgate-collector catalog plan --catalog draft --tenant acme --json"
    )]
    Plan {
        /// Which configuration and catalog folder, and how to print.
        #[command(flatten)]
        output: ReadsCatalog,
        /// Only for these tenants; can be repeated.
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<TenantId>,
    },
    /// Put the catalog folder, or a former version, in force.
    #[command(
        long_about = "Hands the catalog folder to the running collector. It is checked and its tests are run; what is \
            wrong refuses it as a whole before anything changes. It is in force from the next quarter of an hour \
            on: usage is rated by what was in force at its time. With --tenant it is in force for these tenants \
            only. With --version a former version is put in force again, which takes back what came after. Where \
            the configuration asks for a second person, it waits until somebody else says --approve.",
        after_help = "Examples:\n  tollgate-collector catalog apply --catalog draft --reason 'prices of July'\n  \
            tollgate-collector catalog apply --catalog draft --tenant acme --reason 'try it with acme'\n  \
            tollgate-collector catalog apply --version 3f1c9a20 --reason 'taken back: wrong tier'\n  \
            tollgate-collector catalog apply --approve 3f1c9a20 --author lee --reason 'looked through'"
    )]
    Apply(ApplyArgs),
    /// List what was applied, when, by whom and why.
    #[command(
        long_about = "Lists the versions of the catalog, oldest first, from the data folder; the collector need not \
            run.",
        after_help = "Example:\n  tollgate-collector catalog history --json"
    )]
    History {
        /// How to print.
        #[command(flatten)]
        output: Reads,
        /// Only what concerns this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Show a version or one of its files.
    #[command(
        long_about = "Shows the files of a version that was applied or proposed, or the text of one of them. A \
            version is its digest or the first digits of it (six at least), `applied` (what is in force for everybody), `folder` \
            (the catalog folder), or the path of a folder.",
        after_help = "Examples:\n  tollgate-collector catalog show applied\n  \
            tollgate-collector catalog show 3f1c9a20 cards/edge.toml"
    )]
    Show {
        /// How to print.
        #[command(flatten)]
        output: ReadsCatalog,
        /// Which version.
        version: String,
        /// Which of its files.
        file: Option<String>,
    },
    /// Compare two versions key by key.
    #[command(
        long_about = "Compares two versions by what they say, price by price. A version is what `show` takes.",
        after_help = "Examples:\n  tollgate-collector catalog diff applied folder\n  \
            tollgate-collector catalog diff 3f1c9a20 9b04de11"
    )]
    Diff {
        /// How to print.
        #[command(flatten)]
        output: ReadsCatalog,
        /// The version before.
        before: String,
        /// The version after.
        #[arg(default_value = "folder")]
        after: String,
    },
    /// Make a key that signs catalogs.
    #[command(
        long_about = "Makes an Ed25519 key (PKCS#8 PEM, mode 0600) and shows its public half for \
            [catalog.trusted_keys] of the collector's configuration.",
        after_help = "Example:\n  tollgate-collector catalog keygen --out kim.key"
    )]
    Keygen {
        /// The file to make; none is overwritten.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sign the catalog folder.
    #[command(
        long_about = "Checks the catalog, runs its tests, and writes a signature of exactly these files to catalog.sig \
            in the folder, beside those of others that still fit. `catalog apply` hands it over.",
        after_help = "Example:\n  tollgate-collector catalog sign --catalog draft --key kim.key"
    )]
    Sign {
        /// The catalog folder.
        #[arg(long, env = "TOLLGATE_COLLECTOR_CATALOG", value_name = "DIR")]
        catalog: PathBuf,
        /// The private key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `catalog apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Which configuration and catalog folder, and how to print.
    #[command(flatten)]
    pub output: AppliesCatalog,
    /// A former version instead of the catalog folder: its digest, or the first digits of it.
    #[arg(long, value_name = "DIGEST", conflicts_with = "approve")]
    pub version: Option<String>,
    /// Approve what somebody else proposed: its digest, or the first digits of it.
    #[arg(long, value_name = "DIGEST", conflicts_with = "tenants")]
    pub approve: Option<String>,
    /// Only for these tenants; can be repeated.
    #[arg(long = "tenant", value_name = "TENANT")]
    pub tenants: Vec<TenantId>,
    /// Why; it is kept in the journal.
    #[arg(long)]
    pub reason: String,
    /// Who decides; the user id is journaled beside it.
    #[arg(long, env = "USER", default_value = "unknown")]
    pub author: String,
    /// Sign it with this private key, beside what catalog.sig has.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}
