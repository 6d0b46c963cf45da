//! One payer for several tenants, from the journal to a ledger that is verified.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rust_decimal::Decimal;
use tollgate_common::{Rollup, TenantId, Timestamp};

use super::tests::{PARTITION, Tables};
use super::*;
use crate::closer::Closer;
use crate::entry::{
    CatalogChange, CorrectedRow, Correction, Digest, Entry, Opened, Operated, OperatedAction,
    ReceivedBatch, Verdicts,
};
use crate::explain::Sources;
use crate::fold::intake::test_support::{Sealer, row};
use crate::fold::partition_of;
use crate::journal::memory::MemoryJournal;
use crate::ledger::{EntryKind, Note};

const METERS: &str = r#"
[[meter]]
name = "http.requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "free"
unit = "1"
scale = 0
aggregation = "sum"
"#;

const CARD: &str = r#"
id = "edge"
currency = "EUR"
from = "1970-01-01"
order = "standard/1"

[[price]]
id = "requests"
meter = "http.requests"
model = "graduated"
per = "10 {request}"
tiers = [{ to = "100", unit = "1.00" }, { unit = "0.50" }]

[[price]]
id = "platform"
model = "flat"
flat = "3.00"
"#;

const TAX: &str = "[[tax]]\ncode = \"de\"\njurisdiction = \"DE\"\n\
    rates = [{ percent = \"19\", from = \"1970-01-01\" }]\n";

const PARTITIONS: u16 = 5;

/// The payer, and two tenants of other partitions than its own and each other's.
const NAMES: [&str; 3] = ["acme", "shop", "depot"];

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("valid")
}

/// Profiles of the payer, with `agreed` beside, and of the tenants with what is said of each.
fn files(agreed: &str, theirs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let profile = |name: &str, more: &str| {
        let text = format!(
            "tenant = \"{name}\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = {{ every = \"PT1H\" }}\n\
             {more}\n"
        );
        (format!("profiles/{name}.toml"), text)
    };
    let mut files = BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/edge.toml".to_owned(), CARD.to_owned()),
        ("tax/de.toml".to_owned(), TAX.to_owned()),
    ]);
    files.extend([profile("acme", agreed)]);
    files.extend(theirs.iter().map(|(name, more)| profile(name, more)));
    files
}

struct World {
    journal: MemoryJournal,
    tables: Tables,
    fold: Fold,
    closer: Closer,
    sealer: Sealer,
    now: Timestamp,
}

impl World {
    fn new(files: BTreeMap<String, String>) -> Self {
        let mut world = Self {
            journal: MemoryJournal::new(),
            tables: Tables::default(),
            fold: Fold::new(),
            closer: Closer::new(),
            sealer: Sealer::new(1),
            now: Timestamp::EPOCH,
        };
        world.take(Entry::Opened(Opened {
            lineage: tollgate_common::Lineage::from_bytes([1; 16]),
            partitions: PARTITIONS,
            usage_window_secs: 60,
            settlement_millis: 0,
            future_tolerance_millis: 0,
        }));
        world.catalog(files);
        world
    }

    fn take(&mut self, entry: Entry) {
        let now = self.now;
        self.tables
            .take(&mut self.journal, &mut self.fold, now, entry);
    }

    fn catalog(&mut self, files: BTreeMap<String, String>) {
        crate::catalog::Catalog::parse(&files).expect("sound");
        self.take(Entry::Catalog(CatalogChange::plain(Digest([0; 32]), files)));
    }

    /// Usage of tenants at seconds after 1970.
    fn rows(&mut self, rows: &[(&str, i64, i128)]) {
        let rows = rows.iter().enumerate().map(|(index, (tenant, at, value))| {
            let series = index.to_string();
            row(tenant, "http.requests", &series, at / 10, *value)
        });
        self.batch(rows.collect());
    }

    fn batch(&mut self, rows: Vec<Rollup>) {
        let batch = self.sealer.seal(rows, false);
        self.take(Entry::Batch(Arc::new(ReceivedBatch {
            batch,
            policy: Digest([0; 32]),
            verdicts: Verdicts::AllAllowed,
        })));
    }

    fn correct(&mut self, name: &str, key: &str, at: i64, quantity: i128) {
        let row = CorrectedRow {
            meter: tollgate_common::MeterName::new("http.requests").expect("valid"),
            dimensions: BTreeMap::new(),
            aggregation: tollgate_common::Aggregation::Sum,
            scale: Scale::ZERO,
            at: Timestamp::from_secs(at),
            quantity: Quantity::new(quantity),
            release: None,
        };
        self.take(Entry::Operated(Arc::new(Operated {
            action: OperatedAction::Correct(Correction {
                tenant: tenant(name),
                key: key.to_owned(),
                rows: vec![row],
            }),
            note: Note {
                author: "kim".to_owned(),
                approved_by: None,
                reason: "a proxy that counts twice".to_owned(),
            },
        })));
    }

