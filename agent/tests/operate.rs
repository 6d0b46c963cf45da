//! What an operator does with a running agent: metrics, health, rights, reloads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Home, TIMEOUT, exit_code, signal, stderr, stdout};
use serde_json::Value;
use tollgate_agent::admin::client::Client;
use tollgate_agent::admin::protocol::Count;

/// Asks an HTTP page; gives status and body.
fn get(port: u16, path: &str) -> (u16, String) {
    exchange(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}

fn exchange(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("writable");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.expect("a status"), body.expect("a body"))
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("bound").port()
}

/// The value of a sample, by its name with labels.
fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page
        .lines()
        .find(|line| line.split(' ').next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn count(client: &mut Client, metric: &str, customer: &str) -> Result<String, String> {
    let count = Count {
        metric: metric.to_owned(),
        value: "1".to_owned(),
        tags: BTreeMap::from([("customer".to_owned(), customer.to_owned())]),
    };
    let counted = client.count(count).map_err(|error| error.to_string())?;
    Ok(format!("{}/{}", counted.tenant, counted.meter))
}

/// Events of one input by the status.
fn account(status: &Value, input: &str, key: &str) -> u64 {
    let inputs = status["inputs"].as_array().expect("inputs");
    let input = inputs.iter().find(|i| i["name"] == input);
    input.expect("the input")[key].as_u64().expect("a number")
}

#[test]
fn every_metric_is_documented_and_there() {
    let port = free_port();
    let more = format!(
        "[metrics]\nlisten = \"127.0.0.1:{port}\"\n\
         [input.sdk]\nsocket = \"sdk.sock\"\n[[input.sdk.allow]]\ntenants = [\"*\"]"
    );
    let home = Home::new(9, &more);
    let (_running, mut client) = home.run();
    count(&mut client, "requests", "acme").expect("counted");
    let (status, page) = get(port, "/metrics");
    assert_eq!(status, 200, "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let shown: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            let total = if kind == "counter" { "_total" } else { "" };
            format!("{name}{total} {kind}")
        })
        .collect();
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).expect("documented");
    let documented: BTreeSet<String> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|line| !line.starts_with("tollgate_collector_"))
        // Not the rows about pages and alerts.
        .filter(|line| line.contains("| counter |") || line.contains("| gauge |"))
        .map(|line| {
            let mut cells = line.split('|');
            let name = cells.next().expect("a name").trim().trim_matches('`');
            format!("{name} {}", cells.next().expect("a type").trim())
        })
        .collect();
    assert_eq!(shown, documented);
    let accepted = "tollgate_agent_input_accepted_events_total{input=\"admin\"}";
    assert_eq!(sample(&page, accepted), Some(1.0), "{page}");
    assert_eq!(sample(&page, "tollgate_agent_connected"), Some(0.0));
    assert!(!page.contains("acme"), "no label of a tenant:\n{page}");
}

