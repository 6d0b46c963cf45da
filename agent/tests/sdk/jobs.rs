//! What applications do.

use std::io::Write;
use std::time::{Duration, Instant};

use tollgate::Meter;

use super::PATIENCE;

/// Tells the test that the job, or its first part, is done.
pub(super) fn say_done() {
    let mut out = std::io::stdout();
    out.write_all(b"done\n").expect("the test reads");
    out.flush().expect("the test reads");
}

/// Until the test says so.
fn wait_to_go_on() {
    say_done();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("told");
}

pub(super) fn count_quickly() {
    let meter = Meter::new("requests").expect("valid");
    let counter = meter.counter("acme", &[("region", "eu")]).expect("valid");
    for _ in 0..1000 {
        counter.add(3);
    }
    assert!(tollgate::wait_until_handed_over(PATIENCE));
    counter.add(4);
}

/// Some of it after it is told to go on.
pub(super) fn count_late() {
    count_quickly();
    wait_to_go_on();
    let meter = Meter::new("requests").expect("valid");
    let counter = meter.counter("acme", &[("region", "us")]).expect("valid");
    counter.add(1_000_000);
}

/// 200,000 counts over some seconds.
pub(super) fn count_slowly() {
    let meter = Meter::new("requests").expect("valid");
    let counter = meter.counter("acme", &[]).expect("valid");
    let local = counter.local();
    for _ in 0..2000 {
        for _ in 0..50 {
            counter.inc();
            local.inc();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(tollgate::dropped(), 0);
}

pub(super) fn count_in_threads() {
    let meter = Meter::new("requests").expect("valid");
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for thread in 0..10 {
                let meter = &meter;
                scope.spawn(move || {
                    let tenant = format!("t{}", thread % 2);
                    for _ in 0..100 {
                        tollgate::count!(meter, tenant, 1, "thread" => format!("{thread}"));
                    }
                });
            }
        });
    }
    assert!(tollgate::wait_until_handed_over(PATIENCE));
}

/// Small values all the time, and one large value after it is told to go on.
pub(super) fn peaks() {
    let peak = Meter::new("peak").expect("valid");
    let peak = peak.max("acme", &[]).expect("valid");
    let small = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            peak.record(1);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    peak.record(1);
    assert!(tollgate::wait_until_handed_over(PATIENCE));
    small(Duration::from_millis(3500));
    wait_to_go_on();
    peak.record(1000);
    // Each half of the cell is needed again.
    small(Duration::from_millis(3300));
}
