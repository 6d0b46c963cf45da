//! Accepted = booked + refused + lost, at all times, in any order of arrival. The equation
//! itself is checked by [`Books`] after every entry.

use proptest::prelude::*;
use tollgate_common::{Batch, LossReason, Rollup};

use super::books::{Books, Sealer, row};
use crate::fold::intake::{Intake, NoticeKind};
use crate::fold::planted::PlantedBug;

/// What becomes of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    ArrivesTwice,
    Tombstone,
    Missing,
    /// Declared lost, and arrives (before or after, as the order has it).
    Both,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Arrives),
        1 => Just(Fate::ArrivesTwice),
        2 => Just(Fate::Tombstone),
        1 => Just(Fate::Missing),
        3 => Just(Fate::Both),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Batch(usize),
    Tombstone(usize),
    Missing(usize),
}

/// Rows: tenant, meter, region, value.
type RawRow = (usize, usize, usize, u16);

fn rows() -> impl Strategy<Value = Vec<RawRow>> {
    proptest::collection::vec((0usize..3, 0usize..2, 0usize..2, 0u16..50), 0..5)
}

/// The batches of one life, the last of them final.
fn seal(raw: &[Vec<RawRow>]) -> (Vec<Batch>, Sealer) {
    let mut sealer = Sealer::new(1);
    let mut batches = Vec::new();
    for (index, raw_rows) in raw.iter().enumerate() {
        let mut rows = Vec::new();
        for &(tenant, meter, region, value) in raw_rows {
            let row = row(
                ["acme", "umbrella", "villain"][tenant],
                ["http.requests", "net.bytes"][meter],
                ["eu", "us"][region],
                i64::try_from(index).expect("small"),
                i128::from(value),
            );
            if !rows.iter().any(|known: &Rollup| known.series == row.series) {
                rows.push(row);
            }
        }
        batches.push(sealer.seal(rows, index + 1 == raw.len()));
    }
    (batches, sealer)
}

/// Events in the order given by random keys.
fn events(fates: &[(Fate, u32, u32)]) -> Vec<Event> {
    let mut keyed = Vec::new();
    for (index, &(fate, first, second)) in fates.iter().enumerate() {
        match fate {
            Fate::Arrives => keyed.push((first, Event::Batch(index))),
            Fate::ArrivesTwice => {
                keyed.push((first, Event::Batch(index)));
                keyed.push((second, Event::Batch(index)));
            }
            Fate::Tombstone => keyed.push((first, Event::Tombstone(index))),
            Fate::Missing => keyed.push((first, Event::Missing(index))),
            Fate::Both => {
                keyed.push((first, Event::Batch(index)));
                keyed.push((second, Event::Tombstone(index)));
            }
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, event)| event).collect()
}

fn play(books: &mut Books, batches: &[Batch], events: &[Event]) {
    for event in events {
        match event {
            Event::Batch(index) => books.batch(&batches[*index]),
            Event::Tombstone(index) => {
                books.tombstone(batches[*index].incarnation, batches[*index].sequence.get())
            }
            Event::Missing(index) => {
                let (name, at) = (batches[*index].incarnation, batches[*index].sequence.get());
                books.missing(name, at, at)
            }
        };
    }
}

