use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use tollgate::cell::level;

use super::*;
use crate::aggregate::SlotUse;
use crate::attribute::Attributor;
use crate::input::Listener;
use crate::input::allocations::allocations;
use crate::input::bench::{Bench, Words, bench};
use crate::input::dogstatsd::{DATAGRAM_SLACK_BYTES, Ignored, Item, parse_datagram};
use crate::input::interfaces::{Direction, Traffic};

impl Bench {
    pub(super) fn datagram(&mut self, datagram: &str) {
        self.bytes(datagram.as_bytes());
    }

    /// The wide cell of a series, and its place.
    fn wide(&self, series: &str) -> (u32, &[AtomicU64]) {
        let found = (0..self.cells.published(0)).find_map(|slot| {
            let now = self.cells.now(0, slot)?;
            match self.cells.slot(0, slot, now.generation()) {
                SlotUse::Series(key) if key.key.to_string() == series => Some(key),
                _ => None,
            }
        });
        let key = found.expect("counted");
        let cell = self.cells.wide(0, key.place, key.aggregation);
        (key.place, cell.expect("a wide cell"))
    }

    fn value(&self, series: &str) -> Option<i128> {
        self.values().get(series).copied()
    }
}

#[test]
fn lines_reach_their_cells() {
    let mut bench = bench();
    bench.datagram(
        "requests:1:2|c|#customer:acme,region:eu\nrequests:1|c|@0.5|#customer:acme,region:eu\n\
         level:-7|g|#customer:acme\nlevel:9|g|#customer:acme\nother:4|c",
    );
    assert_eq!(bench.value("acme/requests{region=eu}"), Some(50));
    assert_eq!(bench.value("acme/level{}"), Some(9));
    assert_eq!(bench.value("_unattributed/other{}"), Some(4));
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (6, 6));
    assert!(account.rejected.is_empty());
}

#[test]
fn every_type_reaches_every_cell_that_it_fits() {
    let mut bench = bench();
    bench.datagram(
        "peak:3:9:4|g|#customer:a\npeak:12|ms|#customer:a\npeak:7|d|@0.1|#customer:a\n\
         users:ann|s|#customer:a\nusers:bob:ann|s|#customer:a\nusers:ann|s|#customer:a\n\
         wait:12:8|ms|#customer:a\nwait:0.5|h|#customer:a\nwait:1|d|@0.1|#customer:a\n\
         requests:250|ms|#customer:a\nrequests:0.5|h|@0.5|#customer:a\nlevel:4|g|#customer:a\n\
         other:5|g\nmembers:x|s\ntimes:5:6|ms",
    );
    for (series, value) in [
        ("a/peak{}", 120),
        // The member may hold a colon, and the same one counts once.
        ("a/users{}", 3),
        ("a/wait{}", 12 + 8 + 500 + 10 * 1000),
        ("a/requests{}", 2500 + 10),
        ("a/level{}", 4),
        ("_unattributed/other{}", 5),
        ("_unattributed/members{}", 1),
        ("_unattributed/times{}", 11),
    ] {
        assert_eq!(bench.value(series), Some(value), "{series}");
    }
    let (place, _) = bench.wide("a/users{}");
    let users = bench.cells.unique(0, place).expect("a set");
    let (mut all, mut hashes) = (Vec::new(), Vec::new());
    for half in [0, 1] {
        users.read(half, &mut hashes).expect("quiet");
        all.append(&mut hashes);
    }
    all.sort_unstable();
    let mut members = ["ann", "bob:ann"].map(|name| tollgate_common::sketch::hash(name.as_bytes()));
    members.sort_unstable();
    assert_eq!(all, members);
    let account = bench.account();
    // A sample of a distribution at 0.1 stands for ten events.
    assert_eq!((account.received, account.accepted), (28, 28));
    assert_eq!(account.under_way, 0);
}

#[test]
fn what_a_cell_cannot_take_is_rejected_for_its_tenant() {
    let mut bench = bench();
    bench.datagram(
        "wait:-1|h|#customer:a\ndisk:-1|g|#customer:a\npeak:9999999999999999999|g|#customer:a\n\
         wait:9999999999999999|d|@0.00000001|#customer:a\nusers:|s|#customer:a\n\
         disk:1|c|#customer:a\npeak:-5|g|#customer:a",
    );
    let account = bench.account();
    assert_eq!(account.accepted, 1);
    assert_eq!(account.received, 7);
    let rejected = BTreeMap::from([("malformed", 1), ("out_of_range", 4), ("wrong_type", 1)]);
    assert_eq!(account.rejected, rejected);
    assert_eq!(bench.value("a/peak{}"), Some(-50));
}

