use proptest::prelude::*;

use super::super::tests::{sound_files, tenant};
use super::*;
use crate::period::{Calendar, Every};

/// The instant of a text such as `2026-06-01T12:00:00Z`.
fn instant(text: &str) -> Timestamp {
    let parsed = chrono::DateTime::parse_from_rfc3339(text).expect("RFC 3339");
    Timestamp::from_millis(parsed.timestamp_millis())
}

/// The catalog of all tests, with another price of the requests.
fn catalog(price: &str) -> Arc<Catalog> {
    catalog_with(price, |_| {})
}

fn catalog_with(price: &str, change: impl FnOnce(&mut BTreeMap<String, String>)) -> Arc<Catalog> {
    let mut files = sound_files();
    if let Some(card) = files.get_mut("cards/edge.toml") {
        *card = card.replace("0.25", price);
    }
    change(&mut files);
    Arc::new(Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}")))
}

/// June in Berlin.
fn june() -> Period {
    let calendar = Calendar::new("Europe/Berlin".parse().expect("known"), Every::MONTH);
    calendar.period_containing(instant("2026-06-15T00:00:00Z"))
}

/// Start of each slice and the price of the last tier of the requests.
fn shown(slices: &[Slice]) -> Vec<(String, String)> {
    let price = |slice: &Slice| {
        let card = slice.card.as_ref()?;
        let tier = card.prices[0].model.tiers.last()?;
        tier.unit.map(|unit| unit.to_string())
    };
    slices
        .iter()
        .map(|slice| {
            (
                slice.from.to_string(),
                price(slice).unwrap_or_else(|| "none".to_owned()),
            )
        })
        .collect()
}

fn slices(timeline: &Timeline, name: &str) -> Vec<(String, String)> {
    shown(&timeline.slices(&tenant(name), june(), timeline.known()))
}

fn pair(from: &str, price: &str) -> (String, String) {
    (from.to_owned(), price.to_owned())
}

