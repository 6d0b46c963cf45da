//! Rows of a matrix with dimensions, bands and pools, and percentiles with commitments, each against
//! an independent slow way: unit by unit, and slot by slot.

use std::cmp::Reverse;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::parts::{Table, table};
use super::rig::{Rig, Used, Version, dimensions, instant, meter, price};

const WEEK: &str = "id = \"week\"\n\
    [[band]]\nid = \"peak\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"08:00\"\nto = \"18:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nto = \"08:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\"]\nfrom = \"18:00\"\n\
    [[band]]\nid = \"off\"\ndays = [\"sat\", \"sun\"]\n";

/// What a row may ask for: of the region by a pattern with what its prefix is, of the class, of the
/// band.
const REGIONS: [Option<&str>; 4] = [None, Some("*"), Some("eu-*"), Some("eu-west")];
const CLASSES: [Option<&str>; 2] = [None, Some("backup")];
const BANDS: [Option<&str>; 3] = [None, Some("peak"), Some("off")];

/// What usage may say.
const SAID_REGIONS: [Option<&str>; 4] = [None, Some("us"), Some("eu-north"), Some("eu-west")];

#[derive(Clone, Debug)]
struct Row {
    region: Option<&'static str>,
    class: Option<&'static str>,
    band: Option<&'static str>,
    pooled: bool,
    table: Table,
}

impl Row {
    fn text(&self) -> String {
        let when: Vec<String> = [("region", self.region), ("class", self.class)]
            .into_iter()
            .filter_map(|(key, pattern)| Some(format!("{key} = \"{}\"", pattern?)))
            .collect();
        let mut keys = Vec::new();
        if !when.is_empty() {
            keys.push(format!("when = {{ {} }}", when.join(", ")));
        }
        keys.extend(self.band.map(|band| format!("band = \"{band}\"")));
        if self.pooled {
            keys.push("tier_pool = \"all\"".to_owned());
        }
        keys.push(self.table.tiers());
        format!("{{ {} }}", keys.join(", "))
    }

    fn fits(&self, used: &Piece) -> bool {
        let region = match self.region {
            None => true,
            Some("*") => used.region.is_some(),
            Some("eu-*") => used.region.is_some_and(|region| region.starts_with("eu-")),
            exact => used.region == exact,
        };
        let class = self.class.is_none() || used.backup;
        region && class && self.band.is_none_or(|band| band == used.band())
    }

    /// Higher ones go first.
    fn specificity(&self) -> (usize, usize, usize) {
        let exact_region = self.region == Some("eu-west");
        let letters = match self.region {
            None | Some("*") => 0,
            Some(pattern) => pattern.trim_end_matches('*').len(),
        };
        (
            [exact_region, self.class.is_some(), self.band.is_some()]
                .into_iter()
                .filter(|is| *is)
                .count(),
            usize::from(self.region.is_some()) + usize::from(self.class.is_some()),
            letters + self.class.map_or(0, str::len),
        )
    }
}

/// Usage of a series in a quarter of an hour of June, which begins on a Monday.
#[derive(Clone, Debug)]
struct Piece {
    day: u32,
    quarter: u32,
    region: Option<&'static str>,
    backup: bool,
    units: u32,
}

