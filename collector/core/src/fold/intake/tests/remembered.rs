//! Lost batches that their agent still remembers the totals of.

use tollgate_common::{
    Batch, BatchSeq, LossAmount, LossReason, Remembered, Rollup, Timestamp, Tombstone,
};

use super::books::{Books, Sealer, agent_id, row};
use crate::entry::Entry;
use crate::fold::intake::Intake;

/// The tombstone of a batch that was lost as a whole.
fn remembering(batch: &Batch, is_complete: bool) -> Entry {
    Entry::Tombstone(Tombstone {
        agent: agent_id(),
        incarnation: batch.incarnation,
        sequence: batch.sequence,
        reason: LossReason::SpoolDamaged,
        remembered: Some(Box::new(Remembered {
            cut: batch.span.to,
            watermark: batch.watermark,
            is_final: batch.is_final,
            is_complete,
            totals: batch.totals.clone(),
        })),
    })
}

fn rows(window: i64) -> Vec<Rollup> {
    vec![
        row("acme", "http.requests", "eu", window, 7),
        row("acme", "net.bytes", "eu", window, 900),
        row("globex", "http.requests", "us", window, 5),
    ]
}

/// A life of four batches, the last of which is final.
fn life() -> Vec<Batch> {
    let mut sealer = Sealer::new(1);
    (1..=4).map(|n| sealer.seal(rows(n), n == 4)).collect()
}

fn restart(books: &mut Books) {
    let bytes = books.intake.to_bytes();
    books.intake = Intake::from_bytes(&bytes).expect("own bytes");
    assert_eq!(books.intake.to_bytes(), bytes);
}

#[test]
fn a_final_batch_that_is_lost_is_priced_per_tenant_and_meter() {
    let batches = life();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.batch(&batches[1]);
    books.tombstone(batches[2].incarnation, 3);
    assert_eq!(books.unknown_standing(), 1);
    books.apply(remembering(&batches[3], true));
    // Two batches, to the unit, and nothing is left unknown.
    let lost: Vec<_> = books.lost.iter().collect();
    let account = |tenant: &str, meter: &str| (tenant.to_owned(), meter.to_owned());
    assert_eq!(
        lost,
        [
            (&account("acme", "http.requests"), &14),
            (&account("acme", "net.bytes"), &1800),
            (&account("globex", "http.requests"), &10),
        ]
    );
    assert_eq!(books.unknown_standing(), 0);
    for loss in &books.standing {
        assert_eq!(loss.sequences, Some((3, 4)));
        assert_eq!(loss.loss.reason, LossReason::SpoolDamaged);
    }
    assert_eq!(books.watermark, Some(batches[3].watermark));
    // The same tombstone again says nothing new.
    let standing = books.standing.clone();
    books.apply(remembering(&batches[3], true));
    assert_eq!(books.standing, standing);
}

#[test]
fn what_turns_up_after_all_takes_the_price_back() {
    for order in [[2, 3], [3, 2]] {
        let batches = life();
        let mut books = Books::new();
        books.batch(&batches[0]);
        books.batch(&batches[1]);
        books.tombstone(batches[2].incarnation, 3);
        books.apply(remembering(&batches[3], true));
        for index in order {
            restart(&mut books);
            books.batch(&batches[index]);
        }
        assert_eq!(Books::total(&books.lost), 0, "{:?}", books.standing);
        assert!(books.standing.is_empty());
        assert_eq!(Books::total(&books.booked), 4 * (7 + 900 + 5));
    }
}

#[test]
fn a_memory_with_holes_leaves_the_unknown_standing() {
    let batches = life();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.batch(&batches[1]);
    books.batch(&batches[2]);
    let mut tombstone = remembering(&batches[3], false);
    if let Entry::Tombstone(Tombstone {
        remembered: Some(remembered),
        ..
    }) = &mut tombstone
    {
        remembered.totals.remove(1);
    }
    books.apply(tombstone);
    let exact: i128 = Books::total(&books.lost);
    assert_eq!(exact, 7 + 5);
    let unknown = books
        .standing
        .iter()
        .filter(|loss| loss.loss.amount == LossAmount::Unknown);
    let ranges: Vec<_> = unknown.map(|loss| loss.sequences).collect();
    assert_eq!(ranges, [Some((4, 4))]);
}

#[test]
fn a_memory_beyond_a_hole_waits_for_the_hole() {
    let batches = life();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.apply(remembering(&batches[3], true));
    restart(&mut books);
    assert_eq!(Books::total(&books.lost), 0);
    assert_eq!(books.unknown_standing(), 1);
    books.batch(&batches[2]);
    books.batch(&batches[1]);
    assert_eq!(Books::total(&books.lost), 7 + 900 + 5);
    assert_eq!(books.unknown_standing(), 0);
    // A batch that is here needs no memory, and one that is gone already had its say.
    let standing = books.standing.clone();
    books.apply(remembering(&batches[1], true));
    assert_eq!(books.standing, standing);
}

#[test]
fn a_memory_below_what_arrived_is_noticed_and_the_rows_stand() {
    let batches = life();
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.batch(&batches[1]);
    let mut early = batches[0].clone();
    early.sequence = BatchSeq::new(3).expect("positive");
    early.span.to = Timestamp::from_secs(30);
    books.apply(remembering(&early, true));
    assert_eq!(Books::total(&books.lost), 0);
    assert_eq!(Books::total(&books.booked), 2 * (7 + 900 + 5));
    assert!(books.noticed(crate::fold::intake::NoticeKind::TotalsBelowRows) > 0);
}
