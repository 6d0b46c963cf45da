//! Running totals: what batches that never came must have held.
//!
//! A batch carries, for each tenant and meter of its rows, what its incarnation had counted in
//! all up to it (a final batch: for every tenant and meter). Over the contiguous prefix, where
//! every sequence number is either received or declared lost, this gives an exact price:
//!
//! ```text
//! lost = growth of the total since the last batch that had one - rows received since then
//! ```
//!
//! If a lost batch lies in between, that is its loss, exact. If none does, the agent's figures
//! contradict each other: more by its totals is declared lost as a mismatch, less is reported
//! and the rows stand. Either way `total` below is what has been accepted of the account.
//!
//! A batch that turns up after all takes back the loss that covers it, and what remains is
//! declared anew on both sides of it.

use serde::{Deserialize, Serialize};
use tollgate_common::{
    Aggregation, Batch, Loss, LossAmount, LossReason, MeterName, Quantity, Scale, TenantId,
    Timestamp, Total,
};

use super::NoticeKind;
use super::lost::{LostRanges, read_reason, write_reason};
use super::outbox::{Origin, Outbox, key_of, minus, plus};
use super::states::{State, States};
use crate::fold::{DeclaredLoss, RowSet, Run};

/// Most exact losses per life that can still be taken back.
pub(super) const DECLARED_MAX: usize = 16_384;

/// An account: tenant, meter and decimal places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) tenant: TenantId,
    pub(super) meter: MeterName,
    pub(super) scale: Scale,
}

/// What a batch says of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figure {
    /// The running total, if the batch has one.
    pub(super) total: Option<Quantity>,
    /// Sum of its rows.
    pub(super) rows: Quantity,
}

/// What a batch says of its accounts, in their order.
pub(super) type Figures = Vec<(Key, Figure)>;

/// The figures of a batch with these rows.
pub(super) fn figures_of(batch: &Batch, rows: &RowSet) -> Figures {
    // Rows are sorted by tenant and meter: one figure for each run, mostly in order.
    let mut figures: Figures = Vec::with_capacity(rows.runs().len() + batch.totals.len());
    let is_sum = |run: &Run<'_>| run.first().aggregation == Aggregation::Sum;
    for run in rows.runs().filter(is_sum) {
        let row = run.first();
        match figures.last_mut() {
            Some((key, figure))
                if key.scale == row.scale
                    && key.meter == *row.series.meter()
                    && key.tenant == *row.series.tenant() =>
            {
                figure.rows = plus(figure.rows, run.sum());
            }
            _ => {
                let figure = Figure {
                    total: None,
                    rows: run.sum(),
                };
                figures.push((key_of(row), figure));
            }
        }
    }
    let mut next = 0;
    let mut others: Figures = Vec::new();
    for total in &batch.totals {
        // Nearly every total is that of the next run.
        while figures
            .get(next)
            .is_some_and(|(key, _)| key.is_before(total))
        {
            next += 1;
        }
        match figures.get_mut(next) {
            Some((key, figure)) if key.is_of(total) => {
                figure.total = Some(total.quantity);
                next += 1;
            }
            _ => {
                let key = Key {
                    tenant: total.tenant.clone(),
                    meter: total.meter.clone(),
                    scale: total.scale,
                };
                let figure = Figure {
                    total: Some(total.quantity),
                    rows: Quantity::ZERO,
                };
                others.push((key, figure));
            }
        }
    }
    figures.append(&mut others);
    if !figures.is_sorted_by(|(a, _), (b, _)| a < b) {
        figures.sort_by(|(a, _), (b, _)| a.cmp(b));
        figures.dedup_by(|(key, figure), (kept, all)| {
            let same = key == kept;
            if same {
                all.rows = plus(all.rows, figure.rows);
                all.total = figure.total.or(all.total);
            }
            same
        });
    }
    figures
}

impl Key {
    fn is_of(&self, total: &Total) -> bool {
        self.scale == total.scale && self.meter == total.meter && self.tenant == total.tenant
    }

    fn is_before(&self, total: &Total) -> bool {
        // What is equal is mostly the very same name.
        let is_same = self.is_of(total);
        let key = (&self.tenant, &self.meter, self.scale);
        !is_same && key < (&total.tenant, &total.meter, total.scale)
    }
}

/// An exact loss that may still be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Declared {
    key: Key,
    /// The total-bearing batches around the lost ones, exclusive.
    after: u64,
    before: u64,
    /// The total at `after`.
    base: Quantity,
    quantity: Quantity,
    sequences: (u64, u64),
    #[serde(serialize_with = "write_reason", deserialize_with = "read_reason")]
    reason: LossReason,
    from: Timestamp,
    to: Timestamp,
}

impl Declared {
    fn loss(&self, origin: &Origin) -> DeclaredLoss {
        DeclaredLoss {
            agent: Some(origin.agent.clone()),
            incarnation: Some(origin.incarnation),
            sequences: Some(self.sequences),
            scale: self.key.scale,
            loss: Loss {
                reason: self.reason,
                tenant: Some(self.key.tenant.clone()),
                meter: Some(self.key.meter.clone()),
                amount: LossAmount::Exact(self.quantity),
                from: self.from,
                to: self.to,
            },
        }
    }

