//! The usage that the demo makes: DogStatsD without answers, orders with them.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tollgate_agent::admin::client::{Client, ClientError};
use tollgate_agent::admin::protocol::Count;

use crate::world::{ACKNOWLEDGED_METER, AGENTS, TENANTS, World};

/// What the acknowledged load knows by itself, without asking any agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acknowledged {
    /// Orders that an agent answered for, by tenant.
    pub(crate) counted: BTreeMap<String, i128>,
    /// Orders whose answer never came because the agent was killed: at most these may be
    /// booked in addition.
    pub(crate) unanswered: BTreeMap<String, i128>,
}

/// The threads that make usage.
pub(crate) struct Loads {
    stop: Arc<AtomicBool>,
    datagrams: Vec<JoinHandle<u64>>,
    orders: Vec<JoinHandle<Acknowledged>>,
}

impl Loads {
    /// Starts two DogStatsD senders (UDP to the first agent, a Unix socket to the second) and
    /// a client with acknowledged orders for each agent.
    pub(crate) fn start(world: &World) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let to = world.dogstatsd[0];
        let unix = UnixDatagram::unbound()?;
        unix.set_nonblocking(true)?;
        let path = world.dogstatsd_socket(AGENTS[1]);
        // A datagram that nobody takes (the agent is down) is lost before it is received;
        // that is not accepted usage.
        let datagrams = vec![
            datagram_thread(&stop, 1, move |datagram| udp.send_to(datagram, to).is_ok()),
            datagram_thread(&stop, 2, move |datagram| {
                unix.send_to(datagram, &path).is_ok()
            }),
        ];
        let orders = AGENTS
            .iter()
            .zip(1u64..)
            .map(|(agent, seed)| order_thread(&stop, world.admin_socket(agent), seed))
            .collect();
        Ok(Self {
            stop,
            datagrams,
            orders,
        })
    }

    /// Stops all threads; returns the DogStatsD lines sent and what was acknowledged.
    pub(crate) fn finish(self) -> (u64, Acknowledged) {
        self.stop.store(true, Ordering::Relaxed);
        let lines = self
            .datagrams
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum();
        let mut all = Acknowledged::default();
        for thread in self.orders {
            let Ok(one) = thread.join() else { continue };
            for (tenant, orders) in one.counted {
                *all.counted.entry(tenant).or_default() += orders;
            }
            for (tenant, orders) in one.unanswered {
                *all.unanswered.entry(tenant).or_default() += orders;
            }
        }
        (lines, all)
    }
}

/// Packed lines of all tenants: counters with tags, some sampled, some with fractions, and
/// now and then one that is malformed and must be skipped alone.
fn datagram_thread(
    stop: &Arc<AtomicBool>,
    seed: u64,
    send: impl Fn(&[u8]) -> bool + Send + 'static,
) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut dice = Dice(seed);
        let mut lines = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut datagram = String::new();
            let mut packed = 0;
            for tenant in TENANTS {
                let region = ["eu", "us"][dice.below(2)];
                let requests = 1 + dice.below(40);
                datagram +=
                    &format!("web.requests:{requests}|c|#customer:{tenant},region:{region}\n");
                datagram += &format!(
                    "web.requests:{}|c|@0.1|#customer:{tenant},region:{region}\n",
                    1 + dice.below(3)
                );
                datagram += &format!(
                    "worker.cpu:0.{:03}|c|#customer:{tenant}\n",
                    1 + dice.below(999)
                );
                packed += 3;
            }
            if dice.below(10) == 0 {
                datagram += "web.requests:many|c|#customer:acme\n";
                packed += 1;
            }
            if send(datagram.as_bytes()) {
                lines += packed;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        lines
    })
}

/// One order at a time, each answered before the next; a broken connection is made again.
fn order_thread(stop: &Arc<AtomicBool>, socket: PathBuf, seed: u64) -> JoinHandle<Acknowledged> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut dice = Dice(seed + 100);
        let mut known = Acknowledged::default();
        let mut client: Option<Client> = None;
        while !stop.load(Ordering::Relaxed) {
            let Some(connected) = client.as_mut() else {
                client = Client::connect(&socket, Duration::from_secs(2)).ok();
                if client.is_none() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                continue;
            };
            let tenant = TENANTS[dice.below(TENANTS.len())];
            let orders = 1 + dice.below(5);
            let count = Count {
                metric: ACKNOWLEDGED_METER.to_owned(),
                value: orders.to_string(),
                tags: BTreeMap::from([("customer".to_owned(), tenant.to_owned())]),
            };
            let orders = i128::try_from(orders).unwrap_or(0);
            match connected.count(count) {
                Ok(_) => *known.counted.entry(tenant.to_owned()).or_default() += orders,
                // The agent says that nothing was counted.
                Err(ClientError::Refused(_)) => {}
                Err(ClientError::Io(_) | ClientError::Protocol(_)) => {
                    *known.unanswered.entry(tenant.to_owned()).or_default() += orders;
                    client = None;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        known
    })
}

/// A small generator (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>): the load needs
/// variety, not quality.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap_or(0)
    }
}
