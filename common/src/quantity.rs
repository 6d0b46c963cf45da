//! Quantities: exact integers in a meter's smallest unit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::meter::Scale;

/// An integer count of a meter's smallest unit, 10^-scale of its unit.
///
/// Range: ±(2^127 - 1). What an agent measures never is negative for a sum; levels
/// (`last`) and corrections may be. All arithmetic is checked: an overflow is an error that
/// the caller reports, never a wrap that is billed.
///
/// In JSON a quantity is a decimal string, because JSON numbers are floats to many readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i128);

/// What to do with a decimal that needs more places than the meter's scale has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Inexact {
    /// Refuse the input; it is counted as rejected.
    #[default]
    Reject,
    /// Round half away from zero; the rounding is counted.
    Round,
}

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// The text is not of the form `[+-]digits[.digits][e[+-]digits]`.
    #[error("not a decimal number (expected digits with an optional sign, point and exponent)")]
    Syntax,
    /// The value does not fit the range of a quantity.
    #[error("number is out of range")]
    Range,
    /// The value needs more decimal places than the meter's scale has.
    #[error("number needs more than {0} decimal places")]
    Inexact(Scale),
}

/// A quantity read from a decimal, and whether it had to be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedQuantity {
    /// The quantity in the meter's smallest unit.
    pub quantity: Quantity,
    /// True if the decimal did not fit the scale and [`Inexact::Round`] was asked for.
    pub rounded: bool,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest quantity.
    pub const MAX: Self = Self(i128::MAX);

    /// A quantity of `units` smallest units.
    pub const fn new(units: i128) -> Self {
        Self(units)
    }

    /// The number of smallest units.
    pub const fn units(self) -> i128 {
        self.0
    }

    /// True for nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Sum, or `None` where it would leave the range.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Difference, or `None` where it would leave the range.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(units) => Some(Self(units)),
            None => None,
        }
    }

    /// Sum of all, or `None` where it would leave the range.
    pub fn checked_sum(quantities: impl IntoIterator<Item = Self>) -> Option<Self> {
        quantities
            .into_iter()
            .try_fold(Self::ZERO, Self::checked_add)
    }

    /// Reads a decimal such as `12`, `-0.5` or `1.5e3`, exactly.
    ///
    /// An exponent is accepted because published StatsD clients print floats that way; its
    /// magnitude is bounded by the range of a quantity.
    pub fn parse_decimal(
        text: &str,
        scale: Scale,
        inexact: Inexact,
    ) -> Result<ParsedQuantity, ParseQuantityError> {
        let decimal = Decimal::parse(text)?;
        decimal.to_quantity(scale, 1, 1, inexact)
    }

    /// Reads a decimal and multiplies it by the exact ratio `numerator / denominator`.
    ///
    /// This is how a sampling rate is applied: a count of `3` at `@0.1` is `3 × 1 / 0.1`,
    /// computed as one fraction and rounded at most once.
    pub fn parse_scaled(
        text: &str,
        rate: &str,
        scale: Scale,
        inexact: Inexact,
    ) -> Result<ParsedQuantity, ParseQuantityError> {
        let decimal = Decimal::parse(text)?;
        let rate = Decimal::parse(rate)?;
        if rate.mantissa <= 0 {
            return Err(ParseQuantityError::Range);
        }
        // value / (mantissa × 10^exponent) = value × 10^-exponent / mantissa
        let value = Decimal {
            mantissa: decimal.mantissa,
            exponent: decimal
                .exponent
                .checked_sub(rate.exponent)
                .ok_or(ParseQuantityError::Range)?,
        };
        value.to_quantity(scale, 1, rate.mantissa, inexact)
    }

    /// The exact decimal in the meter's unit, with `scale` places and no trailing zeros.
    pub fn display(self, scale: Scale) -> DisplayQuantity {
        DisplayQuantity {
            quantity: self,
            scale,
        }
    }
}

/// A decimal as written: `mantissa × 10^exponent`.
struct Decimal {
    mantissa: i128,
    exponent: i32,
}

