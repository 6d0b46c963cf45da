//! Journal entries by which operators correct usage and say what is to be waited for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_common::{
    AgentId, Aggregation, Dimensions, MeterName, Quantity, Scale, TenantId, Timestamp,
};

use super::{Digest, RefusedReason};
use crate::ledger::Note;

/// Most rows of one correction.
pub const CORRECTION_ROWS_MAX: usize = 1000;
/// Most smallest units of one row, as a magnitude.
pub const CORRECTION_UNITS_MAX: u128 = 1 << 80;
/// Longest key, author and reason, in bytes.
pub const OPERATED_TEXT_BYTES_MAX: usize = 1024;

/// What an operator did, with name and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operated {
    /// What.
    #[serde(flatten)]
    pub action: OperatedAction,
    /// Who, and why.
    #[serde(flatten)]
    pub note: Note,
}

/// What an operator did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum OperatedAction {
    /// Usage is added, taken away or released.
    Correct(Correction),
    /// Closed periods are to be rated anew.
    Rerate(Rerate),
    /// An agent is gone for good: periods do not wait for it any more, until it reports again.
    Retire {
        /// Who.
        agent: AgentId,
    },
}

/// Usage that no agent reported, or that is taken back, or that the policy refused and that counts
/// after all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// Whose usage.
    pub tenant: TenantId,
    /// Tells this correction from all others of the tenant: a second one with the same key has no
    /// effect.
    pub key: String,
    /// 1 to [`CORRECTION_ROWS_MAX`].
    pub rows: Vec<CorrectedRow>,
}

/// A row of a correction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorrectedRow {
    /// Which meter.
    pub meter: MeterName,
    /// Its series.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dimensions: BTreeMap<String, String>,
    /// How its values combine.
    pub aggregation: Aggregation,
    /// Decimal places of the quantity.
    pub scale: Scale,
    /// The instant that it belongs to, which decides the period.
    pub at: Timestamp,
    /// Of what adds up: how much more it is, or less. Of maximum and last: the value.
    pub quantity: Quantity,
    /// The usage was refused for this reason, and counts from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<RefusedReason>,
}

/// Periods that are closed are rated anew by another catalog, and the differences booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerate {
    /// Whose periods.
    pub tenant: TenantId,
    /// Those that begin at this instant or later …
    pub from: Timestamp,
    /// … and before this one.
    pub to: Timestamp,
    /// By which version; it has been in force.
    pub catalog: Digest,
}

/// Why an operator's action is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatedError {
    /// A text is empty or too long.
    #[error("{0} is needed, with at most {OPERATED_TEXT_BYTES_MAX} bytes")]
    Text(&'static str),
    /// No row, or too many.
    #[error("a correction has 1 to {CORRECTION_ROWS_MAX} rows (found {0}); split it")]
    Rows(usize),
    /// A row is not possible.
    #[error("row {row}: {mistake}")]
    Row {
        /// Its place, from 1 on.
        row: usize,
        /// What is wrong.
        mistake: RowMistake,
    },
    /// The range of periods is empty.
    #[error("the range ends before it begins")]
    Range,
}

/// What is wrong with a row of a correction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowMistake {
    /// The dimensions are not those of a series.
    #[error("{0}")]
    Dimensions(String),
    /// The quantity is too large.
    #[error("the quantity is larger than 2^80 smallest units")]
    TooLarge,
    /// It changes nothing.
    #[error("a quantity of 0 changes nothing")]
    Nothing,
    /// A value that cannot be made less by a row.
    #[error(
        "`{0}` does not add up: a value below zero takes nothing away (correct it at its source)"
    )]
    Negative(&'static str),
    /// Values that an operator cannot give.
    #[error("usage of `{0}` is made of many values and cannot be corrected by a quantity")]
    Values(&'static str),
    /// Only what adds up can be moved.
    #[error("only usage that adds up, above zero, can be released (`{0}` cannot)")]
    Release(&'static str),
}

impl Operated {
    /// Checks what no reader should have to check again.
    ///
    /// # Errors
    /// See [`OperatedError`].
    pub fn check(&self) -> Result<(), OperatedError> {
        let text = |name, text: &str| {
            let sound = !text.trim().is_empty() && text.len() <= OPERATED_TEXT_BYTES_MAX;
            if sound {
                Ok(())
            } else {
                Err(OperatedError::Text(name))
            }
        };
        text("author", &self.note.author)?;
        text("reason", &self.note.reason)?;
        match &self.action {
            OperatedAction::Correct(correction) => {
                text("key", &correction.key)?;
                let rows = correction.rows.len();
                if !(1..=CORRECTION_ROWS_MAX).contains(&rows) {
                    return Err(OperatedError::Rows(rows));
                }
                for (index, row) in correction.rows.iter().enumerate() {
                    row.check().map_err(|mistake| OperatedError::Row {
                        row: index + 1,
                        mistake,
                    })?;
                }
                Ok(())
            }
            OperatedAction::Rerate(rerate) if rerate.to <= rerate.from => Err(OperatedError::Range),
            OperatedAction::Rerate(_) | OperatedAction::Retire { .. } => Ok(()),
        }
    }

    /// Whose books it concerns; `None` for all.
    pub fn tenant(&self) -> Option<&TenantId> {
        match &self.action {
            OperatedAction::Correct(correction) => Some(&correction.tenant),
            OperatedAction::Rerate(rerate) => Some(&rerate.tenant),
            OperatedAction::Retire { .. } => None,
        }
    }
}

impl CorrectedRow {
    /// The series' dimensions, checked.
    pub fn series_dimensions(&self) -> Result<Dimensions, RowMistake> {
        Dimensions::new(self.dimensions.clone())
            .map_err(|error| RowMistake::Dimensions(error.to_string()))
    }

    fn check(&self) -> Result<(), RowMistake> {
        self.series_dimensions()?;
        let name = self.aggregation.as_str();
        if matches!(
            self.aggregation,
            Aggregation::Unique | Aggregation::Distribution
        ) {
            return Err(RowMistake::Values(name));
        }
        if self.quantity.units().unsigned_abs() > CORRECTION_UNITS_MAX {
            return Err(RowMistake::TooLarge);
        }
        let adds_up = self.aggregation.adds_up();
        if self.release.is_some() && (!adds_up || self.quantity.units() <= 0) {
            return Err(RowMistake::Release(name));
        }
        if adds_up && self.quantity.is_zero() {
            return Err(RowMistake::Nothing);
        }
        if !adds_up && self.quantity.is_negative() {
            return Err(RowMistake::Negative(name));
        }
        Ok(())
    }
}
