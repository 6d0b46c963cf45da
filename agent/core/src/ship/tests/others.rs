//! Other collectors: another journal, an older version, one that has nothing.

use super::*;

#[test]
fn another_journal_that_answers_is_seen() {
    let (spool, hashes) = spool(1);
    let (mut shipper, _) = welcomed(&spool, welcome(1, hashes[1]));
    assert_eq!(shipper.status().lineage_changes, 0);
    shipper.handle_disconnected(NOW, 0, "lost");
    shipper.handle_connecting(NOW);
    shipper.handle_connected(NOW, &agent(), &spool);
    let other = Welcome {
        lineage: Lineage::from_bytes([8; 16]),
        ..welcome(0, BatchHash::ZERO)
    };
    shipper
        .handle_message(NOW, Message::Welcome(other), &spool)
        .expect("ok");
    let status = shipper.status();
    assert_eq!((status.lineage_changes, status.welcomes), (1, 2));
}

/// A lazy spool drops what was let go and never synced, and puts an anchor in its place. What
/// was synced before stays where it lies: it was let go too, and must not go out again.
#[test]
fn what_was_let_go_and_still_lies_in_a_segment_is_not_sent() {
    let config = SpoolConfig {
        sync: SyncPolicy::OnDisconnect { millis: 30_000 },
        ..SpoolConfig::from(LogConfig {
            segment_bytes: 1 << 20,
            bytes_max: 1 << 24,
        })
    };
    let (mut spool, _) = Spool::open(MemoryStorage::new(1), config).expect("opens");
    spool.set_connected(true);
    // The first batch of a life is always synced; the second waits for its sync.
    let mut hashes = vec![BatchHash::ZERO];
    append(&mut spool, LIFE, &mut hashes, Vec::new());
    append(&mut spool, LIFE, &mut hashes, Vec::new());
    spool
        .release(Acknowledged::for_test(LIFE, 2))
        .expect("lets go");
    let held = spool.held();
    assert_eq!(
        (held[0].first.get(), held[0].last.get()),
        (2, 2),
        "an anchor"
    );
    append(&mut spool, LIFE, &mut hashes, Vec::new());
    // Another collector, which knows nothing of this life: no resume names it.
    let stranger = Welcome {
        resume: Vec::new(),
        ..welcome(0, BatchHash::ZERO)
    };
    let (mut shipper, released) = welcomed(&spool, stranger);
    assert_eq!(released, []);
    let sent: Vec<_> =
        std::iter::from_fn(|| shipper.poll_transmit(NOW, &spool).expect("reads")).collect();
    let what: Vec<_> = sent
        .iter()
        .map(|message| match message {
            Message::Batch(batch) => ("batch", batch.sequence.get()),
            Message::Tombstone(tombstone) => ("tombstone", tombstone.sequence.get()),
            other => (other.kind(), 0),
        })
        .collect();
    assert_eq!(what, [("tombstone", 2), ("batch", 3)]);
}

#[test]
fn what_was_let_go_is_not_sent_to_a_collector_that_has_nothing() {
    let config = SpoolConfig {
        sync: SyncPolicy::OnDisconnect { millis: 1000 },
        ..SpoolConfig::from(LogConfig {
            segment_bytes: 1 << 20,
            bytes_max: 1 << 24,
        })
    };
    let (mut spool, _) = Spool::open(MemoryStorage::new(1), config).expect("opens");
    let parent = Incarnation::from_bytes([9; 16]);
    append(&mut spool, parent, &mut vec![BatchHash::ZERO], Vec::new());
    spool.set_connected(true);
    let mut hashes = vec![BatchHash::ZERO];
    for _ in 1..=5 {
        append(&mut spool, LIFE, &mut hashes, Vec::new());
    }
    for (life, releasable) in [(parent, 1), (LIFE, 5)] {
        let acknowledged = Acknowledged::for_test(life, releasable);
        spool.release(acknowledged).expect("lets go");
    }
    let held = spool.held();
    assert_eq!((held[1].incarnation, held[1].first.get()), (LIFE, 5));
    // Another collector, which has nothing of either life. Of this life it may get the fifth
    // batch at the earliest: it takes an earlier one for a breach of the protocol.
    let nothing = |incarnation| Resume {
        incarnation,
        durable: 0,
        durable_hash: BatchHash::ZERO,
        releasable: 0,
    };
    let welcome = Welcome {
        resume: vec![nothing(parent), nothing(LIFE)],
        ..wide(0)
    };
    let (mut shipper, _) = welcomed(&spool, welcome);
    let mut sent = Vec::new();
    while let Some(message) = shipper.poll_transmit(NOW, &spool).expect("reads") {
        sent.push(match message {
            Message::Batch(batch) => (batch.incarnation, batch.sequence.get()),
            Message::Tombstone(stone) => (stone.incarnation, stone.sequence.get()),
            other => panic!("a {}", other.kind()),
        });
    }
    assert_eq!(sent, [(parent, 1), (LIFE, 5)]);
}

#[test]
fn a_batch_that_the_collector_cannot_read_sends_the_agent_to_another() {
    let (mut spool, mut hashes) = spool(2);
    let step = ClockStep {
        at: NOW,
        by_millis: -7000,
    };
    append(&mut spool, LIFE, &mut hashes, vec![step]);
    append(&mut spool, LIFE, &mut hashes, Vec::new());
    let mut config = ShipConfig::default();
    config.endpoints.names = vec!["old:1".to_owned(), "new:2".to_owned()];
    let mut shipper = Shipper::new(config, NOW, 9);
    shipper.handle_connecting(NOW);
    shipper.handle_connected(NOW, &agent(), &spool);
    let old = Message::Welcome(Welcome {
        version: 1,
        ..wide(0)
    });
    shipper.handle_message(NOW, old, &spool).expect("reads");
    // What it can read goes out and is waited for.
    assert_eq!(sent(&mut shipper, &spool), [1, 2]);
    assert_eq!(shipper.poll_disconnect(), None);
    shipper.handle_message(NOW, ack(2), &spool).expect("reads");
    assert!(sent(&mut shipper, &spool).is_empty());
    let why = Disconnect::Version {
        spoken: 1,
        needed: 2,
    };
    assert_eq!(shipper.poll_disconnect(), Some(why));
    shipper.handle_disconnected(NOW, 5, "closed");
    // It is passed over for long, and says why.
    let status = shipper.status();
    assert!(status.endpoints[0].refused.is_some());
    assert!(status.endpoints[0].retry_at.millis_since(NOW) >= 30_000);
    let soon = NOW.plus_millis(2_000);
    assert!(shipper.connect_at().is_some_and(|at| at <= soon));
    shipper.handle_connecting(soon);
    assert_eq!(shipper.status().endpoint.as_deref(), Some("new:2"));
    shipper.handle_connected(soon, &agent(), &spool);
    let new = Message::Welcome(welcome(2, hashes[2]));
    shipper.handle_message(soon, new, &spool).expect("reads");
    assert_eq!(sent(&mut shipper, &spool), [3, 4]);
}