impl Decimal {
    fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        use ParseQuantityError::{Range, Syntax};
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (number, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => {
                let exponent = &unsigned[at + 1..];
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(Syntax);
                }
                (&unsigned[..at], exponent.parse::<i32>().map_err(|_| Range)?)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(Syntax);
        }
        let mut mantissa: i128 = 0;
        // Zeros at the end of the fraction are kept out of the mantissa, so that a long but
        // exact text such as "0.500000000000000000000000000000000000000" still fits.
        let fraction = fraction.trim_end_matches('0');
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(Syntax);
            }
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(i128::from(byte - b'0')))
                .ok_or(Range)?;
        }
        let places = i32::try_from(fraction.len()).map_err(|_| Range)?;
        Ok(Self {
            mantissa: if negative { -mantissa } else { mantissa },
            exponent: exponent.checked_sub(places).ok_or(Range)?,
        })
    }

    /// `self × numerator / denominator` in units of 10^-scale.
    fn to_quantity(
        &self,
        scale: Scale,
        numerator: i128,
        denominator: i128,
        inexact: Inexact,
    ) -> Result<ParsedQuantity, ParseQuantityError> {
        use ParseQuantityError::Range;
        if self.mantissa == 0 {
            return Ok(ParsedQuantity {
                quantity: Quantity::ZERO,
                rounded: false,
            });
        }
        let shift = self
            .exponent
            .checked_add(i32::from(scale.get()))
            .ok_or(Range)?;
        let power = |n: u32| 10i128.checked_pow(n);
        let mut numerator = self.mantissa.checked_mul(numerator).ok_or(Range)?;
        let mut denominator = denominator;
        if shift >= 0 {
            numerator = power(shift.unsigned_abs())
                .and_then(|p| numerator.checked_mul(p))
                .ok_or(Range)?;
        } else {
            match power(shift.unsigned_abs()).and_then(|p| denominator.checked_mul(p)) {
                Some(d) => denominator = d,
                // So small that no quantity in range could be its exact value.
                None => {
                    return match inexact {
                        Inexact::Reject => Err(ParseQuantityError::Inexact(scale)),
                        Inexact::Round => Ok(ParsedQuantity {
                            quantity: Quantity::ZERO,
                            rounded: true,
                        }),
                    };
                }
            }
        }
        let quotient = numerator / denominator;
        let remainder = numerator % denominator;
        if remainder == 0 {
            return Ok(ParsedQuantity {
                quantity: Quantity(quotient),
                rounded: false,
            });
        }
        match inexact {
            Inexact::Reject => Err(ParseQuantityError::Inexact(scale)),
            Inexact::Round => {
                let up = remainder.unsigned_abs() >= denominator.unsigned_abs().div_ceil(2);
                let quotient = if up {
                    quotient + numerator.signum()
                } else {
                    quotient
                };
                Ok(ParsedQuantity {
                    quantity: Quantity(quotient),
                    rounded: true,
                })
            }
        }
    }
}

/// Prints a quantity as an exact decimal; made by [`Quantity::display`].
#[derive(Clone, Copy, Debug)]
pub struct DisplayQuantity {
    quantity: Quantity,
    scale: Scale,
}

impl fmt::Display for DisplayQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.quantity.0;
        let divisor = 10u128.pow(u32::from(self.scale.get()));
        let magnitude = units.unsigned_abs();
        let (whole, fraction) = (magnitude / divisor, magnitude % divisor);
        let text = if fraction == 0 {
            whole.to_string()
        } else {
            let places = usize::from(self.scale.get());
            let fraction = format!("{fraction:0places$}");
            format!("{whole}.{}", fraction.trim_end_matches('0'))
        };
        f.pad_integral(units >= 0, "", &text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Reads an integer of smallest units, without a scale.
impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_decimal(text, Scale::ZERO, Inexact::Reject).map(|parsed| parsed.quantity)
    }
}

