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
    /// The page of an application did not come back; what it counted that the agent had not
    /// copied is gone.
    PageVanished = 8,
    /// A page may have been billed by another agent, or before this one forgot: what it
    /// holds is not billed.
    PageQuarantined = 9,
    /// There was no room for another series, not even for one without dimensions.
    SeriesRefused = 10,
    /// A counter of the host went back; what it had counted since it was read is not known.
    CounterReset = 11,
    /// An input stopped while usage was waiting for it.
    InputStopped = 12,
    /// The clock was set back; levels that nobody set meanwhile stood still until it caught up.
    ClockSetBack = 13,
}

impl LossReason {
    /// All reasons, in the order of their codes.
    pub const ALL: [Self; 13] = [
        Self::UncleanBoot,
        Self::CellsDamaged,
        Self::SpoolDamaged,
        Self::SpoolFull,
        Self::Fork,
        Self::JournalDamaged,
        Self::TotalsMismatch,
        Self::PageVanished,
        Self::PageQuarantined,
        Self::SeriesRefused,
        Self::CounterReset,
        Self::InputStopped,
        Self::ClockSetBack,
    ];

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
            8 => Self::PageVanished,
            9 => Self::PageQuarantined,
            10 => Self::SeriesRefused,
            11 => Self::CounterReset,
            12 => Self::InputStopped,
            13 => Self::ClockSetBack,
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
            Self::PageVanished => "page_vanished",
            Self::PageQuarantined => "page_quarantined",
            Self::SeriesRefused => "series_refused",
            Self::CounterReset => "counter_reset",
            Self::InputStopped => "input_stopped",
            Self::ClockSetBack => "clock_set_back",
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

#[cfg(test)]
mod tests {
    use super::LossReason;

    #[test]
    fn codes_are_dense_and_come_back() {
        for (code, reason) in (1..).zip(LossReason::ALL) {
            assert_eq!(reason.code(), code);
            assert_eq!(LossReason::from_code(code), Some(reason));
        }
        let beyond = u8::try_from(LossReason::ALL.len() + 1).expect("few");
        assert_eq!(LossReason::from_code(beyond), None);
        assert_eq!(LossReason::from_code(0), None);
    }
}
