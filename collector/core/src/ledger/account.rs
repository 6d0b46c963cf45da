//! Accounts and legs: where the money of an entry goes.
//!
//! A positive amount is a debit, a negative one a credit. The legs of an entry sum to zero in
//! every currency, so that the accounts of a ledger do too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The general-ledger account of a line whose price names none.
pub const GL_DEFAULT: &str = "revenue";
/// Longest name of a general-ledger account or of a tax, in bytes.
pub const ACCOUNT_NAME_BYTES_MAX: usize = 64;

/// An account of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// What is booked and stands on no invoice yet: an asset.
    Unbilled,
    /// What is invoiced: an asset.
    Receivable,
    /// What was earned, by the general-ledger account of the line.
    Revenue(String),
    /// What is owed to a tax office, by the code of the tax.
    Tax(String),
    /// Prepaid credits and grants that were drawn on.
    Grants,
    /// What a commitment costs beyond the usage that counts towards it.
    Commitment,
    /// What rounding a sum leaves beside the sum of its parts.
    Rounding,
    /// What the tenant has to its credit.
    CreditBalance,
    /// What was charged for a time that is to come: a liability until then.
    Deferred,
    /// What differences between exchange rates leave.
    Exchange,
}

impl Account {
    /// The account of a general-ledger account's name.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn revenue(gl: &str) -> Result<Self, AccountError> {
        check_name(gl).map(|()| Self::Revenue(gl.to_owned()))
    }

    /// The account of a tax.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub fn tax(code: &str) -> Result<Self, AccountError> {
        check_name(code).map(|()| Self::Tax(code.to_owned()))
    }
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let sound = !name.is_empty()
        && name.len() <= ACCOUNT_NAME_BYTES_MAX
        && name.chars().all(|c| !c.is_control() && c != ':');
    if sound {
        Ok(())
    } else {
        Err(AccountError(name.chars().take(80).collect()))
    }
}

/// Not the name of an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no account (expected `unbilled`, `receivable`, `revenue:NAME`, `tax:CODE`, `grants`, `commitment`, \
     `rounding`, `credit_balance`, `deferred` or `exchange`; a name has 1 to {ACCOUNT_NAME_BYTES_MAX} bytes without `:`)"
)]
pub struct AccountError(String);

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbilled => f.write_str("unbilled"),
            Self::Receivable => f.write_str("receivable"),
            Self::Revenue(gl) => write!(f, "revenue:{gl}"),
            Self::Tax(code) => write!(f, "tax:{code}"),
            Self::Grants => f.write_str("grants"),
            Self::Commitment => f.write_str("commitment"),
            Self::Rounding => f.write_str("rounding"),
            Self::CreditBalance => f.write_str("credit_balance"),
            Self::Deferred => f.write_str("deferred"),
            Self::Exchange => f.write_str("exchange"),
        }
    }
}

impl FromStr for Account {
    type Err = AccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(gl) = text.strip_prefix("revenue:") {
            return Self::revenue(gl);
        }
        if let Some(code) = text.strip_prefix("tax:") {
            return Self::tax(code);
        }
        match text {
            "unbilled" => Ok(Self::Unbilled),
            "receivable" => Ok(Self::Receivable),
            "grants" => Ok(Self::Grants),
            "commitment" => Ok(Self::Commitment),
            "rounding" => Ok(Self::Rounding),
            "credit_balance" => Ok(Self::CreditBalance),
            "deferred" => Ok(Self::Deferred),
            "exchange" => Ok(Self::Exchange),
            other => Err(AccountError(other.chars().take(80).collect())),
        }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One side of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// Which account of the tenant.
    pub account: Account,
    /// Debit above zero, credit below.
    pub amount: Decimal,
    /// ISO 4217 code.
    pub currency: String,
}

/// The amount with the opposite sign; of zero there is only one.
pub fn negated(amount: Decimal) -> Decimal {
    if amount.is_zero() { amount } else { -amount }
}

/// The two legs of an amount that goes from one account to another; none if it is zero.
pub fn transfer(to: Account, from: Account, amount: Decimal, currency: &str) -> Vec<Leg> {
    if amount.is_zero() {
        return Vec::new();
    }
    let leg = |account, amount| Leg {
        account,
        amount,
        currency: currency.to_owned(),
    };
    vec![leg(to, amount), leg(from, -amount)]
}

/// Legs that do not sum to zero.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbalanced {
    /// A currency has something left.
    #[error("the legs in {currency} sum to {sum} instead of zero")]
    Sum {
        /// Which currency.
        currency: String,
        /// What is left.
        sum: Decimal,
    },
    /// The sum does not fit a decimal.
    #[error("the legs in {0} are too large to be added")]
    TooLarge(String),
}

/// Checks that legs sum to zero in every currency.
///
/// # Errors
/// See [`Unbalanced`].
pub fn check_balance(legs: &[Leg]) -> Result<(), Unbalanced> {
    // Nearly all entries have two legs in one currency.
    if let [a, b] = legs
        && a.currency == b.currency
        && a.amount == -b.amount
    {
        return Ok(());
    }
    let mut sums: BTreeMap<&str, Decimal> = BTreeMap::new();
    for leg in legs {
        let sum = sums.entry(&leg.currency).or_default();
        *sum = sum
            .checked_add(leg.amount)
            .ok_or_else(|| Unbalanced::TooLarge(leg.currency.clone()))?;
    }
    match sums.into_iter().find(|(_, sum)| !sum.is_zero()) {
        None => Ok(()),
        Some((currency, sum)) => Err(Unbalanced::Sum {
            currency: currency.to_owned(),
            sum,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_read_as_they_print() {
        for text in [
            "unbilled",
            "receivable",
            "revenue:8400",
            "tax:de-standard",
            "grants",
            "commitment",
            "rounding",
            "credit_balance",
            "deferred",
            "exchange",
        ] {
            assert_eq!(text.parse::<Account>().expect(text).to_string(), text);
        }
        for text in ["", "cash", "revenue:", "tax:a:b", "revenue:\n"] {
            assert!(text.parse::<Account>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_currency_sums_to_zero_or_is_named() {
        let leg = |account: Account, amount, currency: &str| Leg {
            account,
            amount: Decimal::new(amount, 2),
            currency: currency.to_owned(),
        };
        let mut legs = vec![
            leg(Account::Unbilled, 119, "EUR"),
            leg(Account::Revenue("8400".to_owned()), -100, "EUR"),
            leg(Account::Tax("de".to_owned()), -19, "EUR"),
        ];
        assert_eq!(check_balance(&legs), Ok(()));
        legs.push(leg(Account::Grants, 5, "USD"));
        assert_eq!(
            check_balance(&legs),
            Err(Unbalanced::Sum {
                currency: "USD".to_owned(),
                sum: Decimal::new(5, 2)
            })
        );
        legs[3] = leg(Account::Grants, 1, "EUR");
        assert!(check_balance(&legs).is_err());
        let huge = |amount| Leg {
            account: Account::Unbilled,
            amount,
            currency: "EUR".to_owned(),
        };
        let legs = [huge(Decimal::MAX), huge(Decimal::MAX), huge(Decimal::MIN)];
        assert_eq!(
            check_balance(&legs),
            Err(Unbalanced::TooLarge("EUR".to_owned()))
        );
        assert!(transfer(Account::Unbilled, Account::Grants, Decimal::ZERO, "EUR").is_empty());
    }
}
