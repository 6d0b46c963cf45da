//! Other servers of the protocol. Each is optional; what is missing is said aloud.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Receiver, free_udp_port, pinned, settled};
use crate::binaries::{Running, wait_until};

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

/// `collectd` with its `statsd` plugin, from `collectd-core` of the distribution. It is fetched
/// with `apt-get download` and unpacked into a temporary folder where it is not installed.
pub(super) struct Collectd {
    running: Running,
    _folder: TempDir,
    address: SocketAddr,
    /// Lines sent so far are known to the sender alone, drops to the kernel alone.
    drops: u64,
}

impl Collectd {
    pub(super) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = Self::install(folder.path())?;
        let address = free_udp_port()?;
        let config = format!(
            "BaseDir \"{0}\"\nPIDFile \"{0}/pid\"\nPluginDir \"{1}\"\nTypesDB \"{2}\"\nInterval 10\n\
             LoadPlugin statsd\n<Plugin statsd>\nHost \"127.0.0.1\"\nPort \"{3}\"\n\
             DeleteCounters false\n</Plugin>\n",
            folder.path().display(),
            root.join("usr/lib/collectd").display(),
            root.join("usr/share/collectd/types.db").display(),
            address.port(),
        );
        let path = folder.path().join("collectd.conf");
        fs::write(&path, config)?;
        let running = pinned(|| {
            Running::start(
                Command::new(root.join("usr/sbin/collectd"))
                    .arg("-f")
                    .arg("-C")
                    .arg(&path),
            )
        })?;
        wait_until("collectd", Duration::from_secs(10), || {
            socket_line(address.port()).is_some()
        })?;
        Ok(Self {
            running,
            _folder: folder,
            address,
            drops: 0,
        })
    }

    fn install(folder: &Path) -> Result<PathBuf> {
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

impl Receiver for Collectd {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn arrived(&mut self, sent: u64, datagrams: u64) -> Result<u64> {
        // It shows no count of lines; what the kernel did not drop and does not hold any more
        // has been read.
        let port = self.address.port();
        wait_until("collectd to read its queue", Duration::from_mins(1), || {
            socket_line(port).is_some_and(|(queued, _)| queued == 0)
        })?;
        let (_, drops) = socket_line(port).context("collectd has ended")?;
        let dropped = drops - self.drops;
        self.drops = drops;
        Ok(sent - sent * dropped.min(datagrams) / datagrams.max(1))
    }
}
