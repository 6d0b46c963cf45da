//! What a session answers, message by message.

mod grants;

use std::sync::Arc;

use tollgate_common::sketch::Histogram;
use tollgate_common::wire::{Held, Hello, VERSION};
use tollgate_common::{Aggregation, BatchHash, Detail, LossReason, Quantity, Remembered};

use super::*;
use crate::entry::Verdicts;
use crate::entry::codec::decode;
use crate::fold::intake::test_support::{Books, Sealer, agent_id, incarnation, row};
use crate::fold::intake::{KnownLife, Progress};
use crate::journal::PartitionId;
use crate::journal::group::GroupCommit;
use crate::journal::memory::MemoryJournal;
use crate::policy::{Pattern, Rule};

const NOW: Timestamp = Timestamp::from_secs(1000);

fn config() -> SessionConfig {
    SessionConfig {
        lineage: Lineage::from_bytes([9; 16]),
        window_batches: 3,
        window_bytes: 1000,
        hello_timeout_millis: 5000,
    }
}

fn policy() -> Policy {
    let pattern = |text| Pattern::new(text).expect("valid");
    Policy::new(vec![Rule {
        name: pattern("edge-1"),
        tenants: vec![pattern("acme")],
        meters: vec![pattern("*")],
    }])
    .expect("valid")
}

/// A session with everything around it.
struct Bench {
    session: Session,
    policy: Policy,
    encoder: EntryEncoder,
    journal: GroupCommit<MemoryJournal>,
}

impl Bench {
    fn new() -> Self {
        Self {
            session: Session::new(1, agent_id(), config(), NOW),
            policy: policy(),
            encoder: EntryEncoder::new(),
            journal: GroupCommit::new(MemoryJournal::new(), PartitionId(0), Timestamp::EPOCH),
        }
    }

    /// Past the hello, with these answers.
    fn open(held: Vec<Held>, progress: Progress) -> Self {
        let mut bench = Self::new();
        bench.send(hello(held)).expect("accepted");
        assert!(bench.session.poll_query().is_some());
        let mut desk = Desk {
            policy: &bench.policy,
            encoder: &mut bench.encoder,
        };
        bench
            .session
            .handle_progress(NOW, progress, &mut desk)
            .expect("accepted");
        assert!(matches!(
            bench.session.poll_transmit(),
            Some(Message::Welcome(_))
        ));
        bench
    }

    fn send(&mut self, message: Message) -> Result<(), SessionError> {
        let mut desk = Desk {
            policy: &self.policy,
            encoder: &mut self.encoder,
        };
        self.session.handle_message(NOW, message, 100, &mut desk)
    }

    /// Stages what is pending and returns its entries.
    fn stage(&mut self) -> Vec<Entry> {
        let pending = self.session.take_pending();
        let decoded = |pending: &Pending| {
            decode(&pending.entry.clone().stamped(NOW))
                .expect("own bytes")
                .entry
        };
        let entries = pending.iter().map(decoded).collect();
        for pending in pending {
            self.journal.stage(NOW, pending).expect("memory");
        }
        entries
    }

    fn commit(&mut self) {
        for durable in self.journal.commit().expect("memory") {
            self.session.handle_durable(&durable);
        }
    }
}

fn hello(held: Vec<Held>) -> Message {
    Message::Hello(Hello {
        version_min: 1,
        version_max: 1,
        agent: agent_id(),
        now: NOW,
        held,
    })
}

fn sealed(count: usize) -> Vec<Batch> {
    let mut sealer = Sealer::new(1);
    (0..count)
        .map(|_| sealer.seal(vec![row("acme", "http.requests", "eu", 1, 1)], false))
        .collect()
}

fn held_of(batches: &[Batch]) -> Held {
    let (first, last) = (&batches[0], &batches[batches.len() - 1]);
    Held {
        incarnation: first.incarnation,
        first: first.sequence,
        first_parent: first.parent_hash,
        last: last.sequence,
        last_hash: last.hash(),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "compared with what poll_transmit returns"
)]
fn ack(durable: u64) -> Option<Message> {
    Some(Message::Ack(Ack {
        incarnation: incarnation(1),
        durable,
        releasable: durable,
    }))
}

