//! DogStatsD sockets: one thread each, which owns its tally and never allocates per datagram.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tollgate_agent_core::aggregate::{InputLoss, Region, Rejection};
use tollgate_agent_core::input::Listener;
use tollgate_agent_core::input::tally::Tally;
use tollgate_agent_core::input::udp_drops::{NET_UDP_BYTES_MAX, parse_drops};
use tracing::{debug, info, warn};

use super::stop::{Stop, Waited};
use crate::clock;

/// The largest UDP payload fits; a longer Unix datagram is cut after its last whole line.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams between two looks at the stop signal.
const BURST: u32 = 256;
/// How long a stopping thread goes on reading what senders keep sending.
const DRAIN: Duration = Duration::from_millis(500);
/// How often the kernel's drops are looked up at most.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);

/// A bound socket and, for Unix, its path.
pub(crate) struct Bound {
    pub(crate) listener: Listener,
    socket: OwnedFd,
    path: Option<PathBuf>,
    drops: Option<Drops>,
}

/// Binds the UDP listener.
pub(crate) fn bind_udp(address: SocketAddr, receive_buffer: u32) -> io::Result<Bound> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SockAddr::from(address))?;
    size_buffer(&socket, receive_buffer)?;
    let drops = Drops::new(&socket, address)?;
    info!(%address, "listening for DogStatsD over UDP");
    Ok(Bound {
        listener: Listener::Udp,
        socket: socket.into(),
        path: None,
        drops: Some(drops),
    })
}

/// Binds the Unix datagram listener, in place of a file that a dead agent left.
pub(crate) fn bind_unix(path: &Path, receive_buffer: u32) -> io::Result<Bound> {
    super::remove_stale_socket(path, |path| {
        UnixDatagram::unbound().is_ok_and(|probe| probe.connect(path).is_err())
    });
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Who may write here writes bills: the owner and the group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    size_buffer(&socket, receive_buffer)?;
    info!(path = %path.display(), "listening for DogStatsD over a Unix socket");
    Ok(Bound {
        listener: Listener::Unix,
        socket: socket.into(),
        path: Some(path.to_owned()),
        drops: None,
    })
}

fn size_buffer(socket: &Socket, wanted: u32) -> io::Result<()> {
    let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
    // Privileged agents may exceed the sysctl; for others the plain way has to do.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, wanted).is_err() {
        socket.set_recv_buffer_size(wanted)?;
    }
    // Linux reports twice what it uses for payload.
    let given = socket.recv_buffer_size()? / 2;
    if given < wanted {
        info!(
            wanted,
            given, "the kernel gives a smaller receive buffer; raise sysctl net.core.rmem_max"
        );
    }
    Ok(())
}

impl Bound {
    /// Counts what arrives until `stop` is raised, then what the kernel still holds.
    pub(crate) fn serve<R: Region>(
        self,
        tally: Tally<R>,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        let name = format!("dogstatsd-{}", self.listener.as_str());
        super::spawn(&name, move || {
            let mut server = Server {
                bound: self,
                tally,
                buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
            };
            server.run(&stop);
        })
    }
}

struct Server<R: Region> {
    bound: Bound,
    tally: Tally<R>,
    buffer: Box<[u8]>,
}

impl<R: Region> Server<R> {
    fn run(&mut self, stop: &Stop) {
        while !stop.is_raised() {
            let busy = self.burst();
            let unseen = self.look_for_drops(false);
            if busy {
                continue;
            }
            // Drops happen under load; a socket at rest is not looked at again.
            let timeout = unseen.then_some(DROPS_INTERVAL);
            match stop.wait(Some(self.bound.socket.as_fd()), timeout) {
                Ok(Waited::Ready | Waited::TimedOut) => {}
                Ok(Waited::Stopped) => break,
                Err(error) => {
                    warn!(%error, listener = self.bound.listener.as_str(), "cannot wait for the socket");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        let deadline = Instant::now() + DRAIN;
        while self.burst() && Instant::now() < deadline {}
        self.look_for_drops(true);
        debug!(listener = self.bound.listener.as_str(), "drained");
    }

    /// Reads up to [`BURST`] datagrams; true if there may be more.
    fn burst(&mut self) -> bool {
        for _ in 0..BURST {
            match recv(
                &self.bound.socket,
                &mut *self.buffer,
                RecvFlags::DONTWAIT | RecvFlags::TRUNC,
            ) {
                Ok((held, length)) => self.handle(held, length),
                Err(Errno::AGAIN) => return false,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    let error = io::Error::from(errno);
                    warn!(%error, listener = self.bound.listener.as_str(), "cannot receive");
                    return false;
                }
            }
        }
        true
    }

    fn handle(&mut self, held: usize, length: usize) {
        let mut datagram = &self.buffer[..held.min(self.buffer.len())];
        if length > held {
            // What was cut off might change whose the last line is.
            let whole = datagram.iter().rposition(|byte| *byte == b'\n');
            datagram = &datagram[..whole.unwrap_or(0)];
            self.tally.refused(Rejection::TooLarge, 1);
        }
        self.tally
            .handle_datagram(self.bound.listener, datagram, clock::now);
    }

    /// Accounts for what the kernel dropped; true if it has to be looked at again soon.
    fn look_for_drops(&mut self, now: bool) -> bool {
        let Some(drops) = &mut self.bound.drops else {
            return false;
        };
        match drops.look(now) {
            Look::TooSoon => true,
            Look::Dropped(0) => false,
            Look::Dropped(datagrams) => {
                // Each datagram held at least one event.
                self.tally.lost(InputLoss::KernelDrop, datagrams);
                warn!(
                    datagrams,
                    "the kernel dropped datagrams; raise input.dogstatsd.receive_buffer"
                );
                true
            }
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The next start removes it otherwise.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The kernel's count of datagrams that found the buffer full.
struct Drops {
    table: &'static str,
    inode: u64,
    seen: u64,
    looked: Instant,
    text: String,
}

enum Look {
    TooSoon,
    Dropped(u64),
}

impl Drops {
    fn new(socket: &Socket, address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            table: if address.is_ipv4() {
                "/proc/self/net/udp"
            } else {
                "/proc/self/net/udp6"
            },
            inode: rustix::fs::fstat(socket)?.st_ino,
            seen: 0,
            looked: Instant::now(),
            text: String::new(),
        })
    }

    fn look(&mut self, now: bool) -> Look {
        if !now && self.looked.elapsed() < DROPS_INTERVAL {
            return Look::TooSoon;
        }
        self.looked = Instant::now();
        let read = crate::read_proc(self.table, NET_UDP_BYTES_MAX, &mut self.text);
        let drops = read.ok().and_then(|()| parse_drops(&self.text, self.inode));
        let drops = drops.unwrap_or(self.seen);
        let more = drops.saturating_sub(self.seen);
        self.seen = drops;
        Look::Dropped(more)
    }
}
