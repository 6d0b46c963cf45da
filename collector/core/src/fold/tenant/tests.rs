mod aggregations;
mod changed;
mod clocks;
mod closing;
mod disputes;
mod due;
mod dues;
mod earned;
mod family;
mod future;
mod interim;
mod late;
mod leaving;
mod models;
mod operated;
mod parts;
mod properties;
mod reasons;
mod samples;
mod split;
mod taxed;
mod terms;
mod whole;
mod windows;

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use tollgate_common::{
    Aggregation, BatchSeq, Detail, Dimensions, Incarnation, Loss, LossAmount, LossReason,
    MeterName, Quantity, Rollup, Scale, SeriesKey, Window,
};

use super::*;
use crate::effect::UsageChange;
use crate::entry::{CatalogChange, CloseCause, Closing, RefusedReason};
use crate::fold::{Accepted, DeclaredLoss, RowSet, Rows};
use crate::ledger::{EntryKind, LedgerEntry};
use crate::policy::{Pattern, Rule};

const METERS: &str = r#"
[[meter]]
name = "requests"
unit = "{request}"
scale = 0
aggregation = "sum"

[[meter]]
name = "seats"
unit = "{seat}"
scale = 0
aggregation = "last"

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
id = "req"
meter = "requests"
model = "graduated"
per = "10 {request}"
tiers = [{ to = "100", unit = "1.00" }, { unit = "0.50" }]

[[price]]
id = "seat"
meter = "seats"
model = "per_unit"
per = "1 {seat}"
unit = "9.90"
"#;

fn files(period: &str) -> BTreeMap<String, String> {
    let profile = format!(
        "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = {{ every = \"{period}\" }}"
    );
    BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/edge.toml".to_owned(), CARD.to_owned()),
        ("profiles/acme.toml".to_owned(), profile),
    ])
}

/// A fold that is fed like the intake feeds it, and everything that it said.
struct World {
    fold: TenantFold,
    now: Timestamp,
    next: u128,
    effects: Vec<Effect>,
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("valid")
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).expect("valid")
}

/// A rule by which an agent may report anything for a tenant.
fn rule(name: &str, tenant: &str) -> Rule {
    Rule {
        name: Pattern::new(name).expect("valid"),
        tenants: vec![Pattern::new(tenant).expect("valid")],
        meters: vec![Pattern::new("*").expect("valid")],
    }
}

struct Row {
    series: SeriesKey,
    aggregation: Aggregation,
    scale: u8,
    start: i64,
    value: i128,
}

fn row(tenant_name: &str, meter: &str, start: i64, value: i128) -> Row {
    let meter_name = MeterName::new(meter).expect("valid");
    let series = SeriesKey::new(tenant(tenant_name), meter_name, Dimensions::none());
    Row {
        series: series.expect("short"),
        aggregation: if meter == "seats" {
            Aggregation::Last
        } else {
            Aggregation::Sum
        },
        scale: 0,
        start,
        value,
    }
}

impl Row {
    fn rollup(self) -> Rollup {
        let width = WindowWidth::from_secs(10).expect("divides 900");
        Rollup {
            series: Arc::new(self.series),
            aggregation: self.aggregation,
            scale: Scale::new(self.scale).expect("in range"),
            window: Window::starting(at(self.start), width).expect("aligned"),
            value: Quantity::new(self.value),
            events: 1,
            detail: tollgate_common::Detail::None,
        }
    }
}

impl World {
    fn new(period: &str) -> Self {
        let mut world = Self {
            fold: TenantFold::new(2),
            now: Timestamp::EPOCH,
            next: 0,
            effects: Vec::new(),
        };
        world.catalog(files(period));
        world
    }

    fn apply(&mut self, input: &TenantInput) -> Vec<Effect> {
        self.next += 1;
        let position = Position::from_bytes(self.next.to_be_bytes());
        let effects = self.fold.apply(position, self.now, input);
        self.effects.extend(effects.iter().cloned());
        effects
    }

    fn catalog(&mut self, files: BTreeMap<String, String>) {
        let digest = Digest([0; 32]);
        let change = CatalogChange::plain(digest, files);
        self.apply(&TenantInput::Catalog(Arc::new(change)));
    }

    fn rows(&mut self, name: &str, rows: Vec<Row>) {
        self.mixed_rows(name, rows, Vec::new());
    }

    fn mixed_rows(&mut self, name: &str, allowed: Vec<Row>, refused: Vec<Row>) {
        let reason = RefusedReason::TenantNotAllowed;
        self.apply(&TenantInput::Rows(Rows {
            agent: agent(name),
            incarnation: Incarnation::from_bytes([1; 16]),
            sequence: BatchSeq::FIRST,
            rows: RowSet::new(
                allowed
                    .into_iter()
                    .map(|row| (row.rollup(), None))
                    .chain(refused.into_iter().map(|row| (row.rollup(), Some(reason)))),
            ),
        }));
    }

