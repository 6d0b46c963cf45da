//! Periods without usage: they are opened as well where something is due for them, such as a fee
//! or a minimum.
//!
//! A tenant's period counts from the one that is open when the catalog that describes the tenant
//! arrives, or when usage of the tenant is seen first. After that every period is looked at, also
//! where the journal's time jumps over several.

use tollgate_common::Timestamp;

use super::book::card_in_force;
use super::{Tenant, TenantFold, open_book, tenant_of};
use crate::catalog::Price;
use crate::effect::Effect;
use crate::fold::partition_of;

/// Most periods that are opened for one journal entry; the next entry goes on. A catalog waits for
/// no entry: what began before it is opened first, all of it.
const OPENED_MAX: usize = 1024;

impl TenantFold {
    /// Opens all periods that have begun by `stamp` and for which something is due.
    pub(super) fn open_all_due(&mut self, stamp: Timestamp, effects: &mut Vec<Effect>) {
        while self.open_due(stamp, effects) {}
    }

    /// Opens periods that have begun by `stamp` and for which something is due. True if there are
    /// more than are opened at a time.
    pub(super) fn open_due(&mut self, stamp: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if stamp < self.due_next {
            return false;
        }
        let Some(catalog) = self
            .catalogs
            .current()
            .filter(|catalog| catalog.is_due_unused())
        else {
            self.due_next = Timestamp::MAX;
            return false;
        };
        self.due_next = Timestamp::MAX;
        let mut opened = 0;
        for (name, tenant) in &mut self.tenants {
            let mut from = tenant.due_from.unwrap_or(stamp);
            while from <= stamp {
                if opened == OPENED_MAX {
                    // Where this one stands is known, and the next entry goes on from there.
                    tenant.due_from = Some(from);
                    self.due_next = stamp;
                    return true;
                }
                let period = tenant.calendars.period_containing(from);
                let is_due = card_in_force(name, period, Some(catalog))
                    .is_ok_and(|(card, _)| card.prices.iter().any(Price::is_due_unused));
                if is_due && !tenant.books.contains_key(&period.start) {
                    opened += 1;
                    open_book(tenant, name, period, &mut self.waiting, effects);
                }
                if period.end <= from {
                    // The end of time.
                    break;
                }
                from = period.end;
            }
            tenant.due_from = Some(from);
            self.due_next = Ord::min(self.due_next, from);
        }
        false
    }

    /// From the period on that is open now, what is due is said by the catalog that just came.
    pub(super) fn restart_due(&mut self, stamp: Timestamp) {
        self.due_next = stamp;
        let Some(catalog) = self
            .catalogs
            .current()
            .filter(|catalog| catalog.is_due_unused())
        else {
            return;
        };
        let described = catalog
            .profiles()
            .filter_map(|profile| profile.tenant.as_ref());
        for name in described {
            if partition_of(name, self.partitions) == self.partition {
                tenant_of(&mut self.tenants, &self.catalogs, name, stamp);
            }
        }
        for tenant in self.tenants.values_mut() {
            tenant.begin_due(stamp);
        }
    }
}

impl Tenant {
    /// Periods count from the one that is open at `stamp`.
    pub(super) fn begin_due(&mut self, stamp: Timestamp) {
        self.due_from = Some(self.calendars.period_containing(stamp).start);
    }
}
