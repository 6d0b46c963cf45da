//! What an agent tells Prometheus about itself.
//!
//! Every metric is made from a [`Report`] when somebody asks, and costs nothing before. Labels
//! come from fixed sets (inputs, reasons, causes), not from tenants, meters or whoever sends:
//! nobody outside can make the page grow. The one exception is bounded: tenants that have more
//! series than there is room for are named, at most 20. `tollgate-agent top` shows all.

mod families;
pub(crate) mod http;
mod process;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::desk::Report;
use process::Process;

/// A metric and its present values.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: Kind,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

type Label = (&'static str, String);

#[derive(Debug)]
struct Sample {
    labels: Vec<Label>,
    value: Value,
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Whole(u64),
    Real(f64),
}

/// The page.
pub(crate) fn encode(report: &Report) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families::all(report, Process::read()))));
    let mut text = String::new();
    encode_text(&mut text, &registry).expect("writing to a string does not fail");
    text
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let unit = family.unit.as_ref();
            let mut metric = encoder.encode_descriptor(family.name, family.help, unit, kind)?;
            for sample in &family.samples {
                if sample.labels.is_empty() {
                    put(&mut metric, family.kind, sample.value)?;
                } else {
                    let mut labelled = metric.encode_family(&sample.labels)?;
                    put(&mut labelled, family.kind, sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn put(metric: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => metric.encode_counter::<NoLabelSet, _, u64>(&n, None),
        (Kind::Counter, Value::Real(x)) => metric.encode_counter::<NoLabelSet, _, u64>(&x, None),
        (Kind::Gauge, Value::Whole(n)) => metric.encode_gauge(&n),
        (Kind::Gauge, Value::Real(x)) => metric.encode_gauge(&x),
    }
}
