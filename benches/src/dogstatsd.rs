//! `dogstatsd`: lines per second on one core with loss below 0.1 %.
//!
//! Sender and receiver each have a processor of their own. The rate rises by a quarter until
//! a receiver loses more than 0.1 % twice in a row; the highest rate that passed counts. The
//! receiver's own counter decides what arrived, after it had time to read what was queued.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::binaries::{self, Binaries, Running, wait_until};
use crate::load::{Load, Shape};
use crate::process::{pin_to, usage};
use crate::report::{Better, Case, Report};
use crate::setup;

const LOSS_MAX: f64 = 0.001;
const STEP: Duration = Duration::from_secs(2);
const SENDER_CPU: usize = 0;
const RECEIVER_CPU: usize = 1;
const SERIES: usize = 10_000;
/// Plain `name:value|c` lines, so that peers without tags take part.
const PLAIN: Shape = Shape {
    series: SERIES,
    datagram_bytes: 1432,
    tags: false,
};
const TAGGED: Shape = Shape {
    series: SERIES,
    datagram_bytes: 1432,
    tags: true,
};
const SINGLE: Shape = Shape {
    series: SERIES,
    datagram_bytes: 0,
    tags: false,
};

/// Runs the agent, the npm `statsd` server and a loop that only receives.
pub(crate) fn run() -> Result<Report> {
    let binaries = binaries::build()?;
    pin_to(SENDER_CPU);
    let plain = best(&mut Agent::start(&binaries)?, PLAIN, 400_000.0)?;
    let tagged = best(&mut Agent::start(&binaries)?, TAGGED, 400_000.0)?;
    let single = best(&mut Agent::start(&binaries)?, SINGLE, 50_000.0)?;
    let floor = best(&mut ReceiveOnly::start()?, PLAIN, 400_000.0)?;
    let floor_single = best(&mut ReceiveOnly::start()?, SINGLE, 50_000.0)?;

    let mut rate = Case::new(
        "lines/s, packed 1432 By, 10,000 series",
        plain.rate,
        "lines/s",
    )
    .against("receive only", floor.rate);
    let mut cpu = Case::new(
        "CPU for a million lines, the same",
        plain.cpu_per_million,
        "s",
    )
    .against("receive only", floor.cpu_per_million);
    match NodeStatsd::start() {
        Ok(mut peer) => {
            let peer = best(&mut peer, PLAIN, 25_000.0)?;
            rate = rate
                .target(peer.rate, Better::Higher)
                .against("npm statsd", peer.rate);
            cpu = cpu
                .target(peer.cpu_per_million, Better::Lower)
                .against("npm statsd", peer.cpu_per_million);
        }
        Err(error) => {
            rate = rate.absent("npm statsd", format!("{error:#}"));
            cpu = cpu.absent("npm statsd", format!("{error:#}"));
        }
    }
    Ok(Report {
        bench: "dogstatsd",
        cases: vec![
            rate,
            cpu,
            Case::new("lines/s, packed, 3 tags a line", tagged.rate, "lines/s"),
            Case::new("lines/s, one line a datagram", single.rate, "lines/s")
                .against("receive only", floor_single.rate),
        ],
    })
}

/// Something that receives lines and says how many it got.
trait Receiver {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// The process to account, if it is one of its own.
    fn pid(&self) -> u32;
    /// Lines received so far, once nothing is queued any more.
    fn received(&mut self) -> Result<u64>;
}

struct Best {
    rate: f64,
    cpu_per_million: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a run sends far fewer than 2^52 lines"
)]
fn best(receiver: &mut dyn Receiver, shape: Shape, first: f64) -> Result<Best> {
    let load = Load::new(shape);
    // Every series once, so that the steady path is what is measured.
    load.send(receiver.address(), first, Duration::from_millis(500))?;
    let mut found = Best {
        rate: 0.0,
        cpu_per_million: f64::NAN,
    };
    let (mut rate, mut failures) = (first, 0);
    while failures < 2 {
        let (before, cpu) = (receiver.received()?, usage(receiver.pid())?.cpu);
        let sent = load.send(receiver.address(), rate, STEP)?;
        let arrived = receiver.received()?.saturating_sub(before);
        let cpu = usage(receiver.pid())?.cpu.saturating_sub(cpu);
        let reached = sent.lines as f64 / sent.time.as_secs_f64();
        if 1.0 - arrived as f64 / sent.lines as f64 <= LOSS_MAX {
            failures = 0;
            if reached > found.rate {
                found = Best {
                    rate: reached,
                    cpu_per_million: cpu.as_secs_f64() * 1e6 / arrived as f64,
                };
            }
            if reached < rate * 0.9 {
                // The sender cannot go faster; what it reached is a lower bound.
                break;
            }
            rate *= 1.25;
        } else {
            failures += 1;
        }
    }
    Ok(found)
}

struct Agent<'a> {
    running: Running,
    folder: TempDir,
    binaries: &'a Binaries,
    address: SocketAddr,
}

