//! The projection in SQLite: one file, one writer.
//!
//! The writer is the fold's; everybody else reads through connections of their own
//! ([`query`]), which cannot write. Everything of one [`Transaction`] and its journal
//! position are written in one SQL transaction, synced before `commit` returns, so that the
//! file always stands exactly behind one journal entry. The file can be deleted: it is
//! built again from the journal.

mod details;
mod exact;
mod frozen;
pub mod query;
mod rebuilt;
mod schema;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use tollgate_collector_core::journal::{Epoch, PartitionId};
use tollgate_collector_core::ledger::LedgerEntry;
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::{Projection, ProjectionError, Transaction};

pub use frozen::FrozenProjection;
pub use rebuilt::{Rebuilt, TableDifference};

/// File name below the data folder.
pub const FILE_NAME: &str = "projection.sqlite";
/// How long a statement waits for a lock of another process, such as a backup.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Distinct statements kept prepared.
pub(crate) const STATEMENTS_MAX: usize = 32;

/// The writer's side of the SQLite projection.
#[derive(Debug)]
pub struct SqliteProjection {
    connection: Connection,
    path: PathBuf,
    created: bool,
}

impl SqliteProjection {
    /// Opens the file, or makes it. A file of another layout is emptied.
    pub fn open(path: &Path) -> Result<Self, ProjectionError> {
        let open = || -> rusqlite::Result<(Connection, bool)> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX
                | OpenFlags::SQLITE_OPEN_NOFOLLOW;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // NORMAL would lose the last transactions at a power cut. They would be built
            // again, but a reader may have seen them.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
            exact::register(&connection)?;
            let created = schema::prepare(&mut connection)? == schema::Found::Created;
            Ok((connection, created))
        };
        let (connection, created) = open().map_err(|error| {
            ProjectionError::Store(format!(
                "{}: {error} (if the file is damaged, delete it: it is built again from the journal)",
                path.display()
            ))
        })?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            created,
        })
    }

    /// True if the file was missing or of another layout, and is now empty.
    pub fn was_created(&self) -> bool {
        self.created
    }

    fn store_error(&self, error: &rusqlite::Error) -> ProjectionError {
        ProjectionError::Store(format!("{}: {error}", self.path.display()))
    }
}

/// The stored position and epoch of a partition.
fn progress(
    connection: &Connection,
    partition: PartitionId,
) -> rusqlite::Result<Option<(Position, Epoch)>> {
    let row = connection
        .prepare_cached("SELECT position, epoch FROM progress WHERE partition = ?1")?
        .query_row([partition.0], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    row.map(|(position, epoch)| {
        let position = position
            .parse()
            .map_err(|error| write::conversion(0, error))?;
        let epoch = u64::try_from(epoch).map_err(|error| write::conversion(1, error))?;
        Ok((position, Epoch(epoch)))
    })
    .transpose()
}

/// Checks that the caller may write and builds on what is there, then writes.
fn try_commit(
    connection: &mut Connection,
    transaction: &Transaction,
) -> rusqlite::Result<Result<(), ProjectionError>> {
    let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let standing = progress(&sql, transaction.partition)?;
    if let Some((_, current)) = standing
        && current > transaction.epoch
    {
        return Ok(Err(ProjectionError::Fenced {
            current,
            ours: transaction.epoch,
        }));
    }
    let found = standing.map(|(position, _)| position);
    if found != transaction.after {
        return Ok(Err(ProjectionError::Moved {
            expected: transaction.after,
            found,
        }));
    }
    write::effects(&sql, &transaction.effects)?;
    write::progress(&sql, transaction)?;
    sql.commit()?;
    Ok(Ok(()))
}

impl Projection for SqliteProjection {
    fn position(&self, partition: PartitionId) -> Result<Option<Position>, ProjectionError> {
        let found =
            progress(&self.connection, partition).map_err(|error| self.store_error(&error))?;
        Ok(found.map(|(position, _)| position))
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), ProjectionError> {
        let done = try_commit(&mut self.connection, transaction);
        done.unwrap_or_else(|error| Err(self.store_error(&error)))
    }

    fn clear(&mut self) -> Result<(), ProjectionError> {
        let clear = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            schema::recreate(&transaction)?;
            transaction.commit()
        };
        clear(&mut self.connection).map_err(|error| self.store_error(&error))
    }

    fn ledger(
        &self,
        tenant_partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, ProjectionError> {
        query::ledger_chain(&self.connection, tenant_partition, after, limit)
            .map_err(|error| self.store_error(&error))
    }
}

#[cfg(test)]
mod tests;