    fn watermark(&mut self, name: &str, secs: i64) {
        let moved = BTreeMap::from([(agent(name), at(secs))]);
        self.apply(&TenantInput::Watermarks(Arc::new(moved)));
    }

    /// Closes what is due and returns what was booked.
    fn close_due(&mut self) -> Vec<LedgerEntry> {
        let due = self.fold.poll_closable(self.now);
        due.into_iter()
            .flat_map(|closing| self.close(closing))
            .collect()
    }

    fn close(&mut self, closing: Closing) -> Vec<LedgerEntry> {
        ledger(&self.apply(&TenantInput::Close(Box::new(closing))))
    }
}

fn ledger(effects: &[Effect]) -> Vec<LedgerEntry> {
    let entries = effects.iter().filter_map(|effect| match effect {
        Effect::Ledger(entry) => Some((**entry).clone()),
        _ => None,
    });
    entries.collect()
}

/// What the projections are told of usage.
fn usage_changes(effects: &[Effect]) -> Vec<UsageChange> {
    let rows = effects.iter().filter_map(|effect| match effect {
        Effect::Rows(rows) => Some(rows.changes()),
        _ => None,
    });
    rows.flatten().collect()
}

/// Kind, line, quantity and amount, for short.
fn short(entries: &[LedgerEntry]) -> Vec<String> {
    let show = |entry: &LedgerEntry| {
        let posting = &entry.posting;
        let amount = posting
            .amount
            .map_or("-".to_owned(), |amount| amount.to_string());
        format!(
            "{} {} {} {amount}",
            posting.kind, posting.line, posting.quantity
        )
    };
    entries.iter().map(show).collect()
}

#[test]
fn what_has_no_price_is_booked_with_its_reason() {
    let mut world = World::new("PT1M");
    world.now = at(100);
    let mut wrong_scale = row("acme", "requests", 0, 4000);
    wrong_scale.scale = 3;
    let mut wrong_way = row("acme", "requests", 0, 3);
    wrong_way.aggregation = Aggregation::Last;
    world.rows(
        "a",
        vec![
            row("acme", "free", 0, 1),
            row("acme", "unheard", 0, 2),
            wrong_scale,
            wrong_way,
            row("nobody", "requests", 0, 5),
            row("_unattributed", "requests", 0, 6),
            row("acme", "requests", 0, (1 << 80) + 1),
        ],
    );
    let too_large = ledger(&world.effects);
    assert_eq!(
        short(&too_large),
        ["unrated rollup_too_large 1208925819614629174706177 -"]
    );
    let changes = usage_changes(&world.effects);
    let largest = changes.iter().map(|change| change.quantity.units()).max();
    assert!(largest < Some(1 << 80), "a table would add it: {largest:?}");
    world.watermark("a", 40 * 86_400);
    world.now = at(40 * 86_400);
    assert_eq!(
        short(&world.close_due()),
        [
            "unrated undeclared_meter 2 -",
            "unrated scale_mismatch 4000 -",
            "unrated aggregation_mismatch 3 -",
            "unrated no_price 1 -",
            // These have no profile, so their periods are calendar months.
            "unrated unattributed 6 -",
            "unrated no_profile 5 -",
        ]
    );
    world.rows("a", vec![row("acme", "free", 0, 10)]);
    let late = world.close_due();
    assert_eq!(short(&late), ["unrated no_price 10 -"]);
    assert!(late[0].posting.refers_to.is_some());
}

#[test]
fn without_a_catalog_everything_is_unrated() {
    let mut world = World::new("PT1M");
    world.fold = TenantFold::new(0);
    world.rows("a", vec![row("acme", "requests", 0, 1)]);
    world.watermark("a", 31 * 86_400);
    world.now = at(31 * 86_400);
    assert_eq!(short(&world.close_due()), ["unrated no_catalog 1 -"]);
}

/// What is held unrated because nothing is agreed is to be seen.
#[test]
fn tenants_without_a_profile_are_named() {
    let named = |world: &World| -> Vec<String> {
        let names = world.fold.without_profile();
        names.map(ToString::to_string).collect()
    };
    let mut world = World::new("PT1M");
    let used = |name: &str| vec![row(name, "requests", 0, 1)];
    for name in ["acme", "globex", "initech", "_unattributed"] {
        world.rows("a", used(name));
    }
    assert_eq!(named(&world), ["globex", "initech"]);
    let mut more = files("PT1M");
    let profile = more["profiles/acme.toml"].replace("acme", "globex");
    more.insert("profiles/globex.toml".to_owned(), profile.clone());
    world.catalog(more.clone());
    assert_eq!(named(&world), ["initech"]);
    let everybody = profile.replace("globex", "*");
    more.insert("profiles/default.toml".to_owned(), everybody);
    world.catalog(more);
    assert!(named(&world).is_empty());
}

