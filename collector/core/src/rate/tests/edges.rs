//! What only shows at edges: versions of which one is not used, fees that are due once, what begins
//! with an interval, and rows in another order than their names.

use super::events::{events, rig_of};
use super::parts::{june, june_of};
use super::rig::{Rig, Used, Version, dimensions, meter, price, used};

const EARLY: &str = "2026-06-03T10:00:00Z";
const LATE: &str = "2026-06-20T10:00:00Z";

fn tiers(model: &str, unit: &str, more: &str) -> String {
    format!(
        "model = \"{model}\"\nper = \"1 {{unit}}\"\n\
         tiers = [{{ to = \"100\", unit = \"{unit}\", flat = \"3.00\" }}, {{ unit = \"0.50\" }}]\n{more}"
    )
}

/// Two versions of a price, the second one from the middle of June on.
fn two(first: &str, second: &str) -> Rig {
    june(&[("2026-01-01", first), ("2026-06-16", second)])
}

/// The price is of another card from the middle of June on.
fn half(keys: &str) -> Rig {
    let keys = price(keys);
    let of = |from, card| Version {
        from,
        card,
        prices: &keys,
    };
    let versions = [of("2026-01-01", "a"), of("2026-06-16", "b")];
    let meters = meter("{unit}", 0, "sum");
    Rig::new(&meters, &[], &versions, "Europe/Berlin", "2026-06")
}

fn said(said: &str, at: &str, units: i128) -> Used {
    Used {
        dimensions: dimensions(said),
        ..used(at, units)
    }
}

#[test]
fn only_the_first_fee_is_prorated() {
    let rig = half(
        "model = \"graduated\"\nper = \"1 {unit}\"\nfirst_flat = \"prorated\"\n\
         tiers = [{ to = \"10\", unit = \"1\", flat = \"10\" }, { unit = \"1\", flat = \"4\" }]",
    );
    // Half of 10.00 on each card, and on the second one 20.00 and 4.00.
    assert_eq!(rig.amounts(&[used(LATE, 20)]), ["5.00", "29.00"]);
}

#[test]
fn a_fee_that_is_always_due_is_due_once() {
    let always = |model: &str, unit: &str| tiers(model, unit, "first_flat = \"always\"");
    let rig = two(&always("volume", "1.00"), &always("volume", "0.80"));
    let undone = [used(EARLY, 5), used(LATE, -5)];
    assert_eq!(rig.amounts(&undone), ["3.00"]);
    // The first version says it, also where only the second one is used.
    let dearer = always("graduated", "0.80").replace("3.00", "7.00");
    let rig = two(&always("graduated", "1.00"), &dearer);
    assert_eq!(rig.amounts(&[used(LATE, 10)]), ["11.00"]);
}

#[test]
fn an_interval_that_begins_with_a_version_is_priced_by_it() {
    let unit = |unit: &str| {
        format!("model = \"per_unit\"\nper = \"1 {{unit}}\"\nunit = \"{unit}\"\ninterval = \"P1D\"")
    };
    let rig = june_of(
        &meter("{unit}", 0, "max"),
        &[("2026-01-01", &unit("3.00")), ("2026-06-11", &unit("1.00"))],
    );
    assert_eq!(rig.amounts(&[used("2026-06-10T10:00:00Z", 9)]), ["27.00"]);
    assert_eq!(rig.amounts(&[used("2026-06-11T10:00:00Z", 9)]), ["9.00"]);
}

#[test]
fn a_row_of_largest_values_costs_what_each_version_says() {
    let rows = |unit: &str| {
        format!(
            "model = \"matrix\"\nper = \"1 {{unit}}\"\n\
             rows = [{{ id = \"eu\", when = {{ region = \"eu\" }}, unit = \"{unit}\" }}]"
        )
    };
    let rig = june_of(
        &meter("{unit}", 0, "max"),
        &[("2026-01-01", &rows("3.00")), ("2026-06-11", &rows("1.00"))],
    );
    // 10 of 30 days at 27.00, and 20 at 9.00.
    assert_eq!(rig.amounts(&[said("region=eu", LATE, 9)]), ["15.00"]);
}

const SHARED: &str = "model = \"matrix\"\nper = \"1 {unit}\"\nrows = [\n\
    { id = \"windows\", when = { os = \"windows\" }, unit = \"2\", uses = \"2\" },\n\
    { id = \"linux\", when = { os = \"linux\" }, unit = \"1\" },\n]\n";

