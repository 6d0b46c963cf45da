//! Reading the projection: bounded pages, through connections that cannot write.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, params, params_from_iter};
use serde::Serialize;
use tollgate_collector_core::ledger::LedgerEntry;
use tollgate_common::{Quantity, Scale, Timestamp};

use super::{BUSY_TIMEOUT, STATEMENTS_MAX, exact, schema, write};

/// Most rows of one page.
pub const LIMIT_MAX: usize = 10_000;
/// Rows of a page unless asked for otherwise.
pub const LIMIT_DEFAULT: usize = 1_000;
/// Longest cursor that is looked at, in bytes.
const CURSOR_BYTES_MAX: usize = 16 << 10;

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
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }
}

/// A page of rows.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

/// Usage of a series in a window, or summed over the windows asked for.
#[derive(Clone, Debug, Serialize)]
pub struct UsageRow {
    /// Who pays.
    pub tenant: String,
    /// What is measured.
    pub meter: String,
    /// First instant of the window; `None` in sums over windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// First instant after the window; `None` in sums over windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// How the meter is split; `None` in sums over series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<serde_json::Value>,
    /// `sum` or `last`.
    pub aggregation: String,
    /// Why it was refused; `None` for usage that counts.
    pub refused: Option<String>,
    /// In the meter's unit, decimal.
    pub quantity: String,
    /// The same in the meter's smallest unit, a whole number.
    pub units: String,
    /// Decimal places of the smallest unit.
    pub scale: u8,
    /// Number of events.
    pub events: String,
}

/// A ledger entry for output: the entry with readable times and both forms of the quantity.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerRow {
    /// `PARTITION-INDEX`.
    pub id: String,
    /// When it was posted.
    pub posted: String,
    /// First instant of the period or of the bound.
    pub start: String,
    /// First instant after.
    pub end: String,
    /// In the meter's unit, decimal.
    pub quantity: String,
    /// The same in the meter's smallest unit, a whole number.
    pub units: String,
    /// Everything else, as it was hashed.
    pub entry: LedgerEntry,
}

impl From<LedgerEntry> for LedgerRow {
    fn from(entry: LedgerEntry) -> Self {
        let posting = &entry.posting;
        Self {
            id: entry.at.to_string(),
            posted: entry.posted.to_string(),
            start: posting.start.to_string(),
            end: posting.end.to_string(),
            quantity: posting.quantity.display(posting.scale).to_string(),
            units: posting.quantity.to_string(),
            entry,
        }
    }
}

/// A billing period.
#[derive(Clone, Debug, Serialize)]
pub struct PeriodRow {
    /// Whose.
    pub tenant: String,
    /// First instant, UTC.
    pub start: String,
    /// First instant after, UTC.
    pub end: String,
    /// `open` or `closed`.
    pub status: String,
    /// How often it was closed.
    pub rounds: u32,
    /// Why and by what it was closed last.
    pub closing: Option<serde_json::Value>,
}

/// The conservation account of a tenant's meter.
#[derive(Clone, Debug, Serialize)]
pub struct AccountRow {
    /// Whose.
    pub tenant: String,
    /// Of which meter.
    pub meter: String,
    /// Decimal places.
    pub scale: u8,
    /// What agents say they counted, in the meter's unit.
    pub accepted: String,
    /// What was folded into periods.
    pub counted: String,
    /// What was refused by policy.
    pub refused: String,
    /// What was declared lost, exactly or at most.
    pub lost: String,
    /// `accepted - counted - refused - lost`: on its way. Below zero if more was declared
    /// lost than was.
    pub pending: String,
}

