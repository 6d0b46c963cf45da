//! What the journal is known to hold, and that nothing acknowledged is missing from it.

use std::collections::BTreeSet;

use tollgate_collector_core::entry::{Digest, Entry};
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::segment::{PARTITION, SegmentJournal};
use tollgate_collector_core::position::Position;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{Incarnation, Lineage, Timestamp};

use super::super::context::Broken;
use super::CollectorNode;

/// What the whole journal says.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) upto: Option<Position>,
    pub(super) stamp: Timestamp,
    pub(super) lineage: Option<Lineage>,
    pub(super) policy: Option<Digest>,
    pub(super) catalog: Option<Digest>,
    /// Batches, tombstones and declared gaps.
    present: BTreeSet<(Incarnation, u64)>,
}

impl CollectorNode {
    /// Reads what the journal has beyond the last survey.
    pub(super) fn survey(
        survey: &mut Survey,
        journal: &SegmentJournal<MemoryStorage>,
    ) -> Result<(), String> {
        let mut reader = Reader::new(PARTITION, survey.upto);
        while let Some((position, stamped)) =
            reader.next(journal).map_err(|error| error.to_string())?
        {
            survey.upto = Some(position);
            survey.stamp = stamped.stamp;
            match stamped.entry {
                Entry::Opened(opened) => survey.lineage = Some(opened.lineage),
                Entry::Restored(restored) => survey.lineage = Some(restored.lineage),
                Entry::Policy(policy) => survey.policy = Some(policy.digest),
                Entry::Catalog(catalog) if !catalog.proposed => {
                    survey.catalog = Some(catalog.digest);
                }
                Entry::Batch(received) => {
                    let batch = &received.batch;
                    survey
                        .present
                        .insert((batch.incarnation, batch.sequence.get()));
                }
                Entry::Tombstone(tombstone) => {
                    survey
                        .present
                        .insert((tombstone.incarnation, tombstone.sequence.get()));
                }
                Entry::Missing(missing) => {
                    let range = missing.from.get()..=missing.to.get();
                    survey
                        .present
                        .extend(range.map(|number| (missing.incarnation, number)));
                }
                Entry::Catalog(_)
                | Entry::Close(_)
                | Entry::Clock
                | Entry::Lost(_)
                | Entry::Interim(_)
                | Entry::Manual(_)
                | Entry::Issue(_)
                | Entry::Operated(_) => {}
            }
        }
        Ok(())
    }

    /// Reads the whole journal once more and looks for what was acknowledged.
    pub(super) fn check_journal(
        &self,
        journal: &SegmentJournal<MemoryStorage>,
    ) -> Result<(), Broken> {
        let mut survey = Survey::default();
        Self::survey(&mut survey, journal)?;
        self.check_acknowledged(&survey)
    }

    /// What was acknowledged is in the journal, whatever happened since.
    pub(super) fn check_acknowledged(&self, survey: &Survey) -> Result<(), Broken> {
        for (&incarnation, &durable) in &self.acknowledged {
            // Every number up to the cursor was acknowledged by some connection, and agents
            // begin at 1.
            let gone =
                (1..=durable).find(|number| !survey.present.contains(&(incarnation, *number)));
            if let Some(number) = gone {
                return Err(format!(
                    "batch {number} of {incarnation} was acknowledged (up to {durable}) and is not in the journal"
                ));
            }
        }
        Ok(())
    }
}
