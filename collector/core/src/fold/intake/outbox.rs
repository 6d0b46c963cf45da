//! What one journal entry causes, collected and brought into order.
//!
//! Conservation is made here: the growth of "accepted" is computed from what is handed on, so
//! that for each tenant, meter and scale it equals the rows plus the declared losses less the
//! losses taken back, for every single entry. What the agent's running totals say is compared
//! with it in [`super::totals`], and a difference becomes a loss or a notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{
    AgentId, BatchSeq, Incarnation, Loss, LossAmount, LossReason, Quantity, Rollup, TenantId,
    Timestamp,
};

use super::totals::Key;
use super::{IntakeOutput, Notice, NoticeKind};
use crate::effect::Effect;
use crate::fold::{Accepted, DeclaredLoss, RowSet, Rows, TenantInput, partition_of};

/// Sum that stops at the ends of the range.
///
/// Receive refuses figures beyond 2^96, so that no honest sum comes near the end of the range;
/// the fold must survive a dishonest one.
pub(super) fn plus(a: Quantity, b: Quantity) -> Quantity {
    Quantity::new(a.units().saturating_add(b.units()))
}

/// Difference that stops at the ends of the range, see [`plus`].
pub(super) fn minus(a: Quantity, b: Quantity) -> Quantity {
    Quantity::new(a.units().saturating_sub(b.units()))
}

/// The life that a change belongs to.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) agent: AgentId,
    pub(super) incarnation: Incarnation,
}

/// Collects the consequences of one entry.
#[derive(Debug)]
pub(super) struct Outbox {
    partitions: u16,
    /// Rows of windows that begin later are refused.
    not_after: Timestamp,
    /// By account, in the order in which they came up: mostly that of the keys.
    accepted: Vec<(Key, Quantity)>,
    reversed: Vec<DeclaredLoss>,
    rows: Vec<(u16, Rows)>,
    /// The partitions of the rows' tenants, mostly in the order of these.
    homes: Vec<(TenantId, u16)>,
    losses: Vec<DeclaredLoss>,
    watermarks: BTreeMap<AgentId, Timestamp>,
    inputs: Vec<(u16, TenantInput)>,
    effects: Vec<Effect>,
    notices: Vec<Notice>,
}

