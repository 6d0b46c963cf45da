//! The connection to the collector: one QUIC stream each way, frames in, frames out.
//!
//! Nothing is decided here. The engine says when to connect, what to send and when to close;
//! this shell dials, encodes and decodes, keeps the bandwidth below its cap, and carries the
//! connection from one socket to the next where the path changes.

mod dial;
mod halves;
mod watcher;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, IdleTimeout, TransportConfig, VarInt};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tollgate_agent_core::config::{self, Collector};
use tollgate_common::AgentId;
use tollgate_common::limits::FRAME_BYTES_MAX;
use tollgate_common::tls::{self, Credentials};
use tollgate_common::wire::VERSION_MIN;
use tracing::{debug, info, warn};

use halves::{Pace, Writer, read};

use crate::clock;
use crate::engine::{ConnectionId, Event, Order};
use crate::output::chain;

/// How long a connection attempt may take, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(9);
/// A connection without a sign of life for this long is over. A collector that was killed is
/// noticed by this alone; connecting again is cheap. Before, the agent has tried two other
/// sockets.
const IDLE_TIMEOUT_MS: u32 = 8_000;
/// A sign of life in quiet times.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// First guess of the round trip: the first packet is repeated after three times that, so a
/// collector that is just starting is found soon.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// The collector sends acknowledgements and little else.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// What may be on its way to the collector.
const SEND_WINDOW: u64 = 8 << 20;
/// Most memory of a connection beside the rows on their way: what QUIC may hold in both
/// directions, the largest frame while it is made, and a probe of another endpoint beside it.
pub(crate) const MEMORY_MAX: u64 =
    2 * (SEND_WINDOW + RECEIVE_WINDOW as u64) + 2 * FRAME_BYTES_MAX as u64;
/// How long to wait when the engine is busy and its queue full.
const BACK_PRESSURE: Duration = Duration::from_millis(5);
/// How long a closed connection may take to say so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A certificate that ends within this is worth a warning at every connection.
const EXPIRY_WARNING_SECS: i64 = 7 * 86_400;

/// Who connects, and to whom.
pub(crate) struct Target {
    agent: AgentId,
    collector: Arc<Collector>,
}

/// Why the certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or is not what it should be.
    #[error(transparent)]
    Files(#[from] tls::TlsError),
    /// The certificate is not that of an agent.
    #[error("{}: {source} (make one with `tollgate-collector pki issue --agent NAME`)", path.display())]
    NoAgent {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: tls::IdentityError,
    },
    /// The certificate belongs to another agent.
    #[error("certificate {} is for agent `{found}`, but the configuration says agent = \"{expected}\"", path.display())]
    OtherAgent {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: AgentId,
        /// Whose it should be.
        expected: AgentId,
    },
    /// QUIC does not take the TLS settings.
    #[error("TLS settings do not suit QUIC: {0}")]
    Quic(String),
}

