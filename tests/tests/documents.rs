//! Documents and samples against the code: every configuration key is on its page with its
//! default, and the two samples fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tollgate_agent_core::config as agent;
use tollgate_collector_core::catalog::Catalog;
use tollgate_collector_core::config::Config as Collector;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let path = root.expect("tests/ lies in the repository").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Keys with their defaults, as a section of docs/configuration.md has them.
fn documented(section: &str) -> Vec<(String, Option<String>)> {
    let page = read("docs/configuration.md");
    let (_, rest) = page
        .split_once(&format!("\n## {section}\n"))
        .expect("the section");
    let table = rest.split("\n## ").next().expect("its text");
    let code = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    let mut keys = Vec::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let row = format!("`{row}");
        let mut cells = row.split(" | ");
        let names = code(cells.next().expect("keys"));
        let defaults = cells.next().expect("a default");
        // `a`, `b` are the defaults of two keys; one default stands for all keys of the row. Other
        // words say when there is none.
        let words = defaults.split(", ").all(|word| word.starts_with('`'));
        let values = if words { code(defaults) } else { Vec::new() };
        for (index, name) in names.into_iter().enumerate() {
            let value = values.get(index).or(values.first()).cloned();
            keys.push((name.replace(['[', ']'], ""), value));
        }
    }
    keys
}

/// The keys of every table, by asking for one that no table has.
fn known(parse: impl Fn(&str) -> String, tables: &[(&str, &str)]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for (prefix, text) in tables {
        let message = parse(&text.replace('@', "no_such_key = 1"));
        let (_, expected) = message
            .split_once("`no_such_key`, expected ")
            .unwrap_or_else(|| panic!("{prefix}: {message}"));
        let names = expected.split('`').skip(1).step_by(2);
        keys.extend(names.map(|name| format!("{prefix}{name}")));
    }
    keys
}

#[track_caller]
fn compare(known: &BTreeSet<String>, documented: &[(String, Option<String>)]) {
    let rows: BTreeSet<&str> = documented.iter().map(|(key, _)| key.as_str()).collect();
    let missing: Vec<_> = known
        .iter()
        .filter(|key| {
            let below = format!("{key}.");
            !rows.iter().any(|row| row == key || row.starts_with(&below))
        })
        .collect();
    let surplus: Vec<_> = rows.iter().filter(|row| !known.contains(**row)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "not in docs/configuration.md: {missing:?}; only there: {surplus:?}"
    );
}

