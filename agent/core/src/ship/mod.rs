//! Ship: the agent's end of a connection to a collector.
//!
//! A session begins with a hello that says what the spool holds, and a welcome that says
//! where the collector stands. From there batches go out in the order of the spool, as
//! many at a time as the collector allows, and cumulative acknowledgements come back. The
//! session trusts no acknowledgement beyond what it has sent, or what it can prove by a hash
//! that the collector has: a collector that claims more gets everything again, which its
//! dedupe makes harmless.
//!
//! Only what the spool gives out is sent, and it gives out only what is durable. What may be
//! forgotten is `Acknowledged`, which is made here and nowhere else.

mod session;
#[cfg(test)]
mod tests;

use serde::Serialize;
use tollgate_common::storage::Storage;
use tollgate_common::wire::{Hello, Message, Refuse, VERSION, VERSION_MIN};
use tollgate_common::{AgentId, Incarnation, Lineage, Timestamp};

use crate::backoff::{Backoff, BackoffConfig};
use crate::spool::{Spool, SpoolError};
use session::Session;

/// How a shipper behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShipConfig {
    /// Delays between attempts to connect.
    pub backoff: BackoffConfig,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_millis: u64,
    /// How long a welcome or an acknowledgement that is due may take, in milliseconds.
    pub answer_timeout_millis: u64,
}

impl Default for ShipConfig {
    fn default() -> Self {
        Self {
            backoff: BackoffConfig::default(),
            connect_timeout_millis: 10_000,
            answer_timeout_millis: 30_000,
        }
    }
}

/// Proof that a collector lets batches go: everything of the incarnation up to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    incarnation: Incarnation,
    releasable: u64,
}

impl Acknowledged {
    pub(crate) fn incarnation(self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn releasable(self) -> u64 {
        self.releasable
    }

    #[cfg(test)]
    pub(crate) fn for_test(incarnation: Incarnation, releasable: u64) -> Self {
        Self {
            incarnation,
            releasable,
        }
    }
}

/// Why a connection is to be closed by the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The collector refused and says why.
    #[error("collector refused ({code}): {reason}")]
    Refused {
        /// The kind of refusal.
        code: &'static str,
        /// The collector's words.
        reason: String,
    },
    /// The collector said something that has no place in the protocol.
    #[error("collector broke the protocol: {0}")]
    Protocol(&'static str),
    /// No answer in time.
    #[error("collector did not answer: {0} is overdue")]
    Timeout(&'static str),
}

/// The state of the connection, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// Waiting for the time of the next attempt.
    Waiting,
    /// An attempt is under way.
    Connecting,
    /// The hello is sent.
    Greeting,
    /// Batches may go out.
    Shipping,
}

/// What the shipper shows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShipStatus {
    /// Where the connection stands.
    pub connection: Connection,
    /// Failed attempts since the last welcome.
    pub failures: u32,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    /// Why the last connection ended.
    pub last_error: Option<String>,
    /// The journal that answered last.
    pub lineage: Option<Lineage>,
    /// The collector's clock minus this host's, at the last welcome, in milliseconds.
    pub clock_offset_millis: Option<i64>,
    /// Batches on their way.
    pub in_flight: u64,
    /// Batches and tombstones sent since the start, repetitions included.
    pub sent: u64,
    /// Batches that the collector held already when a connection was made.
    pub skipped: u64,
    /// Acknowledgements received.
    pub acks: u64,
}

enum State {
    Waiting { until: Timestamp },
    Connecting { deadline: Timestamp },
    Greeting { deadline: Timestamp },
    Shipping(Box<Session>),
}

/// Connects again and again, and holds the session while there is one.
pub(crate) struct Shipper {
    config: ShipConfig,
    state: State,
    backoff: Backoff,
    attempts: u32,
    disconnect: Option<Disconnect>,
    /// The shell has been told to disconnect.
    announced: bool,
    /// The connection that ends was refused for a reason that stays.
    refused: bool,
    status: ShipStatus,
}

impl Shipper {
    pub(crate) fn new(config: ShipConfig, now: Timestamp) -> Self {
        Self {
            config,
            state: State::Waiting { until: now },
            backoff: Backoff::new(config.backoff),
            attempts: 0,
            disconnect: None,
            announced: false,
            refused: false,
            status: ShipStatus {
                connection: Connection::Waiting,
                failures: 0,
                retry_at: Some(now),
                last_error: None,
                lineage: None,
                clock_offset_millis: None,
                in_flight: 0,
                sent: 0,
                skipped: 0,
                acks: 0,
            },
        }
    }

    fn after(now: Timestamp, millis: u64) -> Timestamp {
        now.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    pub(crate) fn connect_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting { until } => Some(until),
            _ => None,
        }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn handle_connecting(&mut self, now: Timestamp) {
        let deadline = Self::after(now, self.config.connect_timeout_millis);
        self.state = State::Connecting { deadline };
    }

    pub(crate) fn handle_connected<S: Storage>(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        spool: &Spool<S>,
    ) -> Hello {
        self.disconnect = None;
        self.announced = false;
        self.refused = false;
        let deadline = Self::after(now, self.config.answer_timeout_millis);
        self.state = State::Greeting { deadline };
        Hello {
            version_min: VERSION_MIN,
            version_max: VERSION,
            agent: agent.clone(),
            now,
            held: spool.held(),
        }
    }

