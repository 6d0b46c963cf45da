//! Declared losses that somebody learns of while the agent runs.
//!
//! An input that knows of usage which cannot be counted any more (the page of an application
//! is gone, a counter of the host went back) declares it here. Declarations travel in a batch
//! of their own, without rows or totals, which the next tick seals: at the latest
//! `EVERY_MILLIS` (a second) after the one before.
//!
//! # What a kill may take
//!
//! What waits lies in memory, and a batch in the spool is the first durable form. So whoever
//! declares keeps the evidence (the mirror of a page, say) until
//! [`Declarations::is_durable`], and declares again in its next life if it never came to that:
//! a kill between the two can repeat a declaration, but not lose it. What the engine itself
//! reads from the accounts of the inputs (see `Watch`) has no such evidence: a kill takes
//! the declaration, not the figures of the account, of what came in since the last tick.
//!
//! # Bounds
//!
//! A batch has at most `AGREEING_MAX` (16) declarations one by one: of more, those that agree in reason, tenant,
//! meter and certainty become one, because each is an entry of a ledger, and an application may make
//! pages without end. At most `WAITING_MAX` (1,024) declarations wait. Beyond that those that agree in reason, tenant,
//! meter and certainty become one; then those that agree in reason and tenant, of unknown
//! amount because different meters do not add up; then those that agree in the reason. Their
//! time is that of all of them together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate_common::limits::BATCH_LOSSES_MAX;
use tollgate_common::{Loss, LossAmount, LossReason, MeterName, Quantity, TenantId, Timestamp};

use crate::aggregate::{Cells, InputLoss, Region, Rejection};

/// Most declarations that wait one by one: with the longest names about 300 KiB of a batch.
const WAITING_MAX: usize = 1024;
/// Most declarations of a batch of which several may agree in all but their time and amount.
const AGREEING_MAX: usize = 16;
/// There are fewer reasons than this.
const REASONS_MAX: usize = 64;
// The batch may have the loss of an inherited incarnation and of damaged cells besides.
const _: () = assert!(WAITING_MAX + 2 <= BATCH_LOSSES_MAX && REASONS_MAX < WAITING_MAX / 2);
/// Shortest time between two batches of declarations.
pub(super) const EVERY_MILLIS: i64 = 1_000;
/// Amounts above this are not the usage of anything, and no collector takes them.
const AMOUNT_MAX: i128 = 1 << 95;

/// A declaration that was made; says whether it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared(u64);

#[derive(Default)]
struct Queue {
    waiting: Vec<Loss>,
    /// In the batch that is being sealed.
    taken: Vec<Loss>,
    /// How many have been declared, taken, and made durable.
    declared: u64,
    taken_to: u64,
    durable_to: u64,
}

/// Where losses are declared, from any thread.
#[derive(Clone, Default)]
pub struct Declarations(Arc<Mutex<Queue>>);

impl Declarations {
    /// Declares a loss. An amount that is known is in whole units of the meter (scale 0);
    /// one below zero or above 2^95 counts as unknown.
    pub fn declare(&self, loss: Loss) -> Declared {
        let mut queue = self.queue();
        queue.waiting.push(checked(loss));
        if queue.waiting.len() > WAITING_MAX {
            merge(&mut queue.waiting);
        }
        queue.declared += 1;
        Declared(queue.declared)
    }

    /// True once a batch with the declaration is in the spool: no end of the process takes it
    /// any more, and whatever it was based on may be forgotten.
    pub fn is_durable(&self, declared: Declared) -> bool {
        self.queue().durable_to >= declared.0
    }

    /// Declarations that are not durable.
    pub(super) fn waiting(&self) -> usize {
        let queue = self.queue();
        queue.waiting.len() + queue.taken.len()
    }

