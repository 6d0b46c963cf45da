//! Pages of applications: who may count in them for whom, and how far they are counted.
//!
//! A [`PageTally`] owns the writer whose slots mirror pages (see
//! [`Writer::mirror`](crate::aggregate::Writer::mirror)). The shell maps a page read-only and
//! gives its words; everything about them is checked here, at every look, because the
//! application may store anything there at any time. What a page can reach is bounded: its own
//! mirrors, the tenants and meters that its user may count for, and a share of the time of
//! every pass.
//!
//! `docs/formats/page.md` has the rule by which a page is taken or quarantined.

mod access;
mod known;
mod missing;
mod pace;
mod quarantine;
mod visit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Serialize;
use tollgate::page::{PageError, PageLayout, PageReader};
use tollgate_common::{Aggregation, Dimensions, MeterName, Scale, SeriesKey, TenantId, Timestamp};

use super::live::Live;
use crate::aggregate::{InputLoss, Owner, PageKey, Region, Writer};
use crate::attribute::Attributor;
use crate::config::SdkAllow;
use crate::engine::Declarations;
pub use access::find as find_access;
use known::{Entry, Known};
pub(crate) use missing::LOOK_AGE_MILLIS;
pub use missing::{MISSING_GRACE_MILLIS, Vanished};
pub use pace::LOOK_EVERY_MILLIS;

/// Most work on one page in one pass; a sum that has not changed costs 1.
pub const PASS_WORK_MAX: u32 = 1 << 18;
/// Tenants of a page that are remembered, to be shown.
const TENANTS_SHOWN: usize = 8;
/// The slot of a page's own mark, which is made before the page is taken.
const MARK_SLOT: u32 = u32::MAX;
/// The meter of marks. Nothing is ever counted on them.
const MARK_METER: &str = "tollgate.pages";

/// Why a page is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageRefusal {
    /// It is no page.
    #[error(transparent)]
    NotAPage(#[from] PageError),
    /// It was handed to another agent, or to this one before it lost its memory: what it
    /// holds may have been billed.
    #[error("page was handed over before, to somebody unknown; it is quarantined")]
    Quarantined,
    /// The same, and the declaration of what it holds is on its way to the disk: the page is the
    /// evidence until it is there.
    #[error("page was handed over before, to somebody unknown; its loss is being declared")]
    Declaring,
    /// There is no room for another one.
    #[error("no room for another page; raise limits.series_max")]
    Full,
}

/// What became of a look at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything it held at the time is counted.
    Complete,
    /// There was too much for one pass, or something has to wait for the next seal.
    More,
    /// The application has not yet marked it as handed over.
    NotYet,
    /// It is marked as somebody else's now.
    Quarantined,
}

/// How many pages and cells there are, for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageCounts {
    /// Pages of applications that are connected.
    pub connected: u64,
    /// Known pages whose application is not connected.
    pub missing: u64,
    /// Cells that are counted.
    pub mirrored: u64,
    /// Cells that wait for room in the agent; their counts stay in the page.
    pub waiting: u64,
    /// Cells that nobody may count: of tenants or meters that the application may not count for.
    pub rejected: u64,
    /// Cells that ran backwards and are not counted any more.
    pub stopped: u64,
    /// Pages that may have been billed by another agent, since the start.
    pub quarantined: u64,
    /// Events that found no room in the pages.
    pub dropped: u64,
}

/// Slots that are no slots before nothing more of a page is described.
const MALFORMED_MAX: usize = 64;

/// Most bytes that are kept of `pages` pages of `page_bytes` bytes, beside the pages themselves
/// and the mirrors of their cells.
pub fn memory_max(pages: u64, page_bytes: u64) -> u64 {
    let slots = u64::from(PageLayout::for_bytes(page_bytes).slots_max());
    // A list that grows is there twice; the kernel needs eight bytes to map 4096.
    let known = slots * 2 * size_of::<Entry>() as u64 + size_of::<Known>() as u64;
    pages.saturating_mul(known + page_bytes / 512)
}

/// Counts what pages hold.
pub struct PageTally<R: Region> {
    writer: Writer<R>,
    live: Arc<Live>,
    version: u64,
    attributor: Arc<Attributor>,
    mirror: u64,
    pages: BTreeMap<PageKey, Known>,
    declarations: Declarations,
    missing: missing::Missing,
    quarantine: quarantine::Quarantine,
    /// What all pages share of looks that come soon after another.
    pace: pace::Pace,
    scratch: visit::Scratch,
}

fn mark() -> SeriesKey {
    let meter = MeterName::new(MARK_METER).expect("a valid name");
    SeriesKey::new(TenantId::unattributed(), meter, Dimensions::none()).expect("a short key")
}