#[test]
fn acknowledges_only_what_is_committed() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    let batches = sealed(3);
    bench
        .send(Message::Batch(batches[0].clone()))
        .expect("accepted");
    bench
        .send(Message::Batch(batches[1].clone()))
        .expect("accepted");
    assert_eq!(bench.session.poll_transmit(), None, "nothing is durable");
    assert_eq!(bench.stage().len(), 2);
    assert_eq!(bench.session.poll_transmit(), None, "staged is not durable");
    bench.commit();
    assert_eq!(bench.session.poll_transmit(), ack(2));
    assert_eq!(bench.session.poll_transmit(), None);
    assert_eq!(bench.session.batches_in_flight(), 0);
}

#[test]
fn acknowledges_only_what_is_contiguous() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    for batch in sealed(3) {
        bench.send(Message::Batch(batch)).expect("accepted");
    }
    let numbers: Vec<_> = bench
        .session
        .take_pending()
        .iter()
        .map(|pending| pending.token)
        .collect();
    bench.session.handle_durable(&Durable::forged(numbers[2]));
    bench.session.handle_durable(&Durable::forged(numbers[1]));
    assert_eq!(bench.session.poll_transmit(), None);
    bench.session.handle_durable(&Durable::forged(Token {
        session: 2,
        number: 1,
    }));
    assert_eq!(
        bench.session.poll_transmit(),
        None,
        "the proof is another session's"
    );
    bench.session.handle_durable(&Durable::forged(numbers[0]));
    assert_eq!(bench.session.poll_transmit(), ack(3));
}

#[test]
fn holes_and_overfull_windows_end_the_session() {
    let batches = sealed(6);
    let mut bench = Bench::open(Vec::new(), Progress::default());
    bench
        .send(Message::Batch(batches[0].clone()))
        .expect("accepted");
    let error = bench
        .send(Message::Batch(batches[2].clone()))
        .expect_err("a hole");
    assert_eq!(error.code(), RefuseCode::Protocol);
    assert!(bench.session.is_closed());
    assert!(matches!(
        bench.session.poll_transmit(),
        Some(Message::Refuse(_))
    ));
    bench
        .send(Message::Batch(batches[1].clone()))
        .expect("ignored");
    assert_eq!(bench.stage().len(), 1, "nothing is taken after the end");

    let mut bench = Bench::open(Vec::new(), Progress::default());
    for batch in &batches[..3] {
        bench
            .send(Message::Batch(batch.clone()))
            .expect("within the window");
    }
    assert!(bench.send(Message::Batch(batches[3].clone())).is_err());

    let mut bench = Bench::open(Vec::new(), Progress::default());
    let mut desk = Desk {
        policy: &bench.policy,
        encoder: &mut bench.encoder,
    };
    let huge = 2000 + FRAME_BYTES_MAX + 1;
    let result =
        bench
            .session
            .handle_message(NOW, Message::Batch(batches[0].clone()), huge, &mut desk);
    assert!(result.is_err());
}

#[test]
fn only_the_agent_of_the_certificate_is_heard() {
    let stranger = AgentId::new("edge-2").expect("valid");
    let mut bench = Bench::new();
    let Message::Hello(mut named) = hello(Vec::new()) else {
        unreachable!("made above")
    };
    named.agent = stranger.clone();
    let error = bench.send(Message::Hello(named)).expect_err("another name");
    assert_eq!(error.code(), RefuseCode::Identity);

    let mut bench = Bench::open(Vec::new(), Progress::default());
    let mut batch = sealed(1).remove(0);
    batch.agent = stranger.clone();
    assert_eq!(
        bench
            .send(Message::Batch(batch))
            .expect_err("another name")
            .code(),
        RefuseCode::Identity
    );

    let mut bench = Bench::new();
    bench.policy = Policy::empty();
    assert_eq!(
        bench.send(hello(Vec::new())).expect_err("no rule").code(),
        RefuseCode::UnknownAgent
    );
    assert!(bench.session.poll_query().is_none());
}

