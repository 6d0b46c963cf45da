//! A directory of the operating system as [`Storage`].
//!
//! Every operation is relative to the directory that was opened, so that renaming or
//! mounting over its path later does not split a log in two.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Storage, StorageFile};

/// A directory on disk.
#[derive(Debug)]
pub struct DirStorage {
    directory: OwnedFd,
}

/// An open file of a [`DirStorage`].
#[derive(Debug)]
pub struct DirFile {
    file: File,
    /// The file was cut since the last sync. `fdatasync` need not write a length that no
    /// later read depends on; a cut that is undone by a crash would bring old bytes back.
    cut: AtomicBool,
}

/// Files that root would make in a directory of somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "belongs to user {owner}, who could not open what root makes in it (run this as that user: \
     sudo -u '#{owner}' …)"
)]
pub struct ShutOut {
    /// The user's number.
    pub owner: u32,
}

fn shut_out(user: u32, owner: u32) -> Option<ShutOut> {
    (user == 0 && owner != 0).then_some(ShutOut { owner })
}

impl DirStorage {
    /// Opens an existing directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self { directory })
    }

    /// Opens a directory, creating it (mode 0700) and its parents if they are missing, with
    /// every name on the way made durable.
    pub fn open_or_create(path: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Self::open(path),
        };
        let parent = Self::open_or_create(parent)?;
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        parent.sync_dir()?;
        Self::open(path)
    }

    /// Claims the directory for this `DirStorage` until it is dropped or the process ends.
    ///
    /// Returns [`io::ErrorKind::WouldBlock`] if another one holds the claim. Readers need none.
    pub fn lock(&self) -> io::Result<()> {
        rustix::io::retry_on_intr(|| {
            rustix::fs::flock(&self.directory, FlockOperation::NonBlockingLockExclusive)
        })?;
        Ok(())
    }

    /// The directory's owner, if this process is root and the owner is somebody else, who could not
    /// open what root makes in it.
    pub fn owner_shut_out(&self) -> io::Result<Option<ShutOut>> {
        let owner = rustix::fs::fstat(&self.directory)?.st_uid;
        Ok(shut_out(rustix::process::geteuid().as_raw(), owner))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<DirFile, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let descriptor = rustix::io::retry_on_intr(|| {
            rustix::fs::openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        Ok(DirFile {
            file: File::from(descriptor),
            cut: AtomicBool::new(false),
        })
    }
}

/// Names are plain file names: anything that could leave the directory is refused.
fn check_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0']);
    if plain {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a file name"),
        ))
    }
}

impl Storage for DirStorage {
    type File = DirFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let other = matches!(entry.file_type(), FileType::Directory | FileType::Socket);
            // A name that is not UTF-8 was not made through this interface.
            if let (false, Ok(name)) = (other, entry.file_name().to_str()) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<DirFile> {
        check_name(name)?;
        Ok(self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?)
    }

    fn open(&self, name: &str) -> io::Result<DirFile> {
        check_name(name)?;
        match self.open_file(name, OFlags::RDWR) {
            // A reader with fewer rights than the owner; its writes will fail.
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                Ok(self.open_file(name, OFlags::RDONLY)?)
            }
            result => Ok(result?),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        rustix::fs::renameat(&self.directory, from, &self.directory, to)?;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?;
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::fsync(&self.directory))?;
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::io::retry_on_intr(|| rustix::fs::fstatvfs(&self.directory))?;
        // What is kept for the superuser is not ours, whoever we are.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl StorageFile for DirFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.cut.store(true, Ordering::Relaxed);
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        // An error is never retried, not even as a full sync: see the contract of the trait.
        let cut = self.cut.load(Ordering::Relaxed);
        let result = if cut {
            self.file.sync_all()
        } else {
            self.file.sync_data()
        };
        if result.is_ok() {
            self.cut.store(false, Ordering::Relaxed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_live_in_the_directory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let storage =
            DirStorage::open_or_create(&folder.path().join("a/b")).expect("creates parents");
        let file = storage.create("x").expect("creates");
        assert_eq!(
            storage.create("x").expect_err("exists").kind(),
            io::ErrorKind::AlreadyExists
        );
        file.write_at(3, b"abc").expect("writes");
        file.sync().expect("syncs");
        assert_eq!(file.len().expect("length"), 6);
        let mut buffer = [7; 10];
        assert_eq!(file.read_at(1, &mut buffer).expect("reads"), 5);
        assert_eq!(&buffer[..5], b"\0\0abc");
        file.set_len(4).expect("cuts");
        file.sync().expect("syncs");
        storage.rename("x", "y").expect("renames");
        storage.sync_dir().expect("syncs");
        assert_eq!(storage.list().expect("lists"), ["y"]);
        let free = storage.free().expect("tells");
        assert!(free > 0 && free < u64::MAX, "{free}");
        assert_eq!(
            storage
                .open("y")
                .and_then(|file| file.len())
                .expect("length"),
            4
        );
        storage.remove("y").expect("removes");
        assert!(storage.list().expect("lists").is_empty());
    }

    #[test]
    fn root_shuts_others_out_of_their_directories() {
        assert_eq!(shut_out(0, 998), Some(ShutOut { owner: 998 }));
        for (user, owner) in [(0, 0), (998, 998), (998, 0), (998, 999)] {
            assert_eq!(shut_out(user, owner), None, "{user} {owner}");
        }
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let storage = DirStorage::open(folder.path()).expect("opens");
        for name in ["", ".", "..", "a/b", "/etc/passwd", "../x", "a\0b"] {
            let error = storage.create(name).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
            assert!(storage.open(name).is_err() && storage.remove(name).is_err());
        }
    }

    #[test]
    fn only_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = DirStorage::open(folder.path()).expect("opens");
        first.lock().expect("free");
        let second = DirStorage::open(folder.path()).expect("opens");
        assert_eq!(
            second.lock().expect_err("held").kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        second.lock().expect("free again");
    }
}