#[test]
fn a_level_holds_from_the_time_that_its_line_names() {
    let mut bench = bench();
    // Now is second 25, in a window from 20 to 30.
    bench.datagram("disk:100|g|#customer:a|T21\ndisk:40|g|#customer:a|T23");
    // Nothing is counted ahead of time, and nothing in a window that may be sealed.
    bench.datagram("disk:50|g|#customer:b|T29\ndisk:50|g|#customer:c|T15");
    let state = |series: &str| level::read(bench.wide(series).1).expect("quiet");
    let a = state("a/disk{}");
    assert_eq!(
        (a.level, a.since, a.integral),
        (40, 23_000, 200_000),
        "100 for two seconds"
    );
    assert_eq!(state("b/disk{}").since, 25_000);
    assert_eq!(state("c/disk{}").since, 25_000);
    assert_eq!(bench.account().retimed, 1);
}

#[test]
fn an_idle_series_is_let_go_and_its_lines_are_looked_up_again() {
    let mut bench = bench();
    let lines = "requests:1|c|#customer:a\nlevel:1|g|#customer:a\nrequests:1|c|#customer:b";
    bench.datagram(lines);
    assert_eq!(
        (bench.tally.series(), bench.tally.lines_remembered()),
        (3, 3)
    );
    for slot in [0, 1] {
        let now = bench.cells.now(0, slot).expect("quiet");
        assert!(bench.cells.retire(0, slot, now));
    }
    // Not more often than once a second.
    bench.datagram("requests:1|c|#customer:b");
    assert_eq!(bench.tally.series(), 3);
    bench.tally.tend(Timestamp::from_secs(27));
    assert_eq!(
        (bench.tally.series(), bench.tally.lines_remembered()),
        (1, 1)
    );
    bench.datagram(lines);
    assert_eq!(
        (bench.tally.series(), bench.tally.lines_remembered()),
        (3, 3)
    );
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (7, 7));
    assert_eq!(
        bench.cells.now(0, 3).expect("quiet").sum,
        10,
        "in a slot of its own"
    );
}

#[test]
fn every_refusal_has_its_reason_and_costs_only_itself() {
    let mut bench = bench();
    bench.datagram(
        "requests:1:x:2|c|#customer:a\nnonsense\nrequests:1|s\nrequests:-1|c|#customer:a\n\
         requests:0.25|c|#customer:a\nlevel:1|c|#customer:a\nrequests:99999999999999999999|c|#customer:a\n\
         bad name:1|c|#customer:a\nlevel:99999999999999999999|g|#customer:a\nrounded:0.5|c|#customer:a",
    );
    bench.bytes(b"requests:1|c|#customer:\xff");
    let account = bench.account();
    let rejected = BTreeMap::from([
        ("malformed", 4),
        ("out_of_range", 3),
        ("inexact", 1),
        ("wrong_type", 2),
    ]);
    assert_eq!(account.rejected, rejected);
    assert_eq!((account.accepted, account.rounded), (3, 1));
    assert_eq!(bench.value("a/requests{}"), Some(30));
    assert_eq!(bench.value("a/rounded{}"), Some(1));
}

#[test]
fn what_is_answered_is_in_its_cell() {
    let mut bench = bench();
    let now = Timestamp::from_secs(1);
    let tags = [("customer", "acme")];
    let counted = bench.tally.handle_count("requests", &tags, "2.5", now);
    let counted = counted.expect("counted");
    assert_eq!(counted.quantity.units(), 25);
    assert_eq!(bench.value(&counted.series.to_string()), Some(25));
    let refused = bench.tally.handle_count("requests", &tags, "2.55", now);
    assert!(refused.is_err_and(|e| e.rejection() == Rejection::Inexact));
    let many = vec![("a", "b"); TAGS_MAX + 1];
    let refused = bench.tally.handle_count("requests", &many, "1", now);
    assert!(refused.is_err_and(|e| e.rejection() == Rejection::TooLarge));
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (3, 1));
}

