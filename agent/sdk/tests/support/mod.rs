//! The other side of the socket, as a test needs it: takes pages and reads them.
#![expect(unsafe_code, reason = "mapping a page, and forking")]
#![allow(dead_code, reason = "not every test needs everything")]

use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tollgate::cell::level;
use tollgate::page::hello::{self, Answer};
use tollgate::page::{PageReader, PageSlot};
use tollgate_common::Aggregation;

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent that only takes pages.
pub(crate) struct Agent {
    listener: UnixListener,
    path: PathBuf,
    connections: Vec<UnixStream>,
    refuse: bool,
}

impl Agent {
    pub(crate) fn listen(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a free path");
        listener.set_nonblocking(true).expect("settable");
        Self {
            listener,
            path: path.to_owned(),
            connections: Vec::new(),
            refuse: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next page is said to be of another agent.
    pub(crate) fn refuse_next(&mut self) {
        self.refuse = true;
    }

    /// Takes the next page that comes.
    pub(crate) fn accept(&mut self) -> Page {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "no page came");
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => panic!("cannot accept: {error}"),
            }
        };
        stream.set_nonblocking(false).expect("settable");
        let mut bytes = [0; hello::HELLO_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            &stream,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::empty(),
        )
        .expect("readable");
        assert_eq!(got.bytes, hello::HELLO_BYTES);
        let fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let (id, size) = hello::parse_hello(&bytes).expect("a hello");
        let page = Page::map(&fds[0], usize::try_from(size).expect("small"));
        assert_eq!(page.id(), id);
        let refuse = std::mem::take(&mut self.refuse);
        let answer = Answer {
            code: if refuse {
                hello::QUARANTINED
            } else {
                hello::TAKEN
            },
            window_secs: 10,
            mirror: 7,
            tells: false,
        };
        stream.write_all(&answer.to_bytes()).expect("writable");
        if !refuse {
            self.connections.push(stream);
        }
        page
    }
}

/// A page as an agent sees it.
pub(crate) struct Page {
    words: &'static [AtomicU64],
}

impl Page {
    fn map(fd: &OwnedFd, bytes: usize) -> Self {
        // SAFETY: a new mapping of a file of a fixed size, never unmapped.
        let words = unsafe {
            let start = mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                fd,
                0,
            )
            .expect("mappable");
            std::slice::from_raw_parts(start.cast::<AtomicU64>(), bytes / 8)
        };
        Self { words }
    }

    fn reader(&self) -> PageReader<'static> {
        PageReader::open(self.words).expect("a page")
    }

    pub(crate) fn id(&self) -> [u8; 16] {
        self.reader().id()
    }

    pub(crate) fn slots(&self) -> Vec<PageSlot> {
        let reader = self.reader();
        (0..reader.published())
            .map(|slot| reader.slot(slot).expect("well-formed"))
            .collect()
    }

    /// Sums and events of the cells of a series.
    pub(crate) fn cells(&self, series: &str) -> Vec<(u64, u64)> {
        let reader = self.reader();
        self.slots()
            .iter()
            .filter(|slot| slot.key.to_string() == series && slot.aggregation.code() == 1)
            .map(|slot| {
                let cell = reader.cell(slot);
                (cell[0].load(Relaxed), cell[1].load(Relaxed))
            })
            .collect()
    }

    pub(crate) fn total(&self, series: &str) -> (u64, u64) {
        let cells = self.cells(series);
        let add = |(a, b): (u64, u64), (c, d): &(u64, u64)| (a + c, b + d);
        cells.iter().fold((0, 0), add)
    }

    /// The level of a series in its only cell.
    pub(crate) fn level(&self, series: &str) -> u64 {
        let reader = self.reader();
        let levels = self.slots().into_iter().filter(|slot| {
            slot.key.to_string() == series && slot.aggregation == Aggregation::TimeWeighted
        });
        let levels = levels.map(|slot| level::read(reader.cell(&slot)).expect("quiet").level);
        let levels: Vec<_> = levels.collect();
        assert_eq!(levels.len(), 1, "{series} has one cell");
        levels[0]
    }

    pub(crate) fn total_of_meter(&self, meter: &str) -> u64 {
        let reader = self.reader();
        self.slots()
            .iter()
            .filter(|slot| slot.key.meter().as_str() == meter && slot.aggregation.code() == 1)
            .map(|slot| reader.cell(slot)[0].load(Relaxed))
            .sum()
    }

    /// Codes of the aggregations that a series is counted with.
    pub(crate) fn kinds(&self, series: &str) -> Vec<u8> {
        self.slots()
            .iter()
            .filter(|slot| slot.key.to_string() == series)
            .map(|slot| slot.aggregation.code())
            .collect()
    }
}

/// A forked process.
pub(crate) struct Child(i32);

/// Runs `run` in a fork of this process, which then ends with what that returns.
pub(crate) fn fork(run: impl FnOnce() -> i32) -> Child {
    // SAFETY: the child runs code that is made to run there, and ends without destructors.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(run()),
            pid if pid > 0 => Child(pid),
            _ => panic!("cannot fork"),
        }
    }
}

impl Child {
    /// Waits for its end and gives its exit code; 128 and the signal if it was killed.
    pub(crate) fn join(self) -> i32 {
        let mut status = 0;
        // SAFETY: waits for a child of this process.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(waited, self.0);
        if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        }
    }
}