#[test]
fn health_is_told_and_strangers_are_refused() {
    let port = free_port();
    let home = Home::new(9, &format!("[metrics]\nlisten = \"127.0.0.1:{port}\""));
    let (running, _client) = home.run();
    assert_eq!(get(port, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(port, "/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(get(port, "/").0, 404);
    assert_eq!(exchange(port, "POST /metrics HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(exchange(port, "\x16\x03\x01\r\n\r\n").0, 400);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000));
    assert_eq!(exchange(port, &long).0, 431);
    // Silent connections take no more than their places, and only for a time.
    let silent: Vec<_> = (0..7)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("listens"))
        .collect();
    assert_eq!(get(port, "/livez").0, 200);
    drop(silent);
    signal(&running, "TERM");
}

#[test]
fn remote_addresses_need_to_be_allowed() {
    for (more, code) in [
        ("[metrics]\nlisten = \"0.0.0.0:9464\"", 78),
        (
            "[metrics]\nlisten = \"0.0.0.0:9464\"\nallow_remote = true",
            0,
        ),
        ("[metrics]", 0),
        ("[admin]\ngroup_may_count = true", 78),
        ("[admin]\ngroup = \"a:b\"", 78),
    ] {
        let output = Home::new(9, more).command(&["check"]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{more}\n{}",
            stderr(&output)
        );
    }
}

#[test]
fn the_admin_socket_belongs_to_its_owner_or_a_group() {
    let mode = |home: &Home| {
        let meta = std::fs::metadata(home.admin_socket()).expect("there");
        meta.permissions().mode() & 0o777
    };
    let home = Home::new(9, "");
    let (_running, _client) = home.run();
    assert_eq!(mode(&home), 0o600);
    // The own group is one that anybody may give a file to.
    let group = Command::new("id").arg("-g").output().expect("id is there");
    let group = String::from_utf8(group.stdout).expect("a number");
    let shared = Home::new(9, &format!("[admin]\ngroup = \"{}\"", group.trim()));
    let (_running, mut client) = shared.run();
    assert_eq!(mode(&shared), 0o660);
    assert!(
        count(&mut client, "requests", "acme").is_ok(),
        "the owner may"
    );
    // Closed again by a reload, without a restart.
    let text = std::fs::read_to_string(&shared.config).expect("readable");
    std::fs::write(
        &shared.config,
        text.replace("[admin]", "").replace("group =", "# group ="),
    )
    .expect("writable");
    let done = client.reload().expect("reloaded");
    assert_eq!(
        (done.changed, done.restart),
        (vec!["admin".to_owned()], vec![])
    );
    assert_eq!(mode(&shared), 0o600);
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_one_runs_on() {
    let port = free_port();
    let home = Home::new(9, &format!("[metrics]\nlisten = \"127.0.0.1:{port}\""));
    let (_running, mut client) = home.run();
    let good = std::fs::read_to_string(&home.config).expect("readable");
    std::fs::write(&home.config, format!("{good}\n[[rule]]\nmetric = 5\n")).expect("writable");
    let output = home.command(&[
        "reload",
        "--admin-socket",
        home.admin_socket().to_str().expect("UTF-8"),
    ]);
    assert_eq!(output.status.code(), Some(78), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("agent.toml"),
        "{}",
        stderr(&output)
    );
    let failed = |page: &str| sample(page, "tollgate_agent_config_reload_failed");
    assert_eq!(failed(&get(port, "/metrics").1), Some(1.0));
    assert_eq!(
        count(&mut client, "requests", "acme").as_deref(),
        Ok("acme/requests")
    );
    assert!(home.log().contains("configuration refused"));
    // A certificate that is not there is a mistake as well.
    std::fs::write(&home.config, good.replace("edge-1.pem", "nobody.pem")).expect("writable");
    assert!(client.reload().is_err());
    // A port that is taken changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let number = taken.local_addr().expect("bound").port();
    let busy = good.replace(&port.to_string(), &number.to_string());
    std::fs::write(&home.config, busy.replace("= \"requests\"", "= \"other\"")).expect("writable");
    assert!(client.reload().is_err());
    assert_eq!(
        count(&mut client, "requests", "acme").as_deref(),
        Ok("acme/requests")
    );
    // What needs a restart is named, again and again.
    std::fs::write(
        &home.config,
        good.replace("window = \"1s\"", "window = \"5s\""),
    )
    .expect("writable");
    for _ in 0..2 {
        let done = client.reload().expect("reloaded");
        assert_eq!(
            (done.changed, done.restart),
            (vec![], vec!["window".to_owned()])
        );
    }
    let page = get(port, "/metrics").1;
    assert_eq!(failed(&page), Some(0.0));
    assert_eq!(
        sample(&page, "tollgate_agent_config_restart_keys"),
        Some(1.0)
    );
}

/// Counts over UDP and the admin socket while the rules change under them: every event is
/// accepted and attributed by one of the two configurations.
#[test]
fn reloads_lose_no_count() {
    let udp = free_port();
    let home = Home::new(9, &format!("[input.dogstatsd]\nudp = \"127.0.0.1:{udp}\""));
    let (running, mut client) = home.run();
    let texts = {
        let text = std::fs::read_to_string(&home.config).expect("readable");
        let other = text.replace("tenant = { tag = \"customer\" }", "tenant = \"umbrella\"");
        assert_ne!(text, other);
        [text, other]
    };
    let stop = Arc::new(AtomicBool::new(false));
    let sender = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let target = ("127.0.0.1", udp);
                socket
                    .send_to(b"requests:1|c|#customer:acme", target)
                    .expect("sent");
                sent += 1;
                if sent.is_multiple_of(64) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            sent
        })
    };
    let mut tenants = BTreeSet::new();
    let mut admin = 0;
    for round in 0..20 {
        std::fs::write(&home.config, &texts[round % 2]).expect("writable");
        if round % 4 < 2 {
            client.reload().expect("reloaded");
        } else {
            signal(&running, "HUP");
        }
        for _ in 0..50 {
            tenants.insert(count(&mut client, "requests", "acme").expect("counted"));
            admin += 1;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().expect("sends");
    assert_eq!(tenants.len(), 2, "{tenants:?}");
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let status = client.status().expect("a status");
        let total = |key| account(&status, "dogstatsd.udp", key);
        if total("received") == sent || Instant::now() > deadline {
            assert_eq!(
                (total("received"), total("accepted")),
                (sent, sent),
                "{status:#}"
            );
            assert_eq!(account(&status, "admin", "accepted"), admin);
            assert!(status["config"]["reloads"].as_u64().expect("a number") >= 19);
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends until it is told that nobody listens; says how many were taken.
fn flood(mut send: impl FnMut(&[u8]) -> std::io::Result<usize>) -> u64 {
    let mut taken = 0;
    while send(b"requests:1|c|#customer:acme").is_ok() {
        taken += 1;
    }
    taken
}

/// Whatever a socket took is counted or declared lost, though more comes while the agent stops.
#[test]
fn a_stop_under_load_accounts_for_every_datagram() {
    let port = free_port();
    let home = Home::new(
        9,
        &format!(
            "[input.dogstatsd]\nudp = \"127.0.0.1:{port}\"\nunix = \"dog.sock\"\nreceive_buffer = \"64KiB\"\n"
        ),
    );
    let (mut running, _) = home.run();
    let path = home.dir.path().join("dog.sock");
    let udp = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(("127.0.0.1", port)).expect("loopback");
        // Of the last one that was sent it is told with the next.
        flood(|bytes| socket.send(bytes)) - 1
    });
    let unix = std::thread::spawn(move || {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.connect(path).expect("listening");
        flood(|bytes| socket.send(bytes))
    });
    std::thread::sleep(Duration::from_millis(300));
    signal(&running, "TERM");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
    let sent = [udp, unix].map(|sender| sender.join().expect("sends"));

    let (_running, mut client) = home.run();
    let status = client.status().expect("a status");
    for (input, sent) in ["dogstatsd.udp", "dogstatsd.unix"].into_iter().zip(sent) {
        assert_eq!(account(&status, input, "received"), sent, "{status:#}");
    }
}
