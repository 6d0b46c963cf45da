//! Rounding a sum once, so that its parts still sum to it.

use crate::rate::{Mode, Ratio};

/// What the smallest of `places` decimal places is counted in.
fn scaled(exact: Ratio, places: u32) -> Option<Ratio> {
    exact.checked_mul(Ratio::from_integer(10i128.checked_pow(places)?)?)
}

/// The sum of exact amounts in units of 10^-`places`, rounded once.
pub(super) fn total(parts: &[Ratio], places: u32, mode: Mode) -> Option<i128> {
    let sum = parts
        .iter()
        .try_fold(Ratio::ZERO, |sum, part| sum.checked_add(*part))?;
    Some(scaled(sum, places)?.round_whole(mode))
}

/// Whole units of 10^-`places` for each exact amount that sum to `total`: the whole part of each,
/// and what is left, unit by unit, to the largest fractions, among equal ones to the earliest.
///
/// `total` is less than a unit for each part away from the exact sum.
pub(super) fn settle(parts: &[Ratio], places: u32, total: i128) -> Option<Vec<i128>> {
    let mut whole = Vec::with_capacity(parts.len());
    let mut fractions = Vec::with_capacity(parts.len());
    for (place, part) in parts.iter().enumerate() {
        let part = scaled(*part, places)?;
        let floor = part.numerator().div_euclid(part.denominator());
        whole.push(floor);
        fractions.push((part.checked_sub(Ratio::from_integer(floor)?)?, place));
    }
    if fractions.is_empty() {
        return (total == 0).then_some(whole);
    }
    sort_falling(&mut fractions)?;
    let given = whole
        .iter()
        .try_fold(0i128, |sum, part| sum.checked_add(*part))?;
    let left = total.checked_sub(given)?;
    let count = i128::try_from(fractions.len()).ok()?;
    let (each, more) = (left.div_euclid(count), left.rem_euclid(count));
    let more = usize::try_from(more).ok()?;
    for (rank, (_, place)) in fractions.iter().enumerate() {
        let extra = each + i128::from(rank < more);
        whole[*place] = whole[*place].checked_add(extra)?;
    }
    Some(whole)
}

/// Sorts fractions below one, the largest first, equal ones in their order; `None` if two cannot
/// be compared.
fn sort_falling(fractions: &mut [(Ratio, usize)]) -> Option<()> {
    let mut comparable = true;
    fractions.sort_by(|(a, _), (b, _)| {
        b.checked_cmp(*a).unwrap_or_else(|| {
            comparable = false;
            std::cmp::Ordering::Equal
        })
    });
    comparable.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_sum_to_the_rounded_total() {
        let ratio = |text: &str| text.parse::<Ratio>().expect("a number");
        let third = [ratio("1/3"), ratio("1/3"), ratio("1/3")];
        assert_eq!(total(&third, 2, Mode::HalfUp), Some(100));
        assert_eq!(settle(&third, 2, 100), Some(vec![34, 33, 33]));
        let mixed = [ratio("0.004"), ratio("0.004"), ratio("-0.003")];
        assert_eq!(total(&mixed, 2, Mode::HalfUp), Some(1));
        // Floors are 0, 0 and -1: the two left go to 0.7 and then to the first 0.4.
        assert_eq!(settle(&mixed, 2, 1), Some(vec![1, 0, 0]));
        assert_eq!(settle(&[], 2, 0), Some(vec![]));
    }
}
