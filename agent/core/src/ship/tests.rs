use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Ack, Grant, RefuseCode, Resume, Welcome, encode_record};
use tollgate_common::{Batch, BatchHash, BatchSeq, ClockStep, Lineage, Opening, Span};

use super::*;
use crate::seal::Sealed;
use crate::spool::{Room, SpoolConfig, SyncPolicy};

const NOW: Timestamp = Timestamp::from_secs(1_780_000_000);
const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);

fn agent() -> AgentId {
    AgentId::new("edge-1").expect("valid")
}

/// A spool with `count` batches, and their hashes from number 0 (none) on.
fn spool(count: u64) -> (Spool<MemoryStorage>, Vec<BatchHash>) {
    let config = LogConfig {
        segment_bytes: 1 << 20,
        bytes_max: 1 << 24,
    };
    let (mut spool, _) = Spool::open(MemoryStorage::new(1), config).expect("opens");
    let mut hashes = vec![BatchHash::ZERO];
    for _ in 1..=count {
        append(&mut spool, LIFE, &mut hashes, Vec::new());
    }
    (spool, hashes)
}

/// Appends the next batch of a life, whose hashes so far are `hashes`.
fn append(
    spool: &mut Spool<MemoryStorage>,
    incarnation: Incarnation,
    hashes: &mut Vec<BatchHash>,
    steps: Vec<ClockStep>,
) {
    let number = hashes.len() as u64;
    let batch = Batch {
        agent: agent(),
        incarnation,
        sequence: BatchSeq::new(number).expect("positive"),
        parent_hash: *hashes.last().expect("never empty"),
        span: Span { from: NOW, to: NOW },
        watermark: NOW,
        opening: (number == 1).then_some(Opening { parent: None }),
        is_final: false,
        rows: Vec::new(),
        totals: Vec::new(),
        losses: Vec::new(),
        steps,
    };
    let mut record = Vec::new();
    encode_record(&batch, &mut record).expect("valid");
    let hash = batch.hash();
    hashes.push(hash);
    let sealed = Sealed {
        batch,
        hash,
        record,
        complete: true,
        rows: 0,
    };
    spool.append(&sealed, Room::Ordinary).expect("room");
}

fn welcome(durable: u64, durable_hash: BatchHash) -> Welcome {
    Welcome {
        version: VERSION,
        lineage: Lineage::from_bytes([7; 16]),
        now: NOW.plus_millis(250),
        resume: vec![Resume {
            incarnation: LIFE,
            durable,
            durable_hash,
            releasable: durable,
        }],
        window_batches: 4,
        window_bytes: 1 << 20,
    }
}

fn ack(durable: u64) -> Message {
    Message::Ack(Ack {
        incarnation: LIFE,
        durable,
        releasable: durable,
    })
}

/// A shipper that was welcomed, and what the welcome released.
fn welcomed(spool: &Spool<MemoryStorage>, welcome: Welcome) -> (Shipper, Vec<Acknowledged>) {
    let mut shipper = Shipper::new(ShipConfig::default(), NOW, 9);
    shipper.handle_connecting(NOW);
    shipper.handle_connected(NOW, &agent(), spool);
    let released = shipper.handle_message(NOW, Message::Welcome(welcome), spool);
    (shipper, released.expect("reads"))
}

fn sent(shipper: &mut Shipper, spool: &Spool<MemoryStorage>) -> Vec<u64> {
    let message = std::iter::from_fn(|| shipper.poll_transmit(NOW, spool).expect("reads"));
    message
        .map(|message| match message {
            Message::Batch(batch) => batch.sequence.get(),
            other => panic!("a {}", other.kind()),
        })
        .collect()
}

#[test]
fn resumes_where_the_collector_stands() {
    let (spool, hashes) = spool(10);
    let (mut shipper, released) = welcomed(&spool, welcome(4, hashes[4]));
    assert_eq!(released, [Acknowledged::for_test(LIFE, 4)]);
    assert_eq!(
        sent(&mut shipper, &spool),
        [5, 6, 7, 8],
        "as the window allows"
    );
    assert_eq!(shipper.status().in_flight, 4);
    let released = shipper.handle_message(NOW, ack(6), &spool);
    assert_eq!(released.expect("ok"), [Acknowledged::for_test(LIFE, 6)]);
    assert_eq!(sent(&mut shipper, &spool), [9, 10]);
    shipper.handle_message(NOW, ack(10), &spool).expect("ok");
    let status = shipper.status();
    assert_eq!((status.in_flight, status.sent, status.skipped), (0, 6, 4));
    let clock = status.clock.expect("known");
    assert_eq!(
        (clock.offset_millis, clock.bound_millis, clock.warning),
        (250, 1, false)
    );
    assert_eq!(shipper.poll_timeout(), None, "nothing is awaited");
}

