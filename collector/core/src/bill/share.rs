//! Shares: what each of a payer's tenants has of a line.
//!
//! The line is rated once, for all of them together, in the payer's zone, period and currency. It
//! is shared out by quantity, largest remainders first. What a commitment draws down or costs more is
//! shared like the lines that count for it; all else that has no quantity is the payer's.

use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::line::{BillLine, LineRole, Share};
use super::split::units;
use super::{BillInput, Child, NoBill, commit, split_by};

/// Shares out every line.
pub(super) fn apply<'c>(input: &BillInput<'c>, lines: &mut [BillLine<'c>]) -> Result<(), NoBill> {
    if input.children.is_empty() {
        return Ok(());
    }
    let is_of_usage =
        |line: &BillLine<'_>| matches!(line.key.role, LineRole::Drawdown | LineRole::Overage);
    for line in &mut *lines {
        if !is_of_usage(line) {
            let used = |child: &Child<'c>| used(input, line, child);
            let quantities: Option<Vec<_>> = input.children.iter().map(used).collect();
            line.shares = quantities
                .and_then(|quantities| shares(input, line, &quantities))
                .ok_or(NoBill::TooLarge)?;
        }
    }
    for place in 0..lines.len() {
        if is_of_usage(&lines[place]) {
            let counted = counted(input, lines, &lines[place]);
            let shares = counted.and_then(|counted| shares(input, &lines[place], &counted));
            lines[place].shares = shares.ok_or(NoBill::TooLarge)?;
        }
    }
    Ok(())
}

/// Divides a line in proportion to weights, each with how much of a quantity the line carries for that
/// tenant; without any weight it is the payer's.
fn shares<'c>(
    input: &BillInput<'c>,
    line: &BillLine<'c>,
    parts: &[(i128, Quantity)],
) -> Option<Vec<Share<'c>>> {
    let mut weights: Vec<i128> = parts.iter().map(|(weight, _)| (*weight).max(0)).collect();
    if weights.iter().all(|weight| *weight == 0) {
        let is_payer = |child: &Child<'c>| child.tenant == input.tenant;
        let payer = input.children.iter().position(is_payer).unwrap_or(0);
        weights[payer] = 1;
    }
    let split = |amount: Decimal| split_by(amount, amount.scale(), &weights);
    let (nets, taxes) = (split(line.net)?, split(line.tax)?);
    let amounts = nets.into_iter().zip(taxes);
    let each = input.children.iter().zip(parts).zip(amounts);
    let share =
        |((child, (_, quantity)), (net, tax)): ((&Child<'c>, &(i128, Quantity)), _)| Share {
            tenant: child.tenant,
            quantity: *quantity,
            net,
            tax,
        };
    Some(each.map(share).collect())
}

/// What each tenant has of the lines that count for a commitment: what usage draws down from it is
/// theirs whose usage it is, and so is what it costs more above it.
fn counted(
    input: &BillInput<'_>,
    lines: &[BillLine<'_>],
    line: &BillLine<'_>,
) -> Option<Vec<(i128, Quantity)>> {
    let mut sums = vec![Decimal::ZERO; input.children.len()];
    for place in commit::counting_for(input, lines, line) {
        for (sum, share) in sums.iter_mut().zip(&lines[place].shares) {
            *sum = sum.checked_add(share.net.max(Decimal::ZERO))?;
        }
    }
    let finest = sums.iter().map(Decimal::scale).max().unwrap_or(0);
    let weights = sums.into_iter();
    weights
        .map(|sum| Some((units(sum, finest)?, Quantity::ZERO)))
        .collect()
}

/// What a tenant has of the quantity of a line, and how much of that the line carries: what it used
/// in the slices of the line's price, and as the price describes it.
fn used(input: &BillInput<'_>, line: &BillLine<'_>, child: &Child<'_>) -> Option<(i128, Quantity)> {
    let of_line = || {
        let meter = line.meter()?;
        let item = line.source.item()?;
        let usage = child.usage.get(&meter.name)?;
        let track = input.usage.get(&meter.name)?.track(item)?;
        Some(track.share(usage, item))
    };
    let (used, carried) = of_line().unwrap_or(Some((Quantity::ZERO, Quantity::ZERO)))?;
    Some((used.units(), carried))
}
