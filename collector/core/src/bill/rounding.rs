//! Rounding a sum once, so that its parts still sum to it.

use std::cmp::{Ordering, Reverse};

use num_bigint::{BigInt, Sign};

use crate::rate::{Mode, Ratio};

/// What the smallest of `places` decimal places is counted in.
fn scaled(exact: Ratio, places: u32) -> Option<Ratio> {
    exact.checked_mul(Ratio::from_integer(10i128.checked_pow(places)?)?)
}

/// The sum of exact amounts in units of 10^-`places`, rounded once. A sum whose fraction is longer
/// than those of its parts (prices quoted per many different numbers) is exact too.
pub(super) fn total(parts: &[Ratio], places: u32, mode: Mode) -> Option<i128> {
    let mut short = parts.iter();
    let sum = short.try_fold(Ratio::ZERO, |sum, part| sum.checked_add(*part));
    match sum.and_then(|sum| scaled(sum, places)) {
        Some(sum) => Some(sum.round_whole(mode)),
        None => long_total(parts, places, mode),
    }
}

/// [`total`] in numbers of any length.
fn long_total(parts: &[Ratio], places: u32, mode: Mode) -> Option<i128> {
    let (mut numerator, mut denominator) = (BigInt::from(0), BigInt::from(1));
    for part in parts {
        let (above, below) = (part.numerator(), part.denominator());
        numerator = numerator * below + &denominator * above;
        denominator *= below;
    }
    numerator *= 10i128.checked_pow(places)?;
    let quotient = &numerator / &denominator;
    let rest = &numerator - &quotient * &denominator;
    // Nothing, less than a half, a half or more: that is all that rounding asks of what is left.
    let is_negative = rest.sign() == Sign::Minus;
    let twice = rest.magnitude() * 2u32;
    let quarters = match twice.cmp(denominator.magnitude()) {
        _ if rest.sign() == Sign::NoSign => 0,
        Ordering::Less => 1,
        Ordering::Equal => 2,
        Ordering::Greater => 3,
    };
    let quotient = i128::try_from(quotient).ok()?;
    let fraction = Ratio::new(if is_negative { -quarters } else { quarters }, 4)?;
    // Half to even looks at the quotient.
    let near = quotient % 2;
    let rounded = Ratio::from_integer(near)?.checked_add(fraction)?;
    quotient.checked_add(rounded.round_whole(mode) - near)
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
        let (above, below) = (part.numerator(), part.denominator());
        whole.push(above.div_euclid(below));
        fractions.push((Ratio::new(above.rem_euclid(below), below)?, place));
    }
    if fractions.is_empty() {
        return (total == 0).then_some(whole);
    }
    // A stable sort leaves equal fractions in the order of the lines.
    fractions.sort_by_key(|(fraction, _)| Reverse(*fraction));
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

    #[test]
    fn a_sum_longer_than_its_parts_is_rounded_exactly() {
        let all = [Mode::HalfUp, Mode::HalfEven, Mode::Up, Mode::Down];
        let primes = [
            1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061, 1063, 1069, 1087,
        ];
        let parts: Vec<Ratio> = primes
            .iter()
            .map(|prime| Ratio::new(100, *prime).expect("a fraction"))
            .collect();
        let sum = parts
            .iter()
            .try_fold(Ratio::ZERO, |sum, part| sum.checked_add(*part));
        assert_eq!(sum, None);
        assert_eq!(total(&parts, 2, Mode::HalfUp), Some(125));
        assert_eq!(total(&parts, 2, Mode::Down), Some(124));
        // What sums to exactly a half, and to a unit, in both ways.
        let half = |units: i128| Ratio::new(units, 2);
        for units in -7..=7i128 {
            let mut parts = parts.clone();
            parts.extend(parts.clone().iter().map(|part| {
                let opposite = Ratio::ZERO.checked_sub(*part);
                opposite.expect("a fraction")
            }));
            parts.push(half(units).expect("a fraction"));
            for mode in all {
                let rounded = half(units).expect("a fraction").round_whole(mode);
                assert_eq!(total(&parts, 0, mode), Some(rounded), "{units} {mode}");
                let few = [
                    half(units).expect("a fraction"),
                    Ratio::new(1, 3).expect("one"),
                ];
                assert_eq!(long_total(&few, 1, mode), total(&few, 1, mode));
            }
        }
        // They are settled too: 1.25 are shared out, a cent to each of the largest fractions.
        let settled = settle(&parts, 2, 125).expect("fits");
        assert_eq!(settled, [[10; 8].as_slice(), &[9; 5]].concat());
    }
}
