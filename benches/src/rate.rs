//! `rate`: line items per second on one core.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::rate::{LineItem, rate};
use tollgate_common::Quantity;

use crate::report::{Better, Case, Report};

/// Lines of each case.
const LINES: u32 = 2_000_000;
/// Lines whose text is made; it takes much longer.
const TEXTS: u32 = 100_000;

const METERS: &str = r#"
[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"
"#;

const GRADUATED: &str = r#"
model = "graduated"
tiers = [
  { to = "100 GB", unit = "0.00" },
  { to = "10 TB", unit = "0.08" },
  { to = "50 TB", unit = "0.065" },
  { unit = "0.05" },
]
"#;

const DISCOUNT: &str = r#"
[[discount]]
id = "partner"
percent = "12.5"
"#;

/// A catalog with one price for traffic.
fn catalog(price: &str) -> Result<Catalog> {
    let card = format!(
        "id = \"bench\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\
         [[price]]\nid = \"traffic\"\nmeter = \"net.bytes\"\nper = \"1 GB\"\n{price}"
    );
    let files = BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/bench.toml".to_owned(), card),
    ]);
    Ok(Catalog::parse(&files)?)
}

/// Rates `lines` quantities of up to 100 TB and answers how many a second.
fn measure(price: &str, lines: u32, each: impl Fn(&LineItem<'_>)) -> Result<f64> {
    let catalog = catalog(price)?;
    let card = catalog.cards().next().context("one card")?;
    let meter = catalog.meters().next().context("one meter")?;
    let price = card.prices.first().context("one price")?;
    let day = "2026-06-01".parse()?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let start = Instant::now();
    for _ in 0..lines {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let quantity = Quantity::new(i128::from(random % 100_000_000_000_000));
        each(&black_box(rate(quantity, meter, price, card, day)?));
    }
    Ok(f64::from(lines) / start.elapsed().as_secs_f64())
}

pub(crate) fn run() -> Result<Report> {
    let discounted = format!("{GRADUATED}{DISCOUNT}");
    let started = format!("{GRADUATED}blocks = \"started\"\n{DISCOUNT}");
    let volume = GRADUATED.replace("graduated", "volume");
    let per_unit = "model = \"per_unit\"\nunit = \"0.08\"\n";
    let text = |line: &LineItem<'_>| drop(black_box(line.to_string()));
    Ok(Report {
        bench: "rate",
        cases: vec![
            Case::new(
                "graduated, 4 tiers, a discount",
                measure(&discounted, LINES, |_| {})?,
                "lines/s",
            )
            .target(1e6, Better::Higher),
            Case::new(
                "volume, 4 tiers",
                measure(&volume, LINES, |_| {})?,
                "lines/s",
            ),
            Case::new("per unit", measure(per_unit, LINES, |_| {})?, "lines/s"),
            Case::new(
                "graduated, started blocks, a discount",
                measure(&started, LINES / 10, |_| {})?,
                "lines/s",
            ),
            Case::new(
                "graduated, a discount, with its arithmetic as text",
                measure(&discounted, TEXTS, text)?,
                "lines/s",
            ),
        ],
    })
}
