//! Fees and minimums: due for every period, used or not.

use super::*;

const FEE: &str = r#"
[[price]]
id = "platform"
model = "flat"
flat = "25.00"
"#;

pub(super) fn with_fee(period: &str) -> BTreeMap<String, String> {
    let mut files = files(period);
    files.insert("cards/edge.toml".to_owned(), format!("{CARD}{FEE}"));
    files
}

/// A world of one partition whose catalog has a fee from `from` on.
pub(super) fn world(files: BTreeMap<String, String>, from: i64) -> World {
    let mut world = World {
        fold: TenantFold::new(0),
        now: at(from),
        next: 0,
        effects: Vec::new(),
    };
    world.apply(&TenantInput::Opened(Opened {
        lineage: tollgate_common::Lineage::from_bytes([0; 16]),
        partitions: 1,
        usage_window_secs: 60,
        settlement_millis: 0,
        future_tolerance_millis: 0,
    }));
    world.catalog(files);
    world
}

impl World {
    /// Time passes up to `secs`, and what is due is closed.
    pub(super) fn pass(&mut self, secs: i64) -> Vec<String> {
        self.now = at(secs);
        self.apply(&TenantInput::Clock);
        short(&self.close_due())
    }
}

#[test]
fn a_fee_is_due_without_usage_and_for_every_period_once() {
    let mut world = world(with_fee("PT1M"), 90);
    assert_eq!(world.pass(119), [] as [&str; 0]);
    assert_eq!(world.pass(120), ["charge platform 0 25.00"]);
    assert_eq!(world.pass(150), [] as [&str; 0], "it is booked already");
    let entries = ledger(&world.effects);
    let posting = &entries[0].posting;
    assert_eq!((posting.start, posting.end), (at(60), at(120)));
    assert_eq!(posting.meter, None);
    assert_eq!(posting.arithmetic, "25.00 flat = 25.00 EUR");
    // Time may jump over several periods.
    assert_eq!(world.pass(360), ["charge platform 0 25.00"; 4]);
    let starts: Vec<_> = ledger(&world.effects)
        .iter()
        .map(|entry| entry.posting.start)
        .collect();
    assert_eq!(starts, [60, 120, 180, 240, 300].map(at));
}

#[test]
fn a_fee_stands_beside_usage_and_late_usage_does_not_repeat_it() {
    let mut world = world(with_fee("PT1M"), 10);
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    assert_eq!(
        world.pass(61),
        ["charge platform 0 25.00", "charge req 90 9.00"]
    );
    world.rows("a", vec![row("acme", "requests", 10, 10)]);
    assert_eq!(
        world.pass(62),
        ["reversal req -90 -9.00", "charge req 100 10.00"]
    );
    // What is open shows the fee too.
    let accruals = world.fold.accruals(None);
    assert_eq!((accruals.len(), accruals[0].start), (1, at(60)));
    assert_eq!(accruals[0].lines[0].line, "platform");
    assert_eq!(accruals[0].lines[0].meter, None);
}

#[test]
fn minimums_and_first_fees_are_due_without_usage() {
    let mut files = files("PT1M");
    let card = CARD
        .replace(
            "model = \"per_unit\"",
            "model = \"per_unit\"\nminimum = \"5.00\"",
        )
        .replace(
            "model = \"graduated\"",
            "model = \"graduated\"\nfirst_flat = \"always\"",
        )
        .replace("{ to = \"100\", ", "{ flat = \"2.00\", to = \"100\", ");
    files.insert("cards/edge.toml".to_owned(), card);
    let mut world = world(files, 0);
    assert_eq!(world.pass(60), ["charge req 0 2.00", "charge seat 0 5.00"]);
    // Used, they are part of the line. Late usage below the minimum changes nothing but the
    // quantity.
    world.rows("a", vec![row("acme", "requests", 60, 10)]);
    world.watermark("a", 120);
    assert_eq!(
        world.pass(120),
        ["charge req 10 3.00", "charge seat 0 5.00"]
    );
    world.rows("a", vec![row("acme", "seats", 60, 0)]);
    assert_eq!(world.pass(121), [] as [&str; 0]);
}

#[test]
fn a_fee_that_only_contracted_tiers_have_is_due_without_usage() {
    let mut files = files("PT1M");
    let card = CARD.replace(
        "model = \"graduated\"",
        "model = \"graduated\"\nfirst_flat = \"always\"",
    );
    files.insert("cards/edge.toml".to_owned(), card);
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    profile.push_str(
        "\n[[contracted]]\nprice = \"req\"\n\
         tiers = [{ to = \"100\", unit = \"0.10\", flat = \"50.00\" }, { unit = \"0.05\" }]\n",
    );
    let mut world = world(files, 0);
    assert_eq!(world.pass(60), ["charge req 0 50.00"]);
}

