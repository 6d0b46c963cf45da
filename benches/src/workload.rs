//! Realistic usage: what an edge with fifty customers reports.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, Dimensions, Incarnation, MeterName, Opening,
    Quantity, Rollup, Scale, SeriesKey, Span, TenantId, Timestamp, Total, Window, WindowWidth,
};

/// Generates batches of one agent, the same for the same seed.
pub(crate) struct Workload {
    rng: StdRng,
    series: Vec<Series>,
    totals: std::collections::BTreeMap<(TenantId, MeterName), i128>,
    agent: AgentId,
    incarnation: Incarnation,
    next: u64,
    parent: BatchHash,
    window: Window,
}

struct Series {
    key: Arc<SeriesKey>,
    /// Usual events in a window; busy series are hundreds of times busier than quiet ones.
    level: f64,
    /// Units for one event: 1 for requests, a packet size for bytes.
    size: u32,
}

impl Workload {
    /// `series` series: 50 tenants, four meters, three dimensions (region, direction and
    /// point of presence or status class), levels spread over four and a half decades.
    pub(crate) fn new(series: usize, seed: u64) -> Self {
        const METERS: [(&str, u32); 4] = [
            ("http.requests", 1),
            ("net.bytes", 800),
            ("cache.hits", 1),
            ("log.bytes", 240),
        ];
        const REGIONS: [&str; 4] = ["eu-central-1", "eu-west-3", "us-east-2", "ap-south-1"];
        let mut rng = StdRng::seed_from_u64(seed);
        let mut all: Vec<Series> = (0..series)
            .map(|index| {
                let (meter, size) = METERS[index % 4];
                let tenant = format!("customer-{:04}", 1000 + (index / 4) % 50 * 37);
                // Unique within its tenant and meter, and spread as host names are.
                let pop = rng.random_range(0..400) * series.max(100_000) + index;
                let dimensions = Dimensions::new([
                    ("region", REGIONS[rng.random_range(0..4)].to_owned()),
                    (
                        "direction",
                        if rng.random() { "in" } else { "out" }.to_owned(),
                    ),
                    ("pop", format!("pop-{pop:08}")),
                ])
                .expect("generated dimensions are valid");
                let key = SeriesKey::new(
                    TenantId::new(&tenant).expect("generated name is valid"),
                    MeterName::new(meter).expect("generated name is valid"),
                    dimensions,
                )
                .expect("generated key is short");
                let level = 10f64.powf(rng.random_range(0.0..4.5));
                Series {
                    key: Arc::new(key),
                    level,
                    size,
                }
            })
            .collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        let width = WindowWidth::from_secs(10).expect("10 divides 900");
        Self {
            rng,
            series: all,
            totals: std::collections::BTreeMap::new(),
            agent: AgentId::new("edge-1").expect("valid"),
            incarnation: Incarnation::from_bytes([7; 16]),
            next: 1,
            parent: BatchHash::ZERO,
            window: Window::containing(Timestamp::from_secs(1_780_315_200), width),
        }
    }

    /// The same usage, reported by another agent.
    pub(crate) fn of_agent(self, agent: AgentId) -> Self {
        Self { agent, ..self }
    }

    /// The batch of the next window, as the last of its incarnation.
    pub(crate) fn last_batch(&mut self) -> Batch {
        let mut batch = self.batch();
        batch.is_final = true;
        self.parent = batch.hash();
        batch
    }

    /// The batch of the next window: every series is active.
    pub(crate) fn batch(&mut self) -> Batch {
        let rows: Vec<Rollup> = self
            .series
            .iter()
            .map(|series| {
                let events = sample(&mut self.rng, series.level).max(1);
                // Every event of a byte meter has a size of its own; their mean settles, their
                // sum keeps its noise.
                let units = if series.size == 1 {
                    events
                } else {
                    let mean = u64::from(series.size) * self.rng.random_range(60..140) / 100;
                    events * mean + self.rng.random_range(0..u64::from(series.size))
                };
                Rollup {
                    series: Arc::clone(&series.key),
                    aggregation: Aggregation::Sum,
                    scale: Scale::ZERO,
                    window: self.window,
                    value: Quantity::from(units),
                    events,
                    detail: tollgate_common::Detail::None,
                }
            })
            .collect();
        for row in &rows {
            let pair = (row.series.tenant().clone(), row.series.meter().clone());
            *self.totals.entry(pair).or_default() += row.value.units();
        }
        let totals = self
            .totals
            .iter()
            .map(|((tenant, meter), &units)| Total {
                tenant: tenant.clone(),
                meter: meter.clone(),
                scale: Scale::ZERO,
                quantity: Quantity::new(units),
            })
            .collect();
        let sequence = BatchSeq::new(self.next).expect("starts at one");
        let batch = Batch {
            agent: self.agent.clone(),
            incarnation: self.incarnation,
            sequence,
            parent_hash: self.parent,
            span: Span {
                from: self.window.start(),
                to: self.window.end().plus_millis(3),
            },
            watermark: self.window.end(),
            opening: (sequence == BatchSeq::FIRST).then_some(Opening { parent: None }),
            is_final: false,
            rows,
            totals,
            losses: Vec::new(),
            steps: Vec::new(),
        };
        self.next += 1;
        self.parent = batch.hash();
        self.window = self.window.next();
        batch
    }
}

/// A count around `level`: the sum of uniform draws, wide enough that deltas are not trivial.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels are positive and below 10^5"
)]
fn sample(rng: &mut StdRng, level: f64) -> u64 {
    let factor: f64 = (0..3).map(|_| rng.random_range(0.0..0.7)).sum();
    (level * factor).round() as u64
}
