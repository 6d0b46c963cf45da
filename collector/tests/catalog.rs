//! Versions of the catalog: applied to a running collector, limited, taken back, signed, approved by
//! a second person, and refused as a whole.

use crate::support::{Collector, Site, billed};
use serde_json::Value;
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

    assert_eq!(history(&site), before, "nothing was journaled");
    collector.stop().await;
    change(&site, "cards/edge.toml", "\"0.60\"", "0.60");
    let collector = Collector::start(&site).await;
    assert_eq!(history(&site), before, "what is in force stays");
    collector.stop().await;
}

#[test]
fn a_first_start_with_a_bad_catalog_leaves_nothing_behind() {
    let site = Site::new("");
    change(&site, "cards/edge.toml", "\"0.50\"", "0.50");
    fails(
        &site,
        &["run"],
        78,
        &["cards/edge.toml:11:8", "found a float"],
    );
    assert!(!site.data().join("journal").exists());
}

const TIERS: &str = "model = \"graduated\"\nper = \"100 {request}\"\ntiers = [\n  \
    { to = \"1000\", unit = \"0.50\" },\n  { unit = \"0.40\" },\n]\n";

/// What is put in place of a text of the sound catalog, and what is said of it.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    // Gaps and overlaps between tiers.
    (
        "cards/edge.toml",
        "{ to = \"1000\", ",
        "{ ",
        "cards/edge.toml:12:3: price[0].tiers[0].to: missing",
    ),
    (
        "cards/edge.toml",
        "{ unit = \"0.40\" }",
        "{ to = \"500\", unit = \"0.40\" }, { unit = \"0.30\" }",
        "cards/edge.toml:13:10: price[0].tiers[1].to: bounds must rise",
    ),
    (
        "cards/edge.toml",
        "{ unit = \"0.40\" }",
        "{ to = \"2000\", unit = \"0.40\" }",
        "cards/edge.toml:13:10: price[0].tiers[1].to: the last tier must not have a bound",
    ),
    // Unknown meters and units, and units of another kind.
    (
        "cards/edge.toml",
        "http.requests",
        "http.request",
        "cards/edge.toml:8:9: price[0].meter: meter `http.request` is not declared",
    ),
    (
        "cards/edge.toml",
        "100 {request}",
        "100 {call}",
        "cards/edge.toml:10:7: price[0].per: unit `{call}` counts {call}",
    ),
    (
        "cards/edge.toml",
        "100 {request}",
        "1 GB",
        "cards/edge.toml:10:7: price[0].per: unit `GB` counts data, where {request} is counted",
    ),
    (
        "meters.toml",
        "unit = \"{request}\"",
        "unit = \"a request\"",
        "meters.toml:3:8: meter[0].unit: `a request` is not a unit",
    ),
    // Impossible dates.
    (
        "cards/edge.toml",
        "2026-01-01",
        "2026-02-30",
        "cards/edge.toml:3:8: from: not a date",
    ),
    // Floats where a decimal string is needed.
    (
        "cards/edge.toml",
        "unit = \"0.50\"",
        "unit = 0.50",
        "cards/edge.toml:12:25: price[0].tiers[0].unit: found a float",
    ),
    // Unknown keys, and keys twice.
    (
        "profiles/acme.toml",
        "zone = ",
        "zome = \"UTC\"\nzone = ",
        "profiles/acme.toml:3:1: zome: unknown key",
    ),
    (
        "profiles/acme.toml",
        "zone = ",
        "zone = \"UTC\"\nzone = ",
        "profiles/acme.toml:4:1: not valid TOML: duplicate key",
    ),
];