    fn covers(&self, sequence: u64) -> bool {
        self.after < sequence && sequence < self.before
    }
}

/// The accounts of one life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Whether totals start at zero: true for an incarnation, false for a branch, which
    /// inherits totals that nobody kept. There an account begins with its first figure.
    from_zero: bool,
    base: u64,
    /// Start of the first batch's span.
    opened: Timestamp,
    states: States,
    declared: Vec<Declared>,
}

impl Totals {
    pub(super) fn new(base: u64, from_zero: bool, opened: Timestamp) -> Self {
        Self {
            from_zero,
            base,
            opened,
            states: States::default(),
            declared: Vec::new(),
        }
    }

    /// True if the totals of a final batch price every loss of the life.
    pub(super) fn prices_everything(&self) -> bool {
        self.from_zero
    }

    /// Forgets everything; what was declared stands.
    pub(super) fn clear(&mut self) {
        self.from_zero = false;
        self.states = States::default();
        self.declared = Vec::new();
    }

    /// Takes up the figures of batch `sequence`, next in the prefix.
    pub(super) fn advance(
        &mut self,
        sequence: u64,
        figures: &Figures,
        cut: Timestamp,
        context: &mut Context<'_>,
    ) {
        let mut next = 0;
        for at in 0..figures.len() {
            next = self.account((sequence, sequence), &figures[at..], (cut, next), context);
        }
    }

    /// Takes up what is remembered of batch `sequence`, which is lost, and next in the prefix.
    pub(super) fn recall(
        &mut self,
        sequence: u64,
        figures: &Figures,
        cut: Timestamp,
        context: &mut Context<'_>,
    ) {
        let end = sequence.saturating_add(1);
        let mut next = 0;
        for at in 0..figures.len() {
            next = self.account((sequence, end), &figures[at..], (cut, next), context);
        }
    }

    /// Takes up the first of the figures of batch `sequence` that are left. What it shows to be lost
    /// is in batches before `end`. The account is probably that at `expected`; answers what is
    /// probably the next one's.
    fn account(
        &mut self,
        (sequence, end): (u64, u64),
        left: &[(Key, Figure)],
        (cut, expected): (Timestamp, usize),
        context: &mut Context<'_>,
    ) -> usize {
        let Some((key, figure)) = left.first() else {
            return expected;
        };
        let index = match self.states.find_near(key, expected) {
            Ok(index) => index,
            Err(_) if self.fresh(figure).is_none() => return expected,
            Err(index) => {
                self.open(left);
                index
            }
        };
        let before = self.states.get(index);
        let rows = plus(figure.rows, before.unlisted);
        let Some(total) = figure.total else {
            let unlisted = rows;
            self.states.set(index, State { unlisted, ..before });
            return index + 1;
        };
        let explained = plus(before.total, rows);
        let excess = minus(total, explained);
        let state = State {
            total: Ord::max(total, explained),
            at: sequence,
            cut,
            unlisted: Quantity::ZERO,
        };
        self.states.set(index, state);
        if excess.is_negative() {
            context.mismatch(key, sequence, excess);
        } else if !excess.is_zero() {
            self.declare(
                key,
                (before.at, end),
                before.total,
                excess,
                (before.cut, cut),
                context,
            );
        }
        index + 1
    }

    /// Opens all accounts of these figures that are new.
    fn open(&mut self, figures: &[(Key, Figure)]) {
        let mut expected = 0;
        let mut fresh = Vec::new();
        for (key, figure) in figures {
            match self.states.find_near(key, expected) {
                Ok(index) => expected = index + 1,
                Err(index) => {
                    fresh.extend(self.fresh(figure).map(|state| (index, key, state)));
                    expected = index;
                }
            }
        }
        // What a life remembers need not be in order.
        fresh.sort_by_key(|(_, key, _)| *key);
        fresh.dedup_by(|(_, again, _), (_, key, _)| again == key);
        self.states.insert_all(&fresh);
    }

    /// With what an account begins whose first figure this is. A branch's begins with its first
    /// total.
    fn fresh(&self, figure: &Figure) -> Option<State> {
        let total = match figure.total {
            _ if self.from_zero => Quantity::ZERO,
            total => minus(total?, figure.rows),
        };
        Some(State {
            total,
            at: self.base,
            cut: self.opened,
            unlisted: Quantity::ZERO,
        })
    }

    /// Declares `quantity` lost between the batches `after` and `before`.
    fn declare(
        &mut self,
        key: &Key,
        (after, before): (u64, u64),
        base: Quantity,
        quantity: Quantity,
        (from, to): (Timestamp, Timestamp),
        context: &mut Context<'_>,
    ) {
        let lost = context.lost.between(after, before);
        let (low, high, reason) = lost.unwrap_or((before, before, LossReason::TotalsMismatch));
        let (from, to) = (from.min(to), to.max(from));
        let declared = Declared {
            key: key.clone(),
            after,
            before,
            base,
            quantity,
            sequences: (low, high),
            reason,
            from,
            to,
        };
        context.out.loss(declared.loss(context.origin));
        if lost.is_some() {
            self.declared.push(declared);
        }
    }

