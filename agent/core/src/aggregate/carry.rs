//! What one life leaves to the next beside the accounts of inputs: the accounts of tenants,
//! and levels that hold on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use tollgate::cell::level::{self, LevelState};
use tollgate_common::{Aggregation, MeterName, Scale, SeriesKey, TenantId, Timestamp};

use super::carry_mirrors::carry_mirrors;
use super::levels::LevelBase;
use super::slot::SlotUse;
use super::{Cells, CellsError, Region, Writer};

/// Whose levels of what have ended with a life, for want of room in the next.
pub(crate) type Ended = BTreeSet<(TenantId, MeterName)>;

/// A level of one writer.
#[derive(Clone, Copy)]
struct Held {
    writer: u32,
    state: LevelState,
}

impl<R: Region> Cells<R> {
    /// Writes into a region that was just filled what it takes over from this one.
    ///
    /// `sealed_until` is the instant up to which levels of this life are sealed: from there
    /// on they count in the next one, also while no agent ran. `None` if what these cells
    /// hold is not to be believed; levels then begin when they are next set. Gives the levels
    /// that found no room.
    pub(crate) fn carry_into(
        &self,
        words: &[AtomicU64],
        sealed_until: Option<Timestamp>,
    ) -> Result<Ended, CellsError> {
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
        let Some(until) = sealed_until else {
            return Ok(Ended::new());
        };
        let ended = self.carry_levels(&mut writers, until);
        for writer in &mut writers {
            let name = writer.name().to_owned();
            carry_mirrors(self, &next, &name, writer, until);
        }
        Ok(ended)
    }

    /// Levels go on with the writer of the same name, or with another one if that is no longer
    /// configured or has no room: whoever sets a level next takes it over.
    fn carry_levels(&self, writers: &mut [Writer<&[AtomicU64]>], until: Timestamp) -> Ended {
        let mut ended = Ended::new();
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