impl<R: Region> PageTally<R> {
    /// Counts through `writer`, which may know pages from an earlier life. `random` names the
    /// mirror if there is none yet. Pages that do not come back are declared as losses, of a
    /// time that begins shortly before `since`, until when the agent lived before. `None`
    /// without room.
    pub fn new(
        mut writer: Writer<R>,
        live: Arc<Live>,
        declarations: Declarations,
        random: u64,
        (since, now): (Timestamp, Timestamp),
    ) -> Option<Self> {
        let mut pages: BTreeMap<PageKey, Known> = BTreeMap::new();
        let mut missing = missing::Missing::new(since);
        let mut quarantine = quarantine::Quarantine::default();
        let mut mirror = None;
        let mirrors = writer.mirrors();
        let marked: BTreeSet<PageKey> = mirrors
            .iter()
            .filter(|(owner, _)| owner.slot == MARK_SLOT)
            .map(|(owner, _)| owner.page)
            .collect();
        for (owner, key) in mirrors {
            if let Some(name) = mirror_name(owner) {
                mirror = Some(name);
                continue;
            }
            if missing.recall(owner) || quarantine.recall(owner, &key) {
                continue;
            }
            if !marked.contains(&owner.page) {
                // It has ended, and this has not been given free.
                writer.end_mirrors(owner.page, MARK_SLOT, now);
                continue;
            }
            pages
                .entry(owner.page)
                .or_insert_with(|| Known::missing(now));
            if owner.slot != MARK_SLOT {
                missing.note(owner.page, key.tenant());
            }
        }
        // The agent ended between its note and letting go of the page.
        for page in quarantine.recalled() {
            if pages.remove(&page).is_some() {
                missing.returned(page);
                writer.end_mirrors(page, MARK_SLOT, now);
            }
        }
        if !pages.is_empty() {
            missing.write(&mut writer);
        }
        let name = mirror.unwrap_or(random.max(1));
        writer.mirror(&mark(), mirror_owner(name), Aggregation::Sum, Scale::ZERO)?;
        let (version, current) = live.current();
        let attributor = current.attributor;
        Some(Self {
            writer,
            live,
            version,
            attributor,
            mirror: name,
            pages,
            declarations,
            missing,
            quarantine,
            pace: pace::Pace::of_all(now),
            scratch: visit::Scratch::default(),
        })
    }

    /// The mirror's name, which an application stores in its page.
    pub fn mirror(&self) -> u64 {
        self.mirror
    }

    /// Takes a page from a process of `user`, which may count as `access` says; or says why
    /// not. Nothing is counted before the page is marked as this mirror's.
    pub fn handle_page(
        &mut self,
        words: &[AtomicU64],
        user: u32,
        access: &SdkAllow,
        now: Timestamp,
    ) -> Result<PageKey, PageRefusal> {
        let reader = PageReader::open(words)?;
        let page = PageKey {
            id: reader.id(),
            user,
        };
        let home = reader.home();
        let known = self
            .pages
            .get(&page)
            .is_some_and(|known| known.declared.is_none());
        if home != 0 && (home != self.mirror || !known) {
            return Err(self.quarantine_unknown(page, &reader, access, now));
        }
        let owner = Owner {
            page,
            slot: MARK_SLOT,
        };
        // Before the page can be marked as ours, so that a page which is, is known.
        let marked = self
            .writer
            .mirror(&mark(), owner, Aggregation::Sum, Scale::ZERO);
        marked.ok_or(PageRefusal::Full)?;
        let known = self.pages.entry(page).or_insert_with(|| Known {
            before: false,
            ..Known::missing(now)
        });
        known.access = Some(access.clone());
        known.forget();
        known.resumed |= known.before;
        known.before = false;
        self.quarantine.taken(page, &mut self.writer, now);
        // Nobody has copied from a page without a mark, so it is owed although its end is being
        // declared: it must not be forgotten when that is durable.
        known.declared = None;
        self.missing.returned(page);
        Ok(page)
    }

    /// Counts what has come into a page. `orphaned` says that its process has ended, so that
    /// nobody can hand it to another agent any more.
    pub fn handle_pass(
        &mut self,
        page: PageKey,
        words: &[AtomicU64],
        now: Timestamp,
        orphaned: bool,
    ) -> Pass {
        self.refresh();
        let reader = PageReader::open(words).ok();
        match reader.as_ref().map(PageReader::home) {
            Some(home) if home == self.mirror => {}
            Some(0) if orphaned => {}
            Some(0) => return Pass::NotYet,
            _ => {
                self.quarantine_known(page, reader.as_ref(), now);
                return Pass::Quarantined;
            }
        }
        let (Some(reader), Some(mut known)) = (reader, self.pages.remove(&page)) else {
            return Pass::Quarantined;
        };
        let pass = self.visit_all(page, &mut known, &reader, now, orphaned);
        self.pages.insert(page, known);
        pass
    }

