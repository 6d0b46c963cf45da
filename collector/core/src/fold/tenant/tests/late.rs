//! Usage that comes after the closing, by the policy of the profile.

use proptest::prelude::*;

use super::*;
use crate::period::periods_doc;

/// The usual catalog with a policy for late usage, volume tiers and a minimum.
fn with_policy(late: &str) -> BTreeMap<String, String> {
    let mut files = files("PT1M");
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    profile.push_str(&format!("\nlate = \"{late}\""));
    files
}

fn world(late: &str) -> World {
    let mut world = World::new("PT1M");
    world.catalog(with_policy(late));
    world.now = at(100);
    world
}

/// What the entries of each period sum to, in quantity and money.
fn sums(entries: &[LedgerEntry]) -> BTreeMap<(i64, String), (i128, Decimal)> {
    let mut sums = BTreeMap::new();
    for posting in entries.iter().map(|entry| &entry.posting) {
        let key = (posting.start.secs(), posting.line.clone());
        let sum: &mut (i128, Decimal) = sums.entry(key).or_default();
        sum.0 += posting.quantity.units();
        sum.1 += posting.amount.unwrap_or_default();
    }
    sums
}

#[test]
fn next_books_the_difference_in_the_next_open_period_outside_of_its_tiers() {
    let mut world = world("next");
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    let charge = world.close_due();
    assert_eq!(short(&charge), ["charge req 90 9.00"]);
    // 60 of the second minute, of which none lies above the first tier.
    world.rows(
        "a",
        vec![
            row("acme", "requests", 0, 60),
            row("acme", "requests", 60, 60),
        ],
    );
    let late = world.close_due();
    assert_eq!(short(&late), ["adjustment req 60 3.50"]);
    let posting = &late[0].posting;
    assert_eq!((posting.start, posting.end), (at(60), at(120)));
    assert_eq!(posting.refers_to, Some(charge[0].at));
    assert!(
        posting
            .arithmetic
            .starts_with("late usage of [1970-01-01T00:00:00.000Z, 1970-01-01T00:01:00.000Z): "),
        "{}",
        posting.arithmetic
    );
    // The period that it is booked in knows nothing of it: 60 x 1.00 per 10.
    world.now = at(130);
    world.watermark("a", 120);
    assert_eq!(short(&world.close_due()), ["charge req 60 6.00"]);
    // That one is closed now, so what comes later for the first goes to the third.
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let later = world.close_due();
    assert_eq!(short(&later), ["adjustment req 10 0.50"]);
    assert_eq!(later[0].posting.start, at(120));
    assert_eq!(later[0].posting.refers_to, Some(charge[0].at));
}

#[test]
fn late_usage_is_booked_as_documented() {
    for policy in ["correct", "next"] {
        let mut world = world(policy);
        for (usage, entries) in periods_doc::examples(&format!("late-{policy}")) {
            let (quantity, _) = usage.split_once(' ').expect("a quantity");
            let quantity = quantity.parse().expect("a number");
            world.rows("a", vec![row("acme", "requests", 0, quantity)]);
            world.watermark("a", 60);
            assert_eq!(short(&world.close_due()).join("; "), entries, "{usage}");
        }
    }
}

#[test]
fn the_period_that_takes_a_difference_is_opened_for_it() {
    let mut world = world("next");
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    world.close_due();
    world.now = at(1000);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    let late = world.close_due();
    assert_eq!(late[0].posting.start, at(60));
    let opened = world.fold.accruals(None);
    assert_eq!((opened.len(), opened[0].start), (1, at(60)));
}

#[test]
fn more_than_there_is_cannot_be_taken_away() {
    let mut world = world("correct");
    world.rows("a", vec![row("acme", "requests", 0, 90)]);
    world.watermark("a", 60);
    let first = world.close_due()[0].at;
    world.rows("a", vec![row("acme", "requests", 0, -100)]);
    assert_eq!(
        short(&world.close_due()),
        ["reversal req -90 -9.00", "unrated below_zero -10 -"]
    );
    // What comes then makes that good first.
    world.rows("a", vec![row("acme", "requests", 0, 30)]);
    let again = world.close_due();
    assert_eq!(
        short(&again),
        ["charge req 20 2.00", "unrated below_zero 10 -"]
    );
    // A dispute over the one is over the other.
    assert_eq!(again[0].posting.refers_to, Some(first));
}

#[test]
fn the_profile_says_how_long_a_period_waits() {
    let mut world = World::new("PT1M");
    let mut files = files("PT1M");
    let profile = files.get_mut("profiles/acme.toml").expect("there");
    profile.push_str("\nsettlement = \"PT5M\"");
    world.catalog(files);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.watermark("a", 10);
    assert_eq!(world.fold.poll_closable(at(359)), []);
    let due = world.fold.poll_closable(at(360));
    assert_eq!(due[0].cause, CloseCause::Settled);
}