const HALF_DAY: i64 = 43_200;
const DAY: i64 = 2 * HALF_DAY;

#[test]
fn minimums_over_several_lines_are_due_with_usage_and_without() {
    for of_profile in [false, true] {
        let mut files = files("PT12H");
        let place = if of_profile {
            "profiles/acme.toml"
        } else {
            "cards/edge.toml"
        };
        let text = files.get_mut(place).expect("it is there");
        text.push_str("\n[[minimum]]\nid = \"least\"\namount = \"15.00\"\n");
        let mut world = world(files, 0);
        assert_eq!(world.pass(HALF_DAY), ["charge least 0 15.00"]);
        world.rows("a", vec![row("acme", "requests", HALF_DAY, 90)]);
        world.watermark("a", 2 * HALF_DAY);
        assert_eq!(
            world.pass(2 * HALF_DAY),
            ["charge least 0 6.00", "charge req 90 9.00"]
        );
    }
}

#[test]
fn commitments_are_charged_without_usage() {
    let charged = [
        ("usage", ["", "charge term 0 6.00"]),
        ("advance", ["charge term 0 15.00", ""]),
        ("parts", ["charge term 0 7.50", "charge term 0 7.50"]),
    ];
    for (pay, days) in charged {
        let mut files = files("P1D");
        let text = files.get_mut("profiles/acme.toml").expect("it is there");
        text.push_str("\n[[commitment]]\nid = \"term\"\namount = \"15.00\"\nterm = \"P2D\"\n");
        text.push_str("from = \"1970-01-01\"\n");
        text.push_str(&format!("pay = \"{pay}\"\n"));
        let mut world = world(files, 0);
        // Of the first term only the first day is used.
        world.rows("a", vec![row("acme", "requests", 0, 90)]);
        world.watermark("a", DAY);
        for (expected_line, at) in days.iter().zip([DAY, 2 * DAY]) {
            let booked = world.pass(at);
            let found = booked
                .iter()
                .filter(|line| line.starts_with("charge term "));
            let found: Vec<&str> = found
                .map(String::as_str)
                .filter(|line| !line.contains(" -") && !line.ends_with(" 0.00"))
                .collect();
            let expected: Vec<&str> = [*expected_line]
                .into_iter()
                .filter(|expected_line| !expected_line.is_empty())
                .collect();
            assert_eq!(found, expected, "{pay}");
        }
        // Nothing of the second term is.
        let before = world.effects.len();
        world.pass(4 * DAY);
        let booked = ledger(&world.effects[before..]);
        let sum: Decimal = booked.iter().filter_map(|entry| entry.posting.amount).sum();
        assert_eq!(sum, Decimal::from(15), "{pay}");
    }
}

#[test]
fn tenants_of_the_default_profile_owe_from_their_first_usage_on() {
    let mut files = with_fee("PT1M");
    let profile = "tenant = \"*\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"PT1M\" }";
    files.insert("profiles/acme.toml".to_owned(), profile.to_owned());
    let mut world = world(files, 0);
    assert_eq!(world.pass(200), [] as [&str; 0], "there is nobody");
    world.rows("a", vec![row("globex", "free", 180, 1)]);
    assert_eq!(
        world.pass(310),
        [
            "charge platform 0 25.00",
            "unrated no_price 1 -",
            "charge platform 0 25.00"
        ]
    );
}

#[test]
fn a_catalog_that_comes_later_charges_nothing_before_it() {
    let mut world = world(files("PT1M"), 0);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.watermark("a", 60);
    assert_eq!(world.pass(60), ["charge req 10 1.00"]);
    world.now = at(1000);
    world.catalog(with_fee("PT1M"));
    // It takes effect at the next quarter of an hour.
    assert_eq!(world.pass(1800), [] as [&str; 0]);
    assert_eq!(world.pass(1860), ["charge platform 0 25.00"]);
    // Without a fee nothing is opened any more.
    world.catalog(files("PT1M"));
    assert_eq!(world.pass(2700), ["charge platform 0 25.00"; 14]);
    assert_eq!(world.pass(5000), [] as [&str; 0]);
}

