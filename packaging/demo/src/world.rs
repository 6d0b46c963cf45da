//! The folder of a demo: certificates, configuration, catalog.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tollgate_collector::pki;

/// Length of the demonstration's billing periods, in seconds.
pub(crate) const PERIOD_SECS: u64 = 5;
/// How long a period waits for agents that have not reported, in seconds.
pub(crate) const SETTLEMENT_SECS: u64 = 3;
/// The agents. The second one is killed on the way.
pub(crate) const AGENTS: [&str; 2] = ["edge-1", "edge-2"];
/// The tenants of the DogStatsD load.
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// The tenant to which this machine's own interfaces belong.
pub(crate) const HOST_TENANT: &str = "this-host";
/// The meter that only the acknowledged load counts, so that its sum can be checked to the
/// unit.
pub(crate) const ACKNOWLEDGED_METER: &str = "orders";

/// Where everything is.
pub(crate) struct World {
    folder: tempfile::TempDir,
    /// The collector's QUIC address.
    pub(crate) listen: SocketAddr,
    /// The collector's HTTP address.
    pub(crate) http: SocketAddr,
    /// The DogStatsD address of each agent.
    pub(crate) dogstatsd: [SocketAddr; 2],
}

impl World {
    /// Makes the folder with all that the processes need.
    pub(crate) fn create() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-demo-")
            .tempdir()?;
        let world = Self {
            listen: free_udp()?,
            http: TcpListener::bind("127.0.0.1:0")?.local_addr()?,
            dogstatsd: [free_udp()?, free_udp()?],
            folder,
        };
        world.make_pki()?;
        world.write("collector.toml", &world.collector_config())?;
        for (index, agent) in AGENTS.iter().enumerate() {
            world.write(&format!("{agent}.toml"), &world.agent_config(agent, index))?;
        }
        world.write("catalog/meters.toml", METERS)?;
        world.write("catalog/cards/edge.toml", CARD)?;
        world.write("catalog/profiles/default.toml", &profile())?;
        Ok(world)
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves the folder where it is.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// The configuration file of a role.
    pub(crate) fn config(&self, role: &str) -> PathBuf {
        self.path().join(format!("{role}.toml"))
    }

    /// The admin socket of an agent.
    pub(crate) fn admin_socket(&self, agent: &str) -> PathBuf {
        self.path().join(format!("{agent}.sock"))
    }

    /// The DogStatsD datagram socket of an agent.
    pub(crate) fn dogstatsd_socket(&self, agent: &str) -> PathBuf {
        self.path().join(format!("{agent}.dsd"))
    }

    fn make_pki(&self) -> Result<()> {
        let dir = self.path().join("pki");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        pki::init(&pki::Init {
            dir: dir.clone(),
            names,
            days: 1,
            force: false,
        })?;
        for agent in AGENTS {
            let agent = tollgate_common::AgentId::new(agent)?;
            pki::issue(&dir, &agent, pki::Validity::days(1), false)?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn collector_config(&self) -> String {
        let (listen, http) = (self.listen, self.http);
        format!(
            r#"
data_dir = "collector"
listen = "{listen}"
http = "{http}"
catalog = "catalog"

[tls]
ca = "pki/ca.pem"
certificate = "pki/collector.pem"
key = "pki/collector.key"

[fold]
settlement = "{SETTLEMENT_SECS}s"

[[agent]]
name = "edge-1"
tenants = ["acme", "globex", "initech", "{HOST_TENANT}"]
meters = ["*"]

[[agent]]
name = "edge-2"
tenants = ["acme", "globex", "initech"]
meters = ["*"]
"#
        )
    }

    fn agent_config(&self, agent: &str, index: usize) -> String {
        let (listen, udp) = (self.listen, self.dogstatsd[index]);
        // One agent meters the interfaces; two would count the same bytes twice.
        let interfaces = if index == 0 { INTERFACES } else { "" };
        format!(
            r#"
agent = "{agent}"
state_dir = "{agent}"
window = "1s"
admin_socket = "{agent}.sock"

[collector]
endpoints = ["{listen}"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/{agent}.pem"
key = "pki/{agent}.key"

[input.dogstatsd]
udp = "{udp}"
unix = "{agent}.dsd"

[[meter]]
name = "http.requests"
unit = "{{request}}"
scale = 0
aggregation = "sum"

[[meter]]
name = "cpu.seconds"
unit = "s"
scale = 3
aggregation = "sum"

[[meter]]
name = "{ACKNOWLEDGED_METER}"
unit = "{{order}}"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.packets"
unit = "{{packet}}"
scale = 0
aggregation = "sum"

[[rule]]
input = "dogstatsd"
metric = "web.requests"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "http.requests"
dimensions = ["region"]

[[rule]]
input = "dogstatsd"
metric = "worker.cpu"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "cpu.seconds"

[[rule]]
input = "admin"
metric = "{ACKNOWLEDGED_METER}"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "{ACKNOWLEDGED_METER}"
{interfaces}"#
        )
    }
}

const INTERFACES: &str = r#"
[input.interfaces]
interval = "500ms"

[[rule]]
input = "interfaces"
interface = "*"
quantity = "bytes"
tenant = "this-host"
meter = "net.bytes"
dimensions = ["interface", "direction"]

[[rule]]
input = "interfaces"
interface = "*"
quantity = "packets"
tenant = "this-host"
meter = "net.packets"
dimensions = ["interface", "direction"]
"#;

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "cpu.seconds"
unit = "s"
scale = 3
aggregation = "sum"

[[meter]]
name = "orders"
unit = "{order}"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.packets"
unit = "{packet}"
scale = 0
aggregation = "sum"
"#;

/// Tiers are low and prices high, so that a few seconds of usage climb them.
const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "2020-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "graduated"
per = "1000 {request}"
tiers = [
  { to = "2000", unit = "0.40" },
  { to = "5000", unit = "0.30" },
  { unit = "0.25" },
]

[[price]]
id = "cpu"
meter = "cpu.seconds"
model = "per_unit"
per = "1 s"
unit = "0.0125"

[[price]]
id = "orders"
meter = "orders"
model = "per_unit"
per = "1 {order}"
unit = "0.02"

[[price]]
id = "traffic"
meter = "net.bytes"
model = "per_unit"
per = "1000000 By"
unit = "0.09"

[[price]]
id = "packets"
meter = "net.packets"
model = "per_unit"
per = "1000 {packet}"
unit = "0.001"
"#;

fn profile() -> String {
    format!(
        r#"
tenant = "*"
card = "edge"
zone = "Europe/Berlin"
period = {{ every = "PT{PERIOD_SECS}S" }}
"#
    )
}

fn free_udp() -> Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}