    /// What the next batch is to declare. What an earlier call gave and was not
    /// [settled](Self::settle) is in it.
    pub(super) fn take(&self) -> Vec<Loss> {
        let mut queue = self.queue();
        let waiting = std::mem::take(&mut queue.waiting);
        queue.taken.extend(waiting);
        if queue.taken.len() > AGREEING_MAX {
            merge_alike(&mut queue.taken, Merge::Meter);
        }
        if queue.taken.len() > WAITING_MAX {
            merge(&mut queue.taken);
        }
        queue.taken_to = queue.declared;
        queue.taken.clone()
    }

    /// What was taken is durable.
    pub(super) fn settle(&self) {
        let mut queue = self.queue();
        queue.taken.clear();
        queue.durable_to = queue.taken_to;
    }

    /// The queue is whole between any two statements that can panic, of which there are none.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn checked(loss: Loss) -> Loss {
    let amount = match loss.amount {
        LossAmount::Exact(quantity) | LossAmount::AtMost(quantity)
            if !(0..=AMOUNT_MAX).contains(&quantity.units()) =>
        {
            LossAmount::Unknown
        }
        amount => amount,
    };
    Loss {
        amount,
        to: loss.to.max(loss.from),
        ..loss
    }
}

/// How coarse a merge is.
const LEVELS: [Merge; 3] = [Merge::Meter, Merge::Tenant, Merge::Reason];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    Meter,
    Tenant,
    Reason,
}

type Key = (LossReason, Option<TenantId>, Option<MeterName>, u8);

fn key(loss: &Loss, how: Merge) -> Key {
    let certainty = match loss.amount {
        LossAmount::Exact(_) => 0,
        LossAmount::AtMost(_) => 1,
        LossAmount::Unknown => 2,
    };
    let (tenant, meter) = (loss.tenant.clone(), loss.meter.clone());
    match how {
        Merge::Meter => (loss.reason, tenant, meter, certainty),
        Merge::Tenant => (loss.reason, tenant, None, 0),
        Merge::Reason => (loss.reason, None, None, 0),
    }
}

/// Makes room for half of what may wait, so that it is not done again for every loss.
fn merge(losses: &mut Vec<Loss>) {
    for how in LEVELS {
        merge_alike(losses, how);
        if losses.len() <= WAITING_MAX / 2 {
            return;
        }
    }
}

/// Makes one of those that agree.
fn merge_alike(losses: &mut Vec<Loss>, how: Merge) {
    let mut merged: BTreeMap<Key, Loss> = BTreeMap::new();
    for loss in losses.drain(..) {
        let key = key(&loss, how);
        match merged.get_mut(&key) {
            Some(met) => join(met, &loss, how),
            None => drop(merged.insert(key, loss)),
        }
    }
    losses.extend(merged.into_values());
}

fn join(met: &mut Loss, loss: &Loss, how: Merge) {
    met.from = met.from.min(loss.from);
    met.to = met.to.max(loss.to);
    let sum = |a: Quantity, b: Quantity| Quantity::new(a.units().saturating_add(b.units()));
    met.amount = match (met.amount, loss.amount) {
        (LossAmount::Exact(a), LossAmount::Exact(b)) if how == Merge::Meter => {
            LossAmount::Exact(sum(a, b))
        }
        (LossAmount::AtMost(a), LossAmount::AtMost(b)) if how == Merge::Meter => {
            LossAmount::AtMost(sum(a, b))
        }
        _ => LossAmount::Unknown,
    };
    if met.tenant != loss.tenant {
        met.tenant = None;
    }
    if met.meter != loss.meter {
        met.meter = None;
    }
    *met = checked(met.clone());
}

/// What the accounts of inputs count as lost that is also a loss of usage, and as what it is
/// declared. Whose it was nobody knows.
const LOST: [(InputLoss, LossReason); 2] = [
    (InputLoss::CounterReset, LossReason::CounterReset),
    (InputLoss::Shutdown, LossReason::InputStopped),
];

/// How often refused series are declared at most: who makes them without end would fill ledgers.
const REFUSED_EVERY_MILLIS: i64 = 60_000;
/// Tenants that are named at a time, those with most events; the others are nobody in particular.
const REFUSED_NAMED_MAX: usize = 16;