#[test]
fn versions_take_effect_at_the_next_quarter_of_an_hour() {
    for (stamp, from) in [
        ("2026-06-10T12:00:00Z", "2026-06-10T12:00:00Z"),
        ("2026-06-10T12:00:00.001Z", "2026-06-10T12:15:00Z"),
        ("2026-06-10T12:14:59.999Z", "2026-06-10T12:15:00Z"),
        ("2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(takes_effect(instant(stamp)), instant(from), "{stamp}");
    }
    assert_eq!(takes_effect(Timestamp::MAX), Timestamp::MAX);
}

#[test]
fn usage_is_rated_by_what_was_in_force_at_its_time() {
    let mut timeline = Timeline::new();
    timeline.apply(instant("2026-06-10T12:00:01Z"), catalog("0.25"), None);
    // The first version is in force since ever.
    assert_eq!(
        slices(&timeline, "acme"),
        [pair("2026-05-31T22:00:00.000Z", "0.25")]
    );
    timeline.apply(instant("2026-06-20T08:01:00Z"), catalog("0.30"), None);
    timeline.apply(instant("2026-06-25T08:16:00Z"), catalog("0.31"), None);
    timeline.apply(instant("2026-06-25T08:17:00Z"), catalog("0.32"), None);
    timeline.apply(instant("2026-08-01T00:00:00Z"), catalog("0.40"), None);
    assert_eq!(
        slices(&timeline, "acme"),
        [
            pair("2026-05-31T22:00:00.000Z", "0.25"),
            pair("2026-06-20T08:15:00.000Z", "0.30"),
            // The one before took effect at the same instant.
            pair("2026-06-25T08:30:00.000Z", "0.32"),
        ]
    );
    let at = |text| {
        shown(&[timeline.at(&tenant("acme"), instant(text))])[0]
            .1
            .clone()
    };
    assert_eq!(at("2026-06-20T08:14:59.999Z"), "0.25");
    assert_eq!(at("2026-06-20T08:15:00Z"), "0.30");
    assert_eq!(at("2027-01-01T00:00:00Z"), "0.40");
}

#[test]
fn a_version_can_concern_some_tenants_first_and_be_taken_back() {
    let both = |price: &str| {
        catalog_with(price, |files| {
            let other = files["profiles/acme.toml"].replace("acme", "globex");
            files.insert("profiles/globex.toml".to_owned(), other);
        })
    };
    let only = |name: &str| Some(BTreeSet::from([tenant(name)]));
    let mut timeline = Timeline::new();
    timeline.apply(instant("2026-01-01T00:00:00Z"), both("0.25"), None);
    timeline.apply(
        instant("2026-06-10T00:00:00Z"),
        both("0.30"),
        only("globex"),
    );
    assert_eq!(
        slices(&timeline, "acme"),
        [pair("2026-05-31T22:00:00.000Z", "0.25")]
    );
    let trial = [
        pair("2026-05-31T22:00:00.000Z", "0.25"),
        pair("2026-06-10T00:00:00.000Z", "0.30"),
    ];
    assert_eq!(slices(&timeline, "globex"), trial);
    assert_eq!(
        timeline.newest().map(Version::from),
        Some(instant("2026-01-01T00:00:00Z"))
    );
    assert_eq!(
        timeline.newest_for(&tenant("globex")).map(Version::from),
        Some(instant("2026-06-10T00:00:00Z"))
    );
    // Taken back by applying the former version; what it cost meanwhile stands.
    timeline.apply(
        instant("2026-06-12T00:00:00Z"),
        both("0.25"),
        only("globex"),
    );
    let mut back = trial.to_vec();
    back.push(pair("2026-06-12T00:00:00.000Z", "0.25"));
    assert_eq!(slices(&timeline, "globex"), back);
    assert_eq!((timeline.known(), timeline.catalogs.len()), (3, 2));
}

#[test]
fn cards_cut_at_midnight_in_the_tenants_zone() {
    let with_june = catalog_with("0.25", |files| {
        let newer = files["cards/edge.toml"]
            .replace("2026-01-01", "2026-06-16")
            .replace("0.25", "0.20");
        files.insert("cards/edge-june.toml".to_owned(), newer);
    });
    let mut timeline = Timeline::new();
    timeline.apply(Timestamp::EPOCH, with_june, None);
    assert_eq!(
        slices(&timeline, "acme"),
        [
            pair("2026-05-31T22:00:00.000Z", "0.25"),
            pair("2026-06-15T22:00:00.000Z", "0.20"),
        ]
    );
    let december = Period {
        start: instant("2025-12-15T00:00:00Z"),
        end: instant("2026-01-15T00:00:00Z"),
    };
    let before = timeline.slices(&tenant("acme"), december, 1);
    assert_eq!(
        shown(&before),
        [
            pair("2025-12-15T00:00:00.000Z", "none"),
            pair("2025-12-31T23:00:00.000Z", "0.25"),
        ]
    );
    assert!(before[0].profile.is_some());
}

#[test]
fn what_changes_nothing_for_a_tenant_does_not_cut() {
    let comment = catalog_with("0.25", |files| {
        if let Some(card) = files.get_mut("cards/edge.toml") {
            card.push_str("# reviewed\n");
        }
        let other = files["profiles/acme.toml"].replace("acme", "globex");
        files.insert("profiles/globex.toml".to_owned(), other);
    });
    let moved = catalog_with("0.25", |files| {
        if let Some(profile) = files.get_mut("profiles/acme.toml") {
            *profile = profile.replace("Europe/Berlin", "Europe/Paris");
        }
    });
    let mut timeline = Timeline::new();
    timeline.apply(Timestamp::EPOCH, catalog("0.25"), None);
    timeline.apply(instant("2026-06-10T00:00:00Z"), comment, None);
    let whole = timeline.slices(&tenant("acme"), june(), 2);
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].from, whole[0].to), (june().start, june().end));
    assert_eq!(timeline.slices(&tenant("globex"), june(), 2).len(), 2);
    timeline.apply(instant("2026-06-20T00:00:00Z"), moved, None);
    assert_eq!(timeline.slices(&tenant("acme"), june(), 3).len(), 2);
}

#[test]
fn a_closed_period_does_not_hear_of_later_versions() {
    let mut timeline = Timeline::new();
    let closed = timeline.known();
    timeline.apply(instant("2026-07-10T00:00:00Z"), catalog("0.25"), None);
    let none = timeline.slices(&tenant("acme"), june(), closed);
    assert_eq!(none.len(), 1);
    assert_eq!(
        (none[0].digest(), none[0].contains(june().start)),
        (None, true)
    );
    assert_eq!(
        timeline.slices(&tenant("acme"), june(), 1)[0].digest(),
        Some(catalog("0.25").digest())
    );
}

