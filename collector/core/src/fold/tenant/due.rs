//! Periods without usage: they are opened as well where something is due for them, such as a fee
//! or a minimum.
//!
//! A tenant's periods count from the one that is open when the catalog in force arrives; of a
//! tenant that only the default profile describes, from the one of its earliest usage if that is
//! later. From there on every period is looked at, also where the journal's time jumps over
//! several. A period that counts keeps to it under later catalogs; one that does not, because it was
//! over before, owes nothing when it has usage. Of what a change of calendar leaves of a period only
//! that part is due, see `docs/periods.md`.

use tollgate_common::Timestamp;

use super::usage::PeriodBook;
use super::{Tenant, TenantFold, open_book, tenant_of};
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
        self.due_next = Timestamp::MAX;
        if !self.catalogs.ever_due_unused() {
            return false;
        }
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
                let is_due = self.catalogs.is_due_unused(name, period);
                match tenant.books.get_mut(&period.start) {
                    Some(book) if is_due => {
                        if book.owe(stamp) {
                            self.waiting
                                .insert((period.end, name.clone(), period.start));
                            self.changed.note(stamp, name, &mut tenant.changed);
                        }
                    }
                    None if is_due => {
                        opened += 1;
                        let mut book = PeriodBook::new(period);
                        book.owe(stamp);
                        open_book(tenant, name, book, &mut self.waiting, effects);
                        self.changed.note(stamp, name, &mut tenant.changed);
                    }
                    Some(_) | None => {}
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
        self.catalog_since = Some(stamp);
        let newest = self.catalogs.timeline().versions().last();
        let Some(version) = newest.filter(|version| version.catalog.is_due_unused()) else {
            return;
        };
        let version = version.clone();
        let described = version
            .catalog
            .profiles()
            .filter_map(|profile| profile.tenant.as_ref())
            .filter(|name| version.concerns(name));
        for name in described {
            if partition_of(name, self.partitions) == self.partition {
                tenant_of(&mut self.tenants, &self.catalogs, name, stamp).begin_due(stamp);
            }
        }
        for tenant in self.tenants.values_mut() {
            if tenant.due_since.is_some() {
                tenant.begin_due(stamp);
            }
        }
    }
}

impl Tenant {
    /// Periods count from the one that contains `instant`.
    pub(super) fn begin_due(&mut self, instant: Timestamp) {
        let start = self.calendars.period_containing(instant).start;
        self.due_from = Some(start);
        self.due_since = Some(start);
    }

    /// There is usage of `instant`. Where that is before the usage that was seen first, periods
    /// count from there, but from none that was over when the catalog in force came; so it does
    /// not matter which usage arrives first. True if more periods count now.
    pub(super) fn reach_back(
        &mut self,
        instant: Timestamp,
        catalog_since: Option<Timestamp>,
    ) -> bool {
        let Some(since) = self.due_since else {
            // Its first usage: all there was before are lines by hand.
            self.begin_due(catalog_since.map_or(instant, |floor| Ord::max(instant, floor)));
            return true;
        };
        let Some(floor) = catalog_since else {
            return false;
        };
        let from = Ord::max(instant, floor);
        if from >= since {
            return false;
        }
        self.begin_due(from);
        true
    }
}
