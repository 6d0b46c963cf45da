//! The projection as it stood at one moment, for reading it beside a running collector.

use std::path::Path;

use rusqlite::{Connection, Error};
use tollgate_collector_core::journal::PartitionId;
use tollgate_collector_core::ledger::LedgerEntry;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, ProjectionError, Transaction};

use super::query::{QueryError, Reader};
use super::{progress, query};

/// Reads within one transaction, so that position and ledger belong together however much
/// is booked meanwhile. Writing is refused.
#[derive(Debug)]
pub struct FrozenProjection {
    connection: Connection,
}

impl FrozenProjection {
    /// The projection at `path` as it stands now.
    pub fn open(path: &Path) -> Result<Self, QueryError> {
        let connection = Reader::open(path)?.into_connection();
        connection.execute_batch("BEGIN")?;
        // The transaction begins to see when it first reads.
        progress(&connection, PartitionId(0))?;
        Ok(Self { connection })
    }

    /// The entries of all invoices and credit notes.
    pub fn documents(&self) -> Result<Vec<LedgerEntry>, QueryError> {
        query::documents(&self.connection)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

fn store(error: &rusqlite::Error) -> ProjectionError {
    ProjectionError::Store(error.to_string())
}

fn read_only() -> ProjectionError {
    ProjectionError::Store("the projection is opened for reading".to_owned())
}

impl Projection for FrozenProjection {
    fn position(&self, partition: PartitionId) -> Result<Option<Position>, ProjectionError> {
        let found = progress(&self.connection, partition).map_err(|error| store(&error))?;
        Ok(found.map(|(position, _)| position))
    }

    fn commit(&mut self, _: &Transaction) -> Result<(), ProjectionError> {
        Err(read_only())
    }

    fn clear(&mut self) -> Result<(), ProjectionError> {
        Err(read_only())
    }

    fn ledger(
        &self,
        tenant_partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, ProjectionError> {
        let read = query::ledger_chain(&self.connection, tenant_partition, after, limit);
        read.map_err(|error| match error {
            Error::FromSqlConversionFailure(_, _, why) => {
                ProjectionError::Unreadable(why.to_string())
            }
            error @ (Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..)) => {
                ProjectionError::Unreadable(error.to_string())
            }
            error => store(&error),
        })
    }
}
