//! Whole bills: what closings book is what the one way to a bill says, and what `plan` says.

use super::parts::restarted;
use super::*;
use crate::plan::{Cost, Terms as Planned, WindowUsage};

const BILLS: &str = include_str!("../../../../../../docs/pricing/bills.md");

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"
"#;

/// June 2026 in Berlin.
const JUNE: (i64, i64) = (1_780_264_800, 1_782_856_800);
const HALF: i64 = JUNE.0 + 15 * 86_400;

/// The catalog of the month in full that the documentation shows.
fn documented() -> BTreeMap<String, String> {
    let (_, behind) = BILLS.split_once("\n## A month in full\n").expect("there");
    let (section, _) = behind.split_once("\n## ").expect("it ends");
    let mut files = BTreeMap::from([("meters.toml".to_owned(), METERS.to_owned())]);
    for block in section.split("```toml\n# ").skip(1) {
        let (path, text) = block.split_once('\n').expect("a path");
        let (text, _) = text.split_once("```").expect("closed");
        files.insert(path.to_owned(), text.to_owned());
    }
    assert_eq!(files.len(), 5, "card, tax, profile, test and meters");
    files
}

fn replaced(
    mut files: BTreeMap<String, String>,
    path: &str,
    from: &str,
    to: &str,
) -> BTreeMap<String, String> {
    let text = files.get_mut(path).expect("there");
    assert!(text.contains(from), "{from}");
    *text = text.replace(from, to);
    files
}

fn requests(start: i64, value: i128) -> Row {
    row("acme", "http.requests", start, value)
}

fn bytes(start: i64, value: i128) -> Row {
    let mut row = row("acme", "net.bytes", start, value);
    let dimensions = Dimensions::new([("direction", "in")]).expect("valid");
    row.series =
        SeriesKey::new(tenant("acme"), row.series.meter().clone(), dimensions).expect("short");
    row
}

/// 3.5 million requests in two halves, 260 Mbit/s in 500 slots and 90 Mbit/s in the others.
fn usage(half: i64) -> Vec<Row> {
    let day = JUNE.0 + half * 15 * 86_400;
    let slots = (0..8640i64).filter(|slot| slot / 4320 == half);
    let traffic = slots.map(|slot| {
        let value = if slot % 17 == 0 && slot / 17 < 500 {
            9_750_000_000
        } else {
            3_375_000_000
        };
        bytes(JUNE.0 + slot * 300, value)
    });
    let mut rows: Vec<Row> = traffic.collect();
    rows.extend([requests(day, 1_000_000), requests(day + 86_400, 750_000)]);
    rows
}

/// A fold that knows nothing yet.
fn empty() -> World {
    let mut world = World::new("PT1H");
    world.fold = TenantFold::new(2);
    world.effects.clear();
    world
}

fn closed(world: &mut World) -> Vec<LedgerEntry> {
    world.now = at(JUNE.1);
    world.watermark("a", JUNE.1);
    world.close_due()
}

/// June of the documentation; with `restarts` from a snapshot at every turn.
fn june(files: BTreeMap<String, String>, restarts: bool) -> (World, Vec<LedgerEntry>) {
    let mut world = empty();
    let turn = |world: &mut World| {
        if restarts {
            restarted(world);
        }
    };
    world.catalog(files);
    turn(&mut world);
    for half in [0, 1] {
        world.now = at(HALF);
        world.rows("a", usage(half));
        turn(&mut world);
    }
    let entries = closed(&mut world);
    turn(&mut world);
    (world, entries)
}

fn left(world: &World) -> Decimal {
    let carried = &world.fold.tenants[&tenant("acme")].carried;
    let used: Vec<Decimal> = carried
        .commitments
        .values()
        .flat_map(|parts| parts.values().map(|part| part.counted))
        .collect();
    Decimal::from(12_000) - used.iter().sum::<Decimal>()
}

fn total(entries: &[LedgerEntry]) -> Decimal {
    entries
        .iter()
        .filter_map(|entry| entry.posting.amount)
        .sum()
}

/// Amounts by the names of their lines.
fn amounts(entries: &[LedgerEntry]) -> BTreeMap<String, Decimal> {
    let mut amounts: BTreeMap<String, Decimal> = BTreeMap::new();
    for entry in entries {
        let amount = entry.posting.amount.unwrap_or_default();
        *amounts.entry(entry.posting.line.clone()).or_default() += amount;
    }
    amounts
}

#[test]
fn the_month_of_the_documentation_is_booked_as_it_is_documented() {
    for restarts in [false, true] {
        let (world, entries) = june(documented(), restarts);
        assert_eq!(
            short(&entries),
            [
                "charge de-standard 0 266.19",
                "charge requests 3500000 1175.00",
                "charge transit 32347500000000 226.00",
            ]
        );
        assert_eq!(total(&entries).to_string(), "1667.19");
        assert_eq!(left(&world).to_string(), "10599.00");
    }
}

/// 3.6 million requests are 800 + 400, with 19 % tax on 25.00 more.
#[test]
fn late_usage_books_the_difference_with_its_tax() {
    let next = replaced(
        documented(),
        "profiles/acme.toml",
        "late = \"correct\"",
        "late = \"next\"",
    );
    let expected: [&[&str]; 2] = [
        &[
            "reversal de-standard 0 -266.19",
            "charge de-standard 0 270.94",
            "reversal requests -3500000 -1175.00",
            "charge requests 3600000 1200.00",
        ],
        &[
            "adjustment de-standard 0 4.75",
            "adjustment requests 100000 25.00",
        ],
    ];
    for (files, expected) in [documented(), next].into_iter().zip(expected) {
        for restarts in [false, true] {
            let (mut world, before) = june(files.clone(), restarts);
            world.rows("a", vec![requests(HALF, 100_000)]);
            let late = world.close_due();
            assert_eq!(short(&late), expected);
            assert_eq!((total(&before) + total(&late)).to_string(), "1696.94");
            assert_eq!(left(&world).to_string(), "10574.00");
        }
    }
}

