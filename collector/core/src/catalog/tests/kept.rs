//! A catalog that is accepted is kept whole: nothing of it is left out without a mistake.

use super::*;

#[test]
fn a_card_without_discounts_may_say_so() {
    let newer = CARD
        .replace("2026-01-01", "2026-07-01")
        .replace("standard/1\"", "standard/1\"\ndiscount = []");
    let mut files = sound_files();
    files.insert("cards/edge-july.toml".to_owned(), newer);
    let catalog = Catalog::parse(&files).expect("sound");
    let versions: Vec<String> = catalog.cards().map(|card| card.from.to_string()).collect();
    assert_eq!(versions, ["2026-01-01", "2026-07-01"]);
    let mut prices = catalog.cards().flat_map(|card| &card.prices);
    assert!(prices.all(|price| price.discounts.is_empty()));
}

#[test]
fn what_is_no_array_of_discounts_is_refused() {
    for (discount, expected) in [
        (
            "5",
            "6:12: discount: found an integer, expected an array of tables",
        ),
        (
            "[5]",
            "6:13: discount[0]: found an integer, expected a table",
        ),
    ] {
        let wrong = format!("standard/1\"\ndiscount = {discount}");
        let shown = mistake("standard/1\"", &wrong);
        assert_eq!(shown, format!("cards/edge.toml:{expected}"));
    }
}

/// A defect in the reading of a card must not become a catalog without that card.
#[test]
fn what_is_left_out_without_a_mistake_is_a_mistake() {
    let mut places = Places::default();
    assert_eq!(places.unexplained().count(), 0);
    places.broken_cards.insert("edge".to_owned());
    let name = MeterName::new("net.bytes").expect("valid");
    places.broken_meters.insert(name);
    let shown: Vec<String> = places.unexplained().map(|e| e.to_string()).collect();
    assert_eq!(shown.len(), 2);
    assert!(
        shown[0].contains("meter `net.bytes` cannot be read"),
        "{shown:?}"
    );
    assert!(shown[1].contains("card `edge` cannot be read"), "{shown:?}");
}
