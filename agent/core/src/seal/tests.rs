//! Cells, their sealer and a spool.

mod damaged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Message, decode_record};
use tollgate_common::{
    AgentId, Aggregation, Dimensions, Incarnation, MeterName, Scale, SeriesKey, TenantId,
    WindowWidth,
};

use super::*;
use crate::aggregate::{ADD_MAX, AccountWords, CellsLayout, Identity, Slot, Writer};
use crate::spool::{Room, Spool};

type Words = Arc<Vec<AtomicU64>>;

const OPENED: Timestamp = Timestamp::from_secs(1_780_000_000);

fn region(series_max: u32) -> Words {
    let layout = CellsLayout::new(2, series_max, 64 << 10).expect("in range");
    let words: Words = Arc::new((0..layout.words()).map(|_| AtomicU64::new(0)).collect());
    let identity = Identity {
        agent: AgentId::new("edge-1").expect("valid"),
        incarnation: Incarnation::from_bytes([3; 16]),
        boot_id: [9; 16],
        opened_at: OPENED,
        window: WindowWidth::from_secs(10).expect("divides 900"),
        parent: None,
        inherited: None,
        writers: vec!["a".to_owned(), "b".to_owned()],
    };
    let none = AccountWords::default();
    Cells::<Words>::fill(
        &words,
        layout,
        &identity,
        &[none.clone(), none.clone()],
        &none,
    );
    words
}

fn key(tenant: &str, path: usize) -> SeriesKey {
    SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new("requests").expect("valid"),
        Dimensions::new([("path", path.to_string())]).expect("valid"),
    )
    .expect("short")
}

/// Cells, their sealer and a spool.
struct Bench {
    cells: Cells<Words>,
    sealer: Sealer,
    spool: Spool<MemoryStorage>,
    batches: Vec<Batch>,
}

impl Bench {
    fn new(series_max: u32, part_bytes: usize) -> Self {
        Self::over(region(series_max), part_bytes)
    }

    fn over(words: Words, part_bytes: usize) -> Self {
        let config = LogConfig {
            segment_bytes: 1 << 20,
            bytes_max: 1 << 30,
        };
        let (spool, _) = Spool::open(MemoryStorage::new(1), config).expect("opens");
        Self {
            cells: Cells::open(words).expect("good"),
            sealer: Sealer::with_part_bytes(part_bytes),
            spool,
            batches: Vec::new(),
        }
    }

    fn writer(&self, name: &str) -> Writer<Words> {
        self.cells.writer(name).expect("free")
    }

    fn part(&mut self, secs: i64, mode: Mode) -> bool {
        let to = OPENED.plus_millis(secs * 1000);
        let sealed = self.sealer.seal(&self.cells, to, mode).expect("seals");
        let Ok(Message::Batch(batch)) = decode_record(&sealed.record) else {
            panic!("a record of a batch");
        };
        assert_eq!(batch.hash(), sealed.hash);
        assert_eq!(batch.rows.len() as u64, sealed.rows);
        let durable = self.spool.append(&sealed, Room::Ordinary).expect("room");
        assert!(apply(&self.cells, &durable));
        assert!(!apply(&self.cells, &durable), "only once");
        self.batches.push(batch);
        let complete = sealed.complete;
        self.sealer.recycle(sealed);
        complete
    }

    fn seal(&mut self, secs: i64, mode: Mode) {
        while !self.part(secs, mode) {}
    }

    fn last(&self) -> &Batch {
        self.batches.last().expect("sealed")
    }

    /// Sum of the rows of every series.
    fn sums(&self) -> BTreeMap<SeriesKey, i128> {
        let mut sums = BTreeMap::new();
        for row in self.batches.iter().flat_map(|batch| &batch.rows) {
            *sums.entry(row.series.as_ref().clone()).or_insert(0) += row.value.units();
        }
        sums
    }
}

fn sum_slot(writer: &mut Writer<Words>, key: &SeriesKey) -> Slot {
    let slot = writer.resolve(key, Aggregation::Sum, Scale::ZERO);
    slot.expect("room")
}

