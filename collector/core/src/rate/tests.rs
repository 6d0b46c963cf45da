mod bandwidth;
mod doc;
mod each;
mod edges;
mod events;
mod going_on;
mod laws;
mod levels;
mod parts;
mod published;
mod published_parts;
mod rig;
mod slow;
mod slow_events;
mod slow_parts;

use std::collections::BTreeMap;

use num_bigint::BigInt;
use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::MeterName;

use super::*;
use crate::catalog::Catalog;

/// A catalog of one meter and one price, for tests.
fn catalog(unit: &str, scale: u8, currency: &str, price: &str) -> Catalog {
    let meters = format!(
        "[[meter]]\nname = \"m\"\nunit = \"{unit}\"\nscale = {scale}\naggregation = \"sum\"\n"
    );
    let card = format!(
        "id = \"c\"\ncurrency = \"{currency}\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\
         [[price]]\nid = \"p\"\nmeter = \"m\"\n{price}\n"
    );
    let files = BTreeMap::from([
        ("meters.toml".to_owned(), meters),
        ("cards/c.toml".to_owned(), card),
    ]);
    Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The day on which the period begins.
fn day() -> NaiveDate {
    "2026-06-01".parse().expect("a date")
}

fn line(catalog: &Catalog, quantity: i128) -> Result<LineItem<'_>, RateError> {
    let card = catalog.cards().next().expect("one card");
    let name = MeterName::new("m").expect("valid");
    let meter = catalog.meter(&name).expect("declared");
    rate(Quantity::new(quantity), meter, &card.prices[0], card, day())
}

fn amount(catalog: &Catalog, quantity: i128) -> String {
    line(catalog, quantity).expect("rates").amount.to_string()
}

const REQUESTS: &str = "model = \"graduated\"\nper = \"1000 {request}\"\n\
    tiers = [{ to = \"2000000\", unit = \"0.40\" }, { unit = \"0.25\" }]";

#[test]
fn the_worked_example() {
    let catalog = catalog("{request}", 0, "EUR", REQUESTS);
    let line = line(&catalog, 3_500_000).expect("rates");
    assert_eq!(line.amount.to_string(), "1175.00");
    assert_eq!(
        line.to_string(),
        "2000000 x 0.40 + 1500000 x 0.25 per 1000 {request} = 800 + 375 = 1175.00 EUR"
    );
    let tiers = line.arithmetic().expect("fits").tiers;
    assert_eq!(tiers.len(), 2);
    assert_eq!(tiers[1].tier.from.to_string(), "2000000");
    assert_eq!(tiers[1].exact.to_string(), "375");
}

#[test]
fn the_lower_tier_includes_its_bound() {
    let catalog = catalog("{request}", 0, "EUR", REQUESTS);
    let tiers = |line: &LineItem<'_>| line.arithmetic().expect("fits").tiers.len();
    assert_eq!(tiers(&line(&catalog, 2_000_000).expect("rates")), 1);
    assert_eq!(amount(&catalog, 2_000_000), "800.00");
    let above = line(&catalog, 2_000_001).expect("rates");
    assert_eq!(tiers(&above), 2);
    assert_eq!(
        above.arithmetic().expect("fits").list.to_string(),
        "800.00025"
    );
}

#[test]
fn nothing_costs_nothing_and_so_does_less() {
    let catalog = catalog("{request}", 0, "EUR", REQUESTS);
    assert_eq!(amount(&catalog, 0), "0.00");
    let line = line(&catalog, -5).expect("rates");
    assert_eq!(
        (line.amount.to_string(), line.quantity),
        ("0.00".to_owned(), Quantity::new(-5))
    );
    assert!(
        line.to_string()
            .starts_with("-5 is below zero and rated as 0: "),
        "{line}"
    );
}

