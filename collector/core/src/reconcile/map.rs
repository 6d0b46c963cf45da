//! The map: what the columns of a statement are called in the ledger.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::rate::Currency;

/// Most keys of a map.
const KEYS_MAX: usize = 8;

/// A key of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Who pays.
    Tenant,
    /// The price's id, or what else names the line.
    Line,
    /// The meter; empty for fees.
    Meter,
    /// ISO 4217 code.
    Currency,
    /// Which part of the bill.
    Role,
    /// General-ledger account.
    Gl,
    /// Month of the period, such as `2026-06`.
    Month,
    /// First day of the period in UTC, such as `2026-06-01`.
    Day,
}

impl Field {
    /// The name used in maps and in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Line => "line",
            Self::Meter => "meter",
            Self::Currency => "currency",
            Self::Role => "role",
            Self::Gl => "gl",
            Self::Month => "month",
            Self::Day => "day",
        }
    }
}

/// A column of the statement that is a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The column's name.
    pub statement: String,
    /// What it is in the ledger.
    pub ledger: Field,
    /// Values of the column, and how the ledger calls them; others are taken as they are.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Only the first so many characters count, such as 7 of a date for its month.
    pub first: Option<usize>,
}

impl Key {
    pub(super) fn translate(&self, value: &str) -> String {
        let value: String = match self.first {
            Some(first) => value.chars().take(first).collect(),
            None => value.to_owned(),
        };
        self.values.get(&value).cloned().unwrap_or(value)
    }
}

/// How much drift is tolerated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Of a key's amount.
    pub amount: Decimal,
    /// Of a key's amount, in percent of the ledger's; the larger of both counts.
    pub percent: Decimal,
    /// Of a key's quantity.
    pub quantity: Decimal,
    /// Of the total; `None` for no other limit than those of the keys.
    pub total: Option<Decimal>,
}

impl Tolerance {
    pub(super) fn allows(&self, drift: Decimal, ledger: Decimal) -> bool {
        let drift = drift.abs();
        if drift <= self.amount {
            return true;
        }
        // Beyond the range of decimals nothing is tolerated.
        let scaled = drift.checked_mul(Decimal::ONE_HUNDRED);
        let most = ledger.abs().checked_mul(self.percent);
        scaled.zip(most).is_some_and(|(drift, most)| drift <= most)
    }
}

/// How a statement is read and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// What stands between cells.
    pub delimiter: char,
    /// What stands before decimal places.
    pub decimal: char,
    /// The column of amounts.
    pub amount: String,
    /// The column of quantities, if they are compared.
    pub quantity: Option<String>,
    /// The currency of all amounts; `None` if a key tells it.
    pub currency: Option<Currency>,
    /// Only rows in which these columns have these values.
    pub only: BTreeMap<String, String>,
    /// The keys.
    pub keys: Vec<Key>,
    /// How much drift is tolerated.
    pub tolerance: Tolerance,
}

/// Why a text is no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Not TOML, or with unknown keys.
    #[error("map: {0}")]
    Toml(String),
    /// A key has a value that it cannot have.
    #[error("map: `{key}`: {message}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What was expected.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    statement: RawStatement,
    key: Vec<Key>,
    #[serde(default)]
    tolerance: RawTolerance,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatement {
    delimiter: Option<String>,
    decimal: Option<String>,
    amount: String,
    quantity: Option<String>,
    currency: Option<Currency>,
    #[serde(default)]
    only: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTolerance {
    amount: Option<String>,
    percent: Option<String>,
    quantity: Option<String>,
    total: Option<String>,
}

impl Map {
    /// Reads a map.
    ///
    /// # Errors
    /// See [`MapError`].
    pub fn parse(text: &str) -> Result<Self, MapError> {
        let raw: Raw = toml::from_str(text).map_err(|error| MapError::Toml(error.to_string()))?;
        if raw.key.is_empty() || raw.key.len() > KEYS_MAX {
            let message = format!("{} keys (expected 1 to {KEYS_MAX})", raw.key.len());
            return Err(MapError::Value {
                key: "key",
                message,
            });
        }
        let has_key = raw.key.iter().any(|key| key.ledger == Field::Currency);
        if has_key == raw.statement.currency.is_some() {
            return Err(MapError::Value {
                key: "statement.currency",
                message:
                    "amounts have a currency (expected either this, for a statement of one, or \
                          a [[key]] with `ledger = \"currency\"`)"
                        .to_owned(),
            });
        }
        let delimiter = one_of(
            "statement.delimiter",
            raw.statement.delimiter.as_deref(),
            &[',', ';', '\t', '|'],
        )?;
        let decimal = one_of(
            "statement.decimal",
            raw.statement.decimal.as_deref(),
            &['.', ','],
        )?;
        let tolerance = Tolerance {
            amount: tolerated("tolerance.amount", raw.tolerance.amount.as_deref())?
                .unwrap_or_default(),
            percent: tolerated("tolerance.percent", raw.tolerance.percent.as_deref())?
                .unwrap_or_default(),
            quantity: tolerated("tolerance.quantity", raw.tolerance.quantity.as_deref())?
                .unwrap_or_default(),
            total: tolerated("tolerance.total", raw.tolerance.total.as_deref())?,
        };
        Ok(Self {
            delimiter,
            decimal,
            amount: raw.statement.amount,
            quantity: raw.statement.quantity,
            currency: raw.statement.currency,
            only: raw.statement.only,
            keys: raw.key,
            tolerance,
        })
    }

    /// The currency of a key's amounts.
    pub(super) fn currency_of(&self, key: &[String]) -> String {
        if let Some(currency) = self.currency {
            return currency.code().to_owned();
        }
        let of_key = self.keys.iter().zip(key);
        let currency = of_key.filter(|(key, _)| key.ledger == Field::Currency);
        currency
            .map(|(_, value)| value.clone())
            .next()
            .unwrap_or_default()
    }

    /// A number as the statement writes it: plain, with signs, with separators between thousands.
    pub(super) fn number(&self, text: &str) -> Option<Decimal> {
        if text.is_empty() {
            return Some(Decimal::ZERO);
        }
        let thousands = if self.decimal == '.' { ',' } else { '.' };
        let plain: String = text
            .chars()
            .filter(|c| *c != thousands && *c != ' ' && *c != '\u{a0}')
            .map(|c| if c == self.decimal { '.' } else { c })
            .collect();
        // As clouds write small costs: 1.5E-7.
        plain
            .parse()
            .ok()
            .or_else(|| Decimal::from_scientific(&plain).ok())
    }
}

fn one_of(key: &'static str, text: Option<&str>, allowed: &[char]) -> Result<char, MapError> {
    let Some(text) = text else {
        return Ok(allowed[0]);
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if allowed.contains(&c) => Ok(c),
        _ => Err(MapError::Value {
            key,
            message: format!("{text:?} is not possible (expected one of {allowed:?})"),
        }),
    }
}

fn tolerated(key: &'static str, text: Option<&str>) -> Result<Option<Decimal>, MapError> {
    let Some(text) = text else { return Ok(None) };
    let value: Option<Decimal> = text.parse().ok();
    match value.filter(|value| !value.is_sign_negative()) {
        Some(value) => Ok(Some(value)),
        None => Err(MapError::Value {
            key,
            message: format!(
                "{text:?} is not possible (expected a decimal such as \"0.01\", not below zero)"
            ),
        }),
    }
}
