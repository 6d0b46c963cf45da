//! What all connections use, and how many there are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use tollgate_collector_core::entry::codec::EntryEncoder;
use tollgate_collector_core::policy::Policy;
use tollgate_collector_core::receive::share::{self, Offer, ShareConfig};
use tollgate_collector_core::receive::{Desk, SessionConfig};
use tollgate_common::AgentId;
use tollgate_common::tls::ClientGate;

use crate::fold::FoldHandle;
use crate::journal::{JournalHandle, QUEUE_BYTES};
use crate::metrics::Metrics;

/// Connections of one agent at a time. More than one happens when an agent comes back before
/// its old connection is given up; many would take the places of others.
pub(super) const CONNECTIONS_PER_AGENT_MAX: usize = 4;

thread_local! {
    /// Encoders of entries are large; one per thread serves all sessions, between two awaits.
    static ENCODER: RefCell<EntryEncoder> = RefCell::new(EntryEncoder::new());
}

/// What all connections use.
#[derive(Debug)]
pub struct Shared {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Where batches go.
    pub journal: JournalHandle,
    /// Who knows where an agent goes on.
    pub fold: FoldHandle,
    /// What holds for every session.
    pub config: SessionConfig,
    /// The policy in force.
    policy: RwLock<Arc<Policy>>,
    /// Which certificates are admitted; who is connected already is looked at again.
    gate: watch::Sender<ClientGate>,
    /// Open connections by agent.
    open: Mutex<BTreeMap<AgentId, usize>>,
    /// Open connections.
    sessions: AtomicU64,
}

impl Shared {
    /// The parts, with no connection open.
    pub fn new(
        metrics: Arc<Metrics>,
        journal: JournalHandle,
        fold: FoldHandle,
        config: SessionConfig,
        policy: Arc<Policy>,
        gate: ClientGate,
    ) -> Self {
        Self {
            metrics,
            journal,
            fold,
            config,
            policy: RwLock::new(policy),
            gate: watch::Sender::new(gate),
            open: Mutex::default(),
            sessions: AtomicU64::new(0),
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another policy in force, for the next message of every session. Whoever it does
    /// not know any more is disconnected by the next gate.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Looks at everybody who is connected again: whether the gate admits the certificate, and
    /// whether the policy knows the agent.
    pub fn set_gate(&self, gate: ClientGate) {
        self.gate.send_replace(gate);
    }

    /// Tells of gates to come, and of the one in force.
    pub(super) fn gate(&self) -> watch::Receiver<ClientGate> {
        let mut gate = self.gate.subscribe();
        gate.mark_changed();
        gate
    }

    /// What a session may have on its way, by the load of all.
    pub(super) fn offer(&self, session: u64) -> Offer {
        let config = ShareConfig {
            queue_bytes: QUEUE_BYTES,
            window_batches: self.config.window_batches,
            window_bytes: self.config.window_bytes,
        };
        let sessions = self.sessions.load(Ordering::Relaxed);
        share::offer(&config, session, sessions, self.journal.waiting_bytes())
    }

    pub(super) fn with_desk<T>(&self, use_it: impl FnOnce(&mut Desk<'_>) -> T) -> T {
        let policy = self.policy();
        ENCODER.with_borrow_mut(|encoder| {
            use_it(&mut Desk {
                policy: &policy,
                encoder,
            })
        })
    }
}

/// An agent's place among the connections.
pub(super) struct Place<'a> {
    shared: &'a Shared,
    agent: AgentId,
}

impl<'a> Place<'a> {
    pub(super) fn take(shared: &'a Shared, agent: &AgentId) -> Option<Self> {
        let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(agent.clone()).or_insert(0);
        if *count >= CONNECTIONS_PER_AGENT_MAX {
            return None;
        }
        *count += 1;
        shared.sessions.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.inc();
        shared.metrics.connections_open.inc();
        Some(Self {
            shared,
            agent: agent.clone(),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.connections_open.dec();
        let mut open = self
            .shared
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.agent);
            }
        }
    }
}
