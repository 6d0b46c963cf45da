//! Models of distinct values: tables that grow, and windows that follow each other.

use loom::sync::Arc;
use loom::thread;
use tollgate::cell::atomic::{AtomicU64, Ordering};
use tollgate::cell::{Room, unique};

use super::{Bump, model, words};

/// What a reader copies of a table is what was inserted for the window it names.
#[test]
fn distinct_values_belong_to_the_window_that_is_read() {
    model(|| {
        let (halves, heap) = (words(unique::WORDS), words(40));
        let mut room = Bump(1);
        let insert =
            |halves: &Arc<Vec<AtomicU64>>, heap: &Arc<Vec<AtomicU64>>, room: &mut Bump, n| {
                let cell = unique::Cell { halves, heap };
                cell.insert(room, (n, 10), n.unsigned_abs(), |_, _| true)
                    .expect("room");
            };
        insert(&halves, &heap, &mut room, 20);
        let of = (Arc::clone(&halves), Arc::clone(&heap));
        let writing = thread::spawn(move || insert(&of.0, &of.1, &mut room, 40));
        let cell = unique::Cell {
            halves: &halves,
            heap: &heap,
        };
        let mut copy = Vec::new();
        if let Some(cut) = cell.read(0, &mut copy) {
            let window = cut.window.unsigned_abs();
            assert!(
                copy.iter().all(|&hash| hash == window),
                "{copy:?} of {window}"
            );
        }
        writing.join().expect("no panic");
        cell.read(0, &mut copy).expect("quiet");
        assert_eq!(copy, [40]);
    });
}

/// A table that goes on in a newer window, because nobody has taken it: what is read of the older
/// one has nothing of the newer, and nothing is missing of what was there before.
#[test]
fn distinct_values_that_are_not_taken_go_on_in_a_newer_window() {
    model(|| {
        let of = (words(unique::WORDS), words(9));
        let mut room = Bump(1);
        let insert = |of: &(Arc<Vec<_>>, Arc<Vec<_>>), room: &mut Bump, now: i64| {
            let (halves, heap) = (&of.0, &of.1);
            let cell = unique::Cell { halves, heap };
            cell.insert(room, (now, 10), now.unsigned_abs(), |_, _| false)
                .expect("room");
        };
        insert(&of, &mut room, 20);
        let writer = of.clone();
        let writing = thread::spawn(move || insert(&writer, &mut room, 40));
        let cell = unique::Cell {
            halves: &of.0,
            heap: &of.1,
        };
        let mut copy = Vec::new();
        if let Some(cut) = cell.read(0, &mut copy) {
            assert!(copy.contains(&20), "{copy:?}");
            assert!(
                cut.window == 40 || copy == [20],
                "{copy:?} of {}",
                cut.window
            );
        }
        writing.join().expect("no panic");
        let cut = cell.read(0, &mut copy).expect("quiet");
        copy.sort_unstable();
        assert_eq!((cut.window, &copy[..]), (40, &[20, 40][..]));
    });
}

/// Room that goes to the next who asks for as much.
struct Reusing {
    next: u32,
    free: Vec<(u32, u32)>,
}

impl Room for Reusing {
    fn take(&mut self, words: u32) -> Option<u32> {
        if let Some(at) = self.free.iter().position(|free| free.1 == words) {
            return Some(self.free.swap_remove(at).0);
        }
        self.next += words;
        Some(self.next - words)
    }

    fn give(&mut self, at: u32, words: u32) {
        self.free.push((at, words));
    }
}

fn insert(
    (halves, heap): &(Arc<Vec<AtomicU64>>, Arc<Vec<AtomicU64>>),
    room: &mut Reusing,
    hash: u64,
) {
    let cell = unique::Cell { halves, heap };
    cell.insert(room, (0, 10), hash, |_, _| true).expect("room");
}

/// A table that grows, and whose former room another cell takes at once: a reader gets a set
/// that was there, never anything of the other cell's.
#[test]
fn a_table_that_grows_is_read_whole_and_its_room_is_anothers() {
    model(|| {
        let heap = words(9);
        let of = (words(unique::WORDS), Arc::clone(&heap));
        let mut room = Reusing {
            next: 1,
            free: Vec::new(),
        };
        insert(&of, &mut room, 5);
        let writer = of.clone();
        let writing = thread::spawn(move || {
            insert(&writer, &mut room, 6);
            let at = room.take(2).expect("given back") as usize;
            assert_eq!(at, 1);
            writer.1[at].store(9, Ordering::Relaxed);
            writer.1[at + 1].store(9, Ordering::Relaxed);
        });
        let cell = unique::Cell {
            halves: &of.0,
            heap: &of.1,
        };
        let mut copy = Vec::new();
        if cell.read(0, &mut copy).is_some() {
            assert!(copy.contains(&5), "{copy:?}");
            assert!(copy.iter().all(|hash| [5, 6].contains(hash)), "{copy:?}");
        }
        writing.join().expect("no panic");
        cell.read(0, &mut copy).expect("quiet");
        copy.sort_unstable();
        assert_eq!(copy, [5, 6]);
    });
}

/// A table that becomes registers: it is read as the one or as the others.
#[test]
fn a_table_becomes_registers_in_one_store() {
    model(|| {
        let of = (words(unique::WORDS), words(20));
        let mut room = Reusing {
            next: 1,
            free: Vec::new(),
        };
        // Hashes of the first register, of ranks that fall.
        for hash in [4, 8] {
            insert(&of, &mut room, hash);
        }
        let writer = of.clone();
        let writing = thread::spawn(move || insert(&writer, &mut room, 16));
        let cell = unique::Cell {
            halves: &of.0,
            heap: &of.1,
        };
        let mut copy = Vec::new();
        let check = |registers: bool, copy: &mut Vec<u64>| {
            if registers {
                let rank = u64::from(tollgate_common::sketch::register_of(4).1);
                assert_eq!(copy[0] & 0xff, rank, "the largest of those before");
                assert!(copy[1..].iter().all(|&word| word == 0));
            } else {
                copy.sort_unstable();
                assert_eq!(*copy, [4, 8]);
            }
        };
        if let Some(cut) = cell.read(0, &mut copy) {
            check(cut.registers, &mut copy);
        }
        writing.join().expect("no panic");
        let cut = cell.read(0, &mut copy).expect("quiet");
        assert!(cut.registers);
        check(true, &mut copy);
    });
}
