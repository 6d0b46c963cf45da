//! Amounts of a unit: `1000 {request}`, `1 GiB`.

use std::fmt;

use tollgate_common::{Quantity, Scale};

use super::unit::{UNIT_BYTES_MAX, Unit};
use crate::rate::Ratio;

/// Most digits of a number in a catalog, point excluded.
const DIGITS_MAX: usize = 28;

/// An amount of a unit, as written and in the meter's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    text: String,
    value: Ratio,
}

/// Not an amount of the meter's unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// The number is not a plain decimal.
    #[error("`{0}` is not a decimal (expected digits with an optional point, such as `0.40`)")]
    Number(String),
    /// More digits than amounts can have.
    #[error("the number has more than {DIGITS_MAX} digits")]
    Digits,
    /// Zero where that makes no sense.
    #[error("the number must be above zero")]
    Zero,
    /// Finer than the meter counts.
    #[error("the quantity is finer than the meter's {scale} decimal places, or too large")]
    TooFine {
        /// Decimal places.
        scale: u8,
    },
    /// The unit is missing.
    #[error("the unit is missing (expected `{example}`)")]
    NoUnit {
        /// How it could be written.
        example: String,
    },
    /// The unit is of another kind than that of the meter.
    #[error(
        "unit `{found}` counts {found_kind}, where {kind} is counted (expected `{unit}`{multiples})"
    )]
    WrongUnit {
        /// As written.
        found: String,
        /// What that counts.
        found_kind: String,
        /// The one that is expected.
        unit: String,
        /// What that counts.
        kind: String,
        /// What else would do.
        multiples: &'static str,
    },
}

/// An amount of money that is not negative, as a plain decimal.
pub(super) struct Amount(pub(super) rust_decimal::Decimal);

impl std::str::FromStr for Amount {
    type Err = MeasureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        plain_decimal(text).map(Self)
    }
}

/// Reads digits with an optional point; neither sign, nor exponent, nor separators.
pub(super) fn plain_decimal(text: &str) -> Result<rust_decimal::Decimal, MeasureError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(MeasureError::Number(text.chars().take(64).collect()));
    }
    if text.bytes().filter(u8::is_ascii_digit).count() > DIGITS_MAX {
        return Err(MeasureError::Digits);
    }
    rust_decimal::Decimal::from_str_exact(text).map_err(|_| MeasureError::Digits)
}

/// So much of the unit `found`, in `unit`.
fn converted(number: Ratio, found: Option<&str>, unit: &Unit) -> Result<Ratio, MeasureError> {
    let found = found.unwrap_or(unit.as_str());
    let factor = unit.in_one(found).ok_or_else(|| {
        let found: String = found.chars().take(UNIT_BYTES_MAX).collect();
        MeasureError::WrongUnit {
            found_kind: Unit::kind(&found),
            found,
            unit: unit.to_string(),
            kind: Unit::kind(unit.as_str()),
            multiples: unit.multiples(),
        }
    })?;
    number.checked_mul(factor).ok_or(MeasureError::Digits)
}

/// Reads `3500000`, in `unit`, or `12.5 GB`, as a whole number of 10^-scale of `unit`.
pub(super) fn quantity(text: &str, unit: &Unit, scale: Scale) -> Result<Quantity, MeasureError> {
    let (number, found) = match text.split_once(' ') {
        Some((number, found)) => (number, Some(found.trim_start())),
        None => (text, None),
    };
    let number = Ratio::from_decimal(plain_decimal(number)?);
    let value = converted(number, found, unit)?;
    let whole = 10i128
        .checked_pow(u32::from(scale.get()))
        .and_then(Ratio::from_integer)
        .and_then(|power| value.checked_mul(power))
        .filter(|value| value.denominator() == 1);
    match whole {
        Some(whole) => Ok(Quantity::new(whole.numerator())),
        None => Err(MeasureError::TooFine { scale: scale.get() }),
    }
}

