//! Receive: the QUIC listener.
//!
//! Everything that a peer can make the collector hold is bounded: connections, handshakes
//! under way, streams (one per connection), bytes in flight, the size of a frame, and the
//! time that each of these may take. What goes wrong on one connection ends that connection,
//! is logged with the peer and counted, and disturbs nobody else.

mod connection;
mod shared;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, Incoming, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tollgate_collector_core::receive::share::Admission;
use tollgate_common::{AgentId, Timestamp, tls};

use connection::Peer;
pub use shared::Shared;

use crate::metrics::Refused;
use crate::stop::stopped;

/// Handshakes at a time beyond which a peer has to show that its address is its own.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Connections that are let in for each second, on average and after a quiet time. A
/// handshake costs about a millisecond of a core; a whole fleet that comes back should not
/// keep those waiting who are in.
const ADMITTED_PER_SECOND: u64 = 200;
const ADMITTED_AT_ONCE: u64 = 100;
/// Attempts that wait for their turn; more are ignored.
const INCOMING_MAX: usize = 1024;
/// Longest handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing arrives for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes that one connection may have in flight towards us.
const RECEIVE_WINDOW: u32 = 8 << 20;
/// The same for its only stream.
const STREAM_RECEIVE_WINDOW: u32 = 4 << 20;
/// Bytes of ours that may wait for a peer; acknowledgements are small.
const SEND_WINDOW: u64 = 1 << 20;
/// How long connections get to take their last acknowledgements at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Codes with which a connection is closed, for the peer's log.
pub mod close_code {
    use quinn::VarInt;

    /// The collector is stopping.
    pub const STOPPING: VarInt = VarInt::from_u32(1);
    /// The certificate names no agent.
    pub const IDENTITY: VarInt = VarInt::from_u32(2);
    /// Something did not arrive in time.
    pub const TIMEOUT: VarInt = VarInt::from_u32(3);
    /// A frame was malformed or broke the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(4);
    /// The refusal before says why.
    pub const REFUSED: VarInt = VarInt::from_u32(5);
}

/// Why the listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The TLS configuration cannot serve QUIC.
    #[error("TLS: {0}")]
    Tls(String),
    /// The address cannot be bound.
    #[error("cannot listen on {address} (UDP): {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Binds the address. Must be called within a tokio runtime.
pub fn bind(address: SocketAddr, tls: Arc<rustls::ServerConfig>) -> Result<Endpoint, ListenError> {
    Endpoint::server(server_config(tls)?, address)
        .map_err(|source| ListenError::Bind { address, source })
}

/// The listener's configuration with these certificates.
pub fn server_config(tls: Arc<rustls::ServerConfig>) -> Result<ServerConfig, ListenError> {
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| ListenError::Tls(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    config.max_incoming(INCOMING_MAX);
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(
            IDLE_TIMEOUT
                .try_into()
                .expect("a minute fits a QUIC timeout"),
        ));
    transport
}

/// Serves at most `connections_max` connections at a time, handshakes included, until `stop` turns
/// true; then gives those that are open a moment to take the acknowledgements of what they sent.
pub async fn serve(
    endpoint: Endpoint,
    shared: Arc<Shared>,
    connections_max: u32,
    mut stop: watch::Receiver<bool>,
) {
    let permits = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
    let permits = Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_UNPROVEN_MAX));
    let began = Instant::now();
    let mut admission = Admission::new(ADMITTED_PER_SECOND, ADMITTED_AT_ONCE, 0);
    let numbers = AtomicU64::new(0);
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        let Some(incoming) = incoming else { break };
        let peer = incoming.remote_address();
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            shared.metrics.refuse(Refused::Capacity);
            tracing::warn!(%peer, "connection refused: {connections_max} are open (receive.connections_max)");
            incoming.refuse();
            continue;
        };
        let handshake = Arc::clone(&handshakes).try_acquire_owned().ok();
        if handshake.is_none() && !incoming.remote_address_validated() {
            // Sends a token to the address; who spoofed it never sees that.
            if incoming.retry().is_err() {
                shared.metrics.refuse(Refused::Capacity);
            }
            continue;
        }
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        if !admission.admit(millis) {
            // The peer repeats its first packet, less and less often: a queue that costs nothing.
            shared.metrics.refuse(Refused::Pace);
            incoming.ignore();
            continue;
        }
        // Session 0 is nobody.
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            if let Some((connection, peer)) = handshake_of(incoming, peer, &shared).await {
                drop(handshake);
                connection::drive(connection, number, peer, shared, stop).await;
            }
        });
    }
    endpoint.set_server_config(None);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tracing::warn!("some connections did not take their last acknowledgements in time");
    }
    endpoint.close(close_code::STOPPING, b"the collector is stopping");
    // Without this the close frames may never leave.
    let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
}

/// Completes the handshake and reads the agent's name from its certificate.
async fn handshake_of(
    incoming: Incoming,
    peer: SocketAddr,
    shared: &Shared,
) -> Option<(quinn::Connection, Peer)> {
    let refuse = |reason: Refused, error: &dyn std::fmt::Display| {
        shared.metrics.refuse(reason);
        tracing::warn!(%peer, reason = reason.as_str(), %error, "connection refused");
    };
    let attempt = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(HANDSHAKE_TIMEOUT, attempt).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            refuse(Refused::Handshake, &error);
            return None;
        }
        Err(_) => {
            refuse(Refused::Handshake, &"the handshake took too long");
            return None;
        }
    };
    match identity(&connection) {
        Ok((agent, not_after, chain)) => {
            let peer = Peer {
                agent,
                address: peer,
                not_after,
                chain,
            };
            Some((connection, peer))
        }
        Err(error) => {
            refuse(Refused::Identity, &error);
            connection.close(close_code::IDENTITY, b"the certificate names no agent");
            None
        }
    }
}

/// The agent that the peer's certificate names, when that ends, and the whole chain.
fn identity(
    connection: &quinn::Connection,
) -> Result<(AgentId, Timestamp, Vec<CertificateDer<'static>>), String> {
    let certificates = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or("the peer has no certificate")?;
    let leaf = certificates.first().ok_or("the peer has no certificate")?;
    let agent = tls::agent_identity(leaf).map_err(|error| error.to_string())?;
    let info = tls::CertificateInfo::of(leaf).map_err(|error| error.to_string())?;
    Ok((agent, info.not_after, *certificates))
}
