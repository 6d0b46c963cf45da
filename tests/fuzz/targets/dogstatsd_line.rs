//! Datagrams from anybody. Every line is read by the grammar, and the whole way into the cells
//! is taken too: in one buffer with bytes behind it that must not count, and line by line.
//! Both ways count the same, and every event is accepted or rejected.

#![no_main]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use libfuzzer_sys::fuzz_target;
use tollgate_agent_core::aggregate::Account;
use tollgate_agent_core::input::dogstatsd::{
    DATAGRAM_SLACK_BYTES, Item, SampleRate, parse_datagram, split_tags,
};
use tollgate_agent_core::input::interfaces::parse_net_dev;
use tollgate_agent_core::input::tally::Tally;
use tollgate_agent_core::input::{LINE_BYTES_MAX, Listener};
use tollgate_agent_core::testing::one_writer;
use tollgate_common::quantity::Inexact;
use tollgate_common::{Quantity, Scale, Timestamp};

const CONFIG: &str = r#"
agent = "edge-1"
[collector]
endpoints = ["127.0.0.1:7430"]
ca = "ca.pem"
certificate = "a.pem"
key = "a.key"
[[meter]]
name = "a"
unit = "1"
scale = 1
[[meter]]
name = "b"
unit = "s"
aggregation = "last"
[[rule]]
metric = "*"
tenant = { tag = "customer" }
dimensions = ["region"]
"#;

fn count(feed: impl FnOnce(&mut Tally<Arc<Vec<AtomicU64>>>)) -> (Account, Vec<(String, i128)>) {
    let (cells, mut tally) = one_writer(CONFIG);
    // Twice would find everything in the cache; the second half of the input does that.
    feed(&mut tally);
    cells.totals()
}

fuzz_target!(|data: &[u8]| {
    grammar(data);
    let now = Timestamp::from_secs(25);
    let together = count(|tally| {
        let mut buffer = data.to_vec();
        buffer.extend_from_slice(&b":9|c\n"[..].repeat(DATAGRAM_SLACK_BYTES / 5 + 1));
        for _ in 0..2 {
            let whole = std::iter::once(0..data.len());
            tally.handle_datagrams(Listener::Udp, &buffer, whole, now);
        }
    });
    let alone = count(|tally| {
        for _ in 0..2 {
            for line in data.split(|byte| *byte == b'\n') {
                tally.handle_datagram(Listener::Udp, line, now);
            }
        }
    });
    assert_eq!(together, alone);
    let (account, _) = together;
    let rejected: u64 = account.rejected.values().sum();
    assert_eq!(account.received, account.accepted + rejected);
});

fn grammar(data: &[u8]) {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut items = 0;
    let mut tags = Vec::new();
    for item in parse_datagram(data) {
        items += 1;
        let Item::Metric(metric) = item else { continue };
        let _ = (metric.name(), metric.timestamp());
        let _ = split_tags(metric.tag_bytes(), &mut tags);
        if let Some(rate) = metric.rate() {
            let (numerator, denominator) = rate.reciprocal();
            assert!(numerator > denominator && denominator > 0);
        }
        let values = metric.values().count();
        assert!(values >= 1 && values <= LINE_BYTES_MAX);
    }
    assert!(items <= lines);
    if let Some(rate) = SampleRate::parse(data) {
        let scaled = rate.scale(1, rate.carry()).expect("one sample always fits");
        assert!(scaled.units >= 1 && scaled.carry < rate.reciprocal().1);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for scale in [0, 6] {
            let scale = Scale::new(scale).expect("in range");
            if let Ok(parsed) = Quantity::parse_decimal(text, scale, Inexact::Reject) {
                // Printing and parsing are inverse.
                let printed = parsed.quantity.display(scale).to_string();
                let again = Quantity::parse_decimal(&printed, scale, Inexact::Reject);
                assert_eq!(again.map(|a| a.quantity), Ok(parsed.quantity));
            }
        }
        parse_net_dev(text).for_each(|sample| {
            let _ = sample;
        });
    }
}
