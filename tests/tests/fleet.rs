//! A fleet comes back at once: 200 agents with a backlog, in virtual time.
//!
//! Engines of agents and sessions of a collector as they are, with the collector's own rules
//! for admission, shares and turns; only clock, network, disks and the pace of the journal are
//! played. What is asserted are the figures that keep a collector alive: connections in each
//! second, the length of its queue, how long a fresh window waits behind other agents'
//! backlogs, and that everybody drains.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use tollgate_agent_core::aggregate::{CellsHome, Writer};
use tollgate_agent_core::engine::{Engine, EngineConfig, Start};
use tollgate_agent_core::ship::ShipConfig;
use tollgate_agent_core::spool::{SpoolConfig, SyncPolicy};
use tollgate_collector_core::entry::codec::EntryEncoder;
use tollgate_collector_core::fold::intake::Progress;
use tollgate_collector_core::journal::PartitionId;
use tollgate_collector_core::journal::group::{GroupCommit, Pending};
use tollgate_collector_core::journal::memory::MemoryJournal;
use tollgate_collector_core::policy::{Pattern, Policy, Rule};
use tollgate_collector_core::receive::share::{self, Admission, ShareConfig};
use tollgate_collector_core::receive::{Desk, Session, SessionConfig};
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Message, Resume, encode_record};
use tollgate_common::{
    AgentId, Aggregation, BatchHash, Dimensions, Incarnation, Lineage, MeterName, Scale, SeriesKey,
    TenantId, Timestamp, WindowWidth,
};
use tollgate_tests::sim::home::MemoryHome;
use tollgate_tests::sim::random::Random;

const AGENTS: usize = 200;
/// Agents that were never cut off: their windows are fresh, and wait behind the others.
const STEADY: usize = 10;
/// Windows that each agent has in its spool when the collector comes back.
const BACKLOG: i64 = 12;
/// Of each window, in milliseconds.
const WINDOW: i64 = 10_000;
/// Series of each agent; a record of them has about 20 KiB.
const SERIES: usize = 10;
/// One way of the network, in milliseconds.
const DELAY: i64 = 20;
/// Milliseconds of a step.
const STEP: i64 = 5;
/// What the journal writes in a step: 8 MiB/s.
const JOURNAL_BYTES: usize = (8 << 20) / 1000 * 5;
const QUEUE_BYTES: usize = 8 << 20;
const BEGIN: Timestamp = Timestamp::from_secs(1_780_000_000);

type Region = <MemoryHome as CellsHome>::Region;

/// One agent and its end of the network.
struct Agent {
    name: AgentId,
    engine: Engine<Region, MemoryStorage>,
    writer: Writer<Region>,
    series: Vec<SeriesKey>,
    /// First packets that the collector ignored, and when the next one goes out.
    attempt: Option<(u32, Timestamp)>,
    /// The number of its session.
    session: Option<u64>,
    connects_at: Option<Timestamp>,
    inbox: VecDeque<(Timestamp, Message)>,
}

impl Agent {
    fn new(index: usize, random: &mut Random) -> Self {
        let name = AgentId::new(&format!("edge-{index}")).expect("valid");
        let config = EngineConfig {
            agent: name.clone(),
            window: WindowWidth::from_secs(10).expect("valid"),
            writers: vec!["w".to_owned()],
            series_max: 64,
            key_bytes: 64 << 10,
            limits: tollgate_agent_core::aggregate::SeriesLimits::default(),
            spool: SpoolConfig {
                segment_bytes: 1 << 20,
                bytes_max: 64 << 20,
                free_min: 0,
                sync: SyncPolicy::Always,
            },
            ship: ShipConfig::default(),
        };
        let start = Start {
            now: BEGIN,
            boot_id: random.bytes(),
            random: random.bytes(),
        };
        let disk = MemoryStorage::new(random.bits());
        let (engine, _) =
            Engine::start(&config, &mut MemoryHome::default(), disk, start).expect("starts");
        let writer = engine.writer("w").expect("free");
        let series = (0..SERIES).map(|n| series(n, random)).collect();
        Self {
            name,
            engine,
            writer,
            series,
            attempt: None,
            session: None,
            connects_at: None,
            inbox: VecDeque::new(),
        }
    }

