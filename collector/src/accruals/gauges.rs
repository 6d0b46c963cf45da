//! Metrics of the accruals. Labels come from the fixed sets of reasons, never from meters or tenants.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use rust_decimal::prelude::ToPrimitive;
use tollgate_collector_core::fold::tenant::Shares;

/// How much of the usage of open periods stands how.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    standings: Arc<Mutex<BTreeMap<Labels, (u64, f64)>>>,
}

/// Standing and reason.
type Labels = (&'static str, String);

impl Gauges {
    /// Takes the shares of everybody. What is gone stays at zero, so that a graph goes down.
    pub(super) fn show(&self, shares: &Shares) {
        let mut standings = self.lock();
        for figures in standings.values_mut() {
            *figures = (0, 0.0);
        }
        for (standing, (lines, largest)) in shares.standings() {
            let reason = standing.reason().unwrap_or_default().to_owned();
            let figures = (lines, largest.to_f64().unwrap_or_default());
            standings.insert((standing.as_str(), reason), figures);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Labels, (u64, f64)>> {
        self.standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let standings = self.lock().clone();
        let mut family = encoder.encode_descriptor(
            "accrual_lines",
            "Lines of open periods with usage, by how it stands",
            None,
            MetricType::Gauge,
        )?;
        for ((standing, reason), (lines, _)) in &standings {
            let gauge = ConstGauge::new(i64::try_from(*lines).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&labels(standing, reason))?)?;
        }
        let mut family = encoder.encode_descriptor(
            "accrual_share_max",
            "Share of the usage of open periods that stands so, of the meter where it is largest",
            None,
            MetricType::Gauge,
        )?;
        for ((standing, reason), (_, share)) in &standings {
            let gauge = ConstGauge::new(*share);
            gauge.encode(family.encode_family(&labels(standing, reason))?)?;
        }
        Ok(())
    }
}

fn labels<'a>(standing: &'a str, reason: &'a str) -> [(&'static str, &'a str); 2] {
    [("standing", standing), ("reason", reason)]
}
