//! The collector's disk is set back to a backup of itself.
//!
//! A backup is a copy of the journal, taken while it runs. When the collector is set back to
//! it, the operator marks the journal as restored, as `tollgate-collector journal restored`
//! does: snapshots and projection go, and the first entry behind the backup begins a lineage.
//! Now and then the operator forgets; then only what nobody can know of may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_collector_core::entry::codec::EntryEncoder;
use tollgate_collector_core::entry::{Entry, ReceivedBatch, Restored};
use tollgate_collector_core::journal::reader::Reader;
use tollgate_collector_core::journal::segment::{PARTITION, SegmentJournal};
use tollgate_collector_core::projection::Projection;
use tollgate_collector_core::snapshot::SnapshotStore;
use tollgate_common::log::LogConfig;
use tollgate_common::storage::memory::MemoryStorage;
use tollgate_common::{Aggregation, Batch, BatchHash, Incarnation, Lineage};

use super::super::agent::Crash;
use super::super::context::{Broken, Context};
use super::super::coverage::Probe;
use super::super::oracle::{Booked, Key};
use super::CollectorNode;
use super::survey::Survey;

/// Every file of a disk.
type Files = Vec<(String, Vec<u8>)>;

/// A copy of the journal, and the ledger as it was published then.
pub(super) struct Backup {
    files: Files,
    booked: Booked,
}

/// A batch that the journal had before it was set back.
pub(super) struct TornOff {
    incarnation: Incarnation,
    sums: BTreeMap<Key, i128>,
    /// Those of them that have no running total, because the agent's cells have no room for
    /// one (docs/formats/cells.md): no later batch tells what they were.
    untold: BTreeMap<Key, i128>,
}

impl CollectorNode {
    /// A backup is taken, or the collector is set back to the last one.
    pub fn backup(&mut self, context: &mut Context) -> Result<(), Broken> {
        let again = self.random.chance(300);
        match self.backup.take().filter(|_| !again) {
            None => {
                if self.survey.lineage.is_some() {
                    let files = files_of(&self.journal_disk);
                    context.trace(format_args!("backup of {} files", files.len()));
                    let booked = context.oracle.published();
                    self.backup = Some(Backup { files, booked });
                }
                Ok(())
            }
            Some(backup) => self.set_back(backup, context),
        }
    }

    fn set_back(&mut self, backup: Backup, context: &mut Context) -> Result<(), Broken> {
        let had = batches_of(&files_of(&self.journal_disk), context)?;
        let has = batches_of(&backup.files, context)?;
        self.go_down(Crash::Kill, context)?;
        for name in self.journal_disk.names() {
            self.journal_disk.lose_file(&name);
        }
        for (name, bytes) in &backup.files {
            self.journal_disk.set_contents(name, bytes);
        }
        let has: BTreeSet<_> = has.iter().map(|received| received.batch.hash()).collect();
        let mut gone = had;
        gone.retain(|received| !has.contains(&received.batch.hash()));
        let torn = gone.iter().map(|received| TornOff::of(&received.batch));
        self.torn_off.extend(torn);
        let count = gone.len();
        context.coverage.add(Probe::RestoredTail, count as u64);
        context.trace(format_args!(
            "collector is set back, {count} batches are gone"
        ));
        self.find_again(gone, context)?;
        // What is acknowledged from now on is acknowledged by another journal, and what was
        // published behind the backup will be booked otherwise.
        self.survey = Survey::default();
        self.acknowledged.clear();
        context.oracle.ledger_set_back(backup.booked);
        self.says_restored = self.random.chance(750);
        if self.says_restored {
            context.hit(Probe::CollectorRestored);
            self.lineage = Lineage::from_bytes(self.random.bytes());
            self.projection.clear().expect("memory can be cleared");
            self.snapshot_disk.heal();
            SnapshotStore::new(self.snapshot_disk.clone())
                .clear()
                .map_err(|error| error.to_string())?;
        } else {
            context.hit(Probe::RestoreUnmarked);
        }
        Ok(())
    }

    /// True once the journal was set back to a backup.
    pub fn was_set_back(&self) -> bool {
        !self.torn_off.is_empty()
    }

