//! The simulated collector: sessions, journal, fold and projection around the production
//! state machines, in the order in which the collector's threads work.
//!
//! Sessions put entries on their way; a group commit makes them durable some time later; the
//! fold reads what is committed, again some time later, and its effects reach the projection
//! in one transaction with the position. Between any two of these steps the process or the
//! host may go down.

use std::collections::{BTreeMap, VecDeque};

use tollgate_collector_core::closer::Closer;
use tollgate_collector_core::entry::codec::{EncodedEntry, EntryEncoder};
use tollgate_collector_core::entry::{Digest, Entry};
use tollgate_collector_core::fold::whole::Fold;
use tollgate_collector_core::journal::Epoch;
use tollgate_collector_core::journal::group::{Durable, GroupCommit, Pending, Token};
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::segment::SegmentJournal;
use tollgate_collector_core::policy::Policy;
use tollgate_collector_core::receive::{Desk, Session, SessionConfig, SessionError};
use tollgate_collector_core::snapshot::SnapshotStore;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::wire::{Decoder, Encoder, Message, VERSION_MIN};
use tollgate_common::{Incarnation, Lineage, Timestamp};

use super::agent::{Crash, brief};
use super::context::{Broken, Context};
use super::coverage::Probe;
use super::network::ConnectionId;
use super::options::Canary;
use super::projection::MemoryProjection;
use super::random::Random;
use super::workload;

mod books;
mod clerk;
mod disturb;
mod fold;
mod life;
mod restore;
mod survey;

/// How hard the wire compresses; the cheapest that goes through zstd.
const LEVEL: i32 = 1;
/// Most frame bytes of one session without acknowledgement.
const WINDOW_BYTES: u64 = 1 << 20;
/// Entries that a second receiver remembers.
const REMEMBERED: usize = 32;
/// How often closings are looked for, in milliseconds.
const CLOCK_MILLIS: i64 = 1000;
/// The same while only periods are waited for. Calendar months have to pass.
const SETTLEMENT_CLOCK_MILLIS: i64 = 6 * 3_600_000;

/// The process.
struct Process {
    group: GroupCommit<SegmentJournal<MemoryStorage>>,
    epoch: Epoch,
    fold: Fold,
    reader: Reader,
    closer: Closer,
    encoder: EntryEncoder,
    sessions: BTreeMap<ConnectionId, Link>,
    /// Entries that wait for the next commit.
    pending: Vec<Pending>,
    commit_at: Option<Timestamp>,
    fold_at: Option<Timestamp>,
    clock_at: Timestamp,
    snapshot_at: Timestamp,
    /// Faults that the disks had shown when the process started.
    faults: u64,
}

/// The collector's end of a connection.
struct Link {
    session: Session,
    encoder: Encoder,
    decoder: Decoder,
    out: Vec<u8>,
}

/// The collector.
pub struct CollectorNode {
    journal_disk: MemoryStorage,
    snapshot_disk: MemoryStorage,
    projection: MemoryProjection,
    lineage: Lineage,
    offset: i64,
    process: Option<Box<Process>>,
    start_at: Timestamp,
    armed: Option<(Crash, Timestamp)>,
    room_at: Option<Timestamp>,
    /// The folder of the catalog and the policy, as the operator left them.
    catalog: BTreeMap<String, String>,
    /// Which version that is, and which every catalog was that was ever written.
    number: u64,
    numbers: BTreeMap<Digest, u64>,
    policy: Policy,
    changes: u64,
    /// What was decided about the books, and how often something still is at last.
    acts: u64,
    acts_at_last: u32,
    delete_projection: bool,
    /// Everything up to here was acknowledged to somebody.
    acknowledged: BTreeMap<Incarnation, u64>,
    /// What a second receiver may append again.
    remembered: VecDeque<EncodedEntry>,
    /// What it received while this one went down, and appends later.
    late: Vec<(Timestamp, EncodedEntry)>,
    /// What the journal is known to hold.
    survey: survey::Survey,
    /// A backup of the journal's disk, to which it may be set back.
    backup: Option<restore::Backup>,
    /// Whether the operator says that the journal was restored.
    says_restored: bool,
    /// What restores have taken from the journal.
    torn_off: Vec<restore::TornOff>,
    /// Entries may be held back for a commit until this instant.
    reorder_until: Timestamp,
    settling: bool,
    /// Until when it is of a release that speaks version 1 of the wire format alone.
    old_until: Option<Timestamp>,
    random: Random,
}

impl CollectorNode {
    fn local(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(self.offset)
    }

