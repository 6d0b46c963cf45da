//! What bills of several periods have to do with each other: commitments, grants and fees in advance
//! come to the same in whatever order usage comes and periods are closed.

use super::*;
use crate::entry::{Operated, OperatedAction, Rerate};
use crate::ledger::{Note, Role};
use crate::period::periods_doc;

mod any_order;
mod tiers;

const DAY: i64 = 86_400;
const METERS: &str =
    "[[meter]]\nname = \"requests\"\nunit = \"{request}\"\nscale = 0\naggregation = \"sum\"\n";
const CARD: &str = "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"1970-01-01\"\norder = \"standard/1\"\n\
    [[price]]\nid = \"req\"\nmeter = \"requests\"\nmodel = \"per_unit\"\nper = \"1 {request}\"\nunit = \"1.00\"\n";
const FEE: &str =
    "[[price]]\nid = \"platform\"\nmodel = \"flat\"\nflat = \"20.00\"\nbilled = \"in_advance\"\n";
const GRANT: &str = "[[grant]]\nid = \"gift\"\namount = \"50.00\"\n";

/// 100.00 in three days, on the requests.
fn commitment(more: &str) -> String {
    format!(
        "[[commitment]]\nid = \"term\"\namount = \"100.00\"\nterm = \"P3D\"\ncounts = [\"req\"]\n{more}\n"
    )
}

fn files(card: &str, profile: &str) -> BTreeMap<String, String> {
    let profile =
        format!("tenant = \"acme\"\ncard = \"edge\"\nperiod = {{ every = \"P1D\" }}\n{profile}");
    BTreeMap::from([
        ("meters.toml".to_owned(), METERS.to_owned()),
        ("cards/edge.toml".to_owned(), format!("{CARD}{card}")),
        ("profiles/acme.toml".to_owned(), profile),
    ])
}

/// A fold that knows nothing yet.
fn empty(now: i64) -> World {
    let mut world = World::new("P1D");
    world.fold = TenantFold::new(2);
    world.effects.clear();
    world.now = at(now);
    world
}

/// Days of a tenant that is known from the first one on.
fn world(card: &str, profile: &str) -> World {
    let mut world = empty(0);
    world.catalog(files(card, &format!("zone = \"UTC\"\n{profile}")));
    world
}

fn note() -> Note {
    Note {
        author: "kim".to_owned(),
        approved_by: None,
        reason: "by hand".to_owned(),
    }
}

impl World {
    /// Requests of a day, from 0 on, that come while another one runs.
    fn day(&mut self, day: i64, quantity: i128) -> &mut Self {
        self.rows("a", vec![row("acme", "requests", day * DAY, quantity)]);
        self
    }

    /// It is the beginning of a day; nothing is closed.
    fn begins(&mut self, day: i64) -> &mut Self {
        self.now = at(day * DAY);
        self.apply(&TenantInput::Clock);
        self
    }

    /// Closes a day by hand; `None` if nothing is to be closed.
    fn close_day(&mut self, day: i64) -> Option<Vec<LedgerEntry>> {
        let cause = CloseCause::Operator {
            author: note().author,
            reason: note().reason,
            approved_by: None,
        };
        let name = tenant("acme");
        let closing = self
            .fold
            .close_by_hand(self.now, &name, at(day * DAY), cause);
        Some(self.close(closing.ok()?))
    }

    /// Closes whatever can be closed, as long as there is something.
    fn close_days(&mut self, days: i64) {
        for day in 0..days {
            self.close_day(day);
        }
    }

    /// What days come to, by day, line and role.
    fn amounts(&self) -> BTreeMap<(i64, String, Option<Role>), Decimal> {
        let mut amounts: BTreeMap<_, Decimal> = BTreeMap::new();
        for posting in ledger(&self.effects).into_iter().map(|entry| entry.posting) {
            if let (true, Some(amount)) = (posting.kind.is_line(), posting.amount) {
                let key = (posting.start.secs() / DAY, posting.line, posting.role);
                *amounts.entry(key).or_default() += amount;
            }
        }
        amounts.retain(|_, amount| !amount.is_zero());
        amounts
    }