#[test]
fn a_claim_without_proof_releases_nothing_and_gets_everything() {
    let (spool, hashes) = spool(3);
    let other = BatchHash::from_bytes([9; 32]);
    for (durable, hash) in [
        (2, other),
        (2, BatchHash::ZERO),
        (2, hashes[3]),
        (70, hashes[3]),
    ] {
        let (mut shipper, released) = welcomed(&spool, welcome(durable, hash));
        assert_eq!(released, []);
        assert_eq!(sent(&mut shipper, &spool), [1, 2, 3]);
    }
}

#[test]
fn acknowledgements_count_only_for_what_was_sent() {
    let (spool, _) = spool(10);
    let (mut shipper, _) = welcomed(&spool, welcome(0, BatchHash::ZERO));
    assert_eq!(sent(&mut shipper, &spool), [1, 2, 3, 4]);
    let released = shipper.handle_message(NOW, ack(u64::MAX), &spool);
    assert_eq!(released.expect("ok"), [Acknowledged::for_test(LIFE, 4)]);
    let unknown = Message::Ack(Ack {
        incarnation: Incarnation::from_bytes([2; 16]),
        durable: 5,
        releasable: 5,
    });
    let released = shipper.handle_message(NOW, unknown, &spool);
    assert_eq!(released.expect("ok"), []);
    // What may be released is never more than what is durable.
    let greedy = Message::Ack(Ack {
        incarnation: LIFE,
        durable: 2,
        releasable: 4,
    });
    let released = shipper.handle_message(NOW, greedy, &spool);
    assert_eq!(released.expect("ok"), [Acknowledged::for_test(LIFE, 2)]);
}

#[test]
fn a_window_of_few_bytes_still_lets_one_batch_through() {
    let (spool, _) = spool(3);
    let narrow = Welcome {
        window_bytes: 0,
        window_batches: 0,
        ..welcome(0, BatchHash::ZERO)
    };
    let (mut shipper, _) = welcomed(&spool, narrow);
    for number in 1..=3 {
        assert_eq!(sent(&mut shipper, &spool), [number]);
        shipper
            .handle_message(NOW, ack(number), &spool)
            .expect("ok");
    }
}

#[test]
fn silence_ends_the_connection() {
    let (spool, _) = spool(2);
    let config = ShipConfig::default();
    let later = |millis| Shipper::after(NOW, millis);
    let mut shipper = Shipper::new(config.clone(), NOW, 9);
    assert_eq!(shipper.connect_at(), Some(NOW));
    shipper.handle_connecting(NOW);
    assert_eq!(shipper.connect_at(), None);
    assert_eq!(
        shipper.poll_timeout(),
        Some(later(config.connect_timeout_millis))
    );
    shipper.handle_tick(later(config.connect_timeout_millis));
    assert_eq!(
        shipper.poll_disconnect(),
        Some(Disconnect::Timeout("the connection"))
    );
    assert_eq!(shipper.poll_disconnect(), None, "said once");
    shipper.handle_disconnected(NOW, 3, "closed");
    assert_eq!(shipper.connect_at(), Some(NOW.plus_millis(3)));
    assert_eq!(shipper.status().failures, 1);

    let (mut shipper, _) = welcomed(&spool, welcome(0, BatchHash::ZERO));
    shipper.handle_tick(later(3_600_000));
    assert_eq!(
        shipper.poll_disconnect(),
        None,
        "silence is fine while nothing is due"
    );
    assert_eq!(sent(&mut shipper, &spool), [1, 2]);
    shipper.handle_message(NOW, ack(1), &spool).expect("ok");
    shipper.handle_tick(later(config.answer_timeout_millis - 1));
    assert_eq!(shipper.poll_disconnect(), None);
    shipper.handle_tick(later(config.answer_timeout_millis));
    assert_eq!(
        shipper.poll_disconnect(),
        Some(Disconnect::Timeout("an acknowledgement"))
    );
    assert!(sent(&mut shipper, &spool).is_empty());
}

