mod around;
mod contracted;
mod each;
mod kept;
mod mistakes;
mod models;
mod said;
mod templates;
mod versions;

use proptest::prelude::*;

use super::*;
use crate::period::{Calendar, Every};

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "net.bytes"
unit = "By"
scale = 0
aggregation = "sum"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "2026-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "graduated"
per = "1000 {request}"
tiers = [
  { to = "2000000", unit = "0.40" },
  { unit = "0.25" },
]

[[price]]
id = "traffic"
meter = "net.bytes"
model = "per_unit"
per = "1 GB"
unit = "0.08"
"#;

const PROFILE: &str = r#"
tenant = "acme"
card = "edge"
zone = "Europe/Berlin"
period = { every = "P1M", anchor = "2026-01-01" }
"#;

fn files(meters: &str, card: &str, profile: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("meters.toml".to_owned(), meters.to_owned()),
        ("cards/edge.toml".to_owned(), card.to_owned()),
        ("profiles/acme.toml".to_owned(), profile.to_owned()),
    ])
}

/// The catalog of these tests, without a mistake.
pub(super) fn sound_files() -> BTreeMap<String, String> {
    files(METERS, CARD, PROFILE)
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("valid")
}

/// The only mistake of a catalog in which `from` is replaced by `to`, as it is shown.
fn mistake(from: &str, to: &str) -> String {
    let change = |text: &str| text.replacen(from, to, 1);
    assert!(
        [METERS, CARD, PROFILE]
            .iter()
            .any(|text| text.contains(from)),
        "{from}"
    );
    let errors = Catalog::parse(&files(&change(METERS), &change(CARD), &change(PROFILE)))
        .expect_err("a mistake");
    assert_eq!(errors.errors().len(), 1, "{errors}");
    errors.errors()[0].to_string()
}

#[test]
fn a_sound_catalog_is_read_whole() {
    let catalog = Catalog::parse(&files(METERS, CARD, PROFILE)).expect("sound");
    assert_eq!(catalog.meters().len(), 2);
    let profile = catalog.profile(&tenant("acme")).expect("has one");
    assert_eq!(profile.card, "edge");
    let berlin: Zone = "Europe/Berlin".parse().expect("known");
    assert_eq!(
        profile.calendar,
        Calendar {
            zone: berlin,
            every: Every::MONTH,
            anchor: "2026-01-01".parse().ok(),
        }
    );
    assert_eq!(catalog.profile(&tenant("other")), None);
    let card = catalog.cards().next().expect("one card");
    assert_eq!((card.prices.len(), card.currency.code()), (2, "EUR"));
}

#[test]
fn the_packaged_example_is_sound() {
    let files = BTreeMap::from([
        (
            "meters.toml",
            include_str!("../../../../packaging/catalog/meters.toml"),
        ),
        (
            "cards/edge.toml",
            include_str!("../../../../packaging/catalog/cards/edge.toml"),
        ),
        (
            "profiles/acme.toml",
            include_str!("../../../../packaging/catalog/profiles/acme.toml"),
        ),
        (
            "profiles/default.toml",
            include_str!("../../../../packaging/catalog/profiles/default.toml"),
        ),
    ]);
    let files = files
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .collect();
    let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let priced = catalog.cards().flat_map(|card| &card.prices).count();
    assert_eq!(
        (catalog.meters().len(), priced, catalog.profiles().count()),
        (5, 5, 2)
    );
}

#[test]
fn the_default_profile_serves_everybody_else() {
    let mut files = files(METERS, CARD, PROFILE);
    let default = "tenant = \"*\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"PT15S\" }";
    files.insert("profiles/default.toml".to_owned(), default.to_owned());
    let catalog = Catalog::parse(&files).expect("sound");
    let profile = catalog.profile(&tenant("other")).expect("the default");
    assert_eq!(profile.calendar.every, Every::Seconds(15));
    assert_eq!(
        catalog.profile(&tenant("acme")).map(|p| p.calendar.every),
        Some(Every::MONTH)
    );
}

#[test]
fn the_card_in_force_is_the_newest_that_began() {
    let mut files = files(METERS, CARD, PROFILE);
    let newer = CARD
        .replace("2026-01-01", "2026-07-01")
        .replace("0.08", "0.09");
    files.insert("cards/edge-2.toml".to_owned(), newer);
    let catalog = Catalog::parse(&files).expect("sound");
    let berlin: Zone = "Europe/Berlin".parse().expect("known");
    let from = |date: &str| {
        let start = berlin.start_of_day(read_date(date).expect("a date"));
        catalog
            .card_in_force("edge", berlin, start)
            .map(|card| card.from.to_string())
    };
    assert_eq!(from("2025-12-31"), None);
    assert_eq!(from("2026-06-30").as_deref(), Some("2026-01-01"));
    assert_eq!(from("2026-07-01").as_deref(), Some("2026-07-01"));
    assert_eq!(catalog.card_in_force("none", berlin, Timestamp::MAX), None);
}

#[test]
fn tests_stand_beside_whatever_they_test() {
    let mut files = sound_files();
    let folders = ["calendars", "tax", "rates", "cards", "templates", "tests"];
    for folder in folders {
        files.insert(format!("{folder}/a.test.toml"), String::new());
    }
    files.insert("a.test.toml".to_owned(), String::new());
    let catalog = Catalog::parse(&files).expect("sound");
    assert_eq!(catalog.tests().count(), folders.len() + 1);
    assert!(catalog.run_tests().is_err(), "they expect nothing");
}

#[test]
fn the_digest_covers_paths_and_contents() {
    let base = files(METERS, CARD, PROFILE);
    let digest = |files: &BTreeMap<String, String>| Catalog::parse(files).expect("sound").digest();
    let mut renamed = base.clone();
    let text = renamed.remove("cards/edge.toml").expect("there");
    renamed.insert("cards/edges.toml".to_owned(), text);
    let commented = files(METERS, &format!("{CARD}# \n"), PROFILE);
    assert_ne!(digest(&base), digest(&renamed));
    assert_ne!(digest(&base), digest(&commented));
    assert_eq!(digest(&base), digest(&base.clone()));
    // Pinned: ledgers name this digest.
    assert_eq!(
        super::digest(&BTreeMap::new()).to_string(),
        blake3::hash(b"tollgate catalog v1\0\0\0\0\0\0\0\0\0").to_string()
    );
}

proptest! {
    #[test]
    fn mutated_catalogs_never_panic(at in 0usize..700, with in "\\PC{0,3}|[\"\\[\\]{}=.0-9\n]{0,4}", cut in 0usize..5) {
        for source in [METERS, CARD, PROFILE] {
            let mut text: Vec<char> = source.chars().collect();
            let at = at % text.len();
            let end = (at + cut).min(text.len());
            text.splice(at..end, with.chars());
            let text: String = text.into_iter().collect();
            for base in [files(&text, CARD, PROFILE), files(METERS, &text, PROFILE), files(METERS, CARD, &text)] {
                if let Err(errors) = Catalog::parse(&base) {
                    prop_assert!(!errors.errors().is_empty());
                }
            }
        }
    }
}