    pub(crate) fn handle_disconnected(&mut self, now: Timestamp, random: u64, reason: &str) {
        self.announced = false;
        let reason = match self.disconnect.take() {
            Some(disconnect) => disconnect.to_string(),
            None => reason.to_owned(),
        };
        self.status.last_error = Some(reason);
        let delay = if self.refused {
            self.backoff.refuse(random)
        } else {
            self.backoff.fail(random)
        };
        self.refused = false;
        self.attempts = self.attempts.wrapping_add(1);
        self.state = State::Waiting {
            until: Self::after(now, delay),
        };
    }

    fn end(&mut self, why: Disconnect) {
        self.refused |= matches!(why, Disconnect::Protocol(_));
        self.disconnect.get_or_insert(why);
    }

    /// Takes a message of the collector; what may be released comes back.
    pub(crate) fn handle_message<S: Storage>(
        &mut self,
        now: Timestamp,
        message: Message,
        spool: &Spool<S>,
    ) -> Result<Vec<Acknowledged>, SpoolError> {
        if self.disconnect.is_some() {
            return Ok(Vec::new());
        }
        match (&mut self.state, message) {
            (State::Greeting { .. }, Message::Welcome(welcome)) => {
                if !(VERSION_MIN..=VERSION).contains(&welcome.version) {
                    self.end(Disconnect::Protocol("welcome in a version not offered"));
                    return Ok(Vec::new());
                }
                self.status.lineage = Some(welcome.lineage);
                self.status.clock_offset_millis = Some(welcome.now.millis_since(now));
                self.backoff.succeed();
                let (session, released) = Session::resume(&welcome, spool)?;
                self.status.skipped = self.status.skipped.saturating_add(session.skipped());
                self.state = State::Shipping(Box::new(session));
                Ok(released)
            }
            (State::Shipping(session), Message::Ack(ack)) => {
                self.status.acks = self.status.acks.saturating_add(1);
                let timeout = self.config.answer_timeout_millis;
                let released = session.handle_ack(ack, Self::after(now, timeout));
                Ok(released.into_iter().collect())
            }
            (_, Message::Refuse(refuse)) => {
                self.refuse(refuse);
                Ok(Vec::new())
            }
            (_, _) => {
                self.end(Disconnect::Protocol("message out of turn"));
                Ok(Vec::new())
            }
        }
    }

    fn refuse(&mut self, refuse: Refuse) {
        self.refused = refuse.code.needs_operator();
        self.end(Disconnect::Refused {
            code: refuse.code.as_str(),
            reason: refuse.reason,
        });
    }

    /// The next message to send, as long as the collector's window has room.
    pub(crate) fn poll_transmit<S: Storage>(
        &mut self,
        now: Timestamp,
        spool: &Spool<S>,
    ) -> Result<Option<Message>, SpoolError> {
        if self.disconnect.is_some() {
            return Ok(None);
        }
        let State::Shipping(session) = &mut self.state else {
            return Ok(None);
        };
        let deadline = Self::after(now, self.config.answer_timeout_millis);
        let message = session.next(spool, deadline)?;
        if message.is_some() {
            self.status.sent = self.status.sent.saturating_add(1);
        }
        Ok(message)
    }

    /// Why the connection is to be closed; said once.
    pub(crate) fn poll_disconnect(&mut self) -> Option<Disconnect> {
        if std::mem::replace(&mut self.announced, self.disconnect.is_some()) {
            return None;
        }
        self.disconnect.clone()
    }

    fn deadline(&self) -> Option<(Timestamp, &'static str)> {
        match &self.state {
            State::Waiting { .. } => None,
            State::Connecting { deadline } => Some((*deadline, "the connection")),
            State::Greeting { deadline } => Some((*deadline, "the welcome")),
            State::Shipping(session) => session.deadline().map(|at| (at, "an acknowledgement")),
        }
    }

    /// When something is due: an attempt or a timeout.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        if self.disconnect.is_some() {
            return None;
        }
        self.connect_at()
            .or_else(|| self.deadline().map(|(at, _)| at))
    }

    /// Ends a connection whose answer is overdue, and brings times that a clock gone back has
    /// moved far away near again.
    pub(crate) fn handle_tick(&mut self, now: Timestamp) {
        let soonest = |at: Timestamp, millis: u64| at.min(Self::after(now, millis));
        let (connect, answer) = (
            self.config.connect_timeout_millis,
            self.config.answer_timeout_millis,
        );
        match &mut self.state {
            State::Waiting { until } => *until = soonest(*until, self.backoff.delay_max()),
            State::Connecting { deadline } => *deadline = soonest(*deadline, connect),
            State::Greeting { deadline } => *deadline = soonest(*deadline, answer),
            State::Shipping(session) => session.limit_deadline(Self::after(now, answer)),
        }
        if let Some((at, what)) = self.deadline()
            && at <= now
        {
            self.end(Disconnect::Timeout(what));
        }
    }

    /// True while the collector takes batches, as far as this side knows.
    pub(crate) fn is_shipping(&self) -> bool {
        self.disconnect.is_none() && matches!(self.state, State::Shipping(_))
    }

    pub(crate) fn status(&self) -> ShipStatus {
        let (connection, in_flight) = match &self.state {
            State::Waiting { .. } => (Connection::Waiting, 0),
            State::Connecting { .. } => (Connection::Connecting, 0),
            State::Greeting { .. } => (Connection::Greeting, 0),
            State::Shipping(session) => (Connection::Shipping, session.in_flight()),
        };
        ShipStatus {
            connection,
            in_flight,
            failures: self.backoff.failures(),
            retry_at: self.connect_at(),
            ..self.status.clone()
        }
    }
}
