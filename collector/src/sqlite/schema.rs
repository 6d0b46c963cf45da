//! The tables of the projection.
//!
//! Quantities, event counts and amounts are decimal text: SQLite's own numbers end at 64
//! bits and turn into floating point beyond. Times are milliseconds since 1970 (UTC).

use rusqlite::{Connection, OptionalExtension, Transaction};

/// Number of this layout. Another number means a file of another version: it is emptied and
/// built again from the journal.
pub(super) const SCHEMA_VERSION: &str = "3";

/// Marks the file as Tollgate's (`PRAGMA application_id`): "TLGT".
const APPLICATION_ID: i32 = 0x544c_4754;

const TABLES: [&str; 9] = [
    "meta",
    "progress",
    "usage",
    "ledger",
    "agents",
    "accounts",
    "periods",
    "catalogs",
    "catalog_files",
];

const CREATE: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each journal partition is reflected, and whose fold wrote last.
CREATE TABLE progress (
    partition INTEGER PRIMARY KEY,
    position TEXT NOT NULL,
    epoch INTEGER NOT NULL
) STRICT;

-- `detail` is the canonical form of a sketch (docs/formats/sketches.md) where the aggregation
-- has one, else empty.
CREATE TABLE usage (
    tenant TEXT NOT NULL,
    meter TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    window_secs INTEGER NOT NULL,
    dimensions TEXT NOT NULL,
    aggregation TEXT NOT NULL,
    scale INTEGER NOT NULL,
    refused TEXT NOT NULL,
    quantity TEXT NOT NULL,
    events TEXT NOT NULL,
    last_order TEXT NOT NULL,
    detail BLOB NOT NULL,
    PRIMARY KEY (tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_by_window ON usage (window_start);

-- `entry` is the whole entry as JSON, from which its hash is computed; the other columns
-- repeat parts of it for queries.
CREATE TABLE ledger (
    partition INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    posted INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT,
    meter TEXT,
    line TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    period_end INTEGER NOT NULL,
    quantity TEXT NOT NULL,
    scale INTEGER NOT NULL,
    amount TEXT,
    currency TEXT,
    entry TEXT NOT NULL,
    PRIMARY KEY (partition, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_by_tenant ON ledger (tenant, period_start);
CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
-- INSERT OR REPLACE would delete without firing the trigger above.
CREATE TRIGGER ledger_no_replace BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger WHERE partition = NEW.partition AND idx = NEW.idx)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE agents (
    agent TEXT PRIMARY KEY,
    state TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    tenant TEXT NOT NULL,
    meter TEXT NOT NULL,
    scale INTEGER NOT NULL,
    accepted TEXT NOT NULL,
    counted TEXT NOT NULL,
    refused TEXT NOT NULL,
    lost TEXT NOT NULL,
    corrected TEXT NOT NULL,
    PRIMARY KEY (tenant, meter, scale)
) STRICT, WITHOUT ROWID;

CREATE TABLE periods (
    tenant TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    period_end INTEGER NOT NULL,
    status TEXT NOT NULL,
    rounds INTEGER NOT NULL,
    closing TEXT,
    PRIMARY KEY (tenant, period_start, period_end)
) STRICT, WITHOUT ROWID;

-- Catalogs that were applied or proposed, by the position of their journal entry. `change` is the
-- whole entry as JSON without its files.
CREATE TABLE catalogs (
    position TEXT PRIMARY KEY,
    stamp INTEGER NOT NULL,
    digest TEXT NOT NULL,
    change TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The files of each catalog once, as JSON.
CREATE TABLE catalog_files (
    digest TEXT PRIMARY KEY,
    files TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// What `prepare` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The tables of this version.
    Current,
    /// An empty file, or one of another version; now holds empty tables.
    Created,
}

/// Makes sure that the tables are there and of this version.
pub(super) fn prepare(connection: &mut Connection) -> rusqlite::Result<Found> {
    let transaction = connection.transaction()?;
    if version(&transaction)?.as_deref() == Some(SCHEMA_VERSION) {
        return Ok(Found::Current);
    }
    recreate(&transaction)?;
    transaction.commit()?;
    Ok(Found::Created)
}

/// Drops everything and makes empty tables.
pub(super) fn recreate(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for table in TABLES {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {table};"))?;
    }
    transaction.execute_batch(CREATE)?;
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES ('schema', ?1)",
        [SCHEMA_VERSION],
    )?;
    transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID};"))
}

/// The version that the file says it has; `None` for an empty file.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let has_meta: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta')",
        [],
        |row| row.get(0),
    )?;
    if !has_meta {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| {
            row.get(0)
        })
        .optional()
}
