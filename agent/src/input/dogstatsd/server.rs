//! The thread of one datagram socket.

use std::io;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tollgate_agent_core::aggregate::{InputLoss, Region, Rejection};
use tollgate_agent_core::input::tally::Tally;
use tracing::{debug, warn};

use super::Bound;
use super::drops::{self, Look};
use super::receive::{DATAGRAMS, Datagrams};
use crate::clock;
use crate::health::BEAT_EVERY;
use crate::input::stop::{Stop, Waited};

/// Calls between two looks at the stop signal and the drops.
const BURST: u32 = 16;
/// How long a stopping thread counts what is left at its socket: enough for the largest buffer.
const DRAIN: Duration = Duration::from_secs(2);
/// Datagrams that are thrown away after that, at most.
const LEFT_MAX: usize = 1 << 22;
/// While datagrams keep coming, the thread sleeps this long instead of waiting for the next
/// one: being woken for every few datagrams costs more than counting them. The socket's buffer
/// holds far more than arrives meanwhile.
const PAUSE: Duration = Duration::from_micros(100);

impl Bound {
    /// Counts what arrives until `stop` is raised, then what the kernel still holds.
    pub(crate) fn serve<R: Region + 'static>(
        self,
        tally: Tally<R>,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        let name = format!("dsd-{}", self.name);
        crate::input::spawn(&name, move || {
            let mut server = Server {
                bound: self,
                tally,
                datagrams: Datagrams::new(),
            };
            server.run(&stop);
        })
    }
}

struct Server<R: Region + 'static> {
    bound: Bound,
    tally: Tally<R>,
    datagrams: Datagrams,
}

/// What a burst left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// There may be more already.
    More,
    /// Several came at once, so more will come soon.
    Soon,
    Nothing,
}

impl<R: Region + 'static> Server<R> {
    fn run(&mut self, stop: &Stop) {
        while !stop.is_raised() {
            let left = self.burst();
            let unseen = self.look_for_drops(false);
            match left {
                Left::More => continue,
                Left::Soon => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Left::Nothing => {}
            }
            self.tally.tend(clock::now());
            // Drops happen under load; a socket at rest is not looked at again.
            let timeout = if unseen { drops::INTERVAL } else { BEAT_EVERY };
            match stop.wait(Some(self.bound.socket.as_fd()), Some(timeout)) {
                Ok(Waited::Ready | Waited::TimedOut) => {}
                Ok(Waited::Stopped) => break,
                Err(error) => {
                    warn!(%error, socket = self.bound.name, "cannot wait for the socket");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        self.drain();
        debug!(socket = self.bound.name, "drained");
    }

    /// Counts what the kernel still holds; what there is no time for is counted as datagrams.
    fn drain(&mut self) {
        if let Err(error) = self.bound.refuse_more() {
            warn!(%error, socket = self.bound.name, "senders are not told that nobody listens");
        }
        let deadline = Instant::now() + DRAIN;
        while self.burst() != Left::Nothing && Instant::now() < deadline {}
        let mut left: u64 = 0;
        // As many at most as fit any buffer: if senders could not be told, they send on.
        for _ in 0..LEFT_MAX / DATAGRAMS {
            match self.datagrams.receive(self.bound.socket.as_fd()) {
                Ok(received) => left += received as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if left > 0 {
            // Each datagram held at least one event.
            self.tally.lost(InputLoss::Shutdown, left);
            warn!(
                datagrams = left,
                socket = self.bound.name,
                "there was no time to count what the socket still held"
            );
        }
        self.look_for_drops(true);
    }

    fn burst(&mut self) -> Left {
        for _ in 0..BURST {
            match self.datagrams.receive(self.bound.socket.as_fd()) {
                Ok(received) => {
                    self.count();
                    match received {
                        DATAGRAMS => {}
                        0 | 1 => return Left::Nothing,
                        _ => return Left::Soon,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!(%error, socket = self.bound.name, "cannot receive");
                    return Left::Nothing;
                }
            }
        }
        Left::More
    }

    fn count(&mut self) {
        let buffer = self.datagrams.buffer();
        let mut cut = 0;
        let whole = self.datagrams.iter().map(|(mut datagram, truncated)| {
            if truncated {
                // What was cut off might change whose the last line is.
                cut += 1;
                let bytes = &buffer[datagram.clone()];
                let last = bytes.iter().rposition(|byte| *byte == b'\n');
                datagram.end = datagram.start + last.unwrap_or(0);
            }
            datagram
        });
        self.tally
            .handle_datagrams(self.bound.listener, buffer, whole, clock::now());
        if cut > 0 {
            self.tally.refused(Rejection::TooLarge, cut);
        }
    }

    /// Accounts for what the kernel dropped; true if it has to be looked at again soon.
    fn look_for_drops(&mut self, now: bool) -> bool {
        let Some(drops) = &mut self.bound.drops else {
            return false;
        };
        match drops.look(self.bound.socket.as_fd(), now) {
            Look::TooSoon => true,
            Look::Dropped(0) => false,
            Look::Dropped(datagrams) => {
                // Each datagram held at least one event.
                self.tally.lost(InputLoss::KernelDrop, datagrams);
                warn!(
                    datagrams,
                    socket = self.bound.name,
                    "the kernel dropped datagrams; raise input.dogstatsd.receive_buffer"
                );
                true
            }
        }
    }
}
