use std::path::Path;

use proptest::prelude::*;

use super::*;

const GOOD: &str = r#"data_dir = "data"
listen = "127.0.0.1:7430"
http = "127.0.0.1:7431"
catalog = "catalog"

[tls]
ca = "pki/ca.pem"
certificate = "pki/collector.pem"
key = "/etc/collector.key"

[journal]
segment_bytes = "64MiB"

[fold]
partitions = 4
settlement = "24h"
future_tolerance = "5m"

[[agent]]
name = "edge-1"
tenants = ["acme", "umbrella-*"]
meters = ["*"]
"#;

fn all_of(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("/etc/tollgate/collector.toml"))
}

/// The configuration, or its first mistake.
fn parse(text: &str) -> Result<Config, ConfigError> {
    all_of(text).map_err(|errors| errors.iter().next().expect("at least one").clone())
}

#[test]
fn a_good_file_is_read() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.data_dir, Path::new("/etc/tollgate/data"));
    assert_eq!(
        config.admin_socket,
        Path::new("/etc/tollgate/data/admin.sock")
    );
    assert_eq!(config.tls.key, Path::new("/etc/collector.key"));
    assert_eq!(config.journal.segment_bytes, 64 << 20);
    assert_eq!(config.fold.partitions, 4);
    assert_eq!(config.fold.settlement_millis, 86_400_000);
    assert_eq!(config.fold.future_tolerance_millis, 300_000);
    assert_eq!(config.policy.rules().len(), 1);
    let opened = config.opened(Lineage::from_bytes([1; 16]));
    assert_eq!((opened.partitions, opened.usage_window_secs), (4, 60));
}

#[test]
fn defaults_fill_what_is_left_out() {
    let text =
        "data_dir = \"d\"\nlisten = \"[::1]:1\"\n[tls]\nca=\"a\"\ncertificate=\"b\"\nkey=\"c\"\n";
    let config = parse(text).expect("good");
    assert_eq!(config.http.to_string(), "127.0.0.1:7431");
    assert_eq!(config.receive.window_batches, 64);
    assert_eq!(config.policy, Policy::empty());
}

/// Replaces one text, and expects an error at a place.
fn broken(from: &str, to: &str, place: (usize, usize), key: &str, words: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    let error = parse(&GOOD.replacen(from, to, 1)).expect_err(to);
    let shown = error.to_string();
    assert_eq!((error.line, error.column), place, "{shown}");
    assert_eq!(error.key, key, "{shown}");
    assert!(
        shown.starts_with("/etc/tollgate/collector.toml:"),
        "{shown}"
    );
    for word in words {
        assert!(shown.contains(word), "{word:?} is not in {shown}");
    }
}

#[test]
fn errors_name_place_key_and_expectation() {
    broken(
        "partitions = 4",
        "partitions = 0",
        (15, 14),
        "fold.partitions",
        &["out of range", "1 to 256"],
    );
    broken(
        "partitions = 4",
        "partitions = \"4\"",
        (15, 14),
        "fold.partitions",
        &["string"],
    );
    broken(
        "partitions",
        "partition",
        (15, 1),
        "fold.partition",
        &["unknown field", "partitions"],
    );
    broken(
        "\"24h\"",
        "\"a day\"",
        (16, 14),
        "fold.settlement",
        &["expected", "ms, s, m, h or d"],
    );
    broken(
        "\"64MiB\"",
        "\"1KiB\"",
        (12, 17),
        "journal.segment_bytes",
        &["out of range", "4096"],
    );
    broken(
        "\"127.0.0.1:7430\"",
        "\"localhost\"",
        (2, 10),
        "listen",
        &["expected", "127.0.0.1:7430"],
    );
    broken(
        "\"umbrella-*\"",
        "\"um brella\"",
        (21, 20),
        "agent.tenants",
        &["expected", "ASCII"],
    );
    broken(
        "\"edge-1\"",
        "\"_edge\"",
        (20, 8),
        "agent.name",
        &["certificate"],
    );
    broken(
        "\"data\"",
        "\"\"",
        (1, 12),
        "data_dir",
        &["empty", "expected"],
    );
    broken(
        "[journal]",
        "[jornal]",
        (11, 2),
        "jornal",
        &["unknown field", "journal"],
    );
    broken(
        "key = \"/etc/collector.key\"\n",
        "",
        (6, 1),
        "tls",
        &["missing field", "key"],
    );
    broken("[fold]", "[fold", (14, 6), "fold", &[]);
}

#[test]
fn every_mistake_is_reported_in_the_order_of_the_text() {
    let text = GOOD
        .replacen("\"127.0.0.1:7430\"", "\"x\"", 1)
        .replacen("\"127.0.0.1:7431\"", "\"y\"", 1)
        .replacen("\"pki/ca.pem\"", "\"\"", 1)
        .replacen("\"64MiB\"", "\"64 megabytes\"", 1)
        .replacen("partitions = 4", "partitions = 0", 1)
        .replacen("\"5m\"", "\"367d\"", 1)
        .replacen("\"acme\"", "\"ac me\"", 1)
        + "[receive]\nconnections_max = 0\n[[issuer]]\nid = \"a b\"\nterms = \"1h\"\n\
           [[issuer]]\nid = \"a b\"\n";
    let errors = all_of(&text).expect_err("wrong in many places");
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    let expected = [
        "listen",
        "http",
        "tls.ca",
        "journal.segment_bytes",
        "fold.partitions",
        "fold.future_tolerance",
        "agent.tenants",
        "receive.connections_max",
        "issuer.id",
        "issuer.terms",
        "issuer.id",
        "issuer.id",
    ];
    assert_eq!(keys, expected, "{errors}");
    assert_eq!(errors.to_string().lines().count(), expected.len());
}

