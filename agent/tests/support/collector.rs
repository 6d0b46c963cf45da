//! As much of a collector as an agent needs: it welcomes, keeps batches in memory and
//! acknowledges them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use tollgate_common::tls::{self, Credentials};
use tollgate_common::wire::{Ack, Decoder, Encoder, Message, Resume, VERSION, Welcome};
use tollgate_common::{Batch, BatchHash, Incarnation, Lineage, Timestamp};

/// What the collector saw of its peers.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    bytes: AtomicU64,
    sources: Mutex<BTreeSet<SocketAddr>>,
    certificates: Mutex<Vec<Vec<u8>>>,
    /// Versions of the protocol that it does not speak, from the newest.
    versions_behind: AtomicU8,
}

type Batches = Arc<Mutex<BTreeMap<(Incarnation, u64), Batch>>>;

pub(crate) struct Collector {
    pub(crate) port: u16,
    batches: Batches,
    seen: Arc<Seen>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Listens on a free port with the certificates below `pki`.
    pub(crate) fn start(pki: &Path) -> Self {
        Self::start_on(pki, 0, Batches::default(), Arc::default())
    }

    /// Another one that keeps what it receives in the same place.
    pub(crate) fn sibling(&self, pki: &Path) -> Self {
        Self::start_on(pki, 0, Arc::clone(&self.batches), Arc::default())
    }

