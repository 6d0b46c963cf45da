//! Shares: what each of a payer's tenants has of a line.
//!
//! The line is rated once, for all of them together, in the payer's zone, period and currency. It
//! is shared out by quantity, largest remainders first; what has no quantity is the payer's.

use rust_decimal::Decimal;
use tollgate_common::Quantity;

use super::line::{BillLine, Share};
use super::{BillInput, NoBill, split_by};

/// Shares out every line.
pub(super) fn apply<'c>(input: &BillInput<'c>, lines: &mut [BillLine<'c>]) -> Result<(), NoBill> {
    if input.children.is_empty() {
        return Ok(());
    }
    for line in lines {
        line.shares = shares(input, line).ok_or(NoBill::TooLarge)?;
    }
    Ok(())
}

fn shares<'c>(input: &BillInput<'c>, line: &BillLine<'c>) -> Option<Vec<Share<'c>>> {
    let used = |child: &super::Child<'c>| used(input, line, child);
    let quantities: Option<Vec<(Quantity, Quantity)>> = input.children.iter().map(used).collect();
    let quantities = quantities?;
    let mut weights: Vec<i128> = quantities
        .iter()
        .map(|(quantity, _)| Ord::max(quantity.units(), 0))
        .collect();
    if weights.iter().all(|weight| *weight == 0) {
        let is_payer = |child: &super::Child<'c>| child.tenant == input.tenant;
        let payer = input.children.iter().position(is_payer).unwrap_or(0);
        weights[payer] = 1;
    }
    let split = |amount: Decimal| split_by(amount, amount.scale(), &weights);
    let (nets, taxes) = (split(line.net)?, split(line.tax)?);
    let parts = input
        .children
        .iter()
        .zip(quantities)
        .zip(nets.into_iter().zip(taxes));
    let share = |((child, (_, carried)), (net, tax)): ((&super::Child<'c>, _), _)| Share {
        tenant: child.tenant,
        quantity: carried,
        net,
        tax,
    };
    Some(parts.map(share).collect())
}

/// What a tenant has of the quantity of a line, and how much of that the line carries: what it used
/// in the slices of the line's price, and as the price describes it.
fn used(
    input: &BillInput<'_>,
    line: &BillLine<'_>,
    child: &super::Child<'_>,
) -> Option<(Quantity, Quantity)> {
    let of_line = || {
        let meter = line.meter()?;
        let item = line.source.item()?;
        let usage = child.usage.get(&meter.name)?;
        let track = input.usage.get(&meter.name)?.track(item)?;
        Some(track.share(usage, item))
    };
    of_line().unwrap_or(Some((Quantity::ZERO, Quantity::ZERO)))
}
