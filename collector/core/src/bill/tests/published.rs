//! Bills that vendors publish, and figures of the test suites of open-source billing systems. Each
//! test names where the figures are from.

use std::collections::BTreeMap;

use crate::catalog::Catalog;

/// A card and a profile around prices of the meters, and a test of a bill of June 2026.
pub(super) struct Case<'a> {
    pub(super) meters: &'a [&'a str],
    pub(super) card: &'a str,
    pub(super) profile: &'a str,
    /// Other files.
    pub(super) files: &'a [(&'a str, &'a str)],
    pub(super) test: &'a str,
}

impl Case<'_> {
    /// What is wrong with it, if anything is.
    pub(super) fn run(&self) -> Result<(), String> {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut file = |name: &str, text: String| files.insert(name.to_owned(), text);
        file("meters.toml", self.meters.concat());
        let currency = if self.card.contains("currency = ") {
            ""
        } else {
            "currency = \"EUR\"\n"
        };
        file(
            "cards/c.toml",
            format!(
                "id = \"c\"\n{currency}from = \"2000-01-01\"\norder = \"standard/1\"\n{}",
                self.card
            ),
        );
        file(
            "profiles/a.toml",
            format!(
                "tenant = \"a\"\ncard = \"c\"\nzone = \"UTC\"\n{}",
                self.profile
            ),
        );
        file(
            "june.test.toml",
            format!("profile = \"a\"\nperiod = \"2026-06\"\n{}", self.test),
        );
        for (name, text) in self.files {
            file(name, (*text).to_owned());
        }
        let catalog = Catalog::parse(&files).map_err(|errors| errors.to_string())?;
        let passed = catalog.run_tests().map_err(|errors| errors.to_string())?;
        assert!(passed > 0);
        Ok(())
    }

    pub(super) fn passes(&self) {
        self.run().unwrap_or_else(|errors| panic!("{errors}"));
    }
}

const ENERGY: &str = "[[meter]]\nname = \"e\"\nunit = \"kWh\"\nscale = 0\naggregation = \"sum\"\n";

/// City of Seymour, Texas, residential electricity in winter: a base charge, energy by a declining
/// schedule, and power cost on the same kilowatt hours; 1 % sales tax.
#[test]
fn seymour_energy_and_power_cost_of_the_same_kilowatt_hours() {
    Case {
        meters: &[ENERGY],
        card: r#"currency = "USD"
[[price]]
id = "energy"
meter = "e"
model = "graduated"
per = "1 kWh"
rounding = { at = "tier" }
tiers = [{ to = "250", unit = "0.064" }, { to = "700", unit = "0.049" }, { unit = "0.0446" }]
[[price]]
id = "power"
meter = "e"
model = "per_unit"
per = "1 kWh"
unit = "0.085"
[[price]]
id = "base"
model = "flat"
flat = "7.50"
"#,
        profile: "tax = \"t\"\n",
        files: &[(
            "tax/t.toml",
            "[[tax]]\ncode = \"t\"\njurisdiction = \"X\"\nrates = [{ percent = \"1\" }]\n",
        )],
        test: "usage.e = \"1200\"\n\
               lines = { energy = \"60.35\", power = \"102.00\", base = \"7.50\" }\n\
               tax = \"1.70\"\ntotal = \"171.55\"\n",
    }
    .passes();
}

/// Black & Decker energy monitor EM100B, manual: generation and transmission each by tiers of the
/// same 2700 kWh.
#[test]
fn black_and_decker_generation_and_transmission_of_the_same_kilowatt_hours() {
    let tiers = |id: &str, prices: [&str; 3]| {
        let [first, second, third] = prices;
        format!(
            "[[price]]\nid = \"{id}\"\nmeter = \"e\"\nmodel = \"graduated\"\nper = \"1 kWh\"\n\
             tiers = [{{ to = \"1300\", unit = \"{first}\" }}, \
             {{ to = \"2300\", unit = \"{second}\" }}, {{ unit = \"{third}\" }}]\n"
        )
    };
    Case {
        meters: &[ENERGY],
        card: &(tiers("generation", ["0.05", "0.10", "0.15"])
            + &tiers("transmission", ["0.02", "0.05", "0.07"])),
        profile: "",
        files: &[],
        test: "usage.e = \"2700\"\nlines = { generation = \"225.00\", transmission = \"104.00\" }\n\
               net = \"329.00\"\n",
    }
    .passes();
}