#[test]
fn writers_meet_in_one_row_and_totals_run_on() {
    let mut bench = Bench::new(100, 1 << 20);
    let (mut a, mut b) = (bench.writer("a"), bench.writer("b"));
    let acme = key("acme", 1);
    let (slot_a, slot_b) = (sum_slot(&mut a, &acme), sum_slot(&mut b, &acme));
    let other = sum_slot(&mut b, &key("umbrella", 1));
    a.add(slot_a, 5).expect("small");
    b.add(slot_b, 7).expect("small");
    b.add(other, 1).expect("small");
    bench.seal(10, Mode::Window);
    let batch = bench.last();
    assert_eq!(batch.rows.len(), 2);
    assert_eq!(
        (batch.rows[0].value, batch.rows[0].events),
        (12u64.into(), 2)
    );
    assert_eq!(batch.totals[0].quantity, 12u64.into());
    assert_eq!(batch.span.from, OPENED);
    assert_eq!(batch.watermark, OPENED.plus_millis(10_000));

    a.add(slot_a, 1).expect("small");
    bench.seal(21, Mode::Window);
    let batch = bench.last();
    assert_eq!((batch.rows.len(), batch.totals.len()), (1, 1));
    assert_eq!(batch.rows[0].window.start(), OPENED.plus_millis(10_000));
    assert_eq!(batch.totals[0].quantity, 13u64.into());

    bench.seal(22, Mode::Final);
    let batch = bench.last();
    assert!(batch.is_final && batch.rows.is_empty());
    assert_eq!(batch.totals.len(), 2, "a final batch has all totals");
    let again = bench.sealer.seal(&bench.cells, OPENED, Mode::Window);
    assert!(matches!(again, Err(SealError::Final)));
}

#[test]
fn sums_beyond_two_to_the_sixty_four_stay_exact() {
    let mut bench = Bench::new(10, 1 << 20);
    let mut writer = bench.writer("a");
    let slot = sum_slot(&mut writer, &key("acme", 1));
    let mut counted: i128 = 0;
    for window in 1..=12 {
        while writer.add(slot, ADD_MAX).is_ok() {
            counted += i128::from(ADD_MAX);
        }
        bench.seal(window * 10, Mode::Window);
    }
    assert!(counted > 1 << 66);
    assert_eq!(bench.sums().values().sum::<i128>(), counted);
    assert_eq!(bench.last().totals[0].quantity.units(), counted);
}

#[test]
fn a_large_cut_comes_in_parts_and_only_the_last_moves_time() {
    let mut bench = Bench::new(1000, 2000);
    let mut writer = bench.writer("a");
    for path in 0..300 {
        let slot = sum_slot(&mut writer, &key("acme", path));
        writer.add(slot, path as u64).expect("small");
    }
    bench.seal(10, Mode::Window);
    let parts = bench.batches.len();
    assert!(parts > 5, "{parts}");
    let (last, before) = bench.batches.split_last().expect("sealed");
    assert!(before.iter().all(|batch| batch.watermark == OPENED));
    assert!(bench.batches.iter().all(|batch| batch.span.from == OPENED));
    assert_eq!(last.watermark, OPENED.plus_millis(10_000));
    assert_eq!(last.totals[0].quantity.units(), (0..300).sum::<i128>());
    let sums = bench.sums();
    assert_eq!(sums.len(), 300);
    assert!(
        sums.iter()
            .all(|(series, sum)| *series == key("acme", usize::try_from(*sum).expect("small")))
    );
    drop(writer);
    bench.seal(12, Mode::Final);
    assert!(bench.last().is_final);
}