    fn count(&mut self) {
        for key in &self.series {
            let scale = Scale::new(0).expect("valid");
            let slot = self.writer.resolve(key, Aggregation::Sum, scale);
            self.writer.add(slot.expect("room"), 1).expect("small");
        }
    }
}

/// A series whose key is long and does not compress.
fn series(number: usize, random: &mut Random) -> SeriesKey {
    let mut noise = || {
        (0..15).fold(String::new(), |mut text, _| {
            write!(text, "{:016x}", random.bits()).expect("a string takes everything");
            text
        })
    };
    let dimensions = (0..7).map(|key| (format!("k{key}"), noise()));
    SeriesKey::new(
        TenantId::new("acme").expect("valid"),
        MeterName::new(&format!("requests.{number}")).expect("valid"),
        Dimensions::new(dimensions.collect::<Vec<_>>()).expect("valid"),
    )
    .expect("short enough")
}

/// One session at the collector.
struct Link {
    agent: usize,
    session: Session,
    /// What has arrived and is not read, because the session waits for its turn.
    arriving: VecDeque<(Timestamp, Message)>,
    /// Appends that wait for room in the queue.
    waiting: VecDeque<Vec<Pending>>,
}

#[derive(Default)]
struct Figures {
    connections_in_second: BTreeMap<i64, u64>,
    queue_max: usize,
    held_max: usize,
    pauses: u64,
    durable_at: BTreeMap<(Incarnation, u64), Timestamp>,
    drained_at: Option<Timestamp>,
}

struct Collector {
    policy: Policy,
    encoder: EntryEncoder,
    admission: Admission,
    links: BTreeMap<u64, Link>,
    sessions: u64,
    /// Sessions with an append that waits, first come, first served.
    turns: VecDeque<u64>,
    queue: VecDeque<Pending>,
    queue_bytes: usize,
    /// What the journal may still write.
    credit: usize,
    journal: GroupCommit<MemoryJournal>,
    /// Where each life stands.
    durable: BTreeMap<Incarnation, (u64, BatchHash)>,
    hashes: BTreeMap<(Incarnation, u64), BatchHash>,
}

impl Collector {
    fn new() -> Self {
        let pattern = |text| Pattern::new(text).expect("valid");
        let policy = Policy::new(vec![Rule {
            name: pattern("edge-*"),
            tenants: vec![pattern("*")],
            meters: vec![pattern("*")],
        }]);
        Self {
            policy: policy.expect("valid"),
            encoder: EntryEncoder::new(),
            admission: Admission::new(200, 100, 0),
            links: BTreeMap::new(),
            sessions: 0,
            turns: VecDeque::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            credit: 0,
            journal: GroupCommit::new(MemoryJournal::new(), PartitionId(0), Timestamp::EPOCH),
            durable: BTreeMap::new(),
            hashes: BTreeMap::new(),
        }
    }

    fn accept(&mut self, now: Timestamp, agent: usize, name: &AgentId) -> u64 {
        self.sessions += 1;
        let config = SessionConfig {
            lineage: Lineage::from_bytes([7; 16]),
            window_batches: 64,
            window_bytes: 32 << 20,
            hello_timeout_millis: 10_000,
        };
        let link = Link {
            agent,
            session: Session::new(self.sessions, name.clone(), config, now),
            arriving: VecDeque::new(),
            waiting: VecDeque::new(),
        };
        self.links.insert(self.sessions, link);
        self.sessions
    }