/// Looks whether the accounts of the inputs and of tenants have grown by something that is to be
/// declared: events, of which nobody knows how much they were worth.
pub(super) struct Watch {
    lost: [u64; LOST.len()],
    since: Timestamp,
    refused: Refused,
    /// What is refused is declared up to then.
    refused_since: Timestamp,
    /// And is looked at again then.
    refused_at: Timestamp,
}

/// Events of series that found no room, here or in the pages of applications.
#[derive(Default)]
struct Refused {
    all: u64,
    /// By tenant; none with 0.
    of: BTreeMap<TenantId, u64>,
}

impl Refused {
    fn read<R: Region>(cells: &Cells<R>) -> Self {
        // An input counts an event for all before it does for its tenant: read in this order,
        // hardly any is taken for one of nobody that is about to be somebody's.
        let all = cells.events_rejected(Rejection::SeriesFull);
        let of = cells.rejected_of_tenants(Rejection::SeriesFull);
        // Of what finds no room in a page its application keeps the number alone.
        let all = all.saturating_add(cells.events_lost(InputLoss::PageFull));
        Self { all, of }
    }

    /// Those that are of no tenant with an account of its own.
    fn of_nobody(&self) -> u64 {
        let known = self
            .of
            .values()
            .fold(0, |n: u64, &more| n.wrapping_add(more));
        self.all.saturating_sub(known)
    }

    /// Whose events have become more since `before`, at most so many; `None` stands for all others.
    fn more_since(&self, before: &Self) -> Vec<Option<TenantId>> {
        let more = |tenant| {
            let was = before.of.get(tenant).copied().unwrap_or(0);
            self.of[tenant].saturating_sub(was)
        };
        let mut tenants: Vec<_> = self.of.keys().map(|of| (more(of), of)).collect();
        tenants.retain(|(more, _)| *more > 0);
        tenants.sort_by_key(|(more, _)| std::cmp::Reverse(*more));
        let others = tenants.len() > REFUSED_NAMED_MAX || self.of_nobody() > before.of_nobody();
        tenants.truncate(REFUSED_NAMED_MAX);
        let named = tenants.into_iter().map(|(_, of)| Some(of.clone()));
        named.chain(others.then_some(None)).collect()
    }
}

impl Watch {
    pub(super) fn new<R: Region>(cells: &Cells<R>, now: Timestamp) -> Self {
        Self {
            lost: LOST.map(|(cause, _)| cells.events_lost(cause)),
            since: now,
            refused: Refused::read(cells),
            refused_since: now,
            refused_at: now,
        }
    }

    /// Declares what has been added up to `now`, in window time; `is_last` if nothing comes any
    /// more.
    pub(super) fn look<R: Region>(
        &mut self,
        cells: &Cells<R>,
        now: Timestamp,
        is_last: bool,
        declarations: &Declarations,
    ) {
        let declare = |reason, tenant, from: Timestamp| {
            declarations.declare(Loss {
                reason,
                tenant,
                meter: None,
                amount: LossAmount::Unknown,
                from: from.min(now),
                to: now,
            });
        };
        for (seen, (cause, reason)) in self.lost.iter_mut().zip(LOST) {
            let lost = cells.events_lost(cause);
            if lost != *seen {
                declare(reason, None, self.since);
            }
            *seen = lost;
        }
        if is_last || now >= self.refused_at {
            let refused = Refused::read(cells);
            let more = refused.more_since(&self.refused);
            if !more.is_empty() {
                self.refused_at = now.plus_millis(REFUSED_EVERY_MILLIS);
            }
            for tenant in more {
                declare(LossReason::SeriesRefused, tenant, self.refused_since);
            }
            (self.refused, self.refused_since) = (refused, now);
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_possible_wrap, reason = "small numbers")]
    fn loss(reason: LossReason, tenant: usize, meter: usize, amount: LossAmount) -> Loss {
        Loss {
            reason,
            tenant: Some(TenantId::new(&format!("t{tenant}")).expect("valid")),
            meter: Some(MeterName::new(&format!("m{meter}")).expect("valid")),
            amount,
            from: Timestamp::from_millis(30_000 + tenant as i64),
            to: Timestamp::from_millis(100_000 - meter as i64),
        }
    }

