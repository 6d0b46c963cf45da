//! Corrections, ratings anew and retired agents, by the program's commands at a running collector; and
//! accruals beside it.

use crate::support::{Collector, Peer, Site, batch, series};
use serde_json::{Value, json};
use tollgate_collector::accruals::query::AccrualReader;
use tollgate_collector::sqlite::query::{Filter, ReadOnly};
use tollgate_collector_core::fold::partition_of;
use tollgate_common::wire::Message;
use tollgate_common::{BatchHash, Incarnation, TenantId};

/// A running collector with 214 requests of June, and the connection of their agent.
async fn used(fold: &str) -> (Site, Collector, Peer) {
    let site = Site::new(fold);
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    let mut parent = BatchHash::ZERO;
    for number in 1..=2 {
        parent = count(&mut peer, number, parent, 100).await;
    }
    (site, collector, peer)
}

/// Reports so many requests, and seven more of another series.
async fn count(peer: &mut Peer, number: u64, parent: BatchHash, requests: i128) -> BatchHash {
    let rows = [(series("acme", "eu"), requests), (series("acme", "us"), 7)];
    let next = batch("edge-1", life(), number, parent, &rows);
    let hash = next.hash();
    peer.send(&Message::Batch(next)).await;
    assert_eq!(peer.ack_of(life(), number).await, number);
    hash
}

fn life() -> Incarnation {
    Incarnation::from_bytes([1; 16])
}

/// Runs a command beside the collector of this process.
fn run(site: &Site, args: &[&str]) -> (i32, String, String) {
    tokio::task::block_in_place(|| site.cli_with_errors(args))
}

