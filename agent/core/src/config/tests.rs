use std::path::Path;

use proptest::prelude::*;
use tollgate_common::quantity::Inexact;
use tollgate_common::units::SIZE_FORM;
use tollgate_common::{Aggregation, Scale, TenantId};

use super::*;
use crate::attribute::TenantSource;
use crate::spool::SyncPolicy;

const GOOD: &str = r#"
agent = "edge-1"
state_dir = "state"
window = "10s"
admin_socket = "/run/tollgate-agent/admin.sock"

[collector]
endpoints = ["127.0.0.1:7430", "[::1]:7430", "collector.example:7430"]
server_name = "localhost"
ca = "pki/ca.pem"
certificate = "pki/edge-1.pem"
key = "/etc/tollgate/edge-1.key"

[spool]
bytes_max = "1GiB"
segment_bytes = "8MiB"

[limits]
series_max = 65536

[[meter]]
name = "http.requests"
unit = "{request}"
scale = 3
aggregation = "sum"
inexact = "round"

[[meter]]
name = "net.bytes"
unit = "By"

[input.dogstatsd]
udp = "127.0.0.1:8125"
unix = "dogstatsd.sock"

[input.interfaces]
interval = "1s"
exclude = ["lo"]

[[rule]]
input = "dogstatsd"
listener = "udp"
metric = "http.requests"
tags = { customer = "*" }
tenant = { tag = "customer" }
meter = "http.requests"
dimensions = ["region", "method"]

[[rule]]
input = "interfaces"
interface = "eth*"
quantity = "bytes"
direction = "out"
tenant = "acme"
meter = "net.bytes"
dimensions = ["interface", "direction"]
"#;

/// The errors of `GOOD` with one piece replaced.
fn errors(from: &str, to: &str) -> Vec<ConfigError> {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    match parse(&text) {
        Ok(_) => panic!("{to:?} was accepted"),
        Err(errors) => {
            for error in errors.iter() {
                assert!(text.get(error.span.clone()).is_some(), "{error:?}");
            }
            errors.iter().cloned().collect()
        }
    }
}

fn error(from: &str, to: &str) -> ConfigError {
    let mut errors = errors(from, to);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(GOOD)
        .expect("valid")
        .resolved(Path::new("/etc/agent"));
    assert_eq!(config.agent.as_str(), "edge-1");
    assert_eq!(config.state_dir, Path::new("/etc/agent/state"));
    assert_eq!(config.collector.ca, Path::new("/etc/agent/pki/ca.pem"));
    assert_eq!(config.collector.key, Path::new("/etc/tollgate/edge-1.key"));
    assert_eq!(config.collector.endpoints.len(), 3);
    assert_eq!(config.collector.endpoints[1].to_string(), "[::1]:7430");
    assert_eq!(config.spool.segment_bytes, 8 << 20);
    assert_eq!(config.spool.free_min, 64 << 20);
    assert_eq!(config.spool.sync, SyncPolicy::Always);
    let requests = &config.meters[&MeterName::new("http.requests").expect("valid")];
    assert_eq!(requests.scale, Scale::new(3).expect("in range"));
    assert_eq!(requests.inexact, Inexact::Round);
    assert_eq!(requests.aggregation, Aggregation::Sum);
    let dogstatsd = config.inputs.dogstatsd.expect("given");
    assert_eq!(
        dogstatsd.unix,
        Some(PathBuf::from("/etc/agent/dogstatsd.sock"))
    );
    assert_eq!(config.rules.len(), 2);
    assert_eq!(
        config.rules[1].tenant,
        TenantSource::Fixed(TenantId::new("acme").expect("valid"))
    );
    assert_eq!(config.rules[1].metric, Some(Glob::new("interface.bytes")));
}

#[test]
fn little_is_needed() {
    let text = r#"
agent = "edge-1"
[collector]
endpoints = ["127.0.0.1:7430"]
ca = "ca.pem"
certificate = "a.pem"
key = "a.key"
"#;
    let config = parse(text).expect("valid");
    assert_eq!(
        config.admin_socket_path(),
        Path::new("/var/lib/tollgate-agent/admin.sock")
    );
    assert_eq!(config.window.secs(), 10);
    assert_eq!(config.stop_deadline, Duration::from_secs(5));
}

