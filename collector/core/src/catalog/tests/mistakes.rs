//! What is wrong is refused as a whole, with file, line, key and reason.

use super::*;

/// What is replaced, by what, and how the mistake is shown.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "unit = \"0.40\"",
        "unit = 0.40",
        "cards/edge.toml:13:28: price[0].tiers[0].unit: found a float, expected a price as a decimal string such as \"0.40\"; numbers that become money are written as decimal strings, because a float cannot hold every decimal: try \"0.40\"",
    ),
    (
        "currency = \"EUR\"",
        "currency = \"EURO\"",
        "cards/edge.toml:3:12: currency: `EURO` is not an ISO 4217 currency code (expected three capital letters such as `EUR`)",
    ),
    (
        "from = \"2026-01-01\"",
        "from = 2026-01-01",
        "cards/edge.toml:4:8: from: found a date without quotes, expected the date from which it is in force, such as \"2026-01-01\"",
    ),
    (
        "from = \"2026-01-01\"",
        "from = \"2026-02-30\"",
        "cards/edge.toml:4:8: from: not a date (expected one such as \"2026-01-01\")",
    ),
    (
        "standard/1",
        "standard/2",
        "cards/edge.toml:5:9: order: unknown order of computation (expected `standard/1`, `amounts-first/1` or `commitments-first/1`)",
    ),
    (
        "\"graduated\"",
        "\"tapered\"",
        "cards/edge.toml:10:9: price[0].model: model `tapered` is not supported (expected `per_unit`, `package`, `graduated`, `volume`, `matrix`, `percentile`, `percentage`, `per_event` or `flat`)",
    ),
    (
        "per = \"1 GB\"",
        "per = \"1 Gbit/s\"",
        "cards/edge.toml:21:7: price[1].per: unit `Gbit/s` counts data per time, where data is counted (expected `By`, or a multiple such as `kB`, `GB`, `GiB`)",
    ),
    (
        "meter = \"net.bytes\"",
        "meter = \"net.packets\"",
        "cards/edge.toml:19:9: price[1].meter: meter `net.packets` is not declared (expected a [[meter]] in meters.toml or meters/)",
    ),
    (
        "id = \"traffic\"",
        "id = \"requests\"",
        "cards/edge.toml:18:6: price[1].id: price `requests` is declared twice in this card",
    ),
    (
        "to = \"2000000\"",
        "to = \"0\"",
        "cards/edge.toml:13:10: price[0].tiers[0].to: the number must be above zero",
    ),
    (
        "{ unit = \"0.25\" }",
        "{ to = \"2000000\", unit = \"0.30\" }, { unit = \"0.25\" }",
        "cards/edge.toml:14:10: price[0].tiers[1].to: bounds must rise: 2000000 is not above 2000000, where this tier begins",
    ),
    (
        "{ unit = \"0.25\" }",
        "{ to = \"3000000\", unit = \"0.25\" }",
        "cards/edge.toml:14:10: price[0].tiers[1].to: the last tier must not have a bound: usage above it would have no price (expected a last tier without `to`)",
    ),
    (
        "to = \"2000000\", ",
        "",
        "cards/edge.toml:13:3: price[0].tiers[0].to: missing (expected the last quantity of this tier; only the last tier has none)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"-0.08\"",
        "cards/edge.toml:22:8: price[1].unit: `-0.08` is not a decimal (expected digits with an optional point, such as `0.40`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nleast = \"1\"",
        "cards/edge.toml:23:1: price[1].least: unknown key (expected `id`, `model`, `rounding`, `tax`, `prorate`, `gl`, `meter`, `per`, `convert`, `maximum`, `minimum`, `allowance`, `interval`, `interval_from`, `over`, `prorated`, `each` or `unit`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nminimum = \"2\"\nmaximum = \"1\"",
        "cards/edge.toml:23:11: price[1].minimum: the minimum 2 is above the maximum 1",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nallowance = 5",
        "cards/edge.toml:23:13: price[1].allowance: found an integer, expected a quantity such as \"1000\", or a table such as { quantity = \"1000\", above = \"all\" }",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nallowance = \"5 {request}\"",
        "cards/edge.toml:23:13: price[1].allowance: unit `{request}` counts {request}, where data is counted (expected `By`, or a multiple such as `kB`, `GB`, `GiB`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nconvert = { to = \"1 h\", round = \"up\" }",
        "cards/edge.toml:23:18: price[1].convert.to: unit `h` counts time, where data is counted (expected `By`, or a multiple such as `kB`, `GB`, `GiB`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nconvert = { to = \"1 GB\" }",
        "cards/edge.toml:23:11: price[1].convert.round: missing (expected how it is rounded, such as \"up\", or \"none\")",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nrounding = { mode = \"bankers\" }",
        "cards/edge.toml:23:21: price[1].rounding.mode: not a way of rounding (expected `half_up`, which is half away from zero, `half_even`, `up` or `down`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nrounding = { at = \"increment\" }",
        "cards/edge.toml:17:1: price[1].rounding: increments are rounded only where whole blocks are charged (expected the model `package`, or `blocks = \"started\"`)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\nrounding = { places = 13 }",
        "cards/edge.toml:23:23: price[1].rounding.places: expected an integer from 0 to 12: the decimal places of amounts",
    ),
    (
        "{ unit = \"0.25\" }",
        "{ }",
        "cards/edge.toml:14:3: price[0].tiers[1].unit: missing (expected a price as a decimal string such as \"0.40\")",
    ),
    (
        "{ unit = \"0.25\" }",
        "{ times = \"0.5\" }",
        "cards/edge.toml:14:13: price[0].tiers[1].times: there is no base price (expected `unit` in the price)",
    ),
    (
        "to = \"2000000\"",
        "to = \"0 blocks\"",
        "cards/edge.toml:13:10: price[0].tiers[0].to: the number of blocks must be above zero and fit the numbers",
    ),
    (
        "to = \"2000000\"",
        "to = \"2000000\", holds = \"5\"",
        "cards/edge.toml:13:29: price[0].tiers[0].holds: a tier has `to` or `holds`, not both",
    ),
    (
        "per = \"1000 {request}\"",
        "per = \"1000 {request}\"\nunit = \"0.1\"",
        "cards/edge.toml:12:8: price[0].unit: a price with tiers has a `unit` only as the base of `times`, which no tier has (expected no `unit`)",
    ),
    (
        "per = \"1000 {request}\"",
        "per = \"1000 {request}\"\nbounds = \"both\"",
        "cards/edge.toml:12:10: price[0].bounds: expected `inclusive` (`to` is the last quantity of its tier) or `exclusive` (the first of the next one)",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[discount]]\nid = \"x\"\namount = \"1\"",
        "cards/edge.toml:23:1: discount[0].applies: a discount of an amount or a quantity applies to one price (expected `applies` with one id), or with `scope` to several together",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[discount]]\nid = \"x\"\npercent = \"101\"",
        "cards/edge.toml:25:11: discount[0].percent: expected a percentage above 0 and at most 100, not 101",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[discount]]\nid = \"x\"\npercent = \"1\"\namount = \"1\"",
        "cards/edge.toml:23:1: discount[0].percent: expected one of `percent`, `amount` and `quantity`",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[discount]]\nid = \"x\"\npercent = \"1\"\napplies = [\"trafic\"]",
        "cards/edge.toml:26:12: discount[0].applies: price `trafic` is not declared in card `edge`",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[discount]]\nid = \"x\"\npercent = \"1\"\nfrom = \"2026-02-01\"\nuntil = \"2026-02-01\"",
        "cards/edge.toml:27:9: discount[0].until: it ends on 2026-02-01, which is not after 2026-02-01",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = 25.0",
        "cards/edge.toml:26:8: price[2].flat: found a float, expected an amount such as \"25.00\"; numbers that become money are written as decimal strings, because a float cannot hold every decimal: try \"25.0\"",
    ),
    (
        "unit = \"0.08\"",
        "unit = \"0.08\"\n[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"25\"\nper = \"1\"",
        "cards/edge.toml:27:1: price[2].per: unknown key (expected `id`, `model`, `rounding`, `tax`, `prorate`, `gl`, `flat`, `billed`, `once`, `every` or `trial`)",
    ),
    (
        "scale = 0",
        "scale = 13",
        "meters.toml:5:9: meter[0].scale: expected an integer from 0 to 12: the decimal places of the meter's quantities",
    ),
    (
        "aggregation = \"sum\"",
        "aggregation = \"avg\"",
        "meters.toml:6:15: meter[0].aggregation: unknown aggregation `avg` (expected `sum`, `last`, \
         `max`, `unique`, `distribution` or `time_weighted`), or `count` for events",
    ),
    (
        "zone = \"Europe/Berlin\"",
        "zone = \"Europe/Bonn\"",
        "profiles/acme.toml:4:8: zone: unknown time zone `Europe/Bonn` (expected an IANA name such as `Europe/Berlin` or `UTC`)",
    ),
    (
        "zone = \"Europe/Berlin\"\n",
        "",
        "profiles/acme.toml:1:1: zone: missing (expected an IANA time zone such as \"Europe/Berlin\")",
    ),
    (
        "every = \"P1M\"",
        "every = \"P1M1D\"",
        "profiles/acme.toml:5:20: period.every: period `P1M1D` is not supported (expected years and months such as `P1M`, `P3M` or `P1Y`, weeks or days such as `P2W` or `P1D`, or hours, minutes and seconds such as `PT8H`; no mixture of these, and at most 100 years)",
    ),
    (
        "anchor = \"2026-01-01\"",
        "anchor = \"2026-02-29\"",
        "profiles/acme.toml:5:36: period.anchor: anchor `2026-02-29` is not supported (expected a date such as `2026-01-31`, or with a time of day on a quarter of an hour such as `2026-01-31T06:00`, between 1970 and 9999)",
    ),
    (
        "every = \"P1M\", anchor = \"2026-01-01\"",
        "every = \"P5M\"",
        "profiles/acme.toml:5:20: period.every: periods of `P5M` need an `anchor` that says where one begins (without one: months that divide a year, weeks, single days, and hours, minutes and seconds that divide a day)",
    ),
    (
        "card = \"edge\"",
        "card = \"edge\"\nlate = \"never\"",
        "profiles/acme.toml:4:8: late: unknown policy `never` (expected `correct` or `next`)",
    ),
    (
        "card = \"edge\"",
        "card = \"edge\"\nsettlement = \"P1M\"",
        "profiles/acme.toml:4:14: settlement: `P1M` is no settlement time (expected such as `P3D` or `PT12H`, at most 366 days)",
    ),
    (
        "card = \"edge\"",
        "card = \"rim\"",
        "profiles/acme.toml:3:8: card: card `rim` is not declared (expected the `id` of a file in cards/)",
    ),
    (
        "tenant = \"acme\"",
        "tenant = \"_unattributed\"",
        "profiles/acme.toml:2:10: tenant: `_unattributed` collects usage that belongs to nobody, so it has no profile",
    ),
    (
        "tenant = \"acme\"",
        "tenant = \"acme\"\ntax = \"de\"",
        "profiles/acme.toml:3:7: tax: tax `de` is not declared (expected the `code` of a [[tax]] in tax/)",
    ),
];

