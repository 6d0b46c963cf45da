//! How far the clocks of agents are from the collector's, by their last hello.
//!
//! Not journaled: it says how things are, and no amount depends on it. An agent's hello tells
//! its time; the way of the message is in the difference, so that a few milliseconds mean
//! nothing.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tollgate_common::AgentId;

/// Most agents whose clocks are kept. Certificates bound them; this bounds the memory.
const AGENTS_MAX: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AgentLabel {
    agent: String,
}

/// Offsets as a metric, in seconds.
pub(crate) type OffsetGauges = Family<AgentLabel, Gauge<f64, AtomicU64>>;

/// The offset of each agent's clock: its own less the collector's.
#[derive(Debug, Default)]
pub struct Clocks {
    offsets: Mutex<BTreeMap<AgentId, i64>>,
    gauges: OffsetGauges,
}

impl Clocks {
    /// Notes that the agent's clock is so many milliseconds ahead (behind, if negative).
    #[expect(
        clippy::cast_precision_loss,
        reason = "a metric; exact up to 2^53 milliseconds"
    )]
    pub fn note(&self, agent: &AgentId, offset_millis: i64) {
        let mut offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if offsets.len() >= AGENTS_MAX && !offsets.contains_key(agent) {
            return;
        }
        offsets.insert(agent.clone(), offset_millis);
        let label = AgentLabel {
            agent: agent.to_string(),
        };
        let gauge = self.gauges.get_or_create(&label);
        gauge.set(offset_millis as f64 / 1000.0);
    }

    /// The offset of an agent's clock in milliseconds, if it said hello since the start.
    pub fn of(&self, agent: &str) -> Option<i64> {
        let agent = AgentId::new(agent).ok()?;
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.get(&agent).copied()
    }

    /// How many clocks are known, and the one that is farthest off with its milliseconds.
    pub fn worst(&self) -> (usize, Option<(AgentId, i64)>) {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let worst = offsets
            .iter()
            .max_by_key(|(_, offset)| offset.unsigned_abs());
        let worst = worst.map(|(agent, offset)| (agent.clone(), *offset));
        (offsets.len(), worst)
    }

    pub(crate) fn gauges(&self) -> OffsetGauges {
        self.gauges.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hello_stands_and_the_worst_is_found() {
        let clocks = Clocks::default();
        assert_eq!(clocks.worst(), (0, None));
        let agent = |name| AgentId::new(name).expect("valid");
        clocks.note(&agent("a"), 90_000);
        clocks.note(&agent("a"), 40);
        clocks.note(&agent("b"), -2500);
        assert_eq!(clocks.of("a"), Some(40));
        assert_eq!(clocks.of("c"), None);
        assert_eq!(clocks.worst(), (2, Some((agent("b"), -2500))));
    }
}
