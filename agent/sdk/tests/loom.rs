//! Models of the cells' protocols: every order in which threads may see each other's stores.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p tollgate --no-default-features --release --test loom`
//!
//! Everything that two threads, or two processes, use without a lock:
//!
//! | structure | module | models |
//! | --- | --- | --- |
//! | slots of cells and pages, and whatever else is a list that grows | `sum` | `a_published_…` |
//! | sums | `cell::sum` | `cuts_of_a_sum_…`, `a_handed_over_cell_…` |
//! | last values and maxima | `cell::halves` | `a_half_…` |
//! | levels | `cell::level` | `a_level_…` |
//! | histograms | `cell::histogram` | `a_histogram_…` |
//! | distinct values | `cell::unique` | `distinct::…` |
//! | baselines and the applied batch | `cell::baseline` | `the_baseline_…`, `a_settled_cell_…` |
//! | slots that change hands | `cell::retire` | `a_slot_changes_hands_…` |
//! | leases of the blocks of a page | `cell::lease` | `no_lease_…` |
//! | the level of a process, told by one thread at a time | `cell::newest` | `newest::…` |
//! | receipts, in the accounts of inputs and the records of tenants | `cell::receipt` | `accounts::what_is_decided_…`, `accounts::a_record_…` |
//! | running totals | `cell::totals` | `accounts::running_totals_…` |
//!
//! Not modelled, because they are a word of which nothing else depends, or other crates' with
//! models of their own: flags and numbers that are only shown or counted up (`fetch_add`), the
//! version of what is in force (what it stands for is under a lock), and the queue of requests to
//! retire (`crossbeam`).
#![cfg(loom)]

#[path = "loom/accounts.rs"]
mod accounts;
#[path = "loom/distinct.rs"]
mod distinct;
#[path = "loom/newest.rs"]
mod newest;

use std::sync::atomic::AtomicU64 as Count;

use loom::sync::Arc;
use loom::thread;
use tollgate::cell::atomic::{AtomicU64, Ordering};
use tollgate::cell::{Room, baseline, halves, histogram, lease, level, retire, sum};

fn words(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Tries all orders. Which ones `loom` finds depends on whether there is a point to switch before
/// the first access: without one it tries no other order for some models, with one fewer for
/// others. So both are tried, and counted: a model of one order shows nothing.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let (run, tried) = (std::sync::Arc::new(run), std::sync::Arc::new(Count::new(0)));
    for switch_first in [false, true] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        let (run, tried) = (std::sync::Arc::clone(&run), std::sync::Arc::clone(&tried));
        builder.check(move || {
            tried.fetch_add(1, Ordering::Relaxed);
            if switch_first {
                thread::yield_now();
            }
            run();
        });
    }
    let tried = tried.load(Ordering::Relaxed);
    assert!(tried > 4, "only {tried} orders were tried");
}

/// Room that is never given back.
struct Bump(u32);

impl Room for Bump {
    fn take(&mut self, words: u32) -> Option<u32> {
        self.0 += words;
        Some(self.0 - words)
    }

    fn give(&mut self, _: u32, _: u32) {}
}

/// What is published is whole.
#[test]
fn a_published_slot_is_complete() {
    model(|| {
        let shared = words(3);
        let writer = Arc::clone(&shared);
        let writing = thread::spawn(move || {
            writer[1].store(7, Ordering::Relaxed);
            writer[2].store(9, Ordering::Relaxed);
            writer[0].store(1, Ordering::Release);
        });
        if shared[0].load(Ordering::Acquire) == 1 {
            assert_eq!(shared[1].load(Ordering::Relaxed), 7);
            assert_eq!(shared[2].load(Ordering::Relaxed), 9);
        }
        writing.join().expect("no panic");
    });
}

/// A cut never has an event without its amount, and the next cut has the rest.
#[test]
fn cuts_of_a_sum_lose_nothing() {
    model(|| {
        let cell = words(2);
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || {
            for _ in 0..2 {
                sum::add(&writer[0], &writer[1], 5, 1, 0, || 0).expect("room");
            }
        });
        let [first, done] = sum::read(&cell).expect("one generation");
        assert!(first >= 5 * done, "an event is in the sum");
        writing.join().expect("no panic");
        let [second, all] = sum::read(&cell).expect("one generation");
        assert_eq!(first + second.wrapping_sub(first), 10);
        assert_eq!(done + sum::events_between(all, done), 2);
    });
}