    /// The same of one role, by day.
    fn of(&self, role: Role) -> Vec<(i64, String)> {
        let amounts = self.amounts().into_iter();
        let of_role = amounts.filter(|((_, _, of), _)| *of == Some(role));
        of_role
            .map(|((day, _, _), amount)| (day, amount.normalize().to_string()))
            .collect()
    }

    fn total(&self) -> Decimal {
        self.amounts().values().sum()
    }
}

fn pairs(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(day, amount)| (*day, (*amount).to_owned()))
        .collect()
}

/// 40.00 and 1.00 leave 59.00 to the term's last day.
#[test]
fn what_is_missing_in_a_term_takes_up_what_comes_late() {
    for late in ["correct", "next"] {
        let mut world = world(&commitment(""), &format!("late = \"{late}\""));
        world.day(0, 40).day(2, 1).begins(3).close_days(3);
        assert_eq!(world.of(Role::TrueUp), pairs(&[(2, "59")]));
        world.day(0, 20);
        let booked = world.close_day(0).expect("late usage");
        assert_eq!(world.total(), Decimal::from(100));
        let last = &booked.last().expect("the last day").posting;
        assert_eq!(last.line, "term");
        let because = "worked out again after [1970-01-01T00:00:00.000Z, 1970-01-02T00:00:00.000Z)";
        assert!(last.arithmetic.ends_with(because), "{}", last.arithmetic);
        // That much less was too much.
        world.day(0, -30);
        world.close_day(0);
        world.day(1, 5);
        world.close_day(1);
        assert_eq!(world.total(), Decimal::from(100));
        assert_eq!(world.fold.oddities(), Oddities::default());
    }
}

#[test]
fn later_periods_are_worked_out_again_as_documented() {
    let mut world = world(&commitment(""), "");
    world.day(2, 1).begins(3);
    for (usage, entries) in periods_doc::examples("later") {
        let (quantity, _) = usage.split_once(' ').expect("a quantity");
        world.day(0, quantity.parse().expect("a number"));
        let booked = (0..3).filter_map(|day| world.close_day(day)).flatten();
        let booked: Vec<LedgerEntry> = booked.collect();
        assert_eq!(short(&booked).join("; "), entries, "{usage}");
    }
}

#[test]
fn no_more_is_drawn_down_than_there_is_and_the_rest_costs_more() {
    let mut world = world(&commitment("pay = \"advance\"\noverage = \"1.5\""), "");
    world.day(0, 40).day(1, 60).begins(3).close_days(3);
    assert_eq!(world.total(), Decimal::from(100));
    world.day(0, 30);
    let booked = world.close_day(0).expect("late usage");
    assert_eq!(
        short(&booked),
        [
            "reversal req -40 -40.00",
            "charge req 70 70.00",
            "reversal term 0 40.00",
            "charge term 0 -70.00",
            "reversal term 0 60.00",
            "charge term 0 -30.00",
            "charge term 0 15.00",
        ]
    );
    assert_eq!(world.of(Role::Drawdown), pairs(&[(0, "-70"), (1, "-30")]));
    assert_eq!(world.of(Role::Overage), pairs(&[(1, "15")]));
    // Nothing waits behind it.
    assert_eq!(world.fold.poll_closable(world.now), []);
    assert_eq!(world.close_day(1), None);
}

/// A fee of the second day that was charged in advance, and counted, becomes cheaper: what it gives
/// back was drawn down, so that it goes back into the term and not to the tenant.
#[test]
fn what_is_given_back_goes_back_into_the_term_that_paid_it() {
    let fee = |flat: &str| FEE.replace("20.00", flat) + "prorate = \"duration\"\n";
    let term = |more: &str| {
        let counts = "counts = [\"req\", \"platform\"]";
        commitment(&format!("pay = \"advance\"\n{more}")).replace("counts = [\"req\"]", counts)
    };
    for (more, first, drawn, over) in [
        // 20.00 and 20.00 for the second day; 9.00 of it back and 2.00 for the third; 67.00 and 2.00.
        ("", 0, pairs(&[(0, "-40"), (1, "7"), (2, "-67")]), vec![]),
        // The first day alone is 100.00 above the term: of that the 7.00 are not any more.
        (
            "overage = \"1.5\"",
            160,
            pairs(&[(0, "-100")]),
            pairs(&[(0, "50"), (1, "-3.5"), (2, "34.5")]),
        ),
    ] {
        let card = |flat| format!("{}{}", term(more), fee(flat));
        let mut world = world(&card("20.00"), "");
        world.day(0, first).begins(1).close_day(0).expect("over");
        world.now = at(DAY + DAY / 2);
        world.catalog(files(&card("2.00"), "zone = \"UTC\""));
        world.begins(2).close_day(1).expect("over");
        world.day(2, 67).begins(3).close_day(2).expect("over");
        assert_eq!(world.of(Role::Drawdown), drawn, "{more}");
        assert_eq!(world.of(Role::Overage), over, "{more}");
        let counted = Decimal::from(40 + first - 7 + 69);
        let excess = (counted - Decimal::from(100)) * Decimal::new(5, 1);
        let dearer = if over.is_empty() {
            Decimal::ZERO
        } else {
            excess
        };
        assert_eq!(world.total(), counted + dearer, "{more}");
    }
}

