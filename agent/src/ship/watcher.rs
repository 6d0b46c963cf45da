//! Watching a connection that stands: does it move, does its path still work, are its
//! certificates still those of the files.
//!
//! A host's address may change under a connection: DHCP, another uplink, a NAT that forgot.
//! QUIC connections do not depend on addresses, so the agent takes a new socket and goes on.
//! It does so when the kernel would choose another source address for the collector, and when
//! nothing has come back for a while although something should have.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::channel::Sender;
use quinn::{Connection, Endpoint};
use tracing::{debug, info, warn};

use super::dial::any_for;
use super::{Target, client_config};
use crate::engine::{ConnectionId, Event};
use crate::output::chain;

/// How often the watch looks.
const PERIOD: Duration = Duration::from_secs(1);
/// With a sign of life every [`super::KEEP_ALIVE`], something comes back more often than this.
const SILENCE: Duration = Duration::from_millis(2_900);
/// Files are compared every so many looks.
const FILES_EVERY: u32 = 3;

/// Watches until the connection ends, which is not for this task to notice.
pub(super) struct Watch<'a> {
    pub(super) id: ConnectionId,
    pub(super) target: &'a Target,
    pub(super) local: &'a Endpoint,
    pub(super) connection: &'a Connection,
    /// Bytes that the stream has taken so far.
    pub(super) written: &'a Arc<AtomicU64>,
    pub(super) events: &'a Sender<Event>,
}

/// What tells that a file is another than before.
type Print = Option<(u64, SystemTime)>;

impl Watch<'_> {
    pub(super) async fn run(&self) {
        let mut files = prints(self.target).await;
        let mut source = source_for(self.connection.remote_address());
        let mut moved = (0, 0);
        let (mut heard, mut heard_at) = (0, Instant::now());
        let mut looks: u32 = 0;
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            looks = looks.wrapping_add(1);
            let stats = self.connection.stats();
            // The collector grants more credit as it takes what was sent.
            let taken = stats.frame_rx.max_stream_data + stats.frame_rx.max_data;
            let now_moved = (self.written.load(Ordering::Relaxed), taken);
            if std::mem::replace(&mut moved, now_moved) != now_moved {
                // A full queue means that the engine hears enough from this connection.
                let _ = self.events.try_send(Event::Progress { id: self.id });
            }
            let datagrams = stats.udp_rx.datagrams;
            if std::mem::replace(&mut heard, datagrams) != datagrams {
                heard_at = Instant::now();
            }
            let now_source = source_for(self.connection.remote_address());
            if now_source.is_some() && now_source != source {
                source = now_source;
                self.rebind("this host has another address");
                heard_at = Instant::now();
            } else if heard_at.elapsed() >= SILENCE {
                self.rebind("nothing comes back");
                heard_at = Instant::now();
            }
            if looks.is_multiple_of(FILES_EVERY) {
                self.compare_files(&mut files).await;
            }
        }
    }

    /// Goes on from another socket, and so from another address or port.
    fn rebind(&self, why: &str) {
        let any = any_for(self.connection.remote_address());
        match UdpSocket::bind(any).and_then(|socket| self.local.rebind(socket)) {
            Ok(()) => info!(why, "the connection goes on from another socket"),
            // The old socket stays; the idle timeout decides.
            Err(error) => debug!(why, %error, "cannot take another socket"),
        }
    }

    /// Asks for a new connection if the certificates have changed and can be used.
    async fn compare_files(&self, files: &mut [Print; 3]) {
        let found = prints(self.target).await;
        if found == *files {
            return;
        }
        *files = found;
        match client_config(&self.target.agent, &self.target.collector) {
            Ok(_) => {
                info!("certificates have changed, connecting with the new ones");
                let renew = Event::Renew {
                    id: self.id,
                    why: "the certificates have changed",
                };
                super::report(self.events, renew).await;
            }
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "changed certificates cannot be used; the connection goes on with the old ones"
                );
            }
        }
    }
}

/// The source address that the kernel would choose now. Connecting a UDP socket sends nothing.
fn source_for(remote: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any_for(remote)).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

async fn prints(target: &Target) -> [Print; 3] {
    let collector = &target.collector;
    let paths = [&collector.ca, &collector.certificate, &collector.key].map(PathBuf::clone);
    let prints = tokio::task::spawn_blocking(move || {
        paths.map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        })
    });
    prints.await.unwrap_or_default()
}
