//! A journal that was set back to a backup: what agents hold comes again, what nobody has is
//! declared, and nothing is counted twice.

use proptest::prelude::*;
use tollgate_common::wire::Held;
use tollgate_common::{
    Batch, BatchHash, Lineage, LossAmount, LossReason, Parent, ParentEnd, Rollup, Timestamp,
};

use super::books::{Account, Books, Sealer, agent_id, incarnation, row};
use crate::entry::{Entry, Missing, Restored};
use crate::fold::intake::{Intake, NoticeKind, Progress, ProgressQuery};

fn restored() -> Entry {
    Entry::Restored(Restored {
        lineage: Lineage::from_bytes([7; 16]),
        previous: Lineage::from_bytes([9; 16]),
        author: "jane".to_owned(),
        reason: "the disk died".to_owned(),
    })
}

/// A hello that holds `batches`, which are consecutive ones of one life.
fn hello(books: &mut Books, batches: &[Batch]) -> Progress {
    let held = batches
        .first()
        .zip(batches.last())
        .map(|(first, last)| Held {
            incarnation: first.incarnation,
            first: first.sequence,
            first_parent: first.parent_hash,
            last: last.sequence,
            last_hash: last.hash(),
        });
    let query = ProgressQuery {
        agent: agent_id(),
        held: held.into_iter().collect(),
    };
    let progress = books.intake.progress(&query);
    for missing in &progress.missing {
        books.apply(Entry::Missing(missing.clone()));
    }
    progress
}

/// Rows of batch `n`: the requests of acme in each, bytes of acme in odd ones, requests of
/// beta in the fifth only.
fn rows(n: i64) -> Vec<Rollup> {
    let mut rows = vec![row("acme", "http.requests", "eu", n, 10 + i128::from(n))];
    if n % 2 == 1 {
        rows.push(row("acme", "net.bytes", "eu", n, 1000 * i128::from(n)));
    }
    if n == 5 {
        rows.push(row("beta", "http.requests", "eu", n, 77));
    }
    rows
}

fn account(tenant: &str, meter: &str) -> Account {
    (tenant.to_owned(), meter.to_owned())
}

/// The restore's own declaration: of nobody, for ever.
fn nobodys(books: &Books) -> Vec<(Timestamp, Timestamp)> {
    let own = books.standing.iter().filter(|loss| loss.agent.is_none());
    own.map(|declared| {
        assert_eq!(declared.loss.amount, LossAmount::Unknown);
        assert_eq!(declared.loss.reason, LossReason::JournalDamaged);
        (declared.loss.from, declared.loss.to)
    })
    .collect()
}

