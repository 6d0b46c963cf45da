//! What one life leaves to the next beside the accounts of inputs: the accounts of tenants,
//! and levels that hold on.

use std::sync::atomic::AtomicU64;

use tollgate::cell::level;
use tollgate_common::{Aggregation, Timestamp};

use super::carry_mirrors::carry_mirrors;
use super::levels::LevelBase;
use super::slot::SlotUse;
use super::{Cells, CellsError, Region};

impl<R: Region> Cells<R> {
    /// Writes into a region that was just filled what it takes over from this one.
    ///
    /// `sealed_until` is the instant up to which levels of this life are sealed: from there
    /// on they count in the next one, also while no agent ran. `None` if what these cells
    /// hold is not to be believed; levels then begin when they are next set.
    pub(crate) fn carry_into(
        &self,
        words: &[AtomicU64],
        sealed_until: Option<Timestamp>,
    ) -> Result<(), CellsError> {
        let next = Cells::open(words)?;
        let tenants = self.carried_tenants(&next.identity().writers);
        for (index, name) in next.identity().writers.iter().enumerate() {
            let Ok(mut writer) = next.writer(name) else {
                continue;
            };
            for (_, record) in tenants.iter().filter(|(to, _)| *to == index) {
                writer.carry_tenant(record);
            }
            if let Some(until) = sealed_until {
                self.carry_levels(name, &mut writer, until);
                carry_mirrors(self, &next, name, &mut writer, until);
            }
        }
        Ok(())
    }

    fn carry_levels(&self, name: &str, to: &mut super::Writer<&[AtomicU64]>, until: Timestamp) {
        let names = (0..).zip(&self.identity().writers);
        let Some((from, _)) = names.into_iter().find(|(_, writer)| *writer == name) else {
            return;
        };
        for slot in 0..self.published(from) {
            let Some(now) = self.now(from, slot) else {
                continue;
            };
            let SlotUse::Series(series) = self.slot(from, slot, now.generation()) else {
                continue;
            };
            if series.aggregation != Aggregation::TimeWeighted || series.owner.is_some() {
                continue;
            }
            let cell = self.wide(from, series.place, series.aggregation);
            let Some(state) = cell.and_then(level::read) else {
                continue;
            };
            if state.events > 0 && state.level > 0 {
                let opened = to.shared.identity().opened_at;
                let base = LevelBase::carried(&state, until.millis(), opened.millis());
                let since = base.cut.at;
                // A level for which there is no room ends with this life.
                let slot = to.resolve(&series.key, series.aggregation, series.scale);
                if let Ok(slot) = slot {
                    to.carry_level(slot, state.level, since);
                }
            }
        }
    }
}
