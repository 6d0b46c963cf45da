//! Contracted rates: a tenant pays what a card of these rates would cost, and its lines list what the
//! card does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollgate_common::{Quantity, TenantId};

use crate::bill::{BillLine, Offline, Usage};
use crate::catalog::Catalog;
use crate::ledger::StepKind;
use crate::rate::{MeterUsage, Part};

const METERS: &str = "\
[[meter]]\nname = \"a\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n\
[[meter]]\nname = \"m\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n";

fn catalog(prices: &str, profile: &str) -> Result<Catalog, String> {
    let files = [
        ("meters.toml", METERS.to_owned()),
        (
            "cards/c.toml",
            format!(
                "id = \"c\"\ncurrency = \"EUR\"\nfrom = \"2026-06-11\"\norder = \"standard/1\"\n{prices}"
            ),
        ),
        (
            "profiles/t.toml",
            format!("tenant = \"t\"\ncard = \"c\"\nzone = \"UTC\"\n{profile}"),
        ),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text));
    Catalog::parse(&BTreeMap::from(files)).map_err(|errors| errors.to_string())
}

/// What is shown of each line of June by `show`; `usage` of meter `a`, and of two rows of `m`.
fn lines<T>(catalog: &Catalog, usage: [i128; 3], show: impl Fn(&BillLine<'_>) -> T) -> Vec<T> {
    let tenant = TenantId::new("t").expect("a tenant");
    let profile = catalog.profile(&tenant).expect("a profile");
    let day = "2026-06-15".parse().expect("a day");
    let calendar = profile.calendar;
    let period = calendar.period_containing(calendar.zone.start_of_day(day));
    let offline = Offline::new(catalog, &tenant, period).expect("a profile");
    let slice = u16::from(offline.slices.len() > 1);
    let used = |cells: &[i128]| {
        let mut used = MeterUsage::default();
        for (cell, units) in (0u16..).zip(cells) {
            let part = Part {
                slice,
                cell,
                ..Part::default()
            };
            used.add(part, Quantity::new(*units)).expect("it fits");
        }
        used
    };
    let meters = [("a", used(&usage[..1])), ("m", used(&usage[1..]))];
    let usage = Usage {
        meters: meters
            .into_iter()
            .map(|(name, used)| (name.parse().expect("a meter"), used))
            .collect(),
        ..Usage::default()
    };
    let metered = offline.metered(&usage);
    let bill = offline.bill(&usage, &metered, &[]).expect("a bill");
    for line in &bill.lines {
        let steps: rust_decimal::Decimal = line.steps().iter().map(|step| step.amount).sum();
        assert_eq!(line.list + steps, line.amount, "{line}");
    }
    bill.lines.iter().map(show).collect()
}

const CARD: &str = r#"
[[price]]
id = "a"
meter = "a"
model = "graduated"
per = "1 1"
tiers = [{ to = "10", unit = "1.00", flat = "2" }, { unit = "0.50" }]

[[price]]
id = "m"
meter = "m"
model = "matrix"
per = "1 1"
rows = [{ id = "x", when = { at = "x" }, unit = "3" }, { id = "y", when = { at = "y" }, unit = "5" }]

[[price]]
id = "fee"
model = "flat"
flat = "30.00"
"#;

#[test]
fn lines_keep_what_is_listed_what_is_contracted_and_what_is_billed() {
    let profile = r#"
[[contracted]]
price = "a"
times = "0.5"
[[contracted]]
price = "m"
row = "y"
unit = "4"
[[contracted]]
price = "fee"
flat = "24"
[[discount]]
id = "off"
scope = "invoice"
percent = "10"
of = "list"
"#;
    let catalog = catalog(CARD, profile).expect("sound");
    let shown = lines(&catalog, [20, 1, 2], |line| {
        let steps = line.steps();
        let steps = steps
            .iter()
            .map(|step| format!("{} {}", step.kind.as_str(), step.amount));
        (
            line.list.to_string(),
            steps.collect::<Vec<_>>().join(", "),
            line.amount.to_string(),
        )
    });
    let expected = [
        ("17.00", "contracted -8.50, discount -0.85", "7.65"),
        ("13.00", "contracted -2.00, discount -1.10", "9.90"),
        // The card is in force for 20 of 30 days.
        ("20.00", "contracted -4.00, discount -1.60", "14.40"),
    ];
    let shown: Vec<(&str, &str, &str)> = shown.iter().map(|(a, b, c)| (&**a, &**b, &**c)).collect();
    assert_eq!(shown, expected);
}

#[test]
fn the_arithmetic_shows_both_rates() {
    let profile = "[[contracted]]\nprice = \"a\"\ntiers = [{ unit = \"0.40\" }]\n\
                   [[contracted]]\nprice = \"m\"\ntimes = \"2\"\n";
    let catalog = catalog(CARD, profile).expect("sound");
    let texts = lines(&catalog, [20, 1, 0], |line| line.to_string());
    let behind = |text: &str| {
        text.split_once("; contracted ")
            .map(|(_, own)| own.to_owned())
    };
    assert_eq!(
        texts[0],
        "10 x 1.00 and 2 flat + 10 x 0.50 per 1 1 = 12 + 5 = 17.00 EUR; contracted 20 x 0.40 per 1 1 \
         = 8.00 EUR"
    );
    let own = behind(&texts[1]).expect("contracted");
    assert!(own.contains("1 x 6 per 1 1"), "{own}");
    assert_eq!(behind(&texts[2]), None);
}

#[test]
fn what_does_not_fit_the_price_is_refused() {
    let cases = [
        (
            "price = \"b\"\ntimes = \"1\"",
            "contracted[0].price: price `b` is not declared",
        ),
        (
            "price = \"a\"",
            "contracted[0].times: expected one of `times`",
        ),
        (
            "price = \"a\"\ntimes = \"1\"\nunit = \"1\"",
            "expected one of `times`",
        ),
        (
            "price = \"a\"\nunit = \"1\"",
            "the price has not one unit price",
        ),
        ("price = \"a\"\nflat = \"1\"", "only a fee is `flat`"),
        ("price = \"a\"\ntimes = 1.5", "found a float"),
        (
            "price = \"a\"\ntimes = \"0.000000000000000000000000001\"",
            "too many digits",
        ),
        (
            "price = \"a\"\ntiers = [{ to = \"5\", unit = \"1\" }]",
            "the last tier must not have a bound",
        ),
        ("price = \"fee\"\nunit = \"1\"", "the price is a fee"),
        (
            "price = \"m\"\nrow = \"z\"\nunit = \"1\"",
            "no such row in any version",
        ),
        (
            "price = \"m\"\npercent = \"1\"",
            "the price is no percentage",
        ),
        (
            "price = \"m\"\ntimes = \"1\"\n[[contracted]]\nprice = \"m\"\nrow = \"x\"\nunit = \"1\"",
            "contracted[1].price: price `m` has a contracted rate already",
        ),
    ];
    for (text, expected) in cases {
        let profile = format!("[[contracted]]\n{text}\n");
        let message = catalog(CARD, &profile).expect_err(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

fn tiers(prices: &[(u32, u32)]) -> String {
    let last = prices.len() - 1;
    let mut bound = 0;
    let tier = |(at, (width, unit)): (usize, &(u32, u32))| {
        bound += width;
        let to = if at == last {
            String::new()
        } else {
            format!("to = \"{bound}\", ")
        };
        format!("{{ {to}unit = \"0.{unit:03}\" }}")
    };
    let tiers: Vec<String> = prices.iter().enumerate().map(tier).collect();
    format!("tiers = [{}]\n", tiers.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn contracted_rates_cost_what_a_card_of_them_costs(
        list in proptest::collection::vec((1u32..50, 0u32..1000), 1..5),
        own in proptest::collection::vec((1u32..50, 0u32..1000), 1..5),
        volume: bool,
        daily: bool,
        used in 0i128..200,
    ) {
        let card = |tiers: &str| format!(
            "[[price]]\nid = \"a\"\nmeter = \"a\"\nmodel = \"{}\"\nper = \"1 1\"\ninterval = \"{}\"\n\
             {tiers}allowance = \"3\"\n[[discount]]\nid = \"d\"\npercent = \"7\"\n",
            if volume { "volume" } else { "graduated" },
            if daily { "P1D" } else { "period" },
        );
        let agreed = format!("[[contracted]]\nprice = \"a\"\n{}", tiers(&own));
        let both = catalog(&card(&tiers(&list)), &agreed).expect("sound");
        let only = |rates: &[(u32, u32)]| catalog(&card(&tiers(rates)), "").expect("sound");
        let of = |catalog: &Catalog| lines(catalog, [used, 0, 0], |line| {
            let contracted = line.steps().into_iter().find(|step| step.kind == StepKind::Contracted);
            (line.list, line.list + contracted.map(|step| step.amount).unwrap_or_default(), line.amount)
        });
        let (both, listed, owned) = (of(&both), of(&only(&list)), of(&only(&own)));
        prop_assert_eq!(both[0].0, listed[0].0);
        prop_assert_eq!(both[0].1, owned[0].0);
        prop_assert_eq!(both[0].2, owned[0].2);
    }
}
