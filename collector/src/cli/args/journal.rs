//! The command line of `journal`.

use clap::Subcommand;

use super::Reads;

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
