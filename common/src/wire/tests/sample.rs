//! Messages and batches for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sketch::{Histogram, UniqueSketch};
use crate::wire::{Ack, Held, Hello, Message, Refuse, RefuseCode, Resume, Welcome};
use crate::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, ClockStep, Detail, Dimensions, Incarnation,
    Lineage, Loss, LossAmount, LossReason, MeterName, Opening, Parent, ParentEnd, Quantity,
    Remembered, Rollup, Scale, SeriesKey, Span, TenantId, Timestamp, Tombstone, Total, Window,
    WindowWidth,
};

/// A small, fast, seeded generator (splitmix64).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "a draw for a test")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Heavy-tailed around `median`.
    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// A count with the spread of independent events.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a draw for a test"
    )]
    fn count(&mut self, mean: f64) -> u64 {
        (mean + mean.sqrt() * self.normal()).round().max(1.0) as u64
    }
}

pub(in crate::wire) fn series(tenant: &str, meter: &str, pairs: &[(&str, &str)]) -> Arc<SeriesKey> {
    let key = SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new(meter).expect("valid"),
        Dimensions::new(pairs.iter().copied()).expect("valid"),
    );
    Arc::new(key.expect("short enough"))
}

pub(super) fn window(start_secs: i64) -> Window {
    let width = WindowWidth::from_secs(10).expect("divides 900");
    Window::starting(Timestamp::from_secs(start_secs), width).expect("aligned")
}

pub(super) fn sum(series: &Arc<SeriesKey>, start_secs: i64, value: i128, events: u64) -> Rollup {
    Rollup {
        series: Arc::clone(series),
        aggregation: Aggregation::Sum,
        scale: Scale::ZERO,
        window: window(start_secs),
        value: Quantity::new(value),
        events,
        detail: crate::Detail::None,
    }
}

/// A batch without lists.
pub(super) fn bare(sequence: u64) -> Batch {
    Batch {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes(*b"incarnation nr 1"),
        sequence: BatchSeq::new(sequence).expect("not zero"),
        parent_hash: if sequence == 1 {
            BatchHash::ZERO
        } else {
            BatchHash::from_bytes(*blake3::hash(&sequence.to_le_bytes()).as_bytes())
        },
        span: Span {
            from: Timestamp::from_millis(1_780_315_200_007),
            to: Timestamp::from_millis(1_780_315_210_009),
        },
        watermark: Timestamp::from_secs(1_780_315_210),
        opening: (sequence == 1).then_some(Opening { parent: None }),
        is_final: false,
        rows: Vec::new(),
        totals: Vec::new(),
        losses: Vec::new(),
        steps: Vec::new(),
    }
}

/// A batch that has something in every field.
pub(super) fn full() -> Batch {
    let requests = |region| series("acme", "http.requests", &[("region", region)]);
    let level = series("umbrella", "queue.depth", &[("queue", "mail"), ("v", "")]);
    let mut batch = bare(1);
    batch.opening = Some(Opening {
        parent: Some(Parent {
            incarnation: Incarnation::from_bytes(*b"incarnation nr 0"),
            last_sequence: 41,
            last_hash: BatchHash::from_bytes([7; 32]),
            end: ParentEnd::Unclean {
                reason: LossReason::UncleanBoot,
                from: Timestamp::from_millis(1_780_315_100_001),
                to: Timestamp::from_millis(1_780_315_200_002),
            },
        }),
    });
    batch.is_final = true;
    batch.rows = vec![
        sum(&requests("eu"), 1_780_315_190, 2, 2),
        sum(&requests("eu"), 1_780_315_200, 1000, 1000),
        sum(&requests("us"), 1_780_315_200, i128::MAX, u64::MAX),
        Rollup {
            aggregation: Aggregation::Last,
            scale: Scale::new(3).expect("in range"),
            ..sum(&level, 1_780_315_200, -12_345, 1)
        },
    ];
    batch.totals = vec![
        total("acme", "http.requests", 123_456),
        total("zz", "unseen", 0),
    ];
    batch.losses = vec![
        Loss {
            reason: LossReason::SpoolDamaged,
            tenant: Some(TenantId::unattributed()),
            meter: None,
            amount: LossAmount::AtMost(Quantity::new(99)),
            from: Timestamp::EPOCH,
            to: Timestamp::MAX,
        },
        Loss {
            reason: LossReason::UncleanBoot,
            tenant: None,
            meter: Some(MeterName::new("net.bytes").expect("valid")),
            amount: LossAmount::Unknown,
            from: Timestamp::from_secs(1),
            to: Timestamp::from_secs(2),
        },
    ];
    batch
}

