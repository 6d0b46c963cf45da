//! Whatever becomes of prices: all usage is rated once or said to be unrated.

use std::borrow::Cow;
use std::collections::BTreeMap;

use proptest::prelude::*;
use tollgate_common::{MeterName, Quantity, TenantId};

use super::versions::{METERS, card, parse, usage_price};
use crate::bill::{Bill, BillInput, Carried, Metered, Slice, Stage, Unrated, compute};
use crate::catalog::Catalog;
use crate::period::{Period, Zone};
use crate::rate::{MeterUsage, Part};

/// What one version of the card says of the id `a`: nothing, a price of a meter, or a fee.
fn entry(kind: u8) -> String {
    match kind {
        0 => "[[price]]\nid = \"other\"\nmodel = \"flat\"\nflat = \"3\"\n".to_owned(),
        1 => usage_price("a", "1", ""),
        2 => usage_price("a", "2", "maximum = \"5\"\n"),
        3 => usage_price("b", "1", "").replace("id = \"b\"", "id = \"a\""),
        // Two prices of one meter: of the same parts, or the second one keeps usage by the day.
        5 => usage_price("a", "1", "") + &usage_price("a", "2", "").replacen("\"a\"", "\"two\"", 1),
        6 => {
            let daily = usage_price("a", "2", "interval = \"P1D\"\n");
            usage_price("a", "1", "") + &daily.replacen("\"a\"", "\"two\"", 1)
        }
        7 => usage_price("a", "2", "").replacen("\"a\"", "\"two\"", 1),
        _ => "[[price]]\nid = \"a\"\nmodel = \"flat\"\nflat = \"3\"\n".to_owned(),
    }
}

/// A catalog with a card of these prices, of the meter `a` that takes the maximum, and of `b`.
fn with_prices(prices: &[String]) -> Catalog {
    let files = [
        ("meters.toml", METERS.replacen("\"sum\"", "\"max\"", 1)),
        ("cards/a.toml", card("a", "2026-01-01", &prices.concat())),
        (
            "profiles/t.toml",
            "tenant = \"t\"\ncard = \"a\"\nzone = \"UTC\"\n".to_owned(),
        ),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text)).into();
    Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The bill of catalogs that were in force for a day each, with the same usage of every meter.
fn billed<T>(
    catalogs: &[Catalog],
    meters: &[MeterName],
    parts: &[(Part, i128)],
    see: impl FnOnce(&Bill<'_>, &BTreeMap<&MeterName, Metered<'_>>) -> T,
) -> T {
    let (zone, tenant) = (Zone::UTC, TenantId::new("t").expect("valid"));
    let begin = zone.start_of_day("2026-06-01".parse().expect("a date"));
    let at = |index: usize| begin.plus_millis(i64::try_from(index).expect("few") * 86_400_000);
    let slices: Vec<Slice<'_>> = catalogs
        .iter()
        .enumerate()
        .map(|(index, catalog)| Slice {
            span: Period {
                start: at(index),
                end: at(index + 1),
            },
            catalog: Some(catalog),
            profile: catalog.profile(&tenant),
            card: catalog.card_in_force("a", zone, at(index)),
        })
        .collect();
    let mut usage = MeterUsage::default();
    for (part, quantity) in parts {
        usage.add(*part, Quantity::new(*quantity)).expect("fits");
    }
    let metered: BTreeMap<_, _> = meters
        .iter()
        .map(|meter| {
            let usage = Cow::Borrowed(&usage);
            (meter, Metered::new(&slices, zone, meter, usage))
        })
        .collect();
    let period = Period {
        start: begin,
        end: at(catalogs.len()),
    };
    let carried = Carried::default();
    let bill = compute(&BillInput {
        tenant: &tenant,
        period,
        whole: period,
        zone,
        slices: &slices,
        catalog: catalogs.last(),
        usage: &metered,
        stage: Stage::Final,
        due: true,
        next: None,
        after: None,
        carried: &carried,
        children: &[],
    })
    .expect("a bill");
    see(&bill, &metered)
}

/// What is rated of a meter, and what is not.
fn conserved(
    bill: &Bill<'_>,
    meter: &MeterName,
    metered: &Metered<'_>,
) -> (i128, Vec<(Unrated, i128)>) {
    let lines = bill.lines.iter();
    let of_meter = lines.filter(|line| line.meter().is_some_and(|of| of.name == *meter));
    let rated = of_meter
        .filter_map(|line| line.source.item())
        .map(|item| metered.carried(item).units())
        .sum();
    let unrated = bill.unrated.iter();
    let unrated = unrated
        .filter(|usage| usage.meter.as_ref() == Some(meter))
        .map(|usage| (usage.reason, usage.quantity.units()))
        .collect();
    (rated, unrated)
}

