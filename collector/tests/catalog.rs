//! Versions of the catalog: applied to a running collector, limited, taken back, signed, approved by
//! a second person, and refused as a whole.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::{Collector, Site};
use tollgate_collector::serve::admin::{self, AdminRequest};

/// Rewrites one text of the catalog folder.
fn change(site: &Site, file: &str, from: &str, to: &str) {
    let path = site.dir().join("catalog").join(file);
    let text = std::fs::read_to_string(&path).expect("reads");
    assert!(text.contains(from), "{from} is not in {file}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("writes");
}

/// Adds lines to the configuration.
fn configure(site: &Site, more: &str) {
    let text = std::fs::read_to_string(site.config()).expect("reads");
    std::fs::write(site.config(), format!("{text}\n{more}\n")).expect("writes");
}

/// Runs a command that must succeed, and reads its JSON.
#[track_caller]
fn json(site: &Site, args: &[&str]) -> Value {
    let (code, out, err) = site.cli_with_errors(&[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Runs a command that must fail with words in what it says.
#[track_caller]
fn fails(site: &Site, args: &[&str], code: i32, words: &[&str]) {
    let (found, out, err) = site.cli_with_errors(args);
    assert_eq!(found, code, "{args:?}: {out}{err}");
    // Long lines are broken.
    let flat = err.replace(['\n', '│', '×'], " ");
    let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(flat.contains(word), "{word:?} is not in {flat}");
    }
}

fn apply(site: &Site, args: &[&str]) -> Value {
    json(
        site,
        &[&["catalog", "apply", "--reason", "test"], args].concat(),
    )
}

/// Digests, states and authors of the history.
fn history(site: &Site) -> Vec<(String, String)> {
    let rows = json(site, &["catalog", "history"]);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = rows.as_array().expect("a list");
    rows.iter()
        .map(|row| (text(row, "digest"), text(row, "state")))
        .collect()
}

fn in_force(site: &Site) -> String {
    let status = json(site, &["status"]);
    status["fold"]["catalog"]
        .as_str()
        .unwrap_or("none")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_applied_limited_and_taken_back() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let first = in_force(&site);
    fails(
        &site,
        &["catalog", "apply", "--reason", "x"],
        1,
        &["is in force already"],
    );

    // First for one tenant, then for everybody.
    change(&site, "cards/edge.toml", "0.50", "0.60");
    let answer = apply(&site, &["--tenant", "acme", "--author", "kim"]);
    assert_eq!(answer["tenants"], serde_json::json!(["acme"]));
    assert!(
        answer["author"]
            .as_str()
            .is_some_and(|author| author.starts_with("kim (uid "))
    );
    let answer = apply(&site, &[]);
    let second = answer["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(answer["tenants"], Value::Null);
    assert_eq!(in_force(&site), second);

    // Taken back by the former version, which needs no folder.
    let answer = apply(&site, &["--version", &first[..8]]);
    assert_eq!(answer["digest"], *first);
    assert_eq!(in_force(&site), first);
    let expected = [
        (&first, "replaced"),
        (&second, "replaced"),
        (&second, "replaced"),
        (&first, "in force"),
    ];
    let expected = expected.map(|(digest, state)| (digest.clone(), state.to_owned()));
    assert_eq!(history(&site), expected);
    let (_, table) = site.cli(&["catalog", "history"]);
    assert!(
        table.contains("first start") && table.contains("kim (uid "),
        "{table}"
    );

    // What was applied can be looked at and compared.
    let (_, card) = site.cli(&["catalog", "show", &second[..6], "cards/edge.toml"]);
    assert!(card.contains("\"0.60\""), "{card}");
    let (_, shown) = site.cli(&["catalog", "diff", "applied", "folder"]);
    assert_eq!(
        shown,
        "cards/edge.toml: price requests: unit: \"0.50\" -> \"0.60\"\n"
    );
    fails(
        &site,
        &["catalog", "show", "000000"],
        1,
        &["catalog history"],
    );
    fails(
        &site,
        &["catalog", "show", &second, "none"],
        1,
        &["no file `none`"],
    );

    // The stored history is what the journal gives.
    collector.stop().await;
    let report = json(&site, &["ledger", "verify"]);
    assert_eq!(report["verified"], true, "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_no_price() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let first = in_force(&site);
    collector.stop().await;
    change(&site, "cards/edge.toml", "0.50", "0.60");
    let collector = Collector::start(&site).await;
    assert_eq!(
        in_force(&site),
        first,
        "the folder waits until somebody applies it"
    );
    let answer = apply(&site, &[]);
    assert_ne!(in_force(&site), first);
    assert_eq!(answer["digest"], in_force(&site));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_catalog_changes_nothing() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let before = history(&site);
    let apply = ["catalog", "apply", "--reason", "x"];
    change(&site, "cards/edge.toml", "\"0.50\"", "0.50");
    fails(
        &site,
        &apply,
        78,
        &["cards/edge.toml:11:8", "price[0].unit", "found a float"],
    );
    change(&site, "cards/edge.toml", "0.50", "\"0.60\"");
    let test = "profile = \"acme\"\nperiod = \"2026-06\"\nusage.\"http.requests\" = \"100\"\nnet = \"0.50\"\n";
    std::fs::write(site.dir().join("catalog/june.test.toml"), test).expect("writes");
    fails(&site, &apply, 78, &["june.test.toml:4:7", "expected 0.50"]);
    fails(
        &site,
        &["catalog", "check", "--catalog", "none"],
        78,
        &["none"],
    );

    // The collector itself refuses too, whatever a client sends.
    let socket = site.data().join("admin.sock");
    for (file, text, expected) in [
        (
            "meters.toml",
            "[[meter]]",
            "meters.toml:1:1: meter[0].name: missing",
        ),
        ("prices.toml", "", "not a file of a catalog"),
        ("none.test.toml", "net = \"1\"", "none.test.toml:1:1"),
    ] {
        let request = AdminRequest::ApplyCatalog {
            files: BTreeMap::from([(file.to_owned(), text.to_owned())]),
            tenants: None,
            author: "kim".to_owned(),
            reason: "x".to_owned(),
            signatures: Vec::new(),
        };
        let error = admin::ask(&socket, &request).await.expect_err("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }

    assert_eq!(history(&site), before, "nothing was journaled");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_person_approves() {
    let site = Site::new("");
    configure(&site, "[catalog]\nsecond_person = true");
    let collector = Collector::start(&site).await;
    assert_eq!(in_force(&site), "none", "a start is no second person");
    let answer = apply(&site, &["--author", "Kim"]);
    assert_eq!(
        (&answer["proposed"], &answer["from"]),
        (&Value::Bool(true), &Value::Null)
    );
    let digest = answer["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(in_force(&site), "none");
    assert_eq!(history(&site), [(digest.clone(), "proposed".to_owned())]);

    let approve = [
        "catalog",
        "apply",
        "--reason",
        "seen",
        "--approve",
        &digest[..12],
        "--author",
    ];
    fails(
        &site,
        &[&approve[..], &["kim"]].concat(),
        1,
        &["somebody else"],
    );
    let answer = json(&site, &[&approve[..], &["lee"]].concat());
    assert_eq!(answer["digest"], *digest);
    assert_eq!(in_force(&site), digest);
    fails(
        &site,
        &[&approve[..], &["lee"]].concat(),
        1,
        &["approved already"],
    );
    let states: Vec<String> = history(&site).into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["approved", "in force"]);

    // What was proposed before another change is to be looked at again.
    change(&site, "cards/edge.toml", "0.50", "0.60");
    let stale = apply(&site, &["--author", "kim"])["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    change(&site, "cards/edge.toml", "0.60", "0.70");
    let other = apply(&site, &["--author", "kim"])["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let approve = |digest| {
        [
            "catalog",
            "apply",
            "--reason",
            "seen",
            "--author",
            "lee",
            "--approve",
            digest,
        ]
    };
    json(&site, &approve(&other));
    fails(&site, &approve(&stale), 1, &["was applied since"]);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_can_be_required() {
    let site = Site::new("");
    let path = |name: &str| site.dir().join(name).display().to_string();
    let (kim, lee, catalog) = (path("kim.key"), path("lee.key"), path("catalog"));
    let made = json(&site, &["catalog", "keygen", "--out", &kim]);
    fails(
        &site,
        &["catalog", "keygen", "--out", &kim],
        1,
        &["kim.key"],
    );
    json(&site, &["catalog", "keygen", "--out", &lee]);
    let key = made["public"].as_str().expect("a key");
    configure(
        &site,
        &format!("[catalog]\nrequire_signature = true\n[catalog.trusted_keys]\nkim = \"{key}\""),
    );
    let collector = Collector::start(&site).await;
    assert_eq!(in_force(&site), "none", "a start cannot sign");
    let plain = ["catalog", "apply", "--reason", "x"];
    fails(&site, &plain, 1, &["not signed"]);
    let by = |key| [&plain[..], &["--key", key]].concat();
    fails(&site, &by(&lee), 1, &["not in [catalog.trusted_keys]"]);

    json(
        &site,
        &["catalog", "sign", "--catalog", &catalog, "--key", &kim],
    );
    let first = apply(&site, &[])["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    assert_eq!(in_force(&site), first);
    let rows = json(&site, &["catalog", "history"]);
    assert_eq!(rows[0]["signed_by"], serde_json::json!(["kim"]));

    // The signature is of these files only.
    change(&site, "cards/edge.toml", "0.50", "0.60");
    fails(&site, &plain, 1, &["does not fit"]);
    json(&site, &by(&kim));
    assert_ne!(in_force(&site), first);
    // Taken back: what vouched for the former version still does.
    apply(&site, &["--version", &first]);
    assert_eq!(in_force(&site), first);
    collector.stop().await;
}
