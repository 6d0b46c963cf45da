//! Checks every example of `docs/pricing.md`.

use std::collections::BTreeMap;

use tollgate_common::{MeterName, Quantity, TenantId, Timestamp};

use super::{LineItem, rate};
use crate::catalog::Catalog;
use crate::period::Calendar;

const DOCUMENT: &str = include_str!("../../../../docs/pricing.md");

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

fn line(catalog: &Catalog, meter: &str, quantity: i128) -> LineItem {
    let acme = TenantId::new("acme").expect("valid");
    let profile = catalog.profile(&acme).expect("the document describes acme");
    let card = catalog
        .card_in_force(&profile.card, profile.calendar.zone, Timestamp::MAX)
        .expect("in force at the end of time");
    let meter = MeterName::new(meter).expect("valid");
    let price = card
        .prices
        .iter()
        .find(|price| price.meter == meter)
        .expect("priced");
    let meter = catalog.meter(&meter).expect("declared");
    rate(Quantity::new(quantity), meter, price, card).expect("rates")
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

#[test]
fn periods_are_as_documented() {
    for (question, period) in examples("period") {
        let words: Vec<&str> = question.split(' ').collect();
        let [zone, every, instant] = words[..] else {
            panic!("{question}")
        };
        let calendar = Calendar {
            zone: zone.parse().expect("known"),
            every: every.parse().expect("supported"),
        };
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
