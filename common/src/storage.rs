//! What the segment log needs from a disk, small enough that tests can replace it.
//!
//! One [`Storage`] is one directory without subdirectories. The contract is that of POSIX
//! and no more: bytes written but not synced may survive a crash wholly, partly or not at
//! all, in any order; a created, renamed or removed name is durable only after
//! [`Storage::sync_dir`].

#[cfg(feature = "io")]
pub mod file;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

use std::io;

/// A directory of files.
pub trait Storage {
    /// An open file.
    type File: StorageFile;

    /// The names of all files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file for reading and writing; fails if the name exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes created, renamed and removed names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that may still be written to the medium, quotas aside; `u64::MAX` where there is no
    /// bound that is known.
    fn free(&self) -> io::Result<u64>;
}

/// An open file.
///
/// A failed `write_at` or `sync` leaves the file in an unknown state: the owner stops using
/// it and recovers by opening it again. In particular the next `sync` must not be trusted.
pub trait StorageFile {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True if the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, extending the file where needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends the file to `length` bytes.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable.
    fn sync(&self) -> io::Result<()>;
}
