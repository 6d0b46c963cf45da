//! Units and amounts of them: `1000 {request}`, `1 GiB`.

use std::fmt;

use crate::rate::Ratio;

/// Longest unit, in bytes.
const UNIT_BYTES_MAX: usize = 64;
/// Most digits of a number in a catalog, point excluded.
const DIGITS_MAX: usize = 28;

/// A meter's unit, UCUM style: `By`, `s`, `1`, `{request}`.
///
/// 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(String);

/// Not a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a unit (expected 1 to {UNIT_BYTES_MAX} printable ASCII characters without \
     spaces, such as `By`, `s`, `1` or `{{request}}`)"
)]
pub struct UnitError(String);

impl std::str::FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > UNIT_BYTES_MAX || !printable {
            return Err(UnitError(text.chars().take(UNIT_BYTES_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// SI and IEC multiples of a byte, and what they are worth.
const BYTES: &[(&str, i128)] = &[
    ("k", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("", 1),
];

/// Multiples of a second.
const SECONDS: &[(&str, i128)] = &[("min", 60), ("h", 3600), ("d", 86_400)];

impl Unit {
    /// The unit as it was declared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This unit times seconds.
    pub(super) fn times_seconds(&self) -> Self {
        Self(format!("{}.s", self.0))
    }

    /// How many of this unit are in one `other`.
    fn multiple(&self, other: &str) -> Option<i128> {
        if other == self.0 {
            return Some(1);
        }
        match &*self.0 {
            "By" => {
                let prefix = other
                    .strip_suffix("By")
                    .or_else(|| other.strip_suffix('B'))?;
                BYTES
                    .iter()
                    .find(|(name, _)| *name == prefix)
                    .map(|(_, factor)| *factor)
            }
            "s" => SECONDS
                .iter()
                .find(|(name, _)| *name == other)
                .map(|(_, factor)| *factor),
            timed => {
                let base = timed.strip_suffix(".s")?;
                let time = other.strip_prefix(base)?.strip_prefix('.')?;
                SECONDS
                    .iter()
                    .find(|(name, _)| *name == time)
                    .map(|(_, factor)| *factor)
            }
        }
    }

    fn multiples(&self) -> &'static str {
        match &*self.0 {
            "By" => ", or a multiple such as `kB`, `GB`, `GiB`",
            "s" => ", or `min`, `h`, `d`",
            timed if timed.strip_suffix(".s").is_some() => {
                ", or with `.min`, `.h`, `.d` in place of `.s`"
            }
            _ => "",
        }
    }
}

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
    /// The unit is missing.
    #[error("the unit is missing (expected `{example}`)")]
    NoUnit {
        /// How it could be written.
        example: String,
    },
    /// The unit is not that of the meter.
    #[error("unit `{found}` does not fit the meter's unit (expected `{unit}`{multiples})")]
    WrongUnit {
        /// As written.
        found: String,
        /// The meter's.
        unit: String,
        /// What else would do.
        multiples: &'static str,
    },
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
        let found = found.unwrap_or(unit.as_str());
        let factor = unit
            .multiple(found)
            .ok_or_else(|| MeasureError::WrongUnit {
                found: found.chars().take(UNIT_BYTES_MAX).collect(),
                unit: unit.to_string(),
                multiples: unit.multiples(),
            })?;
        let value = Ratio::from_integer(factor)
            .and_then(|factor| number.checked_mul(factor))
            .ok_or(MeasureError::Digits)?;
        Ok(Self {
            text: text.to_owned(),
            value,
        })
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
