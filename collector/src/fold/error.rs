//! Why the fold cannot go on.

use tollgate_collector_core::journal::reader::ReadError;
use tollgate_collector_core::projection::ProjectionError;

use super::pool::FoldPanicked;

/// Why the fold cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The journal cannot be read on.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The projection cannot be written.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    /// A defect.
    #[error(transparent)]
    Panicked(#[from] FoldPanicked),
    /// The threads cannot be started.
    #[error("cannot start the fold's threads: {0}")]
    Threads(std::io::Error),
    /// The ledger that stands in the projection is not the one that the journal gives.
    #[error(
        "the ledger in the projection is not what this program makes of the journal: of partition {partition} it \
         ends with {stored}, the journal gives {given}. An older version of the program made it, or somebody \
         changed it. Nothing was written. `tollgate-collector ledger verify` names the first entry that differs; \
         to go on, see \"After an upgrade\" in docs/operating.md"
    )]
    OtherLedger {
        /// Of which tenant partition.
        partition: u16,
        /// How the stored one ends.
        stored: String,
        /// How the one ends that the journal gives.
        given: String,
    },
}
