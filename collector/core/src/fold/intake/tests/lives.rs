//! Lives that follow each other, watermarks, and what an agent is told at hello.

use tollgate_common::wire::Held;
use tollgate_common::{BatchHash, BatchSeq, LossAmount, LossReason, Parent, ParentEnd, Timestamp};

use super::books::{Books, Sealer, agent_id, incarnation, row};
use crate::entry::{Entry, LostEntry};
use crate::fold::TenantInput;
use crate::fold::intake::{CLOSED_KEPT, NoticeKind, ProgressQuery};
use crate::position::Position;

fn some_row(window: i64) -> Vec<tollgate_common::Rollup> {
    vec![row("acme", "http.requests", "eu", window, 1)]
}

pub(super) fn child_of(parent: &Sealer, n: u8, end: ParentEnd) -> Sealer {
    let mut child = Sealer::new(n);
    child.parent = Some(Parent {
        incarnation: parent.incarnation,
        last_sequence: parent.last(),
        last_hash: parent.last_hash,
        end,
    });
    child
}

fn held(sealer: &Sealer, first: u64, first_parent: BatchHash) -> Held {
    Held {
        incarnation: sealer.incarnation,
        first: BatchSeq::new(first).expect("from 1"),
        first_parent,
        last: BatchSeq::new(sealer.last()).expect("sealed"),
        last_hash: sealer.last_hash,
    }
}

#[test]
fn a_watermark_waits_for_holes_and_parents() {
    let mut books = Books::new();
    let mut old = Sealer::new(1);
    let batches: Vec<_> = (0..3).map(|n| old.seal(some_row(n), n == 2)).collect();
    books.batch(&batches[0]);
    assert_eq!(books.watermark, Some(batches[0].watermark));
    books.batch(&batches[2]);
    assert_eq!(
        books.watermark,
        Some(batches[0].watermark),
        "a hole holds it back"
    );
    assert_eq!(books.agent.as_ref().map(|state| state.gaps), Some(1));
    let mut new = child_of(&old, 2, ParentEnd::Final);
    let mut late = new.seal(some_row(3), false);
    late.watermark = Timestamp::from_secs(500);
    books.batch(&late);
    assert_eq!(
        books.watermark,
        Some(batches[0].watermark),
        "the parent is not accounted for"
    );
    books.batch(&batches[1]);
    assert_eq!(books.watermark, Some(Timestamp::from_secs(500)));
    assert_eq!(
        books.agent.as_ref().map(|state| state.incarnation),
        Some(incarnation(2))
    );
}

#[test]
fn a_watermark_is_capped_by_the_stamp() {
    let mut books = Books::new();
    let mut sealer = Sealer::new(1);
    let mut batch = sealer.seal(some_row(1_000_000), false);
    batch.watermark = Timestamp::MAX;
    books.batch(&batch);
    assert_eq!(books.watermark, Some(books.stamp.plus_millis(1000)));
    assert_eq!(books.noticed(NoticeKind::Future), 1);
}

#[test]
fn an_unclean_end_is_declared_once() {
    let mut books = Books::new();
    let mut old = Sealer::new(1);
    books.batch(&old.seal(some_row(0), false));
    let (from, to) = (Timestamp::from_secs(10), Timestamp::from_secs(99));
    let mut new = child_of(
        &old,
        2,
        ParentEnd::Unclean {
            reason: LossReason::UncleanBoot,
            from,
            to,
        },
    );
    let first = new.seal(some_row(1), false);
    books.batch(&first);
    books.batch(&first);
    assert_eq!(books.standing.len(), 1);
    let declared = &books.standing[0];
    assert_eq!(declared.incarnation, Some(incarnation(1)));
    assert_eq!(
        (declared.loss.amount, declared.loss.from, declared.loss.to),
        (LossAmount::Unknown, from, to)
    );
}

#[test]
fn a_new_state_directory_leaves_the_open_life_unknown() {
    let mut books = Books::new();
    books.batch(&Sealer::new(1).seal(some_row(0), false));
    books.batch(&Sealer::new(2).seal(some_row(1), true));
    assert_eq!(books.unknown_standing(), 1);
    assert_eq!(books.standing[0].incarnation, Some(incarnation(1)));
    books.batch(&Sealer::new(3).seal(some_row(2), false));
    assert_eq!(books.unknown_standing(), 1, "the life before was final");
}

#[test]
fn old_lives_keep_their_intervals_for_ever() {
    let mut books = Books::new();
    let mut before = Sealer::new(1);
    let first = before.seal(some_row(0), false);
    let lost = before.seal(some_row(1), false);
    let end = before.seal(some_row(2), true);
    books.batch(&first);
    books.tombstone(incarnation(1), 2);
    books.batch(&end);
    let mut sealer = before.clone();
    for n in 0..u8::try_from(CLOSED_KEPT).expect("small") {
        sealer = child_of(&sealer, n + 2, ParentEnd::Final);
        books.batch(&sealer.seal(some_row(i64::from(n) + 3), true));
    }
    let booked = Books::total(&books.booked);
    books.batch(&end);
    books.batch(&lost);
    assert_eq!(Books::total(&books.booked), booked);
    assert_eq!(books.noticed(NoticeKind::Duplicate), 1);
    assert_eq!(books.noticed(NoticeKind::GivenUp), 1, "its loss stands");
    assert_eq!(books.standing.len(), 1);
}

