//! What is declared where running totals do not tell everything: an agent with no room for
//! another total, and a life that begins where another ended.

use tollgate_common::{Batch, LossAmount, ParentEnd, Quantity};

use super::books::{Books, Sealer, incarnation, row};
use super::lives::child_of;
use crate::fold::intake::NoticeKind;

fn account(tenant: &str) -> (String, String) {
    (tenant.to_owned(), "http.requests".to_owned())
}

/// The batch of an agent that keeps totals of `acme` alone: there is no room for others.
fn without_room(mut batch: Batch, sealer: &mut Sealer) -> Batch {
    batch.totals.retain(|total| total.tenant.as_str() == "acme");
    assert_eq!(batch.validate(), Ok(()));
    sealer.last_hash = batch.hash();
    batch
}

fn batches() -> (Sealer, Vec<Batch>) {
    let mut sealer = Sealer::new(1);
    let mut batches = Vec::new();
    for (window, is_final) in [(0, false), (1, false), (2, true)] {
        let rows = ["acme", "umbrella"]
            .map(|tenant| row(tenant, "http.requests", "eu", window, 10))
            .into();
        let batch = sealer.seal(rows, is_final);
        batches.push(without_room(batch, &mut sealer));
    }
    (sealer, batches)
}

#[test]
fn an_account_without_room_for_its_total_leaves_the_loss_unknown() {
    let (_, batches) = batches();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.tombstone(incarnation(1), 2);
    books.batch(&batches[2]);
    // What has a total is priced exactly; of what has none nobody knows how much it was, and
    // the final batch does not take that back.
    let exact = books
        .standing
        .iter()
        .filter_map(|loss| match loss.loss.amount {
            LossAmount::Exact(quantity) => Some((loss.loss.tenant.clone(), quantity)),
            _ => None,
        });
    let exact: Vec<_> = exact
        .map(|(tenant, quantity)| (tenant.map(|name| name.to_string()), quantity))
        .collect();
    assert_eq!(exact, [(Some("acme".to_owned()), Quantity::new(10))]);
    assert_eq!(books.unknown_standing(), 1, "{:?}", books.standing);
    assert_eq!(Books::of(&books.booked, &account("umbrella")), 20);
    assert_eq!(books.noticed(NoticeKind::TotalsBelowRows), 0);
}

#[test]
fn a_batch_without_room_for_totals_that_turns_up_takes_the_unknown_back() {
    let (_, batches) = batches();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.tombstone(incarnation(1), 2);
    books.batch(&batches[2]);
    books.batch(&batches[1]);
    assert!(books.standing.is_empty(), "{:?}", books.standing);
    for tenant in ["acme", "umbrella"] {
        assert_eq!(Books::of(&books.booked, &account(tenant)), 30);
    }
}

#[test]
fn totals_of_a_life_begin_anew_whatever_the_one_before_had_counted() {
    let mut books = Books::new();
    let mut old = Sealer::new(1);
    let rows = |window| vec![row("acme", "http.requests", "eu", window, 100)];
    books.batch(&old.seal(rows(0), false));
    books.batch(&old.seal(rows(1), true));
    let mut new = child_of(&old, 2, ParentEnd::Final);
    books.batch(&new.seal(rows(2), false));
    let lost = new.seal(rows(3), false);
    books.batch(&new.seal(rows(4), true));
    assert_eq!(Books::total(&books.lost), 0, "nothing is declared yet");
    books.tombstone(incarnation(2), lost.sequence.get());
    assert_eq!(Books::of(&books.lost, &account("acme")), 100);
    assert_eq!(Books::of(&books.accepted, &account("acme")), 500);
    assert_eq!(books.unknown_standing(), 0);
}
