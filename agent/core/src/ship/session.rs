//! One connection, from the welcome on.

use std::collections::{BTreeMap, VecDeque};

use tollgate_common::storage::Storage;
use tollgate_common::wire::{Ack, Message, Resume, Welcome};
use tollgate_common::{BatchHash, Incarnation, Timestamp};

use super::Acknowledged;
use crate::spool::{Cursor, Spool, SpoolError};

/// Most batches in flight, whatever the collector allows; bounds this side's memory.
const WINDOW_BATCHES_MAX: u32 = 65_536;

/// A batch that is sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InFlight {
    incarnation: Incarnation,
    sequence: u64,
    bytes: u64,
}

/// What is sent and acknowledged on one connection.
#[derive(Debug)]
pub(super) struct Session {
    window_batches: usize,
    window_bytes: u64,
    cursor: Cursor,
    /// The last batch of each incarnation that the collector proved to have, then the last
    /// that was sent to it. Acknowledgements count up to there.
    known: BTreeMap<Incarnation, u64>,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    /// When an acknowledgement is overdue.
    deadline: Option<Timestamp>,
    skipped: u64,
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
            let Some(resume) = resumes.get(&held.incarnation) else {
                continue;
            };
            if !is_proven(resume, spool)? {
                continue;
            }
            known.insert(held.incarnation, resume.durable);
            let before = held.first.get() - 1;
            skipped = skipped.saturating_add(resume.durable.saturating_sub(before));
            released.push(Acknowledged {
                incarnation: held.incarnation,
                releasable: resume.releasable.min(resume.durable),
            });
        }
        let cursor = spool.cursor_past(|incarnation| known.get(&incarnation).copied().unwrap_or(0));
        let batches = welcome.window_batches.clamp(1, WINDOW_BATCHES_MAX);
        let session = Self {
            window_batches: usize::try_from(batches).unwrap_or(usize::MAX),
            window_bytes: welcome.window_bytes,
            cursor,
            known,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            deadline: None,
            skipped,
        };
        Ok((session, released))
    }

    /// The next batch that the collector does not have, if its window has room. One batch is
    /// always allowed, so that a window smaller than a batch does not stop everything.
    pub(super) fn next<S: Storage>(
        &mut self,
        spool: &Spool<S>,
        deadline: Timestamp,
    ) -> Result<Option<Message>, SpoolError> {
        let full = self.in_flight.len() >= self.window_batches
            || self.in_flight_bytes >= self.window_bytes;
        if full && !self.in_flight.is_empty() {
            return Ok(None);
        }
        while let Some(shipment) = spool.next(&mut self.cursor)? {
            let known = self.known.entry(shipment.incarnation).or_insert(0);
            if shipment.sequence <= *known {
                continue;
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

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    pub(super) fn limit_deadline(&mut self, latest: Timestamp) {
        self.deadline = self.deadline.map(|deadline| deadline.min(latest));
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