#[test]
fn a_line_is_rounded_once_and_says_so() {
    let price = "model = \"per_unit\"\nper = \"1 {request}\"\nunit = \"0.0005\"";
    let yen = catalog("{request}", 0, "JPY", price);
    // 1000 events of 0.0005 yen each would all vanish if they were rounded one by one.
    assert_eq!(amount(&yen, 1000), "1");
    assert_eq!(amount(&yen, 999), "0");
    assert_eq!(
        line(&yen, 1100).expect("rates").to_string(),
        "1100 x 0.0005 per 1 {request} = 0.55 ~ 1 JPY"
    );
    let third = catalog(
        "{request}",
        0,
        "EUR",
        "model = \"per_unit\"\nper = \"3 {request}\"\nunit = \"0.01\"",
    );
    assert_eq!(
        line(&third, 1).expect("rates").to_string(),
        "1 x 0.01 per 3 {request} = 1/300 ~ 0.00 EUR"
    );
    assert_eq!(amount(&third, 2), "0.01");
}

#[test]
fn per_does_not_round_the_quantity_up() {
    let catalog = catalog(
        "By",
        0,
        "EUR",
        "model = \"per_unit\"\nper = \"1 GiB\"\nunit = \"0.08\"",
    );
    assert_eq!(amount(&catalog, 1 << 29), "0.04");
    assert_eq!(amount(&catalog, 1 << 30), "0.08");
}

#[test]
fn bounds_may_be_finer_than_the_scale() {
    let price = "model = \"graduated\"\nper = \"1 s\"\n\
        tiers = [{ to = \"0.5\", unit = \"10\" }, { to = \"1 min\", unit = \"1\" }, { unit = \"0\" }]";
    let catalog = catalog("s", 0, "EUR", price);
    assert_eq!(amount(&catalog, 1), "5.50");
    assert_eq!(amount(&catalog, 1000), "64.50");
}

#[test]
fn what_is_too_large_is_refused() {
    let catalog = catalog("{request}", 12, "EUR", REQUESTS);
    assert_eq!(line(&catalog, i128::MAX), Err(RateError::Overflow));
    let bytes = catalog_of_bytes("100000");
    // 10^30 bytes: amounts up to 96 bits, exactly.
    assert!(line(&bytes, 10i128.pow(24)).is_ok());
    assert_eq!(line(&bytes, 10i128.pow(33)), Err(RateError::Overflow));
}

fn catalog_of_bytes(unit: &str) -> Catalog {
    catalog(
        "By",
        0,
        "EUR",
        &format!("model = \"per_unit\"\nper = \"1 GB\"\nunit = \"{unit}\""),
    )
}

#[test]
fn a_price_of_another_meter_is_refused() {
    let catalog = catalog("{request}", 0, "EUR", REQUESTS);
    let card = catalog.cards().next().expect("one card");
    let mut meter = catalog.meters().next().expect("one meter").clone();
    meter.name = MeterName::new("other").expect("valid");
    assert_eq!(
        rate(Quantity::ZERO, &meter, &card.prices[0], card, day()),
        Err(RateError::WrongMeter)
    );
}

/// Tiers as (bound in hundredths of the unit, price in thousandths), and what else a price
/// needs.
#[derive(Clone, Debug)]
struct Case {
    scale: u8,
    per: u32,
    bounds: Vec<u64>,
    prices: Vec<u64>,
    currency: (&'static str, u32),
}

fn case() -> impl Strategy<Value = Case> {
    let currency = prop_oneof![Just(("EUR", 2)), Just(("JPY", 0)), Just(("KWD", 3))];
    let bounds = proptest::collection::btree_set(1u64..5_000_000, 0..5);
    (
        0u8..7,
        1u32..2000,
        bounds,
        proptest::collection::vec(0u64..9_000, 6),
        currency,
    )
        .prop_map(|(scale, per, bounds, prices, currency)| Case {
            scale,
            per,
            bounds: bounds.into_iter().collect(),
            prices,
            currency,
        })
}

impl Case {
    fn catalog(&self) -> Catalog {
        let hundredths = |n: u64| format!("{}.{:02}", n / 100, n % 100);
        let thousandths = |n: u64| format!("{}.{:03}", n / 1000, n % 1000);
        let mut tiers: Vec<String> = self
            .bounds
            .iter()
            .zip(&self.prices)
            .map(|(to, unit)| {
                format!(
                    "{{ to = \"{}\", unit = \"{}\" }}",
                    hundredths(*to),
                    thousandths(*unit)
                )
            })
            .collect();
        let last = thousandths(self.prices[self.bounds.len()]);
        tiers.push(format!("{{ unit = \"{last}\" }}"));
        let price = format!(
            "model = \"graduated\"\nper = \"{} s\"\ntiers = [{}]",
            self.per,
            tiers.join(", ")
        );
        catalog("s", self.scale, self.currency.0, &price)
    }

