//! A model of the value that one of many threads passes on.

use loom::sync::Arc;
use loom::thread;
use tollgate::cell::atomic::{AtomicU64, Ordering};
use tollgate::cell::newest::{self, Told};

use super::{model, words};

/// Whoever changes the value last, what is told last is what it is then.
#[test]
fn the_newest_value_is_told_last() {
    model(|| {
        // The value; 1 while somebody tells it; what was told.
        let shared = words(3);
        let change = |words: &[AtomicU64], n: u64| {
            words[0].fetch_add(n, Ordering::AcqRel);
            newest::tell(&words[0], |load| {
                let alone = words[1].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
                if alone.is_err() {
                    return Told::ByAnother;
                }
                let now = load();
                words[2].store(now, Ordering::Relaxed);
                words[1].store(0, Ordering::Release);
                Told::Value(now)
            });
        };
        let other = Arc::clone(&shared);
        let changing = thread::spawn(move || change(&other, 1));
        change(&shared, 2);
        changing.join().expect("no panic");
        assert_eq!(shared[2].load(Ordering::Relaxed), 3);
    });
}
