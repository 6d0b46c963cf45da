//! One payer for several tenants, from the journal to a ledger that is verified.

mod shares;
mod terms;
pub(super) mod world;

use rust_decimal::Decimal;
use tollgate_common::Timestamp;

use self::world::{CARD, NAMES, PARTITIONS, World, files, paid, tenant};
use crate::explain::Sources;
use crate::fold::intake::test_support::row;
use crate::fold::partition_of;
use crate::ledger::EntryKind;

#[test]
fn the_tenants_of_these_tests_are_apart() {
    let partitions = NAMES.map(|name| partition_of(&tenant(name), PARTITIONS));
    let distinct: std::collections::BTreeSet<u16> = partitions.into_iter().collect();
    assert_eq!(distinct.len(), NAMES.len(), "{partitions:?}");
}

/// Tiers are pooled: 150 are 10 for 10 each of the first hundred, and 5 for the other fifty.
#[test]
fn usage_of_all_is_rated_as_one_and_shared_back() {
    let mut world = paid();
    world.rows(&[("acme", 10, 30), ("shop", 20, 90), ("depot", 30, 30)]);
    assert_eq!(
        world.close(3600),
        [
            "acme charge platform 0 3.00",
            "acme charge requests 150 12.50",
            "depot share requests 30 2.50",
            "shop share requests 90 7.50",
        ]
    );
    let entries = &world.tables.ledger;
    let share = &entries[entries.len() - 1].posting;
    assert_eq!(share.payer, Some(tenant("acme")));
    assert!(
        share.legs.is_empty() && share.date.is_none(),
        "the payer owes it"
    );
    assert_eq!(
        share.arithmetic,
        "90 of 150 that are rated together: 7.50 of 12.50 EUR"
    );
    assert_eq!(share.refers_to, Some(entries[entries.len() - 3].at));
    world.verify();
}

/// Usage that two prices price is accepted once: one of them carries it, whichever that is in force.
#[test]
fn usage_that_two_prices_price_is_proven_once() {
    let with = |prices: &[&str]| {
        let mut files = files("", &[("shop", "payer = \"acme\"")]);
        let card = files.get_mut("cards/edge.toml").expect("there");
        let (head, rest) = card.split_once("[[price]]").expect("prices");
        let (_, fee) = rest.split_once("[[price]]").expect("a fee");
        *card = format!("{head}{}\n[[price]]{fee}", prices.concat());
        files
    };
    let energy = "[[price]]\nid = \"energy\"\nmeter = \"http.requests\"\nmodel = \"per_unit\"\n\
        per = \"10 {request}\"\nunit = \"1.00\"\n";
    let power = energy.replace("energy", "power").replace("1.00", "0.10");
    let mut world = World::new(with(&[energy, &power]));
    world.rows(&[("acme", 10, 30), ("shop", 20, 90)]);
    // The price that carried it is gone from 1800 on, and the other one goes on.
    world.now = Timestamp::from_secs(1000);
    world.catalog(with(&[&power]));
    world.rows(&[("acme", 1800, 40), ("shop", 1800, 40)]);
    assert_eq!(
        world.close(3600),
        [
            "acme charge energy 120 12.00",
            "acme charge platform 0 3.00",
            "acme charge power 80 2.00",
            "shop share energy 90 9.00",
            "shop share power 40 1.30",
        ]
    );
    world.verify();
    world.rows(&[("shop", 30, 10), ("acme", 1900, 5)]);
    assert_eq!(
        world.close(3601),
        [
            "acme reversal energy -120 -12.00",
            "acme charge energy 130 13.00",
            "acme reversal power -80 -2.00",
            "acme charge power 85 2.15",
            "shop share energy 10 1.00",
            "shop share power 0 0.10",
        ]
    );
    world.verify();
}

#[test]
fn late_usage_of_a_child_corrects_the_payers_period() {
    for (late, expected) in [
        (
            "correct",
            [
                "acme reversal requests -120 -11.00",
                "acme charge requests 150 12.50",
            ],
        ),
        ("next", ["acme adjustment requests 30 1.50", ""]),
    ] {
        let agreed = format!("late = \"{late}\"");
        let mut world = World::new(files(&agreed, &[("shop", "payer = \"acme\"")]));
        world.rows(&[("acme", 10, 30), ("shop", 20, 90)]);
        world.close(3600);
        world.rows(&[("shop", 40, 30)]);
        let mut booked = world.close(3601);
        assert_eq!(booked.pop().as_deref(), Some("shop share requests 30 1.75"));
        let expected = expected.into_iter().filter(|line| !line.is_empty());
        assert_eq!(booked, expected.collect::<Vec<_>>());
        world.verify();
    }
}