#[test]
fn other_partitions_tenants_are_left_to_them() {
    let mut charged = Vec::new();
    for partition in 0..4 {
        let mut world = world(files("PT1M"), 0);
        world.fold = TenantFold::new(partition);
        world.apply(&TenantInput::Opened(Opened {
            lineage: tollgate_common::Lineage::from_bytes([0; 16]),
            partitions: 4,
            usage_window_secs: 60,
            settlement_millis: 0,
            future_tolerance_millis: 0,
        }));
        world.catalog(with_fee("PT1M"));
        charged.extend(world.pass(60));
    }
    assert_eq!(charged, ["charge platform 0 25.00"]);
}

/// A snapshot at any point goes on as if nothing had happened, and a long pause is worked off in
/// bounded steps.
#[test]
fn pauses_and_snapshots_lose_nothing() {
    let mut whole = world(with_fee("PT1S"), 0);
    let mut parts = world(with_fee("PT1S"), 0);
    for secs in [0, 1, 3, 3000, 3000, 3000, 3001, 3100] {
        whole.now = at(secs);
        parts.now = at(secs);
        parts.fold = TenantFold::from_bytes(&parts.fold.to_bytes()).expect("a snapshot");
        let opened = whole.apply(&TenantInput::Clock);
        assert!(opened.len() <= 1024);
        assert_eq!(opened, parts.apply(&TenantInput::Clock));
    }
    assert_eq!(whole.fold.to_bytes(), parts.fold.to_bytes());
    assert_eq!(whole.fold.accruals(None).len(), 3101);
}

/// What began before a catalog came is due by the one before, however much of it there is.
#[test]
fn a_catalog_after_a_long_pause_loses_no_fee() {
    let mut world = world(with_fee("PT1S"), 0);
    let mut other = with_fee("PT1S");
    let card = other.get_mut("cards/edge.toml").expect("there");
    *card = card.replace("25.00", "26.00");
    world.now = at(3000);
    world.catalog(other);
    world.apply(&TenantInput::Clock);
    assert_eq!(world.fold.accruals(None).len(), 3001);
}

#[test]
fn what_was_over_when_the_fee_came_owes_none() {
    let mut world = world(files("PT1M"), 0);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    // It is over and not closed yet.
    world.now = at(130);
    world.catalog(with_fee("PT1M"));
    assert_eq!(world.close_due().len(), 1);
    let entries = ledger(&world.effects);
    assert_eq!(short(&entries), ["charge req 10 1.00"]);
    // Usage of a period that nobody knew makes it owe nothing either, nor does later usage.
    world.rows("a", vec![row("acme", "requests", 60, 20)]);
    assert_eq!(world.pass(131), ["charge req 20 2.00"]);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    assert_eq!(
        world.pass(180),
        ["reversal req -10 -1.00", "charge req 20 2.00"]
    );
    assert_eq!(world.pass(960), ["charge platform 0 25.00"]);
}

/// A period that counts goes on to count when the catalog changes before it is closed.
#[test]
fn another_catalog_takes_no_fee_away() {
    let mut world = world(with_fee("PT1M"), 0);
    world.now = at(70);
    let mut other = with_fee("PT1M");
    let card = other.get_mut("cards/edge.toml").expect("there");
    *card = card.replace("25.00", "26.00");
    world.catalog(other);
    assert_eq!(world.pass(120), ["charge platform 0 25.00"; 2]);
    assert_eq!(world.pass(900), ["charge platform 0 25.00"; 13]);
    assert_eq!(world.pass(960), ["charge platform 0 26.00"]);
}

fn with_default_profile() -> BTreeMap<String, String> {
    let mut files = with_fee("PT1M");
    let profile = "tenant = \"*\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"PT1M\" }";
    files.insert("profiles/acme.toml".to_owned(), profile.to_owned());
    files
}

#[test]
fn it_does_not_matter_which_usage_arrives_first() {
    let charged = [
        "charge platform 0 25.00",
        "charge req 10 1.00",
        "charge platform 0 25.00",
        "charge platform 0 25.00",
        "charge req 10 1.00",
    ];
    for starts in [[70, 190], [190, 70]] {
        let mut world = world(with_default_profile(), 0);
        world.now = at(200);
        for start in starts {
            world.rows("a", vec![row("globex", "requests", start, 10)]);
        }
        assert_eq!(world.pass(240), charged, "{starts:?}");
    }
    // No period counts that was over when the catalog came.
    let mut world = world(with_default_profile(), 130);
    world.now = at(200);
    world.rows("a", vec![row("globex", "requests", 70, 10)]);
    assert_eq!(
        world.pass(240),
        [
            "charge req 10 1.00",
            "charge platform 0 25.00",
            "charge platform 0 25.00"
        ]
    );
}

