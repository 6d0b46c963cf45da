//! Single events against an independent slow way in whole numbers: increments and what they use up of
//! what is free, limits and rounding of each event, and tiers that an event selects by its size.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::events::{events, rig};

fn cents(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// What a number of parts of a cent comes to, halves up.
fn rounded(amount: u64, parts: u64) -> String {
    let whole = (2 * amount + parts) / (2 * parts);
    Decimal::new(i64::try_from(whole).expect("small"), 2).to_string()
}

/// Limits, fee and rounding of single events, in cents.
#[derive(Clone, Debug)]
struct Limits {
    fixed: u64,
    least_and_most: Option<(u64, u64)>,
    /// Each is rounded up.
    up: bool,
}

fn limits() -> impl Strategy<Value = Limits> {
    let bounds = proptest::option::of((0u64..300, 300u64..900));
    (0u64..100, bounds, any::<bool>()).prop_map(|(fixed, least_and_most, up)| Limits {
        fixed,
        least_and_most,
        up,
    })
}

impl Limits {
    fn keys(&self) -> String {
        let mut keys = format!("fixed = \"{}\"\n", cents(self.fixed));
        if let Some((least, most)) = self.least_and_most {
            let (least, most) = (cents(least), cents(most));
            keys.push_str(&format!(
                "event_minimum = \"{least}\"\nevent_maximum = \"{most}\"\n"
            ));
        }
        if self.up {
            keys.push_str("rounding = { at = \"event\", mode = \"up\" }\n");
        }
        keys
    }

    /// What an event costs without its fee, and then with it, in parts of a cent.
    fn around(&self, amount: u64, parts: u64) -> u64 {
        let mut amount = amount + self.fixed * parts;
        if let Some((least, most)) = self.least_and_most {
            amount = amount.clamp(least * parts, most * parts);
        }
        if self.up {
            amount.next_multiple_of(parts)
        } else {
            amount
        }
    }
}

/// A price of calls.
#[derive(Clone, Debug)]
struct Calls {
    /// Where the first increment ends, its step in seconds, and cents for a minute.
    first: (u64, u64, u64),
    /// Step and price of what is longer.
    rest: (u64, u64),
    /// So many seconds are free; true if increments have rounded what uses them up.
    free: Option<(u64, bool)>,
    limits: Limits,
}

fn calls() -> impl Strategy<Value = Calls> {
    let first = (1u64..120, 1u64..90, 0u64..200);
    let free = proptest::option::of((1u64..400, any::<bool>()));
    (first, (1u64..20, 0u64..200), free, limits()).prop_map(|(first, rest, free, limits)| Calls {
        first,
        rest,
        free,
        limits,
    })
}

impl Calls {
    fn keys(&self) -> String {
        let ((to, step, unit), (later, cheaper)) = (self.first, self.rest);
        let (unit, cheaper) = (cents(unit), cents(cheaper));
        let mut keys = format!(
            "model = \"per_event\"\nper = \"1 min\"\nincrements = [\n  \
             {{ to = \"{to} s\", step = \"{step} s\", unit = \"{unit}\" }},\n  \
             {{ step = \"{later} s\", unit = \"{cheaper}\" }},\n]\n{}",
            self.limits.keys()
        );
        if let Some((secs, rounded)) = self.free {
            let counts = if rounded { "rounded" } else { "used" };
            keys.push_str(&format!(
                "free_quantity = \"{secs} s\"\nfree_counts = \"{counts}\"\n"
            ));
        }
        keys
    }

    /// A call's seconds in the first increment and behind it, each in whole steps.
    fn steps(&self, secs: u64) -> [u64; 2] {
        let ((to, step, _), (later, _)) = (self.first, self.rest);
        [
            secs.min(to).next_multiple_of(step),
            secs.saturating_sub(to).next_multiple_of(later),
        ]
    }

    /// In sixtieths of a cent.
    fn slow(&self, all: &[u64]) -> u64 {
        let mut left = self.free.map(|(secs, _)| secs);
        let mut sum = 0;
        for &secs in all {
            let mut charged = secs;
            if self.free.is_some_and(|(_, rounded)| rounded) {
                charged = self.steps(secs).iter().sum();
            }
            match left {
                Some(free) if free > 0 && charged <= free => {
                    left = Some(free - charged);
                    continue;
                }
                Some(free) => {
                    charged -= free;
                    left = Some(0);
                }
                None => {}
            }
            let [first, rest] = self.steps(charged);
            let plain = first * self.first.2 + rest * self.rest.1;
            sum += self.limits.around(plain, 60);
        }
        sum
    }
}

/// Tiers that single events select by their sizes: bounds in seconds, prices of seconds in tenths of a
/// cent, fees and least amounts in cents.
#[derive(Clone, Debug)]
struct Sizes {
    volume: bool,
    exclusive: bool,
    bounds: Vec<u64>,
    units: Vec<u64>,
    fees: Vec<Option<u64>>,
    leasts: Vec<Option<u64>>,
    limits: Limits,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let bounds = proptest::collection::btree_set(1u64..400, 0..3);
    let optional = || proptest::collection::vec(proptest::option::of(1u64..200), 3);
    let units = proptest::collection::vec(0u64..50, 3);
    let tiers = (bounds, units, optional(), optional());
    (any::<bool>(), any::<bool>(), tiers, limits()).prop_map(
        |(volume, exclusive, (bounds, units, fees, leasts), limits)| Sizes {
            volume,
            exclusive,
            bounds: bounds.into_iter().collect(),
            units,
            fees,
            leasts,
            limits,
        },
    )
}

impl Sizes {
    fn keys(&self) -> String {
        let tier = |at: usize| {
            let tenths = self.units[at];
            let mut keys = vec![format!("unit = \"0.{tenths:03}\"")];
            let optional = [
                ("to", self.bounds.get(at).map(ToString::to_string)),
                ("flat", self.fees[at].map(cents)),
                ("minimum", self.leasts[at].map(cents)),
            ];
            for (key, value) in optional {
                keys.extend(value.map(|value| format!("{key} = \"{value}\"")));
            }
            format!("{{ {} }}", keys.join(", "))
        };
        let tiers: Vec<String> = (0..=self.bounds.len()).map(tier).collect();
        let by = if self.volume { "volume" } else { "graduated" };
        let bounds = if self.exclusive {
            "exclusive"
        } else {
            "inclusive"
        };
        format!(
            "model = \"per_event\"\nper = \"1 s\"\nbounds = \"{bounds}\"\n\
             tier_by = {{ event = \"{by}\" }}\ntiers = [{}]\n{}",
            tiers.join(", "),
            self.limits.keys()
        )
    }

    /// In tenths of a cent.
    fn slow(&self, secs: u64) -> u64 {
        let passed = self.bounds.iter().filter(|bound| {
            if self.exclusive {
                **bound <= secs
            } else {
                **bound < secs
            }
        });
        let top = passed.count();
        let (mut sum, mut below) = (0, 0);
        for at in 0..=top {
            let end = self.bounds.get(at).map_or(secs, |bound| secs.min(*bound));
            let inside = if self.volume { secs } else { end - below };
            below = end;
            if self.volume && at < top {
                continue;
            }
            let mut cost = inside * self.units[at];
            if at > 0 || secs > 0 {
                cost += self.fees[at].unwrap_or(0) * 10;
            }
            if inside > 0 {
                cost = cost.max(self.leasts[at].unwrap_or(0) * 10);
            }
            sum += cost;
        }
        self.limits.around(sum, 10)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn increments_agree_with_a_slow_way(
        price in calls(),
        all in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..600], 1..12),
    ) {
        let keys = price.keys();
        let rig = rig("s", 0, &keys);
        let units: Vec<i128> = all.iter().map(|secs| i128::from(*secs)).collect();
        prop_assert_eq!(rig.amounts(&events(&units)), [rounded(price.slow(&all), 60)], "{}", keys);
    }

    #[test]
    fn sizes_agree_with_a_slow_way(
        price in sizes(),
        mut all in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..600], 1..8),
    ) {
        let keys = price.keys();
        let rig = rig("s", 0, &keys);
        // What lies on a bound, too.
        all.extend(&price.bounds);
        let units: Vec<i128> = all.iter().map(|secs| i128::from(*secs)).collect();
        let sum = all.iter().map(|secs| price.slow(*secs)).sum();
        let expected = [rounded(sum, 10)];
        let mut usage = events(&units);
        prop_assert_eq!(rig.amounts(&usage), expected.clone(), "{}", keys);
        usage.reverse();
        prop_assert_eq!(rig.amounts(&usage), expected);
    }
}
