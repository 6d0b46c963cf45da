//! The state directory: its lock, the file of the cells, the spool, the boot id of the host.
//!
//! ```text
//! STATE_DIR/lock        held with flock while an agent runs
//! STATE_DIR/cells       the cells, mapped; replaced by rename when an incarnation begins
//! STATE_DIR/cells.new   the next one while it is made
//! STATE_DIR/spool/      the segment log of sealed batches
//! ```
//!
//! This is the one module of the agent with unsafe code: it maps the cells into memory.
#![expect(unsafe_code, reason = "mapping a file into memory")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
use tollgate_agent_core::aggregate::{CellsHome, Region};
use tollgate_common::storage::file::{DirStorage, ShutOut};

const LOCK: &str = "lock";
const CELLS: &str = "cells";
const CELLS_NEW: &str = "cells.new";
pub(crate) const SPOOL: &str = "spool";
const WORD_BYTES: usize = size_of::<AtomicU64>();
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another agent has it.
    #[error("state directory {} is in use by another agent", .0.display())]
    Locked(PathBuf),
    /// Root would make files that the agent cannot open.
    #[error("state directory {} {shut_out}", path.display())]
    Owner {
        /// The state directory.
        path: PathBuf,
        /// Whose it is.
        shut_out: ShutOut,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A state directory that this process has locked.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Closing it gives the lock back; the kernel does so when the process is killed.
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is not there (mode 0700) and locks it. Root is refused a directory
    /// of another user, who could not open what root makes there.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| StateDirError::Io { what, path, source }
        };
        // With its name durable: a host that loses its power must not forget the directory of
        // batches that were shipped or synced.
        let storage =
            DirStorage::open_or_create(path).map_err(failed("make the state directory", path))?;
        let shut_out = storage.owner_shut_out();
        if let Some(shut_out) = shut_out.map_err(failed("look at", path))? {
            let path = path.to_owned();
            return Err(StateDirError::Owner { path, shut_out });
        }
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateDirError::Locked(path.to_owned())),
            Err(errno) => Err(failed("lock", &lock_path)(errno.into())),
        }
    }

    /// The file of the cells.
    pub fn cells(&self) -> CellsFile {
        CellsFile {
            dir: self.path.clone(),
        }
    }

    /// The directory of the spool, made if it is not there.
    pub fn spool(&self) -> Result<DirStorage, StateDirError> {
        let path = self.path.join(SPOOL);
        DirStorage::open_or_create(&path).map_err(|source| StateDirError::Io {
            what: "open the spool",
            path,
            source,
        })
    }
}

/// The kernel's random name of this boot of the host.
pub(crate) fn boot_id() -> Result<[u8; 16], StateDirError> {
    let failed = |source| StateDirError::Io {
        what: "read",
        path: BOOT_ID.into(),
        source,
    };
    let text = std::fs::read_to_string(BOOT_ID).map_err(failed)?;
    parse_boot_id(&text)
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "not a UUID")))
}

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .trim()
        .bytes()
        .filter(|byte| *byte != b'-')
        .map(|byte| {
            char::from(byte)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        })
        .collect::<Option<_>>()?;
    let digits: [u8; 32] = digits.try_into().ok()?;
    Some(std::array::from_fn(|at| {
        digits[2 * at] << 4 | digits[2 * at + 1]
    }))
}

/// Where the cells live: `cells` in the state directory.
#[derive(Debug)]
pub struct CellsFile {
    dir: PathBuf,
}

impl CellsHome for CellsFile {
    type Region = MappedCells;

    fn load(&mut self) -> io::Result<Option<MappedCells>> {
        let path = self.dir.join(CELLS);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let words = bytes / WORD_BYTES;
        if words > 0 {
            // A hole would end the process when it is written to and the disk is full.
            fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes as u64)?;
        }
        MappedCells::map(&file, words).map(Some)
    }

    fn replace(
        &mut self,
        words: usize,
        fill: &mut dyn FnMut(&[AtomicU64]),
    ) -> io::Result<MappedCells> {
        let new = self.dir.join(CELLS_NEW);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let bytes = words
            .checked_mul(WORD_BYTES)
            .ok_or_else(|| io::Error::other("cells do not fit the address space"))?;
        fallocate(&opened, FallocateFlags::empty(), 0, bytes as u64)?;
        let region = MappedCells::map(&opened, words)?;
        fill(region.words());
        region.sync()?;
        opened.sync_all()?;
        std::fs::rename(&new, self.dir.join(CELLS))?;
        File::open(&self.dir)?.sync_all()?;
        Ok(region)
    }
}

