//! What is priced by itself costs what each costs alone, whatever it is gathered in.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price};
use crate::rate::{Outcome, rate_meter};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A row of usage: which one, the quarter of an hour in which it was, and how much.
type Row = (usize, i64, i128);

fn used((name, quarter, units): Row) -> Used {
    Used {
        at: instant("2026-06-01T00:00:00Z").plus_millis(quarter * 900_000),
        width: 900,
        dimensions: dimensions(&format!("machine={}", NAMES[name])),
        units,
    }
}

/// Two versions of a price, with `keys` beside what they share.
fn rig(keys: &str, unit: u32, model: &str) -> Rig {
    let of = |unit: u32| {
        price(&format!(
            "model = \"{model}\"\nper = \"10 {{x}}\"\nallowance = \"7\"\n{keys}\n\
             tiers = [{{ to = \"100\", unit = \"{unit}.37\" }}, {{ unit = \"0.211\", flat = \"3\" }}]"
        ))
    };
    let (first, second) = (of(unit), of(unit + 1));
    let version = |from, prices| Version {
        from,
        card: "c",
        prices,
    };
    let versions = [
        version("2020-01-01", &*first),
        version("2026-06-16", &*second),
    ];
    Rig::new(&meter("{x}", 0, "sum"), &[], &versions, "UTC", "2026-06")
}

fn amount(rig: &Rig, used: &[Used]) -> Decimal {
    let slices = rig.slices();
    let usage = rig.gather(&slices, used);
    let outcomes = rate_meter(&usage, rig.meter(), (rig.period, rig.whole), &slices, true);
    let mut sum = Decimal::ZERO;
    for outcome in &outcomes {
        match outcome {
            Outcome::Line(line) => {
                assert!(line.arithmetic().is_some());
                sum += line.amount;
            }
            Outcome::Unrated { .. } => {}
        }
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_costs_what_it_costs_alone(
        rows in proptest::collection::vec((0usize..4, 0i64..2880, 1i128..90), 1..24),
        unit in 0u32..5,
        by_volume in any::<bool>(),
        by_day in any::<bool>(),
    ) {
        let model = if by_volume { "volume" } else { "graduated" };
        let interval = if by_day { "interval = \"P1D\"\n" } else { "" };
        let each = format!("{interval}each = \"machine\"\nrounding = {{ at = \"event\" }}");
        let (together, alone) = (rig(&each, unit, model), rig(interval, unit, model));
        let all: Vec<Used> = rows.iter().copied().map(used).collect();
        let mut sum = Decimal::ZERO;
        for name in 0..NAMES.len() {
            // Days are rounded each by itself too.
            let days = if by_day { 0..30 } else { 0..1 };
            for day in days {
                let own = rows.iter().copied().filter(|(of, quarter, _)| {
                    *of == name && (!by_day || quarter / 96 == day)
                });
                let own: Vec<Used> = own.map(used).collect();
                if !own.is_empty() {
                    sum += amount(&alone, &own);
                }
            }
        }
        prop_assert_eq!(amount(&together, &all), sum);
        let mut reversed = all.clone();
        reversed.reverse();
        prop_assert_eq!(amount(&together, &reversed), sum);
        // In pieces: each unit by itself costs the same.
        let split: Vec<Used> = all
            .iter()
            .flat_map(|used| {
                let half = Used { units: used.units / 2, ..used.clone() };
                let rest = Used { units: used.units - used.units / 2, ..used.clone() };
                [half, rest]
            })
            .collect();
        prop_assert_eq!(amount(&together, &split), sum);
    }
}

/// What was taken away beyond what there was of one is unrated, and lowers no other one.
#[test]
fn one_below_zero_lowers_no_other() {
    let rig = rig("each = \"machine\"", 1, "graduated");
    let rows = [(0, 0, 50), (1, 0, 20), (1, 5, -30)].map(used);
    let text = rig.texts(&rows).join(" | ");
    assert!(text.starts_with("unrated BelowZero -10 | "), "{text}");
    // 43 at 1.37 for 10.
    assert!(text.ends_with("5.891 ~ 5.89 EUR"), "{text}");
}

/// More than are shown one by one are shown together, and cost the same.
#[test]
fn many_are_shown_together() {
    let rig = rig("each = \"machine\"", 1, "graduated");
    let rows: Vec<Used> = (0..60)
        .map(|index| Used {
            dimensions: dimensions(&format!("machine=m{index:02}")),
            ..used((0, 0, 17))
        })
        .collect();
    let text = rig.texts(&rows).join("");
    assert!(
        text.contains("40 others: 680 charged as 400: 400 x 1.37 per 10 {x} = 54.8; in all"),
        "{text}"
    );
    assert_eq!(rig.amounts(&rows), ["82.20"]);
}
