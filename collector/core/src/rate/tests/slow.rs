//! Every model and convention against an independent slow implementation: big rationals, and
//! tiers that are walked piece by piece.

use num_bigint::BigInt;
use num_bigint::Sign;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;

use super::{catalog, line};
use crate::catalog::Catalog;

/// A fraction without bounds, never reduced; the denominator is above zero.
#[derive(Clone, Debug)]
struct Big(BigInt, BigInt);

impl Big {
    fn new(n: impl Into<BigInt>, d: impl Into<BigInt>) -> Self {
        Self(n.into(), d.into())
    }
    fn plus(&self, other: &Self) -> Self {
        Self(&self.0 * &other.1 + &other.0 * &self.1, &self.1 * &other.1)
    }
    fn minus(&self, other: &Self) -> Self {
        Self(&self.0 * &other.1 - &other.0 * &self.1, &self.1 * &other.1)
    }
    fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0, &self.1 * &other.1)
    }
    fn over(&self, other: &Self) -> Self {
        Self(&self.0 * &other.1, &self.1 * &other.0)
    }
    fn below(&self, other: &Self) -> bool {
        &self.0 * &other.1 < &other.0 * &self.1
    }
    fn at_least_zero(self) -> Self {
        match self.0.sign() {
            Sign::Minus => Self::new(0, 1),
            Sign::NoSign | Sign::Plus => self,
        }
    }
    /// Of a number that is not negative.
    fn whole(&self, mode: &str) -> BigInt {
        let floor = &self.0 / &self.1;
        let twice = (&self.0 - &floor * &self.1) * 2;
        let up = match mode {
            "down" => false,
            "up" => twice > BigInt::ZERO,
            "half_up" => twice >= self.1,
            "half_even" => twice > self.1 || (twice == self.1 && floor.bit(0)),
            _ => unreachable!("four modes"),
        };
        if up { floor + 1 } else { floor }
    }
    fn to_multiple(&self, step: &Self, mode: &str) -> Self {
        Self(self.over(step).whole(mode), 1.into()).times(step)
    }
}

const MODES: [&str; 4] = ["half_up", "half_even", "up", "down"];

/// A generated price. Numbers are in hundredths, prices in 10^-`digits`.
#[derive(Clone, Debug)]
struct Case {
    volume: bool,
    exclusive: bool,
    always: bool,
    /// 0 exact, 1 started, 2 full.
    blocks: usize,
    scale: u8,
    per: u32,
    bounds: Vec<u64>,
    units: Vec<Option<u64>>,
    flats: Vec<Option<u64>>,
    /// What single tiers are quoted for, and cost at least.
    pers: Vec<Option<u32>>,
    leasts: Vec<Option<u64>>,
    digits: u32,
    convert: Option<(u64, usize)>,
    tier_by: Option<(u64, usize)>,
    allowance: Option<(u64, bool)>,
    mode: usize,
    site: usize,
    places: Option<u32>,
    percent: Option<u64>,
    off: Option<u64>,
    maximum: Option<u64>,
    minimum: Option<u64>,
}

fn case() -> impl Strategy<Value = Case> {
    let maybe = |max: u64| proptest::option::of(1..max);
    let bounds = proptest::collection::btree_set(1u64..400_000, 0..5);
    let shape = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0usize..3,
        0u8..7,
        1u32..2000,
        bounds,
    );
    let prices = (
        proptest::collection::vec(proptest::option::weighted(0.8, 0u64..9_000_000), 6),
        proptest::collection::vec(maybe(2_000), 6),
        proptest::collection::vec(proptest::option::weighted(0.2, 1u32..900), 6),
        proptest::collection::vec(proptest::option::weighted(0.2, 1u64..4_000), 6),
        prop_oneof![Just(3u32), Just(6), Just(12)],
    );
    let step = |max: u64| proptest::option::of((1..max, 0usize..4));
    let before = (
        step(5_000),
        step(5_000),
        proptest::option::of((1u64..200_000, any::<bool>())),
    );
    let rounding = (0usize..4, 0usize..3, proptest::option::of(0u32..7));
    let behind = (maybe(10_001), maybe(5_000), maybe(90_000), maybe(5_000));
    (shape, prices, before, rounding, behind).prop_map(
        |(
            shape,
            (units, flats, pers, leasts, digits),
            (convert, tier_by, allowance),
            rounding,
            behind,
        )| Case {
            volume: shape.0,
            exclusive: shape.1,
            always: shape.2,
            blocks: shape.3,
            scale: shape.4,
            per: shape.5,
            bounds: shape.6.into_iter().collect(),
            units,
            flats,
            pers,
            leasts,
            digits,
            convert,
            tier_by,
            allowance,
            mode: rounding.0,
            // Increments are rounded only where there are blocks.
            site: if shape.3 == 0 {
                rounding.1 % 2
            } else {
                rounding.1
            },
            places: rounding.2,
            percent: behind.0,
            off: behind.1,
            maximum: behind.2,
            minimum: behind
                .3
                .filter(|least| behind.2.is_none_or(|most| *least <= most)),
        },
    )
}

