//! Declared losses: booked when they are declared, and taken back when the usage arrives.

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Incarnation, LossAmount, LossReason, MeterName, Quantity, Scale, TenantId, Timestamp,
};

use super::{TenantFold, account};
use crate::effect::Effect;
use crate::fold::DeclaredLoss;
use crate::ledger::{Certainty, EntryKind, EntryRef, Posting};
use crate::period::Period;
use crate::position::Position;

/// A declaration, so that a reversal finds the entry that booked it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct LossKey {
    agent: Option<AgentId>,
    incarnation: Option<Incarnation>,
    sequences: Option<(u64, u64)>,
    tenant: Option<TenantId>,
    meter: Option<MeterName>,
    scale: Scale,
    /// Number of the reason, see `LossReason::code`.
    reason: u8,
    certainty: Certainty,
    quantity: Quantity,
    from: Timestamp,
    to: Timestamp,
}

impl LossKey {
    pub(super) fn new(declared: &DeclaredLoss) -> Self {
        let (certainty, quantity) = certainty(declared.loss.amount);
        Self {
            agent: declared.agent.clone(),
            incarnation: declared.incarnation,
            sequences: declared.sequences,
            tenant: declared.loss.tenant.clone(),
            meter: declared.loss.meter.clone(),
            scale: declared.scale,
            reason: declared.loss.reason.code(),
            certainty,
            quantity,
            from: declared.loss.from,
            to: declared.loss.to,
        }
    }
}

fn certainty(amount: LossAmount) -> (Certainty, Quantity) {
    match amount {
        LossAmount::Exact(quantity) => (Certainty::Exact, quantity),
        LossAmount::AtMost(quantity) => (Certainty::AtMost, quantity),
        LossAmount::Unknown => (Certainty::Unknown, Quantity::ZERO),
    }
}

/// True for a loss that the intake may take back: of what agents declare in their batches nothing ever
/// arrives, and they may declare for ever.
const fn may_be_taken_back(reason: LossReason) -> bool {
    !matches!(
        reason,
        LossReason::PageVanished
            | LossReason::PageQuarantined
            | LossReason::SeriesRefused
            | LossReason::CounterReset
            | LossReason::InputStopped
            | LossReason::ClockSetBack
    )
}

impl TenantFold {
    /// Books a declared loss.
    pub(super) fn handle_loss(
        &mut self,
        position: Position,
        stamp: Timestamp,
        declared: &DeclaredLoss,
        effects: &mut Vec<Effect>,
    ) {
        let at = self.post(stamp, posting(declared, position), effects);
        if may_be_taken_back(declared.loss.reason) {
            self.losses
                .entry(LossKey::new(declared))
                .or_default()
                .push(at);
        }
        if let Some((key, quantity)) = account::of_loss(declared) {
            self.note_lost(stamp, declared);
            let account = self.accounts.change(&key, |account| {
                account::add(&mut account.lost, quantity);
            });
            effects.push(Effect::Account(account.state(&key)));
        }
    }

    /// Samples that are missing because of a loss are not those of a time without usage.
    fn note_lost(&mut self, stamp: Timestamp, declared: &DeclaredLoss) {
        let loss = &declared.loss;
        let (Some(name), Some(meter)) = (&loss.tenant, &loss.meter) else {
            return;
        };
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        self.changed.note(stamp, name, &mut tenant.changed);
        for book in tenant.books.values_mut() {
            let (start, end) = (
                book.period.start.max(loss.from),
                book.period.end.min(loss.to),
            );
            if start < end && !book.is_closed() {
                book.lose(meter, Period { start, end });
            }
        }
    }

    /// Takes a declared loss back.
    pub(super) fn handle_loss_reversed(
        &mut self,
        position: Position,
        stamp: Timestamp,
        declared: &DeclaredLoss,
        effects: &mut Vec<Effect>,
    ) {
        let key = LossKey::new(declared);
        let original = self.losses.get_mut(&key).and_then(Vec::pop);
        if self.losses.get(&key).is_some_and(Vec::is_empty) {
            self.losses.remove(&key);
        }
        let posting = reversal(declared, original, position);
        let opposite = posting.quantity;
        self.post(stamp, posting, effects);
        if let Some((key, _)) = account::of_loss(declared) {
            let account = self.accounts.change(&key, |account| {
                account::add(&mut account.lost, opposite);
            });
            effects.push(Effect::Account(account.state(&key)));
        }
    }
}

/// The posting of a loss.
fn posting(declared: &DeclaredLoss, position: Position) -> Posting {
    let (certainty, quantity) = certainty(declared.loss.amount);
    let loss = &declared.loss;
    let mut posting = Posting::new(
        EntryKind::Loss,
        loss.from,
        loss.to,
        loss.reason.as_str(),
        position,
    );
    posting.tenant.clone_from(&loss.tenant);
    posting.meter.clone_from(&loss.meter);
    posting.quantity = quantity;
    posting.scale = declared.scale;
    posting.certainty = certainty;
    posting.agent.clone_from(&declared.agent);
    posting.incarnation = declared.incarnation;
    posting.sequences = declared.sequences;
    posting
}

/// The posting that takes a loss back: the same with the opposite sign, so that the sum of
/// all losses is what is lost in the end.
fn reversal(declared: &DeclaredLoss, original: Option<EntryRef>, position: Position) -> Posting {
    let loss = posting(declared, position);
    // Only -2^127, which no agent can count, has no opposite.
    let quantity = Quantity::ZERO
        .checked_sub(loss.quantity)
        .unwrap_or(Quantity::MAX);
    Posting {
        kind: EntryKind::LossReversed,
        quantity,
        refers_to: original,
        ..loss
    }
}
