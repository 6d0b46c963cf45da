//! `percentile`: a month of 95th percentiles for ten thousand ports.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::period::{Period, Zone};
use tollgate_collector_core::rate::{MeterUsage, Outcome, Shape, Slice, rate_meter};
use tollgate_common::{Aggregation, Dimensions, Quantity, Timestamp, Window, WindowWidth};

use crate::process::{allocated, core_time};
use crate::report::{Better, Case, Report};

const PORTS: u32 = 10_000;
/// The first instants of July and of August 2026, in UTC: 31 days.
const MONTH: [i64; 2] = [1_782_864_000, 1_785_542_400];
const SLOT_SECS: u32 = 300;

const METERS: &str = r#"
[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"
"#;

const CARD: &str = r#"
id = "transit"
currency = "EUR"
from = "2026-01-01"
order = "standard/1"

[[price]]
id = "transit"
meter = "net.bytes"
model = "percentile"
percentile = "95"
slot = "PT5M"
directions = "greater"
missing = "zero"
per = "Mbit/s"
commit = "200"
unit = "0.80"
overage = "1.10"
"#;

pub(crate) fn run() -> Result<Report> {
    let files = BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/transit.toml".to_owned(), CARD.to_owned()),
    ]);
    let catalog = Catalog::parse(&files)?;
    let card = catalog.cards().next().context("one card")?;
    let meter = catalog.meters().next().context("one meter")?;
    let price = card.prices.first().context("one price")?;
    let [start, end] = MONTH.map(Timestamp::from_secs);
    let month = Period { start, end };
    let slices = [Slice {
        span: month,
        zone: Zone::UTC,
        priced: Some((card, price)),
        selects: None,
    }];
    let shape = Shape::new(month, Aggregation::Sum, &slices);

    let (mut gathering, mut ranking) = (Duration::ZERO, Duration::ZERO);
    let mut port = Port::new()?;
    let mut kept = 0;
    for number in 0..PORTS {
        let before = (allocated(), core_time());
        let usage = port.month(&shape)?;
        let gathered = core_time();
        if number == 0 {
            kept = allocated().saturating_sub(before.0);
        }
        let outcomes = black_box(rate_meter(&usage, meter, (month, month), &slices, true));
        ranking += core_time().saturating_sub(gathered);
        gathering += gathered.saturating_sub(before.1);
        ensure!(
            matches!(outcomes.as_slice(), [Outcome::Line(_)]),
            "a port has one line"
        );
    }
    let rows = f64::from(PORTS) * f64::from(port.rows);
    #[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
    let kept = kept as f64;
    Ok(Report {
        bench: "percentile",
        cases: vec![
            Case::new(
                "10,000 ports, 31 days of 5 minutes, the greater of in and out",
                ranking.as_secs_f64(),
                "s",
            )
            .target(2.0, Better::Lower),
            Case::new("what is kept of a port in a month", kept, "By"),
            Case::new(
                "gathered from windows of 5 minutes",
                rows / gathering.as_secs_f64(),
                "rollups/s",
            ),
        ],
    })
}

/// Traffic of one port after another.
struct Port {
    directions: [Dimensions; 2],
    random: u64,
    /// Windows of a month, of both directions.
    rows: u32,
}

impl Port {
    fn new() -> Result<Self> {
        Ok(Self {
            directions: [
                Dimensions::new([("direction", "in"), ("port", "xe-0/0/1")])?,
                Dimensions::new([("direction", "out"), ("port", "xe-0/0/1")])?,
            ],
            random: 0x9e37_79b9_7f4a_7c15,
            rows: 0,
        })
    }

    /// A month of a port with up to 10 Gbit/s.
    fn month(&mut self, shape: &Shape) -> Result<MeterUsage> {
        let width = WindowWidth::from_secs(SLOT_SECS)?;
        let mut usage = MeterUsage::default();
        self.rows = 0;
        let [mut at, end] = MONTH;
        while at < end {
            let window = Window::containing(Timestamp::from_secs(at), width);
            for dimensions in &self.directions {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let bytes = Quantity::from(self.random % 375_000_000_000);
                usage.count(shape, window, dimensions, bytes)?;
                self.rows += 1;
            }
            at += i64::from(SLOT_SECS);
        }
        Ok(usage)
    }
}
