//! A bill goes by the clocks of its period, which a change of zone within it does not move.

use super::*;

const DAY: i64 = 86_400;
/// Since the first of February 1970, UTC, another rate.
const TAX: &str = "[[tax]]\ncode = \"vat\"\njurisdiction = \"X\"\nrates = [\
    { percent = \"19\", until = \"1970-02-01\" }, { percent = \"21\", from = \"1970-02-01\" }]\n";

/// Monthly periods of a zone, with tax and what else is agreed.
fn files_of(zone: &str, agreed: &str) -> BTreeMap<String, String> {
    let mut files = files("P1M");
    files.insert("tax/x.toml".to_owned(), TAX.to_owned());
    let own = files.get_mut("profiles/acme.toml").expect("there");
    *own = own.replace("\"UTC\"", &format!("\"{zone}\""));
    own.push_str(&format!("\ntax = \"vat\"\n{agreed}"));
    files
}

#[test]
fn a_period_is_taxed_by_its_own_days() {
    let mut world = World::new("P1M");
    world.fold = TenantFold::new(0);
    world.catalog(files_of("UTC", ""));
    world.now = at(1000);
    world.rows("a", vec![row("acme", "requests", 0, 100)]);
    // An hour ahead: January of UTC ends in its February.
    world.now = at(20 * DAY);
    world.catalog(files_of("Europe/Berlin", ""));
    world.rows("a", vec![row("acme", "requests", 20 * DAY, 100)]);
    world.watermark("a", 31 * DAY);
    world.now = at(31 * DAY);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 200 15.00", "charge vat 0 2.85"]
    );
}

#[test]
fn a_card_begins_by_the_clocks_of_the_period() {
    let mut before = files_of("UTC", "");
    let dearer = CARD
        .replace("1970-01-01", "1970-02-01")
        .replace("unit = \"1.00\"", "unit = \"5.00\"");
    before.insert("cards/edge-2.toml".to_owned(), dearer.clone());
    let mut after = files_of("Europe/Berlin", "");
    after.insert("cards/edge-2.toml".to_owned(), dearer);
    let mut world = World::new("P1M");
    world.fold = TenantFold::new(0);
    world.catalog(before);
    world.now = at(1000);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.now = at(20 * DAY);
    world.catalog(after);
    world.now = at(31 * DAY - 10);
    // Half an hour before midnight by UTC.
    world.rows("a", vec![row("acme", "requests", 31 * DAY - 1800, 10)]);
    world.watermark("a", 31 * DAY);
    world.now = at(31 * DAY);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 20 2.00", "charge vat 0 0.38"]
    );
}

/// Before a month is closed, the next one has begun.
#[test]
fn what_one_open_period_accrues_the_next_one_does_not_accrue_again() {
    let agreed = "\n[[commitment]]\nid = \"year\"\namount = \"1200.00\"\nterm = \"P1Y\"\n\
        from = \"1970-01-01\"\npay = \"advance\"\n\n[[grant]]\nid = \"gift\"\namount = \"6.00\"\n";
    let mut world = World::new("P1M");
    world.fold = TenantFold::new(0);
    world.catalog(files_of("UTC", agreed));
    world.now = at(1000);
    world.rows("a", vec![row("acme", "requests", 0, 50)]);
    world.now = at(33 * DAY);
    world.rows("a", vec![row("acme", "requests", 32 * DAY, 50)]);
    let accruals = world.fold.accruals(None);
    assert_eq!(accruals.len(), 2, "two open months");
    let of = |line: &str| -> Decimal {
        let lines = accruals.iter().flat_map(|accrual| &accrual.lines);
        let own = lines.filter(|own| own.line == line);
        own.filter_map(|own| own.amount).sum()
    };
    assert_eq!(of("gift"), Decimal::new(-600, 2));
    // What it is charged less what is drawn from it.
    let booked: Decimal = {
        let mut copy = world;
        copy.watermark("a", 60 * DAY);
        copy.now = at(60 * DAY);
        let entries = copy.close_due();
        let own = entries.iter().filter(|entry| entry.posting.line == "year");
        own.filter_map(|entry| entry.posting.amount).sum()
    };
    assert_eq!(of("year"), booked, "the same as when both are closed");
}
