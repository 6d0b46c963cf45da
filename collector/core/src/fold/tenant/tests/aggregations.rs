//! What the aggregations beyond sum and last make of a period: exact, in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tollgate_common::sketch::{Histogram, UniqueSketch, hash};

use super::*;

const METERS: &str = r#"
[[meter]]
name = "peak"
unit = "{connection}"
scale = 0
aggregation = "max"

[[meter]]
name = "users"
unit = "{user}"
scale = 0
aggregation = "unique"

[[meter]]
name = "latency"
unit = "s"
scale = 3
aggregation = "distribution"

[[meter]]
name = "seats"
unit = "{seat}"
scale = 0
aggregation = "time_weighted"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "1970-01-01"
order = "standard/1"

[[price]]
id = "peak"
meter = "peak"
model = "per_unit"
per = "1 {connection}"
unit = "0.01"

[[price]]
id = "users"
meter = "users"
model = "graduated"
per = "1 {user}"
tiers = [{ to = "3", unit = "0" }, { unit = "1.50" }]

[[price]]
id = "latency"
meter = "latency"
model = "per_unit"
per = "1 min"
unit = "0.60"

[[price]]
id = "seats"
meter = "seats"
model = "per_unit"
per = "1 {seat}.h"
unit = "36"
"#;

const METER_NAMES: [&str; 4] = ["peak", "users", "latency", "seats"];

impl World {
    fn of_aggregations() -> Self {
        let mut world = Self::new("PT1M");
        let mut files = files("PT1M");
        files.insert("meters.toml".to_owned(), METERS.to_owned());
        files.insert("cards/edge.toml".to_owned(), CARD.to_owned());
        world.catalog(files);
        world
    }

    fn rollups(&mut self, name: &str, rows: Vec<Rollup>) {
        self.apply(&TenantInput::Rows(Rows {
            agent: agent(name),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: BatchSeq::FIRST,
            rows: RowSet::new(rows.into_iter().map(|row| (row, None))),
        }));
    }

    /// Everything is reported; closes what is due.
    fn settle(&mut self) -> Vec<LedgerEntry> {
        self.now = at(200);
        self.watermark("a", 200);
        self.watermark("b", 200);
        self.close_due()
    }
}

/// What one window of one series saw: for every meter the same numbers.
#[derive(Clone, Debug)]
struct Seen {
    agent: u8,
    meter: usize,
    region: u8,
    start: u8,
    values: Vec<u16>,
}

impl Seen {
    fn rollup(&self) -> Rollup {
        let name = METER_NAMES[self.meter];
        let mut rollup = row("acme", name, i64::from(self.start) * 10, 0).rollup();
        let region = if self.region == 0 { "eu" } else { "us" };
        let dimensions = Dimensions::new([("region", region)]).expect("valid");
        let meter = MeterName::new(name).expect("valid");
        let series = SeriesKey::new(tenant("acme"), meter, dimensions);
        rollup.series = Arc::new(series.expect("short"));
        rollup.events = self.values.len() as u64;
        let sum = self.values.iter().map(|&value| i128::from(value)).sum();
        let scale = |places| Scale::new(places).expect("in range");
        match name {
            "peak" => {
                rollup.aggregation = Aggregation::Max;
                let max = self.values.iter().max().expect("not empty");
                rollup.value = Quantity::new(i128::from(*max));
            }
            "users" => {
                rollup.aggregation = Aggregation::Unique;
                let mut sketch = UniqueSketch::new();
                for value in &self.values {
                    sketch.insert(hash(&value.to_le_bytes()));
                }
                // What an agent estimates is for people, and is not what counts.
                rollup.value = Quantity::new(999_999);
                rollup.detail = Detail::Unique(Arc::new(sketch));
            }
            "latency" => {
                rollup.aggregation = Aggregation::Distribution;
                rollup.scale = scale(3);
                let mut histogram = Histogram::new();
                for value in &self.values {
                    histogram.record((*value).into(), 1).expect("few");
                }
                rollup.value = Quantity::new(sum);
                rollup.detail = Detail::Distribution(Arc::new(histogram));
            }
            _ => {
                rollup.aggregation = Aggregation::TimeWeighted;
                rollup.scale = scale(3);
                rollup.value = Quantity::new(sum);
            }
        }
        rollup
    }
}

fn seen() -> impl Strategy<Value = Seen> {
    let values = proptest::collection::vec(any::<u16>(), 1..6);
    (0_u8..2, 0..METER_NAMES.len(), 0_u8..2, 0_u8..18, values).prop_map(
        |(agent, meter, region, start, values)| Seen {
            agent,
            meter,
            region,
            start,
            values,
        },
    )
}

/// By meter and period: what a person with all values at hand computes.
fn expected(all: &[Seen]) -> BTreeMap<(String, i64), i128> {
    let mut series: BTreeMap<(usize, u8, i64), Vec<u16>> = BTreeMap::new();
    for seen in all {
        let period = i64::from(seen.start) * 10 / 60 * 60;
        let key = (seen.meter, seen.region, period);
        series.entry(key).or_default().extend(&seen.values);
    }
    let mut quantities = BTreeMap::new();
    for ((meter, _, period), values) in series {
        let distinct: BTreeSet<u16> = values.iter().copied().collect();
        let quantity = match METER_NAMES[meter] {
            "peak" => i128::from(*distinct.last().expect("not empty")),
            "users" => distinct.len() as i128,
            _ => values.iter().map(|&value| i128::from(value)).sum(),
        };
        *quantities
            .entry((METER_NAMES[meter].to_owned(), period))
            .or_default() += quantity;
    }
    quantities.retain(|_, quantity| *quantity != 0);
    quantities
}