#[test]
fn tax_is_shared_and_what_has_no_price_stays_its_tenants() {
    let mut world = World::new(files("tax = \"de\"", &[("shop", "payer = \"acme\"")]));
    world.batch(vec![
        row("acme", "http.requests", "eu", 1, 50),
        row("shop", "http.requests", "eu", 1, 50),
        row("shop", "free", "eu", 1, 7),
        row("shop", "unheard", "eu", 1, 8),
    ]);
    assert_eq!(
        world.close(3600),
        [
            "acme charge de 0 2.47",
            "acme charge platform 0 3.00",
            "acme charge requests 100 10.00",
            "shop share requests 50 5.00",
            "shop share tax 0 0.95",
            "shop unrated undeclared_meter 8 -",
            "shop unrated no_price 7 -",
        ]
    );
    world.verify();
}

/// Before somebody pays for it, a tenant pays for itself, fees for that part of the period included.
#[test]
fn a_tenant_counts_from_joining() {
    let alone = files("", &[("shop", "")]);
    let mut world = World::new(alone.clone());
    world.rows(&[("shop", 10, 40)]);
    // Stamped within a quarter of an hour, in force from the next one on.
    world.now = Timestamp::from_secs(1000);
    world.catalog(files("", &[("shop", "payer = \"acme\"")]));
    world.rows(&[("shop", 1790, 10), ("shop", 1800, 60), ("acme", 1800, 60)]);
    assert_eq!(
        world.close(3600),
        [
            "shop charge platform 0 1.50",
            "shop charge requests 50 5.00",
            "acme charge platform 0 3.00",
            "acme charge requests 120 11.00",
            "shop share requests 60 5.50",
        ]
    );
    // It leaves again, in the same way; its fees begin with a period of its own.
    world.catalog(alone);
    world.rows(&[("shop", 3600, 20), ("shop", 1800, 10)]);
    assert_eq!(
        world.close(7200),
        [
            "shop charge platform 0 3.00",
            "shop charge requests 20 2.00",
            "acme reversal requests -120 -11.00",
            "acme charge requests 130 11.50",
            "shop share requests 10 0.69",
            "acme charge platform 0 3.00",
        ]
    );
    world.verify();
}

#[test]
fn a_day_to_join_is_of_the_payers_clocks() {
    let theirs = "payer = { tenant = \"acme\", from = \"1970-01-02\" }";
    let mut files = files("", &[("shop", theirs)]);
    let payer = files.get_mut("profiles/acme.toml").expect("there");
    *payer = payer.replace("UTC", "America/New_York");
    let mut world = World::new(files);
    let joined = 86_400 + 5 * 3600;
    world.now = Timestamp::from_secs(joined);
    world.rows(&[("shop", joined - 10, 40), ("shop", joined, 60)]);
    let booked = world.close(joined + 3600);
    let of = |what: &str| booked.iter().filter(|line| line.contains(what)).count();
    assert_eq!(of("shop charge requests 40 4.00"), 1, "{booked:?}");
    assert_eq!(of("shop share requests 60 6.00"), 1, "{booked:?}");
    world.verify();
}

#[test]
fn a_key_is_free_again_if_what_had_it_was_refused_whatever_the_books_say() {
    let mut world = paid();
    world.rows(&[("acme", 10, 30), ("shop", 20, 90)]);
    world.close(3600);
    // Of a time that has not come.
    world.correct("shop", "ticket-1", 7200, -60);
    world.correct("shop", "ticket-1", 20, -60);
    let booked = world.close(3601);
    assert!(
        booked.contains(&"shop share requests -60 -5.25".to_owned()),
        "{booked:?}"
    );
    world.verify();
}

#[test]
fn corrections_of_a_child_reach_its_payer_once() {
    let mut world = paid();
    world.rows(&[("acme", 10, 30), ("shop", 20, 90)]);
    world.close(3600);
    world.correct("shop", "ticket-1", 20, -60);
    world.correct("shop", "ticket-1", 20, -60);
    assert_eq!(
        world.close(3601),
        [
            "acme reversal requests -120 -11.00",
            "acme charge requests 60 6.00",
            "shop share requests -60 -5.25",
        ]
    );
    // More is taken away than it had: the sum is what cannot be below zero.
    world.correct("shop", "ticket-2", 20, -80);
    assert_eq!(
        world.close(3602),
        [
            "acme reversal requests -60 -6.00",
            "acme unrated below_zero -20 -",
            "shop share requests -80 -3.00",
        ]
    );
    world.verify();
}