/// Agents of the version before are welcomed in it; newer ones in the newest that both speak.
#[test]
fn the_newest_version_that_both_speak_is_welcomed() {
    for ((min, max), expected) in [((1, 1), 1), ((1, 2), 2), ((2, 9), VERSION)] {
        let mut bench = Bench::new();
        let Message::Hello(mut hello) = hello(Vec::new()) else {
            unreachable!("made above")
        };
        (hello.version_min, hello.version_max) = (min, max);
        bench.send(Message::Hello(hello)).expect("accepted");
        let mut desk = Desk {
            policy: &bench.policy,
            encoder: &mut bench.encoder,
        };
        let progress = Progress::default();
        let welcomed = bench.session.handle_progress(NOW, progress, &mut desk);
        welcomed.expect("accepted");
        let Some(Message::Welcome(welcome)) = bench.session.poll_transmit() else {
            panic!("a welcome was expected");
        };
        assert_eq!(welcome.version, expected);
    }
}

#[test]
fn the_offset_of_the_agents_clock_is_known_after_its_hello() {
    let mut bench = Bench::new();
    assert_eq!(bench.session.clock_offset_millis(), None);
    let Message::Hello(mut hello) = hello(Vec::new()) else {
        unreachable!("made above")
    };
    hello.now = NOW.plus_millis(-2500);
    bench.send(Message::Hello(hello)).expect("accepted");
    assert_eq!(bench.session.clock_offset_millis(), Some(-2500));
}

/// What no window of any host can hold is refused, so that it cannot wear out a period.
#[test]
fn a_histogram_of_too_many_values_is_refused() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    let mut batch = sealed(1).remove(0);
    for (count, fits) in [(1_u64 << 49, false), (1 << 48, true)] {
        let histogram = Histogram::from_buckets(vec![(3, count)]).expect("valid");
        batch.rows[0].aggregation = Aggregation::Distribution;
        batch.rows[0].detail = Detail::Distribution(Arc::new(histogram));
        assert_eq!(batch.validate(), Ok(()));
        assert_eq!(bench.send(Message::Batch(batch.clone())).is_ok(), fits);
        bench = Bench::open(Vec::new(), Progress::default());
    }
}

#[test]
fn messages_out_of_turn_end_the_session() {
    let mut bench = Bench::new();
    assert!(bench.send(Message::Batch(sealed(1).remove(0))).is_err());
    let mut bench = Bench::new();
    bench.send(hello(Vec::new())).expect("accepted");
    assert!(bench.send(hello(Vec::new())).is_err(), "twice");
    let mut bench = Bench::new();
    let Message::Hello(mut future) = hello(Vec::new()) else {
        unreachable!("made above")
    };
    (future.version_min, future.version_max) = (200, 201);
    assert_eq!(
        bench
            .send(Message::Hello(future))
            .expect_err("too new")
            .code(),
        RefuseCode::Version
    );
    let mut bench = Bench::new();
    let held = held_of(&sealed(1));
    assert!(bench.send(hello(vec![held, held])).is_err());
}

#[test]
fn silence_is_ended() {
    let mut session = Session::new(1, agent_id(), config(), NOW);
    let until = session.poll_timeout().expect("waits for a hello");
    assert!(session.handle_timeout(NOW).is_ok());
    assert!(session.handle_timeout(until).is_err());
    assert!(session.is_closed());
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn rows_against_the_policy_do_not_stop_the_chain() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    let mut sealer = Sealer::new(1);
    let rows = vec![
        row("acme", "http.requests", "eu", 1, 1),
        row("other", "http.requests", "eu", 1, 1),
    ];
    bench
        .send(Message::Batch(sealer.seal(rows, false)))
        .expect("accepted");
    let entries = bench.stage();
    let Entry::Batch(received) = &entries[0] else {
        unreachable!("a batch was sent")
    };
    assert_eq!(received.policy, bench.policy.digest());
    assert!(matches!(&received.verdicts, Verdicts::PerRow(v) if v[0].is_none() && v[1].is_some()));
    bench.commit();
    assert_eq!(bench.session.poll_transmit(), ack(1));
}

#[test]
fn figures_that_no_meter_counts_are_refused() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    let mut sealer = Sealer::new(1);
    let mut batch = sealer.seal(vec![row("acme", "http.requests", "eu", 1, 1)], false);
    batch.rows[0].value = Quantity::MAX;
    assert_eq!(
        bench
            .send(Message::Batch(batch))
            .expect_err("too large")
            .code(),
        RefuseCode::Protocol
    );
}

