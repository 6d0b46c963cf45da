//! Reconciliation: the ledger beside a statement of somebody else, such as the invoice file of a
//! cloud provider or the export of a billing system behind this one.
//!
//! Both sides are summed by keys and compared. A map says which columns of the statement are keys,
//! how its names are called here, and how much drift is tolerated. `docs/invoices.md` has an
//! example of each key.

mod map;

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::Serialize;
use tollgate_common::Timestamp;

pub use map::{Field, Key, Map, MapError, Tolerance};

use crate::invoice::csv::{self, CsvError};
use crate::ledger::{Account, LedgerEntry, Posting, Role, negated};
use crate::rate::Currency;

/// Most keys that are compared.
pub const KEYS_MAX: usize = 1_000_000;

/// Why nothing can be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconcileError {
    /// The statement is not CSV.
    #[error("statement: {0}")]
    Csv(#[from] CsvError),
    /// It has no heading.
    #[error("statement: no heading with the names of the columns")]
    Empty,
    /// A column that the map names is not there.
    #[error("statement: no column `{column}` (it has {found})")]
    Column {
        /// Which one.
        column: String,
        /// What there is.
        found: String,
    },
    /// A cell is no number.
    #[error("statement, line {line}: `{column}` is {text:?}, which is no decimal number")]
    Number {
        /// In which line, from 1.
        line: usize,
        /// Which column.
        column: String,
        /// What stands there.
        text: String,
    },
    /// A row has fewer cells than the heading.
    #[error("statement, line {line}: {cells} cells where the heading has {columns}")]
    Short {
        /// In which line.
        line: usize,
        /// Its cells.
        cells: usize,
        /// Columns of the heading.
        columns: usize,
    },
    /// Too much.
    #[error("more than {KEYS_MAX} different keys: compare fewer keys or less time")]
    TooMany,
    /// The ledger has lines of a currency that the statement is not in.
    #[error(
        "the ledger has lines in {found}, and the map says that the statement is in {expected}: \
         compare by a [[key]] with `ledger = \"currency\"` instead of `statement.currency`"
    )]
    Currency {
        /// What the ledger has.
        found: String,
        /// What the map says.
        expected: &'static str,
    },
    /// A sum does not fit a decimal.
    #[error("the amounts are too large to be added")]
    TooLarge,
}

/// What one side says of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Sum of the amounts.
    pub amount: Decimal,
    /// Sum of the quantities, in the unit of each side.
    pub quantity: Decimal,
    /// Rows or entries.
    pub rows: u64,
}

impl Side {
    fn add(&mut self, amount: Decimal, quantity: Decimal) -> Result<(), ReconcileError> {
        let sum = |a: Decimal, b| a.checked_add(b).ok_or(ReconcileError::TooLarge);
        self.amount = sum(self.amount, amount)?;
        self.quantity = sum(self.quantity, quantity)?;
        self.rows += 1;
        Ok(())
    }
}

/// How a key compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both sides say the same.
    Equal,
    /// They differ by no more than is tolerated.
    Within,
    /// They differ by more.
    Beyond,
    /// Only the ledger has it.
    LedgerOnly,
    /// Only the statement has it.
    StatementOnly,
}

/// A key on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The key's values in the order of the map.
    pub key: Vec<String>,
    /// What the ledger says.
    pub ledger: Side,
    /// What the statement says.
    pub statement: Side,
    /// Amount of the statement less that of the ledger.
    pub drift: Decimal,
    /// The same of the quantities; `None` if the map compares none.
    pub drift_quantity: Option<Decimal>,
    /// How it compares.
    pub verdict: Verdict,
}

/// Everything together in one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// All of the ledger.
    pub ledger: Side,
    /// All of the statement.
    pub statement: Side,
    /// Amount of the statement less that of the ledger.
    pub drift: Decimal,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciliation {
    /// Names of the keys, as the ledger calls them.
    pub keys: Vec<&'static str>,
    /// Every key of either side.
    pub rows: Vec<Compared>,
    /// Everything together, by currency.
    pub totals: BTreeMap<String, Total>,
    /// True if every key, and the total of every currency, drifts by no more than is tolerated.
    pub within: bool,
}

/// Collects the ledger's side, then compares.
#[derive(Debug)]
pub struct Reconciler<'m> {
    map: &'m Map,
    ledger: BTreeMap<Vec<String>, Side>,
}

