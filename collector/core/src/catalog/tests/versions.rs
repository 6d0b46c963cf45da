//! Versions of a card go on from each other, or are refused; and so are keys without an effect.

use super::*;

const METERS: &str = "\
[[meter]]\nname = \"m\"\nunit = \"By\"\nscale = 0\naggregation = \"sum\"\nevent = \"call\"\n\
[[meter]]\nname = \"other\"\nunit = \"By\"\nscale = 0\naggregation = \"sum\"\n\
[[meter]]\nname = \"top\"\nunit = \"By\"\nscale = 0\naggregation = \"max\"\n\
[[meter]]\nname = \"paid\"\nunit = \"EUR\"\nscale = 2\naggregation = \"sum\"\nevent = \"call\"\n";

const PLAIN: &str = "meter = \"m\"\nmodel = \"per_unit\"\nper = \"1 GB\"\nunit = \"0.08\"\n";
const ROWS: &str = "model = \"matrix\"\nper = \"1 GB\"\n\
    rows = [{ when = { region = \"eu\" }, unit = \"1\" }, { unit = \"2\" }]\n";

fn card(from: &str, currency: &str, keys: &str) -> String {
    format!(
        "id = \"c\"\ncurrency = \"{currency}\"\nfrom = \"{from}\"\norder = \"standard/1\"\n\
         [[price]]\nid = \"p\"\n{keys}\n"
    )
}

fn with(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let meters = [("meters.toml", METERS)];
    let all = meters.iter().chain(files);
    all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}

/// What is said of a second version with these keys.
fn second(first: &str, second: &str) -> Result<(), String> {
    // Files are not in the order of time.
    let (old, new) = (
        card("2026-01-01", "EUR", first),
        card("2026-06-16", "EUR", second),
    );
    let files = with(&[("cards/a.toml", &new), ("cards/b.toml", &old)]);
    Catalog::parse(&files)
        .map(|_| ())
        .map_err(|errors| errors.to_string())
}

#[test]
fn what_goes_on_under_an_id_is_counted_in_one_way() {
    let percentile = |slot: &str| {
        format!(
            "meter = \"other\"\nmodel = \"percentile\"\npercentile = \"95\"\nslot = \"{slot}\"\n\
             directions = \"sum\"\nper = \"Mbit/s\"\nunit = \"1\"\n"
        )
    };
    let other = PLAIN.replace("\"m\"", "\"other\"");
    let daily = format!("{PLAIN}interval = \"P1D\"\n");
    let percentage = "meter = \"paid\"\nmodel = \"percentage\"\npercent = \"1\"\n".to_owned();
    let with_fees = format!("{percentage}fixed = \"0.30\"\n");
    let (top, top_rows) = (
        PLAIN.replace("\"m\"", "\"top\""),
        format!("meter = \"top\"\n{ROWS}"),
    );
    let flat = "model = \"flat\"\nflat = \"5\"\n".to_owned();
    let (five, fifteen) = (percentile("PT5M"), percentile("PT15M"));
    for (one, two, why) in [
        (PLAIN, &*other, "they are of different meters"),
        (PLAIN, &*flat, "one of them is a fee"),
        (&*other, &*five, "one of them is a percentile"),
        (&*five, &*fifteen, "their slots differ in length"),
        (
            &*percentage,
            &*with_fees,
            "one of them prices single events",
        ),
        (PLAIN, &*daily, "their tiers begin anew at different times"),
        (&*top, &*top_rows, "one of them has rows"),
    ] {
        for (one, two) in [(one, two), (two, one)] {
            let error = second(one, two).expect_err(why);
            let place = "cards/a.toml:6:6: price[0].id: price `p` does not go on from the one of \
                         this id in the version from 2026-01-01: ";
            assert!(error.contains(&format!("{place}{why}")), "{error}");
        }
    }
    assert_eq!(second(PLAIN, &PLAIN.replace("0.08", "0.09")), Ok(()));
    let rows = format!("meter = \"m\"\n{ROWS}");
    assert_eq!(second(PLAIN, &rows), Ok(()));
}

#[test]
fn a_card_stays_in_its_currency() {
    let (old, new) = (
        card("2026-01-01", "EUR", PLAIN),
        card("2026-06-16", "USD", PLAIN),
    );
    let files = with(&[("cards/a.toml", &old), ("cards/b.toml", &new)]);
    let error = Catalog::parse(&files).expect_err("another currency");
    assert!(
        error
            .to_string()
            .contains("cards/b.toml:2:12: currency: card `c` is in EUR from 2026-01-01 on"),
        "{error}"
    );
    let new = card("2026-06-16", "EUR", PLAIN).replace("standard/1", "amounts-first/1");
    let files = with(&[("cards/a.toml", &old), ("cards/b.toml", &new)]);
    let error = Catalog::parse(&files)
        .expect_err("another order")
        .to_string();
    assert!(
        error.contains("card `c` has the order `standard/1` from"),
        "{error}"
    );
}