#[test]
fn what_nobody_has_is_lost_exactly_and_comes_back_exactly() {
    let mut sealer = Sealer::new(1);
    let batches: Vec<_> = (1..=11).map(|n| sealer.seal(rows(n), n == 11)).collect();
    // The backup has 1 to 4. Until the disk died, 5 to 7 were acknowledged and released.
    let mut books = Books::new();
    for batch in &batches[..4] {
        books.batch(batch);
    }
    let backup = books.stamp;
    books.stamp = backup.plus_millis(60_000);
    books.apply(restored());
    let opened = books.intake.opened().expect("opened");
    assert_eq!(opened.lineage, Lineage::from_bytes([7; 16]));
    assert_eq!(books.intake.restores(), 1);
    assert_eq!(books.noticed(NoticeKind::Restored), 1);
    // From the end of the last known span on.
    assert_eq!(nobodys(&books), [(batches[3].span.to, books.stamp)]);

    let progress = hello(&mut books, &batches[7..10]);
    assert_eq!(progress.resume[0].durable, 7, "8 to 10 come again");
    assert_eq!(books.noticed(NoticeKind::JournalBehind), 1);
    assert_eq!(books.unknown_standing(), 2);
    for batch in &batches[7..10] {
        books.batch(batch);
    }
    let lost = |books: &Books, tenant, meter| Books::of(&books.lost, &account(tenant, meter));
    assert_eq!(lost(&books, "acme", "http.requests"), 15 + 16 + 17);
    assert_eq!(lost(&books, "acme", "net.bytes"), 5000 + 7000);
    // Nothing of beta has come since: only the unknown speaks of it.
    assert_eq!(lost(&books, "beta", "http.requests"), 0);
    assert_eq!(books.unknown_standing(), 2);

    books.batch(&batches[10]);
    assert_eq!(lost(&books, "beta", "http.requests"), 77);
    assert_eq!(books.unknown_standing(), 1, "the final batch priced it");
    for (account, total) in &sealer.totals {
        assert_eq!(Books::of(&books.accepted, account), *total, "{account:?}");
    }
    let exact = books.standing.iter().filter(|loss| loss.agent.is_some());
    for loss in exact {
        assert_eq!(loss.loss.reason, LossReason::JournalDamaged);
        let (from, to) = loss.sequences.expect("numbers");
        assert!((5..=7).contains(&from) && (5..=7).contains(&to), "{loss:?}");
    }

    // What comes again is known, what turns up after all is no loss any more.
    books.batch(&batches[1]);
    books.batch(&batches[8]);
    assert_eq!(books.noticed(NoticeKind::Duplicate), 2);
    books.batch(&batches[5]);
    assert_eq!(lost(&books, "acme", "http.requests"), 15 + 17);
    books.batch(&batches[4]);
    books.batch(&batches[6]);
    assert_eq!(Books::total(&books.lost), 0);
    for (account, total) in &sealer.totals {
        assert_eq!(Books::of(&books.booked, account), *total, "{account:?}");
    }
    assert_eq!(nobodys(&books).len(), 1);
    assert_eq!(books.unknown_standing(), 1);
}

/// Without the operator's word nothing is counted otherwise, but only the agents that still
/// are there can speak of what is gone.
#[test]
fn a_restore_that_nobody_mentions_is_noticed() {
    let mut sealer = Sealer::new(1);
    let batches: Vec<_> = (1..=8).map(|n| sealer.seal(rows(n), n == 8)).collect();
    let mut books = Books::new();
    for batch in &batches[..4] {
        books.batch(batch);
    }
    // The agent holds nothing at its hello; the next batch shows the hole.
    hello(&mut books, &[]);
    assert_eq!(books.noticed(NoticeKind::JournalBehind), 0);
    books.missing(sealer.incarnation, 5, 7);
    books.batch(&batches[7]);
    assert_eq!(books.noticed(NoticeKind::JournalBehind), 1);
    let notice = books
        .notices
        .iter()
        .find(|n| n.kind == NoticeKind::JournalBehind);
    let detail = &notice.expect("noticed").detail;
    assert!(detail.contains("journal restored"), "{detail}");
    for (account, total) in &sealer.totals {
        assert_eq!(Books::of(&books.accepted, account), *total, "{account:?}");
    }
    assert_eq!(
        Books::of(&books.lost, &account("beta", "http.requests")),
        77
    );
    // What was there all the time is no sign of anything.
    books.missing(sealer.incarnation, 2, 6);
    assert_eq!(books.noticed(NoticeKind::JournalBehind), 1);
}