    /// True while connections are answered.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// True while the collector holds this connection.
    pub fn knows(&self, id: ConnectionId) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.sessions.contains_key(&id))
    }

    /// When something is to be done.
    pub fn next_event(&self, now: Timestamp) -> Timestamp {
        let wakes = [self.armed.map(|(_, at)| at), self.room_at]
            .into_iter()
            .flatten();
        let wakes = wakes.chain(self.old_until);
        let own = match &self.process {
            None => vec![self.start_at],
            Some(process) => [
                process.commit_at,
                process.fold_at,
                Some(process.clock_at),
                self.late.iter().map(|(at, _)| *at).min(),
                Some(process.snapshot_at).filter(|_| !self.settling),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        wakes.chain(own).min().unwrap_or(now)
    }

    /// Does what is due.
    pub fn handle_time(&mut self, context: &mut Context) -> Result<(), Broken> {
        let now = context.now;
        if self.room_at.is_some_and(|at| at <= now) {
            self.room_at = None;
            self.journal_disk.set_capacity(None);
        }
        if let Some((crash, at)) = self.armed
            && at <= now
        {
            self.go_down(crash, context)?;
        }
        if self.old_until.is_some_and(|until| until <= now) {
            self.upgrade(context)?;
        }
        if self.process.is_none() && self.start_at <= now {
            self.start(context)?;
        }
        self.append_late(context);
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(self.process.as_ref().and_then(|process| process.commit_at)) {
            self.commit(context)?;
        }
        if due(self.process.as_ref().and_then(|process| process.fold_at)) {
            self.fold(context)?;
        }
        if due(self.process.as_ref().map(|process| process.clock_at)) {
            self.clock(context)?;
        }
        if due(self.process.as_ref().map(|process| process.snapshot_at)) {
            self.snapshot(context)?;
        }
        Ok(())
    }

    /// A connection of an agent stands; its certificate was checked.
    pub fn handle_connected(&mut self, id: ConnectionId, agent: usize, context: &mut Context) {
        let local = self.local(context.now);
        let config = SessionConfig {
            lineage: self.lineage,
            window_batches: context.options.window_batches,
            window_bytes: WINDOW_BYTES,
            hello_timeout_millis: 60_000,
        };
        let Some(process) = &mut self.process else {
            return;
        };
        let session = Session::new(id.0, workload::agent_name(agent), config, local);
        let link = Link {
            session,
            encoder: Encoder::new(LEVEL),
            decoder: Decoder::new(),
            out: Vec::new(),
        };
        process.sessions.insert(id, link);
    }

    /// The connection is gone.
    pub fn handle_disconnected(
        &mut self,
        id: ConnectionId,
        _context: &mut Context,
    ) -> Result<(), Broken> {
        if let Some(process) = &mut self.process {
            process.sessions.remove(&id);
        }
        Ok(())
    }

    /// Bytes from an agent.
    pub fn handle_bytes(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        context: &mut Context,
    ) -> Result<(), Broken> {
        let local = self.local(context.now);
        let old = self.old_until.is_some();
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Process {
            sessions,
            encoder,
            pending,
            ..
        } = &mut **process;
        let Some(link) = sessions.get_mut(&id) else {
            return Ok(());
        };
        link.decoder.push(bytes);
        loop {
            let waiting = link.decoder.buffered();
            let mut message = match link.decoder.next() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => return Err(format!("an agent sends garbage: {error}")),
            };
            if let (Message::Hello(hello), true) = (&mut message, old) {
                // An old release finds no newer version in common.
                hello.version_max = VERSION_MIN;
            }
            let frame_bytes = waiting - link.decoder.buffered();
            let mut desk = Desk {
                policy: &self.policy,
                encoder,
            };
            if let Err(error) = link
                .session
                .handle_message(local, message, frame_bytes, &mut desk)
            {
                if matches!(error, SessionError::UnknownAgent(_)) {
                    break;
                }
                // No agent of this world breaks the protocol.
                return Err(format!("session {} refuses: {error}", id.0));
            }
        }
        for entry in link.session.take_pending() {
            self.remembered.push_back(entry.entry.clone());
            if self.remembered.len() > REMEMBERED {
                self.remembered.pop_front();
            }
            if context.options.canary == Some(Canary::AckBeforeSync) {
                link.session.handle_durable(&Durable::forged(entry.token));
            }
            pending.push(entry);
        }
        self.schedule(context);
        self.drain_session(id, context)
    }

    /// Sets the times of the next commit and of the next step of the fold.
    fn schedule(&mut self, context: &mut Context) {
        let longest = context.options.commit_delay_millis;
        let Some(process) = &mut self.process else {
            return;
        };
        if !process.pending.is_empty() && process.commit_at.is_none() {
            process.commit_at = Some(context.now.plus_millis(self.random.millis(0, longest)));
        }
        if process.fold_at.is_none() {
            process.fold_at = Some(context.now.plus_millis(self.random.millis(0, 1 + longest)));
        }
    }

    /// Encodes what a session has to say.
    fn drain_session(&mut self, id: ConnectionId, context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let Some(link) = process.sessions.get_mut(&id) else {
            return Ok(());
        };
        while let Some(message) = link.session.poll_transmit() {
            match &message {
                Message::Ack(ack) => {
                    let known = self.acknowledged.entry(ack.incarnation).or_default();
                    let fresh = ack.durable.saturating_sub(*known);
                    *known = ack.durable.max(*known);
                    context.coverage.add(Probe::Acknowledged, fresh);
                }
                Message::Refuse(_) => context.hit(Probe::SessionRefused),
                _ => {}
            }
            context.trace(format_args!("session {} says {}", id.0, brief(&message)));
            link.encoder
                .encode(&message, &mut link.out)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What goes out to an agent now. A session that is closed is dropped with that.
    pub fn transmit(&mut self, id: ConnectionId) -> Vec<u8> {
        let Some(process) = &mut self.process else {
            return Vec::new();
        };
        let Some(link) = process.sessions.get_mut(&id) else {
            return Vec::new();
        };
        let out = std::mem::take(&mut link.out);
        if link.session.is_closed() {
            process.sessions.remove(&id);
        }
        out
    }

    /// One group commit for everything that waits.
    fn commit(&mut self, context: &mut Context) -> Result<(), Broken> {
        let local = self.local(context.now);
        let reorder = self.reorder_until > context.now;
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.commit_at = None;
        let mut held_back = Vec::new();
        let mut staged = Ok(());
        for pending in std::mem::take(&mut process.pending) {
            if reorder && pending.token.session != 0 && self.random.chance(300) {
                context.hit(Probe::ReorderedAppend);
                held_back.push(pending);
                continue;
            }
            staged = process.group.stage(local, pending);
            if staged.is_err() {
                break;
            }
        }
        process.pending = held_back;
        let durable = match staged.and_then(|()| process.group.commit()) {
            Ok(durable) => durable,
            Err(error) => return self.failed(&error, context),
        };
        context.trace.event(
            context.now,
            format_args!("collector commits {} entries", durable.len()),
        );
        let mut answered = Vec::new();
        for proof in &durable {
            let id = ConnectionId(proof.token().session);
            if let Some(link) = process.sessions.get_mut(&id) {
                link.session.handle_durable(proof);
                answered.push(id);
            }
        }
        answered.dedup();
        self.schedule(context);
        answered
            .into_iter()
            .try_for_each(|id| self.drain_session(id, context))
    }

    /// Lets time pass in the journal, and asks for closings.
    fn clock(&mut self, context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let every = if self.settling {
            SETTLEMENT_CLOCK_MILLIS
        } else {
            CLOCK_MILLIS
        };
        process.clock_at = context.now.plus_millis(every);
        let mut entries = process
            .closer
            .poll(process.fold.stamp(), process.fold.tenants());
        if self.settling || self.random.chance(200) {
            entries.push(Entry::Clock);
        }
        if context.options.grants && !self.settling && self.random.chance(200) {
            let all = self.random.chance(300);
            self.offer(all, context)?;
        }
        self.write(&entries, context)?;
        if self.settling {
            self.keep_books_at_last(context)?;
        }
        Ok(())
    }

    /// Puts entries of the collector itself on their way.
    fn write(&mut self, entries: &[Entry], context: &mut Context) -> Result<(), Broken> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        for entry in entries {
            let entry = process
                .encoder
                .encode(entry)
                .map_err(|error| error.to_string())?;
            process.pending.push(Pending {
                token: Token::NOBODY,
                entry,
            });
        }
        if !entries.is_empty() {
            self.schedule(context);
        }
        Ok(())
    }

    fn snapshot(&mut self, context: &mut Context) -> Result<(), Broken> {
        let at = context.after_about(context.options.snapshot_every_millis);
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.snapshot_at = at;
        if process.fold.position().is_none() {
            return Ok(());
        }
        let saved = SnapshotStore::new(self.snapshot_disk.clone()).save(&process.fold);
        if let Err(error) = saved {
            context.trace(format_args!("no snapshot: {error}"));
            if self.disk_faults() == 0 && !self.snapshot_disk.is_stopped() {
                return Err(format!("no snapshot on a good disk: {error}"));
            }
            if self.snapshot_disk.is_stopped() {
                let crash = self.armed.map_or(Crash::Kill, |(crash, _)| crash);
                return self.go_down(crash, context);
            }
        }
        Ok(())
    }
}