#[test]
fn errors_name_line_column_key_and_expectation() {
    let error = error("window = \"10s\"", "window = \"7s\"");
    assert_eq!((error.line, error.column), (4, 10));
    assert_eq!(error.key, "window");
    assert!(error.message.contains("does not divide 900 s"), "{error}");

    let error = self::error("segment_bytes = \"8MiB\"", "segment_bytes = \"8 apples\"");
    assert_eq!(error.key, "spool.segment_bytes");
    assert_eq!(
        error.to_string(),
        format!("line 16, column 17, key `spool.segment_bytes`: not a size (expected {SIZE_FORM})")
    );

    let error = self::error("tenant = \"acme\"", "tenant = 5");
    assert_eq!(error.key, "rule[1].tenant");
    assert!(error.message.contains("or { tag ="), "{error}");

    let error = self::error("{ tag = \"customer\" }", "{ tags = \"customer\" }");
    assert!(error.key.starts_with("rule[0].tenant"), "{error}");

    let error = self::error("meter = \"net.bytes\"", "meter = \"net.byte\"");
    assert_eq!(error.key, "rule[1].meter");
    assert_eq!(
        error.expected.as_deref(),
        Some("a declared meter: `http.requests`, `net.bytes`")
    );
}

#[test]
fn missing_unknown_and_broken_keys_are_placed() {
    let error = error("agent = \"edge-1\"", "");
    assert_eq!((error.key.as_str(), error.line), ("agent", 1));
    assert!(error.expected.is_some_and(|e| e.contains("certificate")));

    let error = self::error("ca = \"pki/ca.pem\"\n", "");
    assert_eq!(error.key, "collector.ca");
    assert_eq!(error.line, 7, "{error}");

    let error = self::error("unit = \"{request}\"\n", "");
    assert_eq!(error.key, "meter[0].unit", "{error:?}");

    let error = self::error("series_max = 65536", "series = 65536");
    assert_eq!(error.key, "limits.series");
    assert!(error.message.contains("series_max"), "{error}");

    let error = self::error("window = \"10s\"", "window = ");
    assert_eq!(error.line, 4, "{error}");

    let error = self::error("scale = 3", "scale = 300");
    assert_eq!(error.key, "meter[0].scale", "{error}");
}

#[test]
fn dogstatsd_sockets_are_read() {
    let text = GOOD.replace(
        "unix = \"dogstatsd.sock\"",
        "udp_sockets = 4\nunix_stream = \"s.sock\"\nunix_mode = \"0600\"\ncache = \"1MiB\"",
    );
    let config = parse(&text)
        .expect("good")
        .resolved(Path::new("/etc/agent"));
    let dogstatsd = config.inputs.dogstatsd.expect("given");
    assert_eq!((dogstatsd.udp_sockets, dogstatsd.unix_mode), (4, 0o600));
    assert_eq!(dogstatsd.cache_bytes, 1 << 20);
    assert_eq!(
        dogstatsd.unix_stream,
        Some(PathBuf::from("/etc/agent/s.sock"))
    );
    assert_eq!(dogstatsd.unix, None);
    // Remote senders need to be allowed in so many words.
    let remote = GOOD.replace("udp = \"127.0.0.1:8125\"", "udp = \"0.0.0.0:8125\"");
    assert!(parse(&remote).is_err());
    let allowed = remote.replace("unix = \"dogstatsd.sock\"", "allow_remote = true");
    assert!(parse(&allowed).is_ok());
}

#[test]
fn limits_are_read_and_checked() {
    let limits = |text: &str| {
        let text = GOOD.replace("series_max = 65536", text);
        parse(&text).map(|config| config.limits)
    };
    let usual = limits("").expect("good");
    assert_eq!((usual.series_max, usual.series_per_tenant), (65_536, None));
    assert_eq!(usual.idle_series, Some(Duration::from_hours(1)));
    assert_eq!(SeriesLimits::from(usual).series_per_tenant, u32::MAX);
    let given = limits(
        "series_max = 1000\nseries_per_tenant = 10\nkey_bytes = \"200B\"\ndimensions_max = 3\n\
         idle_series = \"never\"\nwide_bytes = \"1MiB\"",
    );
    let given = SeriesLimits::from(given.expect("good"));
    let expected = SeriesLimits {
        series_max: 1000,
        series_per_tenant: 10,
        key_bytes: 200,
        dimensions: 3,
        idle_millis: i64::MAX,
        wide_bytes: Some(1 << 20),
    };
    assert_eq!(given, expected);
    for (key, value) in [
        ("series_max", "0"),
        ("series_max", "2000000"),
        ("series_per_tenant", "0"),
        ("key_bytes", "\"8B\""),
        ("key_bytes", "\"1MiB\""),
        ("dimensions_max", "1000"),
        ("idle_series", "\"10ms\""),
        ("idle_series", "\"seldom\""),
        ("wide_bytes", "\"1KiB\""),
    ] {
        let errors = limits(&format!("{key} = {value}")).expect_err("out of range");
        let error = errors.iter().next().expect("one");
        assert_eq!(error.key, format!("limits.{key}"), "{error}");
        assert!(error.expected.is_some(), "{error}");
    }
}