#[test]
fn http_beyond_this_host_has_to_be_allowed() {
    for address in ["0.0.0.0:7431", "192.0.2.7:7431", "[::]:7431"] {
        let text = GOOD.replacen("127.0.0.1:7431", address, 1);
        let error = parse(&text).expect_err(address);
        assert_eq!((error.line, error.key.as_str()), (3, "http"));
        assert!(error.message.contains("http_allow_remote"), "{error}");
        let config = parse(&format!("http_allow_remote = true\n{text}")).expect("allowed");
        assert!(config.http_allow_remote && config.http.to_string() == address);
    }
    let config = parse(&GOOD.replacen("127.0.0.1:7431", "[::1]:7431", 1));
    assert!(!config.expect("loopback").http_allow_remote);
}

#[test]
fn sizes_and_durations_are_those_of_the_agent() {
    let with = |size: &str| parse(&GOOD.replacen("64MiB", size, 1));
    assert_eq!(
        with("10 MB").map(|c| c.journal.segment_bytes),
        Ok(10_000_000)
    );
    assert_eq!(with("1GiB").map(|c| c.journal.segment_bytes), Ok(1 << 30));
    let error = with("65536").expect_err("no unit");
    assert!(error.message.contains("64MiB"), "{error}");
    let with = |time: &str| parse(&GOOD.replacen("\"24h\"", &format!("\"{time}\""), 1));
    assert_eq!(
        with("1 d").map(|c| c.fold.settlement_millis),
        Ok(86_400_000)
    );
    with("366d").expect("the longest");
    with("366d1").expect_err("no unit");
    with("367d").expect_err("too long");
}

#[test]
fn one_rule_per_agent() {
    let twice = format!("{GOOD}[[agent]]\nname = \"edge-1\"\ntenants = []\nmeters = []\n");
    let error = parse(&twice).expect_err("twice");
    assert_eq!(
        (error.line, error.column, error.key.as_str()),
        (24, 8, "agent.name")
    );
}

#[test]
fn windows_divide_a_quarter_of_an_hour() {
    let with = |width: &str| {
        parse(&GOOD.replacen("[fold]", &format!("[fold]\nusage_window = \"{width}\""), 1))
    };
    assert_eq!(
        with("15m").map(|config| config.fold.usage_window.secs()),
        Ok(900)
    );
    for width in ["7s", "1h", "1500ms", "0s"] {
        assert_eq!(with(width).expect_err(width).key, "fold.usage_window");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        let _ = all_of(&text);
    }

    #[test]
    fn mutations_do_not_make_it_panic(at in any::<prop::sample::Index>(), with in "\\PC{0,3}", cut in 0usize..6) {
        let start = floor_boundary(GOOD, at.index(GOOD.len()));
        let end = floor_boundary(GOOD, (start + cut).min(GOOD.len()));
        let text = format!("{}{with}{}", &GOOD[..start], &GOOD[end..]);
        if let Err(errors) = all_of(&text) {
            prop_assert!(errors.iter().len() >= 1);
            for error in errors.iter() {
                prop_assert!(error.line >= 1 && error.column >= 1);
                prop_assert!(text.get(error.span.clone()).is_some());
            }
        }
    }
}

#[test]
fn the_catalog_is_a_folder_or_a_table_with_rules() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.catalog, Path::new("/etc/tollgate/catalog"));
    assert_eq!(config.catalog_rules, CatalogRules::default());
    let without = parse(&GOOD.replace("catalog = \"catalog\"\n", "")).expect("good");
    assert_eq!(without.catalog, config.catalog);

    let (kim, lee) = ("ab".repeat(32), "cd".repeat(32));
    let table = format!(
        "[catalog]\nfolder = \"prices\"\nrequire_signature = true\nsecond_person = true\n\
         trusted_keys = {{ kim = \"{kim}\", lee = \"{lee}\" }}\n"
    );
    let with = |table: &str| {
        let text = GOOD.replace("catalog = \"catalog\"\n", "");
        parse(&format!("{text}\n{table}"))
    };
    let config = with(&table).expect("good");
    assert_eq!(config.catalog, Path::new("/etc/tollgate/prices"));
    let rules = config.catalog_rules;
    assert!(rules.require_signature && rules.second_person && rules.by_hand_only());
    assert_eq!(rules.trusted_keys["lee"], PublicKey([0xcd; 32]));

    for (from, to, expected) in [
        ("kim = ", "kin = \"\", kim = ", "64 hexadecimal digits"),
        (&*format!(", lee = \"{lee}\""), "", "at least 2"),
        (&*lee, &*kim, "twice"),
        ("second_person", "second_persons", "unknown field"),
        ("folder = \"prices\"", "folder = \"\"", "the path is empty"),
        ("true", "1", "boolean"),
    ] {
        assert!(table.contains(from), "{from}");
        let shown = with(&table.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn the_documented_rules_are_read() {
    let document = include_str!("../../../../docs/catalog.md");
    let blocks = document.split("```toml\n[catalog]\n").skip(1);
    let rules: Vec<CatalogRules> = blocks
        .map(|block| {
            let block = block.split("```").next().expect("a block has an end");
            let block = block.replace("64 hexadecimal digits", &"ab".repeat(32));
            let text = GOOD.replace("catalog = \"catalog\"\n", "");
            let config = parse(&format!("{text}\n[catalog]\n{block}"));
            config.expect("documented").catalog_rules
        })
        .collect();
    assert_eq!(rules.len(), 2);
    assert!(rules[0].require_signature && rules[0].trusted_keys.contains_key("kim"));
    assert!(rules[1].second_person && !rules[1].require_signature);
}