#[test]
fn mistakes_are_shown_with_their_place_and_what_was_expected() {
    for (from, to, expected) in MISTAKES {
        assert_eq!(mistake(from, to), *expected);
    }
}

#[test]
fn a_mistake_in_what_is_named_is_reported_once() {
    // The price of the broken meter and the profile of the broken card are not at fault.
    assert!(mistake("aggregation = \"sum\"", "aggregation = 1").starts_with("meters.toml:6:15"));
    assert!(mistake("unit = \"0.25\"", "unit = \"?\"").starts_with("cards/edge.toml:14:12"));
}

#[test]
fn repetitions_name_both_places() {
    let mut twice = files(METERS, CARD, PROFILE);
    twice.insert(
        "meters/more.toml".to_owned(),
        METERS.replace("net.bytes", "net.packets"),
    );
    twice.insert("cards/more.toml".to_owned(), CARD.to_owned());
    twice.insert("profiles/more.toml".to_owned(), PROFILE.to_owned());
    let errors = Catalog::parse(&twice).expect_err("repetitions");
    let shown: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "meters/more.toml:3:8: meter[0].name: meter `http.requests` is declared twice (first in meters.toml, meter[0].name)",
            "cards/more.toml:2:6: id: card `edge` from 2026-01-01 is declared twice (first in cards/edge.toml, id)",
            "profiles/more.toml:2:10: tenant: profile of `acme` is declared twice (first in profiles/acme.toml, tenant)",
        ]
    );
}

