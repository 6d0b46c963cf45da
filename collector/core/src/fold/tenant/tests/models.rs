//! Prices whose lines depend on more than the usage of their own meter and on its sum.

use super::parts::restarted;
use super::*;

/// The usual files with another card, and more of the profile.
fn with(prices: &str, profile: &str) -> BTreeMap<String, String> {
    let mut files = files("PT1H");
    let (head, _) = CARD.split_once("[[price]]").expect("prices");
    files.insert("cards/edge.toml".to_owned(), format!("{head}{prices}"));
    let own = files.get_mut("profiles/acme.toml").expect("there");
    own.push_str(profile);
    files
}

fn close_first_hour(world: &mut World) -> Vec<LedgerEntry> {
    world.watermark("a", 3600);
    world.now = at(3600);
    world.close_due()
}

#[test]
fn late_usage_of_the_meter_that_selects_the_tier_rates_the_line_anew() {
    let prices = "[[price]]\nid = \"req\"\nmeter = \"requests\"\nmodel = \"volume\"\nper = \"1 {request}\"\n\
        tier_by = { meter = \"free\" }\ntiers = [{ to = \"10\", unit = \"1.00\" }, { unit = \"0.50\" }]\n\
        [[price]]\nid = \"free\"\nmeter = \"free\"\nmodel = \"per_unit\"\nper = \"1 1\"\nunit = \"0\"\n";
    let mut world = World::new("PT1H");
    world.catalog(with(prices, ""));
    world.rows(
        "a",
        vec![row("acme", "requests", 0, 4), row("acme", "free", 0, 10)],
    );
    let booked = short(&close_first_hour(&mut world));
    assert!(
        booked.contains(&"charge req 4 4.00".to_owned()),
        "{booked:?}"
    );
    restarted(&mut world);
    world.rows("a", vec![row("acme", "free", 0, 1)]);
    let late = short(&world.close_due());
    for expected in ["reversal req -4 -4.00", "charge req 4 2.00"] {
        assert!(late.contains(&expected.to_owned()), "{late:?}");
    }
}

#[test]
fn entries_tell_what_is_listed_and_what_is_contracted() {
    let prices = "[[price]]\nid = \"req\"\nmeter = \"requests\"\nmodel = \"per_unit\"\nper = \"1 {request}\"\n\
        unit = \"2.00\"\n[[discount]]\nid = \"off\"\npercent = \"10\"\n";
    let rates = "\n[[contracted]]\nprice = \"req\"\nunit = \"1.50\"\n";
    let mut world = World::new("PT1H");
    world.catalog(with(prices, rates));
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let booked = close_first_hour(&mut world);
    assert_eq!(short(&booked), ["charge req 10 13.50"]);
    let posting = &booked[0].posting;
    assert_eq!(posting.list, Some(Decimal::new(2000, 2)));
    let steps = posting
        .steps
        .iter()
        .map(|step| (step.kind.as_str(), step.amount.to_string()));
    let steps: Vec<(&str, String)> = steps.collect();
    assert_eq!(
        steps,
        [
            ("contracted", "-5.00".to_owned()),
            ("discount", "-1.50".to_owned())
        ]
    );
}

#[test]
fn levels_are_priced_moment_by_moment() {
    let price = "[[price]]\nid = \"seat\"\nmeter = \"seats\"\nmodel = \"graduated\"\nper = \"1 {seat}\"\n\
        over = \"period\"\ninterval = \"PT15M\"\n\
        tiers = [{ to = \"10\", unit = \"6.00\" }, { unit = \"3.00\", flat = \"25.00\" }]\n";
    let mut files = with(price, "");
    let meters = METERS.replace("\"last\"", "\"time_weighted\"");
    files.insert("meters.toml".to_owned(), meters);
    // So many seats for all of the quarter of an hour that begins then.
    let seats = |start: i64, level: i128| Row {
        aggregation: Aggregation::TimeWeighted,
        scale: 3,
        ..row("acme", "seats", start, level * 900_000)
    };
    let mut world = World::new("PT1H");
    world.catalog(files);
    world.rows("a", vec![seats(900, 16)]);
    restarted(&mut world);
    world.rows("a", vec![seats(0, 8)]);
    // 8 x 6 / 4, and (10 x 6 + 6 x 3) / 4, and the fee.
    let booked = short(&close_first_hour(&mut world));
    assert_eq!(booked, ["charge seat 21600000 56.50"]);
    // Late seats of the same quarter: 18 x 3 there instead of 6 x 3.
    world.rows("a", vec![seats(910, 12)]);
    let late = short(&world.close_due());
    assert_eq!(late[1], "charge seat 32400000 65.50");
}
