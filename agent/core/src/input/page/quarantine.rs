//! Pages that may have been billed by another agent: what they hold is declared lost.
//!
//! What a quarantined page holds is never billed here, because that might be the second time.
//! So it is declared, once, for every tenant that the page may count for, of unknown amount: it
//! may have been billed in part. How many events it was goes into the account of the input.
//! Until the declaration is durable the page is asked to come again; it is the evidence.
//!
//! A page whose loss was declared before it came, as one that vanished, was billed up to then. Of
//! such a page only the time since that declaration is declared, and no events are called lost.

use std::collections::{BTreeMap, BTreeSet};

use tollgate::page::PageReader;
use tollgate_common::{LossReason, TenantId, Timestamp};

use super::visit::cell_events;
use super::{Entry, MARK_SLOT, PageRefusal, PageTally, access};
use crate::aggregate::{Allowance, InputLoss, PageKey, Region};
use crate::config::SdkAllow;
use crate::engine::Declared;

/// Quarantined pages that are remembered, so that each is declared once.
const REMEMBERED_MAX: usize = 1024;
/// Slots of a page that are described; what the others hold is declared for nobody in particular.
const DESCRIBED_MAX: u32 = 1024;

#[derive(Default)]
pub(super) struct Quarantine {
    remembered: BTreeMap<PageKey, Remembered>,
    pages: u64,
}

/// A page whose loss is declared.
#[derive(Clone, Copy)]
struct Remembered {
    declared: Declared,
    /// Until when, for one that has not come since.
    until: Option<Timestamp>,
}

impl Quarantine {
    /// Pages since the start.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// A page that is gone was declared lost up to `until`. Beyond the bound it is forgotten, and
    /// is like any unknown one should it come.
    pub(super) fn remember(&mut self, page: PageKey, declared: Declared, until: Timestamp) {
        if self.remembered.len() < REMEMBERED_MAX {
            let until = Some(until);
            self.remembered.insert(page, Remembered { declared, until });
        }
    }
}

/// What a page holds that may have been billed.
struct Held {
    tenants: BTreeSet<TenantId>,
    events: u64,
    /// There is more than was looked at.
    more: bool,
}

fn held(reader: &PageReader<'_>, access: &SdkAllow) -> Held {
    let published = reader.published();
    let mut held = Held {
        tenants: BTreeSet::new(),
        events: 0,
        more: published > DESCRIBED_MAX,
    };
    for slot in 0..published.min(DESCRIBED_MAX) {
        let Some(of) = reader.slot(slot) else {
            continue;
        };
        let events = cell_events(reader, &of.cell, of.aggregation);
        // What it may not count for is nobody's usage.
        let tenant = access::tenant(access, of.key.tenant());
        if let Some(tenant) = tenant.filter(|_| events > 0 && access::meter(access, of.key.meter()))
        {
            held.tenants.insert(tenant);
            let events = events.min(Allowance::EVENTS_AT_ONCE);
            held.events = held.events.saturating_add(events);
        }
    }
    held
}

impl<R: Region> PageTally<R> {
    /// A page that is not this mirror's, or not any more: why it is refused.
    pub(super) fn quarantine_unknown(
        &mut self,
        page: PageKey,
        reader: &PageReader<'_>,
        access: &SdkAllow,
        now: Timestamp,
    ) -> PageRefusal {
        let remembered = self.quarantine.remembered.get(&page).copied();
        if let Some(until) = remembered.and_then(|page| page.until) {
            return self.quarantine_late(page, reader, access, (until, now));
        }
        let vanished = self.pages.get(&page).and_then(|known| known.declared);
        let declared = remembered.map(|page| page.declared);
        if let Some(declared) = declared.or(vanished.map(|(declared, _)| declared)) {
            return if self.declarations.is_durable(declared) {
                PageRefusal::Quarantined
            } else {
                PageRefusal::Declaring
            };
        }
        self.quarantine.pages += 1;
        let held = held(reader, access);
        if held.events == 0 && !held.more {
            return PageRefusal::Quarantined;
        }
        self.writer.lost(InputLoss::Quarantined, held.events);
        let mut tenants: Vec<_> = held.tenants.into_iter().collect();
        if held.more {
            tenants.clear();
        }
        let made = Timestamp::from_millis(reader.created().clamp(0, now.millis().max(0)));
        let declared = self.declare(LossReason::PageQuarantined, &tenants, (made, now));
        if self.quarantine.remembered.len() >= REMEMBERED_MAX {
            // Somebody makes them faster than they can be remembered.
            return PageRefusal::Quarantined;
        }
        let until = None;
        self.quarantine
            .remembered
            .insert(page, Remembered { declared, until });
        PageRefusal::Declaring
    }

