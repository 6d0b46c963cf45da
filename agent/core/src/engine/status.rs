//! What an engine shows of itself.

use serde::Serialize;
use tollgate_common::storage::Storage;
use tollgate_common::{AgentId, Incarnation, Parent, Timestamp};

use super::top::{self, TopMemory, TopQuery, TopRates};
use super::{Engine, Pressure};
use crate::aggregate::{Account, Cardinality, Cells, Region, TenantAccounts, TenantOverflow};
use crate::seal::Standing;
use crate::ship::ShipStatus;

/// Most tenants that a status names because they have more series than there is room for.
const OVERFLOWING_MAX: usize = 20;

/// The state of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The agent's name.
    pub agent: AgentId,
    /// Its present life.
    pub incarnation: Incarnation,
    /// The life before.
    pub parent: Option<Parent>,
    /// When this life began.
    pub opened_at: Timestamp,
    /// Batches sealed in this life.
    pub sequence: u64,
    /// When the last cut was made.
    pub cut: Timestamp,
    /// Everything before this instant is sealed.
    pub watermark: Timestamp,
    /// True after the final batch.
    pub closed: bool,
    /// Series in use, of all inputs.
    pub series: u32,
    /// Series that the host may have: `limits.series_max`.
    pub series_limit: u32,
    /// The account of each input, over the life of the state directory.
    pub inputs: Vec<InputStatus>,
    /// Tenants whose series have lost their dimensions to a limit, those with most lookups
    /// first, at most 20.
    pub overflowing: Vec<TenantOverflow>,
    /// The account of inputs that are no longer configured.
    pub retired: Account,
    /// The spool.
    pub spool: SpoolStatus,
    /// What the state of the spool asks of the inputs.
    pub pressure: Pressure,
    /// How far the wall clock is ahead of the time that windows follow, in milliseconds.
    pub clock_ahead_millis: i64,
    /// The connection to the collector.
    pub ship: ShipStatus,
}

/// The account of one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InputStatus {
    /// The writer's name.
    pub name: String,
    /// How many series it has, and what became of earlier ones.
    #[serde(flatten)]
    pub cardinality: Cardinality,
    /// Series that there is room for, those for overflow included; the host's limit may be less.
    pub series_max: u32,
    /// What became of its events.
    #[serde(flatten)]
    pub account: Account,
}

/// The state of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SpoolStatus {
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes allowed.
    pub bytes_max: u64,
    /// Bytes free on its file system, as far as that is known.
    pub free: u64,
    /// Bytes that a power cut would take because they are not synced yet.
    pub unsynced: u64,
    /// Batches and tombstones that no collector has let go.
    pub batches: u64,
    /// About when the oldest of them was sealed; `None` if there is none.
    pub oldest: Option<Timestamp>,
    /// Incarnations that they belong to.
    pub incarnations: u64,
    /// Since when a seal has found no room; counts stay in the cells meanwhile.
    pub full_since: Option<Timestamp>,
    /// Damaged places found when the spool was opened.
    pub damaged: u64,
}

/// The state of an agent, for a thread of whoever asks: what costs a look at every series is not
/// looked at before it is asked for, and so not by the engine's thread.
///
/// It keeps the cells mapped while it is there.
pub struct Glance<R: Region> {
    cells: Cells<R>,
    /// All but the accounts.
    status: Status,
}

impl<R: Region> Glance<R> {
    /// The whole status. It reads the cell of every series.
    pub fn status(&self) -> Status {
        let mut status = self.status.clone();
        status.series = self.cells.live();
        status.inputs = self.inputs();
        status.overflowing = self.cells.overflowing(OVERFLOWING_MAX);
        status.retired = self.cells.retired_account();
        status
    }

    fn inputs(&self) -> Vec<InputStatus> {
        (0..)
            .zip(self.cells.accounts())
            .map(|(writer, (name, account))| InputStatus {
                name: name.to_owned(),
                cardinality: self.cells.cardinality(writer),
                series_max: self.cells.layout().series(),
                account,
            })
            .collect()
    }

    /// The accounts of tenants: the busiest `limit` of them, and the rest as one. It reads every
    /// slot.
    pub fn tenant_accounts(&self, limit: usize) -> TenantAccounts {
        self.cells.tenant_accounts(limit)
    }

    /// What was counted since `memory` was here last. `memory` is that of one viewer, empty
    /// at first. It reads every slot.
    pub fn top(&self, memory: &mut TopMemory, query: &TopQuery, now: Timestamp) -> TopRates {
        top::look(&self.cells, memory, query, now)
    }
}

impl<R: Region, S: Storage> Engine<R, S> {
    /// What can be known of the agent, to be asked elsewhere. This costs little, however many
    /// series there are.
    pub fn glance(&self) -> Glance<R> {
        let identity = self.cells.identity();
        // Without a readable cut the next seal fails; the status still answers.
        let standing = Standing::of(&self.cells).ok();
        let status = Status {
            agent: identity.agent.clone(),
            incarnation: identity.incarnation,
            parent: identity.parent,
            opened_at: identity.opened_at,
            sequence: self.cells.applied(),
            cut: standing.map_or(identity.opened_at, |standing| standing.cut),
            watermark: standing.map_or(Timestamp::EPOCH, |standing| standing.watermark),
            closed: self.closed,
            series: 0,
            series_limit: self.cells.limits().series_max,
            inputs: Vec::new(),
            overflowing: Vec::new(),
            retired: Account::default(),
            spool: self.spool_status(),
            pressure: self.pressure(),
            clock_ahead_millis: self.clock.ahead_millis(),
            ship: self.ship_status(),
        };
        Glance {
            cells: self.cells.clone(),
            status,
        }
    }

    /// The state of the agent, as far as the engine knows it; see [`Glance::status`].
    pub fn status(&self) -> Status {
        self.glance().status()
    }

    /// The state of the spool alone, which costs little.
    pub fn spool_status(&self) -> SpoolStatus {
        let backlog = self.spool.backlog();
        SpoolStatus {
            bytes: self.spool.bytes(),
            bytes_max: self.spool.bytes_max(),
            free: self.spool.free(),
            unsynced: self.spool.unsynced(),
            batches: backlog.batches,
            oldest: backlog.oldest,
            incarnations: backlog.incarnations,
            full_since: self.full_since,
            damaged: self.damaged,
        }
    }

    /// The state of the connection alone.
    pub fn ship_status(&self) -> ShipStatus {
        self.shipper.status()
    }
}