#[test]
fn nobody_has_no_profile_even_if_everybody_has() {
    let default = catalog_with("0.25", |files| {
        let profile = files["profiles/acme.toml"].replace("acme", "*");
        files.insert("profiles/default.toml".to_owned(), profile);
    });
    let mut timeline = Timeline::new();
    timeline.apply(Timestamp::EPOCH, default, None);
    assert!(
        timeline
            .at(&TenantId::unattributed(), june().start)
            .profile
            .is_none()
    );
    assert!(timeline.at(&tenant("anybody"), june().start).card.is_some());
}

#[test]
fn nobody_pays_before_the_first_version_takes_effect() {
    let mut timeline = Timeline::new();
    let paid = catalog_with("0.25", |files| {
        let profile = "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\n";
        files.insert("profiles/shop.toml".to_owned(), profile.to_owned());
    });
    timeline.apply(instant("2026-06-10T00:01:00Z"), paid, None);
    let shop = tenant("shop");
    assert_eq!(timeline.payer(&shop, instant("2026-06-10T00:14:59Z")), None);
    let from = instant("2026-06-10T00:15:00Z");
    assert_eq!(timeline.payer(&shop, from), Some(&tenant("acme")));
    let start = june().start.to_string();
    assert_eq!(
        slices(&timeline, "shop"),
        [pair(&start, "0.25"), pair(&from.to_string(), "none")]
    );
    let before = Period {
        start: june().start,
        end: from,
    };
    assert!(timeline.children(&tenant("acme"), before).is_empty());
    assert_eq!(timeline.children(&tenant("acme"), june()), [&shop]);
}

#[test]
fn a_timeline_survives_a_snapshot() {
    let mut timeline = Timeline::new();
    timeline.apply(instant("2026-06-01T00:00:00Z"), catalog("0.25"), None);
    let only = Some(BTreeSet::from([tenant("acme")]));
    timeline.apply(instant("2026-06-02T00:00:00Z"), catalog("0.30"), only);
    timeline.apply(instant("2026-06-03T00:00:00Z"), catalog("0.25"), None);
    let text = serde_json::to_string(&timeline).expect("is JSON");
    assert_eq!(
        serde_json::from_str::<Timeline>(&text).expect("reads"),
        timeline
    );
    let broken = text.replace("0.25", "0,25");
    assert!(serde_json::from_str::<Timeline>(&broken).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is applied when, slices fill the period, differ, begin at quarters of an hour or
    /// with the period, and do not change when versions come that are not known yet.
    #[test]
    fn slices_tile_every_period(
        steps in proptest::collection::vec((0i64..4_000_000, 0usize..4, any::<bool>()), 0..8),
        start in 0i64..40_000_000,
        length in 1i64..40_000_000,
    ) {
        let catalogs = ["0.25", "0.30", "0.40"].map(catalog);
        let empty = Arc::new(Catalog::parse(&BTreeMap::new()).expect("sound"));
        let mut timeline = Timeline::new();
        let mut stamp = 1_765_000_000;
        for (after, which, limited) in steps {
            stamp += after;
            let tenants = limited.then(|| BTreeSet::from([tenant("globex")]));
            let catalog = catalogs.get(which).unwrap_or(&empty);
            timeline.apply(Timestamp::from_secs(stamp), Arc::clone(catalog), tenants);
        }
        let start = Timestamp::from_secs(1_765_000_000 + start);
        let period = Period { start, end: start.plus_millis(length * 1000) };
        for known in 0..=timeline.known() {
            let slices = timeline.slices(&tenant("acme"), period, known);
            prop_assert_eq!(slices[0].from, period.start);
            prop_assert_eq!(slices[slices.len() - 1].to, period.end);
            for pair in slices.windows(2) {
                prop_assert_eq!(pair[0].to, pair[1].from);
                prop_assert!(!pair[0].is_like(&pair[1]));
                prop_assert_eq!(pair[1].from.secs() % EFFECT_SECS, 0);
            }
            for slice in &slices {
                prop_assert!(slice.from < slice.to);
            }
        }
    }
}