/// What a command prints as JSON.
fn json_of(site: &Site, args: &[&str]) -> Value {
    let (code, out, errors) = run(site, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{args:?}: {out}{errors}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

/// The sum of what the ledger charges.
async fn charged(collector: &Collector) -> rust_decimal::Decimal {
    let ledger = collector.get("/v1/ledger?tenant=acme").await;
    let items = ledger["items"].as_array().cloned().unwrap_or_default();
    let amounts = items
        .iter()
        .filter_map(|item| item["entry"]["amount"].as_str());
    amounts
        .map(|text| text.parse::<rust_decimal::Decimal>().expect("a decimal"))
        .sum()
}

fn decimal(text: &str) -> rust_decimal::Decimal {
    text.parse().expect("a decimal")
}

const WHY: [&str; 4] = ["--reason", "ticket 7", "--author", "kim"];

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_corrected_in_a_closed_period() {
    let (site, collector, _peer) = used("settlement = \"1h\"").await;
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector.until("/v1/ledger", is_booked).await;
    // 214 requests at 0.50 per 100.
    assert_eq!(charged(&collector).await, decimal("1.07"));
    let what = [
        "usage",
        "correct",
        "--tenant",
        "acme",
        "--key",
        "t7",
        "--meter",
        "http.requests",
        "--at",
        "2026-06-20",
        "--quantity",
        "100",
    ];
    let correct = [&what[..], &WHY].concat();
    let shown = json_of(&site, &correct);
    assert_eq!(
        (&shown["applied"], &shown["change"]["totals"]["EUR"]),
        (&json!(false), &json!("0.50"))
    );
    assert_eq!(charged(&collector).await, decimal("1.07"), "only shown");

    let apply = [&correct[..], &["--apply"]].concat();
    let done = json_of(&site, &apply);
    assert_eq!(done["applied"], true);
    assert_eq!(
        (&done["settled"], &done["unsettled"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        done["booked"],
        json!({ "entries": 2, "totals": { "EUR": "0.50" } }),
        "a reversal and the line anew"
    );
    assert_eq!(charged(&collector).await, decimal("1.57"));
    let (code, _, errors) = run(&site, &apply);
    assert_eq!(code, 1);
    assert!(errors.contains("t7"), "{errors}");
    assert_eq!(charged(&collector).await, decimal("1.57"), "not twice");

    let account = collector.get("/v1/conservation?tenant=acme").await;
    let account = &account["items"][0];
    assert_eq!(
        (&account["corrected"], &account["pending"]),
        (&json!("100"), &json!("0"))
    );
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_period_is_rated_anew() {
    let (site, collector, _peer) = used("settlement = \"1h\"").await;
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector.until("/v1/ledger", is_booked).await;
    let catalog = site.dir().join("catalog");
    let card = catalog.join("cards/edge.toml");
    let text = std::fs::read_to_string(&card).expect("reads");
    std::fs::write(&card, text.replace("0.50", "0.40")).expect("writes");
    let folder = catalog.to_str().expect("UTF-8");
    let applied = [&["catalog", "apply", "--catalog", folder][..], &WHY].concat();
    let applied = json_of(&site, &applied);
    let digest = applied["digest"].as_str().expect("a digest").to_owned();
    // What is closed stays.
    assert_eq!(charged(&collector).await, decimal("1.07"));

    let range = [
        "period",
        "rerate",
        "--tenant",
        "acme",
        "--from",
        "2026-06-01",
        "--to",
        "2026-07-01",
        "--by",
        &digest,
    ];
    let rerate = [&range[..], &WHY].concat();
    let shown = json_of(&site, &rerate);
    assert_eq!(shown["change"]["totals"]["EUR"], "-0.21", "{shown:#}");
    assert_eq!(charged(&collector).await, decimal("1.07"), "only shown");
    let (code, out, errors) = run(&site, &[&rerate[..], &["--apply"]].concat());
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("booked 2 ledger entries, -0.21 EUR"), "{out}");
    assert_eq!(charged(&collector).await, decimal("0.86"));

    // Nothing that begins there was closed.
    let nothing = [
        "period",
        "rerate",
        "--tenant",
        "acme",
        "--from",
        "2026-07-01",
        "--to",
        "2026-08-01",
        "--by",
        &digest,
        "--apply",
    ];
    let (code, _, errors) = run(&site, &[&nothing[..], &WHY].concat());
    assert_eq!(code, 1);
    assert!(errors.contains("no closed period"), "{errors}");
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_agent_is_not_waited_for_until_it_reports_again() {
    let (site, collector, mut peer) = used("settlement = \"366d\"").await;
    let status = ["period", "status", "--tenant", "acme"];
    let waits = json_of(&site, &status);
    let missing = &waits["periods"][0]["missing"];
    assert_eq!(missing[0]["agent"], "edge-1", "{waits:#}");
    assert_eq!(charged(&collector).await, decimal("0"));
    let retire = [
        &["agent", "retire", "--agent", "edge-1", "--apply"][..],
        &WHY,
    ]
    .concat();
    assert_eq!(json_of(&site, &retire)["applied"], true);
    let waits = json_of(&site, &status);
    assert_eq!(waits["periods"][0]["missing"], json!([]), "{waits:#}");
    // It is there again.
    let known = batch(
        "edge-1",
        life(),
        1,
        BatchHash::ZERO,
        &[(series("acme", "eu"), 100), (series("acme", "us"), 7)],
    );
    let rows = [(series("acme", "eu"), 100), (series("acme", "us"), 7)];
    let parent = batch("edge-1", life(), 2, known.hash(), &rows).hash();
    count(&mut peer, 3, parent, 100).await;
    let usage = |answer: &Value| answer["items"][0]["units"] == "321";
    collector.until("/v1/usage?group=meter", usage).await;
    let waits = json_of(&site, &status);
    assert_eq!(
        waits["periods"][0]["missing"][0]["agent"], "edge-1",
        "{waits:#}"
    );
    let (code, _, errors) = run(
        &site,
        &["agent", "retire", "--agent", "edge-1", "--reason", ""],
    );
    assert_eq!(code, 1);
    assert!(errors.contains("reason"), "{errors}");
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accruals_follow_without_being_asked() {
    let (site, collector, mut peer) = used("settlement = \"366d\"").await;
    // The file alone: nobody asks the collector.
    let file = site.data().join("accruals.sqlite");
    let units = || -> Option<String> {
        let reader = AccrualReader::open(&file).ok()?;
        let page = reader.accruals(&Filter::default()).expect("reads");
        let line = &page.items.first()?["lines"][0];
        line["units"].as_str().map(str::to_owned)
    };
    let follows = async |expected: &str| {
        let begun = std::time::Instant::now();
        while units().as_deref() != Some(expected) {
            assert!(begun.elapsed().as_secs() < 60, "a minute old");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    follows("214").await;
    let rows = [(series("acme", "eu"), 100), (series("acme", "us"), 7)];
    let first = batch("edge-1", life(), 1, BatchHash::ZERO, &rows);
    let parent = batch("edge-1", life(), 2, first.hash(), &rows).hash();
    let parent = count(&mut peer, 3, parent, 186).await;
    follows("407").await;

    // What nobody agreed on, and what may not be reported, is named.
    let rows = [(series("rival", "eu"), 93)];
    let next = batch("edge-1", life(), 4, parent, &rows);
    peer.send(&Message::Batch(next)).await;
    let total = collector
        .until("/v1/accruals/total", |total| total["periods"] == 2)
        .await;
    let parts = &total["usage"][0]["parts"];
    assert_eq!(
        (&parts[0]["quantity"], &parts[0]["share"]),
        (&json!("407"), &json!("0.814000")),
        "{total:#}"
    );
    assert_eq!(
        (&parts[1]["reason"], &parts[1]["share"]),
        (&json!("tenant_not_allowed"), &json!("0.186000"))
    );
    assert_eq!(total["amounts"][0]["total"], "2.04");
    assert_eq!(
        (&total["waiting"], &total["age_millis"]),
        (&json!(0), &json!(0))
    );
    collector
        .until_metric(
            "accrual_lines{standing=\"refused\",reason=\"tenant_not_allowed\"}",
            1,
        )
        .await;
    let (code, out, errors) = run(&site, &["accruals"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("2 open periods of 2 tenants"), "{out}");
    assert!(out.contains("total 2.04 EUR"), "{out}");
    let (_, out, _) = run(&site, &["accruals", "--tenant", "acme"]);
    assert!(out.contains("requests  http.requests  407"), "{out}");
    collector.stop().await;

    // A start makes it anew.
    let collector = Collector::start(&site).await;
    let total = collector.get("/v1/accruals/total").await;
    assert_eq!(
        (&total["tenants"], &total["waiting"]),
        (&json!(2), &json!(0))
    );
    collector.stop().await;
}

/// Writes a site in which `acme` pays for two tenants, one of a partition before its own and one of
/// a partition behind it; which these are.
fn with_children(site: &Site) -> [String; 2] {
    let partition = |name: &str| partition_of(&TenantId::new(name).expect("valid"), 64);
    let payer = partition("acme");
    let named = |wish: fn(&u16, &u16) -> bool| {
        let mut names = (0..1000).map(|number| format!("acme.{number}"));
        names
            .find(|name| wish(&partition(name), &payer))
            .expect("a name")
    };
    let [before, behind] = [named(u16::lt), named(u16::gt)];
    let profiles = site.dir().join("catalog/profiles");
    let acme = std::fs::read_to_string(profiles.join("acme.toml")).expect("reads");
    for name in [&before, &behind] {
        let text = acme.replace("\"acme\"", &format!("\"{name}\""));
        let path = profiles.join(format!("{name}.toml"));
        std::fs::write(path, format!("{text}payer = \"acme\"\n")).expect("writes");
    }
    let config = std::fs::read_to_string(site.config()).expect("reads");
    let config = config.replace("[\"acme\"]", "[\"*\"]");
    let config = config.replace("partitions = 3", "partitions = 64");
    std::fs::write(site.config(), config).expect("writes");
    [before, behind]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_booked_is_the_payers_too_and_nothing_from_before() {
    let site = Site::new("settlement = \"1h\"");
    let children = with_children(&site);
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    let mut names: Vec<&str> = children.iter().map(String::as_str).collect();
    names.push("acme");
    names.sort_unstable();
    let rows: Vec<_> = names.iter().map(|name| (series(name, "eu"), 100)).collect();
    let only = batch("edge-1", life(), 1, BatchHash::ZERO, &rows);
    peer.send(&Message::Batch(only)).await;
    assert_eq!(peer.ack_of(life(), 1).await, 1);
    let is_booked = |answer: &Value| !answer["items"][0].is_null();
    collector
        .until("/v1/ledger?tenant=acme&kind=charge", is_booked)
        .await;
    for child in &children {
        // Of another kind than closings, and in the child's own chain.
        let line = [
            &["ledger", "line", "--tenant", child, "--line", "setup"][..],
            &[
                "--text",
                "Set up",
                "--amount",
                "7",
                "--currency",
                "EUR",
                "--key",
                "setup",
            ],
            &WHY,
        ]
        .concat();
        let (code, out, errors) = run(&site, &line);
        assert_eq!(code, 0, "{out}{errors}");
        let (code, out, errors) = run(&site, &line);
        assert_eq!(code, 1, "{out}");
        assert!(errors.contains("was booked before"), "{errors}");

        let correct = [
            &[
                "usage",
                "correct",
                "--tenant",
                child,
                "--key",
                "t7",
                "--meter",
                "http.requests",
            ][..],
            &["--at", "2026-06-20", "--quantity", "100", "--apply"],
            &WHY,
        ]
        .concat();
        let done = json_of(&site, &correct);
        assert_eq!(done["change"]["totals"]["EUR"], "0.50", "{done:#}");
        assert_eq!(
            done["booked"],
            json!({ "entries": 2, "totals": { "EUR": "0.50" } }),
            "the payer's line is reversed and booked anew: {done:#}"
        );
    }
    assert_eq!(run(&site, &["ledger", "verify"]).0, 0);
    collector.stop().await;
}