fn arrives(fate: Fate) -> bool {
    matches!(fate, Fate::Arrives | Fate::ArrivesTwice | Fate::Both)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_booked_once_or_declared_exactly(
        life in proptest::collection::vec((rows(), (fate(), any::<u32>(), any::<u32>())), 1..12),
    ) {
        let raw: Vec<_> = life.iter().map(|(rows, _)| rows.clone()).collect();
        let mut fates: Vec<_> = life.iter().map(|(_, fate)| *fate).collect();
        // The final batch arrives, so that everything gets its price.
        let last = fates.len() - 1;
        fates[last].0 = Fate::Arrives;
        let (batches, sealer) = seal(&raw);
        let mut books = Books::new();
        play(&mut books, &batches, &events(&fates));

        for (account, total) in &sealer.totals {
            prop_assert_eq!(Books::of(&books.accepted, account), *total, "accepted of {:?}", account);
        }
        let arrived: i128 = batches
            .iter()
            .zip(&fates)
            .filter(|(_, (fate, _, _))| arrives(*fate))
            .flat_map(|(batch, _)| batch.rows.iter().map(|row| row.value.units()))
            .sum();
        prop_assert_eq!(Books::total(&books.booked) + Books::total(&books.refused), arrived);
        prop_assert_eq!(books.unknown_standing(), 0, "a final batch prices everything");
        prop_assert_eq!(books.noticed(NoticeKind::TotalsBelowRows), 0);
        prop_assert!(books.standing.iter().all(|loss| loss.loss.reason != LossReason::TotalsMismatch));
        let lost = fates.iter().filter(|(fate, _, _)| !arrives(*fate)).count() as u64;
        let state = books.agent.clone().expect("heard of");
        prop_assert_eq!((state.lost, state.gaps, state.forks), (lost, 0, 0));
        prop_assert_eq!(state.sequence, batches.len() as u64);
        prop_assert_eq!(Some(state.watermark), books.watermark);
        prop_assert_eq!(state.watermark, batches[last].watermark);
        for loss in &books.standing {
            let (from, to) = loss.sequences.expect("batches are concerned");
            let lost = |n: u64| !arrives(fates[usize::try_from(n - 1).expect("small")].0);
            prop_assert!(lost(from) && lost(to), "{loss:?} names batches that arrived");
        }
    }

    #[test]
    fn without_a_final_batch_the_unknown_stands(
        life in proptest::collection::vec((rows(), (fate(), any::<u32>(), any::<u32>())), 2..10),
    ) {
        let raw: Vec<_> = life.iter().map(|(rows, _)| rows.clone()).collect();
        let mut fates: Vec<_> = life.iter().map(|(_, fate)| *fate).collect();
        let last = fates.len() - 1;
        fates[last].0 = Fate::Tombstone;
        let (batches, _) = seal(&raw);
        let mut books = Books::new();
        play(&mut books, &batches, &events(&fates));
        // Every lost batch is covered by a declaration, exact or unknown.
        for (index, (fate, _, _)) in fates.iter().enumerate() {
            let number = index as u64 + 1;
            let covered = books.standing.iter().any(|loss| {
                loss.sequences.is_some_and(|(from, to)| from <= number && number <= to)
            });
            prop_assert!(arrives(*fate) || covered, "batch {} is neither there nor declared", number);
        }
    }

    #[test]
    fn state_survives_as_bytes_anywhere(
        life in proptest::collection::vec((rows(), (fate(), any::<u32>(), any::<u32>())), 1..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let raw: Vec<_> = life.iter().map(|(rows, _)| rows.clone()).collect();
        let fates: Vec<_> = life.iter().map(|(_, fate)| *fate).collect();
        let (batches, _) = seal(&raw);
        let events = events(&fates);
        let (before, after) = events.split_at(cut.index(events.len() + 1));
        let mut straight = Books::new();
        play(&mut straight, &batches, before);
        let bytes = straight.intake.to_bytes();
        let mut resumed = Books::new();
        play(&mut resumed, &batches, before);
        resumed.intake = Intake::from_bytes(&bytes).expect("own bytes");
        prop_assert_eq!(resumed.intake.to_bytes(), bytes);
        play(&mut straight, &batches, after);
        play(&mut resumed, &batches, after);
        prop_assert_eq!(&resumed.outputs, &straight.outputs);
        prop_assert_eq!(resumed.intake.to_bytes(), straight.intake.to_bytes());
    }
}

#[test]
fn the_planted_bug_books_twice() {
    let (batches, sealer) = seal(&[vec![(0, 0, 0, 7)]]);
    let mut books = Books::over(Intake::with_bug(PlantedBug::DedupeOff));
    play(&mut books, &batches, &[Event::Batch(0), Event::Batch(0)]);
    let account = sealer.totals.keys().next().expect("one account");
    assert_eq!(Books::of(&books.booked, account), 14);
}

#[test]
fn a_late_batch_takes_back_exactly_what_was_declared() {
    let (batches, _) = seal(&[
        vec![(0, 0, 0, 5)],
        vec![(0, 0, 0, 7)],
        vec![(0, 0, 0, 9)],
        vec![(0, 0, 0, 2)],
    ]);
    let account = ("acme".to_owned(), "http.requests".to_owned());
    let mut books = Books::new();
    play(
        &mut books,
        &batches,
        &[Event::Batch(0), Event::Tombstone(1), Event::Tombstone(2)],
    );
    assert_eq!(books.unknown_standing(), 2);
    play(&mut books, &batches, &[Event::Batch(3)]);
    assert_eq!(Books::of(&books.lost, &account), 16);
    assert_eq!(books.unknown_standing(), 0);
    assert_eq!(books.standing[0].sequences, Some((2, 3)));
    play(&mut books, &batches, &[Event::Batch(2)]);
    assert_eq!(Books::of(&books.lost, &account), 7);
    assert_eq!(books.standing[0].sequences, Some((2, 2)));
    play(&mut books, &batches, &[Event::Batch(1)]);
    assert_eq!(Books::of(&books.lost, &account), 0);
    assert!(books.standing.is_empty());
    assert_eq!(books.noticed(NoticeKind::Recovered), 2);
}

#[test]
fn totals_that_contradict_rows_are_declared_or_noticed() {
    let mut sealer = Sealer::new(1);
    let account = ("acme".to_owned(), "net.bytes".to_owned());
    let mut books = Books::new();
    books.batch(&sealer.seal(vec![row("acme", "net.bytes", "eu", 0, 10)], false));
    // The agent forgets to send five units.
    *sealer.totals.get_mut(&account).expect("counted") += 5;
    books.batch(&sealer.seal(vec![row("acme", "net.bytes", "eu", 1, 1)], false));
    assert_eq!(Books::of(&books.lost, &account), 5);
    assert_eq!(books.standing[0].loss.reason, LossReason::TotalsMismatch);
    // Its total falls behind its rows.
    *sealer.totals.get_mut(&account).expect("counted") -= 8;
    books.batch(&sealer.seal(vec![row("acme", "net.bytes", "eu", 2, 1)], false));
    assert_eq!(books.noticed(NoticeKind::TotalsBelowRows), 1);
    assert_eq!(Books::of(&books.accepted, &account), 17);
}

/// What begins more than a day after it was received is accepted and refused, row by row.
#[test]
fn rows_from_the_future_are_refused() {
    let mut books = Books::new();
    let day = books.stamp.plus_millis(86_400_000).secs() / 10;
    let at = |window, value| row("acme", "http.requests", "eu", window, value);
    let rows = vec![at(0, 5), at(day, 6), at(day + 1, 7), at(1_000_000_000, 8)];
    books.batch(&Sealer::new(1).seal(rows, false));
    let account = ("acme".to_owned(), "http.requests".to_owned());
    assert_eq!((books.booked[&account], books.refused[&account]), (11, 15));
    let kinds: Vec<NoticeKind> = books.notices.iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [NoticeKind::Future]);
}