    /// Time passes, and what is due by then is closed; what was booked meanwhile.
    fn close(&mut self, secs: i64) -> Vec<String> {
        let before = self.tables.ledger.len();
        self.now = Timestamp::from_secs(secs);
        for closing in self.closer.poll(self.now, self.fold.tenants()) {
            self.take(closing);
        }
        self.tables.ledger[before..].iter().map(short).collect()
    }

    fn verify(&self) {
        let report = verify(&self.journal, PARTITION, &self.tables).expect("reads");
        assert!(report.verified, "{report:#?}");
        // A restart from a snapshot at the end has come to the same.
        let bytes = self.fold.to_bytes();
        assert!(Fold::from_bytes(&bytes).expect("own bytes").to_bytes() == bytes);
    }
}

fn short(entry: &LedgerEntry) -> String {
    let posting = &entry.posting;
    let tenant = posting.tenant.as_ref().map_or("-", TenantId::as_str);
    let amount = posting
        .amount
        .map_or("-".to_owned(), |amount| amount.to_string());
    format!(
        "{tenant} {} {} {} {amount}",
        posting.kind, posting.line, posting.quantity
    )
}

fn paid() -> World {
    World::new(files(
        "",
        &[("shop", "payer = \"acme\""), ("depot", "payer = \"acme\"")],
    ))
}

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

/// What each of [`NAMES`] has of the requests' line, in cents: by hand, with the largest remainders
/// first, and among equal ones the payer, then by name.
fn parts_by_hand(quantities: [i128; 3]) -> [i128; 3] {
    let sum: i128 = quantities.iter().sum();
    let cents = 10 * sum.min(100) + 5 * (sum - 100).max(0);
    let mut parts = quantities.map(|quantity| cents * quantity / sum);
    let mut order = [0, 2, 1];
    order.sort_by_key(|who| std::cmp::Reverse(cents * quantities[*who] % sum));
    let left = cents - parts.iter().sum::<i128>();
    for (_, who) in (0..left).zip(order) {
        parts[who] += 1;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Verification adds up quantities and computes amounts by the code that made them; this is
    /// another way to the amounts, of what came in time, what came late and what was corrected.
    #[test]
    fn amounts_of_shares_are_those_worked_out_by_hand(
        counts in prop::array::uniform3(1_i128..200),
        late in (0_usize..3, 1_i128..200),
        corrected in (1_usize..3, 1_i128..200),
    ) {
        let mut world = paid();
        let mut quantities = counts;
        world.rows(&[("acme", 10, counts[0]), ("shop", 20, counts[1]), ("depot", 30, counts[2])]);
        world.close(3600);
        for step in 0..3 {
            match step {
                0 => {}
                1 => {
                    world.rows(&[(NAMES[late.0], 40, late.1)]);
                    quantities[late.0] += late.1;
                }
                _ => {
                    let less = corrected.1.min(quantities[corrected.0] - 1);
                    world.correct(NAMES[corrected.0], "t1", 20, -less);
                    quantities[corrected.0] -= less;
                }
            }
            world.close(3601 + step);
            let parts = parts_by_hand(quantities);
            let booked = |tenant: &str, is_share: bool| -> Decimal {
                let postings = world.tables.ledger.iter().map(|entry| &entry.posting);
                postings
                    .filter(|posting| posting.line == "requests")
                    .filter(|posting| posting.tenant.as_ref().is_some_and(|t| t.as_str() == tenant))
                    .filter(|posting| (posting.kind == EntryKind::Share) == is_share)
                    .filter_map(|posting| posting.amount)
                    .sum()
            };
            let cents = |cents: i128| Decimal::from_i128_with_scale(cents, 2);
            prop_assert_eq!(booked("acme", false), cents(parts.iter().sum()));
            prop_assert_eq!(booked("shop", true), cents(parts[1]), "{:?}", quantities);
            prop_assert_eq!(booked("depot", true), cents(parts[2]), "{:?}", quantities);
        }
        world.verify();
    }

    /// Whoever joins, leaves and is late: every unit is somebody's, the quantities of the children's
    /// shares and what is left to the payer sum to its lines, and a replay says the same.
    #[test]
    fn everything_is_billed_once(
        steps in prop::collection::vec((0_u8..6, 0_usize..3, 0_i64..20_000, 1_i128..500), 1..24),
    ) {
        let mut world = World::new(files("", &[("shop", ""), ("depot", "payer = \"acme\"")]));
        for (index, (what, who, at, quantity)) in steps.into_iter().enumerate() {
            let now = world.now.secs() + at / 8;
            world.close(now);
            let past = Ord::max(now - at, 0) / 10 * 10;
            match what {
                0 => world.catalog(files("", &[("shop", "payer = \"acme\""), ("depot", "")])),
                1 => world.catalog(files("late = \"next\"", &[("depot", "payer = \"acme\"")])),
                2 => world.correct(NAMES[who], &index.to_string(), past, -quantity),
                _ => world.rows(&[(NAMES[who], past, quantity), ("shop", now / 10 * 10, 5)]),
            }
        }
        let end = world.now.secs() + 8000;
        world.close(end);
        world.verify();
    }
}
