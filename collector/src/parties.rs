//! Legal data of issuers and tenants: `parties.sqlite` in the data folder.
//!
//! Personal data, which may have to be erased, and so never in the journal nor in the ledger. What
//! stands here is not derived from anything: back it up with the journal. The ledger has a salted
//! digest of what was on a document, so that `ledger verify` finds whatever was changed, and still
//! holds after an erasure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;
use tollgate_collector_core::entry::Digest;
use tollgate_collector_core::invoice::party::{self, Party, Salt};

/// File name below the data folder.
pub const FILE_NAME: &str = "parties.sqlite";
/// How long a statement waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of this layout.
const LAYOUT: i64 = 1;

const CREATE: &str = "
-- What documents will say from now on. `checksum` finds a changed byte.
CREATE TABLE IF NOT EXISTS current (
    role TEXT NOT NULL,
    id TEXT NOT NULL,
    json TEXT NOT NULL,
    checksum TEXT NOT NULL,
    PRIMARY KEY (role, id)
) STRICT, WITHOUT ROWID;
-- What issued documents say, by the digest that the ledger has. Erased: no salt, no text.
CREATE TABLE IF NOT EXISTS snapshot (
    digest TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    id TEXT NOT NULL,
    salt BLOB,
    json TEXT,
    erased TEXT,
    checksum TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Whose data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyRole {
    /// Somebody who issues documents.
    Issuer,
    /// Somebody who gets them.
    Tenant,
}

impl PartyRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Tenant => "tenant",
        }
    }
}

/// What an issued document says of a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// This.
    Kept(Party),
    /// Nothing any more: when, by whom and why it was erased.
    Erased(String),
}

/// Why the data cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PartiesError {
    /// SQLite failed.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// The file is of another version.
    #[error("{path} has layout {found}, this version reads {LAYOUT}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: i64,
    },
    /// A row was changed.
    #[error("{path}: {what} was changed: it is not what was written")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Which row.
        what: String,
    },
}

/// The file.
#[derive(Debug)]
pub struct Parties {
    connection: Connection,
    path: PathBuf,
}

/// A checksum over texts, each behind its length.
fn checksum(texts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    Digest(*hasher.finalize().as_bytes()).to_string()
}