/// Reads the certificates and checks that they are this agent's.
pub(crate) fn client_config(
    agent: &AgentId,
    collector: &Collector,
) -> Result<ClientConfig, IdentityError> {
    let credentials = Credentials::read(&collector.ca, &collector.certificate, &collector.key)?;
    let certificates = credentials.certificate.certificates()?;
    let own = certificates.first().map_or(&[][..], AsRef::as_ref);
    let found = tls::agent_identity(own).map_err(|source| IdentityError::NoAgent {
        path: collector.certificate.clone(),
        source,
    })?;
    if found != *agent {
        return Err(IdentityError::OtherAgent {
            path: collector.certificate.clone(),
            found,
            expected: agent.clone(),
        });
    }
    let crypto = QuicClientConfig::try_from(tls::client_config(&credentials)?)
        .map_err(|error| IdentityError::Quic(error.to_string()))?;
    let mut client = ClientConfig::new(Arc::new(crypto));
    client.transport_config(Arc::new(transport()));
    Ok(client)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        // The agent opens the one stream; a collector opens none.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

/// The connection that stands, for those who want to look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link(Arc<Mutex<Option<(String, quinn::Connection)>>>);

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LinkStatus {
    /// As configured.
    pub(crate) endpoint: String,
    /// The address that answered.
    pub(crate) address: SocketAddr,
    /// The present estimate of the round trip, in microseconds.
    pub(crate) rtt_micros: u64,
    /// Bytes sent in UDP datagrams over this connection.
    pub(crate) sent_bytes: u64,
    /// Packets that were lost on the way, and sent again.
    pub(crate) lost_packets: u64,
}

impl Link {
    fn set(&self, link: Option<(String, quinn::Connection)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// `None` while there is no connection.
    pub(crate) fn status(&self) -> Option<LinkStatus> {
        let link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoint, connection) = link.as_ref()?;
        let stats = connection.stats();
        Some(LinkStatus {
            endpoint: endpoint.clone(),
            address: connection.remote_address(),
            rtt_micros: u64::try_from(connection.rtt().as_micros()).unwrap_or(u64::MAX),
            sent_bytes: stats.udp_tx.bytes,
            lost_packets: stats.path.lost_packets,
        })
    }
}

/// Carries out orders until the engine drops its end. A new value in `collector` ends the
/// connection that stands once nothing is on its way, so that the next one is made with it.
pub(crate) async fn ship(
    agent: AgentId,
    collector: watch::Receiver<Arc<Collector>>,
    link: Link,
    mut orders: mpsc::Receiver<Order>,
    mut close: watch::Receiver<ConnectionId>,
    events: Sender<Event>,
) {
    let _changes = Aborted(tokio::spawn(tell_changes(
        collector.clone(),
        events.clone(),
    )));
    while let Some(order) = orders.recv().await {
        // Messages for connections that are over are stale.
        let Order::Connect { id, endpoint } = order else {
            continue;
        };
        let target = Arc::new(Target {
            agent: agent.clone(),
            collector: Arc::clone(&collector.borrow()),
        });
        let Some(endpoint) = target.collector.endpoints.get(endpoint) else {
            // The configuration has changed since; the engine is told of that, too.
            let reason = "no such endpoint any more".to_owned();
            report(&events, Event::Disconnected { id, reason }).await;
            continue;
        };
        let session = Session {
            id,
            target: &target,
            endpoint,
            link: &link,
            events: &events,
        };
        let ended = session.run(&mut orders, &mut close).await;
        link.set(None);
        let reason = match ended {
            Ok(()) => "closed by the agent".to_owned(),
            Err(reason) => reason,
        };
        info!(%endpoint, reason, "not connected");
        report(&events, Event::Disconnected { id, reason }).await;
    }
}

/// A task that ends when this is dropped.
struct Aborted(tokio::task::JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells the engine of every other configuration.
async fn tell_changes(mut collector: watch::Receiver<Arc<Collector>>, events: Sender<Event>) {
    collector.mark_unchanged();
    while collector.changed().await.is_ok() {
        let config = Box::new(collector.borrow_and_update().ship_config());
        report(&events, Event::Reconfigured(config)).await;
    }
}

/// Hands an event to the engine, waiting while its queue is full.
async fn report(events: &Sender<Event>, event: Event) {
    let mut event = event;
    loop {
        match events.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return,
            Err(TrySendError::Full(back)) => {
                event = back;
                tokio::time::sleep(BACK_PRESSURE).await;
            }
        }
    }
}

/// One connection from its attempt to its end.
struct Session<'a> {
    id: ConnectionId,
    target: &'a Arc<Target>,
    endpoint: &'a config::Endpoint,
    link: &'a Link,
    events: &'a Sender<Event>,
}

