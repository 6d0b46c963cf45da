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

mod endpoints;
pub mod pace;
mod session;
mod status;
#[cfg(test)]
mod tests;

use tollgate_common::storage::Storage;
use tollgate_common::wire::{Hello, Message, Refuse, VERSION, VERSION_MIN};
use tollgate_common::{AgentId, Incarnation, Timestamp};

use crate::spool::{Spool, SpoolError};
use endpoints::{End, Endpoints};
pub use endpoints::{EndpointOrder, EndpointStatus, EndpointsConfig};
use session::Session;
pub use status::{Clock, Connection, ShipStatus};

/// How a shipper behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipConfig {
    /// Whom to connect to, and when.
    pub endpoints: EndpointsConfig,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_millis: u64,
    /// How long a welcome or an acknowledgement that is due may take, in milliseconds.
    pub answer_timeout_millis: u64,
    /// A clock that is certainly further than this from the collector's is worth a warning,
    /// in milliseconds.
    pub clock_warn_millis: u64,
}

impl Default for ShipConfig {
    fn default() -> Self {
        Self {
            endpoints: EndpointsConfig::default(),
            connect_timeout_millis: 10_000,
            answer_timeout_millis: 30_000,
            clock_warn_millis: 2_000,
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
    /// The next batch needs a newer version of the wire format than the collector speaks.
    #[error(
        "collector speaks version {spoken} of the wire format, and the next batch needs version \
         {needed}: upgrade the collector"
    )]
    Version {
        /// The version that was agreed upon.
        spoken: u8,
        /// The oldest version that can say what the batch says.
        needed: u8,
    },
    /// No answer in time.
    #[error("collector did not answer: {0} is overdue")]
    Timeout(&'static str),
    /// The agent leaves on its own accord, when nothing is on its way any more.
    #[error("leaving the connection: {0}")]
    Leaving(&'static str),
}

enum State {
    Waiting,
    Connecting { deadline: Timestamp },
    Greeting { deadline: Timestamp },
    Shipping(Box<Session>),
}

/// Connects again and again, and holds the session while there is one.
pub(crate) struct Shipper {
    config: ShipConfig,
    state: State,
    endpoints: Endpoints,
    /// Random numbers between those that come from outside.
    entropy: u64,
    /// When the hello went out, by this host's clock.
    greeted_at: Timestamp,
    disconnect: Option<Disconnect>,
    /// The shell has been told to disconnect.
    announced: bool,
    /// The connection that ends was refused for a reason that stays.
    refused: bool,
    /// The connection is given up as soon as nothing is on its way, and why.
    leaving: Option<&'static str>,
    counts: status::Counts,
}

impl Shipper {
    pub(crate) fn new(config: ShipConfig, now: Timestamp, random: u64) -> Self {
        Self {
            endpoints: Endpoints::new(config.endpoints.clone(), now, random),
            config,
            state: State::Waiting,
            entropy: random,
            greeted_at: now,
            disconnect: None,
            announced: false,
            refused: false,
            leaving: None,
            counts: status::Counts::default(),
        }
    }

    fn after(now: Timestamp, millis: u64) -> Timestamp {
        now.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// The next of a sequence of random numbers (SplitMix64, Steele et al. 2014).
    fn random(&mut self) -> u64 {
        self.entropy = self.entropy.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.entropy;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn connect_at(&self) -> Option<Timestamp> {
        match self.state {
            State::Waiting => self.endpoints.ready_at(),
            _ => None,
        }
    }

    /// An attempt begins; gives the endpoint that is to be dialled.
    pub(crate) fn handle_connecting(&mut self, now: Timestamp) -> usize {
        let deadline = Self::after(now, self.config.connect_timeout_millis);
        self.state = State::Connecting { deadline };
        self.endpoints.take(now)
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
        self.greeted_at = now;
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
        self.entropy ^= random;
        self.announced = false;
        self.leaving = None;
        let disconnect = self.disconnect.take();
        let end = match &disconnect {
            Some(Disconnect::Leaving(_)) => End::Left,
            _ if self.refused => End::Refused,
            _ => End::Failed,
        };
        let reason = disconnect.map_or_else(|| reason.to_owned(), |why| why.to_string());
        self.endpoints.handle_end(now, random, end, &reason);
        self.counts.last_error = Some(reason);
        self.refused = false;
        self.state = State::Waiting;
    }

    fn end(&mut self, why: Disconnect) {
        self.refused |= matches!(why, Disconnect::Protocol(_) | Disconnect::Version { .. });
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
                let warn = self.config.clock_warn_millis;
                let clock = Clock::estimate(self.greeted_at, welcome.now, now, warn);
                self.counts.welcomed(welcome.lineage, clock);
                let random = self.random();
                self.endpoints.handle_welcome(now, random);
                let (session, released) = Session::resume(&welcome, spool)?;
                self.counts.skipped = self.counts.skipped.saturating_add(session.skipped());
                self.state = State::Shipping(Box::new(session));
                Ok(released)
            }
            (State::Shipping(session), Message::Ack(ack)) => {
                self.counts.acks = self.counts.acks.saturating_add(1);
                let timeout = self.config.answer_timeout_millis;
                let released = session.handle_ack(ack, Self::after(now, timeout));
                Ok(released.into_iter().collect())
            }
            (State::Shipping(session), Message::Grant(grant)) => {
                self.counts.grants = self.counts.grants.saturating_add(1);
                session.handle_grant(now, grant, self.config.answer_timeout_millis);
                Ok(Vec::new())
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

    /// What was sent is on the move, or the collector has taken some of it: an answer may take
    /// as long as ever from now on. So a slow path is not taken for a dead collector.
    pub(crate) fn handle_progress(&mut self, now: Timestamp) {
        let deadline = Self::after(now, self.config.answer_timeout_millis);
        if let State::Shipping(session) = &mut self.state {
            session.put_off_deadline(deadline);
        }
    }

    /// Gives up the connection as soon as nothing is on its way, and connects again at once.
    /// Without one there is nothing to do.
    pub(crate) fn handle_renew(&mut self, why: &'static str) {
        if !matches!(self.state, State::Waiting) {
            self.leaving.get_or_insert(why);
        }
    }

    /// Takes another configuration; what was known of the endpoints is forgotten.
    pub(crate) fn handle_config(&mut self, now: Timestamp, config: ShipConfig) {
        let random = self.random();
        self.endpoints = Endpoints::new(config.endpoints.clone(), now, random);
        self.config = config;
        self.handle_renew("the configuration has changed");
    }

    /// A better endpoint that the shell is to look at; said once, and answered with
    /// [`Shipper::handle_probed`].
    pub(crate) fn poll_probe(&mut self, now: Timestamp) -> Option<usize> {
        if self.disconnect.is_some() || !matches!(self.state, State::Shipping(_)) {
            return None;
        }
        let random = self.random();
        self.endpoints.poll_probe(now, random)
    }

    /// What the look at a better endpoint gave.
    pub(crate) fn handle_probed(&mut self, now: Timestamp, result: Result<(), &str>) {
        let random = self.random();
        if self.endpoints.handle_probed(now, random, result) {
            self.handle_renew("a preferred collector answers again");
        }
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
        if let Some(why) = self.leaving {
            if session.in_flight() == 0 {
                self.end(Disconnect::Leaving(why));
            }
            return Ok(None);
        }
        let deadline = Self::after(now, self.config.answer_timeout_millis);
        let message = session.next(spool, now, deadline)?;
        let stuck = session.stuck();
        if let Some((spoken, needed)) = stuck {
            self.end(Disconnect::Version { spoken, needed });
        }
        if message.is_some() {
            self.counts.sent = self.counts.sent.saturating_add(1);
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
            State::Waiting => None,
            State::Connecting { deadline } => Some((*deadline, "the connection")),
            State::Greeting { deadline } => Some((*deadline, "the welcome")),
            State::Shipping(session) => session.deadline().map(|at| (at, "an acknowledgement")),
        }
    }

    /// When something is due: an attempt, the end of a pause, a look at a better endpoint or a
    /// timeout.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        if self.disconnect.is_some() {
            return None;
        }
        let (pause, probe) = match &self.state {
            State::Shipping(session) => (session.paused_until(), self.endpoints.probe_at()),
            _ => (None, None),
        };
        let deadline = self.deadline().map(|(at, _)| at);
        [self.connect_at(), deadline, pause, probe]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends a connection whose answer is overdue, and brings times that a clock gone back has
    /// moved far away near again.
    pub(crate) fn handle_tick(&mut self, now: Timestamp) {
        let soonest = |at: Timestamp, millis: u64| at.min(Self::after(now, millis));
        let (connect, answer) = (
            self.config.connect_timeout_millis,
            self.config.answer_timeout_millis,
        );
        self.endpoints.limit(now);
        match &mut self.state {
            State::Waiting => {}
            State::Connecting { deadline } => *deadline = soonest(*deadline, connect),
            State::Greeting { deadline } => *deadline = soonest(*deadline, answer),
            State::Shipping(session) => session.limit_times(now, answer),
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
}