/// What the ledger says: by meter and period the quantity, and the amount of all.
fn booked(world: &World) -> (BTreeMap<(String, i64), i128>, Decimal) {
    let mut quantities: BTreeMap<(String, i64), i128> = BTreeMap::new();
    let mut amount = Decimal::ZERO;
    for entry in ledger(&world.effects) {
        let posting = entry.posting;
        let meter = posting.meter.expect("of a meter").to_string();
        *quantities.entry((meter, posting.start.secs())).or_default() += posting.quantity.units();
        amount += posting.amount.expect("rated");
    }
    quantities.retain(|_, quantity| *quantity != 0);
    (quantities, amount)
}

proptest! {
    /// The ledger has what a person with all values at hand computes, whatever the order of
    /// arrival, how the rows were split over entries, how often the periods were closed in
    /// between, and whether the fold was restarted from a snapshot.
    #[test]
    fn every_aggregation_is_exact_in_any_order(
        all in proptest::collection::vec(seen(), 1..25),
        closings in proptest::collection::vec(any::<bool>(), 25),
        restarts in proptest::collection::vec(any::<bool>(), 25),
        turn in 0_usize..25,
    ) {
        let mut world = World::of_aggregations();
        for (index, seen) in all.iter().enumerate() {
            world.rollups(["a", "b"][usize::from(seen.agent)], vec![seen.rollup()]);
            if restarts[index] {
                let bytes = world.fold.to_bytes();
                world.fold = TenantFold::from_bytes(&bytes).expect("own snapshot");
                prop_assert_eq!(world.fold.to_bytes(), bytes);
            }
            if closings[index] {
                world.settle();
            }
        }
        world.settle();
        let mut turned = all.clone();
        turned.rotate_left(turn % all.len());
        let mut other = World::of_aggregations();
        for seen in turned.iter().rev() {
            other.rollups(["a", "b"][usize::from(seen.agent)], vec![seen.rollup()]);
        }
        other.settle();
        let found = booked(&world);
        prop_assert_eq!(&found.0, &expected(&all));
        prop_assert_eq!(found, booked(&other));
        prop_assert_eq!(world.fold.oddities(), Oddities::default());
    }

    /// What can be there twice without harm is: a maximum and a set, seen again by a clone or
    /// in another window, change nothing.
    #[test]
    fn maxima_and_sets_may_come_twice(mut all in proptest::collection::vec(seen(), 1..12)) {
        all.retain(|seen| seen.meter < 2);
        let mut world = World::of_aggregations();
        for seen in all.iter().chain(&all) {
            world.rollups("a", vec![seen.rollup()]);
        }
        world.settle();
        prop_assert_eq!(booked(&world).0, expected(&all));
    }
}

fn seen_once(meter: usize, start: u8, values: &[u16]) -> Rollup {
    let seen = Seen {
        agent: 0,
        meter,
        region: 0,
        start,
        values: values.to_vec(),
    };
    seen.rollup()
}

#[test]
fn amounts_are_those_of_the_units_billed() {
    let mut world = World::of_aggregations();
    world.rollups(
        "a",
        vec![
            seen_once(0, 0, &[70, 120]),
            seen_once(1, 0, &[1, 2, 3, 4, 5]),
            // 90 s in all.
            seen_once(2, 0, &[30_000, 60_000]),
            // Ten seats for ten seconds are 100 seat seconds.
            seen_once(3, 0, &[50_000, 50_000]),
        ],
    );
    let lines: Vec<String> = world
        .settle()
        .iter()
        .map(|entry| entry.posting.arithmetic.clone())
        .collect();
    assert_eq!(
        lines,
        [
            "90 x 0.60 per 1 min = 0.90 EUR",
            "120 x 0.01 per 1 {connection} = 1.20 EUR",
            "100 x 36 per 1 {seat}.h = 1.00 EUR",
            "3 x 0 + 2 x 1.50 per 1 {user} = 0 + 3 = 3.00 EUR",
        ]
    );
}

#[test]
fn late_values_are_settled_by_lines_anew() {
    let mut world = World::of_aggregations();
    world.rollups(
        "a",
        vec![seen_once(0, 0, &[100]), seen_once(1, 0, &[1, 2, 3])],
    );
    assert_eq!(world.settle().len(), 2);
    // A lower peak and users seen before change nothing, and nothing is booked.
    world.rollups("b", vec![seen_once(0, 1, &[80]), seen_once(1, 1, &[2, 3])]);
    assert_eq!(world.settle().len(), 0);
    world.rollups("b", vec![seen_once(0, 2, &[150]), seen_once(1, 2, &[3, 4])]);
    let adjusted: Vec<_> = world
        .settle()
        .into_iter()
        .map(|entry| (entry.posting.kind, entry.posting.quantity.units()))
        .collect();
    let (reversal, charge) = (EntryKind::Reversal, EntryKind::Charge);
    assert_eq!(
        adjusted,
        [(reversal, -100), (charge, 150), (reversal, -3), (charge, 4)]
    );
}

#[test]
fn a_maximum_below_zero_is_shown_and_costs_nothing() {
    let mut world = World::of_aggregations();
    for value in [-7, -3, -9] {
        let mut row = seen_once(0, 0, &[1]);
        row.value = Quantity::new(value);
        world.rollups("a", vec![row]);
    }
    let entry = world.settle().remove(0).posting;
    assert_eq!(entry.quantity, Quantity::new(-3));
    assert_eq!((&*entry.line, entry.amount), ("below_zero", None));
}
