//! `receive`: rollups per second from QUIC to the durable acknowledgement.
//!
//! The collector is the real binary; the client speaks the wire protocol and keeps as many
//! batches in flight as the collector allows. What counts is acknowledged, so synced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use tollgate_common::tls;
use tollgate_common::wire::{Decoder, Encoder, Hello, Message, VERSION};
use tollgate_common::{AgentId, Batch, BatchSeq};

use crate::binaries;
use crate::process::usage;
use crate::report::{Case, Report};
use crate::setup;
use crate::workload::Workload;

const ROWS: usize = 10_000;
const BATCHES: usize = 300;

/// Runs the collector and sends it three million rollups.
pub(crate) fn run() -> Result<Report> {
    let binaries = binaries::build()?;
    let folder = tempfile::tempdir()?;
    let (listen, http) = (setup::free_port()?, setup::free_port()?);
    setup::make_pki(&binaries, folder.path())?;
    setup::write_collector_config(folder.path(), listen, http)?;
    let collector = setup::start_collector(&binaries, folder.path(), http)?;

    let mut workload = Workload::new(ROWS, 2);
    let batches: Vec<Batch> = (0..BATCHES).map(|_| renamed(workload.batch())).collect();
    // The hash chain covers the agent's name, so the chain is made again after the renaming.
    let batches = rechained(batches);
    let rollups: usize = batches.iter().map(|batch| batch.rows.len()).sum();

    let pki = folder.path().join("pki");
    let (certificate, key) = (
        format!("{}.pem", setup::AGENT),
        format!("{}.key", setup::AGENT),
    );
    let credentials =
        tls::Credentials::read(&pki.join("ca.pem"), &pki.join(certificate), &pki.join(key))?;
    let tls = tls::client_config(&credentials)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let before = usage(collector.pid())?.cpu;
    let outcome = runtime.block_on(send(listen, tls, batches))?;
    let after = usage(collector.pid())?;
    #[expect(clippy::cast_precision_loss, reason = "a few million rollups")]
    let rate = rollups as f64 / outcome.time.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a run")]
    let millis = |quantile| outcome.latency.value_at_quantile(quantile) as f64 / 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
    let resident = after.resident_bytes as f64 / f64::from(1 << 20);
    #[expect(clippy::cast_precision_loss, reason = "a few million rollups")]
    let cpu = after.cpu.saturating_sub(before).as_secs_f64() * 1e6 / rollups as f64;
    Ok(Report {
        bench: "receive",
        cases: vec![
            Case::new(
                "rollups/s, QUIC to durable acknowledgement",
                rate,
                "rollups/s",
            ),
            Case::new(
                "acknowledgement of a batch of 10,000, p50",
                millis(0.5),
                "ms",
            ),
            Case::new(
                "acknowledgement of a batch of 10,000, p99",
                millis(0.99),
                "ms",
            ),
            Case::new("collector CPU for a million rollups", cpu, "s"),
            Case::new("collector resident after the run", resident, "MiB"),
        ],
    })
}

fn renamed(mut batch: Batch) -> Batch {
    batch.agent = AgentId::new(setup::AGENT).expect("the constant is a valid name");
    batch
}

fn rechained(mut batches: Vec<Batch>) -> Vec<Batch> {
    for index in 1..batches.len() {
        batches[index].parent_hash = batches[index - 1].hash();
    }
    batches
}

struct Outcome {
    time: Duration,
    latency: Histogram<u64>,
}

async fn send(
    to: std::net::SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    batches: Vec<Batch>,
) -> Result<Outcome> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let connection = endpoint.connect(to, "localhost")?.await?;
    let (mut sender, mut receiver) = connection.open_bi().await?;
    let (mut encoder, mut decoder) = (Encoder::new(1), Decoder::new());
    let mut frame = Vec::new();
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        agent: AgentId::new(setup::AGENT)?,
        now: batches[0].span.to,
        held: Vec::new(),
    };
    encoder.encode(&Message::Hello(hello), &mut frame)?;
    sender.write_all(&frame).await?;
    let mut buffer = vec![0; 1 << 16];
    let Message::Welcome(welcome) = next(&mut receiver, &mut decoder, &mut buffer).await? else {
        bail!("the collector did not answer with a welcome");
    };
    let window = usize::try_from(welcome.window_batches)?.max(1);
    let mut latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
    let begin = Instant::now();
    let mut flying: VecDeque<(BatchSeq, Instant)> = VecDeque::new();
    let mut waiting = batches.into_iter().peekable();
    while waiting.peek().is_some() || !flying.is_empty() {
        while flying.len() < window {
            let Some(batch) = waiting.next() else { break };
            flying.push_back((batch.sequence, Instant::now()));
            frame.clear();
            encoder.encode(&Message::Batch(batch), &mut frame)?;
            sender.write_all(&frame).await?;
        }
        match next(&mut receiver, &mut decoder, &mut buffer).await? {
            Message::Ack(ack) => {
                while flying
                    .front()
                    .is_some_and(|(sequence, _)| sequence.get() <= ack.durable)
                {
                    if let Some((_, sent)) = flying.pop_front() {
                        latency.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
                    }
                }
            }
            other => bail!("unexpected answer {other:?}"),
        }
    }
    let time = begin.elapsed();
    connection.close(0u8.into(), b"done");
    endpoint.wait_idle().await;
    Ok(Outcome { time, latency })
}

async fn next(
    receiver: &mut quinn::RecvStream,
    decoder: &mut Decoder,
    buffer: &mut [u8],
) -> Result<Message> {
    loop {
        if let Some(message) = decoder.next()? {
            if let Message::Refuse(refuse) = message {
                bail!("the collector refused: {}", refuse.reason);
            }
            return Ok(message);
        }
        match receiver.read(buffer).await? {
            Some(length) => decoder.push(&buffer[..length]),
            None => bail!("the collector closed the stream"),
        }
    }
}
