//! Percentiles: by hand, over months of every length, and against a slow way.

use proptest::prelude::*;

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price};
use crate::period::Period;
use crate::rate::{Ratio, Samples, percentile, rank};

/// The example of the handbook: 95 %, the greater of in and out, 200 Mbit/s committed.
const TRANSIT: &str = "model = \"percentile\"\npercentile = \"95\"\nslot = \"PT5M\"\n\
    directions = \"greater\"\nmissing = \"zero\"\nper = \"Mbit/s\"\ncommit = \"200\"\n\
    unit = \"0.80\"\noverage = \"1.10\"";

fn rig_of(zone: &str, month: &str, versions: &[(&str, &str, &str)]) -> Rig {
    let prices: Vec<String> = versions.iter().map(|(_, _, keys)| price(keys)).collect();
    let versions: Vec<Version<'_>> = versions
        .iter()
        .zip(&prices)
        .map(|((from, card, _), prices)| Version { from, card, prices })
        .collect();
    Rig::new(&meter("By", 0, "sum"), &[], &versions, zone, month)
}

fn rig(keys: &str) -> Rig {
    rig_of("Europe/Berlin", "2026-06", &[("2026-01-01", "c", keys)])
}

/// Windows of five minutes in a row at a rate.
fn slots(from: &str, count: i64, direction: &str, mbit: i128) -> Vec<Used> {
    let from = instant(from);
    let slot = |index: i64| Used {
        at: from.plus_millis(index * 300_000),
        width: 300,
        dimensions: dimensions(direction),
        units: mbit * 125_000 * 300,
    };
    (0..count).map(slot).collect()
}

const JUNE: &str = "2026-05-31T22:00:00Z";

#[test]
fn the_worked_example() {
    let mut usage = slots(JUNE, 500, "direction=in", 260);
    usage.extend(slots("2026-06-02T15:40:00Z", 8140, "direction=in", 90));
    usage.extend(slots(JUNE, 8640, "direction=out", 12));
    assert_eq!(
        rig(TRANSIT).texts(&usage),
        [
            "percentile 95 of 8640 slots of 300 s, rank 8208, in, the greater, is 260 Mbit/s: \
             200 x 0.80 + 60 x 1.10 per Mbit/s = 160 + 66 = 226.00 EUR"
        ]
    );
    // 432 slots may be higher, and not one more.
    let most = |count| {
        let usage = slots(JUNE, count, "direction=in", 260);
        rig(TRANSIT).amounts(&usage)
    };
    assert_eq!(
        (most(432), most(433)),
        (vec!["160.00".to_owned()], vec!["226.00".to_owned()])
    );
}

#[test]
fn the_commit_is_due_without_usage() {
    let rig = rig(TRANSIT);
    assert_eq!(
        rig.texts(&[]),
        [
            "percentile 95 of 8640 slots of 300 s, rank 8208, in, the greater, is 0 Mbit/s: \
             0, at least 200 committed: 200 x 0.80 per Mbit/s = 160.00 EUR"
        ]
    );
    let slices = rig.slices();
    let (_, price) = slices[0].priced.expect("priced");
    assert!(price.is_due_unused());
}

#[test]
fn directions_are_ranked_as_the_key_says() {
    let mut usage = slots(JUNE, 8640, "direction=in", 100);
    usage.extend(slots(JUNE, 4320, "direction=out", 300));
    let with = |directions: &str| {
        let keys = TRANSIT
            .replace("greater", directions)
            .replace("commit = \"200\"\n", "");
        rig(&keys.replace("overage = \"1.10\"", "")).amounts(&usage)
    };
    assert_eq!(with("greater"), ["240.00"]);
    assert_eq!(with("sum"), ["320.00"]);
    assert_eq!(with("each"), ["320.00"]);
    assert_eq!(with("in"), ["80.00"]);
    assert_eq!(with("out"), ["240.00"]);
    // Without a direction there is nothing that the greater could be of.
    let untold = slots(JUNE, 1, "port=7", 100);
    let texts = rig(TRANSIT).texts(&untold);
    assert_eq!(texts[0], "unrated NoRow 3750000000");
    let sum = TRANSIT.replace("greater", "sum");
    assert_eq!(rig(&sum).amounts(&untold), ["160.00"]);
}

