//! Reading which catalogs were applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::OptionalExtension;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::catalog::timeline::Timeline;
use tollgate_collector_core::entry::{CatalogChange, Digest};
use tollgate_collector_core::position::Position;
use tollgate_common::Timestamp;

use super::{QueryError, Reader};
use crate::sqlite::write;

/// A catalog that was applied or proposed.
#[derive(Clone, Debug)]
pub struct CatalogRow {
    /// Where its journal entry stands.
    pub position: Position,
    /// When: the stamp of the entry.
    pub stamp: Timestamp,
    /// What, by whom and why; without the files.
    pub change: CatalogChange,
}

impl Reader {
    /// All catalogs that were applied or proposed, oldest first. Each was applied by hand, so there
    /// are few.
    pub fn catalogs(&self) -> Result<Vec<CatalogRow>, QueryError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT position, stamp, change FROM catalogs ORDER BY position")?;
        let rows = statement.query_and_then([], |row| -> rusqlite::Result<CatalogRow> {
            let position = row.get_ref(0)?.as_str()?.parse();
            let change = serde_json::from_str(row.get_ref(2)?.as_str()?);
            Ok(CatalogRow {
                position: position.map_err(|error| write::conversion(0, error))?,
                stamp: Timestamp::from_millis(row.get(1)?),
                change: change.map_err(|error| write::conversion(2, error))?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Which of them was in force when. One that cannot be read was refused by the fold too.
    pub fn timeline(&self) -> Result<Timeline, QueryError> {
        let mut timeline = Timeline::new();
        let mut known: BTreeMap<Digest, Option<Arc<Catalog>>> = BTreeMap::new();
        for row in self
            .catalogs()?
            .into_iter()
            .filter(|row| !row.change.proposed)
        {
            let digest = row.change.digest;
            let catalog = if let Some(catalog) = known.get(&digest) {
                catalog.clone()
            } else {
                let files = self.catalog_files(digest)?;
                let files = files.ok_or(QueryError::Range("a catalog without its files"))?;
                let read = Catalog::parse(&files).ok().map(Arc::new);
                known.insert(digest, read.clone());
                read
            };
            if let Some(catalog) = catalog {
                timeline.apply(row.stamp, catalog, row.change.tenants);
            }
        }
        Ok(timeline)
    }

    /// The files of a catalog that was applied or proposed.
    pub fn catalog_files(
        &self,
        digest: Digest,
    ) -> Result<Option<BTreeMap<String, String>>, QueryError> {
        let text: Option<String> = self
            .connection
            .prepare_cached("SELECT files FROM catalog_files WHERE digest = ?1")?
            .query_row([digest.to_string()], |row| row.get(0))
            .optional()?;
        let files = text.map(|text| serde_json::from_str(&text)).transpose();
        Ok(files.map_err(|error| write::conversion(0, error))?)
    }
}
