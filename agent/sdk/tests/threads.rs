//! Counting in one process: many threads, few cells, nothing lost; full pages; forks.

use std::time::Duration;

mod support;

use support::Agent;
use tollgate::{Meter, Options};

/// One process has one page, so that everything here is one test.
#[test]
fn threads_come_and_go_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("sdk.sock");
    Options::default()
        .socket(&path)
        .page_bytes(1 << 20)
        .install()
        .expect("first");
    let meter = Meter::new("requests").expect("valid");
    let counter = meter.counter("acme", &[("region", "eu")]).expect("valid");
    counter.add(5);
    assert!(!tollgate::wait_until_handed_over(Duration::ZERO));

    // Before the agent is there.
    let mut agent = Agent::listen(&path);
    let page = agent.accept();
    assert_eq!(page.total("acme/requests{region=eu}"), (5, 1));

    // A hundred threads, ten at a time, with every kind of handle.
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    let local = counter.local();
                    for _ in 0..1000 {
                        counter.inc();
                        local.inc();
                        let region = String::from("us");
                        tollgate::count!(meter, "acme", 2, "region" => region);
                    }
                });
            }
        });
    }
    assert_eq!(page.total("acme/requests{region=eu}"), (200_005, 200_001));
    assert_eq!(page.total("acme/requests{region=us}"), (200_000, 100_000));
    let cells = page.cells("acme/requests{region=eu}").len();
    assert!(
        cells <= 11,
        "{cells} cells for ten threads and the first one"
    );

    other_kinds(&page, &meter);
    counts_in_destructors(&page, &counter);
    a_forked_child_has_its_own_page(&page, &counter, &mut agent);
    let page = a_page_that_is_refused_is_given_up(&counter, agent);
    a_full_page_keeps_the_tenant(&page);
}

fn other_kinds(page: &support::Page, meter: &Meter) {
    meter.max("acme", &[]).expect("valid").record(7);
    meter.level("acme", &[]).expect("valid").set(3);
    let histogram = meter.histogram("acme", &[]).expect("valid");
    let unique = meter.unique("acme", &[]).expect("valid");
    for value in 0..1000u64 {
        histogram.record(value);
        unique.insert(value.to_le_bytes());
    }
    let mut kinds: Vec<u8> = page.kinds("acme/requests{}");
    kinds.sort_unstable();
    assert_eq!(kinds, vec![3, 4, 5, 6]);
    assert_eq!(tollgate::dropped(), 0);
}

/// A destructor that counts after the thread's own memory may be gone.
struct CountsAtTheEnd(tollgate::Counter, tollgate::LocalCounter);

impl Drop for CountsAtTheEnd {
    fn drop(&mut self) {
        self.0.inc();
        self.1.inc();
    }
}

thread_local! {
    static FIRST: std::cell::RefCell<Option<CountsAtTheEnd>> = const { std::cell::RefCell::new(None) };
}

fn counts_in_destructors(page: &support::Page, counter: &tollgate::Counter) {
    let before = page.total("acme/requests{region=eu}").0;
    for _ in 0..20 {
        let counter = counter.clone();
        std::thread::spawn(move || {
            // Made before the thread has counted, so dropped after its block is given back.
            FIRST.with(|first| {
                let local = counter.local();
                *first.borrow_mut() = Some(CountsAtTheEnd(counter.clone(), local));
            });
            counter.inc();
        })
        .join()
        .expect("no panic");
    }
    assert_eq!(page.total("acme/requests{region=eu}").0, before + 60);
}

const SEATS: &str = "acme/seats{}";

fn seats() -> tollgate::Level {
    let meter = Meter::new("seats").expect("valid");
    meter.level("acme", &[]).expect("valid")
}

fn a_forked_child_has_its_own_page(
    page: &support::Page,
    counter: &tollgate::Counter,
    agent: &mut Agent,
) {
    let local = counter.local();
    local.inc();
    let seats = seats();
    seats.set(5);
    let before = page.total("acme/requests{region=eu}");
    let child = support::fork(|| {
        for _ in 0..100 {
            local.inc();
            counter.inc();
        }
        // It has none of its parent's.
        seats.add(2);
        seats.sub(1);
        i32::from(!tollgate::wait_until_handed_over(Duration::from_secs(10)))
    });
    let of_child = agent.accept();
    assert_eq!(child.join(), 0);
    assert_ne!(of_child.id(), page.id());
    assert_eq!(of_child.total("acme/requests{region=eu}"), (200, 200));
    assert_eq!((of_child.level(SEATS), page.level(SEATS)), (1, 5));
    assert_eq!(page.total("acme/requests{region=eu}"), before);
}

fn a_page_that_is_refused_is_given_up(counter: &tollgate::Counter, agent: Agent) -> support::Page {
    let path = agent.path().to_owned();
    drop(agent);
    let mut agent = Agent::listen(&path);
    agent.refuse_next();
    let old = agent.accept();
    let before = old.total("acme/requests{region=eu}");
    let fresh = agent.accept();
    assert_ne!(old.id(), fresh.id());
    // A level goes on where it was.
    assert_eq!(fresh.level(SEATS), 5);
    seats().add(1);
    assert_eq!(fresh.level(SEATS), 6);
    counter.add(3);
    assert_eq!(old.total("acme/requests{region=eu}"), before);
    assert_eq!(fresh.total("acme/requests{region=eu}"), (3, 1));
    // Stays for the rest of the test.
    std::mem::forget(agent);
    fresh
}

fn a_full_page_keeps_the_tenant(page: &support::Page) {
    let meter = Meter::new("many").expect("valid");
    for n in 0..30_000 {
        let key = format!("k{n}");
        tollgate::count!(meter, "acme", 1, "key" => key);
    }
    let kept = page.total_of_meter("many");
    let (overflow, _) = page.total("acme/many{overflow=true}");
    assert!(overflow > 0, "some lost their dimensions");
    assert_eq!(kept, 30_000, "and none their tenant");
    assert_eq!(tollgate::dropped(), 0);
    // A level is not one of many: the last of them would stand for all. It has room or is dropped.
    let lanes = Meter::new("lanes").expect("valid");
    for n in 0..2_000 {
        let region = format!("r{n}");
        let level = lanes.level("acme", &[("region", &region)]);
        level.expect("valid").set(5);
    }
    let slots = page.slots();
    let levels: Vec<_> = slots
        .iter()
        .filter(|slot| slot.key.meter().as_str() == "lanes")
        .map(|slot| slot.key.to_string())
        .collect();
    assert!(!levels.iter().any(|key| key.contains("overflow")));
    assert!(tollgate::dropped() > 0);
    assert_eq!(levels.len() as u64 + tollgate::dropped(), 2_000);
}