/// A connection that only reads.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the projection for reading; it may be written to by a collector meanwhile.
    pub fn open(path: &Path) -> Result<Self, QueryError> {
        if !path.exists() {
            return Err(QueryError::Missing(path.to_owned()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
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
            "SELECT tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused, quantity, events
             FROM usage {} ORDER BY tenant, meter, window_start, window_secs, dimensions, aggregation, scale, refused
             LIMIT {}",
            where_.text(),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&where_.values))?;
        let mut page = Page {
            items: Vec::new(),
            next_cursor: None,
        };
        let mut last = None;
        while let Some(row) = rows.next()? {
            if page.items.len() == limit {
                page.next_cursor = last.as_ref().map(encode_cursor);
                break;
            }
            last = Some(UsageKey(
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
            ));
            page.items.push(usage_row(row)?);
        }
        Ok(page)
    }

    /// Sums over windows and series: one row per tenant, meter and reason of refusal. Only
    /// meters whose values add up.
    pub fn usage_totals(&self, filter: &Filter) -> Result<Page<UsageRow>, QueryError> {
        let mut where_ = Where::new(filter, "window_start");
        where_.conditions.push("aggregation = 'sum'".to_owned());
        let sql = format!(
            "SELECT tenant, meter, scale, refused, exact_sum(quantity), exact_sum(events)
             FROM usage {} GROUP BY tenant, meter, scale, refused ORDER BY tenant, meter, scale, refused LIMIT {}",
            where_.text(),
            filter.limit()
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
                    aggregation: "sum".to_owned(),
                    refused: Some(refused).filter(|reason| !reason.is_empty()),
                    quantity,
                    units,
                    scale: row.get(2)?,
                    events: row.get(5)?,
                })
            },
        )?;
        Ok(Page {
            items: rows.collect::<Result<_, _>>()?,
            next_cursor: None,
        })
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
            "SELECT entry FROM ledger {} ORDER BY partition, idx LIMIT {}",
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
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&where_.values))?;
        let mut page = Page {
            items: Vec::new(),
            next_cursor: None,
        };
        let mut last: Option<(String, i64, i64)> = None;
        while let Some(row) = rows.next()? {
            if page.items.len() == limit {
                page.next_cursor = last.as_ref().map(encode_cursor);
                break;
            }
            last = Some((row.get(0)?, row.get(1)?, row.get(2)?));
            let closing: Option<String> = row.get(5)?;
            page.items.push(PeriodRow {
                tenant: row.get(0)?,
                start: time(row, 1)?,
                end: time(row, 2)?,
                status: row.get(3)?,
                rounds: row.get(4)?,
                closing: closing
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| write::conversion(5, error))?,
            });
        }
        Ok(page)
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
            "SELECT tenant, meter, scale, accepted, counted, refused, lost FROM accounts {}
             ORDER BY tenant, meter, scale LIMIT {}",
            where_.text(),
            limit + 1
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&where_.values))?;
        let mut page: Page<AccountRow> = Page {
            items: Vec::new(),
            next_cursor: None,
        };
        while let Some(row) = rows.next()? {
            if page.items.len() == limit {
                page.next_cursor = page
                    .items
                    .last()
                    .map(|row| encode_cursor(&(&row.tenant, &row.meter, row.scale)));
                break;
            }
            page.items.push(account_row(row)?);
        }
        Ok(page)
    }
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
            "SELECT entry FROM ledger WHERE partition = ?1 AND idx > ?2 ORDER BY idx LIMIT ?3",
        )?
        .query_and_then(params![partition, after, limit], ledger_entry)?
        .collect()
}

fn ledger_entry(row: &Row<'_>) -> rusqlite::Result<LedgerEntry> {
    serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|error| write::conversion(0, error))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct UsageKey(String, String, i64, i64, String, String, i64, String);

/// Conditions of a query and their values.
struct Where {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Where {
    fn new(filter: &Filter, time_column: &str) -> Self {
        let mut where_ = Self::of_tenant(filter);
        if let Some(meter) = &filter.meter {
            where_.and("meter = ?", meter.clone());
        }
        where_.between(filter, time_column);
        where_
    }

    fn of_tenant(filter: &Filter) -> Self {
        let mut where_ = Self {
            conditions: Vec::new(),
            values: Vec::new(),
        };
        if let Some(tenant) = &filter.tenant {
            where_.and("tenant = ?", tenant.clone());
        }
        where_
    }