/// A detail that fits, small or large, as `seed` says.
pub(super) fn detail_of(aggregation: Aggregation, seed: u64) -> Detail {
    let mut rng = Rng(seed);
    let count = [0, 3, 40, 256, 257, 900][usize::try_from(seed % 6).expect("small")];
    match aggregation {
        Aggregation::Unique => {
            let mut sketch = UniqueSketch::new();
            (0..count).for_each(|_| sketch.insert(rng.next()));
            Detail::Unique(Arc::new(sketch))
        }
        Aggregation::Distribution => {
            let mut histogram = Histogram::new();
            for _ in 0..count {
                let value = rng.next() >> (rng.next() % 64);
                histogram.record(value, 1 + value % 5).expect("few");
            }
            Detail::Distribution(Arc::new(histogram))
        }
        _ => Detail::None,
    }
}

/// A batch with a row of every aggregation, and clock steps: what needs version 2.
pub(super) fn full_v2() -> Batch {
    let mut batch = full();
    let depth = series("umbrella", "queue.wait", &[("queue", "mail")]);
    for (index, aggregation) in Aggregation::ALL.into_iter().enumerate() {
        // 3 values, 256 hashes as they are, registers, 40 values, 900 values.
        for seed in [1, 3, 4] {
            let start = 1_780_315_200 + 10 * i64::try_from(seed).expect("small");
            batch.rows.push(Rollup {
                aggregation,
                detail: detail_of(aggregation, seed + 6 * index as u64),
                ..sum(&depth, start, 1000 + i128::from(seed), 17)
            });
        }
    }
    batch.steps = vec![
        ClockStep {
            at: Timestamp::from_millis(1_780_315_203_000),
            by_millis: -2500,
        },
        ClockStep {
            at: Timestamp::from_millis(1_780_315_204_000),
            by_millis: 86_400_000,
        },
    ];
    batch
}

pub(super) fn total(tenant: &str, meter: &str, quantity: i128) -> Total {
    Total {
        tenant: TenantId::new(tenant).expect("valid"),
        meter: MeterName::new(meter).expect("valid"),
        scale: Scale::ZERO,
        quantity: Quantity::new(quantity),
    }
}

/// A tombstone of version 2: its agent's cells remember what the lost batch had brought it to.
pub(super) fn remembering() -> Tombstone {
    let total = |tenant: &str, meter: &str, quantity: i128| Total {
        tenant: TenantId::new(tenant).expect("valid"),
        meter: MeterName::new(meter).expect("valid"),
        scale: Scale::ZERO,
        quantity: Quantity::new(quantity),
    };
    Tombstone {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([1; 16]),
        sequence: BatchSeq::new(18).expect("positive"),
        reason: LossReason::SpoolDamaged,
        remembered: Some(Box::new(Remembered {
            cut: Timestamp::from_millis(1_780_000_010_003),
            watermark: Timestamp::from_secs(1_780_000_010),
            is_final: true,
            is_complete: false,
            totals: vec![
                total("acme", "http.requests", 1_234_567),
                total("acme", "net.bytes", i128::MAX),
                total("b", "http.requests", 0),
            ],
        })),
    }
}

/// One message of each kind.
pub(super) fn messages() -> Vec<Message> {
    let incarnation = Incarnation::from_bytes(*b"incarnation nr 1");
    let seq = |number| BatchSeq::new(number).expect("not zero");
    vec![
        Message::Hello(Hello {
            version_min: 1,
            version_max: 3,
            agent: AgentId::new("edge-1").expect("valid"),
            now: Timestamp::from_millis(1_780_315_200_123),
            held: vec![
                Held {
                    incarnation: Incarnation::from_bytes(*b"incarnation nr 0"),
                    first: seq(40),
                    first_parent: BatchHash::from_bytes([6; 32]),
                    last: seq(41),
                    last_hash: BatchHash::from_bytes([7; 32]),
                },
                Held {
                    incarnation,
                    first: seq(1),
                    first_parent: BatchHash::ZERO,
                    last: seq(1),
                    last_hash: BatchHash::from_bytes([8; 32]),
                },
            ],
        }),
        Message::Welcome(Welcome {
            version: 1,
            lineage: Lineage::from_bytes(*b"lineage number 1"),
            now: Timestamp::from_millis(1_780_315_200_456),
            resume: vec![Resume {
                incarnation,
                durable: 7,
                durable_hash: BatchHash::from_bytes([9; 32]),
                releasable: 5,
            }],
            window_batches: 64,
            window_bytes: 32 << 20,
        }),
        Message::Batch(full()),
        Message::Tombstone(Tombstone {
            agent: AgentId::new("edge-1").expect("valid"),
            incarnation,
            sequence: seq(17),
            reason: LossReason::SpoolFull,
            remembered: None,
        }),
        Message::Ack(Ack {
            incarnation,
            durable: 17,
            releasable: 16,
        }),
        Message::Refuse(Refuse {
            code: RefuseCode::UnknownAgent,
            reason: "agent `edge-1` is not configured".to_owned(),
        }),
    ]
}

