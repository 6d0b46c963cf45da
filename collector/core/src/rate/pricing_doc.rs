//! Checks every example of `docs/pricing.md` and `docs/pricing/tiers.md`.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use tollgate_common::{MeterName, Quantity, TenantId, Timestamp};

use super::{LineItem, rate, rate_fee};
use crate::catalog::Catalog;
use crate::period::Calendar;

const DOCUMENT: &str = concat!(
    include_str!("../../../../docs/pricing.md"),
    "\n",
    include_str!("../../../../docs/pricing/tiers.md")
);

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in DOCUMENT.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some((found, text))) => {
                if *found == language {
                    blocks.push(std::mem::take(text));
                }
                open = None;
            }
            (Some(found), None) => open = Some((found, String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(!blocks.is_empty(), "the document has no {language} block");
    blocks
}

/// The examples of a language, split at their arrow.
fn examples(language: &str) -> Vec<(String, String)> {
    let text = blocks(language).concat();
    let split = |line: &str| {
        let (left, right) = line.split_once(" => ").expect("an example has an arrow");
        (left.to_owned(), right.to_owned())
    };
    text.lines().map(split).collect()
}

fn catalog() -> Catalog {
    let file = |block: String| {
        let first = block.lines().next().expect("a block has a first line");
        let path = first
            .strip_prefix("# ")
            .expect("it names the file")
            .to_owned();
        (path, block)
    };
    let files: BTreeMap<String, String> = blocks("toml").into_iter().map(file).collect();
    Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The day on which the examples' period begins.
fn day() -> NaiveDate {
    "2026-06-01".parse().expect("a date")
}

fn line<'c>(catalog: &'c Catalog, meter: &str, quantity: i128) -> LineItem<'c> {
    let acme = TenantId::new("acme").expect("valid");
    let profile = catalog.profile(&acme).expect("the document describes acme");
    let card = catalog
        .card_in_force(&profile.card, profile.calendar.zone, Timestamp::MAX)
        .expect("in force at the end of time");
    let meter = MeterName::new(meter).expect("valid");
    let price = card
        .prices
        .iter()
        .find(|price| price.meter.as_ref() == Some(&meter))
        .expect("priced");
    let meter = catalog.meter(&meter).expect("declared");
    rate(Quantity::new(quantity), meter, price, card, day()).expect("rates")
}

fn number(text: &str) -> i128 {
    text.parse().expect("a whole number")
}

#[test]
fn arithmetic_is_as_documented() {
    let catalog = catalog();
    for (usage, arithmetic) in examples("example") {
        let (meter, quantity) = usage.split_once(' ').expect("meter and quantity");
        assert_eq!(
            line(&catalog, meter, number(quantity)).to_string(),
            arithmetic
        );
    }
}

/// Each price of the cookbook with its examples: the `toml price` blocks, and the `rated` blocks up
/// to the next price.
fn recipes() -> Vec<(String, Vec<(String, String)>)> {
    let mut recipes: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = DOCUMENT;
    while let Some(at) = rest.find("\n```toml price\n") {
        let (price, behind) = rest[at..]
            .trim_start()
            .trim_start_matches("```toml price\n")
            .split_once("\n```\n")
            .expect("a block ends");
        let end = behind.find("\n```toml price\n").unwrap_or(behind.len());
        let rated = behind[..end].split("\n```rated\n").skip(1);
        let examples: Vec<(String, String)> = rated
            .flat_map(|block| block.split("\n```").next().unwrap_or_default().lines())
            .map(|line| {
                let (usage, arithmetic) = line.split_once(" => ").expect("an example has an arrow");
                (usage.to_owned(), arithmetic.to_owned())
            })
            .collect();
        assert!(!examples.is_empty(), "no example of {price}");
        recipes.push((price.to_owned(), examples));
        rest = behind;
    }
    assert!(recipes.len() > 10, "the document is a cookbook");
    recipes
}

#[test]
fn the_catalogs_test_passes() {
    assert_eq!(catalog().run_tests(), Ok(1));
}

#[test]
fn recipes_are_as_documented() {
    let document = catalog();
    for (price, examples) in recipes() {
        let header = "id = \"recipe\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\n\
                      order = \"standard/1\"\n";
        let mut files = document.files().clone();
        files.retain(|path, _| path.starts_with("meters"));
        files.insert("cards/recipe.toml".to_owned(), format!("{header}{price}"));
        let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}\n{price}"));
        let card = catalog.cards().next().expect("one card");
        for (usage, arithmetic) in examples {
            let price = &card.prices[0];
            let line = match &price.meter {
                None => rate_fee(price, card, day()),
                Some(meter) => {
                    let meter = catalog.meter(meter).expect("declared");
                    rate(Quantity::new(number(&usage)), meter, price, card, day())
                }
            };
            assert_eq!(line.expect("rates").to_string(), arithmetic);
        }
    }
}

#[test]
fn periods_are_as_documented() {
    for (question, period) in examples("period") {
        let words: Vec<&str> = question.split(' ').collect();
        let [zone, every, instant] = words[..] else {
            panic!("{question}")
        };
        let zone = zone.parse().expect("known");
        let calendar = Calendar::new(zone, every.parse().expect("supported"));
        let instant = chrono::DateTime::parse_from_rfc3339(instant).expect("valid");
        let instant = Timestamp::from_millis(instant.timestamp_millis());
        assert_eq!(calendar.period_containing(instant).to_string(), period);
    }
}

#[test]
fn late_usage_costs_as_documented() {
    let catalog = catalog();
    for (usage, amounts) in examples("late") {
        let (meter, quantities) = usage.split_once(' ').expect("meter and quantities");
        let (earlier, later) = quantities.split_once(" + ").expect("two quantities");
        let amount = |quantity| line(&catalog, meter, quantity).amount;
        let charge = amount(number(earlier));
        let adjustment = amount(number(earlier) + number(later)) - charge;
        assert_eq!(format!("{charge}, {adjustment}"), amounts);
    }
}