impl From<u64> for Quantity {
    fn from(units: u64) -> Self {
        Self(i128::from(units))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(&self.0)
        } else {
            serializer.serialize_i128(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i128::deserialize(deserializer).map(Self);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, scale: u8) -> Result<i128, ParseQuantityError> {
        let scale = Scale::new(scale).expect("test scale is in range");
        Quantity::parse_decimal(text, scale, Inexact::Reject).map(|p| p.quantity.units())
    }

    #[test]
    fn reads_decimals_exactly() {
        assert_eq!(parse("12", 0), Ok(12));
        assert_eq!(parse("1.5", 3), Ok(1500));
        assert_eq!(parse("-0.001", 3), Ok(-1));
        assert_eq!(parse("1.5e3", 0), Ok(1500));
        assert_eq!(parse(".5", 1), Ok(5));
        assert_eq!(
            parse("0.5000000000000000000000000000000000000000000", 1),
            Ok(5)
        );
        assert_eq!(parse("0e999999999", 0), Ok(0));
    }

    #[test]
    fn refuses_what_is_not_an_exact_decimal() {
        for text in [
            "", ".", "-", "+", "1e", "1e+", "NaN", "inf", "1_000", " 1", "1 ", "0x10", "1.2.3",
            "--1",
        ] {
            assert_eq!(parse(text, 3), Err(ParseQuantityError::Syntax), "{text:?}");
        }
        let tenth = Scale::new(1).expect("in range");
        assert_eq!(parse("0.25", 1), Err(ParseQuantityError::Inexact(tenth)));
        assert_eq!(parse("1e40", 0), Err(ParseQuantityError::Range));
        assert_eq!(parse("1e99999999999", 0), Err(ParseQuantityError::Range));
        assert_eq!(
            parse("1e-40", 0),
            Err(ParseQuantityError::Inexact(Scale::ZERO))
        );
        assert_eq!(
            parse("999999999999999999999999999999999999999999", 0),
            Err(ParseQuantityError::Range)
        );
    }

    #[test]
    fn applies_sampling_rates_as_one_fraction() {
        let scaled = |value, rate, inexact| {
            Quantity::parse_scaled(value, rate, Scale::ZERO, inexact)
                .map(|p| (p.quantity.units(), p.rounded))
        };
        assert_eq!(scaled("3", "0.1", Inexact::Reject), Ok((30, false)));
        assert_eq!(scaled("3", "0.3", Inexact::Reject), Ok((10, false)));
        assert_eq!(
            scaled("1", "0.3", Inexact::Reject),
            Err(ParseQuantityError::Inexact(Scale::ZERO))
        );
        assert_eq!(scaled("1", "0.3", Inexact::Round), Ok((3, true)));
        assert_eq!(scaled("5", "0.3", Inexact::Round), Ok((17, true)));
        assert_eq!(
            scaled("1", "0", Inexact::Round),
            Err(ParseQuantityError::Range)
        );
        assert_eq!(
            scaled("1", "-1", Inexact::Round),
            Err(ParseQuantityError::Range)
        );
    }

    #[test]
    fn rounds_half_away_from_zero() {
        for (text, expected) in [
            ("0.5", 1),
            ("-0.5", -1),
            ("1.5", 2),
            ("0.49", 0),
            ("-1.51", -2),
        ] {
            let parsed = Quantity::parse_decimal(text, Scale::ZERO, Inexact::Round);
            assert_eq!(parsed.map(|p| p.quantity.units()), Ok(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(units in any::<i128>(), scale in 0u8..=12) {
            prop_assume!(units != i128::MIN);
            let scale = Scale::new(scale).expect("in range");
            let text = Quantity::new(units).display(scale).to_string();
            let parsed = Quantity::parse_decimal(&text, scale, Inexact::Reject).expect("printed by us");
            prop_assert_eq!(parsed.quantity.units(), units);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eE]{0,60}", rate in "[-+0-9.eE]{0,12}", scale in 0u8..=12) {
            let scale = Scale::new(scale).expect("in range");
            let _ = Quantity::parse_decimal(&text, scale, Inexact::Round);
            let _ = Quantity::parse_scaled(&text, &rate, scale, Inexact::Round);
        }
    }
}