#[test]
fn refusals_that_stay_are_tried_again_rarely() {
    let (spool, _) = spool(1);
    let cap = ShipConfig::default().endpoints.backoff.cap_millis;
    for (code, rarely) in [
        (RefuseCode::UnknownAgent, true),
        (RefuseCode::Overloaded, false),
    ] {
        let mut shipper = Shipper::new(ShipConfig::default(), NOW, 9);
        shipper.handle_connecting(NOW);
        shipper.handle_connected(NOW, &agent(), &spool);
        let refuse = Message::Refuse(Refuse {
            code,
            reason: "no".to_owned(),
        });
        shipper.handle_message(NOW, refuse, &spool).expect("ok");
        assert!(matches!(
            shipper.poll_disconnect(),
            Some(Disconnect::Refused { .. })
        ));
        shipper.handle_disconnected(NOW, 0, "closed");
        let wait = shipper.connect_at().expect("waits").millis_since(NOW);
        assert_eq!(wait >= i64::try_from(cap).expect("small"), rarely, "{code}");
        let error = shipper.status().last_error.expect("told");
        assert!(error.contains("no"), "{error}");
    }
}

#[test]
fn messages_out_of_turn_end_the_connection() {
    let (spool, _) = spool(1);
    let mut shipper = Shipper::new(ShipConfig::default(), NOW, 9);
    shipper.handle_connecting(NOW);
    shipper.handle_connected(NOW, &agent(), &spool);
    shipper.handle_message(NOW, ack(1), &spool).expect("ok");
    assert!(matches!(
        shipper.poll_disconnect(),
        Some(Disconnect::Protocol(_))
    ));
    let (mut shipper, _) = welcomed(
        &spool,
        Welcome {
            version: VERSION + 1,
            ..welcome(0, BatchHash::ZERO)
        },
    );
    assert!(matches!(
        shipper.poll_disconnect(),
        Some(Disconnect::Protocol(_))
    ));
}

#[test]
fn a_clock_that_goes_back_does_not_put_off_the_next_attempt() {
    let mut shipper = Shipper::new(ShipConfig::default(), NOW, 9);
    let before = NOW.plus_millis(-86_400_000);
    shipper.handle_tick(before);
    let wait = shipper.connect_at().expect("waits").millis_since(before);
    assert!(wait <= 2 * 30_000, "{wait}");
}

fn wide(durable: u64) -> Welcome {
    Welcome {
        window_batches: 256,
        window_bytes: 32 << 20,
        ..welcome(durable, BatchHash::ZERO)
    }
}

fn grant(window_batches: u32, pause_millis: u32) -> Message {
    Message::Grant(Grant {
        window_batches,
        window_bytes: 1 << 20,
        pause_millis,
    })
}

#[test]
fn the_window_opens_with_what_the_collector_acknowledges() {
    let (spool, _) = spool(60);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    let mut last = 0;
    for expected in [4, 8, 16, 32] {
        let sent = sent(&mut shipper, &spool);
        assert_eq!(sent.len(), expected);
        last = *sent.last().expect("some");
        shipper.handle_message(NOW, ack(last), &spool).expect("ok");
    }
    assert_eq!(last, 60);
    assert!(shipper.status().window_batches <= 256);
}

#[test]
fn a_narrower_window_holds_from_the_next_batch_on() {
    let (spool, _) = spool(20);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    assert_eq!(sent(&mut shipper, &spool).len(), 4);
    shipper
        .handle_message(NOW, grant(2, 0), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(2), &spool).expect("ok");
    assert!(
        sent(&mut shipper, &spool).is_empty(),
        "two are on their way"
    );
    shipper.handle_message(NOW, ack(3), &spool).expect("ok");
    assert_eq!(sent(&mut shipper, &spool), [5]);
    shipper
        .handle_message(NOW, grant(256, 0), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(5), &spool).expect("ok");
    assert_eq!(sent(&mut shipper, &spool), [6, 7, 8, 9], "and opens again");
}

