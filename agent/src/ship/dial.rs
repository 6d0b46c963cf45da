//! Dialling: from the name of an endpoint to a QUIC connection.
//!
//! The name is resolved again for every attempt. All of its addresses are tried, IPv6 and
//! IPv4 in turn, each a moment after the one before it unless that one has failed already; the
//! first that answers is taken (after RFC 8305, "Happy Eyeballs").

use std::collections::VecDeque;
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
    let found = tokio::net::lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(|error| format!("cannot resolve {}: {error}", endpoint.host()))?;
    let mut waiting = alternate(found.take(ADDRESSES_MAX).collect());
    let mut attempts = JoinSet::new();
    let mut reason = format!("{} has no address", endpoint.host());
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
    use super::*;

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
