//! One agent: its lives, its forks, its watermark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Batch, ClockStep, Incarnation, LossReason, Parent, ParentEnd, Timestamp,
};

use super::NoticeKind;
use super::life::{Known, Life};
use super::outbox::{Origin, Outbox, unknown};
use crate::effect::AgentState;
use crate::entry::Digest;

/// Closed lives per agent of which details are kept, so that what is late or forked can still
/// be booked exactly. The older ones keep their intervals for ever.
pub const CLOSED_KEPT: usize = 8;
/// Losing branches that are followed per agent. The rows of further ones are declared lost at
/// most.
pub const BRANCHES_MAX: usize = 256;

/// Figures for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) batches: u64,
    pub(super) rollups: u64,
    pub(super) duplicates: u64,
    pub(super) forks: u64,
    pub(super) lost: u64,
    pub(super) clock_steps: u64,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// It is new in this life.
    Fresh(Incarnation),
    /// It has been booked.
    Duplicate(Incarnation),
    /// Its number was given up as lost.
    GivenUp(Incarnation),
    /// Another batch of this life has its number.
    Fork(Incarnation),
    /// It follows a batch of an unseen branch of this life.
    Orphan(Incarnation),
}

/// Everything that is known of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agent {
    pub(super) lives: BTreeMap<Incarnation, Life>,
    /// Derived incarnations of the losing branches, by the incarnation that they name.
    branches: BTreeMap<Incarnation, Vec<Incarnation>>,
    /// Lives that are not compacted.
    detailed: BTreeSet<Incarnation>,
    /// The closed ones among them, oldest first.
    closed: VecDeque<Incarnation>,
    /// The life that watermarks come from.
    newest: Option<Incarnation>,
    watermark: Timestamp,
    pub(super) last_seen: Timestamp,
    pub(super) counters: Counters,
    last_step: Option<ClockStep>,
}

impl Agent {
    /// The life that watermarks come from.
    pub(super) fn newest_life(&self) -> Option<&Life> {
        self.lives.get(&self.newest?)
    }

    /// The derived incarnations of `incarnation`'s losing branches.
    pub(super) fn branches_of(&self, incarnation: Incarnation) -> &[Incarnation] {
        self.branches.get(&incarnation).map_or(&[], Vec::as_slice)
    }

    /// Losing branches of this agent.
    fn branch_count(&self) -> usize {
        self.branches.values().map(Vec::len).sum()
    }

    /// Finds where a batch belongs.
    pub(super) fn route(&self, batch: &Batch, hash: Digest) -> Route {
        let named = batch.incarnation;
        let sequence = batch.sequence.get();
        let parent = Digest(*batch.parent_hash.as_bytes());
        if self.lives.contains_key(&derived(hash)) {
            return Route::Duplicate(derived(hash));
        }
        let lives = || std::iter::once(&named).chain(self.branches_of(named));
        let known = |name: &Incarnation| {
            self.lives
                .get(name)
                .map_or(Known::No, |life| life.knows(sequence, hash))
        };
        if let Some(name) = lives().find(|name| known(name) == Known::Same) {
            return Route::Duplicate(*name);
        }
        let follows = |name: &&Incarnation| {
            let life = self.lives.get(*name);
            life.and_then(|life| life.hash_of(sequence.checked_sub(1)?)) == Some(parent)
        };
        let name = self
            .branches_of(named)
            .iter()
            .find(follows)
            .copied()
            .unwrap_or(named);
        let Some(life) = self.lives.get(&name) else {
            return Route::Fresh(name);
        };
        match life.knows(sequence, hash) {
            Known::Same => Route::Duplicate(name),
            Known::Other | Known::Forgotten => Route::Fork(name),
            Known::GivenUp => Route::GivenUp(name),
            Known::No if life.fits(sequence, parent, hash) => Route::Fresh(name),
            Known::No => Route::Orphan(name),
        }
    }

    /// True if another branch can be followed. What is not followed is not known again, so that
    /// none of it may be booked: it would be booked each time it comes.
    pub(super) fn can_branch(&self) -> bool {
        self.branch_count() < BRANCHES_MAX
    }

    /// Begins the branch whose first batch has this hash; `None` if there are too many.
    pub(super) fn begin_branch(&mut self, batch: &Batch, hash: Digest) -> Option<Incarnation> {
        if !self.can_branch() {
            return None;
        }
        let name = derived(hash);
        let life = Life::branch(batch.incarnation, batch.sequence.get() - 1, batch.span.from);
        self.lives.insert(name, life);
        self.branches
            .entry(batch.incarnation)
            .or_default()
            .push(name);
        Some(name)
    }