#[test]
fn what_is_no_catalog_is_refused() {
    let of = |path: &str, text: &str| {
        let files = BTreeMap::from([(path.to_owned(), text.to_owned())]);
        Catalog::parse(&files).expect_err("refused").to_string()
    };
    assert!(of("card/edge.toml", "").contains("not a file of a catalog"));
    assert!(of("cards/a/edge.toml", "").contains("not a file of a catalog"));
    assert!(of("meters.toml", "[[meter]\n").contains("meters.toml:1:"));
    assert!(of("meters.toml", "meter = 1").contains("expected an array of tables"));
    assert!(
        of("meters.toml", "meter = [1]").contains("meter[0]: found an integer, expected a table")
    );
    assert!(of("cards/a.toml", "").contains("at least one [[price]]"));
    let long = "#".repeat(CATALOG_FILE_BYTES_MAX + 1);
    assert!(of("meters.toml", &long).contains("more than the"));
    let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(of("meters.toml", &deep).contains("not valid TOML"));
}

#[test]
fn the_number_of_mistakes_shown_is_bounded() {
    let many: Vec<String> = (0..500).map(|n| format!("k{n} = 1")).collect();
    let files = BTreeMap::from([("meters.toml".to_owned(), many.join("\n"))]);
    let errors = Catalog::parse(&files).expect_err("refused");
    assert_eq!(errors.errors().len(), CatalogErrors::MAX);
}
