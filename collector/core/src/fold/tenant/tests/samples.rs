//! What a percentile or single events cannot take costs itself, and nothing else.

use super::operated::{corrected, correction};
use super::*;

/// Requests are bytes here: priced by the busiest five minutes of an hour, beside a fee of so much a
/// gigabyte.
const BY_PERCENTILE: &str = r#"
model = "percentile"
percentile = "95"
directions = "sum"
per = "1 Mbit/s"
unit = "1.00"

[[price]]
id = "volume"
meter = "requests"
model = "per_unit"
per = "1 GB"
unit = "0.10"
"#;

/// A hundred Mbit/s over five minutes, in bytes.
const BUSY: i128 = 3_750_000_000;

fn world() -> World {
    let mut files = files("PT1H");
    let (head, _) = CARD.split_once("model = \"graduated\"").expect("there");
    files.insert(
        "cards/edge.toml".to_owned(),
        format!("{head}{BY_PERCENTILE}"),
    );
    let meters = METERS.replacen("{request}", "By", 1);
    files.insert("meters.toml".to_owned(), meters);
    let mut world = World::new("PT1H");
    world.fold = TenantFold::new(0);
    world.catalog(files);
    world.now = at(1000);
    world
}

fn closed(world: &mut World) -> Vec<String> {
    world.watermark("a", 3600);
    world.now = at(3600);
    short(&world.close_due())
}

#[test]
fn a_value_that_no_slot_holds_does_not_unprice_the_others() {
    let mut world = world();
    world.rows("a", vec![row("acme", "requests", 0, BUSY)]);
    world.rows("a", vec![row("acme", "requests", 600, 1 << 65)]);
    super::parts::restarted(&mut world);
    world.rows("a", vec![row("acme", "requests", 900, BUSY)]);
    // The price that asks for nothing but the sum has all of it.
    assert_eq!(
        closed(&mut world),
        [
            "charge req 7500000000 100.00",
            "charge volume 0 3689348815.49",
            "unrated no_row 36893488147419103232 -",
        ]
    );
}

#[test]
fn less_than_nothing_is_refused_before_it_is_journaled_and_set_aside_after() {
    let mut world = world();
    world.rows("a", vec![row("acme", "requests", 0, BUSY)]);
    assert_eq!(
        closed(&mut world),
        ["charge req 3750000000 100.00", "charge volume 0 0.38"]
    );
    let less = correction("less", vec![corrected("requests", 0, -1)]);
    let refused = world.fold.preview(world.now, &less);
    let text = refused.expect_err("by a percentile").to_string();
    assert!(
        text.starts_with("row 1: meter `requests` is priced by a percentile"),
        "{text}"
    );
    // One that is in the journal all the same.
    world.operate(&less);
    assert_eq!(
        short(&world.close_due()),
        [
            "reversal volume 0 -0.38",
            "charge volume 0 0.37",
            "unrated no_row -1 -",
        ]
    );
    let more = correction("more", vec![corrected("requests", 0, 1)]);
    world.fold.preview(world.now, &more).expect("above zero");
}
