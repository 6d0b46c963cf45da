//! Reading accruals: bounded pages, through connections that cannot write.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::{Connection, Row};
use serde_json::Value;

use crate::sqlite::query::{
    Filter, Page, QueryError, ReadOnly, Where, decode_cursor, read_only, read_page,
};

/// Device and number of a file.
pub(super) type FileId = (u64, u64);

/// Which file stands at a path, if any.
pub(super) fn file_id(path: &Path) -> Option<FileId> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A connection that only reads.
#[derive(Debug)]
pub struct AccrualReader {
    connection: Connection,
    file: Option<FileId>,
}

impl ReadOnly for AccrualReader {
    fn open(path: &Path) -> Result<Self, QueryError> {
        let file = file_id(path);
        let connection = read_only(path)?;
        Ok(Self { connection, file })
    }

    /// A file that was removed is made anew, and the old one says nothing any more.
    fn is_current(&self, path: &Path) -> bool {
        self.file.is_some() && file_id(path) == self.file
    }
}

impl AccrualReader {
    /// Open periods in the order of tenant and start.
    pub fn accruals(&self, filter: &Filter) -> Result<Page<Value>, QueryError> {
        let mut where_ = Where::of_tenant(filter);
        if let Some(cursor) = &filter.cursor {
            let (tenant, start, payer): (String, i64, String) = decode_cursor(cursor)?;
            let behind = "(tenant, period_start, payer) > (?, ?, ?)".to_owned();
            where_.conditions.push(behind);
            where_
                .values
                .extend([tenant.into(), start.into(), payer.into()]);
        }
        let limit = filter.limit();
        let sql = format!(
            "SELECT tenant, period_start, payer, accrual FROM accruals {}
             ORDER BY tenant, period_start, payer LIMIT {}",
            where_.text(),
            limit + 1
        );
        let key = |row: &Row<'_>| {
            let key: (String, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(key)
        };
        let item = |row: &Row<'_>| json(row.get_ref(3)?.as_str());
        read_page(&self.connection, &sql, &where_.values, limit, key, item)
    }

    /// Everybody's shares and amounts.
    pub fn totals(&self) -> Result<Value, QueryError> {
        let sql = "SELECT totals FROM totals WHERE id = 0";
        let text: String = self.connection.query_row(sql, [], |row| row.get(0))?;
        json(Ok(&text))
    }
}

fn json(text: rusqlite::types::FromSqlResult<&str>) -> Result<Value, QueryError> {
    text.ok()
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or(QueryError::Range("accruals"))
}