    fn start_on(pki: &Path, port: u16, batches: Batches, seen: Arc<Seen>) -> Self {
        let credentials = Credentials::read(
            &pki.join("ca.pem"),
            &pki.join("collector.pem"),
            &pki.join("collector.key"),
        )
        .expect("the test's certificates");
        let tls = tls::server_config(&credentials).expect("valid");
        let crypto = QuicServerConfig::try_from(tls).expect("TLS 1.3");
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let (shared, sees) = (Arc::clone(&batches), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let address = ([127, 0, 0, 1], port).into();
                let endpoint = quinn::Endpoint::server(config, address).expect("a free port");
                let port = endpoint.local_addr().expect("bound").port();
                tell.send(port).expect("the test waits");
                tokio::select! {
                    () = serve(&endpoint, &shared, &sees) => {}
                    _ = stopped => {}
                }
                endpoint.close(0u8.into(), b"");
                endpoint.wait_idle().await;
            });
        });
        let port = told.recv().expect("a port");
        Self {
            port,
            batches,
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Stops listening; what was received is kept.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }

    /// Listens again on the same port.
    pub(crate) fn resume(&mut self, pki: &Path) {
        *self = Self::start_on(
            pki,
            self.port,
            Arc::clone(&self.batches),
            Arc::clone(&self.seen),
        );
    }

    /// The sum of each series over all batches.
    pub(crate) fn sums(&self) -> BTreeMap<String, i128> {
        let mut sums = BTreeMap::new();
        for batch in self.batches.lock().expect("no panic").values() {
            for row in &batch.rows {
                *sums.entry(row.series.to_string()).or_default() += row.value.units();
            }
        }
        sums
    }

    /// Speaks the newest version of the protocol less so many from the next connection on.
    pub(crate) fn speak_behind(&self, versions: u8) {
        self.seen.versions_behind.store(versions, Ordering::Relaxed);
    }

    /// Connections that were accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Addresses from which connections came, or to which they moved.
    pub(crate) fn sources(&self) -> usize {
        self.seen.sources.lock().expect("no panic").len()
    }

    /// Bytes of streams.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.seen.bytes.load(Ordering::Relaxed)
    }

    /// Certificates of agents, each time that another one was shown.
    pub(crate) fn certificates(&self) -> Vec<Vec<u8>> {
        self.seen.certificates.lock().expect("no panic").clone()
    }

    /// Waits until all series together have this sum.
    pub(crate) fn wait_for_total(&self, sum: i128, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.sums().values().sum::<i128>() != sum {
            assert!(Instant::now() < deadline, "not {sum}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a series has this sum.
    pub(crate) fn wait_for(&self, series: &str, sum: i128) {
        let deadline = Instant::now() + super::TIMEOUT;
        while self.sums().get(series) != Some(&sum) {
            assert!(
                Instant::now() < deadline,
                "{series} is not {sum} but {:?}",
                self.sums()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that every incarnation is a chain without gaps; gives how many are final.
    pub(crate) fn verify_chains(&self) -> usize {
        let batches = self.batches.lock().expect("no panic");
        let mut finals = 0;
        let mut before: Option<&Batch> = None;
        for batch in batches.values() {
            batch.validate().expect("canonical");
            match before.filter(|b| b.incarnation == batch.incarnation) {
                Some(before) => {
                    assert_eq!(batch.sequence, before.sequence.next());
                    assert_eq!(batch.parent_hash, before.hash());
                }
                None => assert_eq!(batch.sequence.get(), 1),
            }
            finals += usize::from(batch.is_final);
            before = Some(batch);
        }
        finals
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(endpoint: &quinn::Endpoint, batches: &Batches, seen: &Arc<Seen>) {
    while let Some(incoming) = endpoint.accept().await {
        let (batches, seen) = (Arc::clone(batches), Arc::clone(seen));
        tokio::spawn(async move {
            // An agent that is killed breaks its connection.
            if let Ok(connection) = incoming.await {
                seen.handle(&connection);
                let _ = converse(&connection, &batches, &seen).await;
            }
        });
    }
}

impl Seen {
    fn note_source(&self, source: SocketAddr) {
        self.sources.lock().expect("no panic").insert(source);
    }

    fn handle(&self, connection: &quinn::Connection) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let identity = connection.peer_identity().expect("mutual TLS");
        let chain = identity
            .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
            .expect("rustls");
        let leaf = chain[0].to_vec();
        let mut certificates = self.certificates.lock().expect("no panic");
        if certificates.last() != Some(&leaf) {
            certificates.push(leaf);
        }
    }
}

async fn converse(connection: &quinn::Connection, batches: &Batches, seen: &Seen) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let (mut encoder, mut decoder) = (Encoder::new(1), Decoder::new());
    while let Some(chunk) = receive.read_chunk(1 << 16, true).await.ok()? {
        decoder.push(&chunk.bytes);
        seen.bytes
            .fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        seen.note_source(connection.remote_address());
        while let Some(message) = decoder.next().expect("an agent sends frames") {
            let mut out = Vec::new();
            encoder
                .encode(&answer(message, batches, seen), &mut out)
                .expect("small");
            send.write_all(&out).await.ok()?;
        }
    }
    Some(())
}

fn answer(message: Message, batches: &Batches, seen: &Seen) -> Message {
    let mut batches = batches.lock().expect("no panic");
    match message {
        Message::Hello(hello) => {
            let resume = hello.held.iter().map(|held| {
                let range = (held.incarnation, 0)..=(held.incarnation, u64::MAX);
                let last = batches.range(range).next_back();
                let durable = last.map_or(0, |((_, sequence), _)| *sequence);
                Resume {
                    incarnation: held.incarnation,
                    durable,
                    durable_hash: last.map_or(BatchHash::ZERO, |(_, batch)| batch.hash()),
                    releasable: durable,
                }
            });
            Message::Welcome(Welcome {
                version: VERSION - seen.versions_behind.load(Ordering::Relaxed),
                lineage: Lineage::from_bytes([7; 16]),
                now: Timestamp::EPOCH,
                resume: resume.collect(),
                window_batches: 4,
                window_bytes: 1 << 20,
            })
        }
        Message::Batch(batch) => {
            let (incarnation, durable) = (batch.incarnation, batch.sequence.get());
            batches.insert((incarnation, durable), batch);
            Message::Ack(Ack {
                incarnation,
                durable,
                releasable: durable,
            })
        }
        other => panic!("unexpected {}", other.kind()),
    }
}
