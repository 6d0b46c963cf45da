//! As much of a collector as an agent needs: it welcomes, keeps batches in memory and
//! acknowledges them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use tollgate_common::tls::{self, Credentials};
use tollgate_common::wire::{Ack, Decoder, Encoder, Message, Resume, VERSION, Welcome};
use tollgate_common::{Batch, BatchHash, Incarnation, Lineage, Timestamp};

type Batches = Arc<Mutex<BTreeMap<(Incarnation, u64), Batch>>>;

pub(crate) struct Collector {
    pub(crate) port: u16,
    batches: Batches,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Listens on a free port with the certificates below `pki`.
    pub(crate) fn start(pki: &Path) -> Self {
        Self::start_on(pki, 0, Batches::default())
    }

    fn start_on(pki: &Path, port: u16, batches: Batches) -> Self {
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
        let shared = Arc::clone(&batches);
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
                    () = serve(&endpoint, &shared) => {}
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
        *self = Self::start_on(pki, self.port, Arc::clone(&self.batches));
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

async fn serve(endpoint: &quinn::Endpoint, batches: &Batches) {
    while let Some(incoming) = endpoint.accept().await {
        let batches = Arc::clone(batches);
        tokio::spawn(async move {
            // An agent that is killed breaks its connection.
            if let Ok(connection) = incoming.await {
                let _ = converse(&connection, &batches).await;
            }
        });
    }
}

async fn converse(connection: &quinn::Connection, batches: &Batches) -> Option<()> {
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let (mut encoder, mut decoder) = (Encoder::new(1), Decoder::new());
    while let Some(chunk) = receive.read_chunk(1 << 16, true).await.ok()? {
        decoder.push(&chunk.bytes);
        while let Some(message) = decoder.next().expect("an agent sends frames") {
            let mut out = Vec::new();
            encoder
                .encode(&answer(message, batches), &mut out)
                .expect("small");
            send.write_all(&out).await.ok()?;
        }
    }
    Some(())
}

fn answer(message: Message, batches: &Batches) -> Message {
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
                version: VERSION,
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
