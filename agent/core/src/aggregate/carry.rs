//! What one life leaves to the next beside the accounts of inputs: the accounts of tenants,
//! levels that hold on, and mirrors of pages.
//!
//! What finds no room in the next life is lost, and has to be declared by that. A note of it lies
//! in the header of the new cells from before they take the place of the old ones until a durable
//! batch has the declaration, so that no kill in between takes it. The note has no names; they
//! are known as long as the process lives that gave something up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use tollgate::cell::level::{self, LevelState};
use tollgate_common::{Aggregation, MeterName, Scale, SeriesKey, TenantId, Timestamp};

use super::carry_mirrors::{carry_mirrors, pages_of};
use super::header;
use super::levels::LevelBase;
use super::slot::SlotUse;
use super::{Cells, CellsError, Region, Writer};

/// What of the cells of the life before is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Believed {
    /// All of it, and its levels are sealed up to this instant: from there on they count in the next
    /// life, also while no agent ran.
    Sealed(Timestamp),
    /// Which pages there were. All was sealed, and the host was started anew since: applications may have
    /// counted on after the agent's end, and their pages are gone.
    Pages,
    /// Nothing. Levels begin when they are next set.
    Nothing,
}

/// What the life before had, and this one has no room for.
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// Whose levels of what have ended.
    pub(crate) levels: BTreeSet<(TenantId, MeterName)>,
    /// Whom pages count for that are not known any more; `None` where nobody knows.
    pub(crate) pages: BTreeSet<Option<TenantId>>,
    /// When the life before was last alive, as it says: its pages were looked at shortly before.
    pub(crate) pages_since: Timestamp,
    /// What earlier lives gave up and did not come to declare: since when, of levels and of pages.
    pub(crate) before: [Option<Timestamp>; 2],
}

/// A level of one writer.
#[derive(Clone, Copy)]
struct Held {
    writer: u32,
    state: LevelState,
}

impl GivenUp {
    /// What earlier lives gave up.
    pub(crate) fn before(before: [Option<Timestamp>; 2]) -> Self {
        Self {
            levels: BTreeSet::new(),
            pages: BTreeSet::new(),
            pages_since: Timestamp::EPOCH,
            before,
        }
    }
}

impl<R: Region> Cells<R> {
    /// Writes into a region that was just filled what it takes over from this one.
    ///
    /// Gives what found no room, or is gone, of which the region has a note.
    pub(crate) fn carry_into(
        &self,
        words: &[AtomicU64],
        believed: Believed,
    ) -> Result<GivenUp, CellsError> {
        let next = Cells::open(words)?;
        let tenants = self.carried_tenants(&next.identity().writers);
        let mut writers = Vec::new();
        for (index, name) in next.identity().writers.iter().enumerate() {
            let Ok(mut writer) = next.writer(name) else {
                continue;
            };
            for (_, record) in tenants.iter().filter(|(to, _)| *to == index) {
                writer.carry_tenant(record);
            }
            writers.push(writer);
        }
        let mut given_up = GivenUp::before([None; 2]);
        let mut until = self.last_alive();
        match believed {
            Believed::Nothing => return Ok(given_up),
            Believed::Pages => given_up.pages = pages_of(self),
            Believed::Sealed(sealed_until) => {
                until = sealed_until;
                given_up.levels = self.carry_levels(&mut writers, until);
                for writer in &mut writers {
                    let name = writer.name().to_owned();
                    let pages = carry_mirrors(self, &next, &name, writer, until);
                    given_up.pages.extend(pages);
                }
            }
        }
        given_up.pages_since = self.last_alive().min(until);
        given_up.before = self.given_up();
        let levels = (!given_up.levels.is_empty()).then_some(until);
        let pages = (!given_up.pages.is_empty()).then_some(given_up.pages_since);
        let [levels_before, pages_before] = given_up.before;
        let first = |a: Option<Timestamp>, b| a.into_iter().chain(b).min();
        let note = [first(levels, levels_before), first(pages, pages_before)];
        header::set_given_up(words, note);
        Ok(given_up)
    }

    /// Since when there are losses of levels and of pages that no durable batch declares.
    pub(crate) fn given_up(&self) -> [Option<Timestamp>; 2] {
        header::given_up(self.words())
    }

    /// All that was given up is declared, durably.
    pub(crate) fn forget_given_up(&self) {
        if self.given_up() != [None; 2] {
            header::set_given_up(self.words(), [None; 2]);
        }
    }

    /// Levels go on with the writer of the same name, or with another one if that is no longer
    /// configured or has no room: whoever sets a level next takes it over.
    fn carry_levels(
        &self,
        writers: &mut [Writer<&[AtomicU64]>],
        until: Timestamp,
    ) -> BTreeSet<(TenantId, MeterName)> {
        let mut ended = BTreeSet::new();
        for ((key, scale), held) in self.held_levels() {
            if held.state.level == 0 {
                continue;
            }
            let name = &self.identity().writers[held.writer as usize];
            let (own, others): (Vec<_>, Vec<_>) =
                writers.iter_mut().partition(|to| to.name() == name);
            let mut carried = false;
            for to in own.into_iter().chain(others) {
                if let Ok(slot) = to.resolve(&key, Aggregation::TimeWeighted, scale) {
                    let opened = to.shared.identity().opened_at;
                    let base = LevelBase::carried(&held.state, until.millis(), opened.millis());
                    to.carry_level(slot, held.state.level, base.cut.at);
                    carried = true;
                    break;
                }
            }
            if !carried {
                ended.insert((key.tenant().clone(), key.meter().clone()));
            }
        }
        ended
    }

    /// The level of each series: what was set last, if more than one writer has a cell of it.
    fn held_levels(&self) -> BTreeMap<(SeriesKey, Scale), Held> {
        let mut levels = BTreeMap::new();
        for writer in 0..self.layout().writers() {
            for slot in 0..self.published(writer) {
                let Some(now) = self.now(writer, slot) else {
                    continue;
                };
                let SlotUse::Series(series) = self.slot(writer, slot, now.generation()) else {
                    continue;
                };
                if series.aggregation != Aggregation::TimeWeighted || series.owner.is_some() {
                    continue;
                }
                let cell = self.wide(writer, series.place, series.aggregation);
                let state = cell.and_then(level::read);
                let Some(state) = state.filter(|state| state.events > 0) else {
                    continue;
                };
                let held = Held { writer, state };
                // Of two of the same instant the one without a level was ended by the other.
                let rank = |held: &Held| (held.state.since, held.state.level > 0);
                let known = levels.entry((series.key, series.scale)).or_insert(held);
                if rank(&held) > rank(known) {
                    *known = held;
                }
            }
        }
        levels
    }
}
