//! Splits of a whole number of smallest units in proportion to weights.

use rust_decimal::Decimal;

/// Divides `total` in proportion to `weights`, by largest remainder: everybody gets the whole
/// part of an exact share, and what is left goes, unit by unit, to the largest fractions, among
/// equal ones to the earliest.
///
/// The shares sum to `total`, each is less than one unit away from the exact share, and none has
/// another sign than `total`. Without any weight the first takes all. Weights are not negative.
///
/// `None` without anybody to share with, for a negative weight, or if a number leaves its range.
pub fn split(total: i128, weights: &[i128]) -> Option<Vec<i128>> {
    if weights.is_empty() || weights.iter().any(|weight| *weight < 0) {
        return None;
    }
    let all = weights
        .iter()
        .try_fold(0i128, |sum, weight| sum.checked_add(*weight))?;
    if all == 0 {
        let mut shares = vec![0; weights.len()];
        shares[0] = total;
        return Some(shares);
    }
    let sign = total.signum();
    let magnitude = total.checked_abs()?;
    let mut shares = Vec::with_capacity(weights.len());
    let mut rests = Vec::with_capacity(weights.len());
    let mut given = 0i128;
    for (place, weight) in weights.iter().enumerate() {
        let (share, rest) = scaled(magnitude, *weight, all)?;
        given = given.checked_add(share)?;
        shares.push(share);
        rests.push((rest, place));
    }
    // A stable sort leaves equal fractions in the order of the lines.
    rests.sort_by_key(|(rest, _)| std::cmp::Reverse(*rest));
    let left = usize::try_from(magnitude.checked_sub(given)?).ok()?;
    for (_, place) in rests.iter().take(left) {
        shares[*place] += 1;
    }
    for share in &mut shares {
        *share *= sign;
    }
    Some(shares)
}

/// [`split`] of an amount whose smallest unit is 10^-`places`, in proportion to amounts.
///
/// `None` also if the amount is finer than that.
pub fn split_amount(total: Decimal, places: u32, weights: &[Decimal]) -> Option<Vec<Decimal>> {
    let finest = weights.iter().map(Decimal::scale).max().unwrap_or(0);
    let weights: Option<Vec<i128>> = weights
        .iter()
        .map(|weight| units(*weight, finest))
        .collect();
    split_by(total, places, &weights?)
}

/// [`split`] of an amount whose smallest unit is 10^-`places`.
///
/// `None` also if the amount is finer than that.
pub fn split_by(total: Decimal, places: u32, weights: &[i128]) -> Option<Vec<Decimal>> {
    let shares = split(units(total, places)?, weights)?;
    shares
        .into_iter()
        .map(|share| Decimal::try_from_i128_with_scale(share, places).ok())
        .collect()
}

/// An amount in units of 10^-`places`; `None` if it is finer or too large.
pub(super) fn units(amount: Decimal, places: u32) -> Option<i128> {
    let amount = if amount.scale() > places {
        amount.normalize()
    } else {
        amount
    };
    let more = places.checked_sub(amount.scale())?;
    amount.mantissa().checked_mul(10i128.checked_pow(more)?)
}

/// Quotient and rest of `a × b / c`, for numbers that are not negative and `b` at most `c`.
///
/// The product may have 254 bits. It is built up from the bits of `a`, so that no number on
/// the way is larger than twice `c`.
fn scaled(a: i128, b: i128, c: i128) -> Option<(i128, i128)> {
    if let Some(product) = a.checked_mul(b) {
        return Some((product / c, product % c));
    }
    let (b, c) = (b.unsigned_abs(), c.unsigned_abs());
    let (mut quotient, mut rest) = (0u128, 0u128);
    for bit in (0..127).rev() {
        quotient <<= 1;
        rest <<= 1;
        if rest >= c {
            rest -= c;
            quotient += 1;
        }
        if (a >> bit) & 1 == 1 {
            rest += b;
            if rest >= c {
                rest -= c;
                quotient += 1;
            }
        }
    }
    Some((i128::try_from(quotient).ok()?, i128::try_from(rest).ok()?))
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_left_goes_to_the_largest_fractions_and_then_to_the_earliest() {
        assert_eq!(split(100, &[1, 1, 1]), Some(vec![34, 33, 33]));
        assert_eq!(split(-100, &[1, 1, 1]), Some(vec![-34, -33, -33]));
        assert_eq!(split(2, &[1, 1, 1]), Some(vec![1, 1, 0]));
        assert_eq!(split(10, &[1, 4, 2]), Some(vec![1, 6, 3]));
        assert_eq!(split(7, &[0, 0]), Some(vec![7, 0]));
        assert_eq!(split(7, &[0, 5, 0]), Some(vec![0, 7, 0]));
        assert_eq!(split(0, &[3, 5]), Some(vec![0, 0]));
        assert_eq!(split(7, &[]), None);
        assert_eq!(split(7, &[1, -1]), None);
    }

    #[test]
    fn amounts_are_split_in_their_smallest_unit() {
        let decimal = |text: &str| text.parse::<Decimal>().expect("a decimal");
        let weights = [decimal("10.00"), decimal("5"), decimal("0.001")];
        let shares = split_amount(decimal("1.00"), 2, &weights).expect("fits");
        let shown: Vec<String> = shares.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["0.67", "0.33", "0.00"]);
        assert_eq!(split_amount(decimal("1.001"), 2, &weights), None);
        assert!(split_amount(decimal("1.000"), 0, &weights).is_some());
    }

    #[test]
    fn the_largest_numbers_are_split_too() {
        let shares = split(i128::MAX, &[i128::MAX / 2, i128::MAX / 2]).expect("fits");
        assert_eq!(shares[0] - shares[1], 1);
        assert_eq!(shares[0].checked_add(shares[1]), Some(i128::MAX));
        assert_eq!(split(1, &[i128::MAX, 1]), None);
    }

    proptest! {
        #[test]
        fn shares_sum_and_are_less_than_a_unit_off(
            total in any::<i128>().prop_filter("has an opposite", |n| *n != i128::MIN),
            weights in prop::collection::vec(0..(i128::MAX / 8), 1..8),
        ) {
            let shares = split(total, &weights).expect("fits");
            let sum: BigInt = shares.iter().map(|share| BigInt::from(*share)).sum();
            prop_assert_eq!(sum, BigInt::from(total));
            let all: BigInt = weights.iter().map(|weight| BigInt::from(*weight)).sum();
            if all == BigInt::from(0) {
                return Ok(());
            }
            for (share, weight) in shares.iter().zip(&weights) {
                let off = BigInt::from(*share) * &all - BigInt::from(total) * BigInt::from(*weight);
                prop_assert!(off < all && -off < all);
                prop_assert!(share.signum() * total.signum() >= 0);
            }
        }
    }
}