    /// The same amount by another way: whole numbers without bound, in units of
    /// 1 / (10^scale × 100 × 1000 × per) of the currency, walking every tier by hand.
    fn slow(&self, quantity: u64) -> Decimal {
        let scale = BigInt::from(10).pow(u32::from(self.scale));
        let quantity: BigInt = BigInt::from(quantity) * 100;
        let mut sum = BigInt::from(0);
        let mut below = BigInt::from(0);
        for (index, price) in self.prices.iter().enumerate() {
            let above = match self.bounds.get(index) {
                Some(bound) => Ord::min(BigInt::from(*bound) * &scale, quantity.clone()),
                None => quantity.clone(),
            };
            if above > below {
                sum += (&above - &below) * BigInt::from(*price);
                below = above;
            }
            if index == self.bounds.len() {
                break;
            }
        }
        // Half up: twice the amount in the smallest unit plus one, halved and cut.
        let divisor = scale * BigInt::from(100 * 1000) * BigInt::from(self.per);
        let smallest = sum * BigInt::from(10).pow(self.currency.1);
        let rounded: BigInt = (smallest * 2 + &divisor) / (divisor * 2);
        let units: i128 = rounded.to_string().parse().expect("small enough");
        Decimal::from_i128_with_scale(units, self.currency.1)
    }
}

proptest! {
    #[test]
    fn agrees_with_a_slow_way(case in case(), quantities in proptest::collection::vec(0u64..10_000_000_000, 8)) {
        let catalog = case.catalog();
        for quantity in quantities {
            let line = line(&catalog, i128::from(quantity)).expect("rates");
            prop_assert_eq!(line.amount, case.slow(quantity), "{} {:?}", quantity, &line);
            prop_assert_eq!(line.amount.scale(), case.currency.1);
        }
    }

    #[test]
    fn more_never_costs_less(case in case(), low in 0u64..10_000_000_000, more in 0u64..10_000_000_000) {
        let catalog = case.catalog();
        let amount = |q: u64| line(&catalog, i128::from(q)).expect("rates").amount;
        prop_assert!(amount(low) <= amount(low + more));
    }

    /// Usage may arrive in any order and in any pieces: booking the difference of the
    /// cumulative amounts after each piece ends at the same sum.
    #[test]
    fn pieces_in_any_order_sum_to_the_whole(case in case(), pieces in proptest::collection::vec(0u64..1_000_000_000, 1..12), turn in 0usize..12) {
        let catalog = case.catalog();
        let amount = |q: u64| line(&catalog, i128::from(q)).expect("rates").amount;
        let whole = amount(pieces.iter().sum());
        let mut turned = pieces.clone();
        turned.rotate_left(turn % pieces.len());
        for order in [pieces, turned] {
            let (mut cumulative, mut booked) = (0, Decimal::ZERO);
            for piece in order {
                cumulative += piece;
                booked += amount(cumulative) - booked;
            }
            prop_assert_eq!(booked, whole);
        }
    }

    #[test]
    fn tiers_hold_the_whole_quantity(case in case(), quantity in 0u64..10_000_000_000) {
        let catalog = case.catalog();
        let line = line(&catalog, i128::from(quantity)).expect("rates");
        let tiers = line.arithmetic().expect("fits").tiers;
        let sum = tiers.iter().try_fold(Ratio::ZERO, |sum, tier| sum.checked_add(tier.quantity));
        let scale = 10i128.pow(u32::from(case.scale));
        prop_assert_eq!(sum, Ratio::new(i128::from(quantity), scale));
    }
}
