mod others;
mod windows;

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
