//! Two sides of a plan: what a period costs by what is in force, and by the draft.

use std::collections::BTreeSet;

use tollgate_collector_core::catalog::timeline::Timeline;
use tollgate_collector_core::period::Period;
use tollgate_collector_core::plan::{Terms, WindowUsage, paid_by, whole_of};
use tollgate_common::{TenantId, Timestamp};

use super::super::versions::Store;
use super::{Costs, Failure, PeriodPlan, Periods};

/// Most windows of one period that are held in memory, of a tenant and of those for whom it pays; a
/// period with more is not planned.
const WINDOWS_MAX: usize = 5_000_000;

/// What is compared, and where usage stands.
pub(super) struct Sides<'a> {
    pub(super) store: &'a Store,
    pub(super) in_force: &'a Timeline,
    pub(super) draft: &'a Timeline,
    pub(super) known: &'a Periods,
}

/// Usage of several tenants in a period.
type Usage = Vec<(TenantId, Vec<WindowUsage>)>;

impl Sides<'_> {
    /// The periods of a tenant: where another one pays on either side, that one's, so that what moves
    /// from one to the other is seen on both.
    pub(super) fn periods(&self, name: &TenantId) -> impl Iterator<Item = &(&'static str, Period)> {
        let payer = [self.in_force, self.draft]
            .into_iter()
            .find_map(|timeline| timeline.payer(name, Timestamp::MAX));
        let theirs = payer.and_then(|payer| self.known.get(payer));
        let own = theirs.or_else(|| self.known.get(name));
        own.into_iter().flatten()
    }

    /// The tenant, and those for whom it may pay on either side.
    fn family(&self, name: &TenantId) -> Vec<TenantId> {
        let both = [self.in_force.families(), self.draft.families()];
        let mut family = vec![name.clone()];
        if both.iter().any(|families| families.is_payer(name)) {
            let paid = |other: &&TenantId| {
                let payers = both.iter().map(|families| families.payers_of(other));
                *other != name && payers.into_iter().any(|payers| payers.contains(name))
            };
            let named = both.iter().flat_map(|families| families.children_of(name));
            let all: BTreeSet<&TenantId> = self.known.keys().chain(named).collect();
            family.extend(all.into_iter().filter(paid).cloned());
        }
        family
    }

    /// Usage of all of them in a period; `None` if there are too many windows.
    fn usage(&self, family: Vec<TenantId>, period: Period) -> Result<Option<Usage>, Failure> {
        let mut room = WINDOWS_MAX;
        let mut usage = Usage::with_capacity(family.len());
        let mut more = false;
        for tenant in family {
            let mut rows = Vec::new();
            self.store
                .reader
                .windows(&tenant, period, |window| {
                    more |= room == 0;
                    if !more {
                        room -= 1;
                        rows.push(window);
                    }
                })
                .map_err(Failure::failed)?;
            usage.push((tenant, rows));
        }
        Ok((!more).then_some(usage))
    }

    pub(super) fn compare(
        &self,
        tenant: &TenantId,
        which: &'static str,
        period: Period,
    ) -> Result<PeriodPlan, Failure> {
        let usage = self.usage(self.family(tenant), period)?;
        // What a change of calendar left of a period is the same part of one on both sides.
        let whole = whole_of(self.in_force, tenant, period);
        let costs = |timeline: &Timeline| {
            let Some(usage) = &usage else {
                return Costs::Error(format!("more than {WINDOWS_MAX} windows of usage"));
            };
            let paid = usage
                .iter()
                .map(|(whose, rows)| (whose, paid_by(timeline, tenant, whose, rows)));
            let terms = Terms::in_force(timeline, tenant, period).within(whole);
            match terms.cost(tenant, paid) {
                Ok(cost) => Costs::Cost(cost),
                Err(error) => Costs::Error(error.to_string()),
            }
        };
        let (before, after) = (costs(self.in_force), costs(self.draft));
        let difference = match (before.cost(), after.cost()) {
            // Nothing costs nothing in any currency.
            (Some(old), Some(new))
                if old.currency == new.currency
                    || old.currency.is_none()
                    || new.currency.is_none() =>
            {
                new.net.checked_sub(old.net)
            }
            _ => None,
        };
        Ok(PeriodPlan {
            which,
            start: period.start.to_string(),
            end: period.end.to_string(),
            before,
            after,
            difference,
        })
    }
}