#[test]
fn keys_without_an_effect_are_refused() {
    let calls = "meter = \"m\"\nmodel = \"per_event\"\nper = \"1 GB\"\nunit = \"1\"\n";
    let rows = "meter = \"m\"\nmodel = \"matrix\"\nper = \"1 GB\"\n\
        rows = [{ id = \"a\", when = { r = \"eu\" }, unit = \"1\" }, { id = \"b\", when = { r = \"eu\" }, unit = \"2\" }]";
    for (keys, why) in [
        (
            format!("{calls}rounding = {{ at = \"tier\" }}"),
            "price[0].rounding: single events are priced without tiers",
        ),
        (
            "model = \"flat\"\nflat = \"5\"\nrounding = { at = \"event\" }".to_owned(),
            "price[0].rounding: a fee has neither events nor increments",
        ),
        (
            "model = \"flat\"\nflat = \"5\"\nrounding = { at = \"increment\" }".to_owned(),
            "price[0].rounding: a fee has neither events nor increments",
        ),
        (
            rows.to_owned(),
            "price[0].rows[1].when: row `a` describes the same usage already",
        ),
    ] {
        let files = with(&[("cards/c.toml", &card("2026-01-01", "EUR", &keys))]);
        let error = Catalog::parse(&files).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_compound_tax_is_not_the_first() {
    let taxes = "[[tax]]\ncode = \"one\"\njurisdiction = \"X\"\nrates = [{ percent = \"5\" }]\n\
        [[tax]]\ncode = \"two\"\njurisdiction = \"Y\"\ncompound = true\nrates = [{ percent = \"7\" }]\n";
    let parse = |codes: &str| {
        let keys = format!("{PLAIN}tax = {codes}");
        let card = card("2026-01-01", "EUR", &keys);
        Catalog::parse(&with(&[("tax/t.toml", taxes), ("cards/c.toml", &card)]))
            .map(|_| ())
            .map_err(|errors| errors.to_string())
    };
    assert_eq!(parse("[\"one\", \"two\"]"), Ok(()));
    for codes in ["\"two\"", "[\"two\", \"one\"]"] {
        let error = parse(codes).expect_err(codes);
        assert!(error.contains("tax `two` is compound, and none comes before it"));
    }
}

/// Runs a test of prices beside a card and a profile.
fn run(cards: &[&str], profile: &str, test: &str) -> Result<usize, String> {
    let mut files = with(&[("profiles/acme.toml", profile), ("t.test.toml", test)]);
    for (index, card) in cards.iter().enumerate() {
        files.insert(format!("cards/{index}.toml"), (*card).to_owned());
    }
    let catalog = Catalog::parse(&files).map_err(|errors| errors.to_string())?;
    catalog.run_tests().map_err(|errors| errors.to_string())
}

const ACME: &str = "tenant = \"acme\"\ncard = \"c\"\nzone = \"UTC\"\n";

/// Two discounts may have one name where the card gives one and the profile the other.
#[test]
fn discounts_of_card_and_profile_are_two_in_slices_too() {
    let voucher = "[[discount]]\nid = \"launch\"\namount = \"3.00\"\napplies = [\"p\"]\n";
    let keys = format!("{PLAIN}{voucher}");
    let (old, dearer) = (
        card("2026-01-01", "EUR", &keys),
        card("2026-06-16", "EUR", &keys.replace("0.08", "0.10")),
    );
    let profile = format!("{ACME}{voucher}");
    let test = "profile = \"acme\"\nperiod = \"2026-06\"\n\
        usage.m = [{ quantity = \"100 GB\", time = \"2026-06-01T00:00:00Z\" }, { quantity = \"100 GB\", time = \"2026-06-20T00:00:00Z\" }]\n";
    let expect = |cards: &[&str], net: &str| {
        let test = format!("{test}net = \"{net}\"\n");
        assert_eq!(run(cards, &profile, &test), Ok(1));
    };
    expect(&[&old], "10.00");
    expect(&[&old, &dearer], "12.00");
}

/// The calls of children are priced one by one, also where two children gave theirs one id.
#[test]
fn events_of_children_stay_theirs() {
    let calls = card(
        "2026-01-01",
        "EUR",
        "meter = \"m\"\nmodel = \"per_event\"\nper = \"1 GB\"\nunit = \"1\"\nfixed = \"0.50\"\n",
    );
    let call = "[{ quantity = \"2 GB\", call = \"one\", time = \"2026-06-02T00:00:00Z\" }]";
    let test = format!(
        "profile = \"acme\"\nperiod = \"2026-06\"\nusage.m = {call}\n\
         children.shop.usage.m = {call}\nchildren.tool.usage.m = {call}\nnet = \"7.50\"\n"
    );
    assert_eq!(run(&[&calls], ACME, &test), Ok(1));
}

#[test]
fn the_slots_of_a_file_are_bounded_together() {
    let plain = card("2026-01-01", "EUR", PLAIN);
    let rows: Vec<String> = (0..4000)
        .map(|row| format!("{{ slots = \"rest\", quantity = \"1\", row = \"{row}\" }}"))
        .collect();
    let test = format!(
        "profile = \"acme\"\nperiod = \"2026-06\"\nusage.m = [{}]\n",
        rows.join(", ")
    );
    let error = run(&[&plain], ACME, &test).expect_err("too many");
    assert!(
        error.contains("].slots: all rows of a file together fill at most 2097152 slots"),
        "{error}"
    );
}
