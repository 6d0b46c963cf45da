//! Checks every example of `docs/pricing/*.md` about prices that need usage in parts.
//!
//! `toml` blocks hold meters; `toml calendar` a calendar and `toml price` a price for what follows
//! up to the next one; `toml price from DATE` another version of it, `toml price
//! only from DATE` one that nothing was before; `rated ZONE MONTH` usage and
//! lines. Usage is `INSTANT [xWINDOWS] [DIMENSIONS] QUANTITY`, parts of it apart by `;`, windows of
//! five minutes in a row.

use tollgate_common::Dimensions;

use super::rig::{Rig, Used, Version, dimensions, instant};

const DOCUMENTS: [&str; 2] = [
    include_str!("../../../../../docs/pricing/parts.md"),
    include_str!("../../../../../docs/pricing/each.md"),
];

#[derive(Default)]
struct Recipe {
    calendar: Option<String>,
    /// From which date, and the prices.
    versions: Vec<(String, String)>,
}

fn blocks(document: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => open = Some((info.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn usage(text: &str) -> Vec<Used> {
    let mut all = Vec::new();
    for item in text
        .split(';')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let words: Vec<&str> = item.split_whitespace().collect();
        let (at, units) = (words[0], words[words.len() - 1]);
        let (mut count, mut found) = (1, Dimensions::none());
        for word in &words[1..words.len() - 1] {
            match word
                .strip_prefix('x')
                .and_then(|number| number.parse().ok())
            {
                Some(number) => count = number,
                None => found = dimensions(word),
            }
        }
        for window in 0..count {
            all.push(Used {
                at: instant(at).plus_millis(window * 300_000),
                width: 300,
                dimensions: found.clone(),
                units: units.parse().expect("a quantity"),
            });
        }
    }
    all
}

#[test]
fn examples_are_as_documented() {
    for document in DOCUMENTS {
        check(document);
    }
}

fn check(document: &str) {
    let mut meters = String::new();
    let mut recipe = Recipe::default();
    let mut examples = 0;
    for (info, text) in blocks(document) {
        let words: Vec<&str> = info.split(' ').collect();
        match words[..] {
            ["toml"] => meters.push_str(&text),
            ["toml", "calendar"] => {
                recipe = Recipe {
                    calendar: Some(text),
                    versions: Vec::new(),
                };
            }
            ["toml", "price"] => recipe.versions = vec![("2026-01-01".to_owned(), text)],
            ["toml", "price", "from", date] => recipe.versions.push((date.to_owned(), text)),
            ["toml", "price", "only", "from", date] => {
                recipe.versions = vec![(date.to_owned(), text)];
            }
            ["rated", zone, month] => {
                for example in text.lines() {
                    let (used, line) = example.split_once("=>").expect("an arrow");
                    examples += 1;
                    assert_eq!(rate(&meters, &recipe, zone, month, used), line.trim());
                }
            }
            _ => panic!("block `{info}` is not known"),
        }
    }
    assert!(examples > 3, "the document is a cookbook");
}

fn rate(meters: &str, recipe: &Recipe, zone: &str, month: &str, used: &str) -> String {
    let versions: Vec<Version<'_>> = recipe
        .versions
        .iter()
        .map(|(from, prices)| Version {
            from,
            card: "recipe",
            prices,
        })
        .collect();
    // The rig rates its first meter, so only that of the price is there.
    let (_, behind) = recipe.versions[0]
        .1
        .split_once("meter = \"")
        .expect("a meter");
    let (name, _) = behind.split_once('"').expect("its name");
    let meter = meters
        .split("[[meter]]")
        .find(|meter| meter.contains(&format!("name = \"{name}\"")))
        .expect("declared");
    let calendars: Vec<&str> = recipe.calendar.iter().map(String::as_str).collect();
    let rig = Rig::new(
        &format!("[[meter]]{meter}"),
        &calendars,
        &versions,
        zone,
        month,
    );
    rig.texts(&usage(used)).join(" | ")
}
