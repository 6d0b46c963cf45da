//! A real agent ships over paths that drop, double, reorder, forget and swallow datagrams.

use std::time::{Duration, Instant};

use crate::support::collector::Collector;
use crate::support::proxy::{Proxy, Treatment};
use crate::support::{Home, Running, count, exit_code, pki_again, signal};
use tollgate_agent::admin::client::Client;

const SERIES: &str = "acme/requests{}";

/// An agent, a proxy and a collector behind it.
fn behind_proxy(seed: u64) -> (Home, Proxy, Collector) {
    let home = Home::new(1, "");
    let collector = Collector::start(&home.dir.path().join("pki"));
    let proxy = Proxy::start(collector.port, seed);
    home.replace("127.0.0.1:1\"", &format!("127.0.0.1:{}\"", proxy.port));
    (home, proxy, collector)
}

/// Counts `rounds` times and gives the sum.
fn count_slowly(client: &mut Client, rounds: u64) -> i128 {
    for round in 1..=rounds {
        client.count(count(round)).expect("counted");
        std::thread::sleep(Duration::from_millis(250));
    }
    (1..=i128::from(rounds)).sum()
}

fn stop(mut running: Running, home: &Home) {
    signal(&running, "TERM");
    assert_eq!(exit_code(&mut running), Some(0), "{}", home.log());
}

fn welcomes(client: &mut Client) -> u64 {
    let status = client.status().expect("a status");
    status["ship"]["welcomes"].as_u64().expect("a number")
}

