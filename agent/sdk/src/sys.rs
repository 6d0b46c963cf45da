//! What the client asks of the operating system: the sealed memory file, memory that forgets
//! itself in a fork, clocks, and a thread that takes no signals.
//!
//! This is one of two modules with unsafe code; the other one is the interface for C.
#![expect(unsafe_code, reason = "mapping memory; hooks of the C library")]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use rustix::time::{ClockId, clock_gettime};

/// The words of a mapping that is never taken away again.
fn words_at(start: *mut core::ffi::c_void, words: usize) -> &'static [AtomicU64] {
    // SAFETY: callers pass the start of a mapping of that many words, made readable and
    // writable just now and never unmapped. Mappings begin at a page, so words are aligned,
    // and zero bytes are valid atomics.
    unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), words) }
}

/// Makes a memory file of `words` words whose size nobody can change any more, and maps it.
///
/// The mapping stays until the process ends: threads count in it without asking. It is not
/// there in a child after `fork`, which could otherwise write to its parent's counts.
pub(crate) fn sealed_memory(words: usize) -> io::Result<(OwnedFd, &'static [AtomicU64])> {
    let fd = memfd_create(
        "tollgate-page",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let bytes = words * size_of::<AtomicU64>();
    ftruncate(&fd, bytes as u64)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that
    // exists, and the seals keep the file as long as the mapping.
    let start = unsafe {
        mmap(
            null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &fd,
            0,
        )?
    };
    // SAFETY: exactly the range just mapped. Who counts looks first at a word that a fork
    // wipes, so nobody reaches for the pages that the child does not have.
    unsafe { madvise(start, bytes, Advice::LinuxDontFork)? };
    Ok((fd, words_at(start, words)))
}

fn anonymous(bytes: usize) -> io::Result<*mut core::ffi::c_void> {
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
    let start = unsafe {
        mmap_anonymous(
            null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )?
    };
    Ok(start)
}

/// Memory of zeros that is there for good, and takes what is stored to it and no more.
pub(crate) fn lazy_memory(words: usize) -> io::Result<&'static [AtomicU64]> {
    Ok(words_at(anonymous(words * size_of::<AtomicU64>())?, words))
}

/// What is wiped in a child.
#[derive(Clone, Copy)]
pub(crate) enum Wiped {
    /// The leases of a page.
    Leases,
    /// The levels of the process.
    Levels,
}

/// Memory that is all zeros in a child after `fork`, however the fork was made. Of each kind
/// only the newest needs to be.
pub(crate) fn wiped_on_fork(kind: Wiped, words: usize) -> io::Result<&'static [AtomicU64]> {
    let bytes = words * size_of::<AtomicU64>();
    let start = anonymous(bytes)?;
    let memory = words_at(start, words);
    // SAFETY: exactly the range just mapped, which nobody else knows yet.
    if unsafe { madvise(start, bytes, Advice::LinuxWipeOnFork) }.is_err() {
        // A kernel before 4.14: the C library tells of forks that go through it.
        register_wipe(kind, memory)?;
    }
    Ok(memory)
}

/// A value that is set and replaced, and whose former values stay for those who hold them.
pub(crate) struct Published<T: 'static>(AtomicPtr<T>);

impl<T: Sync> Published<T> {
    pub(crate) const fn none() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// The value of the moment.
    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or a leaked box that is never freed; `T: Sync` and the order of the
        // store make what is in it visible to every thread.
        unsafe { self.0.load(Acquire).as_ref() }
    }

    /// Replaces the value, and keeps the one before where it is.
    pub(crate) fn set(&self, value: Box<T>) -> &'static T {
        let value: &'static T = Box::leak(value);
        self.0.store(std::ptr::from_ref(value).cast_mut(), Release);
        value
    }
}

static TO_WIPE: [AtomicPtr<&'static [AtomicU64]>; 2] = [const { AtomicPtr::new(null_mut()) }; 2];

extern "C" fn wipe_in_child() {
    for memory in &TO_WIPE {
        let memory = memory.load(Relaxed);
        if !memory.is_null() {
            // SAFETY: only `register_wipe` stores there, a leaked box that is never freed.
            let memory = unsafe { *memory };
            for word in memory {
                word.store(0, Relaxed);
            }
        }
    }
}

fn register_wipe(kind: Wiped, memory: &'static [AtomicU64]) -> io::Result<()> {
    static REGISTERED: Once = Once::new();
    TO_WIPE[kind as usize].store(Box::leak(Box::new(memory)), Relaxed);
    let mut result = 0;
    REGISTERED.call_once(|| {
        // SAFETY: the handler is a function that lives as long as the process and does only
        // what is allowed between fork and exec.
        result = unsafe { libc::pthread_atfork(None, None, Some(wipe_in_child)) };
    });
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(result))
    }
}

/// Blocks every signal for the calling thread: an application's signals are not for a thread
/// that it does not know of.
pub(crate) fn block_signals() {
    // SAFETY: plain calls of the C library on a set that lives here.
    unsafe {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        if libc::sigfillset(all.as_mut_ptr()) == 0 {
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), null_mut());
        }
    }
}

/// Sixteen random bytes, from the kernel.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::rand::getrandom(&mut bytes[at..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

fn millis(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    let (secs, nanos) = (time.tv_sec, time.tv_nsec);
    secs.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// The wall clock in milliseconds since 1970, up to a tick of the kernel (4 ms) late.
pub(crate) fn coarse_millis() -> i64 {
    millis(ClockId::RealtimeCoarse)
}

/// A clock that nobody sets, in milliseconds, up to a tick of the kernel late.
pub(crate) fn steady_millis() -> i64 {
    millis(ClockId::MonotonicCoarse)
}

/// The wall clock in milliseconds since 1970.
pub(crate) fn precise_millis() -> i64 {
    millis(ClockId::Realtime)
}
