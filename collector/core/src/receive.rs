//! The collector's side of one connection: who is it, where does it go on, what may be
//! acknowledged.
//!
//! ```text
//! handle_message(hello) ─► poll_query ─► (the intake answers) ─► handle_progress ─► welcome
//! handle_message(batch) ─► take_pending ─► (the journal commits) ─► handle_durable ─► ack
//! ```
//!
//! Rules:
//! - The hello names the agent of the certificate, and the policy knows that agent.
//! - Batches and tombstones of one incarnation come without a hole. The first of a connection
//!   may be any that the agent holds and the collector can go on from: what comes again is
//!   passed over by the fold.
//! - Every batch is journaled whole, with the digest of the policy and a verdict per row.
//!   Nothing in a row can stop the chain behind it.
//! - An acknowledgement needs a [`Durable`], which only a commit of the journal makes.
//! - What is not acknowledged is bounded in batches and in bytes. An agent that sends more
//!   breaks the protocol. Within that, [`share`] says how much of it an agent is told to use;
//!   a window that becomes narrower is advice, because what is on its way cannot be called
//!   back.

mod chain;
mod check;
mod error;
mod hello;
pub mod share;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tollgate_common::limits::{FRAME_BYTES_MAX, HELD_INCARNATIONS_MAX};
use tollgate_common::wire::{Ack, GRANT_VERSION, Message, Refuse, RefuseCode};
use tollgate_common::{AgentId, Batch, BatchSeq, Incarnation, Lineage, Timestamp, Tombstone};

use crate::entry::codec::EntryEncoder;
use crate::entry::{Entry, Missing, ReceivedBatch};
use crate::fold::intake::{HASHES_KEPT, ProgressQuery};
use crate::journal::group::{Durable, Pending, Token};
use crate::policy::Policy;

pub use check::VALUE_MAX;
pub use error::SessionError;

use chain::Chain;
use check::{check_remembered, check_values};
use share::Offer;
use window::Window;

/// Most batches on their way that a collector may allow: half of the hashes that the intake
/// keeps, so that what two connections of one agent send twice is always known for a copy.
pub const WINDOW_BATCHES_MAX: u32 = 256;
const _: () = assert!(WINDOW_BATCHES_MAX as usize * 2 <= HASHES_KEPT);
/// Most incarnations of one connection.
const CHAINS_MAX: usize = HELD_INCARNATIONS_MAX + 1024;

/// What holds for every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The journal's life.
    pub lineage: Lineage,
    /// Most batches without acknowledgement, 1 to [`WINDOW_BATCHES_MAX`]; what is outside is
    /// brought inside.
    pub window_batches: u32,
    /// Most frame bytes without acknowledgement, at least 1. One frame more is tolerated,
    /// because an agent may always have one batch on its way.
    pub window_bytes: u64,
    /// How long the hello may take, in milliseconds.
    pub hello_timeout_millis: i64,
}

/// What a session uses for a message and does not own: one set serves many sessions.
pub struct Desk<'a> {
    /// The policy in force.
    pub policy: &'a Policy,
    /// Encodes journal entries.
    pub encoder: &'a mut EntryEncoder,
}

/// An entry on its way into the journal.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    number: u64,
    committed: bool,
    /// The batch to acknowledge; `None` for missing ranges.
    batch: Option<(Incarnation, u64)>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitHello { until: Timestamp },
    AwaitProgress { version: u8, now: Timestamp },
    Open { version: u8 },
    Closed,
}

/// The collector's side of one connection.
#[derive(Debug)]
pub struct Session {
    id: u64,
    identity: AgentId,
    config: SessionConfig,
    state: State,
    query: Option<ProgressQuery>,
    /// What the agent holds, until the answer of the intake has come.
    held: Vec<(Incarnation, u64)>,
    chains: BTreeMap<Incarnation, Chain>,
    /// Lives of the agent that the intake knows and of which nothing is held, with the end of
    /// their prefix.
    known: BTreeMap<Incarnation, u64>,
    pending: Vec<Pending>,
    in_flight: VecDeque<InFlight>,
    batches_in_flight: u32,
    bytes_in_flight: u64,
    next_number: u64,
    acks: BTreeMap<Incarnation, u64>,
    window: Window,
    outgoing: VecDeque<Message>,
    clock_offset_millis: Option<i64>,
}