    const ONE: LossAmount = LossAmount::Exact(Quantity::new(1));

    #[test]
    fn what_agrees_is_added_up_when_there_are_too_many() {
        let declarations = Declarations::default();
        for n in 0..=WAITING_MAX {
            declarations.declare(loss(LossReason::PageVanished, n % 3, n % 2, ONE));
        }
        let taken = declarations.take();
        assert_eq!(taken.len(), 6);
        let total: i128 = taken
            .iter()
            .map(|loss| match loss.amount {
                LossAmount::Exact(quantity) => quantity.units(),
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(total, WAITING_MAX as i128 + 1);
    }

    /// An application that makes pages without end is not that many entries of a ledger.
    #[test]
    fn many_that_agree_are_one_of_a_batch() {
        let declarations = Declarations::default();
        let declare = |count, amount| {
            for n in 0..count {
                declarations.declare(loss(LossReason::PageQuarantined, 1, n, amount));
            }
        };
        declare(AGREEING_MAX, LossAmount::Unknown);
        assert_eq!(declarations.take().len(), AGREEING_MAX, "each by itself");
        for _ in 0..20 {
            declarations.declare(loss(LossReason::PageQuarantined, 1, 3, LossAmount::Unknown));
            declarations.declare(loss(LossReason::PageQuarantined, 1, 3, ONE));
        }
        let taken = declarations.take();
        assert_eq!(taken.len(), AGREEING_MAX + 1);
        let known = LossAmount::Exact(Quantity::new(20));
        assert!(taken.iter().any(|loss| loss.amount == known), "{taken:?}");
    }

    #[test]
    fn different_meters_and_tenants_merge_to_unknown_amounts_within_the_bound() {
        let declarations = Declarations::default();
        for n in 0..20 * WAITING_MAX {
            declarations.declare(loss(LossReason::PageVanished, n % 7, n, ONE));
            assert!(declarations.waiting() <= WAITING_MAX);
        }
        let merged = declarations.take();
        let whole = merged
            .iter()
            .find(|loss| loss.meter.is_none())
            .expect("merged");
        assert_eq!(whole.amount, LossAmount::Unknown);
        assert!(whole.tenant.is_some());

        let declarations = Declarations::default();
        for n in 0..20 * WAITING_MAX {
            declarations.declare(loss(LossReason::PageVanished, n, 0, ONE));
            assert!(declarations.waiting() <= WAITING_MAX);
        }
        let merged = declarations.take();
        let whole = merged
            .iter()
            .find(|loss| loss.tenant.is_none())
            .expect("merged");
        assert_eq!(whole.amount, LossAmount::Unknown);
        assert_eq!(whole.from, Timestamp::from_millis(30_000));
        assert_eq!(whole.to, Timestamp::from_millis(100_000));
    }

    #[test]
    fn what_is_declared_while_a_batch_is_made_waits_for_the_next() {
        let declarations = Declarations::default();
        let first = declarations.declare(loss(LossReason::PageVanished, 1, 1, ONE));
        assert_eq!(declarations.take().len(), 1);
        let second = declarations.declare(loss(LossReason::CounterReset, 2, 2, ONE));
        declarations.settle();
        assert!(declarations.is_durable(first) && !declarations.is_durable(second));
        // A batch that found no room is made again.
        assert_eq!(declarations.take().len(), 1);
        assert_eq!(declarations.take().len(), 1);
        declarations.settle();
        assert!(declarations.is_durable(second) && declarations.waiting() == 0);
    }

    #[test]
    fn amounts_that_no_collector_takes_are_unknown() {
        for units in [-1, AMOUNT_MAX + 1] {
            let amount = LossAmount::Exact(Quantity::new(units));
            let loss = checked(loss(LossReason::CounterReset, 0, 0, amount));
            assert_eq!(loss.amount, LossAmount::Unknown);
        }
    }
}
