//! The seam behind which projections stand: SQLite here, PostgreSQL elsewhere.

use crate::effect::Effect;
use crate::journal::{Epoch, PartitionId};
use crate::ledger::LedgerEntry;
use crate::position::Position;

/// Why a projection did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The stored position is not the one that the caller builds on.
    #[error("projection stands at {found:?}, not at {expected:?}; another fold wrote to it")]
    Moved {
        /// Where the caller thought it stands.
        expected: Option<Position>,
        /// Where it stands.
        found: Option<Position>,
    },
    /// A newer owner has written.
    #[error("projection is owned by epoch {current:?}, this is {ours:?}")]
    Fenced {
        /// The epoch in force.
        current: Epoch,
        /// The epoch of the caller.
        ours: Epoch,
    },
    /// Something stands where an entry should that is none.
    #[error("projection: {0}")]
    Unreadable(String),
    /// The store failed.
    #[error("projection: {0}")]
    Store(String),
}

/// The effects of a stretch of the journal, written in one transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Which journal partition.
    pub partition: PartitionId,
    /// The owner that writes.
    pub epoch: Epoch,
    /// Where the projection must stand before.
    pub after: Option<Position>,
    /// Where it stands afterwards.
    pub upto: Position,
    /// What changes, in order.
    pub effects: Vec<Effect>,
}

/// Tables and files derived from the journal. They can be thrown away and built again.
pub trait Projection {
    /// The last journal entry that is reflected, `None` for an empty projection.
    fn position(&self, partition: PartitionId) -> Result<Option<Position>, ProjectionError>;

    /// Applies a transaction whole or not at all; its position is stored with it, so that an
    /// entry is never applied twice.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), ProjectionError>;

    /// Forgets everything, for building anew.
    fn clear(&mut self) -> Result<(), ProjectionError>;

    /// Ledger entries of a tenant partition with an index above `after`, in order, at most
    /// `limit`.
    fn ledger(
        &self,
        tenant_partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, ProjectionError>;
}
