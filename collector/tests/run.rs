//! A collector in this process, and agents that speak the wire format to it.

use std::time::Duration;

use crate::support::{Collector, Peer, Site, batch, series};
use tollgate_collector::pki::{Authority, Validity};
use tollgate_common::wire::{Message, RefuseCode};
use tollgate_common::{AgentId, BatchHash, Incarnation};

fn life(number: u8) -> Incarnation {
    Incarnation::from_bytes([number; 16])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_booked_once_and_survives() {
    let site = Site::new("settlement = \"1h\"");
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    let welcome = peer.hello("edge-1", &[]).await;
    assert_eq!(welcome.resume, []);
    let mut parent = BatchHash::ZERO;
    let mut batches = Vec::new();
    for number in 1..=3 {
        let next = batch(
            "edge-1",
            life(1),
            number,
            parent,
            &[(series("acme", "eu"), 100), (series("acme", "us"), 7)],
        );
        parent = next.hash();
        peer.send(&Message::Batch(next.clone())).await;
        batches.push(next);
    }
    assert_eq!(peer.ack_of(life(1), 3).await, 3);
    drop(peer);

    // An agent that comes back is told where to go on; what it sends again is not booked.
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    let welcome = peer.hello("edge-1", &batches).await;
    assert_eq!(
        (welcome.resume[0].durable, welcome.resume[0].durable_hash),
        (3, parent)
    );
    peer.send(&Message::Batch(batches[2].clone())).await;
    assert_eq!(peer.ack_of(life(1), 3).await, 3);
    drop(peer);
    collector
        .until("/v1/agents", |answer| answer["items"][0]["duplicates"] == 1)
        .await;
    let usage = collector.get("/v1/usage?group=meter").await;
    assert_eq!(usage["items"][0]["units"], "321");
    let ledger = collector
        .until("/v1/ledger", |answer| {
            answer["items"]
                .as_array()
                .is_some_and(|items| !items.is_empty())
        })
        .await;
    // 321 requests at 0.50 per 100.
    assert_eq!(ledger["items"][0]["entry"]["amount"], "1.61", "{ledger:#}");
    let account = collector.get("/v1/conservation").await;
    assert_eq!(
        (
            &account["items"][0]["accepted"],
            &account["items"][0]["pending"]
        ),
        (&"321".into(), &"0".into())
    );
    collector.stop().await;

    // A restart reads the same; so does one that has lost everything but the journal.
    let collector = Collector::start(&site).await;
    assert_eq!(collector.get("/v1/ledger").await, ledger);
    collector.stop().await;
    for derived in [
        "projection.sqlite",
        "projection.sqlite-wal",
        "projection.sqlite-shm",
    ] {
        let _ = std::fs::remove_file(site.data().join(derived));
    }
    std::fs::remove_dir_all(site.data().join("snapshots")).expect("snapshots were taken");
    let collector = Collector::start(&site).await;
    assert_eq!(collector.get("/v1/ledger").await, ledger);
    assert_eq!(collector.get("/v1/usage?group=meter").await, usage);
    assert_eq!(
        site.cli(&["ledger", "verify"]).0,
        0,
        "beside the running collector"
    );
    collector.stop().await;
    let (code, inspected) = site.cli(&["journal", "inspect", "--json"]);
    assert_eq!(code, 0);
    let entries: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    let kinds: Vec<_> = entries
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|e| e["kind"].as_str())
        .collect();
    assert_eq!(kinds[..3], ["opened", "policy", "catalog"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "batch").count(), 4);
    assert!(kinds.contains(&"close"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_finds_a_changed_amount() {
    let site = Site::new("settlement = \"1h\"");
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    peer.send(&Message::Batch(batch(
        "edge-1",
        life(1),
        1,
        BatchHash::ZERO,
        &[(series("acme", "eu"), 100)],
    )))
    .await;
    assert_eq!(peer.ack_of(life(1), 1).await, 1);
    collector
        .until("/v1/ledger", |answer| !answer["items"][0].is_null())
        .await;
    collector.stop().await;
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
    let database =
        rusqlite::Connection::open(site.data().join("projection.sqlite")).expect("opens");
    database
        .execute_batch(
            "DROP TRIGGER ledger_no_update;
             UPDATE ledger SET entry = replace(entry, '\"amount\":\"0.50\"', '\"amount\":\"0.40\"');",
        )
        .expect("a forger has his ways");
    assert_eq!(database.changes(), 1);
    drop(database);
    let (code, out) = site.cli(&["ledger", "verify", "--json"]);
    assert_eq!(code, 3, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_nobody_else_is_disturbed() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let mut good = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    good.hello("edge-1", &[]).await;

    let name = AgentId::new("edge-1").expect("valid");
    let ours = Authority::load(&site.pki()).expect("loads");
    let theirs = Authority::generate(Validity::days(1)).expect("generates");
    let expired = ours.agent(&name, Validity::expired()).expect("signs");
    let foreign = theirs.agent(&name, Validity::days(1)).expect("signs");
    let server = ours
        .collector(&["localhost".to_owned()], Validity::days(1))
        .expect("signs");
    for (what, credentials) in [
        ("no certificate", None),
        ("an expired one", Some(expired)),
        ("one of another authority", Some(foreign)),
        ("one for servers", Some(server)),
    ] {
        let refused = match Peer::connect_with(&collector, site.ca(), credentials.as_ref()).await {
            Err(_) => true,
            // A TLS 1.3 client learns only afterwards that it is refused.
            Ok(mut peer) => peer.try_hello("edge-1").await.is_err(),
        };
        assert!(refused, "{what}");
    }
    collector
        .until_metric("connections_refused_total{reason=\"handshake\"}", 4)
        .await;

    // Known to the authority, but not to the configuration; and one that takes another's name.
    let mut unknown = Peer::connect(&collector, &site.agent("visitor"))
        .await
        .expect("connects");
    let refusal = unknown.refusal_of_hello("visitor").await;
    assert_eq!(refusal.code, RefuseCode::UnknownAgent);
    let mut liar = Peer::connect(&collector, &site.agent("edge-2"))
        .await
        .expect("connects");
    assert_eq!(
        liar.refusal_of_hello("edge-1").await.code,
        RefuseCode::Identity
    );
    collector
        .until_metric("connections_refused_total{reason=\"policy\"}", 2)
        .await;

    // An agent that reports for somebody else's tenants is acknowledged and not billed.
    let rows = [(series("acme", "eu"), 5), (series("rival", "eu"), 1_000)];
    good.send(&Message::Batch(batch(
        "edge-1",
        life(1),
        1,
        BatchHash::ZERO,
        &rows,
    )))
    .await;
    assert_eq!(good.ack_of(life(1), 1).await, 1);
    let usage = collector
        .until("/v1/usage?tenant=rival", |answer| {
            !answer["items"][0].is_null()
        })
        .await;
    assert_eq!(usage["items"][0]["refused"], "tenant_not_allowed");
    assert!(collector.get("/v1/usage?tenant=acme").await["items"][0]["refused"].is_null());
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_served_than_the_configuration_allows() {
    let site = Site::new("\n[receive]\nconnections_max = 1");
    let collector = Collector::start(&site).await;
    let agent = site.agent("edge-1");
    let mut first = Peer::connect(&collector, &agent).await.expect("connects");
    first.hello("edge-1", &[]).await;
    let second = Peer::connect(&collector, &site.agent("edge-2")).await;
    assert!(second.is_err(), "one connection is all there may be");
    collector
        .until_metric("connections_refused_total{reason=\"capacity\"}", 1)
        .await;
    drop(first);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_only() {
    let site = Site::new("");
    let collector = Collector::start(&site).await;
    let mut good = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    good.hello("edge-1", &[]).await;
    let valid = {
        let mut bytes = Vec::new();
        let message = Message::Batch(batch(
            "edge-2",
            life(2),
            1,
            BatchHash::ZERO,
            &[(series("acme", "eu"), 5)],
        ));
        tollgate_common::wire::Encoder::new(1)
            .encode(&message, &mut bytes)
            .expect("encodes");
        bytes
    };
    let mut mutated = valid.clone();
    let middle = mutated.len() / 2;
    mutated[middle] ^= 0x40;
    let noise: Vec<u8> = (0..4096_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2])
        .collect();
    let cases: [&[u8]; 4] = [&noise, &[0xff; 64], &mutated, &valid];
    for (index, bytes) in cases.into_iter().enumerate() {
        let mut peer = Peer::connect(&collector, &site.agent("edge-2"))
            .await
            .expect("connects");
        peer.send_bytes(bytes).await;
        assert!(
            peer.is_ended_within(Duration::from_mins(1)).await,
            "case {index}"
        );
    }
    collector.until_metric("decode_errors_total", 4).await;
    // A frame that never ends holds a connection and nothing more.
    let mut slow = Peer::connect(&collector, &site.agent("edge-2"))
        .await
        .expect("connects");
    slow.send_bytes(&valid[..valid.len() - 1]).await;
    // UDP that is no QUIC at all.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    for _ in 0..50 {
        socket
            .send_to(&noise[..1200], collector.listen())
            .expect("sends");
    }

    good.send(&Message::Batch(batch(
        "edge-1",
        life(1),
        1,
        BatchHash::ZERO,
        &[(series("acme", "eu"), 5)],
    )))
    .await;
    assert_eq!(good.ack_of(life(1), 1).await, 1);
    let usage = collector
        .until("/v1/usage?group=meter", |answer| {
            !answer["items"][0].is_null()
        })
        .await;
    assert_eq!(
        usage["items"][0]["units"], "5",
        "nothing of the garbage is booked"
    );
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_closes_a_period() {
    let site = Site::new("settlement = \"366d\"");
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    peer.send(&Message::Batch(batch(
        "edge-1",
        life(1),
        1,
        BatchHash::ZERO,
        &[(series("acme", "eu"), 100)],
    )))
    .await;
    assert_eq!(peer.ack_of(life(1), 1).await, 1);
    let accruals = collector
        .until("/v1/accruals?tenant=acme", |answer| {
            !answer["items"][0].is_null()
        })
        .await;
    assert_eq!(
        accruals["items"][0]["lines"][0]["amount"], "0.50",
        "{accruals:#}"
    );
    assert_eq!(
        site.cli(&[
            "period",
            "close",
            "--tenant",
            "acme",
            "--at",
            "2030-01-01",
            "--reason",
            "x"
        ])
        .0,
        1
    );
    let close = [
        "period",
        "close",
        "--tenant",
        "acme",
        "--at",
        "2026-06-15",
        "--reason",
        "contract ended",
        "--json",
    ];
    let (code, out) = site.cli(&close);
    assert_eq!(code, 0, "{out}");
    let ledger = collector.get("/v1/ledger?kind=charge").await;
    assert_eq!(ledger["items"][0]["entry"]["amount"], "0.50");
    let (code, out) = site.cli(&["period", "list", "--tenant", "acme", "--json"]);
    assert_eq!(code, 0, "{out}");
    assert!(
        out.contains("contract ended") && out.contains("closed"),
        "{out}"
    );
    assert_eq!(
        site.cli(&[
            "period",
            "close",
            "--tenant",
            "acme",
            "--at",
            "2026-06-15",
            "--reason",
            "again"
        ])
        .0,
        1
    );
    collector.stop().await;
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("makes");
    for file in std::fs::read_dir(from).expect("reads") {
        let file = file.expect("reads");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copies");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_another_history_are_not_believed() {
    let site = Site::new("settlement = \"366d\"");
    let (journal, backup) = (site.data().join("journal"), site.dir().join("backup"));
    let one = |number, parent, quantity| {
        batch(
            "edge-1",
            life(1),
            number,
            parent,
            &[(series("acme", "eu"), quantity)],
        )
    };
    let first = one(1, BatchHash::ZERO, 100);
    let sent = async |held: &[tollgate_common::Batch], more: &[tollgate_common::Batch]| {
        let collector = Collector::start(&site).await;
        let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
            .await
            .expect("connects");
        peer.hello("edge-1", held).await;
        for batch in more {
            peer.send(&Message::Batch(batch.clone())).await;
            let sequence = batch.sequence.get();
            assert_eq!(peer.ack_of(life(1), sequence).await, sequence);
        }
        collector.stop().await;
    };
    sent(&[], std::slice::from_ref(&first)).await;
    copy_dir(&journal, &backup);
    sent(
        std::slice::from_ref(&first),
        &[one(2, first.hash(), 1_000_000)],
    )
    .await;
    // The disk is replaced by yesterday's copy; what follows is another history.
    copy_dir(&backup, &journal);
    let mut batches = vec![first.clone()];
    for number in 2..=8 {
        batches.push(one(number, batches.last().expect("one").hash(), 100));
    }
    sent(&batches[..1], &batches[1..]).await;
    // Killed before the last snapshot.
    let mut snapshots: Vec<_> = std::fs::read_dir(site.data().join("snapshots"))
        .expect("reads")
        .map(|file| file.expect("reads").path())
        .collect();
    snapshots.sort();
    std::fs::remove_file(snapshots.last().expect("one")).expect("removes");
    let collector = Collector::start(&site).await;
    let accruals = collector.get("/v1/accruals?tenant=acme").await;
    assert_eq!(
        accruals["items"][0]["lines"][0]["units"], "800",
        "{accruals:#}"
    );
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_older_than_every_snapshot_catches_up() {
    let site = Site::new("settlement = \"1h\"");
    let database = site.data().join("projection.sqlite");
    let older = site.dir().join("older.sqlite");
    let mut collector = Collector::start(&site).await;
    let mut batches: Vec<tollgate_common::Batch> = Vec::new();
    for number in 1..=4 {
        let parent = batches
            .last()
            .map_or(BatchHash::ZERO, tollgate_common::Batch::hash);
        let next = batch(
            "edge-1",
            life(1),
            number,
            parent,
            &[(series("acme", "eu"), 100)],
        );
        let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
            .await
            .expect("connects");
        peer.hello("edge-1", &batches).await;
        peer.send(&Message::Batch(next.clone())).await;
        assert_eq!(peer.ack_of(life(1), number).await, number);
        batches.push(next);
        collector.stop().await;
        if number == 1 {
            rusqlite::Connection::open(&database)
                .and_then(|c| c.execute("VACUUM INTO ?1", [older.to_str().expect("text")]))
                .expect("copies");
        }
        collector = Collector::start(&site).await;
    }
    let usage = collector.get("/v1/usage?group=meter").await;
    assert_eq!(usage["items"][0]["units"], "400");
    let ledger = collector.get("/v1/ledger").await;
    collector.stop().await;
    for beside in ["projection.sqlite-wal", "projection.sqlite-shm"] {
        let _ = std::fs::remove_file(site.data().join(beside));
    }
    std::fs::rename(&older, &database).expect("goes back in time");
    let collector = Collector::start(&site).await;
    assert_eq!(collector.get("/v1/usage?group=meter").await, usage);
    assert_eq!(collector.get("/v1/ledger").await, ledger);
    collector.stop().await;
    assert_eq!(site.cli(&["ledger", "verify"]).0, 0);
}