impl Session<'_> {
    /// Ends without an error if the engine wants it closed.
    async fn run(
        &self,
        orders: &mut mpsc::Receiver<Order>,
        close: &mut watch::Receiver<ConnectionId>,
    ) -> Result<(), String> {
        let id = self.id;
        let closed = async {
            // The engine's end being gone is a wish to close as well.
            let _ = close.wait_for(|closed| *closed >= id).await;
        };
        tokio::pin!(closed);
        // Read for every attempt, so that renewed certificates need no restart.
        let Target { agent, collector } = &**self.target;
        let client = client_config(agent, collector).map_err(|e| chain(&e))?;
        warn_of_expiry(collector);
        let name = collector.server_name_of(self.endpoint);
        let dialling = dial::dial(client, self.endpoint, name);
        let dialling = tokio::time::timeout(CONNECT_TIMEOUT, dialling);
        let (local, connection) = tokio::select! {
            () = &mut closed => return Ok(()),
            dialled = dialling => dialled
                .map_err(|_| format!("no answer within {CONNECT_TIMEOUT:?}"))??,
        };
        self.link
            .set(Some((self.endpoint.to_string(), connection.clone())));
        let result = tokio::select! {
            () = &mut closed => Ok(()),
            result = self.talk(&local, &connection, orders) => result,
        };
        // What the peer said when it closed tells more than the broken stream.
        let result = match (result, connection.close_reason()) {
            (Err(_), Some(reason)) => Err(reason.to_string()),
            (result, _) => result,
        };
        connection.close(VarInt::from_u32(0), b"");
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, local.wait_idle()).await;
        result
    }

    async fn talk(
        &self,
        local: &quinn::Endpoint,
        connection: &quinn::Connection,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), String> {
        let (send, receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
        debug!(endpoint = %self.endpoint, "connected, waiting for the collector's welcome");
        report(self.events, Event::Connected { id: self.id }).await;
        let written = Arc::new(AtomicU64::new(0));
        let watch = watcher::Watch {
            id: self.id,
            target: self.target,
            local,
            connection,
            written: &written,
            events: self.events,
        };
        let version = AtomicU8::new(VERSION_MIN);
        let writer = Writer {
            id: self.id,
            target: self.target,
            stream: send,
            version: &version,
            pace: Pace::new(self.target.collector.bandwidth_max),
            written: &written,
            events: self.events,
        };
        tokio::select! {
            result = writer.run(orders) => result,
            result = read(self.id, receive, &version, self.events) => result,
            () = watch.run() => Err("the watch over the connection ended".to_owned()),
        }
    }
}

/// Warns of a certificate that ends soon; what is wrong with it is said elsewhere.
fn warn_of_expiry(collector: &Collector) {
    let info = tls::Pem::read(&collector.certificate).and_then(|pem| pem.certificate_info());
    let Ok(info) = info else { return };
    let left = info.expires_in_secs(clock::wall());
    if left < EXPIRY_WARNING_SECS {
        warn!(
            file = %collector.certificate.display(),
            not_after = %info.not_after,
            "the agent's certificate {}",
            if left < 0 { "has expired" } else { "expires soon" }
        );
    }
}

/// Looks whether another endpoint answers: makes a connection and closes it again.
async fn probe(target: &Target, id: ConnectionId, endpoint: usize, events: &Sender<Event>) {
    let result = try_probe(target, endpoint).await;
    report(events, Event::Probed { id, result }).await;
}

async fn try_probe(target: &Target, endpoint: usize) -> Result<(), String> {
    let endpoint = target.collector.endpoints.get(endpoint);
    let endpoint = endpoint.ok_or("no such endpoint")?;
    let client = client_config(&target.agent, &target.collector).map_err(|e| chain(&e))?;
    let name = target.collector.server_name_of(endpoint);
    let dialling = dial::dial(client, endpoint, name);
    let (local, connection) = tokio::time::timeout(CONNECT_TIMEOUT, dialling)
        .await
        .map_err(|_| format!("no answer within {CONNECT_TIMEOUT:?}"))??;
    connection.close(VarInt::from_u32(0), b"only looking");
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, local.wait_idle()).await;
    Ok(())
}
