//! The data folder and what is in it. A backup needs `journal/` and `parties.sqlite`.
//!
//! | name | what |
//! | --- | --- |
//! | `journal/` | the journal's segments: what was received and decided; cannot be built again |
//! | `snapshots/` | states of the fold; can be deleted |
//! | `projection.sqlite` | tables for queries and the ledger; can be deleted |
//! | `accruals.sqlite` | what open periods would cost; made anew at each start |
//! | `parties.sqlite` | names and addresses of issuers and tenants; cannot be built again |
//! | `admin.sock` | the admin socket, unless configured elsewhere |

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tollgate_collector_core::journal::segment::SegmentJournal;
use tollgate_collector_core::snapshot::SnapshotStore;
use tollgate_common::log::{LogConfig, OpenError, OpenReport};
use tollgate_common::storage::file::{DirStorage, ShutOut};

/// For how long a lock may be another's: of a collector that is ending, or of a program that one has
/// started and that has its files until it runs.
const ENDING: Duration = Duration::from_secs(1);
/// How often the lock is tried meanwhile.
const AGAIN: Duration = Duration::from_millis(20);

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A folder cannot be opened or made.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Root would make files that the collector cannot open.
    #[error("{path} {shut_out}")]
    Owner {
        /// The data folder.
        path: PathBuf,
        /// Whose it is.
        shut_out: ShutOut,
    },
    /// Another collector runs on it.
    #[error("{0} is in use by another collector; two may not write to one journal")]
    InUse(PathBuf),
    /// The journal cannot be opened.
    #[error("journal in {path}: {source}")]
    Journal {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: OpenError,
    },
}

/// The data folder.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// The journal in segment files.
pub(super) type FileJournal = SegmentJournal<DirStorage>;

impl DataDir {
    /// The folder at `root`, which need not exist.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where the projection is.
    pub fn projection(&self) -> PathBuf {
        self.root.join(crate::sqlite::FILE_NAME)
    }

    /// Where the accruals are.
    pub fn accruals(&self) -> PathBuf {
        self.root.join(crate::accruals::FILE_NAME)
    }

    /// Where the legal data of issuers and tenants are.
    pub fn parties(&self) -> PathBuf {
        self.root.join(crate::parties::FILE_NAME)
    }

    /// Where the snapshots are.
    pub(super) fn snapshots_dir(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Whether a collector has run on it.
    pub(super) fn has_journal(&self) -> bool {
        self.journal_dir().exists()
    }

    fn journal_dir(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Refuses root a folder of another user: the collector could not open what root makes there.
    pub fn check_owner(&self) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Io {
            path: self.root.clone(),
            source,
        };
        let storage = DirStorage::open(&self.root).map_err(failed)?;
        match storage.owner_shut_out().map_err(failed)? {
            None => Ok(()),
            Some(shut_out) => Err(DataDirError::Owner {
                path: self.root.clone(),
                shut_out,
            }),
        }
    }

    /// Makes the folder if it is missing and claims it until the returned value is dropped.
    pub fn lock(&self) -> Result<DirStorage, DataDirError> {
        let failed = |source| DataDirError::Io {
            path: self.root.clone(),
            source,
        };
        let storage = DirStorage::open_or_create(&self.root).map_err(failed)?;
        self.check_owner()?;
        let begun = Instant::now();
        loop {
            match storage.lock() {
                Ok(()) => return Ok(storage),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Err(failed(error));
                }
                Err(_) if begun.elapsed() < ENDING => std::thread::sleep(AGAIN),
                Err(_) => return Err(DataDirError::InUse(self.root.clone())),
            }
        }
    }

    /// Opens the journal for writing; the caller has locked the folder.
    pub fn open_journal(
        &self,
        config: LogConfig,
    ) -> Result<(FileJournal, OpenReport), DataDirError> {
        let path = self.journal_dir();
        let storage = DirStorage::open_or_create(&path).map_err(|source| DataDirError::Io {
            path: path.clone(),
            source,
        })?;
        SegmentJournal::open(storage, config)
            .map_err(|source| DataDirError::Journal { path, source })
    }

    /// Opens the journal for reading, beside a collector that may be running.
    pub fn read_journal(&self) -> Result<FileJournal, DataDirError> {
        self.journal_for_reading(SegmentJournal::open_read_only)
            .map(|(journal, _)| journal)
    }

    /// The same after a look at every byte, with everything that is damaged.
    pub fn read_whole_journal(&self) -> Result<(FileJournal, OpenReport), DataDirError> {
        self.journal_for_reading(SegmentJournal::open_read_only_whole)
    }

    fn journal_for_reading(
        &self,
        open: impl FnOnce(DirStorage) -> Result<(FileJournal, OpenReport), OpenError>,
    ) -> Result<(FileJournal, OpenReport), DataDirError> {
        let path = self.journal_dir();
        let storage = DirStorage::open(&path).map_err(|source| DataDirError::Io {
            path: path.clone(),
            source,
        })?;
        open(storage).map_err(|source| DataDirError::Journal { path, source })
    }

    /// The snapshots.
    pub fn snapshots(&self) -> Result<SnapshotStore<DirStorage>, DataDirError> {
        let path = self.snapshots_dir();
        let storage = DirStorage::open_or_create(&path)
            .map_err(|source| DataDirError::Io { path, source })?;
        Ok(SnapshotStore::new(storage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only root can give a folder away, and only root has to be stopped.
    #[test]
    fn root_makes_nothing_in_the_folder_of_another_user() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = DataDir::new(dir.path());
        data.check_owner().expect("one's own");
        if std::os::unix::fs::chown(dir.path(), Some(12_345), None).is_err() {
            return;
        }
        let error = data.lock().expect_err("of another user").to_string();
        assert!(error.contains("sudo -u '#12345'"), "{error}");
        assert!(data.check_owner().is_err());
    }

    #[test]
    fn one_collector_per_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = DataDir::new(&dir.path().join("data"));
        let held = data.lock().expect("free");
        assert!(matches!(data.lock(), Err(DataDirError::InUse(_))));
        drop(held);
        data.lock().expect("free again");
        assert!(
            matches!(data.read_journal(), Err(DataDirError::Io { .. })),
            "nothing is made for reading"
        );
    }
}
