//! A signal that ends blocking threads: they wait for their socket and for it.
//!
//! Whoever waits or looks also gives a sign of life, so that a thread which does neither any
//! more is noticed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::health::{BEAT_EVERY, Beat};

/// Raised once, seen by every thread that has a clone.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    inner: Arc<Inner>,
    beat: Beat,
}

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
    /// A signal for threads whose signs of life go to `beat`.
    pub(crate) fn new(beat: Beat) -> io::Result<Self> {
        Ok(Self {
            inner: Arc::new(Inner {
                raised: AtomicBool::new(false),
                event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            }),
            beat,
        })
    }

    pub(crate) fn raise(&self) {
        self.inner.raised.store(true, Ordering::Release);
        // Fails only if the counter is about to overflow, and then it is readable anyway.
        let _ = rustix::io::write(&self.inner.event, &1u64.to_ne_bytes());
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.beat.give();
        self.inner.raised.load(Ordering::Acquire)
    }

    /// A descriptor that becomes readable when the signal is raised, and stays so.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }

    /// Waits until `socket` can be read or accepted from, the signal is raised, or `timeout`
    /// is over.
    pub(crate) fn wait(
        &self,
        socket: Option<BorrowedFd<'_>>,
        timeout: Option<Duration>,
    ) -> io::Result<Waited> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let nap = left.map_or(BEAT_EVERY, |left| left.min(BEAT_EVERY));
            let waited = self.nap(socket, nap)?;
            if waited != Some(Waited::TimedOut) {
                return Ok(waited.unwrap_or(Waited::TimedOut));
            }
            if deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(Waited::TimedOut);
            }
        }
    }

    /// Waits until one of several sockets can be read or accepted from, the signal is raised,
    /// or `timeout` is over; shorter than that at times.
    pub(crate) fn wait_any(
        &self,
        sockets: &[BorrowedFd<'_>],
        timeout: Duration,
    ) -> io::Result<Waited> {
        self.beat.give();
        let timeout = Timespec::try_from(timeout.min(BEAT_EVERY)).map_err(io::Error::other)?;
        let mut fds: Vec<_> = std::iter::once(&self.inner.event.as_fd())
            .chain(sockets)
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => Ok(Waited::TimedOut),
            Ok(_) if self.is_raised() => Ok(Waited::Stopped),
            Ok(_) => Ok(Waited::Ready),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for a short time; `None` if it was interrupted.
    fn nap(&self, socket: Option<BorrowedFd<'_>>, nap: Duration) -> io::Result<Option<Waited>> {
        self.beat.give();
        let timeout = Timespec::try_from(nap).map_err(io::Error::other)?;
        let event = PollFd::from_borrowed_fd(self.inner.event.as_fd(), PollFlags::IN);
        // Without a socket the signal alone is waited for, twice.
        let socket = socket.unwrap_or(self.inner.event.as_fd());
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN), event];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => Ok(Some(Waited::TimedOut)),
            Err(Errno::INTR) => Ok(None),
            Ok(_) if self.is_raised() => Ok(Some(Waited::Stopped)),
            Ok(_) => Ok(Some(Waited::Ready)),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_ends_every_wait() {
        let stop = Stop::new(Beat::default()).expect("eventfd");
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
