//! How periods stand: what they wait for, who is missing, and since when.

use serde::Serialize;
use tollgate_common::{AgentId, TenantId, Timestamp};

use super::TenantFold;
use super::closable::missing;

/// How a period stands that a closing would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeriodStanding {
    /// Whose.
    pub tenant: TenantId,
    /// First instant of the period, UTC.
    pub start: Timestamp,
    /// First instant after, UTC.
    pub end: Timestamp,
    /// A short name of the period, such as `2026-06`.
    pub label: String,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// How often it was closed; above 0, late usage waits to be settled.
    pub rounds: u32,
    /// Stamp of the first usage since the last closing, if it was closed.
    pub late_since: Option<Timestamp>,
    /// When it is closed, or its late usage settled, whoever is missing.
    pub settles_at: Timestamp,
    /// Agents that may report for the tenant, or for those for whom it pays.
    pub agents: usize,
    /// Those for whom it pays in the period.
    pub children: Vec<TenantId>,
    /// Those among them that have not reported past the period's end.
    pub missing: Vec<MissingAgent>,
}

/// What a period waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Its end.
    End,
    /// The agents that are missing, or the end of its settlement time.
    Agents,
    /// Nobody may report for the tenant, or late usage was settled often: the settlement time alone
    /// is waited for.
    Settlement,
    /// Nothing: it is closed within seconds.
    Nothing,
}

/// An agent that has not reported past a period's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingAgent {
    /// Who.
    pub agent: AgentId,
    /// Until when it has reported everything: it is missing since then. `None` if it never reported.
    pub since: Option<Timestamp>,
    /// For whom it may report, where it may not for the tenant itself but for some for whom that
    /// pays.
    pub children: Vec<TenantId>,
}

impl TenantFold {
    /// How the periods stand that a closing would change, of one tenant or of all; ordered by end,
    /// tenant and start.
    pub fn standings<'f>(
        &'f self,
        stamp: Timestamp,
        tenant: Option<&'f TenantId>,
    ) -> impl Iterator<Item = PeriodStanding> + 'f {
        let waiting = self
            .waiting
            .iter()
            .filter(move |(_, name, _)| tenant.is_none_or(|tenant| tenant == name));
        let standing = move |(_, name, start): &(Timestamp, TenantId, Timestamp)| {
            let known = self.tenants.get(name)?;
            let book = known.books.get(start)?;
            let agents = self.awaited(name, book.period);
            let children = self.children_in(name, book.period);
            let missing: Vec<_> = missing(&agents, book.period)
                .into_iter()
                .map(|agent| MissingAgent {
                    children: self.awaited_for(&agent, name, &children),
                    since: agents
                        .get(&agent)
                        .copied()
                        .filter(|at| *at > Timestamp::EPOCH),
                    agent,
                })
                .collect();
            let is_complete = missing.is_empty() && !agents.is_empty();
            let rests_until = book.rests_until().filter(|_| is_complete);
            let settles_at = self.settled_at(name, book);
            let settles_at = rests_until.map_or(settles_at, |until| Ord::min(until, settles_at));
            let rests = settles_at > stamp && rests_until.is_some();
            let waits_for = if book.period.end > stamp {
                WaitsFor::End
            } else if settles_at <= stamp || (is_complete && !rests) {
                WaitsFor::Nothing
            } else if agents.is_empty() || rests {
                WaitsFor::Settlement
            } else {
                WaitsFor::Agents
            };
            Some(PeriodStanding {
                tenant: name.clone(),
                start: book.period.start,
                end: book.period.end,
                label: known.calendars.label(book.period),
                waits_for,
                rounds: book.rounds,
                late_since: book.late_since,
                settles_at,
                agents: agents.len(),
                children: children.into_iter().cloned().collect(),
                missing,
            })
        };
        waiting.filter_map(standing)
    }
}
