//! Digits of numbers, for texts of which there are millions.

use std::fmt;

use rust_decimal::Decimal;

/// No number has more of them: 2^128 has 39.
const DIGITS_MAX: usize = 40;

/// The digits of a number, with zeros before them.
pub(crate) struct Digits {
    digits: [u8; DIGITS_MAX],
    from: usize,
}

impl Digits {
    pub(crate) fn of(mut number: u128) -> Self {
        let mut digits = [b'0'; DIGITS_MAX];
        let mut from = digits.len();
        let mut put = |digit: u64| {
            from -= 1;
            digits[from] += u8::try_from(digit).unwrap_or(0);
        };
        while number > u128::from(u64::MAX) {
            put(u64::try_from(number % 10).unwrap_or(0));
            number /= 10;
        }
        // Nearly all numbers are short.
        let mut short = u64::try_from(number).unwrap_or(0);
        while short > 0 {
            put(short % 10);
            short /= 10;
        }
        Self { digits, from }
    }

    /// At least so many of them, of which there are no more than forty.
    pub(crate) fn at_least(&self, count: usize) -> &str {
        let from = self.from.min(DIGITS_MAX.saturating_sub(count));
        std::str::from_utf8(&self.digits[from..]).expect("digits are ASCII")
    }
}

/// Shows a number of 10^-`places` to `each`, part by part: `-0.05`.
fn of_units(is_negative: bool, units: u128, places: usize, mut each: impl FnMut(&str)) {
    if is_negative {
        each("-");
    }
    let digits = Digits::of(units);
    let digits = digits.at_least(places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    each(whole);
    if places > 0 {
        each(".");
        each(fraction);
    }
}

/// Shows a decimal to `each`, part by part, as it shows itself.
pub(crate) fn of_decimal(decimal: Decimal, each: impl FnMut(&str)) {
    let units = decimal.mantissa().unsigned_abs();
    let places = decimal.scale() as usize;
    of_units(decimal.is_sign_negative(), units, places, each);
}

/// Writes a number of 10^-`places`, of which there are no more than 39.
pub(crate) fn write(
    f: &mut fmt::Formatter<'_>,
    is_negative: bool,
    units: u128,
    places: usize,
) -> fmt::Result {
    let mut done = Ok(());
    of_units(is_negative, units, places, |part| {
        done = done.and_then(|()| f.write_str(part));
    });
    done
}

/// A decimal as it shows itself.
pub(crate) struct Shown(pub(crate) Decimal);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut done = Ok(());
        of_decimal(self.0, |part| done = done.and_then(|()| f.write_str(part)));
        done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_range_are_shown() {
        for number in [
            0,
            9,
            10,
            u128::from(u64::MAX),
            u128::from(u64::MAX) + 1,
            u128::MAX,
        ] {
            assert_eq!(Digits::of(number).at_least(1), number.to_string());
            assert_eq!(Digits::of(number).at_least(40), format!("{number:040}"));
        }
    }

    proptest! {
        #[test]
        fn decimals_are_shown_as_they_show_themselves(
            mantissa in -79_228_162_514_264_337_593_543_950_335i128..=79_228_162_514_264_337_593_543_950_335,
            shift in 0u32..96,
            scale in 0u32..=28,
        ) {
            let decimal = Decimal::from_i128_with_scale(mantissa >> shift, scale);
            prop_assert_eq!(Shown(decimal).to_string(), decimal.to_string());
        }
    }
}
