//! Cloned hosts.

use proptest::prelude::*;
use tollgate_common::{Batch, LossAmount, LossReason, Quantity};

use super::books::{Books, Sealer, row};
use crate::entry::Digest;
use crate::fold::intake::{BRANCHES_MAX, HASHES_KEPT, NoticeKind, derived};

fn account() -> (String, String) {
    ("acme".to_owned(), "http.requests".to_owned())
}

fn requests(window: i64, region: &str, value: i128) -> tollgate_common::Rollup {
    row("acme", "http.requests", region, window, value)
}

#[test]
fn the_row_wise_maximum_is_booked_and_the_minimum_declared_at_most() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    books.batch(&one.seal(vec![requests(1, "eu", 10), requests(1, "us", 3)], false));
    let fork = two.seal(
        vec![
            requests(1, "eu", 4),
            requests(1, "us", 8),
            requests(2, "us", 1),
        ],
        false,
    );
    books.batch(&fork);
    // eu: max(10, 4) = 10, us: max(3, 8) = 8, and a row of its own.
    assert_eq!(Books::of(&books.booked, &account()), 5 + 10 + 8 + 1);
    assert_eq!(Books::of(&books.lost, &account()), 4 + 3);
    let loss = &books.standing[0];
    assert_eq!(loss.loss.reason, LossReason::Fork);
    assert_eq!(loss.loss.amount, LossAmount::AtMost(Quantity::new(7)));
    let branch = derived(Digest(*fork.hash().as_bytes()));
    assert_eq!(loss.incarnation, Some(branch));

    // Both go on, each on its own branch, and nothing is lost any more.
    books.batch(&two.seal(vec![requests(3, "eu", 100)], false));
    books.batch(&one.seal(vec![requests(3, "eu", 1000)], false));
    books.batch(&fork);
    assert_eq!(Books::of(&books.booked, &account()), 24 + 1100);
    assert_eq!(Books::of(&books.lost, &account()), 7);
    let state = books.agent.clone().expect("heard of");
    assert_eq!((state.forks, state.duplicates, state.gaps), (1, 1, 0));

    // The branch has totals of its own, and what contradicts them is declared.
    *two.totals.get_mut(&account()).expect("counted") += 50;
    books.batch(&two.seal(vec![requests(4, "eu", 2)], true));
    assert_eq!(Books::of(&books.lost, &account()), 57);
    assert_eq!(books.standing[1].incarnation, Some(branch));
}

/// Two copies whose clocks differ give rows of other windows for what both had counted.
#[test]
fn copies_that_disagree_about_the_time_are_compared_all_the_same() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    books.batch(&one.seal(vec![requests(1, "eu", 10)], false));
    books.batch(&two.seal(vec![requests(7, "eu", 12)], false));
    assert_eq!(Books::of(&books.booked, &account()), 5 + 12);
    assert_eq!(Books::of(&books.lost, &account()), 10);
}

/// What is in the second part of one copy's seal may be in the first part of the other's.
#[test]
fn parts_of_a_seal_are_compared_with_all_that_have_arrived() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    (one.part_of, two.part_of) = (Some(2), Some(2));
    books.batch(&one.seal(vec![requests(1, "eu", 10)], false));
    books.batch(&one.seal(vec![requests(1, "us", 6)], false));
    books.batch(&two.seal(vec![requests(1, "eu", 12), requests(1, "us", 9)], false));
    assert_eq!(Books::of(&books.booked, &account()), 5 + 12 + 9);
    assert_eq!(Books::of(&books.lost, &account()), 10 + 6);
    // A later part of the losing branch may hold what the first branch has booked.
    books.batch(&two.seal(vec![requests(1, "ap", 4)], false));
    assert_eq!(Books::of(&books.booked, &account()), 26);
    assert_eq!(Books::of(&books.lost, &account()), 20);
    // With the next seal both count again.
    (one.part_of, two.part_of) = (None, None);
    books.batch(&one.seal(vec![requests(2, "eu", 100)], false));
    books.batch(&two.seal(vec![requests(2, "eu", 1000)], false));
    assert_eq!(Books::of(&books.booked, &account()), 26 + 1100);
    assert_eq!(Books::of(&books.lost, &account()), 20);
}