/// What one series of the realistic load counts.
#[derive(Clone, Copy)]
enum Load {
    /// One event per unit.
    Requests,
    /// Bytes of requests.
    Bytes,
    /// Bytes of an interface, polled once a second.
    Interface,
    /// Several units per event, fixed.
    Units,
}

/// A fleet member's usage: 25 tenants with 4 meters and 10 combinations of 3 dimensions each.
pub(super) struct Realistic {
    series: Vec<(Arc<SeriesKey>, Load, f64)>,
    totals: BTreeMap<(TenantId, MeterName), i128>,
    rng: Rng,
    sequence: u64,
    /// Chance that a series is silent in a window.
    idle: f64,
    /// How far a series strays from its mean: sigma of a log-normal factor.
    pub(super) spread: f64,
}

impl Realistic {
    pub(super) fn new(seed: u64, idle: f64) -> Self {
        let meters = [
            ("http.requests", Load::Requests, 40.0),
            ("http.response_bytes", Load::Bytes, 40.0),
            ("if.bytes", Load::Interface, 2e6),
            ("llm.tokens", Load::Units, 15.0),
        ];
        let mut rng = Rng(seed);
        let mut all = Vec::new();
        for tenant in 0..25 {
            let tenant = format!("customer-{:04}", tenant * 37);
            for (meter, load, median) in meters {
                for combination in 0..10 {
                    let pairs = [
                        ("method", ["GET", "POST"][combination % 2]),
                        ("region", ["eu-central-1", "us-east-1"][combination / 2 % 2]),
                        (
                            "route",
                            ["/v1/items", "/v1/orders", "/login"][combination / 4],
                        ),
                    ];
                    let rate = rng.log_normal(median, 1.8);
                    all.push((series(&tenant, meter, &pairs), load, rate));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Self {
            series: all,
            totals: BTreeMap::new(),
            rng,
            sequence: 0,
            idle,
            spread: 0.3,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a draw for a test"
    )]
    pub(super) fn next_batch(&mut self) -> Batch {
        self.sequence += 1;
        let start = 1_780_315_200 + 10 * i64::try_from(self.sequence).expect("small");
        let mut batch = bare(self.sequence);
        batch.span.from = Timestamp::from_millis(start * 1000 + 3);
        batch.span.to = Timestamp::from_millis(start * 1000 + 10_004);
        batch.watermark = Timestamp::from_secs(start + 10);
        let mut touched = BTreeMap::new();
        for (series, load, rate) in &self.series {
            if self.rng.unit() < self.idle {
                continue;
            }
            let burst = self.rng.log_normal(*rate, self.spread);
            let (value, events) = match load {
                Load::Requests => {
                    let count = self.rng.count(burst);
                    (i128::from(count), count)
                }
                Load::Bytes => {
                    let count = self.rng.count(burst);
                    let size = self.rng.log_normal(9000.0, 1.2 / (count as f64).sqrt());
                    ((count as f64 * size) as i128, count)
                }
                Load::Interface => (burst as i128 + 60, 10),
                Load::Units => {
                    let count = self.rng.count(burst);
                    (i128::from(count) * 250, count)
                }
            };
            batch.rows.push(sum(series, start, value, events));
            let key = (series.tenant().clone(), series.meter().clone());
            *touched.entry(key).or_insert(0) += value;
        }
        for (key, value) in touched {
            let quantity = self.totals.entry(key.clone()).or_insert(0);
            *quantity += value;
            batch
                .totals
                .push(total(key.0.as_str(), key.1.as_str(), *quantity));
        }
        batch
    }
}