    /// A page whose loss was declared, durably, before it came: what it may have counted since
    /// then is declared, too. What it counted before is billed or declared.
    fn quarantine_late(
        &mut self,
        page: PageKey,
        reader: &PageReader<'_>,
        access: &SdkAllow,
        (until, now): (Timestamp, Timestamp),
    ) -> PageRefusal {
        self.quarantine.pages += 1;
        let held = held(reader, access);
        let mut tenants: Vec<_> = held.tenants.into_iter().collect();
        if held.more {
            tenants.clear();
        }
        let nothing = held.events == 0 && !held.more;
        let declared = (!nothing && until < now)
            .then(|| self.declare(LossReason::PageQuarantined, &tenants, (until, now)));
        if let Some(remembered) = self.quarantine.remembered.get_mut(&page) {
            remembered.until = None;
            remembered.declared = declared.unwrap_or(remembered.declared);
        }
        declared.map_or(PageRefusal::Quarantined, |_| PageRefusal::Declaring)
    }

    /// A page that was this mirror's, and is somebody else's now or no page any more.
    pub(super) fn quarantine_known(
        &mut self,
        page: PageKey,
        reader: Option<&PageReader<'_>>,
        now: Timestamp,
    ) {
        let Some(known) = self.pages.get_mut(&page).filter(|k| k.declared.is_none()) else {
            return;
        };
        let events = reader.map_or(0, |reader| uncounted(&known.entries, reader));
        let from = known.allowed_at.min(now);
        known.access = None;
        known.entries = Vec::new();
        self.quarantine.pages += 1;
        self.writer.lost(InputLoss::Quarantined, events);
        if reader.is_some() && events == 0 {
            self.pages.remove(&page);
            self.writer.end_mirrors(page, MARK_SLOT, now);
            return;
        }
        let of_page = self.writer.mirrors().into_iter();
        let of_page = of_page.filter(|(owner, _)| owner.page == page && owner.slot != MARK_SLOT);
        let tenants: BTreeSet<_> = of_page.map(|(_, key)| key.tenant().clone()).collect();
        let tenants: Vec<_> = tenants.into_iter().collect();
        let declared = self.declare(LossReason::PageQuarantined, &tenants, (from, now));
        if let Some(known) = self.pages.get_mut(&page) {
            known.declared = Some((declared, now));
        }
    }
}

/// Events of cells that are counted here, beyond what was.
fn uncounted(entries: &[Entry], reader: &PageReader<'_>) -> u64 {
    entries.iter().fold(0, |sum: u64, entry| {
        let Entry::Mirrored {
            aggregation,
            cell,
            events,
            ..
        } = entry
        else {
            return sum;
        };
        // A cell that was never looked at has `u64::MAX` here.
        let seen = events.iter().filter(|&&seen| seen != u64::MAX);
        let seen = seen.fold(0, |sum: u64, &seen| sum.wrapping_add(seen));
        let more = cell_events(reader, cell, *aggregation).wrapping_sub(seen);
        sum.saturating_add(more.min(Allowance::EVENTS_AT_ONCE))
    })
}