#[test]
fn standings_name_who_is_missing_and_since_when() {
    let mut world = World::new("PT1M");
    world.now = at(70);
    world.rows("a", vec![row("acme", "requests", 0, 10)]);
    world.watermark("a", 60);
    world.watermark("b", 45);
    world.watermark("c", 0);
    let standings = |world: &World, now| world.fold.standings(at(now), None).collect::<Vec<_>>();
    let [standing] = &standings(&world, 70)[..] else {
        panic!("one period waits")
    };
    assert_eq!(
        (standing.start, standing.end, standing.agents),
        (at(0), at(60), 3)
    );
    assert_eq!(standing.waits_for, WaitsFor::Agents);
    assert_eq!(standing.settles_at, at(60 + 86_400));
    let missing = |name: &str, since| MissingAgent {
        children: Vec::new(),
        agent: agent(name),
        since,
    };
    assert_eq!(
        standing.missing,
        [missing("b", Some(at(45))), missing("c", None)]
    );
    assert_eq!(standings(&world, 50)[0].waits_for, WaitsFor::End);
    assert_eq!(standings(&world, 90_000)[0].waits_for, WaitsFor::Nothing);
    world.watermark("b", 60);
    world.watermark("c", 61);
    assert_eq!(standings(&world, 70)[0].waits_for, WaitsFor::Nothing);
    world.close_due();
    assert_eq!(standings(&world, 70), []);
}

/// Batches of usage of one period, of which some come after the closing: minute, quantity, and
/// whether what is due is closed after it.
fn arrivals() -> impl Strategy<Value = Vec<(i64, i128, bool)>> {
    proptest::collection::vec((0i64..3, -40i128..200, any::<bool>()), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes late, in whatever order: each period's entries sum to what it would have cost
    /// in time by `correct`; by `next` all of them together do.
    #[test]
    fn late_usage_sums_to_what_it_would_have_cost_in_time(arrivals in arrivals()) {
        let run = |late: &str, in_time: bool| {
            let mut world = world(late);
            world.now = at(1000);
            world.watermark("a", 180);
            for (minute, quantity, close) in &arrivals {
                world.rows("a", vec![row("acme", "requests", 60 * minute, *quantity)]);
                if *close && !in_time {
                    world.close_due();
                }
            }
            world.close_due();
            ledger(&world.effects)
        };
        let total = |entries: &[LedgerEntry]| {
            let sums = sums(entries).into_values();
            sums.fold((0, Decimal::ZERO), |a, b| (a.0 + b.0, a.1 + b.1))
        };
        let nothing = |sums: BTreeMap<_, (i128, Decimal)>| -> BTreeMap<_, _> {
            sums.into_iter().filter(|(_, sum)| *sum != (0, Decimal::ZERO)).collect()
        };
        let in_time = run("correct", true);
        prop_assert_eq!(nothing(sums(&run("correct", false))), nothing(sums(&in_time)));
        let next = run("next", false);
        prop_assert_eq!(total(&next), total(&in_time));
        // Charges stand as they were booked.
        prop_assert!(next.iter().all(|entry| entry.posting.kind != EntryKind::Reversal));
    }
}

/// One row of long ago for each second: not every second has every line booked anew.
#[test]
fn what_trickles_in_late_is_settled_ever_more_rarely() {
    let mut world = world("correct");
    world.rows("a", vec![row("acme", "requests", 0, 1)]);
    world.watermark("a", 60);
    assert_eq!(world.close_due().len(), 1);
    let mut rounds = Vec::new();
    for second in 0..600 {
        world.now = at(100 + second);
        world.rows("a", vec![row("acme", "requests", 0, 1)]);
        if !world.close_due().is_empty() {
            rounds.push(second);
        }
        let standing = world.fold.standings(world.now, None);
        let resting: Vec<_> = standing.filter(|standing| standing.rounds > 24).collect();
        assert!(
            resting
                .iter()
                .all(|s| s.waits_for == WaitsFor::Settlement && s.settles_at > world.now),
            "{resting:?}"
        );
    }
    assert!(rounds[..24].iter().copied().eq(0..24), "{rounds:?}");
    assert!((50..70).contains(&rounds.len()), "{}", rounds.len());
    // Nothing is lost by it, and an operator need not wait.
    let cause = CloseCause::Operator {
        author: "kim".to_owned(),
        reason: "now".to_owned(),
        approved_by: None,
    };
    let by_hand = world
        .fold
        .close_by_hand(world.now, &tenant("acme"), at(0), cause);
    world.close(by_hand.expect("it waits"));
    let (quantity, _) = sums(&ledger(&world.effects))[&(0, "req".to_owned())];
    assert_eq!(quantity, 601);
    world.rows("a", vec![row("acme", "requests", 0, 1)]);
    world.now = at(100 + 600 + 3600);
    assert!(!world.close_due().is_empty());
}
