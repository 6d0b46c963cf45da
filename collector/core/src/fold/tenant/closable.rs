//! Which periods can be closed, and the decision to close one with all that it rests on.

use std::collections::BTreeMap;

use tollgate_common::{AgentId, TenantId, Timestamp};

use super::TenantFold;
use super::usage::PeriodBook;
use crate::catalog::Settlement;
use crate::entry::{CloseCause, Closing, FOLD_VERSION};
use crate::period::{Period, ZONE_DATA};

/// So often late usage of a period is settled as soon as it is complete …
const SETTLED_AT_ONCE_MAX: u32 = 24;
/// … and then it waits so long for each time that it was, …
const REST_MILLIS: i64 = 1000;
/// … but not longer than this: who sends a row of long ago each second would have two entries of each
/// line booked each second, for ever.
const REST_MILLIS_MAX: i64 = 3_600_000;

/// Why a period cannot be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseRefused {
    /// Nothing is known of the tenant.
    #[error("tenant `{0}` has no usage")]
    UnknownTenant(TenantId),
    /// The period still runs.
    #[error("period {period} is not over: it can be closed after its end")]
    NotOver {
        /// Which period.
        period: Period,
    },
    /// The period is closed and nothing came since.
    #[error("period {period} is closed already and no usage has come since")]
    Closed {
        /// Which period.
        period: Period,
    },
}

/// Who is late for periods that end at an instant, found out once for all of them.
#[derive(Default)]
struct Late {
    end: Option<Timestamp>,
    agents: Vec<AgentId>,
}

