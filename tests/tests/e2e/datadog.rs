//! A published client: the Python package `datadog` sends, and the totals match.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::support::World;

const SCRIPT: &str = r"
import sys
from datadog.dogstatsd.base import DogStatsd

kind, where = sys.argv[1], sys.argv[2]
if kind == 'udp':
    host, port = where.rsplit(':', 1)
    client = DogStatsd(host=host, port=int(port), disable_telemetry=True)
else:
    # A full socket makes the client wait rather than drop what it has.
    client = DogStatsd(socket_path=where, socket_timeout=10, disable_telemetry=True)
total = 0
with client:
    for i in range(2000):
        client.increment('requests', 1 + i % 7, tags=['customer:acme', 'region:eu'])
        total += 1 + i % 7
    client.increment('requests', 3, tags=['customer:globex'], sample_rate=1)
    client.gauge('level', 17, tags=['customer:acme'])
    client.gauge('level', 42, tags=['customer:acme'])
    for i in range(400):
        client.set('users', 'user-%d' % (i % 150), tags=['customer:acme'])
        client.histogram('sizes', 1000 + i, tags=['customer:acme'])
        client.distribution('sizes', i, tags=['customer:globex'])
        client.gauge('peak', 5000 - i, tags=['customer:acme'])
    client.gauge('seats', 3, tags=['customer:acme'])
    for i in range(100):
        client.timing('duration', 250 + i, tags=['customer:acme'])
    client.histogram('duration', 0.5, tags=['customer:acme'])
client.flush()
client.close_socket()
print(total)
";

/// Declares a meter for every aggregation, at both ends.
fn every_aggregation(world: &World) {
    let mut meters = String::new();
    for (name, unit, scale, aggregation) in [
        ("users", "{user}", 0, "unique"),
        ("sizes", "By", 0, "distribution"),
        ("duration", "s", 3, "sum"),
        ("peak", "{level}", 0, "max"),
        ("seats", "{seat}", 0, "time_weighted"),
    ] {
        write!(
            meters,
            "\n[[meter]]\nname = {name:?}\nunit = {unit:?}\nscale = {scale}\n\
             aggregation = {aggregation:?}\n"
        )
        .expect("a string takes everything");
    }
    let rule = "\n[[rule]]\ntags = { customer = \"*\" }\ntenant = { tag = \"customer\" }\n";
    for (file, more) in [
        ("edge-1.toml", format!("{meters}{rule}")),
        ("catalog/meters.toml", meters.clone()),
        ("catalog/cards/edge.toml", prices()),
    ] {
        let text = std::fs::read_to_string(world.path(file)).expect("written before");
        world.write(file, &(text + &more));
    }
}

fn prices() -> String {
    [
        ("users", "{user}"),
        ("sizes", "By"),
        ("duration", "s"),
        ("peak", "{level}"),
        ("seats", "{seat}.s"),
    ]
    .map(|(name, unit)| {
        format!(
            "\n[[price]]\nid = {name:?}\nmeter = {name:?}\nmodel = \"per_unit\"\n\
             per = \"1 {unit}\"\nunit = \"0.01\"\n"
        )
    })
    .concat()
}

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
    every_aggregation(&world);
    let collector = world.start_collector();
    let agent = world.start_agent("edge-1");
    let script = world.path("send.py");
    std::fs::write(&script, SCRIPT).expect("a writable folder");
    let mut sent = 0i128;
    let begin = Instant::now();
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
    let held = begin.elapsed();
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
    let runs = 2;
    assert_eq!(
        of("acme", "sizes"),
        Some(runs * (1000..1400).sum::<i128>()),
        "the sum of the values of a distribution is exact"
    );
    assert_eq!(of("globex", "sizes"), Some(runs * (0..400).sum::<i128>()));
    // Milliseconds become thousandths of a second, and a number of seconds stays one.
    let durations = (250..350).sum::<i128>() + 500;
    assert_eq!(of("acme", "duration"), Some(runs * durations));
    // These count once in each period that the test runs through: at most in every one.
    let peak = of("acme", "peak").expect("billed");
    assert!(peak >= 5000, "{peak} is the largest of the period");
    let users = of("acme", "users").expect("billed");
    assert!((150..=runs * 150 * 2).contains(&users), "{users} members");
    // Three seats for as long as the agent knew of them, counted by the millisecond.
    let seats = of("acme", "seats").expect("billed");
    let most = 3 * i128::try_from(held.as_millis()).expect("a short time");
    assert!((1..=most + 3).contains(&seats), "{seats} of {most}");
    collector.stop();
    world.assert_verified();
}