/// Prices beside each other need usage that one of them keeps apart for both.
#[test]
fn two_prices_by_rows_of_one_meter_are_refused() {
    let matrix = |id: &str| {
        format!(
            "[[price]]\nid = \"{id}\"\nmeter = \"e\"\nmodel = \"matrix\"\nper = \"1 kWh\"\n\
             [[price.rows]]\nid = \"all\"\nunit = \"1\"\n"
        )
    };
    let refused = Case {
        meters: &[ENERGY],
        card: &(matrix("a") + &matrix("b")),
        profile: "",
        files: &[],
        test: "usage.e = \"1\"\n",
    }
    .run();
    let refused = refused.expect_err("it cannot be kept apart");
    assert!(
        refused.contains("meter `e` has the price `a` already, and both need usage by parts"),
        "{refused}"
    );
}

const UNITS: &str = "[[meter]]\nname = \"u\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n\
    [[meter]]\nname = \"v\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n";

fn per_unit(id: &str, meter: &str, rest: &str) -> String {
    format!(
        "[[price]]\nid = \"{id}\"\nmeter = \"{meter}\"\nmodel = \"per_unit\"\nper = \"1 1\"\n\
         unit = \"1\"\n{rest}"
    )
}

const TAXES: (&str, &str) = (
    "tax/t.toml",
    "[[tax]]\ncode = \"t20\"\njurisdiction = \"X\"\nrates = [{ percent = \"20\" }]\n\
     [[tax]]\ncode = \"t10\"\njurisdiction = \"X\"\nrates = [{ percent = \"10\" }]\n",
);

/// What is missing to a minimum or a commitment is taxed like what counts, split by amount (EU VAT
/// of a minimum charge follows the supplies that it is for): 60.00 of which 45.00 and 15.00.
#[test]
fn what_is_missing_is_taxed_like_the_lines_that_count() {
    let one = per_unit("a", "u", "tax = \"t20\"\n");
    let two = one.clone() + &per_unit("b", "v", "tax = \"t10\"\n");
    let bounds = [
        "[[minimum]]\nid = \"m\"\namount = \"100\"\n",
        "[[commitment]]\nid = \"m\"\namount = \"100\"\nterm = \"P1M\"\n",
    ];
    for bound in bounds {
        for (prices, usage, tax) in [
            (&one, "usage.u = \"40\"\n", "20.00"),
            (&one, "", "20.00"),
            // 30.00 and 45.00 at 20 %, 10.00 and 15.00 at 10 %.
            (&two, "usage.u = \"30\"\nusage.v = \"10\"\n", "17.50"),
            // Thirds of 97.00: 64.67 and 32.33 by largest remainder.
            (&two, "usage.u = \"2\"\nusage.v = \"1\"\n", "16.66"),
            // Nothing says how, and the profile has no tax.
            (&two, "", "0.00"),
        ] {
            Case {
                meters: &[UNITS],
                card: &format!("{prices}{bound}"),
                profile: "",
                files: &[TAXES],
                test: &format!("net = \"100.00\"\ntax = \"{tax}\"\n{usage}"),
            }
            .passes();
        }
    }
}

