//! Says in the journal that it was restored from a backup.

use serde::Serialize;
use tollgate_collector_core::config::Config;
use tollgate_collector_core::entry::codec::{EncodedEntry, EntryDecoder, encode};
use tollgate_collector_core::entry::{Entry, Restored};
use tollgate_collector_core::journal::group::{Durable, GroupCommit, Pending, Token};
use tollgate_collector_core::journal::segment::PARTITION;
use tollgate_collector_core::journal::{Journal, JournalItem};
use tollgate_collector_core::position::Position;
use tollgate_collector_core::projection::Projection;
use tollgate_common::{Lineage, Timestamp};

use super::data_dir::FileJournal;
use super::{DataDir, RunError};
use crate::fold::FoldError;
use crate::sqlite::SqliteProjection;

/// Most bytes of author and reason each.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes read from the journal at a time.
const READ_BYTES: usize = 4 << 20;

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Marked {
    /// The last entry of the backup.
    pub upto: Position,
    /// Its stamp.
    pub backup: String,
    /// The lineage of the backup.
    pub previous: Lineage,
    /// The lineage from here on.
    pub lineage: Lineage,
    /// Where the entry that says so stands.
    pub position: Position,
}

/// What the end of a journal shows.
struct End {
    position: Position,
    stamp: Timestamp,
    lineage: Lineage,
}

/// Appends the entry that begins a new lineage. The collector must not run; snapshots and
/// projection are discarded before, because they may speak of entries that the backup does
/// not have, and could no longer be told from its own once the journal has grown again.
pub fn mark_restored(config: &Config, author: String, reason: String) -> Result<Marked, RunError> {
    for (name, text) in [("author", &author), ("reason", &reason)] {
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            let problem = format!(
                "the {name} has {} bytes; 1 to {TEXT_BYTES_MAX} are kept",
                text.len()
            );
            return Err(RunError::Restore(problem));
        }
    }
    let data = DataDir::new(&config.data_dir);
    // For reading first: nothing is made where nothing was restored.
    drop(data.read_journal()?);
    let _lock = data.lock()?;
    let (mut journal, _) = data.open_journal(config.journal)?;
    let end = end_of(&journal)?.ok_or_else(|| {
        let dir = config.data_dir.display();
        RunError::Restore(format!(
            "the journal in {dir} is empty, so that there is nothing to mark: `run` begins a new lineage by itself"
        ))
    })?;
    data.snapshots()?
        .clear()
        .map_err(|error| RunError::Restore(format!("snapshots cannot be removed: {error}")))?;
    SqliteProjection::open(&data.projection())
        .and_then(|mut projection| projection.clear())
        .map_err(FoldError::from)?;

    let lineage = Lineage::from_bytes(rand::random());
    let entry = encode(&Entry::Restored(Restored {
        lineage,
        previous: end.lineage,
        author,
        reason,
    }))?;
    journal.acquire(PARTITION).map_err(RunError::Journal)?;
    let position = append(journal, end.stamp, entry)?;
    Ok(Marked {
        upto: end.position,
        backup: end.stamp.to_string(),
        previous: end.lineage,
        lineage,
        position,
    })
}

fn append(
    journal: FileJournal,
    stamp: Timestamp,
    entry: EncodedEntry,
) -> Result<Position, RunError> {
    let mut group = GroupCommit::new(journal, PARTITION, stamp);
    let pending = Pending {
        token: Token::NOBODY,
        entry,
    };
    group
        .stage(crate::time::now(), pending)
        .and_then(|()| group.commit())
        .map_err(RunError::Journal)?
        .first()
        .map(Durable::position)
        .ok_or_else(|| RunError::Restore("the entry was not committed".to_owned()))
}

/// Reads the whole journal; `None` if it is empty. Damaged entries are for `run` to meet.
fn end_of(journal: &FileJournal) -> Result<Option<End>, RunError> {
    let mut decoder = EntryDecoder::new();
    let mut lineage = None;
    let mut last = None;
    let mut after = None;
    loop {
        let items = journal
            .read(PARTITION, after, READ_BYTES)
            .map_err(RunError::Journal)?;
        if items.is_empty() {
            break;
        }
        for item in items {
            let (position, bytes) = match item {
                JournalItem::Damaged { position, .. } => {
                    after = Some(position);
                    continue;
                }
                JournalItem::Entry { position, bytes } => (position, bytes),
            };
            after = Some(position);
            let stamped = decoder.decode(&bytes).map_err(|error| {
                RunError::Restore(format!("journal entry at {position}: {error}"))
            })?;
            last = Some((position, stamped.stamp));
            match stamped.entry {
                Entry::Opened(opened) => lineage = Some(opened.lineage),
                Entry::Restored(restored) => lineage = Some(restored.lineage),
                _ => {}
            }
        }
    }
    Ok(last.zip(lineage).map(|((position, stamp), lineage)| End {
        position,
        stamp,
        lineage,
    }))
}
