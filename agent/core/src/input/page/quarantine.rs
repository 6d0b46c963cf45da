//! Pages that may have been billed by another agent: what they hold is declared lost.
//!
//! What a quarantined page holds is never billed here, because that might be the second time.
//! So it is declared, once, for every tenant that the page may count for, of unknown amount: it
//! may have been billed in part. How many events it was goes into the account of the input.
//! Until the declaration is durable the page is asked to come again; it is the evidence.
//!
//! A page whose loss was declared before it came, as one that vanished, was billed up to then. Of
//! such a page only the time since that declaration is declared, and no events are called lost.
//!
//! What was declared, durably, is remembered over the end of the agent: a mirror without a cell,
//! of an owner that is no page, notes the page and up to when. So a page is declared once
//! whichever life of the agent it comes to; of the newest only, because each takes the room of a
//! series.

use std::collections::{BTreeMap, BTreeSet};

use tollgate::page::PageReader;
use tollgate_common::{Aggregation, Dimensions, LossReason, Scale, SeriesKey, TenantId, Timestamp};

use super::visit::cell_events;
use super::{Entry, MARK_SLOT, PageRefusal, PageTally, access, mark};
use crate::aggregate::{Allowance, InputLoss, NOTES_USER, Owner, PageKey, Region, Writer};
use crate::config::SdkAllow;
use crate::engine::Declared;

/// Quarantined pages that are remembered, so that each is declared once.
const REMEMBERED_MAX: usize = 1024;
/// The part of the series of a writer that notes may take, and the most of them.
const KEPT_PART: u32 = 64;
const KEPT_MAX: u32 = 64;
/// The dimension of a note that says up to when the loss of a page was declared that has not come
/// since, and of one that has and is quarantined.
const UNTIL: &str = "until";
const QUARANTINED: &str = "quarantined";
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
    /// In this life; `None` if an earlier one did.
    declared: Option<Declared>,
    /// Until when.
    to: Timestamp,
    /// It has come since, and is quarantined.
    came: bool,
    /// There is a note of it, which says this of [`came`](Self::came).
    kept: Option<bool>,
}

/// The owner of the note of a page: no page is one of that user.
fn note_owner(page: PageKey) -> Option<Owner> {
    let of = PageKey {
        id: page.id,
        user: NOTES_USER,
    };
    (page.user < NOTES_USER).then_some(Owner {
        page: of,
        slot: page.user,
    })
}

fn note_key(to: Timestamp, came: bool) -> Option<SeriesKey> {
    let name = if came { QUARANTINED } else { UNTIL };
    let millis = to.millis().to_string();
    let dimensions = Dimensions::new([(name, millis.as_str())]).ok()?;
    let of = mark();
    SeriesKey::new(of.tenant().clone(), of.meter().clone(), dimensions).ok()
}

/// The page of a note, up to when its loss is declared, and whether it has come since.
fn read_note(owner: Owner, key: &SeriesKey) -> Option<(PageKey, Timestamp, bool)> {
    if owner.page.user != NOTES_USER || key.meter() != mark().meter() {
        return None;
    }
    let (name, millis) = key.dimensions().iter().next()?;
    let came = match name {
        UNTIL => false,
        QUARANTINED => true,
        _ => return None,
    };
    let page = PageKey {
        id: owner.page.id,
        user: owner.slot,
    };
    Some((page, Timestamp::from_millis(millis.parse().ok()?), came))
}

impl Quarantine {
    /// Pages since the start.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// A page that is gone was declared lost up to `to`. Beyond the bound it is forgotten, and
    /// is like any unknown one should it come.
    pub(super) fn remember(&mut self, page: PageKey, declared: Declared, to: Timestamp) {
        self.insert(page, declared, (to, false));
    }

    /// False beyond the bound.
    fn insert(&mut self, page: PageKey, declared: Declared, of: (Timestamp, bool)) -> bool {
        let room = self.remembered.len() < REMEMBERED_MAX;
        if room {
            let remembered = Remembered {
                declared: Some(declared),
                to: of.0,
                came: of.1,
                kept: None,
            };
            self.remembered.insert(page, remembered);
        }
        room
    }

