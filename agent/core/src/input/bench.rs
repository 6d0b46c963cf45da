//! An input that counts into cells in memory, for tests and fuzzers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tollgate::cell::halves;
use tollgate_common::{AgentId, Aggregation, Incarnation, Timestamp};

use super::Listener;
use super::live::Live;
use super::tally::Tally;
use crate::aggregate::{Account, AccountWords, Cells, CellsLayout, Identity, SlotUse};
use crate::config;

pub(super) type Words = Arc<Vec<AtomicU64>>;

const CONFIG: &str = r#"
agent = "edge-1"
[collector]
endpoints = ["127.0.0.1:7430"]
ca = "ca.pem"
certificate = "a.pem"
key = "a.key"
[[meter]]
name = "requests"
unit = "1"
scale = 1
[[meter]]
name = "level"
unit = "1"
aggregation = "last"
[[meter]]
name = "net"
unit = "By"
scale = 3
[[meter]]
name = "rounded"
unit = "1"
inexact = "round"
[[meter]]
name = "peak"
unit = "1"
scale = 1
aggregation = "max"
[[meter]]
name = "users"
unit = "1"
aggregation = "unique"
[[meter]]
name = "latency"
unit = "ms"
aggregation = "distribution"
[[meter]]
name = "wait"
unit = "s"
scale = 3
aggregation = "distribution"
[[meter]]
name = "disk"
unit = "By"
aggregation = "time_weighted"
[[rule]]
input = "interfaces"
interface = "eth*"
quantity = "bytes"
tenant = "acme"
meter = "net"
dimensions = ["direction"]
[[rule]]
metric = "*"
tenant = { tag = "customer" }
dimensions = ["region"]
"#;

/// A tally and what it counts into.
pub(super) struct Bench {
    pub(super) cells: Cells<Words>,
    pub(super) tally: Tally<Words>,
    #[cfg(test)]
    pub(super) live: Arc<Live>,
}

pub(super) fn bench() -> Bench {
    let config = config::parse(CONFIG).expect("valid");
    let layout = CellsLayout::new(1, 64, 64 * 64).expect("small");
    let words: Words = Arc::new((0..layout.words()).map(|_| AtomicU64::new(0)).collect());
    let identity = Identity {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([1; 16]),
        boot_id: [2; 16],
        opened_at: Timestamp::EPOCH,
        window: config.window,
        parent: None,
        inherited: None,
        writers: vec!["w".to_owned()],
    };
    let none = AccountWords::default();
    Cells::<Words>::fill(
        &words,
        layout,
        &identity,
        std::slice::from_ref(&none),
        &none,
    );
    let cells = Cells::open(words).expect("just filled");
    let writer = cells.writer("w").expect("free");
    let live = Arc::new(Live::new(config.attributor()));
    Bench {
        tally: Tally::new(writer, Arc::clone(&live), config.window, 0, 7),
        #[cfg(test)]
        live,
        cells,
    }
}

impl Bench {
    pub(super) fn bytes(&mut self, datagram: &[u8]) {
        self.tally
            .handle_datagram(Listener::Udp, datagram, Timestamp::from_secs(25));
    }

    pub(super) fn account(&self) -> Account {
        self.cells.accounts().remove(0).1
    }

    /// Every series with its sum, its last value or its maximum, or how many events it had.
    pub(super) fn values(&self) -> BTreeMap<String, i128> {
        let slots = 0..self.cells.published(0);
        slots
            .map(|slot| {
                let now = self.cells.now(0, slot).expect("quiet");
                let SlotUse::Series(key) = self.cells.slot(0, slot, now.generation()) else {
                    panic!("slot {slot} is not of a series");
                };
                let value = match key.aggregation {
                    Aggregation::Sum | Aggregation::Distribution => now.sum.into(),
                    Aggregation::Last | Aggregation::Max => {
                        let cell = self.cells.wide(0, key.place, key.aggregation);
                        let cell = cell.expect("a place");
                        let halves = [0, 1].map(|half| halves::read(cell, half));
                        let newest = halves.into_iter().flatten().max_by_key(|cut| cut.window);
                        i128::from(newest.expect("set").value)
                    }
                    _ => i128::from(now.done & tollgate::cell::sum::EVENTS_MASK),
                };
                (key.key.to_string(), value)
            })
            .collect()
    }
}