#[test]
fn every_aggregation_is_counted_by_hand() {
    let mut bench = bench();
    let mut count = |metric: &str, value: &str| {
        let tags = [("customer", "acme")];
        let now = Timestamp::from_secs(25);
        let counted = bench.tally.handle_count(metric, &tags, value, now);
        counted
            .map(|counted| counted.quantity.units())
            .map_err(|error| error.rejection())
    };
    assert_eq!(count("level", "-7"), Ok(-7));
    assert_eq!(count("peak", "9.5"), Ok(95));
    assert_eq!(count("peak", "-2"), Ok(-20));
    assert_eq!(count("latency", "120"), Ok(120));
    assert_eq!(count("latency", "-1"), Err(Rejection::OutOfRange));
    assert_eq!(count("disk", "4096"), Ok(4096));
    assert_eq!(count("disk", "-1"), Err(Rejection::OutOfRange));
    // A member is any text; how often it comes does not matter.
    for member in ["ada", "grace", "ada", "0x17"] {
        assert_eq!(count("users", member), Ok(1));
    }
    assert_eq!(count("users", ""), Err(Rejection::Malformed));
    let account = bench.account();
    assert_eq!((account.received, account.accepted), (12, 9));
    assert!(account.balances());
    // Who is refused something sees it in the account of the tenant, too.
    let tenants = bench.cells.tenant_accounts(10).busiest;
    assert_eq!(tenants.len(), 1);
    assert_eq!(tenants[0].account.rejected, account.rejected);
    let standing: Vec<_> = (0..5)
        .map(|slot| bench.cells.key(0, slot).expect("a series"))
        .map(|series| bench.cells.standing(0, &series))
        .collect();
    let expected = [Some(-7), Some(95), None, Some(4096), Some(3)];
    assert_eq!(standing, expected, "what `top` shows");
    let users = bench.cells.key(0, 4).expect("the fifth series");
    assert_eq!(users.aggregation, Aggregation::Unique);
    let cell = bench.cells.unique(0, users.place).expect("a cell");
    let found = [0, 1].map(|half| {
        let mut members = Vec::new();
        let cut = cell.read(half, &mut members).expect("quiet");
        (cut.inserts, members.len())
    });
    assert!(found.contains(&(4, 3)), "{found:?}");
}

#[test]
fn tenants_that_are_not_shown_are_one() {
    let mut bench = bench();
    for (tenant, events) in [("a", 5), ("b", 4), ("c", 3), ("d", 2)] {
        for n in 0..events {
            bench.datagram(&format!("requests:1|c|#customer:{tenant},region:r{n}"));
        }
    }
    let accounts = bench.cells.tenant_accounts(2);
    assert_eq!((accounts.tenants, accounts.series), (4, 14));
    let names = accounts.busiest.iter().map(|account| {
        let name = account.tenant.as_ref().map(ToString::to_string);
        (name, account.account.accepted, account.series)
    });
    let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
    assert_eq!(names.collect::<Vec<_>>(), [(a, 5, 5), (b, 4, 4)]);
    let others = accounts.others.expect("two more");
    assert_eq!((others.account.open, others.series), (5, 5));
    assert!(others.account.balances());
    assert_eq!(bench.cells.tenant_accounts(4).others, None);
}

#[test]
fn idle_series_are_retired_by_who_looks_them_up_each_time() {
    let mut bench = bench();
    let now = Timestamp::from_secs(25);
    let tags = [("customer", "acme"), ("region", "eu")];
    for slot in 0..2 {
        let counted = bench.tally.handle_count("requests", &tags, "1", now);
        assert!(counted.is_ok());
        let seen = bench.cells.now(0, slot).expect("quiet");
        assert!(bench.cells.retire(0, slot, seen));
        bench.tally.retire_idle();
        assert_eq!(bench.tally.series(), 0);
    }
    let cardinality = bench.cells.cardinality(0);
    assert_eq!((cardinality.series, cardinality.retired_series), (0, 2));
    // Nothing is sealed yet: both have a slot, and neither count is gone.
    let account = bench.account();
    assert_eq!((account.accepted, account.open), (2, 2));
    let tenants = bench.cells.tenant_accounts(10).busiest;
    assert_eq!(tenants[0].account.open, 2);
}

#[test]
fn traffic_is_scaled_to_its_meter() {
    let mut bench = bench();
    for (interface, traffic) in [("eth0", Traffic::Bytes), ("wlan0", Traffic::Packets)] {
        let increment = Increment {
            interface,
            direction: Direction::In,
            traffic,
            amount: 5,
        };
        let counted = bench.tally.handle_increment(&increment, Timestamp::EPOCH);
        assert_eq!(counted, Ok(()));
    }
    assert_eq!(bench.value("acme/net{direction=in}"), Some(5000));
    assert_eq!(bench.value("_unattributed/interface.packets{}"), Some(5));
}

#[test]
fn a_full_writer_keeps_the_money_and_drops_the_detail() {
    let mut bench = bench();
    for n in 0..200 {
        bench.datagram(&format!("requests:1|c|#customer:acme,region:r{n}"));
    }
    let total: i128 = bench.values().values().sum();
    assert_eq!(total, 2000);
    assert!(bench.value("acme/requests{overflow=true}").is_some());
    assert_eq!(bench.account().accepted, 200);
}

#[path = "tally_line_tests.rs"]
mod lines;