/// A cell that changes hands: nobody books what the next series counts to the one before.
#[test]
fn a_handed_over_cell_never_counts_for_the_series_before() {
    model(|| {
        let cell = words(2);
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || {
            sum::hand_over(&writer, 1);
            let tag = sum::with_generation(0, 1);
            sum::add(&writer[0], &writer[1], 5, 1, tag, || 0).expect("room");
            let stale = sum::add(&writer[0], &writer[1], 5, 1, 0, || 0);
            assert_eq!(stale, Err(sum::AddError::WrongSlot));
        });
        if let Some([sum, done]) = sum::read(&cell) {
            assert!(sum == 0 || sum::generation(done) == 1);
        }
        writing.join().expect("no panic");
    });
}

/// A writer never takes a baseline from the array that is being written.
#[test]
fn the_baseline_in_force_is_never_one_in_the_making() {
    model(|| {
        // applied, even, odd: the values of an array while its batch is in force.
        let shared = words(3);
        let sealer = Arc::clone(&shared);
        let sealing = thread::spawn(move || {
            for sequence in 1..3u64 {
                baseline::begin_cut();
                let at = 1 + baseline::parity(sequence);
                sealer[at].store(1000, Ordering::Relaxed);
                sealer[at].store(sequence, Ordering::Relaxed);
                baseline::apply(&sealer[0], sequence);
            }
        });
        let base = baseline::in_force(&shared[0], [&shared[1], &shared[2]]);
        assert!(base < 1000);
        sealing.join().expect("no panic");
    });
}

/// A retired cell is settled only if what it has counted is in force, whatever seals are given
/// up or leave it out.
#[test]
fn a_settled_cell_stays_settled() {
    model(|| {
        // applied; even base, odd base: (sum, events); the cell.
        let shared = words(7);
        shared[5].store(5, Ordering::Relaxed);
        shared[6].store(1, Ordering::Relaxed);
        let sealer = Arc::clone(&shared);
        let sealing = thread::spawn(move || {
            let put = |parity: usize, sum, events| {
                sealer[1 + 2 * parity].store(sum, Ordering::Relaxed);
                sealer[2 + 2 * parity].store(events, Ordering::Relaxed);
            };
            // Given up; then left out; then sealed.
            baseline::begin_cut();
            put(1, 5, 1);
            put(1, 0, 0);
            baseline::apply(&sealer[0], 1);
            baseline::begin_cut();
            put(0, 5, 1);
        });
        let bases = [&shared[1..3], &shared[3..5]];
        assert!(!baseline::settled(&shared[0], &shared[5..7], bases));
        sealing.join().expect("no panic");
    });
}

/// A reader gets a window and a value that were set together.
#[test]
fn a_half_is_never_read_by_half() {
    for keep in [halves::Keep::Last, halves::Keep::Max] {
        model(move || {
            let cell = words(halves::WORDS);
            let writer = Arc::clone(&cell);
            let writing = thread::spawn(move || {
                for n in [1, 2, 3] {
                    halves::set(&writer, n * 20, 10, n * 20, keep, |_, _| true);
                }
            });
            if let Some(cut) = halves::read(&cell, 0) {
                assert_eq!(cut.window, cut.value);
            }
            writing.join().expect("no panic");
            assert_eq!(halves::read(&cell, 0).map(|cut| cut.value), Some(60));
        });
    }
}

/// The integral up to any instant since the last set is exact, whichever set is seen.
#[test]
fn a_level_is_read_whole() {
    model(|| {
        let cell = words(level::WORDS);
        level::set(&cell, 0, 100, 1);
        let writer = Arc::clone(&cell);
        let writing = thread::spawn(move || {
            // The level is time + 1, so that the integral tells which sets it is of.
            level::set(&writer, 10, 100, 11);
            level::set(&writer, 20, 100, 21);
        });
        if let Some(state) = level::read(&cell) {
            let expected = match state.events {
                1 => (1, 0, 0),
                2 => (11, 10, 10),
                _ => (21, 20, 120),
            };
            assert_eq!((state.level, state.since, state.integral), expected);
        }
        writing.join().expect("no panic");
        let state = level::read(&cell).expect("quiet");
        assert_eq!(state.at(30).integral, 10 + 110 + 210);
    });
}