    fn between(&mut self, filter: &Filter, time_column: &str) {
        if let Some(from) = filter.from {
            self.and(&format!("{time_column} >= ?"), from.millis());
        }
        if let Some(to) = filter.to {
            self.and(&format!("{time_column} < ?"), to.millis());
        }
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.conditions.push(condition.to_owned());
        self.values.push(value.into());
    }

    fn text(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.conditions.join(" AND "))
        }
    }
}

/// A cursor is the key of the last row, as hexadecimal JSON: opaque to callers, and safe in a
/// URL without escapes.
fn encode_cursor(key: &impl Serialize) -> String {
    let json = serde_json::to_vec(key).expect("keys are texts and numbers");
    json.iter()
        .fold(String::with_capacity(json.len() * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble is a digit"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble is a digit"));
            text
        })
}

fn decode_cursor<T: serde::de::DeserializeOwned>(cursor: &str) -> Result<T, QueryError> {
    if cursor.len() > CURSOR_BYTES_MAX || !cursor.len().is_multiple_of(2) {
        return Err(QueryError::Cursor);
    }
    let nibble = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let bytes: Option<Vec<u8>> = cursor
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
        .collect();
    serde_json::from_slice(&bytes.ok_or(QueryError::Cursor)?).map_err(|_| QueryError::Cursor)
}

fn time(row: &Row<'_>, column: usize) -> Result<String, QueryError> {
    Ok(Timestamp::from_millis(row.get(column)?).to_string())
}

/// A stored quantity in the meter's unit and in its smallest unit.
fn quantity(row: &Row<'_>, column: usize, scale: u8) -> Result<(String, String), QueryError> {
    let value = parse_quantity(row, column)?;
    let scale = Scale::new(scale).map_err(|_| QueryError::Range("scale"))?;
    Ok((value.display(scale).to_string(), value.to_string()))
}

fn parse_quantity(row: &Row<'_>, column: usize) -> Result<Quantity, QueryError> {
    row.get_ref(column)?
        .as_str()
        .ok()
        .and_then(|text| text.parse::<i128>().ok())
        .map(Quantity::new)
        .ok_or(QueryError::Range("quantity"))
}

fn usage_row(row: &Row<'_>) -> Result<UsageRow, QueryError> {
    let (start, seconds): (i64, i64) = (row.get(2)?, row.get(3)?);
    let start = Timestamp::from_millis(start);
    let scale: u8 = row.get(6)?;
    let (quantity, units) = quantity(row, 8, scale)?;
    let dimensions: String = row.get(4)?;
    let refused: String = row.get(7)?;
    Ok(UsageRow {
        tenant: row.get(0)?,
        meter: row.get(1)?,
        start: Some(start.to_string()),
        end: Some(start.plus_millis(seconds.saturating_mul(1000)).to_string()),
        dimensions: Some(
            serde_json::from_str(&dimensions).map_err(|error| write::conversion(4, error))?,
        ),
        aggregation: row.get(5)?,
        refused: Some(refused).filter(|reason| !reason.is_empty()),
        quantity,
        units,
        scale,
        events: row.get(9)?,
    })
}

fn account_row(row: &Row<'_>) -> Result<AccountRow, QueryError> {
    let scale: u8 = row.get(2)?;
    let scale_type = Scale::new(scale).map_err(|_| QueryError::Range("scale"))?;
    let accepted = parse_quantity(row, 3)?;
    let parts = [
        parse_quantity(row, 4)?,
        parse_quantity(row, 5)?,
        parse_quantity(row, 6)?,
    ];
    let pending = Quantity::checked_sum(parts)
        .and_then(|sum| accepted.checked_sub(sum))
        .ok_or(QueryError::Range("account"))?;
    let text = |quantity: Quantity| quantity.display(scale_type).to_string();
    let [counted, refused, lost] = parts.map(text);
    Ok(AccountRow {
        tenant: row.get(0)?,
        meter: row.get(1)?,
        scale,
        accepted: text(accepted),
        counted,
        refused,
        lost,
        pending: text(pending),
    })
}
