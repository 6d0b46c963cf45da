//! Where a version of a price goes on from another one, and what a part of a period costs.

use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::rig::{Rig, Used, Version, dimensions, instant, meter, price, used};
use crate::rate::{EventKey, Outcome, rate_meter_behind};

fn rig(meters: &str, versions: &[(&str, &str)]) -> Rig {
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
    Rig::new(meters, &[], &versions, "UTC", "2026-06")
}

/// The first half of June: what a change of calendars left of it.
fn half(mut rig: Rig) -> Rig {
    rig.period.end = instant("2026-06-16T00:00:00Z");
    rig
}

/// Rows have their price by their name, wherever they stand in a version.
#[test]
fn rows_of_a_largest_value_go_on_by_their_names() {
    let rows = |rows: &str| format!("model = \"matrix\"\nper = \"1 {{unit}}\"\nrows = [{rows}]");
    let (eu, us, asia) = (
        "{ id = \"eu\", when = { region = \"eu\" }, unit = \"1\" }",
        "{ id = \"us\", when = { region = \"us\" }, unit = \"100\" }",
        "{ id = \"asia\", when = { region = \"asia\" }, unit = \"10000\" }",
    );
    let (first, second) = (
        rows(&format!("{eu}, {us}")),
        rows(&format!("{asia}, {us}, {eu}")),
    );
    let of = |region: &str, at: &str| Used {
        dimensions: dimensions(&format!("region={region}")),
        ..used(at, 6)
    };
    let usage = [
        of("eu", "2026-06-03T00:00:00Z"),
        of("us", "2026-06-20T00:00:00Z"),
        of("asia", "2026-06-20T00:00:00Z"),
    ];
    let rig = rig(
        &meter("{unit}", 0, "max"),
        &[("2026-01-01", &first), ("2026-06-16", &second)],
    );
    // Six of each, and each by its own row.
    assert_eq!(rig.amounts(&usage), ["60606.00"], "{:?}", rig.texts(&usage));
}

/// A corrected version of a card changes what is counted: that is no line, and no wrong amount.
#[test]
fn a_price_that_counts_something_else_is_not_rated() {
    let plain = "model = \"per_unit\"\nper = \"1 {unit}\"\nunit = \"1\"";
    let rigs = [
        rig(&meter("{unit}", 0, "sum"), &[("2026-01-01", plain)]),
        rig(
            &meter("{unit}", 0, "sum"),
            &[("2026-01-01", &format!("{plain}\ninterval = \"P1D\""))],
        ),
    ];
    let cut = instant("2026-06-16T00:00:00Z");
    let [mut first, mut second] = rigs.each_ref().map(Rig::slices);
    first[0].span.end = cut;
    second[0].span.start = cut;
    let slices = [first[0], second[0]];
    let usage = rigs[0].gather(
        &slices,
        &[
            used("2026-06-03T00:00:00Z", 3),
            used("2026-06-20T00:00:00Z", 4),
        ],
    );
    assert_eq!(
        rigs[0].texts_of(&slices, &usage),
        ["unrated PriceChanged 7"]
    );
}

#[test]
fn a_level_is_divided_by_the_length_of_the_whole_period() {
    let seats = "model = \"per_unit\"\nper = \"1 {seat}\"\nunit = \"30\"\nover = \"period\"";
    let rig = half(rig(
        &meter("{seat}", 0, "time_weighted"),
        &[("2026-01-01", seats)],
    ));
    // Two seats for 15 days, in thousandths of a second.
    let usage = [used("2026-06-03T00:00:00Z", 2 * 15 * 86_400 * 1000)];
    assert_eq!(rig.amounts(&usage), ["30.00"], "{:?}", rig.texts(&usage));
}

#[test]
fn a_commitment_to_a_percentile_is_one_for_the_whole_period() {
    let keys = "model = \"percentile\"\npercentile = \"95\"\nslot = \"PT5M\"\ndirections = \"sum\"\n\
        per = \"Mbit/s\"\ncommit = \"200\"\nunit = \"0.80\"";
    let whole = rig(&meter("By", 0, "sum"), &[("2026-01-01", keys)]);
    assert_eq!(whole.amounts(&[]), ["160.00"]);
    assert_eq!(half(whole).amounts(&[]), ["80.00"]);
}

/// Events of two tenants are two, whatever their ids are.
#[test]
fn events_of_tenants_are_put_together() {
    let calls = "model = \"per_event\"\nper = \"1 {unit}\"\nunit = \"1\"";
    let meters = format!("{}event = \"call\"\n", meter("{unit}", 0, "sum"));
    let rig = rig(&meters, &[("2026-01-01", calls)]);
    let slices = rig.slices();
    let call = Used {
        dimensions: dimensions("call=one"),
        ..used("2026-06-03T00:00:00Z", 5)
    };
    let one = rig.gather(&slices, std::slice::from_ref(&call));
    let mut all = crate::rate::MeterUsage::default();
    for tenant in ["a", "b"] {
        let tenant = tollgate_common::TenantId::new(tenant).expect("a name");
        all.merge(&tenant, &one).expect("fits");
    }
    let tenants: Vec<_> = all.events().map(|(key, _)| key.tenant.clone()).collect();
    assert_eq!(tenants.len(), 2);
    let at = |key: &EventKey| (key.at, key.id.clone());
    let keys: Vec<_> = all.events().map(|(key, _)| at(key)).collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!(
        rig.texts_of(&slices, &all),
        ["2 events: 10 x 1 per 1 {unit} = 10.00 EUR"]
    );
}

const YEARLY: &str = "model = \"graduated\"\nper = \"1 {unit}\"\ninterval = \"P1Y\"\nallowance = \"20\"\n\
    tiers = [{ to = \"100\", unit = \"1.00\" }, { to = \"300\", unit = \"0.50\", flat = \"7.00\" }, \
    { unit = \"0.10\" }]";

/// 20 are free in the year; then 100 at 1.00, 7.00 once and 200 at 0.50, the rest at 0.10.
fn of_the_year(quantity: i128) -> i128 {
    let charged = (quantity - 20).max(0);
    let flat = if charged > 100 { 700 } else { 0 };
    charged.min(100) * 100 + (charged - 100).clamp(0, 200) * 50 + (charged - 300).max(0) * 10 + flat
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The months of a term cost together what all of it costs at once.
    #[test]
    fn months_of_a_term_sum_to_the_term(months in prop::collection::vec(-5i128..250, 1..6)) {
        let rig = rig(&meter("{unit}", 0, "sum"), &[("2026-01-01", YEARLY)]);
        let slices = rig.slices();
        let (mut before, mut sum) = (0, Decimal::ZERO);
        for month in months {
            let usage = rig.gather(&slices, &[used("2026-06-10T00:00:00Z", month)]);
            let reached = |_: &_, _: &_| Quantity::new(before);
            let periods = (rig.period, rig.whole);
            let outcomes = rate_meter_behind(&usage, rig.meter(), periods, &slices, true, reached);
            for outcome in &outcomes {
                if let Outcome::Line(line) = outcome {
                    sum += line.amount;
                    prop_assert_eq!(line.quantity, Quantity::new(month.max(0)));
                    let text = line.to_string();
                    prop_assert_eq!(before > 0, text.starts_with("behind "), "{}", text);
                }
            }
            before += month.max(0);
        }
        let cents = i64::try_from(of_the_year(before)).expect("small");
        prop_assert_eq!(sum, Decimal::new(cents, 2));
    }
}
