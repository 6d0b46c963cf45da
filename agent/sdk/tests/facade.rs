//! The `metrics` facade: chosen counters are metered, the rest goes on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

mod support;

use support::Agent;
use tollgate::metrics::{Metered, MeteringRecorder};
use tollgate::{Meter, Options};

#[derive(Clone, Default)]
struct Rest(Arc<Sum>);

#[derive(Default)]
struct Sum(AtomicU64);

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Rest {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(&self.0))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn chosen_counters_are_metered() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("sdk.sock");
    let options = Options::default().socket(&path);
    options.install().expect("first");
    let meter = Meter::new("http.requests").expect("valid");
    let rest = Rest::default();
    let recorder = MeteringRecorder::new()
        .meter(
            "requests_total",
            Metered::by_label(meter.clone(), "customer").dimension("region"),
        )
        .meter("jobs_total", Metered::for_tenant(meter, "umbrella"))
        .forwarding_to(rest.clone());
    metrics::with_local_recorder(&recorder, || {
        for _ in 0..10 {
            let labels = [("customer", "acme"), ("region", "eu"), ("pod", "x")];
            metrics::counter!("requests_total", &labels).increment(2);
        }
        metrics::counter!("jobs_total").absolute(7);
        metrics::counter!("jobs_total").absolute(5);
        metrics::counter!("other_total", "customer" => "acme").increment(3);
        metrics::counter!("requests_total").increment(4);
        metrics::counter!("requests_total", "customer" => "a b").increment(1);
    });
    let page = Agent::listen(&path).accept();
    assert_eq!(page.total("acme/http.requests{region=eu}"), (20, 10));
    assert_eq!(page.total("umbrella/http.requests{}").0, 12);
    assert_eq!(rest.0.0.load(Relaxed), 7);
    assert_eq!(tollgate::dropped(), 1);
}