fn decimal(n: u64, digits: u32) -> String {
    let power = 10u64.pow(digits);
    let width = digits as usize;
    format!("{}.{:0width$}", n / power, n % power)
}

impl Case {
    fn price(&self) -> String {
        let mut text = format!(
            "model = \"{}\"\nper = \"{} s\"\nbounds = \"{}\"\nfirst_flat = \"{}\"\nblocks = \"{}\"\n",
            if self.volume { "volume" } else { "graduated" },
            self.per,
            if self.exclusive {
                "exclusive"
            } else {
                "inclusive"
            },
            if self.always { "always" } else { "usage" },
            ["exact", "started", "full"][self.blocks],
        );
        let tiers: Vec<String> = (0..=self.bounds.len())
            .map(|at| {
                let mut keys = Vec::new();
                if let Some(to) = self.bounds.get(at) {
                    keys.push(format!("to = \"{}\"", decimal(*to, 2)));
                }
                if let Some(unit) = self.unit(at) {
                    keys.push(format!("unit = \"{}\"", decimal(unit, self.digits)));
                }
                if let Some(flat) = self.flats[at] {
                    keys.push(format!("flat = \"{}\"", decimal(flat, 2)));
                }
                if let Some(per) = self.pers[at] {
                    keys.push(format!("per = \"{per} s\""));
                }
                if let Some(least) = self.leasts[at] {
                    keys.push(format!("minimum = \"{}\"", decimal(least, 2)));
                }
                format!("{{ {} }}", keys.join(", "))
            })
            .collect();
        text.push_str(&format!("tiers = [{}]\n", tiers.join(", ")));
        let step = |name: &str, step: Option<(u64, usize)>| match step {
            Some((to, mode)) => {
                let (to, mode) = (decimal(to, 2), MODES[mode]);
                format!("{name} = {{ to = \"{to} s\", round = \"{mode}\" }}\n")
            }
            None => String::new(),
        };
        text.push_str(&step("convert", self.convert));
        text.push_str(&step("tier_by", self.tier_by));
        if let Some((quantity, all)) = self.allowance {
            let (quantity, above) = (decimal(quantity, 2), if all { "all" } else { "excess" });
            text.push_str(&format!(
                "allowance = {{ quantity = \"{quantity}\", above = \"{above}\" }}\n"
            ));
        }
        for (name, limit) in [("maximum", self.maximum), ("minimum", self.minimum)] {
            if let Some(limit) = limit {
                text.push_str(&format!("{name} = \"{}\"\n", decimal(limit, 2)));
            }
        }
        let places = self
            .places
            .map_or_else(String::new, |places| format!(", places = {places}"));
        text.push_str(&format!(
            "rounding = {{ at = \"{}\", mode = \"{}\"{places} }}\n",
            ["line", "tier", "increment"][self.site],
            MODES[self.mode],
        ));
        if let Some(percent) = self.percent {
            let percent = decimal(percent.min(10_000), 2);
            text.push_str(&format!(
                "[[discount]]\nid = \"share\"\npercent = \"{percent}\"\n"
            ));
        }
        if let Some(off) = self.off {
            let off = decimal(off, 2);
            text.push_str(&format!("[[discount]]\nid = \"off\"\namount = \"{off}\"\n"));
        }
        text
    }

    /// A tier has a unit price or a flat fee.
    fn unit(&self, at: usize) -> Option<u64> {
        self.units[at].or_else(|| self.flats[at].is_none().then_some(7))
    }

    fn catalog(&self) -> Catalog {
        catalog("s", self.scale, "EUR", &self.price())
    }

    fn money(&self, exact: &Big) -> Big {
        let places = self.places.unwrap_or(2);
        exact.to_multiple(&Big::new(1, BigInt::from(10).pow(places)), MODES[self.mode])
    }

