//! One connection: bytes to messages to the session, and its answers back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tollgate_collector_core::journal::group::Durable;
use tollgate_collector_core::receive::{Session, SessionError, share};
use tollgate_common::tls::ClientGate;
use tollgate_common::wire::{DecodeError, Decoder, EncodeError, Encoder, Message, RefuseCode};
use tollgate_common::{AgentId, Timestamp};

use super::close_code;
use super::shared::{CONNECTIONS_PER_AGENT_MAX, Place, Shared};
use crate::fold::AskError;
use crate::journal::{JournalStopped, Proofs};
use crate::metrics::{Metrics, Refused};
use crate::stop::stopped;
use crate::time::now;

/// Bytes taken from the stream at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Longest time from the first byte of a frame to its last. The largest frame takes as long
/// at 1.1 Mbit/s.
const FRAME_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest wait for the peer to take what we send.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the fold to say where an agent goes on.
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a session may wait for its last proofs when it ends.
const LAST_PROOFS: Duration = Duration::from_secs(3);
/// How long a peer may take to read a refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Acknowledgements are small; compressing them is not worth the time.
const COMPRESSION_LEVEL: i32 = 1;

/// Why a connection ended, other than by the peer's own wish.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no stream was opened in time")]
    NoStream,
    #[error("a frame took longer than {} s to arrive", FRAME_TIMEOUT.as_secs())]
    SlowFrame,
    #[error("the peer does not read")]
    SlowReader,
    #[error("the agent's certificate has expired")]
    Expired,
    #[error("the agent's certificate is not admitted any more: {0}")]
    Revoked(rustls::Error),
    #[error("malformed frame: {0}")]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("cannot encode an answer: {0}")]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Journal(#[from] JournalStopped),
    #[error("fold: {0}")]
    Fold(#[from] AskError),
    #[error("connection: {0}")]
    Connection(#[from] quinn::ConnectionError),
    #[error("stream: {0}")]
    Read(#[from] quinn::ReadError),
    #[error("stream: {0}")]
    Write(#[from] quinn::WriteError),
}

impl Ended {
    /// How the connection is closed.
    fn code(&self) -> VarInt {
        match self {
            Self::NoStream | Self::SlowFrame | Self::SlowReader => close_code::TIMEOUT,
            Self::Decode(_) => close_code::PROTOCOL,
            Self::Expired | Self::Revoked(_) => close_code::IDENTITY,
            Self::Journal(_) | Self::Fold(AskError::Stopping) => close_code::STOPPING,
            _ => close_code::REFUSED,
        }
    }
}

/// Whose connection it is.
pub(super) struct Peer {
    /// The agent that the certificate names.
    pub(super) agent: AgentId,
    /// Where it came from.
    pub(super) address: SocketAddr,
    /// When its certificate ends.
    pub(super) not_after: Timestamp,
    /// Its certificate, and intermediate ones.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// Serves a connection to its end.
pub(super) async fn drive(
    connection: Connection,
    number: u64,
    peer: Peer,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) {
    let Peer {
        agent,
        address: peer,
        not_after,
        chain,
    } = peer;
    let Some(_place) = Place::take(&shared, &agent) else {
        shared.metrics.refuse(Refused::Capacity);
        tracing::warn!(%peer, %agent, "connection refused: the agent has {CONNECTIONS_PER_AGENT_MAX} open");
        connection.close(close_code::REFUSED, b"too many connections of this agent");
        return;
    };
    tracing::info!(%peer, %agent, "agent connected");
    match session(
        &connection,
        number,
        (&agent, not_after, &chain),
        &shared,
        stop,
    )
    .await
    {
        Ok(()) => {
            tracing::info!(%peer, %agent, "agent disconnected");
            connection.close(close_code::STOPPING, b"");
        }
        Err(ended) => {
            count(&ended, &shared.metrics);
            // A peer that goes away is no fault; the rest is somebody's.
            match ended {
                Ended::Connection(_) | Ended::Read(_) | Ended::Write(_) => {
                    tracing::info!(%peer, %agent, reason = %ended, "agent disconnected");
                }
                _ => tracing::warn!(%peer, %agent, reason = %ended, "connection ended"),
            }
            let why = match ended {
                Ended::Expired => "the agent's certificate has expired",
                Ended::Revoked(_) => "the agent's certificate is not admitted any more",
                _ => "",
            };
            connection.close(ended.code(), why.as_bytes());
        }
    }
}

fn count(ended: &Ended, metrics: &Metrics) {
    match ended {
        Ended::NoStream | Ended::Session(SessionError::HelloTimeout(_)) => {
            metrics.refuse(Refused::Silent);
        }
        Ended::Session(
            SessionError::Identity { .. }
            | SessionError::UnknownAgent(_)
            | SessionError::Version(_),
        ) => {
            metrics.refuse(Refused::Policy);
        }
        Ended::Revoked(_) => metrics.refuse(Refused::Identity),
        Ended::Decode(_) | Ended::SlowFrame | Ended::Session(SessionError::Protocol(_)) => {
            metrics.decode_errors.inc();
        }
        _ => {}
    }
}

async fn session(
    connection: &Connection,
    number: u64,
    (agent, not_after, chain): (&AgentId, Timestamp, &[CertificateDer<'static>]),
    shared: &Shared,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Ended> {
    let hello =
        Duration::from_millis(u64::try_from(shared.config.hello_timeout_millis).unwrap_or(0));
    let (send, receive) = tokio::select! {
        streams = timeout(hello, connection.accept_bi()) => streams.map_err(|_| Ended::NoStream)??,
        () = stopped(&mut stop) => return Ok(()),
    };
    let (proofs, durable) = unbounded_channel();
    let mut driver = Driver {
        shared,
        session: Session::new(number, agent.clone(), shared.config, now()),
        decoder: Decoder::new(),
        encoder: Encoder::new(COMPRESSION_LEVEL),
        out: Vec::new(),
        send,
        proofs,
        durable,
        frame_since: None,
        not_after,
        chain,
        gate: shared.gate(),
    };
    let result = driver.serve(receive, &mut stop).await;
    // What is left to say: acknowledgements, and a refusal with its reason.
    if let Err(error) = &result {
        driver.explain(error);
    }
    let said = driver.flush().await;
    if driver.session.is_closed() && said.is_ok() {
        let _ = driver.send.finish();
        let _ = timeout(REFUSAL_TIMEOUT, driver.send.stopped()).await;
    } else if result.is_ok() && said.is_ok() {
        let _ = driver.send.finish();
        let _ = timeout(SEND_TIMEOUT.min(LAST_PROOFS), driver.send.stopped()).await;
    }
    result.and(said)
}

struct Driver<'a> {
    shared: &'a Shared,
    session: Session,
    decoder: Decoder,
    encoder: Encoder,
    /// Encoded and not sent; empty between two flushes.
    out: Vec<u8>,
    send: SendStream,
    proofs: Proofs,
    durable: UnboundedReceiver<Vec<Durable>>,
    /// When the first byte of the frame that is incomplete arrived.
    frame_since: Option<Instant>,
    /// When the agent's certificate ends, and with it the connection.
    not_after: Timestamp,
    /// Its certificate, which is looked at again with each gate.
    chain: &'a [CertificateDer<'static>],
    gate: watch::Receiver<ClientGate>,
}

impl Driver<'_> {
    /// Serves until the peer or the collector wants to end.
    async fn serve(
        &mut self,
        mut receive: RecvStream,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                proofs = self.durable.recv() => {
                    // We hold a sender, so that there always is one.
                    for proof in proofs.iter().flatten() {
                        self.session.handle_durable(proof);
                    }
                    self.regrade();
                    self.flush().await?;
                }
                chunk = receive.read_chunk(CHUNK_BYTES, true) => match chunk? {
                    Some(chunk) => self.take(&chunk.bytes).await?,
                    None => return self.last_proofs().await,
                },
                () = sleep_until(deadline) => self.check_deadlines()?,
                changed = self.gate.changed() => if changed.is_ok() {
                    self.check_gate()?;
                },
                () = stopped(stop) => {
                    // What was journaled is acknowledged; then the agent is told to come back.
                    self.last_proofs().await?;
                    self.session.refuse(RefuseCode::ShuttingDown, "the collector is stopping".to_owned());
                    return Ok(());
                }
            }
            if self.session.is_closed() {
                return Ok(());
            }
        }
    }

    /// Takes bytes as they arrived: decodes what is complete, journals what is to be, sends
    /// what is due.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.shared
            .metrics
            .received_bytes
            .inc_by(bytes.len() as u64);
        self.decoder.push(bytes);
        loop {
            let before = self.decoder.buffered();
            let Some(message) = self.decoder.next()? else {
                break;
            };
            self.frame_since = None;
            let frame_bytes = before - self.decoder.buffered();
            if let Message::Batch(batch) = &message {
                self.shared.metrics.batches.inc();
                self.shared.metrics.rollups.inc_by(batch.rows.len() as u64);
            }
            let session = &mut self.session;
            self.shared
                .with_desk(|desk| session.handle_message(now(), message, frame_bytes, desk))?;
            self.ask_progress().await?;
        }
        if self.decoder.buffered() > 0 {
            self.frame_since.get_or_insert_with(Instant::now);
        } else {
            self.frame_since = None;
        }
        self.regrade();
        self.journal().await?;
        self.flush().await
    }

    /// Tells the session its share of what there is at present.
    fn regrade(&mut self) {
        let offer = self.shared.offer(self.session.id());
        self.session.handle_offer(now(), offer);
    }

    /// Asks the fold where the agent goes on, if the session wants to know.
    async fn ask_progress(&mut self) -> Result<(), Ended> {
        let Some(query) = self.session.poll_query() else {
            return Ok(());
        };
        self.regrade();
        let committed = self.shared.journal.committed();
        let fold = &self.shared.fold;
        let answer = async {
            fold.reached(committed).await?;
            fold.progress(query).await
        };
        let progress = timeout(PROGRESS_TIMEOUT, answer)
            .await
            .unwrap_or(Err(AskError::Busy))?;
        let session = &mut self.session;
        self.shared
            .with_desk(|desk| session.handle_progress(now(), progress, desk))?;
        if let Some(offset) = self.session.clock_offset_millis() {
            self.shared
                .metrics
                .clocks
                .note(self.session.identity(), offset);
        }
        Ok(())
    }

    async fn journal(&mut self) -> Result<(), Ended> {
        // One quota after the other, so that other sessions have their turn in between.
        for quota in share::quotas(self.session.take_pending()) {
            let append = self.shared.journal.append(quota, self.proofs.clone());
            append.await?;
        }
        Ok(())
    }

    /// Sends what the session has to say.
    async fn flush(&mut self) -> Result<(), Ended> {
        while let Some(message) = self.session.poll_transmit() {
            if matches!(message, Message::Ack(_)) {
                self.shared.metrics.acknowledgements.inc();
            }
            self.encoder.encode(&message, &mut self.out)?;
        }
        if !self.out.is_empty() {
            timeout(SEND_TIMEOUT, self.send.write_all(&self.out))
                .await
                .map_err(|_| Ended::SlowReader)??;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits a little for what was journaled to become durable, and acknowledges it.
    async fn last_proofs(&mut self) -> Result<(), Ended> {
        let until = Instant::now() + LAST_PROOFS;
        while self.session.batches_in_flight() > 0 {
            let Ok(Some(proofs)) = tokio::time::timeout_at(until, self.durable.recv()).await else {
                break;
            };
            for proof in &proofs {
                self.session.handle_durable(proof);
            }
        }
        self.flush().await
    }

    fn deadline(&self) -> Instant {
        let far = Duration::from_hours(1);
        let hello = self.session.poll_timeout().map_or(far, |at| {
            // A millisecond more, so that the clock stands past it on waking.
            Duration::from_millis(u64::try_from(at.millis_since(now())).unwrap_or(0) + 1)
        });
        let frame = self
            .frame_since
            .map_or(far, |since| FRAME_TIMEOUT.saturating_sub(since.elapsed()));
        let millis = self.not_after.millis_since(now());
        let expiry = Duration::from_millis(u64::try_from(millis).unwrap_or(0) + 1);
        Instant::now() + hello.min(frame).min(expiry)
    }

    fn check_deadlines(&mut self) -> Result<(), Ended> {
        self.session.handle_timeout(now())?;
        if self.not_after <= now() {
            return Err(Ended::Expired);
        }
        if self
            .frame_since
            .is_some_and(|since| since.elapsed() >= FRAME_TIMEOUT)
        {
            return Err(Ended::SlowFrame);
        }
        Ok(())
    }

    /// Looks again whether the agent may be here.
    fn check_gate(&mut self) -> Result<(), Ended> {
        let admitted = self.gate.borrow_and_update().admits(self.chain, now());
        admitted.map_err(Ended::Revoked)?;
        let shared = self.shared;
        if !shared.policy().knows(self.session.identity()) {
            let error = SessionError::UnknownAgent(self.session.identity().clone());
            self.session.refuse(error.code(), error.to_string());
            return Err(error.into());
        }
        Ok(())
    }

    /// Tells the agent why its connection ends, where the session has not done so itself.
    fn explain(&mut self, error: &Ended) {
        let code = match error {
            Ended::Decode(_) | Ended::SlowFrame | Ended::NoStream => RefuseCode::Protocol,
            Ended::Fold(AskError::Busy) => RefuseCode::Overloaded,
            Ended::Journal(_) | Ended::Encode(_) | Ended::Fold(AskError::Stopping) => {
                RefuseCode::Internal
            }
            // The session has spoken, or nobody listens.
            Ended::Session(_)
            // No refusal: the agent may have a new certificate already, and comes back soon.
            | Ended::Expired
            | Ended::Revoked(_)
            | Ended::SlowReader
            | Ended::Connection(_)
            | Ended::Read(_)
            | Ended::Write(_) => return,
        };
        self.session.refuse(code, error.to_string());
    }
}