/// The words of a mapped file.
#[derive(Debug)]
pub struct MappedCells {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is plain memory of atomics, valid until drop, and not tied to a thread.
unsafe impl Send for MappedCells {}
// SAFETY: shared access is only through `&[AtomicU64]`, which any thread may have.
unsafe impl Sync for MappedCells {}

impl MappedCells {
    fn map(file: &File, words: usize) -> io::Result<Self> {
        if words == 0 {
            return Ok(Self {
                start: NonNull::dangling(),
                words: 0,
            });
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that
        // exists. The state directory's lock keeps other agents from the file, and nobody
        // shortens it: it is replaced by rename only.
        let address = unsafe {
            mmap(
                null_mut(),
                words * WORD_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        // Mappings begin at a page, so the alignment of a word is given.
        let start = NonNull::new(address.cast::<AtomicU64>())
            .ok_or_else(|| io::Error::other("mmap gave a null address"))?;
        Ok(Self { start, words })
    }
}

impl Region for MappedCells {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `map` made a mapping of this many words (or none, with a dangling but
        // aligned start), zero bytes are valid atomics, and it stays until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.words == 0 {
            return Ok(());
        }
        // SAFETY: exactly the range that `map` made, alive as long as `self`.
        unsafe {
            msync(
                self.start.as_ptr().cast(),
                self.words * WORD_BYTES,
                MsyncFlags::SYNC,
            )?;
        }
        Ok(())
    }
}

impl Drop for MappedCells {
    fn drop(&mut self) {
        if self.words > 0 {
            // SAFETY: exactly the range that `map` made; no borrow outlives `self`. A failure
            // leaves the mapping, which harms nobody.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.words * WORD_BYTES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn cells_outlive_their_mapping() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = StateDir::open(dir.path()).expect("fresh");
        let mut home = state.cells();
        assert!(home.load().expect("readable").is_none());
        let region = home
            .replace(1000, &mut |words| words[1].store(7, Relaxed))
            .expect("room");
        region.words()[999].store(9, Relaxed);
        drop(region);
        let region = home.load().expect("readable").expect("there");
        assert_eq!(region.words().len(), 1000);
        assert_eq!(region.words()[1].load(Relaxed), 7);
        assert_eq!(region.words()[999].load(Relaxed), 9);
        // A replaced region stays usable by those who still have it.
        let next = home.replace(10, &mut |_| {}).expect("room");
        region.words()[0].store(1, Relaxed);
        assert_eq!(next.words()[0].load(Relaxed), 0);
    }

    #[test]
    fn odd_files_are_mapped_as_far_as_they_go() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = StateDir::open(dir.path()).expect("fresh");
        for (bytes, words) in [(0, 0), (7, 0), (17, 2)] {
            std::fs::write(dir.path().join(CELLS), vec![1; bytes]).expect("writable");
            let region = state.cells().load().expect("readable").expect("there");
            assert_eq!(region.words().len(), words);
        }
    }

    #[test]
    fn one_agent_at_a_time() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = StateDir::open(dir.path()).expect("fresh");
        assert!(matches!(
            StateDir::open(dir.path()),
            Err(StateDirError::Locked(_))
        ));
        drop(first);
        assert!(StateDir::open(dir.path()).is_ok());
    }

    #[test]
    fn the_boot_id_is_read() {
        assert_eq!(boot_id().ok(), boot_id().ok());
        assert!(boot_id().is_ok());
        let text = "01020304-0506-0708-090a-0b0c0d0e0fff\n";
        assert_eq!(
            parse_boot_id(text),
            Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255])
        );
        assert_eq!(parse_boot_id("xyz"), None);
        assert_eq!(parse_boot_id("0102"), None);
    }
}
