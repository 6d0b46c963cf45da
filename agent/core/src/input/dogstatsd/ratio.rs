//! Sampling rates as exact ratios.
//!
//! A sample at rate `r` stands for `1 / r` events. That is a ratio of integers for every rate
//! that can be written as a decimal, so counts are scaled exactly: `3` at `@0.1` is 30. Where
//! the result is no whole number of units (`1` at `@0.3` is 3⅓), the fraction is carried to
//! the next value of the same line ([`SampleRate::scale`]): rounding each value would charge
//! 3 for 3⅓ for ever, carrying is never more than half a unit off in total. Such values are
//! accounted as estimated.

/// `1 / rate` as a reduced ratio: at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate {
    /// Below 2^63.
    numerator: u64,
    /// At least 1, at most the numerator.
    denominator: u64,
}

/// Longest rate that is read, in bytes.
const RATE_BYTES_MAX: usize = 64;

impl SampleRate {
    /// Reads a rate above 0 and at most 1, as a decimal with an optional exponent; `None` for
    /// anything else, and for rates so small or so long that the ratio does not fit 63 bits
    /// (17 digits, as double precision numbers are printed, do).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > RATE_BYTES_MAX {
            return None;
        }
        let at = text.iter().position(|b| matches!(b, b'e' | b'E'));
        let (number, exponent) = match at {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let number = number.strip_prefix(b"+").unwrap_or(number);
        let exponent: i32 = match exponent {
            Some(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
            None => 0,
        };
        let (mut mantissa, mut places, mut point, mut digits) = (0u128, 0i32, false, 0);
        for byte in number {
            match byte {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    // 64 digits fit no u128: the rate is too long to be exact.
                    mantissa = mantissa
                        .checked_mul(10)?
                        .checked_add(u128::from(byte - b'0'))?;
                    places += i32::from(point);
                    digits += 1;
                }
                _ => return None,
            }
        }
        if digits == 0 || mantissa == 0 {
            return None;
        }
        let mut exponent = exponent.checked_sub(places)?;
        while mantissa.is_multiple_of(10) {
            mantissa /= 10;
            exponent = exponent.checked_add(1)?;
        }
        // 1 / (mantissa × 10^exponent), where an exponent above 0 means a rate above 1.
        if exponent > 0 {
            return None;
        }
        let numerator = 10u128.checked_pow(exponent.unsigned_abs())?;
        let common = gcd(numerator, mantissa);
        let (numerator, denominator) = (numerator / common, mantissa / common);
        if denominator > numerator || numerator >= 1 << 63 {
            return None;
        }
        Some(Self {
            numerator: u64::try_from(numerator).ok()?,
            denominator: u64::try_from(denominator).ok()?,
        })
    }

    /// True for a rate of 1.
    pub const fn is_one(self) -> bool {
        self.numerator == self.denominator
    }

    /// How many events a sample stands for, if that is a whole number.
    pub const fn whole(self) -> Option<u64> {
        if self.denominator == 1 {
            Some(self.numerator)
        } else {
            None
        }
    }

    /// Numerator and denominator of `1 / rate`.
    pub const fn reciprocal(self) -> (u64, u64) {
        (self.numerator, self.denominator)
    }

    /// The carry to begin with: half a unit, so that totals are rounded to the nearest.
    pub const fn carry(self) -> u64 {
        self.denominator / 2
    }

    /// `units / rate`, with the fraction that remained from earlier values; gives the whole
    /// units and the fraction that remains, and whether it was exact. `None` where that does
    /// not fit.
    pub fn scale(self, units: u64, carry: u64) -> Option<Scaled> {
        // Below 2^64 × 2^63 + 2^63.
        let product = u128::from(units) * u128::from(self.numerator);
        let denominator = u128::from(self.denominator);
        let total = product + u128::from(carry.min(self.denominator - 1));
        Some(Scaled {
            units: u64::try_from(total / denominator).ok()?,
            carry: u64::try_from(total % denominator).ok()?,
            estimated: !product.is_multiple_of(denominator),
        })
    }
}

/// A scaled amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// Whole units to count now.
    pub units: u64,
    /// What remains, in units of the denominator.
    pub carry: u64,
    /// True if the amount alone is no whole number of units.
    pub estimated: bool,
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ratio(text: &str) -> Option<(u64, u64)> {
        SampleRate::parse(text.as_bytes()).map(SampleRate::reciprocal)
    }

    #[test]
    fn decimals_are_ratios() {
        assert_eq!(ratio("1"), Some((1, 1)));
        assert_eq!(ratio("1.000"), Some((1, 1)));
        assert_eq!(ratio("0.1"), Some((10, 1)));
        assert_eq!(ratio(".25"), Some((4, 1)));
        assert_eq!(ratio("0.3"), Some((10, 3)));
        assert_eq!(ratio("1e-5"), Some((100_000, 1)));
        assert_eq!(ratio("10E-1"), Some((1, 1)));
        let third = ratio("0.3333333333333333").expect("as printed");
        assert_eq!(third, (10_000_000_000_000_000, 3_333_333_333_333_333));
        for bad in [
            "", "0", "0.0", "-1", "2", "1.1", "x", "0x1", ".", "1e", "1e-40", "0.1 ", "nan", "1e1",
        ] {
            assert_eq!(ratio(bad), None, "{bad}");
        }
    }

    #[test]
    fn fractions_are_carried_not_dropped() {
        let rate = SampleRate::parse(b"0.3").expect("good");
        let (mut total, mut carry) = (0, rate.carry());
        for n in 1..=3000u64 {
            let scaled = rate.scale(1, carry).expect("small");
            assert!(scaled.estimated);
            total += scaled.units;
            carry = scaled.carry;
            // Never more than half a unit from n × 10 / 3.
            assert!((total * 6).abs_diff(n * 20) <= 3, "{total} after {n}");
        }
        assert_eq!(total, 10_000);
    }

    proptest! {
        #[test]
        fn totals_are_exact_within_half_a_unit(
            hundredths in 1u32..=10_000,
            values in proptest::collection::vec(0u64..1 << 40, 1..50),
        ) {
            let text = format!("{hundredths}e-4");
            let rate = SampleRate::parse(text.as_bytes()).expect("good");
            let (numerator, denominator) = rate.reciprocal();
            prop_assert_eq!(
                u128::from(numerator) * u128::from(hundredths),
                u128::from(denominator) * 10_000
            );
            let (mut total, mut carry) = (0u128, rate.carry());
            for value in &values {
                let scaled = rate.scale(*value, carry).expect("small");
                total += u128::from(scaled.units);
                carry = scaled.carry;
            }
            let exact = values.iter().map(|v| u128::from(*v)).sum::<u128>() * u128::from(numerator);
            let off = (total * u128::from(denominator)).abs_diff(exact);
            prop_assert!(off * 2 <= u128::from(denominator));
        }

        #[test]
        fn no_text_panics(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = SampleRate::parse(&text);
        }
    }
}