#[test]
fn a_path_that_drops_doubles_and_reorders_costs_nothing() {
    let (home, proxy, collector) = behind_proxy(7);
    let (running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    collector.wait_for(SERIES, 1);
    proxy.treat(Treatment {
        drop: 200,
        duplicate: 200,
        reorder: 300,
    });
    let mut sum = count_slowly(&mut client, 20);
    // How many datagrams a count costs is up to both ends and the load of the machine.
    let since = Instant::now();
    while proxy.counts().1 < 10 {
        assert!(since.elapsed() < Duration::from_mins(1), "unharmed");
        sum += count_slowly(&mut client, 4);
    }
    collector.wait_for(SERIES, 1 + sum);
    proxy.treat(Treatment::default());
    stop(running, &home);
    assert_eq!(collector.verify_chains(), 1);
}

/// True if the connection that was made first still stood at the end. A machine that stands still
/// for longer than the idle timeout ends it as well, and that says nothing about the path.
fn stood(client: &mut Client) -> bool {
    welcomes(client) == 1
}

/// Whether `run` shows what is to be shown, in one of a few attempts.
fn shows(run: impl Fn(u64) -> bool) -> bool {
    (1..=4).any(run)
}

#[test]
fn the_connection_survives_another_address() {
    assert!(shows(survives_another_address));
}

fn survives_another_address(seed: u64) -> bool {
    let (home, proxy, collector) = behind_proxy(seed);
    let (running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    collector.wait_for(SERIES, 1);
    let mut sum = 1;
    for _ in 0..2 {
        // As if the host had moved: what comes from the old address goes nowhere.
        proxy.forget();
        sum += count_slowly(&mut client, 8);
        collector.wait_for(SERIES, sum);
        assert!(proxy.sources() >= 1, "the agent took another socket");
    }
    let stood = stood(&mut client) && collector.connections() == 1;
    if stood {
        assert!(collector.sources() >= 3, "the collector saw it move");
    }
    stop(running, &home);
    assert_eq!(collector.verify_chains(), 1);
    stood
}

#[test]
fn a_swallowed_path_is_noticed_and_left_and_everything_arrives_later() {
    let (home, proxy, collector) = behind_proxy(2);
    let (running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    collector.wait_for(SERIES, 1);
    proxy.black_hole(true);
    let since = Instant::now();
    let sum = count_slowly(&mut client, 4);
    loop {
        let status = client.status().expect("a status");
        if status["ship"]["connection"] != "shipping" {
            break;
        }
        assert!(since.elapsed() < Duration::from_mins(1), "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(
        since.elapsed() > Duration::from_secs(6),
        "two sockets were tried before"
    );
    proxy.black_hole(false);
    collector.wait_for(SERIES, 1 + sum);
    stop(running, &home);
    assert_eq!(collector.verify_chains(), 1);
}

#[test]
fn a_path_that_suddenly_takes_only_small_datagrams_goes_on() {
    assert!(shows(goes_on_with_small_datagrams));
}

fn goes_on_with_small_datagrams(seed: u64) -> bool {
    let (home, proxy, collector) = behind_proxy(seed);
    let (running, mut client) = home.run();
    let mut sum = count_slowly(&mut client, 12);
    collector.wait_for(SERIES, sum);
    // The smallest that QUIC works with.
    proxy.set_mtu(1_200);
    sum += count_slowly(&mut client, 12);
    collector.wait_for(SERIES, sum);
    let stood = stood(&mut client);
    stop(running, &home);
    assert_eq!(collector.verify_chains(), 1);
    stood
}

#[test]
fn new_certificates_are_shown_without_a_restart() {
    let (home, _proxy, collector) = behind_proxy(4);
    let (running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    collector.wait_for(SERIES, 1);
    let before = collector.certificates();
    // A key that does not fit the certificate is refused, and the connection stays.
    let key = home.dir.path().join("pki/edge-1.key");
    let good = std::fs::read(&key).expect("there");
    std::fs::write(&key, "no key").expect("writable");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(collector.certificates(), before, "{}", home.log());
    std::fs::write(&key, good).expect("writable");
    pki_again(&home.dir.path().join("pki"));
    let deadline = Instant::now() + Duration::from_mins(1);
    while collector.certificates().len() < 2 {
        assert!(Instant::now() < deadline, "{}", home.log());
        client.count(count(1)).expect("counted");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(collector.certificates().last(), before.last());
    stop(running, &home);
    assert_eq!(collector.verify_chains(), 1);
}

#[test]
fn a_cap_on_bandwidth_is_kept_and_nothing_is_lost() {
    let home = Home::new(1, "");
    let collector = Collector::start(&home.dir.path().join("pki"));
    home.replace(
        "127.0.0.1:1\"]",
        &format!(
            "127.0.0.1:{}\"]\nbandwidth_max = \"1 KiB/s\"",
            collector.port
        ),
    );
    home.replace(
        "tenant = { tag = \"customer\" }",
        "tenant = { tag = \"customer\" }\ndimensions = [\"id\"]",
    );
    let (running, mut client) = home.run();
    // From here on, so that what goes out while they are counted is in the time, too.
    let began = Instant::now();
    // Names that do not compress: some kilobytes for each window.
    let mut sum = 0;
    for n in 0..200u64 {
        let mut count = count(1);
        let mut noise = n;
        let id = (0..8).map(|_| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            format!("{:08x}", noise >> 32)
        });
        count.tags.insert("id".to_owned(), id.collect());
        client.count(count).expect("counted");
        sum += 1;
    }
    collector.wait_for_total(sum, Duration::from_mins(2));
    let bytes = collector.received_bytes();
    // The burst of four kilobytes comes first.
    let least = Duration::from_millis(bytes.saturating_sub(4096 + 1024) * 1000 / 1024);
    assert!(
        began.elapsed() + Duration::from_secs(2) >= least,
        "{bytes} bytes in {:?}",
        began.elapsed()
    );
    assert!(bytes > 5_000, "{bytes}");
    stop(running, &home);
}

#[test]
fn a_fallback_takes_over_and_the_first_is_returned_to() {
    let home = Home::new(1, "");
    let pki = home.dir.path().join("pki");
    let mut first = Collector::start(&pki);
    // One journal behind two front doors.
    let second = first.sibling(&pki);
    home.replace(
        "[\"127.0.0.1:1\"]",
        &format!(
            "[\"127.0.0.1:{}\", {{ address = \"127.0.0.1:{}\", server_name = \"localhost\" }}]\nprefer_after = \"1s\"",
            first.port, second.port
        ),
    );
    let (running, mut client) = home.run();
    client.count(count(1)).expect("counted");
    first.wait_for(SERIES, 1);
    first.stop();
    client.count(count(2)).expect("counted");
    second.wait_for(SERIES, 3);
    let status = client.status().expect("a status");
    assert_eq!(
        status["ship"]["endpoint"],
        format!("127.0.0.1:{}", second.port)
    );
    assert!(
        status["ship"]["endpoints"][0]["last_error"].is_string(),
        "{status:#}"
    );
    first.resume(&pki);
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let status = client.status().expect("a status");
        if status["ship"]["endpoint"] == format!("127.0.0.1:{}", first.port)
            && status["ship"]["connection"] == "shipping"
        {
            break;
        }
        assert!(Instant::now() < deadline, "{status:#}\n{}", home.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    client.count(count(3)).expect("counted");
    first.wait_for(SERIES, 6);
    stop(running, &home);
    assert_eq!(first.verify_chains(), 1);
}
