//! `top` and `tap` against a running agent.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{self, Home, TIMEOUT, stderr, stdout};
use serde_json::Value;

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.local_addr().expect("bound").port()
}

fn with_udp() -> (Home, u16) {
    let port = free_port();
    let more = format!("dimensions = [\"region\"]\n[input.dogstatsd]\nudp = \"127.0.0.1:{port}\"");
    (Home::new(9, &more), port)
}

fn send(port: u16, line: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .send_to(line.as_bytes(), ("127.0.0.1", port))
        .expect("sent");
}

#[test]
fn top_shows_what_was_counted_between_two_looks() {
    let (home, port) = with_udp();
    let (_running, mut client) = home.run();
    send(port, "requests:7|c|#customer:acme,region:eu");
    let deadline = Instant::now() + TIMEOUT;
    while client.status().expect("a status")["series"] != 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let query = serde_json::from_str(r#"{"rows":10}"#).expect("a query");
    let first = client.top(&query).expect("a page");
    assert_eq!((first.rates.millis, first.rates.events), (0, 0));
    for _ in 0..10 {
        send(port, "requests:5|c|#customer:umbrella,region:us");
    }
    send(port, "requests:1|c|#customer:acme,region:eu");
    send(port, "requests:x|c|#customer:acme");
    let deadline = Instant::now() + TIMEOUT;
    let mut events = 0;
    let mut umbrella = 0u128;
    while events < 11 && Instant::now() < deadline {
        let page = client.top(&query).expect("a page");
        assert!(page.rates.millis > 0);
        events += page.rates.events;
        for series in &page.rates.by_series {
            if series.tenant == "umbrella" {
                assert_eq!(
                    (series.dimensions.as_str(), series.meter.as_str()),
                    ("{region=us}", "requests")
                );
                umbrella += series.amount.parse::<u128>().expect("a number");
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((events, umbrella), (11, 50_000_000_000_000));
    // Two viewers do not disturb each other, and patterns narrow the page.
    let output = home.command(&["top", "--json", "--interval", "100ms", "--tenant", "um*"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(page["rates"]["series"], 1, "{page:#}");
    let output = home.command(&["top", "--once", "--interval", "200ms"]);
    let text = stdout(&output);
    for expected in [
        "edge-1",
        "dogstatsd.udp",
        "malformed 1",
        "acme",
        "umbrella",
        "TENANT",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn tap_streams_what_came_in_and_what_became_of_it() {
    let (home, port) = with_udp();
    let (_running, mut client) = home.run();
    let child = Command::new(env!("CARGO_BIN_EXE_tollgate-agent"))
        .args(["tap", "--json", "--limit", "4", "--config"])
        .arg(&home.config)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut tap = support::Running(child);
    let mut lines = BufReader::new(tap.0.stdout.take().expect("piped")).lines();
    // Sent until the tap is open and has seen one of them.
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.by_ref() {
            let event: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
            sender.send(event).expect("somebody reads");
        }
    });
    let deadline = Instant::now() + TIMEOUT;
    let first = loop {
        send(port, "requests:1|c|#customer:acme,region:eu");
        if let Ok(event) = receiver.recv_timeout(Duration::from_millis(100)) {
            break event;
        }
        assert!(Instant::now() < deadline, "nothing is seen");
    };
    assert_eq!(first["tenant"], "acme");
    assert_eq!(first["dimensions"], "{region=eu}");
    assert_eq!(
        (&first["input"], &first["value"]),
        (&"dogstatsd.udp".into(), &"1".into())
    );
    assert_eq!(first["raw"], "requests:1|c|#customer:acme,region:eu");
    // Several of the first kind may have been sent before the tap was open.
    send(
        port,
        "requests:nine|c|#customer:acme\nunknown:3|c\nrequests:2|c|#customer:umbrella",
    );
    let rest: Vec<Value> = receiver
        .iter()
        .filter(|event| event["raw"] != first["raw"])
        .collect();
    reader.join().expect("reads");
    assert!(rest.len() >= 2, "{rest:#?}");
    assert_eq!(rest[0]["rejected"], "malformed");
    assert_eq!(
        (&rest[1]["tenant"], &rest[1]["meter"]),
        (&"_unattributed".into(), &"unknown".into())
    );
    // Watching changes no count.
    let status = client.status().expect("a status");
    let inputs = status["inputs"].as_array().expect("inputs");
    let udp = inputs
        .iter()
        .find(|input| input["name"] == "dogstatsd.udp")
        .expect("there");
    let number = |key: &str| udp[key].as_u64().expect("a number");
    assert_eq!(udp["rejected"]["malformed"], 1);
    assert_eq!(number("received"), number("accepted") + 1);
}

#[test]
fn manuals_come_from_the_same_definitions() {
    let output = support::command(&["manual", "man", "top"]);
    assert!(stdout(&output).contains(".TH"), "{}", stderr(&output));
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&support::command(&["manual", shell]));
        assert!(
            text.contains("tollgate-agent") && text.contains("endpoint"),
            "{shell}"
        );
    }
    assert_eq!(
        support::command(&["manual", "man", "nothing"])
            .status
            .code(),
        Some(2)
    );
}