    /// Takes up a batch of the life `name`: what a first batch says of the life before, and
    /// which life is the newest. `recovered` says that the batch had been declared lost.
    pub(super) fn follow_up(
        &mut self,
        name: Incarnation,
        batch: &Batch,
        recovered: bool,
        agent: &AgentId,
        out: &mut Outbox,
    ) {
        if batch.opening.is_some() {
            self.reveal(name, agent, out);
            self.open(name, batch, agent, out);
            if !recovered {
                // A child may have come first.
                if self
                    .newest
                    .is_none_or(|newest| !self.descends(newest, name))
                {
                    self.newest = Some(name);
                }
                return;
            }
        }
        // The first batch of the life is lost, or late. By the agent's clock the life may
        // still be the newest, and it is taken to follow the one before.
        let Some(newest) = self.newest else {
            self.newest = Some(name);
            return;
        };
        if newest == name {
            return;
        }
        let cut = |name: Incarnation| self.lives.get(&name).map(Life::cut);
        let unopened = self
            .lives
            .get(&name)
            .is_some_and(|life| life.branch_of.is_none() && life.prefix() > 0);
        if unopened && cut(name) > cut(newest) && !self.descends(newest, name) {
            self.newest = Some(name);
            if !self.descends(name, newest)
                && let Some(life) = self.lives.get_mut(&name)
            {
                life.parent.get_or_insert(newest);
                self.presume_hidden(name, newest, batch, agent, out);
            }
        }
    }

    /// Takes up what the first batch of the life `name` says of the life before.
    fn open(&mut self, name: Incarnation, batch: &Batch, agent: &AgentId, out: &mut Outbox) {
        let Some(opening) = batch.opening else { return };
        match opening.parent {
            Some(parent) => self.follow(name, parent, batch, agent, out),
            None => self.begin_anew(name, batch, agent, out),
        }
    }

    fn follow(
        &mut self,
        name: Incarnation,
        parent: Parent,
        batch: &Batch,
        agent: &AgentId,
        out: &mut Outbox,
    ) {
        let last_hash = Digest(*parent.last_hash.as_bytes());
        let has_last = |life: &Incarnation| {
            self.lives
                .get(life)
                .is_some_and(|life| life.hash_of(parent.last_sequence) == Some(last_hash))
        };
        let branch = self
            .branches_of(parent.incarnation)
            .iter()
            .copied()
            .find(has_last);
        let before = branch.unwrap_or(parent.incarnation);
        let origin = Origin {
            agent: agent.clone(),
            incarnation: before,
        };
        if parent.last_sequence > 0 {
            // Of a life of which nothing has come, not even the beginning is known: it, and
            // what may lie before it, fell after the end of what is known.
            let presumed = self.lives.get(&name).and_then(|life| life.parent);
            let known = presumed
                .or(self.newest.filter(|newest| *newest != name))
                .and_then(|known| self.lives.get(&known))
                .map(Life::cut);
            let opened = known.map_or(batch.span.from, |cut| cut.min(batch.span.from));
            let life = self
                .lives
                .entry(before)
                .or_insert_with(|| Life::new(opened));
            life.expect(parent.last_sequence);
        }
        if let ParentEnd::Unclean { reason, from, to } = parent.end {
            out.loss(unknown(&origin, None, reason, (from.min(to), to.max(from))));
        }
        if let Some(newest) = self
            .newest
            .filter(|newest| *newest != before && *newest != name)
        {
            let detail = format!(
                "incarnation {name} follows {before}, while {newest} is the newest: a cloned host?"
            );
            out.notice(
                NoticeKind::SecondLife,
                Some(&Origin {
                    agent: agent.clone(),
                    incarnation: name,
                }),
                None,
                detail,
            );
        }
        if before != name
            && let Some(life) = self.lives.get_mut(&name)
        {
            life.parent = Some(before);
        }
    }

