//! The intake: dedupe, gaps, forks and watermarks, entry by entry.
//!
//! A batch is booked once, by its agent, incarnation and sequence number. `docs/intake.md`
//! describes the rules in full; in short:
//!
//! - **Duplicate**: number and hash are known. Nothing happens.
//! - **Fork**: the number is known with another hash, because a host was cloned. Of its first
//!   batch the part above the batch that came first is booked row by row, and the part below
//!   it is declared lost at most. The branch goes on under a derived incarnation.
//! - **Lost**: a number stands for usage of unknown amount from the moment it is declared
//!   lost. Running totals give it an exact price per account, and a final batch takes the
//!   unknown back. If the batch turns up, all that is taken back and its rows count.
//! - **Watermark**: that of the contiguous prefix of the newest life, once its ancestors are
//!   accounted for; never back, never more than a tolerance ahead of the stamp.
//!
//! Rows whose window lies ahead of the stamp count like others (their period cannot close
//! before its end has passed by the stamp) and are noticed.

mod agent;
mod book;
mod family;
mod kept_rows;
mod life;
mod lost;
mod numbers;
mod outbox;
mod progress;
mod restore;
mod states;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Incarnation, LossReason, Remembered, TenantId, Timestamp, Tombstone,
};

pub use agent::{BRANCHES_MAX, CLOSED_KEPT, derived};
pub use life::{HASHES_KEPT, ROW_BATCHES_KEPT, ROWS_KEPT_MAX};
pub use numbers::NumberGap;
pub use progress::{KnownLife, Progress, ProgressQuery};
pub use restore::Restore;

use agent::{Agent, Route};
use book::{take_fork, take_fresh, take_orphan};
use life::Life;
use numbers::Numbers;
use outbox::{Origin, Outbox, anybodys};

use super::planted::{Planted, PlantedBug};
use super::{RowSet, TenantInput, partition_of};
use crate::catalog::Families;
use crate::effect::{CatalogApplied, Effect};
use crate::entry::{Digest, Entry, Missing, Opened, ReceivedBatch, Stamped};
use crate::position::Position;

/// Rows whose windows begin so much later than their batch was received are refused (unless the
/// tolerance is longer): a day.
const FUTURE_MAX_MILLIS: i64 = 86_400_000;

/// What the operator should hear of; nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What happened.
    pub kind: NoticeKind,
    /// On which agent.
    pub agent: Option<AgentId>,
    /// In which life.
    pub incarnation: Option<Incarnation>,
    /// With which batch.
    pub sequence: Option<u64>,
    /// In words.
    pub detail: String,
}

/// Kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A batch came again.
    Duplicate,
    /// A batch came with the number of another one: a cloned host.
    Fork,
    /// A batch turned up that had been declared lost.
    Recovered,
    /// A batch turned up whose loss can no longer be taken back.
    GivenUp,
    /// Two lives of one agent do not follow each other.
    SecondLife,
    /// Rows exceed the running total.
    TotalsBelowRows,
    /// A hole in a chain.
    Gap,
    /// The agent's wall clock was set.
    ClockStep,
    /// Rows of windows that have not begun by the collector's clock.
    Future,
    /// A damaged journal entry was given up.
    JournalLoss,
    /// An agent has released batches that the journal does not have.
    JournalBehind,
    /// The journal was restored from a backup; a new lineage begins.
    Restored,
    /// The entry asks for what this version cannot do.
    Unsupported,
}

/// What one entry causes.
#[derive(Clone, Debug, Default)]
pub struct IntakeOutput {
    /// For the tenant folds, each with its partition, in order.
    pub inputs: Vec<(u16, TenantInput)>,
    /// For the projections.
    pub effects: Vec<Effect>,
    /// For the log.
    pub notices: Vec<Notice>,
}

