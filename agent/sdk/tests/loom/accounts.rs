//! Models of what is read beside the cells: receipts, the records of tenants, running totals.

use loom::sync::Arc;
use loom::thread;
use tollgate::cell::atomic::{AtomicU64, Ordering};
use tollgate::cell::{baseline, receipt, sum, totals};

use super::{model, words};

fn put(word: &AtomicU64, value: u64, order: Ordering) {
    word.store(value, order);
}

/// Whoever reads an account finds everything that was settled when the reading began, and not
/// more decided than received when it ended.
#[test]
fn what_is_decided_was_received_and_what_is_settled_was_decided() {
    model(|| {
        // Received, settled, rejected; the cell.
        let shared = words(5);
        let writer = Arc::clone(&shared);
        let writing = thread::spawn(move || {
            receipt::add(&writer[0], 1, put);
            sum::add(&writer[3], &writer[4], 5, 1, 0, || 0).expect("room");
            receipt::settle(&writer[0], &writer[1], put);
            receipt::add(&writer[0], 1, put);
            receipt::add(&writer[2], 1, put);
            receipt::settle(&writer[0], &writer[1], put);
        });
        let settled = receipt::read(&shared[1]);
        let [_, counted] = sum::read(&shared[3..5]).expect("one generation");
        let decided = counted + receipt::read(&shared[2]);
        let received = receipt::read(&shared[0]);
        assert!(settled <= decided, "{settled} of {decided}");
        assert!(decided <= received, "{decided} of {received}");
        writing.join().expect("no panic");
        let now = [0, 1].map(|at: usize| receipt::read(&shared[at]));
        assert_eq!(now, [2, 2]);
    });
}

/// The same of one tenant, whose record is made while it is read.
#[test]
fn a_record_of_a_tenant_is_whole_and_tells_what_is_decided_at_least() {
    model(|| {
        // Received and settled of all; the newest record; the record: its name, received. Cell.
        let shared = words(7);
        let writer = Arc::clone(&shared);
        let writing = thread::spawn(move || {
            // An event of nobody.
            receipt::add(&writer[0], 1, put);
            receipt::settle(&writer[0], &writer[1], put);
            // The first of the tenant: its record is complete before it is found.
            put(&writer[3], 77, Ordering::Relaxed);
            put(&writer[2], 3, Ordering::Release);
            receipt::add(&writer[0], 1, put);
            receipt::add(&writer[4], 1, put);
            sum::add(&writer[5], &writer[6], 5, 1, 0, || 0).expect("room");
            receipt::settle(&writer[0], &writer[1], put);
        });
        let record = |at: u64| {
            let at = usize::try_from(at).expect("small");
            assert_eq!(shared[at].load(Ordering::Relaxed), 77, "its name");
            receipt::read(&shared[at + 1])
        };
        let of_tenant = || match shared[2].load(Ordering::Acquire) {
            0 => 0,
            at => record(at),
        };
        let settled = receipt::read(&shared[1]);
        let before = of_tenant();
        let received = receipt::read(&shared[0]);
        let least = before.saturating_sub(receipt::under_way(settled, received));
        let [_, decided] = sum::read(&shared[5..7]).expect("one generation");
        let after = of_tenant();
        assert!(
            least <= decided && decided <= after,
            "{least} {decided} {after}"
        );
        writing.join().expect("no panic");
    });
}

/// What is read of the totals is of one batch, also while the next but one is written over it.
#[test]
fn running_totals_are_read_of_one_batch() {
    model(|| {
        // Applied; the number of totals; the figures of one in two parities.
        let shared = words(2 + 2 * totals::FIGURES);
        let put_all = |words: &[AtomicU64], sequence: u64| {
            let figures = [10 * sequence, sequence, sequence];
            totals::put_figures(&words[2..], sequence, figures, put);
        };
        totals::publish(&shared[1], put);
        put_all(&shared, 1);
        baseline::apply(&shared[0], 1);
        let sealer = Arc::clone(&shared);
        let sealing = thread::spawn(move || {
            for sequence in 2..4 {
                baseline::begin_cut();
                put_all(&sealer, sequence);
                baseline::apply(&sealer[0], sequence);
            }
        });
        let read = totals::steadily(&shared[0], 1, |sequence| {
            assert_eq!(totals::published(&shared[1]), 1);
            (sequence, totals::figures(&shared[2..], sequence))
        });
        if let Some((sequence, figures)) = read {
            assert_eq!(figures, [10 * sequence, sequence, sequence]);
        }
        sealing.join().expect("no panic");
    });
}
