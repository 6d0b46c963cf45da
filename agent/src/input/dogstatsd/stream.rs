//! The Unix stream socket: frames of a length (4 bytes, little-endian) and a datagram, as the
//! Datadog clients send them. One thread serves all connections.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv};
use tollgate_agent_core::aggregate::{InputLoss, Region, Rejection};
use tollgate_agent_core::input::dogstatsd::DATAGRAM_SLACK_BYTES;
use tollgate_agent_core::input::tally::Tally;
use tracing::{debug, warn};

use super::Bound;
use super::receive::DATAGRAM_BYTES_MAX;
use crate::health::BEAT_EVERY;
use crate::input::stop::Stop;
use crate::{clock, pressure};

/// Most connections at a time; one more waits in the kernel until one ends or falls silent.
pub(crate) const CONNECTIONS_MAX: usize = 256;
const LENGTH_BYTES: usize = 4;
/// Room for one whole frame of the largest size.
const ROOM_BYTES: usize = LENGTH_BYTES + DATAGRAM_BYTES_MAX;
/// Reads of one connection before the others have their turn.
const READS: u32 = 8;
/// How long a stopping thread goes on reading.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a connection may say nothing before another one may have its place.
const IDLE: Duration = Duration::from_secs(30);

impl Bound {
    /// Counts the frames of all connections until `stop` is raised, then what they still hold.
    pub(crate) fn serve_stream<R: Region + 'static>(
        self,
        tally: Tally<R>,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        crate::input::spawn("dsd-stream", move || {
            let mut server = Server {
                bound: self,
                tally,
                connections: Vec::new(),
            };
            server.run(&stop);
        })
    }
}

struct Server<R: Region + 'static> {
    bound: Bound,
    tally: Tally<R>,
    connections: Vec<Connection>,
}

struct Connection {
    socket: OwnedFd,
    /// Made when the first byte arrives.
    buffer: Vec<u8>,
    held: usize,
    /// When it last sent something.
    heard: Instant,
    /// There may be more than was read.
    read_on: bool,
}

/// What reading a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Nothing more for now.
    Waiting,
    /// There may be more.
    More,
    /// The client has closed it, or it is closed because of what it sent.
    Ended,
}

impl<R: Region + 'static> Server<R> {
    fn run(&mut self, stop: &Stop) {
        while !stop.is_raised() {
            if let Err(error) = self.wait(stop) {
                warn!(%error, "cannot wait for DogStatsD connections");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            self.tally.tend(clock::now());
            // While the spool is full, what clients send waits in their sockets.
            if !pressure::hold() {
                self.accept();
                self.read();
            }
        }
        // Clients that are still connected find the socket closed, and connect again. What they
        // have written by then is read to its end.
        if let Err(error) = self.bound.refuse_more() {
            warn!(%error, "clients are not told that nobody listens");
        }
        self.accept();
        for connection in &self.connections {
            connection.refuse_more();
        }
        let deadline = Instant::now() + DRAIN;
        while self.read() && Instant::now() < deadline {}
        for connection in &self.connections {
            end_of(&mut self.tally, connection);
            if connection.read_on {
                // At least a frame; how many, nobody has looked.
                self.tally.lost(InputLoss::Shutdown, 1);
            }
        }
        debug!(connections = self.connections.len(), "drained");
    }

    /// Waits until anything can be done, or it is time for a sign of life.
    fn wait(&self, stop: &Stop) -> io::Result<()> {
        let full = self.connections.len() >= CONNECTIONS_MAX && self.idlest().is_none();
        let hold = pressure::hold();
        let listener = (!full && !hold).then_some(&self.bound.socket);
        let connections = if hold { &[] } else { &self.connections[..] };
        let mut all: Vec<_> = connections
            .iter()
            .map(|connection| &connection.socket)
            .chain(listener)
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        all.push(PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN));
        let beat = Timespec::try_from(BEAT_EVERY).map_err(io::Error::other)?;
        match poll(&mut all, Some(&beat)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A connection that has sent nothing for long; the one that has for longest.
    fn idlest(&self) -> Option<usize> {
        let connections = self.connections.iter().enumerate();
        let idlest = connections.min_by_key(|(_, connection)| connection.heard);
        let idle = idlest.filter(|(_, connection)| connection.heard.elapsed() >= IDLE);
        idle.map(|(at, _)| at)
    }

    /// True if there is room for one more connection, if need be in place of one that says
    /// nothing; its client finds it closed, and connects again when it has something to say.
    fn make_room(&mut self) -> bool {
        if self.connections.len() < CONNECTIONS_MAX {
            return true;
        }
        let Some(at) = self.idlest() else {
            return false;
        };
        self.connections[at].refuse_more();
        // What came meanwhile is read, and then its end.
        self.read();
        self.connections.len() < CONNECTIONS_MAX
    }

    fn accept(&mut self) {
        loop {
            let mut waiting = [PollFd::new(&self.bound.socket, PollFlags::IN)];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            if !matches!(poll(&mut waiting, Some(&now)), Ok(1)) || !self.make_room() {
                return;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.bound.socket, flags) {
                Ok(socket) => self.connections.push(Connection {
                    socket,
                    buffer: Vec::new(),
                    held: 0,
                    heard: Instant::now(),
                    read_on: false,
                }),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN | Errno::INVAL) => return,
                Err(error) => {
                    warn!(%error, "cannot accept a DogStatsD connection");
                    // Out of descriptors, most likely: not to be tried at full speed.
                    std::thread::sleep(Duration::from_millis(10));
                    return;
                }
            }
        }
    }

    /// Reads every connection once in turn; true if there may be more.
    fn read(&mut self) -> bool {
        let (tally, mut more) = (&mut self.tally, false);
        let listener = self.bound.listener;
        self.connections.retain_mut(|connection| {
            let count = |tally: &mut Tally<R>, buffer: &[u8], frame| {
                let frame = std::iter::once(frame);
                tally.handle_datagrams(listener, buffer, frame, clock::now());
            };
            match connection.read(&mut |buffer, frame| count(tally, buffer, frame)) {
                Ok(Read::Waiting) => {
                    connection.read_on = false;
                    true
                }
                Ok(Read::More) => {
                    (more, connection.read_on) = (true, true);
                    true
                }
                Ok(Read::Ended) => {
                    end_of(tally, connection);
                    false
                }
                Err(error) => {
                    debug!(%error, "a DogStatsD connection failed");
                    end_of(tally, connection);
                    false
                }
            }
        });
        more
    }
}