/// Another receiver appends the end of a life when its agent, which has released all of it, has
/// said hello already.
#[test]
fn what_lies_before_a_late_batch_is_declared_at_the_next_hello() {
    let mut sealer = Sealer::new(1);
    let batches: Vec<_> = (1..=8).map(|n| sealer.seal(rows(n), n == 8)).collect();
    let mut books = Books::new();
    for batch in &batches[..4] {
        books.batch(batch);
    }
    books.apply(restored());
    assert!(hello(&mut books, &[]).missing.is_empty());
    books.batch(&batches[6]);
    books.batch(&batches[7]);
    assert_eq!(Books::total(&books.lost), 0);
    assert_eq!(books.unknown_standing(), 1, "the restore's own");

    let missing = hello(&mut books, &[]).missing;
    let range = |missing: &Missing| (missing.from.get(), missing.to.get());
    assert_eq!(missing.iter().map(range).collect::<Vec<_>>(), [(5, 8)]);
    for (account, total) in &sealer.totals {
        assert_eq!(Books::of(&books.accepted, account), *total, "{account:?}");
    }
    let lost = |books: &Books, tenant, meter| Books::of(&books.lost, &account(tenant, meter));
    assert_eq!(lost(&books, "acme", "http.requests"), 15 + 16);
    assert_eq!(lost(&books, "beta", "http.requests"), 77);
    assert_eq!(
        books.unknown_standing(),
        1,
        "the final batch priced the rest"
    );

    // Said once, and taken back exactly.
    assert!(hello(&mut books, &[]).missing.is_empty());
    books.batch(&batches[5]);
    books.batch(&batches[4]);
    assert_eq!(Books::total(&books.lost), 0);
}

fn child_of(parent: &Sealer, n: u8) -> Sealer {
    let mut child = Sealer::new(n);
    child.parent = Some(Parent {
        incarnation: parent.incarnation,
        last_sequence: parent.last(),
        last_hash: parent.last_hash,
        end: ParentEnd::Final,
    });
    child
}

#[test]
fn a_life_that_nobody_has_is_declared_unknown() {
    let seal = |sealer: &mut Sealer, n: i64, last| sealer.seal(rows(n), last);
    let mut old = Sealer::new(1);
    let first: Vec<_> = (1..=3).map(|n| seal(&mut old, n, n == 3)).collect();
    let mut lost = child_of(&old, 2);
    let second: Vec<_> = (1..=2).map(|n| seal(&mut lost, n, n == 2)).collect();
    let mut new = child_of(&lost, 3);
    let mut third: Vec<_> = (1..=4).map(|n| seal(&mut new, n, n == 4)).collect();
    for (batch, n) in third.iter_mut().zip(100i64..) {
        batch.span.from = Timestamp::from_secs(n * 10);
        batch.span.to = Timestamp::from_secs(n * 10 + 10);
        batch.watermark = batch.span.to;
    }
    // Their hashes have changed.
    let mut parent = BatchHash::ZERO;
    for batch in &mut third {
        batch.parent_hash = parent;
        parent = batch.hash();
    }

    // The backup has two batches of the first life; of the third, two are released.
    let mut books = Books::new();
    books.batch(&first[0]);
    books.batch(&first[1]);
    books.apply(restored());
    hello(&mut books, &third[2..]);
    books.batch(&third[2]);
    let hidden = |books: &Books| -> Vec<_> {
        let hidden = books.standing.iter();
        hidden
            .filter(|loss| loss.agent.is_some() && loss.sequences.is_none())
            .map(|loss| (loss.incarnation, loss.loss.from, loss.loss.to))
            .collect()
    };
    let between = (Some(incarnation(1)), first[1].span.to, third[2].span.from);
    assert_eq!(hidden(&books), [between], "once");
    assert_eq!(books.watermark, Some(third[2].watermark));
    books.batch(&third[3]);
    assert_eq!(hidden(&books), [between], "only its first batch tells");
    // The lost batches of the third life are priced all the same.
    assert_eq!(
        Books::of(&books.lost, &account("acme", "http.requests")),
        11 + 12
    );

    // The first batch of the third life turns up and names the second one.
    books.batch(&third[0]);
    assert_eq!(hidden(&books), []);
    assert_eq!(
        Books::of(&books.lost, &account("acme", "http.requests")),
        12
    );
    let progress = hello(&mut books, &[]);
    let missing = &progress.missing[0];
    assert_eq!(missing.incarnation, incarnation(2));
    assert_eq!((missing.from.get(), missing.to.get()), (1, 2));
    let unknown = books
        .standing
        .iter()
        .find(|loss| loss.incarnation == Some(incarnation(2)));
    let unknown = unknown.expect("declared");
    assert_eq!(
        unknown.loss.from, first[1].span.to,
        "it may have begun there"
    );
    assert_eq!(unknown.loss.amount, LossAmount::Unknown);
    books.batch(&second[0]);
    books.batch(&second[1]);
    let names_it = |loss: &&crate::fold::DeclaredLoss| loss.incarnation == Some(incarnation(2));
    assert_eq!(books.standing.iter().filter(names_it).count(), 0);
}

