//! Mistakes in prices that need more than one sum, and in calendars.

use super::*;

const METERS_OF_ALL_KINDS: &str = r#"
[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"

[[meter]]
name = "level"
unit = "By"
scale = 0
aggregation = "time_weighted"

[[meter]]
name = "paid"
unit = "EUR"
scale = 2
aggregation = "sum"
event = "payment"

[[meter]]
name = "peak"
unit = "By"
scale = 0
aggregation = "max"
"#;

const WEEK: &str = "id = \"week\"\n[[band]]\nid = \"day\"\n\
    days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"]\nfrom = \"08:00\"\n\
    [[band]]\nid = \"night\"\n\
    days = [\"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\"]\nto = \"08:00\"\n";

fn read(price: &str, calendar: &str) -> Result<Catalog, CatalogErrors> {
    let card = format!(
        "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\
         [[price]]\nid = \"p\"\n{price}\n"
    );
    let mut files = files(METERS_OF_ALL_KINDS, &card, PROFILE);
    files.insert("calendars/week.toml".to_owned(), calendar.to_owned());
    Catalog::parse(&files)
}

/// The only mistake.
fn wrong(price: &str, calendar: &str) -> String {
    let errors = read(price, calendar).expect_err(price);
    assert_eq!(errors.errors().len(), 1, "{errors}");
    errors.errors()[0].to_string()
}

const TRANSIT: &str = "meter = \"net.bytes\"\nmodel = \"percentile\"\npercentile = \"95\"\n\
    slot = \"PT5M\"\ndirections = \"greater\"\nmissing = \"zero\"\nper = \"Mbit/s\"\n\
    commit = \"200\"\nunit = \"0.80\"\noverage = \"1.10\"";

const MATRIX: &str = "meter = \"net.bytes\"\nmodel = \"matrix\"\ncalendar = \"week\"\n\
    per = \"1 GB\"\nrows = [{ band = \"day\", unit = \"2\" }, { unit = \"1\" }]";

