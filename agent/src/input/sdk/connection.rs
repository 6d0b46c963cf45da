//! One application at the socket: its hello, its page, its end.

use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tollgate::page::hello::{self, Answer, HELLO_BYTES};
use tollgate_agent_core::aggregate::PageKey;
use tollgate_agent_core::input::page::MISSING_GRACE_MILLIS;
use tollgate_common::Timestamp;

use super::mapping::MappedPage;
use super::store::{Kept, Name};
use super::{LOOK_EVERY, LOOK_SOON};
use crate::clock;
use crate::peer::Peer;

/// How long an application may take to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of a process may come after that of its connection.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How long an application has to bring a page again.
const MISSING_GRACE: Duration = Duration::from_millis(MISSING_GRACE_MILLIS.unsigned_abs());
/// Descriptors that a hello may bring; those beyond the first are closed.
const FDS_MAX: usize = 4;

/// A page that was handed over.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) key: PageKey,
    pub(super) map: MappedPage,
    /// When it is to be looked at again, apart from when all are.
    pub(super) again: Option<Instant>,
    /// False while something of it waits.
    pub(super) complete: bool,
    /// When the look began that is not yet complete, by the wall clock.
    pub(super) looking: Option<Timestamp>,
    /// Its name at the service manager.
    pub(super) stored: Name,
    /// The manager has it, and its process, as far as that can be known.
    pub(super) kept: bool,
}

/// An application.
#[derive(Debug)]
pub(super) struct Connection {
    /// None if the page came from the service manager, for whom nobody says hello.
    stream: Option<UnixStream>,
    pub(super) peer: Peer,
    /// Becomes readable when the process has ended; `None` where the kernel has no such thing.
    process: Option<OwnedFd>,
    since: Instant,
    got: Vec<u8>,
    fd: Option<OwnedFd>,
    pub(super) page: Option<Page>,
    /// When the connection was found closed.
    pub(super) closed: Option<Instant>,
    /// The same process has come with another page since it was closed.
    pub(super) succeeded: bool,
}

/// What a readable connection brought.
#[derive(Debug)]
pub(super) enum Brought {
    /// Nothing that needs to be done.
    Nothing,
    /// A whole hello: the page's name and size, and its descriptor.
    Hello { bytes: u64, fd: OwnedFd },
    /// Something that is no hello.
    Nonsense,
    /// The other end is closed.
    Closed,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = Peer::of(&stream)?;
        Ok(Self {
            process: peer.process(&stream),
            peer,
            stream: Some(stream),
            since: Instant::now(),
            got: Vec::new(),
            fd: None,
            page: None,
            closed: None,
            succeeded: false,
        })
    }

    /// An application that an earlier agent had a page of, which the manager kept.
    pub(super) fn adopted(of: Kept, key: PageKey, map: MappedPage) -> Self {
        let peer = of.name.peer;
        let page = Page {
            key,
            map,
            again: None,
            complete: false,
            looking: None,
            stored: of.name,
            kept: of.process.is_some(),
        };
        Self {
            stream: None,
            peer,
            process: of.process.or_else(|| peer.numbered()),
            since: Instant::now(),
            got: Vec::new(),
            fd: None,
            page: Some(page),
            closed: None,
            succeeded: false,
        }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// The process that it is of.
    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// True once nothing is to be done for it any more.
    pub(super) fn is_over(&self) -> bool {
        self.page.is_none() && (self.closed.is_some() || self.stream.is_none())
    }

    /// True if nothing has come for too long.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.page.is_none() && now.duration_since(self.since) > HELLO_TIMEOUT
    }

    /// True once the process has ended, as far as that can be known. Where nothing shows its
    /// end, that is when it had time to bring its page again, and did not.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        if self.succeeded {
            return true;
        }
        let Some(process) = &self.process else {
            let alone = self.stream.is_none().then_some(self.since);
            let since = self.closed.or(alone);
            return since.is_some_and(|since| now.duration_since(since) >= MISSING_GRACE);
        };
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&now)), Ok(1))
    }

    /// How soon to look again for the end of a process whose connection is closed: soon after
    /// that, because mostly one is part of the other.
    pub(super) fn pause_ending(&self, now: Instant) -> Duration {
        let closed = self.closed.unwrap_or(now);
        if self.process.is_some() && now.duration_since(closed) < END_PATIENCE {
            LOOK_SOON
        } else {
            LOOK_EVERY
        }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, now: Instant) -> Brought {
        // The end of the process comes before that of the connection if a child has inherited it.
        if self.page.is_some() && self.is_gone(now) {
            return Brought::Closed;
        }
        let Some(stream) = &self.stream else {
            return Brought::Nothing;
        };
        let mut bytes = [0; HELLO_BYTES];
        // Behind the hello nothing is expected; it is read to see the end.
        let wanted = if self.page.is_some() {
            HELLO_BYTES
        } else {
            HELLO_BYTES - self.got.len()
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut bytes[..wanted])],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let length = match read {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Brought::Nothing,
            Err(_) => return Brought::Closed,
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                // All others are closed by being dropped.
                self.fd = self.fd.take().or_else(|| fds.into_iter().next());
            }
        }
        if length == 0 {
            return Brought::Closed;
        }
        if self.page.is_some() {
            return Brought::Nonsense;
        }
        self.got.extend_from_slice(&bytes[..length]);
        let Some(whole) = self.got.first_chunk() else {
            return Brought::Nothing;
        };
        match (hello::parse_hello(whole), self.fd.take()) {
            (Some((_, bytes)), Some(fd)) => Brought::Hello { bytes, fd },
            _ => Brought::Nonsense,
        }
    }

    /// Answers the hello. It fits the buffer of a fresh socket; an application that is gone
    /// shows when the socket is read.
    pub(super) fn answer(&mut self, answer: Answer) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.write_all(&answer.to_bytes());
        }
    }
}

impl Page {
    /// A look begins, unless one goes on.
    pub(super) fn begin_look(&mut self) {
        self.looking.get_or_insert_with(clock::wall);
    }
}

impl Connection {
    /// The look that was begun is complete. Its application is told, if that is of use to it. One
    /// that does not read is told later of a later look.
    pub(super) fn end_look(&mut self, tell: bool) {
        let looking = self.page.as_mut().and_then(|page| page.looking.take());
        if let Some((began, stream)) = looking.zip(self.stream.as_mut()).filter(|_| tell) {
            let _ = stream.write(&hello::look(began.millis()));
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn a_page_without_a_process_to_watch_ends_when_it_is_not_brought_in_time() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let page = memfd_create("test", flags).expect("memfd");
        ftruncate(&page, 8192).expect("sizeable");
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&page, seals).expect("sealable");
        let map = MappedPage::map(&page, 8192, 8192).expect("sealed");
        let (user, id) = (1, [1; 16]);
        let key = PageKey { id, user };
        let peer = Peer {
            uid: user,
            gid: 1,
            // More than there can be.
            pid: i32::MAX,
        };
        let kept = Kept {
            name: Name::new(peer, key),
            page,
            process: None,
        };
        let mut adopted = Connection::adopted(kept, key, map);
        let soon = adopted.since + MISSING_GRACE / 2;
        assert!(matches!(adopted.read(soon), Brought::Nothing));
        let late = adopted.since + MISSING_GRACE;
        assert!(matches!(adopted.read(late), Brought::Closed));
        assert!(adopted.is_gone(late));
    }
}
