//! Dialling: from the name of an endpoint to a QUIC connection.
//!
//! The name is resolved again for every attempt. All of its addresses are tried, IPv6 and
//! IPv4 in turn, each a moment after the one before it unless that one has failed already; the
//! first that answers is taken (after RFC 8305, "Happy Eyeballs").

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint};
use tokio::task::JoinSet;
use tollgate_agent_core::config;
use tracing::debug;

/// How long one address may take to answer; a name may have several, and not all may work.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// The next address is tried when the one before has not answered for this long.
const STAGGER: Duration = Duration::from_millis(300);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// Who knows the addresses of a name.
trait Resolver {
    /// The addresses as of now, the preferred one first.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The host's own: its files, DNS, and what else it is told to ask.
struct System;

impl Resolver for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.take(ADDRESSES_MAX).collect())
    }
}

/// Any local address of the family of `remote`.
pub(super) fn any_for(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Connects to an endpoint.
pub(super) async fn dial(
    client: ClientConfig,
    endpoint: &config::Endpoint,
    name: &str,
) -> Result<(Endpoint, Connection), String> {
    dial_at(&System, client, (endpoint.host(), endpoint.port()), name).await
}

async fn dial_at(
    resolver: &impl Resolver,
    client: ClientConfig,
    (host, port): (&str, u16),
    name: &str,
) -> Result<(Endpoint, Connection), String> {
    let found = resolver
        .resolve(host, port)
        .await
        .map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut waiting = alternate(found.into_iter().take(ADDRESSES_MAX).collect());
    let mut attempts = JoinSet::new();
    let mut reason = format!("{host} has no address");
    loop {
        if let Some(address) = waiting.pop_front() {
            let (client, name) = (client.clone(), name.to_owned());
            attempts.spawn(async move { attempt(client, address, &name).await });
        }
        let next = tokio::select! {
            next = attempts.join_next() => next,
            () = tokio::time::sleep(STAGGER), if !waiting.is_empty() => continue,
        };
        match next {
            // Those that are still under way are aborted, and their sockets closed.
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => {
                debug!(error, "cannot connect");
                reason = error;
            }
            Some(Err(error)) => reason = error.to_string(),
            None => return Err(reason),
        }
    }
}

/// Brings the families into turn, beginning with the one that the resolver prefers.
fn alternate(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv6);
    let (mut preferred, mut others): (VecDeque<_>, VecDeque<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv6()) == first);
    let mut turns = VecDeque::new();
    while !preferred.is_empty() || !others.is_empty() {
        turns.extend(preferred.pop_front());
        turns.extend(others.pop_front());
    }
    turns
}

async fn attempt(
    client: ClientConfig,
    address: SocketAddr,
    name: &str,
) -> Result<(Endpoint, Connection), String> {
    // A socket of its own for every attempt: routes and addresses may have changed.
    let local = Endpoint::client(any_for(address)).map_err(|error| error.to_string())?;
    let connecting = local
        .connect_with(client, address, name)
        .map_err(|error| format!("cannot dial {address} as {name}: {error}"))?;
    match tokio::time::timeout(ADDRESS_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok((local, connection)),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use quinn::crypto::rustls::QuicClientConfig;
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

    use super::*;

    const NAME: &str = "collector.example";

    /// Names with answers that change.
    #[derive(Default)]
    struct Zone(Mutex<Vec<SocketAddr>>);

    impl Zone {
        fn says(&self, answer: &[SocketAddr]) {
            *self.0.lock().expect("no panic") = answer.to_vec();
        }
    }

    impl Resolver for Zone {
        async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            match host {
                NAME => Ok(self.0.lock().expect("no panic").clone()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    /// A server on a free port of its own, which only accepts, and a client that trusts it.
    fn servers<const N: usize>() -> ([Endpoint; N], ClientConfig) {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let certificate: CertificateDer = made.cert.der().clone();
        let servers = std::array::from_fn(|_| {
            let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
            let config =
                quinn::ServerConfig::with_single_cert(vec![certificate.clone()], key.into());
            let local = (Ipv4Addr::LOCALHOST, 0).into();
            let server = Endpoint::server(config.expect("valid"), local).expect("a free port");
            let accepting = server.clone();
            tokio::spawn(async move {
                let mut open = Vec::new();
                while let Some(incoming) = accepting.accept().await {
                    open.push(incoming.await);
                }
            });
            server
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        (servers, ClientConfig::new(Arc::new(tls)))
    }

    /// The address that answers an attempt.
    async fn answers(zone: &Zone, client: &ClientConfig) -> Result<SocketAddr, String> {
        let dialled = dial_at(zone, client.clone(), (NAME, 1), NAME).await?;
        Ok(dialled.1.remote_address())
    }

    #[tokio::test]
    async fn every_attempt_takes_the_answer_of_its_time() {
        let ([first, second, third], client) = servers();
        let at = |server: &Endpoint| server.local_addr().expect("bound");
        let zone = Zone::default();
        zone.says(&[at(&first)]);
        assert_eq!(answers(&zone, &client).await, Ok(at(&first)));
        // The collector has moved; the old one still answers, and is asked no more.
        zone.says(&[at(&second)]);
        assert_eq!(answers(&zone, &client).await, Ok(at(&second)));
        // One address of several does not answer any more.
        let gone = at(&second);
        second.close(0_u8.into(), b"");
        drop(second);
        zone.says(&[gone, at(&third)]);
        assert_eq!(answers(&zone, &client).await, Ok(at(&third)));
        // The name has no address, and there is no such name.
        zone.says(&[]);
        let reason = answers(&zone, &client).await.expect_err("nobody to ask");
        assert_eq!(reason, format!("{NAME} has no address"));
        let other = dial_at(&zone, client, ("collector.invalid", 1), NAME).await;
        let reason = other.map(|_| ()).expect_err("no such name");
        assert!(
            reason.starts_with("cannot resolve collector.invalid"),
            "{reason}"
        );
    }

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let given = ["[::1]:1", "[::2]:1", "10.0.0.1:1", "[::3]:1", "10.0.0.2:1"];
        let expected = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        let turns = alternate(given.into_iter().map(parse).collect());
        assert_eq!(turns, expected.into_iter().map(parse).collect::<Vec<_>>());
        assert!(alternate(Vec::new()).is_empty());
    }
}
