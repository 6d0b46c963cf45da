//! When which fault strikes.

use tollgate_common::Timestamp;

use super::context::Context;
use super::options::Faults;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of an agent.
    AgentKill,
    /// Reset of an agent's host.
    AgentReset,
    /// Orderly stop of an agent.
    AgentStop,
    /// SIGKILL of the collector.
    CollectorKill,
    /// Reset of the collector's host.
    CollectorReset,
    /// A connection breaks.
    Drop,
    /// An agent is cut off.
    Partition,
    /// A link changes speed.
    LinkChange,
    /// An agent's disk fails.
    AgentStorage,
    /// The collector's disk fails.
    CollectorStorage,
    /// A byte of a spool flips.
    SpoolFlip,
    /// A clock jumps.
    ClockJump,
    /// A second receiver appends old entries.
    Replay,
    /// The projection is deleted.
    DeleteProjection,
    /// Snapshots are deleted or damaged.
    DeleteSnapshots,
    /// An image of a host is taken, or the host is set back to it.
    Image,
    /// An application ends, and with it its page.
    PageDeath,
    /// Catalog or policy change.
    Change,
    /// A backup of the collector is taken, or the collector is set back to it.
    CollectorRestored,
    /// The disk of an agent is full, and then the agent is killed.
    FullKill,
    /// Somebody decides something about the books.
    Books,
}

/// The next time of each class of fault.
#[derive(Clone, Debug)]
pub struct Schedule {
    next: Vec<(Fault, u64, Timestamp)>,
}

impl Schedule {
    /// A schedule of the classes that are on.
    pub fn new(faults: &Faults, context: &mut Context) -> Self {
        let classes = [
            (Fault::AgentKill, faults.agent_kill),
            (Fault::AgentReset, faults.agent_reset),
            (Fault::AgentStop, faults.agent_stop),
            (Fault::CollectorKill, faults.collector_kill),
            (Fault::CollectorReset, faults.collector_reset),
            (Fault::Drop, faults.drop),
            (Fault::Partition, faults.partition),
            (Fault::LinkChange, faults.link_change),
            (Fault::AgentStorage, faults.agent_storage),
            (Fault::CollectorStorage, faults.collector_storage),
            (Fault::SpoolFlip, faults.spool_flip),
            (Fault::ClockJump, faults.clock_jump),
            (Fault::Replay, faults.replay),
            (Fault::DeleteProjection, faults.delete_projection),
            (Fault::DeleteSnapshots, faults.delete_snapshots),
            (Fault::Image, faults.image),
            (Fault::PageDeath, faults.page_death),
            (Fault::Change, faults.change),
            (Fault::CollectorRestored, faults.restore),
            (Fault::FullKill, faults.full_kill),
            (Fault::Books, faults.books),
        ];
        let on = classes
            .into_iter()
            .filter_map(|(fault, mean)| Some((fault, mean?)));
        let next = on
            .map(|(fault, mean)| (fault, mean, context.after_about(mean)))
            .collect();
        Self { next }
    }

    /// When the next fault strikes.
    pub fn next_event(&self) -> Option<Timestamp> {
        self.next.iter().map(|(_, _, at)| *at).min()
    }

    /// A fault that is due.
    pub fn due(&mut self, context: &mut Context) -> Option<Fault> {
        let (fault, mean, at) = self.next.iter_mut().find(|(_, _, at)| *at <= context.now)?;
        *at = context.after_about(*mean);
        Some(*fault)
    }

    /// No fault strikes any more.
    pub fn stop(&mut self) {
        self.next.clear();
    }
}