impl Parties {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, PartiesError> {
        let parties = Self {
            connection: Connection::open(path).map_err(|source| PartiesError::Sqlite {
                path: path.to_owned(),
                source,
            })?,
            path: path.to_owned(),
        };
        let connection = &parties.connection;
        let prepare = || -> rusqlite::Result<i64> {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // What is erased is overwritten, and no write-ahead log keeps a copy of it.
            connection.pragma_update(None, "secure_delete", true)?;
            connection.pragma_update(None, "journal_mode", "DELETE")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "trusted_schema", false)?;
            let found: i64 =
                connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if found == 0 {
                connection.execute_batch(CREATE)?;
                connection.pragma_update(None, "user_version", LAYOUT)?;
                return Ok(LAYOUT);
            }
            Ok(found)
        };
        match prepare() {
            Ok(LAYOUT) => Ok(parties),
            Ok(found) => Err(PartiesError::Layout {
                path: parties.path,
                found,
            }),
            Err(source) => Err(parties.sqlite(source)),
        }
    }

    /// Opens the file if it is there.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, PartiesError> {
        if path.exists() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn sqlite(&self, source: rusqlite::Error) -> PartiesError {
        PartiesError::Sqlite {
            path: self.path.clone(),
            source,
        }
    }

    fn changed(&self, what: String) -> PartiesError {
        PartiesError::Changed {
            path: self.path.clone(),
            what,
        }
    }

    /// Sets what documents will say from now on.
    pub fn set(&self, role: PartyRole, id: &str, party: &Party) -> Result<(), PartiesError> {
        let json = party.canonical();
        let sum = checksum(&[role.as_str(), id, &json]);
        self.connection
            .execute(
                "INSERT INTO current (role, id, json, checksum) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET json = excluded.json, checksum = excluded.checksum",
                params![role.as_str(), id, json, sum],
            )
            .map(|_| ())
            .map_err(|source| self.sqlite(source))
    }

    /// What documents will say from now on.
    pub fn current(&self, role: PartyRole, id: &str) -> Result<Option<Party>, PartiesError> {
        let row: Option<(String, String)> = self
            .connection
            .query_row(
                "SELECT json, checksum FROM current WHERE role = ?1 AND id = ?2",
                params![role.as_str(), id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some((json, sum)) = row else {
            return Ok(None);
        };
        let what = || format!("the {} `{id}`", role.as_str());
        if checksum(&[role.as_str(), id, &json]) != sum {
            return Err(self.changed(what()));
        }
        serde_json::from_str(&json)
            .map(Some)
            .map_err(|_| self.changed(what()))
    }

    /// Keeps what a document will say, before it is issued; its digest goes to the ledger.
    pub fn keep(&self, role: PartyRole, id: &str, party: &Party) -> Result<Digest, PartiesError> {
        let salt: Salt = rand::random();
        let json = party.canonical();
        let digest = party::digest(&salt, &json);
        let sum = checksum(&[&digest.to_string(), role.as_str(), id, ""]);
        self.connection
            .execute(
                "INSERT INTO snapshot (digest, role, id, salt, json, checksum)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![digest.to_string(), role.as_str(), id, &salt[..], json, sum],
            )
            .map_err(|source| self.sqlite(source))?;
        Ok(digest)
    }

    /// What the document with this digest says; `None` if it was never kept here.
    pub fn snapshot(&self, digest: Digest) -> Result<Option<Snapshot>, PartiesError> {
        type Row = (
            String,
            String,
            Option<Vec<u8>>,
            Option<String>,
            Option<String>,
            String,
        );
        let name = digest.to_string();
        let row: Option<Row> = self
            .connection
            .query_row(
                "SELECT role, id, salt, json, erased, checksum FROM snapshot WHERE digest = ?1",
                [&name],
                |row| {
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                },
            )
            .optional()
            .map_err(|source| self.sqlite(source))?;
        let Some((role, id, salt, json, erased, sum)) = row else {
            return Ok(None);
        };
        let what = || format!("snapshot {name}");
        if checksum(&[&name, &role, &id, erased.as_deref().unwrap_or("")]) != sum {
            return Err(self.changed(what()));
        }
        match (salt, json, erased) {
            (None, None, Some(erased)) => Ok(Some(Snapshot::Erased(erased))),
            (Some(salt), Some(json), None) => {
                let salt: Salt = salt.try_into().map_err(|_| self.changed(what()))?;
                if party::digest(&salt, &json) != digest {
                    return Err(self.changed(what()));
                }
                let party = serde_json::from_str(&json).map_err(|_| self.changed(what()))?;
                Ok(Some(Snapshot::Kept(party)))
            }
            _ => Err(self.changed(what())),
        }
    }

    /// Erases everything that is known of a party, also from issued documents. `why` says when,
    /// by whom and why. Returns how many documents' snapshots were emptied.
    pub fn erase(&mut self, role: PartyRole, id: &str, why: &str) -> Result<usize, PartiesError> {
        let erase = |connection: &mut Connection| -> rusqlite::Result<usize> {
            let sql = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            sql.execute(
                "DELETE FROM current WHERE role = ?1 AND id = ?2",
                params![role.as_str(), id],
            )?;
            let digests: Vec<String> = sql
                .prepare(
                    "SELECT digest FROM snapshot WHERE role = ?1 AND id = ?2 AND erased IS NULL",
                )?
                .query_map(params![role.as_str(), id], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for digest in &digests {
                let sum = checksum(&[digest, role.as_str(), id, why]);
                sql.execute(
                    "UPDATE snapshot SET salt = NULL, json = NULL, erased = ?2, checksum = ?3
                     WHERE digest = ?1",
                    params![digest, why, sum],
                )?;
            }
            sql.commit()?;
            connection.execute_batch("VACUUM")?;
            Ok(digests.len())
        };
        erase(&mut self.connection).map_err(|source| PartiesError::Sqlite {
            path: self.path.clone(),
            source,
        })
    }

    /// Checks the whole file: its structure, and every row of both tables.
    pub fn check(&self) -> Result<(), PartiesError> {
        /// What SQLite says, the keys of `current`, the digests of `snapshot`.
        type Found = (String, Vec<(String, String)>, Vec<String>);
        let run = || -> rusqlite::Result<Found> {
            let connection = &self.connection;
            let verdict =
                connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            let current = connection
                .prepare("SELECT role, id FROM current")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let digests = connection
                .prepare("SELECT digest FROM snapshot")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok((verdict, current, digests))
        };
        let (verdict, current, digests) = run().map_err(|source| self.sqlite(source))?;
        if verdict != "ok" {
            return Err(self.changed(verdict));
        }
        for (role, id) in current {
            let role = match &*role {
                "issuer" => PartyRole::Issuer,
                "tenant" => PartyRole::Tenant,
                _ => return Err(self.changed(format!("the {role} `{id}`"))),
            };
            self.current(role, &id)?;
        }
        for digest in digests {
            let parsed: Digest = serde_json::from_value(digest.clone().into())
                .map_err(|_| self.changed(format!("snapshot {digest}")))?;
            self.snapshot(parsed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