    /// Reads what has arrived on one session, as far as it is not waiting for its turn.
    fn read(&mut self, now: Timestamp, id: u64) {
        let open = self.links.len() as u64;
        let config = ShareConfig {
            queue_bytes: QUEUE_BYTES as u64,
            window_batches: 64,
            window_bytes: 32 << 20,
        };
        let offer = share::offer(&config, id, open, self.queue_bytes as u64);
        let link = self.links.get_mut(&id).expect("open");
        link.session.handle_offer(now, offer);
        while link.waiting.is_empty()
            && link.arriving.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, message)) = link.arriving.pop_front()
        {
            let mut bytes = Vec::new();
            if let Message::Batch(batch) = &message {
                encode_record(batch, &mut bytes).expect("valid");
                let at = (batch.incarnation, batch.sequence.get());
                self.hashes.insert(at, batch.hash());
            }
            let mut desk = Desk {
                policy: &self.policy,
                encoder: &mut self.encoder,
            };
            link.session
                .handle_message(now, message, bytes.len(), &mut desk)
                .expect("an honest agent");
            if let Some(query) = link.session.poll_query() {
                let resume = query.held.iter().map(|held| {
                    let (durable, durable_hash) = self
                        .durable
                        .get(&held.incarnation)
                        .copied()
                        .unwrap_or((0, BatchHash::ZERO));
                    Resume {
                        incarnation: held.incarnation,
                        durable,
                        durable_hash,
                        releasable: durable,
                    }
                });
                let progress = Progress {
                    resume: resume.collect(),
                    ..Progress::default()
                };
                link.session
                    .handle_progress(now, progress, &mut desk)
                    .expect("a good answer");
            }
            link.waiting
                .extend(share::quotas(link.session.take_pending()));
            if !link.waiting.is_empty() {
                self.turns.push_back(id);
            }
        }
    }

    /// Lets sessions into the queue in turn, and writes what the journal can.
    fn work(&mut self, now: Timestamp, figures: &mut Figures) {
        while self.queue_bytes < QUEUE_BYTES
            && let Some(id) = self.turns.pop_front()
        {
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            for pending in link.waiting.pop_front().unwrap_or_default() {
                self.queue_bytes += pending.entry.len();
                self.queue.push_back(pending);
            }
            if !link.waiting.is_empty() {
                self.turns.push_back(id);
            }
        }
        figures.queue_max = figures.queue_max.max(self.queue_bytes);
        let waiting = self.links.values().flat_map(|link| &link.waiting).flatten();
        let held = waiting.map(|pending| pending.entry.len()).sum::<usize>() + self.queue_bytes;
        figures.held_max = figures.held_max.max(held);
        self.credit = (self.credit + JOURNAL_BYTES).min(4 * JOURNAL_BYTES);
        while let Some(pending) = self.queue.pop_front_if(|p| p.entry.len() <= self.credit) {
            self.credit -= pending.entry.len();
            self.queue_bytes -= pending.entry.len();
            self.journal.stage(now, pending).expect("memory");
        }
        for proof in self.journal.commit().expect("memory") {
            if let Some(link) = self.links.get_mut(&proof.token().session) {
                link.session.handle_durable(&proof);
            }
        }
    }
}

struct Fleet {
    agents: Vec<Agent>,
    collector: Collector,
    figures: Figures,
    /// Batches by the time of their seal.
    sealed_at: BTreeMap<(Incarnation, u64), Timestamp>,
    up: bool,
    /// All attempts fall together, as if there were no jitter.
    together: bool,
}

impl Fleet {
    fn step(&mut self, now: Timestamp) {
        for index in 0..self.agents.len() {
            self.drive(now, index);
        }
        let ids: Vec<u64> = self.collector.links.keys().copied().collect();
        for id in &ids {
            self.collector.read(now, *id);
        }
        self.collector.work(now, &mut self.figures);
        for id in ids {
            let link = self.collector.links.get_mut(&id).expect("open");
            while let Some(message) = link.session.poll_transmit() {
                match &message {
                    Message::Ack(ack) => {
                        let at = (ack.incarnation, ack.durable);
                        let before = self.collector.durable.get(&ack.incarnation);
                        let before = before.map_or(0, |(sequence, _)| *sequence);
                        for sequence in before + 1..=ack.durable {
                            let batch = (ack.incarnation, sequence);
                            self.figures.durable_at.entry(batch).or_insert(now);
                        }
                        let hash = self.collector.hashes[&at];
                        self.collector
                            .durable
                            .insert(ack.incarnation, (ack.durable, hash));
                    }
                    Message::Grant(grant) => {
                        self.figures.pauses += u64::from(grant.pause_millis > 0);
                    }
                    _ => {}
                }
                let at = now.plus_millis(DELAY);
                self.agents[link.agent].inbox.push_back((at, message));
            }
        }
    }

