//! Levels whose tiers are those of every moment, against a walk over the period's quarters of an
//! hour in whole numbers.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::rig::{Rig, Used, Version, dimensions, meter, price};
use crate::rate::Outcome;

const QUARTER_MILLIS: i64 = 900_000;

/// A level that holds for some quarters of an hour.
#[derive(Clone, Debug)]
struct Stretch {
    first: usize,
    quarters: usize,
    level: u32,
    /// Whether the agent counts in windows of five minutes.
    fine: bool,
}

#[derive(Clone, Debug)]
struct Case {
    zone: &'static str,
    month: &'static str,
    interval: &'static str,
    /// Bounds of tiers in seats, ascending; prices of seats, and fees, in cents.
    bounds: Vec<u32>,
    units: Vec<u32>,
    fees: Vec<u32>,
    allowance: u32,
    stretches: Vec<Stretch>,
}

fn case() -> impl Strategy<Value = Case> {
    let stretch = (0usize..3000, 1usize..400, 1u32..30, any::<bool>()).prop_map(
        |(first, quarters, level, fine)| Stretch {
            first,
            quarters,
            level,
            fine,
        },
    );
    let place = prop_oneof![
        Just(("Europe/Berlin", "2026-03")),
        Just(("America/Sao_Paulo", "2018-11")),
        Just(("UTC", "2024-02")),
    ];
    let prices = (
        proptest::collection::btree_set(1u32..60, 0..4),
        proptest::collection::vec(0u32..900, 4),
        proptest::collection::vec(prop_oneof![Just(0u32), 1u32..5_000], 4),
    );
    (
        place,
        prop_oneof![Just("P1D"), Just("PT1H"), Just("PT15M")],
        prices,
        prop_oneof![Just(0u32), 1u32..20],
        proptest::collection::vec(stretch, 0..6),
    )
        .prop_map(
            |((zone, month), interval, (bounds, units, fees), allowance, stretches)| Case {
                zone,
                month,
                interval,
                bounds: bounds.into_iter().collect(),
                units,
                fees,
                allowance,
                stretches,
            },
        )
}

impl Case {
    fn rig(&self) -> Rig {
        let cents = |cents: u32| format!("{}.{:02}", cents / 100, cents % 100);
        let tier = |at: usize| {
            let to = self.bounds.get(at);
            let to = to.map_or(String::new(), |to| format!("to = \"{to}\", "));
            let flat = match self.fees[at] {
                0 => String::new(),
                fee => format!(", flat = \"{}\"", cents(fee)),
            };
            format!("{{ {to}unit = \"{}\"{flat} }}", cents(self.units[at]))
        };
        let tiers: Vec<String> = (0..=self.bounds.len()).map(tier).collect();
        let mut keys = format!(
            "model = \"graduated\"\nover = \"period\"\ninterval = \"{}\"\nper = \"1 {{seat}}\"\n\
             tiers = [{}]\n",
            self.interval,
            tiers.join(", ")
        );
        if self.allowance > 0 {
            keys.push_str(&format!("allowance = \"{}\"\n", self.allowance));
        }
        let price = price(&keys);
        let version = Version {
            from: "2018-01-01",
            card: "c",
            prices: &price,
        };
        let meter = meter("{seat}", 0, "time_weighted");
        Rig::new(&meter, &[], &[version], self.zone, self.month)
    }

    /// The usage, `pieces` rows for each window.
    fn used(&self, rig: &Rig, pieces: i128) -> Vec<Used> {
        let mut all = Vec::new();
        for (index, stretch) in self.stretches.iter().enumerate() {
            let width = if stretch.fine { 300 } else { 900 };
            let millis = i64::from(width) * 1000;
            let first = i64::try_from(stretch.first).expect("a month") * QUARTER_MILLIS;
            let quarters = i64::try_from(stretch.quarters).expect("a month");
            for window in 0..quarters * QUARTER_MILLIS / millis {
                let after = first + window * millis;
                let at = rig.period.start.plus_millis(after);
                if at >= rig.period.end {
                    continue;
                }
                let units = i128::from(stretch.level) * i128::from(millis);
                for piece in 0..pieces {
                    all.push(Used {
                        at,
                        width,
                        dimensions: dimensions(&format!("series={index}")),
                        units: units * (piece + 1) / pieces - units * piece / pieces,
                    });
                }
            }
        }
        all
    }

