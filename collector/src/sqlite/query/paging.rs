//! Conditions, cursors and pages.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};
use serde::Serialize;

use super::{Filter, Page, QueryError};

/// Longest cursor that is looked at, in bytes.
const CURSOR_BYTES_MAX: usize = 16 << 10;

/// The key of a row of `usage`.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct UsageKey(
    pub(super) String,
    pub(super) String,
    pub(super) i64,
    pub(super) i64,
    pub(super) String,
    pub(super) String,
    pub(super) i64,
    pub(super) String,
);

/// Conditions of a query and their values.
pub(crate) struct Where {
    pub(crate) conditions: Vec<String>,
    pub(crate) values: Vec<Value>,
}

impl Where {
    pub(crate) fn new(filter: &Filter, time_column: &str) -> Self {
        let mut where_ = Self::of_tenant(filter);
        if let Some(meter) = &filter.meter {
            where_.and("meter = ?", meter.clone());
        }
        where_.between(filter, time_column);
        where_
    }

    pub(crate) fn of_tenant(filter: &Filter) -> Self {
        let mut where_ = Self {
            conditions: Vec::new(),
            values: Vec::new(),
        };
        if let Some(tenant) = &filter.tenant {
            where_.and("tenant = ?", tenant.clone());
        }
        where_
    }

    pub(crate) fn between(&mut self, filter: &Filter, time_column: &str) {
        if let Some(from) = filter.from {
            self.and(&format!("{time_column} >= ?"), from.millis());
        }
        if let Some(to) = filter.to {
            self.and(&format!("{time_column} < ?"), to.millis());
        }
    }

    pub(crate) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.conditions.push(condition.to_owned());
        self.values.push(value.into());
    }

    pub(crate) fn text(&self) -> String {
        if self.conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.conditions.join(" AND "))
        }
    }
}

/// A cursor is the key of the last row, as hexadecimal JSON: opaque to callers, and safe in a
/// URL without escapes.
pub(crate) fn encode_cursor(key: &impl Serialize) -> String {
    let json = serde_json::to_vec(key).expect("keys are texts and numbers");
    json.iter()
        .fold(String::with_capacity(json.len() * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble is a digit"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble is a digit"));
            text
        })
}

pub(crate) fn decode_cursor<T: serde::de::DeserializeOwned>(cursor: &str) -> Result<T, QueryError> {
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

/// A page of at most `limit` rows of a query that asks for one more. `key` is what the cursor of a
/// row says, and `item` what the row does.
pub(crate) fn read_page<K: Serialize, T>(
    connection: &Connection,
    sql: &str,
    values: &[Value],
    limit: usize,
    key: impl Fn(&Row<'_>) -> rusqlite::Result<K>,
    item: impl Fn(&Row<'_>) -> Result<T, QueryError>,
) -> Result<Page<T>, QueryError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
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
        last = Some(key(row)?);
        page.items.push(item(row)?);
    }
    Ok(page)
}
