//! A real agent process with real sockets ships to a collector in this process.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::collector::Collector;
use crate::support::{self, Home, exit_code, signal};
use tollgate_agent::admin::protocol::{Answer, Count, Request};

const SERIES: &str = "acme/requests{}";

fn count(value: u64) -> Count {
    Count {
        metric: "requests".to_owned(),
        value: value.to_string(),
        tags: BTreeMap::from([("customer".to_owned(), "acme".to_owned())]),
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.local_addr().expect("bound").port()
}

/// A home with a collector and more configuration.
fn with_collector(more: &str) -> (Home, Collector) {
    // The configuration needs the port, and the collector needs the certificates.
    let pki = Home::new(1, "");
    let collector = Collector::start(&pki.dir.path().join("pki"));
    let text = std::fs::read_to_string(&pki.config).expect("written");
    let text = text.replace("127.0.0.1:1\"", &format!("127.0.0.1:{}\"", collector.port));
    std::fs::write(&pki.config, format!("{text}{more}")).expect("writable");
    (pki, collector)
}

#[test]
fn acknowledged_counts_survive_sigkill_and_ship_once() {
    let (home, collector) = with_collector("");
    let mut total = 0u64;
    for round in 1..=4u64 {
        let (running, mut client) = home.run();
        for n in 0..500 {
            client
                .send(&Request::Count(count(round * n)))
                .expect("sent");
        }
        for n in 0..500 {
            let answer = client.receive().expect("answered");
            assert!(matches!(answer, Answer::Counted(_)), "{answer:?}");
            total += round * n;
        }
        // Dropping kills with SIGKILL.
        drop(running);
    }
    let (mut running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    total += 1;
    signal(&running, "TERM");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
    collector.wait_for(SERIES, total.into());
    assert_eq!(collector.verify_chains(), 5, "{}", home.log());
}

#[test]
fn a_collector_that_was_away_gets_everything() {
    let (home, mut collector) = with_collector("");
    let (mut running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    collector.wait_for(SERIES, 1);
    collector.stop();
    for _ in 0..3 {
        client.count(count(2)).expect("counted");
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    collector.resume(&home.dir.path().join("pki"));
    collector.wait_for(SERIES, 7);
    let status = client.status().expect("a status");
    assert_eq!(status["ship"]["connection"], "shipping", "{status:#}");
    signal(&running, "INT");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
    assert_eq!(collector.verify_chains(), 1, "{}", home.log());
}

#[test]
fn dogstatsd_over_both_sockets_is_counted_and_drained() {
    let port = free_port();
    let (home, collector) = with_collector(&format!(
        "[input.dogstatsd]\nudp = \"127.0.0.1:{port}\"\nunix = \"dog.sock\"\n[input.interfaces]\ninterval = \"100ms\"\n"
    ));
    let (mut running, mut client) = home.run();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    udp.connect(("127.0.0.1", port)).expect("loopback");
    let unix = UnixDatagram::unbound().expect("a socket");
    unix.connect(home.dir.path().join("dog.sock"))
        .expect("listening");
    let line = b"requests:1:2|c|#customer:acme\nnonsense\nrequests:1|c|@0.5|#customer:acme";
    for _ in 0..100 {
        udp.send(line).expect("sent");
        unix.send(line).expect("sent");
    }
    unix.send(&vec![b'x'; 100_000]).expect("sent");
    // Nothing is waited for: the agent drains its sockets when it stops.
    signal(&running, "TERM");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
    collector.wait_for(SERIES, 200 * 5);
    assert!(client.status().is_err());
    assert!(!home.dir.path().join("dog.sock").exists());

    // The account has outlived the process.
    let (_running, mut client) = home.run();
    let status = client.status().expect("a status");
    let inputs = status["inputs"].as_array().expect("a list");
    let input = |name| inputs.iter().find(|i| i["name"] == name).expect("there");
    for (name, received, malformed) in [("dogstatsd.udp", 400, 100), ("dogstatsd.unix", 401, 100)] {
        let input = input(name);
        assert_eq!(input["received"], received, "{status:#}");
        assert_eq!(input["accepted"], 300, "{status:#}");
        assert_eq!(input["rejected"]["malformed"], malformed, "{status:#}");
    }
    assert_eq!(input("dogstatsd.unix")["rejected"]["too_large"], 1);
}

#[test]
fn garbage_on_the_admin_socket_harms_nobody() {
    use std::io::{Read, Write};
    let home = Home::new(1, "");
    let (_running, mut client) = home.run();
    for garbage in [
        &b"\n"[..],
        b"{\"count\":{\"metric\":\"requests\"",
        b"\xff\xfe\x00\n",
        &vec![b'['; 1 << 20],
    ] {
        let mut stream =
            std::os::unix::net::UnixStream::connect(home.admin_socket()).expect("listening");
        // The agent may hang up before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            answer.is_empty() || answer.contains("malformed"),
            "{answer}"
        );
    }
    client.count(count(1)).expect("still counted");
}

/// A set needs the second version of the protocol; sums do not.
#[test]
fn what_an_older_collector_cannot_take_waits_for_its_upgrade() {
    let (home, collector) =
        with_collector("[[meter]]\nname = \"users\"\nunit = \"1\"\naggregation = \"unique\"\n");
    collector.speak_behind(1);
    let (running, mut client) = home.run();
    client.count(count(5)).expect("counted");
    collector.wait_for(SERIES, 5);
    let output = home.command(&["count", "users", "ada"]);
    assert_eq!(output.status.code(), Some(0));
    let deadline = Instant::now() + support::TIMEOUT;
    loop {
        let status = client.status().expect("a status");
        let error = status["ship"]["last_error"].as_str().unwrap_or_default();
        if error.contains("upgrade the collector") {
            assert!(status["spool"]["batches"].as_u64() >= Some(1), "{status:#}");
            assert!(status["spool"]["oldest"].is_u64(), "{status:#}");
            break;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    collector.speak_behind(0);
    // Who starts anew does not wait for the next attempt.
    drop((running, client));
    let _again = home.run();
    collector.wait_for("_unattributed/users{}", 1);
    assert_eq!(collector.sums()[SERIES], 5);
}
