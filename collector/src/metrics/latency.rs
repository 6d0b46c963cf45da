//! Quantiles of a duration over the last minutes, as a metric.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// How long a slice of latencies is collected; quantiles are over the current and the last.
const SLICE: Duration = Duration::from_mins(1);
/// Longest latency that is told apart, in microseconds: a minute.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// Quantiles of a duration over the last one to two minutes.
#[derive(Clone, Debug)]
pub struct Latency {
    name: &'static str,
    help: &'static str,
    slices: Arc<Mutex<Slices>>,
}

#[derive(Debug)]
struct Slices {
    begun: Instant,
    current: Histogram<u32>,
    last: Histogram<u32>,
}

impl Latency {
    pub(super) fn new(name: &'static str, help: &'static str) -> Self {
        let empty = || Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 2).expect("valid bounds");
        let slices = Slices {
            begun: Instant::now(),
            current: empty(),
            last: empty(),
        };
        Self {
            name,
            help,
            slices: Arc::new(Mutex::new(slices)),
        }
    }

    /// Records a duration; what is longer than a minute counts as a minute.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        slices.turn();
        slices
            .current
            .saturating_record(micros.clamp(1, LATENCY_MICROS_MAX));
    }

    /// The duration below which this share (0 to 1) of the recent ones lie.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        slices.turn();
        let mut both = slices.last.clone();
        // Same bounds, so that adding cannot fail; at worst the quantile lacks a minute.
        if both.add(&slices.current).is_err() {
            both = slices.current.clone();
        }
        Duration::from_micros(both.value_at_quantile(share))
    }
}

impl Slices {
    fn turn(&mut self) {
        let age = self.begun.elapsed();
        if age < SLICE {
            return;
        }
        std::mem::swap(&mut self.current, &mut self.last);
        self.current.reset();
        if age >= SLICE * 2 {
            self.last.reset();
        }
        self.begun = Instant::now();
    }
}

impl Collector for Latency {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family =
            encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        for (share, label) in [(0.5, "0.5"), (0.99, "0.99"), (1.0, "1")] {
            let gauge = ConstGauge::new(self.quantile(share).as_secs_f64());
            gauge.encode(family.encode_family(&[("quantile", label)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let latency = Latency::new("x", "x");
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            latency.record(Duration::from_millis(millis));
        }
        latency.record(Duration::from_hours(1));
        let median = latency.quantile(0.5).as_millis();
        assert!((49..=52).contains(&median), "{median}");
        assert!(latency.quantile(1.0) >= Duration::from_secs(59));
    }
}
