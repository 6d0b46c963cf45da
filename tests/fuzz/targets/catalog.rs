//! A catalog of several files, what its prices make of a quantity, and the bills of a few periods.
//!
//! The input is text in which a line `=== PATH` begins a file.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tollgate_collector_core::bill::{self, Bill, Offline, Stage, Usage};
use tollgate_collector_core::catalog::{Catalog, Profile};
use tollgate_collector_core::period::Period;
use tollgate_collector_core::rate::{MeterUsage, rate, rate_fee};
use tollgate_common::{Dimensions, Quantity, TenantId, Timestamp, Window, WindowWidth};

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
                check_bills(&catalog, profile, period);
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
            let meter = price
                .meter
                .as_ref()
                .map(|name| catalog.meter(name).expect("prices name declared meters"));
            for units in [0, 1, 999, 1_000_000_007, i128::from(u64::MAX), i128::MAX] {
                let line = match meter {
                    Some(meter) => rate(Quantity::new(units), meter, price, card, day),
                    None => rate_fee(price, card, day),
                };
                let Ok(line) = line else { continue };
                assert!(!line.amount.is_sign_negative() && !line.to_string().is_empty());
                let Some(arithmetic) = line.arithmetic() else {
                    continue;
                };
                let mut sum = line.list;
                for change in arithmetic.steps {
                    sum += change.change;
                }
                assert_eq!(sum, line.amount);
            }
        }
    }
}

/// Nothing panics on the way of three bills that follow each other, each says the same when it is
/// worked out again, and its sums are those of its parts.
fn check_bills(catalog: &Catalog, profile: &Profile, mut period: Period) {
    let nobody = TenantId::new("acme").expect("valid");
    let tenant = profile.tenant.as_ref().unwrap_or(&nobody);
    let mut usage = Usage::default();
    for (turn, stage) in [Stage::Interim, Stage::Final, Stage::Last]
        .into_iter()
        .enumerate()
    {
        let Some(offline) = Offline::new(catalog, tenant, period) else {
            return;
        };
        usage.stage = stage;
        usage.meters = used(catalog, &offline, turn as i128);
        let metered = offline.metered(&usage);
        let children = Offline::children(&usage);
        let bill = offline.bill(&usage, &metered, &children);
        assert_eq!(bill, offline.bill(&usage, &metered, &children));
        if let Ok(bill) = &bill {
            check_sums(bill);
        }
        if let Ok(bill) = bill {
            usage.carried = bill.carried;
        }
        if stage == Stage::Final {
            period = profile.calendar.period_containing(period.end);
        }
    }
}

/// Some usage of the first meters, early and late in the period, with dimensions and without.
fn used(
    catalog: &Catalog,
    offline: &Offline<'_>,
    turn: i128,
) -> BTreeMap<tollgate_common::MeterName, MeterUsage> {
    let width = WindowWidth::from_secs(900).expect("a window");
    let mut used = BTreeMap::new();
    for (index, meter) in (0_i128..).zip(catalog.meters().take(8)) {
        let shape = bill::shape(&offline.slices, offline.period, offline.zone(), meter);
        let mut usage = MeterUsage::default();
        let last = offline.period.end.plus_millis(-1);
        for (instant, region) in [(offline.period.start, Some("eu")), (last, None)] {
            let dimensions = Dimensions::new(region.map(|region| ("region", region)));
            let dimensions = dimensions.expect("plain");
            let quantity = Quantity::new((turn + 1) * 1_000_000_007 * (index + 1));
            let window = Window::containing(instant, width);
            // What cannot be gathered is not rated.
            let _ = usage.count(&shape, window, &dimensions, quantity);
        }
        used.insert(meter.name.clone(), usage);
    }
    used
}

fn check_sums(bill: &Bill<'_>) {
    let (mut net, mut tax) = (bill.net, bill.tax);
    bill.lines.iter().for_each(|line| net -= line.net);
    bill.taxes.iter().for_each(|line| tax -= line.amount);
    assert!(net.is_zero() && tax.is_zero(), "{bill:?}");
    assert_eq!(bill.net + bill.tax, bill.total);
    let mut due = bill.total - bill.credit;
    bill.grants.iter().for_each(|grant| due -= grant.paid);
    assert_eq!(due, bill.due);
    assert!(bill.lines.iter().all(|line| !line.to_string().is_empty()));
}
