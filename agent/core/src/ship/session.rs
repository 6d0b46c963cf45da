//! One connection, from the welcome on.

use std::collections::{BTreeMap, VecDeque};

use tollgate_common::limits::PAUSE_MILLIS_MAX;
use tollgate_common::storage::Storage;
use tollgate_common::wire::{Ack, Grant, Message, Resume, Welcome};
use tollgate_common::{BatchHash, Incarnation, Timestamp};

use super::Acknowledged;
use crate::spool::{Cursor, Spool, SpoolError};

/// Most batches in flight, whatever the collector allows; bounds this side's memory.
const WINDOW_BATCHES_MAX: u32 = 65_536;
/// The window right after a welcome, in batches. It doubles with every window that is
/// acknowledged, so that a fleet that comes back with its backlog does not fill the
/// collector's queue in the first moment; a single agent is at full speed after a few round
/// trips.
const START_BATCHES: usize = 4;
/// The same in bytes.
const START_BYTES: u64 = 256 << 10;

/// A batch that is sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    incarnation: Incarnation,
    sequence: u64,
    bytes: u64,
}

/// How much may be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    batches: usize,
    bytes: u64,
}

impl Window {
    fn new(batches: u32, bytes: u64) -> Self {
        let batches = batches.clamp(1, WINDOW_BATCHES_MAX);
        Self {
            batches: usize::try_from(batches).unwrap_or(usize::MAX),
            bytes,
        }
    }

    fn within(self, other: Self) -> Self {
        Self {
            batches: self.batches.min(other.batches),
            bytes: self.bytes.min(other.bytes),
        }
    }
}

/// What is sent and acknowledged on one connection.
#[derive(Debug)]
pub(super) struct Session {
    /// What the collector allows.
    granted: Window,
    /// What is used of it by now; never more than `granted`.
    reached: Window,
    /// The collector wants nothing new before.
    paused_until: Option<Timestamp>,
    cursor: Cursor,
    /// The last batch of each incarnation that the collector proved to have, then the last
    /// that was sent to it. Acknowledgements count up to there.
    known: BTreeMap<Incarnation, u64>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// When an acknowledgement is overdue.
    deadline: Option<Timestamp>,
    skipped: u64,
    /// The version of the wire format that was agreed upon.
    version: u8,
    /// The next batch needs this newer one: nothing goes out any more.
    needed: Option<u8>,
}

impl Session {
    /// Compares where the collector stands with what the spool holds.
    pub(super) fn resume<S: Storage>(
        welcome: &Welcome,
        spool: &Spool<S>,
    ) -> Result<(Self, Vec<Acknowledged>), SpoolError> {
        let held = spool.held();
        let resumes: BTreeMap<Incarnation, &Resume> = welcome
            .resume
            .iter()
            .map(|resume| (resume.incarnation, resume))
            .collect();
        let mut known = BTreeMap::new();
        let mut released = Vec::new();
        let mut skipped: u64 = 0;
        for held in &held {
            // What lies before the first batch that is held was released once. Some of it may
            // still be read, but the hello did not offer it, and a collector that was set back
            // to a backup has declared it lost by now.
            let before = held.first.get() - 1;
            known.insert(held.incarnation, before);
            let Some(resume) = resumes.get(&held.incarnation) else {
                continue;
            };
            if !is_proven(resume, spool)? {
                continue;
            }
            known.insert(held.incarnation, resume.durable.max(before));
            skipped = skipped.saturating_add(resume.durable.saturating_sub(before));
            released.push(Acknowledged {
                incarnation: held.incarnation,
                releasable: resume.releasable.min(resume.durable),
            });
        }
        let cursor = spool.cursor_past(|incarnation| known.get(&incarnation).copied().unwrap_or(0));
        let granted = Window::new(welcome.window_batches, welcome.window_bytes);
        let start = Window {
            batches: START_BATCHES,
            bytes: START_BYTES,
        };
        let session = Self {
            granted,
            reached: start.within(granted),
            paused_until: None,
            cursor,
            known,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            deadline: None,
            skipped,
            version: welcome.version,
            needed: None,
        };
        Ok((session, released))
    }

