//! A signal that ends blocking threads: they wait for their socket and for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// Raised once, seen by every thread that has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    raised: AtomicBool,
    /// Becomes readable when raised and stays so, because nobody reads it.
    event: OwnedFd,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The socket has something.
    Ready,
    /// The signal is raised.
    Stopped,
    /// Neither, in the time given.
    TimedOut,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            raised: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })))
    }

    pub(crate) fn raise(&self) {
        self.0.raised.store(true, Ordering::Release);
        // Fails only if the counter is about to overflow, and then it is readable anyway.
        let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Acquire)
    }

    /// Waits until `socket` can be read or accepted from, the signal is raised, or `timeout`
    /// is over.
    pub(crate) fn wait(
        &self,
        socket: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Waited> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let event = PollFd::from_borrowed_fd(self.0.event.as_fd(), PollFlags::IN);
        // Without a socket the signal alone is waited for, twice.
        let socket = socket.unwrap_or(self.0.event.as_fd());
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN), event];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Ok(Waited::TimedOut),
            Ok(_) if self.is_raised() => Ok(Waited::Stopped),
            Ok(_) => Ok(Waited::Ready),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_ends_every_wait() {
        let stop = Stop::new().expect("eventfd");
        let soon = Some(Duration::from_millis(1));
        assert_eq!(stop.wait(None, soon).ok(), Some(Waited::TimedOut));
        let waiting = stop.clone();
        let thread = std::thread::spawn(move || waiting.wait(None, None));
        stop.raise();
        let waited = thread.join().expect("no panic").expect("poll works");
        assert_eq!(waited, Waited::Stopped);
        assert_eq!(stop.wait(None, None).ok(), Some(Waited::Stopped));
    }
}
