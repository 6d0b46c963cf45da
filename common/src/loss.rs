//! Declared losses: usage that was accepted and is known not to reach the ledger.

use std::fmt;

use serde::Serialize;

use crate::ids::{MeterName, TenantId};
use crate::quantity::Quantity;
use crate::time::Timestamp;

/// Why usage was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LossReason {
    /// The host was reset without a clean stop; cells of the open window are gone.
    UncleanBoot = 1,
    /// The agent's cell file was unreadable or contradicted the spool.
    CellsDamaged = 2,
    /// A record of the agent's spool was damaged.
    SpoolDamaged = 3,
    /// The spool was full and could not hold the batch.
    SpoolFull = 4,
    /// Two branches of one incarnation (a cloned host): the lesser branch may be a copy.
    Fork = 5,
    /// A record of the collector's journal was lost and could not be fetched again.
    JournalDamaged = 6,
    /// The agent reported totals that its batches do not explain.
    TotalsMismatch = 7,
}

impl LossReason {
    /// The number that stands for this reason in formats.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this number, or `None` if this version knows none.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::UncleanBoot,
            2 => Self::CellsDamaged,
            3 => Self::SpoolDamaged,
            4 => Self::SpoolFull,
            5 => Self::Fork,
            6 => Self::JournalDamaged,
            7 => Self::TotalsMismatch,
            _ => return None,
        })
    }

    /// The name used in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UncleanBoot => "unclean_boot",
            Self::CellsDamaged => "cells_damaged",
            Self::SpoolDamaged => "spool_damaged",
            Self::SpoolFull => "spool_full",
            Self::Fork => "fork",
            Self::JournalDamaged => "journal_damaged",
            Self::TotalsMismatch => "totals_mismatch",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "quantity")]
pub enum LossAmount {
    /// Exactly this much.
    Exact(Quantity),
    /// At most this much.
    AtMost(Quantity),
    /// Not known; bounded only in time.
    Unknown,
}

/// One declaration of lost usage.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// Whose usage, where that is known.
    pub tenant: Option<TenantId>,
    /// Of which meter, where that is known.
    pub meter: Option<MeterName>,
    /// How much.
    pub amount: LossAmount,
    /// The loss happened at or after this instant.
    pub from: Timestamp,
    /// The loss happened before this instant.
    pub to: Timestamp,
}
