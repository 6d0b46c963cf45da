//! How what is missing to a minimum or a commitment is taxed: like the lines that count for it.

use rust_decimal::Decimal;

use super::line::BillLine;

/// Amounts by how they are taxed, in the order of the first of each.
pub(super) type Mixed<'c> = Vec<(&'c [String], Decimal)>;

/// The taxes, if all are the same.
pub(super) fn alike<'c>(mut taxes: impl Iterator<Item = &'c [String]>) -> Option<&'c [String]> {
    let first = taxes.next()?;
    taxes.all(|other| other == first).then_some(first)
}

/// What lines come to by their taxes; empty if they come to nothing. What is below zero counts as
/// nothing. `None` if it does not fit the numbers.
pub(super) fn mixed<'c>(lines: impl Iterator<Item = (&'c [String], Decimal)>) -> Option<Mixed<'c>> {
    let mut mixed: Mixed<'c> = Vec::new();
    for (taxes, amount) in lines.filter(|(_, amount)| *amount > Decimal::ZERO) {
        match mixed.iter_mut().find(|(known, _)| *known == taxes) {
            Some((_, sum)) => *sum = sum.checked_add(amount)?,
            None => mixed.push((taxes, amount)),
        }
    }
    Some(mixed)
}

/// What a line counts with, by its taxes.
pub(super) fn parts<'l, 'c>(
    line: &'l BillLine<'c>,
) -> impl Iterator<Item = (&'c [String], Decimal)> + 'l {
    let alone = line.mixed.is_empty().then_some((line.taxes, line.amount));
    alone.into_iter().chain(line.mixed.iter().copied())
}
