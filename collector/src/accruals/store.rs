//! The file of the accruals, as its only writer sees it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use serde_json::{Value, json};
use tollgate_collector_core::fold::tenant::{Accrual, Shares};
use tollgate_common::{TenantId, Timestamp};

use super::Rated;
use super::query::{FileId, file_id};
use crate::sqlite::{BUSY_TIMEOUT, STATEMENTS_MAX};

/// `payer` is whose period it is: the tenant's own, or that of who pays for it. `accrual` is what is answered for the period, and `shares` what it adds to the totals, as JSON.
/// Times are milliseconds since 1970 (UTC).
const CREATE: &str = "
CREATE TABLE accruals (
    tenant TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    payer TEXT NOT NULL,
    period_end INTEGER NOT NULL,
    as_of INTEGER NOT NULL,
    accrual TEXT NOT NULL,
    shares TEXT NOT NULL,
    PRIMARY KEY (tenant, period_start, payer)
) STRICT, WITHOUT ROWID;
CREATE INDEX accruals_by_payer ON accruals (payer);

CREATE TABLE totals (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    as_of INTEGER NOT NULL,
    tenants INTEGER NOT NULL,
    totals TEXT NOT NULL
) STRICT;
";

/// Most meters that a period, or everybody's sum, names, in the order of their names.
const METERS_MAX: usize = 1000;
/// Most lines of a period that are told one by one, what is rated first. Who reports invents names of
/// meters, each of which is a line; and a row of the file has its end.
const LINES_MAX: usize = 10_000;

/// Why accruals were not written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(crate) struct StoreError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Which file it is, by device and number.
    file: Option<FileId>,
    /// SQLite says that the file is no database any more.
    damaged: bool,
    /// What was rated last of what stands in it.
    as_of: Option<Timestamp>,
    tenants: u64,
    totals: Shares,
}

impl Store {
    /// Makes the file, in place of one of another life.
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let open = || -> rusqlite::Result<Connection> {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                match std::fs::remove_file(&name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(error)));
                    }
                    _ => {}
                }
            }
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // It is made anew at the next start, so that nothing of it has to last.
            connection.pragma_update(None, "synchronous", "OFF")?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
            connection.execute_batch(CREATE)?;
            Ok(connection)
        };
        let connection = open().map_err(|source| StoreError {
            path: path.to_owned(),
            source,
        })?;
        let mut store = Self {
            connection,
            path: path.to_owned(),
            file: file_id(path),
            damaged: false,
            as_of: None,
            tenants: 0,
            totals: Shares::default(),
        };
        store.write(&[])?;
        Ok(store)
    }

    /// True while the file is where it was made, and a database.
    pub(crate) fn is_sound(&self) -> bool {
        !self.damaged && self.file.is_some() && file_id(&self.path) == self.file
    }

    /// Up to when it was written.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    /// Makes the file again, with nothing in it.
    pub(crate) fn make_anew(&mut self) -> Result<(), StoreError> {
        *self = Self::create(&self.path)?;
        Ok(())
    }

    /// Everybody's shares and amounts.
    pub(crate) fn totals(&self) -> &Shares {
        &self.totals
    }

    /// Puts tenants' open periods in the place of those that were known of them, all or nothing.
    pub(crate) fn write(&mut self, rated: &[Rated]) -> Result<(), StoreError> {
        let (tenants, totals) = (self.tenants, self.totals.clone());
        self.try_write(rated).map_err(|source| {
            (self.tenants, self.totals) = (tenants, totals);
            self.damaged |= matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            );
            StoreError {
                path: self.path.clone(),
                source,
            }
        })
    }

    fn try_write(&mut self, rated: &[Rated]) -> rusqlite::Result<()> {
        let sql = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for rated in rated {
            let had = take_out(&sql, &rated.payer, &mut self.totals)?;
            for accrual in &rated.accruals {
                let billed = Shares::billed(accrual);
                sql.prepare_cached(
                    "INSERT INTO accruals (tenant, period_start, payer, period_end, as_of, accrual, shares)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    accrual.tenant.as_str(),
                    accrual.start.millis(),
                    rated.payer.as_str(),
                    accrual.end.millis(),
                    rated.as_of.millis(),
                    shown(accrual, rated.as_of).to_string(),
                    serde_json::to_string(&billed).map_err(encoding)?,
                ])?;
                self.totals.add(&billed);
            }
            match (had, rated.accruals.is_empty()) {
                (false, false) => self.tenants += 1,
                (true, true) => self.tenants -= 1,
                _ => {}
            }
        }
        let as_of = rated.iter().map(|rated| rated.as_of).max();
        sql.prepare_cached(
            "INSERT INTO totals (id, as_of, tenants, totals) VALUES (0, ?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET as_of = excluded.as_of, tenants = excluded.tenants,
                 totals = excluded.totals",
        )?
        .execute(params![
            as_of.unwrap_or(Timestamp::EPOCH).millis(),
            i64::try_from(self.tenants).unwrap_or(i64::MAX),
            total(self.tenants, &self.totals).to_string(),
        ])?;
        sql.commit()?;
        self.as_of = self.as_of.max(as_of);
        Ok(())
    }
}