/// Stripe, pricing in the US (stripe.com/pricing): 2.9 % and 30 cents of a domestic card's payment,
/// 1.5 % more of an international one's.
#[test]
fn stripe_domestic_and_international_cards() {
    Case {
        meters: &["[[meter]]\nname = \"pay\"\nunit = \"USD\"\nscale = 2\n\
                   aggregation = \"sum\"\nevent = \"ev\"\n"],
        card: r#"currency = "USD"
[[price]]
id = "f"
meter = "pay"
model = "matrix"
rows = [
  { when = { card = "us" }, model = "percentage", percent = "2.9", fixed = "0.30" },
  { when = { card = "*" }, model = "percentage", percent = "4.4", fixed = "0.30" },
]
"#,
        profile: "",
        files: &[],
        test: "usage.pay = [{ quantity = \"100\", ev = \"a\", card = \"us\" }, \
               { quantity = \"100\", ev = \"b\", card = \"de\" }]\nnet = \"7.90\"\n",
    }
    .passes();
}

/// Calls by destination, 60/1 and 60/60 (the usual notations of wholesale voice tariffs): 61 s are
/// 61 s at 1 cent a minute, and 120 s at 5 cents.
#[test]
fn calls_by_destination_have_increments_of_their_own() {
    let case = |rows: &str, test: &str| {
        Case {
            meters: &["[[meter]]\nname = \"c\"\nunit = \"s\"\nscale = 0\n\
                       aggregation = \"sum\"\nevent = \"call\"\n"],
            card: &format!(
                "[[price]]\nid = \"c\"\nmeter = \"c\"\nmodel = \"matrix\"\nper = \"1 min\"\n\
                 rounding = {{ at = \"event\" }}\nrows = [{rows}]\n"
            ),
            profile: "",
            files: &[],
            test,
        }
        .run()
    };
    let us = "{ when = { dest = \"us\" }, model = \"per_event\", unit = \"0.01\", \
              increments = [{ to = \"60 s\", step = \"60 s\" }, { step = \"1 s\" }] }, ";
    let de = "{ when = { dest = \"de\" }, model = \"per_event\", unit = \"0.05\", \
              increments = [{ step = \"60 s\" }] }";
    let calls = "usage.c = [{ quantity = \"61\", call = \"a\", dest = \"us\" }, \
                 { quantity = \"61\", call = \"b\", dest = \"de\" }]\nnet = \"0.11\"\n";
    case(&format!("{us}{de}"), calls).unwrap_or_else(|errors| panic!("{errors}"));
    let refused = case(&format!("{us}{{ unit = \"1\" }}"), calls).expect_err("rows of two kinds");
    assert!(
        refused.contains("either all rows price single events or none does"),
        "{refused}"
    );
}

const LEVEL: &str =
    "[[meter]]\nname = \"s\"\nunit = \"{gb}\"\nscale = 0\naggregation = \"time_weighted\"\n";
const HELD: &str = "[[price]]\nid = \"s\"\nmeter = \"s\"\nmodel = \"per_unit\"\nover = \"period\"\n\
    per = \"1 {gb}\"\nunit = \"1\"\n";