impl Session {
    /// The session of a connection whose certificate names `identity`. `id` tells sessions
    /// apart and is not 0.
    pub fn new(id: u64, identity: AgentId, config: SessionConfig, now: Timestamp) -> Self {
        let config = SessionConfig {
            window_batches: config.window_batches.clamp(1, WINDOW_BATCHES_MAX),
            window_bytes: config.window_bytes.max(1),
            ..config
        };
        let until = now.plus_millis(config.hello_timeout_millis);
        Self {
            id,
            identity,
            config,
            state: State::AwaitHello { until },
            query: None,
            held: Vec::new(),
            chains: BTreeMap::new(),
            known: BTreeMap::new(),
            pending: Vec::new(),
            in_flight: VecDeque::new(),
            batches_in_flight: 0,
            bytes_in_flight: 0,
            next_number: 1,
            acks: BTreeMap::new(),
            window: Window::new(config.window_batches, config.window_bytes, now),
            outgoing: VecDeque::new(),
            clock_offset_millis: None,
        }
    }

    /// The agent's clock less ours when its hello arrived, which includes the way of the hello.
    pub fn clock_offset_millis(&self) -> Option<i64> {
        self.clock_offset_millis
    }

    /// The number by which the session is told from others.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The agent that the certificate names.
    pub fn identity(&self) -> &AgentId {
        &self.identity
    }

    /// True once the session has refused or was closed; what [`Session::poll_transmit`] still
    /// has is sent, then the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// True between the welcome and the end.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Batches that are not acknowledged.
    pub fn batches_in_flight(&self) -> u32 {
        self.batches_in_flight
    }

    /// Takes a message whose frame had `frame_bytes`. After an error the session is closed,
    /// and the agent is told why.
    pub fn handle_message(
        &mut self,
        now: Timestamp,
        message: Message,
        frame_bytes: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        let result = self.take_message(now, message, frame_bytes, desk);
        if let Err(error) = &result {
            self.refuse(error.code(), error.to_string());
        }
        result
    }

    fn take_message(
        &mut self,
        now: Timestamp,
        message: Message,
        frame_bytes: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        match (self.state, message) {
            (State::AwaitHello { .. }, Message::Hello(hello)) => {
                self.take_hello(now, hello, desk.policy)
            }
            (State::Open { .. }, Message::Batch(batch)) => {
                self.take_batch(batch, frame_bytes, desk)
            }
            (State::Open { .. }, Message::Tombstone(tombstone)) => {
                self.take_tombstone(tombstone, frame_bytes, desk)
            }
            // What was on its way when the session ended.
            (State::Closed, _) => Ok(()),
            (_, other) => Err(SessionError::Protocol(format!(
                "a {} out of turn",
                other.kind()
            ))),
        }
    }

    fn check_identity(&self, named: &AgentId, message: &'static str) -> Result<(), SessionError> {
        if *named == self.identity {
            return Ok(());
        }
        Err(SessionError::Identity {
            certificate: self.identity.clone(),
            named: named.clone(),
            message,
        })
    }

    fn take_batch(
        &mut self,
        batch: Batch,
        frame_bytes: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        self.check_identity(&batch.agent, "batch")?;
        check_values(&batch)?;
        let (incarnation, sequence) = (batch.incarnation, batch.sequence);
        self.admit(incarnation, sequence, desk)?;
        let verdicts = desk.policy.verdicts(&self.identity, &batch);
        let received = ReceivedBatch {
            batch,
            policy: desk.policy.digest(),
            verdicts,
        };
        let entry = Entry::Batch(Arc::new(received));
        self.stage(
            &entry,
            Some((incarnation, sequence.get())),
            frame_bytes,
            desk,
        )
    }

    fn take_tombstone(
        &mut self,
        tombstone: Tombstone,
        frame_bytes: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        self.check_identity(&tombstone.agent, "tombstone")?;
        check_remembered(&tombstone)?;
        let at = (tombstone.incarnation, tombstone.sequence.get());
        self.admit(tombstone.incarnation, tombstone.sequence, desk)?;
        self.stage(&Entry::Tombstone(tombstone), Some(at), frame_bytes, desk)
    }

    /// Checks that a batch is the next of its chain and moves the chain on.
    fn admit(
        &mut self,
        incarnation: Incarnation,
        sequence: BatchSeq,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        let number = sequence.get();
        let chain = self.chains.get(&incarnation).copied();
        let chain = match chain {
            Some(chain) => chain,
            // A life that began after the hello, or of which nothing was held any more: what
            // lies before its first batch is gone.
            None if self.chains.len() >= CHAINS_MAX => {
                return Err(SessionError::Protocol(
                    "too many incarnations in one connection".to_owned(),
                ));
            }
            None => {
                let known = self.known.get(&incarnation).copied().unwrap_or(0);
                let range = BatchSeq::new(known.saturating_add(1)).zip(BatchSeq::new(number - 1));
                if let Some((from, to)) = range.filter(|(from, to)| from <= to) {
                    let missing = Missing {
                        agent: self.identity.clone(),
                        incarnation,
                        from,
                        to,
                    };
                    self.stage(&Entry::Missing(missing), None, 0, desk)?;
                }
                Chain::within(number, number)
            }
        };
        self.chains
            .insert(incarnation, chain.after(incarnation, number)?);
        Ok(())
    }