#[test]
fn a_pause_is_kept_ends_by_itself_and_is_no_overdue_answer() {
    let (spool, _) = spool(20);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    shipper
        .handle_message(NOW, grant(256, u32::MAX), &spool)
        .expect("ok");
    shipper.handle_message(NOW, ack(1), &spool).expect("ok");
    assert!(sent(&mut shipper, &spool).is_empty());
    // No collector can silence an agent for longer than a minute.
    let end = NOW.plus_millis(60_000);
    assert_eq!(shipper.status().paused_until, Some(end));
    shipper.handle_message(NOW, ack(4), &spool).expect("ok");
    assert_eq!(
        shipper.poll_timeout(),
        Some(end),
        "the agent wakes for its end"
    );
    let just_before = shipper.poll_transmit(end.plus_millis(-1), &spool);
    assert_eq!(just_before.expect("reads"), None);
    let message = shipper.poll_transmit(end, &spool).expect("reads");
    assert!(matches!(message, Some(Message::Batch(_))));

    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    shipper
        .handle_message(NOW, grant(256, 50_000), &spool)
        .expect("ok");
    shipper.handle_tick(NOW.plus_millis(79_999));
    assert_eq!(shipper.poll_disconnect(), None);
    shipper.handle_tick(NOW.plus_millis(80_000));
    assert!(shipper.poll_disconnect().is_some());
}

#[test]
fn a_slow_path_is_no_dead_collector() {
    let (spool, _) = spool(2);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    for minute in 1..=10 {
        let now = NOW.plus_millis(minute * 25_000);
        shipper.handle_tick(now);
        assert_eq!(shipper.poll_disconnect(), None);
        shipper.handle_progress(now);
    }
    shipper.handle_tick(NOW.plus_millis(280_000));
    assert!(shipper.poll_disconnect().is_some(), "but standstill is");
}

#[test]
fn a_renewed_connection_waits_for_what_is_on_its_way_and_comes_back_at_once() {
    let (spool, _) = spool(6);
    let (mut shipper, _) = welcomed(&spool, wide(0));
    assert_eq!(sent(&mut shipper, &spool).len(), 4);
    shipper.handle_renew("the certificate has changed");
    assert_eq!(shipper.status().connection, Connection::Leaving);
    assert!(sent(&mut shipper, &spool).is_empty());
    assert_eq!(shipper.poll_disconnect(), None, "four are on their way");
    let released = shipper.handle_message(NOW, ack(4), &spool);
    assert_eq!(released.expect("ok"), [Acknowledged::for_test(LIFE, 4)]);
    assert!(sent(&mut shipper, &spool).is_empty());
    assert!(matches!(
        shipper.poll_disconnect(),
        Some(Disconnect::Leaving(_))
    ));
    shipper.handle_disconnected(NOW, u64::MAX, "closed by the agent");
    assert_eq!(shipper.connect_at(), Some(NOW), "no failure, no wait");
    assert_eq!(shipper.status().failures, 0);
}

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

#[test]
fn other_endpoints_are_taken_at_once_when_idle_and_after_the_last_answer_when_not() {
    let (spool, _) = spool(2);
    let other = || {
        let mut config = ShipConfig::default();
        config.endpoints.names = vec!["x:1".to_owned(), "y:2".to_owned()];
        config
    };
    let (mut shipper, _) = welcomed(&spool, wide(0));
    sent(&mut shipper, &spool);
    shipper.handle_config(NOW, other());
    assert_eq!(shipper.poll_disconnect(), None);
    shipper.handle_message(NOW, ack(2), &spool).expect("ok");
    sent(&mut shipper, &spool);
    assert!(matches!(
        shipper.poll_disconnect(),
        Some(Disconnect::Leaving(_))
    ));
    shipper.handle_disconnected(NOW, 7, "closed");
    assert_eq!(shipper.connect_at(), Some(NOW));
    assert_eq!(shipper.status().endpoints[1].name, "y:2");
    shipper.handle_connecting(NOW);
    assert_eq!(shipper.status().endpoint.as_deref(), Some("x:1"));
    // While waiting for a retry that is far away.
    shipper.handle_disconnected(NOW, 9, "down");
    shipper.handle_config(NOW, ShipConfig::default());
    assert_eq!(shipper.connect_at(), Some(NOW));
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