#[test]
fn an_agent_that_the_backup_does_not_know_is_priced_too() {
    let mut sealer = Sealer::new(1);
    let batches: Vec<_> = (1..=6).map(|n| sealer.seal(rows(n), n == 6)).collect();
    let mut books = Books::new();
    books.apply(restored());
    hello(&mut books, &batches[4..]);
    books.batch(&batches[4]);
    books.batch(&batches[5]);
    for (account, total) in &sealer.totals {
        assert_eq!(Books::of(&books.accepted, account), *total, "{account:?}");
    }
    let lost = 11 + 12 + 13 + 14;
    assert_eq!(
        Books::of(&books.lost, &account("acme", "http.requests")),
        lost
    );
    // Of lives that it may have had before only the restore itself speaks.
    assert_eq!((books.unknown_standing(), nobodys(&books).len()), (1, 1));
}

#[test]
fn a_restore_survives_in_the_state() {
    let mut books = Books::new();
    books.apply(restored());
    books.apply(restored());
    let bytes = books.intake.to_bytes();
    let read = Intake::from_bytes(&bytes).expect("own bytes");
    assert_eq!(read, books.intake);
    assert_eq!(read.restores(), 2);
    let last = read.last_restore().expect("restored");
    assert_eq!(
        (last.author.as_str(), last.reason.as_str()),
        ("jane", "the disk died")
    );
    assert_eq!(last.previous, Lineage::from_bytes([9; 16]));
}

proptest! {
    /// Wherever the backup was taken, whatever was released and whatever turns up: what is
    /// declared is what is missing, per account, exactly.
    #[test]
    fn loss_is_what_is_missing(
        count in 2i64..20,
        backup in any::<prop::sample::Index>(),
        released in any::<prop::sample::Index>(),
        late in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        again in any::<bool>(),
    ) {
        let mut sealer = Sealer::new(1);
        let batches: Vec<_> = (1..=count).map(|n| sealer.seal(rows(n), n == count)).collect();
        let backup = backup.index(batches.len());
        // The final batch is always held.
        let released = backup + released.index(batches.len() - backup);
        let mut books = Books::new();
        for batch in &batches[..backup] {
            books.batch(batch);
        }
        books.apply(restored());
        let progress = hello(&mut books, &batches[released..]);
        prop_assert_eq!(progress.resume[0].durable, released as u64);
        let mut gone: Vec<usize> = (backup..released).collect();
        let mut turn_up = late.iter().map(|at| at.index(batches.len()));
        if again && let Some(at) = turn_up.next() {
            books.batch(&batches[at]);
            gone.retain(|n| *n != at);
        }
        for batch in &batches[released..] {
            books.batch(batch);
        }
        for at in turn_up {
            books.batch(&batches[at]);
            gone.retain(|n| *n != at);
        }
        for (account, total) in &sealer.totals {
            let rows = gone.iter().flat_map(|n| &batches[*n].rows);
            let missing: i128 = rows
                .filter(|row| row.series.tenant().as_str() == account.0)
                .filter(|row| row.series.meter().as_str() == account.1)
                .map(|row| row.value.units())
                .sum();
            prop_assert_eq!(Books::of(&books.lost, account), missing, "{:?}", account);
            prop_assert_eq!(Books::of(&books.booked, account), total - missing, "{:?}", account);
        }
        prop_assert_eq!(nobodys(&books).len(), 1);
    }
}