/// The other branch has booked what the first one's later part brings again.
#[test]
fn a_late_part_of_the_first_branch_is_declared_and_not_booked() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    (one.part_of, two.part_of) = (Some(2), Some(2));
    books.batch(&one.seal(vec![requests(1, "eu", 10)], false));
    books.batch(&two.seal(vec![requests(1, "eu", 12), requests(1, "us", 9)], false));
    let late = one.seal(vec![requests(1, "us", 6)], false);
    books.batch(&late);
    books.batch(&late);
    assert_eq!(Books::of(&books.booked, &account()), 5 + 12 + 9);
    assert_eq!(Books::of(&books.lost, &account()), 10 + 6);
}

#[test]
fn a_branch_whose_beginning_is_not_seen_counts_and_leaves_an_unknown() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    books.batch(&one.seal(vec![requests(1, "eu", 10)], false));
    two.seal(vec![requests(1, "eu", 20)], false);
    books.batch(&two.seal(vec![requests(2, "eu", 3)], false));
    assert_eq!(books.noticed(NoticeKind::Fork), 1);
    assert_eq!(Books::of(&books.booked, &account()), 18);
    assert_eq!(books.standing[0].sequences, Some((2, 2)));
    assert_eq!(books.standing[0].loss.reason, LossReason::Fork);
    books.batch(&one.seal(vec![requests(2, "eu", 4)], false));
    books.batch(&two.seal(vec![requests(3, "eu", 1)], false));
    assert_eq!(Books::of(&books.booked, &account()), 23);
    assert_eq!(books.standing.len(), 1);
}

#[test]
fn nothing_of_a_fork_is_booked_once_the_rows_are_forgotten() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    let mut two = one.clone();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    for window in 1..20 {
        books.batch(&one.seal(vec![requests(window, "eu", 1)], false));
    }
    books.batch(&two.seal(vec![requests(0, "eu", 9)], false));
    assert_eq!(Books::of(&books.booked, &account()), 24);
    assert_eq!(Books::of(&books.lost, &account()), 9);
    for window in 20..i64::try_from(HASHES_KEPT).expect("small") + 2 {
        books.batch(&one.seal(vec![requests(window, "eu", 1)], false));
    }
    // Now the hash is forgotten as well: even a copy cannot be told from a fork.
    let mut three = Sealer::new(1);
    books.batch(&three.seal(vec![requests(0, "eu", 5)], false));
    assert_eq!(Books::of(&books.lost, &account()), 14);
    let before = books.standing.len();
    let mut again = Sealer::new(1);
    books.batch(&again.seal(vec![requests(0, "eu", 5)], false));
    assert_eq!(
        books.standing.len(),
        before,
        "the same batch is declared once"
    );
}

#[test]
fn a_clone_that_opens_a_new_life_is_told_from_its_twin() {
    let mut one = Sealer::new(1);
    let mut books = Books::new();
    books.batch(&one.seal(vec![requests(0, "eu", 5)], false));
    let mut two = one.clone();
    // Both hosts restart: each seals the remainder as final, and opens a life.
    books.batch(&one.seal(vec![requests(1, "eu", 10)], true));
    books.batch(&two.seal(vec![requests(1, "eu", 10), requests(1, "us", 2)], true));
    let parent = |sealer: &Sealer| tollgate_common::Parent {
        incarnation: sealer.incarnation,
        last_sequence: sealer.last(),
        last_hash: sealer.last_hash,
        end: tollgate_common::ParentEnd::Final,
    };
    let mut one_child = Sealer::new(2);
    one_child.parent = Some(parent(&one));
    let mut two_child = Sealer::new(3);
    two_child.parent = Some(parent(&two));
    books.batch(&one_child.seal(vec![requests(2, "eu", 1)], false));
    books.batch(&two_child.seal(vec![requests(2, "eu", 1)], false));
    assert_eq!(Books::of(&books.booked, &account()), 5 + 10 + 2 + 2);
    assert_eq!(Books::of(&books.lost, &account()), 10);
    assert_eq!(books.noticed(NoticeKind::SecondLife), 1);
    assert_eq!(books.agent.as_ref().map(|state| state.gaps), Some(0));
}