#[test]
fn every_aggregation_may_be_declared_with_a_scale_that_it_can_have() {
    for (name, scale) in [
        ("sum", 9),
        ("last", 9),
        ("max", 9),
        ("unique", 0),
        ("distribution", 9),
        ("time_weighted", 9),
    ] {
        let meter = format!("scale = {scale}\naggregation = \"{name}\"");
        let good = GOOD.replace("scale = 3\naggregation = \"sum\"", &meter);
        assert!(good.contains(name) && parse(&good).is_ok(), "{name}");
    }
    for unfit in [
        "scale = 10\naggregation = \"time_weighted\"",
        "scale = 1\naggregation = \"unique\"",
    ] {
        let error = error("scale = 3\naggregation = \"sum\"", unfit);
        assert_eq!(error.key, "meter[0].aggregation", "{error}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = GOOD
        .replace("window = \"10s\"", "window = \"soon\"")
        .replace("\"127.0.0.1:8125\"", "\"0.0.0.0:8125\"")
        .replace("direction = \"out\"", "metric = \"x\"")
        .replace("scale = 3", "scale = 13");
    let errors = parse(&text).expect_err("four mistakes");
    let keys: Vec<_> = errors.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "window",
            "meter[0].scale",
            "input.dogstatsd.udp",
            "rule[1].metric"
        ]
    );
    assert_eq!(errors.to_string().lines().count(), 4);
}

