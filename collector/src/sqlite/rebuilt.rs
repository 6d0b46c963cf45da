//! The projection made anew beside the stored one, to find what was changed in the file.
//!
//! The hash chain covers the ledger's entries. What queries read besides (the columns by which
//! entries are found, usage, accounts, periods, agents) is covered by nothing but the journal:
//! it is computed again and compared row by row. So is how the tables are made, with what keeps
//! entries from being changed.

use std::cmp::Ordering;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Rows};
use serde::Serialize;
use tollgate_collector_core::effect::Effect;

use super::frozen::FrozenProjection;
use super::query::QueryError;
use super::{exact, schema, write};

/// Changes written in one transaction, about.
const CHANGES_MAX: usize = 50_000;

/// Tables that follow from the journal, with the number of columns of their keys, which come
/// first in the table.
const DERIVED: [(&str, usize); 7] = [
    ("ledger", 2),
    ("accounts", 3),
    ("periods", 3),
    ("agents", 1),
    ("usage", 8),
    ("catalogs", 1),
    ("catalog_files", 1),
];

/// Where the stored file is not what the journal gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableDifference {
    /// Which table, or `file` if SQLite itself finds the file damaged.
    pub table: String,
    /// The row's key, or what SQLite says.
    pub row: String,
    /// `missing`, `surplus`, `changed` or `damaged`.
    pub difference: &'static str,
}

/// How the tables are made, and what the file says of itself.
const MADE: [(&str, &str); 2] = [
    (
        "schema",
        "SELECT name, type, tbl_name, sql FROM sqlite_master ORDER BY name",
    ),
    ("meta", "SELECT key, value FROM meta ORDER BY key"),
];

/// A projection under construction, in a temporary file that SQLite removes by itself.
#[derive(Debug)]
pub struct Rebuilt {
    connection: Connection,
    pending: Vec<Effect>,
    /// How many changes these are.
    changes: usize,
}

impl Rebuilt {
    /// An empty one.
    pub fn new() -> Result<Self, QueryError> {
        let mut connection = Connection::open("")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        exact::register(&connection)?;
        schema::prepare(&mut connection)?;
        Ok(Self {
            connection,
            pending: Vec::new(),
            changes: 0,
        })
    }

    /// Takes up the effects of one journal entry.
    pub fn take(&mut self, effects: &[Effect]) -> Result<(), QueryError> {
        self.pending.extend_from_slice(effects);
        self.changes += effects
            .iter()
            .map(|effect| match effect {
                Effect::Rows(rows) => rows.len(),
                _ => 1,
            })
            .sum::<usize>();
        if self.changes >= CHANGES_MAX {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), QueryError> {
        let transaction = self.connection.transaction()?;
        write::effects(&transaction, &self.pending)?;
        transaction.commit()?;
        self.pending.clear();
        self.changes = 0;
        Ok(())
    }

    /// The first place where `stored` is something else.
    pub fn compare(
        mut self,
        stored: &FrozenProjection,
    ) -> Result<Option<TableDifference>, QueryError> {
        self.write()?;
        let stored = stored.connection();
        // Also finds an index that does not lead to every row.
        let verdict: String =
            stored.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Some(TableDifference {
                table: "file".to_owned(),
                row: verdict,
                difference: "damaged",
            }));
        }
        let derived = DERIVED.map(|(table, keys)| {
            let order: Vec<String> = (1..=keys).map(|column| column.to_string()).collect();
            let sql = format!("SELECT * FROM {table} ORDER BY {}", order.join(", "));
            (table, sql, keys)
        });
        let made = MADE.map(|(table, sql)| (table, sql.to_owned(), 1));
        for (table, sql, keys) in derived.into_iter().chain(made) {
            let (mut ours, mut theirs) = (self.connection.prepare(&sql)?, stored.prepare(&sql)?);
            let found = first_difference(ours.query([])?, theirs.query([])?, keys)?;
            if let Some((_, "surplus")) = found
                && !stands(stored)?
            {
                // Nothing says how much of the journal the tables are of.
                return Ok(Some(TableDifference {
                    table: "progress".to_owned(),
                    row: "partition 0".to_owned(),
                    difference: "missing",
                }));
            }
            if let Some((key, difference)) = found {
                return Ok(Some(TableDifference {
                    table: table.to_owned(),
                    row: format!("{key:?}"),
                    difference,
                }));
            }
        }
        progress(stored)
    }
}

/// True if the file says where of the journal it stands.
fn stands(stored: &Connection) -> Result<bool, QueryError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM progress WHERE partition = 0)";
    Ok(stored.query_row(sql, [], |row| row.get(0))?)
}

/// Where the projection stands is looked at by whoever folds the journal; that nothing else stands
/// there, here. One process owns the journal, so that there is one epoch.
fn progress(stored: &Connection) -> Result<Option<TableDifference>, QueryError> {
    let others = "SELECT partition, epoch FROM progress WHERE (partition, epoch) <> (0, 1) LIMIT 1";
    let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let other = stored.query_row(others, [], row).optional()?;
    Ok(other.map(|(partition, epoch)| TableDifference {
        table: "progress".to_owned(),
        row: format!("partition {partition}, epoch {epoch}"),
        difference: "changed",
    }))
}

/// Walks through both in the order of their keys.
fn first_difference(
    mut ours: Rows<'_>,
    mut theirs: Rows<'_>,
    keys: usize,
) -> rusqlite::Result<Option<(Vec<Value>, &'static str)>> {
    loop {
        let our = ours.next()?.map(values).transpose()?;
        let their = theirs.next()?.map(values).transpose()?;
        return Ok(match (our, their) {
            (None, None) => None,
            (Some(mut row), None) => Some((key_of(&mut row, keys), "missing")),
            (None, Some(mut row)) => Some((key_of(&mut row, keys), "surplus")),
            (Some(our), Some(their)) if our == their => continue,
            (Some(mut our), Some(mut their)) => {
                let (our, their) = (key_of(&mut our, keys), key_of(&mut their, keys));
                Some(match compare(&our, &their) {
                    Ordering::Equal => (our, "changed"),
                    Ordering::Less => (our, "missing"),
                    Ordering::Greater => (their, "surplus"),
                })
            }
        });
    }
}

fn values(row: &Row<'_>) -> rusqlite::Result<Vec<Value>> {
    (0..row.as_ref().column_count())
        .map(|column| row.get(column))
        .collect()
}

fn key_of(row: &mut Vec<Value>, keys: usize) -> Vec<Value> {
    row.truncate(keys);
    std::mem::take(row)
}

/// As SQLite orders them: keys are texts and integers.
fn compare(a: &[Value], b: &[Value]) -> Ordering {
    let pairs = a.iter().zip(b);
    let orders = pairs.map(|pair| match pair {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Integer(_), _) => Ordering::Less,
        _ => Ordering::Greater,
    });
    orders.fold(Ordering::Equal, Ordering::then)
}