/// Records in two chunks: the place of a chunk is seen only when the chunk is whole, and what
/// is read as whole has every record with its bucket and its amount.
#[test]
fn a_histogram_is_read_whole_or_says_so() {
    model(|| {
        let (head, cell, heap) = (words(histogram::WORDS), words(2), words(3));
        let of = (Arc::clone(&head), Arc::clone(&cell), Arc::clone(&heap));
        let writing = thread::spawn(move || {
            let cell = histogram::Cell {
                head: &of.0,
                sum: &of.1,
                heap: &of.2,
            };
            let mut room = Bump(1);
            for value in [1, 0] {
                cell.record(&mut room, 1, (value, 1), 0, || 0)
                    .expect("room");
            }
        });
        let reader = histogram::Cell {
            head: &head,
            sum: &cell,
            heap: &heap,
        };
        let mut cut = histogram::HistogramCut::default();
        let check = |cut: &histogram::HistogramCut| {
            let counts = cut.chunks.iter().flat_map(|chunk| &chunk.counts);
            assert_eq!(counts.sum::<u64>(), cut.done, "a record by half");
            assert_eq!(cut.sum, cut.done.min(1), "an amount without its record");
        };
        reader.read(&mut cut);
        assert!(!cut.damaged);
        if cut.whole {
            check(&cut);
        }
        writing.join().expect("no panic");
        reader.read(&mut cut);
        assert!(cut.whole && cut.done == 2);
        check(&cut);
    });
}

/// A slot that is retired and given to another series while a sealer takes slots in and cuts:
/// what describes the slot is never overwritten while the sealer may read it, and nothing that
/// one series counts is booked for another.
#[test]
fn a_slot_changes_hands_only_when_the_sealer_has_let_go() {
    model(|| {
        // What describes the slot: the number of its series; changes, acknowledged; the cell.
        let shared = words(5);
        shared[0].store(1, Ordering::Relaxed);
        let writer = Arc::clone(&shared);
        let put = |word: &AtomicU64, n, order| word.store(n, order);
        let writing = thread::spawn(move || {
            let (cell, tag) = (&writer[3..5], |generation| {
                sum::with_generation(0, generation)
            });
            sum::add(&cell[0], &cell[1], 3, 1, tag(0), || 0).expect("room");
            sum::hand_over(cell, 1);
            retire::changed(&writer[1], put);
            // The next series, if the sealer has taken in that the first one is gone.
            if retire::acknowledged(&writer[2]) >= 1 {
                writer[0].store(2, Ordering::Relaxed);
                sum::hand_over(cell, 2);
                retire::changed(&writer[1], put);
                sum::add(&cell[0], &cell[1], 50, 1, tag(2), || 0).expect("room");
            }
        });
        // Series, generation and sum at the last cut, as the sealer knows them.
        let (mut known, mut seen, mut base) = ((1, 0), 0, 0);
        let mut booked = [0; 3];
        let mut seal = || {
            let changes = retire::changes(&shared[1]);
            if changes != seen {
                seen = changes;
                let generation = sum::generation(shared[4].load(Ordering::Acquire));
                if generation != known.1 {
                    known = (shared[0].load(Ordering::Relaxed), generation);
                    // A retired slot still describes its series, also while it is read.
                    let series = if generation == 2 { 2 } else { 1 };
                    assert_eq!(known.0, series, "described by {generation}");
                }
            }
            retire::acknowledge(&shared[2], seen);
            let [sum, done] = sum::read(&shared[3..5]).expect("changes hands twice at most");
            // Of another generation than the one taken in it is left to the next cut, but for
            // what was retired since: it has the same series.
            if sum::generation(done) <= known.1.max(1) {
                booked[usize::try_from(known.0).expect("small")] += sum - base;
                base = sum;
            }
        };
        seal();
        seal();
        writing.join().expect("no panic");
        seal();
        let reused = sum::generation(shared[4].load(Ordering::Relaxed)) == 2;
        assert_eq!(booked, [0, 3, if reused { 50 } else { 0 }]);
    });
}

/// A page that is given up while a thread leases a block of it: no lease stays in force.
#[test]
fn no_lease_outlives_the_end_of_all() {
    model(|| {
        let shared = words(3);
        shared[0].store(lease::IN_USE, Ordering::Relaxed);
        let leasing = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let granted = lease::grant(&leasing[0], &leasing[1], 7);
            assert!(granted || leasing[1].load(Ordering::Relaxed) == 0);
        });
        lease::end_all(&shared[0], &shared[1..]);
        assert!(!lease::grant(&shared[0], &shared[2], 7), "given up before");
        thread.join().expect("no panic");
        for at in 1..3 {
            assert_eq!(shared[at].load(Ordering::Relaxed), 0, "lease {at}");
        }
    });
}
