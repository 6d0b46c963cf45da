//! A disk in memory that misbehaves on request, the same way for the same seed.
//!
//! [`MemoryStorage`] keeps two images: what processes see, and what would be left after the
//! machine stops. A sync copies the first over the second; [`MemoryStorage::crash`] keeps an
//! arbitrary subset of the unsynced 512-byte sectors, lengths and names and then makes both
//! the same. [`MemoryStorage::kill`] is the end of a process only: nothing written is lost.
//!
//! A sync that fails behaves as the kernel does: some pages reach the disk, all of them count
//! as clean, and the next sync does not write them again.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StorageFile};

mod disk;
#[cfg(test)]
mod tests;

use disk::{Disk, Outcome};
pub use disk::{DiskStats, SECTOR_BYTES};

/// A directory in memory. A clone is another handle to the same disk.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

/// An open file of a [`MemoryStorage`]. It stops working when its process ends, that is, at
/// the next [`MemoryStorage::crash`] or [`MemoryStorage::kill`].
#[derive(Debug)]
pub struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    epoch: u64,
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStorage {
    /// An empty disk; what chance decides in it is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new(seed))),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// The machine stops and starts: of what was not synced an arbitrary part survives. Open
    /// files stop working; faults that were asked for and have not happened are forgotten.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// The process ends (SIGKILL) and may start again: nothing written is lost. Open files
    /// stop working; faults that were asked for and have not happened are forgotten.
    pub fn kill(&self) {
        self.disk().restart();
    }

    /// The operation with this number (1 is the next one) fails with `kind`, and with `forever` every
    /// later one as well. A failed write may have written a part; a failed sync loses its pages.
    pub fn fail_at(&self, number: u64, kind: io::ErrorKind, forever: bool) {
        self.disk().fail_at(number, kind, forever);
    }

    /// The power fails in the middle of the operation with this number (1 is the next one):
    /// it happens wholly, partly or not at all, and every call from then on is an error until
    /// [`crash`](Self::crash) (or [`kill`](Self::kill), to let only the process die there).
    pub fn stop_at(&self, number: u64) {
        self.disk().stop_at(number);
    }

    /// Takes back [`fail_at`](Self::fail_at) and [`stop_at`](Self::stop_at).
    pub fn heal(&self) {
        self.disk().heal();
    }

    /// Operations since the disk was made, reads included.
    pub fn operations(&self) -> u64 {
        self.disk().stats.operations
    }

    /// True if the power failed at an operation chosen with [`stop_at`](Self::stop_at).
    pub fn is_stopped(&self) -> bool {
        self.disk().stopped
    }

    /// Space for this many bytes of files; a write beyond it fails with
    /// [`io::ErrorKind::StorageFull`] after writing what fits. `None`: unbounded.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// A disk that lies: syncs of files report success and do nothing.
    pub fn set_ignore_sync(&self, ignore: bool) {
        self.disk().ignore_sync = ignore;
    }

    /// A disk that lies: syncs of the directory report success and do nothing.
    pub fn set_ignore_sync_dir(&self, ignore: bool) {
        self.disk().ignore_sync_dir = ignore;
    }

    /// Damages a byte at rest: `mask` is XORed into it, now and for ever. False if there is
    /// no such byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        self.disk().flip(name, offset, mask)
    }

    /// The bytes of a file as a process sees them; `None` if there is no such file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        self.disk().contents(name).map(<[u8]>::to_vec)
    }

    /// Replaces or makes a file, durably and whatever faults are set.
    pub fn set_contents(&self, name: &str, bytes: &[u8]) {
        self.disk().set_contents(name, bytes);
    }

    /// Removes a file behind everybody's back, durably. False if there is no such file.
    pub fn lose_file(&self, name: &str) -> bool {
        self.disk().lose_file(name)
    }

    /// The names of all files in order, without counting as an operation.
    pub fn names(&self) -> Vec<String> {
        self.disk().names()
    }

    /// What happened on this disk so far.
    pub fn stats(&self) -> DiskStats {
        self.disk().stats.clone()
    }

    fn handle(&self, disk: &mut Disk, inode: u64) -> MemoryFile {
        disk.retain(inode);
        MemoryFile {
            disk: Arc::clone(&self.disk),
            inode,
            epoch: disk.epoch,
        }
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl Storage for MemoryStorage {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.enter()?.read()?;
        Ok(disk.names())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut disk = self.disk();
        let outcome = disk.enter()?;
        if disk.contents(name).is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("file {name} exists"),
            ));
        }
        let inode = disk.change(outcome, |disk| disk.create(name))?;
        Ok(self.handle(&mut disk, inode))
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut disk = self.disk();
        disk.enter()?.read()?;
        let inode = disk.inode(name).ok_or_else(|| not_found(name))?;
        Ok(self.handle(&mut disk, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let outcome = disk.enter()?;
        let inode = disk.inode(from).ok_or_else(|| not_found(from))?;
        disk.change(outcome, |disk| disk.rename(from, to, inode))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let outcome = disk.enter()?;
        if disk.inode(name).is_none() {
            return Err(not_found(name));
        }
        disk.change(outcome, |disk| disk.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        let outcome = disk.enter()?;
        disk.stats.dir_syncs += 1;
        if disk.ignore_sync_dir && matches!(outcome, Outcome::Whole) {
            return Ok(());
        }
        disk.change(outcome, Disk::sync_names)
    }

    fn free(&self) -> io::Result<u64> {
        // Asks no medium, so it is no operation at which something could go wrong.
        let disk = self.disk();
        let capacity = disk.capacity.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(disk.used()))
    }
}

impl MemoryFile {
    /// The disk, if the process that opened this file still lives.
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = lock(&self.disk);
        if disk.epoch == self.epoch {
            Ok(disk)
        } else {
            Err(io::Error::other("the process that opened this file ended"))
        }
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut disk = lock(&self.disk);
        if disk.epoch == self.epoch {
            disk.release(self.inode);
        }
    }
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        let mut disk = self.disk()?;
        disk.enter()?.read()?;
        Ok(disk.file(self.inode).visible.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk()?;
        disk.enter()?.read()?;
        let bytes = &disk.file(self.inode).visible;
        let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk()?;
        match disk.enter()? {
            Outcome::Whole => disk.write(self.inode, offset, bytes),
            Outcome::Fails(error) | Outcome::Stops(error) => {
                let part = disk.below(bytes.len() as u64 + 1);
                let part = usize::try_from(part).map_or(bytes, |part| &bytes[..part]);
                disk.write(self.inode, offset, part)?;
                Err(error)
            }
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk()?;
        let outcome = disk.enter()?;
        let grows = length > disk.file(self.inode).visible.len() as u64;
        if grows && !disk.has_room(self.inode, length) {
            disk.stats.out_of_space += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.change(outcome, |disk| disk.set_len(self.inode, length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk()?;
        disk.stats.syncs += 1;
        match disk.enter()? {
            Outcome::Whole if disk.ignore_sync => Ok(()),
            Outcome::Whole => {
                disk.sync(self.inode);
                Ok(())
            }
            Outcome::Fails(error) => {
                disk.sync_failed(self.inode);
                Err(error)
            }
            Outcome::Stops(error) => {
                disk.write_back(self.inode);
                Err(error)
            }
        }
    }
}