    /// Another receiver has some of what is gone, and appends it when it may have been declared
    /// lost.
    fn find_again(
        &mut self,
        mut gone: Vec<ReceivedBatch>,
        context: &mut Context,
    ) -> Result<(), Broken> {
        if !self.random.chance(400) {
            return Ok(());
        }
        let mut encoder = EntryEncoder::new();
        for _ in 0..self.random.below(4) {
            if gone.is_empty() {
                break;
            }
            let received = gone.swap_remove(self.random.index(gone.len()));
            let entry = encoder
                .encode(&Entry::Batch(Arc::new(received)))
                .map_err(|error| error.to_string())?;
            let at = context.now.plus_millis(self.random.millis(10_000, 60_000));
            self.late.push((at, entry));
        }
        Ok(())
    }

    /// The entry that begins the new lineage, where the journal does not have it yet.
    pub(super) fn restored_entry(&self, context: &mut Context) -> Option<Entry> {
        let previous = self.survey.lineage.filter(|known| *known != self.lineage)?;
        context.trace(format_args!("lineage {} begins", self.lineage));
        Some(Entry::Restored(Restored {
            lineage: self.lineage,
            previous,
            author: "operator".to_owned(),
            reason: "restored from a backup".to_owned(),
        }))
    }

    /// Tells the oracle what restores may have cost without a figure.
    ///
    /// A life whose final batch is in the journal has exact totals of every account that has one,
    /// so that nothing of what restores took from these may be missing without a figure. With
    /// cloned hosts one life has several chains, and only one of them those totals.
    pub(super) fn tell_of_restores(
        &self,
        journal: &SegmentJournal<MemoryStorage>,
        context: &mut Context,
    ) -> Result<(), Broken> {
        if self.torn_off.is_empty() {
            return Ok(());
        }
        let clones = context.options.faults.image.is_some();
        let batches = read(journal)?;
        let batches = batches.iter().map(|received| &received.batch);
        let finals = batches.filter(|batch| batch.is_final && !clones);
        let finals: BTreeSet<_> = finals.map(|batch| batch.incarnation).collect();
        for torn in &self.torn_off {
            if finals.contains(&torn.incarnation) {
                context.oracle.torn_off(&torn.untold);
            } else {
                context.oracle.torn_off(&torn.sums);
            }
        }
        Ok(())
    }
}

impl TornOff {
    fn of(batch: &Batch) -> Self {
        let mut sums = BTreeMap::new();
        for row in &batch.rows {
            if row.aggregation == Aggregation::Sum {
                let key = (row.series.tenant().clone(), row.series.meter().clone());
                *sums.entry(key).or_default() += row.value.units();
            }
        }
        let has_total = |key: &Key| {
            let mut totals = batch.totals.iter();
            totals.any(|total| (&total.tenant, &total.meter) == (&key.0, &key.1))
        };
        let untold = sums.iter().filter(|(key, _)| !has_total(key));
        Self {
            incarnation: batch.incarnation,
            untold: untold.map(|(key, sum)| (key.clone(), *sum)).collect(),
            sums,
        }
    }
}

fn files_of(disk: &MemoryStorage) -> Files {
    let names = disk.names().into_iter();
    names
        .filter_map(|name| disk.contents(&name).map(|bytes| (name, bytes)))
        .collect()
}

/// The batches of the journal in these files, which stay as they are.
fn batches_of(files: &Files, context: &Context) -> Result<Vec<ReceivedBatch>, Broken> {
    let disk = MemoryStorage::new(0);
    for (name, bytes) in files {
        disk.set_contents(name, bytes);
    }
    let config = LogConfig {
        segment_bytes: context.options.journal_segment_bytes,
        bytes_max: u64::MAX,
    };
    let (journal, _) = SegmentJournal::open(disk, config).map_err(|error| format!("{error:?}"))?;
    read(&journal)
}

/// Every batch once, however often the journal has it.
fn read(journal: &SegmentJournal<MemoryStorage>) -> Result<Vec<ReceivedBatch>, Broken> {
    let mut reader = Reader::new(PARTITION, None);
    let mut seen: BTreeSet<BatchHash> = BTreeSet::new();
    let mut batches = Vec::new();
    while let Some((_, stamped)) = reader.next(journal).map_err(|error| error.to_string())? {
        if let Entry::Batch(received) = stamped.entry
            && seen.insert(received.batch.hash())
        {
            batches.push(Arc::unwrap_or_clone(received));
        }
    }
    Ok(batches)
}
