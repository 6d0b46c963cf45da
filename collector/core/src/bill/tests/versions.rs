//! Periods in which cards and prices change.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{MeterName, Quantity, TenantId};

use crate::bill::{
    Advance, Bill, BillInput, Carried, LineKey, LineRole, Metered, Slice, Stage, compute,
};
use crate::catalog::Catalog;
use crate::period::{Period, Zone};
use crate::rate::{MeterUsage, Part};

pub(super) const METERS: &str = "\
[[meter]]\nname = \"a\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n\
[[meter]]\nname = \"b\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n";

pub(super) fn parse(files: &[(&str, String)]) -> Catalog {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.clone()))
        .chain([("meters.toml".to_owned(), METERS.to_owned())])
        .collect();
    Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
}

pub(super) fn card(id: &str, from: &str, rest: &str) -> String {
    format!("id = \"{id}\"\ncurrency = \"EUR\"\nfrom = \"{from}\"\norder = \"standard/1\"\n{rest}")
}

pub(super) fn usage_price(meter: &str, unit: &str, rest: &str) -> String {
    format!(
        "[[price]]\nid = \"{meter}\"\nmeter = \"{meter}\"\nmodel = \"per_unit\"\nper = \"1 1\"\n\
         unit = \"{unit}\"\n{rest}"
    )
}

/// Two versions of card `c`, the second from the 16th, with what is the same in both, and the test
/// of a bill of June.
pub(super) fn check(versions: [&str; 2], both: &str, profile: &str, test: &str) {
    let version = |from, of: &str| card("c", from, &format!("{of}{both}"));
    let profile = format!("tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\n{profile}");
    let test = format!("profile = \"t\"\nperiod = \"2026-06\"\n{test}");
    let catalog = parse(&[
        ("cards/c1.toml", version("2026-01-01", versions[0])),
        ("cards/c2.toml", version("2026-06-16", versions[1])),
        ("profiles/t.toml", profile),
        ("t.test.toml", test),
    ]);
    let passed = catalog.run_tests();
    passed.unwrap_or_else(|errors| panic!("{versions:?} {both}\n{errors}"));
}

const OFF: &str = "[[discount]]\nid = \"one\"\nscope = \"invoice\"\npercent = \"1\"\n";
const HALVES: &str = "[usage]\na = [{ quantity = \"500\", time = \"2026-06-10T00:00:00Z\" }, \
                      { quantity = \"500\", time = \"2026-06-20T00:00:00Z\" }]\n";

#[test]
fn a_discount_of_the_invoice_changes_nothing_else_of_versions() {
    let plain = usage_price("a", "1", "");
    let most = usage_price("a", "1", "maximum = \"100\"\n");
    let least = usage_price("a", "1", "minimum = \"100\"\n");
    let half = format!("{plain}[[discount]]\nid = \"half\"\napplies = [\"a\"]\npercent = \"50\"\n");
    for (versions, used, net, off) in [
        ([&plain, &most], HALVES, "1000.00", "990.00"),
        ([&plain, &half], HALVES, "750.00", "742.50"),
        ([&half, &plain], HALVES, "750.00", "742.50"),
        ([&least, &plain], "", "50.00", "50.00"),
        ([&plain, &least], "", "50.00", "50.00"),
    ] {
        let versions = [versions[0].as_str(), versions[1].as_str()];
        check(versions, "", "", &format!("net = \"{net}\"\n{used}"));
        check(versions, OFF, "", &format!("net = \"{off}\"\n{used}"));
    }
}

/// A grant cuts the period, and no discount begins there.
#[test]
fn a_discount_that_begins_within_the_period_is_not_begun_by_a_grant() {
    let grant = "[[grant]]\nid = \"g\"\namount = \"5.00\"\nuntil = \"2026-06-16\"\n";
    let plain = usage_price("a", "1", "");
    for discount in ["applies = [\"a\"]", "scope = \"invoice\""] {
        let discount = format!(
            "[[discount]]\nid = \"half\"\n{discount}\npercent = \"50\"\nfrom = \"2026-06-10\"\n"
        );
        for profile in ["", grant] {
            check(
                [&plain, &plain],
                &discount,
                profile,
                &format!("net = \"1000.00\"\n{HALVES}"),
            );
        }
    }
}

#[test]
fn limits_of_versions_follow_how_they_are_prorated() {
    let least = |amount: &str, by: &str| {
        let rest = format!("minimum = \"{amount}\"\nprorate = \"{by}\"\n");
        usage_price("a", "1", &rest)
    };
    for (by, net) in [
        ("none", "200.00"),
        ("duration", "150.00"),
        ("days", "150.00"),
    ] {
        let (first, second) = (least("100", by), least("200", by));
        check([&first, &second], "", "", &format!("net = \"{net}\"\n"));
        check([&first, &second], OFF, "", &format!("net = \"{net}\"\n"));
    }
    let (first, second) = (
        least("100", "none"),
        usage_price("a", "1", "prorate = \"none\"\n"),
    );
    check([&first, &second], "", "", "net = \"0.00\"\n");
}