/// The state of the intake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intake {
    opened: Option<Opened>,
    /// The stamp of the last entry.
    stamp: Timestamp,
    agents: BTreeMap<AgentId, Agent>,
    /// The newest restore of the journal, and how many there were.
    restores: (u64, Option<Restore>),
    /// Numbers of documents.
    #[serde(default)]
    numbers: Numbers,
    /// Who ever paid for whom.
    families: Families,
    /// Corrections by operators: of which tenant, under which key.
    corrections: BTreeSet<(TenantId, String)>,
    /// Breaks the rules on purpose.
    planted: Planted,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            opened: None,
            stamp: Timestamp::EPOCH,
            agents: BTreeMap::new(),
            restores: (0, None),
            numbers: Numbers::default(),
            families: Families::default(),
            corrections: BTreeSet::new(),
            planted: Planted::default(),
        }
    }
}

/// The last instant at which a window may begin of what is received at `stamp`.
pub(crate) fn not_after(stamp: Timestamp, opened: Option<&Opened>) -> Timestamp {
    let tolerance = opened.map_or(0, |opened| opened.future_tolerance_millis);
    stamp.plus_millis(Ord::max(tolerance, FUTURE_MAX_MILLIS))
}

impl Intake {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// An intake with a bug, for showing that tests find it.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_bug(bug: PlantedBug) -> Self {
        Self {
            planted: Planted::new(bug),
            ..Self::default()
        }
    }

    /// Number of tenant partitions: that of the first `Opened` entry, 1 before it.
    pub fn partitions(&self) -> u16 {
        self.opened
            .as_ref()
            .map_or(1, |opened| opened.partitions.max(1))
    }

    /// The figures in force.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.as_ref()
    }

    /// The stamp of the last entry.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// The agents that have been heard of.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.agents.keys()
    }

    /// Takes up one entry. The same entries in the same order always give the same output.
    pub fn apply(&mut self, position: Position, stamped: &Stamped) -> IntakeOutput {
        let before = self.stamp;
        self.stamp = before.max(stamped.stamp);
        let mut out = Outbox::new(self.partitions(), self.not_after());
        match &stamped.entry {
            Entry::Opened(opened) => {
                self.take_opened(opened, &mut out);
                // The number of partitions may just have become known.
                let mut first = Outbox::new(self.partitions(), self.not_after());
                if let Some(opened) = &self.opened {
                    first.broadcast(&TenantInput::Opened(opened.clone()));
                }
                let mut output = first.finish();
                output.notices = out.finish().notices;
                return output;
            }
            Entry::Batch(received) => self.take_batch(received, &mut out),
            Entry::Tombstone(tombstone) => self.take_tombstone(tombstone, &mut out),
            Entry::Missing(missing) => self.take_missing(missing, &mut out),
            Entry::Restored(restored) => self.take_restored(restored, before, position, &mut out),
            Entry::Policy(policy) => out.broadcast(&TenantInput::Policy(Arc::new(policy.clone()))),
            Entry::Catalog(catalog) => {
                let change = Arc::new(catalog.clone());
                // What is only proposed changes nothing.
                if !change.proposed {
                    self.learn_families(&change);
                    out.broadcast(&TenantInput::Catalog(Arc::clone(&change)));
                }
                out.effect(Effect::Catalog(CatalogApplied {
                    position,
                    stamp: self.stamp,
                    change,
                }));
            }
            Entry::Close(closing) => {
                let partition = partition_of(&closing.tenant, self.partitions());
                out.send(partition, TenantInput::Close(Box::new(closing.clone())));
            }
            Entry::Interim(interim) => {
                let partition = partition_of(&interim.tenant, self.partitions());
                out.send(partition, TenantInput::Interim(interim.clone()));
            }
            Entry::Manual(manual) => {
                let partition = partition_of(&manual.tenant, self.partitions());
                out.send(partition, TenantInput::Manual(manual.clone()));
            }
            Entry::Issue(issue) => {
                let partition = partition_of(&issue.tenant, self.partitions());
                match self.numbers.give(issue) {
                    Some(sequence) => {
                        out.send(partition, TenantInput::Issue(issue.clone(), sequence));
                    }
                    None => out.notice(
                        NoticeKind::Unsupported,
                        None,
                        None,
                        format!(
                            "document {} of `{}` at {position} was decided twice and is passed over",
                            issue.serial, issue.tenant
                        ),
                    ),
                }
            }
            Entry::Operated(operated) => self.operate(operated, position, &mut out),
            Entry::Clock => out.broadcast(&TenantInput::Clock),
            Entry::Lost(lost) => {
                let detail = format!(
                    "journal entry at {} is given up by {} at {position}: {}",
                    lost.position, lost.author, lost.reason
                );
                out.notice(NoticeKind::JournalLoss, None, None, detail);
                out.loss(anybodys(Timestamp::EPOCH, self.stamp));
            }
        }
        let mut output = out.finish();
        self.tell_payers(&mut output);
        output
    }

    /// The first `Opened` entry fixes the partitions, because tenants would have to move; the
    /// other figures may change.
    fn take_opened(&mut self, opened: &Opened, out: &mut Outbox) {
        let mut opened = opened.clone();
        if let Some(before) = &self.opened
            && before.partitions != opened.partitions
        {
            let detail = format!(
                "{} tenant partitions asked for, {} stay",
                opened.partitions, before.partitions
            );
            out.notice(NoticeKind::Unsupported, None, None, detail);
            opened.partitions = before.partitions;
        }
        self.opened = Some(opened);
    }

    /// What an issuer's first number would leave out, if it may not.
    pub fn number_gap(&self, issuer: &str, first: u64) -> Option<NumberGap> {
        self.numbers.gap(issuer, first)
    }

    /// Who ever paid for whom.
    pub fn families(&self) -> &Families {
        &self.families
    }

    fn tolerance(&self) -> i64 {
        self.opened
            .as_ref()
            .map_or(0, |opened| opened.future_tolerance_millis)
    }

    /// Rows of windows that begin later are refused: such a clock is not ahead, it is wrong, and what
    /// it says of time would open periods that nobody ever closes.
    fn not_after(&self) -> Timestamp {
        not_after(self.stamp, self.opened.as_ref())
    }

    fn take_batch(&mut self, received: &Arc<ReceivedBatch>, out: &mut Outbox) {
        let batch = &received.batch;
        let hash = Digest(*batch.hash().as_bytes());
        let cap = self.stamp.plus_millis(self.tolerance());
        let stamp = self.stamp;
        let is_new = !self.agents.contains_key(&batch.agent);
        let agent = self.agents.entry(batch.agent.clone()).or_default();
        agent.last_seen = stamp;
        let route = agent.route(batch, hash);
        let sequence = Some(batch.sequence.get());
        let origin = |incarnation| Origin {
            agent: batch.agent.clone(),
            incarnation,
        };
        let (name, detail) = match route {
            Route::Fresh(name) => {
                take_fresh(agent, name, received, hash, out);
                (name, None)
            }
            Route::Duplicate(name) => {
                agent.counters.duplicates += 1;
                if self.planted.has(PlantedBug::DedupeOff) {
                    out.rows(&origin(name), batch.sequence, RowSet::whole(received));
                }
                (
                    name,
                    Some((
                        NoticeKind::Duplicate,
                        "the batch has been booked before".to_owned(),
                    )),
                )
            }
            Route::GivenUp(name) => {
                agent.counters.duplicates += 1;
                (
                    name,
                    Some((
                        NoticeKind::GivenUp,
                        "its loss stands declared for good".to_owned(),
                    )),
                )
            }
            Route::Fork(name) => {
                let branch = take_fork(agent, name, received, hash, out);
                (
                    branch,
                    Some((
                        NoticeKind::Fork,
                        format!("another batch of {name} has its number"),
                    )),
                )
            }
            Route::Orphan(name) => {
                let branch = take_orphan(agent, name, received, hash, out);
                (
                    branch,
                    Some((
                        NoticeKind::Fork,
                        format!("it does not follow the batch of {name} before it"),
                    )),
                )
            }
        };
        if let Some((kind, detail)) = detail {
            out.notice(kind, Some(&origin(name)), sequence, detail);
        }
        let news = !matches!(route, Route::Duplicate(_) | Route::GivenUp(_));
        if let Some(last) = batch.steps.last().filter(|_| news) {
            let detail = agent.note_steps(&batch.steps, *last);
            out.notice(NoticeKind::ClockStep, Some(&origin(name)), sequence, detail);
        }
        let future = batch
            .rows
            .iter()
            .filter(|row| row.window.start() > cap)
            .count();
        if future > 0 {
            let detail = format!("{future} rows lie in windows that begin after {cap}");
            out.notice(NoticeKind::Future, Some(&origin(name)), sequence, detail);
        }
        agent.note(name);
        Self::report(agent, &batch.agent, name, cap, is_new, out);
    }

    fn take_tombstone(&mut self, tombstone: &Tombstone, out: &mut Outbox) {
        let sequence = tombstone.sequence.get();
        self.declare(
            &tombstone.agent,
            tombstone.incarnation,
            (sequence, sequence),
            tombstone.reason,
            tombstone.remembered.as_deref(),
            out,
        );
    }

    fn take_missing(&mut self, missing: &Missing, out: &mut Outbox) {
        let Missing {
            agent,
            incarnation,
            from,
            to,
        } = missing;
        let range = (from.get(), to.get());
        let reason = LossReason::JournalDamaged;
        let lost = self.declare(agent, *incarnation, range, reason, None, out);
        if lost > 0 {
            let origin = Origin {
                agent: agent.clone(),
                incarnation: *incarnation,
            };
            let detail = format!(
                "{lost} of the batches {from} to {to} are neither here nor with the agent any more; they are \
                 declared lost. If the journal was restored from a backup, stop the collector and say so with \
                 `tollgate-collector journal restored`"
            );
            out.notice(
                NoticeKind::JournalBehind,
                Some(&origin),
                Some(from.get()),
                detail,
            );
        }
    }

    /// Declares those of a range lost that are neither here nor declared; how many that are.
    /// `remembered` is what the agent knows of the last one.
    fn declare(
        &mut self,
        agent_id: &AgentId,
        incarnation: Incarnation,
        range: (u64, u64),
        reason: LossReason,
        remembered: Option<&Remembered>,
        out: &mut Outbox,
    ) -> u64 {
        let stamp = self.stamp;
        let cap = stamp.plus_millis(self.tolerance());
        let is_new = !self.agents.contains_key(agent_id);
        let agent = self.agents.entry(agent_id.clone()).or_default();
        agent.last_seen = stamp;
        let origin = Origin {
            agent: agent_id.clone(),
            incarnation,
        };
        let life = agent
            .lives
            .entry(incarnation)
            .or_insert_with(|| Life::new(Timestamp::EPOCH));
        if let Some(remembered) = remembered {
            life.testify(range.1, remembered.into());
        }
        let lost = life.declare_lost(range, reason, stamp, &origin, out);
        if lost == 0 {
            agent.counters.duplicates += 1;
        }
        agent.counters.lost = agent.counters.lost.saturating_add(lost);
        agent.note(incarnation);
        Self::report(agent, agent_id, incarnation, cap, is_new, out);
        lost
    }

    /// Tells the tenants of a new watermark and the projections of the agent.
    ///
    /// Tenants hear of an agent as soon as it is heard of, even without a watermark: a period
    /// is not complete while it has not reported.
    fn report(
        agent: &mut Agent,
        id: &AgentId,
        name: Incarnation,
        cap: Timestamp,
        is_new: bool,
        out: &mut Outbox,
    ) {
        if let Some(watermark) = agent.raise_watermark(cap) {
            out.watermark(id.clone(), watermark);
        } else if is_new {
            out.watermark(id.clone(), Timestamp::EPOCH);
        }
        out.effect(Effect::Agent(agent.state(id, name)));
    }

    /// The state as bytes. The same state always has the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("every length in the state is known")
    }

    /// The state that [`Intake::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (intake, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            Ok(intake)
        } else {
            Err(postcard::Error::DeserializeBadEncoding)
        }
    }
}

#[cfg(test)]
pub(crate) use tests::books as test_support;
#[cfg(test)]
mod tests;
