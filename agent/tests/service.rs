//! The agent as a service: what the service manager is told, and the memory it may need.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Home, Running, TIMEOUT, exit_code, signal, stderr, stdout};
use serde_json::Value;
use tollgate_agent::{Budget, Overrides, load};

/// Reads messages until one has this line; gives it whole.
fn wait_for(socket: &UnixDatagram, line: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        let length = socket.recv(&mut buffer).expect("a message");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.lines().any(|l| l.starts_with(line)) {
            return text;
        }
    }
    panic!("{line} is not said");
}

#[test]
fn the_service_manager_is_told() {
    let home = Home::new(9, "");
    let path = home.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let child = Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
        .args(["run", "--config"])
        .arg(&home.config)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "600000")
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut running = Running(child);
    wait_for(&socket, "READY=1");
    wait_for(&socket, "STATUS=not connected");
    for _ in 0..3 {
        wait_for(&socket, "WATCHDOG=1");
    }
    // Also a configuration that is refused ends the reload.
    let good = std::fs::read_to_string(&home.config).expect("readable");
    for text in [&good, "nonsense"] {
        std::fs::write(&home.config, text).expect("writable");
        signal(&running, "HUP");
        let message = wait_for(&socket, "RELOADING=1");
        assert!(message.contains("MONOTONIC_USEC="), "{message}");
        wait_for(&socket, "READY=1");
    }
    wait_for(&socket, "STATUS=not connected");
    signal(&running, "TERM");
    wait_for(&socket, "STOPPING=1");
    assert_eq!(exit_code(&mut running), Some(0));
}

#[test]
fn a_budget_that_is_too_small_is_refused() {
    let small = "memory_max = \"16MiB\"\n";
    let home = Home::new(9, "");
    let text = std::fs::read_to_string(&home.config).expect("readable");
    std::fs::write(&home.config, format!("{small}{text}")).expect("writable");
    for command in ["check", "run"] {
        let output = home.command(&[command]);
        assert_eq!(output.status.code(), Some(78), "{command}");
        assert!(
            stderr(&output).contains("memory_max"),
            "{}",
            stderr(&output)
        );
    }
    let large = small.replace("16MiB", "1GiB");
    std::fs::write(&home.config, format!("{large}{text}")).expect("writable");
    let output = home.command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("worst case"),
        "{}",
        stdout(&output)
    );
    // A reload may not grow beyond it either.
    let (_running, mut client) = home.run();
    std::fs::write(&home.config, format!("{small}{text}")).expect("writable");
    let refused = client.reload().expect_err("too much");
    assert!(refused.to_string().contains("memory_max"), "{refused}");
}

#[test]
fn the_unit_allows_what_the_sample_promises() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/");
    let unit = std::fs::read_to_string(format!("{folder}tollgate-agent.service"));
    let unit = unit.expect("readable");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
    let allowed = value("MemoryMax=").and_then(|text| text.strip_suffix('M'));
    let allowed = allowed.and_then(|n| n.parse::<u64>().ok()).expect("MiB") << 20;
    let sample = format!("{folder}tollgate-agent.toml");
    let config = load(sample.as_ref(), &Overrides::default()).expect("right");
    let budget = Budget::of(&config).expect("fits");
    assert_eq!(budget.excess(), None);
    assert!(config.memory_max.is_some_and(|max| max <= allowed));
    assert!(value("WatchdogSec=").is_some() && value("Type=") == Some("notify-reload"));
}

fn resident_bytes(running: &Running) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", running.0.id()));
    let text = text.expect("alive");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kib
        .and_then(|n| n.trim().parse::<u64>().ok())
        .expect("a number")
}

/// Fills an agent with all series that it may have, and compares what that took with what
/// was computed.
#[test]
fn the_worst_case_is_not_exceeded() {
    const SERIES: u32 = 20_000;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = socket.local_addr().expect("bound").port();
    drop(socket);
    let home = Home::new(
        9,
        &format!("dimensions = [\"path\"]\n[input.dogstatsd]\nudp = \"127.0.0.1:{port}\""),
    );
    let text = std::fs::read_to_string(&home.config).expect("readable");
    let text = text.replace("series_max = 256", &format!("series_max = {SERIES}"));
    std::fs::write(&home.config, text).expect("writable");
    let config = load(&home.config, &Overrides::default()).expect("right");
    let budget = Budget::of(&config).expect("fits");
    let (running, mut client) = home.run();
    let idle = resident_bytes(&running);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let udp = |status: &Value| {
        let inputs = status["inputs"].as_array().expect("inputs").clone();
        inputs
            .into_iter()
            .find(|i| i["name"] == "dogstatsd.udp")
            .expect("there")
    };
    let deadline = Instant::now() + 6 * TIMEOUT;
    let mut next = 0;
    // More series than there is room for.
    while next < SERIES + 1000 {
        let lines: Vec<String> = (next..next + 20)
            .map(|n| format!("requests:1|c|#customer:acme,path:/some/longer/path/{n:08}"))
            .collect();
        socket
            .send_to(lines.join("\n").as_bytes(), ("127.0.0.1", port))
            .expect("sent");
        next += 20;
        if next % 2000 == 0 {
            // Slow enough that the kernel drops nothing.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let full = loop {
        let status = udp(&client.status().expect("a status"));
        if status["received"].as_u64() >= Some(u64::from(SERIES)) {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(
        full["series"].as_u64() >= Some(u64::from(SERIES)),
        "{full:#}"
    );
    // A few seals, with nobody to ship to, and a look at everything.
    let query = serde_json::from_str(r#"{"rows":500}"#).expect("a query");
    for _ in 0..4 {
        client.top(&query).expect("a page");
        std::thread::sleep(Duration::from_millis(500));
    }
    let filled = resident_bytes(&running);
    let of = |name: &str| {
        budget
            .parts
            .iter()
            .find(|part| part.name == name)
            .map_or(0, |p| p.bytes)
    };
    assert!(filled <= budget.bytes, "{filled} of {budget:#?}");
    let engine = [
        "cells (mapped file)",
        "lookup of series",
        "sealing",
        "series dictionary",
        "lines remembered",
        "datagrams being read",
        "admin connections",
        "stacks of threads",
    ];
    let growth = filled.saturating_sub(idle);
    let bound: u64 = engine.iter().map(|name| of(name)).sum();
    assert!(
        growth <= bound,
        "grew by {growth}, computed {bound}: {budget:#?}"
    );
    // A formula that has lost touch would also be far too large for its cells.
    assert!(
        8 * growth >= of("cells (mapped file)"),
        "grew by {growth}: {budget:#?}"
    );
}