/// Accounts for the part of a frame that a connection held when it ended.
fn end_of<R: Region + 'static>(tally: &mut Tally<R>, connection: &Connection) {
    match connection.frame() {
        Some(length) if length > DATAGRAM_BYTES_MAX => {
            warn!(
                length,
                "a DogStatsD connection sent a length that no frame has; it is closed"
            );
            tally.refused(Rejection::TooLarge, 1);
        }
        _ if connection.held > 0 => tally.refused(Rejection::Malformed, 1),
        _ => {}
    }
}

impl Connection {
    /// Its client is told from now on that nobody reads; what it has written can be read still.
    fn refuse_more(&self) {
        // It fails if the client has closed it, which is read, too.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read);
    }

    /// The length of the frame at the front, once it is known.
    fn frame(&self) -> Option<usize> {
        let length = self.buffer[..self.held].first_chunk()?;
        usize::try_from(u32::from_le_bytes(*length)).ok()
    }

    fn read(&mut self, count: &mut impl FnMut(&[u8], std::ops::Range<usize>)) -> io::Result<Read> {
        for _ in 0..READS {
            if self.buffer.is_empty() {
                self.buffer = vec![0; ROOM_BYTES + DATAGRAM_SLACK_BYTES];
            }
            let room = &mut self.buffer[self.held..ROOM_BYTES];
            match recv(&self.socket, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(Read::Ended),
                Ok((read, _)) => {
                    self.held += read;
                    self.heard = Instant::now();
                    if !self.take_frames(count) {
                        return Ok(Read::Ended);
                    }
                }
                Err(Errno::AGAIN) => {
                    if self.held == 0 {
                        // An idle connection costs its descriptor alone.
                        self.buffer = Vec::new();
                    }
                    return Ok(Read::Waiting);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Read::More)
    }

    /// Counts the whole frames and moves the rest to the front; false if it cannot be one.
    fn take_frames(&mut self, count: &mut impl FnMut(&[u8], std::ops::Range<usize>)) -> bool {
        let mut at = 0;
        while let Some(length) = self.buffer[at..self.held].first_chunk() {
            let length = u32::from_le_bytes(*length);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > DATAGRAM_BYTES_MAX {
                self.buffer.copy_within(at..self.held, 0);
                self.held -= at;
                return false;
            }
            let frame = at + LENGTH_BYTES..at + LENGTH_BYTES + length;
            if frame.end > self.held {
                break;
            }
            at = frame.end;
            count(&self.buffer, frame);
        }
        self.buffer.copy_within(at..self.held, 0);
        self.held -= at;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("small");
        [&length.to_le_bytes()[..], bytes].concat()
    }

    fn drain(connection: &mut Connection, seen: &mut Vec<Vec<u8>>) -> Read {
        loop {
            let read = connection.read(&mut |buffer, frame| seen.push(buffer[frame].to_vec()));
            match read.expect("a good socket") {
                Read::More => {}
                other => return other,
            }
        }
    }

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().expect("a pair");
        let connection = Connection {
            socket: server.into(),
            buffer: Vec::new(),
            held: 0,
            heard: Instant::now(),
            read_on: false,
        };
        (client, connection)
    }

    #[test]
    fn frames_are_put_together_wherever_they_are_cut() {
        let frames = [
            b"a:1|c".to_vec(),
            Vec::new(),
            vec![b'x'; DATAGRAM_BYTES_MAX],
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        for piece in [1, 3, 7, 40_000, bytes.len()] {
            if piece == 1 {
                continue;
            }
            let (mut client, mut connection) = pair();
            let mut seen = Vec::new();
            for part in bytes.chunks(piece) {
                client.write_all(part).expect("room");
                assert_eq!(drain(&mut connection, &mut seen), Read::Waiting);
            }
            assert!(seen == frames, "in pieces of {piece}");
            assert!(connection.buffer.is_empty());
            drop(client);
            assert_eq!(drain(&mut connection, &mut seen), Read::Ended);
        }
    }

    #[test]
    fn a_length_of_no_frame_ends_the_connection() {
        let (mut client, mut connection) = pair();
        let mut seen = Vec::new();
        client.write_all(&framed(b"a:1|c")).expect("room");
        client.write_all(b"http.requests:1|c\n").expect("room");
        assert_eq!(drain(&mut connection, &mut seen), Read::Ended);
        assert_eq!(seen, [b"a:1|c"]);
        assert!(
            connection
                .frame()
                .is_some_and(|length| length > DATAGRAM_BYTES_MAX)
        );
    }
}