    /// A first life although others were there: the state directory is a new one, and nobody
    /// is left to say what the open life had counted.
    fn begin_anew(&mut self, name: Incarnation, batch: &Batch, agent: &AgentId, out: &mut Outbox) {
        let Some(before) = self.newest.filter(|newest| *newest != name) else {
            return;
        };
        let Some(life) = self.lives.get(&before) else {
            return;
        };
        let origin = Origin {
            agent: agent.clone(),
            incarnation: before,
        };
        let detail = format!("incarnation {name} names no parent; the state of {before} is gone");
        out.notice(NoticeKind::SecondLife, Some(&origin), None, detail);
        if !life.is_closed() {
            let (from, to) = (
                life.cut().min(batch.span.from),
                batch.span.from.max(life.cut()),
            );
            out.loss(unknown(&origin, None, LossReason::CellsDamaged, (from, to)));
        }
    }

    /// True if `name` is `ancestor` or descends from it.
    fn descends(&self, name: Incarnation, ancestor: Incarnation) -> bool {
        self.line_of(name).any(|name| name == ancestor)
    }

    /// A life and its ancestors, newest first. Ends even if lives name each other as parents.
    fn line_of(&self, name: Incarnation) -> impl Iterator<Item = Incarnation> {
        let parent = |name: &Incarnation| self.lives.get(name).and_then(|life| life.parent);
        std::iter::successors(Some(name), parent).take(self.lives.len() + 1)
    }

    /// Raises the watermark as far as the newest life has come, once all its ancestors are
    /// accounted for. It never falls and is at most `cap`.
    pub(super) fn raise_watermark(&mut self, cap: Timestamp) -> Option<Timestamp> {
        let newest = self.newest?;
        let mut line = Vec::new();
        for name in self.line_of(newest).skip(1) {
            match self.lives.get(&name) {
                Some(known) if known.settled => break,
                Some(known) if !known.is_accounted() => return None,
                _ => line.push(name),
            }
        }
        for name in line {
            if let Some(life) = self.lives.get_mut(&name) {
                life.settled = true;
            }
        }
        let reached = self.lives.get(&newest)?.watermark().min(cap);
        if reached <= self.watermark {
            return None;
        }
        self.watermark = reached;
        Some(reached)
    }

    /// Notes that a life was touched: keeps count of those with details, and compacts those
    /// that closed long ago.
    pub(super) fn note(&mut self, name: Incarnation) {
        let parent = self.lives.get(&name).and_then(|life| life.parent);
        for name in std::iter::once(name).chain(parent) {
            let Some(life) = self.lives.get(&name).filter(|life| !life.is_compacted()) else {
                continue;
            };
            let closed = life.is_closed();
            self.detailed.insert(name);
            if closed && !self.closed.contains(&name) {
                self.closed.push_back(name);
            }
        }
        while self.closed.len() > CLOSED_KEPT
            && let Some(oldest) = self.closed.pop_front()
        {
            self.detailed.remove(&oldest);
            if let Some(life) = self.lives.get_mut(&oldest) {
                life.compact();
            }
        }
    }

    /// Takes note of steps of the agent's clock, of which there is at least one, and says so in
    /// words.
    pub(super) fn note_steps(&mut self, steps: &[ClockStep], last: ClockStep) -> String {
        self.counters.clock_steps = self.counters.clock_steps.saturating_add(steps.len() as u64);
        self.last_step = Some(last);
        let ClockStep { at, by_millis } = last;
        match steps.len() {
            1 => format!("clock was set by {by_millis} ms to {at}"),
            times => format!("clock was set {times} times, in the end by {by_millis} ms to {at}"),
        }
    }

    /// The state for projections.
    pub(super) fn state(&self, agent: &AgentId, fallback: Incarnation) -> AgentState {
        let incarnation = self.newest.unwrap_or(fallback);
        let open = self.detailed.iter().filter_map(|name| self.lives.get(name));
        AgentState {
            agent: agent.clone(),
            incarnation,
            sequence: self.lives.get(&incarnation).map_or(0, Life::prefix),
            watermark: self.watermark,
            last_seen: self.last_seen,
            batches: self.counters.batches,
            rollups: self.counters.rollups,
            duplicates: self.counters.duplicates,
            forks: self.counters.forks,
            gaps: open.map(Life::gaps).fold(0, u64::saturating_add),
            lost: self.counters.lost,
            clock_steps: self.counters.clock_steps,
            last_clock_step: self.last_step,
        }
    }
}

/// The incarnation under which a losing branch continues: the first sixteen bytes of BLAKE3
/// over the hash of its first batch.
pub fn derived(hash: Digest) -> Incarnation {
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(&hash.0).as_bytes()[..16]);
    Incarnation::from_bytes(name)
}