    fn part(&self, at: usize, quantity: &Big, due: bool) -> Big {
        let digits = BigInt::from(10).pow(self.digits);
        let count = quantity.over(&Big::new(self.pers[at].unwrap_or(self.per), 1));
        let count = match self.blocks {
            0 => count,
            1 => Big(count.whole("up"), 1.into()),
            _ => Big(count.whole("down"), 1.into()),
        };
        let mut sum = Big::new(0, 1);
        if let Some(unit) = self.unit(at) {
            let unit = Big::new(unit, digits);
            let unit = if self.site == 2 {
                self.money(&unit)
            } else {
                unit
            };
            sum = sum.plus(&count.times(&unit));
        }
        if let Some(flat) = self.flats[at].filter(|_| due) {
            sum = sum.plus(&Big::new(flat, 100));
        }
        if let Some(least) = self.leasts[at].map(|least| Big::new(least, 100))
            && Big::new(0, 1).below(quantity)
            && sum.below(&least)
        {
            sum = least;
        }
        if self.site == 1 {
            self.money(&sum)
        } else {
            sum
        }
    }

    /// The amount by the slow way.
    fn slow(&self, quantity: u64) -> Decimal {
        let hundredths = |n: u64| Big::new(n, 100);
        let zero = Big::new(0, 1);
        let mut q = Big::new(quantity, BigInt::from(10).pow(u32::from(self.scale)));
        if let Some((to, mode)) = self.convert {
            q = q.to_multiple(&hundredths(to), MODES[mode]);
        }
        if let Some((included, all)) = self.allowance {
            let included = hundredths(included);
            if !(all && included.below(&q)) {
                q = q.minus(&included).at_least_zero();
            }
        }
        let selects = match self.tier_by {
            Some((to, mode)) => q.to_multiple(&hundredths(to), MODES[mode]),
            None => q.clone(),
        };
        // How many bounds are passed.
        let top = self
            .bounds
            .iter()
            .filter(|bound| {
                let bound = hundredths(**bound);
                if self.exclusive {
                    !selects.below(&bound)
                } else {
                    bound.below(&selects)
                }
            })
            .count();
        let used = zero.below(&q);
        let mut list = zero.clone();
        if self.volume {
            list = self.part(top, &q, top > 0 || used || self.always);
        } else {
            let mut rest = q.clone();
            let mut from = zero.clone();
            for at in 0..=top {
                let inside = if at == top {
                    rest.clone()
                } else {
                    let width = hundredths(self.bounds[at]).minus(&from);
                    from = hundredths(self.bounds[at]);
                    if width.below(&rest) {
                        width
                    } else {
                        rest.clone()
                    }
                };
                rest = rest.minus(&inside);
                list = list.plus(&self.part(at, &inside, at > 0 || used || self.always));
            }
        }
        let mut amount = list;
        if let Some(percent) = self.percent {
            let share = amount.times(&Big::new(percent.min(10_000), 10_000));
            amount = amount.minus(&share);
        }
        if let Some(off) = self.off {
            amount = amount.minus(&hundredths(off)).at_least_zero();
        }
        if let Some(maximum) = self.maximum.map(hundredths)
            && maximum.below(&amount)
        {
            amount = maximum;
        }
        if let Some(minimum) = self.minimum.map(hundredths)
            && amount.below(&minimum)
        {
            amount = minimum;
        }
        let places = self.places.unwrap_or(2);
        let rounded = self.money(&amount);
        let units = rounded
            .times(&Big::new(BigInt::from(10).pow(places), 1))
            .whole("down");
        Decimal::from_i128_with_scale(units.to_string().parse().expect("small enough"), places)
    }
}

/// Rates `cards` generated cards with `usages` quantities each, twice, and compares every byte.
fn rate_twice(cards: usize, usages: u32) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..cards {
        let tree = case().new_tree(&mut runner).expect("generates");
        let case = tree.current();
        let all = || {
            let catalog = case.catalog();
            let mut hasher = blake3::Hasher::new();
            for usage in 0..usages {
                // From nothing to beyond the limits, with both neighbours of powers of two.
                let quantity = (1i128 << (usage / 3 % 126)) + i128::from(usage % 3) - 1;
                let quantity = quantity.wrapping_add(i128::from(usage / 378) * 12_345);
                match line(&catalog, quantity) {
                    Ok(line) => hasher.update(line.to_string().as_bytes()),
                    Err(error) => hasher.update(error.to_string().as_bytes()),
                };
            }
            hasher.finalize()
        };
        assert_eq!(all(), all(), "{}", case.price());
    }
}