/// An operator closed a period that nothing was known of; earlier usage shows that it counts.
#[test]
fn a_closed_period_that_counts_after_all_is_settled() {
    let mut world = world(with_default_profile(), 0);
    world.now = at(200);
    world.rows("a", vec![row("globex", "requests", 190, 10)]);
    let cause = CloseCause::Settled;
    let closing = world
        .fold
        .close_by_hand(world.now, &tenant("globex"), at(120), cause);
    assert_eq!(short(&world.close(closing.expect("is over"))), [""; 0]);
    world.rows("a", vec![row("globex", "requests", 70, 10)]);
    assert_eq!(
        world.pass(201),
        [
            "charge platform 0 25.00",
            "charge req 10 1.00",
            "charge platform 0 25.00"
        ]
    );
}

#[test]
fn a_closing_that_comes_before_all_else_charges_the_fee() {
    let mut world = world(with_fee("PT1M"), 0);
    // Usage ahead of the stamp opens its period, which has not begun.
    world.rows("a", vec![row("acme", "requests", 60, 10)]);
    world.now = at(120);
    let ahead = world.fold.poll_closable(world.now).pop().expect("two");
    assert_eq!(
        short(&world.close(ahead)),
        ["charge platform 0 25.00", "charge req 10 1.00"]
    );
}

/// Two such shares have a denominator beyond 127 bits.
const THIRDS: &str = r#"
[[discount]]
id = "one"
percent = "33.3333333333333333333333"

[[discount]]
id = "two"
percent = "33.3333333333333333333333"
"#;

#[test]
fn what_is_due_and_cannot_be_computed_is_booked_as_unrated_once() {
    let mut files = with_fee("PT1M");
    let card = files.get_mut("cards/edge.toml").expect("there");
    *card = card
        .replace(
            "model = \"graduated\"",
            "model = \"graduated\"\nfirst_flat = \"always\"",
        )
        .replace("{ to = \"100\", ", "{ flat = \"2.00\", to = \"100\", ");
    card.push_str(&FEE.replace("platform", "support"));
    card.push_str(THIRDS);
    let mut world = world(files, 0);
    assert_eq!(world.pass(60), ["unrated amount_too_large 0 -"; 2]);
    let entries = ledger(&world.effects);
    let said = entries.iter().map(|entry| {
        let posting = &entry.posting;
        (
            posting.meter.as_ref().map(MeterName::as_str),
            &*posting.arithmetic,
        )
    });
    let too_large = "the amount is too large to be computed exactly";
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            (None, &*format!("price `platform` `support`: {too_large}")),
            (Some("requests"), too_large)
        ]
    );
    world.rows("a", vec![row("acme", "free", 0, 1)]);
    assert_eq!(world.pass(61), ["unrated no_price 1 -"], "it is booked");
}

fn in_zone(zone: &str, every: &str) -> BTreeMap<String, String> {
    let mut files = with_fee(every);
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    *profile = profile.replace("zone = \"UTC\"", &format!("zone = \"{zone}\""));
    files
}

/// 2026-06-15T00:00Z, 2026-07-01T00:00Z and 2026-08-02T00:00Z.
pub(super) const JUNE_15: i64 = 1_781_481_600;
pub(super) const JULY: i64 = 1_782_864_000;
const AUGUST_2: i64 = 1_785_628_800;

#[test]
fn another_zone_charges_no_month_twice() {
    for (before, after) in [
        ("Europe/Berlin", "UTC"),
        ("UTC", "Europe/Berlin"),
        ("UTC", "America/New_York"),
        ("Pacific/Auckland", "Pacific/Honolulu"),
    ] {
        let mut world = world(in_zone(before, "P1M"), JUNE_15);
        world.catalog(in_zone(after, "P1M"));
        // June and July.
        let fees = ["charge platform 0 25.00"; 2];
        assert_eq!(world.pass(AUGUST_2), fees, "{before} to {after}");
    }
}