    fn drive(&mut self, now: Timestamp, index: usize) {
        let agent = &mut self.agents[index];
        if agent.engine.poll_timeout().is_some_and(|at| at <= now) {
            agent.engine.handle_tick(now).expect("a good disk");
            let status = agent.engine.status();
            let batch = (status.incarnation, status.sequence);
            if let Entry::Vacant(vacant) = self.sealed_at.entry(batch) {
                vacant.insert(now);
                agent.count();
            }
        }
        if agent.engine.connect_at().is_some_and(|at| at <= now) && agent.session.is_none() {
            agent.engine.handle_connecting(now);
            agent.attempt = Some((0, now));
        }
        if let Some((packets, at)) = agent.attempt
            && at <= now
        {
            if !self.up && index >= STEADY {
                // Nobody answers: after the time for an attempt the shell gives up.
                agent.attempt = Some((packets, at.plus_millis(9_000)));
                if packets > 0 || at.plus_millis(9_000) <= now {
                    agent.attempt = None;
                }
                agent.attempt = agent.attempt.map(|(n, at)| (n + 1, at));
                if agent.attempt.is_none() {
                    let random = now.millis().unsigned_abs() ^ ((index as u64) << 40);
                    let mixed = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let jitter = if self.together {
                        0
                    } else {
                        mixed ^ (mixed >> 29)
                    };
                    agent.engine.handle_disconnected(now, jitter, "no answer");
                }
            } else if self.collector.admission.admit(now.millis().unsigned_abs()) {
                agent.attempt = None;
                agent.connects_at = Some(now.plus_millis(4 * DELAY));
                let second = now.millis_since(BEGIN) / 1000;
                *self
                    .figures
                    .connections_in_second
                    .entry(second)
                    .or_default() += 1;
            } else {
                // QUIC repeats its first packet after 0.3 s, 0.6 s, 1.2 s …
                let wait = 300i64 << packets.min(5);
                agent.attempt = Some((packets + 1, now.plus_millis(wait)));
            }
        }
        if agent.connects_at.is_some_and(|at| at <= now) {
            agent.connects_at = None;
            let id = self.collector.accept(now, index, &agent.name);
            agent.session = Some(id);
            let hello = Message::Hello(agent.engine.handle_connected(now));
            let link = self.collector.links.get_mut(&id).expect("new");
            link.arriving.push_back((now.plus_millis(DELAY), hello));
        }
        while agent.inbox.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, message)) = agent.inbox.pop_front()
        {
            agent
                .engine
                .handle_message(now, message)
                .expect("a good disk");
        }
        let Some(id) = agent.session else { return };
        let link = self.collector.links.get_mut(&id).expect("open");
        while let Some(message) = agent.engine.poll_transmit(now).expect("a good disk") {
            link.arriving.push_back((now.plus_millis(DELAY), message));
        }
        assert_eq!(agent.engine.poll_disconnect(), None);
    }

    /// Runs in steps until `end`, or until everybody has drained.
    fn run(&mut self, from: Timestamp, mut end: Timestamp) -> Timestamp {
        let mut now = from;
        while now < end {
            self.step(now);
            let looks = now.millis() % (50 * STEP) == 0 && self.figures.drained_at.is_none();
            let behind = |agent: &Agent| agent.engine.spool_status().batches > 1;
            if looks && !self.agents.iter().any(behind) {
                self.figures.drained_at = Some(now);
                // One more window, to see that it passes as it should.
                end = end.min(now.plus_millis(WINDOW + 7_000));
            }
            now = now.plus_millis(STEP);
        }
        now
    }
}