#[test]
fn a_seal_given_up_leaves_everything_where_it_was() {
    let mut bench = Bench::new(100, 1 << 20);
    let mut writer = bench.writer("a");
    let slot = sum_slot(&mut writer, &key("acme", 1));
    for secs in 1..5 {
        writer.add(slot, 10).expect("small");
        let to = OPENED.plus_millis(secs * 10_000);
        let sealed = bench.sealer.seal(&bench.cells, to, Mode::Window);
        assert_eq!(sealed.expect("seals").batch.sequence.get(), 1);
        bench.sealer.rewind();
    }
    bench.seal(60, Mode::Window);
    assert_eq!(bench.last().rows[0].value, 40u64.into());
    assert_eq!(
        bench.last().rows[0].window.start(),
        OPENED,
        "the first window"
    );
}

#[test]
fn last_values_keep_their_windows() {
    let mut bench = Bench::new(100, 1 << 20);
    let (mut a, mut b) = (bench.writer("a"), bench.writer("b"));
    let acme = key("acme", 1);
    let resolve = |writer: &mut Writer<Words>| {
        let slot = writer.resolve(&acme, Aggregation::Last, Scale::ZERO);
        slot.expect("room")
    };
    let (slot_a, slot_b) = (resolve(&mut a), resolve(&mut b));
    let width = bench.cells.identity().window;
    let first = Window::containing(OPENED, width);
    a.set(slot_a, first.start(), -4).expect("own slot");
    a.set(slot_a, first.start(), -5).expect("own slot");
    b.set(slot_b, first.start(), 6).expect("own slot");
    a.set(slot_a, first.next().start(), 9).expect("own slot");
    bench.seal(12, Mode::Window);
    let rows = &bench.last().rows;
    let seen: Vec<_> = rows
        .iter()
        .map(|row| (row.window, row.value.units(), row.events))
        .collect();
    assert_eq!(seen, [(first, 6, 3), (first.next(), 9, 1)]);
    assert!(bench.last().totals.is_empty(), "only sums have totals");
    // A late one becomes a row of its window, in the next batch; nothing new, no row.
    b.set(slot_b, first.start(), 7).expect("own slot");
    bench.seal(22, Mode::Window);
    assert_eq!(
        (bench.last().rows.len(), bench.last().rows[0].window),
        (1, first)
    );
    bench.seal(32, Mode::Window);
    assert!(bench.last().rows.is_empty());
}

#[test]
fn a_damaged_slot_is_declared_and_harms_no_other() {
    let words = region(100);
    let bench = Bench::over(Arc::clone(&words), 1 << 20);
    let mut writer = bench.writer("a");
    for path in 0..3 {
        let slot = sum_slot(&mut writer, &key("acme", path));
        writer.add(slot, 10).expect("small");
    }
    drop((writer, bench));
    // One bit of the second key.
    let layout = CellsLayout::new(2, 100, 64 << 10).expect("in range");
    let at = words[layout.slots(0).start + 2].load(Relaxed) >> 32;
    let at = layout.keys(0).start + usize::try_from(at).expect("small");
    words[at].fetch_xor(2, Relaxed);
    let mut bench = Bench::over(words, 1 << 20);
    bench.seal(10, Mode::Window);
    assert_eq!(bench.last().rows.len(), 2);
    assert_eq!(bench.last().losses[0].reason, LossReason::CellsDamaged);
    bench.seal(20, Mode::Window);
    assert!(bench.last().losses.is_empty(), "declared once");
}

