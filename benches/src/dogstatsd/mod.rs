//! `dogstatsd`: lines per second on one core with loss below 0.1 %.
//!
//! Sender and receiver each have a processor of their own; the sender uses `sendmmsg` with
//! datagrams made beforehand. The rate doubles until a receiver loses more than 0.1 %, and then
//! rises from the last that passed by an eighth, and by a thirtieth after that, until it does so
//! twice in a row each; the highest rate that passed counts. The receiver's own counter decides what arrived, after it had time to read
//! what was queued; for peers that have none, the kernel's count of drops. CPU is compared at
//! one rate for all.

mod peers;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use self::peers::NodeStatsd;
use crate::binaries::{self, Binaries, Running, wait_until};
use crate::load::{Load, Shape};
use crate::mmsg;
use crate::process::{pin_to, usage};
use crate::report::{Better, Case, Report};
use crate::setup;

const LOSS_MAX: f64 = 0.001;
const STEP: Duration = Duration::from_secs(1);
const SENDER_CPU: usize = 0;
const RECEIVER_CPU: usize = 1;
const SERIES: usize = 10_000;
/// At this rate the CPU time of receivers is compared, in lines a second.
const CPU_RATE: f64 = 4_000_000.0;
const CPU_RATE_SINGLE: f64 = 150_000.0;
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
const MILLION: Shape = Shape {
    series: 1_000_000,
    datagram_bytes: 1432,
    tags: false,
};

/// Runs the agent, the peers and a loop that only receives.
pub(crate) fn run() -> Result<Report> {
    let binaries = binaries::build()?;
    pin_to(SENDER_CPU);
    let agent = |setting| Agent::start(&binaries, setting);
    let plain = measure(&mut agent(Setting::PLAIN)?, PLAIN, 1e6, CPU_RATE)?;
    let tagged = measure(&mut agent(Setting::PLAIN)?, TAGGED, 1e6, CPU_RATE)?;
    let single = measure(&mut agent(Setting::PLAIN)?, SINGLE, 100e3, CPU_RATE_SINGLE)?;
    let two = measure(&mut agent(Setting::TWO_SOCKETS)?, PLAIN, 1e6, CPU_RATE)?;
    let floor = measure(&mut ReceiveOnly::start()?, PLAIN, 1e6, CPU_RATE)?;
    let floor_single = measure(&mut ReceiveOnly::start()?, SINGLE, 100e3, CPU_RATE_SINGLE)?;
    let million = agent(Setting::MILLION).and_then(|mut agent| {
        // The lines of a million series are no more than its datagrams.
        measure(&mut agent, MILLION, 1e6, CPU_RATE)
    });
    let floor_million = measure(&mut ReceiveOnly::start()?, MILLION, 1e6, CPU_RATE)?;

    let mut rate = Case::new(
        "lines/s, packed 1432 By, 10,000 series",
        plain.rate,
        "lines/s",
    )
    .target(12e6, Better::Higher)
    .against("receive only", floor.rate);
    let mut cpu = Case::new("CPU for a million lines, the same", plain.cpu, "s")
        .target(floor.cpu * 1.6, Better::Lower)
        .against("receive only", floor.cpu);
    let node = NodeStatsd::start().and_then(|mut peer| measure(&mut peer, PLAIN, 100e3, 100e3));
    let collectd = peers::collectd().and_then(|mut peer| measure(&mut peer, PLAIN, 200e3, 100e3));
    let proxy = peers::statsdproxy().and_then(|mut peer| measure(&mut peer, PLAIN, 200e3, 100e3));
    let all = [
        ("npm statsd", node),
        ("collectd", collectd),
        ("statsdproxy", proxy),
    ];
    for (name, peer) in all {
        match peer {
            Ok(peer) => {
                rate = rate.against(name, peer.rate);
                cpu = cpu.against(name, peer.cpu);
            }
            Err(error) => {
                rate = rate.absent(name, format!("{error:#}"));
                cpu = cpu.absent(name, format!("{error:#}"));
            }
        }
    }
    let mut cases = vec![
        rate,
        cpu,
        Case::new("lines/s, packed, 3 tags a line", tagged.rate, "lines/s")
            .target(8e6, Better::Higher),
        Case::new("lines/s, one line a datagram", single.rate, "lines/s")
            .against("receive only", floor_single.rate),
        Case::new("CPU for a million lines, the same", single.cpu, "s")
            .target(floor_single.cpu * 1.2, Better::Lower)
            .against("receive only", floor_single.cpu),
        Case::new(
            "lines/s, two sockets (SO_REUSEPORT) on one core",
            two.rate,
            "lines/s",
        )
        .against("one socket", plain.rate),
    ];
    let case = "lines/s, packed, a million series";
    cases.push(match million {
        Ok(million) => Case::new(case, million.rate, "lines/s")
            .target(5e6, Better::Higher)
            .against("receive only", floor_million.rate),
        Err(error) => Case::new(case, 0.0, "lines/s").absent("the agent", format!("{error:#}")),
    });
    Ok(Report {
        bench: "dogstatsd",
        cases,
    })
}

/// Something that receives lines and says how many it got.
trait Receiver {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
    /// The process to account, if it is one of its own.
    fn pid(&self) -> u32;
    /// Lines received since the last call, once nothing is queued any more; so many lines in so
    /// many datagrams were sent meanwhile.
    fn arrived(&mut self, lines: u64, datagrams: u64) -> Result<u64>;
}