/// What came out of one return.
struct Outcome {
    peak: u64,
    fresh_max: i64,
    drained: i64,
}

fn come_back(together: bool) -> Outcome {
    let mut random = Random::new(11);
    let mut fleet = Fleet {
        agents: (0..AGENTS).map(|n| Agent::new(n, &mut random)).collect(),
        collector: Collector::new(),
        figures: Figures::default(),
        sealed_at: BTreeMap::new(),
        up: false,
        together,
    };
    let mut now = BEGIN;
    // The next windows end in the middle of the return.
    while now < BEGIN.plus_millis(BACKLOG * WINDOW + WINDOW - 1_000) {
        fleet.step(now);
        now = now.plus_millis(250);
    }
    fleet.up = true;
    fleet.figures.connections_in_second.clear();
    let back = now;
    for agent in fleet.agents.iter_mut().skip(STEADY).filter(|_| together) {
        if agent.attempt.is_none() {
            agent.engine.handle_connecting(now);
        }
        agent.attempt = Some((0, now));
    }
    now = fleet.run(now, now.plus_millis(90_000));
    let steady: Vec<Incarnation> = fleet.agents[..STEADY]
        .iter()
        .map(|agent| agent.engine.status().incarnation)
        .collect();
    let figures = &fleet.figures;
    let fresh = fleet.sealed_at.iter().filter(|((life, _), at)| {
        steady.contains(life) && **at >= back && **at < now.plus_millis(-5_000)
    });
    let waits = fresh.map(|(batch, at)| {
        let durable = figures.durable_at.get(batch).copied();
        durable.expect("acknowledged").millis_since(*at)
    });
    for (batch, at) in &fleet.sealed_at {
        if *at < back {
            assert!(
                figures.durable_at.contains_key(batch),
                "{batch:?} has arrived"
            );
        }
    }
    let connected: u64 = figures.connections_in_second.values().sum();
    let peak = figures.connections_in_second.values().max().copied();
    let drained = figures.drained_at.expect("everybody drains");
    let outcome = Outcome {
        peak: peak.expect("some"),
        fresh_max: waits.max().expect("some"),
        drained: drained.millis_since(back),
    };
    #[expect(
        clippy::print_stderr,
        reason = "figures for who reads the test's output"
    )]
    {
        eprintln!(
            "{connected} connections, at most {} in a second; queue at most {} KiB, held {} KiB; \
         {} pauses; a fresh window waited {} ms at most; drained after {} ms",
            outcome.peak,
            figures.queue_max >> 10,
            figures.held_max >> 10,
            figures.pauses,
            outcome.fresh_max,
            outcome.drained,
        );
    }
    assert_eq!(connected, (AGENTS - STEADY) as u64, "once each");
    assert!(figures.queue_max <= QUEUE_BYTES + share::QUOTA_BYTES);
    // What is on its way is bounded by the windows, not by the backlog.
    let window = usize::try_from(share::WINDOW_BYTES_MIN).expect("small") + (64 << 10);
    assert!(figures.held_max <= QUEUE_BYTES + AGENTS * window);
    outcome
}

#[test]
fn a_fleet_that_comes_back_is_spread_and_fresh_windows_pass() {
    let outcome = come_back(false);
    assert!(outcome.peak <= 40, "{} in a second", outcome.peak);
    assert!(outcome.fresh_max <= 1_000, "{} ms", outcome.fresh_max);
    // The longest wait between two attempts, and the time of one of them.
    assert!(outcome.drained <= 45_000, "{} ms", outcome.drained);
}

#[test]
fn even_a_fleet_that_comes_back_in_the_same_moment_does_not_drown_the_collector() {
    let outcome = come_back(true);
    // The burst, and what comes in for each second.
    assert!(outcome.peak <= 300, "{} in a second", outcome.peak);
    assert!(outcome.fresh_max <= 5_000, "{} ms", outcome.fresh_max);
    assert!(outcome.drained <= 45_000, "{} ms", outcome.drained);
}
