//! A data folder that is set back to a backup: by the operator's book, and without it.

use std::path::Path;

use crate::support::{Collector, Peer, Site, batch, series};
use serde_json::Value;
use tollgate_common::wire::{Message, Welcome};
use tollgate_common::{Batch, BatchHash, Incarnation};

const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);

fn copy_dir(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("makes");
    for file in std::fs::read_dir(from).expect("reads") {
        let file = file.expect("reads");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copies");
    }
}

/// Eight batches of 107 each.
fn batches() -> Vec<Batch> {
    let mut parent = BatchHash::ZERO;
    let next = |number| {
        let rows = [(series("acme", "eu"), 100), (series("acme", "us"), 7)];
        let next = batch("edge-1", LIFE, number, parent, &rows);
        parent = next.hash();
        next
    };
    (1..=8).map(next).collect()
}

/// Says hello and sends what is held beyond what the collector has.
async fn send(site: &Site, collector: &Collector, held: &[Batch]) -> Welcome {
    let mut peer = Peer::connect(collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    let welcome = peer.hello("edge-1", held).await;
    let durable = welcome.resume.first().map_or(0, |resume| resume.durable);
    let last = held.last().expect("some").sequence.get();
    for batch in held.iter().filter(|batch| batch.sequence.get() > durable) {
        peer.send(&Message::Batch(batch.clone())).await;
    }
    assert_eq!(peer.ack_of(LIFE, last).await, last);
    welcome
}

/// A site whose journal is set back to when it had 3 of the 6 batches that were acknowledged,
/// with everything else as it was; and the lineage that agents have heard.
async fn set_back() -> (Site, Welcome) {
    let site = Site::new("settlement = \"1h\"");
    let (journal, backup) = (site.data().join("journal"), site.dir().join("backup"));
    let all = batches();
    let collector = Collector::start(&site).await;
    let before = send(&site, &collector, &all[..3]).await;
    collector.stop().await;
    copy_dir(&journal, &backup);
    let collector = Collector::start(&site).await;
    assert_eq!(
        send(&site, &collector, &all[..6]).await.lineage,
        before.lineage
    );
    collector.stop().await;
    copy_dir(&backup, &journal);
    (site, before)
}

/// Accepted, lost and billed of acme's requests, once everything is in the ledger.
async fn figures(collector: &Collector, accepted: &str) -> (Value, Value) {
    let account = collector
        .until("/v1/conservation", |answer| {
            answer["items"][0]["accepted"] == accepted && answer["items"][0]["pending"] == "0"
        })
        .await;
    let account = &account["items"][0];
    (account["counted"].clone(), account["lost"].clone())
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_journal_begins_a_lineage_and_loses_exactly_what_nobody_has() {
    let (site, before) = set_back().await;
    let reason = [
        "journal",
        "restored",
        "--reason",
        "disk died",
        "--author",
        "jane",
        "--json",
    ];
    let (code, out) = site.cli(&reason);
    assert_eq!(code, 0, "{out}");
    let marked = json(&out);
    assert_eq!(marked["previous"], before.lineage.to_string());

    let all = batches();
    let collector = Collector::start(&site).await;
    assert_eq!(site.cli(&reason).0, 1, "not while a collector runs");
    // The agent has released 4 and 5; 6 is acknowledged, and still held.
    let welcome = send(&site, &collector, &all[5..7]).await;
    assert_ne!(welcome.lineage, before.lineage);
    assert_eq!(marked["lineage"], welcome.lineage.to_string());
    assert_eq!(welcome.resume[0].durable, 5, "6 comes again");
    collector.until_metric("journal_behind_total", 1).await;
    let (counted, lost) = figures(&collector, "749").await;
    assert_eq!((counted, lost), ("535".into(), "214".into()));
    // 4 and 5 turn up; then nothing is lost, and nothing is counted twice.
    let welcome = send(&site, &collector, &all).await;
    assert_eq!(welcome.resume[0].durable, 7);
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &all).await;
    for batch in &all {
        peer.send(&Message::Batch(batch.clone())).await;
    }
    peer.ack_of(LIFE, 8).await;
    let (counted, lost) = loop {
        let found = figures(&collector, "856").await;
        if found.1 == "0" {
            break found;
        }
    };
    assert_eq!((counted, lost), ("856".into(), "0".into()));

    let (code, out) = site.cli(&["status", "--json"]);
    assert_eq!(code, 0, "{out}");
    let fold = &json(&out)["fold"];
    assert_eq!(fold["lineage"], welcome.lineage.to_string());
    assert_eq!(fold["restores"], 1);
    assert_eq!(fold["last_restore"]["reason"], "disk died");
    collector.stop().await;
    let (code, out) = site.cli(&["ledger", "verify", "--json"]);
    assert_eq!(code, 0, "{out}");
    let report = json(&out);
    assert_eq!(report["restores"][0]["author"], "jane");
    assert_eq!(report["restores"][0]["position"], marked["position"]);
    let (_, text) = site.cli(&["ledger", "verify"]);
    assert!(text.contains("RESTORED  "), "{text}");
    let (_, out) = site.cli(&["ledger", "list", "--kind", "loss", "--json"]);
    let unknown = json(&out);
    let unknown = unknown.as_array().expect("a list").iter();
    let nobodys = unknown.filter(|row| row["entry"]["agent"].is_null());
    assert_eq!(nobodys.count(), 1, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_nobody_mentions_is_seen_and_loses_the_same() {
    let (site, before) = set_back().await;
    let all = batches();
    let collector = Collector::start(&site).await;
    let welcome = send(&site, &collector, &all[5..7]).await;
    assert_eq!(welcome.lineage, before.lineage);
    collector.until_metric("journal_behind_total", 1).await;
    let (counted, lost) = figures(&collector, "749").await;
    assert_eq!((counted, lost), ("535".into(), "214".into()));
    collector.stop().await;

    // It can be said later: a new lineage, and the same figures.
    let (code, out) = site.cli(&["journal", "restored", "--reason", "forgotten"]);
    assert_eq!(code, 0, "{out}");
    let collector = Collector::start(&site).await;
    let (counted, lost) = figures(&collector, "749").await;
    assert_eq!((counted, lost), ("535".into(), "214".into()));
    let welcome = send(&site, &collector, &all[5..]).await;
    assert_ne!(welcome.lineage, before.lineage);
    collector.stop().await;
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
}

#[test]
fn only_a_journal_can_be_restored() {
    let site = Site::new("settlement = \"1h\"");
    let mark = |reason| site.cli(&["journal", "restored", "--reason", reason]).0;
    assert_eq!(mark("no journal"), 1);
    assert!(!site.data().exists(), "nothing is made");
    std::fs::create_dir_all(site.data().join("journal")).expect("makes");
    assert_eq!(mark("an empty journal"), 1);
    assert_eq!(mark("  "), 1);
    assert_eq!(mark(&"x".repeat(1025)), 1);
}