    fn visit_all(
        &mut self,
        page: PageKey,
        known: &mut Known,
        reader: &PageReader<'_>,
        now: Timestamp,
        orphaned: bool,
    ) -> Pass {
        if known.access.is_none() {
            return Pass::Quarantined;
        }
        known.allow(now);
        let dropped = reader.dropped();
        let before = known.dropped;
        let before = before.unwrap_or(if known.resumed { dropped } else { 0 });
        let more = dropped.saturating_sub(before);
        if known.allowance.take(0, more).is_ok() {
            self.writer.lost(InputLoss::PageFull, more);
            known.dropped = Some(dropped.max(before));
        }
        let mut published = reader.published() as usize;
        if known.malformed.len() >= MALFORMED_MAX {
            published = published.min(known.entries.len());
        }
        // What is said of a whole round is of when it began.
        if known.round.left == 0 || (orphaned && !known.round.orphaned) {
            (known.round.left, known.round.waits, known.round.orphaned) =
                (published, false, orphaned);
        }
        let mut work: u32 = 0;
        while known.round.left > 0 {
            if work > PASS_WORK_MAX {
                return Pass::More;
            }
            let at = if known.cursor < published {
                known.cursor
            } else {
                0
            };
            (known.cursor, known.round.left) = (at + 1, known.round.left - 1);
            let slot = u32::try_from(at).unwrap_or(u32::MAX);
            while known.entries.len() <= at {
                known.entries.push(Entry::Waiting);
            }
            let visited = self.visit((page, known), reader, slot, now, orphaned);
            work = work.saturating_add(visited.work);
            known.round.waits |= visited.waits;
        }
        if known.round.waits {
            Pass::More
        } else {
            Pass::Complete
        }
    }

    /// The process of a page has ended, and it was counted for the last time: the mirrors are
    /// given free, except those of a loss that is being declared.
    pub fn handle_end(&mut self, page: PageKey, now: Timestamp) {
        let Some(known) = self.pages.get_mut(&page) else {
            return;
        };
        known.access = None;
        known.entries = Vec::new();
        known.missing_since = now;
        // What is declared is evidence until that is durable.
        if known.declared.is_none() {
            self.pages.remove(&page);
            self.writer.end_mirrors(page, MARK_SLOT, now);
        }
    }

    /// Gives room back that is not needed any more; to be called between passes.
    pub fn poll_retired(&mut self, now: Timestamp) {
        let declared = |known: &Known| {
            let declared = known.declared;
            declared.filter(|&(declared, _)| self.declarations.is_durable(declared))
        };
        let pages = self.pages.iter();
        let told = pages.filter_map(|(page, known)| Some((*page, declared(known)?)));
        let told: Vec<_> = told.collect();
        for (page, (declared, until)) in told {
            self.pages.remove(&page);
            // It may come all the same, with what is declared by now.
            let (quarantine, writer) = (&mut self.quarantine, &mut self.writer);
            quarantine.remember(page, declared, until);
            quarantine.keep(page, writer, now);
            writer.end_mirrors(page, MARK_SLOT, now);
        }
        self.forget_missing(now);
        if self.writer.poll_retired() {
            // Slots may have become another's: everything is looked up again.
            for known in self.pages.values_mut() {
                known.forget();
            }
        }
    }

    /// Follows a change of the configuration: everything is decided again.
    fn refresh(&mut self) {
        if self.live.version() == self.version {
            return;
        }
        let (version, current) = self.live.current();
        (self.version, self.attributor) = (version, current.attributor);
        for known in self.pages.values_mut() {
            known.forget();
        }
    }

    /// Counts of pages and cells.
    pub fn counts(&self) -> PageCounts {
        let mut counts = PageCounts {
            quarantined: self.quarantine.pages(),
            ..PageCounts::default()
        };
        for known in self.pages.values() {
            let connected = known.access.is_some();
            counts.connected += u64::from(connected);
            counts.missing += u64::from(!connected);
            counts.dropped = counts.dropped.saturating_add(known.dropped.unwrap_or(0));
            known.count_cells(&mut counts);
        }
        counts
    }

    /// True if the page has cells whose memory an application uses again for other windows once
    /// it knows that what they hold was looked at.
    pub fn has_windows(&self, page: PageKey) -> bool {
        let known = self.pages.get(&page);
        known.is_some_and(|known| known.has_windows)
    }

    /// The same for one page, with some of those it counts for.
    pub fn counts_of(&self, page: PageKey) -> Option<(PageCounts, Vec<TenantId>)> {
        let known = self.pages.get(&page)?;
        let mut counts = PageCounts {
            connected: u64::from(known.access.is_some()),
            dropped: known.dropped.unwrap_or(0),
            ..PageCounts::default()
        };
        known.count_cells(&mut counts);
        Some((counts, known.tenants.iter().cloned().collect()))
    }
}

/// The owner whose slot keeps the mirror's name: no page has that number of a slot.
fn mirror_owner(name: u64) -> Owner {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&name.to_le_bytes());
    Owner {
        page: PageKey { id, user: u32::MAX },
        slot: MARK_SLOT - 1,
    }
}

fn mirror_name(owner: Owner) -> Option<u64> {
    let (name, _) = owner.page.id.split_first_chunk::<8>()?;
    let name = u64::from_le_bytes(*name);
    (owner == mirror_owner(name)).then_some(name)
}
