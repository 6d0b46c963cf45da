//! A collector that is away: the spool grows, then drains, and the totals are exact.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::World;

/// How long the collector is away: 15 s, which is more than a dozen windows, unless
/// `TOLLGATE_OUTAGE_SECONDS` asks for longer.
fn away() -> Duration {
    let asked = std::env::var("TOLLGATE_OUTAGE_SECONDS").ok();
    let seconds = asked.map_or(15, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds).max(Duration::from_secs(15))
}

#[test]
fn what_is_counted_while_the_collector_is_away_arrives_later() {
    let world = World::new(&[("edge-1", &["acme"])]);
    let agent = world.start_agent("edge-1");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut sent = 0i128;
    let (begin, away) = (Instant::now(), away());
    let held = || {
        let status = world
            .admin("edge-1")
            .and_then(|mut client| client.status().ok())
            .expect("the agent answers");
        status["engine"]["spool"]["batches"]
            .as_u64()
            .or_else(|| status["spool"]["batches"].as_u64())
            .expect("the status tells the batches in the spool")
    };
    let first = held();
    while begin.elapsed() < away {
        for _ in 0..10 {
            let line = b"requests:7|c|#customer:acme,region:eu";
            socket
                .send_to(line, world.dogstatsd["edge-1"])
                .expect("loopback");
            sent += 7;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let grown = held();
    assert!(
        grown >= first + 10,
        "the spool holds {grown} batches after {away:?}, {first} before"
    );

    let collector = world.start_collector();
    world.wait("the spool drains", || held() <= 2);
    agent.stop();
    world.wait_settled();
    let billed = world
        .billed()
        .get(&("acme".to_owned(), "requests".to_owned()))
        .copied()
        .unwrap_or(0);
    assert_eq!(billed, sent);
    collector.stop();
    world.assert_verified();
}