impl TenantFold {
    /// Closings that are due: of periods that are complete or whose settlement is over, and
    /// of closed periods whose late usage can be settled. Ordered by end, tenant and start.
    ///
    /// A period is complete when every agent that may report for its tenant has reported
    /// past its end, and there is such an agent; an agent that the policy names and that was
    /// never heard of is waited for. Late usage is settled as soon as the period is
    /// complete, or when a settlement time has passed since it came; of a period that was settled often
    /// it rests before.
    ///
    /// A pure question: the caller writes a closing to the journal, from where it comes back
    /// as an input and takes effect. Each is made when it is asked for.
    pub fn closable(&self, stamp: Timestamp) -> impl Iterator<Item = Closing> + '_ {
        let over = self
            .waiting
            .iter()
            .take_while(move |(end, _, _)| *end <= stamp);
        let mut late = Late::default();
        over.filter_map(move |(_, name, start)| {
            let book = self.tenants.get(name)?.books.get(start)?;
            let is_settled = stamp >= self.settled_at(name, book);
            let rests = book.rests_until().is_some_and(|until| until > stamp);
            // Of a hundred thousand tenants that wait for one agent of a thousand it has to be found out
            // each second without looking at all the others.
            if !is_settled && (rests || self.waits_for_any(name, book.period, &mut late)) {
                return None;
            }
            let agents = self.awaited(name, book.period);
            let complete = !agents.is_empty() && missing(&agents, book.period).is_empty();
            let cause = if complete && !rests {
                CloseCause::Complete
            } else if is_settled {
                CloseCause::Settled
            } else {
                return None;
            };
            Some(self.closing(name, book.period, Some(book), cause, agents))
        })
    }

    /// All of [`TenantFold::closable`].
    pub fn poll_closable(&self, stamp: Timestamp) -> Vec<Closing> {
        self.closable(stamp).collect()
    }

    /// True if a period waits for an agent that has not reported past its end.
    fn waits_for_any(&self, name: &TenantId, period: Period, late: &mut Late) -> bool {
        if late.end != Some(period.end) {
            *late = Late {
                end: Some(period.end),
                agents: self.behind(period.end),
            };
        }
        let Some(policy) = &self.policy else {
            return !late.agents.is_empty();
        };
        let awaits = |tenant: &TenantId| {
            let mut agents = late.agents.iter();
            agents.any(|agent| policy.may_report(agent, tenant))
        };
        awaits(name) || self.children_in(name, period).into_iter().any(awaits)
    }

    /// The agents that periods wait for and that have not reported up to an instant, for whomever:
    /// those that were heard of, and those that the policy gives by name.
    fn behind(&self, end: Timestamp) -> Vec<AgentId> {
        let known = self.watermarks.iter();
        let known = known.filter(|(_, watermark)| **watermark < end);
        let rules = self.policy.iter().flat_map(|policy| policy.rules());
        let named = rules.filter(|rule| rule.name.is_exact());
        let named = named.filter_map(|rule| AgentId::new(rule.name.as_str()).ok());
        let unheard = named.filter(|agent| !self.watermarks.contains_key(agent));
        let behind = known.map(|(agent, _)| agent.clone()).chain(unheard);
        behind
            .filter(|agent| !self.retired.contains(agent))
            .collect()
    }

    /// The closing of the period of `tenant` that contains `instant`, by an operator's word:
    /// complete or not.
    pub fn close_by_hand(
        &self,
        stamp: Timestamp,
        tenant: &TenantId,
        instant: Timestamp,
        cause: CloseCause,
    ) -> Result<Closing, CloseRefused> {
        let known = self
            .tenants
            .get(tenant)
            .ok_or_else(|| CloseRefused::UnknownTenant(tenant.clone()))?;
        let period = known.calendars.period_containing(instant);
        if period.end > stamp {
            return Err(CloseRefused::NotOver { period });
        }
        let book = known.books.get(&period.start);
        if book.is_some_and(|book| !book.is_waiting()) {
            return Err(CloseRefused::Closed { period });
        }
        let agents = self.awaited(tenant, period);
        Ok(self.closing(tenant, period, book, cause, agents))
    }

    fn closing(
        &self,
        tenant: &TenantId,
        period: Period,
        book: Option<&PeriodBook>,
        cause: CloseCause,
        agents: BTreeMap<AgentId, Timestamp>,
    ) -> Closing {
        // Later rounds are rated by the catalog of the first, so that late usage costs what
        // it would have cost in time.
        let catalog = book.and_then(|book| book.catalog);
        Closing {
            tenant: tenant.clone(),
            start: period.start,
            end: period.end,
            round: book.map_or(0, |book| book.rounds),
            cause,
            catalog: catalog.unwrap_or_else(|| self.catalogs.digest_for(tenant)),
            zone_data: ZONE_DATA.to_owned(),
            fold_version: FOLD_VERSION,
            missing: missing(&agents, period),
            agents,
        }
    }

    /// The agents that may report for a tenant, with how far they have reported.
    pub(super) fn agents_of(&self, tenant: &TenantId) -> BTreeMap<AgentId, Timestamp> {
        let awaited = |agent: &AgentId| !self.retired.contains(agent);
        let Some(policy) = &self.policy else {
            let known = self.watermarks.iter().filter(|(agent, _)| awaited(agent));
            return known
                .map(|(agent, watermark)| (agent.clone(), *watermark))
                .collect();
        };
        let agents = policy
            .agents_for(tenant, self.watermarks.keys())
            .into_iter()
            .filter(awaited);
        let with_watermark = |agent| {
            let watermark = self.watermarks.get(&agent).copied().unwrap_or_default();
            (agent, watermark)
        };
        agents.map(with_watermark).collect()
    }

    /// When the settlement of a period, or of its late usage, is over: by the tenant's profile, else
    /// by the configuration.
    pub(super) fn settled_at(&self, tenant: &TenantId, book: &PeriodBook) -> Timestamp {
        let since = book.late_since.unwrap_or(book.period.end);
        let profile = self
            .catalogs
            .current_for(tenant)
            .and_then(|c| c.profile(tenant));
        let agreed = profile.and_then(|profile| profile.settlement);
        since.plus_millis(agreed.map_or(self.settlement_millis, Settlement::millis))
    }
}

impl PeriodBook {
    /// Before when late usage is not settled though the period is complete.
    pub(super) fn rests_until(&self) -> Option<Timestamp> {
        let often = self.rounds.checked_sub(SETTLED_AT_ONCE_MAX)?;
        let rest = i64::from(often).saturating_mul(REST_MILLIS);
        let since = self.late_since?;
        Some(since.plus_millis(rest.min(REST_MILLIS_MAX)))
    }
}

/// The agents that have not reported past the end of a period.
pub(super) fn missing(agents: &BTreeMap<AgentId, Timestamp>, period: Period) -> Vec<AgentId> {
    let behind = agents
        .iter()
        .filter(|(_, watermark)| **watermark < period.end);
    behind.map(|(agent, _)| agent.clone()).collect()
}
