//! A collector and an agent set up in a throw-away folder, the way an operator would do it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binaries::{Binaries, Running, wait_until};

/// The agent of every bench.
pub(crate) const AGENT: &str = "bench-1";

/// Makes a CA, a certificate for the collector and one for the agent in `FOLDER/pki`.
pub(crate) fn make_pki(binaries: &Binaries, folder: &Path) -> Result<()> {
    for arguments in [&["pki", "init"][..], &["pki", "issue", "--agent", AGENT]] {
        let output = Command::new(&binaries.collector)
            .args(arguments)
            .arg("--dir")
            .arg(folder.join("pki"))
            .output()
            .context("tollgate-collector could not be started")?;
        if !output.status.success() {
            bail!(
                "tollgate-collector {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

/// Writes `agent.toml`; without a DogStatsD address the agent has no input but its admin
/// socket.
pub(crate) fn write_agent_config(
    folder: &Path,
    collector: SocketAddr,
    dogstatsd: Option<SocketAddr>,
) -> Result<()> {
    let dogstatsd = dogstatsd.map_or_else(String::new, |address| {
        format!(
            r#"
[input.dogstatsd]
udp = "{address}"

[[rule]]
input = "dogstatsd"
metric = "http.requests.*"
tags = {{ customer = "*" }}
tenant = {{ tag = "customer" }}
meter = "http.requests"
dimensions = ["region", "pop"]
"#
        )
    });
    let config = format!(
        r#"
agent = "{AGENT}"
state_dir = "state"
window = "10s"

[collector]
endpoints = ["{collector}"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/{AGENT}.pem"
key = "pki/{AGENT}.key"

[[meter]]
name = "http.requests"
unit = "{{request}}"
scale = 0
aggregation = "sum"
{dogstatsd}"#
    );
    Ok(fs::write(folder.join("agent.toml"), config)?)
}

/// Writes `collector.toml` and a small catalog.
pub(crate) fn write_collector_config(
    folder: &Path,
    listen: SocketAddr,
    http: SocketAddr,
) -> Result<()> {
    let catalog = folder.join("catalog");
    for (path, text) in [
        ("meters.toml", METERS),
        ("cards/edge.toml", CARD),
        ("profiles/default.toml", PROFILE),
    ] {
        let path = catalog.join(path);
        fs::create_dir_all(path.parent().context("the path has a parent")?)?;
        fs::write(path, text)?;
    }
    let config = format!(
        r#"
data_dir = "data"
listen = "{listen}"
http = "{http}"
catalog = "catalog"

[tls]
ca = "pki/ca.pem"
certificate = "pki/collector.pem"
key = "pki/collector.key"

[[agent]]
name = "{AGENT}"
tenants = ["*"]
meters = ["*"]
"#
    );
    Ok(fs::write(folder.join("collector.toml"), config)?)
}

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "2020-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "per_unit"
per = "1000 {request}"
unit = "0.40"
"#;

const PROFILE: &str = r#"
tenant = "*"
card = "edge"
zone = "UTC"
period = { every = "P1M" }
"#;

/// Starts the collector of `folder` and waits until it is ready.
pub(crate) fn start_collector(
    binaries: &Binaries,
    folder: &Path,
    http: SocketAddr,
) -> Result<Running> {
    let running = Running::start(
        Command::new(&binaries.collector)
            .arg("run")
            .arg("--config")
            .arg(folder.join("collector.toml")),
    )?;
    wait_until("tollgate-collector", Duration::from_secs(20), || {
        http_ok(http, "/readyz")
    })?;
    Ok(running)
}

/// True if a GET is answered with 200.
pub(crate) fn http_ok(address: SocketAddr, path: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<bool> {
        let mut stream =
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer[9..] == b"200")
    };
    ask().unwrap_or(false)
}

/// What a GET is answered with.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no body")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("GET {path}: {head}");
    }
    Ok(body.to_owned())
}

/// A metric without labels.
pub(crate) fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    let page = get(address, "/metrics")?;
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .with_context(|| format!("there is no metric {name}"))?;
    Ok(value.trim().parse()?)
}

/// `tollgate-agent status --json` of the agent of `folder`.
pub(crate) fn agent_status(binaries: &Binaries, folder: &Path) -> Result<serde_json::Value> {
    let output = Command::new(&binaries.agent)
        .args(["status", "--json", "--config"])
        .arg(folder.join("agent.toml"))
        .output()?;
    serde_json::from_slice(&output.stdout).context("tollgate-agent status --json did not answer")
}

/// A TCP or UDP port of loopback that was free a moment ago.
pub(crate) fn free_port() -> Result<SocketAddr> {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(tcp.local_addr()?)
}

/// Lines that the DogStatsD inputs have accepted, from an agent's status.
pub(crate) fn accepted_lines(status: &serde_json::Value) -> Result<u64> {
    let inputs = status["inputs"]
        .as_array()
        .context("the status has no inputs")?;
    inputs
        .iter()
        .filter(|input| {
            input["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("dogstatsd"))
        })
        .map(|input| {
            input["accepted"]
                .as_u64()
                .context("an input has no account")
        })
        .sum()
}