impl Outbox {
    pub(super) fn new(partitions: u16, not_after: Timestamp) -> Self {
        Self {
            partitions,
            not_after,
            accepted: Vec::new(),
            reversed: Vec::new(),
            rows: Vec::new(),
            homes: Vec::new(),
            losses: Vec::new(),
            watermarks: BTreeMap::new(),
            inputs: Vec::new(),
            effects: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn accept(&mut self, key: Key, quantity: Quantity) {
        match self.accepted.last_mut() {
            Some((known, sum)) if *known == key => *sum = plus(*sum, quantity),
            _ => self.accepted.push((key, quantity)),
        }
    }

    /// Hands on rows of one batch.
    pub(super) fn rows(&mut self, origin: &Origin, sequence: BatchSeq, rows: RowSet) {
        for run in rows.runs().filter(|run| run.first().aggregation.adds_up()) {
            self.accept(key_of(run.first()), run.sum());
        }
        let rows = rows.refused_after(self.not_after);
        let homes = &mut self.homes;
        let parts = rows.by_partition(self.partitions, |tenant, partition| {
            homes.push((tenant.clone(), partition));
        });
        let parts = parts.into_iter();
        self.rows.extend(parts.map(|(partition, rows)| {
            let rows = Rows {
                agent: origin.agent.clone(),
                incarnation: origin.incarnation,
                sequence,
                rows,
            };
            (partition, rows)
        }));
    }

    /// Declares a loss.
    pub(super) fn loss(&mut self, declared: DeclaredLoss) {
        if let Some((key, quantity)) = account_of(&declared) {
            self.accept(key, quantity);
        }
        self.losses.push(declared);
    }

    /// Takes back exactly what was declared.
    pub(super) fn reverse(&mut self, declared: DeclaredLoss) {
        if let Some((key, quantity)) = account_of(&declared) {
            self.accept(key, minus(Quantity::ZERO, quantity));
        }
        // What this very entry declared has not been handed on yet.
        if let Some(index) = self.losses.iter().rposition(|loss| *loss == declared) {
            self.losses.remove(index);
        } else {
            self.reversed.push(declared);
        }
    }

    pub(super) fn watermark(&mut self, agent: AgentId, watermark: Timestamp) {
        self.watermarks.insert(agent, watermark);
    }

    pub(super) fn broadcast(&mut self, input: &TenantInput) {
        self.inputs
            .extend((0..self.partitions).map(|partition| (partition, input.clone())));
    }

    pub(super) fn send(&mut self, partition: u16, input: TenantInput) {
        self.inputs.push((partition, input));
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn notice(
        &mut self,
        kind: NoticeKind,
        origin: Option<&Origin>,
        sequence: Option<u64>,
        detail: String,
    ) {
        self.notices.push(Notice {
            kind,
            agent: origin.map(|origin| origin.agent.clone()),
            incarnation: origin.map(|origin| origin.incarnation),
            sequence,
            detail,
        });
    }

    /// Everything in the order: what was accepted, losses taken back, rows, losses,
    /// watermarks.
    pub(super) fn finish(mut self) -> IntakeOutput {
        let partitions = self.partitions;
        let partition = |loss: &DeclaredLoss| {
            loss.loss
                .tenant
                .as_ref()
                .map_or(0, |t| partition_of(t, partitions))
        };
        let mut accepted: BTreeMap<u16, Vec<Accepted>> = BTreeMap::new();
        let mut homes = &self.homes[..];
        for (key, quantity) in merged(self.accepted) {
            // What is accepted mostly stands in rows.
            while let [(before, _), rest @ ..] = homes
                && *before < key.tenant
            {
                homes = rest;
            }
            let at = match homes.first() {
                Some((tenant, at)) if *tenant == key.tenant => *at,
                _ => partition_of(&key.tenant, partitions),
            };
            let Key {
                tenant,
                meter,
                scale,
            } = key;
            accepted.entry(at).or_default().push(Accepted {
                tenant,
                meter,
                scale,
                quantity,
            });
        }
        let accepted = accepted.into_iter();
        self.inputs
            .extend(accepted.map(|(at, accepted)| (at, TenantInput::Accepted(accepted))));
        for loss in self.reversed {
            self.inputs
                .push((partition(&loss), TenantInput::LossReversed(loss)));
        }
        let rows = self.rows.into_iter();
        self.inputs
            .extend(rows.map(|(at, rows)| (at, TenantInput::Rows(rows))));
        for loss in self.losses {
            self.inputs
                .push((partition(&loss), TenantInput::Loss(loss)));
        }
        if !self.watermarks.is_empty() {
            let input = TenantInput::Watermarks(Arc::new(self.watermarks));
            self.inputs
                .extend((0..partitions).map(|partition| (partition, input.clone())));
        }
        IntakeOutput {
            inputs: self.inputs,
            effects: self.effects,
            notices: self.notices,
        }
    }
}

/// One sum for each account, in the order of the keys; none that is zero.
fn merged(mut accepted: Vec<(Key, Quantity)>) -> impl Iterator<Item = (Key, Quantity)> {
    accepted.sort_by(|(a, _), (b, _)| a.cmp(b));
    accepted.dedup_by(|(key, quantity), (kept, sum)| {
        let same = key == kept;
        if same {
            *sum = plus(*sum, *quantity);
        }
        same
    });
    accepted
        .into_iter()
        .filter(|(_, quantity)| !quantity.is_zero())
}

/// The account that a sum row belongs to.
pub(super) fn key_of(row: &Rollup) -> Key {
    Key {
        tenant: row.series.tenant().clone(),
        meter: row.series.meter().clone(),
        scale: row.scale,
    }
}

/// The account that a loss belongs to, and its quantity; none where either is not known.
fn account_of(declared: &DeclaredLoss) -> Option<(Key, Quantity)> {
    let quantity = match declared.loss.amount {
        LossAmount::Exact(quantity) | LossAmount::AtMost(quantity) => quantity,
        LossAmount::Unknown => return None,
    };
    let tenant = declared.loss.tenant.clone()?;
    let meter = declared.loss.meter.clone()?;
    Some((
        Key {
            tenant,
            meter,
            scale: declared.scale,
        },
        quantity,
    ))
}

/// A loss of unknown amount in batches `from` to `to`.
pub(super) fn unknown(
    origin: &Origin,
    sequences: Option<(u64, u64)>,
    reason: LossReason,
    (from, to): (Timestamp, Timestamp),
) -> DeclaredLoss {
    DeclaredLoss {
        agent: Some(origin.agent.clone()),
        incarnation: Some(origin.incarnation),
        sequences,
        scale: tollgate_common::Scale::ZERO,
        loss: Loss {
            reason,
            tenant: None,
            meter: None,
            amount: LossAmount::Unknown,
            from,
            to,
        },
    }
}

/// A loss of unknown amount of which not even the agent is known.
pub(super) fn anybodys(from: Timestamp, to: Timestamp) -> DeclaredLoss {
    DeclaredLoss {
        agent: None,
        incarnation: None,
        sequences: None,
        scale: tollgate_common::Scale::ZERO,
        loss: Loss {
            reason: LossReason::JournalDamaged,
            tenant: None,
            meter: None,
            amount: LossAmount::Unknown,
            from,
            to,
        },
    }
}