    /// The amount in cents: seats and milliseconds of each quarter, put together to intervals.
    fn slow(&self, rig: &Rig) -> i128 {
        let length = rig.period.millis();
        let quarters = usize::try_from(length / QUARTER_MILLIS).expect("a month");
        let mut counted = vec![0i128; quarters];
        for stretch in &self.stretches {
            for quarter in counted
                .iter_mut()
                .skip(stretch.first)
                .take(stretch.quarters)
            {
                *quarter += i128::from(stretch.level) * i128::from(QUARTER_MILLIS);
            }
        }
        let start = |quarter: usize| {
            let after = i64::try_from(quarter).expect("a month") * QUARTER_MILLIS;
            rig.period.start.plus_millis(after)
        };
        let name = |quarter: usize| match self.interval {
            "P1D" => rig.zone.date_at(start(quarter)).to_string(),
            "PT1H" => (quarter / 4).to_string(),
            _ => quarter.to_string(),
        };
        let (mut sum, mut reached) = (0i128, vec![false; self.bounds.len() + 1]);
        let mut quarter = 0;
        while quarter < quarters {
            let own = name(quarter);
            let (mut millis, mut area) = (0i128, 0i128);
            while quarter < quarters && name(quarter) == own {
                millis += i128::from(QUARTER_MILLIS);
                area += counted[quarter];
                quarter += 1;
            }
            area = Ord::max(area - i128::from(self.allowance) * millis, 0);
            let mut below = 0i128;
            for (at, reached) in reached.iter_mut().enumerate() {
                let bound = self
                    .bounds
                    .get(at)
                    .map_or(i128::MAX, |to| i128::from(*to) * millis);
                *reached |= area > below;
                sum += i128::from(self.units[at]) * Ord::max(Ord::min(area, bound) - below, 0);
                below = bound;
            }
        }
        let length = i128::from(length);
        let fees: u32 = (0..reached.len())
            .filter(|at| reached[*at])
            .map(|at| self.fees[at])
            .sum();
        (2 * sum + length) / (2 * length) + i128::from(fees)
    }
}

fn cents(rig: &Rig, used: &[Used]) -> i128 {
    let amounts = rig.amounts(used);
    let amount: Decimal = amounts[0].parse().expect("an amount");
    assert_eq!((amounts.len(), amount.scale()), (1, 2));
    amount.mantissa()
}

#[test]
fn an_interval_that_is_cut_has_the_level_of_its_part() {
    let case = Case {
        zone: "UTC",
        month: "2026-06",
        interval: "P1D",
        bounds: vec![10],
        units: vec![600, 300],
        fees: vec![0, 0],
        allowance: 0,
        stretches: vec![Stretch {
            first: 0,
            quarters: 30 * 96,
            level: 16,
            fine: false,
        }],
    };
    let rig = case.rig();
    // At noon of the 16th another card begins: 78.00 for 15.5 of 30 days.
    let noon = rig
        .period
        .start
        .plus_millis((15 * 96 + 48) * QUARTER_MILLIS);
    let whole = rig.slices()[0];
    let mut slices = vec![whole, whole];
    (slices[0].span.end, slices[1].span.start) = (noon, noon);
    slices[1].priced = None;
    let usage = rig.gather(&slices, &case.used(&rig, 1));
    let periods = (rig.period, rig.whole);
    let outcomes = crate::rate::rate_meter(&usage, rig.meter(), periods, &slices, true);
    let lines: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Line(line) => Some(line.amount.to_string()),
            Outcome::Unrated { .. } => None,
        })
        .collect();
    assert_eq!(lines, ["40.30"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn levels_cost_the_integral_of_the_tiers(case in case(), more in 1u32..10) {
        let rig = case.rig();
        let used = case.used(&rig, 1);
        prop_assert_eq!(cents(&rig, &used), case.slow(&rig));
        // In pieces, and in another order.
        let mut pieces = case.used(&rig, 3);
        pieces.reverse();
        prop_assert_eq!(cents(&rig, &pieces), cents(&rig, &used));
        // What is added costs no less.
        let mut grown = case.clone();
        grown.stretches.push(Stretch { first: 100, quarters: 50, level: more, fine: false });
        prop_assert!(cents(&rig, &grown.used(&rig, 1)) >= cents(&rig, &used));
        // The pieces that are shown sum to the line.
        let slices = rig.slices();
        let usage = rig.gather(&slices, &used);
        let outcomes = crate::rate::rate_meter(&usage, rig.meter(), (rig.period, rig.whole), &slices, true);
        let Outcome::Line(line) = &outcomes[0] else { panic!("a line") };
        let arithmetic = line.arithmetic().expect("fits");
        let mut sum = crate::rate::Ratio::ZERO;
        for piece in &arithmetic.pieces {
            sum = sum.checked_add(piece.amount).expect("fits");
        }
        prop_assert_eq!(sum, arithmetic.list);
    }
}
