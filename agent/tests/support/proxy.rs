//! A UDP proxy on loopback that treats datagrams badly, as a seed says.
//!
//! It stands between agents and a collector. Each client address gets a socket of its own
//! towards the collector, as at a NAT; [`Proxy::forget`] makes the NAT forget: what comes from
//! addresses that it knew is dropped from then on, and only a new source gets through.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest datagram that a loopback path carries.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What may happen to a datagram, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Treatment {
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    /// Held back until others have passed.
    pub(crate) reorder: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Nothing passes in either direction.
    hole: AtomicBool,
    /// Larger datagrams are dropped.
    mtu: AtomicUsize,
    treatment: Mutex<Treatment>,
    /// Which sources get through; those of an earlier epoch do not.
    epoch: AtomicU64,
    /// Sources that have sent since the last forgetting.
    sources: AtomicU64,
    passed: AtomicU64,
    harmed: AtomicU64,
}

/// A running proxy; stops when dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        self.next() % 1000 < thousandths
    }
}

/// One client as the proxy sees it.
struct Flow {
    epoch: u64,
    outer: UdpSocket,
}

impl Proxy {
    /// Stands before the collector on `port`.
    pub(crate) fn start(port: u16, seed: u64) -> Self {
        let inner = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let own = inner.local_addr().expect("bound").port();
        inner
            .set_read_timeout(Some(Duration::from_millis(1)))
            .expect("a timeout");
        let shared = Arc::new(Shared::default());
        shared.mtu.store(DATAGRAM_BYTES_MAX, Ordering::Relaxed);
        let state = Arc::clone(&shared);
        let collector = SocketAddr::from(([127, 0, 0, 1], port));
        let thread = std::thread::spawn(move || run(&inner, collector, &state, seed));
        Self {
            port: own,
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn treat(&self, treatment: Treatment) {
        *self.shared.treatment.lock().expect("no panic") = treatment;
    }

    /// Nothing passes while this is set.
    pub(crate) fn black_hole(&self, on: bool) {
        self.shared.hole.store(on, Ordering::Relaxed);
    }

    /// Larger datagrams vanish from now on.
    pub(crate) fn set_mtu(&self, bytes: usize) {
        self.shared.mtu.store(bytes, Ordering::Relaxed);
    }

    /// Sources that have sent until now do not get through any more, in either direction.
    pub(crate) fn forget(&self) {
        self.shared.sources.store(0, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// New sources since the last forgetting.
    pub(crate) fn sources(&self) -> u64 {
        self.shared.sources.load(Ordering::Relaxed)
    }

    /// Datagrams that passed, and that did not or were doubled or held back.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.shared.passed), load(&self.shared.harmed))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(inner: &UdpSocket, collector: SocketAddr, shared: &Shared, seed: u64) {
    let mut random = Random(seed);
    let mut flows: BTreeMap<SocketAddr, Flow> = BTreeMap::new();
    let mut held: Vec<(Instant, Box<dyn Fn() + Send>)> = Vec::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !shared.stop.load(Ordering::Relaxed) {
        let epoch = shared.epoch.load(Ordering::Relaxed);
        // A read that times out gives the answers of the collector their turn.
        for _ in 0..64 {
            let Ok((length, client)) = inner.recv_from(&mut buffer) else {
                break;
            };
            let flow = flows.entry(client).or_insert_with(|| {
                shared.sources.fetch_add(1, Ordering::Relaxed);
                let outer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
                outer.connect(collector).expect("loopback");
                outer.set_nonblocking(true).expect("a socket");
                Flow { epoch, outer }
            });
            if flow.epoch == epoch {
                let outer = flow.outer.try_clone().expect("a descriptor");
                let bytes = buffer[..length].to_vec();
                let send = move || drop(outer.send(&bytes));
                pass(length, send, shared, &mut random, &mut held);
            }
        }
        for (client, flow) in &flows {
            for _ in 0..64 {
                let Ok(length) = flow.outer.recv(&mut buffer) else {
                    break;
                };
                if flow.epoch == epoch {
                    let (inner, client) = (inner.try_clone().expect("a descriptor"), *client);
                    let bytes = buffer[..length].to_vec();
                    let send = move || drop(inner.send_to(&bytes, client));
                    pass(length, send, shared, &mut random, &mut held);
                }
            }
        }
        let now = Instant::now();
        held.retain(|(due, send)| {
            let early = now < *due;
            if !early {
                send();
            }
            early
        });
    }
}

/// What is to be sent later, and when.
type Held = (Instant, Box<dyn Fn() + Send>);

fn pass(
    length: usize,
    send: impl Fn() + Send + 'static,
    shared: &Shared,
    random: &mut Random,
    held: &mut Vec<Held>,
) {
    let treatment = *shared.treatment.lock().expect("no panic");
    let harmed = || shared.harmed.fetch_add(1, Ordering::Relaxed);
    if shared.hole.load(Ordering::Relaxed)
        || length > shared.mtu.load(Ordering::Relaxed)
        || random.chance(treatment.drop)
    {
        harmed();
        return;
    }
    shared.passed.fetch_add(1, Ordering::Relaxed);
    if random.chance(treatment.reorder) {
        harmed();
        let due = Instant::now() + Duration::from_millis(1 + random.next() % 20);
        held.push((due, Box::new(send)));
        return;
    }
    if random.chance(treatment.duplicate) {
        harmed();
        send();
    }
    send();
}
