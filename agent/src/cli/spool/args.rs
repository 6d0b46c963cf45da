//! The arguments of `spool`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::ConfigArgs;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SpoolCommand {
    /// List what the spool holds, in its order.
    ///
    /// Batches, tombstones, anchors (the end of batches that were let go), damaged places, and the
    /// numbers that are missing. May be used while the agent runs.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent spool list\n",
        "  tollgate-agent spool list --json | jq 'select(.kind == \"gap\")'"
    ))]
    List(SpoolArgs),
    /// Show batches whole: header, losses, running totals, rows.
    ///
    /// By number, by incarnation (or the beginning of its name), or both. May be used while the
    /// agent runs.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent spool inspect 17\n",
        "  tollgate-agent spool inspect --incarnation 3f2a --json"
    ))]
    Inspect(InspectArgs),
    /// Check every byte, every number and every hash; changes nothing.
    ///
    /// Ends with 1 if something is missing or damaged, and says exactly what: places,
    /// numbers, and, where running totals tell, whose usage. May be used while the agent runs.
    Verify(SpoolArgs),
    /// Make a damaged spool whole; the agent must be stopped.
    ///
    /// Copies what can be read, leaves out what cannot, and writes a tombstone for every batch
    /// that is missing, so that the collector declares it lost. The copy takes the place of the
    /// spool in one step; the damaged one stays beside it (`spool.damaged-N`) until it is
    /// removed by hand. A spool without damage is left as it is.
    Repair(RepairArgs),
    /// Write the batches out, for delivery by hand.
    ///
    /// One JSON object per line on standard output, or with --records one file per batch
    /// with its record as it is stored. May be used while the agent runs.
    #[command(after_help = concat!(
        "Examples:\n",
        "  tollgate-agent spool export > batches.jsonl\n",
        "  tollgate-agent spool export --records /mnt/usb/edge-1"
    ))]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SpoolArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Write JSON objects, one per line.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArgs {
    #[command(flatten)]
    pub(super) spool: SpoolArgs,
    /// The number of a batch.
    #[arg(value_name = "SEQ", required_unless_present = "incarnation")]
    pub(super) sequence: Option<u64>,
    /// An incarnation, or the beginning of its name.
    #[arg(long, value_name = "HEX")]
    pub(super) incarnation: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RepairArgs {
    #[command(flatten)]
    pub(super) spool: SpoolArgs,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    pub(super) spool: SpoolArgs,
    /// Write a file per batch into this folder instead.
    #[arg(long, value_name = "DIR")]
    pub(super) records: Option<PathBuf>,
}
