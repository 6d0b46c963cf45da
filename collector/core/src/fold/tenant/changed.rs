//! Whose open periods have changed since they were last rated, so that accruals need not rate
//! everybody again and again.
//!
//! Nothing of it is state: no entry and no snapshot says who has been rated. Who watches starts with
//! everybody.

use std::collections::VecDeque;

use tollgate_common::{TenantId, Timestamp};

use super::{Accrual, TenantFold};

/// The tenants, in the order in which they changed first. While nobody watches, nothing is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    watched: bool,
    /// With the stamp of the entry that changed them. A tenant that was taken out of turn stays here,
    /// without its mark.
    queue: VecDeque<(Timestamp, TenantId)>,
    /// How many are marked.
    count: usize,
}

impl Changed {
    /// Notes that a tenant's open periods have changed; `mark` is the tenant's own.
    pub(super) fn note(&mut self, stamp: Timestamp, name: &TenantId, mark: &mut bool) {
        if self.watched && !std::mem::replace(mark, true) {
            self.queue.push_back((stamp, name.clone()));
            self.count += 1;
        }
    }
}

impl TenantFold {
    /// From now on says who has changed. Everybody has, since `stamp`.
    pub fn watch_changes(&mut self, stamp: Timestamp) {
        self.changed.watched = true;
        self.changed_all(stamp);
    }

    /// Notes that everybody's open periods have changed.
    pub(super) fn changed_all(&mut self, stamp: Timestamp) {
        for (name, tenant) in &mut self.tenants {
            self.changed.note(stamp, name, &mut tenant.changed);
        }
    }

    /// Notes that a tenant's open periods have changed.
    pub(super) fn changed_one(&mut self, stamp: Timestamp, name: &TenantId) {
        if let Some(tenant) = self.tenants.get_mut(name) {
            self.changed.note(stamp, name, &mut tenant.changed);
        }
    }

    /// How many tenants have changed since they were last taken.
    pub fn changed_count(&self) -> usize {
        self.changed.count
    }

    /// Who changed first of those that were not taken since, with the stamp of the entry that did it.
    pub fn first_changed(&mut self) -> Option<(Timestamp, TenantId)> {
        while let Some((stamp, name)) = self.changed.queue.front() {
            if self.tenants.get(name).is_some_and(|tenant| tenant.changed) {
                return Some((*stamp, name.clone()));
            }
            self.changed.queue.pop_front();
        }
        None
    }

    /// Puts the tenant that changed first behind all others.
    pub fn defer_changed(&mut self, name: &TenantId) {
        let queue = &mut self.changed.queue;
        if queue.front().is_some_and(|(_, first)| first == name) {
            queue.rotate_left(1);
        }
    }

    /// The tenant's open periods as they stand, with what those have of them for whom it pays, if they have changed since they were last taken.
    pub fn take_changed(&mut self, name: &TenantId) -> Option<Vec<Accrual>> {
        let tenant = self.tenants.get_mut(name)?;
        if !std::mem::take(&mut tenant.changed) {
            return None;
        }
        self.changed.count -= 1;
        let front = self.changed.queue.front();
        if front.is_some_and(|(_, first)| first == name) {
            self.changed.queue.pop_front();
        }
        Some(self.accruals_by(name))
    }
}
