//! Reading the projection: bounded pages, through connections that cannot write.

mod catalogs;
mod paging;
mod rows;
mod windows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params, params_from_iter};
use tollgate_collector_core::ledger::{EntryKind, LedgerEntry};
use tollgate_common::Timestamp;

use super::{BUSY_TIMEOUT, STATEMENTS_MAX, exact, schema, write};
pub use catalogs::CatalogRow;
use paging::UsageKey;
pub(crate) use paging::{Where, decode_cursor, encode_cursor, read_page};
pub use rows::{AccountRow, LedgerRow, Page, PeriodRow, UsageRow};
use rows::{account_row, quantity, time, usage_row};

/// Most rows of one page.
pub const LIMIT_MAX: usize = 10_000;
/// Rows of a page unless asked for otherwise.
pub const LIMIT_DEFAULT: usize = 1_000;

/// The kinds of ledger entries, as [`Filter::kind`] has them.
pub const KINDS: [&str; EntryKind::ALL.len()] = {
    let mut kinds = [""; EntryKind::ALL.len()];
    let mut index = 0;
    while index < kinds.len() {
        kinds[index] = EntryKind::ALL[index].as_str();
        index += 1;
    }
    kinds
};

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no projection yet.
    #[error("{0} does not exist (has the collector run with this data folder?)")]
    Missing(PathBuf),
    /// The file has another layout than this version reads.
    #[error(
        "{path} has layout {found}, this version reads {expected}: start the collector once, it rebuilds the file"
    )]
    Layout {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: String,
        /// Ours.
        expected: &'static str,
    },
    /// The cursor is not one that a page before gave.
    #[error("the cursor is not one that an earlier page gave")]
    Cursor,
    /// A number of the database does not fit where it belongs.
    #[error(
        "the projection holds a value that is out of range: {0} (delete the file: it is built again)"
    )]
    Range(&'static str),
    /// SQLite failed.
    #[error("projection: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Which rows; empty fields match everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this tenant.
    pub tenant: Option<String>,
    /// Only this meter.
    pub meter: Option<String>,
    /// Only what begins at or after this instant.
    pub from: Option<Timestamp>,
    /// Only what begins before this instant.
    pub to: Option<Timestamp>,
    /// Only entries of this kind (ledger).
    pub kind: Option<String>,
    /// Only rows behind this cursor of an earlier page.
    pub cursor: Option<String>,
    /// At most this many, itself at most [`LIMIT_MAX`].
    pub limit: Option<usize>,
}

impl Filter {
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }
}

/// A connection that only reads.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

/// Reads a file that a collector may write to meanwhile.
pub trait ReadOnly: Sized + Send + 'static {
    /// Opens the file.
    ///
    /// # Errors
    /// If it is not there, of another layout, or `SQLite` fails.
    fn open(path: &Path) -> Result<Self, QueryError>;

    /// True while the file is the one that stands there.
    fn is_current(&self, _path: &Path) -> bool {
        true
    }
}

