//! Single events and percentages: figures of open-source billing systems, by hand, and against a
//! slow way.

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::rig::{Rig, Used, Version, dimensions, meter, price, used};

pub(super) fn rig_of(unit: &str, scale: u8, versions: &[(&str, &str)]) -> Rig {
    let meters = format!("{}event = \"call\"\n", meter(unit, scale, "sum"));
    let prices: Vec<String> = versions.iter().map(|(_, keys)| price(keys)).collect();
    let versions: Vec<Version<'_>> = versions
        .iter()
        .zip(&prices)
        .map(|((from, _), prices)| Version {
            from,
            card: "c",
            prices,
        })
        .collect();
    Rig::new(&meters, &[], &versions, "UTC", "2026-06")
}

pub(super) fn rig(unit: &str, scale: u8, keys: &str) -> Rig {
    rig_of(unit, scale, &[("2026-01-01", keys)])
}

/// Events in the order of time, a quarter of an hour apart.
pub(super) fn events(units: &[i128]) -> Vec<Used> {
    let event = |(index, units): (usize, &i128)| {
        let index = i64::try_from(index).expect("small");
        Used {
            at: used("2026-06-10T00:00:00Z", 0)
                .at
                .plus_millis(index * 900_000),
            dimensions: dimensions(&format!("call=c{index}")),
            ..used("2026-06-10T00:00:00Z", *units)
        }
    };
    units.iter().enumerate().map(event).collect()
}

/// Lago, spec/services/charges/charge_models/percentage_service_spec.rb: 1.3 % and a fixed amount of
/// 2.00 for each event; running totals 50, 150, 400 and 800. With 3 events and 250 free, the third
/// one straddles: (800 - 250) x 1.3 % + 2 x 2.00.
#[test]
fn lago_percentage() {
    let running = events(&[5_000, 10_000, 25_000, 40_000]);
    let check = |free: &str, expected: &str| {
        let keys = format!("model = \"percentage\"\npercent = \"1.3\"\nfixed = \"2.00\"\n{free}");
        assert_eq!(rig("EUR", 2, &keys).amounts(&running), [expected], "{free}");
    };
    check("", "18.40");
    check("free_events = 3\nfree_quantity = \"250\"", "11.15");
    // Only a number of events: three are free whole.
    check("free_events = 3", "7.20");
    // Only an amount.
    check("free_quantity = \"250\"", "11.15");
    check("free_events = 2\nfree_quantity = \"1000\"", "12.45");
}

/// 2.9 % and 0.30 for each successful charge (stripe.com/pricing): 3.20 of 100.00.
#[test]
fn a_percentage_and_a_fee_for_each_charge() {
    let rig = rig(
        "EUR",
        2,
        "model = \"percentage\"\npercent = \"2.9\"\nfixed = \"0.30\"",
    );
    assert_eq!(
        rig.texts(&events(&[10_000])),
        ["1 events: 100 x 2.9 per 100 EUR + 0.3 in fees of events = 3.20 EUR"]
    );
    assert_eq!(rig.amounts(&events(&[10_000, 1_000, 999])), ["4.38"]);
}

#[test]
fn percentages_need_no_events_where_nothing_is_said_of_them() {
    let plain = rig("EUR", 2, "model = \"percentage\"\npercent = \"2.9\"");
    assert_eq!(
        plain.texts(&[used("2026-06-10T00:00:00Z", 123_456)]),
        ["1234.56 x 2.9 per 100 EUR = 35.80224 ~ 35.80 EUR"]
    );
    // An amount that events carry, with a mark-up of 15 %.
    let carried = rig("EUR", 2, "model = \"percentage\"\npercent = \"115\"");
    assert_eq!(
        carried.amounts(&[used("2026-06-10T00:00:00Z", 20_000)]),
        ["230.00"]
    );
    let graduated = rig(
        "EUR",
        2,
        "model = \"percentage\"\ntiers = [{ to = \"10000\", percent = \"2.5\", flat = \"20\" }, { percent = \"1.5\" }]",
    );
    assert_eq!(
        graduated.texts(&[used("2026-06-10T00:00:00Z", 1_500_000)]),
        ["10000 x 2.5 and 20 flat + 5000 x 1.5 per 100 EUR = 270 + 75 = 345.00 EUR"]
    );
}

const CALLS: &str = "model = \"per_event\"\nper = \"1 min\"\nunit = \"0.60\"\nfixed = \"0.05\"\n\
    increments = [{ to = \"60 s\", step = \"60 s\" }, { step = \"1 s\" }]";

/// The first 60 s whole, then second by second.
#[test]
fn increments_are_those_of_each_call() {
    let rig = rig("s", 1, CALLS);
    let amount = |tenths: i128| rig.amounts(&events(&[tenths])).join("");
    assert_eq!(amount(0), "0.05");
    assert_eq!(amount(1), "0.65");
    assert_eq!(amount(600), "0.65");
    assert_eq!(amount(601), "0.66");
    assert_eq!(amount(905), "0.96");
    assert_eq!(
        rig.texts(&events(&[100, 905])),
        ["2 events: 120 x 0.60 + 31 x 0.60 per 1 min + 0.1 in fees of events = 1.61 EUR"]
    );
}