/// Reads a rate such as `260 Mbit/s` and answers how much that is in so many seconds, as a whole
/// number of 10^-scale of `unit`.
pub(super) fn over_time(
    text: &str,
    unit: &Unit,
    scale: Scale,
    seconds: u32,
) -> Result<Quantity, MeasureError> {
    let per_second = unit.per_second();
    let Some((number, found)) = text.split_once(' ') else {
        return Err(MeasureError::NoUnit {
            example: format!("{text} {per_second}"),
        });
    };
    let number = Ratio::from_decimal(plain_decimal(number)?);
    let rate = converted(number, Some(found.trim_start()), &per_second)?;
    let whole = 10i128
        .checked_pow(u32::from(scale.get()))
        .and_then(|power| power.checked_mul(i128::from(seconds)))
        .and_then(Ratio::from_integer)
        .and_then(|factor| rate.checked_mul(factor))
        .filter(|value| value.denominator() == 1);
    match whole {
        Some(whole) => Ok(Quantity::new(whole.numerator())),
        None => Err(MeasureError::TooFine { scale: scale.get() }),
    }
}

impl Measure {
    /// Reads `1000 {request}`: a number above zero and a unit that fits the meter's.
    pub(super) fn with_unit(text: &str, unit: &Unit) -> Result<Self, MeasureError> {
        let Some((number, found)) = text.split_once(' ') else {
            let number = if plain_decimal(text).is_ok() {
                text
            } else {
                "1000"
            };
            return Err(MeasureError::NoUnit {
                example: format!("{number} {unit}"),
            });
        };
        Self::read(text, number, Some(found.trim_start()), unit)
    }

    /// Reads `2000000`, in the meter's unit, or `2 TB`.
    pub(super) fn bound(text: &str, unit: &Unit) -> Result<Self, MeasureError> {
        match text.split_once(' ') {
            Some((number, found)) => Self::read(text, number, Some(found.trim_start()), unit),
            None => Self::read(text, text, None, unit),
        }
    }

    /// Reads a number above zero, in the unit `found` or, without one, in `unit`.
    fn read(
        text: &str,
        number: &str,
        found: Option<&str>,
        unit: &Unit,
    ) -> Result<Self, MeasureError> {
        let number = Ratio::from_decimal(plain_decimal(number)?);
        if number.is_zero() {
            return Err(MeasureError::Zero);
        }
        let value = converted(number, found, unit)?;
        Ok(Self {
            text: text.to_owned(),
            value,
        })
    }

    /// An amount that was not written in a catalog; `text` is how it is shown.
    pub(super) fn made(text: String, value: Ratio) -> Self {
        Self { text, value }
    }

    /// The unit in which it was written: what follows the number.
    pub(super) fn unit_of(text: &str) -> Option<Unit> {
        let (_, unit) = text.split_once(' ')?;
        unit.trim_start().parse().ok()
    }

    /// The amount in the meter's unit, above zero.
    pub fn value(&self) -> Ratio {
        self.value
    }
}

/// As it was written.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per(text: &str, unit: &str) -> Result<String, MeasureError> {
        let unit: Unit = unit.parse().expect("a test's unit is valid");
        Measure::with_unit(text, &unit).map(|m| m.value().to_string())
    }

    #[test]
    fn measures_are_converted_exactly() {
        assert_eq!(per("1000 {request}", "{request}").as_deref(), Ok("1000"));
        assert_eq!(per("1 GB", "By").as_deref(), Ok("1000000000"));
        assert_eq!(per("1 GBy", "By").as_deref(), Ok("1000000000"));
        assert_eq!(per("0.5 KiB", "By").as_deref(), Ok("512"));
        assert_eq!(per("1 B", "By").as_deref(), Ok("1"));
        assert_eq!(per("1.5 h", "s").as_deref(), Ok("5400"));
        assert_eq!(per("1 1", "1").as_deref(), Ok("1"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let message = |text, unit| per(text, unit).expect_err("refused").to_string();
        assert!(message("1000", "{request}").contains("1000 {request}"));
        assert!(message("1 GB", "{request}").contains("expected `{request}`"));
        assert!(message("1 gb", "By").contains("GiB"));
        assert_eq!(per("0 By", "By"), Err(MeasureError::Zero));
        for text in [
            "-1 By", "1e3 By", "1_000 By", ". By", "1. By", ".5 By", "+1 By",
        ] {
            assert!(
                matches!(per(text, "By"), Err(MeasureError::Number(_))),
                "{text}"
            );
        }
        assert_eq!(
            per(&format!("{} By", "9".repeat(29)), "By"),
            Err(MeasureError::Digits)
        );
    }
}
