//! What the collector counts about itself, for `/metrics`.
//!
//! Every metric is registered once. Labels come from fixed sets, never from tenants; agents are the
//! label of one gauge alone (their clocks), which is bounded. So nobody outside can make the set
//! grow. `docs/metrics.md` lists them all.

mod latency;

use std::fmt::{self, Write};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use latency::Latency;

use crate::accruals::Gauges as AccrualGauges;
use crate::clocks::Clocks;

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The TLS handshake failed: no certificate, one of another authority, an expired one,
    /// another protocol.
    Handshake,
    /// The certificate names no agent.
    Identity,
    /// No hello arrived in time.
    Silent,
    /// More connections than allowed.
    Capacity,
    /// Too many connections in a short time; the peer tries again by itself.
    Pace,
    /// The agent or its hello was refused; the log names the reason.
    Policy,
}

impl Refused {
    /// The name used in labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Identity => "identity",
            Self::Silent => "silent",
            Self::Capacity => "capacity",
            Self::Pace => "pace",
            Self::Policy => "policy",
        }
    }
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: Refused,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    refused: Family<RefusedLabels, Counter>,
    /// Connections that were accepted.
    pub connections: Counter,
    /// Connections that are open.
    pub connections_open: Gauge,
    /// Connections ended because a frame could not be decoded or broke the protocol.
    pub decode_errors: Counter,
    /// Frame bytes received from agents.
    pub received_bytes: Counter,
    /// Batches received from agents, duplicates included.
    pub batches: Counter,
    /// Rollups received from agents, duplicates included.
    pub rollups: Counter,
    /// Batches that had been received before.
    pub duplicates: Counter,
    /// Acknowledgements sent.
    pub acknowledgements: Counter,
    /// Entries committed to the journal.
    pub journal_entries: Counter,
    /// Bytes committed to the journal.
    pub journal_bytes: Counter,
    /// Group commits.
    pub journal_commits: Counter,
    /// From the oldest append of a group to its commit.
    pub commit_latency: Latency,
    /// Journal entries folded since the start.
    pub folded_entries: Counter,
    /// Committed journal entries that are not folded yet.
    pub fold_lag: Gauge,
    /// Tenants with usage that have no profile, counted every half minute.
    pub tenants_without_profile: Gauge,
    /// Ledger entries booked since the start.
    pub ledger_entries: Counter,
    /// Projection transactions.
    pub projection_commits: Counter,
    /// Snapshots written.
    pub snapshots: Counter,
    /// Snapshots that could not be written.
    pub snapshot_failures: Counter,
    /// Holes between what agents have released and what the journal has.
    pub journal_behind: Counter,
    /// Whether the journal has been replayed.
    pub ready: Gauge,
    /// Batches with rows of windows that had not begun.
    pub future_batches: Counter,
    /// HTTP requests answered.
    pub http_requests: Counter,
    /// Reloads of catalog and policy that were refused because they are broken.
    pub reload_failures: Counter,
    /// How far the clocks of agents are off.
    pub clocks: Clocks,
    /// How the usage of open periods stands.
    pub accruals: AccrualGauges,
    /// How old the accruals are: since when something changed that is not in them.
    pub accrual_age: Gauge<f64, AtomicU64>,
    /// Tenants that have changed since they were rated.
    pub accrual_waiting: Gauge,
    /// Tenants rated for the accruals.
    pub accruals_rated: Counter,
    /// Times that accruals could not be written.
    pub accrual_failures: Counter,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("tollgate_collector"),
            refused: Family::default(),
            clocks: Clocks::default(),
            accruals: AccrualGauges::default(),
            accrual_age: Gauge::default(),
            accrual_waiting: Gauge::default(),
            accruals_rated: Counter::default(),
            accrual_failures: Counter::default(),
            connections: Counter::default(),
            connections_open: Gauge::default(),
            decode_errors: Counter::default(),
            received_bytes: Counter::default(),
            batches: Counter::default(),
            rollups: Counter::default(),
            duplicates: Counter::default(),
            acknowledgements: Counter::default(),
            journal_entries: Counter::default(),
            journal_bytes: Counter::default(),
            journal_commits: Counter::default(),
            commit_latency: Latency::new(
                "journal_commit_seconds",
                "Append to durable, last one to two minutes",
            ),
            folded_entries: Counter::default(),
            fold_lag: Gauge::default(),
            tenants_without_profile: Gauge::default(),
            ledger_entries: Counter::default(),
            projection_commits: Counter::default(),
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            journal_behind: Counter::default(),
            ready: Gauge::default(),
            future_batches: Counter::default(),
            http_requests: Counter::default(),
            reload_failures: Counter::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        // Clones count together.
        let counters = self
            .counters()
            .map(|(name, help, counter)| (name, help, counter.clone()));
        let registry = &mut self.registry;
        registry.register(
            "connections_refused",
            "Connections not served, by reason",
            self.refused.clone(),
        );
        for reason in [
            Refused::Handshake,
            Refused::Identity,
            Refused::Silent,
            Refused::Capacity,
            Refused::Pace,
            Refused::Policy,
        ] {
            // A counter that exists at zero can be alerted on before it first happens.
            drop(self.refused.get_or_create(&RefusedLabels { reason }));
        }
        for (name, help, counter) in counters {
            registry.register(name, help, counter);
        }
        registry.register(
            "agent_clock_offset_seconds",
            "The agent's clock less the collector's at its last hello",
            self.clocks.gauges(),
        );
        registry.register(
            "accrual_age_seconds",
            "Since when something changed that is not in the accruals",
            self.accrual_age.clone(),
        );
        registry.register_collector(Box::new(self.accruals.clone()));
        let gauges: [(&str, &str, &Gauge); 5] = [
            (
                "accrual_waiting_tenants",
                "Tenants that have changed since they were rated",
                &self.accrual_waiting,
            ),
            (
                "connections_open",
                "Connections open",
                &self.connections_open,
            ),
            (
                "fold_lag_entries",
                "Committed journal entries not folded yet",
                &self.fold_lag,
            ),
            (
                "tenants_without_profile",
                "Tenants with usage that is held unrated because nothing is agreed with them",
                &self.tenants_without_profile,
            ),
            ("ready", "1 when the journal has been replayed", &self.ready),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register_collector(Box::new(self.commit_latency.clone()));
        self
    }

    /// Every counter with its name and help.
    fn counters(&self) -> [(&'static str, &'static str, &Counter<u64, AtomicU64>); 21] {
        [
            (
                "accruals_rated",
                "Tenants rated for the accruals",
                &self.accruals_rated,
            ),
            (
                "accrual_failures",
                "Times that accruals could not be written",
                &self.accrual_failures,
            ),
            (
                "journal_behind",
                "Ranges of batches that agents have released and the journal does not have",
                &self.journal_behind,
            ),
            ("connections", "Connections accepted", &self.connections),
            (
                "decode_errors",
                "Connections ended by a malformed frame",
                &self.decode_errors,
            ),
            (
                "received_bytes",
                "Frame bytes received",
                &self.received_bytes,
            ),
            (
                "batches",
                "Batches received, duplicates included",
                &self.batches,
            ),
            (
                "rollups",
                "Rollups received, duplicates included",
                &self.rollups,
            ),
            ("duplicates", "Batches received before", &self.duplicates),
            (
                "acknowledgements",
                "Acknowledgements sent",
                &self.acknowledgements,
            ),
            (
                "journal_entries",
                "Journal entries committed",
                &self.journal_entries,
            ),
            (
                "journal_bytes",
                "Journal bytes committed",
                &self.journal_bytes,
            ),
            ("journal_commits", "Group commits", &self.journal_commits),
            (
                "folded_entries",
                "Journal entries folded",
                &self.folded_entries,
            ),
            (
                "ledger_entries",
                "Ledger entries booked",
                &self.ledger_entries,
            ),
            (
                "projection_commits",
                "Projection transactions",
                &self.projection_commits,
            ),
            ("snapshots", "Snapshots written", &self.snapshots),
            (
                "snapshot_failures",
                "Snapshots that could not be written",
                &self.snapshot_failures,
            ),
            (
                "future_batches",
                "Batches with rows of windows that begin later than the tolerance allows",
                &self.future_batches,
            ),
            (
                "http_requests",
                "HTTP requests answered",
                &self.http_requests,
            ),
            (
                "reload_failures",
                "Broken catalogs and policies refused at a reload",
                &self.reload_failures,
            ),
        ]
    }

    /// Counts a connection that was not served.
    pub fn refuse(&self, reason: Refused) {
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
    }

    /// How many connections were not served for this reason.
    pub fn refusals(&self, reason: Refused) -> u64 {
        self.refused.get_or_create(&RefusedLabels { reason }).get()
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tollgate_common::AgentId;

    use super::*;

    #[test]
    fn everything_is_there_from_the_start() {
        let metrics = Metrics::new();
        metrics.refuse(Refused::Handshake);
        metrics.batches.inc_by(7);
        metrics.commit_latency.record(Duration::from_millis(3));
        let text = metrics.encode().expect("encodes");
        for line in [
            "tollgate_collector_connections_refused_total{reason=\"handshake\"} 1",
            "tollgate_collector_connections_refused_total{reason=\"capacity\"} 0",
            "tollgate_collector_batches_total 7",
            "tollgate_collector_fold_lag_entries 0",
            "tollgate_collector_tenants_without_profile 0",
            "tollgate_collector_journal_commit_seconds{quantile=\"0.99\"}",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing from:\n{text}");
        }
    }

    #[test]
    fn every_metric_is_documented_and_there() {
        let page = include_str!("../../docs/metrics.md");
        let cells = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `tollgate_collector_"))
            .map(|line| line.split('|').map(str::trim));
        let documented: BTreeSet<String> = cells
            .filter_map(|mut cells| Some((cells.next()?, cells.next()?)))
            .filter(|(_, kind)| ["counter", "gauge"].contains(kind))
            .map(|(name, kind)| format!("{} {kind}", name.trim_matches('`')))
            .collect();
        let metrics = Metrics::new();
        let agent = AgentId::new("edge-1").expect("valid");
        metrics.clocks.note(&agent, 1);
        let text = metrics.encode().expect("encodes");
        let shown: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE tollgate_collector_"))
            .map(|line| {
                let (name, kind) = line.split_once(' ').expect("a name and a type");
                let total = if kind == "counter" { "_total" } else { "" };
                format!("{name}{total} {kind}")
            })
            .collect();
        assert_eq!(shown, documented);
    }
}
