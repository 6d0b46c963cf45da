//! Usage is rated by the versions in force at its time, and kept apart as prices need it.

use super::*;

/// The card with other prices for requests.
fn requests_at(price: &str) -> BTreeMap<String, String> {
    let mut files = files("PT1H");
    let card = CARD.replace(
        "model = \"graduated\"\nper = \"10 {request}\"\ntiers = [{ to = \"100\", unit = \"1.00\" }, { unit = \"0.50\" }]",
        price,
    );
    assert_ne!(card, CARD, "the price is replaced");
    files.insert("cards/edge.toml".to_owned(), card);
    files
}

fn per_unit(unit: &str) -> BTreeMap<String, String> {
    requests_at(&format!(
        "model = \"per_unit\"\nper = \"1 {{request}}\"\nunit = \"{unit}\""
    ))
}

pub(super) fn restarted(world: &mut World) {
    let bytes = world.fold.to_bytes();
    world.fold = TenantFold::from_bytes(&bytes).expect("own snapshot");
    assert!(world.fold.to_bytes() == bytes);
}

fn of_region(region: &str, start: i64, value: i128) -> Row {
    let mut row = row("acme", "requests", start, value);
    let dimensions = Dimensions::new([("region", region)]).expect("valid");
    let meter = MeterName::new("requests").expect("valid");
    row.series = SeriesKey::new(tenant("acme"), meter, dimensions).expect("short");
    row
}

#[test]
fn each_unit_costs_what_the_version_of_its_time_says() {
    let mut world = World::new("PT1H");
    world.catalog(per_unit("1.00"));
    world.now = at(1000);
    world.rows("a", vec![row("acme", "requests", 900, 10)]);
    // In force from 1800 on.
    world.catalog(per_unit("3.00"));
    restarted(&mut world);
    world.rows("a", vec![row("acme", "requests", 1790, 10)]);
    world.now = at(2000);
    world.rows("a", vec![row("acme", "requests", 1800, 10)]);
    world.watermark("a", 3600);
    world.now = at(3600);
    assert_eq!(short(&world.close_due()), ["charge req 30 50.00"]);
    // Late usage, by the versions of its time whatever came since.
    world.catalog(per_unit("9.00"));
    restarted(&mut world);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 1),
            row("acme", "requests", 2700, 1),
        ],
    );
    assert_eq!(
        short(&world.close_due()),
        ["reversal req -30 -50.00", "charge req 32 54.00"]
    );
}

/// A version that is limited to some tenants changes nothing for the others, and is taken back by
/// the former one; what was used meanwhile costs what was in force then.
#[test]
fn a_limited_version_rates_only_its_tenants() {
    let both = |unit: &str| {
        let mut files = per_unit(unit);
        let profile = files["profiles/acme.toml"].replace("acme", "globex");
        files.insert("profiles/globex.toml".to_owned(), profile);
        files
    };
    let limited = |world: &mut World, unit: &str| {
        let mut change = CatalogChange::plain(Digest([0; 32]), both(unit));
        change.tenants = Some(BTreeSet::from([tenant("globex")]));
        world.apply(&TenantInput::Catalog(Arc::new(change)));
    };
    let mut world = World::new("PT1H");
    world.catalog(both("1.00"));
    world.now = at(800);
    limited(&mut world, "5.00");
    restarted(&mut world);
    world.now = at(1700);
    limited(&mut world, "1.00");
    for name in ["acme", "globex"] {
        for start in [0, 900, 1800] {
            world.rows("a", vec![row(name, "requests", start, 10)]);
        }
    }
    world.watermark("a", 3600);
    world.now = at(3600);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 30 30.00", "charge req 30 70.00"]
    );
}

#[test]
fn usage_counts_in_the_row_that_describes_it() {
    let matrix = "model = \"matrix\"\nper = \"1 {request}\"\nrows = [\n\
        { when = { region = \"eu\" }, unit = \"1.00\" },\n\
        { when = { region = \"us\" }, unit = \"2.00\" },\n]";
    let mut world = World::new("PT1H");
    world.catalog(requests_at(matrix));
    world.now = at(1000);
    world.rows("a", vec![of_region("us", 900, 5), of_region("eu", 910, 3)]);
    restarted(&mut world);
    world.rows(
        "a",
        vec![of_region("asia", 920, 7), of_region("us", 930, 1)],
    );
    world.watermark("a", 3600);
    world.now = at(3600);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 9 15.00", "unrated no_row 7 -"]
    );
}