#[test]
fn resumes_where_the_intake_stands_and_declares_what_is_gone() {
    let batches = sealed(6);
    // The journal has 1 and 2, the agent holds 4 to 6.
    let mut books = Books::new();
    books.batch(&batches[0]);
    books.batch(&batches[1]);
    let held = vec![held_of(&batches[3..])];
    let progress = books.intake.progress(&ProgressQuery {
        agent: agent_id(),
        held: held.clone(),
    });
    let mut bench = Bench::open(held, progress);
    let entries = bench.stage();
    assert!(matches!(&entries[..], [Entry::Missing(m)] if (m.from.get(), m.to.get()) == (3, 3)));
    for batch in &batches[3..] {
        bench.send(Message::Batch(batch.clone())).expect("accepted");
    }
    bench.stage();
    bench.commit();
    assert_eq!(bench.session.poll_transmit(), ack(6));

    // An agent that cannot confirm the hash sends again from its first batch.
    let held = vec![held_of(&batches[..3])];
    let progress = books.intake.progress(&ProgressQuery {
        agent: agent_id(),
        held: held.clone(),
    });
    assert_eq!(progress.resume[0].durable, 2);
    let mut bench = Bench::open(held, progress);
    for batch in &batches[..3] {
        bench.send(Message::Batch(batch.clone())).expect("accepted");
    }
    assert_eq!(bench.stage().len(), 3);
}

#[test]
fn a_life_of_which_nothing_is_held_goes_on() {
    let batches = sealed(6);
    let others = vec![KnownLife {
        incarnation: incarnation(1),
        durable: 3,
    }];
    let open = || {
        Bench::open(
            Vec::new(),
            Progress {
                others: others.clone(),
                ..Progress::default()
            },
        )
    };
    let mut bench = open();
    bench
        .send(Message::Batch(batches[3].clone()))
        .expect("the next");
    assert_eq!(bench.stage().len(), 1);
    // The fold may lag behind what was acknowledged: nothing is refused, and what is declared
    // missing by mistake is passed over by the fold.
    let mut bench = open();
    bench
        .send(Message::Batch(batches[5].clone()))
        .expect("further");
    assert!(
        matches!(&bench.stage()[..], [Entry::Missing(m), Entry::Batch(_)] if (m.from.get(), m.to.get()) == (4, 5))
    );
}

#[test]
fn tombstones_are_acknowledged_like_batches() {
    let mut bench = Bench::open(Vec::new(), Progress::default());
    let batches = sealed(3);
    bench
        .send(Message::Batch(batches[0].clone()))
        .expect("accepted");
    let tombstone = Tombstone {
        agent: agent_id(),
        incarnation: incarnation(1),
        sequence: batches[1].sequence,
        reason: LossReason::SpoolDamaged,
        remembered: None,
    };
    bench.send(Message::Tombstone(tombstone)).expect("accepted");
    bench
        .send(Message::Batch(batches[2].clone()))
        .expect("accepted");
    bench.stage();
    bench.commit();
    assert_eq!(bench.session.poll_transmit(), ack(3));
    assert_ne!(batches[2].parent_hash, BatchHash::ZERO);
}

#[test]
fn a_tombstone_remembers_no_more_than_a_batch_may_say() {
    let mut sealer = Sealer::new(1);
    let batch = sealer.seal(vec![row("acme", "http.requests", "eu", 1, 1)], false);
    let remembering = |units: i128| {
        let mut totals = batch.totals.clone();
        totals[0].quantity = Quantity::new(units);
        Message::Tombstone(Tombstone {
            agent: agent_id(),
            incarnation: batch.incarnation,
            sequence: batch.sequence,
            reason: LossReason::SpoolDamaged,
            remembered: Some(Box::new(Remembered {
                cut: batch.span.to,
                watermark: batch.watermark,
                is_final: true,
                is_complete: true,
                totals,
            })),
        })
    };
    let most = VALUE_MAX.units();
    for beyond in [most + 1, i128::MAX, -1, i128::MIN] {
        let mut bench = Bench::open(Vec::new(), Progress::default());
        let error = bench.send(remembering(beyond)).expect_err("refused");
        assert_eq!(error.code(), RefuseCode::Protocol);
        assert!(bench.stage().is_empty(), "nothing of it is journaled");
    }
    for good in [0, most] {
        let mut bench = Bench::open(Vec::new(), Progress::default());
        bench.send(remembering(good)).expect("accepted");
        assert_eq!(bench.stage().len(), 1);
    }
}
