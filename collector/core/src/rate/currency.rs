//! Currencies with the number of decimal places that their amounts have: money of ISO 4217, and
//! pricing units such as tokens or points, which a catalog declares.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a pricing unit, in bytes.
pub const PRICING_UNIT_BYTES_MAX: usize = 16;
/// Most decimal places of a pricing unit.
pub const PRICING_UNIT_PLACES_MAX: u32 = 9;
/// Most names of pricing units that a process knows: they are never forgotten.
const NAMES_MAX: usize = 1024;

/// The names of all pricing units that were ever read, so that a currency is as small as a pointer
/// and can be copied. Nothing but the bound on their number can be seen of it.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// What amounts are in: an ISO 4217 currency that has an exponent (the decimal places of its smallest
/// unit), or a pricing unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    code: &'static str,
    // in [0, 9]
    exponent: u16,
}

/// Not a pricing unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PricingUnitError {
    /// Not a name that cannot be taken for money.
    #[error(
        "`{0}` is no name of a pricing unit (expected 2 to {PRICING_UNIT_BYTES_MAX} small letters, \
         digits and `_`, such as `tokens`)"
    )]
    Name(String),
    /// More names than a process keeps.
    #[error(
        "this process has read {NAMES_MAX} names of pricing units, and keeps no more (restart it)"
    )]
    TooMany,
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
    /// A pricing unit; its amounts have so many decimal places, at most
    /// [`PRICING_UNIT_PLACES_MAX`].
    ///
    /// # Errors
    /// See [`PricingUnitError`].
    pub fn pricing_unit(name: &str, places: u32) -> Result<Self, PricingUnitError> {
        let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins
            || !(2..=PRICING_UNIT_BYTES_MAX).contains(&name.len())
            || !name.bytes().all(small)
        {
            let shown = name.chars().take(PRICING_UNIT_BYTES_MAX * 2).collect();
            return Err(PricingUnitError::Name(shown));
        }
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let code = if let Some(known) = names.get(name) {
            *known
        } else {
            if names.len() >= NAMES_MAX {
                return Err(PricingUnitError::TooMany);
            }
            let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
            names.insert(kept);
            kept
        };
        let exponent = places.min(PRICING_UNIT_PLACES_MAX);
        Ok(Self {
            code,
            exponent: u16::try_from(exponent).unwrap_or(0),
        })
    }

    /// True for a currency of ISO 4217, false for a pricing unit.
    pub fn is_money(self) -> bool {
        self.code.bytes().all(|byte| byte.is_ascii_uppercase())
    }

    /// The three letters of ISO 4217, or the name of a pricing unit.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// Decimal places of an amount: 2 for EUR, 0 for JPY, 3 for KWD, what is declared for a pricing
    /// unit.
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
        Ok(Self {
            code: iso.code(),
            exponent,
        })
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
        let tokens = Currency::pricing_unit("tokens", 3).expect("a name");
        assert_eq!(
            (tokens.code(), tokens.exponent(), tokens.is_money()),
            ("tokens", 3, false)
        );
        assert_eq!(Currency::pricing_unit("tokens", 3), Ok(tokens));
        for name in [
            "",
            "t",
            "EUR",
            "Tokens",
            "to kens",
            "1up",
            "a_name_of_more_bytes",
        ] {
            assert!(Currency::pricing_unit(name, 0).is_err(), "{name}");
        }
        assert!("EUR".parse::<Currency>().is_ok_and(Currency::is_money));
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