/// Files that are added to the sound catalog, and what is said of it.
const REFUSED_FILES: &[(&str, &str, &str)] = &[
    // Two versions in force at once.
    (
        "cards/same.toml",
        "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n[[price]]\nid = \"x\"\n\
         model = \"flat\"\nflat = \"1\"\n",
        "cards/same.toml:1:6: id: card `edge` from 2026-01-01 is declared twice (first in cards/edge.toml, id)",
    ),
    (
        "profiles/same.toml",
        "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\n",
        "profiles/same.toml:1:10: tenant: profile of `acme` is declared twice",
    ),
    // Circular templates.
    (
        "templates/a.toml",
        "id = \"a\"\ntemplate = \"a\"\n",
        "templates/a.toml:2:12: template: the template builds on itself",
    ),
    (
        "templates/a.toml",
        "id = \"a\"\ntemplate = \"b\"\n",
        "templates/a.toml:2:12: template: a template does not build on another one",
    ),
    // Duplicate ids.
    (
        "meters/more.toml",
        "[[meter]]\nname = \"http.requests\"\nunit = \"1\"\nscale = 0\naggregation = \"sum\"\n",
        "meters/more.toml:2:8: meter[0].name: meter `http.requests` is declared twice (first in meters.toml, meter[0].name)",
    ),
    // Impossible dates, and two words about one end.
    (
        "profiles/shop.toml",
        "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\npayer = \"acme\"\nuntil = \"2026-02-01\"\n",
        "profiles/shop.toml:5:9: until: somebody else pays for the tenant",
    ),
    (
        "profiles/shop.toml",
        "tenant = \"shop\"\ncard = \"edge\"\nzone = \"UTC\"\nfrom = \"2026-02-01\"\nuntil = \"2026-01-01\"\n",
        "profiles/shop.toml:5:9: until: it ends on 2026-01-01, which is not after 2026-02-01",
    ),
    // No file of a catalog, no TOML, a test that fails.
    ("prices.toml", "", "prices.toml: not a file of a catalog"),
    ("cards/b.toml", "id = ", "cards/b.toml:1:6: not valid TOML"),
    (
        "none.test.toml",
        "net = \"1\"",
        "none.test.toml:1:1: profile: missing",
    ),
];

/// Whatever a client sends, the collector itself refuses it as a whole, with file, line, key and
/// reason, before anything changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_collector_refuses_every_bad_catalog() {
    let site = Site::new("");
    let per_unit = "model = \"per_unit\"\nper = \"100 {request}\"\nunit = \"0.50\"\n";
    change(&site, "cards/edge.toml", per_unit, TIERS);
    let collector = Collector::start(&site).await;
    let before = history(&site);
    let sound = tollgate_collector::catalog_dir::read(&site.dir().join("catalog")).expect("reads");
    let mut wrong = Vec::new();
    for (file, from, to, expected) in REFUSED {
        let mut files = sound.clone();
        let text = files.get_mut(*file).expect("there");
        assert!(text.contains(from), "{from} is not in {file}: {text}");
        *text = text.replacen(from, to, 1);
        wrong.push((files, *expected));
    }
    for (file, text, expected) in REFUSED_FILES {
        let mut files = sound.clone();
        files.insert((*file).to_owned(), (*text).to_owned());
        wrong.push((files, *expected));
    }
    let socket = site.data().join("admin.sock");
    for (files, expected) in wrong {
        let request = AdminRequest::ApplyCatalog {
            files,
            tenants: None,
            author: "kim".to_owned(),
            reason: "x".to_owned(),
            signatures: Vec::new(),
        };
        let error = admin::ask(&socket, &request).await.expect_err(expected);
        assert!(
            error.to_string().contains(expected),
            "{expected} is not in {error}"
        );
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

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_a_change_in_money() {
    let (site, collector) = billed("settlement = \"1h\"").await;

    change(&site, "cards/edge.toml", "0.50", "0.60");
    let before = history(&site);
    let plan = json(&site, &["catalog", "plan"]);
    // 321 requests at 0.50, and at 0.60, per 100.
    let period = &plan["tenants"][0]["periods"][0];
    assert_eq!(period["which"], "closed", "{plan:#}");
    assert_eq!(period["before"]["cost"]["net"], "1.61");
    assert_eq!(period["after"]["cost"]["lines"]["requests"], "1.93");
    assert_eq!(period["difference"], "0.32");
    assert_eq!(
        plan["totals"],
        serde_json::json!([
            { "which": "closed", "currency": "EUR", "before": "1.61", "after": "1.93", "difference": "0.32" }
        ])
    );
    assert_eq!(
        plan["tenants"][0]["changes"],
        serde_json::json!(["other prices"])
    );
    let (_, text) = site.cli(&["catalog", "plan"]);
    // As documented, figure by figure.
    let document = include_str!("../../docs/catalog.md");
    let block = document.split("```text\n").nth(1).expect("a plan");
    let block = block.split("```").next().expect("a block has an end");
    let (_, shown) = text.split_once("\n\n").expect("digests stand before");
    assert_eq!(shown, block);

    // Who would be left without a profile is named.
    let profile = site.dir().join("catalog/profiles/acme.toml");
    std::fs::remove_file(profile).expect("removes");
    let plan = json(&site, &["catalog", "plan"]);
    assert_eq!(plan["without_profile"], serde_json::json!(["acme"]));
    assert_eq!(
        plan["tenants"][0]["periods"][0]["after"]["cost"]["unrated"],
        serde_json::json!([["http.requests", "no_profile"]])
    );
    assert_eq!(history(&site), before, "a plan changes nothing");
    collector.stop().await;
}