#[test]
fn a_given_up_journal_entry_is_declared() {
    let mut books = Books::new();
    books.apply(Entry::Lost(LostEntry {
        position: Position::from_bytes([3; 16]),
        author: "jane".to_owned(),
        reason: "no copy".to_owned(),
    }));
    assert_eq!(books.unknown_standing(), 1);
    assert_eq!(books.standing[0].agent, None);
    assert_eq!(books.noticed(NoticeKind::JournalLoss), 1);
}

#[test]
fn hello_is_answered_with_the_contiguous_prefix() {
    let mut books = Books::new();
    let mut sealer = Sealer::new(1);
    let batches: Vec<_> = (0..5).map(|n| sealer.seal(some_row(n), false)).collect();
    for index in [0, 1, 3] {
        books.batch(&batches[index]);
    }
    let query = |held| ProgressQuery {
        agent: agent_id(),
        held: vec![held],
    };
    let answer = books
        .intake
        .progress(&query(held(&sealer, 1, BatchHash::ZERO)));
    assert_eq!(
        (answer.resume[0].durable, answer.resume[0].durable_hash),
        (2, batches[1].hash())
    );
    assert!(answer.missing.is_empty());

    // The agent holds nothing before the fourth: the third is gone.
    let answer = books
        .intake
        .progress(&query(held(&sealer, 4, batches[2].hash())));
    let missing = &answer.missing[0];
    assert_eq!(
        (missing.from.get(), missing.to.get(), answer.missing.len()),
        (3, 3, 1)
    );
    assert_eq!(answer.resume[0].durable, 3);

    // An agent of which nothing is known begins anywhere.
    let mut other = Sealer::new(7);
    other.seal(some_row(0), false);
    let parent = other.last_hash;
    other.seal(some_row(1), false);
    let answer = books.intake.progress(&query(held(&other, 2, parent)));
    assert_eq!(
        (answer.resume[0].durable, answer.missing[0].to.get()),
        (1, 1)
    );
    assert_eq!(answer.others.len(), 1, "the other life may go on");
}

#[test]
fn hello_tells_a_clone_where_its_branch_stands() {
    let mut books = Books::new();
    let mut one = Sealer::new(1);
    let first = one.seal(some_row(0), false);
    books.batch(&first);
    let mut two = one.clone();
    for n in 1..4 {
        books.batch(&one.seal(some_row(n), false));
    }
    let query = |held| ProgressQuery {
        agent: agent_id(),
        held: vec![held],
    };
    let fork = two.seal(some_row(9), false);
    let answer = books.intake.progress(&query(held(&two, 2, first.hash())));
    assert_eq!(
        (answer.resume[0].durable, answer.resume[0].durable_hash),
        (1, first.hash()),
        "send your own batch 2"
    );
    books.batch(&fork);
    let answer = books.intake.progress(&query(held(&two, 2, first.hash())));
    assert_eq!(
        (answer.resume[0].durable, answer.resume[0].durable_hash),
        (2, fork.hash())
    );
}

#[test]
fn children_reveal_what_their_parents_lack() {
    let mut books = Books::new();
    let mut old = Sealer::new(1);
    books.batch(&old.seal(some_row(0), false));
    let gone = old.seal(some_row(1), true);
    let mut new = child_of(&old, 2, ParentEnd::Final);
    books.batch(&new.seal(some_row(2), false));
    let query = ProgressQuery {
        agent: agent_id(),
        held: Vec::new(),
    };
    let answer = books.intake.progress(&query);
    let missing = &answer.missing[0];
    assert_eq!(
        (missing.incarnation, missing.from.get(), missing.to.get()),
        (incarnation(1), 2, 2)
    );
    books.missing(incarnation(1), 2, 2);
    assert_eq!(books.unknown_standing(), 1);
    assert_eq!(books.watermark, Some(Timestamp::from_secs(10)));
    books.batch(&gone);
    assert!(books.standing.is_empty());
}

#[test]
fn a_period_waits_for_an_agent_that_has_no_watermark_yet() {
    let mut books = Books::new();
    let mut old = Sealer::new(1);
    old.seal(some_row(0), false);
    // The batch of the life before has not arrived: nothing is reported yet.
    let mut new = child_of(&old, 2, ParentEnd::Final);
    let output = books.batch(&new.seal(some_row(1), false));
    let known = output.inputs.iter().find_map(|(_, input)| match input {
        TenantInput::Watermarks(watermarks) => watermarks.get(&agent_id()),
        _ => None,
    });
    assert_eq!(known, Some(&Timestamp::EPOCH));
    assert_eq!(
        books.tombstone(incarnation(2), 9).inputs.len(),
        1,
        "told once: only the loss"
    );
}