#[test]
fn each_rule_of_the_values_is_kept() {
    for (from, to) in [
        ("\"edge-1\"", "\"edge 1\""),
        ("\"127.0.0.1:7430\"", "\"127.0.0.1\""),
        ("\"127.0.0.1:7430\"", "\":7430\""),
        ("\"127.0.0.1:7430\"", "\"host:0\""),
        ("server_name = \"localhost\"", "server_name = \"a b\""),
        ("bytes_max = \"1GiB\"", "bytes_max = \"16MiB\""),
        ("series_max = 65536", "series_max = 0"),
        ("name = \"net.bytes\"", "name = \"http.requests\""),
        ("unit = \"By\"", "unit = \"\""),
        ("aggregation = \"sum\"", "aggregation = \"median\""),
        ("inexact = \"round\"", "inexact = \"up\""),
        ("interval = \"1s\"", "interval = \"1ms\""),
        ("listener = \"udp\"", "listener = \"tcp\""),
        ("listener = \"udp\"", "direction = \"in\""),
        ("quantity = \"bytes\"\n", ""),
        ("tenant = \"acme\"", "tenant = \"_acme\""),
        ("tenant = \"acme\"", "tenant = { tag = \"customer\" }"),
        (
            "\"interface\", \"direction\"",
            "\"interface\", \"interface\"",
        ),
        ("\"interface\", \"direction\"", "\"interface\", \"region\""),
        ("\"region\", \"method\"", "\"re gion\""),
        ("udp = \"127.0.0.1:8125\"\nunix = \"dogstatsd.sock\"", ""),
        ("unix = \"dogstatsd.sock\"", "udp_sockets = 0"),
        ("unix = \"dogstatsd.sock\"", "udp_sockets = 33"),
        ("udp = \"127.0.0.1:8125\"", "udp_sockets = 2"),
        ("unix = \"dogstatsd.sock\"", "unix_mode = \"rw\""),
        ("unix = \"dogstatsd.sock\"", "unix_mode = \"0460\""),
        ("unix = \"dogstatsd.sock\"", "unix_mode = \"1660\""),
        (
            "unix = \"dogstatsd.sock\"",
            "unix = \"a.sock\"\nunix_stream = \"a.sock\"",
        ),
        ("unix = \"dogstatsd.sock\"", "cache = \"1KiB\""),
    ] {
        assert!(!errors(from, to).is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_mutation_panics(at in 0usize..1200, cut in 0usize..40, insert in "[\\[\\]{}=\"\\n a-z0-9é]{0,6}") {
        let mut text: Vec<char> = GOOD.chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, insert.chars());
        let text: String = text.into_iter().collect();
        if let Err(errors) = parse(&text) {
            for error in errors.iter() {
                prop_assert!(text.get(error.span.clone()).is_some());
                prop_assert!(error.line >= 1 && error.column >= 1);
            }
        }
    }
}

#[test]
fn the_spool_says_when_it_syncs() {
    let sync = |lines: &str| {
        let text = GOOD.replace("[spool]", &format!("[spool]\n{lines}"));
        parse(&text).map(|config| (config.spool.sync, config.spool.free_min))
    };
    let millis = 30_000;
    let free = 64 << 20;
    assert_eq!(
        sync("sync = \"always\"").expect("valid").0,
        SyncPolicy::Always
    );
    assert_eq!(
        sync("sync = \"interval\"").expect("valid"),
        (SyncPolicy::Interval { millis }, free)
    );
    assert_eq!(
        sync("sync = \"on_disconnect\"\nsync_interval = \"250ms\"\nfree_min = \"0B\"")
            .expect("valid"),
        (SyncPolicy::OnDisconnect { millis: 250 }, 0)
    );
    for wrong in [
        "sync = \"never\"",
        "sync_interval = \"5s\"",
        "sync = \"interval\"\nsync_interval = \"1ms\"",
        "free_min = \"much\"",
    ] {
        assert!(sync(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn shipping_is_configured() {
    let text = GOOD.replace(
        "endpoints = [\"127.0.0.1:7430\", \"[::1]:7430\", \"collector.example:7430\"]\n",
        "endpoints = [\"a:1\", { address = \"10.0.0.7:2\", server_name = \"b.example\" }]\n\
         order = \"equal\"\nprefer_after = \"0s\"\nbandwidth_max = \"10 MiB/s\"\nclock_warn = \"500ms\"\n",
    );
    let collector = parse(&text).expect("right").collector;
    let names: Vec<_> = collector
        .endpoints
        .iter()
        .map(|endpoint| collector.server_name_of(endpoint))
        .collect();
    assert_eq!(names, ["localhost", "b.example"]);
    assert_eq!(collector.bandwidth_max.map(NonZeroU64::get), Some(10 << 20));
    let ship = collector.ship_config();
    assert_eq!(ship.endpoints.names, ["a:1", "10.0.0.7:2"]);
    assert_eq!(ship.endpoints.order, EndpointOrder::Equal);
    assert_eq!(
        (ship.endpoints.prefer_after_millis, ship.clock_warn_millis),
        (0, 500)
    );
    let default = parse(GOOD).expect("right").collector.ship_config();
    assert_eq!(default.endpoints.prefer_after_millis, 300_000);
    assert_eq!(default.endpoints.order, EndpointOrder::Ordered);

    for (from, to, key) in [
        ("10 MiB/s", "10 Mbit/s", "collector.bandwidth_max"),
        ("10 MiB/s", "1 B/s", "collector.bandwidth_max"),
        ("equal", "random", "collector.order"),
        ("10.0.0.7:2", "10.0.0.7", "collector.endpoints[1]"),
        ("b.example", "b example", "collector.endpoints[1]"),
        ("server_name = \"b", "name = \"b", "collector.endpoints[1]"),
        ("500ms", "0ms", "collector.clock_warn"),
    ] {
        let errors = parse(&text.replace(from, to)).expect_err(to);
        let error = errors.iter().next().expect("one");
        assert!(error.key.starts_with(key), "{error:?}");
    }
}

#[test]
fn the_sdk_input_says_who_may_count() {
    let base = GOOD;
    let sdk = |text: &str| parse(&format!("{base}\n{text}"));
    let config = sdk(
        "[input.sdk]\nsocket = \"sdk.sock\"\nmode = \"0600\"\n[[input.sdk.allow]]\nuid = 7\ntenant = \"acme\"\n[[input.sdk.allow]]\ntenants = [\"x-*\"]\nmeters = [\"http.*\"]\n",
    );
    let config = config.expect("valid").resolved("/etc/t".as_ref());
    let sdk_input = config.inputs.sdk.expect("given");
    assert_eq!(sdk_input.socket.to_str(), Some("/etc/t/sdk.sock"));
    assert_eq!((sdk_input.mode, sdk_input.pages_max), (0o600, 64));
    assert_eq!(sdk_input.allow.len(), 2);
    for (text, message) in [
        ("[input.sdk]\n", "0 entries"),
        ("[input.sdk]\nmode = \"rw\"\n", "not permissions"),
        ("[input.sdk]\npages_max = 0\n", "out of range"),
        ("[input.sdk]\npages_bytes_max = \"1KiB\"\n", "out of range"),
        ("[[input.sdk.allow]]\nuid = 1\n", "not clear"),
        (
            "[[input.sdk.allow]]\ntenant = \"a\"\ntenants = [\"b\"]\n",
            "not clear",
        ),
    ] {
        let errors = sdk(text).expect_err(text).to_string();
        assert!(errors.contains(message), "{text}: {errors}");
    }
}