/// Ten terms later, the first one is still known.
#[test]
fn a_term_long_over_is_corrected_and_not_begun_anew() {
    for (pay, sum) in [("usage", "101"), ("advance", "101")] {
        let mut world = world(&commitment(&format!("pay = \"{pay}\"")), "");
        for day in 0..33 {
            world.day(day, [40, 40, 20][usize::try_from(day % 3).expect("small")]);
        }
        world.begins(33).close_days(33);
        assert_eq!(world.total(), Decimal::from(1100), "{pay}");
        let bytes = world.fold.to_bytes();
        world.fold = TenantFold::from_bytes(&bytes).expect("a snapshot");
        world.day(2, 1);
        world.close_day(2);
        let first: Decimal = world
            .amounts()
            .iter()
            .filter(|((day, _, _), _)| *day < 3)
            .map(|(_, amount)| amount)
            .sum();
        assert_eq!(first.normalize().to_string(), sum, "{pay}");
        assert_eq!(world.total(), Decimal::from(1101), "{pay}");
    }
}

#[test]
fn a_fee_in_advance_of_long_ago_is_not_charged_again() {
    let mut world = world(FEE, "");
    world.day(0, 1).begins(420).close_days(420);
    let before = world.total();
    world.day(5, 1);
    let booked = world.close_day(5).expect("late usage");
    assert_eq!(short(&booked), ["charge req 1 1.00"]);
    assert_eq!(world.total(), before + Decimal::ONE);
}

/// Whichever is closed first, the earlier one charges the term.
#[test]
fn periods_that_are_closed_in_another_order_charge_a_term_once() {
    let tax = "[[tax]]\ncode = \"vat\"\njurisdiction = \"X\"\nrates = [{ percent = \"19\" }]\n";
    let card = format!("{}{FEE}", commitment("pay = \"advance\""));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut files = files(&card, &format!("zone = \"UTC\"\ntax = \"vat\"\n{GRANT}"));
        files.insert("tax/x.toml".to_owned(), tax.to_owned());
        let mut world = empty(0);
        world.catalog(files);
        world.day(0, 30).day(1, 90).day(2, 10).begins(3);
        for day in order {
            world.close_day(day).expect("open");
        }
        assert_eq!(
            world.of(Role::Commitment),
            pairs(&[(0, "100")]),
            "{order:?}"
        );
        assert_eq!(world.of(Role::Drawdown), pairs(&[(0, "-30"), (1, "-70")]));
        // The first day has its own fee, and each charges that of the next.
        assert_eq!(world.of(Role::Fee), pairs(&[(0, "20")]), "{order:?}");
        assert_eq!(
            world.of(Role::Advance),
            pairs(&[(0, "20"), (1, "20"), (2, "20")])
        );
        assert_eq!(world.of(Role::Grant), pairs(&[(0, "-50")]));
    }
}

/// Usage of a day before the first that was billed takes the charge over.
#[test]
fn backfill_before_the_first_bill_charges_a_term_once() {
    let mut world = world(&commitment("pay = \"advance\""), "");
    world.now = at(2 * DAY);
    world.day(2, 5).begins(3);
    world.close_day(2).expect("open");
    assert_eq!(world.of(Role::Commitment), pairs(&[(2, "100")]));
    world.day(1, 7);
    world.close_day(1).expect("open");
    assert_eq!(world.of(Role::Commitment), pairs(&[(1, "100")]));
    assert_eq!(world.total(), Decimal::from(100));
}