/// The same of a bill of one meter.
fn of_one(
    catalogs: &[Catalog],
    meter: &str,
    parts: &[(Part, i128)],
) -> (i128, Vec<(Unrated, i128)>) {
    let meter = [MeterName::new(meter).expect("valid")];
    billed(catalogs, &meter, parts, |bill, metered| {
        conserved(bill, &meter[0], &metered[&meter[0]])
    })
}

#[test]
fn maxima_whose_prices_change_places_are_unrated_with_their_quantity() {
    let first = usage_price("a", "1", "");
    let second = usage_price("a", "2", "").replacen("\"a\"", "\"two\"", 1);
    let both = [first.clone(), second.clone()];
    let parts = [0, 1].map(|slice| {
        (
            Part {
                slice,
                ..Part::default()
            },
            10 + i128::from(slice),
        )
    });
    for (later, rated, unrated) in [
        (vec![second.clone()], 10, vec![11]),
        (vec![second, first], 0, vec![10, 11]),
    ] {
        let catalogs = [with_prices(&both), with_prices(&later)];
        let (seen, reported) = of_one(&catalogs, "a", &parts);
        assert_eq!(seen, rated);
        let expected: Vec<_> = unrated
            .iter()
            .map(|units| (Unrated::PriceChanged, *units))
            .collect();
        assert_eq!(reported, expected);
    }
}

#[test]
fn a_price_beside_whose_sum_does_not_fit_is_unrated() {
    let daily = usage_price("b", "1", "interval = \"P1D\"\n");
    let beside = usage_price("b", "1", "").replacen("\"b\"", "\"two\"", 1);
    let plain_first = with_prices(&[beside, daily]);
    let parts = [0, 86_400].map(|interval| {
        (
            Part {
                interval,
                ..Part::default()
            },
            i128::MAX / 2 + 1,
        )
    });
    let (rated, unrated) = of_one(&[plain_first], "b", &parts);
    assert_eq!(rated, 0);
    assert!(
        unrated
            .iter()
            .all(|(reason, _)| *reason == Unrated::TooLarge),
        "{unrated:?}"
    );
    assert!(!unrated.is_empty());
}

/// A catalog whose card `a` says [`entry`] of the id `a`, in this currency.
fn of_kind(kind: u8, currency: &str) -> Catalog {
    let card = card("a", "2026-01-01", &entry(kind)).replace("EUR", currency);
    let profile = "tenant = \"t\"\ncard = \"a\"\nzone = \"UTC\"\ncurrency = \"EUR\"\n";
    let rates = "[[rate]]\nfrom = \"USD\"\nto = \"EUR\"\nrate = \"0.9\"\ndate = \"2026-01-01\"\n";
    parse(&[
        ("cards/a.toml", card),
        ("profiles/t.toml", profile.to_owned()),
        ("rates/r.toml", rates.to_owned()),
    ])
}

#[test]
fn what_is_below_zero_is_unrated_with_a_price_that_changed() {
    // First by the day, and then by the period.
    let catalogs = [6, 7].map(|kind| of_kind(kind, "EUR"));
    let parts = [(0, 5), (1, -7)].map(|(slice, used)| {
        let part = Part {
            slice,
            ..Part::default()
        };
        (part, used)
    });
    let (rated, unrated) = of_one(&catalogs, "a", &parts);
    assert_eq!((rated, unrated), (0, vec![(Unrated::PriceChanged, -2)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever becomes of a price, usage is on exactly one line or unrated.
    #[test]
    fn no_usage_is_dropped(
        stretches in prop::collection::vec((0u8..8, any::<bool>(), -20i128..100), 1..5),
    ) {
        // Catalogs that were applied one after another, each with a card of the same id.
        let catalogs: Vec<_> = stretches
            .iter()
            .map(|(kind, dollars, _)| of_kind(*kind, if *dollars { "USD" } else { "EUR" }))
            .collect();
        let parts: Vec<_> = (0..).zip(&stretches).map(|(slice, (_, _, used))| {
            (Part { slice, ..Part::default() }, *used)
        }).collect();
        let all: i128 = stretches.iter().map(|(_, _, used)| used).sum();
        let meters = ["a", "b"].map(|name| MeterName::new(name).expect("valid"));
        billed(&catalogs, &meters, &parts, |bill, metered| {
            for meter in &meters {
                let (rated, unrated) = conserved(bill, meter, &metered[meter]);
                let unrated: i128 = unrated.iter().map(|(_, units)| units).sum();
                prop_assert_eq!(rated + unrated, all);
            }
            let mut keys: Vec<_> = bill.lines.iter().map(|line| &line.key).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), bill.lines.len());
            Ok(())
        })?;
    }
}
