//! Who is paid for during a part of a period owes its own fees for the rest.

use super::due::{JULY, JUNE_15, with_fee, world};
use super::*;

const SHOP: &str = "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\n";

/// The catalog with a fee of 25.00 in which `acme` pays for `shop` as the text says.
fn family(payer: &str) -> BTreeMap<String, String> {
    let mut files = with_fee("P1M");
    files.insert("profiles/shop.toml".to_owned(), format!("{SHOP}{payer}"));
    files
}

#[test]
fn who_leaves_its_payer_owes_fees_for_the_rest_of_the_period() {
    // 2026-06-01
    let mut world = world(family("payer = \"acme\"\n"), 1_780_272_000);
    world.now = at(JUNE_15);
    world.catalog(family(""));
    // 16 of 30 days, without any usage.
    assert_eq!(
        world.pass(JULY),
        ["charge platform 0 25.00", "charge platform 0 13.33"]
    );
}

#[test]
fn who_joins_a_payer_owes_fees_for_the_time_before() {
    let payer = "payer = { tenant = \"acme\", from = \"2026-06-15\" }\n";
    let mut world = world(family(payer), 1_780_272_000);
    // 14 of 30 days.
    assert_eq!(
        world.pass(JULY),
        ["charge platform 0 25.00", "charge platform 0 11.67"]
    );
    assert_eq!(
        world.pass(1_785_542_400),
        ["charge platform 0 25.00"],
        "in July somebody else pays"
    );
}