#[test]
fn slots_without_data_count_as_the_key_says() {
    let plain = TRANSIT
        .replace("commit = \"200\"\n", "")
        .replace("overage = \"1.10\"", "");
    // A quarter of the month has data, the rest of its first day was lost.
    let usage = slots(JUNE, 100, "direction=in", 100);
    let amount = |missing: &str| {
        let rig = rig(&plain.replace("\"zero\"", &format!("\"{missing}\"")));
        let slices = rig.slices();
        let mut gathered = rig.gather(&slices, &usage);
        gathered.lose(Period {
            start: instant("2026-06-01T06:21:00Z"),
            end: instant("2026-06-30T21:59:00Z"),
        });
        rig.texts_of(&slices, &gathered).join("")
    };
    assert!(amount("zero").contains("of 8640 slots of 300 s, rank 8208, in, the greater, is 0 "));
    assert!(amount("excluded").contains(
        "of 100 slots of 300 s without 8540 that have no data, rank 95, in, the greater, is 100 "
    ));
    // 06:20 to 22:00 of the last day touch what was lost: the quarter from 06:15 on.
    assert!(
        amount("zero_unless_lost").contains("of 100 slots of 300 s without 8540"),
        "{}",
        amount("zero_unless_lost")
    );
}

/// Of what lies beside a quarter of an hour in which usage was lost nothing is missing.
#[test]
fn only_slots_that_touch_a_loss_are_excluded() {
    let rig = rig(&TRANSIT.replace("\"zero\"", "\"zero_unless_lost\""));
    let slices = rig.slices();
    let mut gathered = rig.gather(&slices, &slots(JUNE, 10, "direction=in", 100));
    gathered.lose(Period {
        start: instant("2026-06-01T07:01:00Z"),
        end: instant("2026-06-01T07:14:00Z"),
    });
    let text = rig.texts_of(&slices, &gathered).join("");
    assert!(text.contains("of 8637 slots of 300 s without 3 "), "{text}");
}

/// Clocks of Lord Howe move by half an hour: a card that ends behind that ends within a slot, which is
/// ranked where it begins.
#[test]
fn a_slot_belongs_to_the_card_under_which_it_begins() {
    let hours = TRANSIT.replace("PT5M", "PT1H");
    let versions = [("2026-01-01", "a", &*hours), ("2026-10-10", "b", &*hours)];
    let rig = rig_of("Australia/Lord_Howe", "2026-10", &versions);
    let texts = rig.texts(&[]);
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains(" of 216 slots of 3600 s, "), "{texts:?}");
    // The last one is half an hour long.
    assert!(texts[1].contains(" of 528 slots of 3600 s, "), "{texts:?}");
}

/// Days of 23 and 25 hours, and every length of a month.
#[test]
fn ranks_are_those_of_the_true_length() {
    for (month, slots, rank) in [
        ("2026-02", 8064, 7661),
        ("2028-02", 8352, 7935),
        ("2026-03", 8916, 8471),
        ("2026-04", 8640, 8208),
        ("2026-05", 8928, 8482),
        ("2026-10", 8940, 8493),
    ] {
        let rig = rig_of("Europe/Berlin", month, &[("2026-01-01", "c", TRANSIT)]);
        let expected = format!("percentile 95 of {slots} slots of 300 s, rank {rank},");
        assert!(
            rig.texts(&[])[0].starts_with(&expected),
            "{month}: {:?}",
            rig.texts(&[])
        );
    }
}

#[test]
fn versions_share_one_ranking_and_cards_do_not() {
    let dearer = TRANSIT.replace("0.80", "1.60");
    // 15 of 30 days each: 200 committed at 0.80 and at 1.60.
    let rig = rig_of(
        "Europe/Berlin",
        "2026-06",
        &[("2026-01-01", "c", TRANSIT), ("2026-06-16", "c", &dearer)],
    );
    assert_eq!(rig.amounts(&[]), ["240.00"]);
    // 300 in the second half only: of the whole month that is its percentile.
    let usage = slots("2026-06-15T22:00:00Z", 4320, "direction=in", 300);
    assert_eq!(rig.amounts(&usage), ["350.00"]);
    let rig = rig_of(
        "Europe/Berlin",
        "2026-06",
        &[("2026-01-01", "a", TRANSIT), ("2026-06-16", "b", TRANSIT)],
    );
    // Half of 160, and half of 160 + 110.
    assert_eq!(rig.amounts(&usage), ["80.00", "135.00"]);
}