    /// Takes up the figures of batch `sequence`, which had been passed over as lost.
    /// `context.lost` no longer holds it.
    pub(super) fn late(
        &mut self,
        sequence: u64,
        figures: &Figures,
        cut: Timestamp,
        context: &mut Context<'_>,
    ) {
        for (at, (key, figure)) in figures.iter().enumerate() {
            let covering = self
                .declared
                .iter()
                .position(|d| d.key == *key && d.covers(sequence));
            if let Some(index) = covering {
                let declared = self.declared.remove(index);
                context.out.reverse(declared.loss(context.origin));
                self.split(sequence, &declared, *figure, cut, context);
                continue;
            }
            let passed = self
                .states
                .find(key)
                .is_ok_and(|index| self.states.get(index).at > sequence);
            if !passed {
                self.account((sequence, sequence), &figures[at..], (cut, 0), context);
            } else if self.from_zero && !figure.rows.is_zero() {
                // Later totals left no room for these rows; the rows stand.
                self.raise(key, figure.rows);
                context.mismatch(key, sequence, minus(Quantity::ZERO, figure.rows));
            }
        }
        self.restate(context);
    }

    /// Declares anew what is left of `declared` beside the rows of batch `sequence`.
    fn split(
        &mut self,
        sequence: u64,
        declared: &Declared,
        figure: Figure,
        cut: Timestamp,
        context: &mut Context<'_>,
    ) {
        let Declared {
            key,
            after,
            before,
            base,
            quantity,
            from,
            to,
            ..
        } = declared.clone();
        let left = figure
            .total
            .map(|total| minus(minus(total, base), figure.rows));
        let right = figure
            .total
            .map(|total| minus(quantity, minus(total, base)));
        if let (Some(total), Some(left), Some(right)) = (figure.total, left, right)
            && !left.is_negative()
            && !right.is_negative()
        {
            if !left.is_zero() {
                self.declare(&key, (after, sequence), base, left, (from, cut), context);
            }
            if !right.is_zero() {
                self.declare(&key, (sequence, before), total, right, (cut, to), context);
            }
            return;
        }
        let rest = minus(quantity, figure.rows);
        if rest.is_negative() {
            self.raise(&key, minus(Quantity::ZERO, rest));
            context.mismatch(&key, sequence, rest);
        } else if !rest.is_zero() {
            self.declare(&key, (after, before), base, rest, (from, to), context);
        }
    }

    fn raise(&mut self, key: &Key, by: Quantity) {
        if let Ok(index) = self.states.find(key) {
            let state = self.states.get(index);
            let total = plus(state.total, by);
            self.states.set(index, State { total, ..state });
        }
    }

    /// Declares anew, with the numbers that are still lost, what names batches that have
    /// turned up without rows of the account. If none is lost any more, the totals do not fit.
    fn restate(&mut self, context: &mut Context<'_>) {
        let lost = context.lost;
        let still = |d: &Declared| {
            lost.between(d.after, d.before)
                .is_some_and(|(first, last, _)| (first, last) == d.sequences)
        };
        let changed: Vec<Declared> = self.declared.extract_if(.., |d| !still(d)).collect();
        for declared in changed {
            context.out.reverse(declared.loss(context.origin));
            let Declared {
                key,
                after,
                before,
                base,
                quantity,
                from,
                to,
                ..
            } = declared;
            self.declare(&key, (after, before), base, quantity, (from, to), context);
        }
    }

    /// Bounds what can be taken back: while there is too much of it, the range of lost batches
    /// around the oldest loss is returned, to be given up for good.
    pub(super) fn over_bound(&mut self) -> Option<(u64, u64)> {
        if self.declared.len() <= DECLARED_MAX {
            return None;
        }
        let oldest = self.declared.iter().map(|d| (d.after, d.before)).min()?;
        Some((oldest.0.saturating_add(1), oldest.1.saturating_sub(1)))
    }

    /// Forgets losses that can no longer be taken back.
    pub(super) fn forget_given_up(&mut self, lost: &LostRanges) {
        self.declared
            .retain(|d| lost.between(d.after, d.before).is_some());
    }
}

/// What the accounts need to see and where they declare.
pub(super) struct Context<'a> {
    pub(super) origin: &'a Origin,
    pub(super) lost: &'a LostRanges,
    pub(super) out: &'a mut Outbox,
}

impl Context<'_> {
    fn mismatch(&mut self, key: &Key, sequence: u64, excess: Quantity) {
        let short = minus(Quantity::ZERO, excess);
        let detail = format!(
            "rows of {}/{} are {short} above the running total; the rows stand",
            key.tenant, key.meter
        );
        self.out.notice(
            NoticeKind::TotalsBelowRows,
            Some(self.origin),
            Some(sequence),
            detail,
        );
    }
}