    /// The next batch that the collector does not have, if its window has room. One batch is
    /// always allowed, so that a window smaller than a batch does not stop everything.
    pub(super) fn next<S: Storage>(
        &mut self,
        spool: &Spool<S>,
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Option<Message>, SpoolError> {
        if self.needed.is_some() || self.paused_until.is_some_and(|until| now < until) {
            return Ok(None);
        }
        self.paused_until = None;
        let full = self.in_flight.len() >= self.reached.batches
            || self.in_flight_bytes >= self.reached.bytes;
        if full && !self.in_flight.is_empty() {
            return Ok(None);
        }
        while let Some(shipment) = spool.next(&mut self.cursor)? {
            let known = self.known.entry(shipment.incarnation).or_insert(0);
            if shipment.sequence <= *known {
                continue;
            }
            let needed = shipment.message.version();
            if needed > self.version {
                self.needed = Some(needed);
                return Ok(None);
            }
            *known = shipment.sequence;
            self.in_flight.push_back(InFlight {
                incarnation: shipment.incarnation,
                sequence: shipment.sequence,
                bytes: shipment.bytes,
            });
            self.in_flight_bytes = self.in_flight_bytes.saturating_add(shipment.bytes);
            self.deadline.get_or_insert(deadline);
            return Ok(Some(shipment.message));
        }
        Ok(None)
    }

    /// Takes a cumulative acknowledgement, up to what has been sent.
    pub(super) fn handle_ack(&mut self, ack: Ack, deadline: Timestamp) -> Option<Acknowledged> {
        let known = self.known.get(&ack.incarnation).copied()?;
        let durable = ack.durable.min(known);
        let before = self.in_flight.len();
        let mut acknowledged = 0u64;
        self.in_flight.retain(|sent| {
            let done = sent.incarnation == ack.incarnation && sent.sequence <= durable;
            if done {
                acknowledged = acknowledged.saturating_add(sent.bytes);
            }
            !done
        });
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(acknowledged);
        let grown = Window {
            batches: self.reached.batches + (before - self.in_flight.len()),
            bytes: self.reached.bytes.saturating_add(acknowledged),
        };
        self.reached = grown.within(self.granted);
        if self.in_flight.is_empty() {
            self.deadline = None;
        } else if self.in_flight.len() < before {
            self.deadline = Some(deadline);
        }
        Some(Acknowledged {
            incarnation: ack.incarnation,
            releasable: ack.releasable.min(durable),
        })
    }

    /// Takes another window, and a pause if there is one. What the pause delays is not overdue
    /// before it is over.
    pub(super) fn handle_grant(&mut self, now: Timestamp, grant: Grant, answer_millis: u64) {
        self.granted = Window::new(grant.window_batches, grant.window_bytes);
        self.reached = self.reached.within(self.granted);
        let pause = grant.pause_millis.min(PAUSE_MILLIS_MAX);
        self.paused_until = (pause > 0).then(|| now.plus_millis(i64::from(pause)));
        let answer = answer_millis.saturating_add(u64::from(pause));
        let answer = i64::try_from(answer).unwrap_or(i64::MAX);
        self.put_off_deadline(now.plus_millis(answer));
    }

    /// The version that was agreed upon, and the newer one that the next batch needs, as soon as
    /// everything before it is acknowledged.
    pub(super) fn stuck(&self) -> Option<(u8, u8)> {
        let needed = self.needed.filter(|_| self.in_flight.is_empty())?;
        Some((self.version, needed))
    }

    pub(super) fn put_off_deadline(&mut self, deadline: Timestamp) {
        self.deadline = self.deadline.map(|at| at.max(deadline));
    }

    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        self.paused_until
    }

    /// Batches and bytes that may be on their way.
    pub(super) fn window(&self) -> (u64, u64) {
        (self.reached.batches as u64, self.reached.bytes)
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// Brings near again what a clock gone back has moved far away.
    pub(super) fn limit_times(&mut self, now: Timestamp, answer_millis: u64) {
        let pause = now.plus_millis(i64::from(PAUSE_MILLIS_MAX));
        self.paused_until = self
            .paused_until
            .filter(|until| now < *until)
            .map(|until| until.min(pause));
        let answer = answer_millis.saturating_add(u64::from(PAUSE_MILLIS_MAX));
        let latest = now.plus_millis(i64::try_from(answer).unwrap_or(i64::MAX));
        self.deadline = self.deadline.map(|deadline| deadline.min(latest));
    }

    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.len() as u64
    }

    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// True if the collector's claim agrees with what the spool knows: it has nothing, or its
/// hash of the last batch it has is ours. A claim beyond what is held, or with a hash that is
/// unknown or another, proves nothing.
fn is_proven<S: Storage>(resume: &Resume, spool: &Spool<S>) -> Result<bool, SpoolError> {
    if resume.durable == 0 {
        return Ok(true);
    }
    if resume.durable_hash == BatchHash::ZERO {
        return Ok(false);
    }
    let ours = spool.hash_of(resume.incarnation, resume.durable)?;
    Ok(ours == Some(resume.durable_hash))
}
