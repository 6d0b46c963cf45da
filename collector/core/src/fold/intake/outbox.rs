//! What one journal entry causes, collected and brought into order.
//!
//! Conservation is made here: the growth of "accepted" is computed from what is handed on, so
//! that for each tenant, meter and scale it equals the rows plus the declared losses less the
//! losses taken back, for every single entry. What the agent's running totals say is compared
//! with it in [`super::totals`], and a difference becomes a loss or a notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{
    AgentId, BatchSeq, Detail, Incarnation, Loss, LossAmount, LossReason, Quantity, Rollup,
    Timestamp,
};

use super::totals::Key;
use super::{IntakeOutput, Notice, NoticeKind};
use crate::effect::Effect;
use crate::entry::RefusedReason;
use crate::fold::{Accepted, DeclaredLoss, Rows, TenantInput, partition_of};

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

/// A row that is booked, whole or in part, with the verdict of the policy.
#[derive(Clone, Debug)]
pub(super) struct Booking<'a> {
    pub(super) row: &'a Rollup,
    /// What is booked of its value, events and, unless all of it, detail.
    pub(super) value: Quantity,
    pub(super) events: u64,
    pub(super) detail: Option<Detail>,
    pub(super) verdict: Option<RefusedReason>,
}

/// Collects the consequences of one entry.
#[derive(Debug)]
pub(super) struct Outbox {
    partitions: u16,
    accepted: BTreeMap<Key, Quantity>,
    reversed: Vec<DeclaredLoss>,
    rows: Vec<Rows>,
    losses: Vec<DeclaredLoss>,
    watermarks: BTreeMap<AgentId, Timestamp>,
    inputs: Vec<(u16, TenantInput)>,
    effects: Vec<Effect>,
    notices: Vec<Notice>,
}

impl Outbox {
    pub(super) fn new(partitions: u16) -> Self {
        Self {
            partitions,
            accepted: BTreeMap::new(),
            reversed: Vec::new(),
            rows: Vec::new(),
            losses: Vec::new(),
            watermarks: BTreeMap::new(),
            inputs: Vec::new(),
            effects: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn accept(&mut self, key: Key, quantity: Quantity) {
        if !quantity.is_zero() {
            let sum = self.accepted.entry(key).or_default();
            *sum = plus(*sum, quantity);
        }
    }

    /// Hands on rows of one batch, each with the verdict of the policy.
    pub(super) fn rows<'a>(
        &mut self,
        origin: &Origin,
        sequence: BatchSeq,
        rows: impl Iterator<Item = Booking<'a>>,
    ) {
        let empty = || Rows {
            agent: origin.agent.clone(),
            incarnation: origin.incarnation,
            sequence,
            allowed: Vec::new(),
            refused: Vec::new(),
        };
        let mut parts: BTreeMap<u16, Rows> = BTreeMap::new();
        // Rows are sorted by tenant, so that the partition is computed once per tenant.
        let mut tenant = None;
        for booking in rows {
            let Booking {
                row,
                value,
                events,
                detail,
                verdict,
            } = booking;
            let partition = match tenant {
                Some((known, partition)) if known == row.series.tenant() => partition,
                _ => partition_of(row.series.tenant(), self.partitions),
            };
            tenant = Some((row.series.tenant(), partition));
            if row.aggregation.adds_up() {
                self.accept(key_of(row), value);
            }
            let part = parts.entry(partition).or_insert_with(empty);
            let row = Rollup {
                value,
                events,
                detail: detail.unwrap_or_else(|| row.detail.clone()),
                ..row.clone()
            };
            match verdict {
                None => part.allowed.push(row),
                Some(reason) => part.refused.push((row, reason)),
            }
        }
        self.rows.extend(parts.into_values());
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
        for (
            Key {
                tenant,
                meter,
                scale,
            },
            quantity,
        ) in self.accepted
        {
            if !quantity.is_zero() {
                let at = partition_of(&tenant, partitions);
                self.inputs.push((
                    at,
                    TenantInput::Accepted(Accepted {
                        tenant,
                        meter,
                        scale,
                        quantity,
                    }),
                ));
            }
        }
        for loss in self.reversed {
            self.inputs
                .push((partition(&loss), TenantInput::LossReversed(loss)));
        }
        for rows in self.rows {
            let first = rows
                .allowed
                .first()
                .or_else(|| rows.refused.first().map(|(row, _)| row));
            if let Some(at) = first.map(|row| partition_of(row.series.tenant(), partitions)) {
                self.inputs.push((at, TenantInput::Rows(rows)));
            }
        }
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