impl<'a> Agent<'a> {
    fn start(binaries: &'a Binaries) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_udp_port()?;
        setup::make_pki(binaries, folder.path())?;
        // Nobody listens there: the agent seals into its spool, as a disconnected one does.
        setup::write_agent_config(folder.path(), setup::free_port()?, Some(address))?;
        let running = pinned(|| {
            Running::start(
                Command::new(&binaries.agent)
                    .arg("run")
                    .arg("--config")
                    .arg(folder.path().join("agent.toml")),
            )
        })?;
        let mut agent = Self {
            running,
            folder,
            binaries,
            address,
        };
        wait_until("tollgate-agent", Duration::from_secs(10), || {
            agent.received().is_ok()
        })?;
        Ok(agent)
    }
}

impl Receiver for Agent<'_> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn received(&mut self) -> Result<u64> {
        let status =
            || setup::accepted_lines(&setup::agent_status(self.binaries, self.folder.path())?);
        settled(status)
    }
}

/// A loop that receives into one buffer and counts newlines: no receiver can be faster with
/// one `recv` for each datagram. It runs as a thread of a forked copy of this program, so
/// that the kernel accounts it on its own.
struct ReceiveOnly {
    running: Running,
    folder: TempDir,
    address: SocketAddr,
}

/// The hidden argument that makes this program the receive-only loop.
pub(crate) const RECEIVE_ONLY: &str = "--receive-only-loop";

/// The receive-only loop: listens on `address`, writes its count to `file` when idle.
pub(crate) fn receive_only(address: &str, file: &Path) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)
        .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut buffer, mut lines, mut written) = (vec![0; 65_536], 0u64, u64::MAX);
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let newlines = buffer[..length].iter().filter(|&&b| b == b'\n').count();
                lines += 1 + newlines as u64;
            }
            Err(_) if written != lines => {
                fs::write(file, lines.to_string())?;
                written = lines;
            }
            Err(_) => {}
        }
    }
}

impl ReceiveOnly {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_udp_port()?;
        let program = std::env::current_exe()?;
        let running = pinned(|| {
            Running::start(
                Command::new(program)
                    .arg(RECEIVE_ONLY)
                    .arg(address.to_string())
                    .arg(folder.path().join("count")),
            )
        })?;
        let receiver = Self {
            running,
            folder,
            address,
        };
        wait_until("receive-only loop", Duration::from_secs(10), || {
            receiver.count().is_ok()
        })?;
        Ok(receiver)
    }

    fn count(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.folder.path().join("count"))?.parse()?)
    }
}

impl Receiver for ReceiveOnly {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn received(&mut self) -> Result<u64> {
        settled(|| self.count())
    }
}

/// The server of the npm package `statsd`, with a backend that adds up all counters.
struct NodeStatsd {
    running: Running,
    folder: TempDir,
    address: SocketAddr,
}

const NODE_BACKEND: &str = r"
var fs = require('fs'), total = 0;
exports.init = function (startup, config, events) {
  events.on('flush', function (time, metrics) {
    for (var name in metrics.counters)
      if (name.indexOf('statsd.') !== 0) total += metrics.counters[name];
    fs.writeFileSync(config.countFile + '.new', String(total));
    fs.renameSync(config.countFile + '.new', config.countFile);
  });
  return true;
};
";

impl NodeStatsd {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        let installed = Command::new("npm")
            .args([
                "install",
                "--silent",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--prefix",
            ])
            .arg(path)
            .arg("statsd@0.9.0")
            .output()
            .context("npm is not installed")?;
        anyhow::ensure!(installed.status.success(), "npm could not install statsd");
        let address = free_udp_port()?;
        fs::write(path.join("backend.js"), NODE_BACKEND)?;
        let config = format!(
            "{{ port: {}, address: '127.0.0.1', mgmt_port: {}, flushInterval: 250, deleteCounters: true, \
             countFile: '{count}', backends: ['{backend}'] }}",
            address.port(),
            free_udp_port()?.port(),
            count = path.join("count").display(),
            backend = path.join("backend.js").display(),
        );
        fs::write(path.join("config.js"), config)?;
        let running = pinned(|| {
            Running::start(
                Command::new("node")
                    .arg(path.join("node_modules/statsd/stats.js"))
                    .arg(path.join("config.js")),
            )
        })?;
        let peer = Self {
            running,
            folder,
            address,
        };
        wait_until("npm statsd", Duration::from_secs(10), || {
            peer.count().is_ok()
        })?;
        Ok(peer)
    }

    fn count(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.folder.path().join("count"))?
            .trim()
            .parse()?)
    }
}

impl Receiver for NodeStatsd {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn received(&mut self) -> Result<u64> {
        settled(|| self.count())
    }
}

/// Starts something that inherits the receiver's processor.
fn pinned<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    pin_to(RECEIVER_CPU);
    let started = start();
    pin_to(SENDER_CPU);
    started
}

/// Reads a counter until it has not moved for 600 ms.
fn settled(mut read: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut last = read()?;
    let mut still = 0;
    while still < 3 {
        std::thread::sleep(Duration::from_millis(200));
        let now = read()?;
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

/// A port that was free a moment ago.
pub(crate) fn free_udp_port() -> Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}