impl<'m> Reconciler<'m> {
    /// Compares as `map` says.
    pub const fn new(map: &'m Map) -> Self {
        Self {
            map,
            ledger: BTreeMap::new(),
        }
    }

    /// Takes up an entry; only lines count.
    ///
    /// # Errors
    /// [`ReconcileError::TooLarge`], [`ReconcileError::TooMany`], [`ReconcileError::Currency`].
    pub fn take(&mut self, entry: &LedgerEntry) -> Result<(), ReconcileError> {
        let posting = &entry.posting;
        let Some(amount) = posting.amount.filter(|_| posting.kind.is_line()) else {
            return Ok(());
        };
        if let Some(expected) = self.map.currency.map(Currency::code)
            && posting.currency.as_deref() != Some(expected)
        {
            return Err(ReconcileError::Currency {
                found: posting.currency.clone().unwrap_or_default(),
                expected,
            });
        }
        let quantity = Decimal::try_from_i128_with_scale(
            posting.quantity.units(),
            u32::from(posting.scale.get()),
        )
        .map_err(|_| ReconcileError::TooLarge)?;
        // A line by hand has its tax in its own entry; that of other lines stands apart, and so does
        // this one here.
        let own = posting.legs.iter().filter_map(|leg| match &leg.account {
            Account::Tax(code) => Some((&**code, negated(leg.amount))),
            _ => None,
        });
        let mut net = amount;
        for (code, tax) in own.filter(|_| posting.role != Some(Role::Tax)) {
            net = net.checked_sub(tax).ok_or(ReconcileError::TooLarge)?;
            self.add(|field| tax_field(posting, code, field), tax, Decimal::ZERO)?;
        }
        self.add(|of| field(posting, of), net, quantity)
    }

    fn add(
        &mut self,
        field: impl Fn(Field) -> String,
        amount: Decimal,
        quantity: Decimal,
    ) -> Result<(), ReconcileError> {
        let keys = self.map.keys.iter();
        let key: Vec<String> = keys.map(|key| field(key.ledger)).collect();
        if self.ledger.len() == KEYS_MAX && !self.ledger.contains_key(&key) {
            return Err(ReconcileError::TooMany);
        }
        self.ledger.entry(key).or_default().add(amount, quantity)
    }

    /// Compares with the text of a statement.
    ///
    /// # Errors
    /// See [`ReconcileError`].
    pub fn compare(self, statement: &str) -> Result<Reconciliation, ReconcileError> {
        let statement = self.read(statement)?;
        let keys: BTreeSet<&Vec<String>> = self.ledger.keys().chain(statement.keys()).collect();
        let tolerance = &self.map.tolerance;
        let mut found = Reconciliation {
            keys: self
                .map
                .keys
                .iter()
                .map(|key| key.ledger.as_str())
                .collect(),
            rows: Vec::new(),
            totals: BTreeMap::new(),
            within: true,
        };
        for key in keys {
            let (ours, theirs) = (self.ledger.get(key), statement.get(key));
            let (ledger, stated) = (
                ours.copied().unwrap_or_default(),
                theirs.copied().unwrap_or_default(),
            );
            let less = |a: Decimal, b| a.checked_sub(b).ok_or(ReconcileError::TooLarge);
            let drift = less(stated.amount, ledger.amount)?;
            let drift_quantity = match self.map.quantity {
                Some(_) => Some(less(stated.quantity, ledger.quantity)?),
                None => None,
            };
            let within = tolerance.allows(drift, ledger.amount)
                && drift_quantity.is_none_or(|drift| drift.abs() <= tolerance.quantity);
            let equal = drift.is_zero() && drift_quantity.is_none_or(|drift| drift.is_zero());
            let verdict = match (ours, theirs) {
                // What nobody asks money for need not be on the other side.
                _ if equal => Verdict::Equal,
                (Some(_), None) => Verdict::LedgerOnly,
                (None, Some(_)) => Verdict::StatementOnly,
                _ if within => Verdict::Within,
                _ => Verdict::Beyond,
            };
            found.within &= within;
            let total = found.totals.entry(self.map.currency_of(key)).or_default();
            for (sum, side) in [(&mut total.ledger, ledger), (&mut total.statement, stated)] {
                let rows = sum.rows + side.rows;
                sum.add(side.amount, side.quantity)?;
                sum.rows = rows;
            }
            found.rows.push(Compared {
                key: key.clone(),
                ledger,
                statement: stated,
                drift,
                drift_quantity,
                verdict,
            });
        }
        for total in found.totals.values_mut() {
            let drift = total.statement.amount.checked_sub(total.ledger.amount);
            total.drift = drift.ok_or(ReconcileError::TooLarge)?;
            found.within &= tolerance.total.is_none_or(|most| total.drift.abs() <= most);
        }
        Ok(found)
    }