proptest! {
    /// Two hosts go on from one state. Each sends its chain in order, some batches again; the
    /// chains are mixed at random.
    #[test]
    fn of_two_branches_everything_counts_but_the_overlap_of_the_first_batches(
        common in proptest::collection::vec(0i128..50, 0..4),
        left in proptest::collection::vec((0i128..50, 0i128..50), 1..6),
        right in proptest::collection::vec((0i128..50, 0i128..50), 1..6),
        order in proptest::collection::vec((any::<bool>(), 0usize..3), 0..24),
    ) {
        let mut one = Sealer::new(1);
        let mut books = Books::new();
        let mut window = 0;
        for value in &common {
            books.batch(&one.seal(vec![requests(window, "eu", *value)], false));
            window += 1;
        }
        let mut two = one.clone();
        let seal = |sealer: &mut Sealer, values: &[(i128, i128)], marker: i128| -> Vec<Batch> {
            let batch = |(n, (eu, us)): (usize, &(i128, i128))| {
                let window = window + i64::try_from(n).expect("small");
                // The marker keeps the branches from being the same by chance.
                let rows = vec![
                    requests(window, "eu", *eu),
                    requests(window, "us", *us),
                    row("umbrella", "http.requests", "eu", 900, marker),
                ];
                sealer.seal(rows, n + 1 == values.len())
            };
            values.iter().enumerate().map(batch).collect()
        };
        let (left_batches, right_batches) = (seal(&mut one, &left, 1), seal(&mut two, &right, 2));
        let (mut l, mut r) = (0usize, 0usize);
        for (is_left, again) in order.into_iter().chain((0..12).map(|n| (n % 2 == 0, 0))) {
            let (batches, next) = if is_left { (&left_batches, &mut l) } else { (&right_batches, &mut r) };
            // From up to two batches before, as after a reconnection.
            let from = next.saturating_sub(again);
            let upto = (*next + 1).min(batches.len());
            for batch in &batches[from..upto] {
                books.batch(batch);
            }
            *next = upto;
        }
        prop_assert_eq!((l, r), (left.len(), right.len()));
        let sum = |values: &[(i128, i128)]| values.iter().map(|(eu, us)| eu + us).sum::<i128>();
        let all = common.iter().sum::<i128>() + sum(&left) + sum(&right);
        let overlap = left[0].0.min(right[0].0) + left[0].1.min(right[0].1);
        prop_assert_eq!(Books::of(&books.accepted, &account()), all);
        prop_assert_eq!(Books::of(&books.booked, &account()), all - overlap);
        prop_assert_eq!(Books::of(&books.lost, &account()), overlap);
        let state = books.agent.clone().expect("heard of");
        prop_assert_eq!((state.forks, state.gaps), (1, 0));
        prop_assert_eq!(books.noticed(NoticeKind::TotalsBelowRows), 0);
    }
}

#[test]
fn a_branch_too_many_is_never_booked_twice() {
    let mut books = Books::new();
    books.batch(&Sealer::new(1).seal(vec![requests(0, "eu", 1)], false));
    for n in 0..BRANCHES_MAX {
        let value = 2 + i128::try_from(n).expect("small");
        books.batch(&Sealer::new(1).seal(vec![requests(0, "eu", value)], false));
    }
    // Nobody remembers these two, so that what comes again looks new.
    let fork = Sealer::new(1).seal(vec![requests(0, "eu", 1_000_000)], false);
    let mut stranger = Sealer::new(1);
    stranger.seal(vec![requests(0, "us", 5)], false);
    let orphan = stranger.seal(vec![requests(1, "us", 1_000_000)], false);
    let booked = Books::of(&books.booked, &account());
    for batch in [&fork, &fork, &orphan, &orphan] {
        books.batch(batch);
        assert_eq!(Books::of(&books.booked, &account()), booked);
    }
    assert_eq!(books.notices.last().expect("some").kind, NoticeKind::Fork);
}