/// Lago, spec/scenarios/charge_models/weighted_sum_spec.rb: 2500 carried into a month of 30 days,
/// then -2000 on the 4th and -200 on the 6th: 533.33.
#[test]
fn lago_weighted_sum_with_a_level_that_is_carried() {
    let held = |card: &str, test: &str| {
        Case {
            meters: &[LEVEL],
            card,
            profile: "",
            files: &[],
            test,
        }
        .run()
    };
    let changes = "usage.s = [{ delta = \"-2000\", time = \"2026-06-04T00:00:00Z\" }, \
                   { delta = \"-200\", time = \"2026-06-06T00:00:00Z\" }]\n";
    let hourly = HELD.replace("over =", "interval = \"PT1H\"\nover =");
    for card in [HELD, &hourly] {
        for (usage, net) in [
            (format!("before.level.s = \"2500\"\n{changes}"), "533.33"),
            ("before.level.s = \"2500\"\n".to_owned(), "2500.00"),
            (
                "usage.s = [{ level = \"60\", time = \"2026-06-16T00:00:00Z\", region = \"eu\" }]\n"
                    .to_owned(),
                "30.00",
            ),
        ] {
            held(card, &format!("{usage}net = \"{net}\"\n")).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    let below = held(HELD, changes).expect_err("below zero");
    assert!(below.contains("negative usage"), "{below}");
    // Ten seats, or ten seconds of a seat?
    let bare = held(HELD, "usage.s = \"10\"\n").expect_err("it says neither");
    assert!(bare.contains("10 {gb}.h"), "{bare}");
    held(HELD, "usage.s = \"7200 {gb}.h\"\nnet = \"10.00\"\n").unwrap_or_else(|e| panic!("{e}"));
}

/// What is taken back is less; what is below zero is rated as zero.
#[test]
fn usage_in_a_file_may_be_below_zero() {
    let case = |usage: &str, net: &str| {
        Case {
            meters: &[UNITS],
            card: &per_unit("a", "u", ""),
            profile: "",
            files: &[],
            test: &format!("{usage}net = \"{net}\"\n"),
        }
        .run()
    };
    let less = "usage.u = [{ quantity = \"10\" }, { quantity = \"-4\" }]\n";
    assert_eq!(case(less, "6.00"), Ok(()));
    let below = case("usage.u = \"-4\"\n", "0.00").expect_err("it is not rated");
    assert!(below.contains("the sum is below zero"), "{below}");
    let refused = Case {
        meters: &[UNITS],
        card: &per_unit("a", "u", ""),
        profile: "",
        files: &[],
        test: "usage.u = [{ quantity = \"1\", at = \"2026-06-10T00:00:00Z\" }]\n",
    }
    .run();
    let refused = refused.expect_err("another name of the time");
    assert!(refused.contains("with `time`"), "{refused}");
}

/// National Tax Agency of Japan, qualified invoice system: fractions of a yen are rounded once for
/// each invoice and rate, in any way the seller chooses; cut off, 10 % of 105 yen are 10.
#[test]
fn tax_in_yen_may_be_rounded_down() {
    for (mode, tax) in [("", "11"), ("tax = { mode = \"down\" }\n", "10")] {
        Case {
            meters: &[UNITS],
            card: &format!(
                "currency = \"JPY\"\n{mode}{}",
                per_unit("a", "u", "tax = \"t10\"\n")
            ),
            profile: "",
            files: &[TAXES],
            test: &format!("usage.u = \"105\"\nnet = \"105\"\ntax = \"{tax}\"\n"),
        }
        .passes();
    }
}

/// A file that is no TOML says so, and nothing that it may declare is called missing.
#[test]
fn what_stands_in_a_broken_file_is_not_called_missing() {
    let refused = Case {
        meters: &[UNITS],
        card: "[[price]\n",
        profile: "",
        files: &[],
        test: "usage.u = \"1\"\n",
    }
    .run()
    .expect_err("no TOML");
    assert!(refused.contains("not valid TOML"), "{refused}");
    assert!(!refused.contains("not declared"), "{refused}");
}

#[test]
fn a_period_before_1970_is_refused() {
    let test = |period: &str| {
        let tenant = "a".parse().expect("a tenant");
        let card = format!(
            "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"2000-01-01\"\norder = \"standard/1\"\n{}",
            per_unit("a", "u", "")
        );
        let files = BTreeMap::from([
            ("meters.toml".to_owned(), UNITS.to_owned()),
            ("cards/c.toml".to_owned(), card),
            (
                "profiles/a.toml".to_owned(),
                "tenant = \"a\"\ncard = \"c\"\nzone = \"UTC\"\n".to_owned(),
            ),
        ]);
        let catalog = Catalog::parse(&files).expect("sound");
        let read = crate::catalog::Trial::read(&catalog, "u.toml", "", Some(&tenant), Some(period));
        read.map(|_| ()).map_err(|errors| errors.to_string())
    };
    assert_eq!(test("2026-06"), Ok(()));
    for period in ["1969-12", "0001-01", "1969-12-31T23:59:59Z"] {
        assert!(test(period).expect_err(period).contains("1970"));
    }
}
