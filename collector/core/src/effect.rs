//! What the fold tells the world: changes to projections, never input to itself.

use serde::Serialize;
use tollgate_common::{
    AgentId, Aggregation, ClockStep, Detail, Quantity, Scale, SeriesKey, TenantId, Timestamp,
    Window,
};

use crate::entry::{CatalogChange, RefusedReason};
pub use crate::fold::rows::UsageRows;
use crate::ledger::LedgerEntry;
use crate::position::Position;

/// A change of a series' usage in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageChange {
    /// What was counted.
    pub series: std::sync::Arc<SeriesKey>,
    /// How values combine.
    pub aggregation: Aggregation,
    /// Decimal places.
    pub scale: Scale,
    /// The window of the projection (at least as wide as the agent's).
    pub window: Window,
    /// `None` for usage that counts, otherwise why it was refused.
    pub refused: Option<RefusedReason>,
    /// Sum, distribution, time-weighted: to be added. Max: replaces what is smaller. Last:
    /// replaces the value if `order` is not below the stored one. Unique: what `detail` alone
    /// estimates; with what is stored the two sets are one, whose estimate stands.
    pub quantity: Quantity,
    /// Of unique and distribution: to be merged with what is stored.
    #[serde(skip_serializing_if = "Detail::is_none")]
    pub detail: Detail,
    /// To be added.
    pub events: u64,
    /// For `last`: a text that orders values as they happened (zero-padded time, agent).
    pub order: Option<String>,
}

/// What is known of an agent; replaces what was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentState {
    /// Who.
    pub agent: AgentId,
    /// Its newest incarnation.
    pub incarnation: tollgate_common::Incarnation,
    /// The end of the contiguous prefix of that incarnation.
    pub sequence: u64,
    /// Everything before this instant has arrived.
    pub watermark: Timestamp,
    /// Stamp of the last entry from it.
    pub last_seen: Timestamp,
    /// Batches that counted.
    pub batches: u64,
    /// Rollups that counted.
    pub rollups: u64,
    /// Batches that had been received before.
    pub duplicates: u64,
    /// Batches of another branch of the same incarnation (a cloned host).
    pub forks: u64,
    /// Sequence numbers not received and not declared.
    pub gaps: u64,
    /// Batches declared lost and not received since.
    pub lost: u64,
    /// How often its wall clock was set, by its own account.
    pub clock_steps: u64,
    /// The last of these steps.
    pub last_clock_step: Option<ClockStep>,
}

/// The conservation account of a tenant's meter; replaces what was known.
///
/// `accepted + corrected = counted + refused + lost`, where `counted` is what has been folded
/// into periods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountState {
    /// Whose.
    pub tenant: TenantId,
    /// Of which meter.
    pub meter: tollgate_common::MeterName,
    /// Decimal places.
    pub scale: Scale,
    /// What agents say they counted, by the running totals of their batches.
    pub accepted: Quantity,
    /// What was folded into periods.
    pub counted: Quantity,
    /// What was refused by policy.
    pub refused: Quantity,
    /// What was declared lost, exactly or at most.
    pub lost: Quantity,
    /// What operators added and took away.
    pub corrected: Quantity,
}

/// Whether a period is open or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodStatus {
    /// Usage still counts into it.
    Open,
    /// Rated and booked.
    Closed,
}

/// What is known of a period; replaces what was known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeriodState {
    /// Whose.
    pub tenant: TenantId,
    /// First instant, UTC.
    pub start: Timestamp,
    /// First instant after, UTC.
    pub end: Timestamp,
    /// Open or closed.
    pub status: PeriodStatus,
    /// How often it was closed: 1, and once more for every settlement of late usage.
    pub rounds: u32,
    /// Why it was closed last, as JSON of [`crate::entry::Closing`].
    pub closing: Option<String>,
}

/// A catalog was applied or proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CatalogApplied {
    /// Where its journal entry stands.
    pub position: Position,
    /// When: the stamp of the entry.
    pub stamp: Timestamp,
    /// What, by whom and why.
    pub change: std::sync::Arc<CatalogChange>,
}

/// One change of the projections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// Usage of one series changed.
    Usage(UsageChange),
    /// Usage of the rows of a batch changed.
    Rows(UsageRows),
    /// An entry was booked.
    Ledger(Box<LedgerEntry>),
    /// An agent was heard of.
    Agent(AgentState),
    /// A conservation account changed.
    Account(AccountState),
    /// A period was opened or closed.
    Period(PeriodState),
    /// A catalog was applied or proposed.
    Catalog(CatalogApplied),
}
