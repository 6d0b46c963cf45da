//! The counters of other libraries, each as its documentation says to use it fast.

use anyhow::Result;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus::{IntCounterVec, Opts};

/// Three dimensions whose values are chosen at run time.
pub(crate) type Dimensions = [&'static str; 3];
/// The names of the three dimensions.
pub(crate) const NAMES: Dimensions = ["method", "status", "region"];

/// A counter of `prometheus` with three labels.
pub(crate) struct Prometheus(IntCounterVec);

impl Prometheus {
    pub(crate) fn new() -> Result<Self> {
        let opts = Opts::new("http_requests", "requests");
        Ok(Self(IntCounterVec::new(opts, &NAMES)?))
    }

    /// The child for these values, which callers are told to keep.
    pub(crate) fn cached(&self, values: &Dimensions) -> prometheus::IntCounter {
        self.0.with_label_values(values)
    }

    pub(crate) fn count(&self, values: &Dimensions) {
        self.0.with_label_values(values).inc();
    }
}

/// A recorder of the `metrics` facade over the registry that its exporters use.
pub(crate) struct Facade(Registry<Key, AtomicStorage>);

impl Facade {
    /// Installs the recorder for the whole process.
    pub(crate) fn install() -> Result<()> {
        metrics::set_global_recorder(Self(Registry::atomic()))
            .map_err(|_| anyhow::anyhow!("a recorder of the `metrics` facade is installed"))
    }

    /// A handle, which callers are told to keep.
    pub(crate) fn cached(values: &Dimensions) -> Counter {
        metrics::counter!("http_requests", "method" => values[0], "status" => values[1], "region" => values[2])
    }

    pub(crate) fn count(values: &Dimensions) {
        metrics::counter!("http_requests", "method" => values[0], "status" => values[1], "region" => values[2])
            .increment(1);
    }
}

impl Recorder for Facade {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0
            .get_or_create_counter(key, |counter| Counter::from_arc(counter.clone()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0
            .get_or_create_gauge(key, |gauge| Gauge::from_arc(gauge.clone()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0
            .get_or_create_histogram(key, |histogram| Histogram::from_arc(histogram.clone()))
    }
}

/// A counter of the OpenTelemetry SDK with a reader, so that it really aggregates.
pub(crate) struct OpenTelemetry {
    counter: opentelemetry::metrics::Counter<u64>,
    // The provider ends the pipeline when it is dropped.
    _provider: SdkMeterProvider,
}

impl OpenTelemetry {
    pub(crate) fn new() -> Self {
        let reader = ManualReader::builder().build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let counter = provider
            .meter("benches")
            .u64_counter("http_requests")
            .build();
        Self {
            counter,
            _provider: provider,
        }
    }

    fn attributes(values: &Dimensions) -> [KeyValue; 3] {
        std::array::from_fn(|at| KeyValue::new(NAMES[at], values[at]))
    }

    /// A bound instrument.
    pub(crate) fn bound(&self, values: &Dimensions) -> opentelemetry::metrics::BoundCounter<u64> {
        self.counter.bind(&Self::attributes(values))
    }

    pub(crate) fn count(&self, values: &Dimensions) {
        self.counter.add(1, &Self::attributes(values));
    }
}
