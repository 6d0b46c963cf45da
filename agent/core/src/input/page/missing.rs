//! Pages that were known before the agent's start and are not back.
//!
//! What such a page counted since it was last looked at is in the hands of its application,
//! which may bring it again. If it does not, its end is declared as a loss of the time since
//! that look. When that was is kept with the mirrors: one of them has no cell, and its name
//! tells since when pages have been missing, over several lives of the agent if need be.

use std::collections::BTreeMap;

use tollgate_common::{Aggregation, Loss, LossAmount, LossReason, Scale, TenantId, Timestamp};

use super::{MARK_SLOT, PageTally, mark};
use crate::aggregate::{Owner, PageKey, Region, Writer};

/// How long a page that was known before the agent's start may take to come back.
pub const MISSING_GRACE_MILLIS: i64 = 60_000;
/// How long before its end an agent may have looked at a page for the last time: pages are
/// looked at once a second, and the end is known up to a tick.
pub(crate) const LOOK_AGE_MILLIS: i64 = 5_000;

/// A page that did not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vanished {
    /// Which.
    pub page: PageKey,
    /// Whose counts may be lost.
    pub tenants: Vec<TenantId>,
}

/// What is known of missing pages as a whole.
pub(super) struct Missing {
    /// When they were last looked at, or before.
    since: Timestamp,
    /// The mirror that says so.
    written: Option<Owner>,
    /// Tenants of pages from before the start.
    tenants: BTreeMap<PageKey, Vec<TenantId>>,
}

fn since_owner(since: Timestamp) -> Owner {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&since.millis().to_le_bytes());
    Owner {
        page: PageKey { id, user: u32::MAX },
        slot: MARK_SLOT - 2,
    }
}

impl Missing {
    /// The agent lived until `alive` before.
    pub(super) fn new(alive: Timestamp) -> Self {
        Self {
            since: alive.plus_millis(-LOOK_AGE_MILLIS).max(Timestamp::EPOCH),
            written: None,
            tenants: BTreeMap::new(),
        }
    }

    /// True if a mirror is the one that says since when pages are missing.
    pub(super) fn recall(&mut self, owner: Owner) -> bool {
        let Some(millis) = owner.page.id.first_chunk::<8>() else {
            return false;
        };
        let since = Timestamp::from_millis(i64::from_le_bytes(*millis));
        if owner != since_owner(since) {
            return false;
        }
        self.since = self.since.min(since);
        self.written = Some(owner);
        true
    }

    pub(super) fn note(&mut self, page: PageKey, tenant: &TenantId) {
        let of_page = self.tenants.entry(page).or_default();
        if !of_page.contains(tenant) {
            of_page.push(tenant.clone());
        }
    }

    /// A page has come back.
    pub(super) fn returned(&mut self, page: PageKey) {
        self.tenants.remove(&page);
    }

    /// Keeps since when pages are missing, unless that is there. Without room the next life
    /// tells a shorter time.
    pub(super) fn write<R: Region>(&mut self, writer: &mut Writer<R>) {
        if self.written.is_none() {
            let owner = since_owner(self.since);
            let made = writer.mirror(&mark(), owner, Aggregation::Sum, Scale::ZERO);
            self.written = made.map(|_| owner);
        }
    }
}

impl<R: Region> PageTally<R> {
    /// The next page that was known before the start and did not come back in time. Its
    /// mirrors are given free when that is declared; should it come after all, it is
    /// quarantined.
    pub fn poll_vanished(&mut self, now: Timestamp) -> Option<Vanished> {
        let (&page, _) = self.pages.iter().find(|(_, known)| {
            known.before
                && known.declared.is_none()
                && now.millis_since(known.missing_since) >= MISSING_GRACE_MILLIS
        })?;
        let mut tenants = self.missing.tenants.remove(&page).unwrap_or_default();
        tenants.sort();
        let from = self.missing.since.min(now);
        let declared = self.declare(LossReason::PageVanished, &tenants, (from, now));
        if let Some(known) = self.pages.get_mut(&page) {
            known.declared = Some((declared, now));
        }
        Some(Vanished { page, tenants })
    }

    /// Declares a loss of unknown amount for these tenants, or for somebody unknown.
    pub(super) fn declare(
        &self,
        reason: LossReason,
        tenants: &[TenantId],
        (from, to): (Timestamp, Timestamp),
    ) -> crate::engine::Declared {
        let loss = |tenant| Loss {
            reason,
            tenant,
            meter: None,
            amount: LossAmount::Unknown,
            from,
            to,
        };
        let Some((last, others)) = tenants.split_last() else {
            return self.declarations.declare(loss(None));
        };
        for tenant in others {
            self.declarations.declare(loss(Some(tenant.clone())));
        }
        self.declarations.declare(loss(Some(last.clone())))
    }

    /// Forgets since when pages were missing, once none is.
    pub(super) fn forget_missing(&mut self, now: Timestamp) {
        if let Some(owner) = self.missing.written
            && !self.pages.values().any(|known| known.before)
        {
            self.missing.written = None;
            self.writer.end_mirrors(owner.page, owner.slot, now);
        }
    }
}