/// Removes what is known of the periods of a tenant. False if nothing was.
fn take_out(sql: &Connection, payer: &TenantId, totals: &mut Shares) -> rusqlite::Result<bool> {
    let mut known = sql.prepare_cached("SELECT shares FROM accruals WHERE payer = ?1")?;
    let mut rows = known.query([payer.as_str()])?;
    let mut had = false;
    while let Some(row) = rows.next()? {
        had = true;
        let shares: Shares = serde_json::from_str(row.get_ref(0)?.as_str()?).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(
                0,
                rusqlite::types::Type::Text,
                Box::new(error),
            )
        })?;
        totals.remove(&shares);
    }
    if had {
        sql.prepare_cached("DELETE FROM accruals WHERE payer = ?1")?
            .execute([payer.as_str()])?;
    }
    Ok(had)
}

fn encoding(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// An open period as it stands, for output.
fn shown(accrual: &Accrual, as_of: Timestamp) -> Value {
    let shares = Shares::of(accrual);
    let mut value = first_lines(accrual, LINES_MAX);
    value["more_lines"] = accrual.lines.len().saturating_sub(LINES_MAX).into();
    value["as_of"] = as_of.to_string().into();
    value["amounts"] = shares.amounts().map(|amounts| json!(amounts)).collect();
    let meters = shares.meters().take(METERS_MAX);
    value["usage"] = meters.map(|meter| json!(meter)).collect();
    value["more_meters"] = shares.meters_count().saturating_sub(METERS_MAX).into();
    value
}

/// Everybody's shares and amounts, for output.
fn total(tenants: u64, shares: &Shares) -> Value {
    let meters = shares.meters().take(METERS_MAX);
    json!({
        "tenants": tenants,
        "periods": shares.periods(),
        "amounts": shares.amounts().collect::<Vec<_>>(),
        "usage": meters.collect::<Vec<_>>(),
        "undeclared": shares.undeclared().collect::<Vec<_>>(),
        "more_meters": shares.meters_count().saturating_sub(METERS_MAX),
    })
}

/// An open period line by line, for output: readable times, quantities in the meter's unit.
pub(crate) fn lines(accrual: &Accrual) -> Value {
    first_lines(accrual, usize::MAX)
}

fn first_lines(accrual: &Accrual, most: usize) -> Value {
    let lines: Vec<Value> = accrual
        .lines
        .iter()
        .take(most)
        .map(|line| {
            json!({
                "kind": line.kind,
                "role": line.role,
                "line": line.line,
                "meter": line.meter,
                "unit": line.unit,
                "quantity": line.quantity.display(line.scale).to_string(),
                "units": line.quantity.to_string(),
                "scale": line.scale.get(),
                "amount": line.amount,
                "booked": line.booked,
                "currency": line.currency,
                "tax": line.tax,
                "arithmetic": line.arithmetic,
            })
        })
        .collect();
    json!({
        "tenant": accrual.tenant,
        "payer": accrual.payer,
        "period": accrual.label,
        "start": accrual.start.to_string(),
        "end": accrual.end.to_string(),
        "catalog": accrual.catalog,
        "lines": lines,
    })
}