/// A million pairs are rated by the program `prices` of the tests, which is built for release.
#[test]
fn generated_pairs_rate_to_the_same_bytes() {
    rate_twice(40, 378);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn agrees_with_the_slow_way(case in case(), quantities in proptest::collection::vec(0u64..1_000_000_000, 4)) {
        let catalog = case.catalog();
        let edges = case.bounds.iter().map(|bound| bound * 10u64.pow(case.scale.into()) / 100);
        for quantity in quantities.into_iter().chain(edges).chain([0, 1]) {
            let line = line(&catalog, i128::from(quantity)).expect("rates");
            prop_assert_eq!(line.amount, case.slow(quantity), "{} of {}\n{}", quantity, case.price(), line);
            prop_assert_eq!(line.amount.scale(), case.places.unwrap_or(2));
        }
    }

    /// List amount and changes sum to the amount, tiers to the list amount and to the quantity.
    #[test]
    fn the_arithmetic_adds_up(case in case(), quantity in 0u64..1_000_000_000) {
        let catalog = case.catalog();
        let line = line(&catalog, i128::from(quantity)).expect("rates");
        let arithmetic = line.arithmetic().expect("fits");
        let changes: Decimal = arithmetic.steps.iter().map(|step| step.change).sum();
        prop_assert_eq!(line.list + changes, line.amount);
        let sum = |part: fn(&crate::rate::TierAmount<'_>) -> crate::rate::Ratio| {
            arithmetic.tiers.iter().try_fold(crate::rate::Ratio::ZERO, |sum, tier| sum.checked_add(part(tier)))
        };
        prop_assert_eq!(sum(|tier| tier.amount), Some(arithmetic.list));
        prop_assert_eq!(sum(|tier| tier.quantity), Some(arithmetic.charged));
        let ends = line.to_string().ends_with(&format!("{} EUR", line.amount));
        prop_assert!(ends, "{}", line);
    }

    /// Of graduated prices. All units of a volume price become cheaper at a bound, and so does a
    /// begun unit that counts in the tier below until it is complete.
    #[test]
    fn graduated_is_monotonic(case in case(), low in 0u64..1_000_000_000, more in 0u64..1_000_000) {
        let case = Case { volume: false, tier_by: None, ..case };
        let catalog = case.catalog();
        let amount = |q: u64| line(&catalog, i128::from(q)).expect("rates").amount;
        prop_assert!(amount(low) <= amount(low + more));
    }

    /// Billing the cumulative amount less what was billed before, in any pieces, ends at what is
    /// billed at once.
    #[test]
    fn pieces_sum_to_the_whole(case in case(), pieces in proptest::collection::vec(0u64..100_000_000, 1..10)) {
        let catalog = case.catalog();
        let amount = |q: u64| line(&catalog, i128::from(q)).expect("rates").amount;
        let (mut cumulative, mut billed) = (0, Decimal::ZERO);
        for piece in &pieces {
            cumulative += piece;
            let due = amount(cumulative) - billed;
            billed += due;
        }
        prop_assert_eq!(billed, amount(cumulative));
    }

    /// The quick way and the exact fractions give the same amounts, or at least one of them gives
    /// one; and then it is that one.
    #[test]
    fn the_quick_way_is_exact(case in case(), quantities in proptest::collection::vec(any::<u64>(), 8), shift in 0u32..60) {
        // Plain prices only, which the quick way takes.
        let (pers, leasts) = (vec![None; 6], vec![None; 6]);
        let case = Case { blocks: 0, site: 0, convert: None, tier_by: None, pers, leasts, ..case };
        let catalog = case.catalog();
        let card = catalog.cards().next().expect("one card");
        let price = &card.prices[0];
        let meter = catalog.meters().next().expect("one meter");
        let places = crate::rate::places(price, card);
        for quantity in quantities {
            let quantity = i128::from(quantity) >> shift;
            let exact = crate::rate::exact_amounts(tollgate_common::Quantity::new(quantity), Some(meter), price, places, super::day());
            let quick = price.fast.as_ref().and_then(|fast| fast.rate(price, places, quantity, super::day()));
            if let (Some(quick), Some(exact)) = (quick, exact) {
                prop_assert_eq!((quick.list, quick.amount), exact, "{} of {}", quantity, case.price());
            }
            let line = line(&catalog, quantity).ok().map(|line| (line.list, line.amount));
            prop_assert_eq!(line, quick.map(|quick| (quick.list, quick.amount)).or(exact));
        }
    }

    /// Whatever the quantity, up to the limits: the exact amount or a refusal, and the same again.
    #[test]
    fn extreme_quantities_are_exact_or_refused(case in case(), low in any::<u64>(), shift in 0u32..62) {
        let catalog = case.catalog();
        for quantity in [0, 1, i128::from(low), i128::from(low) << shift, i128::MAX, -i128::from(low), i128::MIN + 1] {
            if let Ok(first) = line(&catalog, quantity) {
                if let Ok(small) = u64::try_from(quantity) {
                    prop_assert_eq!(first.amount, case.slow(small));
                }
                let replayed = case.catalog();
                let again = line(&replayed, quantity).expect("rates again");
                prop_assert_eq!(first.to_string(), again.to_string());
            }
        }
    }
}
