//! The fold: a deterministic state machine that reads the journal.
//!
//! It has two stages. The *intake* reads entries one by one; there live dedupe, gaps, forks
//! and watermarks. What it lets through goes to the *tenant folds*, chosen by tenant hash,
//! which may run in parallel: window, period, rate, ledger. No stage has a clock, I/O or
//! randomness.

pub mod dedupe;
pub mod intake;
mod kept;
mod names;
mod packed;
pub mod planted;
pub mod rows;
pub mod tenant;
pub mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_common::{
    AgentId, BatchSeq, Incarnation, Loss, MeterName, Quantity, Scale, TenantId, Timestamp,
};

use crate::entry::{
    CatalogChange, Closing, Interim, Issue, Manual, Opened, Operated, PolicyChange,
};

pub use rows::{RowSet, Run};

/// What the intake hands to one tenant fold, in journal order.
///
/// Every input comes with the position and the stamp of the journal entry that caused it.
#[derive(Clone, Debug)]
pub enum TenantInput {
    /// Figures that hold from here on.
    Opened(Opened),
    /// A new catalog.
    Catalog(Arc<CatalogChange>),
    /// A new policy: it decides which agents a period waits for.
    Policy(Arc<PolicyChange>),
    /// Fresh rows of one batch that belong to this partition's tenants.
    Rows(Rows),
    /// Fresh rows of tenants for whom a tenant of this partition may pay. What it does pay for counts
    /// here, and nowhere else; it stands in [`TenantInput::Rows`] of the partition of the rows'
    /// tenant all the same.
    ChildRows(Rows),
    /// What incarnations counted in all has grown by this much, account by account: exactly the
    /// rows that add up and the quantities of losses that come with the same entry, less the losses
    /// taken back. In the order of tenant, meter and scale, each once.
    Accepted(Vec<Accepted>),
    /// Usage declared lost.
    Loss(DeclaredLoss),
    /// The same of a tenant for whom a tenant of this partition may pay; it is booked elsewhere.
    ChildLoss(DeclaredLoss),
    /// A declared loss is taken back: the batches arrived after all, and their rows follow.
    LossReversed(DeclaredLoss),
    /// How far agents have reported: those whose watermark moved, to be merged with what is
    /// known of the others.
    Watermarks(Arc<BTreeMap<AgentId, Timestamp>>),
    /// A period of a tenant of this partition is closed.
    Close(Box<Closing>),
    /// An open period of a tenant of this partition is booked as it stands.
    Interim(Box<Interim>),
    /// A decision about the books of a tenant of this partition.
    Manual(Box<Manual>),
    /// A document for a tenant of this partition is issued under this number.
    Issue(Box<Issue>, u64),
    /// An operator corrected usage of a tenant of this partition, or retired an agent.
    Operated(Arc<Operated>),
    /// An operator corrected usage of a tenant for whom a tenant of this partition may pay.
    ChildOperated(Arc<Operated>),
    /// Time passed.
    Clock,
}

/// Fresh rows of one batch.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Who sealed them.
    pub agent: AgentId,
    /// In which life.
    pub incarnation: Incarnation,
    /// In which batch.
    pub sequence: BatchSeq,
    /// The rows, with the verdicts of the policy.
    pub rows: RowSet,
}

/// Growth of a running total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Whose.
    pub tenant: TenantId,
    /// Of which meter.
    pub meter: MeterName,
    /// Decimal places.
    pub scale: Scale,
    /// By how much it grew.
    pub quantity: Quantity,
}

/// A loss with where it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredLoss {
    /// On which agent, where that is known.
    pub agent: Option<AgentId>,
    /// In which life, where that is known.
    pub incarnation: Option<Incarnation>,
    /// First and last sequence number, where batches are concerned.
    pub sequences: Option<(u64, u64)>,
    /// Decimal places of the quantity; 0 where the meter is not known.
    pub scale: Scale,
    /// What is lost.
    pub loss: Loss,
}

/// The tenant partition of a tenant: BLAKE3 of its name, first eight bytes, modulo.
pub fn partition_of(tenant: &TenantId, partitions: u16) -> u16 {
    let hash = blake3::hash(tenant.as_str().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    let partitions = u64::from(partitions.max(1));
    u16::try_from(u64::from_le_bytes(first) % partitions).expect("a remainder of a u16 fits")
}
