//! The connection to the collector: one QUIC stream each way, frames in, frames out.
//!
//! Nothing is decided here. The engine says when to connect, what to send and when to close;
//! this shell dials, encodes and decodes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig, VarInt};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tollgate_agent_core::config::{self, Collector};
use tollgate_common::AgentId;
use tollgate_common::tls::{self, Credentials};
use tollgate_common::wire::{Decoder, Encoder};
use tracing::{debug, info};

use crate::engine::{ConnectionId, Event, Order};
use crate::output::chain;

/// How long one address may take to answer; a name may have several, and not all may work.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection attempt may take, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(9);
/// A connection without a sign of life for this long is over. A collector that was killed is
/// noticed by this alone; connecting again is cheap.
const IDLE_TIMEOUT_MS: u32 = 6_000;
/// A sign of life in quiet times.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// First guess of the round trip: the first packet is repeated after three times that, so a
/// collector that is just starting is found soon.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// The collector sends acknowledgements and little else.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// What may be on its way to the collector.
const SEND_WINDOW: u64 = 8 << 20;
/// Frames that are ready are written together up to about this size.
const WRITE_BYTES: usize = 256 << 10;
/// zstd: level 1 to 3 are the useful ones for small batches.
const COMPRESSION_LEVEL: i32 = 3;
/// How long to wait when the engine is busy and its queue full.
const BACK_PRESSURE: Duration = Duration::from_millis(5);
/// How long a closed connection may take to say so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

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
/// connection that stands, so that the next one is made with it.
pub(crate) async fn ship(
    agent: AgentId,
    collector: watch::Receiver<Arc<Collector>>,
    link: Link,
    mut orders: mpsc::Receiver<Order>,
    mut close: watch::Receiver<ConnectionId>,
    events: Sender<Event>,
) {
    while let Some(order) = orders.recv().await {
        // Messages for connections that are over are stale.
        let Order::Connect { id, attempt } = order else {
            continue;
        };
        let mut renewed = collector.clone();
        let collector = Arc::clone(&renewed.borrow_and_update());
        let index = usize::try_from(attempt).unwrap_or(0) % collector.endpoints.len().max(1);
        let Some(endpoint) = collector.endpoints.get(index) else {
            continue;
        };
        let session = Session {
            id,
            agent: &agent,
            collector: &collector,
            endpoint,
            link: &link,
            events: &events,
        };
        let ended = session.run(&mut orders, &mut close, &mut renewed).await;
        link.set(None);
        let reason = match ended {
            Ok(()) => "closed by the agent".to_owned(),
            Err(reason) => reason,
        };
        info!(%endpoint, reason, "not connected");
        report(&events, Event::Disconnected { id, reason }).await;
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
    agent: &'a AgentId,
    collector: &'a Collector,
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
        renewed: &mut watch::Receiver<Arc<Collector>>,
    ) -> Result<(), String> {
        let id = self.id;
        let closed = async {
            tokio::select! {
                // The engine's end being gone is a wish to close as well.
                _ = close.wait_for(|closed| *closed >= id) => {}
                // A sender that is gone renews nothing.
                Ok(()) = renewed.changed() => {}
            }
        };
        tokio::pin!(closed);
        // Read for every attempt, so that renewed certificates need no restart.
        let client = client_config(self.agent, self.collector).map_err(|e| chain(&e))?;
        let name = self.collector.server_name.as_deref();
        let name = name.unwrap_or(self.endpoint.host());
        let dialling = tokio::time::timeout(CONNECT_TIMEOUT, dial(client, self.endpoint, name));
        let (local, connection) = tokio::select! {
            () = &mut closed => return Ok(()),
            dialled = dialling => dialled
                .map_err(|_| format!("no answer within {CONNECT_TIMEOUT:?}"))??,
        };
        self.link
            .set(Some((self.endpoint.to_string(), connection.clone())));
        let result = tokio::select! {
            () = &mut closed => Ok(()),
            result = self.talk(&connection, orders) => result,
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
        connection: &quinn::Connection,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), String> {
        let (send, receive) = connection.open_bi().await.map_err(|e| e.to_string())?;
        debug!(endpoint = %self.endpoint, "connected, waiting for the collector's welcome");
        report(self.events, Event::Connected { id: self.id }).await;
        tokio::select! {
            result = write(self.id, send, orders, self.events) => result,
            result = read(self.id, receive, self.events) => result,
        }
    }
}

async fn dial(
    client: ClientConfig,
    endpoint: &config::Endpoint,
    name: &str,
) -> Result<(Endpoint, quinn::Connection), String> {
    let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(|error| format!("cannot resolve {}: {error}", endpoint.host()))?;
    let mut reason = format!("{} has no address", endpoint.host());
    for address in addresses {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // A socket of its own for every attempt: routes and addresses may have changed.
        let local = Endpoint::client(any).map_err(|error| error.to_string())?;
        let connecting = local
            .connect_with(client.clone(), address, name)
            .map_err(|error| format!("cannot dial {address} as {name}: {error}"))?;
        reason = match tokio::time::timeout(ADDRESS_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => return Ok((local, connection)),
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address} does not answer"),
        };
        debug!(reason, "cannot connect");
    }
    Err(reason)
}

async fn write(
    id: ConnectionId,
    mut stream: SendStream,
    orders: &mut mpsc::Receiver<Order>,
    events: &Sender<Event>,
) -> Result<(), String> {
    let mut encoder = Encoder::new(COMPRESSION_LEVEL);
    let mut buffer = Vec::new();
    loop {
        let Some(mut order) = orders.recv().await else {
            return Ok(());
        };
        loop {
            match order {
                Order::Send { id: of, message } if of == id => encoder
                    .encode(&message, &mut buffer)
                    .map_err(|error| format!("cannot encode: {error}"))?,
                Order::Send { .. } | Order::Connect { .. } => {}
            }
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
            let _ = events.try_send(Event::Writable);
        }
        stream.write_all(&buffer).await.map_err(|e| e.to_string())?;
        buffer.clear();
        buffer.shrink_to(2 * WRITE_BYTES);
    }
}

async fn read(
    id: ConnectionId,
    mut stream: RecvStream,
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
            let message = Box::new(message);
            report(events, Event::Message { id, message }).await;
        }
    }
}