/// What was used before there were prices owes no fee, and none in advance for what owes none either.
#[test]
fn a_period_that_owes_no_fee_charges_none_in_advance() {
    let mut world = empty(5 * DAY);
    world.catalog(files(FEE, "zone = \"UTC\""));
    world.day(1, 3);
    world.close_day(1).expect("open");
    assert_eq!(world.total(), Decimal::from(3));
}

#[test]
fn an_open_period_is_not_billed_before_the_one_before_it() {
    let threshold = "threshold = { amount = \"50.00\" }\n";
    for card in [
        commitment("pay = \"advance\""),
        FEE.to_owned(),
        String::new(),
    ] {
        let mut world = world(&card, threshold);
        world.day(0, 10).begins(1).day(1, 60);
        let name = tenant("acme");
        let by_hand = world.fold.interim_by_hand(world.now, &name, note());
        let polled = world.fold.poll_thresholds(world.now, None);
        if card.is_empty() {
            assert!(by_hand.expect("nothing is carried").is_some());
            assert_eq!(polled.len(), 1);
            continue;
        }
        let refused = by_hand.expect_err("the first day is not closed");
        assert!(
            refused.to_string().starts_with(
                "period [1970-01-01T00:00:00.000Z, 1970-01-02T00:00:00.000Z) is not closed"
            ),
            "{refused}"
        );
        assert_eq!(polled, []);
        let seen = world.fold.changes();
        world.close_day(0);
        // It is looked at anew, though no usage came.
        let [interim] = &world.fold.poll_thresholds(world.now, Some(seen))[..] else {
            panic!("60.00 are reached");
        };
        world.apply(&TenantInput::Interim(Box::new(interim.clone())));
        world.begins(2).close_day(1).expect("open");
        let once = world.total();
        let mut at_once = self::world(&card, threshold);
        at_once.day(0, 10).day(1, 60).begins(2).close_days(2);
        assert_eq!(once, at_once.total(), "{card}");
    }
}

/// What was billed of an open period is worked out again when the one before it is.
#[test]
fn a_bill_of_an_open_period_follows_an_earlier_one() {
    let mut world = world(&commitment("pay = \"advance\""), GRANT);
    world.day(0, 20).begins(1).close_day(0).expect("over");
    world.day(1, 60);
    let name = tenant("acme");
    let interim = world.fold.interim_by_hand(world.now, &name, note());
    let interim = interim.expect("nothing waits").expect("open");
    world.apply(&TenantInput::Interim(Box::new(interim)));
    assert_eq!(world.of(Role::Drawdown), pairs(&[(0, "-20"), (1, "-60")]));
    world.day(0, 30);
    world.close_day(0).expect("late usage");
    assert_eq!(world.of(Role::Drawdown), pairs(&[(0, "-50"), (1, "-50")]));
    assert_eq!(world.total(), Decimal::from(100 + 10 - 50));
}

/// October, of which the year was charged in UTC, and November by other clocks.
#[test]
fn a_change_of_clocks_does_not_begin_a_term_anew() {
    // 1 and 22 October 1971, and the beginnings of the months behind it.
    let (october, applied, november, december) = (55_123_200, 56_937_600, 57_801_600, 60_393_600);
    for (from, to) in [
        ("UTC", "Europe/Berlin"),
        ("Europe/Berlin", "UTC"),
        ("UTC", "America/New_York"),
        ("America/New_York", "UTC"),
        ("Pacific/Auckland", "America/New_York"),
    ] {
        for (pay, all) in [("advance", "1200"), ("usage", "30")] {
            let card = format!(
                "[[commitment]]\nid = \"year\"\namount = \"1200.00\"\nterm = \"P1Y\"\npay = \"{pay}\"\n"
            );
            let with = |zone: &str| {
                let mut files = files(&card, &format!("zone = \"{zone}\""));
                let profile = files.get_mut("profiles/acme.toml").expect("there");
                *profile = profile.replace("P1D", "P1M");
                files
            };
            let mut world = empty(october + DAY);
            world.catalog(with(from));
            world.now = at(applied);
            world.rows("a", vec![row("acme", "requests", october + 10 * DAY, 10)]);
            world.catalog(with(to));
            world.rows("a", vec![row("acme", "requests", november + 10 * DAY, 20)]);
            world.now = at(december + 2 * DAY);
            world.watermark("a", december + 2 * DAY);
            let booked = world.close_due();
            let total: Decimal = booked.iter().filter_map(|entry| entry.posting.amount).sum();
            assert_eq!(total.normalize().to_string(), all, "{from} {to} {pay}");
            // The next year is another term, whichever hours the change has left before it.
            let parts = &world.fold.tenants[&tenant("acme")].carried.commitments["edge year"];
            let terms: BTreeSet<_> = parts.values().map(|part| part.term).collect();
            assert_eq!(terms.len(), 1, "{from} {to} {parts:?}");
        }
    }
}