#[test]
fn a_card_not_yet_in_force_rates_nothing() {
    let mut world = World::new("PT1M");
    let mut later = files("PT1M");
    later.insert(
        "cards/edge.toml".to_owned(),
        CARD.replace("1970-01-01", "1970-01-02"),
    );
    world.catalog(later);
    world.rows(
        "a",
        vec![
            row("acme", "requests", 86_340, 1),
            row("acme", "requests", 86_400, 1),
        ],
    );
    world.watermark("a", 90_000);
    world.now = at(90_000);
    assert_eq!(
        short(&world.close_due()),
        ["unrated no_card_in_force 1 -", "charge req 1 0.10"]
    );
}

#[test]
fn refused_usage_goes_to_its_own_account() {
    let mut world = World::new("PT1M");
    world.mixed_rows(
        "a",
        vec![row("acme", "requests", 0, 10)],
        vec![row("acme", "requests", 0, 3)],
    );
    let account = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::Account(account) => Some(account.clone()),
        _ => None,
    });
    let account = account.expect("an account changed");
    assert_eq!(
        (account.counted, account.refused),
        (Quantity::new(10), Quantity::new(3))
    );
    world.watermark("a", 60);
    world.now = at(60);
    assert_eq!(
        short(&world.close_due()),
        ["charge req 10 1.00", "refused tenant_not_allowed 3 -"]
    );
}

#[test]
fn the_newest_level_stands_in_any_order() {
    let rows = [("a", 20, 5), ("b", 20, 7), ("b", 10, 9), ("a", 30, 4)];
    for turn in 0..rows.len() {
        let mut world = World::new("PT1M");
        let mut turned = rows;
        turned.rotate_left(turn);
        for (name, start, value) in turned {
            world.rows(name, vec![row("acme", "seats", start, value)]);
        }
        world.watermark("a", 60);
        world.watermark("b", 60);
        world.now = at(60);
        assert_eq!(short(&world.close_due()), ["charge seat 4 39.60"]);
    }
}

#[test]
fn losses_are_booked_and_taken_back() {
    let mut world = World::new("PT1M");
    let declared = |quantity| DeclaredLoss {
        agent: Some(agent("a")),
        incarnation: Some(Incarnation::from_bytes([1; 16])),
        sequences: Some((3, 4)),
        scale: Scale::ZERO,
        loss: Loss {
            reason: LossReason::SpoolDamaged,
            tenant: Some(tenant("acme")),
            meter: Some(MeterName::new("requests").expect("valid")),
            amount: LossAmount::Exact(Quantity::new(quantity)),
            from: at(0),
            to: at(60),
        },
    };
    let lost = ledger(&world.apply(&TenantInput::Loss(declared(12))));
    assert_eq!(short(&lost), ["loss spool_damaged 12 -"]);
    assert_eq!(lost[0].posting.sequences, Some((3, 4)));
    let effects = world.apply(&TenantInput::LossReversed(declared(12)));
    let back = ledger(&effects);
    assert_eq!(short(&back), ["loss_reversed spool_damaged -12 -"]);
    assert_eq!(back[0].posting.refers_to, Some(lost[0].at));
    assert!(matches!(effects.last(), Some(Effect::Account(a)) if a.lost.is_zero()));
    // A reversal without a declaration is booked without a reference, not dropped.
    let stray = ledger(&world.apply(&TenantInput::LossReversed(declared(5))));
    assert_eq!(stray[0].posting.refers_to, None);
}

#[test]
fn an_amount_too_large_moves_the_line_to_unrated() {
    let mut world = World::new("PT1M");
    let mut dear = files("PT1M");
    let card = CARD.replace("\"0.50\"", "\"99999999999999999999999999\"");
    dear.insert("cards/edge.toml".to_owned(), card);
    world.catalog(dear);
    world.rows("a", vec![row("acme", "requests", 0, 50)]);
    world.watermark("a", 60);
    world.now = at(60);
    assert_eq!(short(&world.close_due()), ["charge req 50 5.00"]);
    world.rows("a", vec![row("acme", "requests", 0, 1 << 70)]);
    let moved = world.close_due();
    assert_eq!(
        short(&moved),
        [
            "reversal req -50 -5.00",
            "unrated amount_too_large 1180591620717411303474 -"
        ]
    );
}

#[test]
fn bad_catalogs_and_snapshots_change_nothing() {
    let mut world = World::new("PT1M");
    let before = world.fold.clone();
    world.catalog(BTreeMap::from([(
        "meters.toml".to_owned(),
        "x = 1".to_owned(),
    )]));
    assert_eq!(world.fold.oddities().catalogs_ignored, 1);
    assert_eq!(world.fold.catalogs, before.catalogs);
    assert!(TenantFold::from_bytes(b"{}").is_err());
    assert!(TenantFold::from_bytes(&world.fold.to_bytes()[1..]).is_err());
}
