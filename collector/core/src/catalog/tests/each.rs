//! Mistakes in prices of each, in fees with terms, in totals that are rounded, and in meters that
//! count.

use super::*;

/// The mistakes of the sound catalog with a price `p` beside its others.
fn wrong(price: &str) -> String {
    let added = format!("[[price]]\nid = \"p\"\n{price}\n");
    let files = files(METERS, &format!("{CARD}{added}"), PROFILE);
    let errors = Catalog::parse(&files).expect_err(price);
    assert_eq!(errors.errors().len(), 1, "{errors}");
    errors.errors()[0].to_string()
}

#[test]
fn mistakes_in_each_have_their_place() {
    const PER_UNIT: &str =
        "meter = \"http.requests\"\nmodel = \"per_unit\"\nper = \"1 {request}\"\nunit = \"1\"\n";
    for (keys, message) in [
        ("each = 5", ".each: "),
        ("each = []", "price[2].each: expected 1 to 8 dimensions"),
        (
            "each = [\"a\", \"a\"]",
            "price[2].each: it stands here twice",
        ),
        (
            "each = { by = \"a\", most = \"1\" }",
            "price[2].each.most: unknown key",
        ),
        ("each = { maximum = \"1\" }", "price[2].each.by: missing"),
        (
            "each = { by = \"a\", maximum = \"1\", minimum = \"2\" }",
            "the minimum 2 is above the maximum 1",
        ),
    ] {
        let found = wrong(&format!("{PER_UNIT}{keys}"));
        assert!(found.contains(message), "{found}");
    }
    let graduated = "meter = \"http.requests\"\nmodel = \"graduated\"\nper = \"1 {request}\"\n\
        first_flat = \"always\"\neach = \"a\"\ntiers = [{ unit = \"1\", flat = \"2\" }]";
    assert!(wrong(graduated).contains("price[2].first_flat: a fee that is always due"));
}

#[test]
fn mistakes_in_fees_have_their_place() {
    for (keys, message) in [
        ("once = \"yes\"", "price[2].once: "),
        (
            "once = true\nevery = \"P1Y\"",
            "price[2].every: a fee that is due once has no terms",
        ),
        (
            "every = \"PT8H\"",
            "price[2].every: expected days, months or years",
        ),
        (
            "every = \"P11Y\"",
            "price[2].every: expected days, months or years",
        ),
        (
            "every = \"P1Y\"\nprorate = \"days\"",
            "price[2].prorate: what is due once",
        ),
        (
            "once = true\ntrial = \"P1M\"",
            "price[2].trial: what is due once",
        ),
        ("trial = \"14 days\"", "price[2].trial: period `14 days`"),
    ] {
        let found = wrong(&format!("model = \"flat\"\nflat = \"5\"\n{keys}"));
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn mistakes_in_totals_and_counting_meters_have_their_place() {
    for (total, message) in [
        ("total = \"0.05\"", "total: "),
        (
            "total = { to = \"0\" }",
            "total.to: nothing is a multiple of it",
        ),
        ("total = { to = 0.05 }", "total.to: found a float"),
        (
            "total = { to = \"1\", mode = \"near\" }",
            "total.mode: not a way of rounding",
        ),
        ("total = { mode = \"up\" }", "total.to: missing"),
    ] {
        let card = CARD.replacen("order", &format!("{total}\norder"), 1);
        let errors = Catalog::parse(&files(METERS, &card, PROFILE)).expect_err(total);
        let found = errors.errors()[0].to_string();
        assert!(found.contains(message), "{found}");
    }
    let meters = format!(
        "{METERS}\n[[meter]]\nname = \"n\"\nunit = \"{{event}}\"\nscale = 2\naggregation = \"count\"\n"
    );
    let errors = Catalog::parse(&files(&meters, CARD, PROFILE)).expect_err("a scale");
    let found = errors.errors()[0].to_string();
    assert!(
        found.contains("aggregation: events are counted whole"),
        "{found}"
    );
}
