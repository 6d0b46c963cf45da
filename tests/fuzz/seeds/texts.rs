//! Seeds that are text: lines, configurations, catalogs.

use super::Seed;

/// Datagrams of DogStatsD clients, good and bad.
pub fn dogstatsd() -> Vec<Seed> {
    let lines: [(&str, &[u8]); 8] = [
        ("counter", b"http.requests:1|c|#customer:acme,region:eu\n"),
        ("sampled", b"http.requests:1:2:3|c|@0.1|#customer:acme"),
        ("gauge", b"seats:12.5|g|#customer:acme|T1780315200\r\ntemp:-3|g"),
        ("others", b"a:1|h\nb:2|ms\nc:3|s\nd:4|d\n_e{1,1}:a|b\n_sc|x|0"),
        (
            "fields",
            b"a:1|c|@0.3|#x:y|c:ci-1f|T1780315200|e:it-false,cn-app|card:low|z\nb:1|d|@1e-3",
        ),
        (
            "ignored",
            b"_e{5,4}:title|text|d:1|h:host|#a:b\n_sc|redis|0|d:1|#a:b|m:ok\nc:a:b|s\nd:0.5:7|h|@.25",
        ),
        ("malformed", b":1|c\na:|c\na:1|\na:1|c|@2\na:1|c|#\xff\n\n"),
        (
            "interfaces",
            b"Inter-|   Receive\n face |bytes\n  eth0: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n    lo: 18446744073709551615 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n",
        ),
    ];
    lines.map(|(name, bytes)| (name, bytes.to_vec())).to_vec()
}

/// The same, and what is for the way at rate alone: datagrams behind each other, lines seen again,
/// values at the bounds of what is added at once, rates that carry a fraction.
pub fn dogstatsd_at_rate() -> Vec<Seed> {
    let mut seeds = dogstatsd();
    let lines: [(&str, &[u8]); 4] = [
        (
            "datagrams",
            b"requests:1|c|#customer:a\nrequests:2|c|#customer:a\xffrequests:1|c|#customer:b\xff\xffrequests:3|c|#customer:a",
        ),
        (
            "bounds",
            b"requests:0|c\nrequests:99999999|c\nrequests:4294967296|c\nrequests:18446744073709551615|c\nrequests:00000001|c\nrequests:+1|c\nrequests:1e3|c",
        ),
        (
            "rates",
            b"requests:1|c|@0.3|#customer:a\nrequests:1|c|@0.5|#customer:a\nwait:1|d|@0.1|#customer:a\npeak:7|g|@0.1|#customer:a",
        ),
        (
            "kinds",
            b"peak:3:9|g|#customer:a\nusers:ann|s|#customer:a\nwait:12|ms|#customer:a\ndisk:100|g|#customer:a|T21\nlevel:-7|g\nother:1|c\nbad name:1|c",
        ),
    ];
    seeds.extend(lines.map(|(name, bytes)| (name, bytes.to_vec())));
    seeds
}

/// Agent configurations.
pub fn agent_config() -> Vec<Seed> {
    vec![
        ("full", AGENT.as_bytes().to_vec()),
        (
            "mistakes",
            AGENT
                .replace("10s", "7s")
                .replace("1GiB", "1 pound")
                .into_bytes(),
        ),
    ]
}

/// Collector configurations.
pub fn collector_config() -> Vec<Seed> {
    vec![
        ("full", COLLECTOR.as_bytes().to_vec()),
        (
            "mistakes",
            COLLECTOR
                .replace("24h", "soon")
                .replace("= 4", "= 0")
                .into_bytes(),
        ),
    ]
}

/// Catalogs; a line `=== PATH` begins a file.
pub fn catalog() -> Vec<Seed> {
    vec![
        ("full", CATALOG.as_bytes().to_vec()),
        (
            "mistakes",
            CATALOG
                .replace("0.40", "-1")
                .replace("P1M", "P1W")
                .into_bytes(),
        ),
    ]
}

const AGENT: &str = r#"agent = "edge-1"
state_dir = "/var/lib/tollgate-agent"
window = "10s"

[collector]
endpoints = ["127.0.0.1:7430", "collector.example:7430"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/edge-1.pem"
key = "pki/edge-1.key"

[spool]
bytes_max = "1GiB"
segment_bytes = "8MiB"

[limits]
series_max = 65536

[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"
inexact = "reject"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"

[input.dogstatsd]
udp = "127.0.0.1:8125"
unix = "dogstatsd.sock"

[input.interfaces]
interval = "1s"

[[rule]]
input = "dogstatsd"
metric = "http.*"
tags = { customer = "*" }
tenant = { tag = "customer" }
meter = "http.requests"
dimensions = ["region", "method"]

[[rule]]
input = "interfaces"
interface = "eth*"
quantity = "bytes"
direction = "in"
tenant = "acme"
meter = "net.bytes"
dimensions = ["interface", "direction"]
"#;

const COLLECTOR: &str = r#"data_dir = "/var/lib/tollgate-collector"
listen = "127.0.0.1:7430"
http = "127.0.0.1:7431"
catalog = "catalog"

[tls]
ca = "pki/ca.pem"
certificate = "pki/collector.pem"
key = "pki/collector.key"

[journal]
segment_bytes = "64MiB"

[fold]
partitions = 4
settlement = "24h"
future_tolerance = "5m"

[[agent]]
name = "edge-1"
tenants = ["acme", "umbrella-*"]
meters = ["*"]

[[agent]]
name = "edge-*"
tenants = ["*"]
meters = ["http.*"]
"#;

const CATALOG: &str = r#"=== meters.toml
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
=== cards/edge.toml
id = "edge"
currency = "EUR"
from = "2026-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "graduated"
per = "1000 {request}"
tiers = [
  { to = "2000000", unit = "0.40" },
  { unit = "0.25" },
]

[[price]]
id = "cpu"
meter = "cpu.seconds"
model = "per_unit"
per = "3600 s"
unit = "0.07"
=== profiles/acme.toml
tenant = "acme"
card = "edge"
zone = "Europe/Berlin"
period = { every = "P1M", anchor = "2026-01-01" }
=== profiles/others.toml
tenant = "*"
card = "edge"
zone = "UTC"
period = { every = "PT15M" }
"#;
