//! Garbage on every listener: no panic, bounded memory, counted, others undisturbed.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use tollgate_agent::admin::protocol::Count;
use tollgate_common::tls;
use tollgate_common::wire::{self, Encoder, Hello, Message};
use tollgate_common::{AgentId, Timestamp};

use crate::support::World;

/// What garbage may add to the resident memory of a node.
const MEMORY_BYTES_MAX: u64 = 96 << 20;

/// A generator (SplitMix64) so that a failure can be repeated.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

async fn connect(world: &World, agent: &str) -> quinn::Connection {
    let pki = world.path("pki");
    let (certificate, key) = (
        pki.join(format!("{agent}.pem")),
        pki.join(format!("{agent}.key")),
    );
    let credentials =
        tls::Credentials::read(&pki.join("ca.pem"), &certificate, &key).expect("made by the test");
    let tls = tls::client_config(&credentials).expect("good files");
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut endpoint =
        quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    endpoint
        .connect(world.listen, "localhost")
        .expect("a good configuration")
        .await
        .expect("a good certificate")
}

fn hello(agent: &str) -> Vec<u8> {
    let hello = Hello {
        version_min: wire::VERSION,
        version_max: wire::VERSION,
        agent: AgentId::new(agent).expect("valid"),
        now: Timestamp::from_secs(1_780_000_000),
        held: Vec::new(),
    };
    let mut frame = Vec::new();
    Encoder::new(1)
        .encode(&Message::Hello(hello), &mut frame)
        .expect("a small message");
    frame
}

/// Sends bytes on a stream of a connection with a good certificate and waits for the end.
async fn offend(world: &World, bytes: Vec<u8>) {
    let connection = connect(world, "bad-1").await;
    if let Ok((mut send, _receive)) = connection.open_bi().await {
        // The collector may close in the middle of it; that is what is asked for.
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
    }
    let closed = tokio::time::timeout(Duration::from_mins(1), connection.closed()).await;
    assert!(
        closed.is_ok(),
        "the collector kept a connection that sent garbage"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collector_survives_garbage() {
    let world = World::new(&[("good-1", &["acme"]), ("bad-1", &["globex"])]);
    let mut collector = world.start_collector();
    let good = world.start_agent("good-1");
    let before = collector.resident();
    let mut noise = Noise(1);

    // Datagrams that are no QUIC at all.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for length in [0, 1, 20, 1200, 1472, 65_000] {
        for _ in 0..50 {
            let _ = socket.send_to(&noise.bytes(length), world.listen);
        }
    }
    // Random bytes instead of a hello.
    for length in [1, 7, 64, 4096, 200_000] {
        offend(&world, noise.bytes(length)).await;
    }
    // A frame that claims four gigabytes, one that claims the most that is allowed and ends.
    offend(&world, vec![0xff; 16]).await;
    let mut claim = u32::try_from(tollgate_common::limits::FRAME_BYTES_MAX)
        .expect("fits")
        .to_le_bytes()
        .to_vec();
    claim.extend_from_slice(&noise.bytes(1000));
    offend(&world, claim).await;
    // A good hello with one byte changed, at every byte.
    let good_hello = hello("bad-1");
    for at in 0..good_hello.len() {
        let mut mutated = good_hello.clone();
        mutated[at] ^= 0x41;
        offend(&world, mutated).await;
    }
    // A good hello cut at half, and a hello in another's name.
    offend(&world, good_hello[..good_hello.len() / 2].to_vec()).await;
    offend(&world, hello("good-1")).await;
    // A good hello, then garbage.
    let mut then_garbage = good_hello.clone();
    then_garbage.extend_from_slice(&noise.bytes(5000));
    offend(&world, then_garbage).await;

    // HTTP and the admin socket.
    for request in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET",
        b"GET /v1/usage?tenant=%ff%00 HTTP/1.1\r\n\r\n",
    ] {
        if let Ok(mut stream) = TcpStream::connect(world.http) {
            let _ = stream.write_all(request);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.take(1 << 16).read_to_end(&mut Vec::new());
        }
    }
    if let Ok(mut stream) = UnixStream::connect(world.path("collector/admin.sock")) {
        let _ = stream.write_all(&noise.bytes(100_000));
    }

    assert!(
        collector.is_running(),
        "the collector ended: {}",
        world.log("collector")
    );
    assert!(
        !world.log("collector").contains("panicked"),
        "{}",
        world.log("collector")
    );
    let counted = world.metric("tollgate_collector_decode_errors")
        + world.metric("tollgate_collector_connections_refused");
    assert!(counted >= 50.0, "only {counted} offences were counted");
    let grown = collector.resident().saturating_sub(before);
    assert!(
        grown < MEMORY_BYTES_MAX,
        "garbage made the collector grow by {grown} bytes"
    );
    let mut client = world.admin("good-1").expect("the good agent answers");
    client
        .count(Count {
            metric: "requests".to_owned(),
            value: "5".to_owned(),
            tags: [("customer".to_owned(), "acme".to_owned())].into(),
        })
        .expect("the good agent counts");
    good.stop();
    world.wait_settled();
    assert_eq!(
        world
            .billed()
            .get(&("acme".to_owned(), "requests".to_owned())),
        Some(&5)
    );
    collector.stop();
}