/// A minimum of the profile as one of the card: half of it for the half month.
#[test]
fn a_minimum_of_a_profile_ends_with_the_agreement() {
    let both = usage_price("a", "1", "");
    let minimum = "[[minimum]]\nid = \"m\"\namount = \"100.00\"\n";
    let test = "lines = { a = \"1.00\", \"minimum m\" = \"49.00\" }\n\
                usage.a = [{ quantity = \"1\", time = \"2026-06-10T00:00:00Z\" }]\n";
    let until = "until = \"2026-06-16\"\n";
    check(["", ""], &both, &format!("{until}{minimum}"), test);
    check(["", ""], &format!("{both}{minimum}"), until, test);
}

#[test]
fn days_of_a_zone_are_counted_not_hours() {
    // March in Berlin has 31 days and 743 hours; the card changes on the 30th, behind the change.
    let least = |amount: &str| {
        usage_price(
            "a",
            "1",
            &format!("minimum = \"{amount}\"\nprorate = \"days\"\n"),
        )
    };
    let catalog = parse(&[
        ("cards/c1.toml", card("c", "2026-01-01", &least("310"))),
        ("cards/c2.toml", card("c", "2026-03-30", &least("620"))),
        (
            "profiles/t.toml",
            "tenant = \"t\"\ncard = \"c\"\nzone = \"Europe/Berlin\"\n".to_owned(),
        ),
        (
            "t.test.toml",
            "profile = \"t\"\nperiod = \"2026-03\"\nnet = \"330.00\"\n".to_owned(),
        ),
    ]);
    catalog
        .run_tests()
        .unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn a_minimum_of_usage_counts_that_of_a_group_of_usage() {
    let around = "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"7\"\n\
                  [[minimum]]\nid = \"g\"\ncounts = [\"a\"]\namount = \"50\"\n\
                  [[minimum]]\nid = \"all\"\nfees = false\namount = \"100\"\n";
    let price = usage_price("a", "1", "");
    let test = "net = \"107.00\"\nlines = { a = \"20.00\", fee = \"7.00\", \
                \"minimum g\" = \"30.00\", \"minimum all\" = \"50.00\" }\n[usage]\na = \"20\"\n";
    check([&price, &price], around, "", test);
    let with_fee = around.replace("[\"a\"]", "[\"fee\"]");
    let test = "net = \"150.00\"\n[usage]\na = \"20\"\n";
    check([&price, &price], &with_fee, "", test);
}

#[test]
fn invoices_are_rounded_by_places_and_mode() {
    let prices = [
        (
            "a",
            "0.4",
            "rounding = { at = \"invoice\", places = 0, mode = \"up\" }\n",
        ),
        (
            "b",
            "0.005",
            "rounding = { at = \"invoice\", mode = \"down\" }\n",
        ),
    ];
    let [a, b] = prices.map(|(meter, unit, rest)| usage_price(meter, unit, rest));
    for both in [[&a, &b], [&b, &a]] {
        let card = both.map(String::as_str).concat();
        let test = "lines = { a = \"2.00\", b = \"0.01\" }\n[usage]\na = \"3\"\nb = \"3\"\n";
        check([&card, &card], "", "", test);
    }
}

/// Cards one after another in June, each with its days and what is used in it, and what was
/// charged before.
fn bill<T>(
    catalog: &Catalog,
    stretches: &[(&str, u32, i128)],
    carried: &Carried,
    see: impl FnOnce(&Bill<'_>) -> T,
) -> T {
    let zone = Zone::UTC;
    let begin = zone.start_of_day("2026-06-01".parse().expect("a date"));
    let day = |day: u32| begin.plus_millis(i64::from(day) * 86_400_000);
    let mut at = 0;
    let mut slices = Vec::new();
    let meter = MeterName::new("a").expect("valid");
    let mut usage = MeterUsage::default();
    for (index, (tenant, days, used)) in stretches.iter().enumerate() {
        let name = TenantId::new(tenant).expect("valid");
        let span = Period {
            start: day(at),
            end: day(at + days),
        };
        at += days;
        let profile = catalog.profile(&name).expect("known");
        slices.push(Slice {
            span,
            catalog: Some(catalog),
            profile: Some(profile),
            card: catalog.card_in_force(&profile.card, zone, span.start),
        });
        let part = Part {
            slice: u16::try_from(index).expect("few"),
            ..Part::default()
        };
        usage.add(part, Quantity::new(*used)).expect("fits");
    }
    let period = Period {
        start: begin,
        end: day(at),
    };
    let tenant = TenantId::new("t").expect("valid");
    let metered = BTreeMap::from([(
        &meter,
        Metered::new(&slices, zone, &meter, Cow::Borrowed(&usage)),
    )]);
    let input = BillInput {
        tenant: &tenant,
        period,
        whole: period,
        zone,
        slices: &slices,
        catalog: Some(catalog),
        usage: &metered,
        stage: Stage::Final,
        due: true,
        next: None,
        after: None,
        carried,
        children: &[],
    };
    see(&compute(&input).expect("a bill"))
}

/// The cards `a` and `b` with their profiles of the same names.
fn two(a: &str, b: &str, profiles: [&str; 2]) -> Catalog {
    let profile = |name: &str, rest: &str| {
        format!("tenant = \"{name}\"\ncard = \"{name}\"\nzone = \"UTC\"\n{rest}")
    };
    parse(&[
        ("cards/a.toml", card("a", "2026-01-01", a)),
        ("cards/b.toml", card("b", "2026-01-01", b)),
        ("profiles/a.toml", profile("a", profiles[0])),
        ("profiles/b.toml", profile("b", profiles[1])),
    ])
}

fn amounts(bill: &Bill<'_>) -> Vec<(String, String)> {
    let lines = bill.lines.iter().filter(|line| !line.net.is_zero());
    lines
        .map(|line| (line.key.name(), line.net.to_string()))
        .collect()
}

#[test]
fn a_minimum_of_one_card_is_none_of_another() {
    let least = usage_price("a", "1", "") + "[[minimum]]\nid = \"m\"\namount = \"100\"\n";
    let catalog = two(&least, &least, ["", ""]);
    let net = bill(
        &catalog,
        &[("a", 15, 0), ("b", 15, 0)],
        &Carried::default(),
        amounts,
    );
    let missing = ("minimum m".to_owned(), "50.00".to_owned());
    assert_eq!(net, [missing.clone(), missing]);
}

#[test]
fn the_profile_that_is_in_force_last_rules() {
    let price = usage_price("a", "1", "");
    let off = |percent| {
        format!("[[discount]]\nid = \"d\"\nscope = \"invoice\"\npercent = \"{percent}\"\n")
    };
    let catalog = two(&price, &price, [&off("10"), &off("50")]);
    let stretches = [("a", 10, 100), ("b", 10, 100), ("a", 10, 100)];
    let net = bill(&catalog, &stretches, &Carried::default(), |bill| bill.net);
    assert_eq!(net.to_string(), "270.00");
}

#[test]
fn a_grant_pays_for_the_time_of_its_own_lines() {
    let grant = "[[grant]]\nid = \"g\"\namount = \"1000\"\nuntil = \"2026-06-16\"\n";
    let catalog = two(
        &usage_price("a", "0.0004", ""),
        &usage_price("a", "0.0008", ""),
        ["", grant],
    );
    let stretches = [("a", 15, 25_000), ("b", 15, 75_000)];
    let paid = bill(&catalog, &stretches, &Carried::default(), |bill| {
        assert_eq!(bill.net.to_string(), "70.00");
        bill.grants[0].paid
    });
    assert_eq!(paid.to_string(), "10.00");
}

#[test]
fn a_minimum_counts_what_was_charged_in_advance() {
    let around = usage_price("a", "1", "")
        + "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"20\"\nbilled = \"in_advance\"\n\
           [[minimum]]\nid = \"m\"\namount = \"100\"\n";
    let catalog = two(&around, &around, ["", ""]);
    let start = Zone::UTC.start_of_day("2026-06-01".parse().expect("a date"));
    let carried = Carried {
        advance: BTreeMap::from([(
            start,
            vec![Advance {
                key: LineKey {
                    role: LineRole::Fee,
                    card: Some("a".to_owned()),
                    id: "fee".to_owned(),
                    currency: "EUR".to_owned(),
                },
                amount: Decimal::new(2000, 2),
                taxes: Vec::new(),
                tax: None,
                billed: None,
                net: None,
                exchanged: None,
            }],
        )]),
        ..Carried::default()
    };
    let net = bill(&catalog, &[("a", 30, 40)], &carried, amounts);
    let line = |name: &str, amount: &str| (name.to_owned(), amount.to_owned());
    assert_eq!(net, [line("a", "40.00"), line("minimum m", "40.00")]);
}

#[test]
fn a_commitment_is_taxed_by_the_prices_that_count_not_by_what_is_used() {
    let prices = usage_price("a", "1", "tax = [\"low\"]\n")
        + &usage_price("b", "1", "tax = [\"low\"]\n")
        + "[[commitment]]\nid = \"c\"\namount = \"100\"\nterm = \"P1Y\"\npay = \"advance\"\n";
    let rate = |code: &str, percent: &str| {
        format!(
            "[[tax]]\ncode = \"{code}\"\njurisdiction = \"X\"\n\
             rates = [{{ percent = \"{percent}\" }}]\n"
        )
    };
    let catalog = parse(&[
        ("cards/c.toml", card("c", "2026-06-01", &prices)),
        (
            "profiles/t.toml",
            "tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\ntax = [\"high\"]\n".to_owned(),
        ),
        ("tax/t.toml", rate("low", "7") + &rate("high", "19")),
        (
            "unused.test.toml",
            "profile = \"t\"\nperiod = \"2026-06\"\nnet = \"100.00\"\ntax = \"7.00\"\n".to_owned(),
        ),
        (
            "used.test.toml",
            "profile = \"t\"\nperiod = \"2026-06\"\nnet = \"100.00\"\ntax = \"7.00\"\n\
             [usage]\na = \"20\"\n"
                .to_owned(),
        ),
    ]);
    catalog
        .run_tests()
        .unwrap_or_else(|errors| panic!("{errors}"));
}