#[test]
fn each_event_has_its_own_limits_and_rounding() {
    let keys = "model = \"percentage\"\npercent = \"1\"\nevent_minimum = \"0.50\"\nevent_maximum = \"5.00\"";
    let limited = rig("EUR", 2, keys);
    assert_eq!(
        limited.texts(&events(&[1_000, 20_000, 100_000])),
        ["3 events: 1210 x 1 per 100 EUR, with limits and rounding of events -4.6 = 7.50 EUR"]
    );
    let rounded = "model = \"percentage\"\npercent = \"1\"\nfixed = \"0\"\nrounding = { at = \"event\", mode = \"up\" }";
    assert_eq!(
        rig("EUR", 2, rounded).amounts(&events(&[1, 1, 1])),
        ["0.03"]
    );
}

/// What does not say which event it is cannot be priced as one.
#[test]
fn usage_without_an_id_is_unrated() {
    let rig = rig("s", 0, CALLS);
    let mut usage = events(&[30]);
    usage.push(Used {
        dimensions: dimensions("overflow=true"),
        ..used("2026-06-10T00:00:00Z", 77)
    });
    assert_eq!(
        rig.texts(&usage),
        [
            "unrated NoEvent 77",
            "1 events: 60 x 0.60 + 0 x 0.60 per 1 min + 0.05 in fees of events = 0.65 EUR"
        ]
    );
}

/// Sums alone are never charged nothing.
#[test]
fn a_sum_without_events_is_unrated() {
    let rig = rig("s", 0, CALLS);
    let usage = crate::rate::MeterUsage::whole(tollgate_common::Quantity::new(90));
    assert_eq!(rig.texts_of(&rig.slices(), &usage), ["unrated NoEvent 90"]);
}

#[test]
fn events_are_priced_by_the_version_of_their_time() {
    let dearer = CALLS.replace("0.60", "1.20");
    let rig = rig_of("s", 0, &[("2026-01-01", CALLS), ("2026-06-11", &dearer)]);
    let mut usage = events(&[60, 60]);
    usage[1].at = usage[1].at.plus_millis(86_400_000);
    assert_eq!(rig.amounts(&usage), ["1.90"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Event by event in whole tenths of a cent.
    #[test]
    fn events_agree_with_a_slow_way(
        cents in proptest::collection::vec(0u32..50_000, 0..20),
        fixed in 0u32..100,
        free_events in proptest::option::of(0u32..6),
        free_cents in proptest::option::of(1u32..60_000),
        limits in proptest::option::of((0u32..300, 300u32..900)),
        // A bound above which it is 1 per cent, and a fee for reaching it.
        tier in proptest::option::of((1u32..80_000, 0u32..500)),
    ) {
        let decimal = |cents: u32| format!("{}.{:02}", cents / 100, cents % 100);
        let percent = match tier {
            None => "percent = \"2\"".to_owned(),
            Some((bound, fee)) => format!(
                "tiers = [{{ to = \"{}\", percent = \"2\" }}, {{ percent = \"1\", flat = \"{}\" }}]",
                decimal(bound),
                decimal(fee)
            ),
        };
        let mut keys = format!("model = \"percentage\"\n{percent}\nfixed = \"{}\"", decimal(fixed));
        if let Some(free) = free_events {
            keys.push_str(&format!("\nfree_events = {free}"));
        }
        if let Some(free) = free_cents {
            keys.push_str(&format!("\nfree_quantity = \"{}\"", decimal(free)));
        }
        if let Some((least, most)) = limits {
            keys.push_str(&format!("\nevent_minimum = \"{}\"\nevent_maximum = \"{}\"", decimal(least), decimal(most)));
        }
        // In hundredths of a cent.
        let (mut sum, mut count, mut used_cents, mut over) = (0u64, 0u32, 0u32, false);
        let mut position = 0u32;
        for event in &cents {
            let mut charged = Some(*event);
            let spent = free_events.is_some_and(|free| count >= free) || free_cents.is_some_and(|free| used_cents >= free);
            over |= spent || (free_events.is_none() && free_cents.is_none());
            if !over {
                charged = None;
                if let Some(free) = free_cents && used_cents + event > free {
                    charged = Some(used_cents + event - free);
                    over = true;
                }
            }
            count += 1;
            used_cents += event;
            if let Some(charged) = charged {
                let bound = tier.map_or(u32::MAX, |(bound, _)| bound);
                // Cent by cent.
                let dear = (position..position + charged).filter(|cent| *cent < bound).count();
                position += charged;
                let mut amount = u64::from(charged) + dear as u64 + u64::from(fixed) * 100;
                if let Some((least, most)) = limits {
                    amount = amount.clamp(u64::from(least) * 100, u64::from(most) * 100);
                }
                sum += amount;
            }
        }
        if let Some((bound, fee)) = tier && position > bound {
            sum += u64::from(fee) * 100;
        }
        let expected = Decimal::new(i64::try_from((sum + 50) / 100).expect("small"), 2).to_string();
        let units: Vec<i128> = cents.iter().map(|cents| i128::from(*cents)).collect();
        let usage = events(&units);
        let rig = rig("EUR", 2, &keys);
        prop_assert_eq!(rig.amounts(&usage), [expected.clone()], "{}", keys);
        let mut turned = usage;
        turned.reverse();
        prop_assert_eq!(rig.amounts(&turned), [expected]);
    }
}