#[test]
fn what_a_change_of_zone_leaves_of_a_month_is_billed_with_the_next() {
    let mut world = world(in_zone("Europe/Berlin", "P1M"), JUNE_15);
    world.catalog(in_zone("UTC", "P1M"));
    world.now = at(JULY - 1800);
    world.rows("a", vec![row("acme", "requests", JULY - 3600, 10)]);
    assert_eq!(world.pass(JULY), ["charge platform 0 25.00"]);
    world.rows("a", vec![row("acme", "requests", JULY + 3600, 90)]);
    assert_eq!(
        world.pass(AUGUST_2),
        ["charge platform 0 25.00", "charge req 100 10.00"]
    );
    let entries = ledger(&world.effects);
    let posting = &entries[2].posting;
    assert_eq!(posting.start, at(JULY - 7200), "Berlin's June ended there");
}

/// The card with a fee and a minimum that are prorated like this.
fn prorated(every: &str, prorate: &str) -> BTreeMap<String, String> {
    let mut files = in_zone("UTC", every);
    let card = files.get_mut("cards/edge.toml").expect("there");
    let minimum = "[[minimum]]\nid = \"least\"\nfees = false\namount = \"10.00\"\n";
    card.push_str(&format!(
        "prorate = \"{prorate}\"\n{minimum}prorate = \"{prorate}\"\n"
    ));
    files
}

/// What a new calendar leaves of its first period is charged a share of its fee and its minimum; what
/// is not prorated is due if it is at least half of one.
#[test]
fn a_part_of_a_period_owes_its_part() {
    // The second half of 2026 is 184 of 365 days; what is left of a quarter after May, 30 of 91.
    for (every, prorate, from, to, charged) in [
        ("P1Y", "duration", JULY, 1_798_761_600, ["12.60", "4.04"]),
        ("P1Y", "none", JULY, 1_798_761_600, ["25.00", "9.00"]),
        ("P3M", "days", 1_780_272_000, JULY, ["8.24", "2.30"]),
        ("P3M", "none", 1_780_272_000, JULY, ["", ""]),
    ] {
        let mut world = world(prorated("P1M", prorate), from - 86_400);
        world.catalog(prorated(every, prorate));
        world.now = at(from);
        world.rows("a", vec![row("acme", "requests", from, 10)]);
        world.pass(from);
        let [fee, least] = charged;
        let expected = [
            format!("charge least 0 {least}"),
            format!("charge platform 0 {fee}"),
            "charge req 10 1.00".to_owned(),
        ];
        let expected = expected.into_iter().filter(|line| !line.ends_with("0 "));
        assert_eq!(
            world.pass(to),
            expected.collect::<Vec<_>>(),
            "{every} {prorate}"
        );
    }
}

/// Who joins within a period owes for the rest of it, and who leaves for what was before.
#[test]
fn fees_are_due_from_joining_to_leaving() {
    let mut world = world(files("P1M"), JUNE_15);
    let mut joined = with_fee("P1M");
    let profile = "tenant = \"globex\"\ncard = \"edge\"\nzone = \"UTC\"\n";
    joined.insert("profiles/globex.toml".to_owned(), profile.to_owned());
    world.catalog(joined.clone());
    // 16 of 30 days.
    assert_eq!(world.pass(JULY), ["charge platform 0 13.33"; 2]);
    joined.insert(
        "profiles/globex.toml".to_owned(),
        format!("{profile}until = \"2026-07-25\"\n"),
    );
    world.catalog(joined);
    // 24 of 31 days.
    assert_eq!(
        world.pass(AUGUST_2),
        ["charge platform 0 25.00", "charge platform 0 19.35"]
    );
    assert_eq!(world.pass(1_788_307_200), ["charge platform 0 25.00"]);
}

/// A minimum over several lines and a commitment are due though nothing is used.
#[test]
fn what_stands_around_prices_is_due_without_usage() {
    for around in [
        "[[minimum]]\nid = \"least\"\namount = \"10.00\"\n",
        "[[commitment]]\nid = \"least\"\namount = \"10.00\"\nterm = \"P1M\"\n",
        "[[commitment]]\nid = \"least\"\namount = \"120.00\"\nterm = \"P1Y\"\npay = \"parts\"\nfrom = \"2026-06-01\"\n",
    ] {
        let mut of_card = files("P1M");
        of_card.insert("cards/edge.toml".to_owned(), format!("{CARD}{around}"));
        let mut of_profile = files("P1M");
        let profile = of_profile.get_mut("profiles/acme.toml").expect("there");
        profile.push_str(&format!("\n{around}"));
        for files in [of_card, of_profile] {
            let mut world = world(files, JUNE_15);
            assert_eq!(world.pass(JULY), ["charge least 0 10.00"], "{around}");
        }
    }
}
