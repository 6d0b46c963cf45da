use proptest::prelude::*;

use super::*;

fn one(line: &str) -> Item<'_> {
    let mut items = parse_datagram(line.as_bytes());
    let item = items.next().expect("one line");
    assert_eq!(items.next(), None);
    item
}

fn metric(line: &str) -> Metric<'_> {
    match one(line) {
        Item::Metric(metric) => metric,
        other => panic!("{line} gave {other:?}"),
    }
}

fn units(line: &str, scale: u8, inexact: Inexact) -> Vec<Result<i128, ParseQuantityError>> {
    let scale = Scale::new(scale).expect("in range");
    metric(line)
        .values()
        .map(|value| parse_value(value, None, scale, inexact).map(|p| p.quantity.units()))
        .collect()
}

#[test]
fn a_full_line_is_read() {
    let metric = metric(
        "http.requests:3|c|@0.5|#customer:acme,region:eu,bare|c:ci-1f|T1700000000|e:it-0|card:low",
    );
    assert_eq!(metric.name(), Ok("http.requests"));
    assert_eq!(metric.kind(), Kind::Count);
    assert_eq!(metric.rate(), SampleRate::parse(b"0.5"));
    assert_eq!(metric.timestamp(), Some(1_700_000_000));
    let mut tags = Vec::new();
    split_tags(metric.tag_bytes(), &mut tags).expect("valid");
    assert_eq!(tags, [("customer", "acme"), ("region", "eu"), ("bare", "")]);
}

#[test]
fn values_are_packed() {
    let reject = Inexact::Reject;
    assert_eq!(units("m:1:2:3|c", 0, reject), [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(units("m:1.25|c", 2, reject), [Ok(125)]);
    assert_eq!(units("m:-5|g", 0, reject), [Ok(-5)]);
    assert_eq!(
        units("m:1:x:2|c", 0, reject),
        [Ok(1), Err(ParseQuantityError::Syntax), Ok(2)]
    );
    assert_eq!(
        units("m:999999999999999999|c", 12, reject),
        [Ok(999_999_999_999_999_999 * 10i128.pow(12))]
    );
    // The one value of a set may hold colons.
    let set: Vec<_> = metric("m:a:b|s").values().collect();
    assert_eq!(set, [b"a:b"]);
}

#[test]
fn rates_apply_where_they_mean_something() {
    assert_eq!(metric("m:1|c|@1.0").rate(), None);
    assert_eq!(metric("m:1|c|@0.1").rate(), SampleRate::parse(b"0.1"));
    assert_eq!(metric("m:1|h|@0.1").rate(), SampleRate::parse(b"0.1"));
    // Neither a level nor a member depends on how often it is sampled.
    assert_eq!(metric("m:5|g|@0.1").rate(), None);
    assert_eq!(metric("m:5|s|@0.1").rate(), None);
}

#[test]
fn every_type_is_known() {
    for (line, kind) in [
        ("m:1|c", Kind::Count),
        ("m:1|g", Kind::Gauge),
        ("m:1|h", Kind::Histogram),
        ("m:1|d|#a:b", Kind::Distribution),
        ("m:320|ms", Kind::Timer),
        ("m:user|s", Kind::Set),
    ] {
        assert_eq!(metric(line).kind(), kind, "{line}");
    }
    assert_eq!(
        one("_e{5,4}:title|text|#a:b"),
        Item::Ignored(Ignored::Event)
    );
    assert_eq!(
        one("_sc|Redis|0|#a:b"),
        Item::Ignored(Ignored::ServiceCheck)
    );
}

#[test]
fn malformed_lines_say_why() {
    for (line, reason) in [
        ("hello", Malformed::Name),
        (":1|c", Malformed::Name),
        ("a|b:1|c", Malformed::Name),
        ("m:|c", Malformed::Value),
        ("m:1", Malformed::Type),
        ("m:1|", Malformed::Type),
        ("m:1|q", Malformed::Type),
        ("m:1|c|@0", Malformed::Rate),
        ("m:1|c|@2", Malformed::Rate),
        ("m:1|c|@-0.1", Malformed::Rate),
        ("m:1|c|@1e-60", Malformed::Rate),
        ("m:1|c|@", Malformed::Rate),
        ("m:1|c|Tx", Malformed::Timestamp),
    ] {
        assert_eq!(one(line), Item::Malformed(reason), "{line}");
    }
    let long = format!("m:{}|c", "1".repeat(LINE_BYTES_MAX));
    assert_eq!(one(&long), Item::Malformed(Malformed::TooLong));
}

#[test]
fn tags_are_bounded_and_text() {
    let many = vec!["a:b"; TAGS_MAX + 1].join(",");
    let mut out = Vec::new();
    assert_eq!(split_tags(many.as_bytes(), &mut out), Err(Malformed::Tags));
    assert_eq!(split_tags(b"a:\xff", &mut out), Err(Malformed::Utf8));
    assert_eq!(split_tags(b",,a:b:c,", &mut out), Ok(()));
    assert_eq!(out, [("a", "b:c")]);
}

#[test]
fn line_ends_of_all_kinds() {
    let items: Vec<_> = parse_datagram(b"\na:1|c\r\n\n\nb:2|c\n").collect();
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|item| matches!(item, Item::Metric(_))));
}

/// Bytes that look enough like the protocol to reach its depths.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"name".to_vec()),
        Just(b":".to_vec()),
        Just(b"|".to_vec()),
        Just(b"|c".to_vec()),
        Just(b"|g".to_vec()),
        Just(b"|#a:b,c".to_vec()),
        Just(b"|@0.1".to_vec()),
        Just(b"|@".to_vec()),
        Just(b"|T17".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"1e30".to_vec()),
        Just(b"-9223372036854775808".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn exhaust(bytes: &[u8]) {
    let mut tags = Vec::new();
    for item in parse_datagram(bytes) {
        if let Item::Metric(metric) = item {
            let _ = (metric.name(), split_tags(metric.tag_bytes(), &mut tags));
            for value in metric.values() {
                let _ = parse_value(value, None, Scale::ZERO, Inexact::Reject);
                let _ = parse_value(value, Some("1000"), Scale::ZERO, Inexact::Round);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        exhaust(&bytes);
    }

    #[test]
    fn no_likely_bytes_panic(bytes in likely()) {
        exhaust(&bytes);
    }

    #[test]
    fn lines_do_not_touch_each_other(before in likely(), after in likely(), count in 0u64..1_000_000) {
        let line = format!("good:{count}|c|#customer:acme");
        let mut datagram = before.clone();
        datagram.extend_from_slice(b"\n");
        datagram.extend_from_slice(line.as_bytes());
        datagram.extend_from_slice(b"\n");
        datagram.extend_from_slice(&after);
        let together: Vec<_> = parse_datagram(&datagram).collect();
        let alone: Vec<_> = parse_datagram(&before)
            .chain(parse_datagram(line.as_bytes()))
            .chain(parse_datagram(&after))
            .collect();
        prop_assert_eq!(together, alone);
    }

    #[test]
    fn the_short_way_and_the_exact_way_agree(value in any::<u64>(), scale in 0u8..=12) {
        let scale = Scale::new(scale).expect("in range");
        let text = value.to_string();
        let short = parse_value(text.as_bytes(), None, scale, Inexact::Reject);
        prop_assert_eq!(short, Quantity::parse_decimal(&text, scale, Inexact::Reject));
    }
}
