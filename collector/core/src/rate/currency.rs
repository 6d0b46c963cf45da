//! Currencies with the number of decimal places that their amounts have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An ISO 4217 currency that has an exponent: the decimal places of its smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    iso: iso_currency::Currency,
    // in [0, 4]
    exponent: u16,
}

/// Not a currency that amounts can be booked in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// ISO 4217 does not list the code.
    #[error(
        "`{0}` is not an ISO 4217 currency code (expected three capital letters such as `EUR`)"
    )]
    Unknown(String),
    /// Metals, funds and test codes have no smallest unit to round to.
    #[error("currency `{0}` has no decimal places in ISO 4217, so amounts cannot be rounded in it")]
    NoExponent(String),
}

impl Currency {
    /// The three letters.
    pub fn code(self) -> &'static str {
        self.iso.code()
    }

    /// Decimal places of an amount: 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u32 {
        u32::from(self.exponent)
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        let shown = || code.chars().take(16).collect::<String>();
        let iso = iso_currency::Currency::from_code(code)
            .ok_or_else(|| CurrencyError::Unknown(shown()))?;
        let exponent = iso
            .exponent()
            .ok_or_else(|| CurrencyError::NoExponent(shown()))?;
        Ok(Self { iso, exponent })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        code.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_those_of_iso_4217() {
        for (code, exponent) in [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(
                code.parse::<Currency>().map(Currency::exponent),
                Ok(exponent)
            );
        }
        assert_eq!(
            "eur".parse::<Currency>(),
            Err(CurrencyError::Unknown("eur".to_owned()))
        );
        assert_eq!(
            "XAU".parse::<Currency>(),
            Err(CurrencyError::NoExponent("XAU".to_owned()))
        );
    }
}
