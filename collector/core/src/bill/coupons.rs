//! Discounts on several lines that come behind commitments, by `commitments-first/1`: a coupon takes
//! from what a tenant is to pay at least as from all else.
//!
//! What counts for a commitment, and what is missing to it, is known by then and stays as it is.

use rust_decimal::Decimal;

use super::around::{self, Scope, prices_of};
use super::line::{BillLine, LineRole, Source};
use super::plan::Plan;
use super::work::taken;
use super::{BillInput, NoBill, split};
use crate::catalog::{Counts, Discount, Order, Price};
use crate::ledger::{Step, StepKind};
use crate::rate::{Mode, Ratio};

/// Takes the coupons from the lines, a group's before the invoice's.
pub(super) fn apply(input: &BillInput<'_>, lines: &mut [BillLine<'_>]) -> Result<(), NoBill> {
    let plans = Plan::all(input.slices);
    let scopes = around::scopes(&plans);
    for (scope, joint) in around::joint_discounts(input, &scopes) {
        if joint.order == Order::CommitmentsFirst1 {
            let holds = |line: &BillLine<'_>| holds(&plans, scope, line, &joint.counts);
            take(lines, holds, &joint.discount).ok_or(NoBill::TooLarge)?;
        }
    }
    Ok(())
}

/// True for a line that a coupon takes from: of a price that it names, or of what is missing to a
/// minimum or a commitment, or costs more above one, if all that counts there counts here.
fn holds(plans: &[Plan<'_>], scope: &Scope<'_>, line: &BillLine<'_>, counts: &Counts) -> bool {
    let card = line.key.card.as_deref();
    let prices = || -> Vec<&Price> { prices_of(plans, card, scope.currency) };
    line.key.currency == scope.currency
        && scope.card.is_none_or(|own| card == Some(own))
        && match (&line.source, line.key.role) {
            (Source::Rated(item), _) => counts.includes(item.price),
            (Source::Minimum(bound), _) => counts.covers(&bound.counts, prices()),
            (Source::Commitment(commitment), LineRole::TrueUp | LineRole::Overage) => {
                counts.covers(&commitment.counts, prices())
            }
            // What is for the next period, or given back of this one; what is paid beside usage.
            (
                Source::Advance(_) | Source::Unused | Source::Commitment(_) | Source::Rounding(_),
                _,
            ) => false,
        }
}

/// Takes a discount from lines together: it is worked out once, rounded once, and split in
/// proportion to what the lines come to.
fn take<'c>(
    lines: &mut [BillLine<'c>],
    holds: impl Fn(&BillLine<'c>) -> bool,
    discount: &Discount,
) -> Option<()> {
    let (mut places, mut dues) = (Vec::new(), Vec::new());
    let (mut total, mut list) = (Decimal::ZERO, Decimal::ZERO);
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| holds(line)) {
        let due = due(line)?;
        if due > Decimal::ZERO {
            total = total.checked_add(due)?;
            list = list.checked_add(base(line)?)?;
            places.push(place);
            dues.push(due);
        }
    }
    let Some(first) = places.first() else {
        return Some(());
    };
    let exponent = lines[*first].currency.exponent();
    let (exact, list) = (Ratio::from_decimal(total), Ratio::from_decimal(list));
    let off = taken(discount, exact, list)?.round(exponent, Mode::HalfUp)?;
    let shares = split::split_amount(off.min(total), exponent, &dues)?;
    for (place, share) in places.into_iter().zip(shares) {
        lines[place].take_off(share, &discount.id)?;
    }
    Some(())
}

/// What a line costs in its period, whenever it is charged.
fn due(line: &BillLine<'_>) -> Option<Decimal> {
    let charged = line.charged.map_or(Decimal::ZERO, |fee| fee.amount);
    line.amount.checked_add(charged)
}

/// What a line lists, at the tenant's contracted rates.
fn base(line: &BillLine<'_>) -> Option<Decimal> {
    let steps = line.steps().into_iter();
    let mut contracted = steps.filter(|step| step.kind == StepKind::Contracted);
    contracted.try_fold(line.list, |sum, step| sum.checked_add(step.amount))
}

impl BillLine<'_> {
    /// Takes a part of a discount off, before the amount is converted and taxed.
    fn take_off(&mut self, share: Decimal, id: &str) -> Option<()> {
        let mut steps = self.steps();
        steps.push(Step {
            kind: StepKind::Discount,
            id: id.to_owned(),
            amount: crate::ledger::negated(share),
        });
        self.worked = Some(steps);
        self.amount = self.amount.checked_sub(share)?;
        (self.billed, self.net) = (self.amount, self.amount);
        // Less than what was charged in advance: the rest is given back as it was taxed.
        if let Some(fee) = self.charged.filter(|_| self.amount < Decimal::ZERO) {
            self.gives_back = Some(fee);
            self.taxes = &fee.taxes;
        }
        Some(())
    }
}
