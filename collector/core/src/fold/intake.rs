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
mod life;
mod lost;
mod outbox;
mod progress;
mod totals;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Aggregation, Batch, Incarnation, Loss, LossAmount, LossReason, Quantity, Timestamp,
    Tombstone,
};

pub use agent::{BRANCHES_MAX, CLOSED_KEPT, derived};
pub use life::{HASHES_KEPT, ROW_BATCHES_KEPT, ROWS_KEPT_MAX};
pub use progress::{KnownLife, Progress, ProgressQuery};

use agent::{Agent, Route};
use life::{KeptRow, Life, fingerprint};
use outbox::{Origin, Outbox, key_of, minus, unknown};
use totals::Key;

use super::{DeclaredLoss, TenantInput, partition_of};
use crate::effect::Effect;
use crate::entry::{Digest, Entry, Opened, ReceivedBatch, Stamped, Verdicts};
use crate::position::Position;

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
    /// Rows of windows that have not begun by the collector's clock.
    Future,
    /// A damaged journal entry was given up.
    JournalLoss,
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
    /// False breaks the rules on purpose.
    dedupe: bool,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            opened: None,
            stamp: Timestamp::EPOCH,
            agents: BTreeMap::new(),
            dedupe: true,
        }
    }
}

impl Intake {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// An intake that books duplicates, for showing that tests find it.
    #[cfg(any(test, feature = "testing"))]
    pub fn without_dedupe() -> Self {
        Self {
            dedupe: false,
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
        self.stamp = self.stamp.max(stamped.stamp);
        let mut out = Outbox::new(self.partitions());
        match &stamped.entry {
            Entry::Opened(opened) => {
                self.take_opened(opened, &mut out);
                // The number of partitions may just have become known.
                let mut first = Outbox::new(self.partitions());
                if let Some(opened) = &self.opened {
                    first.broadcast(&TenantInput::Opened(opened.clone()));
                }
                let mut output = first.finish();
                output.notices = out.finish().notices;
                return output;
            }
            Entry::Batch(received) => self.take_batch(received, &mut out),
            Entry::Tombstone(tombstone) => self.take_tombstone(tombstone, &mut out),
            Entry::Missing(missing) => {
                let range = (missing.from.get(), missing.to.get());
                self.declare(
                    &missing.agent,
                    missing.incarnation,
                    range,
                    LossReason::JournalDamaged,
                    &mut out,
                );
            }
            Entry::Policy(policy) => out.broadcast(&TenantInput::Policy(Arc::new(policy.clone()))),
            Entry::Catalog(catalog) => {
                out.broadcast(&TenantInput::Catalog(Arc::new(catalog.clone())))
            }
            Entry::Close(closing) => {
                let partition = partition_of(&closing.tenant, self.partitions());
                out.send(partition, TenantInput::Close(Box::new(closing.clone())));
            }
            Entry::Clock => out.broadcast(&TenantInput::Clock),
            Entry::Lost(lost) => {
                let detail = format!(
                    "journal entry at {} is given up by {} at {position}: {}",
                    lost.position, lost.author, lost.reason
                );
                out.notice(NoticeKind::JournalLoss, None, None, detail);
                out.loss(DeclaredLoss {
                    agent: None,
                    incarnation: None,
                    sequences: None,
                    scale: tollgate_common::Scale::ZERO,
                    loss: Loss {
                        reason: LossReason::JournalDamaged,
                        tenant: None,
                        meter: None,
                        amount: LossAmount::Unknown,
                        from: Timestamp::EPOCH,
                        to: self.stamp,
                    },
                });
            }
        }
        out.finish()
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

    fn tolerance(&self) -> i64 {
        self.opened
            .as_ref()
            .map_or(0, |opened| opened.future_tolerance_millis)
    }

    fn take_batch(&mut self, received: &ReceivedBatch, out: &mut Outbox) {
        let batch = &received.batch;
        let hash = Digest(*batch.hash().as_bytes());
        let cap = self.stamp.plus_millis(self.tolerance());
        let stamp = self.stamp;
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
                if !self.dedupe {
                    out.rows(&origin(name), batch.sequence, whole_rows(received));
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
        let future = batch
            .rows
            .iter()
            .filter(|row| row.window.start() > cap)
            .count();
        if future > 0 {
            let detail = format!("{future} rows lie in windows that begin after {cap}");
            out.notice(NoticeKind::Future, Some(&origin(name)), sequence, detail);
        }
        agent.note_closed(name);
        Self::report(agent, &batch.agent, name, cap, out);
    }

    fn take_tombstone(&mut self, tombstone: &Tombstone, out: &mut Outbox) {
        let sequence = tombstone.sequence.get();
        self.declare(
            &tombstone.agent,
            tombstone.incarnation,
            (sequence, sequence),
            tombstone.reason,
            out,
        );
    }

    fn declare(
        &mut self,
        agent_id: &AgentId,
        incarnation: Incarnation,
        range: (u64, u64),
        reason: LossReason,
        out: &mut Outbox,
    ) {
        let stamp = self.stamp;
        let cap = stamp.plus_millis(self.tolerance());
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
        let lost = life.declare_lost(range, reason, stamp, &origin, out);
        if lost == 0 {
            agent.counters.duplicates += 1;
        }
        agent.counters.lost = agent.counters.lost.saturating_add(lost);
        agent.note_closed(incarnation);
        Self::report(agent, agent_id, incarnation, cap, out);
    }

    /// Tells the tenants of a new watermark and the projections of the agent.
    fn report(
        agent: &mut Agent,
        id: &AgentId,
        name: Incarnation,
        cap: Timestamp,
        out: &mut Outbox,
    ) {
        if let Some(watermark) = agent.raise_watermark(cap) {
            out.watermark(id.clone(), watermark);
        }
        out.effect(Effect::Agent(agent.state(id, name)));
    }

    /// The state as bytes. The same state always has the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the state has string and integer keys only")
    }

    /// The state that [`Intake::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// All rows with their verdicts.
fn whole_rows(
    received: &ReceivedBatch,
) -> impl Iterator<
    Item = (
        &tollgate_common::Rollup,
        Quantity,
        u64,
        Option<crate::entry::RefusedReason>,
    ),
> {
    let verdicts: &Verdicts = &received.verdicts;
    received
        .batch
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| (row, row.value, row.events, verdicts.of(index)))
}

/// Books a batch that is new in the life `name`.
fn take_fresh(
    agent: &mut Agent,
    name: Incarnation,
    received: &ReceivedBatch,
    hash: Digest,
    out: &mut Outbox,
) {
    let batch = &received.batch;
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: name,
    };
    let life = agent
        .lives
        .entry(name)
        .or_insert_with(|| Life::new(batch.span.from));
    out.rows(&origin, batch.sequence, whole_rows(received));
    let recovered = life.insert(batch, hash, totals::figures_of(batch), &origin, out);
    agent.counters.batches += 1;
    agent.counters.rollups += batch.rows.len() as u64;
    if recovered {
        agent.counters.lost = agent.counters.lost.saturating_sub(1);
        let detail = "the batch was declared lost and arrived after all".to_owned();
        out.notice(
            NoticeKind::Recovered,
            Some(&origin),
            Some(batch.sequence.get()),
            detail,
        );
    }
    declare_losses(batch, &origin, false, out);
    agent.follow_up(name, batch, recovered, &batch.agent, out);
}

/// Losses that the agent itself declares. They are in no row and in no running total.
fn declare_losses(batch: &Batch, origin: &Origin, at_most: bool, out: &mut Outbox) {
    for loss in &batch.losses {
        // A loss names no scale; the batch's figures of the same account do.
        let same = |tenant, meter| {
            loss.tenant.as_ref() == Some(tenant) && loss.meter.as_ref() == Some(meter)
        };
        let of_totals = batch
            .totals
            .iter()
            .find(|t| same(&t.tenant, &t.meter))
            .map(|t| t.scale);
        let of_rows = || {
            batch
                .rows
                .iter()
                .find(|r| same(r.series.tenant(), r.series.meter()))
                .map(|r| r.scale)
        };
        let mut loss = loss.clone();
        if at_most && let LossAmount::Exact(quantity) = loss.amount {
            loss.amount = LossAmount::AtMost(quantity);
        }
        out.loss(DeclaredLoss {
            agent: Some(origin.agent.clone()),
            incarnation: Some(origin.incarnation),
            sequences: Some((batch.sequence.get(), batch.sequence.get())),
            scale: of_totals.or_else(of_rows).unwrap_or_default(),
            loss,
        });
    }
}

/// Books the first batch of a losing branch against the batch that came first.
///
/// With `old` and `new` the values of a row in both: `max(old, new)` is what both hosts can
/// have counted at least, of which `old` is booked; `max(0, new - old)` is booked now and
/// `min(old, new)` may be usage counted twice by copied cells, or usage that both counted: it
/// is declared lost at most. The two add up to `new`, so that conservation holds. Without the
/// old rows nothing is booked. Rows of levels (`last`) are booked, since booking one twice
/// changes nothing.
///
/// Returns the life under which the branch continues.
fn take_fork(
    agent: &mut Agent,
    name: Incarnation,
    received: &ReceivedBatch,
    hash: Digest,
    out: &mut Outbox,
) -> Incarnation {
    let batch = &received.batch;
    let sequence = batch.sequence.get();
    let kept = agent
        .lives
        .get(&name)
        .and_then(|life| life.rows_of(sequence));
    let branch = derived(hash);
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: branch,
    };
    let mut at_most: BTreeMap<Key, (Quantity, Timestamp, Timestamp)> = BTreeMap::new();
    let mut booked = Vec::new();
    for (row, value, events, verdict) in whole_rows(received) {
        if row.aggregation != Aggregation::Sum {
            booked.push((row, value, events, verdict));
            continue;
        }
        let (old, old_events) = match kept {
            Some(kept) => value_in(kept, fingerprint(row)),
            None => (value, events),
        };
        let twice = old.min(value);
        if !twice.is_zero() {
            let (from, to) = (row.window.start(), row.window.end());
            let sum = at_most
                .entry(key_of(row))
                .or_insert((Quantity::ZERO, from, to));
            *sum = (outbox::plus(sum.0, twice), sum.1.min(from), sum.2.max(to));
        }
        let above = minus(value, twice);
        if !above.is_zero() {
            booked.push((row, above, events.saturating_sub(old_events), verdict));
        }
    }
    agent.counters.forks += 1;
    agent.counters.rollups += booked.len() as u64;
    out.rows(&origin, batch.sequence, booked.into_iter());
    for (
        Key {
            tenant,
            meter,
            scale,
        },
        (quantity, from, to),
    ) in at_most
    {
        out.loss(DeclaredLoss {
            agent: Some(batch.agent.clone()),
            incarnation: Some(branch),
            sequences: Some((sequence, sequence)),
            scale,
            loss: Loss {
                reason: LossReason::Fork,
                tenant: Some(tenant),
                meter: Some(meter),
                amount: LossAmount::AtMost(quantity),
                from,
                to,
            },
        });
    }
    declare_losses(batch, &origin, true, out);
    follow_branch(agent, batch, hash, &origin, out);
    branch
}