#[test]
fn rows_share_what_is_included() {
    let rig = june(&[("2026-01-01", &format!("{SHARED}allowance = \"1000\""))]);
    let usage = [said("os=windows", EARLY, 300), said("os=linux", EARLY, 600)];
    // The 300 use up 600.
    assert_eq!(rig.amounts(&usage), ["200.00"]);
    // What is converted first is included as what it is then.
    let keys = format!(
        "{SHARED}allowance = \"100\"\nconvert = {{ to = \"10 {{unit}}\", round = \"up\" }}"
    );
    let rig = june(&[("2026-01-01", &keys)]);
    assert_eq!(rig.amounts(&[said("os=linux", EARLY, 93)]), ["0.00"]);
    // For half of the period half of it.
    let rig = half(&format!(
        "{SHARED}allowance = \"100\"\nprorated = [\"allowance\"]"
    ));
    let amounts = rig.amounts(&[said("os=linux", LATE, 80)]);
    assert_eq!(amounts.last().map(String::as_str), Some("30.00"));
}

#[test]
fn rows_of_a_pool_are_filled_in_the_order_of_the_file() {
    let row = |id: &str, first: &str, then: &str| {
        format!(
            "{{ id = \"{id}\", when = {{ region = \"{id}\" }}, tier_pool = \"all\", \
             tiers = [{{ to = \"10\", unit = \"{first}\" }}, {{ unit = \"{then}\" }}] }}"
        )
    };
    let keys = format!(
        "model = \"matrix\"\nper = \"1 {{unit}}\"\nrows = [{}, {}]",
        row("us", "5", "4"),
        row("eu", "3", "1")
    );
    let rig = june(&[("2026-01-01", &keys)]);
    let usage = [said("region=eu", EARLY, 8), said("region=us", EARLY, 8)];
    // 8 at 5, then 2 at 3 and 6 at 1.
    assert_eq!(rig.amounts(&usage), ["52.00"]);
}

#[test]
fn a_maximum_holds_if_every_version_has_one() {
    let limited = tiers("graduated", "1.00", "maximum = \"10\"");
    let rig = two(&limited, &tiers("graduated", "0.80", ""));
    assert_eq!(rig.amounts(&[used(EARLY, 50), used(LATE, 10)]), ["61.00"]);
}

#[test]
fn discounts_of_versions_are_taken_in_their_order() {
    let amount = "[[discount]]\nid = \"off\"\namount = \"10.00\"\n";
    let share = "[[discount]]\nid = \"share\"\npercent = \"50\"\n";
    let unit = |unit: &str, more: &str| {
        format!("model = \"per_unit\"\nper = \"1 {{unit}}\"\nunit = \"{unit}\"\n{more}")
    };
    // A percentage goes first, though only the second version has it.
    let rig = two(
        &unit("1", amount),
        &unit("0.80", &format!("{amount}{share}")),
    );
    assert_eq!(rig.amounts(&[used(LATE, 80)]), ["22.00"]);
    let of_list = format!("{share}[[discount]]\nid = \"more\"\npercent = \"10\"\nof = \"list\"\n");
    let rig = two(&unit("1", &of_list), &unit("0.80", &of_list));
    // 100.00 less 50.00 and 10.00, and 40.00 less 20.00 and 4.00.
    assert_eq!(rig.amounts(&[used(EARLY, 100), used(LATE, 50)]), ["56.00"]);
}

#[test]
fn fees_of_tiers_that_events_have_reached_are_not_due_again() {
    let keys = |percent: &str| {
        format!(
            "model = \"percentage\"\nfixed = \"0\"\n\
             tiers = [{{ to = \"100\", percent = \"{percent}\" }}, {{ percent = \"1\", flat = \"5.00\" }}]"
        )
    };
    let (first, second) = (keys("2"), keys("3"));
    let rig = rig_of("EUR", 2, &[("2026-01-01", &first), ("2026-06-11", &second)]);
    let mut usage = events(&[15_000, 5_000]);
    usage[1].at = usage[1].at.plus_millis(2 * 86_400_000);
    // 2.00 and 0.50 and the fee; then 0.50.
    assert_eq!(rig.amounts(&usage), ["8.00"]);
    // The second version has none.
    assert_eq!(
        rig.texts(&usage[..1]),
        [
            "from 2026-06-01T00:00:00.000Z: 1 events: 100 x 2 + 50 x 1 per 100 EUR + 5.00 flat = 7.50 EUR"
        ]
    );
}

#[test]
fn the_first_version_says_which_events_are_free() {
    let keys = |free: u32| format!("model = \"percentage\"\npercent = \"1\"\nfree_events = {free}");
    let (first, second) = (keys(1), keys(0));
    let rig = rig_of("EUR", 2, &[("2026-01-01", &first), ("2026-06-10", &second)]);
    assert_eq!(rig.amounts(&events(&[10_000, 10_000])), ["1.00"]);
}

#[test]
fn what_is_not_used_costs_no_least_amount() {
    let rig = june(&[(
        "2026-01-01",
        "model = \"per_unit\"\nper = \"1 {unit}\"\nunit = \"1\"\n\
         each = { by = \"region\", minimum = \"5.00\" }",
    )]);
    let usage = [
        said("region=eu", EARLY, 3),
        said("region=eu", LATE, -3),
        said("region=us", LATE, 1),
    ];
    assert_eq!(rig.amounts(&usage), ["5.00"]);
}
