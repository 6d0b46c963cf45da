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

#[test]
fn a_percentile_of_newest_values_is_one_of_what_each_slot_has() {
    let price = "[[price]]\nid = \"seat\"\nmeter = \"seats\"\nmodel = \"percentile\"\npercentile = \"75\"\n\
        slot = \"PT15M\"\ndirections = \"sum\"\nper = \"{seat}\"\nunit = \"1.00\"\n";
    let mut world = World::new("PT1H");
    world.catalog(with(price, ""));
    let of = |region: &str, start: i64, level: i128| {
        let mut row = row("acme", "seats", start, level);
        let dimensions = Dimensions::new([("region", region)]).expect("valid");
        let meter = MeterName::new("seats").expect("valid");
        row.series = SeriesKey::new(tenant("acme"), meter, dimensions).expect("short");
        row
    };
    // Of a region the newest of a slot counts; those of several are added.
    world.rows("a", vec![of("eu", 900, 90), of("eu", 910, 10)]);
    restarted(&mut world);
    world.rows(
        "a",
        vec![of("us", 920, 5), of("eu", 0, 8), of("eu", 1800, 70)],
    );
    let booked = close_first_hour(&mut world);
    // 8, 15, 70 and nothing: the third of four.
    assert_eq!(booked[0].posting.amount, Some(Decimal::new(1500, 2)));
    let text = booked[0].posting.arithmetic.clone();
    assert!(
        text.contains("percentile 75 of 4 slots of 900 s, rank 3"),
        "{text}"
    );
    // Late seats of the empty slot lift the third.
    world.rows("a", vec![of("us", 2700, 20)]);
    let late = world.close_due();
    assert_eq!(late[1].posting.amount, Some(Decimal::new(2000, 2)));
}

/// A value of a quarter of an hour is one of each of its slots, and of no later quarter.
#[test]
fn a_window_wider_than_a_slot_has_its_value_in_all_of_them() {
    let price = "[[price]]\nid = \"seat\"\nmeter = \"seats\"\nmodel = \"percentile\"\npercentile = \"50\"\n\
        slot = \"PT5M\"\ndirections = \"sum\"\nper = \"{seat}\"\nunit = \"1.00\"\n";
    let mut world = World::new("PT1H");
    world.catalog(with(price, ""));
    let wide = |start: i64, level: i128| {
        let mut rollup = row("acme", "seats", start, level).rollup();
        let width = WindowWidth::from_secs(900).expect("divides itself");
        rollup.window = Window::starting(at(start), width).expect("aligned");
        (rollup, None)
    };
    world.apply(&TenantInput::Rows(Rows {
        agent: agent("a"),
        incarnation: Incarnation::from_bytes([1; 16]),
        sequence: BatchSeq::FIRST,
        rows: RowSet::new([wide(0, 7), wide(900, 9)]),
    }));
    restarted(&mut world);
    // Newer in one slot of the second quarter.
    world.rows("a", vec![row("acme", "seats", 1500, 8)]);
    let booked = close_first_hour(&mut world);
    // Six slots are empty; 7 three times, 8 and 9 twice: the seventh of twelve is 7, the sixth is nothing.
    let text = booked[0].posting.arithmetic.clone();
    assert!(
        text.contains("percentile 50 of 12 slots of 300 s, rank 6"),
        "{text}"
    );
    assert_eq!(booked[0].posting.amount, Some(Decimal::new(0, 2)));
    world.rows("a", vec![row("acme", "seats", 3000, 1)]);
    let late = world.close_due();
    assert_eq!(late[1].posting.amount, Some(Decimal::new(100, 2)));
}

#[test]
fn a_contracted_rate_holds_from_its_day_on() {
    let price = "[[price]]\nid = \"req\"\nmeter = \"requests\"\nmodel = \"per_unit\"\nper = \"1 {request}\"\n\
        unit = \"2.00\"\n";
    let rates = "\n[[contracted]]\nprice = \"req\"\nunit = \"1.50\"\nfrom = \"1970-01-16\"\n\
        until = \"1970-02-01\"\n";
    let mut files = with(price, rates);
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    *profile = profile.replace("PT1H", "P1M");
    let mut world = World::new("P1M");
    world.catalog(files);
    let day = 86_400;
    world.rows("a", vec![row("acme", "requests", 10 * day, 10)]);
    restarted(&mut world);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 20 * day, 10),
            row("acme", "requests", 40 * day, 10),
        ],
    );
    world.watermark("a", 59 * day);
    world.now = at(59 * day);
    let booked = world.close_due();
    assert_eq!(
        short(&booked),
        ["charge req 20 35.00", "charge req 10 20.00"]
    );
    assert_eq!(booked[0].posting.list, Some(Decimal::new(4000, 2)));
    // What is listed is told where it is not what is charged.
    assert_eq!(booked[1].posting.list, None);
}