/// A value as TOML has it.
fn literal(text: &str) -> String {
    let bare = text.starts_with('[')
        || matches!(text, "true" | "false")
        || text.parse::<u64>().is_ok() && text != "0660";
    if bare {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

const AGENT: &str = "agent = \"a\"\ncollector.endpoints = [\"h:1\"]\ncollector.ca = \"a\"\n\
    collector.certificate = \"b\"\ncollector.key = \"c\"\ninput.dogstatsd.udp = \"127.0.0.1:1\"\n\
    admin.group = \"g\"\nmetrics.listen = \"127.0.0.1:9464\"\ninput.interfaces.exclude = []\ninput.sdk.allow = [{ tenants = [\"*\"] }]\n";

#[test]
fn every_key_of_the_agent_is_documented_with_its_default() {
    let tables = [
        ("", "@"),
        ("admin.", "admin = { @ }"),
        ("metrics.", "metrics = { @ }"),
        ("collector.", "collector = { @ }"),
        ("spool.", "spool = { @ }"),
        ("limits.", "limits = { @ }"),
        ("meter.", "meter = [{ @ }]"),
        ("input.", "input = { @ }"),
        ("input.dogstatsd.", "input.dogstatsd = { @ }"),
        ("input.interfaces.", "input.interfaces = { @ }"),
        ("input.sdk.", "input.sdk = { @ }"),
        ("input.sdk.allow.", "input.sdk.allow = [{ @ }]"),
    ];
    let parse = |text: &str| agent::parse(text).expect_err("an unknown key").to_string();
    let documented = documented("Agent");
    compare(&known(parse, &tables), &documented);

    let plain = agent::parse(AGENT).unwrap_or_else(|errors| panic!("{errors}"));
    for (key, value) in &documented {
        let Some(value) = value else { continue };
        // Not a value but a rule; bound to another key; or in tables of which there are several.
        let elsewhere = ["admin_socket", "spool.sync_interval"];
        if elsewhere.contains(&key.as_str()) || key.starts_with("meter.") {
            continue;
        }
        let text = format!("{AGENT}{key} = {}\n", literal(value));
        let config = agent::parse(&text).unwrap_or_else(|errors| panic!("{key}: {errors}"));
        assert_eq!(config, plain, "{key} = {value} is not the default");
    }
}

const COLLECTOR: &str = "data_dir = \"d\"\nlisten = \"127.0.0.1:1\"\ntls.ca = \"a\"\n\
    tls.certificate = \"b\"\ntls.key = \"c\"\n";

#[test]
fn every_key_of_the_collector_is_documented_with_its_default() {
    let file = Path::new("c.toml");
    let tables = [
        ("", "@"),
        ("catalog.", "catalog = { @ }"),
        ("tls.", "tls = { @ }"),
        ("journal.", "journal = { @ }"),
        ("fold.", "fold = { @ }"),
        ("receive.", "receive = { @ }"),
        ("agent.", "agent = [{ @ }]"),
        ("issuer.", "issuer = [{ @ }]"),
        ("approval.", "approval = { @ }"),
    ];
    let parse = |text: &str| {
        let errors = Collector::parse(text, file).expect_err("an unknown key");
        errors.to_string()
    };
    let documented = documented("Collector");
    compare(&known(parse, &tables), &documented);

    let parse = |text: &str| {
        Collector::parse(text, file).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
    };
    let plain = parse(COLLECTOR);
    let issuer = |more: &str| parse(&format!("{COLLECTOR}issuer = [{{ id = \"i\"{more} }}]\n"));
    let plain_issuer = issuer("");
    for (key, value) in &documented {
        let Some(value) = value else { continue };
        let value = literal(value);
        if let Some(key) = key.strip_prefix("issuer.") {
            // The prefix has none, so that its row is in words.
            let config = issuer(&format!(", {key} = {value}"));
            assert_eq!(config, plain_issuer, "issuer.{key} = {value}");
        } else if key != "admin_socket" {
            let config = parse(&format!("{COLLECTOR}{key} = {value}\n"));
            assert_eq!(config, plain, "{key} = {value} is not the default");
        }
    }
}

#[test]
fn the_two_samples_fit_together() {
    let text = read("packaging/tollgate-agent.toml");
    let shown = |text: &str| -> String {
        let commented = text.split("# [[meter]]").skip(1);
        let blocks = commented.map(|block| {
            let lines = block.lines().skip(1).map_while(|l| l.strip_prefix("# "));
            format!("\n[[meter]]\n{}\n", lines.collect::<Vec<_>>().join("\n"))
        });
        blocks.collect()
    };
    let all = format!("{text}{}", shown(&text));
    let agent = agent::parse(&all).unwrap_or_else(|errors| panic!("{errors}"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/catalog");
    let mut files = BTreeMap::new();
    collect(&folder, &PathBuf::new(), &mut files);
    let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let declared: BTreeMap<_, _> = catalog
        .meters()
        .map(|meter| (meter.name.clone(), (meter.scale, meter.aggregation)))
        .collect();
    let counted: BTreeMap<_, _> = agent
        .meters
        .iter()
        .map(|(name, meter)| (name.clone(), (meter.scale, meter.aggregation)))
        .collect();
    assert_eq!(counted, declared, "meters of the samples");
    // What the sample counts without a comment taken off is priced.
    let agent = agent::parse(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let card = read("packaging/catalog/cards/edge.toml");
    for name in agent.meters.keys() {
        let priced = card.contains(&format!("meter = \"{name}\""));
        assert!(priced, "{name} has no price");
    }
}

fn collect(root: &Path, below: &Path, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(root.join(below)).expect("the sample catalog") {
        let entry = entry.expect("reads");
        let path = below.join(entry.file_name());
        if entry.path().is_dir() {
            collect(root, &path, files);
        } else {
            let text = std::fs::read_to_string(entry.path()).expect("UTF-8");
            files.insert(path.display().to_string(), text);
        }
    }
}
