//! Snapshots of the fold, so that a restart reads the tail of the journal only.
//!
//! A snapshot is a convenience: it can be deleted at any time, and one that is damaged or of
//! another version is passed over. `docs/formats/journal.md` has the layout of the file.
//!
//! A snapshot at position P may be used only if the projections stand at Q >= P: what lies
//! between is replayed without effects. If they stand before P (they were deleted), the
//! snapshot is of no use, because the effects up to P are needed again.

use std::io;

use tollgate_common::storage::{Storage, StorageFile};

use crate::fold::whole::{Fold, StateError};
use crate::position::Position;

/// First bytes of the file: name and version.
const MAGIC: [u8; 8] = *b"TGSNAP\x00\x01";
/// Magic, position, length, BLAKE3 of the content.
const HEADER_BYTES: usize = 8 + 16 + 8 + 32;
/// Snapshots that are kept; the older one serves if the newest turns out damaged.
pub const SNAPSHOTS_KEPT: usize = 2;
/// Largest snapshot that is read, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 8 << 30;

const PREFIX: &str = "snapshot-";
const TEMPORARY: &str = "snapshot.tmp";

/// Why a snapshot was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error("snapshots: {0}")]
    Io(#[from] io::Error),
    /// The fold has not read anything yet.
    #[error("a fold that has read nothing needs no snapshot")]
    Empty,
}

/// Why a file was passed over.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file is shorter or longer than it says, or not a snapshot.
    #[error("not a whole snapshot file")]
    Layout,
    /// The content does not have its hash.
    #[error("content does not have its hash")]
    Hash,
    /// The content is not a state of this version.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What was found on loading.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The newest usable snapshot.
    pub fold: Option<Fold>,
    /// Files that were passed over: name and reason.
    pub unusable: Vec<(String, Unusable)>,
}

/// The snapshots in one directory.
#[derive(Debug)]
pub struct SnapshotStore<S> {
    storage: S,
}

impl<S: Storage> SnapshotStore<S> {
    /// The snapshots in `storage`.
    pub fn new(storage: S) -> Self {
        Self { storage }
    }

    /// Writes the fold's state, whole or not at all, and removes all but the newest
    /// [`SNAPSHOTS_KEPT`].
    pub fn save(&self, fold: &Fold) -> Result<Position, SnapshotError> {
        let position = fold.position().ok_or(SnapshotError::Empty)?;
        self.save_bytes(position, &fold.to_bytes())?;
        Ok(position)
    }

    /// Writes a state that [`Fold::to_bytes`] made at `position`.
    pub fn save_bytes(&self, position: Position, content: &[u8]) -> Result<(), SnapshotError> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(position.as_bytes());
        header.extend_from_slice(&(content.len() as u64).to_le_bytes());
        header.extend_from_slice(blake3::hash(content).as_bytes());
        if self.storage.list()?.iter().any(|name| name == TEMPORARY) {
            self.storage.remove(TEMPORARY)?;
        }
        let file = self.storage.create(TEMPORARY)?;
        file.write_at(0, &header)?;
        file.write_at(HEADER_BYTES as u64, content)?;
        file.sync()?;
        drop(file);
        self.storage.rename(TEMPORARY, &name_of(position))?;
        self.storage.sync_dir()?;
        for name in self.names()?.iter().rev().skip(SNAPSHOTS_KEPT) {
            self.storage.remove(name)?;
        }
        Ok(())
    }

    /// The newest usable snapshot at or before `upto`, where the projections stand; nothing
    /// for `None`, when they are empty.
    pub fn load(&self, upto: Option<Position>) -> Result<Loaded, SnapshotError> {
        self.load_by(upto, Fold::from_bytes)
    }

    /// The same, read by somebody who reads what [`Fold::to_bytes`] wrote in another way.
    pub fn load_by(
        &self,
        upto: Option<Position>,
        read: impl Fn(&[u8]) -> Result<Fold, StateError>,
    ) -> Result<Loaded, SnapshotError> {
        let mut loaded = Loaded::default();
        let Some(upto) = upto else { return Ok(loaded) };
        for name in self.names()?.into_iter().rev() {
            if name > name_of(upto) {
                continue;
            }
            match self.read(&name, &read) {
                Ok(fold) => {
                    loaded.fold = Some(fold);
                    break;
                }
                Err(reason) => loaded.unusable.push((name, reason)),
            }
        }
        Ok(loaded)
    }

    /// Removes snapshots that stand behind `last`, the journal's last entry, and returns their
    /// names.
    ///
    /// They are of another history: the journal was restored from an older copy. Once the
    /// journal has grown past them by other entries nobody could tell them from its own.
    pub fn discard_after(&self, last: Option<Position>) -> Result<Vec<String>, SnapshotError> {
        let mut names = self.names()?;
        names.retain(|name| last.is_none_or(|last| *name > name_of(last)));
        for name in &names {
            self.storage.remove(name)?;
        }
        if !names.is_empty() {
            self.storage.sync_dir()?;
        }
        Ok(names)
    }

    /// Removes all snapshots.
    pub fn clear(&self) -> Result<(), SnapshotError> {
        for name in self.names()? {
            self.storage.remove(&name)?;
        }
        Ok(self.storage.sync_dir()?)
    }

    /// Names of snapshot files, oldest first: positions order as their names do.
    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        let mut names = self.storage.list()?;
        names.retain(|name| {
            name.strip_prefix(PREFIX)
                .is_some_and(|p| p.parse::<Position>().is_ok())
        });
        names.sort_unstable();
        Ok(names)
    }

    fn read(
        &self,
        name: &str,
        read: impl Fn(&[u8]) -> Result<Fold, StateError>,
    ) -> Result<Fold, Unusable> {
        let file = self.storage.open(name)?;
        let mut header = [0; HEADER_BYTES];
        if file.len()? > SNAPSHOT_BYTES_MAX || file.read_at(0, &mut header)? != HEADER_BYTES {
            return Err(Unusable::Layout);
        }
        let length = u64::from_le_bytes(*header[24..].first_chunk().ok_or(Unusable::Layout)?);
        if header[..8] != MAGIC || file.len()?.checked_sub(HEADER_BYTES as u64) != Some(length) {
            return Err(Unusable::Layout);
        }
        let mut content = vec![0; usize::try_from(length).map_err(|_| Unusable::Layout)?];
        if file.read_at(HEADER_BYTES as u64, &mut content)? != content.len() {
            return Err(Unusable::Layout);
        }
        if blake3::hash(&content).as_bytes()[..] != header[32..] {
            return Err(Unusable::Hash);
        }
        let fold = read(&content)?;
        if fold
            .position()
            .is_none_or(|position| position.as_bytes()[..] != header[8..24])
        {
            return Err(Unusable::Layout);
        }
        Ok(fold)
    }
}

fn name_of(position: Position) -> String {
    format!("{PREFIX}{position}")
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