    /// Puts an entry on its way, within the window.
    fn stage(
        &mut self,
        entry: &Entry,
        batch: Option<(Incarnation, u64)>,
        frame_bytes: usize,
        desk: &mut Desk<'_>,
    ) -> Result<(), SessionError> {
        let bytes = frame_bytes as u64;
        if batch.is_some() {
            if self.batches_in_flight >= self.config.window_batches {
                let window = self.config.window_batches;
                return Err(SessionError::Protocol(format!(
                    "more than {window} batches without acknowledgement"
                )));
            }
            // Frames and records of the same batch differ in length, and an agent that is
            // within its window may add one batch.
            let bytes_max = self
                .config
                .window_bytes
                .saturating_mul(2)
                .saturating_add(FRAME_BYTES_MAX as u64);
            if self.bytes_in_flight.saturating_add(bytes) > bytes_max {
                let window = self.config.window_bytes;
                return Err(SessionError::Protocol(format!(
                    "far more than {window} bytes without acknowledgement"
                )));
            }
            self.batches_in_flight += 1;
            self.bytes_in_flight += bytes;
        }
        let encoded = desk.encoder.encode(entry)?;
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.push_back(InFlight {
            number,
            committed: false,
            batch,
            bytes,
        });
        self.pending.push(Pending {
            token: Token {
                session: self.id,
                number,
            },
            entry: encoded,
        });
        Ok(())
    }

    /// Takes the session's share at present. The welcome tells it; later the agent is told only
    /// of what makes a difference: half as much, twice as much, all there is, or a pause when the
    /// last one is over. Agents that speak an older version keep the window of their welcome.
    pub fn handle_offer(&mut self, now: Timestamp, offer: Offer) {
        match self.state {
            State::AwaitHello { .. } | State::AwaitProgress { .. } => self.window.welcome(offer),
            State::Open { version } if version >= GRANT_VERSION => {
                let grant = self.window.change(now, offer);
                self.outgoing.extend(grant.map(Message::Grant));
            }
            State::Open { .. } | State::Closed => {}
        }
    }

    /// The entries to append to the journal, in this order.
    pub fn take_pending(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending)
    }

    /// Takes the proof that an entry of this session is durable. What is contiguous is
    /// acknowledged; proofs may come in any order.
    pub fn handle_durable(&mut self, durable: &Durable) {
        let token = durable.token();
        if token.session != self.id {
            return;
        }
        if let Ok(index) = self
            .in_flight
            .binary_search_by_key(&token.number, |entry| entry.number)
        {
            self.in_flight[index].committed = true;
        }
        while let Some(entry) = self.in_flight.pop_front_if(|entry| entry.committed) {
            let Some((incarnation, sequence)) = entry.batch else {
                continue;
            };
            self.batches_in_flight -= 1;
            self.bytes_in_flight -= entry.bytes;
            // A connection that began below what was durable acknowledges what it has carried
            // itself: the agent counts by its own chain.
            if self.state != State::Closed {
                self.acks.insert(incarnation, sequence);
            }
        }
    }

    /// The next message to send. Acknowledgements are joined until they are asked for.
    pub fn poll_transmit(&mut self) -> Option<Message> {
        if let Some(message) = self.outgoing.pop_front() {
            return Some(message);
        }
        let (incarnation, durable) = self.acks.pop_first()?;
        Some(Message::Ack(Ack {
            incarnation,
            durable,
            releasable: durable,
        }))
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::AwaitHello { until } => Some(until),
            State::AwaitProgress { .. } | State::Open { .. } | State::Closed => None,
        }
    }

    /// Ends a connection on which nobody says hello.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), SessionError> {
        if self.poll_timeout().is_none_or(|until| now < until) {
            return Ok(());
        }
        let error = SessionError::HelloTimeout(self.config.hello_timeout_millis);
        self.refuse(error.code(), error.to_string());
        Err(error)
    }

    /// Tells the agent why, and ends the session. Acknowledgements that are due go first; what
    /// is in the journal by later proofs is found out by the next hello.
    pub fn refuse(&mut self, code: RefuseCode, reason: String) {
        if self.state == State::Closed {
            return;
        }
        while let Some((incarnation, durable)) = self.acks.pop_first() {
            self.outgoing.push_back(Message::Ack(Ack {
                incarnation,
                durable,
                releasable: durable,
            }));
        }
        self.outgoing
            .push_back(Message::Refuse(Refuse { code, reason }));
        self.state = State::Closed;
        self.query = None;
    }
}

#[cfg(test)]
mod tests;
