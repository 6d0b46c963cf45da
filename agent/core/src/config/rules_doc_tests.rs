//! Checks `docs/rules.md`: its configuration is read, its lines count for whom the page says, and
//! its tables name every key of a rule.

use std::collections::BTreeSet;

use super::{Config, parse};
use crate::input::{Kind, Listener, Sample, Source};

const PAGE: &str = include_str!("../../../../docs/rules.md");

/// The fenced block of a language.
fn block(language: &str) -> &'static str {
    let open = format!("\n```{language}\n");
    let (_, rest) = PAGE.split_once(&open).expect("the page has the block");
    rest.split_once("\n```").expect("it ends").0
}

fn config() -> Config {
    let text = format!(
        "agent = \"edge-1\"\n[collector]\nendpoints = [\"127.0.0.1:7430\"]\nca = \"a\"\n\
         certificate = \"b\"\nkey = \"c\"\n{}",
        block("toml")
    );
    parse(&text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `udp NAME:VALUE|TYPE|#TAG:VALUE,…`, or `interface NAME QUANTITY DIRECTION`, as rules see it.
fn series(config: &Config, line: &str) -> String {
    let (listener, rest) = line.split_once(' ').expect("where it came in");
    let (source, metric, kind, tags): (_, String, _, Vec<(&str, &str)>) = match listener {
        "interface" => {
            let words: Vec<&str> = rest.split(' ').collect();
            let metric = format!("interface.{}", words[1]);
            let tags = vec![("interface", words[0]), ("direction", words[2])];
            (Source::Interfaces, metric, Kind::Count, tags)
        }
        socket => {
            let listeners = [Listener::Udp, Listener::Unix, Listener::UnixStream];
            let listener = listeners.into_iter().find(|l| l.as_str() == socket);
            let (sample, tags) = rest.split_once("|#").unwrap_or((rest, ""));
            let (metric, value) = sample.split_once(':').expect("a value");
            let kind = match value.rsplit('|').next() {
                Some("c") => Kind::Count,
                Some("g") => Kind::Gauge,
                other => panic!("{other:?} is no type of the page"),
            };
            let tags = tags.split(',').filter_map(|tag| tag.split_once(':'));
            let source = Source::Dogstatsd(listener.expect("a listener"));
            (source, metric.to_owned(), kind, tags.collect())
        }
    };
    let sample = Sample {
        source,
        metric: &metric,
        kind: Some(kind),
        tags: &tags,
    };
    let target = config.attributor().attribute(&sample);
    target.expect(line).series.to_string()
}

#[test]
fn lines_count_for_whom_the_page_says() {
    let config = config();
    let lines = block("attributed").lines();
    let wrong: Vec<String> = lines
        .filter_map(|example| {
            let (line, expected) = example.split_once(" => ").expect("an arrow");
            let found = series(&config, line);
            (found != expected).then(|| format!("{line} => {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(config.rules.len(), 4);
}

#[test]
fn every_key_of_a_rule_is_in_the_tables() {
    let text = "agent = \"a\"\n[[rule]]\nno_such_key = 1\n";
    let message = parse(text).expect_err("an unknown key").to_string();
    let (_, expected) = message.split_once("expected").expect("the keys there are");
    let known: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
    assert!(known.contains("listener"), "{message}");
    let keys = PAGE.split("\n## Worked lines").next().expect("the keys");
    let documented: BTreeSet<&str> = keys
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    assert_eq!(documented, known);
}
