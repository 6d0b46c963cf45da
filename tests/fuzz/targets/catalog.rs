//! A catalog of several files, and what its prices make of a quantity.
//!
//! The input is text in which a line `=== PATH` begins a file.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::rate::{rate, rate_fee};
use tollgate_common::{Quantity, Timestamp};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut files = BTreeMap::<String, String>::new();
    let mut path = "meters.toml".to_owned();
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("=== ") {
            Some(name) => name.trim_end().clone_into(&mut path),
            None => files.entry(path.clone()).or_default().push_str(line),
        }
    }
    match Catalog::parse(&files) {
        Ok(catalog) => {
            let again = Catalog::parse(catalog.files()).expect("what was accepted is accepted");
            assert_eq!(again.digest(), catalog.digest());
            check_prices(&catalog);
            for profile in catalog.profiles() {
                let instant = Timestamp::from_secs(1_780_315_200);
                let period = profile.calendar.period_containing(instant);
                assert!(period.contains(instant));
            }
        }
        Err(errors) => assert!(!errors.errors().is_empty(), "a refusal names its reason"),
    }
});

/// Nothing panics on the way, the steps of a line sum to its amount, and no amount is negative.
fn check_prices(catalog: &Catalog) {
    let day = "2026-06-01".parse().expect("a date");
    for card in catalog.cards() {
        for price in &card.prices {
            let meter = price.meter.as_ref().map(|name| {
                catalog.meter(name).expect("prices name declared meters")
            });
            for units in [0, 1, 999, 1_000_000_007, i128::from(u64::MAX), i128::MAX] {
                let line = match meter {
                    Some(meter) => rate(Quantity::new(units), meter, price, card, day),
                    None => rate_fee(price, card, day),
                };
                let Ok(line) = line else { continue };
                assert!(!line.amount.is_sign_negative() && !line.to_string().is_empty());
                let Some(arithmetic) = line.arithmetic() else { continue };
                let mut sum = line.list;
                for change in arithmetic.steps {
                    sum += change.change;
                }
                assert_eq!(sum, line.amount);
            }
        }
    }
}