impl Piece {
    fn band(&self) -> &'static str {
        let is_work = (self.day - 1) % 7 < 5 && (32..72).contains(&self.quarter);
        if is_work { "peak" } else { "off" }
    }

    fn used(&self) -> Used {
        let day = instant(&format!("2026-06-{:02}T00:00:00Z", self.day));
        let mut said = Vec::new();
        said.extend(self.region.map(|region| format!("region={region}")));
        if self.backup {
            said.push("class=backup".to_owned());
        }
        Used {
            at: day.plus_millis(i64::from(self.quarter) * 900_000),
            width: 900,
            dimensions: dimensions(&said.join(",")),
            units: self.units.into(),
        }
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let asks = proptest::collection::btree_set((0usize..4, 0usize..2, 0usize..3), 1..7);
    let more = proptest::collection::vec((any::<bool>(), table()), 7);
    (asks, more, any::<bool>()).prop_map(|(asks, more, turn)| {
        let row =
            |((region, class, band), (pooled, table)): ((usize, usize, usize), (bool, Table))| {
                Row {
                    region: REGIONS[region],
                    class: CLASSES[class],
                    band: BANDS[band],
                    pooled,
                    table: table.graduated(),
                }
            };
        let mut rows: Vec<Row> = asks.into_iter().zip(more).map(row).collect();
        if turn {
            rows.reverse();
        }
        rows
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    // So few that some are in the same window.
    (1u32..15, 0u32..6, 0usize..4, any::<bool>(), 1u32..40).prop_map(
        |(day, part, region, backup, units)| Piece {
            day,
            quarter: part * 16,
            region: SAID_REGIONS[region],
            backup,
            units,
        },
    )
}

fn rig(prices: &str, calendars: &[&str], unit: &str) -> Rig {
    let version = Version {
        from: "2026-01-01",
        card: "c",
        prices,
    };
    Rig::new(
        &meter(unit, 0, "sum"),
        calendars,
        &[version],
        "UTC",
        "2026-06",
    )
}

fn amount(cents: u64) -> String {
    Decimal::new(i64::try_from(cents).expect("small"), 2).to_string()
}

/// A stretch of hours in which an interface carries a rate.
#[derive(Clone, Debug)]
struct Carried {
    first: usize,
    hours: usize,
    is_in: bool,
    mbit: u64,
}

fn carried() -> impl Strategy<Value = Carried> {
    (0usize..720, 1usize..300, any::<bool>(), 0u64..40).prop_map(|(first, hours, is_in, mbit)| {
        Carried {
            first,
            hours: Ord::min(hours, 720 - first),
            is_in,
            mbit,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn rows_agree_with_a_slow_way(
        rows in rows(),
        highest in any::<bool>(),
        mut pieces in proptest::collection::vec(piece(), 0..15),
    ) {
        let texts: Vec<String> = rows.iter().map(Row::text).collect();
        let is_banded = rows.iter().any(|row| row.band.is_some());
        let (calendar, calendars) = if is_banded { ("calendar = \"week\"\n", &[WEEK][..]) } else { ("", &[][..]) };
        let precedence = if highest { "highest_price" } else { "most_specific" };
        let keys = format!(
            "model = \"matrix\"\nper = \"1 {{unit}}\"\nprecedence = \"{precedence}\"\n{calendar}rows = [{}]\n",
            texts.join(", ")
        );
        let rig = rig(&price(&keys), calendars, "{unit}");
        let usage: Vec<Used> = pieces.iter().map(Piece::used).collect();

        let row_of = |piece: &Piece| {
            let fitting = rows.iter().enumerate().filter(|(_, row)| row.fits(piece));
            let best = fitting.min_by_key(|(at, row)| {
                let (specific, dear) = (row.specificity(), row.table.unit(1));
                (if highest { Reverse((0, 0, 0)) } else { Reverse(specific) }, Reverse(if highest { dear } else { 0 }), *at)
            });
            best.map(|(at, _)| at)
        };
        pieces.sort_by_key(|piece| (piece.day, piece.quarter, row_of(piece)));
        let mut positions = vec![0u32; rows.len()];
        let (mut pool, mut cents, mut unmatched) = (0u32, 0u64, 0u32);
        for piece in &pieces {
            let Some(at) = row_of(piece) else {
                unmatched += piece.units;
                continue;
            };
            let row = &rows[at];
            let position = if row.pooled { &mut pool } else { &mut positions[at] };
            for _ in 0..piece.units {
                *position += 1;
                cents += u64::from(row.table.unit(*position));
            }
        }
        let mut found = rig.texts(&usage);
        let expected = format!(" {} EUR", amount(cents));
        let line = found.pop().unwrap_or_default();
        prop_assert!(line.ends_with(&expected), "{}: {} and not {}", keys, line, expected);
        let left: Vec<String> = (unmatched > 0).then(|| format!("unrated NoRow {unmatched}")).into_iter().collect();
        prop_assert_eq!(found, left);
        let mut turned = usage.clone();
        turned.reverse();
        prop_assert_eq!(rig.amounts(&turned), rig.amounts(&usage));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn commitments_to_percentiles_agree_with_a_slow_way(
        all in proptest::collection::vec(carried(), 0..8),
        tenths in 1usize..=1000,
        directions in prop_oneof![Just("greater"), Just("sum"), Just("each"), Just("in"), Just("out")],
        excluded in any::<bool>(),
        commit in proptest::option::of(1u64..60),
        (unit, overage) in (0u64..300, proptest::option::of(0u64..300)),
    ) {
        let mut keys = format!(
            "model = \"percentile\"\npercentile = \"{}.{}\"\nslot = \"PT1H\"\nper = \"Mbit/s\"\n\
             directions = \"{directions}\"\nmissing = \"{}\"\nunit = \"{}\"\n",
            tenths / 10, tenths % 10, if excluded { "excluded" } else { "zero" }, amount(unit),
        );
        let overage = overage.filter(|_| commit.is_some());
        if let Some(commit) = commit {
            keys.push_str(&format!("commit = \"{commit}\"\n"));
        }
        if let Some(overage) = overage {
            keys.push_str(&format!("overage = \"{}\"\n", amount(overage)));
        }
        let rig = rig(&price(&keys), &[], "By");
        let mut slots = [vec![None::<u64>; 720], vec![None; 720]];
        let mut usage = Vec::new();
        for carried in &all {
            for hour in (carried.first..).take(carried.hours) {
                let sum = slots[usize::from(!carried.is_in)][hour].get_or_insert(0);
                *sum += carried.mbit;
                usage.push(Used {
                    at: rig.period.start.plus_millis(i64::try_from(hour).expect("a month") * 3_600_000),
                    width: 900,
                    dimensions: dimensions(if carried.is_in { "direction=in" } else { "direction=out" }),
                    units: i128::from(carried.mbit) * 125_000 * 3600,
                });
            }
        }
        let rank = |slots: Vec<Option<u64>>| {
            let mut values: Vec<u64> = slots.into_iter().filter_map(|slot| if excluded { slot } else { Some(slot.unwrap_or(0)) }).collect();
            values.sort_unstable();
            let rank = (tenths * values.len()).div_ceil(1000);
            if values.is_empty() { 0 } else { values[rank - 1] }
        };
        let [ins, outs] = slots.clone();
        let sums = (0..720).map(|hour| match (ins[hour], outs[hour]) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0) + other.unwrap_or(0)),
        });
        let charged = match directions {
            "greater" => vec![Ord::max(rank(ins.clone()), rank(outs.clone()))],
            "sum" => vec![rank(sums.collect())],
            "each" => vec![rank(ins.clone()), rank(outs.clone())],
            "in" => vec![rank(ins.clone())],
            _ => vec![rank(outs.clone())],
        };
        let cost = |mbit: u64| {
            let commit = commit.unwrap_or(0);
            let above = mbit.saturating_sub(commit);
            (Ord::max(mbit, commit) - above) * unit + above * overage.unwrap_or(unit)
        };
        let expected: u64 = charged.into_iter().map(cost).sum();
        prop_assert_eq!(rig.amounts(&usage), [amount(expected)], "{} {:?}", keys, rig.texts(&usage));
    }
}