/// A grant that a rating anew does not know pays for another day, and a fee in advance that it takes
/// back is charged by the day itself.
#[test]
fn what_a_bill_does_not_name_any_more_is_free_again() {
    let mut world = world(FEE, GRANT);
    let without = files(FEE, "zone = \"UTC\"\nuntil = \"1970-01-02\"");
    world.day(0, 40).begins(1).close_day(0).expect("over");
    assert_eq!(world.of(Role::Grant), pairs(&[(0, "-50")]));
    let digest = Digest([9; 32]);
    world.apply(&TenantInput::Catalog(Arc::new(CatalogChange::plain(
        digest, without,
    ))));
    let catalog = world.fold.catalog_digest().expect("applied");
    let again = |catalog| {
        TenantInput::Operated(Arc::new(Operated {
            action: OperatedAction::Rerate(Rerate {
                tenant: tenant("acme"),
                from: at(0),
                to: at(DAY),
                catalog,
            }),
            note: note(),
        }))
    };
    world.apply(&again(catalog));
    world.close_day(0).expect("rated anew");
    // The requests and the day's own fee; none for a day for which nothing is agreed.
    assert_eq!(world.total(), Decimal::from(60));
    let carried = &world.fold.tenants[&tenant("acme")].carried;
    assert_eq!((carried.grants.len(), carried.advance.len()), (0, 0));
    let before = files(FEE, &format!("zone = \"UTC\"\n{GRANT}"));
    world.apply(&TenantInput::Catalog(Arc::new(CatalogChange::plain(
        Digest([8; 32]),
        before,
    ))));
    world
        .begins(2)
        .day(1, 30)
        .begins(3)
        .close_day(1)
        .expect("over");
    assert_eq!(world.of(Role::Grant), pairs(&[(1, "-50")]));
    assert_eq!(world.of(Role::Fee), pairs(&[(0, "20"), (1, "20")]));
    assert_eq!(world.of(Role::Advance), pairs(&[(1, "20")]));
}

/// Two days are rated anew by a version with a dearer fee: what is charged before the second one is what
/// that costs, and the day behind them keeps the fee of its own versions.
#[test]
fn a_fee_in_advance_of_a_day_that_is_rated_anew_too_is_the_new_one() {
    let mut world = world(FEE, "");
    world.day(0, 1).day(1, 1).begins(2).close_days(2);
    let before = [pairs(&[(0, "20")]), pairs(&[(0, "20"), (1, "20")])];
    assert_eq!([world.of(Role::Fee), world.of(Role::Advance)], before);
    world.now = at(2 * DAY + 100);
    let dear = files(&FEE.replace("20.00", "30.00"), "zone = \"UTC\"");
    let change = CatalogChange::plain(Digest([9; 32]), dear);
    world.apply(&TenantInput::Catalog(Arc::new(change)));
    let catalog = world.fold.catalog_digest().expect("applied");
    world.apply(&TenantInput::Operated(Arc::new(Operated {
        action: OperatedAction::Rerate(Rerate {
            tenant: tenant("acme"),
            from: at(0),
            to: at(2 * DAY),
            catalog,
        }),
        note: note(),
    })));
    world.close_days(2);
    assert_eq!(world.of(Role::Fee), pairs(&[(0, "30")]));
    assert_eq!(world.of(Role::Advance), pairs(&[(0, "30"), (1, "20")]));
    assert_eq!(world.fold.oddities(), Oddities::default());
}
