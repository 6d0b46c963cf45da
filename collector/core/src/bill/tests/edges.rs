//! Bills at edges, as catalogs with tests: what goes first, what counts for what, and terms that begin
//! with a period.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::TenantId;

use crate::bill::{Offline, Stage, Usage};
use crate::catalog::Catalog;
use crate::period::{Period, Zone};

const METERS: &str = "[[meter]]\nname = \"http.requests\"\nunit = \"{request}\"\nscale = 0\naggregation = \"sum\"\n\
    [[meter]]\nname = \"net.bytes\"\nunit = \"By\"\nscale = 0\naggregation = \"sum\"\n";

const PRICES: &str = "[[price]]\nid = \"requests\"\nmeter = \"http.requests\"\nmodel = \"per_unit\"\n\
    per = \"1000 {request}\"\nunit = \"0.40\"\n\
    [[price]]\nid = \"traffic\"\nmeter = \"net.bytes\"\nmodel = \"per_unit\"\nper = \"1 GB\"\nunit = \"0.10\"\n";

const TAX: &str = "[[tax]]\ncode = \"x\"\njurisdiction = \"X\"\nrates = [\n\
    { percent = \"19\", until = \"2026-06-01\" },\n{ percent = \"16\", from = \"2026-06-01\" },\n]\n\
    [[tax]]\ncode = \"on-it\"\njurisdiction = \"X\"\ncompound = true\nrates = [{ percent = \"9.975\" }]\n";

fn files(card: &str, profile: &str) -> BTreeMap<String, String> {
    let head = "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n";
    let agreed = "tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\n";
    let rate = "[[rate]]\nfrom = \"EUR\"\nto = \"USD\"\ndate = \"2026-01-01\"\nrate = \"1.5\"\n";
    let files = [
        ("meters.toml", METERS.to_owned()),
        ("cards/c.toml", format!("{head}{card}")),
        ("profiles/t.toml", format!("{agreed}{profile}")),
        ("rates/x.toml", rate.to_owned()),
        ("tax/x.toml", TAX.to_owned()),
    ];
    files
        .map(|(name, text)| (name.to_owned(), text))
        .into_iter()
        .collect()
}

/// A card and a profile, and tests of them.
fn check(card: &str, profile: &str, tests: &[&str]) {
    let mut files = files(card, profile);
    for (place, test) in tests.iter().enumerate() {
        let test = format!("profile = \"t\"\n{test}\n");
        files.insert(format!("{place}.test.toml"), test);
    }
    let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let passed = catalog.run_tests();
    let passed = passed.unwrap_or_else(|errors| panic!("{card}{profile}{errors}"));
    assert_eq!(passed, tests.len());
}

const JUNE: &str = "period = \"2026-06\"\nusage.\"http.requests\" = \"100000\"\n";

fn june(expected: &str) -> String {
    format!("{JUNE}{expected}")
}

#[test]
fn limits_of_some_lines_go_before_those_of_all() {
    let card = format!(
        "{PRICES}[[maximum]]\nid = \"all\"\namount = \"60.00\"\n\
         [[maximum]]\nid = \"some\"\ncounts = [\"requests\"]\namount = \"20.00\"\n"
    );
    let used = "usage.\"net.bytes\" = \"500 GB\"\n";
    let lines = "lines = { requests = \"20.00\", traffic = \"40.00\" }";
    check(&card, "", &[&june(&format!("{used}{lines}"))]);
}

#[test]
fn discounts_of_the_invoice_go_by_precedence() {
    let profile = "[[discount]]\nid = \"half\"\nscope = \"invoice\"\npercent = \"50\"\nprecedence = 2\n\
        [[discount]]\nid = \"rebate\"\nscope = \"invoice\"\npercent = \"10\"\nof = \"list\"\nprecedence = 1\n";
    // 40.00 less 4.00, and then the half.
    check(PRICES, profile, &[&june("net = \"18.00\"")]);
}

#[test]
fn what_is_said_of_one_line_goes_behind_a_percentage_of_all() {
    let half = "[[discount]]\nid = \"half\"\nscope = \"invoice\"\npercent = \"50\"\n";
    // 20.00 of 40.00, and less 10.00.
    let voucher = "[[discount]]\nid = \"v\"\napplies = [\"requests\"]\namount = \"10.00\"\n";
    let both = format!("{voucher}{half}");
    check(PRICES, &both, &[&june("net = \"10.00\"")]);
    // At most 15.00.
    let card = PRICES.replace("unit = \"0.40\"", "unit = \"0.40\"\nmaximum = \"15.00\"");
    check(&card, half, &[&june("net = \"15.00\"")]);
}

#[test]
fn only_shorter_terms_count_towards_a_commitment() {
    let commitment = |id: &str, amount: &str, term: &str| {
        format!(
            "[[commitment]]\nid = \"{id}\"\ncounts = [\"requests\"]\namount = \"{amount}\"\nterm = \"{term}\"\n"
        )
    };
    let same = commitment("one", "50.00", "P1M") + &commitment("other", "70.00", "P1M");
    let lines = "lines = { requests = \"40.00\", \"true_up one\" = \"10.00\", \"true_up other\" = \"30.00\" }";
    check(PRICES, &same, &[&june(lines)]);
    // Also if the longer one stands first.
    let longer = commitment("quarter", "170.00", "P3M") + &commitment("month", "50.00", "P1M");
    let lines = "before = { commitment.quarter = \"100.00\" }\n\
        lines = { requests = \"40.00\", \"true_up month\" = \"10.00\", \"true_up quarter\" = \"20.00\" }";
    check(PRICES, &longer, &[&june(lines)]);
    // The last bill of an agreement charges what is missing of a term that goes on.
    let ending = commitment("half", "100.00", "P6M") + "from = \"2026-05-01\"\n";
    let profile = format!("until = \"2026-06-16\"\n{ending}");
    let lines = "before = { commitment.half = \"30.00\" }\n\
        lines = { requests = \"40.00\", \"true_up half\" = \"30.00\" }";
    check(PRICES, &profile, &[&june(lines)]);
}

