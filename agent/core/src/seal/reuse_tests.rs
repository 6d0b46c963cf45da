//! Idle series give up their room while everything goes on: what each series has counted is told
//! exactly once and for no other, wherever a process is killed and whatever threads do at
//! once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use tollgate_common::sketch::{Histogram, UniqueSketch, hash};
use tollgate_common::wire::{Message, decode_record};
use tollgate_common::{
    AgentId, Aggregation, Batch, Detail, Dimensions, Incarnation, MeterName, Scale, SeriesKey,
    TenantId, WindowWidth,
};

use super::*;
use crate::aggregate::{AccountWords, CellsLayout, Identity, SeriesLimits, Slot, Writer, probe};

type Words = Arc<Vec<AtomicU64>>;
type Series = (SeriesKey, Aggregation);

const OPENED: Timestamp = Timestamp::from_secs(1_780_000_000);
const KINDS: [Aggregation; 6] = [
    Aggregation::Sum,
    Aggregation::Last,
    Aggregation::Max,
    Aggregation::Unique,
    Aggregation::Distribution,
    Aggregation::TimeWeighted,
];

/// Room for very few series, so that they take each other's all the time.
fn region(series_max: u32, wide_bytes: u64) -> Words {
    let layout = CellsLayout::new(2, series_max, 2048).expect("in range");
    let layout = layout.with_wide_bytes(wide_bytes).expect("in range");
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
    let accounts = [none.clone(), none.clone()];
    Cells::<Words>::fill(&words, layout, &identity, &accounts, &none);
    words
}

fn at(millis: i64) -> Timestamp {
    OPENED.plus_millis(millis)
}

fn key(tenant: u64, path: u64) -> SeriesKey {
    // Keys of different lengths, so that their room is cut into pieces.
    let path = "x".repeat(usize::try_from(path * 7).expect("small"));
    SeriesKey::new(
        TenantId::new(&format!("tenant-{tenant}")).expect("valid"),
        MeterName::new("requests").expect("valid"),
        Dimensions::new([("path", path)]).expect("valid"),
    )
    .expect("short")
}

/// What a series has counted, or what batches tell of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: u64,
    /// Of sums and distributions; of levels, the area.
    sum: i128,
    histogram: Histogram,
    /// Last values and maxima by window.
    values: BTreeMap<i64, i128>,
    distinct: BTreeMap<i64, UniqueSketch>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Book(BTreeMap<Series, Told>);

impl Book {
    fn of(&mut self, series: &SeriesKey, kind: Aggregation) -> &mut Told {
        self.0.entry((series.clone(), kind)).or_default()
    }

    fn tell(&mut self, batch: &Batch) {
        for row in &batch.rows {
            let told = self.of(&row.series, row.aggregation);
            let (window, value) = (row.window.start().millis(), row.value.units());
            told.events += row.events;
            match row.aggregation {
                Aggregation::Last => drop(told.values.insert(window, value)),
                Aggregation::Max => {
                    let max = told.values.entry(window).or_insert(value);
                    *max = value.max(*max);
                }
                Aggregation::Unique => {}
                _ => told.sum += value,
            }
            match &row.detail {
                Detail::None => {}
                Detail::Unique(sketch) => told.distinct.entry(window).or_default().merge(sketch),
                Detail::Distribution(more) => told.histogram.merge(more).expect("few"),
            }
        }
    }

    fn merge(&mut self, other: Self) {
        for ((series, kind), more) in other.0 {
            let told = self.of(&series, kind);
            told.events += more.events;
            told.sum += more.sum;
            told.histogram.merge(&more.histogram).expect("few");
            for (window, value) in more.values {
                let max = told.values.entry(window).or_insert(value);
                *max = value.max(*max);
            }
            for (window, sketch) in more.distinct {
                told.distinct.entry(window).or_default().merge(&sketch);
            }
        }
    }