/// What the projection has of the rows.
fn windows(rows: Vec<Row>) -> Vec<WindowUsage> {
    let window = |row: Row| {
        let rollup = row.rollup();
        WindowUsage {
            meter: rollup.series.meter().clone(),
            dimensions: rollup.series.dimensions().clone(),
            window: rollup.window,
            aggregation: rollup.aggregation,
            scale: rollup.scale,
            quantity: rollup.value,
            detail: rollup.detail.clone(),
            order: String::new(),
        }
    };
    rows.into_iter().map(window).collect()
}

fn planned(world: &World) -> Cost {
    let period = Period {
        start: at(JUNE.0),
        end: at(JUNE.1),
    };
    let timeline = world.fold.catalogs.timeline();
    let terms = Planned::in_force(timeline, &tenant("acme"), period);
    let rows = windows(usage(0).into_iter().chain(usage(1)).collect());
    let acme = tenant("acme");
    let cost = terms.cost(&acme, [(&acme, rows.iter().collect())]);
    cost.expect("a bill")
}

/// Prices, and then a tax, change in the middle of June for one of two tenants.
#[test]
fn a_plan_of_what_is_in_force_is_what_a_closing_books() {
    let mut files = documented();
    let globex = files["profiles/acme.toml"].replace("acme", "globex");
    files.insert("profiles/globex.toml".to_owned(), globex);
    let dearer = replaced(files.clone(), "cards/edge.toml", "\"0.25\"", "\"0.35\"");
    let taxed = replaced(dearer.clone(), "tax/de.toml", "\"19\"", "\"20\"");
    let mut world = empty();
    world.catalog(files);
    let globex = || {
        let mut row = row("globex", "http.requests", HALF, 3_500_000);
        row.start = HALF;
        row
    };
    world.now = at(HALF - 60);
    world.rows("a", usage(0));
    let limited = |world: &mut World, files| {
        let mut change = CatalogChange::plain(Digest([0; 32]), files);
        change.tenants = Some(BTreeSet::from([tenant("acme")]));
        world.apply(&TenantInput::Catalog(Arc::new(change)));
    };
    limited(&mut world, dearer);
    world.now = at(HALF + 60);
    world.rows("a", usage(1));
    world.rows("a", vec![globex()]);
    // Changes nothing but the tax, so it does not cut the period.
    limited(&mut world, taxed);
    restarted(&mut world);
    let entries = closed(&mut world);
    let (ours, theirs): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.posting.tenant == Some(tenant("acme")));
    let cost = planned(&world);
    let mut booked = amounts(&ours);
    let tax = booked.remove("de-standard").expect("a tax");
    // The first half is 1.75 million by 0.40; then 0.25 million by 0.40, and 1.5 million by 0.35.
    assert_eq!(booked["requests"].to_string(), "1325.00");
    assert_eq!(booked, cost.lines);
    assert_eq!(total(&ours), cost.total);
    assert_eq!(tax, cost.total - cost.net);
    assert_eq!(tax.to_string(), "310.20");
    let theirs = amounts(&theirs);
    assert_eq!(theirs["requests"].to_string(), "1175.00");
    assert_eq!(theirs["transit"].to_string(), "160.00");
    assert_eq!(theirs["de-standard"].to_string(), "253.65");
}

/// 5 of 20 requests of a month come while the grant is valid, which is half of its time.
#[test]
fn a_grant_pays_for_the_usage_of_its_days() {
    let card = "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\
        [[price]]\nid = \"requests\"\nmeter = \"http.requests\"\nmodel = \"per_unit\"\n\
        per = \"1 {request}\"\nunit = \"1.00\"\n";
    let grant = "tenant = \"acme\"\ncard = \"edge\"\nzone = \"Europe/Berlin\"\n\
        [[grant]]\nid = \"spring\"\namount = \"100.00\"\nfrom = \"2026-05-01\"\nuntil = \"2026-06-16\"\n";
    let mut files = documented();
    files.remove("acme-june.test.toml");
    files.insert("cards/edge.toml".to_owned(), card.to_owned());
    files.insert("profiles/acme.toml".to_owned(), grant.to_owned());
    let mut world = empty();
    world.catalog(files);
    world.now = at(HALF);
    world.rows("a", vec![requests(HALF - 10, 5), requests(HALF, 15)]);
    restarted(&mut world);
    let entries = closed(&mut world);
    assert_eq!(
        short(&entries),
        ["charge requests 20 20.00", "charge spring 0 -5.00"]
    );
    // Late usage of its days is paid by it too.
    world.rows("a", vec![requests(HALF - 20, 1), requests(HALF, 1)]);
    let late = world.close_due();
    assert_eq!(total(&late).to_string(), "1.00");
}

/// A window that is reported before it begins was counted when nobody knew of the next version.
#[test]
fn usage_reported_ahead_costs_what_was_known_when_it_came() {
    let dearer = replaced(documented(), "cards/edge.toml", "\"0.40\"", "\"0.50\"");
    let mut world = empty();
    world.catalog(documented());
    world.now = at(HALF - 60);
    world.rows("a", vec![requests(HALF, 10_000)]);
    world.catalog(dearer);
    world.rows("a", vec![requests(HALF, 10_000)]);
    let entries = closed(&mut world);
    assert_eq!(amounts(&entries)["requests"].to_string(), "9.00");
}
