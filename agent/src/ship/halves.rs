//! The two halves of a connection: frames out, below the cap on bandwidth, and frames in.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;
use tollgate_agent_core::ship::pace::TokenBucket;
use tollgate_common::wire::{Decoder, EncodeError, Encoder, Message, VERSION};

use super::{Target, probe, report};
use crate::engine::{ConnectionId, Event, Order};

/// Frames that are ready are written together up to about this size.
const WRITE_BYTES: usize = 256 << 10;
/// zstd: level 1 to 3 are the useful ones for small batches.
const COMPRESSION_LEVEL: i32 = 3;

/// Waits before writes, so that they stay below the cap.
pub(super) struct Pace {
    bucket: Option<TokenBucket>,
    began: Instant,
}

impl Pace {
    pub(super) fn new(bandwidth_max: Option<NonZeroU64>) -> Self {
        Self {
            bucket: bandwidth_max.map(|rate| TokenBucket::new(rate, 0)),
            began: Instant::now(),
        }
    }

    /// Bytes that are written at a time.
    fn slice(&self) -> usize {
        self.bucket.as_ref().map_or(usize::MAX, |bucket| {
            usize::try_from(bucket.burst()).unwrap_or(usize::MAX)
        })
    }

    async fn wait(&mut self, bytes: usize) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(bucket) = &mut self.bucket {
            let wait = bucket.take(now, bytes as u64);
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}

/// The sending half of a connection.
pub(super) struct Writer<'a> {
    pub(super) id: ConnectionId,
    pub(super) target: &'a Arc<Target>,
    pub(super) stream: SendStream,
    pub(super) pace: Pace,
    /// The version of the protocol that the collector's welcome names; the oldest before.
    pub(super) version: &'a AtomicU8,
    pub(super) written: &'a Arc<AtomicU64>,
    pub(super) events: &'a Sender<Event>,
}

impl Writer<'_> {
    /// Carries out orders until the engine drops its end.
    pub(super) async fn run(mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), String> {
        let mut encoder = Encoder::new(COMPRESSION_LEVEL);
        let mut buffer = Vec::new();
        loop {
            let Some(mut order) = orders.recv().await else {
                return Ok(());
            };
            loop {
                self.take(order, &mut encoder, &mut buffer)?;
                if buffer.len() >= WRITE_BYTES {
                    break;
                }
                match orders.try_recv() {
                    Ok(next) => order = next,
                    Err(_) => break,
                }
            }
            if orders.is_empty() {
                // A full event queue means that the engine is awake and will look anyway.
                let _ = self.events.try_send(Event::Writable);
            }
            self.write(&buffer).await?;
            buffer.clear();
            buffer.shrink_to(2 * WRITE_BYTES);
        }
    }

    fn take(
        &self,
        order: Order,
        encoder: &mut Encoder,
        buffer: &mut Vec<u8>,
    ) -> Result<(), String> {
        match order {
            Order::Send { id, message, load } if id == self.id => {
                // The engine sends a batch only after it was told of the welcome.
                encoder.set_version(self.version.load(Ordering::Acquire));
                let encoded = encoder.encode(&message, buffer);
                encoded.map_err(|error| cannot_encode(&error))?;
                // Its rows are bytes now, and there is room for others.
                drop(load);
            }
            Order::Probe { id, endpoint } if id == self.id => {
                let (target, events) = (Arc::clone(self.target), self.events.clone());
                tokio::spawn(async move { probe(&target, id, endpoint, &events).await });
            }
            Order::Send { .. } | Order::Probe { .. } | Order::Connect { .. } => {}
        }
        Ok(())
    }

    async fn write(&mut self, buffer: &[u8]) -> Result<(), String> {
        let slice = self.pace.slice().min(WRITE_BYTES);
        for bytes in buffer.chunks(slice) {
            self.pace.wait(bytes.len()).await;
            self.stream
                .write_all(bytes)
                .await
                .map_err(|e| e.to_string())?;
            self.written
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Why a batch is not sent. It stays in the spool, and so does what follows it: the connection
/// ends, and another collector may be tried.
fn cannot_encode(error: &EncodeError) -> String {
    match error {
        EncodeError::NotInVersion(version) => format!(
            "the collector only speaks version {version} of the protocol, but a batch that waits \
             needs version {VERSION}: upgrade the collector; nothing is lost meanwhile"
        ),
        error => format!("cannot encode: {error}"),
    }
}

/// The receiving half: hands on what the collector says until it says no more.
pub(super) async fn read(
    id: ConnectionId,
    mut stream: RecvStream,
    version: &AtomicU8,
    events: &Sender<Event>,
) -> Result<(), String> {
    let mut decoder = Decoder::new();
    loop {
        let chunk = stream
            .read_chunk(WRITE_BYTES, true)
            .await
            .map_err(|error| error.to_string())?;
        let Some(chunk) = chunk else {
            return Err("the collector closed the stream".to_owned());
        };
        decoder.push(&chunk.bytes);
        while let Some(message) = decoder
            .next()
            .map_err(|error| format!("cannot read what the collector sent: {error}"))?
        {
            if let Message::Welcome(welcome) = &message {
                version.store(welcome.version, Ordering::Release);
            }
            let message = Box::new(message);
            report(events, Event::Message { id, message }).await;
        }
    }
}
