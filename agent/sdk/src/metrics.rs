//! A recorder for the [`metrics`] facade: counters that an application has already become
//! metered by choosing their names.
//!
//! A chosen counter goes to its meter. Everything else, gauges and histograms included, goes
//! to the recorder that was there before, if one is given: those are floating point numbers,
//! which no bill is made of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::meter::drop_events;
use crate::{Invalid, Meter};

/// Whose the counts of a counter are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tenant {
    Fixed(String),
    Label(String),
}

/// How a chosen counter is metered.
#[derive(Clone, Debug)]
pub struct Metered {
    meter: Meter,
    tenant: Tenant,
    labels: Vec<String>,
}

impl Metered {
    /// All counts are this tenant's.
    pub fn for_tenant(meter: Meter, tenant: &str) -> Self {
        Self {
            meter,
            tenant: Tenant::Fixed(tenant.to_owned()),
            labels: Vec::new(),
        }
    }

    /// The tenant is the value of a label. A counter without the label is not metered.
    pub fn by_label(meter: Meter, label: &str) -> Self {
        Self {
            meter,
            tenant: Tenant::Label(label.to_owned()),
            labels: Vec::new(),
        }
    }

    /// The label becomes a dimension of the same name. Labels that are not named are left out.
    #[must_use]
    pub fn dimension(mut self, label: &str) -> Self {
        self.labels.push(label.to_owned());
        self
    }

    fn counter(&self, key: &Key) -> Option<Result<crate::Counter, Invalid>> {
        let label = |name: &str| {
            let found = key.labels().find(|label| label.key() == name);
            found.map(metrics::Label::value)
        };
        let tenant = match &self.tenant {
            Tenant::Fixed(tenant) => tenant,
            Tenant::Label(name) => label(name)?,
        };
        let dimensions: Vec<(&str, &str)> = self
            .labels
            .iter()
            .filter_map(|name| Some((name.as_str(), label(name)?)))
            .collect();
        Some(self.meter.counter(tenant, &dimensions))
    }
}

/// A recorder that meters chosen counters and forwards the rest.
pub struct MeteringRecorder {
    metered: HashMap<String, Metered>,
    rest: Option<Box<dyn Recorder + Send + Sync>>,
}

impl MeteringRecorder {
    /// Meters nothing yet, and drops the rest.
    #[must_use]
    pub fn new() -> Self {
        Self {
            metered: HashMap::new(),
            rest: None,
        }
    }

    /// Meters the counter of this name.
    #[must_use]
    pub fn meter(mut self, name: &str, metered: Metered) -> Self {
        self.metered.insert(name.to_owned(), metered);
        self
    }

    /// What is not metered goes to `recorder`.
    #[must_use]
    pub fn forwarding_to(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.rest = Some(Box::new(recorder));
        self
    }
}

impl Default for MeteringRecorder {
    fn default() -> Self {
        Self::new()
    }
}

struct Bridge {
    counter: crate::Counter,
    /// The highest absolute value seen, for those who give that.
    absolute: AtomicU64,
}

impl CounterFn for Bridge {
    fn increment(&self, value: u64) {
        self.counter.add(value);
    }

    fn absolute(&self, value: u64) {
        let before = self.absolute.fetch_max(value, Relaxed);
        if value > before {
            self.counter.add(value - before);
        }
    }
}

/// A counter whose labels no series can have: every count of it is noted as dropped.
struct Dropping;

impl CounterFn for Dropping {
    fn increment(&self, _: u64) {
        drop_events(1);
    }

    fn absolute(&self, _: u64) {
        drop_events(1);
    }
}

impl Recorder for MeteringRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(rest) = &self.rest {
            rest.describe_counter(key, unit, description);
        }
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(rest) = &self.rest {
            rest.describe_gauge(key, unit, description);
        }
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(rest) = &self.rest {
            rest.describe_histogram(key, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let metered = self.metered.get(key.name());
        match metered.and_then(|metered| metered.counter(key)) {
            Some(Ok(counter)) => Counter::from_arc(Arc::new(Bridge {
                counter,
                absolute: AtomicU64::new(0),
            })),
            Some(Err(_)) => Counter::from_arc(Arc::new(Dropping)),
            None => match &self.rest {
                Some(rest) => rest.register_counter(key, metadata),
                None => Counter::noop(),
            },
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        match &self.rest {
            Some(rest) => rest.register_gauge(key, metadata),
            None => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        match &self.rest {
            Some(rest) => rest.register_histogram(key, metadata),
            None => Histogram::noop(),
        }
    }
}