struct Best {
    /// The highest rate with little loss, in lines a second.
    rate: f64,
    /// CPU seconds for a million lines at the rate given for that.
    cpu: f64,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a run sends far fewer than 2^52 lines"
)]
fn measure(receiver: &mut dyn Receiver, shape: Shape, first: f64, cpu_rate: f64) -> Result<Best> {
    let load = Load::new(shape);
    // Every series first, so that the steady path is what is measured.
    load.teach(receiver.address())?;
    receiver.arrived(0, 0)?;
    let before = usage(receiver.pid())?.cpu;
    let sent = load.send(receiver.address(), cpu_rate, STEP * 4)?;
    // What is queued is read within this time; asking for a count costs the receiver time, too.
    std::thread::sleep(Duration::from_millis(100));
    let cpu = usage(receiver.pid())?.cpu.saturating_sub(before);
    let arrived = receiver.arrived(sent.lines, sent.datagrams)?;
    let mut found = Best {
        rate: 0.0,
        cpu: cpu.as_secs_f64() * 1e6 / arrived as f64,
    };
    let mut passed = first / 2.0;
    'search: for (factor, patience) in [(2.0, 1), (1.125, 2), (1.03, 2)] {
        let mut failures = 0;
        while failures < patience {
            let rate = passed * factor;
            let sent = load.send(receiver.address(), rate, STEP)?;
            let arrived = receiver.arrived(sent.lines, sent.datagrams)?;
            let reached = sent.lines as f64 / sent.time.as_secs_f64();
            if 1.0 - arrived as f64 / sent.lines as f64 > LOSS_MAX {
                failures += 1;
                continue;
            }
            failures = 0;
            found.rate = found.rate.max(reached);
            if reached < rate * 0.9 {
                // The sender cannot go faster; what it reached is a lower bound.
                break 'search;
            }
            passed = rate;
        }
    }
    Ok(found)
}

/// How the agent is configured.
#[derive(Clone, Copy)]
struct Setting {
    sockets: u16,
    series_max: u32,
    cache: &'static str,
}

impl Setting {
    const PLAIN: Self = Self {
        sockets: 1,
        series_max: 65_536,
        cache: "16MiB",
    };
    const TWO_SOCKETS: Self = Self {
        sockets: 2,
        ..Self::PLAIN
    };
    const MILLION: Self = Self {
        series_max: 1 << 20,
        cache: "128MiB",
        ..Self::PLAIN
    };
}

struct Agent<'a> {
    running: Running,
    folder: TempDir,
    binaries: &'a Binaries,
    address: SocketAddr,
    seen: u64,
}

impl<'a> Agent<'a> {
    fn start(binaries: &'a Binaries, setting: Setting) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_udp_port()?;
        setup::make_pki(binaries, folder.path())?;
        // Nobody listens there: the agent seals into its spool, as a disconnected one does.
        setup::write_agent_config(folder.path(), setup::free_port()?, Some(address))?;
        let path = folder.path().join("agent.toml");
        let config = fs::read_to_string(&path)?;
        let config = config.replace(
            "[input.dogstatsd]\n",
            &format!(
                "[limits]\nseries_max = {}\n[input.dogstatsd]\nudp_sockets = {}\ncache = \"{}\"\n",
                setting.series_max, setting.sockets, setting.cache
            ),
        );
        fs::write(&path, config)?;
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
            seen: 0,
        };
        wait_until("tollgate-agent", Duration::from_secs(10), || {
            agent.arrived(0, 0).is_ok()
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

    fn arrived(&mut self, _: u64, _: u64) -> Result<u64> {
        let status =
            || setup::accepted_lines(&setup::agent_status(self.binaries, self.folder.path())?);
        let now = settled(status)?;
        Ok(now - std::mem::replace(&mut self.seen, now))
    }
}

/// A loop that receives with `recvmmsg` and adds up bytes: no receiver with the same calls can
/// be faster. It runs as a copy of this program, so that the kernel accounts it on its own.
struct ReceiveOnly {
    running: Running,
    folder: TempDir,
    address: SocketAddr,
    seen: u64,
}

/// The hidden argument that makes this program the receive-only loop.
pub(crate) const RECEIVE_ONLY: &str = "--receive-only-loop";

/// The receive-only loop: listens on `address`, writes its count to `file` when idle.
pub(crate) fn receive_only(address: &str, file: &Path) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)
        .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut buffers = vec![vec![0; 65_536]; mmsg::BATCH];
    let mut lengths = Vec::new();
    // Bytes become lines by what the sender says about them: see `ReceiveOnly::arrived`.
    let (mut bytes, mut datagrams, mut written) = (0usize, 0usize, usize::MAX);
    loop {
        match mmsg::receive(socket.as_fd(), &mut buffers, &mut lengths) {
            Ok(()) => {
                bytes += lengths.iter().sum::<usize>();
                datagrams += lengths.len();
            }
            Err(_) if written != datagrams => {
                std::hint::black_box(bytes);
                fs::write(file, datagrams.to_string())?;
                written = datagrams;
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
            seen: 0,
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

    fn arrived(&mut self, lines: u64, datagrams: u64) -> Result<u64> {
        let now = settled(|| self.count())?;
        let received = now - std::mem::replace(&mut self.seen, now);
        // It counts datagrams; a share of them held that share of the lines.
        Ok(lines * received / datagrams.max(1))
    }
}

/// Starts something that inherits the receiver's processor.
fn pinned<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    pin_to(RECEIVER_CPU);
    let started = start();
    pin_to(SENDER_CPU);
    started
}

/// Reads a counter until it has not moved for 300 ms.
fn settled(mut read: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut last = read()?;
    let mut still = 0;
    while still < 3 {
        std::thread::sleep(Duration::from_millis(100));
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