/// A stream that sends a byte now and then and never ends does not hold a place for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_never_ends_is_closed() {
    let world = World::new(&[("bad-1", &["globex"])]);
    let collector = world.start_collector();
    let connection = connect(&world, "bad-1").await;
    let (mut send, _receive) = connection.open_bi().await.expect("one stream is allowed");
    let slow = hello("bad-1");
    let drip = async {
        for byte in slow {
            if send.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let closed = tokio::time::timeout(Duration::from_mins(1), async {
        tokio::select! { _ = connection.closed() => (), () = drip => { connection.closed().await; } }
    });
    assert!(
        closed.await.is_ok(),
        "a slow hello kept its connection for a minute"
    );
    collector.stop();
}

#[test]
fn the_agent_survives_garbage() {
    let world = World::new(&[("edge-1", &["acme"])]);
    let collector = world.start_collector();
    let mut agent = world.start_agent("edge-1");
    let before = agent.resident();
    let mut noise = Noise(2);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let unix = UnixDatagram::unbound().expect("a socket");
    let path = world.path("edge-1.dsd");
    for length in [0, 1, 3, 100, 1432, 8192, 60_000] {
        for _ in 0..100 {
            let bytes = noise.bytes(length);
            let _ = udp.send_to(&bytes, world.dogstatsd["edge-1"]);
            let _ = unix.send_to(&bytes, &path);
        }
    }
    // Lines that are nearly right, between two that are.
    for line in [
        "requests:1|c|#customer:acme\nrequests:|c\nrequests:1\nrequests:1|\n:1|c\nrequests:1|q\nrequests:1|c|@0\nrequests:-1|c|#customer:acme\nrequests:1e400|c\nrequests:1|c|#customer:acme",
        "_e{3,3}:abc|def\n_sc|x|0\nrequests:1|c|#customer:acme\n\n\n",
    ] {
        udp.send_to(line.as_bytes(), world.dogstatsd["edge-1"])
            .expect("loopback");
    }
    if let Ok(mut stream) = UnixStream::connect(world.path("edge-1.sock")) {
        let _ = stream.write_all(&noise.bytes(300_000));
    }
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        agent.is_running(),
        "the agent ended: {}",
        world.log("edge-1")
    );
    assert!(
        !world.log("edge-1").contains("panicked"),
        "{}",
        world.log("edge-1")
    );
    let grown = agent.resident().saturating_sub(before);
    assert!(
        grown < MEMORY_BYTES_MAX,
        "garbage made the agent grow by {grown} bytes"
    );
    let status = world
        .admin("edge-1")
        .and_then(|mut client| client.status().ok())
        .expect("the agent answers");
    assert!(status.to_string().contains("malformed"), "{status}");
    agent.stop();
    world.wait_settled();
    assert_eq!(
        world
            .billed()
            .get(&("acme".to_owned(), "requests".to_owned())),
        Some(&3)
    );
    collector.stop();
    world.assert_verified();
}
