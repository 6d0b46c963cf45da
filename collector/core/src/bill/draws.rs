//! Which lines a commitment pays: what it draws down goes with the lines that count for it, so that
//! a line that waits for the end of a dispute takes its part of that with it, and of the tax on it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::commit;
use super::line::{BillLine, LineRole};
use super::split::units;
use super::{BillInput, split_by};

/// By the place of each drawdown: what of it pays which lines, by their places, in the bill's currency
/// and without tax; below zero, as it is.
pub type Draws = BTreeMap<usize, Vec<(usize, Decimal)>>;

/// Divides each drawdown among the lines that count for its commitment, in proportion to what they
/// cost; what is below zero has none of it. `None` if a number leaves its range.
pub(super) fn of(input: &BillInput<'_>, lines: &[BillLine<'_>]) -> Option<Draws> {
    let drawdowns = lines.iter().enumerate();
    let drawdowns = drawdowns.filter(|(_, line)| line.key.role == LineRole::Drawdown);
    let divided = drawdowns.map(|(place, drawdown)| {
        let mut paid = commit::counting_for(input, lines, drawdown);
        paid.retain(|paid| lines[*paid].net > Decimal::ZERO);
        let finest = paid.iter().map(|paid| lines[*paid].net.scale()).max();
        let weights = paid
            .iter()
            .map(|paid| units(lines[*paid].net, finest.unwrap_or_default()));
        let weights: Vec<i128> = weights.collect::<Option<_>>()?;
        if weights.is_empty() {
            return Some((place, Vec::new()));
        }
        let parts = split_by(drawdown.net, drawdown.net.scale(), &weights)?;
        Some((place, paid.into_iter().zip(parts).collect()))
    });
    divided.collect()
}