    /// Nothing but what differs, where this differs from what it should be.
    fn check(&self, expected: &Self, of: &str) {
        let keys: Vec<_> = self.0.keys().chain(expected.0.keys()).collect();
        for series in keys {
            let (found, expected) = (self.0.get(series), expected.0.get(series));
            assert_eq!(found, expected, "{of}: {series:?}");
        }
    }

    fn events(&self) -> u64 {
        self.0.values().map(|told| told.events).sum()
    }

    fn sums(&self) -> i128 {
        let sums = self.0.iter().filter(|of| of.0.1 == Aggregation::Sum);
        sums.map(|(_, told)| told.sum).sum()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Counts `n` on a slot; false if it is stale.
fn count(writer: &mut Writer<Words>, slot: Slot, kind: Aggregation, now: i64, n: u64) -> bool {
    let signed = i64::try_from(n).expect("small");
    match kind {
        Aggregation::Sum => writer.add(slot, n).is_ok(),
        Aggregation::Last => writer.set(slot, at(now), signed).is_ok(),
        Aggregation::Max => writer.set_max(slot, at(now), signed).is_ok(),
        Aggregation::Unique => writer.insert(slot, at(now), hash(&n.to_le_bytes())).is_ok(),
        Aggregation::Distribution => writer.record(slot, n, 2).is_ok(),
        Aggregation::TimeWeighted => writer.set_level(slot, at(now), signed).is_ok(),
    }
}

/// What an input does: it counts on series that it remembers, and looks up those that it does
/// not, or that are stale.
struct Input {
    writer: Writer<Words>,
    random: Random,
    slots: BTreeMap<Series, Slot>,
    stale: Vec<(Slot, Aggregation)>,
    /// What it has counted, by the series that a slot was for.
    counted: Book,
    /// Levels: area so far, level, since when.
    levels: BTreeMap<SeriesKey, (i128, i128, i64)>,
    refused: u64,
}

impl Input {
    fn new(cells: &Cells<Words>, name: &str, seed: u64) -> Self {
        Self {
            writer: cells.writer(name).expect("free"),
            random: Random(seed),
            slots: BTreeMap::new(),
            stale: Vec::new(),
            counted: Book::default(),
            levels: BTreeMap::new(),
            refused: 0,
        }
    }

    fn pick(&mut self) -> Series {
        let kind = KINDS[usize::try_from(self.random.below(6)).expect("small")];
        (key(self.random.below(2), self.random.below(6)), kind)
    }

    fn resolve(&mut self, (series, kind): &Series) -> Option<Slot> {
        let slot = self.writer.resolve(series, *kind, Scale::ZERO).ok()?;
        self.slots.insert((series.clone(), *kind), slot);
        Some(slot)
    }

    /// Counts once at `now`. `named` tells whose a slot is; it may be an overflow series.
    fn count(&mut self, now: i64, named: impl Fn(Slot) -> SeriesKey) {
        let series = self.pick();
        let kind = series.1;
        // Distributions over several ranges; distinct values beyond one table.
        let range = self.random.below(30);
        let n = match kind {
            Aggregation::Distribution => self.random.below(1 << range),
            Aggregation::TimeWeighted => self.random.below(4) / 2 * 3,
            _ => self.random.below(100),
        };
        if let Some(&slot) = self.slots.get(&series) {
            if count(&mut self.writer, slot, kind, now, n) {
                self.note(&named(slot), kind, now, n);
                return;
            }
            // Stale, or no room for a chunk.
            if self.writer.resolve(&series.0, kind, Scale::ZERO) != Ok(slot) {
                self.stale.push((slot, kind));
            }
            self.slots.remove(&series);
        }
        let Some(slot) = self.resolve(&series) else {
            self.refused += 1;
            return;
        };
        if count(&mut self.writer, slot, kind, now, n) {
            self.note(&named(slot), kind, now, n);
        } else {
            self.refused += 1;
        }
    }

    fn note(&mut self, series: &SeriesKey, kind: Aggregation, now: i64, n: u64) {
        let told = self.counted.of(series, kind);
        let (window, value) = (at(now - now.rem_euclid(10_000)).millis(), i128::from(n));
        told.events += 1;
        match kind {
            Aggregation::Sum => told.sum += value,
            Aggregation::Last => drop(told.values.insert(window, value)),
            Aggregation::Max => {
                let max = told.values.entry(window).or_insert(value);
                *max = value.max(*max);
            }
            Aggregation::Unique => {
                let sketch = told.distinct.entry(window).or_default();
                sketch.insert(hash(&n.to_le_bytes()).max(1));
            }
            Aggregation::Distribution => {
                (told.events, told.sum) = (told.events + 1, told.sum + 2 * value);
                told.histogram.record(n, 2).expect("few");
            }
            Aggregation::TimeWeighted => {
                let entry = self.levels.entry(series.clone());
                let (area, level, since) = entry.or_insert((0, 0, now));
                *area += *level * i128::from(now - *since);
                (*level, *since) = (value, now);
            }
        }
    }

    /// A slot of a series that is gone counts nothing, ever.
    fn try_stale(&mut self, now: i64) {
        if self.stale.is_empty() {
            return;
        }
        let pick = self.random.below(self.stale.len() as u64);
        let (slot, kind) = self.stale[usize::try_from(pick).expect("small")];
        assert!(!count(&mut self.writer, slot, kind, now, 1), "{slot:?}");
    }

    /// What all batches should have told at `now`.
    fn expected(&self, now: i64) -> Book {
        let mut book = self.counted.clone();
        for (series, &(area, level, since)) in &self.levels {
            let told = book.of(series, Aggregation::TimeWeighted);
            told.sum = area + level * i128::from(now - since);
        }
        book
    }
}

fn named(cells: &Cells<Words>, writer: u32) -> impl Fn(Slot) -> SeriesKey + '_ {
    move |slot| {
        let slot = u32::try_from(slot.to_bits() & 0xffff_ffff).expect("masked");
        cells.key(writer, slot).expect("in use").key
    }
}

fn batch_of(sealed: &Sealed) -> Batch {
    let Ok(Message::Batch(batch)) = decode_record(&sealed.record) else {
        panic!("a record of a batch");
    };
    batch
}

/// What a next process makes of words left behind: everything told, the accounts and totals.
fn recover(words: Vec<AtomicU64>, told: &Book, durable: u64, now: i64, count_on: bool) -> Book {
    let cells = Cells::open(Arc::new(words)).expect("good");
    if cells.applied() < durable {
        assert!(cells.cut(durable).is_some());
        cells.set_applied(durable);
    }
    if count_on {
        // An input that is taken up again meets what a killed one left.
        let mut input = Input::new(&cells, "a", now.unsigned_abs());
        for _ in 0..20 {
            let (series, kind) = input.pick();
            if let Ok(slot) = input.writer.resolve(&series, kind, Scale::ZERO) {
                assert_eq!(input.writer.resolve(&series, kind, Scale::ZERO), Ok(slot));
            }
        }
    }
    let mut book = told.clone();
    let accepted: u64 = cells.accounts().iter().map(|of| of.1.accepted).sum();
    let mut sealer = Sealer::with_part_bytes(1 << 20);
    let sealed = sealer.seal(&cells, at(now), Mode::Final).expect("seals");
    assert!(sealed.complete && sealed.batch.losses.is_empty());
    let batch = batch_of(&sealed);
    book.tell(&batch);
    assert_eq!(book.events(), accepted, "the account of inputs");
    let totals: i128 = batch
        .totals
        .iter()
        .map(|total| total.quantity.units())
        .sum();
    assert_eq!(totals, book.sums(), "running totals");
    cells.set_applied(durable + 1);
    let tenants = cells.tenant_accounts(10);
    let tenants: u64 = tenants.busiest.iter().map(|of| of.account.accepted).sum();
    assert_eq!(tenants, accepted, "the accounts of tenants");
    book
}

fn copy(words: &[AtomicU64]) -> Vec<AtomicU64> {
    let load = |word: &AtomicU64| AtomicU64::new(word.load(Relaxed));
    words.iter().map(load).collect()
}

/// Runs `run`, and after every store that it makes looks at what a process killed there would
/// have left behind.
fn sweep<T>(
    words: &Words,
    (told, durable): (&Book, u64),
    (expected, now): (Book, i64),
    looks: &Rc<Cell<u64>>,
    run: impl FnOnce() -> T,
) -> T {
    let (words, told, looks) = (Arc::clone(words), told.clone(), Rc::clone(looks));
    let before = RefCell::new(Vec::new());
    probe::watch(
        move || {
            let found: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
            if *before.borrow() == found {
                return;
            }
            before.replace(found);
            looks.set(looks.get() + 1);
            let book = recover(copy(&words), &told, durable, now, looks.get() % 2 == 0);
            book.check(&expected, "killed");
        },
        run,
    )
}

fn sweep_of_seed(seed: u64, steps: u32) -> (u64, u64, u64) {
    let words = region(4, 24 << 10);
    let cells = Cells::open(Arc::clone(&words)).expect("good");
    let mut input = Input::new(&cells, "a", seed);
    let mut sealer = Sealer::with_part_bytes(if seed.is_multiple_of(2) { 200 } else { 1 << 20 });
    let (mut told, mut durable) = (Book::default(), 0);
    let (mut now, mut complete, mut to) = (0, true, 0);
    let looks = Rc::new(Cell::new(0));
    for _ in 0..steps {
        now += 1 + i64::try_from(input.random.below(20)).expect("small");
        let expected = (input.expected(now), now);
        match input.random.below(10) {
            0..5 => {
                input.count(now, named(&cells, 0));
                input.try_stale(now);
            }
            5 => {
                let series = input.pick();
                sweep(&words, (&told, durable), expected, &looks, || {
                    input.resolve(&series)
                });
            }
            6 | 7 => {
                for _ in 0..4 {
                    let slot = input.random.below(cells.published(0).max(1).into());
                    let slot = u32::try_from(slot).expect("small");
                    if let Some(seen) = cells.now(0, slot) {
                        cells.retire(0, slot, seen);
                    }
                }
                sweep(&words, (&told, durable), expected, &looks, || {
                    input.writer.poll_retired()
                });
            }
            _ => {
                if complete {
                    now += 10_000 - now.rem_euclid(10_000) + 20;
                    to = now;
                }
                let expected = input.expected(now);
                let sealed = sweep(
                    &words,
                    (&told, durable),
                    (expected.clone(), now),
                    &looks,
                    || sealer.seal(&cells, at(to), Mode::Window).expect("seals"),
                );
                if input.random.below(8) == 0 {
                    // The spool is full for a moment.
                    complete = false;
                    sealer.rewind();
                    continue;
                }
                told.tell(&batch_of(&sealed));
                durable += 1;
                sweep(&words, (&told, durable), (expected, now), &looks, || {
                    cells.set_applied(durable);
                });
                complete = sealed.complete;
            }
        }
        let book = recover(copy(&words), &told, durable, now, false);
        book.check(&input.expected(now), &format!("seed {seed}"));
    }
    let reused = (0..cells.published(0))
        .filter(|&slot| cells.generation(0, slot) > 1)
        .count();
    (looks.get(), reused as u64, input.stale.len() as u64)
}

#[test]
fn a_kill_at_any_store_leaves_every_series_its_own_counts() {
    let (mut looks, mut reused, mut stale) = (0, 0, 0);
    for seed in 1..=4 {
        let of = sweep_of_seed(seed, 120);
        (looks, reused, stale) = (looks + of.0, reused + of.1, stale + of.2);
    }
    assert!(
        looks > 1000 && reused > 10 && stale > 10,
        "{looks} {reused} {stale}"
    );
}

/// Two inputs and a sealer that retires what has been idle for a moment.
#[test]
fn threads_that_count_retire_and_seal_mix_nothing_up() {
    const ROUNDS: u32 = 60_000;
    let words = region(4, 24 << 10);
    let limits = SeriesLimits {
        idle_millis: 0,
        ..SeriesLimits::default()
    };
    let cells = Cells::open_with(Arc::clone(&words), limits).expect("good");
    let inputs = ["a", "b"].map(|name| Input::new(&cells, name, u64::from(name.as_bytes()[0])));
    let clock = AtomicU64::new(1);
    // The times that inputs have got to, so that time leaves none of them behind that waits for
    // a processor: what it counts then would be in a window that two seals have passed.
    let reached = [0, 0].map(AtomicU64::new);
    let running = AtomicBool::new(true);
    let now = |clock: &AtomicU64| i64::try_from(clock.load(Acquire)).expect("small");
    let (mut told, mut looked) = (Book::default(), 0);
    let inputs: Vec<Input> = std::thread::scope(|scope| {
        let counting: Vec<_> = (0..)
            .zip(inputs)
            .zip(&reached)
            .map(|((index, mut input), reached)| {
                let (cells, clock) = (&cells, &clock);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let begun = clock.load(Acquire);
                        if round % 512 < 400 {
                            // Each leaves the other its windows: no value waits for two seals.
                            input.count(now(clock), named(cells, index));
                            input.try_stale(now(clock));
                        } else {
                            std::thread::yield_now();
                        }
                        if round % 16 == 0 {
                            input.writer.poll_retired();
                        }
                        reached.store(begun, Release);
                    }
                    reached.store(u64::MAX, Release);
                    input
                })
            })
            .collect();
        let (running, cells, told) = (&running, &cells, &mut told);
        let (looked, clock, reached) = (&mut looked, &clock, &reached);
        let sealing = scope.spawn(move || {
            let mut sealer = Sealer::with_part_bytes(600);
            let (mut durable, mut all_there, mut first) = (0, false, true);
            while running.load(Relaxed) {
                let to = clock.load(Relaxed);
                if first {
                    all_there = reached.iter().all(|time| time.load(Acquire) >= to);
                }
                let sealed = sealer
                    .seal(cells, at(to.cast_signed()), Mode::Window)
                    .expect("seals");
                told.tell(&batch_of(&sealed));
                durable += 1;
                cells.set_applied(durable);
                first = sealed.complete;
                if sealed.complete && all_there {
                    clock.store((to / 10_000 + 1) * 10_000 + 20, Release);
                }
                sealer.recycle(sealed);
                *looked = durable;
            }
        });
        let inputs = counting
            .into_iter()
            .map(|thread| thread.join().expect("counts"))
            .collect();
        running.store(false, Relaxed);
        sealing.join().expect("seals");
        inputs
    });
    let end = now(&clock) + 5;
    let mut expected = inputs[0].expected(end);
    expected.merge(inputs[1].expected(end));
    let mut found = recover(copy(&words), &told, looked, end, false);
    // Values and windows race with the clock here; amounts do not.
    for book in [&mut expected, &mut found] {
        for told in book.0.values_mut() {
            let all = told.distinct.values().cloned().reduce(|mut all, more| {
                all.merge(&more);
                all
            });
            (told.values, told.distinct) = (BTreeMap::new(), BTreeMap::new());
            told.distinct.extend(all.map(|all| (0, all)));
        }
        for (_, told) in book
            .0
            .iter_mut()
            .filter(|of| of.0.1 == Aggregation::TimeWeighted)
        {
            told.sum = 0;
        }
    }
    found.check(&expected, "threads");
    let stale: usize = inputs.iter().map(|input| input.stale.len()).sum();
    assert!(stale > 100 && looked > 20, "{stale} stale, {looked} seals");
}