#[test]
fn cuts_in_the_middle_of_counting_conserve_every_count() {
    const THREADS: usize = 2;
    const ROUNDS: u64 = 200_000;
    let mut bench = Bench::new(100, 400);
    let writers: Vec<_> = ["a", "b"].map(|name| bench.writer(name)).into();
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let counting: Vec<_> = writers
            .into_iter()
            .map(|mut writer| {
                scope.spawn(move || {
                    let slots: Vec<Slot> = (0..20)
                        .map(|path| sum_slot(&mut writer, &key("acme", path)))
                        .collect();
                    for round in 0..ROUNDS {
                        let slot = slots[usize::try_from(round % 20).expect("small")];
                        writer.add(slot, round).expect("small");
                    }
                })
            })
            .collect();
        let running = &running;
        scope.spawn(move || {
            for thread in counting {
                thread.join().expect("counts");
            }
            running.store(false, Relaxed);
        });
        let mut secs = 1;
        while running.load(Relaxed) {
            bench.seal(secs * 10, Mode::Window);
            secs += 1;
        }
    });
    bench.seal(1_000_000, Mode::Final);
    let sum: i128 = bench.sums().values().sum();
    let expected = i128::from(ROUNDS) * i128::from(ROUNDS - 1) / 2;
    assert_eq!(sum, expected * THREADS as i128);
    // A last part without rows has nothing to tell that the part before has not told.
    let mut totals = bench.batches.iter().rev().flat_map(|batch| &batch.totals);
    let total = totals.next().expect("told").quantity.units();
    assert_eq!(total, sum);
    let events: u64 = bench
        .batches
        .iter()
        .flat_map(|b| &b.rows)
        .map(|row| row.events)
        .sum();
    assert_eq!(events, ROUNDS * THREADS as u64);
}

#[derive(Clone, Debug)]
enum Act {
    Add {
        writer: usize,
        path: usize,
        amount: u64,
    },
    Part,
    GiveUp,
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let add = (0..2usize, 0..30usize, prop_oneof![0..100u64, any::<u64>()]).prop_map(
        |(writer, path, amount)| Act::Add {
            writer,
            path,
            amount,
        },
    );
    let act =
        prop_oneof![6 => add, 2 => Just(Act::Part), 1 => Just(Act::GiveUp), 1 => Just(Act::Kill)];
    proptest::collection::vec(act, 1..120)
}

proptest! {
    /// Whatever is added, sealed in parts, given up or interrupted: rows and totals are what
    /// was accepted.
    #[test]
    fn seals_conserve(acts in acts(), part_bytes in 100..2000usize) {
        let words = region(12);
        let mut bench = Bench::over(Arc::clone(&words), part_bytes);
        let mut writers: Vec<_> = ["a", "b"].map(|name| bench.writer(name)).into();
        let mut accepted: i128 = 0;
        let mut secs = 0;
        for act in acts {
            secs += 3;
            match act {
                Act::Add { writer, path, amount } => {
                    let writer = &mut writers[writer];
                    let slot = sum_slot(writer, &key("acme", path));
                    if writer.add(slot, amount).is_ok() {
                        accepted += i128::from(amount);
                    }
                }
                Act::Part => {
                    bench.part(secs, Mode::Window);
                }
                Act::GiveUp => {
                    let to = OPENED.plus_millis(secs * 1000);
                    bench.sealer.seal(&bench.cells, to, Mode::Window).expect("seals");
                    bench.sealer.rewind();
                }
                Act::Kill => {
                    writers.clear();
                    bench.cells = Cells::open(Arc::clone(&words)).expect("good");
                    bench.sealer = Sealer::with_part_bytes(part_bytes);
                    writers = ["a", "b"].map(|name| bench.writer(name)).into();
                }
            }
        }
        bench.seal(secs + 1, Mode::Final);
        prop_assert_eq!(bench.sums().values().sum::<i128>(), accepted);
        let told = bench.last().totals.first().map_or(0, |total| total.quantity.units());
        prop_assert!(told == accepted || bench.last().totals.is_empty());
        let mut before = BatchHash::ZERO;
        for batch in &bench.batches {
            prop_assert_eq!(batch.parent_hash, before);
            before = batch.hash();
        }
    }
}

/// Rows of an aggregation: window start in seconds since the opening, value, events.
fn rows_of(bench: &Bench, aggregation: Aggregation) -> Vec<(i64, i128, u64)> {
    let rows = bench.batches.iter().flat_map(|batch| &batch.rows);
    let rows = rows.filter(|row| row.aggregation == aggregation);
    rows.map(|row| {
        let start = row.window.start().millis_since(OPENED) / 1000;
        (start, row.value.units(), row.events)
    })
    .collect()
}

fn at(millis: i64) -> Timestamp {
    OPENED.plus_millis(millis)
}