/// A connection that cannot write.
pub(crate) fn read_only(path: &Path) -> Result<Connection, QueryError> {
    if !path.exists() {
        return Err(QueryError::Missing(path.to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

impl ReadOnly for Reader {
    fn open(path: &Path) -> Result<Self, QueryError> {
        Self::open(path)
    }
}

impl Reader {
    /// Opens the projection for reading; it may be written to by a collector meanwhile.
    pub fn open(path: &Path) -> Result<Self, QueryError> {
        let connection = read_only(path)?;
        exact::register(&connection)?;
        let found = schema::version(&connection)?;
        if found.as_deref() == Some(schema::SCHEMA_VERSION) {
            return Ok(Self { connection });
        }
        let found = found.unwrap_or_else(|| "none".to_owned());
        Err(QueryError::Layout {
            path: path.to_owned(),
            found,
            expected: schema::SCHEMA_VERSION,
        })
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Usage by series and window, in the order of tenant, meter, window.
    pub fn usage(&self, filter: &Filter) -> Result<Page<UsageRow>, QueryError> {
        let mut where_ = Where::new(filter, "window_start");
        if let Some(cursor) = &filter.cursor {
            let key: UsageKey = decode_cursor(cursor)?;
            where_.conditions.push(
                "(tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused)
                 > (?, ?, ?, ?, ?, ?, ?, ?)"
                    .to_owned(),
            );
            let UsageKey(tenant, meter, start, secs, dimensions, aggregation, scale, refused) = key;
            where_
                .values
                .extend([tenant.into(), meter.into(), start.into(), secs.into()]);
            where_.values.extend([
                Value::from(dimensions),
                aggregation.into(),
                scale.into(),
                refused.into(),
            ]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused, quantity, events, detail
             FROM usage {} ORDER BY tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused
             LIMIT {}",
            where_.text(),
            limit + 1
        );
        let key = |row: &Row<'_>| {
            Ok(UsageKey(
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
            ))
        };
        read_page(
            &self.connection,
            &sql,
            &where_.values,
            limit,
            key,
            usage_row,
        )
    }

    /// Sums over windows and series: one row per tenant, meter, reason of refusal and
    /// aggregation. Only what adds up.
    pub fn usage_totals(&self, filter: &Filter) -> Result<Page<UsageRow>, QueryError> {
        let mut where_ = Where::new(filter, "window_start");
        where_
            .conditions
            .push("aggregation IN ('sum', 'distribution', 'time_weighted')".to_owned());
        if let Some(cursor) = &filter.cursor {
            let key: (String, String, i64, String, String) = decode_cursor(cursor)?;
            where_
                .conditions
                .push("(tenant, meter, scale, refused, aggregation) > (?, ?, ?, ?, ?)".to_owned());
            let (tenant, meter, scale, refused, aggregation) = key;
            where_
                .values
                .extend([tenant.into(), meter.into(), Value::from(scale)]);
            where_.values.extend([refused.into(), aggregation.into()]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT tenant, meter, scale, refused, exact_sum(quantity), exact_sum(events), aggregation
             FROM usage {} GROUP BY tenant, meter, scale, refused, aggregation
             ORDER BY tenant, meter, scale, refused, aggregation LIMIT {}",
            where_.text(),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_and_then(
            params_from_iter(&where_.values),
            |row| -> Result<_, QueryError> {
                let (quantity, units) = quantity(row, 4, row.get(2)?)?;
                let refused: String = row.get(3)?;
                Ok(UsageRow {
                    tenant: row.get(0)?,
                    meter: row.get(1)?,
                    start: None,
                    end: None,
                    dimensions: None,
                    aggregation: row.get(6)?,
                    refused: Some(refused).filter(|reason| !reason.is_empty()),
                    quantity,
                    units,
                    scale: row.get(2)?,
                    events: row.get(5)?,
                    exact: None,
                    distribution: None,
                })
            },
        )?;
        let mut items: Vec<UsageRow> = rows.collect::<Result<_, _>>()?;
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|row| {
            let refused = row.refused.as_deref().unwrap_or_default();
            encode_cursor(&(
                &row.tenant,
                &row.meter,
                row.scale,
                refused,
                &row.aggregation,
            ))
        });
        Ok(Page { items, next_cursor })
    }

    /// Ledger entries in the order of partition and number.
    pub fn ledger(&self, filter: &Filter) -> Result<Page<LedgerRow>, QueryError> {
        let mut where_ = Where::new(filter, "period_start");
        if let Some(kind) = &filter.kind {
            where_.and("kind = ?", kind.clone());
        }
        if let Some(cursor) = &filter.cursor {
            let (partition, index) = cursor.split_once('-').ok_or(QueryError::Cursor)?;
            let partition: u16 = partition.parse().map_err(|_| QueryError::Cursor)?;
            let index: i64 = index.parse().map_err(|_| QueryError::Cursor)?;
            where_
                .conditions
                .push("(partition, idx) > (?, ?)".to_owned());
            where_
                .values
                .extend([i64::from(partition).into(), index.into()]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT entry, partition, idx FROM ledger {} ORDER BY partition, idx LIMIT {}",
            where_.text(),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_and_then(params_from_iter(&where_.values), ledger_entry)?;
        let mut items: Vec<LedgerRow> = Vec::new();
        let mut next_cursor = None;
        for entry in rows {
            let entry = entry?;
            if items.len() == limit {
                next_cursor = items.last().map(|row| row.id.clone());
                break;
            }
            items.push(entry.into());
        }
        Ok(Page { items, next_cursor })
    }

    /// The number of the newest entry of each partition's chain. Entries of one tenant may lie in
    /// several: beside its own in those of whoever pays for it.
    pub fn ledger_heads(&self) -> Result<BTreeMap<u16, u64>, QueryError> {
        // A look into the index for each chain, and not one at every entry.
        let mut statement = self.connection.prepare_cached(
            "WITH RECURSIVE chain (id) AS (
                SELECT MIN(partition) FROM ledger
                UNION ALL
                SELECT (SELECT MIN(partition) FROM ledger WHERE partition > id) FROM chain WHERE id IS NOT NULL
             )
             SELECT id, (SELECT MAX(idx) FROM ledger WHERE partition = id) FROM chain WHERE id IS NOT NULL",
        )?;
        let heads = statement.query_and_then([], |row| {
            let index = row.get::<_, i64>(1)?;
            let index = u64::try_from(index).map_err(|_| QueryError::Range("idx"))?;
            Ok((row.get(0)?, index))
        })?;
        heads.collect()
    }

    /// Entries of one tenant partition's chain above number `after`.
    pub fn ledger_chain(
        &self,
        partition: u16,
        after: u64,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, QueryError> {
        Ok(ledger_chain(&self.connection, partition, after, limit)?)
    }

    /// What is known of each agent, as JSON objects with readable times.
    pub fn agents(&self, filter: &Filter) -> Result<Page<serde_json::Value>, QueryError> {
        let limit = filter.limit();
        let after = filter.cursor.clone().unwrap_or_default();
        let mut statement = self.connection.prepare_cached(
            "SELECT agent, state FROM agents WHERE agent > ?1 ORDER BY agent LIMIT ?2",
        )?;
        let limit_plus = i64::try_from(limit + 1).map_err(|_| QueryError::Range("limit"))?;
        let mut rows = statement.query(params![after, limit_plus])?;
        let mut page = Page {
            items: Vec::new(),
            next_cursor: None,
        };
        let mut last = None;
        while let Some(row) = rows.next()? {
            if page.items.len() == limit {
                page.next_cursor = last;
                break;
            }
            last = Some(row.get(0)?);
            let text: String = row.get(1)?;
            let mut state: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| write::conversion(1, error))?;
            for key in ["watermark", "last_seen"] {
                if let Some(millis) = state.get(key).and_then(serde_json::Value::as_i64) {
                    state[key] = Timestamp::from_millis(millis).to_string().into();
                }
            }
            page.items.push(state);
        }
        Ok(page)
    }

    /// Periods in the order of tenant and start.
    pub fn periods(&self, filter: &Filter) -> Result<Page<PeriodRow>, QueryError> {
        let mut where_ = Where::of_tenant(filter);
        where_.between(filter, "period_start");
        if let Some(cursor) = &filter.cursor {
            let key: (String, i64, i64) = decode_cursor(cursor)?;
            where_
                .conditions
                .push("(tenant, period_start, period_end) > (?, ?, ?)".to_owned());
            where_
                .values
                .extend([key.0.into(), key.1.into(), key.2.into()]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT tenant, period_start, period_end, status, rounds, closing FROM periods {}
             ORDER BY tenant, period_start, period_end LIMIT {}",
            where_.text(),
            limit + 1
        );
        let item = |row: &Row<'_>| {
            let closing: Option<String> = row.get(5)?;
            Ok(PeriodRow {
                tenant: row.get(0)?,
                start: time(row, 1)?,
                end: time(row, 2)?,
                status: row.get(3)?,
                rounds: row.get(4)?,
                closing: closing
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| write::conversion(5, error))?,
            })
        };
        read_page(
            &self.connection,
            &sql,
            &where_.values,
            limit,
            period_key,
            item,
        )
    }

    /// The conservation accounts, in the order of tenant and meter.
    pub fn accounts(&self, filter: &Filter) -> Result<Page<AccountRow>, QueryError> {
        let mut where_ = Where::of_tenant(filter);
        if let Some(meter) = &filter.meter {
            where_.and("meter = ?", meter.clone());
        }
        if let Some(cursor) = &filter.cursor {
            let key: (String, String, i64) = decode_cursor(cursor)?;
            where_
                .conditions
                .push("(tenant, meter, scale) > (?, ?, ?)".to_owned());
            where_
                .values
                .extend([key.0.into(), key.1.into(), key.2.into()]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT tenant, meter, scale, accepted, counted, refused, lost, corrected FROM accounts {}
             ORDER BY tenant, meter, scale LIMIT {}",
            where_.text(),
            limit + 1
        );
        read_page(
            &self.connection,
            &sql,
            &where_.values,
            limit,
            account_key,
            account_row,
        )
    }
}

fn period_key(row: &Row<'_>) -> rusqlite::Result<(String, i64, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn account_key(row: &Row<'_>) -> rusqlite::Result<(String, String, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// Entries of one chain; shared with the writer.
pub(super) fn ledger_chain(
    connection: &Connection,
    partition: u16,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<LedgerEntry>> {
    // Numbers above 63 bits are never written; nothing lies behind them.
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT entry, partition, idx FROM ledger WHERE partition = ?1 AND idx > ?2 ORDER BY idx LIMIT ?3",
        )?
        .query_and_then(params![partition, after, limit], ledger_entry)?
        .collect()
}

/// The entries of all invoices and credit notes.
pub(super) fn documents(connection: &Connection) -> Result<Vec<LedgerEntry>, QueryError> {
    let mut statement = connection.prepare_cached(
        "SELECT entry, partition, idx FROM ledger WHERE kind IN ('invoice', 'credit_note') ORDER BY partition, idx",
    )?;
    let found = statement.query_map([], ledger_entry)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What stands where an entry should.
#[derive(Debug, thiserror::Error)]
#[error("ledger entry {partition}-{index} cannot be read: {error}")]
struct Unreadable {
    partition: i64,
    index: i64,
    error: String,
}

/// An entry with its place, `entry, partition, idx`.
fn ledger_entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    let text = row.get_ref(0)?.as_str().map_err(|error| error.to_string());
    let read = text.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
    let (partition, index) = (row.get(1)?, row.get(2)?);
    read.map_err(|error| {
        let unreadable = Unreadable {
            partition,
            index,
            error,
        };
        write::conversion(0, unreadable)
    })
}
