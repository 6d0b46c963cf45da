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
    let meter = line.meter();
    let used = |child: &super::Child<'c>| -> Option<Quantity> {
        match meter.and_then(|meter| child.usage.get(&meter.name)) {
            Some(usage) => usage.total(),
            None => Some(Quantity::ZERO),
        }
    };
    let quantities: Option<Vec<Quantity>> = input.children.iter().map(used).collect();
    let quantities = quantities?;
    let mut weights: Vec<i128> = quantities
        .iter()
        .map(|quantity| Ord::max(quantity.units(), 0))
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
    let share = |((child, quantity), (net, tax)): ((&super::Child<'c>, Quantity), _)| Share {
        tenant: child.tenant,
        quantity,
        net,
        tax,
    };
    Some(parts.map(share).collect())
}