#[test]
fn levels_are_told_window_by_window_and_carried() {
    let mut bench = Bench::new(100, 1 << 20);
    let mut writer = bench.writer("a");
    let slot = writer.resolve(&key("acme", 1), Aggregation::TimeWeighted, Scale::ZERO);
    let slot = slot.expect("room");
    writer.set_level(slot, at(3_000), 5).expect("a level");
    bench.seal(10, Mode::Window);
    // Nothing is set in two windows, and the third is cut late.
    bench.seal(20, Mode::Window);
    bench.seal(30, Mode::Window);
    writer.set_level(slot, at(34_000), 2).expect("a level");
    writer.set_level(slot, at(40_200), 100).expect("a level");
    bench.seal(41, Mode::Window);
    drop(writer);
    bench.seal(43, Mode::Final);
    assert_eq!(
        rows_of(&bench, Aggregation::TimeWeighted),
        [
            (0, 5 * 7_000, 1),
            (10, 5 * 10_000, 0),
            (20, 5 * 10_000, 0),
            (30, 5 * 4_000 + 2 * 6_000, 2),
            (40, 2 * 200 + 100 * 2_800, 0),
        ]
    );
}

#[test]
fn seals_that_come_late_tell_every_window_of_a_level_that_held() {
    let mut bench = Bench::new(100, 1 << 20);
    let mut writer = bench.writer("a");
    let slot = writer.resolve(&key("acme", 1), Aggregation::TimeWeighted, Scale::ZERO);
    writer
        .set_level(slot.expect("room"), at(0), 3)
        .expect("a level");
    bench.seal(35, Mode::Window);
    drop(writer);
    bench.seal(100_000, Mode::Final);
    let rows = rows_of(&bench, Aggregation::TimeWeighted);
    assert_eq!(
        rows[..3],
        [(0, 30_000, 0), (10, 30_000, 0), (20, 30_000, 1)]
    );
    assert!(
        rows.len() < 3 + 130,
        "a long time is told in {} rows",
        rows.len()
    );
    let area: i128 = rows.iter().map(|row| row.1).sum();
    assert_eq!(area, 3 * 100_000 * 1000);
}

#[test]
fn distributions_and_distinct_values_are_told_as_differences() {
    let mut bench = Bench::new(100, 1 << 20);
    let (mut a, mut b) = (bench.writer("a"), bench.writer("b"));
    let [slot_a, slot_b] = [&mut a, &mut b].map(|writer| {
        let [size, user] = [Aggregation::Distribution, Aggregation::Unique];
        [size, user].map(|kind| {
            let slot = writer.resolve(&key("acme", 1), kind, Scale::ZERO);
            slot.expect("room")
        })
    });
    for value in 1..=100 {
        a.record(slot_a[0], value, 1).expect("counted");
        b.record(slot_b[0], value * 1000, 2).expect("counted");
        a.insert(slot_a[1], at(1_000), value).expect("counted");
        b.insert(slot_b[1], at(1_000), value + 50).expect("counted");
    }
    bench.seal(10, Mode::Window);
    a.record(slot_a[0], 7, 3).expect("counted");
    a.insert(slot_a[1], at(11_000), 1).expect("counted");
    a.insert(slot_a[1], at(11_000), 1).expect("counted");
    bench.seal(20, Mode::Window);
    bench.seal(30, Mode::Window);
    let sum = 5050 + 2 * 5050 * 1000;
    assert_eq!(
        rows_of(&bench, Aggregation::Distribution),
        [(0, sum, 300), (10, 21, 3)]
    );
    assert_eq!(
        rows_of(&bench, Aggregation::Unique),
        [(0, 150, 200), (10, 1, 2)]
    );
    let rows = bench.batches.iter().flat_map(|batch| &batch.rows);
    let counts = rows.filter_map(|row| match &row.detail {
        tollgate_common::Detail::Distribution(histogram) => Some(
            histogram
                .buckets()
                .iter()
                .map(|bucket| bucket.1)
                .sum::<u64>(),
        ),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [300, 3]);
}