/// Books a batch of a branch whose beginning has not been seen: its rows count, and what the
/// branch held before is declared unknown.
fn take_orphan(
    agent: &mut Agent,
    name: Incarnation,
    received: &ReceivedBatch,
    hash: Digest,
    out: &mut Outbox,
) -> Incarnation {
    let batch = &received.batch;
    let branch = derived(hash);
    let origin = Origin {
        agent: batch.agent.clone(),
        incarnation: branch,
    };
    let since = agent.lives.get(&name).map_or(Timestamp::EPOCH, Life::cut);
    let time = (since.min(batch.span.from), batch.span.from.max(since));
    let before = batch.sequence.get() - 1;
    out.loss(unknown(
        &origin,
        Some((before, before)),
        LossReason::Fork,
        time,
    ));
    out.rows(&origin, batch.sequence, whole_rows(received));
    agent.counters.forks += 1;
    agent.counters.rollups += batch.rows.len() as u64;
    declare_losses(batch, &origin, false, out);
    follow_branch(agent, batch, hash, &origin, out);
    branch
}

fn follow_branch(
    agent: &mut Agent,
    batch: &Batch,
    hash: Digest,
    origin: &Origin,
    out: &mut Outbox,
) {
    let Some(name) = agent.begin_branch(batch, hash) else {
        let detail = format!("more than {BRANCHES_MAX} branches; this one is not followed");
        out.notice(
            NoticeKind::Unsupported,
            Some(origin),
            Some(batch.sequence.get()),
            detail,
        );
        return;
    };
    if let Some(life) = agent.lives.get_mut(&name) {
        life.insert(batch, hash, totals::figures_of(batch), origin, out);
    }
}

/// The kept row with this fingerprint: value and events, zero if there is none.
fn value_in(kept: &[KeptRow], fingerprint: u64) -> (Quantity, u64) {
    match kept.binary_search_by_key(&fingerprint, |row| row.fingerprint) {
        Ok(index) => (kept[index].value, kept[index].events),
        Err(_) => (Quantity::ZERO, 0),
    }
}

#[cfg(test)]
pub(crate) use tests::books as test_support;
#[cfg(test)]
mod tests;