    /// True if a mirror is a note of an earlier life.
    pub(super) fn recall(&mut self, owner: Owner, key: &SeriesKey) -> bool {
        let Some((page, to, came)) = read_note(owner, key) else {
            return false;
        };
        let remembered = Remembered {
            declared: None,
            to,
            came,
            kept: Some(came),
        };
        self.remembered.insert(page, remembered);
        true
    }

    /// The pages of all notes.
    pub(super) fn recalled(&self) -> Vec<PageKey> {
        self.remembered.keys().copied().collect()
    }

    /// Leaves a note of a page whose loss is durably declared. Without room there is none.
    pub(super) fn keep<R: Region>(
        &mut self,
        page: PageKey,
        writer: &mut Writer<R>,
        now: Timestamp,
    ) {
        let Some(&Remembered { to, came, kept, .. }) = self.remembered.get(&page) else {
            return;
        };
        let note = note_owner(page).zip(note_key(to, came));
        let Some((owner, key)) = note.filter(|_| kept != Some(came)) else {
            return;
        };
        self.drop_note(page, writer, now);
        let most = (writer.series_max() / KEPT_PART).clamp(1, KEPT_MAX) as usize;
        loop {
            let kept = self.remembered.iter().filter(|(_, of)| of.kept.is_some());
            let kept = kept.map(|(page, of)| (of.to, *page));
            let (count, oldest) = (kept.clone().count(), kept.min());
            if count < most {
                break;
            }
            let Some((_, oldest)) = oldest else {
                return;
            };
            self.drop_note(oldest, writer, now);
        }
        let made = writer.mirror(&key, owner, Aggregation::Sum, Scale::ZERO);
        if let Some(remembered) = self.remembered.get_mut(&page).filter(|_| made.is_some()) {
            remembered.kept = Some(came);
        }
    }

    fn drop_note<R: Region>(&mut self, page: PageKey, writer: &mut Writer<R>, now: Timestamp) {
        let remembered = self.remembered.get_mut(&page);
        let kept = remembered.and_then(|remembered| remembered.kept.take());
        if let Some((owner, _)) = note_owner(page).zip(kept) {
            writer.end_mirror(owner, now);
        }
    }

    /// A page is taken, for nobody has copied from it: nothing is held against it any more.
    pub(super) fn taken<R: Region>(
        &mut self,
        page: PageKey,
        writer: &mut Writer<R>,
        now: Timestamp,
    ) {
        self.drop_note(page, writer, now);
        self.remembered.remove(&page);
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
        if let Some(Remembered { to, .. }) = remembered.filter(|page| !page.came) {
            return self.quarantine_late(page, reader, access, (to, now));
        }
        let vanished = self.pages.get(&page).and_then(|known| known.declared);
        let declared = remembered.map(|page| page.declared);
        if let Some(declared) = declared.or(vanished.map(|(declared, _)| Some(declared))) {
            if declared.is_some_and(|declared| !self.declarations.is_durable(declared)) {
                return PageRefusal::Declaring;
            }
            self.quarantine.keep(page, &mut self.writer, now);
            return PageRefusal::Quarantined;
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
        if self.quarantine.insert(page, declared, (now, true)) {
            PageRefusal::Declaring
        } else {
            // Somebody makes them faster than they can be remembered.
            PageRefusal::Quarantined
        }
    }

    /// A page whose loss was declared, durably, before it came: what it may have counted since
    /// then is declared, too. What it counted before is billed or declared.
    fn quarantine_late(
        &mut self,
        page: PageKey,
        reader: &PageReader<'_>,
        access: &SdkAllow,
        (before, now): (Timestamp, Timestamp),
    ) -> PageRefusal {
        self.quarantine.pages += 1;
        let held = held(reader, access);
        let mut tenants: Vec<_> = held.tenants.into_iter().collect();
        if held.more {
            tenants.clear();
        }
        let nothing = held.events == 0 && !held.more;
        let declared = (!nothing && before < now)
            .then(|| self.declare(LossReason::PageQuarantined, &tenants, (before, now)));
        if let Some(remembered) = self.quarantine.remembered.get_mut(&page) {
            remembered.came = true;
            if declared.is_some() {
                (remembered.declared, remembered.to) = (declared, now);
            }
        }
        if declared.is_some() {
            return PageRefusal::Declaring;
        }
        self.quarantine.keep(page, &mut self.writer, now);
        PageRefusal::Quarantined
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
