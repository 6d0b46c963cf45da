//! DogStatsD sockets: one thread each, which owns its tally and never allocates per datagram.

mod drops;
mod receive;
mod server;
mod stream;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::fs::Mode;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tollgate_agent_core::aggregate::Region;
use tollgate_agent_core::config::Dogstatsd;
use tollgate_agent_core::input::Listener;
use tollgate_agent_core::input::tally::Tally;
use tracing::{info, warn};

use self::drops::Drops;
use super::stop::Stop;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A bound socket and, for Unix, its path.
pub(crate) struct Bound {
    listener: Listener,
    /// The name of its writer, without the name of the input.
    name: String,
    socket: OwnedFd,
    path: Option<PathBuf>,
    drops: Option<Drops>,
}

/// The names of the writers that the sockets of this configuration count through, in the
/// order of [`bind`].
pub(crate) fn writer_names(config: &Dogstatsd) -> impl Iterator<Item = String> {
    let udp = (0..config.udp.map_or(0, |_| config.udp_sockets)).map(|n| match n {
        0 => "udp".to_owned(),
        n => format!("udp.{n}"),
    });
    let unix = config.unix.iter().map(|_| "unix".to_owned());
    let stream = config.unix_stream.iter().map(|_| "stream".to_owned());
    let names = udp.chain(unix).chain(stream);
    names.map(|name| format!("dogstatsd.{name}"))
}

/// Most bytes of the buffers into which the sockets are read.
pub(crate) const fn buffers_max(sockets: u64, streams: bool) -> u64 {
    let datagrams = receive::DATAGRAMS as u64 * receive::STRIDE as u64;
    let connections = if streams {
        2 * stream::CONNECTIONS_MAX as u64 * receive::STRIDE as u64
    } else {
        0
    };
    sockets * datagrams + connections
}

/// Where a socket could not be bound, and why.
pub(crate) type BindError = (String, io::Error);

/// Binds every socket of the configuration.
pub(crate) fn bind(config: &Dogstatsd) -> Result<Vec<Bound>, BindError> {
    let mut all = Vec::new();
    if let Some(address) = config.udp {
        for _ in 0..config.udp_sockets {
            let bound = bind_udp(config, address);
            all.push(bound.map_err(|error| (format!("UDP {address}"), error))?);
        }
        info!(%address, sockets = config.udp_sockets, "listening for DogStatsD over UDP");
        if !address.ip().is_loopback() {
            warn!(
                %address,
                "DogStatsD is open to the network: it knows neither encryption nor \
                 authentication, and whoever reaches the port writes bills"
            );
        }
    }
    for (path, listener) in [
        (&config.unix, Listener::Unix),
        (&config.unix_stream, Listener::UnixStream),
    ] {
        if let Some(path) = path {
            let bound = bind_unix(config, path, listener);
            all.push(bound.map_err(|error| (path.display().to_string(), error))?);
            info!(path = %path.display(), %listener, "listening for DogStatsD");
        }
    }
    for (bound, name) in all.iter_mut().zip(writer_names(config)) {
        name.trim_start_matches("dogstatsd.")
            .clone_into(&mut bound.name);
    }
    Ok(all)
}

/// Several sockets share the address; the kernel gives each sender to one of them.
fn bind_udp(config: &Dogstatsd, address: SocketAddr) -> io::Result<Bound> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if config.udp_sockets > 1 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    size_buffer(&socket, config.receive_buffer)?;
    let drops = Drops::new(socket.as_fd(), address.is_ipv4())?;
    Ok(Bound {
        listener: Listener::Udp,
        name: String::new(),
        socket: socket.into(),
        path: None,
        drops: Some(drops),
    })
}

/// Binds a Unix socket, in place of a file that a dead agent left.
fn bind_unix(config: &Dogstatsd, path: &Path, listener: Listener) -> io::Result<Bound> {
    let stream = listener == Listener::UnixStream;
    super::remove_stale_socket(path, |path| {
        if stream {
            UnixStream::connect(path).is_err()
        } else {
            UnixDatagram::unbound().is_ok_and(|probe| probe.connect(path).is_err())
        }
    });
    let kind = if stream { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    // Who may write here writes bills. The file gets the mode of the socket, less the umask,
    // so that nobody else can come in before the mode is set as configured.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(config.unix_mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(config.unix_mode))?;
    if stream {
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
    } else {
        size_buffer(&socket, config.receive_buffer)?;
    }
    Ok(Bound {
        listener,
        name: String::new(),
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
        warn!(
            wanted,
            given, "the kernel gives a smaller receive buffer; raise sysctl net.core.rmem_max"
        );
    }
    Ok(())
}

impl Bound {
    /// Starts the thread of this socket.
    pub(crate) fn start<R: Region + 'static>(
        self,
        tally: Tally<R>,
        stop: Stop,
    ) -> io::Result<JoinHandle<()>> {
        if self.listener == Listener::UnixStream {
            self.serve_stream(tally, stop)
        } else {
            self.serve(tally, stop)
        }
    }

    /// Nothing more comes in from now on, and what the kernel holds can be read to its end:
    /// whoever sends is told at once, as if there were no socket any more.
    fn refuse_more(&self) -> io::Result<()> {
        if self.listener == Listener::Udp {
            // A connected socket takes from its peer alone, and nobody else has this address.
            let address = rustix::net::getsockname(&self.socket)?;
            let mut own = SocketAddr::try_from(address)?;
            if own.ip().is_unspecified() {
                own.set_ip(match own.ip() {
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                });
            }
            rustix::net::connect(&self.socket, &own)?;
        } else {
            rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Read)?;
        }
        Ok(())
    }

    /// The name of the writer that its tally counts through.
    pub(crate) fn writer_name(&self) -> String {
        format!("dogstatsd.{}", self.name)
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