#[test]
fn a_change_of_cards_shares_each_line_by_its_own_usage() {
    let theirs = [("shop", "payer = \"acme\"")];
    let mut world = World::new(files("", &theirs));
    world.rows(&[("acme", 10, 20), ("shop", 20, 80)]);
    world.now = Timestamp::from_secs(900);
    let mut other = files("", &theirs);
    let card = CARD
        .replace("\"edge\"", "\"core\"")
        .replace("\"1.00\"", "\"2.00\"");
    other.insert("cards/core.toml".to_owned(), card);
    let payer = other.get_mut("profiles/acme.toml").expect("there");
    *payer = payer.replace("\"edge\"", "\"core\"");
    world.catalog(other);
    world.rows(&[("acme", 900, 30), ("shop", 910, 10)]);
    let booked = world.close(3600);
    let of = |what: &str| booked.iter().filter(|line| line.contains(what)).count();
    assert_eq!(of("shop share requests 80 8.00"), 1, "{booked:?}");
    assert_eq!(of("shop share requests 10 2.00"), 1, "{booked:?}");
    world.verify();
}

#[test]
fn accruals_show_what_others_pay() {
    let mut world = paid();
    world.rows(&[("acme", 10, 30), ("shop", 20, 90)]);
    let at = |name: &str| usize::from(partition_of(&tenant(name), PARTITIONS));
    let payers = world.fold.tenants()[at("acme")].accruals(Some(&tenant("shop")));
    let [accrual] = &payers[..] else {
        panic!("one period: {payers:?}");
    };
    assert_eq!(accrual.payer, Some(tenant("acme")));
    let lines = accrual.lines.iter().map(|line| (line.kind, line.amount));
    let expected = (EntryKind::Share, Some(Decimal::new(825, 2)));
    assert_eq!(lines.collect::<Vec<_>>(), [expected]);
    let own = world.fold.tenants()[at("shop")].accruals(Some(&tenant("shop")));
    assert!(own.is_empty(), "it has no period of its own: {own:?}");
}

#[test]
fn a_pooled_line_leads_to_the_usage_of_all_that_share_it() {
    let unpaid = files("", &[("shop", ""), ("depot", "payer = \"acme\"")]);
    let paid = files(
        "",
        &[("shop", "payer = \"acme\""), ("depot", "payer = \"acme\"")],
    );
    let mut world = World::new(unpaid);
    world.rows(&[("acme", 10, 30), ("shop", 20, 7), ("depot", 30, 20)]);
    // In force from 00:15 on.
    world.now = Timestamp::from_secs(600);
    world.catalog(paid);
    world.rows(&[("shop", 1800, 90), ("acme", 3600, 1)]);
    world.correct("shop", "k", 1900, 10);
    world.close(2 * 3600 - 1);
    let ledger = &world.tables.ledger;
    let explained = |tenant: &str, kind: EntryKind| {
        let of = |entry: &&crate::ledger::LedgerEntry| {
            let posting = &entry.posting;
            (posting.kind, posting.line.as_str()) == (kind, "requests")
                && posting
                    .tenant
                    .as_ref()
                    .is_some_and(|own| own.as_str() == tenant)
        };
        let posting = &ledger.iter().find(of).expect("booked").posting;
        let mut sources = Sources::of(posting).expect("of a meter");
        for entry in ledger {
            sources.add_share(&entry.posting);
        }
        let found = sources.find(&world.journal).expect("reads");
        let batches = found
            .batches
            .iter()
            .map(|part| (part.tenant.to_string(), &part.quantity));
        let corrected = found
            .corrections
            .iter()
            .map(|part| (part.key.clone(), &part.quantity));
        let shown = |(name, quantity): (String, &Option<String>)| {
            format!("{name} {}", quantity.as_deref().unwrap_or("-"))
        };
        batches.chain(corrected).map(shown).collect::<Vec<_>>()
    };
    let all = ["acme 30", "depot 20", "shop 90", "k 10"];
    assert_eq!(explained("acme", EntryKind::Charge), all);
    // What came before it joined is a line of its own.
    assert_eq!(explained("shop", EntryKind::Share), ["shop 90", "k 10"]);
    assert_eq!(explained("shop", EntryKind::Charge), ["shop 7"]);
}