    fn read(&self, text: &str) -> Result<BTreeMap<Vec<String>, Side>, ReconcileError> {
        let rows = csv::read(text, self.map.delimiter)?;
        let mut rows = rows.into_iter();
        let (_, heading) = rows.next().ok_or(ReconcileError::Empty)?;
        let column = |name: &str| {
            let found = heading.iter().position(|column| column.trim() == name);
            found.ok_or_else(|| ReconcileError::Column {
                column: name.chars().take(128).collect(),
                found: heading.join(", ").chars().take(400).collect(),
            })
        };
        let amount_at = column(&self.map.amount)?;
        let quantity_at = self.map.quantity.as_deref().map(column).transpose()?;
        let keys_at: Vec<usize> = self
            .map
            .keys
            .iter()
            .map(|key| column(&key.statement))
            .collect::<Result<_, _>>()?;
        let only: Vec<(usize, &str)> = self
            .map
            .only
            .iter()
            .map(|(name, value)| Ok((column(name)?, &**value)))
            .collect::<Result<_, ReconcileError>>()?;
        let mut sums: BTreeMap<Vec<String>, Side> = BTreeMap::new();
        for (line, cells) in rows {
            if cells.len() < heading.len() {
                return Err(ReconcileError::Short {
                    line,
                    cells: cells.len(),
                    columns: heading.len(),
                });
            }
            if only.iter().any(|(at, value)| cells[*at].trim() != *value) {
                continue;
            }
            let number = |at: usize| {
                let text = cells[at].trim();
                self.map.number(text).ok_or_else(|| ReconcileError::Number {
                    line,
                    column: heading[at].clone(),
                    text: text.chars().take(64).collect(),
                })
            };
            let amount = number(amount_at)?;
            let quantity = quantity_at.map(number).transpose()?.unwrap_or_default();
            let key: Vec<String> = self
                .map
                .keys
                .iter()
                .zip(&keys_at)
                .map(|(key, at)| key.translate(cells[*at].trim()))
                .collect();
            if sums.len() == KEYS_MAX && !sums.contains_key(&key) {
                return Err(ReconcileError::TooMany);
            }
            sums.entry(key).or_default().add(amount, quantity)?;
        }
        Ok(sums)
    }
}

/// What the ledger calls a key.
fn field(posting: &Posting, field: Field) -> String {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    match field {
        Field::Tenant => text(
            posting
                .tenant
                .as_ref()
                .map(tollgate_common::TenantId::as_str),
        ),
        Field::Line => posting.line.clone(),
        Field::Meter => text(
            posting
                .meter
                .as_ref()
                .map(tollgate_common::MeterName::as_str),
        ),
        Field::Currency => text(posting.currency.as_deref()),
        Field::Role => text(posting.role.map(Role::as_str)),
        Field::Gl => {
            let mut accounts = posting.legs.iter().map(|leg| &leg.account);
            let gl = accounts.find_map(|account| match account {
                Account::Revenue(gl) => Some(&**gl),
                Account::Deferred => Some("deferred"),
                _ => None,
            });
            text(gl)
        }
        // The middle of a period is in its month in every zone.
        Field::Month => {
            let half = posting.end.millis_since(posting.start) / 2;
            head(posting.start.plus_millis(half), 7)
        }
        Field::Day => head(posting.start, 10),
    }
}

/// The same of a tax in the entry of a line, as if it stood in an entry of its own.
fn tax_field(posting: &Posting, code: &str, of: Field) -> String {
    match of {
        Field::Line => code.to_owned(),
        Field::Role => Role::Tax.as_str().to_owned(),
        Field::Gl | Field::Meter => String::new(),
        Field::Tenant | Field::Currency | Field::Month | Field::Day => field(posting, of),
    }
}

fn head(at: Timestamp, characters: usize) -> String {
    at.to_string().chars().take(characters).collect()
}

#[cfg(test)]
mod tests;
