//! The journal entry that books an open period as it stands.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tollgate_common::{TenantId, Timestamp};

use crate::ledger::Note;

/// The decision to book an open period as it stands, so that it can be billed before it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interim {
    /// Whose period.
    pub tenant: TenantId,
    /// First instant of the period, UTC.
    pub start: Timestamp,
    /// First instant after the period, UTC.
    pub end: Timestamp,
    /// How often the period was booked so before. An entry with another number was decided twice
    /// and has no effect.
    pub part: u32,
    /// Why now.
    #[serde(flatten)]
    pub cause: InterimCause,
    /// See [`FOLD_VERSION`](super::FOLD_VERSION).
    pub fold_version: u16,
}

/// Why an open period is booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum InterimCause {
    /// What is not billed yet has reached the profile's threshold.
    Threshold {
        /// The threshold.
        amount: Decimal,
    },
    /// An operator wants it billed.
    Operator(Note),
}
