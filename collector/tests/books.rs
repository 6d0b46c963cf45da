//! Invoices, manual entries, two persons and erasure, as operators see them.

use crate::support::{Collector, Site, billed, report};
use serde_json::Value;
use tollgate_common::BatchHash;

const ISSUER: &str = "settlement = \"1h\"\n\n[[issuer]]\nid = \"main\"\nprefix = \"INV-\"\n\n\
    [approval]\nmanual = true\ncorrections = true";

/// What a command prints as JSON.
fn json(site: &Site, args: &[&str]) -> Value {
    let (code, out) = run(site, args);
    assert_eq!(code, 0, "{args:?}: {out}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

/// Runs a command beside the collector of this process.
fn run(site: &Site, args: &[&str]) -> (i32, String) {
    tokio::task::block_in_place(|| site.cli(args))
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from the draft to the erasure"
)]
async fn an_invoice_from_draft_to_void() {
    let (site, collector) = billed(ISSUER).await;
    let reason = ["--reason", "June", "--author", "kim"];
    for (whose, text) in [
        (
            ["--issuer", "main"],
            "name = \"Tollgate GmbH\"\nvat_id = \"DE1\"\n",
        ),
        (["--tenant", "acme"], "name = \"Erika Mustermann\"\n"),
    ] {
        let file = site.dir().join("party.toml");
        std::fs::write(&file, text).expect("writes");
        let file = file.to_str().expect("UTF-8");
        let (code, out) = run(
            &site,
            &[&["party", "set"], &whose[..], &["--file", file]].concat(),
        );
        assert_eq!(code, 0, "{out}");
    }
    let draft = json(
        &site,
        &[
            "invoice", "preview", "--tenant", "acme", "--draft", "--json",
        ],
    );
    assert_eq!(
        (&draft["status"], &draft["total"]),
        (&"draft".into(), &"1.61".into())
    );
    assert_eq!(draft["buyer"]["name"], "Erika Mustermann");

    let issue = [
        &["invoice", "issue", "--tenant", "acme", "--json"],
        &reason[..],
    ]
    .concat();
    let issued = json(&site, &issue);
    assert_eq!(issued[0]["number"], "INV-000001");
    assert_eq!(issued[0]["total"], "1.61");
    let (code, _) = run(&site, &issue);
    assert_eq!(code, 1, "nothing waits any more");

    let shown = json(&site, &["invoice", "show", "INV-000001", "--json"]);
    assert_eq!(
        (&shown["status"], &shown["total"]),
        (&"final".into(), &"1.61".into())
    );
    assert_eq!(shown["tax_point"], "2026-06-30");
    assert_eq!(shown["note"]["reason"], "June");
    let (_, page) = run(
        &site,
        &["invoice", "show", "INV-000001", "--format", "html"],
    );
    assert!(
        page.contains("Erika Mustermann") && page.contains("1.61 EUR"),
        "{page}"
    );

    // From the line to the batches that brought it.
    let line = shown["lines"][0]["entry"].clone();
    let at = format!("{}-{}", line["partition"], line["index"]);
    let walk = json(&site, &["invoice", "explain", &at, "--json"]);
    let batches = walk["batches"].as_array().expect("a list");
    assert_eq!(batches.len(), 3);
    assert_eq!(
        (&batches[0]["agent"], &batches[0]["quantity"]),
        (&"edge-1".into(), &"107".into())
    );
    assert!(
        walk["windows"]
            .as_array()
            .is_some_and(|windows| !windows.is_empty())
    );

    // Voided: the same lines wait again, and the next number follows.
    let void = [
        &[
            "invoice",
            "void",
            "INV-000001",
            "--tenant",
            "acme",
            "--json",
        ],
        &reason[..],
    ]
    .concat();
    assert_eq!(json(&site, &void)[0]["number"], "INV-000002");
    assert_eq!(run(&site, &void).0, 1, "void already");
    let again = json(
        &site,
        &[&["invoice", "issue", "--all", "--json"], &reason[..]].concat(),
    );
    assert_eq!(again[0]["number"], "INV-000003");
    let list = json(&site, &["invoice", "list", "--json"]);
    assert_eq!(list["documents"][0]["voided_by"], "INV-000002");
    assert_eq!(list["waiting"], serde_json::json!([]));
    let note = json(&site, &["invoice", "show", "INV-000002", "--json"]);
    assert_eq!(
        (&note["credit_note"], &note["total"]),
        (&true.into(), &"-1.61".into())
    );
    collector.stop().await;

    // The person is forgotten; the books are whole.
    let erase = [&["party", "erase", "--tenant", "acme"], &reason[..]].concat();
    assert_eq!(run(&site, &erase).0, 0);
    let shown = json(&site, &["invoice", "show", "INV-000003", "--json"]);
    assert_eq!(
        (&shown["buyer"], &shown["seller"]["name"]),
        (&Value::Null, &"Tollgate GmbH".into())
    );
    let report = json(&site, &["ledger", "verify", "--json"]);
    assert_eq!(report["books"]["documents"], 3);
    let pack = json(
        &site,
        &[
            "ledger",
            "pack",
            "--from",
            "2026-06-01",
            "--to",
            "2999-01-01",
            "--json",
        ],
    );
    assert_eq!(pack["sums"]["EUR"], "0.00");
    assert_eq!(pack["roll_forward"][0]["closing"], "0.00");
    let files = site.dir().join("invoices");
    let to = files.to_str().expect("UTF-8");
    assert_eq!(
        run(&site, &["invoice", "export", "--format", "csv", "--to", to]).0,
        0
    );
    let csv = std::fs::read_to_string(files.join("invoices.csv")).expect("written");
    assert_eq!(csv.lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_persons_keep_the_books_by_hand() {
    let (site, collector) = billed(ISSUER).await;
    let line = [
        "ledger",
        "credit",
        "--tenant",
        "acme",
        "--line",
        "goodwill",
        "--text",
        "outage",
        "--amount",
        "2.00",
        "--currency",
        "EUR",
        "--key",
        "ticket-7",
        "--reason",
        "SLA",
        "--author",
        "kim",
        "--json",
    ];
    let waits = json(&site, &line);
    assert_eq!(waits[0]["waits"], 1);
    let give = |author| {
        [
            "approval", "give", "1", "--reason", "checked", "--author", author, "--json",
        ]
    };
    assert_eq!(run(&site, &give("kim")).0, 1, "the same person");
    assert_eq!(run(&site, &give("Kim")).0, 1, "also in capital letters");
    let booked = json(&site, &give("lee"));
    assert_eq!(
        (&booked[0]["kind"], &booked[0]["amount"]),
        (&"credit".into(), &"-2.00".into())
    );
    // The same once more has no effect.
    json(&site, &line);
    let again = [
        "approval", "give", "2", "--reason", "checked", "--author", "lee",
    ];
    assert_eq!(run(&site, &again).0, 1);

    // 1.61 less 2.00 is carried forward; without the credit, which is held, 1.61 is billed.
    let issue = [
        "invoice", "issue", "--tenant", "acme", "--reason", "June", "--author", "kim", "--json",
    ];
    let (code, _) = run(&site, &issue);
    assert_eq!(code, 1, "below zero");
    let credit = booked[0]["entry"].as_str().expect("an entry").to_owned();
    let hold = [
        "ledger", "hold", &credit, "--tenant", "acme", "--reason", "disputed", "--author", "kim",
        "--json",
    ];
    json(&site, &hold);
    let give = [
        "approval", "give", "3", "--reason", "yes", "--author", "lee", "--json",
    ];
    json(&site, &give);
    assert_eq!(json(&site, &issue)[0]["total"], "1.61");
    let entries = json(&site, &["ledger", "list", "--kind", "credit", "--json"]);
    let note = &entries[0]["entry"]["note"];
    assert!(
        note["author"]
            .as_str()
            .is_some_and(|author| author.starts_with("kim (uid ")),
        "{note}"
    );
    assert!(
        note["approved_by"]
            .as_str()
            .is_some_and(|by| by.starts_with("lee (uid ") && by.ends_with("): checked")),
        "{note}"
    );

    // Corrections and the like wait too; looking at them does not.
    let mut retire = vec![
        "agent", "retire", "--agent", "edge-1", "--reason", "sold", "--author", "kim", "--json",
    ];
    assert_eq!(json(&site, &retire)["waits"], Value::Null);
    retire.push("--apply");
    let waits = json(&site, &retire);
    assert_eq!(
        (&waits["waits"], &waits["applied"]),
        (&4.into(), &false.into())
    );
    let mut give = vec![
        "approval", "give", "4", "--reason", "seen", "--author", "KIM", "--json",
    ];
    assert_eq!(run(&site, &give).0, 1, "the same person");
    give[6] = "lee";
    assert_eq!(json(&site, &give)[0]["applied"], true);
    collector.stop().await;
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_beyond_its_tolerance_is_told_by_the_exit_code() {
    let (site, collector) = billed("settlement = \"1h\"").await;
    collector.stop().await;
    let map = site.dir().join("map.toml");
    let text = "[statement]\namount = \"Cost\"\ncurrency = \"EUR\"\n\n[[key]]\nstatement = \"Account\"\nledger = \"tenant\"\n\n\
        [tolerance]\namount = \"0.01\"\n";
    std::fs::write(&map, text).expect("writes");
    let statement = site.dir().join("statement.csv");
    for (cost, code) in [("1.61", 0), ("1.62", 0), ("1.63", 3)] {
        std::fs::write(&statement, format!("Account,Cost\nacme,{cost}\n")).expect("writes");
        let (statement, map) = (
            statement.to_str().expect("UTF-8"),
            map.to_str().expect("UTF-8"),
        );
        let (found, out) = run(
            &site,
            &[
                "reconcile",
                "--statement",
                statement,
                "--map",
                map,
                "--json",
            ],
        );
        assert_eq!(found, code, "{cost}: {out}");
    }
}

/// A period that goes on for years is billed when it reaches the threshold, and once more by hand.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_period_is_billed_by_its_threshold_and_by_hand() {
    let site = Site::new(ISSUER);
    let profile = "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\nthreshold = { amount = \"1.50\" }\n\
        period = { every = \"P100Y\", anchor = \"2000-01-01\" }\n";
    std::fs::write(site.dir().join("catalog/profiles/acme.toml"), profile).expect("writes");
    let collector = Collector::start(&site).await;
    let parent = report(&collector, &site, BatchHash::ZERO, 1..=2).await;
    let preview = ["invoice", "preview", "--tenant", "acme", "--json"];
    assert_eq!(json(&site, &preview)["total"], "1.07");
    let parent = report(&collector, &site, parent, 3..=3).await;
    let issued = "/v1/ledger?kind=invoice";
    collector
        .until(issued, |answer| !answer["items"][0].is_null())
        .await;
    let shown = json(&site, &["invoice", "show", "INV-000001", "--json"]);
    assert_eq!(shown["total"], "1.61");
    assert_eq!(shown["note"]["reason"], "the threshold is reached");
    // The next invoice bills what came since, and no more.
    report(&collector, &site, parent, 4..=4).await;
    assert_eq!(json(&site, &preview)["total"], "0.53");
    let issue = [
        "invoice", "issue", "--tenant", "acme", "--so-far", "--reason", "half", "--author", "kim",
        "--json",
    ];
    assert_eq!(json(&site, &issue)[0]["total"], "0.53");
    let shown = json(&site, &["invoice", "show", "INV-000002", "--json"]);
    let amounts: Vec<&Value> = shown["lines"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| &line["amount"])
        .collect();
    assert_eq!(amounts, ["-1.61", "2.14"]);
    assert_eq!(run(&site, &issue).0, 1, "nothing is new");
    collector.stop().await;
    let report = json(&site, &["ledger", "verify", "--json"]);
    assert_eq!(report["books"]["documents"], 2);
}