#[test]
fn the_samples_are_sound() {
    for price in [TRANSIT, MATRIX] {
        read(price, WEEK).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn mistakes_in_percentiles_have_their_place() {
    let of = |from: &str, to: &str| {
        assert!(TRANSIT.contains(from), "{from}");
        wrong(&TRANSIT.replace(from, to), WEEK)
    };
    assert!(
        of("\"95\"", "\"101\"").starts_with(
            "cards/edge.toml:9:14: price[0].percentile: expected a percentage above 0"
        )
    );
    assert!(of("\"95\"", "95").contains("try \"95\""));
    assert!(of("PT5M", "PT7M").contains("price[0].slot: not a slot"));
    assert!(of("greater", "both").contains("price[0].directions: expected `greater`"));
    assert!(of("\"zero\"", "\"null\"").contains("price[0].missing: expected `zero_unless_lost`"));
    assert!(
        of("Mbit/s", "Mbit")
            .contains("price[0].per: unit `Mbit` counts data, where data per time is counted")
    );
    assert!(
        of("commit = \"200\"\n", "").contains("price[0].overage: there is nothing that it is over")
    );
    assert!(of("\"200\"", "\"200 GB\"").contains("price[0].commit: unit `GB`"));
    let of_gauge = wrong(
        &TRANSIT.replace("net.bytes", "peak").replace("PT5M", "PT1M"),
        WEEK,
    );
    assert!(
        of_gauge.contains("price[0].slot: values that do not add up are kept by longer slots"),
        "{of_gauge}"
    );
    let of_gauge = wrong(
        &TRANSIT.replace("net.bytes", "peak").replace("PT5M", "PT1H"),
        WEEK,
    );
    assert!(
        of_gauge.contains("price[0].directions: values that do not add up have no direction"),
        "{of_gauge}"
    );
    assert!(
        of(
            "unit = \"0.80\"\noverage",
            "tiers = [{ unit = \"1\" }]\noverage"
        )
        .contains("price[0].overage: the tiers say")
    );
    assert!(
        of("missing = \"zero\"", "interval = \"P1D\"").contains("price[0].interval: unknown key")
    );
    let both = format!(
        "{TRANSIT}\nconvert = {{ from = \"1 Mbit/s\", to = \"1 {{port}}\", round = \"up\" }}"
    );
    assert!(wrong(&both, WEEK).contains("price[0].convert: a rate is rounded, not converted"));
}

#[test]
fn mistakes_in_rows_have_their_place() {
    let of = |from: &str, to: &str| {
        assert!(MATRIX.contains(from), "{from}");
        wrong(&MATRIX.replace(from, to), WEEK)
    };
    assert!(of("\"day\"", "\"dya\"").contains(
        "price[0].rows[0].band: calendar `week` has no band `dya` (expected `day` or `night`)"
    ));
    assert!(of("calendar = \"week\"\n", "").contains("rows[0].band: the price names no calendar"));
    assert!(
        of("\"week\"", "\"weak\"").contains("price[0].calendar: calendar `weak` is not declared")
    );
    assert!(
        of("{ unit = \"1\" }", "{ band = \"day\", unit = \"1\" }")
            .contains("price[0].rows[1].id: row `day` stands in this price twice")
    );
    assert!(
        of("{ unit = \"1\" }", "{ unit = 1 }").contains("price[0].rows[1].unit: found an integer")
    );
    assert!(
        of("{ unit = \"1\" }", "{ units = \"1\", unit = \"1\" }")
            .contains("price[0].rows[1].units: unknown key")
    );
    assert!(
        of("{ unit = \"1\" }", "{ model = \"flat\", unit = \"1\" }")
            .contains("rows[1].model: no model of a row")
    );
    assert!(
        of(
            "{ unit = \"1\" }",
            "{ when = { region = 5 }, unit = \"1\" }"
        )
        .contains("rows[1].when.region: found an integer")
    );
    assert!(
        of("{ unit = \"1\" }", "{ when = \"eu\", unit = \"1\" }")
            .contains("rows[1].when: found a string")
    );
    let first = "{ first_flat = \"always\", tiers = [{ flat = \"1\" }] }";
    assert!(
        of("{ unit = \"1\" }", first).contains("price[0].first_flat: a fee that is always due")
    );
    let none = "rows = []\nprecedence = \"most_specific\"";
    let rows = "rows = [{ band = \"day\", unit = \"2\" }, { unit = \"1\" }]";
    assert!(of(rows, none).contains("price[0].rows: a matrix needs at least one row"));
    assert!(
        of(rows, "precedence = \"first\"\nrows = [{ unit = \"1\" }]")
            .contains("precedence: expected `most_specific`")
    );
}

#[test]
fn a_week_has_neither_gap_nor_overlap() {
    let of = |from: &str, to: &str| {
        assert!(WEEK.contains(from), "{from}");
        let calendar = WEEK.replacen(from, to, 1);
        let errors = read(MATRIX, &calendar).expect_err("a mistake");
        assert_eq!(errors.errors().len(), 1, "{errors}");
        errors.errors()[0].to_string()
    };
    assert!(
        of("from = \"08:00\"", "from = \"08:30\"")
            .starts_with("calendars/week.toml:1:1: band: no band covers mon from 08:00 to 08:30")
    );
    assert!(of(", \"sun\"]\nfrom", "]\nfrom").contains("no band covers sun from 08:00 to 24:00"));
    assert!(
        of("to = \"08:00\"", "to = \"08:15\"")
            .contains("band[1].days: band `day` covers mon from 08:00 already")
    );
    assert!(of("\"08:00\"", "\"08:10\"").contains("band[0].from: not a time of day"));
    assert!(of("\"08:00\"", "\"24:15\"").contains("not a time of day"));
    assert!(
        of("to = \"08:00\"", "from = \"08:00\"\nto = \"08:00\"")
            .contains("ends at 08:00, which is not after 08:00")
    );
    assert!(of("\"sat\"", "\"caturday\"").contains("`caturday` is no day"));
    assert!(
        of(
            "id = \"week\"",
            "id = \"week\"\nholidays = [\"2026-12-25\"]"
        )
        .contains("no band covers holiday from 00:00 to 24:00")
    );
    assert!(
        of(
            "id = \"week\"",
            "id = \"week\"\nholidays = [\"2026-12-32\"]"
        )
        .contains("holidays: expected dates")
    );
    assert!(of("id = \"week\"", "id = \"week\"\nzone = \"UTC\"").contains("zone: unknown key"));
}

#[test]
fn intervals_and_levels_stand_where_they_make_sense() {
    let level =
        "meter = \"level\"\nmodel = \"per_unit\"\nper = \"1 GB\"\nunit = \"1\"\nover = \"period\"";
    assert!(read(level, WEEK).is_ok());
    assert!(
        wrong(&level.replace("\"period\"", "\"P1M\""), WEEK)
            .contains("price[0].over: not a length")
    );
    assert!(
        wrong(&level.replace("\"level\"", "\"net.bytes\""), WEEK)
            .contains("price[0].over: only what is counted times time")
    );
    assert!(
        wrong(&level.replace("over = \"period\"", ""), WEEK)
            .contains("price[0].per: unit `GB` counts data, where data times time")
    );
    let daily = "meter = \"net.bytes\"\nmodel = \"per_unit\"\nper = \"1 GB\"\nunit = \"1\"\ninterval = \"P1D\"";
    assert!(read(daily, WEEK).is_ok());
    assert!(
        wrong(&daily.replace("P1D", "P2D"), WEEK).contains("price[0].interval: not an interval")
    );
    let off = format!("{daily}\n[[discount]]\nid = \"d\"\napplies = [\"p\"]\nquantity = \"1 GB\"");
    assert!(
        wrong(&off, WEEK)
            .contains("discount[0].quantity: a quantity goes off a price that has one")
    );
}

#[test]
fn levels_of_every_moment_and_what_selects_tiers_have_their_place() {
    let level = "meter = \"level\"\nmodel = \"volume\"\nper = \"1 GB\"\nover = \"period\"\n\
                 interval = \"PT15M\"\ntier_by = { level = \"peak\" }\n\
                 tiers = [{ to = \"10 GB\", unit = \"1\" }, { unit = \"2\" }]";
    assert!(read(level, WEEK).is_ok());
    let of = |from: &str, to: &str| {
        assert!(level.contains(from), "{from}");
        wrong(&level.replacen(from, to, 1), WEEK)
    };
    let by = "{ level = \"peak\" }";
    for (from, to, expected) in [
        (
            "PT15M",
            "window",
            "price[0].interval: windows may be of different widths",
        ),
        (
            "\"2\" }",
            "\"2\", flat = \"1\" }",
            "price[0].tiers: a fee that stays",
        ),
        ("PT15M", "period", "price[0].tier_by: only a level"),
        (
            "\"volume\"",
            "\"graduated\"",
            "price[0].tier_by: another quantity selects the one tier",
        ),
        (by, "{ level = \"mean\" }", "tier_by.level: expected `peak`"),
        (
            by,
            "{ level = \"peak\", meter = \"paid\" }",
            "price[0].tier_by: expected `meter`",
        ),
        (
            by,
            "{ meter = \"gone\" }",
            "tier_by.meter: meter `gone` is not declared",
        ),
        (
            by,
            "{ meter = \"paid\" }",
            "tiers[0].to: unit `GB` counts data, where EUR is counted",
        ),
        (
            "over",
            "rounding = { at = \"tier\" }\nover",
            "price[0].rounding: a tier is reached many",
        ),
        (
            "over",
            "prorated = [\"tiers\"]\nover",
            "price[0].prorated: quantities are prorated",
        ),
        (
            "over",
            "prorated = [\"allowance\"]\nover",
            "price[0].prorated: expected what the price",
        ),
        (
            "\"period\"",
            "\"730 h\"",
            "price[0].per: a level over a length that is no period",
        ),
        ("\"period\"", "\"0 h\"", "price[0].over: not a length"),
    ] {
        let message = of(from, to);
        assert!(message.contains(expected), "{to}: {message}");
    }
    let by_other = "meter = \"net.bytes\"\nmodel = \"volume\"\nper = \"1 GB\"\n\
                    tier_by = { meter = \"paid\" }\ntiers = [{ to = \"10\", unit = \"1\" }, { unit = \"2\" }]";
    assert!(
        wrong(by_other, WEEK)
            .contains("price: meter `paid` selects the tiers of price `p`, and has no")
    );
    let no_sum = by_other
        .replace("paid", "peak")
        .replace("\"10\"", "\"10 GB\"");
    assert!(wrong(&no_sum, WEEK).contains(
        "price[0].tier_by.meter: what meter `peak` counts (`max`) does not add up over a period"
    ));
    let scaled = format!("prorated = [\"tiers\"]\n{by_other}");
    assert!(
        wrong(&scaled, WEEK)
            .contains("price[0].prorated: another meter selects the tier by all of the period")
    );
    let month = level.replace("1 GB", "1 GB.mo");
    assert!(read(&month.replace("10 GB", "10 GB.mo"), WEEK).is_ok());
    assert!(
        read(
            &month
                .replace("10 GB", "10 GB.mo")
                .replace("period", "730 h"),
            WEEK
        )
        .is_ok()
    );
    assert!(wrong(&month, WEEK).contains("tiers[0].to: unit `GB` counts data"));
}

const PAID: &str = "meter = \"paid\"\nmodel = \"percentage\"\npercent = \"2.9\"\n\
    fixed = \"0.30\"\nevent_minimum = \"0.10\"\nevent_maximum = \"5\"\nfree_events = 3";

const BY_EVENT: &str = "meter = \"paid\"\nmodel = \"per_event\"\nunit = \"1\"\n\
    increments = [{ to = \"60\", step = \"60\" }, { step = \"1\" }]";

#[test]
fn mistakes_in_percentages_and_events_have_their_place() {
    assert!(read(PAID, WEEK).is_ok());
    let of = |from: &str, to: &str| {
        assert!(PAID.contains(from), "{from}");
        wrong(&PAID.replace(from, to), WEEK)
    };
    assert!(of("\"paid\"", "\"net.bytes\"").contains("price[0].meter: a percentage is taken of money in the card's currency (expected a meter with the unit `EUR`"));
    assert!(of("\"2.9\"", "2.9").contains("price[0].percent: found a float"));
    assert!(
        of("\"0.10\"", "\"6\"")
            .contains("price[0].event_minimum: the minimum 6 of an event is above its maximum 5")
    );
    assert!(of("= 3", "= \"3\"").contains("price[0].free_events: expected an integer"));
    let tiers = PAID.replace("percent = \"2.9\"", "tiers = [{ percent = \"2.9\" }]");
    assert!(read(&tiers, WEEK).is_ok());
    assert!(
        wrong(&format!("{tiers}\npercent = \"1\""), WEEK)
            .contains("a percentage has `tiers` or `percent`, not both")
    );
    assert!(
        of("free_events = 3", "allowance = \"3\"")
            .contains("price[0].allowance: single events are priced in the period")
    );
    assert!(
        of("free_events = 3", "free_quantity = \"3 h\"")
            .contains("price[0].free_quantity: unit `h`")
    );

    assert!(read(BY_EVENT, WEEK).is_ok());
    let of = |from: &str, to: &str| {
        assert!(BY_EVENT.contains(from), "{from}");
        wrong(&BY_EVENT.replace(from, to), WEEK)
    };
    assert!(of("\"paid\"", "\"net.bytes\"").contains(
        "price[0].meter: single events are priced, and meter `net.bytes` does not tell them apart"
    ));
    assert!(of("to = \"60\", ", "").contains("price[0].increments[0].to: missing"));
    assert!(of("unit = \"1\"\n", "").contains("price[0].increments[0].unit: missing"));
    assert!(
        of("unit = \"1\"", "unit = \"1\"\ninterval = \"P1D\"")
            .contains("price[0].interval: unknown key")
    );
    assert!(
        wrong("meter = \"paid\"\nmodel = \"per_event\"", WEEK)
            .contains("nothing says what an event costs")
    );
    let rounded = "meter = \"net.bytes\"\nmodel = \"per_unit\"\nper = \"1 GB\"\nunit = \"1\"\nrounding = { at = \"event\" }";
    assert!(wrong(rounded, WEEK).contains(
        "price[0].rounding: only what single events, or each of something, cost is rounded"
    ));
}

#[test]
fn a_pool_begins_anew_with_the_period() {
    let pooled = MATRIX.replace("{ unit = \"1\" }", "{ tier_pool = \"all\", unit = \"1\" }");
    assert!(read(&pooled, WEEK).is_ok());
    let daily = format!("{pooled}\ninterval = \"P1D\"");
    assert!(
        wrong(&daily, WEEK)
            .contains("price[0].interval: tiers of a pool begin anew with the period")
    );
}

#[test]
fn tiers_of_a_longer_term_are_those_of_one_sum() {
    let yearly = "meter = \"net.bytes\"\nmodel = \"graduated\"\nper = \"1 GB\"\ninterval = \"P1Y\"\n\
        tiers = [{ to = \"1 GB\", unit = \"2\" }, { unit = \"1\" }]";
    read(yearly, WEEK).unwrap_or_else(|errors| panic!("{errors}"));
    let of = |from: &str, to: &str| wrong(&yearly.replace(from, to), WEEK);
    assert!(of("graduated", "volume").contains("price[0].interval: a tier that prices all units"));
    assert!(
        of("\"P1Y\"", "\"P1Y\"\neach = \"host\"")
            .contains("price[0].interval: tiers of a longer term are those of one sum")
    );
    assert!(
        of("\"P1Y\"", "\"P1Y\"\nfirst_flat = \"always\"")
            .contains("price[0].first_flat: a fee that is always due is due in every period")
    );
    // Rows of a matrix have tiers of their own.
    let rows = format!("{MATRIX}\ninterval = \"P1Y\"");
    assert!(
        wrong(&rows, WEEK).contains("(expected no `each`, `over` or `prorated`, no matrix and no")
    );
    assert!(of("P1Y", "P5M").contains("price[0].interval_from: missing"));
    assert!(of("P1Y", "P11Y").contains("price[0].interval: not an interval"));
    assert!(
        of("\"P1Y\"", "\"P1D\"\ninterval_from = \"2026-01-01\"")
            .contains("price[0].interval_from: only tiers of a longer term")
    );
    assert!(
        of("net.bytes", "peak").contains("price[0].interval: tiers go on over several billing")
    );
}