#[test]
fn a_grant_without_fees_pays_no_minimum() {
    let card = format!("{PRICES}[[minimum]]\nid = \"least\"\namount = \"100.00\"\n");
    let grant = "[[grant]]\nid = \"g\"\namount = \"500.00\"\nfees = false\n";
    check(
        &card,
        grant,
        &[&june("grant.g.paid = \"40.00\"\ndue = \"60.00\"")],
    );
}

#[test]
fn a_grant_that_was_lowered_is_used_up() {
    let grant = "[[grant]]\nid = \"g\"\namount = \"30.00\"\n";
    let test = "before = { grant.g = \"40.00\" }\ngrant.g.paid = \"0.00\"\ndue = \"40.00\"";
    check(PRICES, grant, &[&june(test)]);
}

#[test]
fn terms_of_fees_may_begin_with_a_period() {
    let fee =
        |keys: &str| format!("[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"90.00\"\n{keys}");
    let of = |period: &str, expected: &str| format!("period = \"{period}\"\n{expected}");
    let (due, none) = ("lines = { fee = \"90.00\" }", "net = \"0.00\"");
    let april = [of("2026-04", due), of("2026-05", none), of("2026-07", due)];
    let april = april.each_ref().map(String::as_str);
    check(&fee("every = \"P3M\""), "from = \"2026-01-01\"\n", &april);
    // A trial that ends with a period leaves nothing of it, and all of the next one.
    let trial = [of("2026-05", none), of("2026-06", due)];
    let trial = trial.each_ref().map(String::as_str);
    let card = fee("trial = \"P1M\"\nprorate = \"none\"");
    check(&card, "from = \"2026-05-01\"\n", &trial);
    // What a trial leaves of a period is not charged with the bill before.
    let card = fee("trial = \"P45D\"\nbilled = \"in_advance\"");
    let march = of("2026-03", none);
    check(&card, "from = \"2026-03-01\"\n", &[&march]);
}

#[test]
fn a_fee_is_given_back_with_the_rate_of_its_day() {
    let card =
        "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"30.00\"\nbilled = \"in_advance\"\n";
    let profile = "until = \"2026-06-16\"\ntax = \"x\"\n";
    let test = "period = \"2026-06\"\nbefore = { advance.fee = \"30.00\" }\n\
        lines = { fee = \"-15.00\" }\ntax = \"-2.85\"";
    check(card, profile, &[test]);
}

/// 0.33 and 0.33 in euros are 0.50 and 0.50 in dollars, and paid whole.
#[test]
fn what_pays_whole_lines_is_what_they_come_to() {
    let profile = "currency = \"USD\"\n[[commitment]]\nid = \"pack\"\namount = \"100.00\"\nterm = \"P1Y\"\npay = \"advance\"\n";
    let test = "period = \"2026-06\"\nusage.\"http.requests\" = \"825\"\nusage.\"net.bytes\" = \"3.3 GB\"\n\
        before = { commitment.pack = { counted = \"10.00\", charged = \"100.00\" } }\nnet = \"0.00\"";
    check(PRICES, profile, &[test]);
}

fn bill<T>(catalog: &Catalog, stage: Stage, look: impl FnOnce(&crate::bill::Bill<'_>) -> T) -> T {
    let day = |day: &str| Zone::UTC.start_of_day(day.parse().expect("a date"));
    let period = Period {
        start: day("2026-06-01"),
        end: day("2026-07-01"),
    };
    let tenant = TenantId::new("t").expect("valid");
    let usage = Usage {
        stage,
        ..Usage::default()
    };
    let offline = Offline::new(catalog, &tenant, period).expect("a profile");
    let metered = offline.metered(&usage);
    look(&offline.bill(&usage, &metered, &[]).expect("a bill"))
}

fn decimal(text: &str) -> Decimal {
    text.parse().expect("a decimal")
}

#[test]
fn a_tax_on_a_tax_says_what_it_is_computed_of() {
    let card = "[[price]]\nid = \"fee\"\nmodel = \"flat\"\nflat = \"100.00\"\n";
    let files = files(card, "tax = [\"x\", \"on-it\"]\n");
    let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
    bill(&catalog, Stage::Final, |bill| {
        let taxes: Vec<_> = bill
            .taxes
            .iter()
            .map(|tax| (tax.base, tax.amount, tax.of.clone()))
            .collect();
        let of = |base: &str, amount: &str| {
            let (base, amount) = (decimal(base), decimal(amount));
            (base, amount, vec![(0, amount, base)])
        };
        assert_eq!(taxes, [of("100.00", "16.00"), of("116.00", "11.57")]);
    });
}

#[test]
fn the_least_of_a_price_is_due_at_the_end() {
    let card = format!("{PRICES}minimum = \"25.00\"\n");
    let catalog = Catalog::parse(&files(&card, "")).unwrap_or_else(|errors| panic!("{errors}"));
    let net = |stage| bill(&catalog, stage, |bill| bill.net);
    assert_eq!(net(Stage::Interim), decimal("0.00"));
    assert_eq!(net(Stage::Final), decimal("25.00"));
}