/// A window wider than a slot is spread over its slots, and nothing is lost.
#[test]
fn wide_windows_are_spread() {
    let rig = rig(TRANSIT);
    let slices = rig.slices();
    let used = Used {
        at: instant("2026-06-03T10:00:00Z"),
        width: 900,
        dimensions: dimensions("direction=in"),
        units: 11,
    };
    let usage = rig.gather(&slices, &[used]);
    let key = crate::rate::SlotKey {
        slot_secs: 300,
        direction: crate::rate::Direction::In,
        cell: 0,
    };
    let found: Vec<u64> = usage
        .samples(key)
        .expect("sampled")
        .iter()
        .flatten()
        .collect();
    assert_eq!(found, [4, 4, 3]);
}

fn percent(text: &str) -> Ratio {
    text.parse().expect("a number")
}

#[test]
fn ranks_are_whole_numbers() {
    assert_eq!(rank(percent("95"), 8640), Some(8208));
    assert_eq!(rank(percent("95"), 20), Some(19));
    assert_eq!(rank(percent("95"), 21), Some(20));
    assert_eq!(rank(percent("100"), 7), Some(7));
    assert_eq!(rank(percent("0.001"), 7), Some(1));
    assert_eq!(rank(percent("95"), 0), None);
    assert_eq!(percentile(&mut [], percent("95")), None);
}

#[test]
fn a_slot_holds_all_that_64_bits_less_one_hold() {
    let period = Period {
        start: instant("2026-06-01T00:00:00Z"),
        end: instant("2026-06-01T00:10:00Z"),
    };
    let mut samples = Samples::new(period, 300);
    assert_eq!((samples.len(), samples.get(0)), (2, None));
    assert_eq!(samples.add(0, u64::MAX - 1), Ok(()));
    assert_eq!(samples.get(0), Some(u64::MAX - 1));
    assert!(samples.add(0, 1).is_err() && samples.add(1, u64::MAX).is_err());
    assert_eq!(samples.add(1, 0), Ok(()));
    assert_eq!(samples.get(1), Some(0));
}

/// What is added to which slot: numbers of all lengths.
fn additions() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let units = (any::<u64>(), 0u32..64).prop_map(|(units, less)| units >> less);
    proptest::collection::vec((0u32..14, units), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Packed numbers are those that were put in, whichever way they came and whatever came before
    /// them, also when they were written down and read back.
    #[test]
    fn packed_samples_are_what_was_added(additions in additions()) {
        let period = Period {
            start: instant("2026-06-01T00:00:00Z"),
            end: instant("2026-06-01T01:00:00Z"),
        };
        let mut expected = vec![None::<u64>; 12];
        let (mut samples, mut kept) = (Samples::new(period, 300), Vec::new());
        for (slot, units) in additions {
            let Some(known) = expected.get_mut(slot as usize) else {
                prop_assert_eq!(samples.add(slot, units), Ok(()));
                continue;
            };
            let sum = known.unwrap_or(0).checked_add(units);
            let fits = sum.filter(|sum| *sum < u64::MAX);
            prop_assert_eq!(samples.add(slot, units).is_ok(), fits.is_some());
            if fits.is_some() {
                *known = fits;
                kept.push((slot, units));
            }
        }
        prop_assert_eq!(samples.iter().collect::<Vec<_>>(), expected);
        prop_assert_eq!((samples.len(), samples.get(12)), (12, None));
        let mut turned = Samples::new(period, 300);
        for (slot, units) in kept.into_iter().rev() {
            prop_assert_eq!(turned.add(slot, units), Ok(()));
        }
        prop_assert_eq!(&turned, &samples);
        let written = serde_json::to_string(&samples).expect("samples can be written");
        prop_assert!(written.starts_with("{\"slots\":["), "as numbers: {}", written);
        let read: Samples = serde_json::from_str(&written).expect("what was written");
        prop_assert_eq!(read, samples);
    }

    /// The smallest value below or at which at least so many percent of all values lie.
    #[test]
    fn agrees_with_a_slow_way(values in proptest::collection::vec(0u64..50, 1..200), tenths in 1u64..=1000) {
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let enough = |value: &&u64| {
            let below = values.iter().filter(|other| other <= value).count() as u64;
            below * 1000 >= tenths * values.len() as u64
        };
        let expected = sorted.iter().find(enough).copied();
        let percent = Ratio::new(tenths.into(), 10).expect("a percentage");
        prop_assert_eq!(percentile(&mut values.clone(), percent), expected);
    }
}
