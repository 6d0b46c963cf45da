//! A page of another process, mapped to be read; and descriptors that the process was born with.
#![expect(
    unsafe_code,
    reason = "mapping a file into memory; owning descriptors passed at the start"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rustix::fs::{FileType, SealFlags, fcntl_get_seals, fstat, fstatfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const WORD_BYTES: usize = size_of::<AtomicU64>();
/// `TMPFS_MAGIC` of linux/magic.h: what a memory file of ordinary pages lies on.
const TMPFS_MAGIC: i128 = 0x0102_1994;

/// Why a descriptor is not taken for a page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// Not as large as was said, too large, or of an odd size.
    #[error("page has {actual} bytes; {said} were said, and {max} are allowed")]
    Size {
        /// Bytes of the file.
        actual: u64,
        /// Bytes that the application said.
        said: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// It could be cut short while it is read.
    #[error("page is not sealed against shrinking, growing and further seals")]
    Unsealed,
    /// Huge pages are reserved, and one that is not there when it is read ends the reader.
    #[error("page is no memory file of ordinary pages")]
    Huge,
    /// The operating system refused.
    #[error("page cannot be mapped: {0}")]
    Io(#[from] io::Error),
}

/// A mapped page; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct MappedPage {
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is plain memory of atomics, valid until drop, and not tied to a thread.
unsafe impl Send for MappedPage {}

impl MappedPage {
    /// Maps a file that is sealed and as large as was said.
    ///
    /// Seals are possible on memory files only, so that a read of a page that passes this
    /// cannot fail later: the file is as long as its mapping, for as long as that is there.
    /// Not so with huge pages, which its owner may take out again while there is no other.
    pub(crate) fn map(fd: &OwnedFd, said: u64, max: u64) -> Result<Self, MapError> {
        let stat = fstat(fd).map_err(io::Error::from)?;
        let actual = u64::try_from(stat.st_size).unwrap_or(0);
        let whole = actual > 0 && actual % 4096 == 0;
        if actual != said || actual > max || !whole {
            return Err(MapError::Size { actual, said, max });
        }
        let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let seals = fcntl_get_seals(fd).map_err(|_| MapError::Unsealed)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !seals.contains(wanted) || !regular {
            return Err(MapError::Unsealed);
        }
        let file_system = fstatfs(fd).map_err(io::Error::from)?;
        if i128::from(file_system.f_type) != TMPFS_MAGIC {
            return Err(MapError::Huge);
        }
        let bytes = usize::try_from(actual).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that
        // exists; the seals keep the file as long as this.
        let start = unsafe {
            mmap(null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, fd, 0)
                .map_err(io::Error::from)?
        };
        let start = NonNull::new(start.cast::<AtomicU64>())
            .ok_or_else(|| io::Error::other("mmap gave a null address"))?;
        Ok(Self {
            start,
            words: bytes / WORD_BYTES,
        })
    }

    /// The size of a file that is offered by somebody who need not say it; 0 if unknown.
    pub(crate) fn bytes_of(fd: &OwnedFd) -> u64 {
        fstat(fd).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        (self.words * WORD_BYTES) as u64
    }

    /// All words. Only loads are allowed: the mapping is for reading.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `map` made a readable mapping of this many words at a page boundary, which
        // stays until drop. Other processes store there, which atomics are for.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for MappedPage {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` made; no borrow outlives `self`. A failure
        // leaves the mapping, which harms nobody.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.words * WORD_BYTES) };
    }
}

/// What the service manager passed to this process, by name (`LISTEN_FDS`, `LISTEN_FDNAMES`);
/// nothing the second time.
pub(super) fn passed_descriptors() -> io::Result<Vec<(String, OwnedFd)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Relaxed) {
        return Ok(Vec::new());
    }
    // Checks that they are meant for this process, and closes them to programs it starts.
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: the manager opened these descriptors for this process alone, nobody else in it
    // looks for them, and `TAKEN` sees to it that each is owned once.
    Ok(passed
        .map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }))
        .collect())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    fn file(bytes: u64, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("test", flags).expect("memfd");
        ftruncate(&fd, bytes).expect("sizeable");
        fcntl_add_seals(&fd, seals).expect("sealable");
        fd
    }

    #[test]
    fn only_what_can_never_be_cut_short_is_mapped() {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let good = MappedPage::map(&file(8192, all), 8192, 1 << 20).expect("sealed");
        assert_eq!(good.words().len(), 1024);
        for seals in [
            SealFlags::empty(),
            SealFlags::GROW | SealFlags::SEAL,
            SealFlags::SHRINK | SealFlags::GROW,
        ] {
            let refused = MappedPage::map(&file(8192, seals), 8192, 1 << 20);
            assert!(matches!(refused, Err(MapError::Unsealed)), "{seals:?}");
        }
        for (bytes, said) in [
            (8192, 4096),
            (8192, 1 << 40),
            (1 << 21, 1 << 21),
            (0, 0),
            (100, 100),
        ] {
            let refused = MappedPage::map(&file(bytes, all), said, 1 << 20);
            assert!(matches!(refused, Err(MapError::Size { .. })), "{bytes}");
        }
        // Two megabytes of huge pages, whether the host has any or not.
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        if let Ok(huge) = memfd_create("test", flags)
            && ftruncate(&huge, 1 << 21).is_ok()
        {
            fcntl_add_seals(&huge, all).expect("sealable");
            let refused = MappedPage::map(&huge, 1 << 21, 1 << 22);
            assert!(matches!(refused, Err(MapError::Huge)), "{refused:?}");
        }
        // No memory file at all.
        let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("there"));
        assert!(MappedPage::map(&null, 0, 1 << 20).is_err());
    }
}
