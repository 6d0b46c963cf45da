//! Other servers of the protocol. Each is optional; what is missing is said aloud.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Receiver, free_udp_port, pinned, settled};
use crate::binaries::{self, Running, wait_until};

/// The server of the npm package `statsd`, with a backend that adds up all counters.
pub(super) struct NodeStatsd {
    running: Running,
    folder: TempDir,
    address: SocketAddr,
    seen: u64,
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
    pub(super) fn start() -> Result<Self> {
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
            seen: 0,
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

    fn arrived(&mut self, _: u64, _: u64) -> Result<u64> {
        let now = settled(|| self.count())?;
        Ok(now - std::mem::replace(&mut self.seen, now))
    }
}

/// `statsdproxy` of crates.io, which adds up counters and gauges and sends them on. It is built
/// once with `cargo install` into the target folder.
pub(super) fn statsdproxy() -> Result<Uncounted> {
    let root = binaries::target()?.join("peers");
    let program = root.join("bin/statsdproxy");
    if !program.exists() {
        let installed = Command::new("cargo")
            .args(["install", "--quiet", "--locked", "--root"])
            .arg(&root)
            .arg("statsdproxy@0.4.1")
            .output()
            .context("cargo is not there")?;
        anyhow::ensure!(
            installed.status.success(),
            "cargo could not install statsdproxy"
        );
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("proxy.yaml");
    fs::write(
        &path,
        "middlewares:\n  - type: aggregate-metrics\n    flush_interval: 10\n",
    )?;
    // Whoever it sends to: nobody listens there.
    let upstream = free_udp_port()?;
    Uncounted::start("statsdproxy", folder, |address| {
        let mut command = Command::new(&program);
        command
            .args(["--listen", &address.to_string()])
            .args(["--upstream", &upstream.to_string()])
            .arg("--config-path")
            .arg(&path);
        Ok(command)
    })
}

/// `collectd` with its `statsd` plugin, from `collectd-core` of the distribution. It is fetched
/// with `apt-get download` and unpacked into a temporary folder where it is not installed.
pub(super) fn collectd() -> Result<Uncounted> {
    let folder = tempfile::tempdir()?;
    let root = install_collectd(folder.path())?;
    let path = folder.path().to_owned();
    Uncounted::start("collectd", folder, |address| {
        let config = format!(
            "BaseDir \"{0}\"\nPIDFile \"{0}/pid\"\nPluginDir \"{1}\"\nTypesDB \"{2}\"\nInterval 10\n\
             LoadPlugin statsd\n<Plugin statsd>\nHost \"127.0.0.1\"\nPort \"{3}\"\n\
             DeleteCounters false\n</Plugin>\n",
            path.display(),
            root.join("usr/lib/collectd").display(),
            root.join("usr/share/collectd/types.db").display(),
            address.port(),
        );
        let file = path.join("collectd.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(root.join("usr/sbin/collectd"));
        command.arg("-f").arg("-C").arg(&file);
        Ok(command)
    })
}

fn install_collectd(folder: &Path) -> Result<PathBuf> {
    if Path::new("/usr/sbin/collectd").exists() {
        return Ok(PathBuf::from("/"));
    }
    let fetched = Command::new("apt-get")
        .args(["download", "collectd-core"])
        .current_dir(folder)
        .output()
        .context("apt-get is not there")?;
    let package = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let Some(package) = package.filter(|_| fetched.status.success()) else {
        bail!("collectd-core could not be downloaded");
    };
    let root = folder.join("root");
    let unpacked = Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(&root)
        .status()?;
    anyhow::ensure!(unpacked.success(), "collectd-core could not be unpacked");
    Ok(root)
}

/// A server that shows no count of lines: what the kernel did not drop at its socket, and does
/// not hold any more, it has read.
pub(super) struct Uncounted {
    name: &'static str,
    running: Running,
    _folder: TempDir,
    address: SocketAddr,
    drops: u64,
}

impl Uncounted {
    fn start(
        name: &'static str,
        folder: TempDir,
        command: impl FnOnce(SocketAddr) -> Result<Command>,
    ) -> Result<Self> {
        let address = free_udp_port()?;
        let mut command = command(address)?;
        let running = pinned(|| Running::start(&mut command))?;
        wait_until(name, Duration::from_secs(10), || {
            socket_line(address.port()).is_some()
        })?;
        Ok(Self {
            name,
            running,
            _folder: folder,
            address,
            drops: 0,
        })
    }
}

/// Queued bytes and drops of the socket on this port of loopback (proc(5), `/proc/net/udp`).
fn socket_line(port: u16) -> Option<(u64, u64)> {
    let table = fs::read_to_string("/proc/net/udp").ok()?;
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        if !fields.get(1)?.ends_with(&port) {
            return None;
        }
        let (_, queued) = fields.get(4)?.split_once(':')?;
        let queued = u64::from_str_radix(queued, 16).ok()?;
        Some((queued, fields.get(12)?.parse().ok()?))
    })
}

impl Receiver for Uncounted {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn arrived(&mut self, sent: u64, datagrams: u64) -> Result<u64> {
        let port = self.address.port();
        wait_until(self.name, Duration::from_mins(1), || {
            socket_line(port).is_some_and(|(queued, _)| queued == 0)
        })?;
        let (_, drops) = socket_line(port).with_context(|| format!("{} has ended", self.name))?;
        let dropped = drops - self.drops;
        self.drops = drops;
        Ok(sent - sent * dropped.min(datagrams) / datagrams.max(1))
    }
}
