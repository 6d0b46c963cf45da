//! Datagrams from anybody: every line, value, rate and tag is looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_agent_core::input::LINE_BYTES_MAX;
use tollgate_agent_core::input::dogstatsd::{Item, SampleRate, parse_datagram, split_tags};
use tollgate_agent_core::input::interfaces::parse_net_dev;
use tollgate_common::quantity::Inexact;
use tollgate_common::{Quantity, Scale};

fuzz_target!(|data: &[u8]| {
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
});
