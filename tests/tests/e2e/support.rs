//! A collector and agents in a throw-away folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tollgate_collector::pki;
use tollgate_common::AgentId;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running agent or collector; killed when dropped.
pub(crate) struct Node(Child);

impl Node {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("the process is ours");
        self.0.wait().expect("the process is ours");
    }

    /// SIGTERM, and no waiting.
    pub(crate) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.0.id()).expect("a process number is an i32");
        #[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
        // SAFETY: kill has no memory effects; the process is ours and not yet waited for.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal} could not be sent");
    }

    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// SIGTERM and a clean end.
    pub(crate) fn stop(mut self) {
        self.terminate();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("the process is ours") {
                assert!(status.success(), "a clean stop ends with 0, not {status}");
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the process did not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Resident memory in bytes, from `/proc/PID/statm`.
    pub(crate) fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("running");
        let pages: u64 = statm
            .split(' ')
            .nth(1)
            .and_then(|f| f.parse().ok())
            .expect("statm has numbers");
        pages * 4096
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The folder, the addresses, the configuration.
pub(crate) struct World {
    folder: tempfile::TempDir,
    pub(crate) listen: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) dogstatsd: BTreeMap<String, SocketAddr>,
}

impl World {
    /// A collector's configuration for `agents`: name and tenants that it may report.
    pub(crate) fn new(agents: &[(&str, &[&str])]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let udp = || {
            UdpSocket::bind("127.0.0.1:0")
                .and_then(|s| s.local_addr())
                .expect("a free port")
        };
        let world = Self {
            listen: udp(),
            http: TcpListener::bind("127.0.0.1:0")
                .and_then(|l| l.local_addr())
                .expect("a free port"),
            dogstatsd: agents
                .iter()
                .map(|(name, _)| ((*name).to_owned(), udp()))
                .collect(),
            folder,
        };
        let names = vec!["localhost".to_owned()];
        pki::init(&pki::Init {
            dir: world.path("pki"),
            names,
            days: 1,
            force: false,
        })
        .expect("a new PKI");
        for (name, _) in agents {
            let agent = AgentId::new(name).expect("valid");
            pki::issue(&world.path("pki"), &agent, pki::Validity::days(1), false)
                .expect("a certificate");
            world.write(&format!("{name}.toml"), &world.agent_config(name));
        }
        world.write("collector.toml", &world.collector_config(agents));
        world.write("catalog/meters.toml", METERS);
        world.write("catalog/cards/edge.toml", CARD);
        world.write("catalog/profiles/default.toml", PROFILE);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside the folder")).expect("a writable folder");
        fs::write(path, text).expect("a writable folder");
    }

    fn collector_config(&self, agents: &[(&str, &[&str])]) -> String {
        let (listen, http) = (self.listen, self.http);
        let mut text = format!(
            "data_dir = \"collector\"\nlisten = \"{listen}\"\nhttp = \"{http}\"\ncatalog = \"catalog\"\n\
             [tls]\nca = \"pki/ca.pem\"\ncertificate = \"pki/collector.pem\"\nkey = \"pki/collector.key\"\n\
             [fold]\nsettlement = \"3s\"\n"
        );
        for (name, tenants) in agents {
            write!(
                text,
                "[[agent]]\nname = \"{name}\"\ntenants = {tenants:?}\nmeters = [\"*\"]\n"
            )
            .expect("a string takes everything");
        }
        text
    }

    fn agent_config(&self, name: &str) -> String {
        let (listen, udp) = (self.listen, self.dogstatsd[name]);
        format!(
            r#"
agent = "{name}"
state_dir = "{name}"
window = "1s"
admin_socket = "{name}.sock"

[collector]
endpoints = ["{listen}"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/{name}.pem"
key = "pki/{name}.key"

[input.dogstatsd]
udp = "{udp}"
unix = "{name}.dsd"

[[meter]]
name = "requests"
unit = "{{request}}"
scale = 0
aggregation = "sum"

[[meter]]
name = "level"
unit = "{{level}}"
scale = 0
aggregation = "last"

[[rule]]
metric = "requests"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "requests"
dimensions = ["region"]

[[rule]]
metric = "level"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "level"
"#
        )
    }

    fn command(role: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg(role).stdin(Stdio::null());
        command
    }

    fn spawn(&self, role: &str, config: &str) -> Node {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(config).with_extension("log"))
            .expect("a writable folder");
        let child = Self::command(role)
            .args(["run", "--config"])
            .arg(self.path(config))
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("the node binary was built with the tests");
        Node(child)
    }

    /// Starts the collector and waits until it is ready.
    pub(crate) fn start_collector(&self) -> Node {
        let mut node = self.spawn("tollgate-collector", "collector.toml");
        self.wait("the collector is ready", || {
            assert!(
                node.is_running(),
                "the collector ended: {}",
                self.log("collector")
            );
            self.get("/readyz").is_some()
        });
        node
    }

    /// Starts an agent and waits until its admin socket answers.
    pub(crate) fn start_agent(&self, name: &str) -> Node {
        let mut node = self.spawn("tollgate-agent", &format!("{name}.toml"));
        self.wait("the agent is ready", || {
            assert!(node.is_running(), "the agent ended: {}", self.log(name));
            self.admin(name)
                .and_then(|mut client| client.status().ok())
                .is_some()
        });
        node
    }

    /// Starts an agent that is expected to be refused or to end.
    pub(crate) fn spawn_agent(&self, name: &str) -> Node {
        self.spawn("tollgate-agent", &format!("{name}.toml"))
    }

    /// Runs a command of the collector to its end.
    pub(crate) fn collector(&self, arguments: &[&str]) -> Output {
        Self::command("tollgate-collector")
            .args(arguments)
            .arg("--config")
            .arg(self.path("collector.toml"))
            .output()
            .expect("the node binary was built with the tests")
    }

    /// What a node logged.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name).with_extension("log")).unwrap_or_default()
    }

    /// A connection to an agent's admin socket.
    pub(crate) fn admin(&self, agent: &str) -> Option<tollgate_agent::admin::client::Client> {
        tollgate_agent::admin::client::Client::connect(
            &self.path(&format!("{agent}.sock")),
            Duration::from_secs(30),
        )
        .ok()
    }

    /// The body of a GET that is answered with 200.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        get(self.http, path)
    }

    /// The rows behind a path.
    pub(crate) fn items(&self, path: &str) -> Vec<Value> {
        let Some(body) = self.get(path) else {
            return Vec::new();
        };
        let page: Value = serde_json::from_str(&body).expect("the collector answers with JSON");
        assert_eq!(
            page["next_cursor"],
            Value::Null,
            "the test expects one page"
        );
        page["items"].as_array().cloned().unwrap_or_default()
    }

    /// A metric of the collector, summed over its labels; 0 if there is none.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with(name) && !line.starts_with('#'))
            .filter_map(|line| {
                line.rsplit_once(' ')
                    .and_then(|(_, value)| value.parse::<f64>().ok())
            })
            .sum()
    }

    /// Waits until `done`.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < PATIENCE,
                "{what}: not within {PATIENCE:?}; collector: {}",
                tail(&self.log("collector"))
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until nothing is on its way and every period is booked.
    pub(crate) fn wait_settled(&self) {
        self.wait("everything is booked", || {
            let accounts = self.items("/v1/conservation?limit=10000");
            !accounts.is_empty()
                && accounts.iter().all(|account| account["pending"] == "0")
                && self
                    .items("/v1/periods?limit=10000")
                    .iter()
                    .all(|period| period["status"] == "closed")
                && self.no_period_waits()
        });
    }

    /// True if nothing waits for a closing, late usage of closed periods included.
    fn no_period_waits(&self) -> bool {
        let output = self.collector(&["period", "status", "--json"]);
        let waiting: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        waiting["periods"].as_array().is_some_and(Vec::is_empty)
    }

    /// What the ledger bills (charges, adjustments and reversals), by tenant and meter, in units.
    pub(crate) fn billed(&self) -> BTreeMap<(String, String), i128> {
        let mut sums = BTreeMap::new();
        for row in self.items("/v1/ledger?limit=10000") {
            let entry = &row["entry"];
            if ["charge", "adjustment", "reversal"]
                .iter()
                .any(|kind| entry["kind"] == *kind)
            {
                let text = |key: &str| entry[key].as_str().expect("a text").to_owned();
                let units: i128 = text("quantity").parse().expect("an integer");
                *sums.entry((text("tenant"), text("meter"))).or_default() += units;
            }
        }
        sums
    }

    /// `ledger verify` on what lies on disk must succeed.
    pub(crate) fn assert_verified(&self) {
        let output = self.collector(&["ledger", "verify", "--json"]);
        assert!(
            output.status.success(),
            "ledger verify: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn tail(log: &str) -> &str {
    let from = log.len().saturating_sub(3000);
    log.get(from..).unwrap_or(log)
}

/// A GET over HTTP/1.0.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
}

const METERS: &str = r#"
[[meter]]
name = "requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "level"
unit = "{level}"
scale = 0
aggregation = "last"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "2020-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "requests"
model = "graduated"
per = "1000 {request}"
tiers = [
  { to = "50000", unit = "0.40" },
  { unit = "0.25" },
]

[[price]]
id = "level"
meter = "level"
model = "per_unit"
per = "1 {level}"
unit = "1.00"
"#;

const PROFILE: &str = r#"
tenant = "*"
card = "edge"
zone = "Europe/Berlin"
period = { every = "PT5S" }
"#;
