//! A published client: the Python package `datadog` sends, and the totals match.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::support::World;

const SCRIPT: &str = r"
import sys
from datadog.dogstatsd.base import DogStatsd

kind, where = sys.argv[1], sys.argv[2]
if kind == 'udp':
    host, port = where.rsplit(':', 1)
    client = DogStatsd(host=host, port=int(port), disable_telemetry=True)
else:
    client = DogStatsd(socket_path=where, disable_telemetry=True)
total = 0
with client:
    for i in range(2000):
        client.increment('requests', 1 + i % 7, tags=['customer:acme', 'region:eu'])
        total += 1 + i % 7
    client.increment('requests', 3, tags=['customer:globex'], sample_rate=1)
    client.gauge('level', 17, tags=['customer:acme'])
    client.gauge('level', 42, tags=['customer:acme'])
client.flush()
client.close_socket()
print(total)
";

/// A Python that has the package: named by `TOLLGATE_PYTHON`, or the system's.
fn python() -> Option<PathBuf> {
    let named = std::env::var_os("TOLLGATE_PYTHON").map(PathBuf::from);
    let has_package = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", "import datadog"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    named
        .into_iter()
        .chain([PathBuf::from("python3")])
        .find(has_package)
}

#[test]
fn totals_match_what_the_published_client_sent() {
    let Some(python) = python() else {
        assert!(
            std::env::var_os("TOLLGATE_REQUIRE_ALL").is_none(),
            "the Python package `datadog` is required here and not installed"
        );
        // Not `eprintln!`: the test harness would swallow that.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the Python package `datadog` is not installed (pip install datadog)"
        );
        return;
    };
    let world = World::new(&[("edge-1", &["acme", "globex"])]);
    let collector = world.start_collector();
    let agent = world.start_agent("edge-1");
    let script = world.path("send.py");
    std::fs::write(&script, SCRIPT).expect("a writable folder");
    let mut sent = 0i128;
    let unix = world.path("edge-1.dsd").display().to_string();
    for (kind, place) in [
        ("udp", world.dogstatsd["edge-1"].to_string()),
        ("unix", unix),
    ] {
        let output = Command::new(&python)
            .arg(&script)
            .args([kind, &place])
            .output()
            .expect("python starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let total: i128 = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("the script prints its total");
        sent += total;
    }
    agent.stop();
    world.wait_settled();
    let billed = world.billed();
    let of =
        |tenant: &str, meter: &str| billed.get(&(tenant.to_owned(), meter.to_owned())).copied();
    assert_eq!(of("acme", "requests"), Some(sent));
    assert_eq!(of("globex", "requests"), Some(6));
    assert!(
        of("acme", "level").is_some_and(|level| level >= 42),
        "the newest level of the period is billed"
    );
    collector.stop();
    world.assert_verified();
}
